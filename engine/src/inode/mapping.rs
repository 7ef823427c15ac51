//! The extents of a file in memory and in the tree, changed together.
//!
//! Promises: an extent map and its ordered extents change in `publish_pending` and `retire` only,
//! each without a scheduling point; the items of the tree follow at completion. All of
//! it is done under EXT; the caller holds it and, for changes of the tree, a handle.
//!
//! It must never know pages, but for telling them that what they hold is settled.

use super::Inode;
use super::extents::{Extent, ExtentState};
use super::ordered::{OrderedExtent, OrderedKind, OrderedPlan};
use super::span::Blocks;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::store::items::Damage;
use crate::store::{ExtentItem, ExtentKind, Handle, Key, Kind, Tree};
use crate::types::{BLOCK_BYTES, Ino, Run, TransactionId};
use machine::{Access, Guard, Object, Site, Task};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;

static HALF: Site = Site::new("publish.half");

/// One past the greatest number of a block of a file.
const BLOCKS_MAX: u64 = u64::MAX / BLOCK_BYTES;

/// Items of file extents with the first block of the file that each holds.
type Items = SmallVec<[(u64, ExtentItem); 4]>;

impl Fs {
    /// EXT R, with the extent map read from the tree.
    ///
    /// # Errors
    /// Those of reading the tree; `Stopped`.
    pub fn read_extents(&self, task: &Task, inode: &Inode) -> Result<Guard> {
        if !inode.extents.borrow().is_loaded() {
            drop(self.write_extents(task, inode)?);
        }
        Ok(inode.ext.read(task)?)
    }

    /// EXT W, with the extent map read from the tree.
    ///
    /// # Errors
    /// Those of reading the tree; `Stopped`.
    pub fn write_extents(&self, task: &Task, inode: &Inode) -> Result<Guard> {
        let guard = inode.ext.write(task)?;
        if !inode.extents.borrow().is_loaded() {
            self.load_extents(task, inode, inode.disk_size())?;
        }
        Ok(guard)
    }

    /// Reads the extent map from the tree, with what a crash left behind the end of the file: for
    /// who drops that in several transactions, before anybody else uses the file.
    ///
    /// # Errors
    /// Those of reading the tree; `Stopped`.
    pub(crate) fn load_all_extents(&self, task: &Task, inode: &Inode) -> Result<()> {
        let _ext = inode.ext.write(task)?;
        assert!(inode.ordered.borrow().is_empty(), "nothing is in flight at a mount");
        inode.extents.borrow_mut().clear();
        self.load_extents(task, inode, BLOCKS_MAX * BLOCK_BYTES)
    }

    /// Reads the extent map of a file of `size` bytes from the tree. Under EXT W.
    fn load_extents(&self, task: &Task, inode: &Inode, size: u64) -> Result<()> {
        let items = self.items_in(task, inode.ino, Blocks::new(0, BLOCKS_MAX))?;
        let mut map = inode.extents.borrow_mut();
        debug_assert!(!map.is_loaded(), "read once, under EXT W");
        map.set_loaded();
        let size = Blocks::new(0, size.div_ceil(BLOCK_BYTES));
        let mut next = 0;
        for (start, item) in items {
            if start < next {
                map.clear();
                drop(map);
                let key = ExtentItem::key(inode.ino, start * BLOCK_BYTES);
                return Err(self.damaged(task, key, "it overlaps the one before"));
            }
            let blocks = Blocks::new(start, start + item.len_blocks);
            next = blocks.end;
            let seen = match item.kind {
                ExtentKind::Written => blocks.intersection(size),
                ExtentKind::Unwritten => blocks,
            };
            if !seen.is_empty() {
                map.insert(extent_of(seen, &item));
            }
            let behind = Blocks::new(seen.end, blocks.end);
            if !behind.is_empty() {
                map.add_leftover(behind); // data of a size that was never durable
            }
        }
        Ok(())
    }

    /// The items of the tree that overlap `blocks`, whole, in order.
    fn items_in(&self, task: &Task, ino: Ino, blocks: Blocks) -> Result<Items> {
        let mut items = Items::new();
        let from = ExtentItem::key(ino, blocks.start * BLOCK_BYTES);
        let to = ExtentItem::key(ino, blocks.end * BLOCK_BYTES);
        if blocks.start > 0 {
            let before = Key { offset: from.offset - 1, ..from };
            if let Some((key, value)) = self.store().floor(task, Tree::Fs, before)? {
                let is_ours = key.object == ino.0 && key.kind == Kind::EXTENT;
                if is_ours {
                    let found = self.decode(key, &value);
                    let (start, item) = found.map_err(|what| self.damaged(task, key, what))?;
                    if start + item.len_blocks > blocks.start {
                        items.push((start, item));
                    }
                }
            }
        }
        let mut problem = None;
        self.store().range(task, Tree::Fs, from, to, |key, value| {
            match self.decode(key, value) {
                Ok(found) => {
                    items.push(found);
                    ControlFlow::Continue(())
                }
                Err(what) => {
                    problem = Some((key, what));
                    ControlFlow::Break(())
                }
            }
        })?;
        problem.map_or(Ok(items), |(key, what)| Err(self.damaged(task, key, what)))
    }

