//! A directory of a mounted kernel file system as a target.
//!
//! Each program runs in a fresh subdirectory, which is removed afterwards; nothing outside of the
//! directory is ever touched. Names are resolved as programs do: the descriptor of a name is kept
//! by each task for as long as the name leads to the same file ([`descriptors`](self)). Power is
//! never cut here: it is the live model of the oracle that is compared with a kernel.
//!
//! Asynchronous IO runs in threads of its own, not through io_uring: the kernel's side of it, an
//! O_DIRECT transfer with the submitter going on, is the same.

mod buffer;
mod descriptors;
mod errno;
mod holes;
mod ioctl;
mod mapping;
mod perform;
mod probe;

pub use perform::KernelWorker;

use super::{Call, Performed, Snapshot, Target};
use crate::program::Program;
use crate::program::limits::MAPS_MAX;
use mapping::Mapping;
use oracle::Promises;
use oracle::operation::{OpId, PathId};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the environment lacks.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {path}: {source}")]
pub struct KernelError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl KernelError {
    fn new(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> KernelError {
        let path = path.to_owned();
        move |errno| KernelError { what, path, source: errno.into() }
    }
}

/// A directory in which programs run.
#[derive(Debug)]
pub struct KernelRoot {
    path: PathBuf,
    directory: OwnedFd,
    file_system: String,
    promises: Promises,
    started: AtomicU64,
}

impl KernelRoot {
    /// Opens a directory, which must exist and be writable, and finds out what it supports.
    ///
    /// # Errors
    /// If it is no directory or does not take files.
    pub fn open(path: &Path) -> Result<KernelRoot, KernelError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(KernelError::new("open the directory", path))?;
        let magic = rustix::fs::fstatfs(&directory)
            .map_err(KernelError::new("find the file system of", path))?
            .f_type as u64;
        let mut root = KernelRoot {
            path: path.to_owned(),
            directory,
            file_system: probe::name(magic),
            promises: Promises::linux(),
            started: AtomicU64::new(0),
        };
        let run = root.start()?;
        let promises = probe::promises(run.directory());
        run.finish()?;
        root.promises =
            promises.map_err(KernelError::new("try direct IO and fallocate in", path))?;
        Ok(root)
    }

    /// The name of the file system, such as `xfs`.
    pub fn file_system(&self) -> &str {
        &self.file_system
    }

    /// What it was found to support and is taken to promise.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// A fresh subdirectory for one program.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn start(&self) -> Result<KernelRun<'_>, KernelError> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let name = format!("powerfail-{}-{number}", std::process::id());
        let path = self.path.join(&name);
        rustix::fs::mkdirat(&self.directory, &name, Mode::RWXU)
            .map_err(KernelError::new("make", &path))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())
            .map_err(KernelError::new("open", &path))?;
        Ok(KernelRun { root: self, name, directory, maps: Mutex::default(), removed: false })
    }
}

/// The subdirectory of one program; removed when dropped.
#[derive(Debug)]
pub struct KernelRun<'r> {
    root: &'r KernelRoot,
    name: String,
    directory: OwnedFd,
    maps: Mutex<[Option<Arc<Mapping>>; MAPS_MAX]>,
    removed: bool,
}

impl KernelRun<'_> {
    fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// What performs the operations of a task.
    ///
    /// # Errors
    /// If descriptors or memory are used up.
    pub fn worker(&self) -> Result<KernelWorker, KernelError> {
        let path = self.root.path.join(&self.name);
        KernelWorker::new().map_err(KernelError::new("make a scratch file for", &path))
    }

    /// The names in the subdirectory.
    fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// All files as a reader sees them now.
    ///
    /// # Errors
    /// If a name is not of the program, or a file cannot be read.
    pub fn snapshot(&self, program: &Program) -> Result<Snapshot, KernelError> {
        let path = self.root.path.join(&self.name);
        self.read_all(program).map_err(KernelError::new("read the files of", &path))
    }

    fn read_all(&self, program: &Program) -> Result<Snapshot, Errno> {
        let mut snapshot = Snapshot::new();
        for name in self.names()? {
            let known = program.paths.iter().position(|path| path.as_bytes() == name.to_bytes());
            let path = PathId(known.ok_or(Errno::EXIST)? as u8);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&self.directory, &name, flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&file)?;
            let mut bytes = vec![0; stat.st_size as usize];
            let mut done = 0;
            while done < bytes.len() {
                match rustix::io::pread(&file, &mut bytes[done..], done as u64)? {
                    0 => return Err(Errno::IO),
                    count => done += count,
                }
            }
            snapshot.insert(path, stat.st_nlink as u32, bytes);
        }
        Ok(snapshot)
    }

    /// Removes the subdirectory.
    ///
    /// # Errors
    /// If something in it cannot be removed.
    pub fn finish(mut self) -> Result<(), KernelError> {
        self.removed = true;
        let path = self.root.path.join(&self.name);
        self.remove().map_err(KernelError::new("remove", &path))
    }

    fn remove(&self) -> Result<(), Errno> {
        for name in self.names()? {
            rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())?;
        }
        rustix::fs::unlinkat(&self.root.directory, &self.name, AtFlags::REMOVEDIR)
    }
}

impl Drop for KernelRun<'_> {
    fn drop(&mut self) {
        if !self.removed {
            // What is left behind is inside of the directory that the user gave us; there is
            // nobody to tell.
            let _ = self.remove();
        }
    }
}

impl Target for KernelRun<'_> {
    type Worker<'w>
        = KernelWorker
    where
        Self: 'w;

    fn promises(&self) -> Promises {
        self.root.promises.clone()
    }

    fn perform(&self, worker: &mut KernelWorker, call: &Call<'_>) -> Performed {
        perform::perform(self, worker, call)
    }

    fn reaped(&self, worker: &mut KernelWorker, each: &mut dyn FnMut(OpId, Performed)) {
        worker.reaped(each);
    }
}
