//! Layouts of a file: which blocks of the device a holder outside of the file system may write.
//!
//! A holder is what a client of pNFS block layouts is, or who has pinned the memory of a file for
//! RDMA: it was told where blocks lie, and writes them itself, with no lock and no page cache.
//!
//! Promises: whoever is asked to give a layout back begins no more writes, and gives it back when
//! the last one ends; each change here is one step. It must never know who asks, or why.

use super::extents::Extent;
use super::span::Blocks;
use crate::store::Reserve;
use machine::cell::{Cell, RefCell};
use machine::{Machine, WaitQueue};
use smallvec::SmallVec;
use std::rc::Rc;

/// Blocks that a holder may write.
pub struct Layout {
    /// Where in the file.
    blocks: Blocks,
    /// Where on the device, without a gap.
    extents: SmallVec<[Extent; 2]>,
    /// What the end of a write may add to trees.
    growth: RefCell<Option<Reserve>>,
    writes: Cell<u32>,
    recalled: Cell<bool>,
}

/// The layouts of one file.
pub struct Layouts {
    granted: RefCell<SmallVec<[Rc<Layout>; 1]>>,
    returned: WaitQueue,
}

impl Layout {
    /// A layout of blocks that these extents hold.
    pub(crate) fn new(
        blocks: Blocks,
        extents: SmallVec<[Extent; 2]>,
        growth: Reserve,
    ) -> Rc<Layout> {
        let len: u64 = extents.iter().map(|extent| extent.blocks.len()).sum();
        assert_eq!(len, blocks.len(), "a layout has no holes");
        let (writes, recalled) = (Cell::new(0), Cell::new(false));
        let growth = RefCell::new(Some(growth));
        Rc::new(Layout { blocks, extents, growth, writes, recalled })
    }

    /// The parts of the device behind a range of the layout.
    pub(crate) fn pieces(&self, blocks: Blocks) -> SmallVec<[Extent; 2]> {
        let within = self.extents.iter().filter(|extent| extent.blocks.overlaps(blocks));
        within.map(|extent| extent.clipped(blocks)).collect()
    }

    /// What was set aside for the end of a write, once.
    pub(crate) fn take_growth(&self) -> Option<Reserve> {
        self.growth.take()
    }
}

impl Layouts {
    pub(super) fn new(machine: &Machine) -> Layouts {
        Layouts { granted: RefCell::default(), returned: WaitQueue::new(machine) }
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.granted.borrow().is_empty()
    }

    /// Whether somebody was asked to give one back and has not done so.
    pub(crate) fn has_recalled(&self) -> bool {
        self.granted.borrow().iter().any(|layout| layout.recalled.get())
    }

    /// Waited on for the return of layouts.
    pub(crate) fn returned(&self) -> &WaitQueue {
        &self.returned
    }

    /// A holder has a layout from here on. RL W and ML W of its blocks are held.
    pub(crate) fn grant(&self, layout: Rc<Layout>) {
        self.granted.borrow_mut().push(layout);
    }

    /// Begins a write of blocks that lie in one layout; none if there is none, or if that was asked
    /// for.
    pub(crate) fn begin_write(&self, blocks: Blocks) -> Option<Rc<Layout>> {
        let granted = self.granted.borrow();
        let holds = |layout: &&Rc<Layout>| {
            !layout.recalled.get() && layout.blocks.intersection(blocks) == blocks
        };
        let layout = granted.iter().find(holds)?;
        layout.writes.set(layout.writes.get() + 1);
        Some(layout.clone())
    }

    /// Which block of the file a holder writes when it writes a block of the device.
    pub(crate) fn written_at(&self, block: u64) -> Option<u64> {
        let granted = self.granted.borrow();
        let writing = granted.iter().filter(|layout| layout.writes.get() > 0);
        let mut extents = writing.flat_map(|layout| &layout.extents);
        let extent = extents.find(|extent| extent.run().contains(block))?;
        Some(extent.blocks.start + (block - extent.block))
    }

    /// Ends a write. The last one of a layout that was asked for gives it back.
    pub(crate) fn end_write(&self, layout: &Layout) {
        let writes = layout.writes.get();
        assert!(writes > 0, "a write ends once");
        layout.writes.set(writes - 1);
        self.give_back();
    }

    /// Asks for all layouts: those that nobody is writing to are given back at once.
    pub(crate) fn recall(&self) {
        self.granted.borrow().iter().for_each(|layout| layout.recalled.set(true));
        self.give_back();
    }

    fn give_back(&self) {
        let is_kept = |layout: &mut Rc<Layout>| !layout.recalled.get() || layout.writes.get() > 0;
        self.granted.borrow_mut().retain(is_kept);
        self.returned.wake_all();
    }

    /// Forgets everything, as a mount that is abandoned does.
    pub(super) fn clear(&self) {
        self.granted.borrow_mut().clear();
    }
}
