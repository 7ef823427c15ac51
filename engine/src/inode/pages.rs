//! The page cache of a file: pages with their state, and the tags by which they are found.
//!
//! A page's content is shared with the device as long as it is clean; the first change copies it.
//! Writeback gives the content to a block that never changes again, so that what is under IO is
//! stable whoever writes to the page meanwhile.
//!
//! Promises: dirty and writeback are tags of the cache, changed together with the page (P-3: no
//! instant with neither between the two). It must never know extents or tasks beyond the lock that
//! a page owns.

use super::span::Blocks;
use crate::classes::PAGE;
use crate::store::Reserve;
use crate::types::Ino;
use machine::cell::{Cell, Ref, RefCell};
use machine::{BLOCK_BYTES, Block, Machine, Mutex, Tally, WaitQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The content of a page.
pub enum PageData {
    /// As on the device, or under writeback: shared, immutable.
    Clean(Block),
    /// Changed since.
    Dirty(Box<[u8; BLOCK_BYTES]>),
}

impl PageData {
    /// Whether these are the bytes of a block.
    pub(crate) fn is_same(&self, block: &Block) -> bool {
        match self {
            PageData::Clean(mine) => mine == block,
            PageData::Dirty(bytes) => **bytes == *block.bytes(),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        match self {
            PageData::Clean(block) => block.bytes(),
            PageData::Dirty(bytes) => bytes,
        }
    }
}

/// A cached block of a file. Its lock guards the state; content is read without it, as processors
/// do.
pub struct Page {
    index: u64,
    lock: Mutex,
    data: RefCell<PageData>,
    uptodate: Cell<bool>,
    attached: Cell<bool>,
    dirty: Cell<bool>,
    writeback: Cell<bool>,
    unsaved: Cell<bool>,
    reserve: RefCell<Option<Reserve>>,
}

impl Page {
    /// Which block of the file.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The lock of class PAGE.
    pub fn lock(&self) -> &Mutex {
        &self.lock
    }

    /// Whether the content is the file's.
    pub fn is_uptodate(&self) -> bool {
        self.uptodate.get()
    }

    /// The content is the file's from now on.
    pub fn set_uptodate(&self) {
        self.uptodate.set(true);
    }

    /// Whether the page is still in the cache: to be looked at again whenever the lock was won.
    pub fn is_attached(&self) -> bool {
        self.attached.get()
    }

    /// Whether the content differs from the device's.
    pub fn is_dirty(&self) -> bool {
        self.dirty.get()
    }

    /// Whether the content is on its way to the device.
    pub fn is_under_writeback(&self) -> bool {
        self.writeback.get()
    }

    /// Whether a clean page holds what the device does not: its writeback failed, or its file ends
    /// in it and the device has more than zeros behind the end.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved.get()
    }

    /// The content of a clean page is not the device's from now on, until the page is dirty. A
    /// dirty one will be written anyhow.
    pub fn mark_unsaved(&self) {
        self.unsaved.set(!self.dirty.get());
    }

    /// Whether a block of space is set aside for it: delayed allocation.
    pub fn is_reserved(&self) -> bool {
        self.reserve.borrow().is_some()
    }

    /// Sets a block of space aside for it.
    pub fn set_reserve(&self, reserve: Reserve) {
        let before = self.reserve.replace(Some(reserve));
        debug_assert!(before.is_none(), "one block a page");
    }

    /// What was set aside for it.
    pub fn take_reserve(&self) -> Option<Reserve> {
        self.reserve.take()
    }

    /// Gives back what was set aside. No scheduling point.
    pub fn drop_reserve(&self) {
        self.reserve.take();
    }

    /// The content.
    pub fn data(&self) -> Ref<'_, PageData> {
        self.data.borrow()
    }

    /// The content as a block that never changes.
    pub fn snapshot(&self) -> Block {
        match &*self.data.borrow() {
            PageData::Clean(block) => block.clone(),
            PageData::Dirty(bytes) => Block::new(bytes),
        }
    }

    /// Replaces the content with a block that is shared.
    pub fn fill(&self, content: Block) {
        *self.data.borrow_mut() = PageData::Clean(content);
    }

    /// Changes the content in place; copies it first if it is shared.
    pub fn change<R>(&self, change: impl FnOnce(&mut [u8; BLOCK_BYTES]) -> R) -> R {
        let mut data = self.data.borrow_mut();
        if let PageData::Clean(block) = &*data {
            *data = PageData::Dirty(Box::new(*block.bytes()));
        }
        match &mut *data {
            PageData::Dirty(bytes) => change(bytes),
            PageData::Clean(_) => unreachable!("just copied"),
        }
    }

    /// Gives the content to a block that never changes, and keeps sharing it.
    pub fn freeze(&self) -> Block {
        let block = self.snapshot();
        self.fill(block.clone());
        block
    }
}

/// The pages of one file.
pub struct PageCache {
    ino: Ino,
    machine: Machine,
    pages: RefCell<BTreeMap<u64, Rc<Page>>>,
    dirty: RefCell<BTreeSet<u64>>,
    writeback: RefCell<BTreeSet<u64>>,
    /// Pages whose content is not yet part of the file: dirty, or under writeback and not retired.
    unsettled: RefCell<BTreeSet<u64>>,
    writeback_end: WaitQueue,
    /// For the checkers alone.
    changes: Tally,
}

impl PageCache {
    pub(super) fn new(machine: &Machine, ino: Ino) -> PageCache {
        PageCache {
            ino,
            machine: machine.clone(),
            pages: RefCell::default(),
            dirty: RefCell::default(),
            writeback: RefCell::default(),
            unsettled: RefCell::default(),
            writeback_end: WaitQueue::new(machine),
            changes: Tally::default(),
        }
    }

