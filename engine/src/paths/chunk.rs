//! What one transaction changes of a file when an operation takes several, and the room that it
//! needs in the trees.
//!
//! Promises: a chunk is never empty while there is something left, and a full device can be emptied
//! by small ones. It must never know what is done with a chunk.

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::ExtentMap;
use crate::inode::span::Blocks;
use crate::store::Handle;
use machine::Task;

/// Free blocks with which nobody has to look for more before space is freed: several paths of
/// trees.
const ROOM_BLOCKS: u64 = 32;

/// How much one transaction changes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ChunkLimit {
    extents: u64,
    blocks: u64,
}

/// The blocks of a file that one transaction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where in the file.
    pub(super) range: Blocks,
    /// Extents that lie there, or parts of them.
    pub(super) extents: u64,
    /// Blocks of the device that lie there.
    pub(super) blocks: u64,
}

impl ChunkLimit {
    /// What the blocks that are kept for deletions suffice for.
    const SMALLEST: ChunkLimit = ChunkLimit { extents: 1, blocks: 4 };
}

impl Fs {
    /// The limit of this image. Small nodes make small files take several transactions.
    fn chunk_limit(&self) -> ChunkLimit {
        match u64::from(self.store().superblock().image.leaf) {
            0 => ChunkLimit { extents: 64, blocks: 4096 },
            leaf => ChunkLimit { extents: leaf, blocks: 4 * leaf },
        }
    }

    /// The last part of `blocks` that fits one transaction. What lies there does not change: RL W
    /// and ML W of it are held, and nothing of it is in flight.
    fn last_chunk(
        &self,
        task: &Task,
        inode: &Inode,
        blocks: Blocks,
        limit: ChunkLimit,
    ) -> Result<Chunk> {
        let _ext = self.read_extents(task, inode)?;
        Ok(last_chunk(&inode.extents.borrow(), blocks, limit))
    }

    /// Changes of items that dropping a chunk takes at most: of extents, their edges and their
    /// reference counts, of checksums, of the inode and its orphan record.
    fn changes_of(&self, chunk: Chunk) -> u64 {
        4 * chunk.extents + self.store().metadata_for(chunk.blocks) + 4
    }

    /// On a nearly full device, writes what is dirty, as it holds more space than it will use, and
    /// frees what is pinned; so that whoever is about to free space can. W-5: at most RL is held.
    ///
    /// # Errors
    /// Those of committing; errors of writing stay with their files.
    pub(super) fn make_room(&self, task: &Task) -> Result<()> {
        if self.store().available_blocks() >= ROOM_BLOCKS {
            return Ok(());
        }
        self.gain_space(task)
    }

    /// Joins the running transaction with room for so many changes of items. If there is none, a
    /// commit may free what is pinned: no lock of rank 60 or more is held.
    ///
    /// # Errors
    /// `NoSpace`; those of committing.
    pub(super) fn join_for(&self, task: &Task, changes: u64) -> Result<Handle> {
        self.join_with(task, changes, false)
    }

    /// As [`join_for`](Self::join_for), for what frees space: from what is kept for that. If there
    /// is no room for the worst case, one for the usual one will do, with whatever else there is.
    ///
    /// # Errors
    /// `NoSpace`; those of committing.
    pub(super) fn join_freeing(&self, task: &Task, changes: u64) -> Result<Handle> {
        match self.join_with(task, changes, true) {
            Err(Error::NoSpace { .. }) => {}
            joined => return joined.inspect(Handle::set_irrevocable),
        }
        loop {
            let handle = self.join_with(task, 1, true)?;
            if self.take_all(&handle, changes)? {
                return Ok(handle);
            }
            drop(handle);
            self.store().commit(task)?;
        }
    }

    /// Lets a handle have what so many changes take out of all that is kept: from here on what it
    /// does cannot be refused. False if a commit would give it more, as completions have been
    /// promised some.
    fn take_all(&self, handle: &Handle, changes: u64) -> Result<bool> {
        let has_others = self.store().has_promises();
        handle.set_irrevocable();
        match self.store().reserve_changes(handle, changes) {
            Err(Error::NoSpace { .. }) if has_others => Ok(false),
            // The worst case is rare: all that is there will do.
            Err(Error::NoSpace { available, .. }) => {
                handle.reserve_blocks(available).map(|()| true)
            }
            reserved => reserved.map(|()| true),
        }
    }

