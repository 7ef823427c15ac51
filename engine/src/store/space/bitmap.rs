//! A bitmap block: which of 32,256 consecutive blocks are allocated.
//!
//! ```text
//! header, 64 bytes   magic "PFBM" | reserved u32 = 0 | index u64 | generation u64 | block u64 |
//!                    reserved [u8; 32] = 0
//! bits               one a block, bit 0 of byte 0 first; set: allocated; zero beyond the device
//! ```
//!
//! In memory a second set of bits says which blocks the allocator must not hand out: the allocated
//! ones, those freed by a transaction that is not durable yet (X-6), and those of the log (B-5).
//!
//! Promises: allocated blocks are busy. It must never know why a block is busy.

use super::BITMAP_BLOCKS;
use crate::store::codec::{Reader, Writer};
use machine::{BLOCK_BYTES, Block};

const MAGIC: &[u8; 4] = b"PFBM";
const HEADER_BYTES: usize = 64;

const _: () = assert!((BLOCK_BYTES - HEADER_BYTES) as u64 * 8 == BITMAP_BLOCKS);

/// The bits of a part of the device.
pub(super) struct Bitmap {
    /// The first block that it describes.
    base: u64,
    /// How many blocks it describes.
    len: usize,
    allocated: Vec<u64>,
    busy: Vec<u64>,
    busy_count: usize,
    /// Changed since the last commit.
    pub(super) dirty: bool,
}

impl Bitmap {
    /// All blocks free, for the bitmap of this index on a device of `blocks` blocks.
    pub(super) fn new(index: u64, blocks: u64) -> Bitmap {
        let base = index * BITMAP_BLOCKS;
        let len = (blocks - base).min(BITMAP_BLOCKS) as usize;
        let words = vec![0; len.div_ceil(64)];
        let busy = words.clone();
        Bitmap { base, len, allocated: words, busy, busy_count: 0, dirty: false }
    }

    /// The content for the medium.
    pub(super) fn encode(&self, generation: u64, block: u64) -> Block {
        let mut bytes = [0; BLOCK_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(MAGIC);
        writer.u32(0);
        writer.u64(self.base / BITMAP_BLOCKS);
        writer.u64(generation);
        writer.u64(block);
        writer.bytes(&[0; 32]);
        self.allocated.iter().for_each(|word| writer.u64(*word));
        Block::new(&bytes)
    }

    /// Reads a bitmap.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn decode(
        bytes: &[u8; BLOCK_BYTES],
        index: u64,
        blocks: u64,
        generation: u64,
        block: u64,
    ) -> Result<Bitmap, &'static str> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(4) != Some(MAGIC) || reader.u32() != Some(0) {
            return Err("no magic number of a bitmap");
        }
        let header = (reader.u64(), reader.u64(), reader.u64());
        if header != (Some(index), Some(generation), Some(block)) {
            return Err("it is another bitmap than its parent says");
        }
        reader.bytes(32).ok_or("a short header")?;
        let mut bitmap = Bitmap::new(index, blocks);
        for word in &mut bitmap.allocated {
            *word = reader.u64().ok_or("a short bitmap")?;
        }
        let tail = bitmap.len % 64;
        if tail != 0 && bitmap.allocated.last().is_some_and(|last| last >> tail != 0) {
            return Err("a block beyond the device is allocated");
        }
        bitmap.busy.clone_from(&bitmap.allocated);
        bitmap.busy_count = bitmap.allocated.iter().map(|word| word.count_ones() as usize).sum();
        Ok(bitmap)
    }

    fn position(&self, block: u64) -> (usize, u64) {
        debug_assert!(block >= self.base && block - self.base < self.len as u64);
        let bit = (block - self.base) as usize;
        (bit / 64, 1 << (bit % 64))
    }

    /// Whether a block is allocated.
    pub(super) fn is_allocated(&self, block: u64) -> bool {
        let (word, bit) = self.position(block);
        self.allocated[word] & bit != 0
    }

    /// Whether a block must not be handed out.
    pub(super) fn is_busy(&self, block: u64) -> bool {
        let (word, bit) = self.position(block);
        self.busy[word] & bit != 0
    }

    /// Sets or clears the allocated bit.
    pub(super) fn set_allocated(&mut self, block: u64, allocated: bool) {
        let (word, bit) = self.position(block);
        debug_assert_ne!(self.is_allocated(block), allocated);
        self.allocated[word] ^= bit;
        self.dirty = true;
    }

    /// Sets or clears the busy bit.
    pub(super) fn set_busy(&mut self, block: u64, busy: bool) {
        let (word, bit) = self.position(block);
        if self.is_busy(block) == busy {
            return;
        }
        assert!(busy || !self.is_allocated(block), "allocated blocks are busy");
        self.busy[word] ^= bit;
        self.busy_count = if busy { self.busy_count + 1 } else { self.busy_count - 1 };
    }

    /// Allocated blocks.
    pub(super) fn allocated_count(&self) -> usize {
        self.allocated.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The first block from `from` on that is not busy.
    pub(super) fn next_free(&self, from: u64) -> Option<u64> {
        if self.busy_count == self.len {
            return None;
        }
        let start = from.saturating_sub(self.base) as usize;
        let mut index = start / 64;
        let mut mask = u64::MAX << (start % 64);
        while index < self.busy.len() {
            let free = !self.busy[index] & mask;
            if free != 0 {
                let bit = index * 64 + free.trailing_zeros() as usize;
                return (bit < self.len).then_some(self.base + bit as u64);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }

    /// The first block.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// One past the last block.
    pub(super) fn end(&self) -> u64 {
        self.base + self.len as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_survive_the_medium() {
        let mut bitmap = Bitmap::new(0, 100);
        for block in [0, 63, 64, 99] {
            bitmap.set_allocated(block, true);
            bitmap.set_busy(block, true);
        }
        bitmap.set_busy(50, true);
        let content = bitmap.encode(7, 3);
        let read = Bitmap::decode(content.bytes(), 0, 100, 7, 3).unwrap();
        assert_eq!(read.allocated, bitmap.allocated);
        assert_eq!((read.allocated_count(), read.busy_count), (4, 4));
        assert!(read.is_allocated(99) && !read.is_busy(50));
        assert!(Bitmap::decode(content.bytes(), 0, 99, 7, 3).is_err(), "a bit beyond the device");
        assert!(Bitmap::decode(content.bytes(), 0, 100, 8, 3).is_err(), "another generation");
    }

    #[test]
    fn free_blocks_are_found_in_order_and_within_the_device() {
        let mut bitmap = Bitmap::new(1, BITMAP_BLOCKS + 70);
        assert_eq!(bitmap.next_free(0), Some(BITMAP_BLOCKS));
        for offset in 0..69 {
            bitmap.set_busy(BITMAP_BLOCKS + offset, true);
        }
        assert_eq!(bitmap.next_free(0), Some(BITMAP_BLOCKS + 69));
        bitmap.set_busy(BITMAP_BLOCKS + 69, true);
        assert_eq!((bitmap.next_free(0), bitmap.end()), (None, BITMAP_BLOCKS + 70));
        bitmap.set_busy(BITMAP_BLOCKS + 3, false);
        assert_eq!(bitmap.next_free(BITMAP_BLOCKS + 4), None);
    }
}
