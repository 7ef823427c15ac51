//! The items of the trees: what stands under each kind of key.
//!
//! ```text
//! INODE     80 bytes  version u8=1 | pad [u8; 3] | mode u32 | nlink u32 | flags u32 | uid u32 |
//!                     gid u32 | size u64 | generation u64 | transid u64 | mtime i64 | ctime i64 |
//!                     rdev u64 | reserved u64
//! DIR_ENTRY           one or more: ino u64 | file kind u8 | name length u8 | name
//! EXTENT    32 bytes  kind u8 (1 written, 2 unwritten) | pad [u8; 7] | block u64 |
//!                     len_blocks u64 | generation u64
//! ORPHAN    16 bytes  kind u8 (1 delete, 2 truncate) | pad [u8; 7] | size u64
//! CSUM      32 bytes  BLAKE3 of the data block
//! REFS      16 bytes  len_blocks u64 | count u32 | pad [u8; 4]
//! SYMLINK             the target, 1 to 1024 bytes (reserved; no engine path uses it yet)
//! XATTR               one or more: name length u8 | value length u16 | name | value (reserved)
//! PARENT              one or more: name length u8 | name (reserved: where hard links come from)
//! ```
//!
//! Names whose 64-bit hashes collide share one item: the entries stand one after the other.
//!
//! Promises: `decode(encode(x)) == x`, and other bytes are refused with what is wrong with them.
//! It must never know trees, transactions or paths.

use super::codec::{Reader, Writer};
use super::key::{Key, Kind};
use crate::types::{FILE_BYTES_MAX, Ino, Run};
use smallvec::SmallVec;

/// The greatest length of an item's value in bytes.
pub const ITEM_BYTES_MAX: usize = 1024;

/// The greatest length of a name in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The bytes of an item's value.
pub type Value = SmallVec<[u8; 80]>;

/// What is wrong with the bytes of an item.
pub type Damage = &'static str;

/// A kind of file, as directory entries and the high bits of a mode name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
}

impl FileKind {
    /// The bits of `st_mode` that say so.
    pub const fn mode_bits(self) -> u32 {
        match self {
            FileKind::Regular => 0o100_000,
            FileKind::Directory => 0o040_000,
            FileKind::Symlink => 0o120_000,
        }
    }

    /// The kind that a mode names, if it names one of ours.
    pub const fn of_mode(mode: u32) -> Option<FileKind> {
        match mode & 0o170_000 {
            0o100_000 => Some(FileKind::Regular),
            0o040_000 => Some(FileKind::Directory),
            0o120_000 => Some(FileKind::Symlink),
            _ => None,
        }
    }

    const fn of_byte(byte: u8) -> Option<FileKind> {
        match byte {
            1 => Some(FileKind::Regular),
            2 => Some(FileKind::Directory),
            3 => Some(FileKind::Symlink),
            _ => None,
        }
    }
}

/// An inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeItem {
    /// Kind and permissions, as `st_mode`.
    pub mode: u32,
    /// Names that lead here.
    pub nlink: u32,
    /// [`InodeItem::NODATASUM`], [`InodeItem::NODATACOW`].
    pub flags: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// The transaction that created it: tells two files with one inode number apart.
    pub generation: u64,
    /// The transaction that changed it last.
    pub transid: u64,
    /// Time of the last change of content, nanoseconds since 1970; 0 where nobody sets it.
    pub mtime_ns: i64,
    /// Time of the last change of attributes, nanoseconds since 1970; 0 where nobody sets it.
    pub ctime_ns: i64,
    /// Device number of a special file; 0 otherwise.
    pub rdev: u64,
}

impl InodeItem {
    /// Data blocks have no checksums.
    pub const NODATASUM: u32 = 1;

    /// Data blocks are overwritten in place.
    pub const NODATACOW: u32 = 2;

    const VERSION: u8 = 1;
    const BYTES: usize = 80;

    /// The key of an inode.
    pub const fn key(ino: Ino) -> Key {
        Key::new(ino.0, Kind::INODE, 0)
    }

    /// Whether a flag is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let mut bytes = [0; Self::BYTES];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(&[Self::VERSION, 0, 0, 0]);
        writer.u32(self.mode);
        writer.u32(self.nlink);
        writer.u32(self.flags);
        writer.u32(self.uid);
        writer.u32(self.gid);
        writer.u64(self.size);
        writer.u64(self.generation);
        writer.u64(self.transid);
        writer.u64(self.mtime_ns as u64);
        writer.u64(self.ctime_ns as u64);
        writer.u64(self.rdev);
        Value::from_slice(&bytes)
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<InodeItem, Damage> {
        if bytes.len() != Self::BYTES {
            return Err("an inode item of a wrong length");
        }
        if bytes[0] != Self::VERSION {
            return Err("an inode item of an unknown version");
        }
        let item = Self::read(&mut Reader::new(&bytes[4..])).ok_or("a short inode item")?;
        if FileKind::of_mode(item.mode).is_none() {
            return Err("an inode of an unknown kind");
        }
        if item.size > FILE_BYTES_MAX {
            return Err("an inode of an impossible size");
        }
        Ok(item)
    }

