//! READ (buffered): through the page cache (races.md §7.4).
//!
//! Promises: what is read of each block was its content at one moment of the call; a block of a
//! file with checksums is verified whenever it comes from the device. It must never know who wrote
//! it.

use super::memory::UserMemory;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::ExtentState;
use crate::inode::ordered::OrderedExtent;
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, FILE_BYTES_MAX, Span};
use crate::mm::part_of;
use crate::store::items::csum_key;
use crate::store::{ReadPin, Tree};
use crate::types::{BLOCK_BYTES, Run};
use machine::disk::{Data, Note, Request};
use machine::{Access, Block, DeviceId, Mode, Object, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static COPY: Site = Site::new("read.copy");
static FILLED: Site = Site::new("read.filled");

/// Digests of consecutive blocks; empty for a file without checksums.
pub(crate) type Digests = SmallVec<[[u8; 32]; 2]>;

/// A run of data that may be read: pinned, with what its content must be.
pub(crate) struct Readable {
    pub(crate) run: Run,
    pub(crate) digests: Digests,
    /// kept until the read has ended.
    pub(crate) _pin: Option<ReadPin>,
}

/// Who asks where content is. The clean protocol answers both alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A fill of a page, or whoever writes the rest of a block: they know what of the file is new.
    Owner,
    /// A direct read, which knows what the extent map says.
    Direct,
}

/// Where the content of blocks is.
pub(super) enum BlockContent {
    /// Nowhere: the first block reads as zeros.
    Zeros,
    /// On the device: how many blocks lie together.
    Data(Blocks, Readable),
    /// With a write in flight.
    Pending(Rc<OrderedExtent>),
}

impl Fs {
    /// READ of bytes; less than asked for at the end of the file, or if an error follows.
    pub(crate) fn read(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        target: &mut [u8],
    ) -> Result<usize> {
        let end = offset.saturating_add(target.len() as u64).min(FILE_BYTES_MAX);
        if offset >= end {
            return Ok(0);
        }
        let span = Span::new(offset, end);
        let locked = self.span_to_read_lock(inode, span);
        let rl = locked.map(|locked| inode.rl.lock(task, locked.lock_range(), Mode::Read));
        let _rl = rl.transpose()?; // READ.1
        self.read_locked(task, inode, span, target) // READ.6
    }

    /// READ.2 to READ.5, with RL R held.
    fn read_locked(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        target: &mut [u8],
    ) -> Result<usize> {
        let asked = span;
        // READ.5: the size is stable under a lock that covers it (§7.2).
        let mut span = span.intersection(Span::new(0, inode.size()));
        let mut done = 0;
        for index in span.blocks().iter() {
            self.read_ahead_from(task, inode, index)?;
            let page = match self.page_in(task, inode, index) {
                Ok(page) => page, // READ.2, READ.3
                Err(error) if done == 0 || error.is_stopped() => return Err(error),
                Err(_) => break,
            };
            let holds = self.defects().has(Defect::ReadHoldsInvalidateOverCopy);
            let range = Blocks::one(index).bytes().lock_range();
            let _ml = holds.then(|| inode.ml.lock(task, range, Mode::Read)).transpose()?;
            task.may_fault()?; // F-1: only RL is held
            task.site(&COPY, Object::new(kind::PAGE, inode.ino.0, index), Access::Read)?;
            span = self.span_after_fill(inode, span, asked);
            let (within, len) = part_of(span, index);
            let bytes = page.data();
            // READ.4
            target[done..done + len].copy_from_slice(&bytes.bytes()[within..within + len]);
            done += len;
        }
        Ok(done)
    }

    /// READ into a mapping; less than asked for at the end of the file, where memory ends, or if an
    /// error follows. The bytes of a page of memory come at one instant, so they are read first.
    pub(crate) fn read_into(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        memory: &UserMemory,
    ) -> Result<usize> {
        let end = offset.saturating_add(memory.len()).min(FILE_BYTES_MAX);
        let span = Span::new(offset.min(end), end);
        if span.is_empty() {
            return Ok(0);
        }
        let _rl = inode.rl.lock(task, span.lock_range(), Mode::Read)?; // READ.1
        let mut bytes = vec![0; span.len() as usize];
        let count = self.read_locked(task, inode, span, &mut bytes)?;
        // READ.4: with faults, as only RL is held; F-6: no page is locked
        self.copy_to_memory(task, memory, &bytes[..count]) // READ.6
    }

