//! What a recovered engine showed: names, sizes, contents by block, kept by reference.

use machine::Block;
use oracle::View;
use oracle::content::{BlockHash, hash_block, is_filled};
use oracle::operation::{BLOCK_BYTES, Errno, NodeId, OpId, PathId};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// A recovered file system as a reader saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    names: Vec<PathId>,
    files: Vec<FileSeen>,
    /// The versions of the halves of each bare node.
    pub nodes: Vec<Result<[OpId; 2], Errno>>,
}

/// One file of it.
#[derive(Clone, Debug)]
pub struct FileSeen {
    /// Its name.
    pub path: PathId,
    /// Its size in bytes.
    pub size: u64,
    /// Its link count.
    pub nlink: u32,
    /// Each block that the size covers: `None` is a hole.
    pub blocks: Vec<Result<Option<Block>, Errno>>,
}

impl Seen {
    /// Adds a file. What lies beyond the size in its last block is not shown by reads, and cut off.
    pub fn push(&mut self, mut file: FileSeen) {
        let inside = (file.size % BLOCK_BYTES) as usize;
        assert_eq!(file.blocks.len() as u64, file.size.div_ceil(BLOCK_BYTES));
        if inside != 0
            && let Some(Ok(Some(last))) = file.blocks.last_mut()
            && !is_filled(&last.bytes()[inside..], 0)
        {
            *last = Block::from_slice(&last.bytes()[..inside]);
        }
        self.names.push(file.path);
        self.files.push(file);
    }

    /// The file of that name, if it is there.
    pub fn file(&self, path: PathId) -> Option<&FileSeen> {
        self.files.iter().find(|file| file.path == path)
    }

    fn block(&self, path: PathId, block: u64) -> Result<Option<&Block>, Errno> {
        let blocks = self.file(path).map(|file| &file.blocks[..]).unwrap_or_default();
        match blocks.get(block as usize) {
            Some(Ok(content)) => Ok(content.as_ref()),
            Some(Err(errno)) => Err(*errno),
            None => Ok(None),
        }
    }

    /// A number drawn from all that it shows.
    pub fn hash(&self, salt: u64) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write_u64(salt);
        for file in &self.files {
            (file.path, file.size, file.nlink).hash(&mut hasher);
            let blocks = 0..file.blocks.len() as u64;
            blocks.for_each(|block| self.block_hash(file.path, block).hash(&mut hasher));
        }
        self.nodes.hash(&mut hasher);
        hasher.finish() >> 20
    }

    /// Whether two states show the same to every reader.
    pub fn same(&self, other: &Seen) -> bool {
        let same_block =
            |path, block| self.block_hash(path, block) == other.block_hash(path, block);
        self.names == other.names
            && self.nodes == other.nodes
            && self.files.iter().zip(&other.files).all(|(mine, theirs)| {
                mine.size == theirs.size
                    && mine.nlink == theirs.nlink
                    && (0..mine.blocks.len() as u64).all(|block| same_block(mine.path, block))
            })
    }
}

impl View for Seen {
    fn names(&self) -> &[PathId] {
        &self.names
    }

    fn size(&self, path: PathId) -> u64 {
        self.file(path).map_or(0, |file| file.size)
    }

    fn nlink(&self, path: PathId) -> u32 {
        self.file(path).map_or(0, |file| file.nlink)
    }

    fn block_hash(&self, path: PathId, block: u64) -> BlockHash {
        match self.block(path, block) {
            Ok(Some(content)) => *content.memo(|bytes| Rc::new(hash_block(bytes))),
            Ok(None) => *Block::zero().memo(|bytes| Rc::new(hash_block(bytes))),
            Err(_) => BlockHash::UNREADABLE,
        }
    }

    fn block_bytes(&self, path: PathId, block: u64, out: &mut [u8; 4096]) {
        match self.block(path, block) {
            Ok(Some(content)) => *out = *content.bytes(),
            _ => out.fill(0),
        }
    }

    fn node(&self, node: NodeId) -> Option<Result<[OpId; 2], Errno>> {
        self.nodes.get(usize::from(node.0)).copied()
    }

    fn read_error(&self, path: PathId, block: u64) -> Option<Errno> {
        self.block(path, block).err()
    }
}
