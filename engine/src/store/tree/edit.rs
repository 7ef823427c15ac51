//! Changes of a tree: put and delete, with copies of the path, splits, and what deletion needs of
//! [`rebalance`](super::rebalance).
//!
//! Each change has two halves. The first finds the path, loads what the second will touch and takes
//! the blocks for copies and splits; it may wait and may fail. The second changes nodes in memory;
//! it neither waits nor fails.

use super::{BTree, Locked, Path, Step};
use crate::error::{Errno, Error, Result};
use crate::store::items::{Damage, ITEM_BYTES_MAX, Value};
use crate::store::key::{BlockPtr, Key, Root};
use crate::store::nodes::Buffer;
use crate::store::nodes::node::{Body, Child, LEVEL_MAX, Leaf, Node};
use crate::store::space::{Blocks, Claim};
use machine::Task;
use std::ops::ControlFlow;
use std::rc::Rc;

/// What a put expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// No item: EEXIST otherwise.
    Insert,
    /// An item: ENOENT otherwise.
    Replace,
    /// Either.
    Any,
}

/// A tree that is locked for changes.
pub(crate) struct Edit<'a> {
    pub(super) tree: &'a BTree,
    _locked: Locked,
}

impl<'a> Edit<'a> {
    pub(super) fn new(tree: &'a BTree, locked: Locked) -> Edit<'a> {
        Edit { tree, _locked: locked }
    }

    /// Blocks of the data device, which items speak of; no limit for a tree that is not on it.
    pub(crate) fn data_blocks(&self) -> u64 {
        self.tree.places.data_blocks().unwrap_or(u64::MAX)
    }

    /// As [`BTree::corrupt`].
    pub(crate) fn corrupt(
        &self,
        task: &Task,
        key: Key,
        structure: &'static str,
        what: Damage,
    ) -> Error {
        self.tree.corrupt_item(task, key, structure, what)
    }

    /// As [`BTree::floor`].
    pub(crate) fn floor(&self, task: &Task, key: Key) -> Result<Option<(Key, Value)>> {
        self.tree.find_floor(task, key)
    }

    /// The first item with a key in `from..to`.
    pub(crate) fn first(&self, task: &Task, from: Key, to: Key) -> Result<Option<(Key, Value)>> {
        let mut found = None;
        self.tree.scan(task, from, to, &mut |key, value| {
            found = Some((key, Value::from_slice(value)));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Gives `key` a value.
    ///
    /// # Errors
    /// `Refused` if `how` expects something else; `NoSpace`; those of reading. Nothing is changed
    /// then.
    pub(crate) fn put(
        &self,
        task: &Task,
        claim: &Claim<'_>,
        key: Key,
        value: &[u8],
        how: Put,
    ) -> Result<()> {
        if value.len() > ITEM_BYTES_MAX {
            return Err(Error::bad_input("the length of an item", value.len()));
        }
        let mut path = self.tree.descend(task, key)?;
        let Some(last) = path.last() else {
            return self.plant(task, claim, key, value, how);
        };
        let node = last.buffer.node();
        let found = node.leaf().find(key);
        match (how, found) {
            (Put::Insert, Ok(_)) => return Err(Errno::EEXIST.into()),
            (Put::Replace, Err(_)) => return Err(Errno::ENOENT.into()),
            _ => {}
        }
        let old = found.ok().and_then(|index| node.leaf().item(index)).map(|(_, old)| old.len());
        let wanted = self.blocks_for_put(&path, old, value.len())?;
        drop(node);
        self.prepare(task, path.iter().map(|step| &step.buffer))?;
        let mut blocks = self.tree.places.take(task, wanted, claim)?;
        // From here on nothing waits or fails.
        self.copy_path(&mut path, &mut blocks, claim.generation);
        self.lower_keys(&path, key);
        path[path.len() - 1].buffer.change(|node| match found {
            Ok(index) => node.leaf_mut().replace(index, value),
            Err(index) => node.leaf_mut().insert(index, key, value),
        });
        self.split_path(&path, &mut blocks, claim.generation);
        assert!(blocks.is_empty(), "a put takes as many blocks as it planned");
        Ok(())
    }

    /// Removes an item; whether there was one.
    ///
    /// # Errors
    /// `NoSpace`; those of reading. Nothing is changed then.
    pub(crate) fn delete(&self, task: &Task, claim: &Claim<'_>, key: Key) -> Result<bool> {
        let mut path = self.tree.descend(task, key)?;
        let Some(last) = path.last() else { return Ok(false) };
        let Ok(index) = last.buffer.node().leaf().find(key) else { return Ok(false) };
        let plan = self.plan_rebalance(task, &path, index)?;
        let neighbours = plan.iter().map(|neighbour| neighbour.buffer());
        let nodes = path.iter().map(|step| &step.buffer).chain(neighbours);
        self.prepare(task, nodes.clone())?;
        let wanted = nodes.filter(|buffer| !buffer.is_dirty()).count();
        let mut blocks = self.tree.places.take(task, wanted, claim)?;
        // From here on nothing waits or fails.
        self.copy_path(&mut path, &mut blocks, claim.generation);
        path[path.len() - 1].buffer.change(|node| node.leaf_mut().remove(index));
        self.rebalance(&mut path, plan, &mut blocks, claim.generation);
        self.shrink_root(&path);
        assert!(blocks.is_empty(), "a deletion takes as many blocks as it planned");
        Ok(true)
    }

    /// Removes the items with keys in `from..to`; how many there were. An error leaves those that
    /// are still there.
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete).
    pub(crate) fn delete_range(
        &self,
        task: &Task,
        claim: &Claim<'_>,
        from: Key,
        to: Key,
    ) -> Result<u64> {
        let mut count = 0;
        while let Some((key, _)) = self.first(task, from, to)? {
            let was_there = self.delete(task, claim, key)?;
            assert!(was_there, "an item just seen under the same lock");
            count += 1;
        }
        Ok(count)
    }

    /// The first item of an empty tree.
    fn plant(
        &self,
        task: &Task,
        claim: &Claim<'_>,
        key: Key,
        value: &[u8],
        how: Put,
    ) -> Result<()> {
        if how == Put::Replace {
            return Err(Errno::ENOENT.into());
        }
        let mut blocks = self.tree.places.take(task, 1, claim)?;
        let mut leaf = Leaf::default();
        leaf.insert(0, key, value);
        let leaf = self.create(0, Body::Leaf(leaf), &mut blocks, claim.generation);
        self.tree.root.set(Root { ptr: BlockPtr::dirty(leaf.block(), claim.generation), level: 0 });
        Ok(())
    }

    /// Blocks that a put takes: a copy of each clean node of the path, and the splits.
    fn blocks_for_put(&self, path: &[Step], old: Option<usize>, new: usize) -> Result<usize> {
        let capacity = self.tree.capacity;
        let mut wanted = path.iter().filter(|step| !step.buffer.is_dirty()).count();
        let mut fill = path[path.len() - 1].buffer.node().leaf().fill_after(old, new);
        for step in path.iter().rev().skip(1) {
            if !capacity.is_over(fill) {
                return Ok(wanted);
            }
            wanted += 1;
            fill = step.buffer.node().fill_of_children(1);
        }
        if capacity.is_over(fill) {
            if self.tree.root.get().level == LEVEL_MAX {
                return Err(Error::NoSpace { wanted: 1, available: 0 });
            }
            wanted += 2;
        }
        Ok(wanted)
    }

    /// Makes sure that the places of clean nodes can be given up without waiting, and that no other
    /// node was put there: on a damaged image their blocks may be free.
    fn prepare<'b>(&self, task: &Task, nodes: impl Iterator<Item = &'b Rc<Buffer>>) -> Result<()> {
        let device = self.tree.places.device();
        for buffer in nodes.filter(|buffer| !buffer.is_dirty()) {
            let block = buffer.block();
            self.tree.places.prepare(task, block)?;
            if !self.tree.nodes.holds(device, buffer) {
                let (structure, what) = ("tree node", "another node stands in its block");
                return Err(Error::Corrupt { structure, block, what });
            }
        }
        Ok(())
    }

    /// A new node in a new block.
    fn create(&self, level: u8, body: Body, blocks: &mut Blocks, generation: u64) -> Rc<Buffer> {
        let block = blocks.pop().expect("planned");
        let node = Node { tree: self.tree.name.id(), level, generation, block, body };
        self.tree.nodes.create(self.tree.places.device(), node)
    }

    /// The dirty copy of a node, in a new block if it is clean; the old block is given up.
    pub(super) fn copy(
        &self,
        buffer: &Rc<Buffer>,
        blocks: &mut Blocks,
        generation: u64,
    ) -> Rc<Buffer> {
        if buffer.is_dirty() {
            return buffer.clone();
        }
        let node = buffer.node();
        let copy = self.create(node.level, node.body.clone(), blocks, generation);
        self.tree.nodes.forget(self.tree.places.device(), buffer.block());
        self.tree.places.release(buffer.block(), false);
        copy
    }

    /// Makes every node of the path dirty, from the root down.
    fn copy_path(&self, path: &mut Path, blocks: &mut Blocks, generation: u64) {
        for at in 0..path.len() {
            let copy = self.copy(&path[at].buffer, blocks, generation);
            let ptr = BlockPtr::dirty(copy.block(), generation);
            match at.checked_sub(1) {
                None => self.tree.root.set(Root { ptr, level: copy.node().level }),
                Some(parent) => self.point(&path[parent], ptr),
            }
            path[at].buffer = copy;
        }
    }

    /// Lets the child that the path takes stand in another block.
    fn point(&self, parent: &Step, ptr: BlockPtr) {
        let known = parent.buffer.node().children()[parent.index].ptr;
        if known != ptr {
            parent.buffer.change(|node| node.children_mut()[parent.index].ptr = ptr);
        }
    }

    /// Keeps the keys of the path's children not greater than a new key below them.
    fn lower_keys(&self, path: &[Step], key: Key) {
        for step in &path[..path.len() - 1] {
            if key < step.buffer.node().children()[step.index].key {
                debug_assert_eq!(step.index, 0, "only before all others");
                step.buffer.change(|node| node.children_mut()[step.index].key = key);
            }
        }
    }

    /// Splits what became too full, from the leaf up, and grows the tree if that is the root.
    fn split_path(&self, path: &[Step], blocks: &mut Blocks, generation: u64) {
        for at in (0..path.len()).rev() {
            let low = &path[at].buffer;
            if !self.tree.capacity.is_over(low.node().fill()) {
                return;
            }
            let level = low.node().level;
            let body = low.change(|node| node.split(self.tree.capacity));
            let high = self.create(level, body, blocks, generation);
            let child = |buffer: &Buffer| Child {
                key: buffer.node().first_key(),
                ptr: BlockPtr::dirty(buffer.block(), generation),
            };
            if at > 0 {
                let parent = &path[at - 1];
                let upper = child(&high);
                parent.buffer.change(|node| node.children_mut().insert(parent.index + 1, upper));
                continue;
            }
            let body = Body::Interior(vec![child(low), child(&high)]);
            let root = self.create(level + 1, body, blocks, generation);
            let ptr = BlockPtr::dirty(root.block(), generation);
            self.tree.root.set(Root { ptr, level: level + 1 });
        }
    }

    /// Gives up a dirty node that is no longer part of the tree.
    pub(super) fn discard(&self, buffer: &Buffer) {
        assert!(buffer.is_dirty(), "only copies are given up at once");
        self.tree.nodes.remove_dirty(self.tree.places.device(), buffer);
        self.tree.places.release(buffer.block(), true);
    }

    /// Drops roots with one child, and a root leaf without items.
    fn shrink_root(&self, path: &[Step]) {
        for step in path {
            let node = step.buffer.node();
            match &node.body {
                Body::Leaf(leaf) if leaf.fill().items == 0 => {
                    self.discard(&step.buffer);
                    self.tree.root.set(Root::EMPTY);
                    return;
                }
                Body::Interior(children) if children.len() == 1 => {
                    self.discard(&step.buffer);
                    self.tree.root.set(Root { ptr: children[0].ptr, level: node.level - 1 });
                }
                _ => return,
            }
        }
    }
}
