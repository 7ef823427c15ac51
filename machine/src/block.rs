//! The unit of content: an immutable block of 4 KiB, shared by reference.
//!
//! Promises that the bytes behind a [`Block`] never change, that copies share one allocation, and
//! that what is derived from the bytes (digest, decoded form) is computed at most once for each
//! content. Freed allocations are kept in a list of the thread, so a campaign allocates no blocks
//! once warm.
//!
//! Must never know what the bytes mean: that is the business of whoever decodes them.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Bytes of a block, the unit of reads and of versions.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a sector, the unit that a medium writes atomically (D-1).
pub const SECTOR_BYTES: usize = 512;
/// Sectors of a block. A sector mask is therefore a `u8`, bit 0 being the first sector.
pub const SECTORS_PER_BLOCK: usize = BLOCK_BYTES / SECTOR_BYTES;

const _: () = assert!(SECTORS_PER_BLOCK == u8::BITS as usize);

/// Most allocations that a thread keeps for reuse: 32 MiB.
const FREE_LIST_BLOCKS: usize = 8192;

struct Inner {
    bytes: [u8; BLOCK_BYTES],
    digest: OnceCell<[u8; 32]>,
    memo: OnceCell<Rc<dyn Any>>,
    content_id: u64,
}

/// Blocks of poison that a thread keeps: 8 MiB.
const POISON_KEPT: usize = 2048;

/// A place, and its poison.
type Poison = ((u8, u64), Block);

thread_local! {
    static POISON: RefCell<Vec<Option<Poison>>> = const { RefCell::new(Vec::new()) };
    static FREE: RefCell<Vec<Rc<Inner>>> = const { RefCell::new(Vec::new()) };
    static NEXT_CONTENT_ID: Cell<u64> = const { Cell::new(1) };
    static ZERO: Block = Block::build(|bytes| bytes.fill(0));
}

/// Immutable content of one block. Cloning shares it.
///
/// The option is empty only while the value is being dropped.
#[derive(Clone)]
pub struct Block(Option<Rc<Inner>>);

impl Block {
    /// A block with these bytes.
    pub fn new(bytes: &[u8; BLOCK_BYTES]) -> Block {
        Block::build(|target| target.copy_from_slice(bytes))
    }

    /// A block that starts with `prefix` and is zero after it.
    ///
    /// Bytes beyond [`BLOCK_BYTES`] are not part of a block: a longer slice is a mistake of the
    /// caller that debug builds catch and release builds cut off.
    pub fn from_slice(prefix: &[u8]) -> Block {
        debug_assert!(prefix.len() <= BLOCK_BYTES, "slice of {} bytes", prefix.len());
        let len = prefix.len().min(BLOCK_BYTES);
        Block::build(|target| {
            target[..len].copy_from_slice(&prefix[..len]);
            target[len..].fill(0);
        })
    }

    /// The block of zeros; one allocation for the whole thread.
    pub fn zero() -> Block {
        ZERO.with(Block::clone)
    }

    /// Content that names the place that it belongs to, for blocks that nobody wrote yet: the 16
    /// bytes of [`poison_pattern`], repeated. Images share it.
    pub fn poison(device: u8, block: u64) -> Block {
        let build = || {
            let pattern = poison_pattern(device, block);
            Block::build(|target| fill_pattern(target, &pattern))
        };
        POISON.with_borrow_mut(|kept| {
            kept.resize(POISON_KEPT, None);
            let slot = (block as usize).wrapping_add(usize::from(device) << 10) % POISON_KEPT;
            match &kept[slot] {
                Some((place, content)) if *place == (device, block) => content.clone(),
                _ => {
                    let content = build();
                    kept[slot] = Some(((device, block), content.clone()));
                    content
                }
            }
        })
    }

    /// The content whose sector `s` is the sector `s` of `sources[s]`.
    pub fn from_sectors(sources: [&Block; SECTORS_PER_BLOCK]) -> Block {
        Block::build(|target| {
            for (sector, source) in sources.iter().enumerate() {
                let span = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                target[span.clone()].copy_from_slice(&source.bytes()[span]);
            }
        })
    }

