//! CLONE and DEDUPE: a range of one file gets the blocks of a range of another (races.md §7.4).
//!
//! Holes and unwritten extents of the source become holes of the target: blocks that hold no data
//! are never shared, so that whoever writes to them may do so in place.
//!
//! Promises: dedupe shares only what was equal under locks that keep it so; a clone in flight has
//! taken place up to some block, in every committed state; no two files are locked in a way that
//! another call could close to a circle. It must never know how blocks are counted.

use super::arguments::{RemapPlan, RemapRequest, plan_clone, plan_dedupe};
use super::historical::settled;
use super::writeback::Effort;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Errno, Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentState, Piece};
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, Span};
use crate::store::{ExtentKind, Handle};
use crate::types::{BLOCK_BYTES, TransactionId};
use machine::cell::RefCell;
use machine::{Access, Guard, Mode, Object, Range, RangeLock, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static FLUSH: Site = Site::new("remap.flush");
static COMPARE: Site = Site::new("remap.compare");
static EVICT: Site = Site::new("remap.evict");
static SHARE: Site = Site::new("remap.share");
static SIZE: Site = Site::new("remap.size");

/// How much one transaction shares at most.
#[derive(Clone, Copy)]
struct ChunkLimit {
    pieces: usize,
    blocks: u64,
}

/// What one transaction shares if there is room.
const LIMIT: ChunkLimit = ChunkLimit { pieces: 4, blocks: 1024 };

/// What one transaction shares if there is not.
const LEAST: ChunkLimit = ChunkLimit { pieces: 1, blocks: 2 };

/// What a dedupe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedupe {
    /// So many bytes were equal and are shared now: fewer than asked for, if a partial block at the
    /// end could not be (L3.10).
    Same(u64),
    /// Something was different; nothing is shared.
    Differs,
}

/// The two sides of a remap. They may be one file.
pub(super) struct Sides {
    pub(super) source: Rc<Inode>,
    pub(super) target: Rc<Inode>,
    source_offset: u64,
    target_offset: u64,
    /// Historical: pages of the source as they were found before it was locked against faults.
    pub(super) found: RefCell<Vec<Rc<Page>>>,
}

impl Sides {
    fn is_same_file(&self) -> bool {
        Rc::ptr_eq(&self.source, &self.target)
    }

    pub(super) fn source_blocks(&self, plan: RemapPlan) -> Blocks {
        let start = self.source_offset / BLOCK_BYTES;
        Blocks::new(start, start + plan.len_blocks)
    }

    fn target_blocks(&self, plan: RemapPlan) -> Blocks {
        let start = self.target_offset / BLOCK_BYTES;
        Blocks::new(start, start + plan.len_blocks)
    }

    /// Where blocks of the source come to lie in the target.
    fn target_of(&self, source: Blocks) -> Blocks {
        let start = source.start - self.source_offset / BLOCK_BYTES;
        let start = start + self.target_offset / BLOCK_BYTES;
        Blocks::new(start, start + source.len())
    }

    /// What is asked for, with the sizes as they are at this moment.
    fn request(&self, len: u64) -> RemapRequest {
        RemapRequest {
            source: self.source_offset,
            target: self.target_offset,
            len,
            source_size: self.source.size(),
            target_size: self.target.size(),
            same_file: self.is_same_file(),
        }
    }

    /// What a plan must lock: blocks; in a target that will grow, everything from its end on.
    fn ranges(&self, plan: RemapPlan) -> (Range, Range) {
        let source = self.source_blocks(plan).bytes().lock_range();
        let size = self.target.size();
        if self.target_offset + plan.len <= size {
            return (source, self.target_blocks(plan).bytes().lock_range());
        }
        (source, Span::from(self.target_offset.min(size)).lock_range())
    }

