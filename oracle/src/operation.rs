//! The vocabulary: operations that a program performs, and what each returned.
//!
//! Shared by the oracle (which judges) and the harness (which generates, prints and executes).
//! Nothing here knows how a target performs an operation.

/// Bytes in a block, which is also a page: the unit of allocation and of the page cache.
pub const BLOCK_BYTES: u64 = 4096;

/// So many bytes rounded up to blocks.
pub(crate) fn whole_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

/// Bytes in a sector: the unit that the medium writes atomically.
pub const SECTOR_BYTES: u64 = 512;

/// An index into the program's table of path names. Names are compared by index, so a table holds
/// each name once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// An index into the program's table of mapping names (`m`, `n`, …): a mapping is created by
/// `mmap` and shared by all tasks, which are threads of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u8);

/// The number of a bare node: a block of metadata that no tree owns, with which programs put the
/// cache of such blocks to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u8);

/// The position of an operation in its program, stable over an execution: it numbers the bytes
/// that the operation writes. Operations are numbered from 1 in program order (setup, tasks,
/// after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u16);

/// A foreground task of the program: 0 runs `setup` and `after`, concurrent tasks follow from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub u8);

/// A range of bytes of a file or of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Length in bytes; may be zero where the text says so.
    pub len: u64,
}

impl Span {
    /// A span of `len` bytes from `offset`.
    pub const fn new(offset: u64, len: u64) -> Self {
        Span { offset, len }
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Whether the two share a byte.
    pub const fn overlaps(self, other: Span) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// What a read of this span gives of a file with this content: the bytes of it that exist.
    pub fn part_of(self, content: &[u8]) -> &[u8] {
        let place = |bytes: u64| content.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        &content[place(self.offset)..place(self.end())]
    }
}

/// What a write puts into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fill {
    /// Self-describing bytes: every 16 bytes name the operation, the path and the offset
    /// (see [`crate::content`]).
    Tag,
    /// One byte repeated, where a case from elsewhere needs given bytes.
    Byte(u8),
}

/// How a write reaches the medium before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// It need not.
    None,
    /// As O_DSYNC: data, and the metadata needed to read it back, are durable at return.
    Data,
}

