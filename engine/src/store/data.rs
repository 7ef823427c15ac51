//! Data blocks: allocated, shared, read and freed as runs.

use super::items::csum_key;
use super::refs;
use super::space::{BlockUse, ReadPin, Reserve, Urgency};
use super::{BTree, Handle, Store, Tree};
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::types::Run;
use machine::disk::{Note, Request};
use machine::{DeviceId, Task};
use smallvec::SmallVec;

/// Records of references that a change of one piece touches at most: it cuts one in three, and
/// joins.
const RECORDS_PER_PIECE: u64 = 4;

/// What trees may have grown by, beyond what was set aside for it, before a device counts as full.
const GROWTH_BLOCKS: u64 = 4;

impl Store {
    /// Allocates up to `want` consecutive blocks for data, at least one, from what `reserve`
    /// promises or the handle may have. The caller asks again for the rest.
    ///
    /// # Errors
    /// `NoSpace`; those of reading the free-space map.
    pub fn allocate_data(
        &self,
        task: &Task,
        handle: &Handle,
        want: u64,
        hint: Option<u64>,
        reserve: Option<&Reserve>,
    ) -> Result<Run> {
        self.check_alive()?;
        let mut claim = handle.claim();
        if reserve.is_some() {
            claim.reserve = reserve;
        }
        self.space.allocate_run(task, want, hint, &claim)
    }

    /// Promises `data_blocks` data blocks, and the metadata that they will need, to whoever will
    /// allocate them later.
    ///
    /// # Errors
    /// `NoSpace`; a commit may help if [`held_blocks`](Self::held_blocks) is not zero.
    pub fn reserve_data(&self, data_blocks: u64) -> Result<Reserve> {
        self.space.reserve(data_blocks + self.metadata_for(data_blocks), Urgency::Ordinary)
    }

