//! FSYNC: what makes a file, or everything, durable (races.md §7.4).
//!
//! fsync logs what its file changed since the last commit and publishes the log (`sync_log`, B-1);
//! whatever the log cannot express is committed instead, which is always legal (B-7). Nothing to
//! log still needs the barrier: data overwritten in place may be in the device's cache (B-4).
//!
//! No times are kept, so `fdatasync` and O_DSYNC have nothing to leave out but other ranges.
//!
//! Promises: B-4, success means that everything the caller had written before the call is durable;
//! each open file hears of each error of writeback once. It must never know what a log looks like.

use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::span::{Blocks, Span};
use crate::log::fast::{Listed, log_inode_fast, wait_listed};
use crate::log::write::{LogTree, Logged, log_inode};
use crate::paths::writeback::Effort;
use crate::store::{Handle, Join, LogRoot, Writes};
use crate::types::{Ino, TransactionId};
use machine::{Access, Mode, Object, Range, Site, Task};
use std::rc::Rc;

static START: Site = Site::new("fsync.start");
static FLUSH_DATA: Site = Site::new("fsync.flush-data");
static WAIT_ORDERED: Site = Site::new("fsync.wait-ordered");
static DECIDE: Site = Site::new("fsync.decide");
static SYNC_LOG: Site = Site::new("fsync.sync-log");
static SYNC: Site = Site::new("sync.inode");

/// How an fsync goes on once everything is on the device.
enum Next {
    /// The log has what is needed: publish it.
    Publish,
    /// There was nothing to log.
    Barrier,
    /// Only a commit makes it durable.
    Commit,
}

/// fsync(2).
///
/// # Errors
/// Those of writeback since this open file heard of them last; those of the log and of committing.
pub(crate) fn fsync(file: &File, task: &Task) -> Result<()> {
    sync_file(file, task, Span::ALL)
}

/// fdatasync(2).
///
/// # Errors
/// As [`fsync`].
pub(crate) fn fdatasync(file: &File, task: &Task) -> Result<()> {
    sync_file(file, task, Span::ALL)
}

/// fsync of a range: what lies beside it stays as it is, and stays to be logged.
///
/// # Errors
/// As [`fsync`].
pub(crate) fn fsync_range(file: &File, task: &Task, span: Span) -> Result<()> {
    sync_file(file, task, span)
}

/// What O_DSYNC adds to a write of `span`.
///
/// # Errors
/// As [`fsync`].
pub(crate) fn dsync(file: &File, task: &Task, span: Span) -> Result<()> {
    sync_file(file, task, span)
}

/// sync(2): writes all dirty data, waits for it, and commits. Errors of writeback stay with their
/// inodes, for fsync to report.
///
/// # Errors
/// Those of committing; `Stopped`.
pub(crate) fn sync(fs: &Fs, task: &Task) -> Result<()> {
    let mut last = Ino(0);
    while let Some(inode) = fs.inodes().next_after(last) {
        last = inode.ino;
        task.site(&SYNC, Object::new(kind::INODE, last.0, 0), Access::Read)?;
        // As FSYNC.3 and 4: a page that gets dirty before the end while we wait would hold the size
        // of what is written back below that end.
        let _ranges = inode.rl.lock(task, Range::ALL, Mode::Read)?;
        let _mapping = inode.ml.lock(task, Range::ALL, Mode::Write)?;
        fs.settle_data(task, &inode, Span::ALL)?;
    }
    fs.store().commit(task)
}

fn sync_file(file: &File, task: &Task, span: Span) -> Result<()> {
    let (fs, inode) = (file.fs(), file.inode());
    let object = Object::new(kind::INODE, inode.ino.0, 0);
    task.site(&START, object, Access::Read)?;
    let logi = inode.logi.lock(task)?; // FSYNC.1
    fs.write_range(task, inode, span.blocks(), Effort::Try)?; // FSYNC.2
    if fs.has_fast_fsync() {
        return fs.fast_fsync(file, task);
    }
    let (lock_ranges, lock_mapping) = fs.locks_of_fsync(file);
    let ranges = lock_ranges.then(|| inode.rl.lock(task, Range::ALL, Mode::Read));
    let ranges = ranges.transpose()?; // FSYNC.3
    let mapping = lock_mapping.then(|| inode.ml.lock(task, Range::ALL, Mode::Write));
    let mapping = mapping.transpose()?; // FSYNC.4
    let span = fs.span_to_sync(inode, span);
    if fs.defects().has(Defect::FlushBeforeTailSample) {
        fs.store().flush_device(task, 0)?;
    }
    fs.settle_data(task, inode, span)?; // FSYNC.5
    if !fs.defects().has(Defect::WriteErrorEmLogged) {
        file.check_errors()?; // B-3: what was lost is reported, not made durable
    }
    let handle = fs.store().join(task, Join::User)?; // FSYNC.6
    let next = fs.log_file(task, &handle, inode, span.blocks())?; // FSYNC.7
    drop((mapping, ranges)); // FSYNC.8
    let synced = match next {
        Next::Publish => fs.sync_log(task, handle, inode), // FSYNC.9, FSYNC.10
        Next::Barrier if fs.defects().has(Defect::FsyncElidesFlush) => Ok(Next::Barrier),
        Next::Barrier => fs.store().flush_devices(task).map(|()| Next::Barrier), // B-4
        Next::Commit => {
            drop(handle); // FSYNC.10
            Ok(Next::Commit)
        }
    };
    if matches!(synced?, Next::Commit) {
        fs.store().commit(task)?; // TXC instead of FSYNC.7 to 9
    }
    drop(logi); // FSYNC.11
    if fs.defects().has(Defect::WriteErrorEmLogged) {
        file.check_errors()?;
    }
    Ok(())
}

