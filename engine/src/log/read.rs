//! Reading log trees: what fsync left of each inode.
//!
//! Promises: every item of every log tree is in exactly one [`LoggedInode`], or the log is damaged.
//! It must never know what becomes of them.

use super::items::{LOG_HOLE, LogNames, LogRange};
use crate::store::items::{Damage, InodeItem};
use crate::store::key::{Key, Kind};
use crate::types::Ino;
use rustc_hash::FxHashMap;

/// What the log says of one inode.
#[derive(Debug, Default)]
pub(crate) struct LoggedInode {
    /// Its number.
    pub(crate) ino: u64,
    /// The inode itself; every logged inode has one.
    pub(crate) item: Option<InodeItem>,
    /// Directories with the names there.
    pub(crate) names: Vec<(Ino, LogNames)>,
    /// Ranges, ascending, apart.
    pub(crate) ranges: Vec<LogRange>,
    /// Digests by block. Never iterated.
    pub(crate) csums: FxHashMap<u64, [u8; 32]>,
}

/// Takes the items of log trees, in the order of keys of each.
#[derive(Debug, Default)]
pub(crate) struct LogReader {
    /// The inodes, in the order of the items.
    pub(crate) inodes: Vec<LoggedInode>,
}

impl LogReader {
    /// Takes the next item.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn item(&mut self, key: Key, value: &[u8]) -> Result<(), Damage> {
        if self.inodes.last().is_none_or(|last| last.ino != key.object) {
            self.inodes.push(LoggedInode { ino: key.object, ..LoggedInode::default() });
        }
        let last = self.inodes.len() - 1;
        let inode = &mut self.inodes[last];
        match key.kind {
            Kind::INODE if key.offset == 0 => inode.item = Some(InodeItem::decode(value)?),
            Kind::PARENT => inode.names.push((Ino(key.offset), LogNames::decode(value)?)),
            Kind::EXTENT | LOG_HOLE => inode.ranges.push(LogRange::decode(key, value)?),
            Kind::CSUM => {
                let digest = value.try_into().map_err(|_| "a logged checksum of a wrong length")?;
                inode.csums.insert(key.offset, digest);
            }
            _ => return Err("an item that does not belong into a log"),
        }
        Ok(())
    }

    /// The inodes, each with its item.
    ///
    /// # Errors
    /// If an inode has none, or ranges that overlap.
    pub(crate) fn finish(mut self) -> Result<Vec<LoggedInode>, Damage> {
        for inode in &mut self.inodes {
            if inode.item.is_none() || !Ino(inode.ino).is_possible() {
                return Err("items of an inode that was not logged");
            }
            // Extents and holes come one after the other.
            inode.ranges.sort_unstable_by_key(|range| range.index);
            if inode.ranges.windows(2).any(|pair| pair[0].end() > pair[1].index) {
                return Err("logged ranges that overlap");
            }
        }
        Ok(self.inodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::items::{Held, log_csum_key};

    #[test]
    fn items_of_an_inode_come_together() {
        let item = InodeItem { mode: 0o100_644, ..InodeItem::default() };
        let mut reader = LogReader::default();
        for ino in [Ino(16), Ino(17)] {
            reader.item(InodeItem::key(ino), &item.encode()).unwrap();
            let extent = |index, held| LogRange { index, len_blocks: 3, held, generation: 1 };
            for range in [extent(7, Held::Written { block: 9 }), extent(2, Held::Hole)] {
                reader.item(range.key(ino), &range.encode()).unwrap();
            }
            reader.item(log_csum_key(ino, 9), &[3; 32]).unwrap();
            assert!(reader.item(log_csum_key(ino, 9), &[3; 31]).is_err());
        }
        let inodes = reader.finish().unwrap();
        assert_eq!((inodes.len(), inodes[1].ino), (2, 17));
        let starts: Vec<u64> = inodes[1].ranges.iter().map(|range| range.index).collect();
        assert_eq!(starts, [2, 7]);
        assert_eq!(inodes[0].csums.get(&9), Some(&[3; 32]));
    }

    #[test]
    fn incomplete_and_overlapping_logs_are_refused() {
        let mut reader = LogReader::default();
        reader.item(log_csum_key(Ino(16), 9), &[3; 32]).unwrap();
        assert!(reader.finish().is_err(), "an inode without its item");
        let item = InodeItem { mode: 0o100_644, ..InodeItem::default() };
        let mut reader = LogReader::default();
        reader.item(InodeItem::key(Ino(16)), &item.encode()).unwrap();
        for (index, held) in [(2, Held::Written { block: 9 }), (4, Held::Hole)] {
            let range = LogRange { index, len_blocks: 3, held, generation: 0 };
            reader.item(range.key(Ino(16)), &range.encode()).unwrap();
        }
        assert!(reader.finish().is_err(), "ranges that overlap");
    }
}
