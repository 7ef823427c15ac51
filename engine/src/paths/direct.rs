//! DREAD and DWRITE: past the page cache, with and without waiting (races.md §7.4).
//!
//! A request in flight is an [`Iocb`]. It owns the guards of RL and ML as tokens, so that nobody
//! else touches the range before the last of its blocks is part of the file.
//!
//! Promises: what a direct write returned is part of the file, and no page of its range is cached;
//! a direct read never shows a block before its write has completed. It must never know
//! mappings.

mod mapped;

use super::memory::Source;
use super::read::{Readable, Reader, read_error, read_request};
use super::write::write_span;
use super::writeback::{Room, in_place_plan};
use crate::classes::{IOCB, kind};
use crate::defects::Defect;
use crate::error::{Errno, Error, Result};
use crate::fs::{File, Fs, Sync};
use crate::inode::Inode;
use crate::inode::extents::Piece;
use crate::inode::ordered::{OrderedExtent, OrderedKind, OrderedPlan};
use crate::inode::span::{Blocks, FILE_BYTES_MAX, Span};
use crate::store::{Handle, Reserve};
use crate::types::{BLOCK_BYTES, SECTOR_BYTES};
use machine::cell::{Cell, RefCell};
use machine::disk::{Data, Note};
use machine::{Access, Block, Guard, LockClass, Mode, Object, Server, Site, Task, WaitQueue};
use smallvec::SmallVec;
use std::rc::Rc;

static PUBLISH: Site = Site::new("dwrite.publish");
static EVICTED: Site = Site::new("dwrite.evicted");

/// A direct request in flight.
pub struct Iocb {
    inode: Rc<Inode>,
    span: Span,
    /// What follows a write; set while the request is being submitted.
    after: RefCell<Option<(File, Sync)>>,
    /// Parts in flight, and one for the submission.
    parts: Cell<u32>,
    /// Written parts behind the first gap, and where that gap begins.
    pieces: RefCell<SmallVec<[Blocks; 2]>>,
    prefix: Cell<u64>,
    /// Bytes that the request is about; fewer than asked for if space ran out.
    bytes: Cell<u64>,
    /// What was read, by block.
    data: RefCell<Vec<Option<Block>>>,
    tokens: RefCell<SmallVec<[Guard; 2]>>,
    error: RefCell<Option<Error>>,
    done: Cell<bool>,
    /// Historical: it counts as a direct read of its inode.
    counted: Cell<bool>,
    end: WaitQueue,
}

/// A direct request as its user has it.
pub struct AsyncIo(Rc<Iocb>);

impl Iocb {
    fn new(task: &Task, inode: &Rc<Inode>, span: Span) -> Rc<Iocb> {
        Rc::new(Iocb {
            inode: inode.clone(),
            span,
            after: RefCell::default(),
            parts: Cell::new(1),
            pieces: RefCell::default(),
            prefix: Cell::new(span.start / BLOCK_BYTES),
            bytes: Cell::new(span.len()),
            data: RefCell::default(),
            tokens: RefCell::default(),
            error: RefCell::default(),
            done: Cell::new(false),
            counted: Cell::new(false),
            end: WaitQueue::new(task.machine()),
        })
    }

    /// A piece of a write is part of the file. Tells the size that the file has at least now (X-7:
    /// up to the first piece that is not), and what the request writes.
    pub(crate) fn add_piece(&self, blocks: Blocks) -> (u64, Span) {
        let mut pieces = self.pieces.borrow_mut();
        pieces.push(blocks);
        while let Some(at) = pieces.iter().position(|piece| piece.start == self.prefix.get()) {
            self.prefix.set(pieces.swap_remove(at).end);
        }
        (self.prefix_end(), self.span)
    }

    /// The end of what was written without a gap; 0 if nothing was.
    pub(super) fn prefix_end(&self) -> u64 {
        let end = self.prefix.get().saturating_mul(BLOCK_BYTES).min(self.span.end);
        if end > self.span.start { end } else { 0 }
    }