    /// Locks ranges of both files as one element of the queues: nobody holds one while it waits for
    /// the other.
    fn lock(
        &self,
        task: &Task,
        lock_of: impl Fn(&Inode) -> &RangeLock,
        (source, target): (Range, Range),
        source_mode: Mode,
    ) -> Result<SmallVec<[Guard; 2]>> {
        let wanted = [
            (lock_of(&self.source), source, source_mode),
            (lock_of(&self.target), target, Mode::Write),
        ];
        Ok(RangeLock::lock_many(task, &wanted)?)
    }

    /// Locks ranges of both files one after the other, the source's first.
    fn lock_in_turn(
        &self,
        task: &Task,
        (source, target): (Range, Range),
    ) -> Result<SmallVec<[Guard; 2]>> {
        let first = self.source.rl.lock(task, source, Mode::Write)?;
        Ok(SmallVec::from_buf([first, self.target.rl.lock(task, target, Mode::Write)?]))
    }
}

/// A plan with the locks under which it was made.
struct Locked {
    plan: RemapPlan,
    ranges: (Range, Range),
    _rl: SmallVec<[Guard; 2]>,
}

impl File {
    /// Lets `len` bytes of `target` from `target_offset` on share the blocks that this file has
    /// from `source_offset` on. A length of 0 means up to the end of this file.
    ///
    /// # Errors
    /// `EINVAL` as FICLONERANGE has it: starts and ends that are no multiple of the block size (but
    /// for the end of this file, unless the target goes on behind it), a range beyond the end of
    /// this file, ranges of one file that overlap. `EFBIG`, `NoSpace`; those of writeback and of
    /// trees.
    pub fn clone_range(
        &self,
        task: &Task,
        source_offset: u64,
        target: &File,
        target_offset: u64,
        len: u64,
    ) -> Result<()> {
        let sides = self.sides(source_offset, target, target_offset);
        self.fs().clone_range(task, &sides, len)
    }

    /// As [`clone_range`](Self::clone_range), if both ranges hold the same bytes; otherwise nothing
    /// changes.
    ///
    /// # Errors
    /// `EINVAL` as FIDEDUPERANGE has it; `NoSpace`; those of reading, of writeback and of trees.
    pub fn dedupe_range(
        &self,
        task: &Task,
        source_offset: u64,
        target: &File,
        target_offset: u64,
        len: u64,
    ) -> Result<Dedupe> {
        let sides = self.sides(source_offset, target, target_offset);
        self.fs().dedupe_range(task, &sides, len)
    }

    fn sides(&self, source_offset: u64, target: &File, target_offset: u64) -> Sides {
        let (source, target) = (self.inode().clone(), target.inode().clone());
        Sides { source, target, source_offset, target_offset, found: RefCell::default() }
    }
}

impl Fs {
    fn clone_range(&self, task: &Task, sides: &Sides, len: u64) -> Result<()> {
        check_flags(sides)?;
        // CLONE.1 to CLONE.3
        let locked = self.lock_remap(task, sides, || plan_clone(sides.request(len)))?;
        if locked.plan.len == 0 {
            return Ok(());
        }
        if !self.defects().has(Defect::CloneBeyondEofGapNotZeroed) {
            // what lies behind the end of the target is zero before it can be seen.
            self.clear_tail(task, &sides.target, sides.target_offset)?;
        }
        let _ml = self.lock_settled(task, sides, &locked)?; // CLONE.4, CLONE.5
        self.remap(task, sides, locked.plan) // CLONE.7, CLONE.8
    } // CLONE.9

    fn dedupe_range(&self, task: &Task, sides: &Sides, len: u64) -> Result<Dedupe> {
        check_flags(sides)?;
        let tail_rule = !self.defects().has(Defect::DedupeEofTailUnaligned); // L3.10
        let plan = || plan_dedupe(sides.request(len), tail_rule);
        let locked = self.lock_remap(task, sides, plan)?; // DEDUPE.1 to DEDUPE.3
        if locked.plan.len == 0 {
            return Ok(Dedupe::Same(0));
        }
        self.find_early(task, sides, locked.plan)?;
        let ml = self.lock_settled(task, sides, &locked)?; // DEDUPE.4, DEDUPE.5
        if !self.is_equal(task, sides, locked.plan)? {
            return Ok(Dedupe::Differs); // DEDUPE.6
        }
        let _ml = self.keep_after_comparison(sides, locked.ranges, ml);
        self.remap(task, sides, locked.plan)?; // DEDUPE.7, DEDUPE.8
        Ok(Dedupe::Same(locked.plan.len))
    } // DEDUPE.9

