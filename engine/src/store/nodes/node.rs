//! A tree node: its form on the medium and in memory.
//!
//! ```text
//! header, 32 bytes   magic "PFND" | tree u8 | level u8 | count u16 | generation u64 | block u64 |
//!                    reserved u64 = 0
//! leaf (level 0)     count × (key 17 | value length u16), then the values in the same order
//! interior           count × (key 17 | pointer 48); a key is not greater than any key below it
//! rest               zeros
//! ```
//!
//! A node names its own block, so a misdirected write or read is noticed, and its tree and level,
//! so that a pointer into the wrong tree is.
//!
//! Promises: `decode(encode(n))` equals `n`; keys of a decoded node strictly ascend, it has at
//! least one item and respects the sizes. It must never know other nodes.

use crate::store::codec::{Reader, Writer};
use crate::store::items::ITEM_BYTES_MAX;
use crate::store::key::{BlockPtr, KEY_BYTES, Key, POINTER_BYTES};
use machine::{BLOCK_BYTES, Block};
use std::rc::Rc;

const MAGIC: &[u8; 4] = b"PFND";
const HEADER_BYTES: usize = 32;
const SLOT_BYTES: usize = KEY_BYTES + 2;
const CHILD_BYTES: usize = KEY_BYTES + POINTER_BYTES;

/// Bytes of a node that items may use.
pub(crate) const ROOM_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;

/// The greatest level of a node: a tree of the least capacity reaches it with a million items.
pub(crate) const LEVEL_MAX: u8 = 20;

/// Dead bytes of values after which a leaf is put together anew.
const DEAD_BYTES_MAX: usize = 4096;

const _: () = assert!(2 * (ITEM_BYTES_MAX + SLOT_BYTES) < ROOM_BYTES);

/// What a node may hold: items at most, bytes always bounded by the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    items_max: usize,
}

/// How much a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Items or children.
    pub(crate) items: usize,
    /// Bytes that they take on the medium.
    pub(crate) bytes: usize,
}

impl Capacity {
    /// The capacity of an image with this `leaf` option: 0 for as many as fit.
    pub(crate) fn new(leaf: u16) -> Capacity {
        let items_max = if leaf == 0 { usize::MAX } else { usize::from(leaf) };
        assert!(items_max >= 4, "with fewer items a split leaves an underfull node");
        Capacity { items_max }
    }

    /// Whether nodes hold as many items as fit.
    #[cfg(test)]
    pub(crate) fn is_full(self) -> bool {
        self.items_max == usize::MAX
    }

    /// Whether a node of this fill must be split.
    pub(crate) fn is_over(self, fill: Fill) -> bool {
        fill.items > self.items_max || fill.bytes > ROOM_BYTES
    }

    /// Whether a node of this fill should be merged with a sibling or take from it.
    pub(crate) fn is_under(self, fill: Fill) -> bool {
        if self.items_max == usize::MAX {
            fill.bytes < ROOM_BYTES / 4
        } else {
            fill.items < self.items_max / 2
        }
    }
}

/// A node as decoded from one content, remembered with it.
struct Decoded(Result<Rc<Node>, &'static str>);

/// An item's key and where its value stands in the leaf's heap.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    start: u32,
    len: u16,
}

/// The items of a leaf: sorted slots, and their values in a heap with holes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    slots: Vec<Slot>,
    heap: Vec<u8>,
    live_bytes: usize,
}

/// A child of an interior node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Not greater than any key below the child; greater than all keys before it.
    pub(crate) key: Key,
    /// The child.
    pub(crate) ptr: BlockPtr,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Items; level 0.
    Leaf(Leaf),
    /// Children; level 1 and more.
    Interior(Vec<Child>),
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The tree, by [`Tree::id`](crate::store::key::Tree::id).
    pub(crate) tree: u8,
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// The transaction that wrote or will write it.
    pub(crate) generation: u64,
    /// Its own place.
    pub(crate) block: u64,
    /// Its items or children.
    pub(crate) body: Body,
}

