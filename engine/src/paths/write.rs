//! WRITE (buffered), and what it shares with other writers of pages: reservation, dirtying, zeroing
//! (races.md §7.4).
//!
//! Promises: a page is dirty only with a place to go to: blocks of its own, or a reservation; what
//! its completion adds to trees is set aside, too, so that it never fails for want of space; sizes
//! rise when what they expose can be read. It must never know what becomes durable when.

use super::memory::{Incoming, Source};
use super::read::Digests;
use super::writeback::Effort;
use crate::classes::{WBWAIT, kind};
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentState};
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, FILE_BYTES_MAX, Span};
use crate::mm::part_of;
use crate::store::{ExtentKind, Handle, Reserve};
use crate::types::{BLOCK_BYTES, Ino};
use machine::{Access, Block, Guard, Mode, Object, Range, Server, Site, Task};
use std::rc::Rc;

static COPY: Site = Site::new("write.copy");
static DIRTY: Site = Site::new("page.dirty");
static WAIT: Site = Site::new("page.wait-writeback");

/// EXT W, under which a page became dirty, and the handle of the transaction that it took; in the
/// order in which they are given back.
pub(crate) struct Dirtied {
    _ext: Guard,
    _handle: Option<Handle>,
}

impl Fs {
    /// WRITE of bytes at an offset. Fewer than asked for if an error follows the first of them.
    pub(crate) fn write(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        source: &Source<'_>,
    ) -> Result<usize> {
        let span = write_span(offset, source.len())?;
        if span.is_empty() {
            return Ok(0);
        }
        let _rl = self.lock_write(task, inode, span)?; // WRITE.1
        self.write_locked(task, inode, span, source)
    }

    /// WRITE at the end of the file, wherever that is when the lock is granted. Tells where.
    pub(crate) fn append(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        source: &[u8],
    ) -> Result<(u64, usize)> {
        if source.is_empty() {
            return Ok((inode.size(), 0));
        }
        let resolved = inode.clone();
        let resolve: Rc<dyn Fn() -> Range> =
            Rc::new(move || Range::new(floor(resolved.size()), u64::MAX));
        let lock = || Ok(inode.rl.lock_resolved(task, resolve.clone())?);
        let before = self.end_before_lock(inode);
        let _rl = self.lock_unheld(task, inode, lock)?; // WRITE.1, APPEND rule
        let offset = before.unwrap_or_else(|| inode.size());
        let span = write_span(offset, source.len())?;
        Ok((offset, self.write_locked(task, inode, span, &Source::Bytes(source))?))
    }