    /// CLONE.1 to CLONE.3: RL W of both ranges with no layout of either file left (W-6), and the
    /// plan as the sizes under these locks have it. What is locked depends on the sizes: if they
    /// have changed, once more.
    fn lock_remap(
        &self,
        task: &Task,
        sides: &Sides,
        plan: impl Fn() -> Result<RemapPlan>,
    ) -> Result<Locked> {
        const ALL: (Range, Range) = (Range::ALL, Range::ALL);
        let does_something = |plan: &RemapPlan| plan.len > 0;
        let mut ranges = plan().ok().filter(does_something).map_or(ALL, |it| sides.ranges(it));
        loop {
            let lock = || self.lock_ranges(task, sides, ranges);
            let rl = self.lock_sides_unheld(task, sides, lock)?; // CLONE.1, CLONE.2
            let plan = plan(); // CLONE.3
            if ranges == ALL {
                return Ok(Locked { plan: plan?, ranges, _rl: rl });
            }
            // Nothing to do, or a refusal, may be due to a size that a write in flight passes by.
            let needed = plan.as_ref().ok().filter(|it| does_something(it));
            let needed = needed.map_or(ALL, |it| sides.ranges(*it));
            if ranges.0.contains(&needed.0) && ranges.1.contains(&needed.1) {
                return Ok(Locked { plan: plan?, ranges, _rl: rl });
            }
            drop(rl);
            ranges = needed;
            task.progress("locking the ranges of a remap")?;
        }
    }

    /// CLONE.2.
    fn lock_ranges(
        &self,
        task: &Task,
        sides: &Sides,
        ranges: (Range, Range),
    ) -> Result<SmallVec<[Guard; 2]>> {
        if self.defects().has(Defect::TwoInodeLockOrderMixed) && !sides.is_same_file() {
            return sides.lock_in_turn(task, ranges);
        }
        let shares = self.options().remap_readers || self.shares_overwrites();
        let mode = if shares { Mode::Read } else { Mode::Write };
        sides.lock(task, |inode| &inode.rl, ranges, mode)
    }

    /// CLONE.4, then CLONE.5: no entry becomes writable, then what is dirty is written (L3.6).
    fn lock_settled(
        &self,
        task: &Task,
        sides: &Sides,
        locked: &Locked,
    ) -> Result<SmallVec<[Guard; 2]>> {
        let defects = self.defects();
        let settles_first = defects.has(Defect::DedupeFlushBeforeMmaplock);
        if settles_first {
            self.settle_sides(task, sides, locked.plan)?;
        }
        let shares = defects.has(Defect::DedupeSrcMmaplockShared);
        let mode = if shares { Mode::Read } else { Mode::Write };
        let ml = if defects.has(Defect::DedupeDstMmapUnlocked) {
            SmallVec::new()
        } else {
            sides.lock(task, |inode| &inode.ml, locked.ranges, mode)?
        };
        if !settles_first {
            self.settle_sides(task, sides, locked.plan)?;
        }
        Ok(ml)
    }

