//! FSYNC.7 as it was: fsync excludes no writer, and looks at ordered extents and extents in several
//! steps (F6 to F7b of races.md §1.a.2; thread 000). Only historical defects come here.
//!
//! Everything else they share with P1, as far as they do not leave that out. Ordered extents are
//! listed before and after the extents, and those of logged extents are waited for: with none of
//! the steps changed that is right for one fsync, but for a clone or a size beside it in rare cases
//! (two violations in 52,000 programs of a campaign; each defect needs 1 to some 1,000).
//!
//! It must never know how a log reaches the medium.

use super::collect::{
    Collected, Found, InFlight, as_logged, changes, item_after, pair_of, take_ranges,
};
use super::items::{Held, INDEX_END, LogRange};
use super::sites::COLLECT;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::Result;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::Piece;
use crate::inode::span::Blocks;
use crate::types::TransactionId;
use machine::{Access, Guard, Mode, Object, Range, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static LIST: Site = Site::new("log.list-ordered");

impl Fs {
    /// Whether fsync excludes no writer, neither by locks nor while it collects, but for who makes
    /// the file shorter: never.
    pub(crate) fn syncs_beside_writers(&self) -> bool {
        const BESIDE_WRITERS: [Defect; 6] = [
            Defect::EmBeforeOe,
            Defect::FsyncCollectsOeBeforeEm,
            Defect::OeLoggedBitSticky,
            Defect::FsyncWaitsUnderDioSem,
            Defect::FastFsyncSkipsDioIoWait,
            Defect::AsyncCsumNotInLog,
        ];
        BESIDE_WRITERS.into_iter().any(|defect| self.defects().has(defect))
    }

    /// F0 has written everything up to a size, in bytes: what gets dirty meanwhile, as nobody is
    /// excluded, does not hold it.
    pub(crate) fn keep_written_size(&self, inode: &Inode, size: u64) {
        if self.syncs_beside_writers() {
            inode.note_logged_size(size.min(inode.size()));
        }
    }

    /// Whether a commit came while nobody was excluded, and left out what was dirty again.
    pub(crate) fn has_short_commit(&self, inode: &Inode, transaction: TransactionId) -> bool {
        let is_short = || inode.log.committed_size(transaction) < inode.size();
        self.syncs_beside_writers() && !inode.log.is_marked(transaction) && is_short()
    }

    /// Whether a logged range has no checksums as it is being replaced, and not as it is still in
    /// flight: then a commit makes durable what takes its place.
    pub(super) fn is_replaced(&self, inode: &Inode, range: &LogRange) -> bool {
        let Held::Written { block } = range.held else { return false };
        let map = inode.extents.borrow();
        let is_in_flight = |(index, block)| {
            let extent = map.at(index).filter(|extent| extent.state.is_pending());
            extent.is_some_and(|extent| extent.block_of(index) == block)
        };
        self.syncs_beside_writers() && !(range.index..range.end()).zip(block..).all(is_in_flight)
    }

    /// Where nobody else is excluded, who makes the file shorter: F5 logs one size.
    pub(crate) fn lock_size(&self, task: &Task, inode: &Inode) -> Result<Option<Guard>> {
        let end = Range::new(u64::MAX, u64::MAX);
        let lock = || inode.rl.lock(task, end, Mode::Read);
        Ok(self.syncs_beside_writers().then(lock).transpose()?)
    }

    /// F5.9: the lock under which a pair is published; held until what is in flight was waited for.
    pub(crate) fn lock_out_pairs(&self, task: &Task, inode: &Inode) -> Result<Option<Guard>> {
        let has_sem = self.defects().has(Defect::FsyncWaitsUnderDioSem);
        Ok(has_sem.then(|| inode.dio_sem.write(task)).transpose()?)
    }
}

/// F6 to F7b. Without EXT, which a writer may hold between the halves of a pair.
pub(crate) fn collect_in_steps(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    transaction: TransactionId,
) -> Result<(Collected, InFlight)> {
    if !inode.extents.borrow().is_loaded() {
        drop(fs.read_extents(task, inode)?);
    }
    let mut listed = list(task, fs, inode)?; // F6
    task.site(&COLLECT, Object::new(kind::INODE, inode.ino.0, 0), Access::Read)?;
    let pieces = changed(fs, inode, transaction); // F7
    let item = item_after(inode, transaction, Blocks::new(0, INDEX_END));
    let wanted = pieces.iter().map(Piece::blocks).collect();
    let found = changes(inode, transaction, item, wanted, SmallVec::new());
    if !fs.defects().has(Defect::FsyncCollectsOeBeforeEm) {
        listed.extend(list(task, fs, inode)?); // F7b
    }
    let Collected::Changes(mut changes) = found else { return Ok((found, listed)) };
    for piece in &pieces {
        let ordered = pair_of(piece).filter(|it| listed.iter().any(|held| Rc::ptr_eq(held, it)));
        changes.ranges.push(Found { range: as_logged(piece), ordered: ordered.cloned() });
    }
    Ok((Collected::Changes(changes), listed))
}

/// F6: what is in flight now, but for what a sticky bit says was logged.
fn list(task: &Task, fs: &Fs, inode: &Inode) -> Result<InFlight> {
    task.site(&LIST, Object::new(kind::INODE, inode.ino.0, 4), Access::Read)?;
    let is_sticky = fs.defects().has(Defect::OeLoggedBitSticky);
    let ordered = inode.ordered.borrow();
    Ok(ordered.iter().filter(|it| !(is_sticky && it.is_logged())).cloned().collect())
}

/// F7: what is marked, and what is in flight, as the extent map has it at this moment.
fn changed(fs: &Fs, inode: &Inode, transaction: TransactionId) -> Vec<Piece> {
    let map = inode.extents.borrow();
    let marked = take_ranges(fs, inode, transaction, Blocks::new(0, INDEX_END));
    let pending = map.iter().filter(|extent| extent.state.is_pending());
    let pending = pending.map(|extent| Piece::Extent(extent.clone()));
    let is_old = |piece: &Piece| pair_of(piece).is_none();
    let marked = marked.iter().flat_map(|&range| map.pieces(range)).filter(is_old);
    marked.chain(pending).collect()
}
