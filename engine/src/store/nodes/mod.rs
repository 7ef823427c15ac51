//! The cache of tree nodes: a buffer for each node that is in memory.
//!
//! A buffer is clean (its node is on the medium), dirty (it exists only here and in a block that
//! nothing durable points to) or under writeback. A clean buffer nobody uses may be dropped at any
//! time (RECLAIM); the others stay (E-2: what is under IO or dirty keeps its reference).
//!
//! Promises: what `load` returns agrees with the pointer that led to it (digest, place, generation,
//! tree, level, bounds of keys). It must never know how trees change shape.
//!
//! With the mount option `node_buffers`, only nodes that are dirty or under writeback are kept
//! here; the others live in a room of [`buffers`](crate::buffers), with the lifetime protocol of
//! races.md §2: a load goes through it (FIND, ALLOC, READ, FREE) and reads children ahead, a commit
//! writes through it (DIRTY, WRITE), and reclaim takes from it (REL).

pub(crate) mod node;

use super::key::{BlockPtr, Key};
use crate::buffers::Buffers;
use crate::error::{Error, Result};
use machine::cell::{Cell, RefCell};
use machine::disk::{Note, Request};
use machine::{Block, DeviceId, Task};
use node::Node;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// Buffers that the cache holds before it drops clean ones.
const BUFFERS_MAX: usize = 4096;

/// Children that are read ahead with a node, where nodes live in a room of buffers.
const CHILDREN_AHEAD: usize = 2;

/// What a pointer promises about the node that it leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The tree, by its id.
    pub(crate) tree: u8,
    /// The level.
    pub(crate) level: u8,
    /// No key of the node is less.
    pub(crate) from: Key,
    /// All keys of the node are less, if there is a bound.
    pub(crate) to: Option<Key>,
}

/// A node in memory.
pub(crate) struct Buffer {
    device: u8,
    block: u64,
    node: RefCell<Rc<Node>>,
    dirty: Cell<bool>,
    writeback: Cell<bool>,
    /// Tells this buffer from earlier ones of the same place.
    stamp: u64,
}

impl Buffer {
    /// The block that it belongs to.
    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// The node as it is now. Later changes do not show in what was returned.
    pub(crate) fn node(&self) -> Rc<Node> {
        self.node.borrow().clone()
    }

    /// Whether it exists only in memory.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.get()
    }

    /// Whether nothing would be lost with it.
    fn is_idle(&self) -> bool {
        !self.dirty.get() && !self.writeback.get()
    }

    /// Changes a dirty node.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Node) -> R) -> R {
        assert!(self.dirty.get(), "only a node that nothing durable points to may change");
        let mut node = self.node.borrow_mut();
        change(Rc::make_mut(&mut node))
    }

    /// The content for the medium, which is clean from now on and under writeback until
    /// [`end_write`](Self::end_write). Both change together (E-1, P-3 for buffers).
    pub(crate) fn start_write(&self) -> Block {
        assert!(self.dirty.get() && !self.writeback.get(), "dirty, and written once");
        let content = self.node.borrow().encode_remembered();
        self.writeback.set(true);
        self.dirty.set(false);
        content
    }

    /// The write was acknowledged.
    pub(crate) fn end_write(&self) {
        self.writeback.set(false);
    }
}

/// The buffers.
pub(crate) struct Nodes {
    /// Where the nodes of device 0 live that are neither dirty nor under writeback.
    room: Option<Rc<Buffers>>,
    buffers: RefCell<FxHashMap<(u8, u64), Rc<Buffer>>>,
    /// All buffers, by place and stamp, in the order in which they are considered for reclaim; and
    /// some that are gone.
    order: RefCell<VecDeque<((u8, u64), u64)>>,
    stamps: Cell<u64>,
}

impl Nodes {
    /// An empty cache.
    pub(crate) fn new(room: Option<Rc<Buffers>>) -> Nodes {
        Nodes { room, buffers: RefCell::default(), order: RefCell::default(), stamps: Cell::new(0) }
    }

    /// The room that the nodes of a device go through, if they do.
    pub(crate) fn room(&self, device: u8) -> Option<&Rc<Buffers>> {
        self.room.as_ref().filter(|_| device == 0)
    }