    /// CLONE.5: what is dirty is written, its entries are write-protected by that (P-4), and
    /// nothing is in flight. ML W keeps it so: b before e of the thread (L3.6).
    fn settle_sides(&self, task: &Task, sides: &Sides, plan: RemapPlan) -> Result<()> {
        let ranges = [
            (&sides.source, sides.source_blocks(plan)),
            (&sides.target, sides.target_blocks(plan)),
        ];
        for (inode, blocks) in ranges {
            task.site(&FLUSH, object(inode, blocks.start), Access::Write)?;
            if self.defects().has(Defect::ReflinkWritebackInPlace) {
                self.write_range(task, inode, blocks, Effort::Wait)?;
                continue;
            }
            self.flush_range(task, inode, blocks.bytes())?;
        }
        let waits = !self.defects().has(Defect::DedupeDioWaitMissing);
        for (inode, blocks) in ranges.into_iter().filter(|_| waits) {
            self.wait_ordered(task, inode, blocks)?;
            debug_assert!(
                inode.pages.first_unsettled(blocks).is_none() || !self.defects().is_empty(),
                "ML W keeps it clean"
            );
        }
        Ok(())
    }

    /// DEDUPE.6: whether both ranges hold the same bytes. ML W is held, so pages are filled without
    /// it (R3.7).
    fn is_equal(&self, task: &Task, sides: &Sides, plan: RemapPlan) -> Result<bool> {
        let (source, target) = (sides.source_blocks(plan), sides.target_blocks(plan));
        for (from, to) in source.iter().zip(target.iter()) {
            let done = (from - source.start) * BLOCK_BYTES;
            let len = (plan.len - done).min(BLOCK_BYTES) as usize;
            if !self.is_equal_block(task, sides, (from, to), len)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_equal_block(
        &self,
        task: &Task,
        sides: &Sides,
        (from, to): (u64, u64),
        len: usize,
    ) -> Result<bool> {
        let is_behind = self.defects().has(Defect::DedupeDioWaitMissing);
        let mut inodes = [&sides.source, &sides.target].into_iter();
        if is_behind || inodes.any(|inode| inode.errors.count() > 0) {
            // The cache may hold what the device failed to take, and the device is what is shared.
            return self.is_equal_content(task, sides, (from, to), len);
        }
        if self.defects().has(Defect::RemapFillTakesInvalidateLock) {
            self.page_in(task, &sides.source, from)?;
        }
        let left = self.page_to_compare(task, sides, &sides.source, from)?; // P-1: under ML W
        let right = self.page_to_compare(task, sides, &sides.target, to)?; // P-1: under ML W
        // In the order of (inode, index), each once: overlapping ranges were refused.
        let left_is_first = (sides.source.ino, from) < (sides.target.ino, to)
            || self.defects().has(Defect::DedupePageLockOrder);
        let (first, second) = if left_is_first { (&left, &right) } else { (&right, &left) };
        let _first = first.lock().lock(task)?;
        let _second = second.lock().lock(task)?;
        for (inode, page) in [(&sides.source, &left), (&sides.target, &right)] {
            if !page.is_attached() {
                if self.defects().has(Defect::DedupeNoMappingRecheck) && page.is_uptodate() {
                    continue;
                }
                // Reclaim took it before it was locked, or while it was.
                return self.is_equal_content(task, sides, (from, to), len);
            }
            self.fill_locked(task, inode, page)?;
        }
        task.site(&COMPARE, object(&sides.target, to), Access::Read)?;
        Ok(has_equal_bytes(&left, &right, len))
    }

    /// The comparison past the cache: ML W and the flush before it keep the device's content that
    /// of the files.
    fn is_equal_content(
        &self,
        task: &Task,
        sides: &Sides,
        (from, to): (u64, u64),
        len: usize,
    ) -> Result<bool> {
        let left = match self.defects().has(Defect::DedupeDioWaitMissing) {
            true => self.read_behind(task, &sides.source, from)?,
            false => self.read_content(task, &sides.source, from)?,
        };
        let right = self.read_content(task, &sides.target, to)?;
        Ok(left.bytes()[..len] == right.bytes()[..len])
    }

    /// CLONE.7 and CLONE.8.
    fn remap(&self, task: &Task, sides: &Sides, plan: RemapPlan) -> Result<()> {
        let (source, target) = (sides.source_blocks(plan), sides.target_blocks(plan));
        task.site(&EVICT, object(&sides.target, target.start), Access::Write)?;
        if !self.defects().has(Defect::RemapDstPagecacheStale) {
            self.evict(task, &sides.target, target)?; // CLONE.7, P-5
        }
        let mut rest = source;
        while !rest.is_empty() {
            task.site(&SHARE, object(&sides.target, target.start), Access::Write)?;
            rest.start = self.share_chunk(task, sides, plan, rest)?; // CLONE.8
        }
        Ok(())
    }

    /// CLONE.8: shares the start of the blocks `rest` of the source, in one transaction. Tells
    /// where the next one begins.
    fn share_chunk(
        &self,
        task: &Task,
        sides: &Sides,
        plan: RemapPlan,
        rest: Blocks,
    ) -> Result<u64> {
        let (handle, limit) = self.join_shares(task, sides, rest)?;
        let _ext = self.write_both(task, sides)?;
        let pieces = pieces_of(&sides.source, rest, limit);
        let mut next = rest.start;
        let mut shared = Ok(());
        for piece in &pieces {
            shared = self.share_piece(task, &handle, sides, piece);
            if shared.is_err() {
                break;
            }
            next = piece.blocks().end;
        }
        let mut done = (next * BLOCK_BYTES - sides.source_offset).min(plan.len);
        let is_hole = matches!(pieces.last(), Some(Piece::Hole(_)));
        if is_hole && self.defects().has(Defect::CloneLostIsize) {
            done = 0;
        }
        // What was shared cannot be refused any more.
        handle
            .irrevocably(|| self.end_chunk(task, &handle, sides, sides.target_offset + done))
            .inspect_err(|_| self.abort())?;
        shared.map(|()| next)
    }

    /// Joins for sharing the start of `rest`: as much as there is room for. RL W and ML W keep what
    /// is looked at here.
    fn join_shares(
        &self,
        task: &Task,
        sides: &Sides,
        rest: Blocks,
    ) -> Result<(Handle, ChunkLimit)> {
        if self.defects().has(Defect::RemapReserveUnderRangeLock) {
            let _ext = self.write_both(task, sides)?;
            self.make_room(task)?;
        }
        let joined = self.join_for(task, self.changes_of_shares(task, sides, rest, LIMIT)?);
        if !matches!(joined, Err(Error::NoSpace { .. })) {
            return Ok((joined?, LIMIT));
        }
        let changes = self.changes_of_shares(task, sides, rest, LEAST)?;
        Ok((self.join_for(task, changes)?, LEAST))
    }

    /// Changes of items that sharing takes at most, but for those of reference counts of the
    /// source: of extents, of what is dropped in the target, of the inode.
    fn changes_of_shares(
        &self,
        task: &Task,
        sides: &Sides,
        rest: Blocks,
        limit: ChunkLimit,
    ) -> Result<u64> {
        let (pieces, end) = {
            let _ext = self.read_extents(task, &sides.source)?;
            let pieces = pieces_of(&sides.source, rest, limit);
            (pieces.len() as u64, pieces.last().map_or(rest.start, |piece| piece.blocks().end))
        };
        let _ext = self.read_extents(task, &sides.target)?;
        let target = sides.target_of(Blocks::new(rest.start, end));
        let dropped = sides.target.extents.borrow().overlapping(target).count() as u64;
        Ok(2 * pieces + 4 * dropped + self.store().metadata_for(target.len()) + 2)
    }

    /// The size of the target follows what is shared: what lies behind it is never another file's.
    fn end_chunk(&self, task: &Task, handle: &Handle, sides: &Sides, end: u64) -> Result<()> {
        let target = &sides.target;
        task.site(&SIZE, object(target, 0), Access::Write)?;
        let old = target.size();
        let mut kept = Span::new(old, old);
        if self.defects().has(Defect::CloneBeyondEofGapNotZeroed) {
            kept.end = end.max(old);
        }
        target.grow(end, kept); // what it exposes is there
        target.raise_disk_size();
        self.write_item(task, handle, target)
    }

    /// EXT W of both files, by number.
    fn write_both(&self, task: &Task, sides: &Sides) -> Result<SmallVec<[Guard; 2]>> {
        let (source, target) = (&sides.source, &sides.target);
        let order = if source.ino < target.ino { [source, target] } else { [target, source] };
        let mut guards = SmallVec::new();
        guards.push(self.write_extents(task, order[0])?);
        if !sides.is_same_file() {
            guards.push(self.write_extents(task, order[1])?);
        }
        Ok(guards)
    }

    /// Gives the target a piece of the source. Under EXT W of both.
    fn share_piece(
        &self,
        task: &Task,
        handle: &Handle,
        sides: &Sides,
        piece: &Piece,
    ) -> Result<()> {
        let to = sides.target_of(piece.blocks());
        let target = &sides.target;
        let data = match piece {
            Piece::Extent(extent) => data_of(extent),
            Piece::Hole(_) => None,
        };
        let Some(extent) = data else {
            let dropped = handle.irrevocably(|| self.drop_extents(task, handle, target, to));
            if self.defects().has(Defect::CloneHoleNotLogged) {
                target.log.take_ranges(TransactionId(handle.generation()), to);
            }
            return dropped.map(|_| ()).inspect_err(|_| self.abort());
        };
        if is_shared_already(target, to, extent) {
            return Ok(());
        }
        // The source's reference first: the target may hold the only other one.
        self.store().share_data(task, handle, extent.run())?;
        let before: SmallVec<[Extent; 2]> = {
            let map = target.extents.borrow();
            map.overlapping(to).map(|held| held.clipped(to)).collect()
        };
        let replace = || {
            self.drop_extents(task, handle, target, to)?;
            let kind = ExtentKind::Written;
            self.insert_extent(task, handle, target, to, extent.block, kind)
                .inspect_err(|_| target.extents.borrow_mut().restore(before))
        };
        // The reference is there: the rest cannot be refused any more.
        handle.irrevocably(replace).inspect_err(|_| self.abort())?;
        if self.defects().has(Defect::CloneFsyncMissingEm) {
            target.log.take_ranges(TransactionId(handle.generation()), to);
        }
        Ok(())
    }
}

/// Both files keep checksums, or none does: they belong to the blocks.
fn check_flags(sides: &Sides) -> Result<()> {
    if sides.source.has_datasum() != sides.target.has_datasum() {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

fn object(inode: &Inode, block: u64) -> Object {
    Object::new(kind::INODE, inode.ino.0, block)
}

/// The start of `rest` as the extent map has it, up to a limit. Under EXT.
fn pieces_of(source: &Inode, rest: Blocks, limit: ChunkLimit) -> SmallVec<[Piece; 4]> {
    let part = Blocks::new(rest.start, rest.end.min(rest.start + limit.blocks));
    let pieces = source.extents.borrow().pieces(part);
    pieces.into_iter().flat_map(settled).take(limit.pieces).collect()
}

/// An extent whose blocks hold data. Nothing is in flight any more.
fn data_of(extent: &Extent) -> Option<&Extent> {
    matches!(extent.state, ExtentState::Written).then_some(extent)
}

fn is_shared_already(target: &Inode, to: Blocks, extent: &Extent) -> bool {
    let map = target.extents.borrow();
    let held = map.at(to.start).filter(|held| matches!(held.state, ExtentState::Written));
    held.is_some_and(|held| {
        held.blocks.intersection(to) == to && held.block_of(to.start) == extent.block
    })
}

fn has_equal_bytes(left: &Page, right: &Page, len: usize) -> bool {
    debug_assert!(left.is_uptodate() && right.is_uptodate(), "L3.3: filled under ML W");
    left.data().bytes()[..len] == right.data().bytes()[..len]
}