    fn read(reader: &mut Reader<'_>) -> Option<InodeItem> {
        Some(InodeItem {
            mode: reader.u32()?,
            nlink: reader.u32()?,
            flags: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            size: reader.u64()?,
            generation: reader.u64()?,
            transid: reader.u64()?,
            mtime_ns: reader.u64()? as i64,
            ctime_ns: reader.u64()? as i64,
            rdev: reader.u64()?,
        })
    }
}

/// The hash of a name, the offset of its entry's key: FNV-1a, 64 bits, the same for ever.
pub const fn name_hash(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ name[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

/// The entries of a directory whose names have one hash; nearly always one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirItem {
    /// The entries, in the order of their creation.
    pub entries: SmallVec<[DirEntry; 1]>,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The inode that the name leads to.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// The name: 1 to 255 bytes.
    pub name: SmallVec<[u8; 24]>,
}

impl DirItem {
    /// The key of the entry of `name` in `directory`.
    pub const fn key(directory: Ino, name: &[u8]) -> Key {
        Key::new(directory.0, Kind::DIR_ENTRY, name_hash(name))
    }

    /// The entry of a name.
    pub fn find(&self, name: &[u8]) -> Option<&DirEntry> {
        self.entries.iter().find(|entry| entry.name.as_slice() == name)
    }

    /// Whether one more entry would still fit.
    pub fn has_room_for(&self, name: &[u8]) -> bool {
        let used: usize = self.entries.iter().map(|entry| 10 + entry.name.len()).sum();
        used + 10 + name.len() <= ITEM_BYTES_MAX
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let mut bytes = Value::new();
        for entry in &self.entries {
            assert!((1..=NAME_BYTES_MAX).contains(&entry.name.len()), "a name of a legal length");
            bytes.extend_from_slice(&entry.ino.0.to_le_bytes());
            bytes.push(entry.kind as u8);
            bytes.push(entry.name.len() as u8);
            bytes.extend_from_slice(&entry.name);
        }
        bytes
    }

    /// Reads the entries.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<DirItem, Damage> {
        let mut reader = Reader::new(bytes);
        let mut item = DirItem::default();
        while !reader.is_at_end() {
            let entry = DirEntry::read(&mut reader).ok_or("a damaged directory entry")?;
            item.entries.push(entry);
        }
        if item.entries.is_empty() {
            return Err("a directory item without entries");
        }
        Ok(item)
    }
}

impl DirEntry {
    fn read(reader: &mut Reader<'_>) -> Option<DirEntry> {
        let ino = Ino(reader.u64()?);
        let kind = FileKind::of_byte(reader.u8()?)?;
        let len = reader.u8()?;
        let name = reader.bytes(len.into())?;
        (ino.is_possible() && len != 0).then(|| DirEntry {
            ino,
            kind,
            name: SmallVec::from_slice(name),
        })
    }
}

/// Whether the blocks of an extent hold data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// They hold the file's data.
    Written,
    /// They belong to the file and read as zeros.
    Unwritten,
}

/// A run of blocks that holds a part of a file. Where no extent is, the file has a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentItem {
    /// Whether the blocks hold data.
    pub kind: ExtentKind,
    /// The first block.
    pub block: u64,
    /// How many blocks.
    pub len_blocks: u64,
    /// The transaction that created the extent.
    pub generation: u64,
}

impl ExtentItem {
    const BYTES: usize = 32;

    /// The blocks of the device.
    pub const fn run(&self) -> Run {
        Run::new(self.block, self.len_blocks)
    }

    /// The key of the extent of `ino` from the byte `offset_bytes` on.
    pub const fn key(ino: Ino, offset_bytes: u64) -> Key {
        Key::new(ino.0, Kind::EXTENT, offset_bytes)
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let mut bytes = [0; Self::BYTES];
        let mut writer = Writer::new(&mut bytes);
        let kind = match self.kind {
            ExtentKind::Written => 1,
            ExtentKind::Unwritten => 2,
        };
        writer.bytes(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        writer.u64(self.block);
        writer.u64(self.len_blocks);
        writer.u64(self.generation);
        Value::from_slice(&bytes)
    }

    /// Reads an extent.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<ExtentItem, Damage> {
        if bytes.len() != Self::BYTES {
            return Err("an extent item of a wrong length");
        }
        let kind = match bytes[0] {
            1 => ExtentKind::Written,
            2 => ExtentKind::Unwritten,
            _ => return Err("an extent of an unknown kind"),
        };
        let mut reader = Reader::new(&bytes[8..]);
        let fields = (|| Some((reader.u64()?, reader.u64()?, reader.u64()?)))();
        let (block, len_blocks, generation) = fields.ok_or("a short extent item")?;
        if len_blocks == 0 || block < 2 || block.checked_add(len_blocks).is_none() {
            return Err("an extent of impossible blocks");
        }
        Ok(ExtentItem { kind, block, len_blocks, generation })
    }
}

/// Work that was begun and that a mount must finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanItem {
    /// The inode has no name any more: free it.
    Delete,
    /// A truncate was cut short: free what lies beyond the size.
    Truncate {
        /// The size in bytes that the file shall have.
        size: u64,
    },
}

