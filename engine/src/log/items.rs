//! The items of a log tree: what fsync has made durable of an inode since the last commit.
//!
//! ```text
//! (ino, INODE, 0)                 the inode, as in the FS tree
//! (ino, PARENT, directory ino)    the inode's names there: name length u8 | name, one or more
//! (ino, EXTENT, byte offset)      what the file holds from there on: an extent, as in the FS tree
//! (ino, LOG_HOLE, byte offset)    8 bytes: len_blocks u64; the file holds nothing from there on
//! (ino, CSUM, block)              the digest of a data block that a written extent names
//! ```
//!
//! A range, extent or hole, says what the file holds there, whatever the last commit says: replay
//! drops what the FS tree has in it. A hole is therefore a deletion mark and stands explicitly.
//! Ranges of an inode do not overlap. Checksums stand under their inode, so two inodes that share
//! blocks share no item.
//!
//! Promises: `decode(encode(x)) == x`, and other bytes are refused. It must never know how a log is
//! written or replayed.

use crate::store::items::{Damage, ExtentItem, ExtentKind, NAME_BYTES_MAX, Value};
use crate::store::key::{Key, Kind};
use crate::types::{BLOCK_BYTES, Ino};
use smallvec::SmallVec;

/// Log trees: a range of a file without blocks. `(ino, LOG_HOLE, byte offset)`.
pub const LOG_HOLE: Kind = Kind(0x48);

/// The kinds of items that are ranges.
pub const RANGE_KINDS: [Kind; 2] = [Kind::EXTENT, LOG_HOLE];

/// What a logged range of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Blocks of data.
    Written {
        /// The first block.
        block: u64,
    },
    /// Blocks that read as zeros.
    Unwritten {
        /// The first block.
        block: u64,
    },
    /// No blocks.
    Hole,
}

/// A range of a file as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The first block of the file.
    pub index: u64,
    /// How many blocks; a hole may reach to the end of all offsets.
    pub len_blocks: u64,
    /// What is there.
    pub held: Held,
    /// The transaction that created the extent; 0 for a hole.
    pub generation: u64,
}

/// Blocks that a file may have: one more than the greatest index.
pub const INDEX_END: u64 = u64::MAX / BLOCK_BYTES;

impl LogRange {
    /// One past the last block of the file.
    pub const fn end(&self) -> u64 {
        self.index + self.len_blocks
    }

    /// The key of a range of `ino` of this kind that starts at a block of the file.
    pub const fn key_of(ino: Ino, kind: Kind, index: u64) -> Key {
        Key::new(ino.0, kind, index * BLOCK_BYTES)
    }

    /// Its key.
    pub const fn key(&self, ino: Ino) -> Key {
        let kind = match self.held {
            Held::Hole => LOG_HOLE,
            Held::Written { .. } | Held::Unwritten { .. } => Kind::EXTENT,
        };
        LogRange::key_of(ino, kind, self.index)
    }

    /// The part from `from` on and before `to`, if there is one.
    pub fn clipped(&self, from: u64, to: u64) -> Option<LogRange> {
        let (start, end) = (self.index.max(from), self.end().min(to));
        if start >= end {
            return None;
        }
        let skipped = start - self.index;
        let held = match self.held {
            Held::Written { block } => Held::Written { block: block + skipped },
            Held::Unwritten { block } => Held::Unwritten { block: block + skipped },
            Held::Hole => Held::Hole,
        };
        Some(LogRange { index: start, len_blocks: end - start, held, ..*self })
    }

    /// The extent that replay shall put there; none for a hole.
    pub fn extent(&self) -> Option<ExtentItem> {
        let (kind, block) = match self.held {
            Held::Written { block } => (ExtentKind::Written, block),
            Held::Unwritten { block } => (ExtentKind::Unwritten, block),
            Held::Hole => return None,
        };
        let (len_blocks, generation) = (self.len_blocks, self.generation);
        Some(ExtentItem { kind, block, len_blocks, generation })
    }

    /// The bytes on the medium; where it starts stands in the key.
    pub fn encode(&self) -> Value {
        match self.extent() {
            Some(extent) => extent.encode(),
            None => Value::from_slice(&self.len_blocks.to_le_bytes()),
        }
    }