    /// Joins for dropping the last part of `blocks`: as much as there is room for, but something.
    /// Nothing of `blocks` changes meanwhile, as for [`last_chunk`].
    ///
    /// # Errors
    /// `NoSpace`; those of committing and of reading trees.
    pub(super) fn join_chunk(
        &self,
        task: &Task,
        inode: &Inode,
        blocks: Blocks,
    ) -> Result<(Handle, Chunk)> {
        let chunk = self.last_chunk(task, inode, blocks, self.chunk_limit())?;
        match self.join_with(task, self.changes_of(chunk), true) {
            Err(Error::NoSpace { .. }) => {}
            joined => return Ok((joined.inspect(Handle::set_irrevocable)?, chunk)),
        }
        let chunk = self.last_chunk(task, inode, blocks, ChunkLimit::SMALLEST)?;
        Ok((self.join_freeing(task, self.changes_of(chunk))?, chunk))
    }

    /// As [`join_chunk`](Self::join_chunk), for an operation that cannot be refused any more.
    ///
    /// # Errors
    /// Those of committing and of reading trees.
    pub(super) fn join_due_chunk(
        &self,
        task: &Task,
        inode: &Inode,
        blocks: Blocks,
    ) -> Result<(Handle, Chunk)> {
        match self.join_chunk(task, inode, blocks) {
            Err(Error::NoSpace { .. }) => {}
            joined => return joined,
        }
        let chunk = self.last_chunk(task, inode, blocks, ChunkLimit::SMALLEST)?;
        loop {
            let handle = self.join(task)?;
            if self.take_all(&handle, self.changes_of(chunk))? {
                return Ok((handle, chunk));
            }
            drop(handle);
            self.store().commit(task)?;
        }
    }

    fn join_with(&self, task: &Task, changes: u64, frees: bool) -> Result<Handle> {
        let mut has_committed = false;
        loop {
            let handle = self.join(task)?;
            if frees {
                handle.set_freeing();
            }
            match self.store().reserve_changes(&handle, changes) {
                Err(Error::NoSpace { .. }) if !has_committed && self.may_gain_space() => {
                    drop(handle);
                    self.store().commit(task)?;
                    has_committed = true;
                }
                reserved => return reserved.map(|()| handle),
            }
        }
    }
}

/// The last extents within `range`, up to a limit. If these are all, the chunk is all of `range`.
fn last_chunk(map: &ExtentMap, range: Blocks, limit: ChunkLimit) -> Chunk {
    let mut chunk = Chunk { range: Blocks::new(range.end, range.end), extents: 0, blocks: 0 };
    for extent in map.overlapping_backwards(range) {
        let room = limit.blocks - chunk.blocks;
        if chunk.extents == limit.extents || room == 0 {
            return chunk;
        }
        let part = extent.blocks.intersection(range);
        let taken = part.len().min(room);
        chunk.range.start = part.end - taken;
        chunk.extents += 1;
        chunk.blocks += taken;
        if taken < part.len() {
            return chunk;
        }
    }
    Chunk { range, ..chunk }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::extents::{Extent, ExtentState};
    use crate::types::TransactionId;

    fn chunk(extents: &[(u64, u64)], range: (u64, u64), limit: (u64, u64)) -> (u64, u64, u64) {
        let mut map = ExtentMap::default();
        map.set_loaded();
        for &(start, end) in extents {
            let blocks = Blocks::new(start, end);
            let (block, generation) = (100 + start, TransactionId(1));
            map.insert(Extent { blocks, block, state: ExtentState::Written, generation });
        }
        let limit = ChunkLimit { extents: limit.0, blocks: limit.1 };
        let chunk = last_chunk(&map, Blocks::new(range.0, range.1), limit);
        assert_eq!(chunk.range.end, range.1, "chunks are taken from the end");
        (chunk.range.start, chunk.extents, chunk.blocks)
    }

    #[test]
    fn chunks_are_taken_from_the_end() {
        let extents = [(0, 4), (6, 8), (8, 9), (20, 30)];
        assert_eq!(chunk(&extents, (2, 99), (9, 99)), (2, 4, 15), "all of it");
        assert_eq!(chunk(&extents, (2, 99), (2, 99)), (8, 2, 11), "two extents");
        assert_eq!(chunk(&extents, (2, 99), (9, 4)), (26, 1, 4), "four blocks");
        assert_eq!(chunk(&extents, (2, 99), (9, 10)), (20, 1, 10), "exactly one extent");
        assert_eq!(chunk(&extents, (40, 99), (9, 10)), (40, 0, 0), "nothing is there");
        assert_eq!(chunk(&extents, (20, 99), (1, 10)), (20, 1, 10), "the last one");
        assert_eq!(chunk(&extents, (1, 7), (9, 99)), (1, 2, 4), "parts at both edges");
        assert_eq!(chunk(&extents, (0, 25), (1, 99)), (20, 1, 5), "a part of one");
    }
}
