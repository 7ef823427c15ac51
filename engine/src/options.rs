//! The options of an image and of a mount, under the names that programs and people use.
//!
//! Promises: every knob has a name, a default and a range, and a value out of its range is refused
//! with the range. It must never know what a knob does.

use crate::error::{Error, Result};
use smallvec::SmallVec;

/// The least number of blocks of an image.
pub const BLOCKS_MIN: u64 = 64;

/// The greatest number of blocks of an image: what two levels of space index can describe.
pub const BLOCKS_MAX: u64 = crate::store::space::BLOCKS_MAX;

/// The least node capacity: with fewer items a split would leave a node without any.
pub const LEAF_MIN: u16 = 4;

/// The greatest node capacity that makes a difference: more never fit.
pub const LEAF_MAX: u16 = 192;

/// The greatest number of log trees.
pub const LOG_TREES_MAX: u8 = 4;

/// The greatest number of bare nodes of an image.
pub const BARE_NODES_MAX: u8 = 8;

/// The greatest number of blocks that are read ahead or mapped around a fault.
pub const AHEAD_MAX: u64 = 16;

/// What is fixed when an image is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageOptions {
    /// Blocks of the data device: 64..=[`BLOCKS_MAX`].
    pub blocks: u64,
    /// Whether new files keep a checksum per data block.
    pub datasum: bool,
    /// Whether overwriting a block of a new file allocates a new one.
    pub datacow: bool,
    /// Items per tree node at most: 4..=192, or 0 for as many as fit.
    pub leaf: u16,
    /// Whether log trees live on a second device.
    pub logdev: bool,
    /// Log trees: 1..=4. Files are spread over them by inode number.
    pub log_trees: u8,
    /// Bare nodes, which no tree owns, for programs to read and modify: 0..=8.
    pub buffers: u8,
    /// Whether mkfs fills every block with poison that names it.
    pub poison: bool,
    /// What the identity of the image is derived from, besides the other options.
    pub seed: u64,
}

impl Default for ImageOptions {
    fn default() -> Self {
        ImageOptions {
            blocks: 256,
            datasum: true,
            datacow: true,
            leaf: 0,
            logdev: false,
            log_trees: 1,
            buffers: 0,
            poison: true,
            seed: 0,
        }
    }
}

impl ImageOptions {
    /// Sets a knob by its name in programs.
    ///
    /// # Errors
    /// `BadInput` if there is no such knob or the value is out of its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "blocks" => self.blocks = number(key, value, BLOCKS_MIN, BLOCKS_MAX)?,
            "datasum" => self.datasum = switch(key, value)?,
            "datacow" => self.datacow = switch(key, value)?,
            "leaf" if matches!(value, "full" | "0") => self.leaf = 0,
            "leaf" => self.leaf = number(key, value, LEAF_MIN.into(), LEAF_MAX.into())? as u16,
            "logdev" => self.logdev = switch(key, value)?,
            "log_trees" => self.log_trees = number(key, value, 1, LOG_TREES_MAX.into())? as u8,
            "buffers" => self.buffers = number(key, value, 0, BARE_NODES_MAX.into())? as u8,
            "poison" => self.poison = switch(key, value)?,
            "seed" => self.seed = number(key, value, 0, u64::MAX)?,
            _ => return Err(Error::bad_input("an image option", key)),
        }
        Ok(())
    }

    /// Refuses values that [`set`](Self::set) would refuse.
    ///
    /// # Errors
    /// `BadInput` with the offending knob.
    pub fn check(&self) -> Result<()> {
        in_range("blocks", self.blocks, BLOCKS_MIN, BLOCKS_MAX)?;
        if self.leaf != 0 {
            in_range("leaf", self.leaf.into(), LEAF_MIN.into(), LEAF_MAX.into())?;
        }
        in_range("buffers", self.buffers.into(), 0, BARE_NODES_MAX.into())?;
        in_range("log_trees", self.log_trees.into(), 1, LOG_TREES_MAX.into())
    }

    /// The number of blocks of each device that the image needs, by device number.
    pub fn devices(&self) -> SmallVec<[u64; 2]> {
        let mut devices = SmallVec::new();
        devices.push(self.blocks);
        if self.logdev {
            devices.push(self.log_blocks());
        }
        devices
    }

    /// Blocks of the log device, if there is one.
    pub fn log_blocks(&self) -> u64 {
        (self.blocks / 4).clamp(64, 65_536)
    }
}

