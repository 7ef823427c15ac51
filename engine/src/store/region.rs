//! Bare nodes, which no tree owns: a few blocks behind the superblocks, for programs that put the
//! cache of buffers to the test. Their number is fixed when the image is made; most images have
//! none.
//!
//! ```text
//! node n: block FIRST_BLOCK + n; its two halves of 2 KiB each hold, in their first sector,
//!   0 magic "PFEB"   4 node u8   5 half u8   6 version u16   8 BLAKE3 of bytes 0..8   40 zeros
//! ```
//!
//! They are written in place. All that counts of a half is in one sector, which the medium writes
//! atomically: so after a cut each half is a version that was written, whole, and the halves need
//! not be of the same one. Nothing here is ever torn within a half, and a half that does not decode
//! is damage.
//!
//! Promises: `decode(encode(v))` is `v` in both halves. It must never know buffers or files.

use super::codec::{Reader, Writer};
use super::space::FIRST_BLOCK;
use crate::error::{Error, Result};
use machine::{BLOCK_BYTES, Block};

const MAGIC: &[u8; 4] = b"PFEB";
const SUMMED_BYTES: usize = 8;

/// Halves of a node.
pub const HALVES: usize = 2;

const HALF_BYTES: usize = BLOCK_BYTES / HALVES;

/// The block of a node.
pub fn block_of(node: u8) -> u64 {
    FIRST_BLOCK + u64::from(node)
}

/// A bare node of one version.
pub fn encode(node: u8, version: u16) -> Block {
    let mut bytes = [0; BLOCK_BYTES];
    for (half, bytes) in bytes.chunks_exact_mut(HALF_BYTES).enumerate() {
        let mut writer = Writer::new(bytes);
        writer.bytes(MAGIC);
        writer.u8(node);
        writer.u8(half as u8);
        writer.u16(version);
        let digest = blake3::hash(&bytes[..SUMMED_BYTES]);
        bytes[SUMMED_BYTES..SUMMED_BYTES + 32].copy_from_slice(digest.as_bytes());
    }
    Block::new(&bytes)
}

/// The versions of the halves of a node.
///
/// # Errors
/// `Corrupt` if one is none, or another's.
pub fn decode(node: u8, content: &Block) -> Result<[u16; HALVES]> {
    let block = block_of(node);
    let corrupt = |what| Error::Corrupt { structure: "bare node", block, what };
    let mut versions = [0; HALVES];
    for (half, bytes) in content.bytes().chunks_exact(HALF_BYTES).enumerate() {
        let digest = &bytes[SUMMED_BYTES..SUMMED_BYTES + 32];
        if digest != blake3::hash(&bytes[..SUMMED_BYTES]).as_bytes() {
            return Err(corrupt("the checksum of a half is wrong"));
        }
        let mut reader = Reader::new(bytes);
        let named = (reader.bytes(4), reader.u8(), reader.u8());
        if named != (Some(&MAGIC[..]), Some(node), Some(half as u8)) {
            return Err(corrupt("a half belongs elsewhere"));
        }
        versions[half] = reader.u16().ok_or_else(|| corrupt("a half is too short"))?;
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_may_be_of_different_versions_and_tell_damage() {
        let (old, new) = (encode(3, 7), encode(3, 8));
        assert_eq!(decode(3, &new), Ok([8, 8]));
        assert_eq!(decode(3, &old.overlaid(&new, 0x0f)), Ok([8, 7]));
        assert_eq!(decode(3, &old.overlaid(&new, 0x10)), Ok([7, 8]), "the first sector decides");
        assert!(decode(2, &new).is_err(), "another node");
        assert!(decode(3, &Block::zero()).is_err() && decode(3, &Block::poison(0, 5)).is_err());
        let halves = [1, 0].map(|half| &new.bytes()[half * HALF_BYTES..][..HALF_BYTES]).concat();
        assert!(decode(3, &Block::from_slice(&halves)).is_err(), "halves in each other's place");
    }
}