    /// The file.
    pub(super) fn inode(&self) -> &Rc<Inode> {
        &self.inode
    }

    /// What is read or written.
    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// For the checkers: a worker acquires what it does under the ranges that this request holds.
    pub(crate) fn is_served_by(&self, task: &Task) {
        task.serve(&self.tokens.borrow());
    }

    /// Counts as a direct read of its inode until it ends.
    pub(super) fn count(&self) {
        self.counted.set(true);
        self.inode.direct_reads.set(self.inode.direct_reads.get() + 1);
    }

    /// Whether the size follows only when the write is durable.
    pub(super) fn grows_late(&self, fs: &Fs) -> bool {
        fs.defects().has(Defect::OsyncDioIsizeAfterSync) && self.after.borrow().is_some()
    }

    fn fail(&self, error: Error) {
        self.error.borrow_mut().get_or_insert(error);
    }

    fn add_part(&self) {
        self.parts.set(self.parts.get() + 1);
    }

    /// One part less; whether it was the last.
    fn end_part(&self) -> bool {
        let parts = self.parts.get();
        assert!(parts > 0, "a request ends once");
        self.parts.set(parts - 1);
        parts == 1
    }

    /// DREAD.7, CW.5: gives back ML, then RL.
    fn release(&self) {
        let mut tokens = self.tokens.borrow_mut();
        while tokens.pop().is_some() {}
    }

    /// Waits for the end. How many bytes were read or written.
    fn wait(&self, task: &Task, class: &'static LockClass) -> Result<usize> {
        let object = Object::new(kind::INODE, self.inode.ino.0, 1);
        // A read ends with the device; a write has yet to become part of the file.
        let is_read = !self.data.borrow().is_empty();
        let server = if is_read { Server::Device } else { Server::Worker("cw") };
        task.wait(&self.end, class, object, server, || self.done.get())?;
        match &*self.error.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(self.bytes.get() as usize),
        }
    }

    fn finish(&self) {
        assert!(!self.done.replace(true), "a request ends once");
        self.end_count();
        self.end.wake_all();
    }

    fn end_count(&self) {
        if self.counted.replace(false) {
            self.inode.direct_reads.set(self.inode.direct_reads.get() - 1);
        }
    }
}

impl AsyncIo {
    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.0.done.get()
    }

    /// Waits for its end. How many bytes were read or written.
    ///
    /// # Errors
    /// `Io` and those of reading or of what O_DSYNC adds; `Stopped`.
    pub fn wait(&self, task: &Task) -> Result<usize> {
        self.0.wait(task, &IOCB)
    }

    /// What a read that has ended found: the bytes from its offset on.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.0.bytes.get() as usize];
        self.copy_to(&mut bytes);
        bytes
    }

    fn copy_to(&self, target: &mut [u8]) {
        let first = self.0.span.start / BLOCK_BYTES;
        let mut done = 0;
        for (index, block) in (first..).zip(&*self.0.data.borrow()) {
            if done == target.len() {
                break;
            }
            let (within, len) = crate::mm::part_of(self.0.span, index);
            let len = len.min(target.len() - done);
            let part = &mut target[done..done + len];
            match block {
                Some(block) => part.copy_from_slice(&block.bytes()[within..within + len]),
                None => part.fill(0),
            }
            done += len;
        }
    }
}

impl Fs {
    /// DREAD, waited for.
    pub(crate) fn direct_read(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        target: &mut [u8],
    ) -> Result<usize> {
        let io = self.submit_read(task, inode, offset, target.len())?;
        let len = io.wait(task)?;
        io.copy_to(&mut target[..len]);
        Ok(len)
    }