    /// A whole block by reference; `None` where the file has a hole that is not cached, and beyond
    /// its end.
    pub(crate) fn read_block(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        index: u64,
    ) -> Result<Option<Block>> {
        let Some(end) = index.checked_add(1).and_then(|next| next.checked_mul(BLOCK_BYTES)) else {
            return Ok(None);
        };
        let range = Span::new(end - BLOCK_BYTES, end).lock_range();
        let _rl = inode.rl.lock(task, range, Mode::Read)?; // READ.1
        if end - BLOCK_BYTES >= inode.size() {
            return Ok(None);
        }
        let cached = inode.pages.find(index).is_some_and(|page| page.is_uptodate());
        if !cached && self.is_hole(task, inode, index)? {
            return Ok(None);
        }
        let page = self.page_in(task, inode, index)?; // READ.2, READ.3
        task.site(&COPY, Object::new(kind::PAGE, inode.ino.0, index), Access::Read)?;
        Ok(Some(page.snapshot())) // READ.4
    }

    fn is_hole(&self, task: &Task, inode: &Inode, index: u64) -> Result<bool> {
        let _ext = self.read_extents(task, inode)?;
        Ok(inode.extents.borrow().at(index).is_none())
    }

    /// READ.2: a page with the file's content, filled if need be. At most RL and MM are held.
    pub(crate) fn page_in(&self, task: &Task, inode: &Rc<Inode>, index: u64) -> Result<Rc<Page>> {
        loop {
            if let Some(page) = inode.pages.find(index).filter(|page| page.is_uptodate()) {
                return Ok(page);
            }
            let range = Blocks::one(index).bytes().lock_range();
            let locks = !self.defects().has(Defect::ReadFillUnlocked);
            let _ml = locks.then(|| inode.ml.lock(task, range, Mode::Read)).transpose()?; // P-1
            let page = self.add_page(inode, index);
            let _locked = page.lock().lock(task)?;
            if page.is_attached() {
                self.fill_locked(task, inode, &page)?;
                return Ok(page);
            }
            task.progress("filling a page")?;
        }
    }

    /// A page of the cache, added if need be. ML of the index is held (P-1).
    pub(crate) fn add_page(&self, inode: &Inode, index: u64) -> Rc<Page> {
        let (page, is_new) = inode.pages.find_or_add(index);
        if is_new {
            self.look_at_added(inode, index); // P-1
            self.count_pages(1, 0);
            self.kick_reclaimer();
        }
        page
    }

    /// Gives a page the file's content unless it has it. PAGE and ML of the index are held.
    pub(crate) fn fill_locked(&self, task: &Task, inode: &Rc<Inode>, page: &Page) -> Result<()> {
        debug_assert!(page.lock().is_locked() && page.is_attached(), "P-1: locked, in the cache");
        if page.is_uptodate() {
            return Ok(());
        }
        give_content(inode, page, self.read_content(task, inode, page.index())?);
        let object = Object::new(kind::PAGE, inode.ino.0, page.index());
        Ok(task.site(&FILLED, object, Access::Write)?)
    }

    /// The content of a block as the extent map says: zeros, or from the device.
    pub(crate) fn read_content(&self, task: &Task, inode: &Inode, index: u64) -> Result<Block> {
        let blocks = Blocks::one(index);
        match self.map_for_read(task, inode, blocks, Reader::Owner)? {
            None => Ok(Block::zero()),
            Some((_, readable)) => {
                let mut data = self.read_run(task, inode, &readable)?;
                data.pop().ok_or(Error::Bug("a read of one block returned none"))
            }
        }
    }

    /// The start of `blocks` as the extent map says, pinned for reading: `None` if it reads as
    /// zeros; else how many blocks lie together. Waits while a write is in flight there.
    pub(crate) fn map_for_read(
        &self,
        task: &Task,
        inode: &Inode,
        blocks: Blocks,
        reader: Reader,
    ) -> Result<Option<(Blocks, Readable)>> {
        loop {
            match self.find_content(task, inode, blocks, reader)? {
                BlockContent::Zeros => return Ok(None),
                BlockContent::Data(found, readable) => return Ok(Some((found, readable))),
                BlockContent::Pending(ordered) => {
                    self.wait_for(task, &ordered)?; // never the new block
                    task.progress("waiting for a write in flight")?;
                }
            }
        }
    }

