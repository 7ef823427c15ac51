//! An inode in memory: its locks, sizes, extents, pages and marks.
//!
//! Everything here is shared between tasks; the lock that guards each part is named beside it.
//!
//! Promises: the pair of extent map and ordered extents changes in two places only,
//! `publish_pending` and `retire`. It must never know paths: what locks are taken in which
//! order is theirs.

pub mod cache;
pub mod errseq;
pub mod extents;
pub mod layouts;
pub mod log_state;
pub mod mapping;
pub mod ordered;
pub mod pages;
pub mod span;

use crate::classes::{DIO_SEM, EXT, LOGI, ML, RL, RMAP};
use crate::mm::MappingState;
use crate::store::InodeItem;
use crate::types::{BLOCK_BYTES, Ino, TransactionId};
use errseq::ErrSeq;
use extents::{Extent, ExtentMap};
use layouts::Layouts;
use log_state::LogState;
use machine::cell::{Cell, RefCell};
use machine::{Machine, Mutex, RangeLock, RwLock, Tally, WaitQueue};
use ordered::OrderedTable;
use pages::{Page, PageCache};
use span::{Blocks, Span};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// An inode in memory.
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Byte ranges as system calls lock them.
    pub rl: RangeLock,
    /// Byte ranges as page faults and fills lock them.
    pub ml: RangeLock,
    /// Guards extents, ordered extents, sizes and the inode's items.
    pub ext: RwLock,
    /// Guards the logging of the inode.
    pub logi: Mutex,
    /// Guards the list of mappings.
    pub rmap: Mutex,
    /// The extent map. Under EXT.
    pub extents: RefCell<ExtentMap>,
    /// Ordered extents in flight. Under EXT.
    pub ordered: RefCell<OrderedTable>,
    /// Waited on for the completion of ordered extents (OEWAIT).
    pub ordered_end: WaitQueue,
    /// The page cache.
    pub pages: PageCache,
    /// What fsync must log.
    pub log: LogState,
    /// Who may write its blocks past the file system. RL W and ML W to grant.
    pub layouts: Layouts,
    /// Errors of writeback.
    pub errors: ErrSeq,
    /// Mappings of the file. Under RMAP.
    pub mappings: RefCell<Vec<Rc<MappingState>>>,
    /// The inode's item as the tree has it, but for the size. Under EXT.
    item: Cell<InodeItem>,
    /// The size in memory, in bytes. Under EXT.
    size: Cell<u64>,
    /// The size in the tree, in bytes. Under EXT.
    disk_size: Cell<u64>,
    /// The size in bytes that a log has, which the tree has once nothing before it is in flight:
    /// what gets dirty later replaces what is there. Under EXT.
    logged_size: Cell<u64>,
    /// For the checkers alone: the count of changes that they have looked at.
    pub(crate) looked_at: Tally,
    /// Open files and mappings.
    users: Cell<u32>,
    /// Historical: direct reads in flight, where some defect counts them (i_dio_count).
    pub(crate) direct_reads: Cell<u32>,
    /// Historical: held while a pair is published, where some defect does so.
    pub(crate) dio_sem: RwLock,
    /// Historical: the extent that writeback saw last, where some defect keeps it.
    pub(crate) last_mapping: RefCell<Option<Extent>>,
    /// Historical: blocks that direct reads take for written before they are, by block of the file:
    /// on the device, and the page that is to be written there. Under EXT.
    pub(crate) exposed: RefCell<BTreeMap<u64, (u64, Weak<Page>)>>,
}

impl Inode {
    /// An inode as the tree has it.
    pub fn new(machine: &Machine, ino: Ino, item: InodeItem) -> Rc<Inode> {
        let instance = (ino.0, 0);
        Rc::new(Inode {
            ino,
            rl: RangeLock::new(machine, &RL, instance),
            ml: RangeLock::new(machine, &ML, instance),
            ext: RwLock::new(machine, &EXT, instance),
            logi: Mutex::new(machine, &LOGI, instance),
            rmap: Mutex::new(machine, &RMAP, instance),
            extents: RefCell::new(ExtentMap::new(machine.changes())),
            ordered: RefCell::new(OrderedTable::new(machine.changes())),
            ordered_end: WaitQueue::new(machine),
            pages: PageCache::new(machine, ino),
            log: LogState::new(item.size, TransactionId(item.transid)),
            layouts: Layouts::new(machine),
            errors: ErrSeq::default(),
            mappings: RefCell::default(),
            item: Cell::new(item),
            size: Cell::new(item.size),
            disk_size: Cell::new(item.size),
            logged_size: Cell::new(0),
            looked_at: Tally::default(),
            users: Cell::new(0),
            direct_reads: Cell::new(0),
            dio_sem: RwLock::new(machine, &DIO_SEM, instance),
            last_mapping: RefCell::default(),
            exposed: RefCell::default(),
        })
    }

    /// The inode's item, with the size that the tree may have (disk_i_size).
    pub fn item(&self) -> InodeItem {
        InodeItem { size: self.disk_size.get(), ..self.item.get() }
    }

    /// Changes the item, but for its size. Under EXT W; the caller writes it
    /// ([`write_item`](crate::fs::Fs::write_item)).
    pub fn change_item(&self, change: impl FnOnce(&mut InodeItem)) {
        let mut item = self.item.get();
        change(&mut item);
        self.item.set(item);
    }

    /// i_size: the size in bytes that everybody sees.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// disk_i_size: the size in bytes that a commit makes durable.
    pub fn disk_size(&self) -> u64 {
        self.disk_size.get()
    }

