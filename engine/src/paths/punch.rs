//! PUNCH and ZERO: a range of a file reads as zeros afterwards (races.md §7.4).
//!
//! ZERO differs in its last steps: it gives the range blocks again. The blocks that the file has
//! are not made unwritten in place: the last commit still calls them written, and what is written
//! to unwritten blocks goes there at once.
//!
//! Promises: nobody sees a block of the range between its eviction and the end of its extents (ML W
//! covers both); after an error the range holds old content or zeros, block by block. It must never
//! know names.

use super::arguments::check_allocation;
use super::chunk::Chunk;
use super::writeback::Effort;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::Result;
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::extents::ExtentState;
use crate::inode::span::{Blocks, Span};
use crate::store::{Handle, Reserve};
use crate::types::BLOCK_BYTES;
use machine::{Access, Guard, Mode, Object, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static EDGES: Site = Site::new("punch.edges");
static EVICT: Site = Site::new("punch.evict");
static WAIT_ORDERED: Site = Site::new("punch.wait-ordered");
static DROP: Site = Site::new("punch.drop");

/// Parts of a range, in order.
type Ranges = SmallVec<[Blocks; 4]>;

/// A range to be zeroed: bytes of blocks that stay, and whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    /// The end of the block that the range begins in.
    head: Span,
    /// Blocks without anything else.
    whole: Blocks,
    /// The start of the block that the range ends in.
    tail: Span,
}

impl Parts {
    /// The parts of a range, for a file of `size` bytes. Behind the end of the file nothing is
    /// worth keeping: a range that reaches it has its last block whole.
    fn of(span: Span, size: u64) -> Parts {
        let end = if span.end >= size { span.end.next_multiple_of(BLOCK_BYTES) } else { span.end };
        let whole = Span::new(span.start, end).whole_blocks();
        let limit = |from: u64, to: u64| Span::new(from, to.min(size).max(from));
        let first_end = span.start.next_multiple_of(BLOCK_BYTES);
        if first_end > end {
            // All of it lies within one block.
            let nothing = Span::new(end, end);
            return Parts { head: limit(span.start, end), whole, tail: nothing };
        }
        let tail = limit(end / BLOCK_BYTES * BLOCK_BYTES, end);
        Parts { head: limit(span.start, first_end), whole, tail }
    }
}

impl File {
    /// Makes a range a hole. The size stays.
    ///
    /// # Errors
    /// `EINVAL` for an empty span, `EFBIG`, `NoSpace` for the blocks at its edges; those of reading
    /// these and of trees.
    pub fn punch(&self, task: &Task, span: Span) -> Result<()> {
        check_allocation(span)?;
        self.fs().punch(task, self.inode(), span)
    }

    /// Makes a range zeros that have a place on the device. Unless `keep_size`, the file reaches to
    /// the end of `span` afterwards at least.
    ///
    /// # Errors
    /// As [`punch`](Self::punch); `NoSpace` for all of it.
    pub fn zero_range(&self, task: &Task, span: Span, keep_size: bool) -> Result<()> {
        check_allocation(span)?;
        self.fs().zero_range(task, self.inode(), span, keep_size)
    }
}

impl Fs {
    fn punch(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let lock = || Ok(inode.rl.lock(task, span.lock_range(), Mode::Write)?);
        let _rl = self.lock_unheld(task, inode, lock)?; // PUNCH.1, PUNCH.2, W-6
        let parts = Parts::of(span, inode.size());
        self.make_room(task)?; // W-5: only RL is held
        let ml = self.lock_punched(task, inode, span)?; // PUNCH.3
        self.clear_range(task, inode, parts)?; // PUNCH.4, PUNCH.5
        let _ml = ml.filter(|_| !self.defects().has(Defect::PunchUnlockBeforeExtentFree));
        if self.defects().has(Defect::PunchDelallocNeighbourStale) {
            self.forget_neighbour(task, inode, parts, span);
        }
        self.drop_range(task, inode, parts.whole) // PUNCH.6
    } // PUNCH.7: -ML -RL

    /// PUNCH.3.
    fn lock_punched(&self, task: &Task, inode: &Inode, span: Span) -> Result<Option<Guard>> {
        if self.defects().has(Defect::PunchNoInvalidateLock) {
            return Ok(None);
        }
        Ok(Some(inode.ml.lock(task, span.lock_range(), Mode::Write)?))
    }

    /// Takes what waits to be allocated for the block behind a range of whole blocks, and parts of
    /// others, as if it were allocated and written.
    fn forget_neighbour(&self, task: &Task, inode: &Inode, parts: Parts, span: Span) {
        let page = inode.pages.find(span.blocks().end).filter(|page| page.is_reserved());
        if let Some(page) = page.filter(|_| !parts.whole.is_empty())
            && let Some(_locked) = page.lock().try_lock(task)
        {
            inode.pages.clear_dirty(&page);
            page.drop_reserve();
        }
    }

