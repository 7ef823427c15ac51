//! TRUNCATE: a file gets another size (races.md §7.4); and dropping what lies behind the end of a
//! file in chunks, which deletion does too.
//!
//! Promises: every committed state of a truncate in flight is a prefix of the file, and the next
//! mount finishes it; a full device can be emptied. It must never know names.

use super::arguments::check_size;
use super::chunk::Chunk;
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::span::{Blocks, Span};
use crate::store::{Handle, InodeItem, OrphanItem, Tree};
use crate::types::{BLOCK_BYTES, TransactionId};
use machine::{Access, Guard, Mode, Object, Range, Site, Task};
use std::rc::Rc;

static EXTEND: Site = Site::new("truncate.extend");
static SIZE: Site = Site::new("truncate.size");
static BEGIN: Site = Site::new("truncate.begin");
static EVICT: Site = Site::new("truncate.evict");
static TAIL: Site = Site::new("truncate.tail");
static DROP: Site = Site::new("truncate.drop");

/// One past the last block that a file can have.
pub(crate) const BLOCKS_END: u64 = u64::MAX / BLOCK_BYTES;

/// What the last of the chunks does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The file goes on with this size in bytes.
    Truncated(u64),
    /// The inode goes, too; its orphan item says so already.
    Deleted,
}

impl Ending {
    const fn size(self) -> u64 {
        match self {
            Ending::Truncated(size) => size,
            Ending::Deleted => 0,
        }
    }
}

impl File {
    /// Sets the size in bytes; what a growing file gets reads as zeros.
    ///
    /// # Errors
    /// `EFBIG`; those of reading and of trees.
    pub fn truncate(&self, task: &Task, size: u64) -> Result<()> {
        self.fs().truncate(task, self.inode(), size)
    }
}

impl Fs {
    fn truncate(&self, task: &Task, inode: &Rc<Inode>, size: u64) -> Result<()> {
        check_size(size)?;
        let lock = || lock_sizes(task, inode, size);
        let rl = self.lock_unheld(task, inode, lock)?; // TRUNCATE.1, TRUNCATE.2, W-6
        if size > inode.size() {
            return self.extend(task, inode, rl.range(), size);
        }
        self.make_room(task)?; // W-5: only RL is held
        self.shrink(task, inode, rl.range(), size, None)
    } // TRUNCATE.7: -ML -RL

    /// TRUNCATE to a greater size, with RL W of everything from the old one on.
    fn extend(&self, task: &Task, inode: &Rc<Inode>, range: Range, size: u64) -> Result<()> {
        // what lay behind the end is zero before it can be seen. Fills take ML themselves.
        let keeps = self.defects().has(Defect::PostEofNotZeroed);
        if !keeps {
            self.clear_tail(task, inode, size)?; // TRUNCATE.4
        }
        let _ml = inode.ml.lock(task, range, Mode::Write)?; // TRUNCATE.3
        let handle = self.join_for(task, 1)?;
        let _ext = self.write_extents(task, inode)?;
        task.site(&EXTEND, object(inode), Access::Write)?;
        let old = inode.size();
        let kept = Span::new(old, if keeps { size } else { old });
        inode.grow(size, kept); // TRUNCATE.4
        inode.raise_disk_size();
        self.write_item(task, &handle, inode).inspect_err(|_| self.abort())
    }

    /// TRUNCATE to a size that is not greater, with RL W of everything from it on. `began` is the
    /// transaction of the orphan record, if there is one already.
    pub(super) fn shrink(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        range: Range,
        size: u64,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let tail = Span::new(size, size.next_multiple_of(BLOCK_BYTES));
        if !tail.is_empty() && size < inode.size() {
            // An error of the device shows before anything has changed.
            self.page_in(task, inode, size / BLOCK_BYTES)?;
        }
        let is_late = self.defects().has(Defect::TruncateSizeLast);
        let ml = (!is_late).then(|| inode.ml.lock(task, range, Mode::Write));
        let _ml = ml.transpose()?; // TRUNCATE.3
        let begin = || match began {
            None => self.begin_truncate(task, inode, size), // TRUNCATE.4
            began => self.lower_size(task, inode, size).map(|()| began),
        };
        let begun = if is_late { None } else { Some(begin()?) };
        task.site(&EVICT, object(inode), Access::Write)?;
        let rest = Blocks::new(tail.end / BLOCK_BYTES, BLOCKS_END);
        self.evict(task, inode, rest)?; // TRUNCATE.5, P-5
        task.site(&TAIL, object(inode), Access::Write)?;
        let edge = is_late && !tail.is_empty();
        let edge = edge.then(|| inode.ml.lock(task, tail.lock_range(), Mode::Write)).transpose()?;
        let zeroed = self.zero_partial(task, inode, tail); // TRUNCATE.5
        drop(edge);
        self.wait_ordered(task, inode, rest)?; // TRUNCATE.5
        let began = begun.map_or_else(begin, Ok)?;
        let dropped = self.drop_behind(task, inode, Ending::Truncated(size), began); // TRUNCATE.6
        // What is left behind the end must never be seen again: nothing may follow.
        dropped.inspect_err(|_| self.abort())?;
        match zeroed {
            Err(Error::NoSpace { .. }) => self.zero_unsaved(task, inode, tail),
            other => other,
        }
    }