impl Leaf {
    /// How much it holds.
    pub(crate) fn fill(&self) -> Fill {
        let bytes = self.slots.len() * SLOT_BYTES + self.live_bytes;
        Fill { items: self.slots.len(), bytes }
    }

    /// The fill after a value of `old` bytes (if there was one) became one of `new` bytes.
    pub(crate) fn fill_after(&self, old: Option<usize>, new: usize) -> Fill {
        let Fill { items, bytes } = self.fill();
        match old {
            Some(old) => Fill { items, bytes: bytes - old + new },
            None => Fill { items: items + 1, bytes: bytes + SLOT_BYTES + new },
        }
    }

    /// The fill without the item at `index`.
    pub(crate) fn fill_without(&self, index: usize) -> Fill {
        let Fill { items, bytes } = self.fill();
        Fill { items: items - 1, bytes: bytes - SLOT_BYTES - usize::from(self.slots[index].len) }
    }

    /// The index of a key, or where it would be.
    pub(crate) fn find(&self, key: Key) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| slot.key.cmp(&key))
    }

    /// The item at `index`.
    pub(crate) fn item(&self, index: usize) -> Option<(Key, &[u8])> {
        let slot = self.slots.get(index)?;
        Some((slot.key, self.value(slot)))
    }

    fn value(&self, slot: &Slot) -> &[u8] {
        let start = slot.start as usize;
        &self.heap[start..start + usize::from(slot.len)]
    }

    /// All items in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Key, &[u8])> {
        self.slots.iter().map(|slot| (slot.key, self.value(slot)))
    }

    /// Puts a new item at `index`.
    pub(crate) fn insert(&mut self, index: usize, key: Key, value: &[u8]) {
        debug_assert!(value.len() <= ITEM_BYTES_MAX);
        self.compact();
        let slot = Slot { key, start: self.heap.len() as u32, len: value.len() as u16 };
        self.heap.extend_from_slice(value);
        self.live_bytes += value.len();
        self.slots.insert(index, slot);
    }

    /// Gives the item at `index` another value.
    pub(crate) fn replace(&mut self, index: usize, value: &[u8]) {
        debug_assert!(value.len() <= ITEM_BYTES_MAX);
        let slot = self.slots[index];
        if usize::from(slot.len) == value.len() {
            let start = slot.start as usize;
            self.heap[start..start + value.len()].copy_from_slice(value);
            return;
        }
        self.slots[index].len = 0;
        self.live_bytes -= usize::from(slot.len);
        self.compact();
        self.slots[index].start = self.heap.len() as u32;
        self.slots[index].len = value.len() as u16;
        self.heap.extend_from_slice(value);
        self.live_bytes += value.len();
    }

    /// Takes the item at `index` out.
    pub(crate) fn remove(&mut self, index: usize) {
        let slot = self.slots.remove(index);
        self.live_bytes -= usize::from(slot.len);
    }

    /// Drops dead bytes once they are as many as a block's.
    fn compact(&mut self) {
        if self.heap.len() - self.live_bytes < DEAD_BYTES_MAX {
            return;
        }
        let mut heap = Vec::with_capacity(self.live_bytes + ITEM_BYTES_MAX);
        for index in 0..self.slots.len() {
            let start = heap.len() as u32;
            let slot = self.slots[index];
            heap.extend_from_slice(self.value(&slot));
            self.slots[index].start = start;
        }
        self.heap = heap;
    }

    /// A leaf of the given items, which ascend.
    fn of<'a>(items: impl Iterator<Item = (Key, &'a [u8])>) -> Leaf {
        let mut leaf = Leaf::default();
        for (key, value) in items {
            leaf.insert(leaf.slots.len(), key, value);
        }
        leaf
    }

    /// Where to cut so that both sides hold about the same number of bytes.
    fn middle(&self) -> usize {
        let half = self.fill().bytes / 2;
        let mut bytes = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            bytes += SLOT_BYTES + usize::from(slot.len);
            if bytes > half {
                return index.max(1);
            }
        }
        self.slots.len() / 2
    }
}

