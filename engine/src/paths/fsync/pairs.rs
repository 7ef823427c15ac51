//! FSYNC of P1: what is in flight is logged as what it is about to be (races.md §7.4).
//!
//! P0 waits for every ordered extent of the file before it logs. P1 takes each extent in flight
//! with its ordered extent and the checksums that this carries, writes the log meanwhile, and waits
//! for the device alone before the FLUSH that covers data and log (B-1).
//!
//! Why that is right:
//!
//! - *Who is excluded.* RL R and ML W are held to the end of FSYNC.7, as in P0: no range changes,
//!   no page gets dirty while fsync collects. Only direct writes that have been submitted are
//!   passed, though their IO holds RL W and ML W as tokens: all that still happens to them is
//!   completion, which takes EXT. One that is not submitted yet holds its range as a task, and is
//!   waited for.
//! - *What was written before the call* has a pair by then, or is part of the file. A dirty page is
//!   written by fsync itself; a page that somebody else writes back is locked by them until its
//!   pair is published and submitted (WB.7), and fsync waits for that lock, not for the writeback.
//! - *After FSYNC.8* anybody may punch, truncate or overwrite what was logged. They wait for the
//!   ordered extent first, and what they free stays pinned until the commit, so a log that is
//!   published later still names blocks that hold what it says. What they did is marked anew, and
//!   the next fsync logs it. Nothing has to be looked at again.
//! - *A log tree has several files.* Another fsync of the group may publish the tree before the one
//!   that logged a pair. So the tree knows what it names in flight, and whoever publishes it waits
//!   for all of that; other groups may name the tree only afterwards.
//! - *Errors.* If the device fails one of them, the log names blocks that were never written: it is
//!   broken until the next transaction (B-3), fsync commits, and the commit waits until completion
//!   has put back what was there before. Then fsync tells the error.
//! - *The transaction.* What is published is pending in the running transaction, so its commit
//!   waits for it (B-2: every ordered extent is in `pending_ordered` from its publication on).
//!   fsync holds a handle to the end, so that the transaction of pairs and log is still the running
//!   one at B-1 (6). With the handle it waits for the device only (W-2): a commit that waits for it
//!   lets completions in (W-3).
//! - *Sizes.* The log has the size that the file will have when the pairs are complete, and no
//!   other write; extents behind it are leftovers, as a commit may have them. A page before
//!   that size which gets dirty before the pairs are complete does not hold it: the commit that
//!   obsoletes the log has at least the size of the log. So has a commit instead of it, which waits
//!   for what is in flight with no range locked.
//!
//! - *What fsync cannot vouch for* is left to a commit: blocks that became part of the span after
//!   fsync had waited for it, as a direct write that it passed raised the size; and written blocks
//!   behind the end, which a direct write that failed in part drops past its own locks.
//!
//! A pair is logged once: the inode knows of which pairs the log has both halves, and
//! completion marks its range again unless it is one of these. Blocks that are overwritten where
//! they are need no log; fsync waits for them.
//!
//! It must never know what a log looks like.

use super::{DECIDE, FLUSH_DATA, Next};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::Result;
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::ordered::OrderedExtent;
use crate::inode::span::Span;
use crate::log::collect::{Collected, InFlight, collect_pairs};
use crate::log::historical::collect_in_steps;
use crate::log::write::LogTree;
use crate::paths::writeback::Effort;
use crate::store::{Handle, Join};
use crate::types::TransactionId;
use machine::{Access, Mode, Object, Range, Task};
use std::rc::Rc;

impl Fs {
    /// FSYNC.3 to FSYNC.10 of P1.
    pub(super) fn sync_pairs(&self, file: &File, task: &Task, span: Span) -> Result<Next> {
        let inode = file.inode();
        let (lock_ranges, lock_mapping) = self.locks_of_fsync(file);
        let beside = |it: &machine::RangeLock, mode| it.lock_beside_tokens(task, Range::ALL, mode);
        let ranges = lock_ranges.then(|| beside(&inode.rl, Mode::Read));
        let ranges = ranges.transpose()?; // FSYNC.3
        let mapping = lock_mapping.then(|| beside(&inode.ml, Mode::Write));
        let mapping = mapping.transpose()?; // FSYNC.4
        let _size = self.lock_size(task, inode)?;
        let span = self.span_to_sync(inode, span);
        if self.defects().has(Defect::FlushBeforeTailSample) {
            self.store().flush_device(task, 0)?;
        }
        self.publish_data(task, inode, span)?; // FSYNC.5'
        if !self.defects().has(Defect::WriteErrorEmLogged) {
            file.check_errors()?; // B-3: what was lost is reported, not made durable
        }
        let handle = self.store().join(task, Join::User)?; // FSYNC.6
        let (next, in_flight) = self.log_pairs(task, &handle, inode, span)?; // FSYNC.7'
        if matches!(next, Next::Commit) {
            let _ext = inode.ext.write(task)?;
            inode.note_logged_size(inode.disk_size_after(span.blocks())); // as the log would
        }
        drop((mapping, ranges)); // FSYNC.8
        match next {
            Next::Publish => self.sync_log(task, handle, inode), // FSYNC.9, FSYNC.10
            Next::Barrier if !self.wait_in_flight(task, &in_flight)? => Ok(Next::Commit),
            Next::Barrier => self.flush_only(task).map(|()| Next::Barrier), // B-4
            Next::Commit => Ok(Next::Commit),                               // FSYNC.10
        }
    }