    /// Lowers i_size. Under EXT W, and RL W of everything from the new size on (§7.2).
    pub fn lower_size(&self, size: u64) {
        assert!(size <= self.size.get(), "a size is lowered");
        self.size.set(size);
        self.logged_size.set(self.logged_size.get().min(size));
    }

    /// Raises i_size, if it is less. Under EXT W, and RL W of everything from the old size on
    /// (§7.2). What mappings stored behind the old end, but for what was `written`, becomes zero at
    /// the same instant. Tells whether the size changed.
    pub fn grow(&self, size: u64, written: Span) -> bool {
        let old = self.size.get();
        if size <= old {
            return false;
        }
        let index = old / BLOCK_BYTES;
        let tail = Span::new(old, Blocks::one(index).bytes().end);
        // a clean page has no such bytes, writeback removed them.
        let page = self
            .pages
            .find(index)
            .filter(|page| !old.is_multiple_of(BLOCK_BYTES) && page.is_dirty());
        if let Some(page) = page {
            let within = |offset: u64| offset.clamp(tail.start, tail.end);
            let keep = Span::new(within(written.start), within(written.end));
            let at = |offset: u64| (offset - index * BLOCK_BYTES) as usize;
            page.change(|bytes| {
                bytes[at(tail.start)..at(keep.start)].fill(0);
                bytes[at(keep.end)..at(tail.end)].fill(0);
            });
        }
        self.size.set(size);
        true
    }

    /// Lowers disk_i_size, as a truncate does chunk by chunk. Under EXT W.
    pub fn lower_disk_size(&self, size: u64) {
        self.disk_size.set(self.disk_size.get().min(size));
    }

    /// disk_i_size as it will be when what is in flight within `blocks` is part of the file, and
    /// nothing else. Under EXT W.
    pub fn disk_size_after(&self, blocks: Blocks) -> u64 {
        let old = self.disk_size.get();
        let mut rest = Blocks { start: old / BLOCK_BYTES, end: u64::MAX };
        let in_flight = self.ordered.borrow();
        let others = in_flight.iter().filter(|it| !it.blocks.overlaps(blocks));
        let other = others.map(|it| it.blocks).find(|it| it.end > rest.start);
        let other = other.map(|it| it.start.max(rest.start));
        // A page that is dirty again holds more than what is in flight.
        let is_taken = |index: u64| {
            let taken = in_flight.first_in(Blocks::one(index));
            taken.is_some_and(|it| it.blocks.overlaps(blocks))
                && self.pages.first_dirty(Blocks::one(index)).is_none()
        };
        let mut cached = self.pages.first_unsettled(rest);
        while let Some(index) = cached.filter(|&index| is_taken(index)) {
            rest.start = index + 1;
            cached = self.pages.first_unsettled(rest);
        }
        let incomplete = [other, cached].into_iter().flatten().min();
        let bound = incomplete.map_or(u64::MAX, |index| index.saturating_mul(BLOCK_BYTES));
        self.size.get().min(bound).max(old).max(self.logged_size.get())
    }

    /// A log has this size in bytes, together with what is in flight before it, or fsync commits
    /// instead: the next commit must have it too, whatever gets dirty meanwhile. Under EXT W.
    pub fn note_logged_size(&self, size: u64) {
        debug_assert!(size <= self.size.get(), "X-7: of what can be read");
        self.logged_size.set(self.logged_size.get().max(size));
    }

    /// Raises disk_i_size as far as everything before it is part of the file. Under EXT W.
    /// Tells whether it changed.
    pub fn raise_disk_size(&self) -> bool {
        let old = self.disk_size.get();
        let rest = Blocks { start: old / BLOCK_BYTES, end: u64::MAX };
        let ordered =
            self.ordered.borrow().first_in(rest).map(|it| it.blocks.start.max(rest.start));
        let cached = self.pages.first_unsettled(rest);
        let bytes =
            |index: Option<u64>| index.map_or(u64::MAX, |it| it.saturating_mul(BLOCK_BYTES));
        let bound = bytes(ordered).min(bytes(cached));
        let logged = self.logged_size.get().min(bytes(ordered));
        let new = self.size.get().min(bound).max(logged).max(old);
        self.disk_size.set(new);
        new != old
    }

    /// Whether data blocks have checksums.
    pub fn has_datasum(&self) -> bool {
        !self.item.get().has(InodeItem::NODATASUM)
    }

    /// Whether overwriting allocates new blocks. In-place files have no checksums either: a block
    /// and its checksum cannot change together.
    pub fn has_datacow(&self) -> bool {
        !self.item.get().has(InodeItem::NODATACOW) || self.has_datasum()
    }

    /// Open files and mappings.
    pub fn users(&self) -> u32 {
        self.users.get()
    }

    /// One more open file or mapping.
    pub fn add_user(&self) {
        self.users.set(self.users.get() + 1);
    }

    /// One less. Tells whether it was the last.
    pub fn remove_user(&self) -> bool {
        let users = self.users.get();
        assert!(users > 0, "closed more often than opened");
        self.users.set(users - 1);
        users == 1
    }

    /// Whether anything of it exists in memory only.
    pub fn is_busy(&self) -> bool {
        self.users.get() > 0
            || self.pages.has_dirty()
            || self.pages.first_under_writeback(Span::ALL.blocks()).is_some()
            || !self.ordered.borrow().is_empty()
    }

    /// Forgets everything in memory, as a mount that is abandoned does: breaks the circle of inode
    /// and ordered extents.
    pub(crate) fn abandon(&self) {
        self.extents.borrow_mut().clear();
        self.ordered.borrow_mut().clear();
        self.last_mapping.borrow_mut().take();
        self.pages.clear();
        self.mappings.borrow_mut().clear();
        self.layouts.clear();
    }
}
