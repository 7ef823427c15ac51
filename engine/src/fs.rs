//! A mounted file system and its open files.
//!
//! Promises: the handle of a mount is cheap to clone, and tasks share one state; workers begin when
//! there is first something for them to do. What each operation does, and which locks it takes, is
//! in `paths`. It must never know programs, oracles or people.

use crate::defects::{Defect, Defects};
use crate::error::{Error, Result};
use crate::inode::Inode;
use crate::inode::cache::InodeCache;
use crate::inode::errseq::Seen;
use crate::inode::span::{Blocks, Span};
use crate::log::marks::LogMarks;
use crate::mm::{Mapping, Mm};
use crate::options::MountOptions;
use crate::paths::memory::{Source, UserMemory};
use crate::paths::namespace::Namespace;
use crate::paths::workers::Workers;
use crate::store::{Handle, Join, Store};
use machine::cell::Cell;
use machine::{Block, Machine, Task};
use std::rc::{Rc, Weak};

pub use crate::paths::direct::AsyncIo;

/// Whether a write is durable when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sync {
    /// When somebody asks for it.
    #[default]
    None,
    /// Data, and what is needed to find it: O_DSYNC.
    Data,
    /// Everything: O_SYNC.
    All,
}

/// A mounted file system.
#[derive(Clone)]
pub struct Fs(Rc<FsState>);

/// A mounted file system as its checkers have it: they do not keep it.
pub(crate) struct WeakFs(Weak<FsState>);

impl WeakFs {
    /// The file system, if it is still there.
    pub(crate) fn upgrade(&self) -> Option<Fs> {
        self.0.upgrade().map(Fs)
    }
}

struct FsState {
    machine: Machine,
    store: Rc<Store>,
    options: MountOptions,
    defects: Defects,
    inodes: InodeCache,
    mm: Mm,
    workers: Workers,
    namespace: Namespace,
    log_marks: LogMarks,
    cached_pages: Cell<u64>,
}

/// Space on the device, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceUse {
    /// All blocks of the device.
    pub total: u64,
    /// Blocks that nothing uses.
    pub free: u64,
}

impl Fs {
    /// Mounts the image on the machine's disk: replays the log, finishes what was begun.
    ///
    /// # Errors
    /// `Corrupt` for an image that is none or is damaged; `Io`; `Stopped`.
    pub fn mount(task: &Task, options: &MountOptions, defects: Defects) -> Result<Fs> {
        let machine = task.machine().clone();
        let store = Store::mount(task, options)?;
        store.set_defects(defects);
        let state = FsState {
            mm: Mm::new(&machine),
            workers: Workers::new(&machine, options),
            namespace: Namespace::new(&machine),
            log_marks: LogMarks::default(),
            machine,
            store,
            options: *options,
            defects,
            inodes: InodeCache::default(),
            cached_pages: Cell::new(0),
        };
        let fs = Fs(Rc::new(state));
        crate::log::replay::replay(task, &fs)?; // B-6
        fs.finish_orphans(task)?;
        Ok(fs)
    }

    /// Writes and commits everything, and ends the workers. The handle is of no use afterwards.
    ///
    /// # Errors
    /// Those of writing and of committing; everything is dropped from memory even then.
    pub fn unmount(&self, task: &Task) -> Result<()> {
        let synced = self.sync(task);
        if matches!(synced, Err(Error::Stopped)) {
            return synced;
        }
        let ended = self.end_workers(task);
        self.abandon();
        synced.and(ended)
    }

    /// Drops everything in memory without IO, as after a power cut.
    pub fn abandon(&self) {
        self.machine().watch(None);
        self.0.workers.abandon();
        self.0.log_marks.clear();
        for inode in self.0.inodes.take().into_values() {
            inode.abandon();
        }
        self.0.cached_pages.set(0);
    }

    /// Opens a file by its name.
    ///
    /// # Errors
    /// `ENOENT`; those of reading.
    pub fn open(&self, task: &Task, name: &str) -> Result<File> {
        let inode = self.lookup(task, name)?;
        Ok(File::new(self, inode))
    }

    /// Makes dirty data of all files durable, and everything else that changed. Files without a
    /// name that nobody uses any more are deleted first.
    ///
    /// # Errors
    /// Those of writing and of committing.
    pub fn sync(&self, task: &Task) -> Result<()> {
        self.reap_orphans(task)?;
        crate::paths::fsync::sync(self, task)
    }

    /// Commits the running transaction. Dirty pages stay.
    ///
    /// # Errors
    /// Those of committing.
    pub fn commit(&self, task: &Task) -> Result<()> {
        self.store().commit(task)
    }

    /// Space on the device.
    ///
    /// # Errors
    /// None today; a later device may have to be asked.
    pub fn statfs(&self, _task: &Task) -> Result<SpaceUse> {
        let store = self.store();
        Ok(SpaceUse { total: store.blocks(), free: store.free_blocks() })
    }

    /// The defects that are on.
    pub fn defects(&self) -> Defects {
        self.0.defects
    }

