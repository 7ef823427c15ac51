//! Free space: which blocks of the data device are in use.

/// Blocks that one bitmap block describes.
pub const BITMAP_BLOCKS: u64 = (4096 - 64) * 8;

/// Pointers in one index block.
pub const INDEX_POINTERS: u64 = 70;

/// The greatest number of blocks that two levels of index can describe (603 GiB).
pub const BLOCKS_MAX: u64 = BITMAP_BLOCKS * INDEX_POINTERS * INDEX_POINTERS;
