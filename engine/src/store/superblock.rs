//! The superblock: where everything begins. Two copies alternate in blocks 0 and 1 of device 0; the
//! content fits one sector, which the medium writes atomically.
//!
//! ```text
//!   0 magic "PFAILFS\0"   8 version u32 = 1   12 flags u32   16 uuid [u8; 16]
//!  32 sequence u64       40 generation u64    48 blocks u64  56 log_blocks u64
//!  64 free u64           72 next_ino u64      80 leaf u16    82 log_trees u8   83 log_device u8
//!  84 buffers u8         85 reserved [u8; 3] = 0
//!  88 fs root 49       137 csum root 49     186 refs root 49
//! 235 space root pointer 48                  283 log root pointer 48 (block 0 and generation 0:
//! none) 331 reserved = 0      480 BLAKE3 of bytes 0..480
//! ```
//!
//! Flags: 1 datasum, 2 datacow, 4 log device.
//!
//! Promises: a superblock is taken whole or not at all; of two, the one written last. It must never
//! know how trees work.

use super::codec::{Reader, Writer};
use super::key::{BlockPtr, Root};
use super::nodes::node::LEVEL_MAX;
use super::space::FIRST_BLOCK;
use crate::error::{Error, Result};
use crate::options::{BARE_NODES_MAX, ImageOptions, LEAF_MAX, LEAF_MIN, LOG_TREES_MAX};
use crate::types::{COUNT_MAX, Ino, SECTOR_BYTES};
use machine::Block;
use std::rc::Rc;

const MAGIC: &[u8; 8] = b"PFAILFS\0";
const VERSION: u32 = 1;
const SUMMED_BYTES: usize = 480;

/// The version of superblocks without a checksum ([`Defect::TornSuperNoChecksum`]), which only an
/// engine with defects writes and reads. What begins at `SPLIT`, the CSUM root, is in the second
/// sector.
///
/// [`Defect::TornSuperNoChecksum`]: crate::defects::Defect::TornSuperNoChecksum
const UNSUMMED_VERSION: u32 = 0x7fff_ffff;
const SPLIT: usize = 137;

const DATASUM: u32 = 1;
const DATACOW: u32 = 2;
const LOGDEV: u32 = 4;

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// What is fixed for the image; `poison` and `seed` are not kept.
    pub image: ImageOptions,
    /// The identity of the image.
    pub uuid: [u8; 16],
    /// Counts superblock writes; its parity says in which block it stands.
    pub sequence: u64,
    /// The transaction that is durable.
    pub generation: u64,
    /// Blocks of device 0 that are not allocated.
    pub free_blocks: u64,
    /// The next inode number to give out.
    pub next_ino: u64,
    /// The roots of the committed trees: FS, CSUM, REFS.
    pub roots: [Root; 3],
    /// The root of the free-space map.
    pub space: BlockPtr,
    /// The block that names the log trees, if something was logged after the commit.
    pub log: Option<LogRoot>,
}

/// A superblock as decoded from one content.
struct Decoded(Result<Superblock, &'static str>);

/// Where the block that names the log trees stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogRoot {
    /// The device.
    pub device: u8,
    /// The block.
    pub ptr: BlockPtr,
}

impl Superblock {
    /// The block that this copy belongs to.
    pub fn slot(&self) -> u64 {
        self.sequence % 2
    }

    /// Whether a block claims to hold a superblock, valid or not.
    pub(crate) fn is_marked(content: &Block) -> bool {
        content.bytes().starts_with(MAGIC)
    }

    /// The content of its block; only the first sector counts.
    pub(crate) fn encode(&self) -> Block {
        let mut bytes = [0; SECTOR_BYTES as usize];
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(MAGIC);
        writer.u32(VERSION);
        writer.u32(flags_of(&self.image));
        writer.bytes(&self.uuid);
        writer.u64(self.sequence);
        writer.u64(self.generation);
        writer.u64(self.image.blocks);
        writer.u64(self.image.log_blocks() * u64::from(self.image.logdev));
        writer.u64(self.free_blocks);
        writer.u64(self.next_ino);
        writer.u16(self.image.leaf);
        writer.u8(self.image.log_trees);
        writer.u8(self.log.map_or(0, |log| log.device));
        writer.u8(self.image.buffers);
        writer.bytes(&[0; 3]);
        self.roots.iter().for_each(|root| root.write(&mut writer));
        self.space.write(&mut writer);
        self.log.map_or(BlockPtr::default(), |log| log.ptr).write(&mut writer);
        let digest = blake3::hash(&bytes[..SUMMED_BYTES]);
        bytes[SUMMED_BYTES..].copy_from_slice(digest.as_bytes());
        Block::from_slice(&bytes)
    }

    /// The content as it has no checksum and spans two sectors: what must be together may be torn.
    pub(crate) fn encode_unsummed(&self) -> Block {
        let mut bytes = *self.encode().bytes();
        bytes[8..12].copy_from_slice(&UNSUMMED_VERSION.to_le_bytes());
        bytes.copy_within(SPLIT..SUMMED_BYTES, SECTOR_BYTES as usize);
        bytes[SPLIT..SECTOR_BYTES as usize].fill(0);
        Block::new(&bytes)
    }

