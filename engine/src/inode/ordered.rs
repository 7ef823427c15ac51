//! Ordered extents: writes of data in flight, from the publication of their blocks to the change of
//! the tree that makes them part of the file.
//!
//! Promises: an ordered extent becomes complete once, after its IO ended; the table of an inode
//! holds exactly those that are not complete. It must never know the tree: completion is a path.

use super::Inode;
use super::span::Blocks;
use crate::paths::direct::Iocb;
use crate::store::Reserve;
use crate::types::{Run, TransactionId};
use machine::Tally;
use machine::cell::{Cell, RefCell};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How the blocks of an ordered extent become the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderedKind {
    /// New blocks replace the old ones.
    Cow,
    /// Unwritten blocks of the file become written ones.
    Prealloc,
    /// Written blocks of the file are overwritten in place.
    Nocow,
}

/// A write of data in flight.
pub struct OrderedExtent {
    /// The file.
    pub inode: Rc<Inode>,
    /// Where in the file.
    pub blocks: Blocks,
    /// The first block of the device.
    pub block: u64,
    /// How it ends.
    pub kind: OrderedKind,
    /// The transaction in which it was published; it commits only after the completion.
    pub transaction: TransactionId,
    /// Whether it came from direct IO: no page is under writeback for it.
    pub direct: bool,
    /// The request of a user to end with it.
    pub iocb: Option<Rc<Iocb>>,
    /// Digests of the blocks, if the file has checksums; computed before the submission.
    pub digests: RefCell<SmallVec<[[u8; 32]; 2]>>,
    /// What the extent map had before, to be put back if the write fails.
    pub replaced: RefCell<SmallVec<[super::extents::Extent; 2]>>,
    /// Space set aside for what completion will change: for copies of nodes, which come back with
    /// the commit.
    pub reserve: RefCell<Option<Reserve>>,
    /// Space set aside for what completion will add to trees for good.
    pub growth: RefCell<Option<Reserve>>,
    io_done: Cell<bool>,
    failed: Cell<bool>,
    complete: Cell<bool>,
    exposed: Cell<bool>,
    logged: Cell<bool>,
}

/// What is known of an ordered extent when it is published.
pub struct OrderedPlan {
    /// See [`OrderedExtent::blocks`].
    pub blocks: Blocks,
    /// See [`OrderedExtent::block`].
    pub block: u64,
    /// See [`OrderedExtent::kind`].
    pub kind: OrderedKind,
    /// See [`OrderedExtent::direct`].
    pub direct: bool,
    /// See [`OrderedExtent::iocb`].
    pub iocb: Option<Rc<Iocb>>,
}

impl OrderedExtent {
    pub(super) fn new(
        inode: Rc<Inode>,
        plan: OrderedPlan,
        transaction: TransactionId,
    ) -> OrderedExtent {
        let OrderedPlan { blocks, block, kind, direct, iocb } = plan;
        assert!(!blocks.is_empty() && block >= 2, "data never lies on a superblock");
        OrderedExtent {
            inode,
            blocks,
            block,
            kind,
            transaction,
            direct,
            iocb,
            digests: RefCell::default(),
            replaced: RefCell::default(),
            reserve: RefCell::default(),
            growth: RefCell::default(),
            io_done: Cell::new(false),
            failed: Cell::new(false),
            complete: Cell::new(false),
            exposed: Cell::new(false),
            logged: Cell::new(false),
        }
    }

    /// The blocks of the device.
    pub fn run(&self) -> Run {
        Run::new(self.block, self.blocks.len())
    }

    /// IO_DONE: the device has answered.
    pub fn is_io_done(&self) -> bool {
        self.io_done.get()
    }

    /// IOERR: the device refused, or completion could not change the tree.
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether it was retired: the tree and the extent map have it.
    pub fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// The device's answer. Called by the completion handler.
    pub fn end_io(&self, succeeded: bool) {
        assert!(!self.io_done.get(), "one answer a request");
        self.io_done.set(true);
        self.failed.set(self.failed.get() | !succeeded);
    }

    /// Completion could not do its part.
    pub fn fail(&self) {
        self.failed.set(true);
    }

    pub(super) fn set_complete(&self) {
        assert!(!self.complete.get(), "X-1: complete once, after the IO");
        self.complete.set(true);
    }

    /// Historical: whether readers take its blocks for written, though they wait to be.
    pub(crate) fn is_exposed(&self) -> bool {
        self.exposed.get()
    }

    /// Historical: whether an fsync has taken note of it.
    pub(crate) fn is_logged(&self) -> bool {
        self.logged.get()
    }

    /// Historical: an fsync has taken note of it, and of its extent, as it believes.
    pub(crate) fn set_logged(&self) {
        self.logged.set(true);
    }

    /// Historical: readers take its blocks for written from now on.
    pub(crate) fn expose(&self) {
        self.exposed.set(true);
    }
}

/// The ordered extents of one file that are not complete, by their first block.
#[derive(Default)]
pub struct OrderedTable {
    extents: BTreeMap<u64, Rc<OrderedExtent>>,
    seq: u64,
    changes: Tally,
}

impl OrderedTable {
    /// An empty table that tells of its changes.
    pub(super) fn new(changes: &Tally) -> OrderedTable {
        OrderedTable { changes: changes.clone(), ..OrderedTable::default() }
    }

    /// A number that grows with every change.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    fn note_change(&mut self) {
        self.seq += 1;
        self.changes.note();
    }

    /// The first one that overlaps `blocks`.
    pub fn first_in(&self, blocks: Blocks) -> Option<&Rc<OrderedExtent>> {
        let before = self.extents.range(..blocks.start).next_back().map(|(_, ordered)| ordered);
        let before = before.filter(|ordered| ordered.blocks.overlaps(blocks));
        let mut inside = self.extents.range(blocks.start..blocks.end);
        before.or_else(|| inside.next().map(|(_, ordered)| ordered))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<OrderedExtent>> {
        self.extents.values()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    pub(super) fn insert(&mut self, ordered: Rc<OrderedExtent>) {
        assert!(self.first_in(ordered.blocks).is_none(), "ordered extents never overlap");
        self.note_change();
        self.extents.insert(ordered.blocks.start, ordered);
    }

    pub(super) fn remove(&mut self, ordered: &OrderedExtent) {
        self.note_change();
        let removed = self.extents.remove(&ordered.blocks.start);
        assert!(removed.is_some_and(|it| std::ptr::eq(&*it, ordered)), "retired once");
    }

    /// Forgets everything, as a mount that is abandoned does.
    pub(super) fn clear(&mut self) {
        self.note_change();
        self.extents.clear();
    }
}
