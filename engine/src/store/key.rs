//! The order of items in a tree, the names of the trees, and pointers to their nodes.
//!
//! ```text
//! key, 17 bytes          object u64 | kind u8 | offset u64        ordered in this order
//! pointer, 48 bytes      block u64 | generation u64 | digest [u8; 32]
//! root, 49 bytes         pointer | level u8                       all zero: an empty tree
//! ```
//!
//! Promises: keys compare as their fields do; a digest names the whole content of a block. It must
//! never know how nodes are found or changed.

use super::codec::{Reader, Writer};

/// What an item is; the middle field of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// FS tree: an inode. `(ino, INODE, 0)`.
    pub const INODE: Kind = Kind(0x10);
    /// FS tree, reserved: a name that leads to the inode. `(ino, PARENT, parent directory)`.
    pub const PARENT: Kind = Kind(0x18);
    /// FS tree: an extended attribute. `(ino, XATTR, hash of its name)`.
    pub const XATTR: Kind = Kind(0x20);
    /// FS tree: a directory entry. `(directory ino, DIR_ENTRY, hash of its name)`.
    pub const DIR_ENTRY: Kind = Kind(0x30);
    /// FS tree: the target of a symbolic link. `(ino, SYMLINK, 0)`.
    pub const SYMLINK: Kind = Kind(0x38);
    /// FS tree: a file extent. `(ino, EXTENT, byte offset in the file)`.
    pub const EXTENT: Kind = Kind(0x40);
    /// FS tree: work that a mount must finish. `(0, ORPHAN, ino)`.
    pub const ORPHAN: Kind = Kind(0x50);
    /// CSUM tree: the digest of a data block. `(block, CSUM, 0)`.
    pub const CSUM: Kind = Kind(0x60);
    /// REFS tree: a run of blocks with two or more references. `(block, REFS, 0)`.
    pub const REFS: Kind = Kind(0x70);
}

/// The key of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// An inode number or a block number.
    pub object: u64,
    /// What the item is.
    pub kind: Kind,
    /// What tells items of one kind and object apart.
    pub offset: u64,
}

/// Bytes of a key on the medium.
pub(crate) const KEY_BYTES: usize = 17;

impl Key {
    /// The least key.
    pub const MIN: Key = Key::new(0, Kind(0), 0);

    /// The greatest key.
    pub const MAX: Key = Key::new(u64::MAX, Kind(u8::MAX), u64::MAX);

    /// A key of its three fields.
    pub const fn new(object: u64, kind: Kind, offset: u64) -> Key {
        Key { object, kind, offset }
    }

    /// The next greater key; `MAX` has none and stays.
    pub const fn successor(self) -> Key {
        if self.offset < u64::MAX {
            return Key::new(self.object, self.kind, self.offset + 1);
        }
        if self.kind.0 < u8::MAX {
            return Key::new(self.object, Kind(self.kind.0 + 1), 0);
        }
        if self.object < u64::MAX { Key::new(self.object + 1, Kind(0), 0) } else { Key::MAX }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Key> {
        let object = reader.u64()?;
        let kind = Kind(reader.u8()?);
        Some(Key { object, kind, offset: reader.u64()? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.u64(self.object);
        writer.u8(self.kind.0);
        writer.u64(self.offset);
    }
}

/// The name of a tree. A node carries it, so that a node of another tree is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Inodes, directory entries, file extents, orphans.
    Fs,
    /// A digest per data block.
    Csum,
    /// Runs of blocks with two or more references.
    Refs,
    /// The log tree of a group: what fsync made durable since the last commit.
    Log(u8),
}

impl Tree {
    /// The trees that every commit writes.
    pub const COMMITTED: [Tree; 3] = [Tree::Fs, Tree::Csum, Tree::Refs];

    /// The number by which nodes name their tree.
    pub const fn id(self) -> u8 {
        match self {
            Tree::Fs => 1,
            Tree::Csum => 2,
            Tree::Refs => 3,
            Tree::Log(group) => 0x80 | group,
        }
    }
}

/// What finds and proves a block: its place, the transaction that wrote it and its content's
/// digest. The checksum of a child stands in its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockPtr {
    /// The block.
    pub block: u64,
    /// The transaction that wrote it.
    pub generation: u64,
    /// BLAKE3 of the whole block. All zero in memory while the child is dirty.
    pub digest: [u8; 32],
}

/// Bytes of a pointer on the medium.
pub(crate) const POINTER_BYTES: usize = 48;

impl BlockPtr {
    /// A pointer to a block that is not written yet.
    pub(crate) const fn dirty(block: u64, generation: u64) -> BlockPtr {
        BlockPtr { block, generation, digest: [0; 32] }
    }

    /// Whether the block that it points to is still to be written.
    pub(crate) fn is_dirty(&self) -> bool {
        self.digest == [0; 32]
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<BlockPtr> {
        let block = reader.u64()?;
        Some(BlockPtr { block, generation: reader.u64()?, digest: reader.digest()? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.u64(self.block);
        writer.u64(self.generation);
        writer.bytes(&self.digest);
    }
}

/// The root of a tree: a pointer and the level of the node there. Leaves have level 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Root {
    /// The root node; block 0, which is a superblock, means an empty tree.
    pub ptr: BlockPtr,
    /// Its level.
    pub level: u8,
}

impl Root {
    /// The root of a tree without items.
    pub const EMPTY: Root =
        Root { ptr: BlockPtr { block: 0, generation: 0, digest: [0; 32] }, level: 0 };

    /// Whether the tree has no items.
    pub const fn is_empty(&self) -> bool {
        self.ptr.block == 0
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Root> {
        Some(Root { ptr: BlockPtr::read(reader)?, level: reader.u8()? })
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        self.ptr.write(writer);
        writer.u8(self.level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_by_object_then_kind_then_offset() {
        let low = Key::new(1, Kind::INODE, u64::MAX);
        let high = Key::new(1, Kind::EXTENT, 0);
        assert!(low < high && high < Key::new(2, Kind::INODE, 0));
        assert_eq!(low.successor(), Key::new(1, Kind(0x11), 0));
        assert_eq!(Key::new(1, Kind(255), u64::MAX).successor(), Key::new(2, Kind(0), 0));
        assert_eq!(Key::MAX.successor(), Key::MAX);
    }

    #[test]
    fn pointers_survive_the_medium() {
        let ptr = BlockPtr { block: 7, generation: 9, digest: [3; 32] };
        let root = Root { ptr, level: 2 };
        let mut bytes = [0; POINTER_BYTES + 1];
        root.write(&mut Writer::new(&mut bytes));
        assert_eq!(Root::read(&mut Reader::new(&bytes)), Some(root));
        assert_eq!(Root::read(&mut Reader::new(&bytes[1..])), None);
    }
}
