//! What a directory's file system is and supports, found by trying.

use super::buffer::AlignedBuffer;
use super::ioctl;
use oracle::Promises;
use oracle::operation::{BLOCK_BYTES, SECTOR_BYTES};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// The name of the file that is tried on.
const NAME: &str = "probe";

/// The kernel's name of a file system, by the magic number of `statfs`.
pub(super) fn name(magic: u64) -> String {
    match magic {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0xf2f5_2010 => "f2fs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x6573_5546 => "fuse".to_owned(),
        other => format!("{other:#x}"),
    }
}

/// Tries what the file system of this directory does, on a file that is removed afterwards.
pub(super) fn promises(directory: BorrowedFd<'_>) -> Result<Promises, Errno> {
    let found = open(directory, OFlags::CREATE | OFlags::EXCL).and_then(|file| {
        rustix::io::pwrite(&file, &[1; 8192], 0)?;
        rustix::fs::fsync(&file)?;
        try_all(directory, &file)
    });
    rustix::fs::unlinkat(directory, NAME, AtFlags::empty())?;
    found
}

fn open(directory: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(directory, NAME, flags, Mode::RUSR | Mode::WUSR)
}

fn try_all(directory: BorrowedFd<'_>, file: &OwnedFd) -> Result<Promises, Errno> {
    let supported = |result: Result<(), Errno>| match result {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY) => Ok(false),
        Err(errno) => Err(errno),
    };
    let fallocate = |flags| supported(rustix::fs::fallocate(file, flags, 4096, 4096));
    let has_clone = supported(ioctl::clone_range((file, 0), (file, 8192), 4096))?;
    let has_fallocate = fallocate(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE)?
        && fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)?;
    let direct = open(directory, OFlags::DIRECT)?;
    let direct_falls_back = takes_direct(&direct, 1)?;
    let mut direct_align = SECTOR_BYTES;
    while !direct_falls_back && direct_align < BLOCK_BYTES && !takes_direct(&direct, direct_align)?
    {
        direct_align *= 2;
    }
    Ok(Promises { has_clone, has_fallocate, direct_align, direct_falls_back, ..Promises::linux() })
}

/// Whether a direct read of that offset and length is taken. Tried, because what `statx` reports is
/// the grain of efficient writes on some file systems, and larger than what they take.
fn takes_direct(direct: &OwnedFd, grain: u64) -> Result<bool, Errno> {
    match rustix::io::pread(direct, AlignedBuffer::default().take(grain as usize), grain) {
        Ok(_) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}