    /// The options of the mount.
    pub fn options(&self) -> &MountOptions {
        &self.0.options
    }

    /// Another handle, which does not keep it.
    pub(crate) fn downgrade(&self) -> WeakFs {
        WeakFs(Rc::downgrade(&self.0))
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// The persistent half.
    pub fn store(&self) -> &Rc<Store> {
        &self.0.store
    }

    /// The inodes in memory.
    pub fn inodes(&self) -> &InodeCache {
        &self.0.inodes
    }

    /// The address space.
    pub fn mm(&self) -> &Mm {
        &self.0.mm
    }

    /// Whether a log of the running transaction may be published.
    pub(crate) fn log_marks(&self) -> &LogMarks {
        &self.0.log_marks
    }

    /// The directory.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// Queues and budgets of the workers.
    pub(crate) fn workers(&self) -> &Workers {
        &self.0.workers
    }

    /// Pages in all caches.
    pub fn cached_pages(&self) -> u64 {
        self.0.cached_pages.get()
    }

    pub(crate) fn count_pages(&self, added: u64, removed: u64) {
        let count = self.0.cached_pages.get() + added;
        self.0.cached_pages.set(count.saturating_sub(removed));
    }

    /// Joins the running transaction for a system call. What changes wakes the committer.
    ///
    /// # Errors
    /// `Aborted`; `Stopped`.
    pub fn join(&self, task: &Task) -> Result<Handle> {
        let handle = self.store().join(task, Join::User)?;
        self.kick_committer();
        Ok(handle)
    }
}

/// An open file.
#[derive(Clone)]
pub struct File(Rc<OpenFile>);

struct OpenFile {
    fs: Fs,
    inode: Rc<Inode>,
    seen: Cell<Seen>,
    /// Historical: a direct write goes on through this open file.
    writes_directly: Cell<bool>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.inode.remove_user();
    }
}

impl File {
    /// An inode opened.
    pub fn new(fs: &Fs, inode: Rc<Inode>) -> File {
        inode.add_user();
        let seen = Cell::new(inode.errors.sample());
        let writes_directly = Cell::new(false);
        File(Rc::new(OpenFile { fs: fs.clone(), inode, seen, writes_directly }))
    }

    /// The file system.
    pub fn fs(&self) -> &Fs {
        &self.0.fs
    }

    /// The inode.
    pub fn inode(&self) -> &Rc<Inode> {
        &self.0.inode
    }

    /// An error of writeback that this open file has not heard of yet, once.
    ///
    /// # Errors
    /// That error.
    pub fn check_errors(&self) -> Result<()> {
        let errors = &self.0.inode.errors;
        if self.fs().defects().has(Defect::FsyncErrorReportedOnceLost) {
            return errors.take_for_all().map_or(Ok(()), Err);
        }
        errors.check_and_advance(&self.0.seen).map_or(Ok(()), Err)
    }

    /// Reads bytes; less than asked for at the end of the file.
    ///
    /// # Errors
    /// `Io`, `Corrupt` (a checksum); `Stopped`.
    pub fn read(&self, task: &Task, offset: u64, target: &mut [u8]) -> Result<usize> {
        self.fs().read(task, self.inode(), offset, target)
    }