    /// Where the start of `blocks` is to be read from, as the extent map says now.
    pub(super) fn find_content(
        &self,
        task: &Task,
        inode: &Inode,
        blocks: Blocks,
        reader: Reader,
    ) -> Result<BlockContent> {
        let _ext = self.read_extents(task, inode)?;
        let found = inode.extents.borrow().at(blocks.start).map(|it| it.clipped(blocks));
        let Some(extent) = self.as_seen(inode, found, blocks, reader) else {
            return Ok(BlockContent::Zeros);
        };
        match &extent.state {
            ExtentState::Unwritten => Ok(BlockContent::Zeros),
            ExtentState::Pending(ordered) => Ok(BlockContent::Pending(ordered.clone())),
            ExtentState::Written => {
                let pins = !self.defects().has(Defect::DioReadBlockFreedRealloc);
                let pin = pins.then(|| self.store().pin_read(extent.run()));
                let digests = self.digests_of(task, inode, extent.run())?;
                let readable = Readable { run: extent.run(), digests, _pin: pin };
                Ok(BlockContent::Data(extent.blocks, readable))
            }
        }
    }

    /// The checksums of a run. Under EXT, so that they belong to what the extent map says.
    fn digests_of(&self, task: &Task, inode: &Inode, run: Run) -> Result<Digests> {
        let mut digests = Digests::new();
        if !inode.has_datasum() {
            return Ok(digests);
        }
        for block in run.block..run.end() {
            let value = self.store().lookup(task, Tree::Csum, csum_key(block))?;
            let digest = value.as_deref().and_then(|bytes| bytes.try_into().ok());
            let what = "find the checksum of data";
            digests.push(digest.ok_or(Error::Io { device: 0, block, what })?);
        }
        Ok(digests)
    }

    /// Reads a run of a file from the device and verifies it.
    pub(crate) fn read_run(&self, task: &Task, inode: &Inode, readable: &Readable) -> Result<Data> {
        let run = readable.run;
        let bio = task.submit(read_request(run), Note { what: "data", tag: inode.ino.0 })?;
        let outcome = bio.wait(task)?;
        let data = outcome.map_err(|_| read_error(run.block))?;
        readable.verify(&data)?;
        Ok(data)
    }
}

impl Readable {
    /// Compares what was read with its checksums.
    pub(crate) fn verify(&self, data: &[Block]) -> Result<()> {
        debug_assert_eq!(data.len() as u64, self.run.len_blocks);
        data.iter().enumerate().try_for_each(|(index, content)| self.verify_block(index, content))
    }

    /// Compares one block of what was read with its checksum.
    pub(super) fn verify_block(&self, index: usize, content: &Block) -> Result<()> {
        match self.digests.get(index) {
            Some(digest) if content.digest() != *digest => {
                let (block, what) =
                    (self.run.block + index as u64, "read data as they were written");
                Err(Error::Io { device: 0, block, what })
            }
            _ => Ok(()),
        }
    }
}

/// Gives a page that has none its content, as the file has it. PAGE is held, by the caller or by
/// the request that read it.
pub(super) fn give_content(inode: &Inode, page: &Page, content: Block) {
    debug_assert!(page.lock().is_locked() && page.is_attached() && !page.is_uptodate());
    page.fill(content);
    // what a full device had no room to be told of is not shown behind the end.
    let within = inode.size().saturating_sub(page.index() * BLOCK_BYTES);
    if within < BLOCK_BYTES && page.data().bytes()[within as usize..].iter().any(|b| *b != 0) {
        page.change(|bytes| bytes[within as usize..].fill(0));
        page.mark_unsaved();
    }
    page.set_uptodate();
}

/// The request that reads a run.
pub(crate) fn read_request(run: Run) -> Request {
    Request::Read { device: DeviceId(0), block: run.block, count: run.len_blocks as u32 }
}

/// The error of a read that the device failed.
pub(crate) fn read_error(block: u64) -> Error {
    Error::Io { device: 0, block, what: "read data" }
}
