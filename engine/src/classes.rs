//! Lock classes with their ranks (races.md §7.1), and the kinds of objects that events name.
//!
//! Promises: one static a class, so that lockdep knows it by its address. The classes of the store
//! (TX, LOG, SUPER, NODE, ALLOC) stand beside the locks that they belong to. It must never know who
//! takes a lock.

use machine::LockClass;

/// A directory: namespace operations.
pub static DIR: LockClass = LockClass::new("DIR", 10);

/// An inode's logging: fsync only.
pub static LOGI: LockClass = LockClass::new("LOGI", 15);

/// The byte ranges of a file as system calls see them (§7.2).
pub static RL: LockClass = LockClass::new("RL", 20);

/// The return of layouts of a file. Whoever holds one takes ML and what is below.
pub static LAYOUT: LockClass = LockClass::new("LAYOUT", 27);

/// The address space.
pub static MM: LockClass = LockClass::new("MM", 30);

/// The byte ranges of a file as page faults and fills see them.
pub static ML: LockClass = LockClass::new("ML", 40);

/// A page.
pub static PAGE: LockClass = LockClass::new("PAGE", 50);

/// The mappings of an inode.
pub static RMAP: LockClass = LockClass::new("RMAP", 52);

/// The page-table entries of the address space.
pub static PTE: LockClass = LockClass::new("PTE", 53);

/// Historical: the pair of an extent and its ordered extent against fsync (dio_sem).
pub static DIO_SEM: LockClass = LockClass::new("DIO_SEM", 67);

/// The end of a page's writeback; served by completion workers.
pub static WBWAIT: LockClass = LockClass::new("WBWAIT", 55);

/// The completion of an ordered extent; served by completion workers.
pub static OEWAIT: LockClass = LockClass::new("OEWAIT", 55);

/// Extent maps, ordered extents and sizes of an inode.
pub static EXT: LockClass = LockClass::new("EXT", 70);

/// The end of an asynchronous request of a user. Whoever waits holds nothing that it may need.
pub static IOCB: LockClass = LockClass::new("IOCB", 5);

/// The end of a part of a user's request, whose range the user keeps locked. Whoever ends it takes
/// no lock of rank 30 or below.
pub static IOCB_PART: LockClass = LockClass::new("IOCB_PART", 25);

/// The end of the workers of a mount; waited for at unmount, with nothing held.
pub static WORKERS: LockClass = LockClass::new("WORKERS", 1);

/// Kinds of objects in events. Locks use their rank as a kind, so these begin above all ranks.
pub mod kind {
    /// An inode: `a` is its number.
    pub const INODE: u8 = 101;
    /// A page: `a` is the inode, `b` the index.
    pub const PAGE: u8 = 102;
    /// An ordered extent: `a` is the inode, `b` its first block in the file.
    pub const ORDERED: u8 = 103;
    /// A mapping: `a` is its number, `b` the page in it.
    pub const MAPPING: u8 = 104;
    /// The queue of a worker: `a` tells which.
    pub const WORK: u8 = 105;
    /// A name: `a` is the directory, `b` the hash of the name.
    pub const NAME: u8 = 106;
    /// The buffers of a block: `a` is the device, `b` the block.
    pub const BUFFER: u8 = 107;
    /// The tags of dirty buffers.
    pub const BUFFER_TAGS: u8 = 108;
}