impl Node {
    /// The first key; a node always has one once it is in a tree.
    pub(crate) fn first_key(&self) -> Key {
        match &self.body {
            Body::Leaf(leaf) => leaf.slots[0].key,
            Body::Interior(children) => children[0].key,
        }
    }

    /// The last key.
    pub(crate) fn last_key(&self) -> Key {
        match &self.body {
            Body::Leaf(leaf) => leaf.slots[leaf.slots.len() - 1].key,
            Body::Interior(children) => children[children.len() - 1].key,
        }
    }

    /// How much it holds.
    pub(crate) fn fill(&self) -> Fill {
        match &self.body {
            Body::Leaf(leaf) => leaf.fill(),
            Body::Interior(children) => {
                Fill { items: children.len(), bytes: children.len() * CHILD_BYTES }
            }
        }
    }

    /// The fill of an interior node with `grown` more (or, negative, fewer) children.
    pub(crate) fn fill_of_children(&self, grown: isize) -> Fill {
        let items = self.children().len().saturating_add_signed(grown);
        Fill { items, bytes: items * CHILD_BYTES }
    }

    /// The leaf in it.
    ///
    /// # Panics
    /// If it is an interior node; decoding ties body to level.
    pub(crate) fn leaf(&self) -> &Leaf {
        match &self.body {
            Body::Leaf(leaf) => leaf,
            Body::Interior(_) => unreachable!("a node of level 0 is a leaf"),
        }
    }

    /// The leaf in it, to change.
    pub(crate) fn leaf_mut(&mut self) -> &mut Leaf {
        match &mut self.body {
            Body::Leaf(leaf) => leaf,
            Body::Interior(_) => unreachable!("a node of level 0 is a leaf"),
        }
    }

    /// Its children; none for a leaf.
    pub(crate) fn children(&self) -> &[Child] {
        match &self.body {
            Body::Leaf(_) => &[],
            Body::Interior(children) => children,
        }
    }

    /// Its children, to change.
    pub(crate) fn children_mut(&mut self) -> &mut Vec<Child> {
        match &mut self.body {
            Body::Leaf(_) => unreachable!("a node above level 0 has children"),
            Body::Interior(children) => children,
        }
    }

    /// The index of the child in whose range `key` falls: the last whose key is not greater, or the
    /// first.
    pub(crate) fn child_of(&self, key: Key) -> usize {
        self.children().partition_point(|child| child.key <= key).saturating_sub(1)
    }

    /// Cuts the upper half off.
    pub(crate) fn split(&mut self, capacity: Capacity) -> Body {
        match &mut self.body {
            Body::Leaf(leaf) => {
                let mut at = leaf.slots.len() / 2;
                let (low, high) = leaf.fills_at(at);
                if capacity.items_max == usize::MAX
                    || capacity.is_over(low)
                    || capacity.is_over(high)
                {
                    at = leaf.middle();
                }
                let upper = Leaf::of(leaf.items().skip(at));
                *leaf = Leaf::of(leaf.items().take(at));
                Body::Leaf(upper)
            }
            Body::Interior(children) => Body::Interior(children.split_off(children.len() / 2)),
        }
    }

    /// Takes all items of its right sibling.
    pub(crate) fn absorb(&mut self, right: &Node) {
        match (&mut self.body, &right.body) {
            (Body::Leaf(leaf), Body::Leaf(more)) => {
                for (key, value) in more.items() {
                    leaf.insert(leaf.slots.len(), key, value);
                }
            }
            (Body::Interior(children), Body::Interior(more)) => children.extend_from_slice(more),
            _ => unreachable!("siblings have one level"),
        }
    }

