//! A target as a reader sees it at one moment: names, sizes, contents.
//!
//! It promises stable answers and hashes each block at most once. It must never know where the
//! bytes came from.

use oracle::View;
use oracle::content::{BlockHash, hash_block};
use oracle::operation::{BLOCK_BYTES, PathId};
use std::cell::OnceCell;

/// A file of a [`Snapshot`].
#[derive(Clone, Debug, Default)]
pub struct SnapshotFile {
    nlink: u32,
    bytes: Vec<u8>,
    hashes: OnceCell<Vec<BlockHash>>,
}

/// All files of a target, in memory.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    names: Vec<PathId>,
    files: Vec<SnapshotFile>,
}

impl Snapshot {
    /// A target without files.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds a file, whose name is not there yet, with its whole content.
    pub fn insert(&mut self, path: PathId, nlink: u32, bytes: Vec<u8>) {
        debug_assert!(!self.names.contains(&path), "{path:?} is there already");
        self.names.push(path);
        self.files.push(SnapshotFile { nlink, bytes, hashes: OnceCell::new() });
    }

    fn file(&self, path: PathId) -> Option<&SnapshotFile> {
        let index = self.names.iter().position(|&name| name == path)?;
        Some(&self.files[index])
    }
}

impl SnapshotFile {
    fn block(&self, block: u64, out: &mut [u8; BLOCK_BYTES as usize]) {
        let len = self.bytes.len() as u64;
        let start = block.saturating_mul(BLOCK_BYTES).min(len) as usize;
        let shown = &self.bytes[start..self.bytes.len().min(start + out.len())];
        out[..shown.len()].copy_from_slice(shown);
        out[shown.len()..].fill(0);
    }

    fn hashes(&self) -> &[BlockHash] {
        self.hashes.get_or_init(|| {
            let mut bytes = [0; BLOCK_BYTES as usize];
            let blocks = (self.bytes.len() as u64).div_ceil(BLOCK_BYTES);
            let hash = |block| {
                self.block(block, &mut bytes);
                hash_block(&bytes)
            };
            (0..blocks).map(hash).collect()
        })
    }
}

impl View for Snapshot {
    fn names(&self) -> &[PathId] {
        &self.names
    }

    fn size(&self, path: PathId) -> u64 {
        self.file(path).map_or(0, |file| file.bytes.len() as u64)
    }

    fn nlink(&self, path: PathId) -> u32 {
        self.file(path).map_or(0, |file| file.nlink)
    }

    fn block_hash(&self, path: PathId, block: u64) -> BlockHash {
        let hashes = self.file(path).map_or(&[][..], SnapshotFile::hashes);
        let known = usize::try_from(block).ok().and_then(|index| hashes.get(index));
        known.copied().unwrap_or_else(|| hash_block(&[0; BLOCK_BYTES as usize]))
    }

    fn block_bytes(&self, path: PathId, block: u64, out: &mut [u8; BLOCK_BYTES as usize]) {
        out.fill(0);
        if let Some(file) = self.file(path) {
            file.block(block, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_partly_inside_shows_zeros_behind_the_end() {
        let mut snapshot = Snapshot::new();
        snapshot.insert(PathId(2), 1, vec![7; 5000]);
        let mut bytes = [1; 4096];
        snapshot.block_bytes(PathId(2), 1, &mut bytes);
        assert!(bytes[..904].iter().all(|&byte| byte == 7));
        assert!(bytes[904..].iter().all(|&byte| byte == 0));
        assert_eq!(snapshot.block_hash(PathId(2), 1), hash_block(&bytes));
        assert_eq!(snapshot.block_hash(PathId(2), 9), hash_block(&[0; 4096]));
        assert_eq!((snapshot.size(PathId(2)), snapshot.nlink(PathId(2))), (5000, 1));
    }
}
