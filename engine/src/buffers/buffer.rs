//! A buffer, its pages, and the slots that buffers live in.
//!
//! Promises: a slot that was freed has another generation, so a reference from before is told from
//! one to whatever lives there now (I5). It must never know the order of steps.

use super::{EBLOCK, EBPAGE, EBREF, PAGES};
use machine::cell::{Cell, RefCell};
use machine::{Block, Machine, Mutex, WaitQueue};
use std::fmt;
use std::rc::Rc;

/// A reference to a buffer, as a pointer is: it may outlive what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a reference that was taken is given back by `free`"]
pub struct BufferId {
    slot: u32,
    generation: u32,
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// State bits of a buffer (`bflags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(u16);

impl Bits {
    /// Its content is that of the medium, or newer.
    pub(super) const UPTODATE: Bits = Bits(1);
    /// Its content is newer than that of the medium.
    pub(super) const DIRTY: Bits = Bits(1 << 1);
    /// It is being written, or about to be.
    pub(super) const WRITEBACK: Bits = Bits(1 << 2);
    /// It is being read.
    pub(super) const READING: Bits = Bits(1 << 3);
    /// The last write of it failed.
    pub(super) const WRITE_ERR: Bits = Bits(1 << 4);
    /// One of its references belongs to the cache.
    pub(super) const TREE_REF: Bits = Bits(1 << 5);
    /// Its block was given up: the last user takes the cache's reference along.
    pub(super) const STALE: Bits = Bits(1 << 6);
    /// The index leads to it.
    pub(super) const IN_TREE: Bits = Bits(1 << 7);
}

/// A page of a buffer: half of the block.
pub(super) struct Page {
    pub(super) lock: Mutex,
    /// The buffer that it belongs to; under EBPRIV.
    pub(super) private: Cell<Option<BufferId>>,
    /// Writes of it in flight, or about to be: from the step on that takes its tag away.
    pub(super) writes: Cell<u32>,
    /// Woken at the end of each.
    pub(super) ended: WaitQueue,
}

impl Page {
    pub(super) fn new(machine: &Machine, block: u64, index: usize) -> Page {
        Page {
            lock: Mutex::new(machine, &EBPAGE, (block, index as u64)),
            private: Cell::new(None),
            writes: Cell::new(0),
            ended: WaitQueue::new(machine),
        }
    }
}

/// A buffer.
pub(super) struct Buffer {
    pub(super) id: BufferId,
    pub(super) block: u64,
    pub(super) pages: [Rc<Page>; PAGES],
    pub(super) refs: Cell<u32>,
    pub(super) refs_lock: Mutex,
    /// The lock of the content (EBLOCK).
    pub(super) lock: Mutex,
    pub(super) bits: Cell<Bits>,
    pub(super) io_pages: Cell<u32>,
    pub(super) content: RefCell<Option<Block>>,
    /// Woken when a read or a write ends, and when the buffer is gone.
    pub(super) ended: WaitQueue,
    /// For the checker alone: references that somebody holds.
    pub(super) holders: Cell<u32>,
    /// For the checker alone: actors between two steps that only together keep I1 to I3.
    pub(super) changing: Cell<u32>,
}

impl Buffer {
    pub(super) fn has(&self, bit: Bits) -> bool {
        self.bits.get().0 & bit.0 != 0
    }

    pub(super) fn set(&self, bit: Bits) {
        self.bits.set(Bits(self.bits.get().0 | bit.0));
    }

    pub(super) fn clear(&self, bit: Bits) {
        self.bits.set(Bits(self.bits.get().0 & !bit.0));
    }

    /// `under_io` of races.md §2.
    pub(super) fn is_under_io(&self) -> bool {
        self.io_pages.get() > 0 || self.has(Bits::WRITEBACK) || self.has(Bits::DIRTY)
    }

    /// What FE4 asks: the cache has its reference, and the caller one.
    pub(super) fn is_kept(&self) -> bool {
        self.refs.get() >= 2 && self.has(Bits::TREE_REF)
    }

    /// `if !test_and_set(TREE_REF) refs++`: one step.
    pub(super) fn give_tree_ref(&self) {
        if !self.has(Bits::TREE_REF) {
            self.set(Bits::TREE_REF);
            self.refs.set(self.refs.get() + 1);
        }
    }

    /// A reference of the caller's.
    pub(super) fn add_holder(&self) {
        self.refs.set(self.refs.get() + 1);
        self.holders.set(self.holders.get() + 1);
    }

    /// Gives a reference of the caller's back.
    pub(super) fn remove_holder(&self) {
        debug_assert!(self.refs.get() > 0 && self.holders.get() > 0, "nobody gives back twice");
        self.refs.set(self.refs.get() - 1);
        self.holders.set(self.holders.get() - 1);
    }

    /// For the checker: steps follow that belong together, until what is returned is dropped.
    pub(super) fn change(&self) -> Change<'_> {
        self.changing.set(self.changing.get() + 1);
        Change(self)
    }
}

/// An actor is between steps that belong together.
pub(super) struct Change<'a>(&'a Buffer);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changing.set(self.0.changing.get() - 1);
    }
}

/// Where buffers live. A freed slot is used again at once, by another generation.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    buffer: Option<Rc<Buffer>>,
}

impl Slots {
    /// A new buffer of a block, with one reference: the caller's.
    pub(super) fn add(
        &mut self,
        machine: &Machine,
        block: u64,
        pages: [Rc<Page>; PAGES],
    ) -> Rc<Buffer> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, buffer: None });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        let id = BufferId { slot, generation: place.generation };
        let buffer = Rc::new(Buffer {
            id,
            block,
            pages,
            refs: Cell::new(1),
            refs_lock: Mutex::new(machine, &EBREF, (block, 0)),
            lock: Mutex::new(machine, &EBLOCK, (block, 0)),
            bits: Cell::default(),
            io_pages: Cell::new(0),
            content: RefCell::new(None),
            ended: WaitQueue::new(machine),
            holders: Cell::new(1),
            changing: Cell::new(0),
        });
        assert!(place.buffer.replace(buffer.clone()).is_none(), "the slot was free");
        buffer
    }

    /// The buffer that a reference leads to, if it was not freed.
    pub(super) fn get(&self, id: BufferId) -> Option<Rc<Buffer>> {
        let slot = self.slots.get(id.slot as usize).filter(|s| s.generation == id.generation)?;
        slot.buffer.clone()
    }

    /// Whether a reference leads to a buffer that was not freed.
    pub(super) fn is_live(&self, id: BufferId) -> bool {
        let slot = self.slots.get(id.slot as usize);
        slot.is_some_and(|slot| slot.generation == id.generation && slot.buffer.is_some())
    }

    /// Frees a buffer; references to it lead nowhere from now on.
    pub(super) fn free(&mut self, id: BufferId) {
        debug_assert!(self.is_live(id), "a buffer is freed once");
        let slot = &mut self.slots[id.slot as usize];
        slot.generation += 1;
        slot.buffer = None;
        self.free.push(id.slot);
    }
}
