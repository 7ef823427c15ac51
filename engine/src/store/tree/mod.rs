//! Copy-on-write B-trees: items under ordered keys.
//!
//! A change copies the nodes from the root to the leaf to new blocks, once a transaction; what is
//! durable stays as it is until the superblock points to the new root. `read` (here) finds, `edit`
//! changes, `write` puts a changed tree on the medium.
//!
//! Promises: a change that fails has changed nothing; all blocks and nodes that it needs are at
//! hand before it begins. It must never know what items mean.

pub(crate) mod edit;
mod read;
mod rebalance;
#[cfg(test)]
mod tests;
mod write;

use super::items::{Damage, Value};
use super::key::{Key, Root, Tree};
use super::nodes::node::{Capacity, Node};
use super::nodes::{Buffer, Expected, Nodes};
use super::space::Places;
use crate::error::{Error, Result};
use machine::cell::Cell;
use machine::{Guard, LockClass, Machine, RwLock, Task};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;

/// The class of tree locks. One lock covers a tree for the length of an operation.
pub static NODE: LockClass = LockClass::new("NODE", 75);

/// A tree.
pub(crate) struct BTree {
    name: Tree,
    capacity: Capacity,
    lock: RwLock,
    root: Cell<Root>,
    nodes: Rc<Nodes>,
    places: Places,
}

/// The nodes from the root to a leaf, each with the index of the child taken (in the leaf: unused).
type Path = SmallVec<[Step; 6]>;

#[derive(Clone)]
struct Step {
    buffer: Rc<Buffer>,
    index: usize,
}

impl BTree {
    /// A tree with this root, whose new nodes come from `places`.
    pub(crate) fn new(
        machine: &Machine,
        name: Tree,
        root: Root,
        capacity: Capacity,
        nodes: Rc<Nodes>,
        places: Places,
    ) -> BTree {
        let lock = RwLock::new(machine, &NODE, (u64::from(name.id()), 0));
        BTree { name, capacity, lock, root: Cell::new(root), nodes, places }
    }

    /// Which tree it is.
    pub(crate) fn name(&self) -> Tree {
        self.name
    }

    /// The root as it is in memory.
    pub(crate) fn root(&self) -> Root {
        self.root.get()
    }

    /// Gives the tree another root: none of its nodes may be dirty.
    pub(crate) fn set_root(&self, root: Root) {
        self.root.set(root);
    }

    /// Blocks that a change of one item takes at most.
    pub(crate) fn blocks_per_change(&self) -> u64 {
        // A copy and a split a level, and a new root; siblings of a deletion instead of splits.
        2 * (u64::from(self.root.get().level) + 1) + 1
    }

    /// The value of an item.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub(crate) fn lookup(&self, task: &Task, key: Key) -> Result<Option<Value>> {
        let _shared = self.lock.read(task)?;
        self.find(task, key)
    }

    /// The item with the greatest key that is not greater than `key`.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub(crate) fn floor(&self, task: &Task, key: Key) -> Result<Option<(Key, Value)>> {
        let _shared = self.lock.read(task)?;
        self.find_floor(task, key)
    }

    /// Calls `visit` for each item with a key in `from..to`, in order, until it breaks.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub(crate) fn range(
        &self,
        task: &Task,
        from: Key,
        to: Key,
        visit: &mut dyn FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let _shared = self.lock.read(task)?;
        self.scan(task, from, to, visit)
    }

    /// Calls `visit` with block and level of each node.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub(crate) fn walk_nodes(&self, task: &Task, visit: &mut dyn FnMut(u64, u8)) -> Result<()> {
        let _shared = self.lock.read(task)?;
        self.walk(task, visit)
    }

    /// The error that an item is damaged, which names the block of its leaf.
    pub(crate) fn corrupt(
        &self,
        task: &Task,
        key: Key,
        structure: &'static str,
        what: Damage,
    ) -> Error {
        match self.lock.read(task) {
            Ok(_shared) => self.corrupt_item(task, key, structure, what),
            Err(stopped) => stopped.into(),
        }
    }

    fn corrupt_item(&self, task: &Task, key: Key, structure: &'static str, what: Damage) -> Error {
        let leaf = self.descend(task, key).ok().and_then(|path| path.last().cloned());
        // An item that was read has a leaf; if that cannot be read any more, the root will do.
        let block = leaf.map_or(self.root.get().ptr.block, |leaf| leaf.buffer.block());
        Error::Corrupt { structure, block, what }
    }

    /// The tree locked for changes.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn edit(&self, task: &Task) -> Result<edit::Edit<'_>> {
        Ok(edit::Edit::new(self, self.lock.write(task)?))
    }

    /// What the root pointer promises.
    fn expected_root(&self) -> Expected {
        let level = self.root.get().level;
        Expected { tree: self.name.id(), level, from: Key::MIN, to: None }
    }

    /// What the pointer at `index` of `node` promises, where all of `node` lies before `to`.
    fn expected_child(&self, node: &Node, index: usize, to: Option<Key>) -> Expected {
        let children = node.children();
        let to = children.get(index + 1).map_or(to, |next| Some(next.key));
        let from = children[index].key;
        Expected { tree: self.name.id(), level: node.level - 1, from, to }
    }
}

/// Proof that a tree is locked for changes.
type Locked = Guard;
