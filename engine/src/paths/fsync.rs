//! FSYNC: what makes a file, or everything, durable (races.md §7.4).
//!
//! fsync logs what its file changed since the last commit and publishes the log (`sync_log`, B-1);
//! whatever the log cannot express is committed instead, which is always legal (B-7). Nothing to
//! log still needs the barrier: data overwritten in place may be in the device's cache (B-4).
//!
//! No times are kept, so `fdatasync` and O_DSYNC have nothing to leave out but other ranges.
//!
//! Two protocols: P0 waits until everything is part of the file before it looks at it; P1, in
//! `pairs`, logs what is in flight and waits for the device only.
//!
//! Promises: B-4, success means that everything the caller had written before the call is durable;
//! each open file hears of each error of writeback once. It must never know what a log looks like.

mod pairs;

use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::span::{Blocks, Span};
use crate::log::collect::{Collected, collect_settled};
use crate::log::write::{LogTree, log_changes};
use crate::options::FsyncProtocol;
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
    let next = match fs.logs_pairs() {
        false => fs.sync_settled(file, task, span)?, // P0
        true => fs.sync_pairs(file, task, span)?,    // P1
    };
    if matches!(next, Next::Commit) {
        fs.store().commit(task)?; // TXC instead of FSYNC.7 to 9
    }
    drop(logi); // FSYNC.11
    if fs.logs_pairs() || fs.defects().has(Defect::WriteErrorEmLogged) {
        file.check_errors()?; // P1: what ended meanwhile
    }
    Ok(())
}

impl Fs {
    /// Whether fsync logs what is in flight, too: P1.
    pub(crate) fn logs_pairs(&self) -> bool {
        self.options().fsync == FsyncProtocol::P1 || self.syncs_beside_writers()
    }

    /// FSYNC.3 to FSYNC.10 of P0.
    fn sync_settled(&self, file: &File, task: &Task, span: Span) -> Result<Next> {
        let inode = file.inode();
        let (lock_ranges, lock_mapping) = self.locks_of_fsync(file);
        let ranges = lock_ranges.then(|| inode.rl.lock(task, Range::ALL, Mode::Read));
        let ranges = ranges.transpose()?; // FSYNC.3
        let mapping = lock_mapping.then(|| inode.ml.lock(task, Range::ALL, Mode::Write));
        let mapping = mapping.transpose()?; // FSYNC.4
        let span = self.span_to_sync(inode, span);
        if self.defects().has(Defect::FlushBeforeTailSample) {
            self.store().flush_device(task, 0)?;
        }
        self.settle_data(task, inode, span)?; // FSYNC.5
        if !self.defects().has(Defect::WriteErrorEmLogged) {
            file.check_errors()?; // B-3: what was lost is reported, not made durable
        }
        let handle = self.store().join(task, Join::User)?; // FSYNC.6
        let next = self.log_file(task, &handle, inode, span.blocks())?; // FSYNC.7
        drop((mapping, ranges)); // FSYNC.8
        match next {
            Next::Publish => self.sync_log(task, handle, inode), // FSYNC.9, FSYNC.10
            Next::Barrier => self.flush_only(task).map(|()| Next::Barrier),
            Next::Commit => Ok(Next::Commit), // FSYNC.10
        }
    }

    /// B-4: what was overwritten in place, or logged before, may be in a cache.
    fn flush_only(&self, task: &Task) -> Result<()> {
        if self.defects().has(Defect::FsyncElidesFlush) {
            return Ok(());
        }
        self.store().flush_devices(task)
    }

    /// Whether fsync takes RL and ML: always.
    fn locks_of_fsync(&self, file: &File) -> (bool, bool) {
        let is_told = self.defects().has(Defect::FsyncSameFdPrivateFlag);
        let skips = is_told && file.is_writing_directly() || self.syncs_beside_writers();
        (!skips, !skips && !self.defects().has(Defect::MmapWriteVsFsync))
    }

    /// What is to be synced for `span` to be found after a crash. The size stays under RL R of
    /// everything; P1, which passes direct writes, asks again under EXT.
    pub(crate) fn span_to_sync(&self, inode: &Inode, span: Span) -> Span {
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
        let collected = collect_settled(task, self, inode, transaction, within);
        self.log_collected(task, inode, log, collected)
    }

    /// Puts what was collected into the log tree. The caller holds its lock.
    fn log_collected(
        &self,
        task: &Task,
        inode: &Inode,
        log: LogTree<'_>,
        collected: Result<Collected>,
    ) -> Result<Next> {
        let logged = match collected {
            Ok(Collected::Nothing) => return Ok(Next::Barrier),
            Ok(Collected::Unlogged) => return Ok(Next::Commit), // B-7
            Ok(Collected::Changes(changes)) => log_changes(task, self, inode, log, &changes),
            Err(error) => Err(error),
        };
        match logged {
            Ok(true) => Ok(Next::Publish),
            Ok(false) => {
                self.log_marks().note_broken(log.transaction());
                Ok(Next::Commit)
            }
            Err(Error::Stopped) => Err(Error::Stopped),
            // The log has no room, or could not be read: it is incomplete, a commit is not.
            Err(Error::NoSpace { .. } | Error::Io { .. }) => {
                self.log_marks().note_broken(log.transaction());
                Ok(Next::Commit)
            }
            Err(error) => {
                self.log_marks().note_broken(log.transaction());
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
    /// on. A tree may be named by others once its writes are acknowledged, and those of the data
    /// that it names; P0 has waited for these, so (1) has nothing left to do.
    fn sync_log(&self, task: &Task, handle: Handle, inode: &Inode) -> Result<Next> {
        let transaction = TransactionId(handle.generation());
        let (store, logs) = (self.store(), self.store().log());
        let group = logs.group_of(inode.ino);
        task.site(&SYNC_LOG, Object::new(kind::INODE, inode.ino.0, 3), Access::Io)?;
        let _log = logs.lock(task, group)?;
        let (root, mut tree) = logs.write_tree(task, group)?; // B-1 (2)
        if !self.waits_late() {
            let acknowledged = std::mem::take(&mut tree).wait(task); // B-1 (4), the tree
            if self.or_commit(transaction, acknowledged)?.is_none() {
                return Ok(Next::Commit); // B-3
            }
        }
        if !self.wait_named(task, inode, transaction, group)? {
            self.log_marks().note_broken(transaction); // B-1 (1), B-3
            return Ok(Next::Commit);
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