    fn zero_range(&self, task: &Task, inode: &Rc<Inode>, span: Span, keep: bool) -> Result<()> {
        let rl = self.lock_allocation(task, inode, span, keep)?; // ZERO.1, ZERO.2
        if !keep {
            self.clear_tail(task, inode, span.end)?;
        }
        let parts = Parts::of(span, inode.size());
        let reserve = self.reserve_zeros(task, inode, span.blocks())?; // W-5: only RL is held
        let _ml = inode.ml.lock(task, rl.range(), Mode::Write)?; // ZERO.3
        self.clear_range(task, inode, parts)?; // ZERO.4, ZERO.5
        for written in self.written_in(task, inode, parts.whole)? {
            self.drop_range(task, inode, written)?; // ZERO.6
        }
        let size = if keep { 0 } else { span.end };
        self.allocate_range(task, inode, span.blocks(), size, reserve) // ZERO.6
    } // ZERO.7

    /// PUNCH.4 and PUNCH.5: nothing of the range is cached or in flight any more. RL W and ML W are
    /// held.
    ///
    /// Dirty pages are written, not dropped: until PUNCH.6 a commit would show what they replace.
    fn clear_range(&self, task: &Task, inode: &Rc<Inode>, parts: Parts) -> Result<()> {
        task.site(&EDGES, object(inode, parts.whole.start), Access::Write)?;
        self.write_range(task, inode, parts.whole, Effort::Wait)?; // PUNCH.4
        for edge in [parts.head, parts.tail] {
            let page = inode.pages.find(edge.start / BLOCK_BYTES);
            let is_kept = self.defects().has(Defect::ZeroRangePartialStale)
                && page.is_some_and(|page| page.is_dirty());
            if !is_kept {
                self.zero_partial(task, inode, edge)?; // PUNCH.4
            }
        }
        task.site(&EVICT, object(inode, parts.whole.start), Access::Write)?;
        self.evict_punched(task, inode, parts.whole)?; // PUNCH.5, P-5
        if self.defects().has(Defect::PunchVsWritebackRace) {
            return Ok(());
        }
        task.site(&WAIT_ORDERED, object(inode, parts.whole.start), Access::Acquire)?;
        self.wait_ordered(task, inode, parts.whole) // PUNCH.5
    }

    /// PUNCH.6: drops the extents of a range, chunk by chunk. RL W and ML W are held, nothing of
    /// the range is cached or in flight.
    fn drop_range(&self, task: &Task, inode: &Rc<Inode>, range: Blocks) -> Result<()> {
        let mut rest = range;
        loop {
            task.site(&DROP, object(inode, rest.start), Access::Write)?;
            let (handle, chunk) = self.join_chunk(task, inode, rest)?;
            let _ext = self.write_extents(task, inode)?;
            let dropped = self.punch_chunk(task, &handle, inode, chunk);
            dropped.inspect_err(|_| self.abort())?;
            rest.end = chunk.range.start;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// One chunk, in one transaction. Under EXT W.
    fn punch_chunk(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Rc<Inode>,
        chunk: Chunk,
    ) -> Result<()> {
        if !chunk.range.is_empty() {
            self.drop_extents(task, handle, inode, chunk.range)?;
        }
        inode.raise_disk_size(); // what delayed it may have been evicted
        self.write_item(task, handle, inode)
    }

    /// What has to be dropped before a range is unwritten or a hole.
    fn written_in(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<Ranges> {
        let _ext = self.read_extents(task, inode)?;
        let map = inode.extents.borrow();
        let written = map.overlapping(blocks).filter(|extent| !is_unwritten(&extent.state));
        Ok(written.map(|extent| extent.blocks.intersection(blocks)).collect())
    }

    /// Space for what ZERO allocates: for holes, and for data that it replaces.
    fn reserve_zeros(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<Reserve> {
        let wanted = {
            let _ext = self.read_extents(task, inode)?;
            let map = inode.extents.borrow();
            let kept = map.overlapping(blocks).filter(|extent| is_unwritten(&extent.state));
            let kept = kept.map(|extent| extent.blocks.intersection(blocks).len());
            blocks.len() - kept.sum::<u64>()
        };
        self.reserve_blocks(task, wanted)
    }
}

fn is_unwritten(state: &ExtentState) -> bool {
    matches!(state, ExtentState::Unwritten)
}

fn object(inode: &Inode, block: u64) -> Object {
    Object::new(kind::INODE, inode.ino.0, block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_within_the_file() {
        const B: u64 = BLOCK_BYTES;
        let parts = |start, end, size| {
            let Parts { head, whole, tail } = Parts::of(Span::new(start, end), size);
            ((head.start, head.len()), (whole.start, whole.len()), (tail.start, tail.len()))
        };
        assert_eq!(parts(100, 200, 9 * B), ((100, 100), (1, 0), (200, 0)), "within a block");
        assert_eq!(parts(B, 2 * B, 9 * B), ((B, 0), (1, 1), (2 * B, 0)), "one block");
        assert_eq!(parts(100, 2 * B + 9, 9 * B), ((100, B - 100), (1, 1), (2 * B, 9)));
        assert_eq!(parts(B, 2 * B + 9, 2 * B + 5), ((B, 0), (1, 2), (3 * B, 0)), "to the end");
        assert_eq!(parts(100, B + 9, 50), ((100, 0), (1, 1), (2 * B, 0)), "behind the end");
        assert_eq!(parts(100, 200, 150), ((100, 50), (1, 0), (B, 0)), "to the end in a block");
        assert_eq!(parts(0, 200, 150), ((0, 0), (0, 1), (B, 0)), "all that there is");
    }
}