    /// TRUNCATE.4: i_size first, so that no fault brings a page back (L5.2).
    pub(super) fn lower_size(&self, task: &Task, inode: &Inode, size: u64) -> Result<()> {
        task.site(&SIZE, object(inode), Access::Write)?;
        let _ext = inode.ext.write(task)?;
        inode.lower_size(size);
        Ok(())
    }

    /// TRUNCATE.4, and what TRUNCATE.6 says of the orphan record and disk_i_size, before any page
    /// goes: a commit in between would show again what the dirty ones replace. Tells in which
    /// transaction; none for a file without a name, or of which nothing durable goes. ML W and RL W
    /// from the new size on are held.
    ///
    /// # Errors
    /// `NoSpace` before anything has changed: writeback forgets what it finds behind the end.
    fn begin_truncate(
        &self,
        task: &Task,
        inode: &Inode,
        size: u64,
    ) -> Result<Option<TransactionId>> {
        let joined = match self.join_freeing(task, 3) {
            Err(error @ Error::NoSpace { .. }) => Err(error),
            joined => Ok(joined?),
        };
        task.site(&SIZE, object(inode), Access::Write)?;
        let _ext = self.write_extents(task, inode)?;
        // Beyond disk_i_size nothing is durable; from here on that does not rise above the size.
        if size >= inode.disk_size() {
            inode.lower_size(size);
            return Ok(None);
        }
        let handle = joined?;
        inode.lower_size(size);
        task.site(&BEGIN, object(inode), Access::Write)?;
        if inode.item().nlink == 0 {
            return Ok(None); // its orphan record says more
        }
        let transaction = TransactionId(handle.generation());
        inode.lower_disk_size(size);
        inode.log.note_shrunk(transaction);
        let key = OrphanItem::key(inode.ino);
        let orphan = OrphanItem::Truncate { size };
        self.store()
            .put(task, &handle, Tree::Fs, key, &orphan.encode())
            .and_then(|()| self.write_item(task, &handle, inode))
            .inspect_err(|_| self.abort())?;
        Ok(Some(transaction))
    }

    /// TRUNCATE.6: drops the extents behind the end chunk by chunk, from the last on; `began` is
    /// the transaction of the orphan record, which the last chunk removes. ML W and RL W of all of
    /// it are held, no page of it is cached and nothing of it is in flight.
    pub(super) fn drop_behind(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        ending: Ending,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let all = Blocks::new(ending.size().div_ceil(BLOCK_BYTES), BLOCKS_END);
        loop {
            task.site(&DROP, object(inode), Access::Write)?;
            let (handle, chunk) = self.join_due_chunk(task, inode, all)?;
            let _ext = self.write_extents(task, inode)?;
            let is_last = chunk.range == all;
            let dropped = self.drop_chunk(task, &handle, inode, chunk).and_then(|()| {
                let end = if is_last { Some(ending) } else { None };
                self.end_chunk_with(task, &handle, inode, end, began)
            });
            dropped.inspect_err(|_| self.abort())?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// One chunk. Every committed state is a prefix: what is dropped lies behind disk_i_size. Under
    /// EXT W.
    fn drop_chunk(&self, task: &Task, handle: &Handle, inode: &Inode, chunk: Chunk) -> Result<()> {
        self.drop_extents(task, handle, inode, chunk.range)?;
        inode.lower_disk_size(chunk.range.start * BLOCK_BYTES);
        inode.log.note_shrunk(TransactionId(handle.generation()));
        Ok(())
    }

    /// What a chunk does to the inode: `end` is what the last one does. Under EXT W.
    fn end_chunk_with(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        end: Option<Ending>,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let orphan = OrphanItem::key(inode.ino);
        match end {
            None => {}
            Some(Ending::Deleted) => {
                self.store().delete(task, handle, Tree::Fs, InodeItem::key(inode.ino))?;
                self.store().delete(task, handle, Tree::Fs, orphan)?;
                return Ok(());
            }
            Some(Ending::Truncated(size)) => {
                inode.lower_disk_size(size);
                inode.raise_disk_size(); // what delayed it may have been evicted
                // A file without a name has an orphan record that says more.
                if let Some(began) = began.filter(|_| inode.item().nlink > 0) {
                    self.store().delete(task, handle, Tree::Fs, orphan)?;
                    note_record_removed(inode, began, TransactionId(handle.generation()));
                }
            }
        }
        self.write_item(task, handle, inode)
    }
}

/// A log of the transaction would be replayed under a record that cuts the file again, unless that
/// record is of the same transaction.
fn note_record_removed(inode: &Inode, began: TransactionId, now: TransactionId) {
    debug_assert!(began <= now, "a record is made before it is removed");
    if began != now {
        inode.log.note_must_commit(now, "its truncate began in an earlier transaction");
    }
}

/// TRUNCATE.2: RL W from the old or the new size on, whichever is less, as they are when the lock
/// is granted (§7.2).
fn lock_sizes(task: &Task, inode: &Rc<Inode>, size: u64) -> Result<Guard> {
    let resolved = inode.clone();
    let resolve = move || Span::from(size.min(resolved.size())).lock_range();
    Ok(inode.rl.lock_resolved(task, Rc::new(resolve))?)
}

fn object(inode: &Inode) -> Object {
    Object::new(kind::INODE, inode.ino.0, 0)
}