    /// The node that `ptr` points to, read from the device if it is not in memory.
    ///
    /// # Errors
    /// `Io`; `Corrupt` if the node is not what the pointer promises; `Stopped`.
    pub(crate) fn load(
        &self,
        task: &Task,
        device: u8,
        ptr: &BlockPtr,
        expected: Expected,
    ) -> Result<Rc<Buffer>> {
        if let Some(buffer) = self.get(device, ptr) {
            expected.check(&buffer.node.borrow(), ptr)?;
            return Ok(buffer);
        }
        if ptr.is_dirty() {
            return Err(Error::Corrupt {
                structure: "tree node",
                block: ptr.block,
                what: "a pointer without a digest",
            });
        }
        let content = match self.room(device) {
            Some(room) => read_buffer(task, room, ptr.block)?,
            None => read_block(task, device, ptr.block, "tree node")?,
        };
        // E-4: somebody else may have read it in the meantime.
        if let Some(buffer) = self.get(device, ptr) {
            expected.check(&buffer.node.borrow(), ptr)?;
            return Ok(buffer);
        }
        let corrupt = |what| Error::Corrupt { structure: "tree node", block: ptr.block, what };
        if content.digest() != ptr.digest {
            return Err(corrupt("the digest differs from the parent's"));
        }
        let node = Node::decoded(&content).map_err(corrupt)?;
        expected.check(&node, ptr)?;
        if self.is_dirty(device, ptr.block) {
            return Err(corrupt("its block was free and is in use again"));
        }
        let Some(room) = self.room(device) else { return Ok(self.add(device, node, false)) };
        read_children(task, room, &node)?;
        Ok(self.new_buffer(device, node, false))
    }

    /// The buffer of the node that `ptr` points to, if it is in memory.
    pub(crate) fn get(&self, device: u8, ptr: &BlockPtr) -> Option<Rc<Buffer>> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.get(&(device, ptr.block))?;
        if self.room(device).is_some() && buffer.is_idle() {
            buffers.remove(&(device, ptr.block));
            return None;
        }
        // A place that was freed and used again has another generation; within one transaction the
        // buffer is replaced when the place is.
        (buffer.node.borrow().generation == ptr.generation).then(|| buffer.clone())
    }

    /// Whether this is the buffer of its place. Where nodes live in a room, a clean one has no
    /// place here, and must not find another in it.
    pub(crate) fn holds(&self, device: u8, buffer: &Rc<Buffer>) -> bool {
        match self.buffers.borrow().get(&(device, buffer.block)) {
            Some(held) => Rc::ptr_eq(held, buffer),
            None => self.room(device).is_some(),
        }
    }

    /// A dirty buffer for a new node.
    pub(crate) fn create(&self, device: u8, node: Node) -> Rc<Buffer> {
        self.add(device, Rc::new(node), true)
    }

    /// Forgets a node whose block was given up.
    pub(crate) fn forget(&self, device: u8, block: u64) {
        self.buffers.borrow_mut().remove(&(device, block));
    }

    /// Forgets all nodes of the trees that `is_over` names: their blocks were given up.
    pub(crate) fn forget_trees(&self, is_over: impl Fn(u8) -> bool) {
        self.buffers.borrow_mut().retain(|_, buffer| !is_over(buffer.node.borrow().tree));
    }

    /// Forgets a dirty node that left its tree; its content is lost.
    pub(crate) fn remove_dirty(&self, device: u8, buffer: &Buffer) {
        buffer.dirty.set(false);
        self.forget(device, buffer.block);
    }

    /// Drops every clean buffer that nobody uses. Returns how many.
    pub(crate) fn reclaim(&self) -> usize {
        let rounds = self.order.borrow().len();
        (0..rounds).filter(|_| self.reclaim_next()).count()
    }

    /// How many buffers there are.
    pub(crate) fn len(&self) -> usize {
        self.buffers.borrow().len()
    }

    /// Whether a node that exists only in memory has this block.
    pub(crate) fn is_dirty(&self, device: u8, block: u64) -> bool {
        self.buffers.borrow().get(&(device, block)).is_some_and(|buffer| buffer.dirty.get())
    }

    fn add(&self, device: u8, node: Rc<Node>, dirty: bool) -> Rc<Buffer> {
        self.make_room();
        let place = (device, node.block);
        let buffer = self.new_buffer(device, node, dirty);
        let stamp = buffer.stamp;
        let replaced = self.buffers.borrow_mut().insert(place, buffer.clone());
        self.order.borrow_mut().push_back((place, stamp));
        assert!(replaced.is_none_or(|old| !old.dirty.get()), "a dirty node lost its buffer");
        buffer
    }

    fn new_buffer(&self, device: u8, node: Rc<Node>, dirty: bool) -> Rc<Buffer> {
        Rc::new(Buffer {
            stamp: self.stamps.replace(self.stamps.get() + 1),
            device,
            block: node.block,
            node: RefCell::new(node),
            dirty: Cell::new(dirty),
            writeback: Cell::new(false),
        })
    }

    fn make_room(&self) {
        // Two looks for each buffer added keep the cache at its bound without long pauses.
        for _ in 0..2 {
            if self.order.borrow().len() < BUFFERS_MAX {
                return;
            }
            self.reclaim_next();
        }
    }

    /// Considers the next buffer for reclaim; whether it was dropped.
    fn reclaim_next(&self) -> bool {
        let Some((place, stamp)) = self.order.borrow_mut().pop_front() else { return false };
        let mut buffers = self.buffers.borrow_mut();
        let Some(buffer) = buffers.get(&place).filter(|buffer| buffer.stamp == stamp) else {
            return false;
        };
        machine::footprint::touch_everything();
        if buffer.is_idle() && Rc::strong_count(buffer) == 1 {
            buffers.remove(&place);
            return true;
        }
        debug_assert_eq!((buffer.device, buffer.block), place);
        self.order.borrow_mut().push_back((place, stamp));
        false
    }
}