    /// This content with the sectors in `mask` taken from `other`. Shares instead of copying where
    /// the mask leaves nothing to mix.
    pub fn overlaid(&self, other: &Block, mask: u8) -> Block {
        match mask {
            0 => self.clone(),
            u8::MAX => other.clone(),
            _ => Block::from_sectors(std::array::from_fn(|sector| {
                if mask >> sector & 1 == 1 { other } else { self }
            })),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; BLOCK_BYTES] {
        &self.inner().bytes
    }

    /// The BLAKE3 hash of the bytes, computed when it is first asked for, and taken from another
    /// block of the same bytes if one was hashed of late.
    pub fn digest(&self) -> [u8; 32] {
        let compute = || recent::digest(self);
        *self.inner().digest.get_or_init(compute)
    }

    /// A number that no other content of this thread has had. Two blocks with the same number have
    /// the same bytes; blocks with different numbers may have, too.
    ///
    /// The number depends on what ran before on the thread: compare it for equality, decide nothing
    /// by it.
    pub fn content_id(&self) -> u64 {
        self.inner().content_id
    }

    /// The decoded form of the content, computed by `decode` when first asked for.
    ///
    /// One type is remembered for a content, the first. A request for another type computes its
    /// value each time.
    pub fn memo<T: 'static>(&self, decode: impl FnOnce(&[u8; BLOCK_BYTES]) -> Rc<T>) -> Rc<T> {
        let inner = self.inner();
        if let Some(known) = inner.memo.get() {
            return match known.clone().downcast::<T>() {
                Ok(value) => value,
                Err(_) => decode(&inner.bytes),
            };
        }
        let value = decode(&inner.bytes);
        // If `decode` asked for a memo of this very block, the inner value stays.
        let _ = inner.memo.set(value.clone());
        value
    }

    fn inner(&self) -> &Inner {
        self.0.as_ref().expect("a block has its content until it is dropped")
    }

    /// Builds content in a recycled allocation if there is one. `fill` must write every byte.
    fn build(fill: impl FnOnce(&mut [u8; BLOCK_BYTES])) -> Block {
        let content_id = NEXT_CONTENT_ID.with(|next| next.replace(next.get() + 1));
        let recycled = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        let mut inner = recycled.unwrap_or_else(|| {
            Rc::new(Inner {
                bytes: [0; BLOCK_BYTES],
                digest: OnceCell::new(),
                memo: OnceCell::new(),
                content_id: 0,
            })
        });
        let unique = Rc::get_mut(&mut inner).expect("the free list holds the only reference");
        debug_assert!(unique.digest.get().is_none() && unique.memo.get().is_none());
        unique.content_id = content_id;
        fill(&mut unique.bytes);
        Block(Some(inner))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else {
            return;
        };
        let Some(unique) = Rc::get_mut(&mut inner) else {
            return;
        };
        unique.digest.take();
        // Dropped before the list is borrowed: the decoded form may hold blocks itself.
        drop(unique.memo.take());
        // The list is gone when the thread ends; then the allocation is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_LIST_BLOCKS {
                free.push(inner);
            }
        });
    }
}

impl PartialEq for Block {
    fn eq(&self, other: &Block) -> bool {
        self.content_id() == other.content_id() || self.bytes() == other.bytes()
    }
}

impl Eq for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = *self.bytes();
        write!(f, "Block#{}({a:02x}{b:02x}{c:02x}{d:02x}..)", self.content_id())
    }
}

/// The 16 bytes that mark a place nobody wrote: `POISON`, the device, a zero byte, the block number
/// in little endian.
pub fn poison_pattern(device: u8, block: u64) -> [u8; 16] {
    let mut pattern = [0; 16];
    pattern[..6].copy_from_slice(b"POISON");
    pattern[6] = device;
    pattern[8..].copy_from_slice(&block.to_le_bytes());
    pattern
}

/// Repeats `pattern` over `target`, whose length is a multiple of 16.
fn fill_pattern(target: &mut [u8], pattern: &[u8; 16]) {
    debug_assert!(target.len().is_multiple_of(16));
    for chunk in target.chunks_exact_mut(16) {
        chunk.copy_from_slice(pattern);
    }
}

mod recent {
    //! Blocks that were hashed of late. The recoveries of one execution write mostly the same
    //! bytes, each into blocks of its own.

    use super::{BLOCK_BYTES, Block};
    use std::cell::RefCell;

    /// Blocks that a thread keeps for their digests: 4 MiB.
    const KEPT: usize = 1024;

    thread_local! {
        static HASHED: RefCell<Vec<Option<Block>>> = const { RefCell::new(Vec::new()) };
    }