    /// FSYNC.5': all that is dirty in the span is in flight, pair by pair.
    fn publish_data(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let object = Object::new(kind::INODE, inode.ino.0, 1);
        task.site(&FLUSH_DATA, object, Access::Read)?;
        let size = inode.size();
        self.write_range(task, inode, span.blocks(), Effort::Wait)?;
        self.wait_published(task, inode, span.blocks())?;
        self.keep_written_size(inode, size);
        Ok(())
    }

    /// FSYNC.7': collects pairs, and puts what changed into the log tree, or tells what to do
    /// instead, and what has to be waited for then.
    fn log_pairs(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        span: Span,
    ) -> Result<(Next, InFlight)> {
        let transaction = TransactionId(handle.generation());
        task.site(&DECIDE, Object::new(kind::INODE, inode.ino.0, 2), Access::Read)?;
        if self.has_to_commit(inode, transaction) || self.has_short_commit(inode, transaction) {
            return Ok((Next::Commit, InFlight::new())); // B-7
        }
        if !inode.log.is_marked(transaction) && !is_in_flight(inode) {
            return Ok((Next::Barrier, InFlight::new()));
        }
        let logs = self.store().log();
        let group = logs.group_of(inode.ino);
        let _log = logs.lock(task, group)?;
        let log = LogTree { trees: logs, handle, group };
        let _sem = self.lock_out_pairs(task, inode)?;
        let collected = match self.syncs_beside_writers() {
            false => collect_pairs(task, self, inode, transaction, span), // X-2b
            true => collect_in_steps(task, self, inode, transaction),
        };
        let (collected, in_flight) = match collected {
            Ok((collected, in_flight)) => (Ok(collected), in_flight),
            Err(error) => (Err(error), InFlight::new()),
        };
        if matches!(collected, Ok(Collected::Changes(_))) {
            self.log_marks().note_named(transaction, group, &in_flight); // B-1
        }
        let next = self.log_collected(task, inode, log, collected)?;
        if self.defects().has(Defect::FsyncWaitsUnderDioSem) {
            self.wait_in_flight(task, &in_flight)?;
        }
        Ok((next, in_flight))
    }

    /// B-1 (1): everything in flight that a group's log tree names is on the device. False if the
    /// device failed any of it. The tree's lock is held.
    pub(super) fn wait_named(
        &self,
        task: &Task,
        inode: &Inode,
        transaction: TransactionId,
        group: u8,
    ) -> Result<bool> {
        let marks = self.log_marks();
        let own_only = self.defects().has(Defect::FsyncWaitsOwnPairsOnly);
        let matters = |it: &OrderedExtent| !own_only || it.inode.ino == inode.ino;
        while let Some(ordered) = marks.first_named(transaction, group, matters) {
            if !self.wait_one(task, &ordered)? {
                return Ok(false);
            }
            marks.forget_named(group, &ordered);
        }
        Ok(true)
    }

    /// Waits for the device. False if it failed anything.
    fn wait_in_flight(&self, task: &Task, in_flight: &InFlight) -> Result<bool> {
        for ordered in in_flight {
            if !self.wait_one(task, ordered)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wait_one(&self, task: &Task, ordered: &OrderedExtent) -> Result<bool> {
        if ordered.direct && self.defects().has(Defect::FastFsyncSkipsDioIoWait) {
            return Ok(true);
        }
        self.wait_io(task, ordered)?;
        if self.defects().has(Defect::OeLoggedBitSticky) {
            ordered.set_logged();
        }
        Ok(!ordered.has_failed())
    }
}

/// Whether anything of a file is in flight, whichever half of its pair is published.
fn is_in_flight(inode: &Inode) -> bool {
    let has_extents = inode.extents.borrow().iter().any(|extent| extent.state.is_pending());
    has_extents || !inode.ordered.borrow().is_empty()
}
