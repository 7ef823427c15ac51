//! What deletion does to nodes that hold too little: they merge with a sibling, or take from it.

use super::edit::Edit;
use super::{Path, Step};
use crate::error::Result;
use crate::store::key::BlockPtr;
use crate::store::nodes::Buffer;
use crate::store::space::Blocks;
use machine::Task;
use smallvec::SmallVec;
use std::rc::Rc;

/// A sibling that an underfull node of the path will merge with or take from.
pub(super) struct Neighbour {
    /// The index of the underfull node's step in the path.
    at: usize,
    buffer: Rc<Buffer>,
    is_left: bool,
    merges: bool,
}

impl Neighbour {
    /// The sibling.
    pub(super) fn buffer(&self) -> &Rc<Buffer> {
        &self.buffer
    }
}

/// The neighbours that a deletion needs, from the leaf up.
pub(super) type Plan = SmallVec<[Neighbour; 2]>;

impl Edit<'_> {
    /// Loads the siblings that the deletion of the leaf's item at `index` needs.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub(super) fn plan_rebalance(&self, task: &Task, path: &Path, index: usize) -> Result<Plan> {
        let capacity = self.tree.capacity;
        let mut plan = Plan::new();
        let mut fill = path[path.len() - 1].buffer.node().leaf().fill_without(index);
        for at in (1..path.len()).rev() {
            if !capacity.is_under(fill) {
                break;
            }
            let parent = &path[at - 1];
            let is_left = parent.index > 0;
            let sibling = if is_left { parent.index - 1 } else { parent.index + 1 };
            let buffer = self.tree.load_child(task, &path[..at], sibling)?;
            let other = buffer.node().fill();
            fill.items += other.items;
            fill.bytes += other.bytes;
            let merges = !capacity.is_over(fill);
            plan.push(Neighbour { at, buffer, is_left, merges });
            if !merges {
                break;
            }
            fill = parent.buffer.node().fill_of_children(-1);
        }
        Ok(plan)
    }

    /// Carries the plan out on the copied path.
    pub(super) fn rebalance(
        &self,
        path: &mut Path,
        plan: Plan,
        blocks: &mut Blocks,
        generation: u64,
    ) {
        for Neighbour { at, buffer, is_left, merges } in plan {
            let parent = path[at - 1].clone();
            let sibling = self.copy(&buffer, blocks, generation);
            let at_sibling = if is_left { parent.index - 1 } else { parent.index + 1 };
            let ptr = BlockPtr::dirty(sibling.block(), generation);
            parent.buffer.change(|node| node.children_mut()[at_sibling].ptr = ptr);
            let (left, right) = match is_left {
                true => (sibling, path[at].buffer.clone()),
                false => (path[at].buffer.clone(), sibling),
            };
            let at_right = parent.index + usize::from(!is_left);
            let rest = right.node();
            left.change(|node| node.absorb(&rest));
            if merges {
                self.discard(&right);
                parent.buffer.change(|node| node.children_mut().remove(at_right));
                // If the path's node was the right one, it now lies in the left one.
                path[at] = Step { buffer: left, index: 0 };
            } else {
                let upper = left.change(|node| node.split(self.tree.capacity));
                let key = right.change(|node| {
                    node.body = upper;
                    node.first_key()
                });
                parent.buffer.change(|node| node.children_mut()[at_right].key = key);
            }
        }
    }
}