    /// Promises what the trees may grow by when so many neighbouring blocks become written that
    /// were not, checksums and a cut extent included: out of what is kept for that, if there is no
    /// more. Not out of what is kept for deletions, as a tree that has grown does not shrink before
    /// something is deleted.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn reserve_growth(&self, data_blocks: u64) -> Result<Reserve> {
        self.space.reserve(self.metadata_for(data_blocks + 1), Urgency::Growing)
    }

    /// Blocks of tree nodes that this many data blocks may add, beyond the copies that any change
    /// needs and that are kept free.
    pub fn metadata_for(&self, data_blocks: u64) -> u64 {
        // A new node holds at least half of the capacity: of extents, and of checksums.
        let per_node = match self.committed.borrow().image.leaf {
            0 => 32,
            leaf => u64::from(leaf / 2),
        };
        2 * data_blocks.div_ceil(per_node)
    }

    /// One more reference to each block of a run, as clone and dedupe make.
    ///
    /// # Errors
    /// `NoSpace` before anything is changed; EMLINK; those of trees.
    pub fn share_data(&self, task: &Task, handle: &Handle, run: Run) -> Result<()> {
        self.check_alive()?;
        let tree = self.tree(Tree::Refs).edit(task)?;
        let pieces = refs::pieces(task, &tree, run)?.len() as u64;
        let added = handle.top_up(self.blocks_for(Tree::Refs, RECORDS_PER_PIECE * pieces))?;
        let result = refs::increase(task, &tree, handle, run);
        handle.settle(added);
        result
    }

    /// One reference less to each block of a run. Blocks without any lose their checksums, and are
    /// free once the commit is durable. Returns them.
    ///
    /// # Errors
    /// `NoSpace` before anything is changed; `Corrupt` if a block is not allocated; those of trees.
    pub fn free_data(&self, task: &Task, handle: &Handle, run: Run) -> Result<SmallVec<[Run; 2]>> {
        self.check_alive()?;
        let tree = self.tree(Tree::Refs).edit(task)?;
        let pieces = refs::pieces(task, &tree, run)?.len() as u64;
        let wanted = self.blocks_for(Tree::Refs, RECORDS_PER_PIECE * pieces)
            + self.blocks_for(Tree::Csum, 1)
            + self.metadata_for(run.len_blocks);
        let added = handle.top_up(wanted)?;
        let decreased = refs::decrease(task, &tree, handle, run);
        drop(tree);
        let result = decreased.and_then(|refs::Decreased { freed, kept }| {
            // The last commit still refers to what was shared.
            self.unshared.borrow_mut().extend(kept);
            self.free_unshared(task, handle, freed)
        });
        handle.settle(added);
        result
    }

    fn free_unshared(
        &self,
        task: &Task,
        handle: &Handle,
        freed: SmallVec<[Run; 2]>,
    ) -> Result<SmallVec<[Run; 2]>> {
        for run in &freed {
            if let Some(block) = (run.block..run.end()).find(|&block| self.nodes.is_dirty(0, block))
            {
                // On a damaged image: the extent named a block that was free.
                let (structure, what) = ("tree node", "a file extent names its block");
                return Err(Error::Corrupt { structure, block, what });
            }
            let (from, to) = (csum_key(run.block), csum_key(run.end()));
            self.delete_range(task, handle, Tree::Csum, from, to)?;
            if self.defects().has(Defect::DiscardBeforeCommit) && self.options.discard {
                let (block, count) = (run.block, run.len_blocks as u32);
                let request = Request::Discard { device: DeviceId(0), block, count };
                task.submit(request, Note { tag: block, what: "discard" })?;
            }
            if self.defects().has(Defect::FreedExtentReusedBeforeCommit) {
                self.space.free_run_now(task, *run)?;
                continue;
            }
            self.space.free_run(task, *run)?; // pinned until the commit is durable
        }
        Ok(freed)
    }

    /// Blocks that so many changes of neighbouring items of a tree take at most, as a rule: the
    /// first copies a path; each further one splits or copies a node or two.
    pub(super) fn blocks_for(&self, tree: Tree, changes: u64) -> u64 {
        let tree = self.tree(tree);
        if changes == 0 || (tree.root().is_empty() && changes == 1) {
            return changes;
        }
        tree.blocks_per_change() + 2 * (changes - 1)
    }

    /// Blocks that the completion of a write of so many data blocks takes in the trees at most.
    pub fn completion_blocks(&self, data_blocks: u64) -> u64 {
        // The extent cut in three and put in, the inode; checksums out, and others in.
        self.blocks_for(Tree::Fs, 4)
            + self.blocks_for(Tree::Csum, 2)
            + 2 * self.metadata_for(data_blocks)
            + self.blocks_for(Tree::Refs, 1)
    }

    /// Promises what the completion of a write of so many data blocks takes, out of all that is
    /// kept.
    ///
    /// # Errors
    /// `NoSpace`; a commit ends the completions before this one, and gives back what copies of
    /// nodes took.
    pub fn reserve_completion(&self, data_blocks: u64) -> Result<Reserve> {
        self.space.promise(self.completion_blocks(data_blocks))
    }

    /// Whether somebody has been promised blocks who cannot be refused: completions, or what frees
    /// space and has begun. A commit waits for all of them.
    pub fn has_promises(&self) -> bool {
        self.space.has_promises()
    }

    /// The references to each block of a run: the run cut into pieces of equal counts.
    ///
    /// # Errors
    /// Those of trees.
    pub fn references(&self, task: &Task, run: Run) -> Result<SmallVec<[(Run, u32); 2]>> {
        let tree = self.tree(Tree::Refs).edit(task)?;
        let pieces = refs::pieces(task, &tree, run)?;
        Ok(pieces.into_iter().map(|piece| (piece.run, piece.count)).collect())
    }

    /// Whether the last commit, or the log, may have more references to a block of a run than there
    /// are now: it must not be overwritten in place before the next commit is durable.
    pub fn was_shared(&self, run: Run) -> bool {
        self.unshared.borrow().iter().any(|held| held.overlaps(run))
    }

    /// Allocates exactly the blocks of a run that are not allocated yet; how many: what replay does
    /// with the extents of a log.
    ///
    /// # Errors
    /// `Corrupt` if they lie beyond the device; those of reading the free-space map.
    pub fn claim_data(&self, task: &Task, _handle: &Handle, run: Run) -> Result<u64> {
        self.check_alive()?;
        self.space.claim_run(task, run)
    }

    /// Keeps the blocks of a run from being reused while they are being read.
    pub fn pin_read(&self, run: Run) -> ReadPin {
        self.space.pin_read(run)
    }

    /// Whether a block is allocated.
    ///
    /// # Errors
    /// `Corrupt` if there is no such block; those of reading the free-space map.
    pub fn is_allocated(&self, task: &Task, block: u64) -> Result<bool> {
        self.space.is_allocated(task, block)
    }

    /// What a block of the data device is used for, if the part of the free-space map that says so
    /// is in memory.
    pub fn use_of(&self, block: u64) -> Option<BlockUse> {
        self.space.use_of(block)
    }

    /// Whether a read in flight keeps a block from being reused.
    pub fn is_being_read(&self, block: u64) -> bool {
        self.space.is_being_read(block)
    }

    /// Blocks behind the superblocks that are written in place.
    pub fn bare_nodes(&self) -> u8 {
        self.committed.borrow().image.buffers
    }

    /// Blocks that are not allocated. Equal to what it was after mkfs once everything is deleted
    /// and committed.
    pub fn free_blocks(&self) -> u64 {
        self.space.free_blocks()
    }

    /// Free blocks that become usable only when the next commit is durable.
    pub fn held_blocks(&self) -> u64 {
        self.space.held_blocks()
    }

    /// Blocks that a user may still reserve.
    pub fn available_blocks(&self) -> u64 {
        self.space.available_blocks(Urgency::Ordinary)
    }

    /// Blocks of the device.
    pub fn blocks(&self) -> u64 {
        self.space.blocks()
    }

    /// Keeps as many blocks as a deletion in each tree takes, with some for the growth of trees,
    /// and as many as a completion does.
    pub(super) fn keep_for_deletions(&self) {
        let deletion: u64 = self.trees.iter().map(BTree::blocks_per_change).sum();
        self.space.keep(deletion, self.completion_blocks(1), GROWTH_BLOCKS);
    }
}
