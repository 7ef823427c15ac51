//! The small types that every part of the engine shares: inode numbers, transactions, runs of
//! blocks.
//!
//! Promises: plain values, ordered and printable, no behaviour beyond arithmetic. It must never
//! know the machine, the medium or a path of the engine.

use std::fmt;

/// Bytes in a block: the unit of allocation, of the page cache and of a tree node.
pub const BLOCK_BYTES: u64 = 4096;

/// Bytes in a sector: the unit that the medium writes atomically.
pub const SECTOR_BYTES: u64 = 512;

/// The greatest size of a file in bytes: the last whole block that a signed offset can name.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64 / BLOCK_BYTES * BLOCK_BYTES;

/// What counts up by one from mkfs on (transactions, inodes, superblock writes) never gets here: a
/// greater number on a medium is damage, and one more than any other fits.
pub const COUNT_MAX: u64 = 1 << 56;

/// The number of an inode; 0 is never one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);

    /// The first number that an ordinary inode may have; those below are reserved.
    pub const FIRST_FREE: Ino = Ino(16);

    /// Whether an inode can have this number.
    pub const fn is_possible(self) -> bool {
        self.0 != 0 && self.0 <= COUNT_MAX
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a transaction: the generation that its commit makes durable. Strictly growing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

impl TransactionId {
    /// The transaction after this one.
    pub const fn next(self) -> TransactionId {
        TransactionId(self.0 + 1)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of consecutive blocks of device 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The first block.
    pub block: u64,
    /// How many blocks.
    pub len_blocks: u64,
}

impl Run {
    /// A run of `len_blocks` blocks from `block` on.
    pub const fn new(block: u64, len_blocks: u64) -> Run {
        Run { block, len_blocks }
    }

    /// One past the last block.
    pub const fn end(self) -> u64 {
        self.block.saturating_add(self.len_blocks)
    }

    /// Whether it holds no block.
    pub const fn is_empty(self) -> bool {
        self.len_blocks == 0
    }

    /// Whether `block` is one of its blocks.
    pub const fn contains(self, block: u64) -> bool {
        self.block <= block && block < self.end()
    }

    /// Whether the two share a block.
    pub const fn overlaps(self, other: Run) -> bool {
        self.block < other.end() && other.block < self.end()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.block, self.len_blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_overlap_only_if_they_share_a_block() {
        assert!(Run::new(4, 2).overlaps(Run::new(5, 1)));
        assert!(!Run::new(4, 2).overlaps(Run::new(6, 1)));
        assert!(!Run::new(4, 0).overlaps(Run::new(4, 0)));
        assert!(Run::new(4, 2).contains(5) && !Run::new(4, 2).contains(6));
        assert_eq!(Run::new(u64::MAX, 2).end(), u64::MAX, "the end saturates");
    }
}