    /// The content for the medium.
    ///
    /// # Panics
    /// If it holds more than fits, which no change of a tree leaves behind.
    pub(crate) fn encode(&self) -> Block {
        assert!(self.fill().bytes <= ROOM_BYTES && self.fill().items > 0, "a node that fits");
        let mut bytes = [0; BLOCK_BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(MAGIC);
        writer.u8(self.tree);
        writer.u8(self.level);
        writer.u16(self.fill().items as u16);
        writer.u64(self.generation);
        writer.u64(self.block);
        writer.u64(0);
        match &self.body {
            Body::Leaf(leaf) => {
                for slot in &leaf.slots {
                    slot.key.write(&mut writer);
                    writer.u16(slot.len);
                }
                leaf.slots.iter().for_each(|slot| writer.bytes(leaf.value(slot)));
            }
            Body::Interior(children) => {
                for child in children {
                    debug_assert!(!child.ptr.is_dirty(), "children are written first");
                    child.key.write(&mut writer);
                    child.ptr.write(&mut writer);
                }
            }
        }
        Block::new(&bytes)
    }

    /// The node in a content, decoded once for each content.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decoded(content: &Block) -> Result<Rc<Node>, &'static str> {
        let decoded = content.memo(|bytes| Rc::new(Decoded(Node::decode(bytes).map(Rc::new))));
        decoded.0.clone()
    }

    /// Encodes the node and lets the content remember it, so that whoever reads this content again,
    /// recovery included, need not decode it.
    pub(crate) fn encode_remembered(self: &Rc<Self>) -> Block {
        let content = self.encode();
        debug_assert!(
            Node::decode(content.bytes()).is_ok_and(|read| read.encode() == content),
            "what is written is what will be read"
        );
        let decoded = content.memo(|_| Rc::new(Decoded(Ok(self.clone()))));
        debug_assert!(decoded.0.is_ok());
        content
    }

    /// Reads a node.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8; BLOCK_BYTES]) -> Result<Node, &'static str> {
        let mut reader = Reader::new(bytes);
        if reader.bytes(4) != Some(MAGIC) {
            return Err("no magic number of a tree node");
        }
        let header = (|| {
            let (tree, level, count) = (reader.u8()?, reader.u8()?, reader.u16()?);
            let (generation, block, reserved) = (reader.u64()?, reader.u64()?, reader.u64()?);
            Some((tree, level, count, generation, block, reserved))
        })();
        let (tree, level, count, generation, block, reserved) = header.ok_or("a short header")?;
        // A tree shrinks before an interior node is left with one child.
        if level > LEVEL_MAX || count <= u16::from(level > 0) || reserved != 0 {
            return Err("an impossible header");
        }
        let body = match level {
            0 => Leaf::read(&mut reader, count).map(Body::Leaf),
            _ => read_children(&mut reader, count).map(Body::Interior),
        };
        let body = body.ok_or("items that do not fit, or not in order")?;
        if let Body::Interior(children) = &body {
            // A child that changes is written before its parent: the digest is there, and no child
            // is younger.
            let is_written = |ptr: &BlockPtr| !ptr.is_dirty() && ptr.generation <= generation;
            if !children.iter().all(|child| is_written(&child.ptr)) {
                return Err("a pointer to a child that cannot have been written");
            }
        }
        if !reader.is_rest_zero() {
            return Err("something behind the items");
        }
        Ok(Node { tree, level, generation, block, body })
    }
}

impl Leaf {
    fn fills_at(&self, at: usize) -> (Fill, Fill) {
        let all = self.fill();
        let low_values: usize = self.slots[..at].iter().map(|slot| usize::from(slot.len)).sum();
        let low = Fill { items: at, bytes: at * SLOT_BYTES + low_values };
        (low, Fill { items: all.items - at, bytes: all.bytes - low.bytes })
    }

