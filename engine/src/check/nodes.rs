//! The walk over one tree: each node against its pointer, items in order to whoever wants them.
//!
//! Promises: visits every readable node once, even if the tree is a graph; goes on beside a damaged
//! one. It must never know what the items mean.

use super::image::Image;
use super::report::{CheckReport, ProblemKind};
use crate::store::key::{BlockPtr, Key, Root, Tree};
use crate::store::nodes::node::{Body, Capacity, Node};
use std::rc::Rc;

/// What an item is given to: its key, its value, the block of its leaf.
pub(super) type Visit<'v> = dyn FnMut(&mut CheckReport, Key, &[u8], u64) + 'v;

/// A tree to be walked.
pub(super) struct TreeWalk<'w, 'i> {
    pub(super) image: &'w mut Image<'i>,
    pub(super) report: &'w mut CheckReport,
    pub(super) tree: Tree,
    pub(super) device: u8,
    pub(super) capacity: Capacity,
}

/// Where a node hangs: what its parent promises of it.
#[derive(Clone, Copy)]
struct Place {
    level: u8,
    from: Key,
    to: Option<Key>,
    is_root: bool,
}

impl TreeWalk<'_, '_> {
    /// Walks all nodes below a root and gives all items away, in order.
    pub(super) fn walk(&mut self, root: &Root, visit: &mut Visit<'_>) {
        if root.is_empty() {
            return;
        }
        let place = Place { level: root.level, from: Key::MIN, to: None, is_root: true };
        self.node(&root.ptr, place, visit);
    }

    fn node(&mut self, ptr: &BlockPtr, place: Place, visit: &mut Visit<'_>) {
        if !self.image.visit(self.device, ptr.block) {
            let message = format!("a node of {:?} is reached twice", self.tree);
            return self.report.add(ProblemKind::DoubleUse, ptr.block, message);
        }
        let Some(node) = self.read(ptr) else { return };
        if let Some((kind, message)) = self.contradiction(&node, ptr, place) {
            return self.report.add(kind, ptr.block, message);
        }
        if !place.is_root && self.capacity.is_under(node.fill()) {
            let message = format!("a node of {:?} holds {} items", self.tree, node.fill().items);
            self.report.add(ProblemKind::NodeUnderfull, ptr.block, message);
        }
        match &node.body {
            Body::Leaf(leaf) => {
                for (key, value) in leaf.items() {
                    visit(self.report, key, value, ptr.block);
                }
            }
            Body::Interior(children) => {
                for (index, child) in children.iter().enumerate() {
                    // The first child may hold keys below its own key, down to the parent's.
                    let from = if index == 0 { place.from.min(child.key) } else { child.key };
                    let to = children.get(index + 1).map(|next| next.key).or(place.to);
                    let level = place.level - 1;
                    self.node(&child.ptr, Place { level, from, to, is_root: false }, visit);
                }
            }
        }
    }

    fn read(&mut self, ptr: &BlockPtr) -> Option<Rc<Node>> {
        let Some(content) = self.image.read(self.device, ptr.block) else {
            let message = format!("a node of {:?} lies beyond device {}", self.tree, self.device);
            self.report.add(ProblemKind::NodeUnreadable, ptr.block, message);
            return None;
        };
        if content.digest() != ptr.digest {
            let message = format!("a node of {:?} is not what its parent points to", self.tree);
            self.report.add(ProblemKind::NodeDigest, ptr.block, message);
            return None;
        }
        match Node::decoded(&content) {
            Ok(node) => Some(node),
            Err(what) => {
                let message = format!("a node of {:?}: {what}", self.tree);
                self.report.add(ProblemKind::NodeUnreadable, ptr.block, message);
                None
            }
        }
    }

    /// What the node has that its parent does not promise.
    fn contradiction(
        &self,
        node: &Node,
        ptr: &BlockPtr,
        place: Place,
    ) -> Option<(ProblemKind, String)> {
        let tree = self.tree;
        if (node.tree, node.block, node.generation) != (tree.id(), ptr.block, ptr.generation) {
            let found = format!("{} of tree {} at {}", node.generation, node.tree, node.block);
            let message = format!("a node of {tree:?} is generation {found}");
            return Some((ProblemKind::NodeMisplaced, message));
        }
        if node.level != place.level {
            let message =
                format!("a node of {tree:?} has level {}, not {}", node.level, place.level);
            return Some((ProblemKind::NodeLevel, message));
        }
        if node.first_key() < place.from || place.to.is_some_and(|to| node.last_key() >= to) {
            let message = format!("keys of a node of {tree:?} are outside of its parent's range");
            return Some((ProblemKind::NodeOrder, message));
        }
        None
    }
}