impl Expected {
    fn check(&self, node: &Node, ptr: &BlockPtr) -> Result<()> {
        let what = if node.block != ptr.block {
            "it belongs to another block"
        } else if node.generation != ptr.generation {
            "it is of another generation than its parent says"
        } else if node.tree != self.tree {
            "it belongs to another tree"
        } else if node.level != self.level {
            "it has another level than its parent says"
        } else if node.first_key() < self.from || self.to.is_some_and(|to| node.last_key() >= to) {
            "its keys are outside of its parent's range"
        } else {
            return Ok(());
        };
        Err(Error::Corrupt { structure: "tree node", block: ptr.block, what })
    }
}

/// Reads one block through a room of buffers, in which there is a bound on what is kept.
fn read_buffer(task: &Task, room: &Rc<Buffers>, block: u64) -> Result<Block> {
    if block >= task.machine().disk().blocks(DeviceId(0)) {
        return Err(beyond(block, "tree node"));
    }
    if room.len() >= BUFFERS_MAX {
        room.release_all(task)?;
    }
    room.get_content(task, block)
}

/// Begins to read the first children of a node that are not in memory.
fn read_children(task: &Task, room: &Rc<Buffers>, node: &Node) -> Result<()> {
    let blocks = task.machine().disk().blocks(DeviceId(0));
    for child in node.children().iter().take(CHILDREN_AHEAD) {
        let is_new = room.blocks_from(child.ptr.block) != Some(child.ptr.block);
        if is_new && !child.ptr.is_dirty() && child.ptr.block < blocks {
            room.read_ahead(task, child.ptr.block)?;
        }
    }
    Ok(())
}

fn beyond(block: u64, structure: &'static str) -> Error {
    Error::Corrupt { structure, block, what: "it lies beyond the device" }
}

/// Reads one block; damage is for the caller to find.
pub(crate) fn read_block(task: &Task, device: u8, block: u64, what: &'static str) -> Result<Block> {
    let failed = || Error::Io { device, block, what: "read a block of metadata" };
    if block >= task.machine().disk().blocks(DeviceId(device)) {
        return Err(beyond(block, what));
    }
    let bio = task.submit(Request::read(DeviceId(device), block), Note { tag: block, what })?;
    let mut data = bio.wait(task)?.map_err(|_| failed())?;
    data.pop().ok_or_else(failed)
}