    fn read(reader: &mut Reader<'_>, count: u16) -> Option<Leaf> {
        let mut slots: Vec<Slot> = Vec::with_capacity(usize::from(count).min(ROOM_BYTES));
        let mut start = 0_u32;
        for _ in 0..count {
            let key = Key::read(reader)?;
            let len = reader.u16()?;
            if usize::from(len) > ITEM_BYTES_MAX || slots.last().is_some_and(|s| s.key >= key) {
                return None;
            }
            slots.push(Slot { key, start, len });
            start += u32::from(len);
        }
        let heap = reader.bytes(start as usize)?.to_vec();
        Some(Leaf { slots, live_bytes: heap.len(), heap })
    }
}

fn read_children(reader: &mut Reader<'_>, count: u16) -> Option<Vec<Child>> {
    let mut children: Vec<Child> = Vec::with_capacity(usize::from(count).min(64));
    for _ in 0..count {
        let child = Child { key: Key::read(reader)?, ptr: BlockPtr::read(reader)? };
        if children.last().is_some_and(|last| last.key >= child.key) {
            return None;
        }
        children.push(child);
    }
    Some(children)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::Kind;

    fn key(object: u64) -> Key {
        Key::new(object, Kind::INODE, 0)
    }

    fn node(body: Body, level: u8) -> Node {
        Node { tree: 1, level, generation: 5, block: 9, body }
    }

    #[test]
    fn a_leaf_survives_the_medium_after_changes_of_length() {
        let mut leaf = Leaf::default();
        for object in 0..20 {
            leaf.insert(leaf.slots.len(), key(object), &[object as u8; 100]);
        }
        for round in 0..50 {
            leaf.replace(3, &vec![7; 90 + round]);
        }
        leaf.remove(0);
        let fill = leaf.fill();
        let leaf = node(Body::Leaf(leaf), 0);
        let read = Node::decode(leaf.encode().bytes()).unwrap();
        assert_eq!((read.fill(), read.first_key(), read.block), (fill, key(1), 9));
        assert!(read.leaf().items().eq(leaf.leaf().items()));
        assert_eq!(read.leaf().item(2), Some((key(3), &[7; 139][..])));
    }

    #[test]
    fn damaged_nodes_are_refused() {
        let child = |object| Child {
            key: key(object),
            ptr: BlockPtr { digest: [1; 32], block: 3, generation: 1 },
        };
        let good = node(Body::Interior(vec![child(1), child(2)]), 1).encode();
        assert_eq!(Node::decode(good.bytes()).unwrap().children().len(), 2);
        let change = |at: usize, to: u8| {
            let mut bytes = *good.bytes();
            bytes[at] = to;
            Node::decode(&bytes)
        };
        assert!(change(0, 0).is_err(), "magic");
        assert!(change(5, 21).is_err(), "level");
        assert!(change(6, 0).is_err() && change(6, 100).is_err() && change(7, 9).is_err(), "count");
        assert!(change(32, 9).is_err(), "order");
        let pointer = HEADER_BYTES + KEY_BYTES;
        assert!(change(pointer + 8, 6).is_err(), "a child that is younger than its parent");
        let mut bytes = *good.bytes();
        bytes[pointer + 16..pointer + 48].fill(0);
        assert!(Node::decode(&bytes).is_err(), "a child that was never written");
    }

    #[test]
    fn splits_leave_two_nodes_that_fit() {
        for (leaf, sizes) in [(0, vec![1024, 1024, 1000, 10, 1024]), (4, vec![1024; 5])] {
            let capacity = Capacity::new(leaf);
            let mut items = Leaf::default();
            for (object, size) in sizes.iter().enumerate() {
                items.insert(object, key(object as u64), &vec![0; *size]);
            }
            let mut low = node(Body::Leaf(items), 0);
            assert!(capacity.is_over(low.fill()));
            let high = node(low.split(capacity), 0);
            assert!(!capacity.is_over(low.fill()) && !capacity.is_over(high.fill()));
            assert!(low.last_key() < high.first_key());
            low.absorb(&high);
            assert_eq!(low.fill().items, sizes.len());
        }
    }
}
