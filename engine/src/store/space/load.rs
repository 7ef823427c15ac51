//! Reading the free-space map, part by part, when it is needed.

use super::bitmap::Bitmap;
use super::index::Index;
use super::{BITMAP_BLOCKS, FIRST_BLOCK, INDEX_POINTERS, Space};
use crate::error::{Error, Result};
use crate::store::key::BlockPtr;
use crate::store::nodes::read_block;
use crate::types::Run;
use machine::{Block, Task};

const FANOUT: usize = INDEX_POINTERS as usize;

impl Space {
    /// An index of level 0 without pointers.
    pub(super) fn empty_leaf(&self, leaf: usize) -> Index {
        let maps = self.blocks.div_ceil(BITMAP_BLOCKS) as usize;
        let first = leaf * FANOUT;
        Index::new(0, first as u64, (maps - first).min(FANOUT))
    }

    /// The index of level 1 without pointers, if the device needs one.
    pub(super) fn empty_top(&self) -> Option<Index> {
        let leaves = self.blocks.div_ceil(BITMAP_BLOCKS * INDEX_POINTERS) as usize;
        (leaves > 1).then(|| Index::new(1, 0, leaves))
    }

    /// Loads the bitmaps of a run.
    ///
    /// # Errors
    /// `Corrupt` if the run does not lie on the device behind the superblocks; those of reading.
    pub(super) fn load_run(&self, task: &Task, run: Run) -> Result<()> {
        if run.block < FIRST_BLOCK || run.end() > self.blocks {
            let (structure, block) = ("block number", run.block);
            return Err(Error::Corrupt {
                structure,
                block,
                what: "it is not a block of the device",
            });
        }
        let last = run.end().saturating_sub(1).max(run.block);
        for map in run.block / BITMAP_BLOCKS..=last / BITMAP_BLOCKS {
            self.load_map(task, map as usize)?;
        }
        Ok(())
    }

    /// Loads every bitmap.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn load_all(&self, task: &Task) -> Result<()> {
        let maps = self.blocks.div_ceil(BITMAP_BLOCKS) as usize;
        (0..maps).try_for_each(|map| self.load_map(task, map))
    }

    /// Loads a bitmap and the indices above it.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(super) fn load_map(&self, task: &Task, map: usize) -> Result<()> {
        if self.state.borrow().maps[map].is_some() {
            return Ok(());
        }
        let leaf = map / FANOUT;
        self.load_leaf(task, leaf)?;
        let ptr = {
            let state = self.state.borrow();
            state.leaves[leaf].as_ref().expect("just loaded").entries[map % FANOUT]
        };
        let content = read_verified(task, &ptr, "bitmap")?;
        let (index, blocks) = (map as u64, self.blocks);
        let bitmap = Bitmap::decode(content.bytes(), index, blocks, ptr.generation, ptr.block)
            .map_err(|what| Error::Corrupt { structure: "bitmap", block: ptr.block, what })?;
        if map == 0 && !(0..FIRST_BLOCK).all(|block| bitmap.is_allocated(block)) {
            let (structure, block) = ("bitmap", ptr.block);
            return Err(Error::Corrupt { structure, block, what: "a superblock is free" });
        }
        // Another task may have loaded it, and changed it, while this one waited.
        self.state.borrow_mut().maps[map].get_or_insert(bitmap);
        Ok(())
    }

    fn load_leaf(&self, task: &Task, leaf: usize) -> Result<()> {
        if self.state.borrow().leaves[leaf].is_some() {
            return Ok(());
        }
        let ptr = match self.empty_top() {
            None => self.state.borrow().root,
            Some(empty) => {
                self.load_top(task, empty)?;
                self.state.borrow().top.as_ref().expect("just loaded").entries[leaf]
            }
        };
        let index = read_index(task, &ptr, self.empty_leaf(leaf))?;
        self.state.borrow_mut().leaves[leaf].get_or_insert(index);
        Ok(())
    }

    fn load_top(&self, task: &Task, empty: Index) -> Result<()> {
        if self.state.borrow().top.is_some() {
            return Ok(());
        }
        let root = self.state.borrow().root;
        let index = read_index(task, &root, empty)?;
        self.state.borrow_mut().top.get_or_insert(index);
        Ok(())
    }
}

fn read_index(task: &Task, ptr: &BlockPtr, empty: Index) -> Result<Index> {
    let content = read_verified(task, ptr, "space index")?;
    empty.decode(content.bytes(), ptr.generation, ptr.block).map_err(|what| Error::Corrupt {
        structure: "space index",
        block: ptr.block,
        what,
    })
}

fn read_verified(task: &Task, ptr: &BlockPtr, structure: &'static str) -> Result<Block> {
    let content = read_block(task, 0, ptr.block, structure)?;
    if content.digest() != ptr.digest {
        let what = "the digest differs from the parent's";
        return Err(Error::Corrupt { structure, block: ptr.block, what });
    }
    Ok(content)
}
