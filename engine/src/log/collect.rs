//! What fsync is to log of an inode, as one look at its extent map finds it (FSYNC.7, X-2b).
//!
//! P0 has waited for everything: nothing of the range is in flight. P1 has not: it finds *pairs*,
//! extents with their ordered extents, and takes them as what they are about to be. Extent, ordered
//! extent, size and marks are read in one section of EXT W, so a pair is seen whole or not at all,
//! and the size is the one that belongs to just these pairs.
//!
//! Promises: a mark is taken out for what the caller then logs, or the log must not be published; a
//! pair counts as logged only if both halves were seen. It must never know log trees.

use super::items::{Held, INDEX_END, LogRange};
use super::sites::COLLECT;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{ExtentMap, ExtentState, Piece};
use crate::inode::log_state::Name;
use crate::inode::ordered::{OrderedExtent, OrderedKind};
use crate::inode::span::{Blocks, Span};
use crate::store::items::InodeItem;
use crate::types::{BLOCK_BYTES, Ino, TransactionId};
use machine::{Access, Object, Task};
use smallvec::SmallVec;
use std::rc::Rc;

/// Ordered extents that fsync has taken note of.
pub(crate) type InFlight = SmallVec<[Rc<OrderedExtent>; 2]>;

/// What is to be logged of an inode.
pub(crate) struct Changes {
    pub(super) item: InodeItem,
    /// Names that the last commit does not have.
    pub(super) names: SmallVec<[(Ino, Name); 1]>,
    /// What the log says of these ranges goes.
    pub(super) wanted: SmallVec<[Blocks; 4]>,
    /// What they hold.
    pub(super) ranges: SmallVec<[Found; 8]>,
}

/// A range to be logged.
pub(super) struct Found {
    pub(super) range: LogRange,
    /// What is writing it; its checksums are there.
    pub(super) ordered: Option<Rc<OrderedExtent>>,
}

/// What one look at an inode found.
pub(crate) enum Collected {
    /// The log has it all.
    Nothing,
    /// The inode has no name any more, or more of it has to be durable than was looked after: only
    /// a commit makes it, and what it holds, durable.
    Unlogged,
    /// This.
    Changes(Box<Changes>),
}

/// FSYNC.7 of P0: what is marked within `within`, of which nothing is in flight. The caller keeps
/// changes of the range out.
///
/// # Errors
/// `Bug` if something is in flight; those of reading the tree.
pub(crate) fn collect_settled(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    transaction: TransactionId,
    within: Blocks,
) -> Result<Collected> {
    task.site(&COLLECT, object(inode), Access::Read)?;
    let wanted = take_ranges(fs, inode, transaction, within);
    let _ext = fs.read_extents(task, inode)?;
    let mut ranges = SmallVec::new();
    for piece in wanted.iter().flat_map(|&range| inode.extents.borrow().pieces(range)) {
        // only what is complete is the file's. Whoever logs has waited for it.
        if pair_of(&piece).is_some() && !logs_pending(fs) {
            return Err(Error::Bug("a pending extent was logged"));
        }
        ranges.push(Found { range: as_logged(&piece), ordered: None });
    }
    Ok(changes(inode, transaction, inode.item(), wanted, ranges))
}

/// FSYNC.7 of P1: what is marked within `span`, and what is in flight there, whose IO fsync must
/// wait for, logged or not.
///
/// # Errors
/// Those of reading the tree.
pub(crate) fn collect_pairs(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    transaction: TransactionId,
    span: Span,
) -> Result<(Collected, InFlight)> {
    task.site(&COLLECT, object(inode), Access::Read)?;
    let _ext = fs.write_extents(task, inode)?; // X-2b
    // A direct write that fsync passed may have ended since, and changed the size.
    let within = fs.span_to_sync(inode, span).blocks();
    if span.blocks().intersection(within) != within {
        // Nobody has waited for what is being published there: only a commit does.
        return Ok((Collected::Unlogged, InFlight::new()));
    }
    if has_written_behind_end(inode) {
        // A direct write that failed in part is about to drop them, past its own locks.
        return Ok((Collected::Unlogged, InFlight::new()));
    }
    let in_flight = in_flight_in(&inode.extents.borrow(), within);
    let mut reach = within;
    for ordered in &in_flight {
        debug_assert_eq!(ordered.transaction, transaction, "the commit before waited for it");
        reach = Blocks::new(
            reach.start.min(ordered.blocks.start),
            reach.end.max(ordered.blocks.end), // a pair is logged whole
        );
        // each pair is logged once, in this transaction. Blocks written where they are stay
        // the file's; fsync waits for them only.
        let is_logged = inode.log.has_pair(transaction, ordered.blocks);
        if ordered.kind != OrderedKind::Nocow && !is_logged {
            inode.log.note_range(transaction, ordered.blocks);
            inode.log.note_pair(transaction, ordered.blocks);
        }
    }
    let item = item_after(inode, transaction, within);
    if !inode.log.is_marked(transaction) && item.size == inode.disk_size() {
        return Ok((Collected::Nothing, in_flight));
    }
    let wanted = take_ranges(fs, inode, transaction, reach);
    let map = inode.extents.borrow();
    let pieces = wanted.iter().flat_map(|&range| map.pieces(range));
    let ranges = pieces
        .map(|piece| Found { range: as_logged(&piece), ordered: pair_of(&piece).cloned() })
        .collect();
    Ok((changes(inode, transaction, item, wanted, ranges), in_flight))
}