    /// The digest of the bytes, which are hashed only if no block that is kept has the same.
    pub(super) fn digest(block: &Block) -> [u8; 32] {
        let bytes = block.bytes();
        let known = HASHED.try_with(|kept| {
            let kept = kept.borrow();
            let other = kept.get(place(bytes)).and_then(Option::as_ref)?;
            (other.bytes() == bytes).then(|| other.inner().digest.get().copied()).flatten()
        });
        if let Ok(Some(digest)) = known {
            return digest;
        }
        let digest = *blake3::hash(bytes).as_bytes();
        // Dropped after the list is given back: what the block remembers may hold blocks itself.
        let _replaced = HASHED.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.is_empty() {
                kept.resize(KEPT, None);
            }
            kept[place(bytes)].replace(block.clone())
        });
        digest
    }

    /// Where blocks of these bytes are kept, by a few of the bytes: all are compared.
    fn place(bytes: &[u8; BLOCK_BYTES]) -> usize {
        let mut hash: u64 = 0;
        let mut mix = |chunk: &[u8]| {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        };
        bytes[..64].chunks_exact(8).for_each(&mut mix);
        bytes.chunks_exact(64).for_each(|line| mix(&line[8..16]));
        (hash >> 32) as usize % KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_slices_are_padded_and_zero_is_shared() {
        let block = Block::from_slice(b"abc");
        assert_eq!(&block.bytes()[..4], b"abc\0");
        assert!(block.bytes()[3..].iter().all(|byte| *byte == 0));
        assert_eq!(Block::zero().content_id(), Block::zero().content_id());
        assert_eq!(Block::zero(), Block::from_slice(&[]));
        assert_ne!(Block::zero(), block);
    }

    #[test]
    fn poison_names_its_place() {
        let block = Block::poison(3, 0x0102_0304);
        assert_eq!(&block.bytes()[..16], b"POISON\x03\0\x04\x03\x02\x01\0\0\0\0");
        assert_eq!(&block.bytes()[4080..], &poison_pattern(3, 0x0102_0304));
    }

    #[test]
    fn the_digest_is_that_of_the_bytes_and_not_of_a_recycled_block() {
        let first = Block::from_slice(b"first");
        let before = first.digest();
        let id = first.content_id();
        drop(first);
        let second = Block::from_slice(b"second");
        assert_ne!(second.content_id(), id);
        assert_ne!(second.digest(), before);
        assert_eq!(second.digest(), *blake3::hash(second.bytes()).as_bytes());
    }

    #[test]
    fn equal_bytes_have_equal_digests_and_nearly_equal_ones_have_not() {
        let digest = |at: usize, byte: u8| {
            let mut bytes = [7; BLOCK_BYTES];
            bytes[at] = byte;
            let block = Block::new(&bytes);
            assert_eq!(block.digest(), *blake3::hash(&bytes).as_bytes());
            assert_eq!(Block::new(&bytes).digest(), block.digest());
        };
        // The last one is not among the bytes that say where blocks are kept.
        for at in [0, 63, 72, 4090, 100] {
            digest(at, 8);
            digest(at, 9);
        }
    }

    #[test]
    fn allocations_are_recycled() {
        let block = Block::from_slice(b"x");
        let address = block.bytes().as_ptr();
        let shared = block.clone();
        drop(block);
        assert_eq!(shared.bytes()[0], b'x', "a clone keeps the content");
        drop(shared);
        assert_eq!(Block::from_slice(b"y").bytes().as_ptr(), address);
    }

    #[test]
    fn a_content_is_decoded_once_and_one_type_is_remembered() {
        let block = Block::from_slice(&[7]);
        let decoded = block.memo(|bytes| Rc::new(u32::from(bytes[0])));
        let again = block.clone().memo(|_| -> Rc<u32> { panic!("decoded twice") });
        assert!(Rc::ptr_eq(&decoded, &again));
        assert_eq!(*block.memo(|bytes| Rc::new(bytes[0])), 7u8);
        assert_eq!(*block.memo(|bytes| Rc::new(bytes[0] + 1)), 8u8, "not stored");
    }

    #[test]
    fn a_memo_may_hold_blocks() {
        let inner = Block::from_slice(b"inner");
        let outer = Block::from_slice(b"outer");
        outer.memo(|_| Rc::new(inner.clone()));
        drop(inner);
        drop(outer);
        assert_eq!(Block::from_slice(b"z").bytes()[1], 0);
    }

    #[test]
    fn overlays_mix_sectors() {
        let old = Block::new(&[1; BLOCK_BYTES]);
        let new = Block::new(&[2; BLOCK_BYTES]);
        let mixed = old.overlaid(&new, 0b1000_0001);
        assert_eq!(mixed.bytes()[0], 2);
        assert_eq!(mixed.bytes()[511], 2);
        assert_eq!(mixed.bytes()[512], 1);
        assert_eq!(mixed.bytes()[4095], 2);
        assert_eq!(old.overlaid(&new, 0).content_id(), old.content_id());
        assert_eq!(old.overlaid(&new, 0xff).content_id(), new.content_id());
    }
}
