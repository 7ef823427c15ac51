//! Finding items. The caller holds the tree's lock.

use super::{BTree, Path, Step};
use crate::error::{Error, Result};
use crate::store::items::Value;
use crate::store::key::Key;
use crate::store::nodes::Buffer;
use crate::store::nodes::node::LEVEL_MAX;
use machine::Task;
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;

impl BTree {
    /// The root node, if there is one.
    pub(super) fn load_root(&self, task: &Task) -> Result<Option<Rc<Buffer>>> {
        let root = self.root.get();
        if root.is_empty() {
            return Ok(None);
        }
        if root.level > LEVEL_MAX {
            let (structure, block) = ("root pointer", root.ptr.block);
            return Err(Error::Corrupt { structure, block, what: "an impossible level" });
        }
        let device = self.places.device();
        self.nodes.load(task, device, &root.ptr, self.expected_root()).map(Some)
    }

    /// The child at `index` of the node at the end of a path.
    pub(super) fn load_child(
        &self,
        task: &Task,
        path: &[Step],
        index: usize,
    ) -> Result<Rc<Buffer>> {
        let node = path[path.len() - 1].buffer.node();
        let to = upper_bound(&path[..path.len() - 1]);
        let expected = self.expected_child(&node, index, to);
        self.nodes.load(task, self.places.device(), &node.children()[index].ptr, expected)
    }

    /// The path to the leaf in whose range `key` falls; empty for an empty tree.
    pub(super) fn descend(&self, task: &Task, key: Key) -> Result<Path> {
        let mut path = Path::new();
        let Some(mut buffer) = self.load_root(task)? else { return Ok(path) };
        loop {
            let node = buffer.node();
            let index = if node.level == 0 { 0 } else { node.child_of(key) };
            path.push(Step { buffer, index });
            if node.level == 0 {
                return Ok(path);
            }
            buffer = self.load_child(task, &path, index)?;
        }
    }

    pub(super) fn find(&self, task: &Task, key: Key) -> Result<Option<Value>> {
        let path = self.descend(task, key)?;
        let Some(last) = path.last() else { return Ok(None) };
        let node = last.buffer.node();
        let leaf = node.leaf();
        let found = leaf.find(key).ok().and_then(|index| leaf.item(index));
        Ok(found.map(|(_, value)| SmallVec::from_slice(value)))
    }

    pub(super) fn find_floor(&self, task: &Task, key: Key) -> Result<Option<(Key, Value)>> {
        let mut path = self.descend(task, key)?;
        let Some(last) = path.last() else { return Ok(None) };
        let node = last.buffer.node();
        let index = match node.leaf().find(key) {
            Ok(index) => index,
            Err(0) => return self.last_before(task, &mut path),
            Err(index) => index - 1,
        };
        let found = node.leaf().item(index);
        Ok(found.map(|(key, value)| (key, SmallVec::from_slice(value))))
    }

    /// The last item of the leaf before the one at the end of `path`.
    fn last_before(&self, task: &Task, path: &mut Path) -> Result<Option<(Key, Value)>> {
        path.pop();
        while path.last().is_some_and(|step| step.index == 0) {
            path.pop();
        }
        let Some(last) = path.last_mut() else { return Ok(None) };
        last.index -= 1;
        loop {
            let index = path[path.len() - 1].index;
            let buffer = self.load_child(task, path, index)?;
            let node = buffer.node();
            if node.level == 0 {
                let found = node.leaf().items().last();
                return Ok(found.map(|(key, value)| (key, SmallVec::from_slice(value))));
            }
            path.push(Step { buffer, index: node.children().len() - 1 });
        }
    }

    pub(super) fn scan(
        &self,
        task: &Task,
        from: Key,
        to: Key,
        visit: &mut dyn FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut path = self.descend(task, from)?;
        while let Some(last) = path.last() {
            let node = last.buffer.node();
            let leaf = node.leaf();
            let mut index = leaf.find(from).unwrap_or_else(|index| index);
            while let Some((key, value)) = leaf.item(index) {
                if key >= to || visit(key, value).is_break() {
                    return Ok(());
                }
                index += 1;
            }
            self.next_leaf(task, &mut path)?;
        }
        Ok(())
    }

    /// Moves the path to the next leaf; empties it after the last one.
    fn next_leaf(&self, task: &Task, path: &mut Path) -> Result<()> {
        path.pop();
        while let Some(step) = path.last_mut() {
            step.index += 1;
            if step.index < step.buffer.node().children().len() {
                break;
            }
            path.pop();
        }
        while let Some(step) = path.last() {
            if step.buffer.node().level == 0 {
                break;
            }
            let buffer = self.load_child(task, path, step.index)?;
            path.push(Step { buffer, index: 0 });
        }
        Ok(())
    }

    pub(super) fn walk(&self, task: &Task, visit: &mut dyn FnMut(u64, u8)) -> Result<()> {
        let mut path = Path::new();
        let Some(root) = self.load_root(task)? else { return Ok(()) };
        visit(root.block(), root.node().level);
        path.push(Step { buffer: root, index: 0 });
        while let Some(step) = path.last() {
            let index = step.index;
            if index < step.buffer.node().children().len() {
                let buffer = self.load_child(task, &path, index)?;
                visit(buffer.block(), buffer.node().level);
                path.push(Step { buffer, index: 0 });
                continue;
            }
            path.pop();
            if let Some(parent) = path.last_mut() {
                parent.index += 1;
            }
        }
        Ok(())
    }
}

/// The key before which everything below the end of the path lies: the nearest right neighbour of
/// a child taken.
fn upper_bound(path: &[Step]) -> Option<Key> {
    path.iter().rev().find_map(|step| {
        let node = step.buffer.node();
        node.children().get(step.index + 1).map(|next| next.key)
    })
}
