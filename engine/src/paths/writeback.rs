//! WB: dirty pages become ordered extents in flight (races.md §7.4).
//!
//! Promises: W-1, no RL, ML, MM or LOGI is taken; P-3 and P-4, a page goes from dirty to writeback
//! with its entries write-protected and its content frozen. What cannot be written is lost as on
//! Linux: the page becomes clean, and the error is kept for whoever asks (fsync). It must never
//! know why it was called.

use super::write::digests_of;
use crate::classes::{OEWAIT, WBWAIT, kind};
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentState, Piece};
use crate::inode::ordered::{OrderedExtent, OrderedKind, OrderedPlan};
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, Span};
use crate::store::{Handle, Join, Reserve};
use crate::types::{BLOCK_BYTES, Run};
use machine::disk::{Data, Note, Request};
use machine::{Access, Block, DeviceId, Guard, IOWAIT, Object, Server, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static GATHER: Site = Site::new("writeback.gather");
static START: Site = Site::new("writeback.start");
static PUBLISH: Site = Site::new("writeback.publish");
static CSUM: Site = Site::new("writeback.csum");

/// Pages of one batch: what is locked at once.
const BATCH_MAX: usize = 64;

/// Whether writeback waits for locks and for earlier writeback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// It waits: everything that is dirty now is written.
    Wait,
    /// It skips what it would have to wait for, as the flusher does.
    Try,
}

/// Pieces of a batch, with whether each is written in place.
type Placed = SmallVec<[(Piece, bool); 4]>;

/// Locked pages on their way, in order and without a gap.
struct Batch {
    pages: SmallVec<[(Rc<Page>, Guard); 8]>,
    contents: SmallVec<[Block; 8]>,
    /// Historical: direct reads in flight before any page was locked.
    direct_reads: u32,
}

impl Batch {
    fn blocks(&self) -> Blocks {
        let start = self.pages[0].0.index();
        Blocks::new(start, start + self.pages.len() as u64)
    }

    fn contents_of(&self, blocks: Blocks) -> &[Block] {
        let start = self.blocks().start;
        &self.contents[(blocks.start - start) as usize..(blocks.end - start) as usize]
    }

    /// Takes what was set aside for the pages of `blocks`.
    fn take_reserves(&self, blocks: Blocks) -> Option<Reserve> {
        let pages = self.pages.iter().filter(|(page, _)| blocks.contains(page.index()));
        pages.filter_map(|(page, _)| page.take_reserve()).reduce(|all, more| {
            all.absorb(&more);
            all
        })
    }

    /// Sets it aside again, for the pages from the one at `index` on; after the last one nobody
    /// needs it.
    fn put_reserve(&self, index: u64, reserve: Reserve) {
        let Some((page, _)) = self.pages.get((index - self.blocks().start) as usize) else {
            return;
        };
        if let Some(held) = page.take_reserve() {
            reserve.absorb(&held);
        }
        page.set_reserve(reserve);
    }
}

/// What of a batch was published.
#[derive(Default)]
struct Published {
    ordered: SmallVec<[Rc<OrderedExtent>; 2]>,
    /// It ended where others have been promised what there is: after a commit they are complete.
    waits_for_others: bool,
}

/// How a publication goes about what its completion will need of a device that may be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Long pieces, with all that they may need promised.
    Plenty,
    /// After a commit, which gives back what copies of nodes took: block by block.
    Short,
    /// Even that did not help: one block, after as many commits as end what others were promised.
    Last,
}

impl Room {
    /// What is left to try after a commit.
    pub(crate) fn after_a_commit(self, has_progressed: bool) -> Room {
        match self {
            Room::Plenty => Room::Short,
            Room::Short if has_progressed => Room::Short,
            Room::Short | Room::Last => Room::Last,
        }
    }

    /// What to publish of `blocks` in one piece.
    pub(crate) fn part_of(self, blocks: Blocks) -> Blocks {
        let most = if self == Room::Plenty { u64::MAX } else { 1 };
        Blocks::new(blocks.start, blocks.end.min(blocks.start.saturating_add(most)))
    }

