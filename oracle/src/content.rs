//! The bytes that operations write, and who wrote the bytes that were found.
//!
//! *Promises*: the byte stream of an operation is a pure function of (operation number, stream
//! name, position), every aligned 8 bytes of it name the operation, and streams of different
//! operations share no aligned granule. *Must never know*: histories, intervals, verdicts.
//!
//! *Verified*: that `identify` finds what `fill` wrote, at any alignment.
//! *Not verified, because* collisions of xxh3 on 4 KiB blocks are taken to be impossible: a
//! campaign compares some 10^10 blocks, the chance of one false match is below 10^-9.
use crate::operation::{Fill, MapId, OpId, Operation, PathId};

/// Bytes in a granule, the smallest self-describing piece of a stream.
pub const GRANULE_BYTES: usize = 16;

const MAGIC: [u8; 3] = *b"Tag";
const POISON: [u8; 6] = *b"POISON";
/// Stream names from here on are those of mappings; program paths stay below.
const MAP_STREAMS: u8 = 0xc0;

/// The stream name of stores through a mapping. A store's buffer is prepared before it is known
/// which file the mapping shows, so the mapping names the stream, and positions are those within
/// the mapping.
pub const fn map_stream(map: MapId) -> PathId {
    PathId(MAP_STREAMS | (map.0 & 0x3f))
}

/// The byte stream that an operation writes: its fill, its stream name, and the stream position
/// of its first byte. `None` for operations that carry no data of their own.
///
/// Writes use their file offset as position; an append starts at position 0, since where it lands
/// is known only afterwards; a store uses its offset within the mapping.
pub fn stream(op: &Operation) -> Option<(Fill, PathId, u64)> {
    match *op {
        Operation::Write { path, span, fill, .. }
        | Operation::DirectWrite { path, span, fill, .. }
        | Operation::AsyncWrite { path, span, fill, .. }
        | Operation::LayoutWrite { path, span, fill } => Some((fill, path, span.offset)),
        Operation::Append { path, fill, .. } => Some((fill, path, 0)),
        Operation::Store { map, span, fill } => Some((fill, map_stream(map), span.offset)),
        _ => None,
    }
}

/// Fills `out` with the data that `op` writes, from its first byte on. What executors call.
/// Does nothing for operations that carry no data.
pub fn payload(id: OpId, op: &Operation, out: &mut [u8]) {
    if let Some((kind, path, position)) = stream(op) {
        fill(kind, id, path, position, out);
    }
}

/// The 16 bytes of a stream at `index * 16`: both halves name the operation and the place.
#[inline]
fn granule(op: OpId, path: PathId, index: u64) -> [u8; GRANULE_BYTES] {
    let low = u64::from_le_bytes([MAGIC[0], MAGIC[1], MAGIC[2], path.0, 0, 0, 0, 0])
        | u64::from(op.0) << 32
        | (index & 0xffff) << 48;
    let high = (index & 0xffff_ffff_ffff) | u64::from(op.0) << 48;
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

/// Writes the bytes of the stream (`op`, `path`) from `position` on into `out`.
pub fn fill(kind: Fill, op: OpId, path: PathId, position: u64, out: &mut [u8]) {
    match kind {
        Fill::Byte(byte) => out.fill(byte),
        Fill::Tag => fill_tags(op, path, position, out),
    }
}

fn fill_tags(op: OpId, path: PathId, position: u64, out: &mut [u8]) {
    let mut index = position / GRANULE_BYTES as u64;
    let skew = (position % GRANULE_BYTES as u64) as usize;
    let head = if skew == 0 { 0 } else { (GRANULE_BYTES - skew).min(out.len()) };
    let (first, rest) = out.split_at_mut(head);
    if head > 0 {
        first.copy_from_slice(&granule(op, path, index)[skew..skew + head]);
        index += 1;
    }
    let mut chunks = rest.chunks_exact_mut(GRANULE_BYTES);
    for chunk in &mut chunks {
        chunk.copy_from_slice(&granule(op, path, index));
        index += 1;
    }
    let tail = chunks.into_remainder();
    let len = tail.len();
    tail.copy_from_slice(&granule(op, path, index)[..len]);
}

/// Whether `bytes` are those of the stream (`op`, `path`) from `position` on.
pub fn is_stream(op: OpId, path: PathId, position: u64, bytes: &[u8]) -> bool {
    let mut index = position / GRANULE_BYTES as u64;
    let skew = (position % GRANULE_BYTES as u64) as usize;
    let head = if skew == 0 { 0 } else { (GRANULE_BYTES - skew).min(bytes.len()) };
    let (first, rest) = bytes.split_at(head);
    if head > 0 {
        if first != &granule(op, path, index)[skew..skew + head] {
            return false;
        }
        index += 1;
    }
    for chunk in rest.chunks(GRANULE_BYTES) {
        if chunk != &granule(op, path, index)[..chunk.len()] {
            return false;
        }
        index += 1;
    }
    true
}

/// Whether every byte has this value. Most blocks are zeros that a reader waits for: they are
/// compared as memory, not byte by byte.
pub fn is_filled(bytes: &[u8], value: u8) -> bool {
    match bytes {
        [] => true,
        // All are as the first if each is as the one before it.
        [first, rest @ ..] => *first == value && *rest == bytes[..rest.len()],
    }
}

/// Who wrote a granule of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The stream of an operation; `offset` is the stream position of the granule's first byte.
    Tag {
        /// The operation that wrote it.
        op: OpId,
        /// The stream name: the path it wrote by, or a [`map_stream`].
        path: PathId,
        /// Position in the stream, in bytes.
        offset: i64,
    },
    /// All bytes are zero.
    Zero,
    /// All bytes have this value.
    Byte(u8),
    /// What mkfs puts into blocks that nobody wrote.
    Poison {
        /// The device of the poisoned block.
        device: u8,
        /// Its block number.
        block: u64,
    },
    /// None of these.
    Unknown,
}

