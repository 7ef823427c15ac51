//! FSYNC as it was: it excludes no writer, and logs what is in flight (steps F0 to F12 of races.md
//! §1.a.2; thread 000). Only historical defects come here.
//!
//! An extent in flight is logged as written, with the checksums that its ordered extent carries.
//! With none of its steps changed that is right: ordered extents are listed before and after the
//! extents, those of logged extents are waited for, and the log is published after that.
//!
//! It must never know how a log reaches the medium.

use super::items::{Held, LogRange, log_csum_key};
use super::sites::{COLLECT, CSUMS, ITEM, RANGES};
use super::write::{LogTree, Logged, clear, log_names};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentState, Piece};
use crate::inode::ordered::OrderedExtent;
use crate::inode::span::Blocks;
use crate::store::items::{InodeItem, csum_key};
use crate::store::key::Tree;
use crate::types::TransactionId;
use machine::{Access, IOWAIT, Object, Server, Site, Task};
use std::rc::Rc;

static LIST: Site = Site::new("log.list-ordered");

/// Ordered extents that fsync has taken note of.
pub(crate) type Listed = Vec<Rc<OrderedExtent>>;

impl Fs {
    /// Whether fsync is the one that excludes nobody.
    pub(crate) fn has_fast_fsync(&self) -> bool {
        const FAST: [Defect; 6] = [
            Defect::EmBeforeOe,
            Defect::FsyncCollectsOeBeforeEm,
            Defect::OeLoggedBitSticky,
            Defect::FsyncWaitsUnderDioSem,
            Defect::FastFsyncSkipsDioIoWait,
            Defect::AsyncCsumNotInLog,
        ];
        FAST.into_iter().any(|defect| self.defects().has(defect))
    }

    /// F8a, F11b: waits until the device has answered.
    pub(crate) fn wait_io(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        let inode = &ordered.inode;
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        Ok(task
            .wait(&inode.ordered_end, &IOWAIT, object, Server::Device, || ordered.is_io_done())?)
    }
}

/// F6 to F9. Tells what is in flight of what was logged. The caller holds the log tree's lock.
pub(crate) fn log_inode_fast(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    log: LogTree<'_>,
) -> Result<(Logged, Listed)> {
    let object = Object::new(kind::INODE, inode.ino.0, 0);
    let transaction = TransactionId(log.handle.generation());
    let defects = fs.defects();
    let has_sem = defects.has(Defect::FsyncWaitsUnderDioSem);
    let sem = has_sem.then(|| inode.dio_sem.write(task)).transpose()?; // F5.9
    let mut listed = list(task, fs, inode)?; // F6
    task.site(&COLLECT, object, Access::Read)?;
    let extents = changed(inode, transaction); // F7
    let (item, names) = (inode.item(), inode.log.names(transaction));
    if !defects.has(Defect::FsyncCollectsOeBeforeEm) {
        listed.extend(list(task, fs, inode)?); // F7b
    }
    if item.nlink == 0 {
        return Ok((Logged::Unnamed, listed));
    }
    task.site(&RANGES, object, Access::Write)?;
    for piece in &extents {
        clear(task, log, inode.ino, piece.blocks())?; // F8
        let range = as_logged(piece);
        log.put(task, range.key(inode.ino), &range.encode())?; // F8c
        let Piece::Extent(extent) = piece else { continue };
        let taken = extent.ordered().filter(|it| listed.iter().any(|held| Rc::ptr_eq(held, it)));
        match taken {
            Some(ordered) => log_ordered(task, fs, ordered, log)?, // F8a
            None if inode.has_datasum() => log_csums(task, fs, extent, inode, log)?, // F8b
            None => {}
        }
    }
    drop(sem); // F8.9
    task.site(&ITEM, object, Access::Write)?;
    log.put(task, InodeItem::key(inode.ino), &item.encode())?; // F9
    log_names(task, inode, log, &names)?;
    inode.log.note_logged(transaction);
    let failed = listed.iter().any(|ordered| ordered.has_failed());
    Ok((if failed { Logged::Unnamed } else { Logged::Whole }, listed))
}