    /// Reads a range that stands under `key`.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<LogRange, Damage> {
        let index = key.offset / BLOCK_BYTES;
        if !key.offset.is_multiple_of(BLOCK_BYTES) {
            return Err("a logged range that starts inside a block");
        }
        let (held, len_blocks, generation) = if key.kind == LOG_HOLE {
            let len = bytes.try_into().map_err(|_| "a logged hole of a wrong length")?;
            (Held::Hole, u64::from_le_bytes(len), 0)
        } else {
            let ExtentItem { kind, block, len_blocks, generation } = ExtentItem::decode(bytes)?;
            let held = match kind {
                ExtentKind::Written => Held::Written { block },
                ExtentKind::Unwritten => Held::Unwritten { block },
            };
            (held, len_blocks, generation)
        };
        if len_blocks == 0 || index.checked_add(len_blocks).is_none_or(|end| end > INDEX_END) {
            return Err("a logged range of an impossible length");
        }
        Ok(LogRange { index, len_blocks, held, generation })
    }
}

/// The names of an inode in one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogNames {
    /// The names: 1 to 255 bytes each.
    pub names: SmallVec<[SmallVec<[u8; 24]>; 1]>,
}

impl LogNames {
    /// The key of the names of `ino` in `directory`.
    pub const fn key(ino: Ino, directory: Ino) -> Key {
        Key::new(ino.0, Kind::PARENT, directory.0)
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let mut bytes = Value::new();
        for name in &self.names {
            assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "a name of a legal length");
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name);
        }
        bytes
    }

    /// Reads names.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<LogNames, Damage> {
        let mut item = LogNames::default();
        while let Some((&len, rest)) = bytes.split_first() {
            let split = rest.split_at_checked(usize::from(len)).filter(|_| len != 0);
            let (name, rest) = split.ok_or("a damaged logged name")?;
            item.names.push(SmallVec::from_slice(name));
            bytes = rest;
        }
        if item.names.is_empty() {
            return Err("a logged directory without names");
        }
        Ok(item)
    }
}

/// The key of the checksum of a data block of `ino`.
pub const fn log_csum_key(ino: Ino, block: u64) -> Key {
    Key::new(ino.0, Kind::CSUM, block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_the_medium_and_impossible_ones_are_refused() {
        let held = [Held::Written { block: 9 }, Held::Unwritten { block: 2 }, Held::Hole];
        for held in held {
            let range = LogRange { index: 3, len_blocks: 5, held, generation: 0 };
            let (key, bytes) = (range.key(Ino(16)), range.encode());
            assert_eq!(LogRange::decode(key, &bytes), Ok(range));
            for len in 0..bytes.len() {
                assert!(LogRange::decode(key, &bytes[..len]).is_err());
            }
            assert!(LogRange::decode(Key { offset: 1, ..key }, &bytes).is_err());
        }
        let endless =
            LogRange { index: 1, len_blocks: INDEX_END - 1, held: held[2], generation: 0 };
        let key = endless.key(Ino(1));
        assert_eq!(LogRange::decode(key, &endless.encode()), Ok(endless));
        let later = LogRange::key_of(Ino(1), LOG_HOLE, 2);
        assert!(LogRange::decode(later, &endless.encode()).is_err(), "beyond the last block");
        let extent = LogRange { held: held[0], ..endless };
        assert!(LogRange::decode(extent.key(Ino(1)), &endless.encode()).is_err(), "not an extent");
    }

    #[test]
    fn a_part_of_a_range_keeps_its_blocks() {
        let held = Held::Written { block: 100 };
        let range = LogRange { index: 10, len_blocks: 4, held, generation: 1 };
        let part = range.clipped(11, 13).expect("it overlaps");
        assert_eq!((part.index, part.len_blocks), (11, 2));
        assert_eq!(part.extent().map(|extent| extent.block), Some(101));
        assert_eq!(range.clipped(14, 20), None);
        assert_eq!(range.clipped(0, u64::MAX), Some(range));
    }

    #[test]
    fn names_survive_the_medium() {
        let mut item = LogNames::default();
        item.names.push(SmallVec::from_slice(b"f"));
        item.names.push(SmallVec::from_slice(&[b'x'; 255]));
        let bytes = item.encode();
        assert_eq!(LogNames::decode(&bytes), Ok(item));
        assert!(LogNames::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(LogNames::decode(&[]).is_err() && LogNames::decode(&[0]).is_err());
    }
}