impl Fs {
    /// FSYNC as it was: F0 to F12 of races.md §1.a.2. LOGI is held.
    fn fast_fsync(&self, file: &File, task: &Task) -> Result<()> {
        let (inode, all) = (file.inode(), Span::ALL.blocks());
        self.write_range(task, inode, all, Effort::Wait)?; // F0
        self.wait_writeback(task, inode, all)?;
        file.check_errors()?;
        if !inode.extents.borrow().is_loaded() {
            drop(self.read_extents(task, inode)?); // a writer may hold EXT between two steps
        }
        let handle = self.store().join(task, Join::User)?; // F4
        let transaction = TransactionId(handle.generation());
        let mut listed = Listed::new();
        let next = if self.has_to_commit(inode, transaction) {
            Next::Commit
        } else if !inode.log.is_marked(transaction) && !is_in_flight(inode) {
            Next::Barrier // F3
        } else {
            let logs = self.store().log();
            let group = logs.group_of(inode.ino);
            let _log = logs.lock(task, group)?; // F5
            let log = LogTree { trees: logs, handle: &handle, group };
            let logged = log_inode_fast(task, self, inode, log);
            match logged.inspect_err(|_| self.log_marks().note_broken(transaction))? {
                (Logged::Whole, ordered) => {
                    listed = ordered;
                    Next::Publish
                }
                (Logged::Unnamed, _) => Next::Commit,
            }
        }; // F10
        let next = match next {
            Next::Publish => {
                wait_listed(task, self, &listed)?; // F11b
                self.sync_log(task, handle, inode)? // F11, F12
            }
            Next::Barrier => self.store().flush_devices(task).map(|()| Next::Barrier)?,
            Next::Commit => {
                drop(handle);
                Next::Commit
            }
        };
        if matches!(next, Next::Commit) {
            self.store().commit(task)?;
        }
        Ok(())
    }

    /// Whether fsync takes RL and ML: always.
    fn locks_of_fsync(&self, file: &File) -> (bool, bool) {
        let is_told = self.defects().has(Defect::FsyncSameFdPrivateFlag);
        let skips = is_told && file.is_writing_directly();
        (!skips, !skips && !self.defects().has(Defect::MmapWriteVsFsync))
    }

    /// What is to be synced for `span` to be found after a crash. Under RL R of everything, so that
    /// the size stays.
    fn span_to_sync(&self, inode: &Inode, span: Span) -> Span {
        let running = TransactionId(self.store().generation());
        // A log of a part would bring back what a truncate took away, or show what lies between the
        // old end and the range as a hole that nobody made.
        if self.defects().has(Defect::RangedFsyncDropsOthers) {
            return span;
        }
        let is_resized = inode.size() != inode.log.committed_size(running);
        if is_resized || inode.log.is_shrunk(running) { Span::ALL } else { span }
    }

    /// FSYNC.5: no dirty page and no ordered extent is left in the span. Errors stay with the
    /// inode.
    fn settle_data(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let object = Object::new(kind::INODE, inode.ino.0, 1);
        task.site(&FLUSH_DATA, object, Access::Read)?;
        self.write_range(task, inode, span.blocks(), Effort::Wait)?;
        self.wait_writeback(task, inode, span.blocks())?;
        task.site(&WAIT_ORDERED, object, Access::Read)?;
        self.wait_ordered(task, inode, span.blocks()) // B-1 (1): IO_DONE, and more: complete
    }

    /// FSYNC.7: puts what changed into the log tree, or tells what to do instead.
    fn log_file(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        within: Blocks,
    ) -> Result<Next> {
        let transaction = TransactionId(handle.generation());
        task.site(&DECIDE, Object::new(kind::INODE, inode.ino.0, 2), Access::Read)?;
        if self.has_to_commit(inode, transaction) {
            return Ok(Next::Commit); // B-7
        }
        if !inode.log.is_marked(transaction) {
            return Ok(Next::Barrier);
        }
        let logs = self.store().log();
        let group = logs.group_of(inode.ino);
        let _log = logs.lock(task, group)?;
        let log = LogTree { trees: logs, handle, group };
        match log_inode(task, self, inode, log, within) {
            Ok(Logged::Whole) => Ok(Next::Publish),
            Ok(Logged::Unnamed) => Ok(Next::Commit), // B-7
            Err(Error::Stopped) => Err(Error::Stopped),
            // The log has no room, or could not be read: it is incomplete, a commit is not.
            Err(Error::NoSpace { .. } | Error::Io { .. }) => {
                self.log_marks().note_broken(transaction);
                Ok(Next::Commit)
            }
            Err(error) => {
                self.log_marks().note_broken(transaction);
                Err(error)
            }
        }
    }

