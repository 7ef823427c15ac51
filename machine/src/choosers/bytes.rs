//! Choices from fuzz input: one byte a decision, then dice seeded by the hash of all bytes, so that
//! every short input means "this prefix, then anything" (scheduling.md §1.4: the hybrid that found
//! the planted race in ten of ten runs).

use super::Dice;
use crate::choice::{Chooser, Ready};

/// Decisions from bytes, with a dice tail.
pub struct Bytes {
    bytes: Vec<u8>,
    next: usize,
    tail: Dice,
}

impl Bytes {
    /// Decisions from these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let digest = blake3::hash(bytes);
        let mut seed = [0; 8];
        seed.copy_from_slice(&digest.as_bytes()[..8]);
        Bytes { bytes: bytes.to_vec(), next: 0, tail: Dice::new(u64::from_le_bytes(seed)) }
    }

    fn below(&mut self, n: u32) -> u32 {
        match self.bytes.get(self.next) {
            Some(&byte) => {
                self.next += 1;
                u32::from(byte) % n
            }
            None => self.tail.below(n),
        }
    }
}

impl Chooser for Bytes {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        self.below(ready.count())
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        self.below(n)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