    /// DREAD, not waited for.
    pub(crate) fn submit_read(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        len: usize,
    ) -> Result<AsyncIo> {
        check_alignment(offset, len)?;
        let end = offset.saturating_add(len as u64).min(FILE_BYTES_MAX);
        let span = Span::new(offset.min(end), end);
        let iocb = Iocb::new(task, inode, span);
        let io = AsyncIo(iocb.clone());
        if span.is_empty() {
            iocb.finish();
            return Ok(io);
        }
        let rl = inode.rl.lock(task, span.lock_range(), Mode::Read)?; // DREAD.1
        task.may_fault()?; // DREAD.2: only RL is held
        let span = span.intersection(Span::new(0, inode.size())); // stable under RL
        iocb.bytes.set(span.len());
        let blocks = span.blocks();
        *iocb.data.borrow_mut() = vec![None; blocks.len() as usize];
        self.flush_for_read(task, &iocb, span)?; // DREAD.3
        self.submit_reads(task, inode, &iocb, blocks)?; // DREAD.4, DREAD.5
        if !self.defects().has(Defect::DioReadBlockFreedRealloc) {
            iocb.tokens.borrow_mut().push(rl.into_token(Server::Device)); // DREAD.6
        }
        if iocb.end_part() {
            iocb.release(); // DREAD.7
            iocb.finish();
        }
        Ok(io)
    }

    /// DREAD.3, and around it what counts direct reads.
    fn flush_for_read(&self, task: &Task, iocb: &Iocb, span: Span) -> Result<()> {
        self.count_read(task, iocb, false)?;
        self.flush_range(task, &iocb.inode, span).inspect_err(|_| iocb.end_count())?;
        self.count_read(task, iocb, true)
    }

