//! TRUNCATE: a file gets another size (races.md §7.4); and dropping what lies behind the end of a
//! file in chunks, which deletion does too.
//!
//! Promises: every committed state of a truncate in flight is a prefix of the file, and the next
//! mount finishes it; a full device can be emptied. It must never know names.

use super::arguments::check_size;
use super::chunk::Chunk;
use crate::classes::kind;
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
        // TRUNCATE.1: nobody but us knows where blocks lie, there are no layouts to recall (W-6).
        let rl = lock_sizes(task, inode, size)?; // TRUNCATE.2
        if size > inode.size() {
            return self.extend(task, inode, rl.range(), size);
        }
        self.shrink(task, inode, rl.range(), size, None)
    } // TRUNCATE.7: -ML -RL

    /// TRUNCATE to a greater size, with RL W of everything from the old one on.
    fn extend(&self, task: &Task, inode: &Rc<Inode>, range: Range, size: u64) -> Result<()> {
        // what lay behind the end is zero before it can be seen. Fills take ML themselves.
        self.clear_tail(task, inode, size)?; // TRUNCATE.4
        let _ml = inode.ml.lock(task, range, Mode::Write)?; // TRUNCATE.3
        let handle = self.join_for(task, 1)?;
        let _ext = self.write_extents(task, inode)?;
        task.site(&EXTEND, object(inode), Access::Write)?;
        let old = inode.size();
        inode.grow(size, Span::new(old, old)); // TRUNCATE.4
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
        let _ml = inode.ml.lock(task, range, Mode::Write)?; // TRUNCATE.3
        self.lower_size(task, inode, size)?; // TRUNCATE.4
        task.site(&EVICT, object(inode), Access::Write)?;
        let rest = Blocks::new(tail.end / BLOCK_BYTES, BLOCKS_END);
        self.evict(task, inode, rest)?; // TRUNCATE.5, P-5
        task.site(&TAIL, object(inode), Access::Write)?;
        let zeroed = self.zero_partial(task, inode, tail); // TRUNCATE.5
        self.wait_ordered(task, inode, rest)?; // TRUNCATE.5
        let dropped = self.drop_behind(task, inode, Ending::Truncated(size), began); // TRUNCATE.6
        // What is left behind the end must never be seen again: nothing may follow.
        dropped.inspect_err(|_| self.abort())?;
        match zeroed {
            // On a full device X-8 is left to whoever raises the size.
            Err(Error::NoSpace { .. }) => Ok(()),
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

    /// TRUNCATE.6: drops the extents behind the end chunk by chunk, from the last on. Each
    /// transaction lowers disk_i_size to what it leaves, and as long as there is more to do an
    /// orphan record says so. ML W and RL W of all of it are held, no page of it is cached and
    /// nothing of it is in flight.
    pub(super) fn drop_behind(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        ending: Ending,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let all = Blocks::new(ending.size().div_ceil(BLOCK_BYTES), BLOCKS_END);
        let mut began = began;
        loop {
            task.site(&DROP, object(inode), Access::Write)?;
            let (handle, chunk) = self.join_chunk(task, inode, all)?;
            let _ext = self.write_extents(task, inode)?;
            let dropped = self.drop_chunk(task, &handle, inode, chunk, ending, began);
            dropped.inspect_err(|_| self.abort())?;
            if chunk.range == all {
                return Ok(());
            }
            began = began.or(Some(TransactionId(handle.generation())));
        }
    }

    /// One chunk, in one transaction. Under EXT W.
    fn drop_chunk(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        chunk: Chunk,
        ending: Ending,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let size = ending.size();
        let is_last = chunk.range.start == size.div_ceil(BLOCK_BYTES);
        let transaction = TransactionId(handle.generation());
        self.drop_extents(task, handle, inode, chunk.range)?;
        let left = if is_last { size } else { chunk.range.start * BLOCK_BYTES };
        inode.lower_disk_size(left); // every committed state is a prefix
        inode.log.note_shrunk(transaction);
        let orphan = OrphanItem::key(inode.ino);
        match ending {
            Ending::Deleted if is_last => {
                self.store().delete(task, handle, Tree::Fs, InodeItem::key(inode.ino))?;
                self.store().delete(task, handle, Tree::Fs, orphan)?;
                return Ok(());
            }
            // A file without a name has an orphan record that says more.
            Ending::Truncated(_) if inode.item().nlink > 0 => {
                self.record_truncate(task, handle, inode, size, is_last, began)?;
            }
            _ => {}
        }
        if is_last {
            inode.raise_disk_size(); // what delayed it may have been evicted
        }
        self.write_item(task, handle, inode)
    }

    /// The orphan record of a truncate: made with the first chunk, removed with the last.
    fn record_truncate(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        size: u64,
        is_last: bool,
        began: Option<TransactionId>,
    ) -> Result<()> {
        let key = OrphanItem::key(inode.ino);
        match began {
            None if !is_last => {
                let orphan = OrphanItem::Truncate { size };
                self.store().put(task, handle, Tree::Fs, key, &orphan.encode())
            }
            Some(began) if is_last => {
                self.store().delete(task, handle, Tree::Fs, key)?;
                let transaction = TransactionId(handle.generation());
                if began != transaction {
                    // A log would be replayed under a record that cuts the file again.
                    let why = "its truncate began in an earlier transaction";
                    inode.log.note_must_commit(transaction, why);
                }
                Ok(())
            }
            _ => Ok(()),
        }
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