/// The marks within a range, taken out.
pub(super) fn take_ranges(
    fs: &Fs,
    inode: &Inode,
    transaction: TransactionId,
    within: Blocks,
) -> SmallVec<[Blocks; 4]> {
    let within = Blocks::new(within.start, within.end.min(INDEX_END));
    let wanted = inode.log.take_ranges(transaction, within);
    if fs.defects().has(Defect::RangedFsyncDropsOthers) {
        inode.log.take_ranges(transaction, Blocks::new(0, u64::MAX));
    }
    wanted
}

/// The inode with the size that it has when what is in flight within a range is complete, and
/// that it keeps from then on.
pub(super) fn item_after(inode: &Inode, transaction: TransactionId, within: Blocks) -> InodeItem {
    let size = inode.disk_size_after(within);
    inode.note_logged_size(size);
    InodeItem { size, transid: transaction.0, ..inode.item() }
}

/// What was found, with the inode's own mark taken out.
pub(super) fn changes(
    inode: &Inode,
    transaction: TransactionId,
    item: InodeItem,
    wanted: SmallVec<[Blocks; 4]>,
    ranges: SmallVec<[Found; 8]>,
) -> Collected {
    if item.nlink == 0 {
        return Collected::Unlogged; // unlinked since FSYNC.7 was begun
    }
    let names = inode.log.names(transaction);
    inode.log.note_logged(transaction);
    Collected::Changes(Box::new(Changes { item, names, wanted, ranges }))
}

/// Whether written blocks lie behind the end of the file.
fn has_written_behind_end(inode: &Inode) -> bool {
    let behind = Blocks::new(inode.size().div_ceil(BLOCK_BYTES), u64::MAX);
    let map = inode.extents.borrow();
    map.overlapping(behind).any(|extent| matches!(extent.state, ExtentState::Written))
}

fn in_flight_in(map: &ExtentMap, within: Blocks) -> InFlight {
    map.overlapping(within).filter_map(|extent| extent.ordered()).cloned().collect()
}

/// The ordered extent of a piece in flight.
pub(super) fn pair_of(piece: &Piece) -> Option<&Rc<OrderedExtent>> {
    match piece {
        Piece::Extent(extent) => extent.ordered(),
        Piece::Hole(_) => None,
    }
}

/// What the log says of a piece: what is in flight is what it is about to be.
pub(super) fn as_logged(piece: &Piece) -> LogRange {
    let Blocks { start: index, end } = piece.blocks();
    let (held, generation) = match piece {
        Piece::Hole(_) => (Held::Hole, 0),
        Piece::Extent(extent) => {
            let block = extent.block;
            let held = match &extent.state {
                ExtentState::Unwritten => Held::Unwritten { block },
                ExtentState::Written | ExtentState::Pending(_) => Held::Written { block },
            };
            (held, extent.generation.0)
        }
    };
    LogRange { index, len_blocks: end - index, held, generation }
}

/// Whether P0 logs what is in flight as if it were complete: never.
pub(super) fn logs_pending(fs: &Fs) -> bool {
    fs.defects().has(Defect::MmapWriteVsFsync) || fs.defects().has(Defect::FsyncSameFdPrivateFlag)
}

fn object(inode: &Inode) -> Object {
    Object::new(kind::INODE, inode.ino.0, 0)
}
