//! Coverage of sites: which of the named places at which a task can make a step were reached.
//!
//! It promises that a site counts once, however often and by whatever task it was reached. It must
//! never know what happens at a site.

use machine::{Site, Step, StepKind};
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;

/// The sites reached so far.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// Hashes of the names, by which the many steps at known sites are passed.
    hashes: FxHashSet<u32>,
    names: BTreeSet<&'static str>,
}

impl Sites {
    /// Adds the sites of the steps of an execution.
    pub fn collect(&mut self, trace: &[Step]) {
        for step in trace {
            if let StepKind::Event(event) = step.what
                && self.hashes.insert(event.site.hash())
            {
                self.names.insert(event.site.name());
            }
        }
    }

    /// Adds what another has reached.
    pub fn merge(&mut self, other: &Sites) {
        for name in &other.names {
            if self.names.insert(name) {
                self.hashes.insert(Site::new(name).hash());
            }
        }
    }

    /// How many were reached.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied()
    }

    /// Those of the names that were not reached, in the given order.
    pub fn missing_of(&self, known: &[&'static str]) -> Vec<&'static str> {
        known.iter().copied().filter(|name| !self.names.contains(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::{Access, Actor, Event, Moment, Object, RequestId, TaskId};

    static COPY: Site = Site::new("write.copy");
    static DIRTY: Site = Site::new("page.dirty");

    fn step(task: u8, site: &'static Site) -> Step {
        let event = Event { site, object: Object::NONE, access: Access::Write };
        Step { moment: Moment(1), actor: Actor::Task(TaskId(task)), what: StepKind::Event(event) }
    }

    #[test]
    fn a_site_counts_once_and_completions_do_not() {
        let mut sites = Sites::default();
        let done = StepKind::Complete(RequestId(0));
        let done = Step { moment: Moment(2), actor: Actor::Device, what: done };
        sites.collect(&[step(0, &COPY), done, step(1, &COPY)]);
        assert_eq!(sites.names().collect::<Vec<_>>(), ["write.copy"]);
        assert_eq!(sites.missing_of(&["page.dirty", "write.copy"]), ["page.dirty"]);
    }

    #[test]
    fn merging_is_a_union_that_goes_on() {
        let (mut one, mut two) = (Sites::default(), Sites::default());
        one.collect(&[step(0, &COPY)]);
        two.collect(&[step(0, &DIRTY)]);
        one.merge(&two);
        assert_eq!(one.count(), 2);
        one.collect(&[step(0, &DIRTY)]);
        assert_eq!(one.names().collect::<Vec<_>>(), ["page.dirty", "write.copy"]);
    }
}