impl OrphanItem {
    /// The key of the orphan of `ino`.
    pub const fn key(ino: Ino) -> Key {
        Key::new(0, Kind::ORPHAN, ino.0)
    }

    /// All keys of orphans: `[from, to)`.
    pub const fn keys() -> (Key, Key) {
        (Key::new(0, Kind::ORPHAN, 0), Key::new(0, Kind(Kind::ORPHAN.0 + 1), 0))
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let (kind, size) = match *self {
            OrphanItem::Delete => (1, 0),
            OrphanItem::Truncate { size } => (2, size),
        };
        let mut bytes = [0; 16];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        writer.u64(size);
        Value::from_slice(&bytes)
    }

    /// Reads an orphan.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<OrphanItem, Damage> {
        if bytes.len() != 16 {
            return Err("an orphan item of a wrong length");
        }
        let size = Reader::new(&bytes[8..]).u64().ok_or("a short orphan item")?;
        match bytes[0] {
            1 => Ok(OrphanItem::Delete),
            2 if size <= FILE_BYTES_MAX => Ok(OrphanItem::Truncate { size }),
            2 => Err("a truncate to an impossible size"),
            _ => Err("an orphan of an unknown kind"),
        }
    }
}

/// A run of blocks that more than one extent refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefsItem {
    /// How many blocks.
    pub len_blocks: u64,
    /// References to each of them, at least 2.
    pub count: u32,
}

impl RefsItem {
    /// The key of the record that starts at `block`.
    pub const fn key(block: u64) -> Key {
        Key::new(block, Kind::REFS, 0)
    }

    /// The bytes on the medium.
    pub fn encode(&self) -> Value {
        let mut bytes = [0; 16];
        let mut writer = Writer::new(&mut bytes);
        writer.u64(self.len_blocks);
        writer.u32(self.count);
        Value::from_slice(&bytes)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<RefsItem, Damage> {
        if bytes.len() != 16 {
            return Err("a reference record of a wrong length");
        }
        let mut reader = Reader::new(bytes);
        let fields = (|| Some((reader.u64()?, reader.u32()?)))();
        let (len_blocks, count) = fields.ok_or("a short reference record")?;
        if len_blocks == 0 || count < 2 {
            return Err("a reference record that says nothing");
        }
        Ok(RefsItem { len_blocks, count })
    }
}

/// The key of the checksum of a data block; its value is the digest of the block's 4096 bytes.
pub const fn csum_key(block: u64) -> Key {
    Key::new(block, Kind::CSUM, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses_every_other_length<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, Damage>) {
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn items_survive_the_medium() {
        let inode = InodeItem {
            mode: 0o100_644,
            nlink: 2,
            flags: InodeItem::NODATACOW,
            size: 1 << 40,
            mtime_ns: -5,
            ..InodeItem::default()
        };
        assert_eq!(InodeItem::decode(&inode.encode()), Ok(inode));
        refuses_every_other_length(&inode.encode(), InodeItem::decode);
        let kind = ExtentKind::Unwritten;
        let extent = ExtentItem { kind, block: 9, len_blocks: 3, generation: 4 };
        assert_eq!(ExtentItem::decode(&extent.encode()), Ok(extent));
        refuses_every_other_length(&extent.encode(), ExtentItem::decode);
        for orphan in [OrphanItem::Delete, OrphanItem::Truncate { size: 8192 }] {
            assert_eq!(OrphanItem::decode(&orphan.encode()), Ok(orphan));
        }
        let refs = RefsItem { len_blocks: 5, count: 2 };
        assert_eq!(RefsItem::decode(&refs.encode()), Ok(refs));
        assert!(RefsItem::decode(&RefsItem { count: 1, ..refs }.encode()).is_err());
    }

    #[test]
    fn colliding_names_share_an_item() {
        let entry = |ino, name: &[u8]| DirEntry {
            ino: Ino(ino),
            kind: FileKind::Regular,
            name: SmallVec::from_slice(name),
        };
        let mut item = DirItem::default();
        item.entries.push(entry(17, b"f"));
        item.entries.push(entry(18, &[b'x'; 255]));
        let bytes = item.encode();
        assert_eq!(DirItem::decode(&bytes).as_ref(), Ok(&item));
        assert_eq!(item.find(b"f").map(|e| e.ino), Some(Ino(17)));
        assert_eq!(item.find(b"g"), None);
        assert!(DirItem::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(DirItem::decode(&[]).is_err());
        assert_eq!(name_hash(b"f"), 0xaf63_db4c_8601_ead9, "the hash is for ever");
    }

    #[test]
    fn impossible_extents_are_refused() {
        let kind = ExtentKind::Written;
        for (block, len_blocks) in [(0, 1), (1, 1), (5, 0), (u64::MAX, 2)] {
            let item = ExtentItem { kind, block, len_blocks, generation: 1 };
            assert!(ExtentItem::decode(&item.encode()).is_err(), "{block}+{len_blocks}");
        }
    }
}