    /// Whether the log cannot express what happened to a file, or is of no use any more.
    fn has_to_commit(&self, inode: &Inode, transaction: TransactionId) -> bool {
        // A name that is gone would be back after a crash, with the file as it was before.
        let is_nameless = inode.item().nlink == 0;
        let must_commit = is_nameless || inode.log.must_commit(transaction).is_some();
        must_commit || self.log_marks().is_broken(transaction)
    }

    /// FSYNC.9: B-1, step by step; FSYNC.10 with the last. The tree's lock is held to the end, so
    /// that nobody publishes an older tree of the group after it; the root's lock from the log root
    /// on. A tree may be named by others once its writes are acknowledged.
    fn sync_log(&self, task: &Task, handle: Handle, inode: &Inode) -> Result<Next> {
        let transaction = TransactionId(handle.generation());
        let (store, logs) = (self.store(), self.store().log());
        let group = logs.group_of(inode.ino);
        task.site(&SYNC_LOG, Object::new(kind::INODE, inode.ino.0, 3), Access::Io)?;
        let _log = logs.lock(task, group)?;
        // B-1 (1): FSYNC.5 waited for every ordered extent that the log names.
        let (root, mut tree) = logs.write_tree(task, group)?; // B-1 (2)
        if !self.waits_late() {
            let acknowledged = std::mem::take(&mut tree).wait(task); // B-1 (4), the tree
            if self.or_commit(transaction, acknowledged)?.is_none() {
                return Ok(Next::Commit); // B-3
            }
        }
        logs.acknowledge(group, root);
        let locked = logs.lock_root(task)?;
        if self.log_marks().is_broken(transaction) {
            return Ok(Next::Commit); // B-3
        }
        let written = logs.write_root(task, &handle, &locked, group, root); // B-1 (3)
        let Some((log_root, root_writes)) = self.or_commit(transaction, written)? else {
            return Ok(Next::Commit); // B-3
        };
        if self.defects().has(Defect::JournalSuperRace) {
            drop(handle);
            return self.publish_unlocked(task, log_root, root_writes);
        }
        if self.defects().has(Defect::SuperBeforeLogBlocks) {
            store.publish_log(task, &handle, &locked, log_root)?;
        }
        let acknowledged = root_writes.wait(task).and(tree.wait(task)); // B-1 (4), the root
        let flushed = acknowledged.and_then(|()| self.flush_for_log(task)); // B-1 (5)
        if self.or_commit(transaction, flushed)?.is_none() {
            return Ok(Next::Commit); // B-3
        }
        if !self.defects().has(Defect::SuperBeforeLogBlocks) {
            store.publish_log(task, &handle, &locked, log_root)?; // B-1 (6)
        }
        drop(handle); // FSYNC.10
        Ok(Next::Publish)
    }

    /// B-1 (4) to (6) beside commits, with the superblock as it was before them.
    fn publish_unlocked(&self, task: &Task, log_root: LogRoot, writes: Writes) -> Result<Next> {
        let before = self.store().superblock();
        writes.wait(task)?;
        self.store().flush_devices(task)?;
        self.store().publish_log_unlocked(task, before, log_root)?;
        Ok(Next::Publish)
    }

    /// Whether the log tree's writes are waited for only after others may have named them.
    fn waits_late(&self) -> bool {
        let defects = self.defects();
        defects.has(Defect::LogRootBeforeLogTree) || defects.has(Defect::SuperBeforeLogBlocks)
    }

    /// B-1 (5): flushes every device that data or log are on.
    fn flush_for_log(&self, task: &Task) -> Result<()> {
        let (store, defects) = (self.store(), self.defects());
        if defects.has(Defect::SuperNoPreflush) {
            return Ok(());
        }
        let is_elsewhere = store.log_device() != 0;
        if defects.has(Defect::FlushBeforeTailSample) && !is_elsewhere {
            return Ok(());
        }
        let misses_data = defects.has(Defect::DataFlushMissingMultidev)
            || defects.has(Defect::FlushBeforeTailSample);
        if misses_data && is_elsewhere {
            return store.flush_device(task, store.log_device());
        }
        store.flush_devices(task)
    }

    /// After an error that leaves the log incomplete, `None`: it is not published any more (B-3).
    fn or_commit<T>(&self, transaction: TransactionId, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoSpace { .. } | Error::Io { .. }) => {
                self.log_marks().note_broken(transaction);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether anything of a file is in flight, whichever half of its pair is published.
fn is_in_flight(inode: &Inode) -> bool {
    let has_extents = inode.extents.borrow().iter().any(|extent| extent.state.is_pending());
    has_extents || !inode.ordered.borrow().is_empty()
}
