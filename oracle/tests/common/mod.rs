//! What a test says that a target shows.
use oracle::View;
use oracle::content::{self, BlockHash};
use oracle::operation::PathId;
use std::collections::BTreeMap;

pub const BLOCK: usize = 4096;

/// A recovered target as a test describes it.
#[derive(Default)]
pub struct Shown {
    pub names: Vec<PathId>,
    pub files: BTreeMap<PathId, (u64, Vec<[u8; BLOCK]>)>,
    pub nlink: u32,
}

impl View for Shown {
    fn names(&self) -> &[PathId] {
        &self.names
    }

    fn size(&self, path: PathId) -> u64 {
        self.files[&path].0
    }

    fn nlink(&self, _path: PathId) -> u32 {
        self.nlink
    }

    fn block_hash(&self, path: PathId, block: u64) -> BlockHash {
        let mut bytes = [0; BLOCK];
        self.block_bytes(path, block, &mut bytes);
        content::hash_block(&bytes)
    }

    fn block_bytes(&self, path: PathId, block: u64, out: &mut [u8; BLOCK]) {
        let (size, blocks) = &self.files[&path];
        *out = blocks.get(block as usize).copied().unwrap_or([0; BLOCK]);
        let end = size.saturating_sub(block * BLOCK as u64).min(BLOCK as u64) as usize;
        out[end..].fill(0);
    }
}