    /// An item with the first block of the file that it holds: whatever it names exists.
    fn decode(&self, key: Key, value: &[u8]) -> Result<(u64, ExtentItem), Damage> {
        let item = ExtentItem::decode(value)?;
        let start = key.offset / BLOCK_BYTES;
        let end = start.checked_add(item.len_blocks);
        if !key.offset.is_multiple_of(BLOCK_BYTES) || end.is_none_or(|end| end > BLOCKS_MAX) {
            return Err("it lies at an impossible place of the file");
        }
        if item.run().end() > self.store().blocks() {
            return Err("it ends beyond the device");
        }
        Ok((start, item))
    }

    fn damaged(&self, task: &Task, key: Key, what: Damage) -> Error {
        self.store().corrupt_item(task, Tree::Fs, key, "file extent", what)
    }

    /// Publishes a write that is about to begin: extent map and ordered extent appear together
    /// . Under EXT W, in the transaction of `handle`, which commits only after the completion.
    ///
    /// # Errors
    /// None but `Stopped`.
    pub fn publish_pending(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Rc<Inode>,
        plan: OrderedPlan,
    ) -> Result<Rc<OrderedExtent>> {
        debug_assert!(inode.ext.is_locked(), "X-2: under EXT W");
        let transaction = TransactionId(handle.generation());
        let ordered = Rc::new(OrderedExtent::new(inode.clone(), plan, transaction));
        if self.defects().has(Defect::EmBeforeOe) {
            map_pending(&ordered);
            self.pass_between_steps(task, inode)?;
            inode.ordered.borrow_mut().insert(ordered.clone());
        } else if self.defects().has(Defect::OeLoggedBitSticky) {
            inode.ordered.borrow_mut().insert(ordered.clone());
            self.pass_between_steps(task, inode)?;
            map_pending(&ordered);
        } else {
            // published together, nothing can run in between.
            map_pending(&ordered);
            inode.ordered.borrow_mut().insert(ordered.clone());
        }
        self.store().begin_pending(); // W-3: the commit waits for it
        Ok(ordered)
    }

    /// Historical: somebody else may run while half of a pair is published.
    fn pass_between_steps(&self, task: &Task, inode: &Inode) -> Result<()> {
        Ok(task.site(&HALF, Object::new(kind::INODE, inode.ino.0, 4), Access::Write)?)
    }

    /// Ends a write: the extent map has what the tree has, or should have if completion failed, and
    /// the ordered extent is gone. A failed write leaves what was there before. Under EXT W.
    pub fn retire(&self, inode: &Inode, ordered: &OrderedExtent) {
        debug_assert!(inode.ext.is_locked(), "X-2: under EXT W");
        let mut map = inode.extents.borrow_mut();
        let pending = map.remove(ordered.blocks);
        let is_pair = pending.len() == 1 && pending[0].state.is_pending();
        assert!(is_pair || self.drops_in_flight(), "the pair was published");
        if ordered.has_failed() {
            ordered.replaced.take().into_iter().for_each(|extent| map.insert(extent));
        } else {
            // only here, after IO_DONE without error, becomes an extent Written.
            map.insert(Extent {
                blocks: ordered.blocks,
                block: ordered.block,
                state: ExtentState::Written,
                generation: ordered.transaction,
            });
        }
        ordered.replaced.take();
        inode.ordered.borrow_mut().remove(ordered);
        ordered.set_complete();
        inode.pages.settle(ordered.blocks);
        self.store().end_pending();
        inode.ordered_end.wake_all();
    }

    /// Makes the blocks of a write that has ended the file's in the tree. Under EXT W.
    ///
    /// # Errors
    /// Those of changing trees; the transaction must be aborted then.
    pub(crate) fn settle_items(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        ordered: &OrderedExtent,
    ) -> Result<()> {
        let frees = match ordered.kind {
            OrderedKind::Nocow => return Ok(()),
            OrderedKind::Prealloc => false,
            OrderedKind::Cow => true,
        };
        self.drop_leftovers(task, handle, inode)?;
        self.drop_items(task, handle, inode.ino, ordered.blocks, frees)?;
        self.insert_item(
            task,
            handle,
            inode.ino,
            ordered.blocks,
            ordered.block,
            ExtentKind::Written,
        )
    }

    /// Drops what a crash left behind the end of the file, before anything else is changed: a
    /// greater size must not show it. Under EXT W.
    fn drop_leftovers(&self, task: &Task, handle: &Handle, inode: &Inode) -> Result<()> {
        loop {
            let Some(blocks) = inode.extents.borrow_mut().take_leftover() else { return Ok(()) };
            self.drop_items(task, handle, inode.ino, blocks, true)?;
            inode.log.note_range(TransactionId(handle.generation()), blocks);
        }
    }

