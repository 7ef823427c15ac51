//! Partial order sampling (Yuan et al., CAV 2018): every pending event has a random priority; the
//! highest runs, and the pending events that conflict with it draw new ones.

use super::Dice;
use crate::choice::{Chooser, Ready};
use smallvec::SmallVec;

/// Random priorities of events.
pub struct Pos {
    dice: Dice,
    /// (name, priority) of the pending event of each actor.
    pending: SmallVec<[(u32, u64); 16]>,
}

impl Pos {
    /// Partial order sampling from a seed.
    pub fn new(seed: u64) -> Self {
        Pos { dice: Dice::new(seed), pending: SmallVec::new() }
    }

    fn priority(&mut self, name: u32) -> u64 {
        if let Some(known) = self.pending.iter().find(|(other, _)| *other == name) {
            return known.1;
        }
        let priority = self.dice.bits();
        self.pending.push((name, priority));
        priority
    }
}

impl Chooser for Pos {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        let mut best = (0, 0);
        for (index, candidate) in ready.candidates.iter().enumerate() {
            let priority = self.priority(candidate.name);
            if index == 0 || priority > best.1 {
                best = (index, priority);
            }
        }
        let chosen = &ready.candidates[best.0];
        let conflicts = |name: u32| {
            let other = ready.candidates.iter().find(|candidate| candidate.name == name);
            match (chosen.event, other.and_then(|other| other.event)) {
                (Some(event), Some(other)) => event.conflicts(&other),
                _ => false,
            }
        };
        self.pending.retain(|(name, _)| *name != chosen.name && !conflicts(*name));
        best.0 as u32
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.dice.below(n)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
