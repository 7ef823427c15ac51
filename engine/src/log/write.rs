//! Putting an inode into its log tree: what is marked as changed since the last commit.
//!
//! A range is logged as a whole: what the log said of it before goes, what the file holds now
//! comes, holes included. So the log of an inode after any number of fsyncs is what one fsync would
//! have written.
//!
//! Promises: whatever was taken from the marks is in the log tree when this returns; if it fails,
//! the caller must not publish the log any more. It must never know when the log reaches the
//! medium.

use super::items::{Held, INDEX_END, LogNames, LogRange, RANGE_KINDS, log_csum_key};
use super::sites::{COLLECT, CSUMS, ITEM, RANGES};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{ExtentState, Piece};
use crate::inode::log_state::Name;
use crate::inode::span::Blocks;
use crate::store::items::{InodeItem, csum_key};
use crate::store::key::{Key, Kind, Tree};
use crate::store::{Handle, LogTrees};
use crate::types::{BLOCK_BYTES, Ino, TransactionId};
use machine::{Access, Object, Task};
use smallvec::SmallVec;
use std::ops::ControlFlow;

/// What is to be logged of an inode, as one look at its extent map found it.
struct Collected {
    item: InodeItem,
    /// Names that the last commit does not have.
    names: SmallVec<[(Ino, Name); 1]>,
    ranges: SmallVec<[LogRange; 8]>,
}

/// The log tree that an inode goes to, locked by the caller.
#[derive(Clone, Copy)]
pub(crate) struct LogTree<'a> {
    pub(crate) trees: &'a LogTrees,
    pub(crate) handle: &'a Handle,
    pub(crate) group: u8,
}

impl LogTree<'_> {
    pub(super) fn put(&self, task: &Task, key: Key, value: &[u8]) -> Result<()> {
        self.trees.put(task, self.handle, self.group, key, value)
    }

    fn delete(&self, task: &Task, key: Key) -> Result<()> {
        let to = key.successor();
        let count = self.trees.delete_range(task, self.handle, self.group, key, to)?;
        debug_assert_eq!(count, 1, "an item just seen under the log's lock");
        Ok(())
    }

    fn transaction(&self) -> TransactionId {
        TransactionId(self.handle.generation())
    }
}

/// What came of logging an inode.
pub(crate) enum Logged {
    /// The log has all that was asked for.
    Whole,
    /// It has no name any more: only a commit makes that, and what it holds, durable.
    Unnamed,
}

/// Logs what is marked of `inode` within `within`, and the inode itself.
///
/// The caller holds the log tree's lock, and either keeps changes of the range out (P0) or knows
/// what it collects.
///
/// # Errors
/// `NoSpace` if the log has no room; those of the trees. The log must not be published then.
pub(crate) fn log_inode(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    log: LogTree<'_>,
    within: Blocks,
) -> Result<Logged> {
    let transaction = log.transaction();
    let object = Object::new(kind::INODE, inode.ino.0, 0);
    task.site(&COLLECT, object, Access::Read)?;
    let within = Blocks::new(within.start, within.end.min(INDEX_END));
    let wanted = inode.log.take_ranges(transaction, within);
    if fs.defects().has(Defect::RangedFsyncDropsOthers) {
        inode.log.take_ranges(transaction, Blocks::new(0, u64::MAX));
    }
    let mut collected = collect(task, fs, inode, &wanted, transaction)?;
    if collected.item.nlink == 0 {
        return Ok(Logged::Unnamed); // unlinked since FSYNC.7 was begun
    }
    collected.ranges.retain(|range| is_logged(fs, inode, range));

    task.site(&RANGES, object, Access::Write)?;
    for range in &wanted {
        clear(task, log, inode.ino, *range)?;
    }
    for range in &collected.ranges {
        log.put(task, range.key(inode.ino), &range.encode())?;
    }

    if fs.defects().has(Defect::WriteErrorEmLogged) {
        log_failed(task, inode, log)?;
    }
    if inode.has_datasum() {
        task.site(&CSUMS, object, Access::Write)?;
        for range in &collected.ranges {
            copy_csums(task, fs, inode, log, range)?;
        }
    }

    task.site(&ITEM, object, Access::Write)?;
    log.put(task, InodeItem::key(inode.ino), &collected.item.encode())?;
    log_names(task, inode, log, &collected.names)?;
    inode.log.note_logged(transaction);
    Ok(Logged::Whole)
}

/// What the file holds in the wanted ranges: one look under EXT R, so that extents, sizes, item and
/// names agree (X-2b).
fn collect(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    wanted: &[Blocks],
    transaction: TransactionId,
) -> Result<Collected> {
    let _ext = fs.read_extents(task, inode)?;
    let extents = inode.extents.borrow();
    let mut ranges = SmallVec::new();
    for range in wanted {
        for piece in extents.pieces(*range) {
            ranges.push(as_logged(fs, &piece)?);
        }
    }
    Ok(Collected { item: inode.item(), names: inode.log.names(transaction), ranges })
}

