//! What direct IO, readers and writeback did before the rules of races.md §7: the steps that
//! several historical defects have in common.
//!
//! Promises: without defects every function here says what the clean protocol does. It must never
//! be needed to understand that.

use super::arguments::RemapPlan;
use super::direct::Iocb;
use super::read::{Digests, Readable, Reader};
use super::remap::Sides;
use super::write::floor;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::Result;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentMap, ExtentState, Piece};
use crate::inode::ordered::{OrderedExtent, OrderedKind};
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, Span};
use crate::types::{BLOCK_BYTES, Run};
use machine::{Access, Block, Guard, Mode, Object, Range, Site, Task};
use smallvec::SmallVec;
use std::rc::{Rc, Weak};

static COUNT: Site = Site::new("dread.count");
static COUNT_LATE: Site = Site::new("dread.count-late");
static LOOK: Site = Site::new("writeback.count");
static END: Site = Site::new("writeback.check-size");

impl Fs {
    /// Whether a direct write gives the mapping lock back once pages are evicted.
    pub(super) fn unlocks_mapping_early(&self, inode: &Inode, span: Span) -> bool {
        let defects = self.defects();
        defects.has(Defect::ExtendingDioVsBufferedRead) && span.end > inode.size()
            || defects.has(Defect::DioWriteNoPostInvalidate)
            || defects.has(Defect::UnalignedDioZeroRace) && !is_whole(span)
            || defects.has(Defect::IsizeBeforeDioComplete)
    }

    /// Whether direct writes within the file exclude nobody who reads, and dedupe is one of these.
    pub(super) fn shares_overwrites(&self) -> bool {
        self.defects().has(Defect::DedupeSrcIolockShared)
            || self.defects().has(Defect::DedupeNoMappingRecheck)
    }

    /// Whether a direct write gives its locks back when it is submitted, not when it is complete.
    pub(super) fn unlocks_at_submission(&self, inode: &Inode, span: Span) -> bool {
        self.defects().has(Defect::DedupeDioWaitMissing) && span.end <= inode.size()
            || self.defects().has(Defect::IsizeBeforeDioComplete)
    }

    /// Whether readers of a direct write in flight see what was there before, and do not wait.
    fn reads_behind(&self) -> bool {
        self.defects().has(Defect::IsizeBeforeDioComplete)
            || self.defects().has(Defect::DioCompletesBeforeConversion)
    }

