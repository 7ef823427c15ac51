//! Putting the changed nodes of a tree on the medium, children before parents, as a parent holds
//! the digests of its children.

use super::BTree;
use crate::error::Result;
use crate::store::key::{BlockPtr, Root};
use crate::store::nodes::Buffer;
use crate::store::writes::Writes;
use machine::{Block, Task};
use std::rc::Rc;

/// Contents of nodes, children first.
type Contents = Vec<(Rc<Buffer>, Block)>;

impl BTree {
    /// Whether nodes were changed since the tree was written.
    pub(crate) fn is_dirty(&self) -> bool {
        let root = self.root.get();
        !root.is_empty() && root.ptr.is_dirty()
    }

    /// Submits every dirty node. The root that it returns, which is the tree's from now on, may be
    /// pointed to once the writes were waited for.
    ///
    /// Nobody may change the tree meanwhile: the transaction is closed, or the log is locked.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn write(
        &self,
        task: &Task,
        writes: &mut Writes,
        what: &'static str,
    ) -> Result<Root> {
        let mut root = self.root.get();
        if !self.is_dirty() {
            return Ok(root);
        }
        let mut contents = Contents::new();
        root.ptr = self.encode_below(root.ptr, &mut contents);
        self.root.set(root);
        for (buffer, content) in contents {
            let device = self.places.device();
            match self.nodes.room(device) {
                Some(room) => writes.submit_buffer(task, room, buffer, content)?,
                None => writes.submit_node(task, device, buffer, content, what)?,
            }
        }
        Ok(root)
    }

    /// Encodes a dirty node after its dirty children; its pointer with the digest.
    fn encode_below(&self, ptr: BlockPtr, contents: &mut Contents) -> BlockPtr {
        let device = self.places.device();
        let buffer = self.nodes.get(device, &ptr).expect("a dirty node is in memory");
        let node = buffer.node();
        for (index, child) in node.children().iter().enumerate() {
            if child.ptr.is_dirty() {
                let written = self.encode_below(child.ptr, contents);
                buffer.change(|node| node.children_mut()[index].ptr = written);
            }
        }
        drop(node);
        let content = buffer.start_write();
        let digest = content.digest();
        contents.push((buffer, content));
        BlockPtr { digest, ..ptr }
    }
}