/// Which free block the allocator takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AllocPolicy {
    /// The lowest free one: reuses soon.
    #[default]
    Lowest,
    /// The next one after the last allocation, around the device: reuses late.
    Next,
    /// The one that became free last: reuses at once.
    Reuse,
}

/// In which order a lock serves those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fairness {
    /// In the order of arrival.
    #[default]
    Fifo,
    /// Readers pass waiting writers.
    Reader,
    /// Writers pass waiting readers.
    Writer,
}

/// Which fsync protocol a mount follows (races.md §7.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FsyncProtocol {
    /// Waits for all ordered extents before it logs.
    #[default]
    P0,
    /// Logs pairs of extent maps and ordered extents, waits for their IO only.
    P1,
}

/// What is chosen at each mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MountOptions {
    /// Whether buffered writes are allocated at writeback only.
    pub delalloc: bool,
    /// The allocator's policy.
    pub alloc: AllocPolicy,
    /// Completion workers: 1..=4.
    pub workers: u8,
    /// Pages that the cache may hold; 0 for no bound.
    pub cache_pages: u32,
    /// Blocks that are read behind one that a read or a fault misses.
    pub readahead: u32,
    /// Blocks of the window in which a read fault maps pages that are there; 0 for none.
    pub faultaround: u32,
    /// The order in which locks serve.
    pub fair: Fairness,
    /// Spontaneous wakeups of the flusher.
    pub flusher: u32,
    /// Spontaneous wakeups of the committer.
    pub committer: u32,
    /// Spontaneous wakeups of reclaim.
    pub reclaimer: u32,
    /// Whether freed blocks are discarded once their freeing is durable.
    pub discard: bool,
    /// The fsync protocol.
    pub fsync: FsyncProtocol,
    /// Whether a remap locks the range of its source as readers do: no writer comes in between
    /// (L3.12 of races.md §3).
    pub remap_readers: bool,
    /// Whether tree nodes of device 0 are kept in buffers: read, written, read ahead and reclaimed
    /// by the rules of `buffers`. Otherwise decoded nodes are kept.
    pub node_buffers: bool,
    /// Historical: references to buffers are taken and given back without their lock, where that is
    /// safe (FE2, FE4, FR1, WE1 of races.md §2).
    pub eb_fast_path: bool,
    /// Historical: writing a buffer makes sure of the cache's reference, too (WE7b).
    pub eb_hunk: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            delalloc: true,
            alloc: AllocPolicy::Lowest,
            workers: 1,
            cache_pages: 0,
            readahead: 0,
            faultaround: 0,
            fair: Fairness::Fifo,
            flusher: 2,
            committer: 1,
            reclaimer: 1,
            discard: false,
            fsync: FsyncProtocol::P0,
            remap_readers: false,
            node_buffers: false,
            eb_fast_path: false,
            eb_hunk: false,
        }
    }
}

