//! Delays: at random moments the actor that made the last step, or the device, stands still for a
//! long time while the others go on.
//!
//! Uniform choices rarely hold one task at one place while another does all of a long operation;
//! priorities (PCT) do, but only a few times in an execution. Here every step may begin such a
//! delay, of random length (noise injection; cf. Ben-Asher et al., PADTAD 2006).

use super::Dice;
use crate::choice::{Candidate, Chooser, Ready};
use smallvec::SmallVec;

/// One of so many steps begins a delay.
const BEGINS_OF: u32 = 48;
/// The longest delay, in decisions.
const LENGTH_MAX: u32 = 320;
/// How often the current task goes on when it may, in percent.
const STAY_PERCENT: u32 = 60;

/// Random choices with delays.
pub struct Delay {
    dice: Dice,
    /// (name, decisions left) of those who stand still.
    delayed: SmallVec<[(u32, u32); 8]>,
}

impl Delay {
    /// Delays from a seed.
    pub fn new(seed: u64) -> Self {
        Delay { dice: Dice::new(seed), delayed: SmallVec::new() }
    }

    fn is_delayed(&self, candidate: &Candidate) -> bool {
        self.delayed.iter().any(|(name, _)| *name == candidate.name)
    }
}

impl Chooser for Delay {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        self.delayed.retain(|(_, left)| {
            *left -= 1;
            *left > 0
        });
        if self.dice.below(BEGINS_OF) == 0 {
            let last = ready.candidates.len() - 1;
            let index = if self.dice.below(4) == 0 { last } else { 0 };
            let length = 1 + self.dice.below(LENGTH_MAX);
            self.delayed.push((ready.candidates[index].name, length));
        }
        let free: SmallVec<[u32; 16]> = (0..ready.count())
            .filter(|&index| !self.is_delayed(&ready.candidates[index as usize]))
            .collect();
        if free.is_empty() {
            return self.dice.below(ready.count());
        }
        let stays = ready.current_is_ready && free[0] == 0;
        if stays && self.dice.below(100) < STAY_PERCENT {
            return 0;
        }
        free[self.dice.below(free.len() as u32) as usize]
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.dice.below(n)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Actor;
    use crate::machine::TaskId;

    #[test]
    fn some_candidates_stand_still_for_long_and_all_run() {
        let candidates: Vec<Candidate> = (0..4)
            .map(|id| Candidate { actor: Actor::Task(TaskId(id)), name: id.into(), event: None })
            .collect();
        let ready = Ready { current_is_ready: true, candidates: &candidates, in_flight: &[] };
        let (mut runs, mut longest) = ([0; 4], 0);
        for seed in 0..20 {
            let mut chooser = Delay::new(seed);
            let mut since = [0; 4];
            for _ in 0..600 {
                let chosen = chooser.run(&ready) as usize;
                runs[chosen] += 1;
                since.iter_mut().for_each(|steps| *steps += 1);
                longest = longest.max(since[chosen]);
                since[chosen] = 0;
            }
        }
        assert!(runs.iter().all(|&count| count > 500), "{runs:?}");
        assert!(longest > 150, "the longest pause was {longest} decisions");
    }
}