fn as_logged(fs: &Fs, piece: &Piece) -> Result<LogRange> {
    let Blocks { start: index, end } = piece.blocks();
    let (held, generation) = match piece {
        Piece::Hole(_) => (Held::Hole, 0),
        Piece::Extent(extent) => {
            let block = extent.block;
            let held = match &extent.state {
                ExtentState::Written => Held::Written { block },
                ExtentState::Unwritten => Held::Unwritten { block },
                ExtentState::Pending(_) if logs_pending(fs) => Held::Written { block },
                // only what is complete is the file's. Whoever logs has waited for it.
                ExtentState::Pending(_) => return Err(Error::Bug("a pending extent was logged")),
            };
            (held, extent.generation.0)
        }
    };
    Ok(LogRange { index, len_blocks: end - index, held, generation })
}

/// Whether what is in flight goes into the log as if it were complete.
fn logs_pending(fs: &Fs) -> bool {
    fs.defects().has(Defect::MmapWriteVsFsync) || fs.defects().has(Defect::FsyncSameFdPrivateFlag)
}

/// Whether a range goes into the log: always.
fn is_logged(fs: &Fs, inode: &Inode, range: &LogRange) -> bool {
    let end = inode.size().div_ceil(BLOCK_BYTES);
    let is_hole = range.held == Held::Hole && range.index < end;
    if is_hole && fs.defects().has(Defect::HoleNotLoggedNoHoles) {
        return false;
    }
    !(is_hole && range.end() >= end && fs.defects().has(Defect::TrailingHoleNotLogged))
}

/// Logs what the device failed to write, as if it had been written.
fn log_failed(task: &Task, inode: &Inode, log: LogTree<'_>) -> Result<()> {
    for failed in inode.log.take_failed(log.transaction()) {
        let Blocks { start: index, end } = failed.blocks;
        let held = Held::Written { block: failed.block };
        clear(task, log, inode.ino, failed.blocks)?;
        let range = LogRange { index, len_blocks: end - index, held, generation: 1 };
        log.put(task, range.key(inode.ino), &range.encode())?;
        for (block, digest) in (failed.block..).zip(&failed.digests) {
            log.put(task, log_csum_key(inode.ino, block), digest)?;
        }
    }
    Ok(())
}

/// Takes out what the log says of a range; what it says beside it stays.
pub(super) fn clear(task: &Task, log: LogTree<'_>, ino: Ino, range: Blocks) -> Result<()> {
    for kind in RANGE_KINDS {
        for item in overlapping(task, log, ino, kind, range)? {
            log.delete(task, item.key(ino))?;
            let beside = [item.clipped(0, range.start), item.clipped(range.end, INDEX_END)];
            for rest in beside.into_iter().flatten() {
                log.put(task, rest.key(ino), &rest.encode())?;
            }
        }
    }
    Ok(())
}

/// The logged ranges of one kind that overlap a range, whole.
fn overlapping(
    task: &Task,
    log: LogTree<'_>,
    ino: Ino,
    kind: Kind,
    range: Blocks,
) -> Result<SmallVec<[LogRange; 4]>> {
    let mut found: SmallVec<[LogRange; 4]> = SmallVec::new();
    let mut is_damaged = false;
    let start = LogRange::key_of(ino, kind, range.start);
    let mut take = |key: Key, value: &[u8]| match LogRange::decode(key, value) {
        Ok(item) => {
            found.push(item);
            ControlFlow::Continue(())
        }
        Err(_) => {
            is_damaged = true;
            ControlFlow::Break(())
        }
    };
    let before = log.trees.floor(task, log.group, start)?;
    let is_ours = |key: Key| (key.object, key.kind) == (ino.0, kind) && key != start;
    if let Some((key, value)) = before.filter(|(key, _)| is_ours(*key)) {
        let _flow = take(key, &value);
    }
    let end = LogRange::key_of(ino, kind, range.end);
    log.trees.range(task, log.group, start, end, take)?;
    if is_damaged {
        return Err(Error::Bug("the log tree in memory is damaged"));
    }
    found.retain(|item| item.end() > range.start);
    Ok(found)
}

/// Copies the checksums of a written range from the CSUM tree, where completion put them (CW.2).
fn copy_csums(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    log: LogTree<'_>,
    range: &LogRange,
) -> Result<()> {
    let Held::Written { block } = range.held else { return Ok(()) };
    let mut csums: SmallVec<[(u64, [u8; 32]); 8]> = SmallVec::new();
    let end = block + range.len_blocks;
    fs.store().range(task, Tree::Csum, csum_key(block), csum_key(end), |key, value| {
        csums.extend(<[u8; 32]>::try_from(value).ok().map(|digest| (key.object, digest)));
        ControlFlow::Continue(())
    })?;
    if csums.len() as u64 != range.len_blocks && !logs_pending(fs) {
        let (structure, what) = ("checksum tree", "a written block has no checksum");
        return Err(Error::Corrupt { structure, block, what });
    }
    for (block, digest) in csums {
        log.put(task, log_csum_key(inode.ino, block), &digest)?;
    }
    Ok(())
}

/// Logs the names that the last commit does not have.
pub(super) fn log_names(
    task: &Task,
    inode: &Inode,
    log: LogTree<'_>,
    names: &[(Ino, Name)],
) -> Result<()> {
    let mut at = 0;
    while let Some((directory, _)) = names.get(at) {
        let mut item = LogNames::default();
        for (_, name) in names.iter().filter(|(other, _)| other == directory) {
            item.names.push(name.clone());
        }
        log.put(task, LogNames::key(inode.ino, *directory), &item.encode())?;
        at += names[at..].iter().take_while(|(other, _)| other == directory).count();
    }
    Ok(())
}
