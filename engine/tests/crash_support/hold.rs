//! A schedule made by hand: the first task runs alone up to a named step and waits there until
//! nobody else can go on; meanwhile the device completes what was submitted last.

use machine::choice::{COMPLETE, Candidate, Ready, name_hash};
use machine::{Actor, Chooser};

/// Where the first task waits.
#[derive(Clone, Copy)]
pub struct Hold {
    /// The name of the site.
    pub site: &'static str,
    /// The kind of object, if it matters: for a lock, its rank.
    pub kind: Option<u8>,
    /// Whether it has come there.
    pub is_reached: bool,
}

impl Hold {
    /// Before this site, on an object of this kind.
    pub const fn before(site: &'static str, kind: Option<u8>) -> Hold {
        Hold { site, kind, is_reached: false }
    }

    fn is_there(&self, candidate: &Candidate) -> bool {
        let is_first = candidate.name == name_hash("task 0");
        let matches = |kind| self.kind.is_none_or(|wanted| wanted == kind);
        is_first
            && candidate
                .event
                .is_some_and(|event| event.site.name() == self.site && matches(event.object.kind))
    }

    /// Who goes first: the least.
    fn order(&self, candidate: &Candidate) -> u32 {
        let is_other = candidate.name == name_hash("task 1");
        match (self.is_reached, candidate.actor) {
            (false, Actor::Task(_)) if is_other => 2,
            (true, Actor::Task(_)) if self.is_there(candidate) => 2,
            (_, Actor::Task(_)) => 0,
            (_, Actor::Device) => 1,
        }
    }
}

impl Chooser for Hold {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        self.is_reached |= ready.candidates.iter().any(|candidate| self.is_there(candidate));
        let all = ready.candidates.iter().enumerate();
        let first = all.min_by_key(|(_, candidate)| self.order(candidate));
        first.map_or(0, |(index, _)| index as u32)
    }

    fn pick(&mut self, label: &'static str, n: u32) -> u32 {
        if label == COMPLETE && self.is_reached { n - 1 } else { 0 }
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
