//! Clone and dedupe: two ioctls that rustix does not wrap.
//!
//! One of the rooms with `unsafe`. It promises that each call hands the kernel exactly the
//! structure that its number stands for. It must never know what is cloned.

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// `struct file_clone_range` of `linux/fs.h`.
#[repr(C)]
struct CloneRange {
    source_fd: i64,
    source_offset: u64,
    source_len: u64,
    target_offset: u64,
}

/// `struct file_dedupe_range` of `linux/fs.h` with one `struct file_dedupe_range_info`.
#[repr(C)]
struct DedupeRange {
    source_offset: u64,
    source_len: u64,
    target_count: u16,
    reserved: [u16; 3],
    target_fd: i64,
    target_offset: u64,
    bytes_deduped: u64,
    status: i32,
    reserved_too: u32,
}

/// `struct file_dedupe_range` without its flexible array: what the number is made from.
#[repr(C)]
struct DedupeHead {
    ranges: [u64; 2],
    counts: [u32; 2],
}

const FICLONERANGE: Opcode = opcode::write::<CloneRange>(0x94, 13);
const FIDEDUPERANGE: Opcode = opcode::read_write::<DedupeHead>(0x94, 54);
const _: () = assert!(size_of::<CloneRange>() == 32 && size_of::<DedupeHead>() == 24);
const _: () = assert!(size_of::<DedupeRange>() == 24 + 32);

/// Shares `len` bytes of `source` (to its end if zero) with `target`.
pub(super) fn clone_range(
    (source, source_offset): (impl AsFd, u64),
    (target, target_offset): (impl AsFd, u64),
    len: u64,
) -> Result<(), Errno> {
    let source_fd = i64::from(source.as_fd().as_raw_fd());
    let range = CloneRange { source_fd, source_offset, source_len: len, target_offset };
    // SAFETY: FICLONERANGE reads one `file_clone_range`, which `CloneRange` is, and writes no
    // memory of ours; the descriptor inside is borrowed for the whole call.
    unsafe { ioctl(target, Setter::<FICLONERANGE, CloneRange>::new(range)) }
}

/// What dedupe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deduped {
    /// So many bytes are shared now.
    Shared(u64),
    /// The ranges differ.
    Differs,
}

/// Shares `len` bytes of `source` with `target` if they are equal.
pub(super) fn dedupe_range(
    (source, source_offset): (impl AsFd, u64),
    (target, target_offset): (impl AsFd, u64),
    len: u64,
) -> Result<Deduped, Errno> {
    let mut range = DedupeRange {
        source_offset,
        source_len: len,
        target_count: 1,
        reserved: [0; 3],
        target_fd: i64::from(target.as_fd().as_raw_fd()),
        target_offset,
        bytes_deduped: 0,
        status: 0,
        reserved_too: 0,
    };
    // SAFETY: FIDEDUPERANGE reads and writes one `file_dedupe_range` followed by `target_count`
    // infos, which `DedupeRange` is for a count of one; `target_fd` is borrowed for the whole call.
    unsafe { ioctl(source, Updater::<FIDEDUPERANGE, DedupeRange>::new(&mut range))? };
    match range.status {
        0 => Ok(Deduped::Shared(range.bytes_deduped)),
        1 => Ok(Deduped::Differs),
        errno => Err(Errno::from_raw_os_error(-errno)),
    }
}