/// One operation of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Operation {
    /// Create an empty regular file; EEXIST if the name is taken (`O_CREAT|O_EXCL`).
    Create { path: PathId },
    /// Remove a name; the file goes when the last mapping and the last in-flight IO end.
    Unlink { path: PathId },
    /// Set the size; growing shows zeros.
    Truncate { path: PathId, size: u64 },
    /// Buffered write. Never creates the file (ENOENT).
    Write { path: PathId, span: Span, fill: Fill, sync: Sync },
    /// Buffered write at the end of the file (`O_APPEND`).
    Append { path: PathId, len: u64, fill: Fill, sync: Sync },
    /// Buffered read; short at the end of the file.
    Read { path: PathId, span: Span },
    /// Buffered write whose user buffer is the memory of a mapping from `map_offset` on.
    WriteFrom { path: PathId, span: Span, map: MapId, map_offset: u64, sync: Sync },
    /// Buffered read into the memory of a mapping from `map_offset` on.
    ReadInto { path: PathId, span: Span, map: MapId, map_offset: u64 },
    /// O_DIRECT write; offset and length are multiples of 512.
    DirectWrite { path: PathId, span: Span, fill: Fill, sync: Sync },
    /// O_DIRECT write whose user buffer is the memory of a mapping from `map_offset` on.
    DirectWriteFrom { path: PathId, span: Span, map: MapId, map_offset: u64, sync: Sync },
    /// O_DIRECT read; offset and length are multiples of 512.
    DirectRead { path: PathId, span: Span },
    /// O_DIRECT read whose user buffer is the memory of a mapping from `map_offset` on.
    DirectReadInto { path: PathId, span: Span, map: MapId, map_offset: u64 },
    /// Asynchronous O_DIRECT write: returns when submitted; its interval ends when it completes.
    AsyncWrite { path: PathId, span: Span, fill: Fill, sync: Sync },
    /// Asynchronous O_DIRECT read: as above; its bytes are judged at completion.
    AsyncRead { path: PathId, span: Span },
    /// Wait for all asynchronous IO that this task has submitted.
    Reap,
    /// Create a shared mapping of a range of whole pages; nothing is faulted in. EEXIST never: a
    /// second `mmap` of the same name replaces the first.
    Mmap { map: MapId, path: PathId, span: Span },
    /// Remove a mapping.
    Munmap { map: MapId },
    /// CPU loads through a mapping; offsets are within the mapping. Beyond the last page of the
    /// file: SIGBUS, reported as EFAULT.
    Load { map: MapId, span: Span },
    /// CPU stores through a mapping. Beyond the last page of the file: EFAULT.
    Store { map: MapId, span: Span, fill: Fill },
    /// `msync(MS_SYNC)` of part of a mapping: as fdatasync of the mapped range.
    Msync { map: MapId, span: Span },
    /// `fallocate`: unwritten extents where there are none; without `keep_size` it raises the size.
    Fallocate { path: PathId, span: Span, keep_size: bool },
    /// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`.
    Punch { path: PathId, span: Span },
    /// `FALLOC_FL_ZERO_RANGE`, with or without `FALLOC_FL_KEEP_SIZE`.
    ZeroRange { path: PathId, span: Span, keep_size: bool },
    /// `FICLONERANGE`; length zero means to the end of the source.
    Clone { source: PathId, source_offset: u64, target: PathId, target_offset: u64, len: u64 },
    /// `FIDEDUPERANGE` with one target: shares the blocks if the contents are equal.
    Dedupe { source: PathId, source_offset: u64, target: PathId, target_offset: u64, len: u64 },
    /// `fsync`.
    Fsync { path: PathId },
    /// `fdatasync`.
    Fdatasync { path: PathId },
    /// fsync of a byte range only (the kernel's `vfs_fsync_range`; `sync_file_range` promises less
    /// and is not this). Durable: the data of the range and the metadata needed to read it.
    FsyncRange { path: PathId, span: Span },
    /// `sync`: everything that every operation returned before has done.
    Sync,
    /// Ask for background writeback of a file (promises nothing).
    Writeback { path: PathId },
    /// Ask for a transaction commit in the background (promises nothing; kernels: no-op).
    Commit,
    /// Drop clean cached pages, extent maps and buffers of a file (promises nothing).
    Reclaim { path: PathId },
    /// Let a holder outside of the file system write the blocks of a range, until something else
    /// changes the file, as pNFS does. It changes nothing. EAGAIN and EOPNOTSUPP always may be.
    Layout { path: PathId, span: Span },
    /// A write by such a holder, past the file system; of whole blocks. EAGAIN where it has no
    /// layout, which is its secret. It never changes the size.
    LayoutWrite { path: PathId, span: Span, fill: Fill },
    /// `readahead`, as `POSIX_FADV_WILLNEED`: begin to read a range (promises nothing).
    Readahead { path: PathId, span: Span },
    /// `fiemap`/`SEEK_DATA`: the map of data and holes of a file at block grain.
    Holes { path: PathId },
    /// `stat`: size, link count.
    Stat { path: PathId },
    /// The names in the root directory.
    List,
    /// The versions of a bare node's halves. EOPNOTSUPP where there are none, EINVAL for one that
    /// is not there; so are all below.
    NodeRead { node: NodeId },
    /// Begin to read a bare node.
    NodeReadahead { node: NodeId },
    /// Make a bare node of this operation's version.
    NodeModify { node: NodeId },
    /// Write dirty bare nodes and wait (promises nothing).
    NodeWrite,
    /// Drop a bare node from memory if it is clean and not in use (promises nothing).
    NodeReclaim { node: NodeId },
    /// Give the block of a bare node up and take it into use again, of this operation's version.
    NodeNew { node: NodeId },
}

/// The error numbers that operations return, by their POSIX names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
#[rustfmt::skip]
pub enum Errno {
    EPERM, ENOENT, EIO, EBADF, EAGAIN, ENOMEM, EFAULT, EBUSY, EEXIST, EXDEV, ENOTDIR, EISDIR,
    EINVAL, ETXTBSY, EFBIG, ENOSPC, EROFS, EMLINK, ERANGE, ENAMETOOLONG, ENOTEMPTY, ELOOP, ENODATA,
    EOVERFLOW, EOPNOTSUPP, EUCLEAN,
}

/// One run of a hole map: `[offset, offset + len)` of the file is data or a hole. As by
/// `lseek(SEEK_DATA/SEEK_HOLE)`: a target may report a hole as data (POSIX allows it), and
/// unwritten extents as either, but never data as a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoleRun {
    /// The bytes of the run.
    pub span: Span,
    /// Whether they are data.
    pub data: bool,
}

/// What a successful operation returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Value {
    /// Nothing but success.
    Unit,
    /// A count of bytes: writes, dedupe (bytes deduped).
    Count(u64),
    /// The position at which an append landed, and its count.
    Appended { offset: u64, len: u64 },
    /// The contents were different: dedupe shared nothing (`FILE_DEDUPE_RANGE_DIFFERS`).
    Differs,
    /// The bytes that a read or load returned.
    Bytes(Vec<u8>),
    /// A hole map.
    Holes(Vec<HoleRun>),
    /// A stat.
    Stat { size: u64, nlink: u32 },
    /// The operations that a bare node's halves are of; 0 for the new image.
    Versions([OpId; 2]),
    /// Names, sorted by path id; a name that is not of the program is reported by the target itself
    /// as an error.
    Names(Vec<PathId>),
}

/// What an operation returned: a value or an error number.
pub type Outcome = Result<Value, Errno>;
