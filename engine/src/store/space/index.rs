//! An index block of the free-space map: pointers to bitmaps, or to index blocks.
//!
//! ```text
//! header, 64 bytes   magic "PFSP" | level u8 | reserved u8 = 0 | count u16 | first u64 |
//!                    generation u64 | block u64 | reserved [u8; 32] = 0
//! entries            count × pointer 48
//! ```
//!
//! Level 0 points to bitmaps, level 1 to index blocks of level 0; `first` is the number of the
//! first bitmap below. A device of at most 70 bitmaps (8.6 GiB) has one index block, the space
//! root.
//!
//! Promises: an index has exactly the entries that the size of the device asks for. It must never
//! know bits.

use super::INDEX_POINTERS;
use crate::store::codec::{Reader, Writer};
use crate::store::key::BlockPtr;
use machine::{BLOCK_BYTES, Block};

const MAGIC: &[u8; 4] = b"PFSP";

/// An index block.
pub(super) struct Index {
    /// 0: pointers to bitmaps; 1: to index blocks.
    pub(super) level: u8,
    /// The number of the first bitmap below.
    pub(super) first: u64,
    /// The pointers. In memory an empty one (block 0) stands for what was never written.
    pub(super) entries: Vec<BlockPtr>,
}

impl Index {
    /// An index whose children were never written.
    pub(super) fn new(level: u8, first: u64, count: usize) -> Index {
        debug_assert!(count as u64 <= INDEX_POINTERS);
        Index { level, first, entries: vec![BlockPtr::default(); count] }
    }

    /// The content for the medium.
    pub(super) fn encode(&self, generation: u64, block: u64) -> Block {
        let mut bytes = [0; BLOCK_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(MAGIC);
        writer.u8(self.level);
        writer.u8(0);
        writer.u16(self.entries.len() as u16);
        writer.u64(self.first);
        writer.u64(generation);
        writer.u64(block);
        writer.bytes(&[0; 32]);
        for ptr in &self.entries {
            assert!(!ptr.is_dirty(), "children are written first");
            ptr.write(&mut writer);
        }
        Block::new(&bytes)
    }

    /// Reads an index block into this one, whose level, place and count say what is expected.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn decode(
        mut self,
        bytes: &[u8; BLOCK_BYTES],
        generation: u64,
        block: u64,
    ) -> Result<Index, &'static str> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(4) != Some(MAGIC) {
            return Err("no magic number of a space index");
        }
        let shape = (reader.u8(), reader.u8(), reader.u16());
        if shape != (Some(self.level), Some(0), Some(self.entries.len() as u16)) {
            return Err("an index of another shape than the device asks for");
        }
        let place = (reader.u64(), reader.u64(), reader.u64());
        if place != (Some(self.first), Some(generation), Some(block)) {
            return Err("it is another index than its parent says");
        }
        reader.bytes(32).ok_or("a short header")?;
        for entry in &mut self.entries {
            *entry = BlockPtr::read(&mut reader).ok_or("a short index")?;
            if entry.is_dirty() || entry.generation > generation {
                return Err("a pointer to what cannot have been written");
            }
        }
        Ok(self)
    }
}

/// The pointers of an index block, whatever index it is; none of any other block.
pub(crate) fn pointers(content: &Block) -> Vec<BlockPtr> {
    let mut reader = Reader::new(content.bytes());
    if reader.bytes(4) != Some(MAGIC) {
        return Vec::new();
    }
    let (_level, _reserved, count) = (reader.u8(), reader.u8(), reader.u16());
    let count = u64::from(count.unwrap_or(0)).min(INDEX_POINTERS);
    reader.bytes(56);
    (0..count).map_while(|_| BlockPtr::read(&mut reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_survives_the_medium() {
        let mut index = Index::new(0, 70, 2);
        index.entries[0] = BlockPtr { block: 5, generation: 6, digest: [7; 32] };
        index.entries[1] = BlockPtr { block: 8, generation: 9, digest: [1; 32] };
        let content = index.encode(9, 4);
        let read = |level, count, block| {
            Index::new(level, 70, count).decode(content.bytes(), 9, block).map(|i| i.entries)
        };
        assert_eq!(read(0, 2, 4), Ok(index.entries.clone()));
        assert!(read(1, 2, 4).is_err() && read(0, 3, 4).is_err() && read(0, 2, 5).is_err());
        let mut bytes = *content.bytes();
        bytes[64 + 16..64 + 48].fill(0);
        let unwritten = Index::new(0, 70, 2).decode(&bytes, 9, 4);
        assert!(unwritten.is_err(), "a bitmap that was never written");
        let full = Index {
            entries: vec![index.entries[0]; INDEX_POINTERS as usize],
            ..Index::new(0, 0, 0)
        };
        let content = full.encode(6, 2);
        let read = Index::new(0, 0, INDEX_POINTERS as usize).decode(content.bytes(), 6, 2);
        assert_eq!(read.map(|index| index.entries.len()), Ok(70), "a full index fits");
    }
}