/// F11b: what is in flight is on the device.
pub(crate) fn wait_listed(task: &Task, fs: &Fs, listed: &Listed) -> Result<()> {
    if fs.defects().has(Defect::FastFsyncSkipsDioIoWait) {
        return Ok(());
    }
    for ordered in listed {
        fs.wait_io(task, ordered)?;
        ordered.set_logged();
    }
    Ok(())
}

/// F6: what is in flight now, but for what a sticky bit says was logged.
fn list(task: &Task, fs: &Fs, inode: &Inode) -> Result<Listed> {
    task.site(&LIST, Object::new(kind::INODE, inode.ino.0, 4), Access::Read)?;
    let is_sticky = fs.defects().has(Defect::OeLoggedBitSticky);
    let ordered = inode.ordered.borrow();
    Ok(ordered.iter().filter(|it| !(is_sticky && it.is_logged())).cloned().collect())
}

/// F7: what is marked, and what is in flight, as the extent map has it at this moment.
fn changed(inode: &Inode, transaction: TransactionId) -> Vec<Piece> {
    let map = inode.extents.borrow();
    let marked = inode.log.take_ranges(transaction, Blocks::new(0, super::items::INDEX_END));
    let pending = map.iter().filter(|extent| extent.state.is_pending());
    let pending = pending.map(|extent| Piece::Extent(extent.clone()));
    let is_old = |piece: &Piece| !matches!(piece, Piece::Extent(it) if it.state.is_pending());
    let marked = marked.iter().flat_map(|&range| map.pieces(range)).filter(is_old);
    marked.chain(pending).collect()
}

fn as_logged(piece: &Piece) -> LogRange {
    let Blocks { start: index, end } = piece.blocks();
    let (held, generation) = match piece {
        Piece::Hole(_) => (Held::Hole, 0),
        Piece::Extent(Extent { block, state: ExtentState::Unwritten, generation, .. }) => {
            (Held::Unwritten { block: *block }, generation.0)
        }
        Piece::Extent(extent) => (Held::Written { block: extent.block }, extent.generation.0),
    };
    LogRange { index, len_blocks: end - index, held, generation }
}

/// F8a: the checksums of what is in flight.
fn log_ordered(task: &Task, fs: &Fs, ordered: &OrderedExtent, log: LogTree<'_>) -> Result<()> {
    let copies_early = fs.defects().has(Defect::AsyncCsumNotInLog);
    let has_digests = !ordered.inode.has_datasum() || !ordered.digests.borrow().is_empty();
    let skips = fs.defects().has(Defect::FastFsyncSkipsDioIoWait) && has_digests;
    if !copies_early && !skips {
        fs.wait_io(task, ordered)?;
    }
    let digests = ordered.digests.borrow().clone();
    for (block, digest) in (ordered.block..).zip(&digests) {
        log.put(task, log_csum_key(ordered.inode.ino, block), digest)?;
    }
    Ok(())
}

/// F8b: the checksums that the CSUM tree has.
fn log_csums(task: &Task, fs: &Fs, extent: &Extent, inode: &Inode, log: LogTree<'_>) -> Result<()> {
    if matches!(extent.state, ExtentState::Unwritten) {
        return Ok(());
    }
    task.site(&CSUMS, Object::new(kind::INODE, inode.ino.0, 0), Access::Write)?;
    for block in extent.run().block..extent.run().end() {
        let found = fs.store().lookup(task, Tree::Csum, csum_key(block))?;
        let Some(value) = found else { continue };
        let digest: [u8; 32] = value.as_slice().try_into().map_err(|_| Error::Bug("a digest"))?;
        log.put(task, log_csum_key(inode.ino, block), &digest)?;
    }
    Ok(())
}
