//! The descriptors of one task.
//!
//! A task opens a name when it first needs it and keeps the descriptor, since the kernel reports a
//! writeback error once to each descriptor. Before every use it checks that the name still leads
//! to the same file, and opens it anew otherwise: a kept descriptor keeps the file, so its inode
//! number is not given to another. This room must never know what is done through a descriptor.

use crate::program::limits::PATHS_MAX;
use oracle::operation::{PathId, Sync};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::sync::Arc;

/// How a name is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Through the page cache.
    Cached(Sync),
    /// Through the page cache, every write at the end.
    Append(Sync),
    /// Past the page cache.
    Direct(Sync),
}

impl Access {
    /// Ways of opening.
    const COUNT: usize = 6;

    const fn index(self) -> usize {
        match self {
            Access::Cached(sync) => sync as usize,
            Access::Append(sync) => 2 + sync as usize,
            Access::Direct(sync) => 4 + sync as usize,
        }
    }

    fn flags(self) -> OFlags {
        let (Access::Cached(sync) | Access::Append(sync) | Access::Direct(sync)) = self;
        let durable = match sync {
            Sync::None => OFlags::empty(),
            Sync::Data => OFlags::DSYNC,
        };
        let way = match self {
            Access::Cached(_) => OFlags::empty(),
            Access::Append(_) => OFlags::APPEND,
            Access::Direct(_) => OFlags::DIRECT,
        };
        durable | way | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW
    }
}

/// The descriptors of one name, all of the same file.
#[derive(Debug, Default)]
struct Opened {
    inode: u64,
    ways: [Option<Arc<OwnedFd>>; Access::COUNT],
}

/// The descriptors of one task.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    names: [Opened; PATHS_MAX],
}

impl Descriptors {
    /// Creates a file that must not be there, and keeps its descriptor.
    pub(super) fn create(
        &mut self,
        directory: BorrowedFd<'_>,
        (path, name): (PathId, &str),
    ) -> Result<(), Errno> {
        let way = Access::Cached(Sync::None);
        let flags = way.flags() | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(directory, name, flags, mode)?;
        let opened = &mut self.names[usize::from(path.0)];
        *opened = Opened { inode: rustix::fs::fstat(&file)?.st_ino, ..Opened::default() };
        opened.ways[way.index()] = Some(Arc::new(file));
        Ok(())
    }

    /// The descriptor of the file that the name leads to.
    pub(super) fn open(
        &mut self,
        directory: BorrowedFd<'_>,
        (path, name): (PathId, &str),
        access: Access,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let opened = &mut self.names[usize::from(path.0)];
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
        if found == opened.inode
            && let Some(file) = &opened.ways[access.index()]
        {
            return Ok(Arc::clone(file));
        }
        let file = rustix::fs::openat(directory, name, access.flags(), Mode::empty())?;
        // Between the check and the opening another task may have replaced the file.
        let inode = rustix::fs::fstat(file.as_fd())?.st_ino;
        if inode != opened.inode {
            *opened = Opened { inode, ..Opened::default() };
        }
        let file = Arc::new(file);
        opened.ways[access.index()] = Some(Arc::clone(&file));
        Ok(file)
    }
}
