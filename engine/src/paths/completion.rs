//! CW: what ordered extents become when their IO has ended (races.md §7.4).
//!
//! Promises: X-1, only here becomes an extent Written, after IO_DONE without error; W-1, no RL, ML,
//! MM or LOGI is taken, and PAGE neither. It must never know who waits.

use super::write::floor;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::ordered::{OrderedExtent, OrderedKind};
use crate::inode::span::Blocks;
use crate::store::items::csum_key;
use crate::store::{Handle, Join, Tree};
use crate::types::{BLOCK_BYTES, TransactionId};
use machine::{Access, Guard, Object, Site, Task};

static RETIRE: Site = Site::new("completion.retire");
static END_WRITEBACK: Site = Site::new("completion.end-writeback");
static END_REQUEST: Site = Site::new("completion.end-request");

impl Fs {
    /// CW of an ordered extent whose IO is done.
    ///
    /// # Errors
    /// `Stopped`; other errors are kept in the inode and in the user's request.
    pub(crate) fn complete(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        let inode = &ordered.inode;
        assert!(ordered.is_io_done(), "X-1: after the device has answered");
        if ordered.has_failed() {
            inode.errors.set(write_error(ordered.block));
        }
        let ends_early = self.defects().has(Defect::DioCompletesBeforeConversion);
        if ends_early {
            self.end_request(task, ordered)?;
        }
        match self.settle(task, ordered) {
            Ok(()) => {}
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                self.abort(); // B-3: half a change must not become durable
                if !ordered.is_complete() {
                    let _ext = inode.ext.write(task)?;
                    // What the device has, a log may have (P1): it must not vanish. Nobody was told
                    // yet of what is direct.
                    if ordered.direct {
                        ordered.fail();
                    }
                    self.retire(inode, ordered);
                }
                ordered.fail();
                inode.errors.set(error);
            }
        }
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        task.site(&END_WRITEBACK, object, Access::Write)?;
        if !ordered.direct {
            for index in ordered.blocks.iter() {
                let page = inode.pages.find(index).ok_or(Error::Bug("writeback lost its page"))?;
                if ordered.has_failed() {
                    page.mark_unsaved();
                }
                inode.pages.end_writeback(&page); // CW.4
            }
        }
        if ends_early { Ok(()) } else { self.end_request(task, ordered) }
    }

    /// CW.5 to CW.7.
    fn end_request(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        let Some(iocb) = &ordered.iocb else { return Ok(()) };
        let object = Object::new(kind::ORDERED, ordered.inode.ino.0, ordered.blocks.start);
        task.site(&END_REQUEST, object, Access::Release)?;
        if ordered.has_failed() {
            iocb.fail_write(write_error(ordered.block));
        }
        // Assertion of CW.5: whatever is direct holds ML W, so nothing came into the cache.
        debug_assert!(
            ordered.inode.pages.first_in(ordered.blocks).is_none() || !self.defects().is_empty(),
            "CW.5: no page is cached"
        );
        self.end_piece(iocb); // CW.5, CW.6, CW.7
        Ok(())
    }

    /// CW.1 to CW.3: the trees and the extent map follow.
    fn settle(&self, task: &Task, ordered: &OrderedExtent) -> Result<()> {
        if ordered.is_complete() {
            debug_assert!(self.defects().has(Defect::AllocWrittenCrash));
            return Ok(());
        }
        let handle = self.store().join(task, Join::Completion)?; // CW.1
        assert_eq!(handle.generation(), ordered.transaction.0, "W-3: the commit waits for it");
        let _ext: Guard = ordered.inode.ext.write(task)?; // CW.2
        self.settle_in(task, &handle, ordered)
    } // CW.3: -EXT -TX

    /// CW.2 and CW.3. Under EXT W.
    pub(super) fn settle_in(
        &self,
        task: &Task,
        handle: &Handle,
        ordered: &OrderedExtent,
    ) -> Result<()> {
        let inode = &ordered.inode;
        let _growth = ordered.growth.take(); // nobody else takes it before the end
        ordered.reserve.take(); // for what follows: nothing runs in between
        let promised = self.store().completion_blocks(ordered.blocks.len());
        handle.reserve_blocks(promised).or_else(only_if_full)?;
        if ordered.has_failed() {
            self.undo_items(task, handle, ordered)?;
        } else {
            self.settle_items(task, handle, inode, ordered)?;
            self.insert_digests(task, handle, ordered)?;
        }
        let object = Object::new(kind::ORDERED, inode.ino.0, ordered.blocks.start);
        task.site(&RETIRE, object, Access::Write)?;
        self.retire(inode, ordered);
        if let Some(iocb) = ordered.iocb.as_ref().filter(|_| !ordered.has_failed()) {
            let (size, span) = iocb.add_piece(ordered.blocks);
            if !iocb.grows_late(self) {
                inode.grow(size, span); // everything up to there is readable
            }
        }
        let is_resized = inode.raise_disk_size();
        if ordered.kind == OrderedKind::Nocow && !is_resized {
            return Ok(()); // nothing of the tree has changed: fsync needs its barrier only
        }
        let transaction = TransactionId(handle.generation());
        if !inode.log.take_pair(transaction, ordered.blocks) || ordered.has_failed() {
            inode.log.note_range(transaction, ordered.blocks); // the log does not have it
        }
        self.write_item(task, handle, inode) // CW.3
    }

    /// What a failed write had allocated is free again; the tree never knew of it.
    fn undo_items(&self, task: &Task, handle: &Handle, ordered: &OrderedExtent) -> Result<()> {
        if self.defects().has(Defect::WriteErrorEmLogged) {
            let digests = ordered.digests.borrow().to_vec();
            let transaction = TransactionId(handle.generation());
            ordered.inode.log.note_failed(transaction, ordered.blocks, ordered.block, digests);
            return Ok(());
        }
        if ordered.kind == OrderedKind::Cow {
            self.store().free_data(task, handle, ordered.run())?;
        }
        Ok(())
    }

    /// CW.2: the checksums of what was written.
    fn insert_digests(&self, task: &Task, handle: &Handle, ordered: &OrderedExtent) -> Result<()> {
        let run = ordered.run();
        for (index, digest) in ordered.digests.borrow().iter().enumerate() {
            let key = csum_key(run.block + index as u64);
            self.store().put(task, handle, Tree::Csum, key, digest)?;
        }
        Ok(())
    }

    /// After a failed direct write behind the old end: blocks beyond the size hold nothing that a
    /// later change of size may expose. RL W of the range is held by the request.
    pub(crate) fn trim_beyond_end(&self, task: &Task, inode: &Inode, end: u64) -> Result<()> {
        let size = inode.size();
        if floor(size.next_multiple_of(BLOCK_BYTES)) >= end {
            return Ok(());
        }
        // The last block too: RL is held of whole blocks, and nobody wrote behind `end`.
        let beyond = Blocks::new(size.div_ceil(BLOCK_BYTES), end.div_ceil(BLOCK_BYTES));
        loop {
            let (handle, chunk) = self.join_due_chunk(task, inode, beyond)?;
            let _ext = self.write_extents(task, inode)?;
            self.drop_extents(task, &handle, inode, chunk.range)
                .and_then(|_| self.write_item(task, &handle, inode))
                .inspect_err(|_| self.abort())?;
            if chunk.range == beyond {
                return Ok(());
            }
        }
    }
}

/// A completion goes on without a reservation: it may use what is kept for it.
fn only_if_full(error: Error) -> Result<()> {
    match error {
        Error::NoSpace { .. } => Ok(()),
        other => Err(other),
    }
}

/// The error of a write that the device failed.
pub(crate) fn write_error(block: u64) -> Error {
    Error::Io { device: 0, block, what: "write data" }
}
