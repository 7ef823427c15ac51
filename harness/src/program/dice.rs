//! Where generators and mutators take their numbers from.
//!
//! The mapping from a source to numbers is frozen: a seed must give the same program for ever, so
//! nothing here uses a library whose numbers may change.

use arbitrary::Unstructured;

/// A source of numbers.
pub trait Source {
    /// A number below `n`, which is at least 1.
    fn below(&mut self, n: u32) -> u32;

    /// Whether the source has no more to say and only repeats one number.
    fn spent(&self) -> bool {
        false
    }

    /// True in `numerator` of `denominator` cases.
    fn chance(&mut self, numerator: u32, denominator: u32) -> bool {
        self.below(denominator) < numerator
    }

    /// One of the values, which are at least one.
    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    /// 64 bits.
    fn bits(&mut self) -> u64 {
        (0..4).fold(0, |bits, _| bits << 16 | u64::from(self.below(1 << 16)))
    }
}

/// Dice: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), whole and reproducible in 64 bits.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that roll the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }
}

impl Source for Dice {
    fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0, "there is no number below 0");
        let high = self.bits() >> 32;
        ((high * u64::from(n)) >> 32) as u32
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// The bytes of a fuzzer, as few as possible for each number.
pub(super) struct Bytes<'a, 'b>(pub(super) &'b mut Unstructured<'a>);

impl Source for Bytes<'_, '_> {
    fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0, "there is no number below 0");
        self.0.int_in_range(0..=n - 1).unwrap_or(0)
    }

    fn spent(&self) -> bool {
        self.0.is_empty()
    }
}