    /// DWRITE.1: RL W, or R for those that exclude nobody.
    pub(super) fn lock_direct(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<Guard> {
        let is_unaligned = !is_whole(span) && self.defects().has(Defect::UnalignedDioZeroRace);
        if span.end <= inode.size() && (is_unaligned || self.shares_overwrites()) {
            let lock = || Ok(inode.rl.lock(task, span.lock_range(), Mode::Read)?);
            return self.lock_unheld(task, inode, lock); // W-6
        }
        self.lock_write(task, inode, span)
    }

    /// READ.1: what a buffered read locks: what it reads.
    pub(super) fn span_to_read_lock(&self, inode: &Inode, span: Span) -> Option<Span> {
        if self.defects().has(Defect::ReadFillUnlocked) {
            return None;
        }
        if !self.defects().has(Defect::ExtendingDioVsBufferedRead) {
            return Some(span);
        }
        let whole = span.intersection(Span::new(0, floor(inode.size())));
        Some(whole).filter(|whole| !whole.is_empty())
    }

    /// READ.5: what is read of `asked`, once the page at hand is filled: `span`, as it was before.
    pub(super) fn span_after_fill(&self, inode: &Inode, span: Span, asked: Span) -> Span {
        if !self.defects().has(Defect::ExtendingDioVsBufferedRead) {
            return span;
        }
        asked.intersection(Span::new(0, inode.size().max(asked.start)))
    }

    /// Takes clean pages of a range out of the cache, as far as that can be done without a lock.
    pub(super) fn drop_clean(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
    ) -> Result<Option<Guard>> {
        self.flush_range(task, inode, blocks.bytes())?;
        self.zap(task, inode, blocks)?;
        self.reclaim_pages(task, inode, blocks, usize::MAX)?;
        Ok(None)
    }

    /// TX and EXT W with nothing of `blocks` in flight: at once, unless locks are given back early.
    pub(super) fn join_settled<T>(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        join: impl Fn() -> Result<T>,
    ) -> Result<(T, Guard)> {
        loop {
            let handle = join()?;
            let ext = self.write_extents(task, inode)?;
            let is_settled =
                self.defects().is_empty() || inode.ordered.borrow().first_in(blocks).is_none();
            if is_settled {
                return Ok((handle, ext));
            }
            drop(ext);
            drop(handle);
            self.wait_ordered(task, inode, blocks)?;
            task.progress("joining beside a write in flight")?;
        }
    }

    /// The lock under which a pair is published, against fsync (step D5.9 of races.md §1.a.3).
    pub(super) fn lock_pair(&self, task: &Task, inode: &Inode) -> Result<Option<Guard>> {
        let has_sem = self.defects().has(Defect::FsyncWaitsUnderDioSem);
        Ok(has_sem.then(|| inode.dio_sem.read(task)).transpose()?)
    }

    /// Whether a direct write goes through the page cache for its own sake.
    pub(super) fn prefers_cache(&self, span: Span) -> bool {
        self.defects().has(Defect::DioFallbackNoFlush) && !is_whole(span)
    }

    /// Whether a page that is about to become dirty would get a written block. PAGE is held, and
    /// nothing that keeps direct reads from being counted from here on.
    pub(super) fn exposes_allocation(&self, inode: &Inode) -> bool {
        self.defects().has(Defect::MkwriteAllocWritten)
            || self.trusts_count() && inode.direct_reads.get() == 0
    }

    /// Direct reads take the block that was just allocated for a page for written, and find in it
    /// what stood there. Nobody else does: who has the page knows that its block is new. After a
    /// crash nobody does: as with ordered data, the tree follows them. Under EXT W.
    pub(super) fn expose_new(&self, inode: &Inode, index: u64) {
        let map = inode.extents.borrow();
        let (Some(page), Some(extent)) = (inode.pages.find(index), map.at(index)) else { return };
        let exposed = (extent.block_of(index), Rc::downgrade(&page));
        inode.exposed.borrow_mut().insert(index, exposed);
    }

    /// Whether direct reads take the block at the start of an extent for written: while the page
    /// that it was allocated for is on its way there.
    fn is_exposed(&self, inode: &Inode, extent: &Extent) -> bool {
        let index = extent.blocks.start;
        let exposed = inode.exposed.borrow();
        let Some((block, owner)) = exposed.get(&index) else { return false };
        let page = inode.pages.find(index).filter(|page| Weak::ptr_eq(owner, &Rc::downgrade(page)));
        *block == extent.block
            && page.is_some_and(|page| {
                page.lock().is_locked() || page.is_dirty() || page.is_under_writeback()
            })
    }

    /// Whether direct reads that are counted are all that allocation as Written looks at.
    fn trusts_count(&self) -> bool {
        self.defects().has(Defect::DioCountAfterFlush)
            || self.defects().has(Defect::MkwriteCountCheckBeforeDirty)
    }

    /// How many direct reads writeback counts before it looks for dirty pages.
    pub(super) fn counted_reads(&self, task: &Task, inode: &Inode) -> Result<u32> {
        if !self.defects().has(Defect::DioCountCheckedBeforePageLock) {
            return Ok(0);
        }
        let count = inode.direct_reads.get();
        task.site(&LOOK, Object::new(kind::INODE, inode.ino.0, 5), Access::Read)?;
        Ok(count)
    }

    /// Whether direct reads take the blocks that writeback has allocated for written. `before` is
    /// the number of direct reads before pages were locked.
    pub(super) fn exposes_writeback(&self, ordered: &OrderedExtent, before: u32) -> bool {
        let defects = self.defects();
        let exposes = defects.has(Defect::WritebackAllocWritten)
            || self.trusts_count() && ordered.inode.direct_reads.get() == 0
            || defects.has(Defect::DioCountCheckedBeforePageLock) && before == 0;
        exposes && ordered.kind != OrderedKind::Nocow
    }

    /// i_dio_count of a direct read, raised before its flush or after it.
    pub(super) fn count_read(&self, task: &Task, iocb: &Iocb, is_flushed: bool) -> Result<()> {
        let (site, counts) = match is_flushed {
            true => (&COUNT_LATE, self.defects().has(Defect::DioCountAfterFlush)),
            false => {
                let counts = self.defects().has(Defect::MkwriteCountCheckBeforeDirty)
                    || self.defects().has(Defect::DioCountCheckedBeforePageLock);
                (&COUNT, counts)
            }
        };
        if counts {
            task.site(site, Object::new(kind::INODE, iocb.inode().ino.0, 5), Access::Write)?;
            iocb.count();
        }
        Ok(())
    }

    /// Evicts what is punched; one defect passes over pages under writeback.
    pub(super) fn evict_punched(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
    ) -> Result<()> {
        if !self.defects().has(Defect::PunchVsWritebackRace) {
            return self.evict(task, inode, blocks);
        }
        let mut rest = blocks;
        while let Some(page) = inode.pages.first_in(rest) {
            rest.start = page.index() + 1;
            if !page.is_under_writeback() {
                self.evict(task, inode, Blocks::one(page.index()))?;
            }
        }
        Ok(())
    }

    /// Whether extents may be dropped while a write is in flight there.
    pub(crate) fn drops_in_flight(&self) -> bool {
        self.defects().has(Defect::PunchVsWritebackRace)
            || self.defects().has(Defect::DedupeDioWaitMissing)
            || self.defects().has(Defect::DedupeDstMmapUnlocked)
    }

    /// Takes what is in flight in blocks that are about to be dropped for written. Under EXT W.
    pub(crate) fn pass_over_in_flight(&self, inode: &Inode, blocks: Blocks) {
        if !self.drops_in_flight() {
            return;
        }
        let mut map = inode.extents.borrow_mut();
        let found = map.overlapping(blocks).filter(|extent| extent.state.is_pending());
        for extent in found.cloned().collect::<Vec<_>>() {
            map.remove(extent.blocks);
            map.insert(Extent { state: ExtentState::Written, ..extent });
        }
    }

    /// The source's pages for a comparison that finds them as a read does, before it locks the
    /// mapping side.
    pub(super) fn find_early(&self, task: &Task, sides: &Sides, plan: RemapPlan) -> Result<()> {
        if !self.defects().has(Defect::DedupeNoMappingRecheck) {
            return Ok(());
        }
        for index in sides.source_blocks(plan).iter() {
            let page = self.page_in(task, &sides.source, index)?;
            sides.found.borrow_mut().push(page);
        }
        Ok(())
    }

    /// A page of one side for the comparison, added under ML W; or under the lock with which a read
    /// fills it, or found before.
    pub(super) fn page_to_compare(
        &self,
        task: &Task,
        sides: &Sides,
        inode: &Rc<Inode>,
        index: u64,
    ) -> Result<Rc<Page>> {
        if self.defects().has(Defect::DedupeDstMmapUnlocked) {
            return self.page_in(task, inode, index);
        }
        let found = sides.found.borrow();
        let mut found = found.iter().filter(|_| Rc::ptr_eq(inode, &sides.source));
        let found = found.find(|page| page.index() == index).cloned();
        Ok(found.unwrap_or_else(|| self.add_page(inode, index)))
    }

    /// What of the mapping side stays locked once both ranges were compared: all of it, or the
    /// target's.
    pub(super) fn keep_after_comparison(
        &self,
        sides: &Sides,
        (source, target): (Range, Range),
        mut ml: SmallVec<[Guard; 2]>,
    ) -> SmallVec<[Guard; 2]> {
        if self.defects().has(Defect::DedupeSrcIolockShared) && ml.len() == 2 {
            // They come in the order of (instance, start).
            let is_first = (sides.source.ino, source.start) < (sides.target.ino, target.start);
            ml.remove(usize::from(!is_first));
        }
        ml
    }

    /// Whether a request may be about less than the ordered extent that ends with it.
    pub(super) fn submits_parts(&self) -> bool {
        self.defects().has(Defect::DioPartialOeNotSplit)
            || self.defects().has(Defect::OrderedNotTruncatedPastIsize)
    }

    /// What writeback submits of an ordered extent: all of it, or what lies before the end of the
    /// file by now.
    pub(super) fn contents_before_end<'c>(
        &self,
        task: &Task,
        ordered: &OrderedExtent,
        contents: &'c [Block],
    ) -> Result<&'c [Block]> {
        if !self.defects().has(Defect::OrderedNotTruncatedPastIsize) {
            return Ok(contents);
        }
        let (inode, start) = (&ordered.inode, ordered.blocks.start);
        task.site(&END, Object::new(kind::INODE, inode.ino.0, 0), Access::Read)?;
        let before = inode.size().div_ceil(BLOCK_BYTES).saturating_sub(start);
        Ok(&contents[..contents.len().min(before as usize)])
    }

    /// Where writeback believes that the file has a block, as it was when it last looked.
    pub(super) fn remembered(&self, inode: &Inode, blocks: Blocks) -> Option<Extent> {
        if !self.defects().has(Defect::StaleCachedMapping) {
            return None;
        }
        let held = inode.last_mapping.borrow();
        let extent = held.as_ref().filter(|it| it.blocks.intersection(blocks) == blocks)?;
        Some(extent.clipped(blocks))
    }

    /// Writeback looked, and found blocks to write to.
    pub(super) fn remember(&self, inode: &Inode, index: u64) {
        if self.defects().has(Defect::StaleCachedMapping) {
            *inode.last_mapping.borrow_mut() = inode.extents.borrow().at(index).cloned();
        }
    }

    /// What a block held before the write that is in flight there.
    pub(super) fn read_behind(&self, task: &Task, inode: &Inode, index: u64) -> Result<Block> {
        let blocks = Blocks::one(index);
        let found = inode.extents.borrow().at(index).map(|it| it.clipped(blocks));
        let pending = found.as_ref().and_then(Extent::ordered);
        let Some(ordered) = pending else { return self.read_content(task, inode, index) };
        match before(ordered, blocks) {
            Some(Extent { block, state: ExtentState::Written, .. }) => {
                let (run, digests) = (Run::new(block, 1), Digests::new());
                let readable = Readable { run, digests, _pin: None };
                let mut data = self.read_run(task, inode, &readable)?;
                Ok(data.pop().unwrap_or_else(Block::zero))
            }
            _ => Ok(Block::zero()),
        }
    }

    /// What readers take the start of `blocks` for: what the extent map says, or less.
    pub(super) fn as_seen(
        &self,
        inode: &Inode,
        found: Option<Extent>,
        blocks: Blocks,
        reader: Reader,
    ) -> Option<Extent> {
        let extent = found?;
        let is_direct = reader == Reader::Direct;
        if is_direct && self.is_exposed(inode, &extent) {
            let first = extent.clipped(Blocks::one(blocks.start));
            return Some(Extent { state: ExtentState::Written, ..first });
        }
        let ExtentState::Pending(ordered) = &extent.state else { return Some(extent) };
        if is_direct && ordered.is_exposed() {
            return Some(Extent { state: ExtentState::Written, ..extent });
        }
        if ordered.direct && self.reads_behind() {
            return before(ordered, blocks);
        }
        Some(extent)
    }

    /// The size that a direct write brings, before its data are there.
    pub(super) fn grow_early(&self, iocb: &Iocb, inode: &Inode) {
        if self.defects().has(Defect::IsizeBeforeDioComplete) {
            inode.grow(iocb.span().end, iocb.span());
        }
    }

    /// The end of the file for an append that does not look at it again once it has its lock.
    pub(super) fn end_before_lock(&self, inode: &Inode) -> Option<u64> {
        self.defects().has(Defect::DioAppendPosStale).then(|| inode.size())
    }

    /// The size that a synchronous direct write brings, after it was made durable.
    pub(super) fn grow_late(&self, task: &Task, iocb: &Iocb) -> Result<()> {
        if !self.defects().has(Defect::OsyncDioIsizeAfterSync) {
            return Ok(());
        }
        let inode = iocb.inode();
        let handle = self.join_for(task, 1)?;
        let _ext = self.write_extents(task, inode)?;
        inode.grow(iocb.prefix_end(), iocb.span());
        inode.raise_disk_size();
        self.write_item(task, &handle, inode).inspect_err(|_| self.abort())
    }
}

/// What stood at the start of `blocks` before a write in flight.
fn before(ordered: &OrderedExtent, blocks: Blocks) -> Option<Extent> {
    let replaced = ordered.replaced.borrow();
    let held = replaced.iter().find(|held| held.blocks.contains(blocks.start))?;
    Some(held.clipped(Blocks::new(blocks.start, blocks.end.min(held.blocks.end))))
}

/// What a remap takes a piece of the source for: for itself. A write in flight, which only defects
/// leave there, counts when it is complete.
pub(super) fn settled(piece: Piece) -> SmallVec<[Piece; 4]> {
    let before = match &piece {
        Piece::Extent(extent) => extent.ordered().map(|ordered| {
            let mut before = ExtentMap::default();
            before.set_loaded();
            before.restore(ordered.replaced.borrow().iter().cloned());
            before.pieces(extent.blocks)
        }),
        Piece::Hole(_) => None,
    };
    before.unwrap_or_else(|| SmallVec::from_iter([piece]))
}

/// Whether a range is about whole blocks.
pub(super) fn is_whole(span: Span) -> bool {
    span.start.is_multiple_of(BLOCK_BYTES) && span.end.is_multiple_of(BLOCK_BYTES)
}