    /// Takes the blocks of a range away from the file, in the tree and in memory; the blocks of the
    /// device are freed unless something else refers to them. Under EXT W; nothing in the range is
    /// pending. Tells how many blocks of the file were dropped.
    ///
    /// # Errors
    /// Those of changing trees; the transaction must be aborted then.
    pub fn drop_extents(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        blocks: Blocks,
    ) -> Result<u64> {
        self.drop_leftovers(task, handle, inode)?;
        let dropped = self.drop_items(task, handle, inode.ino, blocks, true)?;
        self.pass_over_in_flight(inode, blocks);
        inode.extents.borrow_mut().remove(blocks);
        inode.log.note_range(TransactionId(handle.generation()), blocks);
        Ok(dropped)
    }

    /// Gives the file an extent where it has none, in the tree and in memory. Under EXT W.
    ///
    /// # Errors
    /// Those of changing trees; the transaction must be aborted then.
    pub fn insert_extent(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        blocks: Blocks,
        block: u64,
        kind: ExtentKind,
    ) -> Result<()> {
        self.drop_leftovers(task, handle, inode)?;
        self.insert_item(task, handle, inode.ino, blocks, block, kind)?;
        let (state, generation) = (ExtentState::of(kind), TransactionId(handle.generation()));
        inode.extents.borrow_mut().insert(Extent { blocks, block, state, generation });
        inode.log.note_range(TransactionId(handle.generation()), blocks);
        Ok(())
    }

    /// Writes the inode's item, with disk_i_size as its size. Under EXT W.
    ///
    /// # Errors
    /// Those of changing trees.
    pub fn write_item(&self, task: &Task, handle: &Handle, inode: &Inode) -> Result<()> {
        self.drop_leftovers(task, handle, inode)?;
        inode.change_item(|item| item.transid = handle.generation());
        let item = inode.item();
        let key = crate::store::InodeItem::key(inode.ino);
        self.store().put(task, handle, Tree::Fs, key, &item.encode())?;
        inode.log.note_item(TransactionId(handle.generation()), item.size);
        Ok(())
    }

    pub(crate) fn insert_item(
        &self,
        task: &Task,
        handle: &Handle,
        ino: Ino,
        blocks: Blocks,
        block: u64,
        kind: ExtentKind,
    ) -> Result<()> {
        let generation = handle.generation();
        let item = ExtentItem { kind, block, len_blocks: blocks.len(), generation };
        let key = ExtentItem::key(ino, blocks.start * BLOCK_BYTES);
        self.store().put(task, handle, Tree::Fs, key, &item.encode())
    }

    /// Takes the items of a range out of the tree, splitting those at its edges.
    pub(crate) fn drop_items(
        &self,
        task: &Task,
        handle: &Handle,
        ino: Ino,
        blocks: Blocks,
        frees: bool,
    ) -> Result<u64> {
        let mut dropped = 0;
        for (start, item) in self.items_in(task, ino, blocks)? {
            let whole = Blocks::new(start, start + item.len_blocks);
            let part = whole.intersection(blocks);
            let run = Run::new(item.block + (part.start - start), part.len());
            let key = ExtentItem::key(ino, start * BLOCK_BYTES);
            if whole.start < part.start {
                let left = ExtentItem { len_blocks: part.start - start, ..item };
                self.store().put(task, handle, Tree::Fs, key, &left.encode())?;
            } else {
                self.store().delete(task, handle, Tree::Fs, key)?;
            }
            if part.end < whole.end {
                let (block, len_blocks) = (run.end(), whole.end - part.end);
                let right = ExtentItem { block, len_blocks, ..item };
                let key = ExtentItem::key(ino, part.end * BLOCK_BYTES);
                self.store().put(task, handle, Tree::Fs, key, &right.encode())?;
            }
            if frees {
                self.store().free_data(task, handle, run)?;
            }
            dropped += part.len();
        }
        Ok(dropped)
    }
}

/// The extent map's half of a pair that is published.
fn map_pending(ordered: &Rc<OrderedExtent>) {
    let mut map = ordered.inode.extents.borrow_mut();
    let replaced = map.remove(ordered.blocks);
    assert!(replaced.iter().all(|it| !it.state.is_pending()), "one write in flight a block");
    map.insert(Extent {
        blocks: ordered.blocks,
        block: ordered.block,
        state: ExtentState::Pending(ordered.clone()),
        generation: ordered.transaction,
    });
    *ordered.replaced.borrow_mut() = replaced;
}

fn extent_of(blocks: Blocks, item: &ExtentItem) -> Extent {
    let generation = TransactionId(item.generation);
    Extent { blocks, block: item.block, state: ExtentState::of(item.kind), generation }
}