/// The 16 bytes that mkfs repeats in every block that nobody has written.
pub fn poison(device: u8, block: u64) -> [u8; GRANULE_BYTES] {
    let mut out = [0; GRANULE_BYTES];
    out[..6].copy_from_slice(&POISON);
    out[6] = device;
    out[8..].copy_from_slice(&block.to_le_bytes());
    out
}

/// Tells for each 16 bytes of `bytes` (the last piece may be shorter) who wrote them. Streams are
/// found at any alignment: an append need not land on a multiple of 16. For reports, not for speed.
pub fn identify(bytes: &[u8]) -> Vec<Origin> {
    let mut found = vec![Origin::Unknown; bytes.len().div_ceil(GRANULE_BYTES)];
    let mut at = 0;
    while at + GRANULE_BYTES <= bytes.len() {
        let Some((op, path, position)) = parse(&bytes[at..at + GRANULE_BYTES]) else {
            at += 1;
            continue;
        };
        // A stream granule overlaps one or two granules of the grid; the first claim stands.
        let first = at / GRANULE_BYTES;
        let slots = found.iter_mut().enumerate().take((at + 15) / GRANULE_BYTES + 1).skip(first);
        for (slot, origin) in slots.filter(|(_, origin)| **origin == Origin::Unknown) {
            let offset = position + (slot * GRANULE_BYTES) as i64 - at as i64;
            *origin = Origin::Tag { op, path, offset };
        }
        at += GRANULE_BYTES;
    }
    for (slot, chunk) in bytes.chunks(GRANULE_BYTES).enumerate() {
        if found[slot] == Origin::Unknown {
            found[slot] = identify_plain(chunk);
        }
    }
    found
}

fn parse(bytes: &[u8]) -> Option<(OpId, PathId, i64)> {
    let low = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    let high = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    let same_op = (low >> 32) as u16 == (high >> 48) as u16;
    let same_place = (low >> 48) == (high & 0xffff);
    if bytes[..3] != MAGIC || !same_op || !same_place {
        return None;
    }
    let index = high & 0xffff_ffff_ffff;
    Some((OpId((high >> 48) as u16), PathId(bytes[3]), (index * GRANULE_BYTES as u64) as i64))
}

fn identify_plain(chunk: &[u8]) -> Origin {
    let first = chunk[0];
    if is_filled(chunk, first) {
        return if first == 0 { Origin::Zero } else { Origin::Byte(first) };
    }
    if chunk.len() == GRANULE_BYTES && chunk[..6] == POISON && chunk[7] == 0 {
        let block = u64::from_le_bytes(chunk[8..].try_into().unwrap_or_default());
        return Origin::Poison { device: chunk[6], block };
    }
    Origin::Unknown
}

/// The identity of a block's content: xxh3 of its 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u64);

impl BlockHash {
    /// What a view shows for a block that could not be read.
    pub const UNREADABLE: BlockHash = BlockHash(u64::MAX);
}

/// The identity of these 4096 bytes.
pub fn hash_block(bytes: &[u8; 4096]) -> BlockHash {
    BlockHash(xxhash_rust::xxh3::xxh3_64(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_has_no_other_byte_anywhere() {
        for len in [0, 1, 2, 3, 17, 4096] {
            for value in [0, 9] {
                let mut bytes = vec![value; len];
                assert!(is_filled(&bytes, value));
                assert_eq!(is_filled(&bytes, value + 1), len == 0);
                for at in [0, len / 2, len.saturating_sub(1)].into_iter().filter(|at| *at < len) {
                    bytes[at] ^= 4;
                    assert!(!is_filled(&bytes, value), "{at} of {len}");
                    bytes[at] ^= 4;
                }
            }
        }
    }

    #[test]
    fn streams_are_found_at_any_alignment() {
        for position in [0u64, 5, 4096, 4100] {
            let mut out = [0u8; 70];
            fill(Fill::Tag, OpId(7), PathId(2), position, &mut out[3..]);
            assert!(is_stream(OpId(7), PathId(2), position, &out[3..]));
            assert!(!is_stream(OpId(8), PathId(2), position, &out[3..]));
            assert!(!is_stream(OpId(7), PathId(2), position + 1, &out[3..]));
            let want = position as i64 + 16 - 3;
            let tag = Origin::Tag { op: OpId(7), path: PathId(2), offset: want };
            assert_eq!(identify(&out)[1], tag, "position {position}");
        }
    }

    #[test]
    fn plain_contents_are_identified() {
        let mut bytes = vec![0u8; 16];
        bytes.extend([0xaa; 16]);
        bytes.extend(poison(1, 77));
        bytes.extend(b"nothing known 16");
        let want = [
            Origin::Zero,
            Origin::Byte(0xaa),
            Origin::Poison { device: 1, block: 77 },
            Origin::Unknown,
        ];
        assert_eq!(identify(&bytes), want);
    }

    #[test]
    fn torn_granules_are_not_taken_for_a_stream() {
        let (mut one, mut two) = ([0u8; 16], [0u8; 16]);
        fill(Fill::Tag, OpId(1), PathId(0), 0, &mut one);
        fill(Fill::Tag, OpId(2), PathId(0), 0, &mut two);
        one[8..].copy_from_slice(&two[8..]);
        assert_eq!(identify(&one), [Origin::Unknown]);
    }
}