    /// Reads what [`encode_unsummed`](Self::encode_unsummed) wrote, if it did.
    fn decode_unsummed(bytes: &[u8]) -> Option<Result<Superblock, &'static str>> {
        let is_unsummed = bytes.get(8..12)? == UNSUMMED_VERSION.to_le_bytes();
        if !cfg!(feature = "defects") || !is_unsummed {
            return None;
        }
        let mut sector = [0; SECTOR_BYTES as usize];
        sector[..SPLIT].copy_from_slice(&bytes[..SPLIT]);
        let rest = bytes.get(SECTOR_BYTES as usize..)?.get(..SUMMED_BYTES - SPLIT)?;
        sector[SPLIT..SUMMED_BYTES].copy_from_slice(rest);
        let superblock = Self::read(&mut Reader::new(&sector[12..])).ok_or("a short superblock");
        Some(superblock.and_then(|superblock| superblock.check().map(|()| superblock)))
    }

    /// Reads a superblock.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Superblock, &'static str> {
        let sector = bytes.get(..SECTOR_BYTES as usize).ok_or("less than a sector")?;
        if &sector[..8] != MAGIC {
            return Err("no magic number of a superblock");
        }
        if let Some(unsummed) = Self::decode_unsummed(bytes) {
            return unsummed;
        }
        if sector[SUMMED_BYTES..] != blake3::hash(&sector[..SUMMED_BYTES]).as_bytes()[..] {
            return Err("its checksum is wrong");
        }
        let mut reader = Reader::new(&sector[8..]);
        if reader.u32() != Some(VERSION) {
            return Err("a format version that this engine does not know");
        }
        let superblock = Self::read(&mut reader).ok_or("a short superblock")?;
        superblock.check()?;
        Ok(superblock)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Superblock> {
        let flags = reader.u32()?;
        let uuid = reader.uuid()?;
        let (sequence, generation) = (reader.u64()?, reader.u64()?);
        let (blocks, _log_blocks) = (reader.u64()?, reader.u64()?);
        let (free_blocks, next_ino) = (reader.u64()?, reader.u64()?);
        let (leaf, log_trees, log_device) = (reader.u16()?, reader.u8()?, reader.u8()?);
        let (buffers, _reserved) = (reader.u8()?, reader.bytes(3)?);
        let roots = [Root::read(reader)?, Root::read(reader)?, Root::read(reader)?];
        let space = BlockPtr::read(reader)?;
        let log = BlockPtr::read(reader)?;
        let image = ImageOptions {
            blocks,
            datasum: flags & DATASUM != 0,
            datacow: flags & DATACOW != 0,
            leaf,
            logdev: flags & LOGDEV != 0,
            log_trees,
            buffers,
            poison: false,
            seed: 0,
        };
        // Block 0 of the log device is an ordinary block, so the generation decides.
        let log = (log.generation != 0).then_some(LogRoot { device: log_device, ptr: log });
        Some(Superblock {
            image,
            uuid,
            sequence,
            generation,
            free_blocks,
            next_ino,
            roots,
            space,
            log,
        })
    }

    /// Refuses values that a correct engine never writes, although the checksum is right.
    fn check(&self) -> Result<(), &'static str> {
        let image = &self.image;
        if image.blocks < crate::options::BLOCKS_MIN || image.blocks > crate::options::BLOCKS_MAX {
            return Err("an impossible size");
        }
        if image.leaf != 0 && !(LEAF_MIN..=LEAF_MAX).contains(&image.leaf) {
            return Err("an impossible node capacity");
        }
        if !(1..=LOG_TREES_MAX).contains(&image.log_trees) {
            return Err("an impossible number of log trees");
        }
        if image.buffers > BARE_NODES_MAX {
            return Err("an impossible number of bare nodes");
        }
        if self.log.is_some_and(|log| log.device > u8::from(image.logdev)) {
            return Err("a log on a device that the image does not have");
        }
        if self.roots.iter().any(|root| root.level > LEVEL_MAX) {
            return Err("a tree of an impossible height");
        }
        let is_counted = 0 < self.generation
            && self.generation.max(self.sequence).max(self.next_ino) <= COUNT_MAX
            && self.next_ino >= Ino::FIRST_FREE.0;
        if self.free_blocks > image.blocks || !is_counted {
            return Err("impossible counts");
        }
        let roots = self.roots.iter().filter(|root| !root.is_empty()).map(|root| &root.ptr);
        if !roots.chain([&self.space]).all(|ptr| self.may_point(ptr)) {
            return Err("a pointer to what cannot be a root");
        }
        if self.log.is_some_and(|log| log.ptr.is_dirty()) {
            return Err("a pointer to a log without a digest");
        }
        Ok(())
    }

    /// Whether what the commit wrote can stand there.
    fn may_point(&self, ptr: &BlockPtr) -> bool {
        (FIRST_BLOCK..self.image.blocks).contains(&ptr.block)
            && ptr.generation <= self.generation
            && !ptr.is_dirty()
    }

    /// The valid copy that was written last.
    ///
    /// # Errors
    /// `Corrupt` if neither is valid.
    pub(crate) fn newest(copies: &[Block]) -> Result<Superblock> {
        let mut newest: Option<Superblock> = None;
        let mut damage = "it cannot be read";
        for (slot, copy) in copies.iter().enumerate() {
            // Remembered with the content: a campaign mounts the same copies over and over.
            let decoded = copy.memo(|bytes| Rc::new(Decoded(Self::decode(bytes))));
            match &decoded.0 {
                Ok(copy) if copy.slot() != slot as u64 => damage = "it is in the other's place",
                Ok(copy) => {
                    if newest.as_ref().is_none_or(|other| other.sequence < copy.sequence) {
                        newest = Some(copy.clone());
                    }
                }
                Err(what) => damage = what,
            }
        }
        let structure = "superblock";
        newest.ok_or(Error::Corrupt { structure, block: 0, what: damage })
    }
}