    /// A whole block by reference, with the locks of a read; `None` for a hole that is not cached,
    /// and beyond the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_block(&self, task: &Task, index: u64) -> Result<Option<Block>> {
        self.fs().read_block(task, self.inode(), index)
    }

    /// Writes bytes; fewer only if an error follows the first of them.
    ///
    /// # Errors
    /// `NoSpace`, `EFBIG`, those of reading what is partly overwritten, those of fsync.
    pub fn write(&self, task: &Task, offset: u64, source: &[u8], sync: Sync) -> Result<usize> {
        let written = self.fs().write(task, self.inode(), offset, &Source::Bytes(source))?;
        self.sync_write(task, Span::new(offset, offset + written as u64), sync)?;
        Ok(written)
    }

    /// As [`read`](Self::read), into the memory of a mapping. Tells how many bytes.
    ///
    /// # Errors
    /// Those, and of faults: `EFAULT`, `NoSpace`.
    pub fn read_into(&self, task: &Task, offset: u64, memory: &UserMemory) -> Result<usize> {
        self.fs().read_into(task, self.inode(), offset, memory)
    }

    /// As [`write`](Self::write), from the memory of a mapping.
    ///
    /// # Errors
    /// Those, and of faults: `EFAULT`.
    pub fn write_from(
        &self,
        task: &Task,
        offset: u64,
        memory: &UserMemory,
        sync: Sync,
    ) -> Result<usize> {
        let source = Source::Mapped(memory.clone());
        let written = self.fs().write(task, self.inode(), offset, &source)?;
        self.sync_write(task, Span::new(offset, offset + written as u64), sync)?;
        Ok(written)
    }

    /// Writes bytes at the end of the file, wherever that is then. Tells where.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn append(&self, task: &Task, source: &[u8], sync: Sync) -> Result<(u64, usize)> {
        let (offset, written) = self.fs().append(task, self.inode(), source)?;
        self.sync_write(task, Span::new(offset, offset + written as u64), sync)?;
        Ok((offset, written))
    }

    /// WRITE.7: what O_DSYNC and O_SYNC add.
    pub(crate) fn sync_write(&self, task: &Task, span: Span, sync: Sync) -> Result<()> {
        match sync {
            Sync::None => Ok(()),
            Sync::Data | Sync::All if span.is_empty() => Ok(()),
            Sync::Data => crate::paths::fsync::dsync(self, task, span),
            Sync::All => self.fsync(task),
        }
    }

    /// Reads from the device, past the page cache.
    ///
    /// # Errors
    /// `EINVAL` unless offset and length are multiples of 512; `Io`, `Corrupt`.
    pub fn direct_read(&self, task: &Task, offset: u64, target: &mut [u8]) -> Result<usize> {
        self.fs().direct_read(task, self.inode(), offset, target)
    }

    /// Writes to the device, past the page cache.
    ///
    /// # Errors
    /// `EINVAL` unless offset and length are multiples of 512; `NoSpace`, `EFBIG`, `Io`.
    pub fn direct_write(
        &self,
        task: &Task,
        offset: u64,
        source: &[u8],
        sync: Sync,
    ) -> Result<usize> {
        if !self.fs().defects().has(Defect::FsyncSameFdPrivateFlag) {
            return self.submit_write(task, offset, source, sync)?.wait(task);
        }
        self.0.writes_directly.set(true);
        let written = self.submit_write(task, offset, source, sync).and_then(|it| it.wait(task));
        self.0.writes_directly.set(false);
        written
    }

    /// Historical: whether fsync believes that the direct write that called it holds its locks.
    pub(crate) fn is_writing_directly(&self) -> bool {
        self.0.writes_directly.get()
    }

    /// As [`direct_read`](Self::direct_read), into the memory of a mapping. Tells how many bytes.
    ///
    /// # Errors
    /// Those, and of faults: `EFAULT`, `NoSpace`.
    pub fn direct_read_into(&self, task: &Task, offset: u64, memory: &UserMemory) -> Result<usize> {
        self.fs().direct_read_into(task, self.inode(), offset, memory)
    }

    /// As [`direct_write`](Self::direct_write), from the memory of a mapping. Fewer bytes if an
    /// error follows the first of them.
    ///
    /// # Errors
    /// Those, and of faults: `EFAULT`.
    pub fn direct_write_from(
        &self,
        task: &Task,
        offset: u64,
        memory: &UserMemory,
        sync: Sync,
    ) -> Result<usize> {
        self.fs().direct_write_from(task, self, offset, memory, sync)
    }

    /// Begins a direct write that goes on when this returns.
    ///
    /// # Errors
    /// As [`direct_write`](Self::direct_write), but for those of the device: see
    /// [`AsyncIo::wait`].
    pub fn submit_write(
        &self,
        task: &Task,
        offset: u64,
        source: &[u8],
        sync: Sync,
    ) -> Result<AsyncIo> {
        self.fs().submit_write(task, self, offset, source, sync)
    }

    /// Begins a direct read of `len` bytes that goes on when this returns.
    ///
    /// # Errors
    /// As [`direct_read`](Self::direct_read), but for those of the device: see [`AsyncIo::wait`].
    pub fn submit_read(&self, task: &Task, offset: u64, len: usize) -> Result<AsyncIo> {
        self.fs().submit_read(task, self.inode(), offset, len)
    }

    /// Writes dirty pages and waits for them. Nothing is made durable.
    ///
    /// # Errors
    /// Those of writeback, as of fsync.
    pub fn writeback(&self, task: &Task) -> Result<()> {
        self.fs().flush_range(task, self.inode(), Span::ALL)
    }

    /// Drops clean pages that nobody uses, and buffers of tree nodes. Tells how many pages.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn reclaim(&self, task: &Task) -> Result<usize> {
        self.fs().store().release_nodes(task)?;
        self.fs().reclaim_pages(task, self.inode(), Blocks::new(0, u64::MAX), usize::MAX)
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// Those of writeback since the last time that this open file heard of them; those of the log
    /// and of committing.
    pub fn fsync(&self, task: &Task) -> Result<()> {
        crate::paths::fsync::fsync(self, task)
    }

    /// Makes the data durable, and what is needed to find it.
    ///
    /// # Errors
    /// As [`fsync`](Self::fsync).
    pub fn fdatasync(&self, task: &Task) -> Result<()> {
        crate::paths::fsync::fdatasync(self, task)
    }

    /// Makes the data of a range durable, and what is needed to find it.
    ///
    /// # Errors
    /// As [`fsync`](Self::fsync).
    pub fn fsync_range(&self, task: &Task, span: Span) -> Result<()> {
        crate::paths::fsync::fsync_range(self, task, span)
    }

    /// Maps a part of the file. See [`Fs::mmap`].
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn mmap(&self, task: &Task, offset: u64, len: u64) -> Result<Mapping> {
        self.fs().mmap(task, self, offset, len)
    }
}