    /// WRITE.1: RL W of what is written, with no layout left (W-6); up to the end of everything,
    /// from the old end on, if the size will change. The end is looked at again when the lock is
    /// granted (§7.2).
    pub(crate) fn lock_write(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<Guard> {
        let resolved = inode.clone();
        let resolve: Rc<dyn Fn() -> Range> = Rc::new(move || {
            let size = resolved.size();
            if span.end <= size {
                return span.lock_range();
            }
            Range::new(floor(span.start.min(size)), u64::MAX)
        });
        self.lock_unheld(task, inode, || Ok(inode.rl.lock_resolved(task, resolve.clone())?))
    }

    /// WRITE.2 to WRITE.5, with RL W held.
    pub(crate) fn write_locked(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        source: &Source<'_>,
    ) -> Result<usize> {
        self.clear_tail(task, inode, span.start)?;
        let mut done = 0;
        for index in span.blocks().iter() {
            let (within, len) = part_of(span, index);
            match self.write_page(task, inode, index, within, source.part(done, len)) {
                Ok(()) => done += len,
                Err(error) if done == 0 || error.is_stopped() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// WRITE.2 to WRITE.5 of one page.
    fn write_page(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        index: u64,
        within: usize,
        source: Source<'_>,
    ) -> Result<()> {
        let start = index * BLOCK_BYTES + within as u64;
        let written = Span::new(start, start + source.len() as u64);
        // Nothing of the old content stays: neither before nor behind what is written.
        let is_whole =
            source.len() as u64 == BLOCK_BYTES || within == 0 && written.end >= inode.size();
        let object = Object::new(kind::PAGE, inode.ino.0, index);
        let (mut has_gained, mut incoming) = (false, Incoming::new(source));
        loop {
            let reserve = self.reserve_page(task, inode, index)?; // WRITE.2, W-5: only RL is held
            incoming.prepare(self, task)?; // WRITE.3: fault-in, only RL is held
            let page = self.page_for_write(task, inode, index, is_whole)?; // WRITE.4: find or fill
            let locked = page.lock().lock(task)?; // WRITE.4: +PAGE
            if !page.is_attached() || !(is_whole || page.is_uptodate()) {
                task.progress("writing a page")?; // evicted meanwhile
                continue;
            }
            self.wait_stable(task, inode, &page)?;
            task.site(&COPY, object, Access::Write)?;
            if !incoming.take(self, task)? {
                continue; // F-4: memory is gone again: -PAGE, and fault it in
            }
            let copy = || copy_in(&page, within, incoming.bytes(), is_whole);
            if page.is_dirty() && written.end <= inode.size() {
                copy();
                return Ok(());
            }
            let _dirtied = match self.dirty_page(task, inode, &page, reserve, copy) {
                Err(Error::NoSpace { .. }) if !has_gained => {
                    // It had a place before, or the trees need more than was set aside.
                    has_gained = true;
                    drop(locked);
                    self.gain_space(task)?; // W-5
                    continue;
                }
                other => other?, // WRITE.4: Delalloc, dirty
            };
            inode.grow(written.end, written); // WRITE.5, X-7: dirty and up to date
            return Ok(()); // WRITE.4: -PAGE
        }
    }

    /// A page to write to: with the file's content, unless all of that will be overwritten.
    fn page_for_write(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        index: u64,
        is_whole: bool,
    ) -> Result<Rc<Page>> {
        if !is_whole {
            return self.page_in(task, inode, index);
        }
        if let Some(page) = inode.pages.find(index) {
            return Ok(page);
        }
        let range = Blocks::one(index).bytes().lock_range();
        let _ml = inode.ml.lock(task, range, Mode::Read)?; // P-1
        Ok(self.add_page(inode, index))
    }

    /// Waits until what is under IO may be overwritten: with checksums, content is stable while it
    /// is being written. PAGE is held; the end of writeback takes no PAGE.
    pub(crate) fn wait_stable(&self, task: &Task, inode: &Inode, page: &Page) -> Result<()> {
        if inode.has_datasum() && page.is_under_writeback() {
            self.wait_page(task, inode, page)?;
        }
        Ok(())
    }

    /// Waits for the end of a page's writeback.
    pub(crate) fn wait_page(&self, task: &Task, inode: &Inode, page: &Page) -> Result<()> {
        let object = Object::new(kind::PAGE, inode.ino.0, page.index());
        task.site(&WAIT, object, Access::Acquire)?;
        let queue = inode.pages.writeback_end();
        let server = Server::Worker("cw");
        Ok(task.wait(queue, &WBWAIT, object, server, || !page.is_under_writeback())?)
    }

    /// Makes a page dirty that has its content and is locked, and sees to it that it has a place:
    /// blocks of the file that may be overwritten, or space set aside (Delalloc). `change` gives it
    /// its new content, at the same instant. The caller may change the size while it has the result
    /// (EXT W).
    ///
    /// # Errors
    /// `NoSpace` if there is no place and `reserve` is none; those of trees; `Stopped`.
    pub(crate) fn dirty_page(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        page: &Page,
        reserve: Option<Reserve>,
        change: impl FnOnce(),
    ) -> Result<Dirtied> {
        debug_assert!(page.lock().is_locked() && page.is_attached(), "P-2: under PAGE, rechecked");
        let allocates = !self.options().delalloc;
        let exposes = self.exposes_allocation(inode);
        let handle = if allocates { Some(self.join(task)?) } else { None };
        let ext = self.write_extents(task, inode)?;
        let index = page.index();
        let mut in_place = self.writes_in_place(task, inode, index)?;
        let is_hole = inode.extents.borrow().at(index).is_none();
        if let Some(handle) = handle.as_ref().filter(|_| is_hole && !page.is_reserved()) {
            // FAULT.5, nodelalloc: never Written before the data are there.
            self.allocate_unwritten(task, handle, inode, index, reserve.as_ref())?;
            if exposes {
                self.expose_new(inode, index);
            }
            in_place = true;
        }
        if !page.is_reserved() {
            self.set_aside(inode, page, reserve, in_place)?;
        }
        task.site(&DIRTY, Object::new(kind::PAGE, inode.ino.0, index), Access::Write)?;
        change();
        page.set_uptodate();
        self.look_at_dirtied(inode, page); // P-2
        inode.pages.set_dirty(page);
        self.kick_flusher(inode.ino);
        Ok(Dirtied { _ext: ext, _handle: handle })
    }

    /// Lets a page keep what its completion may add for good: a block of data unless it has one,
    /// and nodes of trees. Whatever they copy besides comes back with the commit. Under EXT.
    ///
    /// # Errors
    /// `NoSpace`.
    fn set_aside(
        &self,
        inode: &Inode,
        page: &Page,
        reserve: Option<Reserve>,
        in_place: bool,
    ) -> Result<()> {
        let store = self.store();
        let kept = match (reserve, in_place) {
            (Some(reserve), false) => reserve, // Hole or shared -> Delalloc
            (None, false) => store.reserve_data(1)?,
            _ if self.is_written(inode, page.index()) => return Ok(()), // no tree will change
            (Some(reserve), true) => reserve.split(store.metadata_for(1)),
            (None, true) => store.reserve_growth(1)?,
        };
        page.set_reserve(kept);
        Ok(())
    }

    /// Whether the file has written blocks there. Under EXT.
    fn is_written(&self, inode: &Inode, index: u64) -> bool {
        let map = inode.extents.borrow();
        map.at(index).is_some_and(|extent| matches!(extent.state, ExtentState::Written))
    }

    /// Whether the next writeback of a block goes to the blocks that the file has. Under EXT.
    pub(crate) fn writes_in_place(&self, task: &Task, inode: &Inode, index: u64) -> Result<bool> {
        let found = inode.extents.borrow().at(index).map(|it| it.clipped(Blocks::one(index)));
        let Some(extent) = found else { return Ok(false) };
        self.is_overwritable(task, inode, &extent)
    }

    /// Whether data may be written to the blocks of an extent: they hold nothing yet, or the file
    /// is overwritten in place, and nobody else refers to any of them. Under EXT.
    pub(crate) fn is_overwritable(
        &self,
        task: &Task,
        inode: &Inode,
        extent: &Extent,
    ) -> Result<bool> {
        let suits = match extent.state {
            ExtentState::Unwritten => true,
            ExtentState::Written => !inode.has_datacow(),
            ExtentState::Pending(_) => false,
        };
        if !suits {
            return Ok(false);
        }
        let run = extent.run();
        let references = self.store().references(task, run)?;
        let is_single = references.iter().all(|&(_, count)| count == 1);
        // A crash would bring another reference back that went while the tree was waited for: so
        // this is asked last.
        Ok(is_single && !self.store().was_shared(run))
    }

    /// Gives a hole an unwritten block at once, as mounts without delayed allocation do. Under EXT
    /// W.
    fn allocate_unwritten(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        index: u64,
        reserve: Option<&Reserve>,
    ) -> Result<()> {
        self.store().reserve_changes(handle, 4)?;
        let hint = self.hint_for(inode, index);
        let run = self.store().allocate_data(task, handle, 1, hint, reserve)?;
        let blocks = Blocks::one(index);
        let kind = ExtentKind::Unwritten;
        self.insert_extent(task, handle, inode, blocks, run.block, kind)
            .and_then(|()| self.write_item(task, handle, inode))
            .inspect_err(|_| self.abort())
    }

    /// Where the data of a block would best lie: behind those of the block before. Under EXT.
    pub(crate) fn hint_for(&self, inode: &Inode, index: u64) -> Option<u64> {
        let before = index.checked_sub(1)?;
        inode.extents.borrow().at(before).map(|extent| extent.block_of(before) + 1)
    }

    /// A change of trees failed in the middle: nothing of the transaction may become durable (B-3).
    /// A stopped machine needs no telling.
    pub(crate) fn abort(&self) {
        self.store().abort();
    }

    /// WRITE.2: space for `blocks` blocks of data and what they need. If there is none, what is
    /// dirty is written, as it holds more than it will use, and a commit frees what is pinned: W-5,
    /// at most RL is held.
    ///
    /// # Errors
    /// `NoSpace`; those of committing.
    pub fn reserve_blocks(&self, task: &Task, blocks: u64) -> Result<Reserve> {
        match self.store().reserve_data(blocks) {
            Err(Error::NoSpace { .. }) => {}
            other => return other,
        }
        self.gain_space(task)?;
        self.store().reserve_data(blocks)
    }

    /// Writes what is dirty, as it holds more space than it will use, and commits: W-5, at most RL
    /// is held.
    ///
    /// # Errors
    /// Those of committing; errors of writing stay with their files.
    pub(crate) fn gain_space(&self, task: &Task) -> Result<()> {
        let (mut after, all) = (Ino(0), Span::ALL.blocks());
        while let Some(inode) = self.inodes().next_after(after) {
            after = inode.ino;
            self.write_range(task, &inode, all, Effort::Wait)?;
            self.wait_writeback(task, &inode, all)?;
        }
        if self.may_gain_space() {
            self.store().commit(task)?;
        }
        Ok(())
    }

    /// Whether a commit would give space back: freed blocks, or what was promised to completions.
    pub(crate) fn may_gain_space(&self) -> bool {
        self.store().held_blocks() > 0 || self.store().pending() > 0
    }

    /// WRITE.2 and FAULT.1 of one page: nothing if it has a place already, which is how what was
    /// preallocated can be written on a full device.
    pub(crate) fn reserve_page(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        index: u64,
    ) -> Result<Option<Reserve>> {
        if inode.pages.find(index).is_some_and(|page| page.is_dirty()) {
            return Ok(None);
        }
        match self.reserve_blocks(task, 1) {
            Err(error @ Error::NoSpace { .. }) => {
                let _ext = self.read_extents(task, inode)?;
                if self.writes_in_place(task, inode, index)? { Ok(None) } else { Err(error) }
            }
            other => other.map(Some),
        }
    }

    /// before a write or a change of size exposes what lies behind the end of the file up to
    /// `start`, that is zero. RL W of it is held.
    ///
    /// # Errors
    /// Those of reading the last block and of dirtying it.
    pub fn clear_tail(&self, task: &Task, inode: &Rc<Inode>, start: u64) -> Result<()> {
        let size = inode.size();
        let block_end = size.next_multiple_of(BLOCK_BYTES);
        if size == block_end || start <= size {
            return Ok(());
        }
        let index = size / BLOCK_BYTES;
        if inode.pages.find(index).is_none() && self.reads_as_zeros(task, inode, index)? {
            return Ok(());
        }
        let reserve = self.reserve_blocks(task, 1)?;
        loop {
            let page = self.page_in(task, inode, index)?;
            let _locked = page.lock().lock(task)?;
            if page.is_attached() {
                return self.zero_locked(task, inode, &page, Span::new(size, block_end), reserve);
            }
            task.progress("zeroing the end of a file")?;
        }
    }

    /// Zeroes bytes of one block through the page cache, as PUNCH.4 and TRUNCATE.5 do with the
    /// blocks at the edges. RL W and ML W of the block are held.
    ///
    /// # Errors
    /// Those of reading the block and of dirtying it.
    pub fn zero_partial(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        let index = span.start / BLOCK_BYTES;
        assert_eq!(span.blocks().len(), 1, "a part of one block");
        if inode.pages.find(index).is_none() && self.reads_as_zeros(task, inode, index)? {
            return Ok(());
        }
        let reserve = self.store().reserve_data(1)?; // W-5: ML is held, nothing may be flushed
        let page = self.add_page(inode, index); // P-1: under ML W
        let _locked = page.lock().lock(task)?;
        if !page.is_attached() {
            return Err(Error::Bug("a page was evicted without the mapping lock"));
        }
        self.fill_locked(task, inode, &page)?;
        self.zero_locked(task, inode, &page, span, reserve)
    }

    /// As [`zero_partial`](Self::zero_partial) where a full device lets nothing be dirtied: behind
    /// the end of the file, so that mappings show zeros. X-8 is left to whoever raises the size.
    ///
    /// # Errors
    /// Those of reading the block.
    pub fn zero_unsaved(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let index = span.start / BLOCK_BYTES;
        debug_assert!(span.start >= inode.size(), "nobody misses it");
        let page = self.add_page(inode, index); // P-1: under ML W
        let _locked = page.lock().lock(task)?;
        if !page.is_attached() {
            return Err(Error::Bug("a page was evicted without the mapping lock"));
        }
        self.fill_locked(task, inode, &page)?;
        let (within, len) = part_of(span, index);
        if !is_zero(&page, within, len) {
            page.change(|bytes| bytes[within..within + len].fill(0));
            page.mark_unsaved();
        }
        Ok(())
    }

    fn zero_locked(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        page: &Page,
        span: Span,
        reserve: Reserve,
    ) -> Result<()> {
        let (within, len) = part_of(span, page.index());
        if is_zero(page, within, len) && !page.is_unsaved() {
            return Ok(());
        }
        self.wait_stable(task, inode, page)?;
        let zero = || page.change(|bytes| bytes[within..within + len].fill(0));
        let _dirtied = self.dirty_page(task, inode, page, Some(reserve), zero)?;
        debug_assert!(is_zero(page, within, len) && page.is_dirty());
        Ok(())
    }

    fn reads_as_zeros(&self, task: &Task, inode: &Inode, index: u64) -> Result<bool> {
        let _ext = self.read_extents(task, inode)?;
        let map = inode.extents.borrow();
        Ok(map.at(index).is_none_or(|extent| matches!(extent.state, ExtentState::Unwritten)))
    }
}

/// What a write touches.
///
/// # Errors
/// `EINVAL`, `EFBIG` as POSIX has them: a write that begins within the greatest size is cut there.
pub(crate) fn write_span(offset: u64, len: usize) -> Result<Span> {
    if len == 0 {
        return Ok(Span::new(offset.min(FILE_BYTES_MAX), offset.min(FILE_BYTES_MAX)));
    }
    if offset > i64::MAX as u64 {
        return Err(Errno::EINVAL.into());
    }
    if offset >= FILE_BYTES_MAX {
        return Err(Errno::EFBIG.into());
    }
    Ok(Span::new(offset, offset.saturating_add(len as u64).min(FILE_BYTES_MAX)))
}

/// The start of the block of a byte.
pub(crate) const fn floor(offset: u64) -> u64 {
    offset / BLOCK_BYTES * BLOCK_BYTES
}

/// Whether bytes of a page are zero.
fn is_zero(page: &Page, within: usize, len: usize) -> bool {
    page.data().bytes()[within..within + len].iter().all(|byte| *byte == 0)
}

/// Copies into a locked page. No scheduling point.
fn copy_in(page: &Page, within: usize, bytes: &[u8], is_whole: bool) {
    if bytes.len() as u64 == BLOCK_BYTES {
        page.fill(Block::from_slice(bytes));
        return;
    }
    let was_uptodate = page.is_uptodate();
    page.change(|content| {
        if !was_uptodate {
            debug_assert!(is_whole, "old content is kept");
            content.fill(0);
        }
        content[within..within + bytes.len()].copy_from_slice(bytes);
    });
}

/// The digests of blocks, for a file with checksums (X-9: computed on content that cannot change).
pub(crate) fn digests_of(inode: &Inode, contents: &[Block]) -> Digests {
    if !inode.has_datasum() {
        return Digests::new();
    }
    contents.iter().map(Block::digest).collect()
}
