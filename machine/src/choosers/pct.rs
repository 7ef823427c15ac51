//! Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): random priorities, and
//! `depth
//! - 1` moments at which the running actor falls below all others.

use super::Dice;
use crate::choice::{Candidate, Chooser, Ready};
use smallvec::SmallVec;

/// Priorities with change points.
pub struct Pct {
    dice: Dice,
    /// (name, priority): high runs first.
    priorities: SmallVec<[(u32, u64); 16]>,
    /// Decisions at which the candidate that would run is lowered instead, ascending.
    changes: SmallVec<[u32; 8]>,
    decision: u32,
    lowest: u64,
}

impl Pct {
    /// `depth` is the number of ordering constraints of the bugs looked for; `length` the expected
    /// number of decisions of an execution.
    pub fn new(seed: u64, depth: u32, length: u32) -> Self {
        let mut dice = Dice::new(seed);
        let mut changes: SmallVec<[u32; 8]> =
            (1..depth.clamp(1, 64)).map(|_| dice.below(length.max(1))).collect();
        changes.sort_unstable();
        Pct { dice, priorities: SmallVec::new(), changes, decision: 0, lowest: u64::from(depth) }
    }

    fn priority(&mut self, candidate: &Candidate) -> u64 {
        if let Some(known) = self.priorities.iter().find(|(name, _)| *name == candidate.name) {
            return known.1;
        }
        // Random priorities lie above all those given at change points.
        let priority = (1 << 32) + self.dice.bits() / 2;
        self.priorities.push((candidate.name, priority));
        priority
    }

    fn highest(&mut self, ready: &Ready<'_>) -> usize {
        let mut best = (0, 0);
        for (index, candidate) in ready.candidates.iter().enumerate() {
            let priority = self.priority(candidate);
            if priority > best.1 {
                best = (index, priority);
            }
        }
        best.0
    }
}

impl Chooser for Pct {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        let decision = self.decision;
        self.decision += 1;
        while self.changes.first().is_some_and(|&at| at <= decision) {
            self.changes.remove(0);
            let index = self.highest(ready);
            let name = ready.candidates[index].name;
            self.lowest = self.lowest.saturating_sub(1);
            let lowest = self.lowest;
            for entry in self.priorities.iter_mut().filter(|(known, _)| *known == name) {
                entry.1 = lowest;
            }
        }
        self.highest(ready) as u32
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.dice.below(n)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