    /// DREAD.4 and DREAD.5: maps and reads run by run. An error is the request's.
    fn submit_reads(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        iocb: &Rc<Iocb>,
        blocks: Blocks,
    ) -> Result<()> {
        let mut rest = blocks;
        while !rest.is_empty() {
            match self.map_for_read(task, inode, rest, Reader::Direct) {
                Ok(None) => rest.start += 1, // Hole, Delalloc and Unwritten read as zeros
                Ok(Some((found, readable))) => {
                    let first = (found.start - blocks.start) as usize;
                    self.submit_piece(task, iocb, first, readable)?;
                    rest.start = found.end;
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => {
                    iocb.fail(error);
                    break;
                }
            }
        }
        Ok(())
    }

    fn submit_piece(
        &self,
        task: &Task,
        iocb: &Rc<Iocb>,
        first: usize,
        readable: Readable,
    ) -> Result<()> {
        iocb.add_part();
        let (request, note) =
            (read_request(readable.run), Note { what: "data", tag: iocb.inode.ino.0 });
        let iocb = iocb.clone();
        task.submit_then(
            request,
            note,
            Box::new(move |outcome| {
                match outcome {
                    Ok(data) => match readable.verify(data) {
                        Ok(()) => iocb.store(first, data),
                        Err(error) => iocb.fail(error),
                    },
                    Err(_) => iocb.fail(read_error(readable.run.block)),
                }
                drop(readable); // DREAD.7: unpinned
                if iocb.end_part() {
                    iocb.release();
                    iocb.finish();
                }
            }),
        )?;
        Ok(())
    }

    /// DWRITE. The end of it may lie in the future.
    pub(crate) fn submit_write(
        &self,
        task: &Task,
        file: &File,
        offset: u64,
        source: &[u8],
        sync: Sync,
    ) -> Result<AsyncIo> {
        check_alignment(offset, source.len())?;
        let inode = file.inode();
        let span = write_span(offset, source.len())?;
        let iocb = Iocb::new(task, inode, span);
        let io = AsyncIo(iocb.clone());
        if span.is_empty() {
            iocb.finish();
            return Ok(io);
        }
        if sync != Sync::None {
            *iocb.after.borrow_mut() = Some((file.clone(), sync));
        }
        let rl = self.lock_direct(task, inode, span)?; // DWRITE.1
        let blocks = span.blocks();
        let reserve = self.reserve_direct(task, inode, blocks)?; // DWRITE.2
        task.may_fault()?; // DWRITE.3: only RL is held
        self.clear_tail(task, inode, span.start)?;
        if self.prefers_cache(span) {
            return self.write_instead(task, &iocb, io, source);
        }
        let ml = self.clear_cache(task, inode, span)?; // DWRITE.4, DWRITE.5
        task.site(&EVICTED, Object::new(kind::INODE, inode.ino.0, blocks.start), Access::Read)?;
        let ignores = self.defects().has(Defect::DioInvalidateFailureIgnored);
        if inode.pages.first_in(blocks).is_some() && !ignores {
            drop(ml); // DWRITE.5: a page was left, the fallback
            return self.write_instead(task, &iocb, io, source);
        }
        self.wait_ordered(task, inode, blocks)?; // DWRITE.6
        let contents = self.contents_for(task, inode, span, source)?; // DWRITE.8: bounce
        // DWRITE.7 to DWRITE.9
        self.submit_pieces(task, &iocb, blocks, &contents, reserve.as_ref())?;
        if !self.unlocks_at_submission(inode, span) {
            let tokens = [Some(rl), ml].into_iter().flatten();
            let tokens = tokens.map(|guard| guard.into_token(Server::Worker("cw")));
            iocb.tokens.borrow_mut().extend(tokens); // DWRITE.9
        }
        self.end_piece(&iocb);
        Ok(io)
    }

    /// DWRITE.4 and DWRITE.5: no page of the range is cached, and ML W keeps it so.
    fn clear_cache(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<Option<Guard>> {
        let blocks = span.blocks();
        if self.defects().has(Defect::DioInvalidateFailureIgnored) {
            return self.drop_clean(task, inode, blocks);
        }
        let ml = inode.ml.lock(task, blocks.bytes().lock_range(), Mode::Write)?; // DWRITE.4
        self.flush_range(task, inode, blocks.bytes())?; // DWRITE.5
        self.evict(task, inode, blocks)?; // DWRITE.5
        Ok(Some(ml).filter(|_| !self.unlocks_mapping_early(inode, span)))
    }

    /// DWRITE.2: nothing if all blocks are overwritten where they are and space is short.
    fn reserve_direct(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
    ) -> Result<Option<Reserve>> {
        match self.reserve_blocks(task, blocks.len()) {
            Err(error @ Error::NoSpace { .. }) => {
                let _ext = self.read_extents(task, inode)?;
                match self.cow_blocks(task, inode, blocks)? {
                    0 => Ok(None),
                    needed if needed < blocks.len() => self.store().reserve_data(needed).map(Some),
                    _ => Err(error),
                }
            }
            other => other.map(Some),
        }
    }

    /// The fallback of DWRITE.5: through the cache, then out of it. RL W is held.
    fn write_instead(
        &self,
        task: &Task,
        iocb: &Rc<Iocb>,
        io: AsyncIo,
        source: &[u8],
    ) -> Result<AsyncIo> {
        let inode = &iocb.inode;
        let written = self.write_locked(task, inode, iocb.span, &Source::Bytes(source))?;
        iocb.bytes.set(written as u64);
        let span = Span::new(iocb.span.start, iocb.span.start + written as u64);
        if self.defects().has(Defect::DioFallbackNoFlush) {
            iocb.after.borrow_mut().take();
        } else {
            self.flush_range(task, inode, span)?;
        }
        self.end_piece(iocb);
        Ok(io)
    }

    /// What will stand in each block: the bytes of the user, and around them what stands there now.
    /// RL W and ML W of the blocks are held, and nothing of them is cached or in flight.
    fn contents_for(
        &self,
        task: &Task,
        inode: &Inode,
        span: Span,
        source: &[u8],
    ) -> Result<SmallVec<[Block; 4]>> {
        let mut contents = SmallVec::new();
        let mut done = 0;
        for index in span.blocks().iter() {
            let (within, len) = crate::mm::part_of(span, index);
            let bytes = &source[done..done + len];
            done += len;
            if len as u64 == BLOCK_BYTES {
                contents.push(Block::from_slice(bytes));
                continue;
            }
            let old = self.read_content(task, inode, index)?;
            let mut content = *old.bytes();
            content[within..within + len].copy_from_slice(bytes);
            // what lies behind the end of the file is zero on the device.
            let size = inode.size().max(span.end);
            let end = size.saturating_sub(index * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            content[end..].fill(0);
            contents.push(Block::new(&content));
        }
        Ok(contents)
    }

    /// DWRITE.7 to DWRITE.9: piece by piece, each submitted before the next is published. Space
    /// that runs out shortens the request.
    fn submit_pieces(
        &self,
        task: &Task,
        iocb: &Rc<Iocb>,
        blocks: Blocks,
        contents: &[Block],
        reserve: Option<&Reserve>,
    ) -> Result<()> {
        let (mut rest, mut room) = (blocks, Room::Plenty);
        let mut batched = SmallVec::<[_; 2]>::new();
        while rest.start < blocks.start + contents.len() as u64 {
            let ordered = match self.publish_direct(task, iocb, rest, room, reserve) {
                Ok(ordered) => ordered,
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(Error::NoSpace { .. }) if room != Room::Last => {
                    room = room.after_a_commit(false);
                    // It waits for what was submitted, and takes neither RL nor ML.
                    match self.store().commit(task) {
                        Ok(()) => continue,
                        Err(Error::Stopped) => return Err(Error::Stopped),
                        Err(error) => {
                            iocb.fail(error);
                            break;
                        }
                    }
                }
                Err(error) if rest.start == blocks.start => {
                    iocb.fail(error);
                    break;
                }
                Err(_) => {
                    let end = rest.bytes().start.min(iocb.span.end);
                    iocb.bytes.set(end - iocb.span.start);
                    break;
                }
            };
            if room == Room::Last {
                room = Room::Short; // another commit may end what was published now
            }
            let first = (ordered.blocks.start - blocks.start) as usize;
            let count = (ordered.blocks.len() as usize).min(contents.len() - first);
            rest.start = ordered.blocks.end;
            let contents = &contents[first..first + count];
            if self.defects().has(Defect::FsyncWaitsUnderDioSem) {
                batched.push((ordered, contents));
                continue;
            }
            self.submit_ordered(task, &ordered, contents)?; // DWRITE.8
        }
        for (ordered, contents) in batched {
            self.submit_ordered(task, &ordered, contents)?;
        }
        Ok(())
    }

    /// DWRITE.7: blocks for the start of `blocks`, published.
    fn publish_direct(
        &self,
        task: &Task,
        iocb: &Rc<Iocb>,
        blocks: Blocks,
        room: Room,
        reserve: Option<&Reserve>,
    ) -> Result<Rc<OrderedExtent>> {
        let inode = &iocb.inode;
        let join = || Ok((self.join(task)?, self.lock_pair(task, inode)?));
        let ((handle, _sem), _ext) = self.join_settled(task, inode, blocks, join)?;
        let part = room.part_of(blocks);
        let promise = self.store().reserve_completion(part.len())?; // DWRITE.2: else ENOSPC
        let growth = self.store().reserve_growth(part.len())?;
        let plan = self.place_direct(task, &handle, inode, part, reserve)?;
        let object = Object::new(kind::ORDERED, inode.ino.0, plan.blocks.start);
        task.site(&PUBLISH, object, Access::Write)?;
        iocb.add_part();
        let plan = OrderedPlan { direct: true, iocb: Some(iocb.clone()), ..plan };
        let ordered = self.publish_pending(task, &handle, inode, plan)?;
        *ordered.reserve.borrow_mut() = Some(promise);
        *ordered.growth.borrow_mut() = Some(growth);
        self.grow_early(iocb, inode);
        Ok(ordered) // -EXT -TX
    }

    /// DWRITE.7: where the start of `blocks` goes: where it is, or to new blocks. Under EXT W.
    fn place_direct(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        blocks: Blocks,
        reserve: Option<&Reserve>,
    ) -> Result<OrderedPlan> {
        let piece = inode.extents.borrow().pieces(blocks).swap_remove(0);
        if let Piece::Extent(extent) = &piece
            && self.is_overwritable(task, inode, extent)?
        {
            return Ok(in_place_plan(extent));
        }
        let hint = self.hint_for(inode, blocks.start);
        let want = self.cow_len(task, inode, blocks)?;
        let run = self.store().allocate_data(task, handle, want, hint, reserve)?;
        let blocks = Blocks::new(blocks.start, blocks.start + run.len_blocks);
        let (kind, block) = (OrderedKind::Cow, run.block);
        Ok(OrderedPlan { blocks, block, kind, direct: true, iocb: None })
    }

    /// How many of `blocks` need new blocks of the device. Under EXT.
    fn cow_blocks(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<u64> {
        let pieces = inode.extents.borrow().pieces(blocks);
        let mut count = 0;
        for piece in pieces {
            count += match &piece {
                Piece::Extent(extent) if self.is_overwritable(task, inode, extent)? => 0,
                _ => piece.blocks().len(),
            };
        }
        Ok(count)
    }

    /// How many blocks from the start of `blocks` on need new blocks of the device. Under EXT.
    fn cow_len(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<u64> {
        let pieces = inode.extents.borrow().pieces(blocks);
        let mut len = 0;
        for piece in pieces {
            if let Piece::Extent(extent) = &piece
                && self.is_overwritable(task, inode, extent)?
            {
                break;
            }
            len += piece.blocks().len();
        }
        Ok(len.max(1))
    }

    /// CW.5 to CW.7: one piece less in flight; the last one ends the request.
    pub(crate) fn end_piece(&self, iocb: &Rc<Iocb>) {
        if !iocb.end_part() {
            return;
        }
        if iocb.error.borrow().is_some() {
            return self.queue_trim(iocb.clone()); // W-4: a commit may wait for this worker
        }
        if !self.defects().has(Defect::DsyncBeforeDioEnd) {
            iocb.release(); // CW.5: ML, then RL
        }
        let after = iocb.after.borrow_mut().take();
        match after {
            // CW.6, W-4: a commit would wait for this worker.
            Some((file, sync)) => self.queue_dsync(iocb.clone(), file, sync),
            None => {
                iocb.release();
                iocb.finish(); // CW.7
            }
        }
    }

    /// The end of a direct write that failed: CW.5 and CW.7, after what it left behind the end of
    /// the file is gone.
    pub(crate) fn end_failed(&self, task: &Task, iocb: &Iocb) -> Result<()> {
        // The request has failed already: whatever else fails adds nothing.
        let trimmed = self.trim_beyond_end(task, &iocb.inode, iocb.span.end);
        if matches!(trimmed, Err(Error::Stopped)) {
            return Err(Error::Stopped);
        }
        iocb.release();
        iocb.after.borrow_mut().take();
        iocb.finish();
        Ok(())
    }

    /// CW.6 on the worker for it: what O_DSYNC adds, then CW.7.
    pub(crate) fn end_synced(
        &self,
        task: &Task,
        iocb: &Iocb,
        file: &File,
        sync: Sync,
    ) -> Result<()> {
        let span = Span::new(iocb.span.start, iocb.span.start + iocb.bytes.get());
        match file.sync_write(task, span, sync) {
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => iocb.fail(error),
            Ok(()) => self.grow_late(task, iocb)?,
        }
        iocb.release();
        iocb.finish();
        Ok(())
    }
}

impl Iocb {
    fn store(&self, first: usize, data: &Data) {
        let mut target = self.data.borrow_mut();
        for (slot, block) in target[first..].iter_mut().zip(data) {
            *slot = Some(block.clone());
        }
    }

    /// A piece of a write failed.
    pub(crate) fn fail_write(&self, error: Error) {
        self.fail(error);
    }
}

/// Direct IO is done in sectors.
fn check_alignment(offset: u64, len: usize) -> Result<()> {
    let is_aligned =
        offset.is_multiple_of(SECTOR_BYTES) && (len as u64).is_multiple_of(SECTOR_BYTES);
    if is_aligned { Ok(()) } else { Err(Errno::EINVAL.into()) }
}
