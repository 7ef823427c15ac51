//! Putting the changed parts of the free-space map on the medium, and letting go of what a durable
//! commit freed.
//!
//! Writing a bitmap moves it, which changes bitmaps: first every part that changes gets its new
//! place, until no further part changes; only then contents are made.

use super::{INDEX_POINTERS, Part, Space};
use crate::error::Result;
use crate::store::key::BlockPtr;
use crate::types::Run;
use machine::{Block, Task};

const FANOUT: usize = INDEX_POINTERS as usize;

/// The changed blocks of the map, children first, and the pointer to the new root.
pub(crate) struct Written {
    /// Where to write what.
    pub(crate) contents: Vec<(u64, Block)>,
    /// The space root.
    pub(crate) root: BlockPtr,
}

impl Space {
    /// Chooses new places for all parts of the map that will change. Nobody else may allocate or
    /// free until [`finish_commit`](Self::finish_commit).
    ///
    /// # Errors
    /// Those of reading bitmaps.
    pub(crate) fn place_changes(&self, task: &Task) -> Result<()> {
        while let Some(part) = self.next_unplaced() {
            let old = self.pointer(part);
            let block = self.take_own(task)?;
            self.state.borrow_mut().placed.insert(part, block);
            if old.block != 0 {
                // the old place is part of the durable state until the commit is.
                self.free_run(task, Run::new(old.block, 1))?;
            }
        }
        Ok(())
    }

    /// A part that will change and has no new place yet.
    fn next_unplaced(&self) -> Option<Part> {
        let state = self.state.borrow();
        let is_new = |part: &Part| !state.placed.contains_key(part);
        let dirty = |(at, map): (usize, &Option<super::Bitmap>)| {
            map.as_ref().is_some_and(|map| map.dirty).then_some(at)
        };
        let mut top = None;
        for map in state.maps.iter().enumerate().filter_map(dirty) {
            let leaf = Part::Leaf(map / FANOUT);
            if let Some(part) = [Part::Map(map), leaf].into_iter().find(is_new) {
                return Some(part);
            }
            top = (state.leaves.len() > 1).then_some(Part::Top);
        }
        top.filter(is_new)
    }

    /// Where a part is as of the last commit; its index is loaded, as its bitmaps are.
    fn pointer(&self, part: Part) -> BlockPtr {
        let state = self.state.borrow();
        match part {
            Part::Map(map) => {
                let leaf = state.leaves[map / FANOUT].as_ref().expect("above a loaded bitmap");
                leaf.entries[map % FANOUT]
            }
            Part::Leaf(leaf) => match &state.top {
                Some(top) => top.entries[leaf],
                None => state.root,
            },
            Part::Top => state.root,
        }
    }

    /// The contents for the chosen places. Marks the map clean.
    pub(crate) fn write_changes(&self, generation: u64) -> Written {
        let mut state = self.state.borrow_mut();
        let mut contents = Vec::with_capacity(state.placed.len());
        let placed = std::mem::take(&mut state.placed);
        // In the order of `Part`: bitmaps, indices, the top.
        for (part, block) in placed {
            let content = match part {
                Part::Map(map) => {
                    let map = state.maps[map].as_mut().expect("changed, so loaded");
                    map.dirty = false;
                    map.encode(generation, block)
                }
                Part::Leaf(leaf) => {
                    let leaf = state.leaves[leaf].as_ref().expect("above a changed bitmap");
                    leaf.encode(generation, block)
                }
                Part::Top => state.top.as_ref().expect("above").encode(generation, block),
            };
            let ptr = BlockPtr { block, generation, digest: content.digest() };
            match part {
                Part::Map(map) => {
                    let leaf = state.leaves[map / FANOUT].as_mut().expect("above");
                    leaf.entries[map % FANOUT] = ptr;
                }
                Part::Leaf(leaf) => match &mut state.top {
                    Some(top) => top.entries[leaf] = ptr,
                    None => state.root = ptr,
                },
                Part::Top => state.root = ptr,
            }
            contents.push((block, content));
        }
        debug_assert!(state.maps.iter().flatten().all(|map| !map.dirty), "every change is placed");
        Written { contents, root: state.root }
    }

    /// What the transaction freed and nobody is reading, as runs in ascending order: what may
    /// be discarded.
    pub(crate) fn discardable_runs(&self) -> Vec<Run> {
        let state = self.state.borrow();
        let unread = state.pinned.iter().copied().filter(|&block| !state.is_read(block));
        let mut blocks: Vec<u64> = unread.collect();
        blocks.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for block in blocks {
            match runs.last_mut() {
                Some(last) if last.end() == block => last.len_blocks += 1,
                _ => runs.push(Run::new(block, 1)),
            }
        }
        runs
    }

    /// The commit is durable: what it freed, and the log that it made obsolete, may be reused.
    pub(crate) fn finish_commit(&self) {
        let mut state = self.state.borrow_mut();
        let pinned = std::mem::take(&mut state.pinned);
        state.unhold(pinned);
        let log = std::mem::take(&mut state.log_blocks);
        state.unhold(log);
        debug_assert_eq!(state.held, 0, "nothing else holds free blocks");
    }

    /// Calls `visit` for the blocks of the map itself, and returns the allocated blocks as counted.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn walk_own(&self, task: &Task, visit: &mut dyn FnMut(u64)) -> Result<u64> {
        self.load_all(task)?;
        let state = self.state.borrow();
        let leaves = state.leaves.iter().flatten();
        let below = state.top.iter().chain(leaves).flat_map(|index| &index.entries);
        std::iter::once(&state.root).chain(below).for_each(|ptr| visit(ptr.block));
        Ok(state.maps.iter().flatten().map(|map| map.allocated_count() as u64).sum())
    }

    /// Calls `visit` for the runs of allocated blocks, in order, as far as bitmaps are loaded
    /// ([`walk_own`](Self::walk_own) loads all). A run ends where its bitmap does.
    pub(crate) fn allocated_runs(&self, visit: &mut dyn FnMut(Run)) {
        let state = self.state.borrow();
        for map in state.maps.iter().flatten() {
            let mut block = map.base();
            while block < map.end() {
                let from = block;
                while block < map.end() && map.is_allocated(block) {
                    block += 1;
                }
                if block > from {
                    visit(Run::new(from, block - from));
                }
                block += 1;
            }
        }
    }
}
