//! The tree of everything that recovery was seen to read: a node is the block it reads next, an
//! edge the content it found, a leaf the end of a recovery.
//!
//! Promises that two recoveries that found the same contents end in the same leaf, and that a
//! recovery that reads different blocks after finding the same contents is told apart as
//! nondeterministic.
//!
//! Must never know cuts, or which contents are possible.

use smallvec::SmallVec;

use super::DeviceId;

/// The end of one recovery: one class of crash states, over all cuts of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafId(pub u32);

/// A recovery read other blocks than one that had found the same contents until then. Recovery
/// depends on something else than the image: a bug of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "recovery is not deterministic: after {depth} equal reads it went to {} and once to {}",
    place(found),
    place(expected)
)]
pub struct Diverged {
    /// Reads that were equal.
    pub depth: u32,
    /// Where the earlier recovery went, if it did not end.
    pub expected: Option<(DeviceId, u64)>,
    /// Where this one went, if it did not end.
    pub found: Option<(DeviceId, u64)>,
}

fn place(read: &Option<(DeviceId, u64)>) -> String {
    match read {
        Some((device, block)) => format!("block {block} of device {device}"),
        None => "its end".to_owned(),
    }
}

/// Where a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Recovery reads this slot next.
    Read(u32),
    /// Recovery ends.
    Leaf(LeafId),
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    /// Content identity to child.
    edges: SmallVec<[(u64, u32); 2]>,
}

#[derive(Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    leaves: u32,
}

/// A disagreement at `depth`: the slots of the earlier and of this recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    pub(super) depth: u32,
    pub(super) expected: Option<u32>,
    pub(super) found: Option<u32>,
}

impl Trie {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.leaves = 0;
    }

    pub(super) fn root(&self) -> Option<u32> {
        if self.nodes.is_empty() { None } else { Some(0) }
    }

    pub(super) fn kind(&self, node: u32) -> Kind {
        self.nodes[node as usize].kind
    }

    pub(super) fn child(&self, node: u32, content_id: u64) -> Option<u32> {
        let edges = &self.nodes[node as usize].edges;
        edges.iter().find(|(id, _)| *id == content_id).map(|(_, child)| *child)
    }

    /// Adds a recovery that read these slots and found these contents. Returns its leaf, and
    /// whether it is new.
    pub(super) fn insert(&mut self, path: &[(u32, u64)]) -> Result<(LeafId, bool), Fork> {
        let mut parent: Option<(u32, u64)> = None;
        for (depth, (slot, content_id)) in path.iter().enumerate() {
            let node = self.enter(parent, depth, Some(*slot))?;
            parent = Some((node, *content_id));
        }
        let leaves = self.leaves;
        let node = self.enter(parent, path.len(), None)?;
        match self.kind(node) {
            Kind::Leaf(leaf) => Ok((leaf, leaf.0 >= leaves)),
            Kind::Read(_) => unreachable!("a node entered as an end is a leaf"),
        }
    }

    /// The node below an edge, made if it is missing; `slot` is what it must read, none for a leaf.
    fn enter(
        &mut self,
        parent: Option<(u32, u64)>,
        depth: usize,
        slot: Option<u32>,
    ) -> Result<u32, Fork> {
        let known = match parent {
            None => self.root(),
            Some((node, content_id)) => self.child(node, content_id),
        };
        if let Some(node) = known {
            let expected = match self.kind(node) {
                Kind::Read(slot) => Some(slot),
                Kind::Leaf(_) => None,
            };
            let fork = Fork { depth: depth as u32, expected, found: slot };
            return if expected == slot { Ok(node) } else { Err(fork) };
        }
        let node = self.nodes.len() as u32;
        let kind = match slot {
            Some(slot) => Kind::Read(slot),
            None => {
                self.leaves += 1;
                Kind::Leaf(LeafId(self.leaves - 1))
            }
        };
        self.nodes.push(Node { kind, edges: SmallVec::new() });
        if let Some((above, content_id)) = parent {
            self.nodes[above as usize].edges.push((content_id, node));
        }
        Ok(node)
    }
}