impl MountOptions {
    /// Sets a knob by its name in programs.
    ///
    /// # Errors
    /// `BadInput` if there is no such knob or the value is out of its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "delalloc" => self.delalloc = switch(key, value)?,
            "alloc" => self.alloc = parse_alloc(value)?,
            "workers" => self.workers = number(key, value, 1, 4)? as u8,
            "cache_pages" => self.cache_pages = number(key, value, 0, u32::MAX.into())? as u32,
            "readahead" => self.readahead = number(key, value, 0, AHEAD_MAX)? as u32,
            "faultaround" => self.faultaround = number(key, value, 0, AHEAD_MAX)? as u32,
            "fair" => self.fair = parse_fair(value)?,
            "flusher" => self.flusher = number(key, value, 0, u32::MAX.into())? as u32,
            "committer" => self.committer = number(key, value, 0, u32::MAX.into())? as u32,
            "reclaimer" => self.reclaimer = number(key, value, 0, u32::MAX.into())? as u32,
            "discard" => self.discard = switch(key, value)?,
            "fsync" => self.fsync = parse_fsync(value)?,
            "remap_readers" => self.remap_readers = switch(key, value)?,
            "node_buffers" => self.node_buffers = switch(key, value)?,
            "eb_fast_path" => self.eb_fast_path = switch(key, value)?,
            "eb_hunk" => self.eb_hunk = switch(key, value)?,
            _ => return Err(Error::bad_input("a mount option", key)),
        }
        Ok(())
    }
}

fn parse_alloc(value: &str) -> Result<AllocPolicy> {
    match value {
        "lowest" => Ok(AllocPolicy::Lowest),
        "next" => Ok(AllocPolicy::Next),
        "reuse" => Ok(AllocPolicy::Reuse),
        _ => Err(Error::bad_input("alloc (lowest, next or reuse)", value)),
    }
}

fn parse_fair(value: &str) -> Result<Fairness> {
    match value {
        "fifo" => Ok(Fairness::Fifo),
        "reader" => Ok(Fairness::Reader),
        "writer" => Ok(Fairness::Writer),
        _ => Err(Error::bad_input("fair (fifo, reader or writer)", value)),
    }
}

fn parse_fsync(value: &str) -> Result<FsyncProtocol> {
    match value {
        "p0" => Ok(FsyncProtocol::P0),
        "p1" => Ok(FsyncProtocol::P1),
        _ => Err(Error::bad_input("fsync (p0 or p1)", value)),
    }
}

fn switch(key: &str, value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Error::bad_input(format!("{key} (on or off)"), value)),
    }
}

fn number(key: &str, value: &str, min: u64, max: u64) -> Result<u64> {
    let refuse = || Error::bad_input(format!("{key} ({min}..={max})"), value);
    let number = value.parse::<u64>().map_err(|_| refuse())?;
    in_range(key, number, min, max)?;
    Ok(number)
}

fn in_range(key: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::bad_input(format!("{key} ({min}..={max})"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_set_by_name_and_refused_with_their_range() {
        let mut image = ImageOptions::default();
        for (key, value) in [("blocks", "64"), ("leaf", "4"), ("datasum", "off"), ("logdev", "on")]
        {
            image.set(key, value).unwrap();
        }
        assert_eq!((image.blocks, image.leaf, image.datasum), (64, 4, false));
        assert_eq!(image.devices().as_slice(), [64, 64]);
        image.set("leaf", "full").unwrap();
        assert_eq!(image.leaf, 0);
        let message = image.set("leaf", "3").unwrap_err().to_string();
        assert_eq!(message, "leaf (4..=192) cannot be 3");
        assert!(image.set("blocks", "63").is_err() && image.set("block", "64").is_err());
    }

    #[test]
    fn mount_knobs_have_the_names_of_programs() {
        let mut mount = MountOptions::default();
        for (key, value) in [
            ("delalloc", "off"),
            ("alloc", "reuse"),
            ("workers", "2"),
            ("cache_pages", "0"),
            ("fair", "writer"),
            ("flusher", "0"),
            ("committer", "3"),
            ("reclaimer", "0"),
            ("discard", "on"),
            ("fsync", "p1"),
        ] {
            mount.set(key, value).unwrap_or_else(|e| panic!("{key}: {e}"));
        }
        assert_eq!((mount.alloc, mount.fair), (AllocPolicy::Reuse, Fairness::Writer));
        assert_eq!((mount.delalloc, mount.discard, mount.workers), (false, true, 2));
        assert!(mount.set("alloc", "best").is_err() && mount.set("workers", "0").is_err());
    }
}