    /// What the completion of a piece of writeback may use. It waits for others who have been
    /// promised what there is; if nobody has, and still there is too little, as on a device whose
    /// free space is counted wrongly, it goes without: its data have nowhere else to be.
    ///
    /// # Errors
    /// `NoSpace`.
    fn promise(self, fs: &Fs, blocks: u64) -> Result<Option<Reserve>> {
        match fs.store().reserve_completion(blocks) {
            Err(Error::NoSpace { .. }) if self == Room::Last && !fs.store().has_promises() => {
                Ok(None)
            }
            promise => promise.map(Some),
        }
    }
}

impl Fs {
    /// Writes the dirty pages of a range and waits until they are part of the file.
    ///
    /// # Errors
    /// What writeback failed with meanwhile; it stays to be reported by fsync. `Stopped`.
    pub fn flush_range(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let before = inode.errors.count();
        self.write_range(task, inode, span.blocks(), Effort::Wait)?;
        self.wait_writeback(task, inode, span.blocks())?;
        match inode.errors.last().filter(|_| inode.errors.count() != before) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Begins to write the dirty pages of a range, each once.
    ///
    /// # Errors
    /// `Stopped`; other errors are kept in the inode.
    pub fn write_range(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        effort: Effort,
    ) -> Result<()> {
        let direct_reads = self.counted_reads(task, inode)?;
        let mut rest = blocks;
        while let Some(index) = inode.pages.first_dirty(rest) {
            rest = Blocks::new(index, blocks.end);
            let batch = self.gather(task, inode, rest, effort, direct_reads)?; // WB.1
            rest.start = index + batch.pages.len().max(1) as u64;
            if !batch.pages.is_empty() {
                self.write_batch(task, inode, batch)?;
            }
        }
        Ok(())
    }

    /// WB.1: locks the dirty pages from the start of `blocks` on, in order, until one is not dirty
    /// or cannot be had.
    fn gather(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        effort: Effort,
        direct_reads: u32,
    ) -> Result<Batch> {
        let mut batch = Batch { pages: SmallVec::new(), contents: SmallVec::new(), direct_reads };
        for index in blocks.iter().take(BATCH_MAX) {
            let Some(page) = inode.pages.find(index).filter(|page| page.is_dirty()) else { break };
            task.site(&GATHER, Object::new(kind::PAGE, inode.ino.0, index), Access::Write)?;
            let locked = match effort {
                Effort::Wait => Some(page.lock().lock(task)?),
                Effort::Try => page.lock().try_lock(task),
            };
            let Some(locked) = locked else { break };
            if !page.is_attached() || !page.is_dirty() {
                break;
            }
            if page.is_under_writeback() {
                if effort == Effort::Try || !batch.pages.is_empty() {
                    break;
                }
                self.wait_page(task, inode, &page)?;
            }
            if index * BLOCK_BYTES >= inode.size() {
                // A truncate has lowered the size and will evict it: nothing to write.
                self.write_protect(task, inode, Blocks::one(index))?; // P-4
                inode.pages.clear_dirty(&page);
                page.drop_reserve();
                break;
            }
            batch.pages.push((page, locked));
        }
        Ok(batch)
    }

    fn write_batch(&self, task: &Task, inode: &Rc<Inode>, mut batch: Batch) -> Result<()> {
        self.start_writeback(task, inode, &mut batch)?; // WB.2
        let mut room = Room::Plenty;
        let mut rest = batch.blocks();
        while !rest.is_empty() {
            let mut published = Published::default();
            let result = self.publish(task, inode, &batch, rest, room, &mut published); // WB.3-5
            for ordered in &published.ordered {
                let contents = batch.contents_of(ordered.blocks);
                let contents = self.contents_before_end(task, ordered, contents)?;
                self.submit_ordered(task, ordered, contents)?; // WB.6
                rest.start = ordered.blocks.end;
            }
            let result = match result {
                Err(Error::NoSpace { .. }) if room != Room::Last || published.waits_for_others => {
                    if published.ordered.is_empty() {
                        task.progress("placing dirty pages")?;
                    }
                    room = room.after_a_commit(!published.ordered.is_empty());
                    self.store().commit(task) // it waits for what was submitted, and takes no PAGE
                }
                other => other,
            };
            match result {
                Ok(()) => {}
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => {
                    self.give_up(inode, &batch, rest, error);
                    break;
                }
            }
        }
        Ok(()) // WB.7: the batch unlocks its pages
    }

    /// WB.2: write-protects, then dirty becomes writeback and the content is frozen.
    fn start_writeback(&self, task: &Task, inode: &Inode, batch: &mut Batch) -> Result<()> {
        let blocks = batch.blocks();
        self.write_protect(task, inode, blocks)?; // P-4: before the page is clean
        task.site(&START, Object::new(kind::PAGE, inode.ino.0, blocks.start), Access::Write)?;
        let size = inode.size();
        for (page, _) in &batch.pages {
            // what lies behind the end of the file is zero on the device.
            let start = page.index() * BLOCK_BYTES;
            if size > start && size - start < BLOCK_BYTES {
                page.change(|bytes| bytes[(size - start) as usize..].fill(0));
            }
            inode.pages.start_writeback(page); // P-3
            batch.contents.push(page.freeze()); // stable from here on
        }
        Ok(())
    }

    /// WB.3 to WB.5: gives every block of `blocks` a place and publishes the ordered extents, from
    /// the first one on.
    fn publish(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        batch: &Batch,
        blocks: Blocks,
        room: Room,
        published: &mut Published,
    ) -> Result<()> {
        let early = self.place_early(task, inode, blocks)?;
        let join = || self.store().join(task, Join::User);
        let (handle, _ext) = self.join_settled(task, inode, blocks, join)?; // WB.3, WB.4
        let placed = match early {
            Some(placed) => placed,
            None => self.place(task, inode, blocks)?,
        };
        for (piece, is_in_place) in placed {
            let mut rest = piece.blocks();
            while !rest.is_empty() {
                let part = room.part_of(rest);
                let promise = room
                    .promise(self, part.len())
                    .inspect_err(|_| published.waits_for_others = self.store().has_promises())?;
                let plan = match &piece {
                    Piece::Extent(extent) if is_in_place => in_place_plan(&extent.clipped(part)),
                    _ => {
                        let run = self.allocate_for(task, &handle, inode, batch, part)?;
                        let blocks = Blocks::new(part.start, part.start + run.len_blocks);
                        let (kind, block) = (OrderedKind::Cow, run.block);
                        OrderedPlan { blocks, block, kind, direct: false, iocb: None }
                    }
                };
                let growth = self.take_growth(batch, part, plan.blocks);
                rest.start = plan.blocks.end;
                let object = Object::new(kind::ORDERED, inode.ino.0, plan.blocks.start);
                task.site(&PUBLISH, object, Access::Write)?;
                let ordered = self.publish_pending(task, &handle, inode, plan)?;
                *ordered.reserve.borrow_mut() = promise;
                *ordered.growth.borrow_mut() = growth;
                if self.exposes_writeback(&ordered, batch.direct_reads) {
                    ordered.expose();
                }
                if self.defects().has(Defect::AllocWrittenCrash) {
                    self.settle_early(task, &handle, &ordered, batch)?;
                }
                published.ordered.push(ordered);
            }
        }
        Ok(()) // WB.5: -EXT -TX
    }

    /// Makes what is about to be written part of the file at once.
    fn settle_early(
        &self,
        task: &Task,
        handle: &Handle,
        ordered: &OrderedExtent,
        batch: &Batch,
    ) -> Result<()> {
        let contents = batch.contents_of(ordered.blocks);
        *ordered.digests.borrow_mut() = digests_of(&ordered.inode, contents);
        self.settle_in(task, handle, ordered)
    }

    /// What writeback decides before it has the locks under which it is so.
    fn place_early(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<Option<Placed>> {
        if !self.defects().has(Defect::ReflinkWritebackInPlace) {
            return Ok(None);
        }
        let _ext = self.read_extents(task, inode)?;
        self.place(task, inode, blocks).map(Some)
    }

    /// Pieces with whether each is written to the blocks that the file has; cut where that changes,
    /// as it was decided block by block when the pages became dirty. Under EXT.
    fn place(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<Placed> {
        let pieces = inode.extents.borrow().pieces(blocks);
        let mut placed = Placed::new();
        if let Some(extent) = self.remembered(inode, blocks) {
            placed.push((Piece::Extent(extent), true));
            return Ok(placed);
        }
        for piece in pieces {
            let Piece::Extent(extent) = &piece else {
                placed.push((piece, false));
                continue;
            };
            let is_in_place = self.is_overwritable(task, inode, extent)?;
            if is_in_place {
                self.remember(inode, extent.blocks.start);
            }
            let is_cow = inode.has_datacow() && !matches!(extent.state, ExtentState::Unwritten);
            if is_in_place || is_cow || extent.blocks.len() == 1 {
                placed.push((piece, is_in_place));
                continue;
            }
            let mut start = extent.blocks.start;
            let mut is_in_place = self.writes_in_place(task, inode, start)?;
            for index in extent.blocks.start + 1..extent.blocks.end {
                let next = self.writes_in_place(task, inode, index)?;
                if next != is_in_place {
                    let part = extent.clipped(Blocks::new(start, index));
                    placed.push((Piece::Extent(part), is_in_place));
                    (start, is_in_place) = (index, next);
                }
            }
            let part = extent.clipped(Blocks::new(start, extent.blocks.end));
            placed.push((Piece::Extent(part), is_in_place));
        }
        Ok(placed)
    }

    /// New blocks for the start of `blocks`, from what was set aside when the pages became dirty.
    fn allocate_for(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        batch: &Batch,
        blocks: Blocks,
    ) -> Result<Run> {
        let hint = self.hint_for(inode, blocks.start);
        let reserve = batch.take_reserves(blocks);
        let run = self.store().allocate_data(task, handle, blocks.len(), hint, reserve.as_ref());
        if let Some(reserve) = reserve {
            batch.put_reserve(blocks.start, reserve);
        }
        run
    }

    /// What trees may grow by at the completion of `published`, the start of `blocks`, out of what
    /// is set aside for their pages; the rest stays for those behind them.
    fn take_growth(&self, batch: &Batch, blocks: Blocks, published: Blocks) -> Option<Reserve> {
        let reserve = batch.take_reserves(blocks)?;
        let growth = reserve.split(published.len() * self.store().metadata_for(1));
        batch.put_reserve(published.end, reserve);
        Some(growth)
    }

    /// What has no ordered extent is lost: the pages are clean, the error is kept.
    fn give_up(&self, inode: &Inode, batch: &Batch, rest: Blocks, error: Error) {
        for (page, _) in batch.pages.iter().filter(|(page, _)| rest.contains(page.index())) {
            page.drop_reserve();
            inode.pages.settle(Blocks::one(page.index()));
            page.mark_unsaved();
            inode.pages.end_writeback(page);
        }
        inode.errors.set(error);
    }

    /// WB.6, DWRITE.8: checksums, and the request.
    pub(crate) fn submit_ordered(
        &self,
        task: &Task,
        ordered: &Rc<OrderedExtent>,
        contents: &[Block],
    ) -> Result<()> {
        let inode = &ordered.inode;
        let is_split = !self.submits_parts();
        let is_whole = contents.len() as u64 == ordered.blocks.len();
        debug_assert!(is_whole || !is_split, "X-2: what is published is written");
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        task.site(&CSUM, object, Access::Write)?;
        *ordered.digests.borrow_mut() = digests_of(inode, contents);
        if self.logs_pairs() {
            inode.ordered_end.wake_all();
        }
        self.ensure_completion_workers();
        if contents.is_empty() {
            debug_assert!(!is_split, "X-2: there is something to write");
            ordered.end_io(true);
            self.queue_completion(ordered.clone());
            return Ok(());
        }
        let payload = Data::from(contents);
        let (device, block) = (DeviceId(0), ordered.block);
        let request = Request::Write { device, block, payload, sectors: None, fua: false };
        let note = Note { what: "data", tag: inode.ino.0 };
        let (fs, ended) = (self.clone(), ordered.clone());
        task.submit_then(
            request,
            note,
            Box::new(move |outcome| {
                ended.end_io(outcome.is_ok()); // IO_DONE
                if fs.logs_pairs() {
                    ended.inode.ordered_end.wake_all();
                }
                fs.queue_completion(ended);
            }),
        )?;
        Ok(())
    }

    /// WBWAIT: waits until no page of a range is under writeback that is so now.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn wait_writeback(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<()> {
        let mut rest = blocks;
        while let Some(index) = inode.pages.first_under_writeback(rest) {
            let object = Object::new(kind::PAGE, inode.ino.0, index);
            let queue = inode.pages.writeback_end();
            let one = Blocks::one(index);
            let ended = || inode.pages.first_under_writeback(one).is_none();
            task.wait(queue, &WBWAIT, object, Server::Worker("cw"), ended)?;
            rest.start = index + 1;
        }
        Ok(())
    }

    /// Waits until what others have begun to write back of a range is published and submitted: they
    /// hold PAGE until it is (WB.7).
    ///
    /// # Errors
    /// `Stopped`.
    pub(super) fn wait_published(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<()> {
        let mut rest = blocks;
        while let Some(index) = inode.pages.first_under_writeback(rest) {
            if let Some(page) = inode.pages.find(index) {
                drop(page.lock().lock(task)?);
            }
            rest.start = index + 1;
        }
        Ok(())
    }

    /// IOWAIT: waits until the device has answered. Legal with TX and LOG held (W-2): whoever
    /// publishes submits next, and waits for nothing before.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn wait_io(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        self.wait_device(task, ordered, || ordered.is_io_done())
    }

    /// As [`wait_io`](Self::wait_io), until the checksums are there, which comes before.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn wait_digests(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        self.wait_device(task, ordered, || !ordered.digests.borrow().is_empty())
    }

    fn wait_device(
        &self,
        task: &Task,
        ordered: &OrderedExtent,
        until: impl Fn() -> bool,
    ) -> Result<()> {
        let inode = &ordered.inode;
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        Ok(task.wait(&inode.ordered_end, &IOWAIT, object, Server::Device, until)?)
    }

    /// OEWAIT: waits until the ordered extents of a range are complete, and those that appear
    /// meanwhile. W-2: no TX, EXT or NODE is held.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn wait_ordered(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<()> {
        loop {
            let first = inode.ordered.borrow().first_in(blocks).cloned();
            let Some(ordered) = first else { return Ok(()) };
            self.wait_for(task, &ordered)?;
        }
    }

    /// OEWAIT of one ordered extent.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn wait_for(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        let inode = &ordered.inode;
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        let server = Server::Worker("cw");
        Ok(task.wait(&inode.ordered_end, &OEWAIT, object, server, || ordered.is_complete())?)
    }
}

/// How data are written to the blocks that the file has.
pub(crate) fn in_place_plan(extent: &Extent) -> OrderedPlan {
    let kind = match extent.state {
        ExtentState::Unwritten => OrderedKind::Prealloc,
        _ => OrderedKind::Nocow,
    };
    OrderedPlan { blocks: extent.blocks, block: extent.block, kind, direct: false, iocb: None }
}
