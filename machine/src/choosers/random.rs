//! Uniform choices from a seed, and the dice that all seeded choosers share.

use crate::choice::{Chooser, Ready};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Numbers below a bound from a seed: ChaCha8, with our own frozen mapping to ranges, so that a
/// seed means the same for ever.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Self {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`, which is at least one (multiply and shift; bias below 2^-32 · n).
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "a number below zero");
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Every candidate equally likely at every decision; between decisions to preempt, a bias to go on
/// can be set so that long stretches occur too.
pub struct Random {
    dice: Dice,
    stay_percent: u32,
}

impl Random {
    /// Uniform choices.
    pub fn new(seed: u64) -> Self {
        Random { dice: Dice::new(seed), stay_percent: 0 }
    }

    /// With `stay_percent` of the decisions going to the current task outright.
    pub fn with_bias(seed: u64, stay_percent: u32) -> Self {
        Random { dice: Dice::new(seed), stay_percent: stay_percent.min(100) }
    }
}

impl Chooser for Random {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        let stays = ready.current_is_ready && self.stay_percent > 0;
        if stays && self.dice.below(100) < self.stay_percent {
            return 0;
        }
        self.dice.below(ready.count())
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.dice.below(n)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
