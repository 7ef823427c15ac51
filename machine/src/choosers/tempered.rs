//! A device with a temper: another chooser decides, but some requests end when the temper says so.
//!
//! Choosers that draw among what is in flight let each request end soon. Devices are not like that:
//! one serves all at once, one lets everybody wait, one has a request that ends long after those
//! submitted behind it. Code that forgets to wait is right with a fast device, so the slow ones
//! matter. The temper only withholds the device, or some of its requests, from the chooser; what
//! comes of it is recorded like any decision, so a replay needs no temper.

use super::Dice;
use crate::choice::{Actor, Chooser, Ready};
use crate::disk::RequestId;
use smallvec::SmallVec;

/// How a device serves its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// At once, before anybody goes on.
    Eager,
    /// When nobody can go on without.
    Lazy,
    /// As the chooser draws, but for a few requests that end late.
    Straggler,
}

/// Of so many requests one is a straggler.
const STRAGGLER_OF: u32 = 3;
/// The most requests that end before a straggler that is patient at all does.
const PATIENCE_MAX: u32 = 24;

/// A chooser whose device has a temper.
pub struct Tempered {
    inner: Box<dyn Chooser>,
    temper: Temper,
    dice: Dice,
    /// The first request that was not yet looked at.
    fresh: u32,
    /// Requests that end late, each with how many others end before it.
    stragglers: SmallVec<[(RequestId, u32); 8]>,
}

impl Tempered {
    /// Gives the device of `inner` a temper; `seed` decides which requests are stragglers.
    pub fn new(inner: Box<dyn Chooser>, temper: Temper, seed: u64) -> Self {
        let dice = Dice::new(seed);
        Tempered { inner, temper, dice, fresh: 0, stragglers: SmallVec::new() }
    }

    /// Decides of requests that are seen for the first time whether they are stragglers.
    fn look(&mut self, in_flight: &[RequestId]) {
        for &id in in_flight.iter().filter(|id| id.0 >= self.fresh) {
            if self.dice.below(STRAGGLER_OF) == 0 {
                // Half of them wait until nobody can go on without.
                let limited = self.dice.below(2) == 0;
                let patience = if limited { 1 + self.dice.below(PATIENCE_MAX) } else { u32::MAX };
                self.stragglers.push((id, patience));
            }
        }
        if let Some(last) = in_flight.last() {
            self.fresh = self.fresh.max(last.0 + 1);
        }
    }

    fn is_late(&self, id: RequestId) -> bool {
        self.stragglers.iter().any(|(late, _)| *late == id)
    }

    /// Whether the device stays out of this decision.
    fn withholds(&mut self, in_flight: &[RequestId]) -> bool {
        match self.temper {
            Temper::Eager => false,
            Temper::Lazy => true,
            Temper::Straggler => {
                self.look(in_flight);
                in_flight.iter().all(|id| self.is_late(*id))
            }
        }
    }

    /// One request ends: the patience of the others shrinks.
    fn note_end(&mut self, ended: RequestId) {
        self.stragglers.retain(|(id, patience)| {
            if *patience < u32::MAX {
                *patience -= 1;
            }
            *id != ended && *patience > 0
        });
    }
}

impl Chooser for Tempered {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        let last = ready.candidates.len() - 1;
        if ready.candidates[last].actor != Actor::Device {
            return self.inner.run(ready);
        }
        if self.temper == Temper::Eager {
            return last as u32;
        }
        if !self.withholds(ready.in_flight) {
            return self.inner.run(ready);
        }
        match last {
            1 => 0,
            _ => self.inner.run(&Ready { candidates: &ready.candidates[..last], ..*ready }),
        }
    }

    fn pick(&mut self, label: &'static str, n: u32) -> u32 {
        self.inner.pick(label, n)
    }

    fn complete(&mut self, in_flight: &[RequestId]) -> u32 {
        if self.temper != Temper::Straggler {
            return self.inner.complete(in_flight);
        }
        self.look(in_flight);
        let punctual: SmallVec<[RequestId; 16]> =
            in_flight.iter().copied().filter(|id| !self.is_late(*id)).collect();
        let ended = match punctual.len() {
            0 => in_flight[self.inner.complete(in_flight) as usize],
            1 => punctual[0],
            _ => punctual[self.inner.complete(&punctual) as usize],
        };
        self.note_end(ended);
        let index = in_flight.iter().position(|id| *id == ended);
        index.expect("it is one of them") as u32
    }

    fn preempts(&self) -> bool {
        self.inner.preempts()
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self.inner.as_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Candidate, DEVICE_NAME};
    use crate::choosers::Random;
    use crate::machine::TaskId;

    fn ids(range: std::ops::Range<u32>) -> Vec<RequestId> {
        range.map(RequestId).collect()
    }

    fn run(chooser: &mut Tempered, tasks: u8, in_flight: &[RequestId]) -> u32 {
        let task = |id| Candidate { actor: Actor::Task(TaskId(id)), name: id.into(), event: None };
        let mut candidates: Vec<Candidate> = (0..tasks).map(task).collect();
        candidates.push(Candidate { actor: Actor::Device, name: DEVICE_NAME, event: None });
        chooser.run(&Ready { current_is_ready: true, candidates: &candidates, in_flight })
    }

    fn tempered(temper: Temper, seed: u64) -> Tempered {
        Tempered::new(Box::new(Random::new(seed)), temper, seed)
    }

    #[test]
    fn an_eager_device_goes_first_and_a_lazy_one_never() {
        for seed in 0..50 {
            assert_eq!(run(&mut tempered(Temper::Eager, seed), 3, &ids(0..2)), 3);
            assert!(run(&mut tempered(Temper::Lazy, seed), 3, &ids(0..2)) < 3);
            assert_eq!(run(&mut tempered(Temper::Lazy, seed), 1, &ids(0..2)), 0);
        }
    }

    #[test]
    fn stragglers_end_after_the_others_and_all_end() {
        let mut overtaken = 0;
        for seed in 0..50 {
            let mut chooser = tempered(Temper::Straggler, seed);
            let mut in_flight = ids(0..16);
            chooser.look(&in_flight);
            let late: Vec<RequestId> =
                in_flight.iter().copied().filter(|id| chooser.is_late(*id)).collect();
            let mut order = Vec::new();
            while in_flight.len() > 1 {
                let index = chooser.complete(&in_flight) as usize;
                order.push(in_flight.remove(index));
            }
            order.extend(in_flight);
            assert_eq!(order.len(), 16, "every request ends");
            let at = |id: &RequestId| order.iter().position(|other| other == id).unwrap();
            overtaken += late.iter().filter(|id| at(id) + 1 >= 16 - late.len()).count();
        }
        assert!(overtaken > 50, "{overtaken} stragglers were overtaken by all others");
    }

    #[test]
    fn a_device_of_stragglers_alone_is_withheld_while_tasks_are_ready() {
        let (mut withheld, mut taken) = (0, 0);
        for seed in 0..200 {
            let mut chooser = tempered(Temper::Straggler, seed);
            chooser.look(&ids(0..1));
            let late = chooser.is_late(RequestId(0));
            let chosen = run(&mut chooser, 2, &ids(0..1));
            assert!(!late || chosen < 2);
            withheld += usize::from(late);
            taken += usize::from(chosen == 2);
        }
        assert!(withheld > 20 && taken > 20, "{withheld} and {taken} of 200");
    }
}
