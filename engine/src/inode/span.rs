//! Ranges of a file: in bytes and in blocks.
//!
//! Promises: half-open, never inverted, arithmetic that saturates at the end of the number range.
//! It must never know files.

use crate::error::{Errno, Error, Result};
use crate::types::BLOCK_BYTES;
use machine::Range;
use std::fmt;

pub use crate::types::FILE_BYTES_MAX;

/// A range of bytes of a file, `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Span {
    /// The whole of any file.
    pub const ALL: Span = Span { start: 0, end: u64::MAX };

    /// The bytes from `start` up to `end`, which must not lie before it.
    pub fn new(start: u64, end: u64) -> Span {
        assert!(start <= end, "an inverted range of bytes: {start}..{end}");
        Span { start, end }
    }

    /// The `len_bytes` bytes from `offset` on, as a caller gives them.
    ///
    /// # Errors
    /// `EINVAL` if the offset is beyond any file, `EFBIG` if the end is.
    pub fn of(offset: u64, len_bytes: u64) -> Result<Span> {
        if offset > i64::MAX as u64 {
            return Err(Error::Refused(Errno::EINVAL));
        }
        match offset.checked_add(len_bytes) {
            Some(end) if end <= FILE_BYTES_MAX => Ok(Span { start: offset, end }),
            _ => Err(Error::Refused(Errno::EFBIG)),
        }
    }

    /// Everything from `start` on.
    pub const fn from(start: u64) -> Span {
        Span { start, end: u64::MAX }
    }

    /// How many bytes.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// What both have; empty (at the greater start) if they share nothing.
    pub fn intersection(self, other: Span) -> Span {
        let start = self.start.max(other.start);
        Span { start, end: self.end.min(other.end).max(start) }
    }

    /// The blocks that it touches.
    pub const fn blocks(self) -> Blocks {
        let start = self.start / BLOCK_BYTES;
        let end = self.end.div_ceil(BLOCK_BYTES);
        Blocks { start, end: if end < start { start } else { end } }
    }

    /// The blocks that it holds entirely; empty if there are none.
    pub const fn whole_blocks(self) -> Blocks {
        let start = self.start.div_ceil(BLOCK_BYTES);
        let end = self.end / BLOCK_BYTES;
        Blocks { start, end: if end < start { start } else { end } }
    }

    /// The range to lock for it: rounded outwards to blocks (§7.2). An empty one locks its block.
    pub fn lock_range(self) -> Range {
        let start = self.start / BLOCK_BYTES * BLOCK_BYTES;
        let last = self.end.max(self.start + 1) - 1;
        let end = if self.end == u64::MAX { u64::MAX } else { last | (BLOCK_BYTES - 1) };
        Range::new(start, end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// A range of blocks of a file, `start..end`, counted from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks {
    /// The first block.
    pub start: u64,
    /// One past the last block.
    pub end: u64,
}

impl Blocks {
    /// The blocks from `start` up to `end`, which must not lie before it.
    pub fn new(start: u64, end: u64) -> Blocks {
        assert!(start <= end, "an inverted range of blocks: {start}..{end}");
        Blocks { start, end }
    }

    /// One block.
    pub const fn one(index: u64) -> Blocks {
        Blocks { start: index, end: index + 1 }
    }

    /// How many.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `index` is one of them.
    pub const fn contains(self, index: u64) -> bool {
        self.start <= index && index < self.end
    }

    /// Whether they share a block.
    pub const fn overlaps(self, other: Blocks) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What both have; empty (at the greater start) if they share nothing.
    pub fn intersection(self, other: Blocks) -> Blocks {
        let start = self.start.max(other.start);
        Blocks { start, end: self.end.min(other.end).max(start) }
    }

    /// Their bytes.
    pub const fn bytes(self) -> Span {
        Span {
            start: self.start.saturating_mul(BLOCK_BYTES),
            end: self.end.saturating_mul(BLOCK_BYTES),
        }
    }

    /// Their numbers, in order.
    pub fn iter(self) -> std::ops::Range<u64> {
        self.start..self.end
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks {}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_blocks_round_as_named() {
        let span = Span::new(100, 9000);
        assert_eq!(span.blocks(), Blocks::new(0, 3));
        assert_eq!(span.whole_blocks(), Blocks::new(1, 2));
        assert_eq!(span.lock_range(), Range::new(0, 3 * 4096 - 1));
        assert!(Span::new(1, 4095).whole_blocks().is_empty());
        assert_eq!(Span::from(4096).lock_range(), Range::new(4096, u64::MAX));
        assert_eq!(Span::new(4096, 4096).lock_range(), Range::new(4096, 8191));
        assert_eq!(Blocks::new(1, 3).bytes(), Span::new(4096, 12288));
    }

    #[test]
    fn what_a_caller_gives_is_checked() {
        assert_eq!(Span::of(5, 10), Ok(Span::new(5, 15)));
        assert_eq!(Span::of(u64::MAX, 1).unwrap_err().errno(), Errno::EINVAL);
        assert_eq!(Span::of(1, u64::MAX).unwrap_err().errno(), Errno::EFBIG);
        assert_eq!(Span::of(FILE_BYTES_MAX, 1).unwrap_err().errno(), Errno::EFBIG);
        assert!(Span::new(5, 9).intersection(Span::new(20, 30)).is_empty());
    }
}