    /// How often pages, or entries of page tables that lead to them, have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.count()
    }

    /// Something of a page, or of an entry that leads to one, changed.
    pub(crate) fn note_change(&self) {
        self.changes.note();
        self.machine.changes().note();
    }

    /// Waited on for the end of writeback (WBWAIT).
    pub fn writeback_end(&self) -> &WaitQueue {
        &self.writeback_end
    }

    /// A page, if it is cached.
    pub fn find(&self, index: u64) -> Option<Rc<Page>> {
        self.pages.borrow().get(&index).cloned()
    }

    /// A page, and whether it was added just now: not up to date. P-1: the caller holds ML R of the
    /// index, or ML W.
    pub fn find_or_add(&self, index: u64) -> (Rc<Page>, bool) {
        if let Some(page) = self.find(index) {
            return (page, false);
        }
        let page = Rc::new(Page {
            index,
            lock: Mutex::new(&self.machine, &PAGE, (self.ino.0, index)),
            data: RefCell::new(PageData::Clean(Block::zero())),
            uptodate: Cell::new(false),
            attached: Cell::new(true),
            dirty: Cell::new(false),
            writeback: Cell::new(false),
            unsaved: Cell::new(false),
            reserve: RefCell::default(),
        });
        self.note_change();
        self.pages.borrow_mut().insert(index, page.clone());
        (page, true)
    }

    /// Takes a page out of the cache. The caller holds its lock, and nothing of it is in flight.
    pub fn detach(&self, page: &Page) {
        assert!(!page.writeback.get(), "P-5: a page under writeback is not evicted");
        assert!(!page.dirty.get() && !page.is_reserved(), "a page is cleaned before it goes");
        let removed = self.pages.borrow_mut().remove(&page.index);
        assert!(removed.is_some_and(|it| std::ptr::eq(&*it, page)), "evicted once");
        page.attached.set(false);
        self.note_change();
    }

    /// Tags a page as dirty. Tells whether it was not.
    pub fn set_dirty(&self, page: &Page) -> bool {
        assert!(page.attached.get() && page.uptodate.get(), "P-2: dirty only with content");
        if page.dirty.replace(true) {
            return false;
        }
        page.unsaved.set(false);
        self.note_change();
        self.dirty.borrow_mut().insert(page.index);
        self.unsettled.borrow_mut().insert(page.index);
        true
    }

    /// Clears the dirty tag of a page whose content is given up. Tells whether it was set.
    pub fn clear_dirty(&self, page: &Page) -> bool {
        if !self.untag_dirty(page) {
            return false;
        }
        if !page.writeback.get() {
            self.unsettled.borrow_mut().remove(&page.index);
        }
        true
    }

    fn untag_dirty(&self, page: &Page) -> bool {
        self.note_change();
        page.dirty.replace(false) && self.dirty.borrow_mut().remove(&page.index)
    }

    /// Dirty becomes writeback, with no instant between (P-3).
    pub fn start_writeback(&self, page: &Page) {
        assert!(page.dirty.get() && !page.writeback.get(), "a dirty page, written once at a time");
        page.writeback.set(true);
        self.note_change();
        self.writeback.borrow_mut().insert(page.index);
        self.untag_dirty(page);
    }

    /// What was under writeback in these blocks is part of the file now, or lost: sizes need not
    /// wait for it any more. The writeback itself ends later.
    pub fn settle(&self, blocks: Blocks) {
        self.note_change();
        let mut unsettled = self.unsettled.borrow_mut();
        let dirty = self.dirty.borrow();
        for index in blocks.iter() {
            if !dirty.contains(&index) {
                unsettled.remove(&index);
            }
        }
    }

    /// The first page in a range whose content is not yet part of the file.
    pub fn first_unsettled(&self, blocks: Blocks) -> Option<u64> {
        self.unsettled.borrow().range(blocks.iter()).next().copied()
    }

    /// The writeback of a page ended. Takes no lock: completion owns the page's writeback.
    pub fn end_writeback(&self, page: &Page) {
        assert!(page.writeback.replace(false), "ended once");
        self.note_change();
        self.writeback.borrow_mut().remove(&page.index);
        self.writeback_end.wake_all();
    }

    /// The first dirty page in a range.
    pub fn first_dirty(&self, blocks: Blocks) -> Option<u64> {
        self.dirty.borrow().range(blocks.iter()).next().copied()
    }

    /// The first page under writeback in a range.
    pub fn first_under_writeback(&self, blocks: Blocks) -> Option<u64> {
        self.writeback.borrow().range(blocks.iter()).next().copied()
    }

    /// The first cached page in a range.
    pub fn first_in(&self, blocks: Blocks) -> Option<Rc<Page>> {
        self.pages.borrow().range(blocks.iter()).next().map(|(_, page)| page.clone())
    }

    /// Whether any page is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.borrow().is_empty()
    }

    /// How many pages are dirty.
    pub fn dirty_count(&self) -> usize {
        self.dirty.borrow().len()
    }

    /// How many pages are cached.
    pub fn len(&self) -> usize {
        self.pages.borrow().len()
    }

    /// Whether no page is cached.
    pub fn is_empty(&self) -> bool {
        self.pages.borrow().is_empty()
    }

    /// Calls `visit` with each page, in order.
    pub fn for_each(&self, mut visit: impl FnMut(&Rc<Page>)) {
        self.pages.borrow().values().for_each(&mut visit);
    }

    /// Forgets everything, as a mount that is abandoned does.
    pub(super) fn clear(&self) {
        self.pages.borrow_mut().clear();
        self.dirty.borrow_mut().clear();
        self.writeback.borrow_mut().clear();
        self.unsettled.borrow_mut().clear();
    }
}