fn flags_of(image: &ImageOptions) -> u32 {
    let mut flags = 0;
    for (is_set, flag) in
        [(image.datasum, DATASUM), (image.datacow, DATACOW), (image.logdev, LOGDEV)]
    {
        if is_set {
            flags |= flag;
        }
    }
    flags
}

/// The identity of an image: the same options give the same one.
pub(crate) fn uuid_of(image: &ImageOptions) -> [u8; 16] {
    let text = format!("powerfail {image:?}");
    let digest = blake3::hash(text.as_bytes());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_bytes()[..16]);
    // Version 8 (custom), variant of RFC 9562.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(sequence: u64) -> Superblock {
        let image =
            ImageOptions { poison: false, logdev: true, leaf: 4, ..ImageOptions::default() };
        let ptr = BlockPtr { block: 0, generation: 8, digest: [9; 32] };
        Superblock {
            uuid: uuid_of(&image),
            image,
            sequence,
            generation: 7,
            free_blocks: 200,
            next_ino: 17,
            roots: [Root { ptr, level: 2 }, Root::EMPTY, Root { ptr, level: 0 }],
            space: BlockPtr { block: 5, generation: 7, digest: [1; 32] },
            log: Some(LogRoot { device: 1, ptr }),
        }
    }

    #[test]
    fn a_superblock_survives_the_medium() {
        for log in [None, superblock(3).log] {
            let written = Superblock { log, ..superblock(3) };
            assert_eq!(Superblock::decode(written.encode().bytes()), Ok(written));
        }
    }

    /// With a right checksum, as only a tool or a bug leaves it. A root without a digest was taken
    /// for one that is in memory and still to be written.
    #[test]
    fn impossible_values_are_refused_behind_the_checksum() {
        let pointer = Some("a pointer to what cannot be a root");
        let counts = Some("impossible counts");
        let good = BlockPtr { block: 6, generation: 7, digest: [1; 32] };
        let cases: [(fn(&mut Superblock), _); 10] = [
            (|_| {}, None),
            (|it| it.roots[0].ptr.digest = [0; 32], pointer),
            (|it| it.roots[1].ptr.block = 1, pointer),
            (|it| it.roots[2].ptr.block = it.image.blocks, pointer),
            (|it| it.roots[2].ptr.generation = it.generation + 1, pointer),
            (|it| it.space = BlockPtr::default(), pointer),
            (|it| it.generation = u64::MAX, counts),
            (|it| it.sequence = u64::MAX, counts),
            (|it| it.next_ino = u64::MAX, counts),
            (|it| it.next_ino = 1, counts),
        ];
        for (at, (change, wanted)) in cases.into_iter().enumerate() {
            let roots = [Root { ptr: good, level: 2 }; 3];
            let mut it = Superblock { roots, log: None, ..superblock(3) };
            change(&mut it);
            assert_eq!(Superblock::decode(it.encode().bytes()).err(), wanted, "case {at}");
        }
    }

    #[test]
    fn the_last_valid_copy_wins() {
        let (old, new) = (superblock(4), superblock(5));
        let pick = |copies: [Block; 2]| Superblock::newest(&copies).map(|copy| copy.sequence);
        assert_eq!(pick([old.encode(), new.encode()]), Ok(5));
        assert_eq!(pick([superblock(6).encode(), new.encode()]), Ok(6));
        assert_eq!(pick([old.encode(), Block::poison(0, 1)]), Ok(4));
        assert!(pick([new.encode(), Block::zero()]).is_err(), "a copy in the other's place");
        assert!(pick([Block::zero(), Block::zero()]).is_err());
    }

    #[test]
    fn every_flipped_bit_of_the_sector_is_noticed() {
        let content = superblock(2).encode();
        for bit in 0..SECTOR_BYTES as usize * 8 {
            let mut bytes = *content.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bytes).is_err(), "bit {bit}");
        }
    }
}
