//! FALLOCATE: blocks for a range of a file before there are data.
//!
//! ```text
//! FALLOCATE  1 +RL W (EOF rule)  2 zero the end of the file (X-8)  3 reserve space (W-5)
//!            4 TX, EXT W: every hole becomes unwritten; size  5 -EXT -TX -RL
//! ```
//!
//! Promises: the content of the file does not change, but for zeros behind its end; an error for
//! want of space leaves the size as it was. It must never know pages.

use super::arguments::check_allocation;
use crate::classes::kind;
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::extents::Piece;
use crate::inode::span::{Blocks, Span};
use crate::store::{ExtentKind, Handle, Reserve};
use machine::{Access, Guard, Mode, Object, Site, Task};
use std::rc::Rc;

static RESERVE: Site = Site::new("fallocate.reserve");
static ALLOCATE: Site = Site::new("fallocate.allocate");
static SIZE: Site = Site::new("fallocate.size");

/// Tree nodes that one more item of an extent may add to those that a transaction has copied.
const BLOCKS_PER_INSERT: u64 = 2;

impl File {
    /// Gives every block that `span` touches a place on the device. Unless `keep_size`, the file
    /// reaches to the end of `span` afterwards at least.
    ///
    /// # Errors
    /// `EINVAL` for an empty span, `EFBIG`, `NoSpace`; those of trees.
    pub fn fallocate(&self, task: &Task, span: Span, keep_size: bool) -> Result<()> {
        check_allocation(span)?;
        self.fs().fallocate(task, self.inode(), span, keep_size)
    }
}

impl Fs {
    fn fallocate(&self, task: &Task, inode: &Rc<Inode>, span: Span, keep: bool) -> Result<()> {
        let _rl = self.lock_allocation(task, inode, span, keep)?; // FALLOCATE.1
        if !keep {
            self.clear_tail(task, inode, span.end)?; // FALLOCATE.2, X-8
        }
        let reserve = self.reserve_holes(task, inode, span.blocks())?; // FALLOCATE.3
        let size = if keep { 0 } else { span.end };
        self.allocate_range(task, inode, span.blocks(), size, reserve) // FALLOCATE.4
    } // FALLOCATE.5

    /// FALLOCATE.1: RL W of the range; up to the end of everything if the size may change.
    pub(super) fn lock_allocation(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        keep: bool,
    ) -> Result<Guard> {
        if keep {
            let lock = || Ok(inode.rl.lock(task, span.lock_range(), Mode::Write)?);
            return self.lock_unheld(task, inode, lock);
        }
        self.lock_write(task, inode, span)
    }

    /// FALLOCATE.3: space for the holes of a range, which RL W keeps from growing.
    fn reserve_holes(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<Reserve> {
        task.site(&RESERVE, Object::new(kind::INODE, inode.ino.0, 0), Access::Read)?;
        let holes = {
            let _ext = self.read_extents(task, inode)?;
            let map = inode.extents.borrow();
            let extents = map.overlapping(blocks).map(|it| it.blocks.intersection(blocks).len());
            blocks.len() - extents.sum::<u64>()
        };
        self.reserve_blocks(task, holes)
    }

    /// FALLOCATE.4: every hole of a range becomes unwritten, and the size at least `size`, in one
    /// transaction.
    pub(super) fn allocate_range(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        size: u64,
        reserve: Reserve,
    ) -> Result<()> {
        let handle = self.join_for(task, 4)?;
        let _ext = self.write_extents(task, inode)?;
        let filled = self.fill_holes(task, &handle, inode, blocks, reserve);
        task.site(&SIZE, Object::new(kind::INODE, inode.ino.0, 0), Access::Write)?;
        if filled.is_ok() {
            let old = inode.size();
            inode.grow(size, Span::new(old, old));
            inode.raise_disk_size(); // X-7
        }
        self.write_item(task, &handle, inode).inspect_err(|_| self.abort())?;
        filled
    }

    /// Every hole of a range becomes unwritten. Under EXT W. What was allocated before an error
    /// stays: it reads as zeros, as before.
    ///
    /// # Errors
    /// `NoSpace`; others abort.
    pub(super) fn fill_holes(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Rc<Inode>,
        blocks: Blocks,
        reserve: Reserve,
    ) -> Result<()> {
        let pieces = inode.extents.borrow().pieces(blocks);
        for piece in pieces {
            let Piece::Hole(hole) = piece else { continue };
            let mut rest = hole;
            while !rest.is_empty() {
                let object = Object::new(kind::INODE, inode.ino.0, rest.start);
                task.site(&ALLOCATE, object, Access::Write)?;
                rest.start += self.fill_hole(task, handle, inode, rest, &reserve)?;
            }
        }
        Ok(())
    }

    /// Gives the start of a hole blocks that lie together. Tells how many.
    fn fill_hole(
        &self,
        task: &Task,
        handle: &Handle,
        inode: &Inode,
        hole: Blocks,
        reserve: &Reserve,
    ) -> Result<u64> {
        handle.reserve_blocks(BLOCKS_PER_INSERT)?; // before anything is changed
        let hint = self.hint_for(inode, hole.start);
        let run = self.store().allocate_data(task, handle, hole.len(), hint, Some(reserve))?;
        debug_assert!(run.len_blocks <= hole.len(), "no more than was asked for");
        let blocks = Blocks::new(hole.start, hole.start + run.len_blocks);
        // X-1: unwritten until data are there.
        let kind = ExtentKind::Unwritten;
        match self.insert_extent(task, handle, inode, blocks, run.block, kind) {
            Ok(()) => Ok(run.len_blocks),
            Err(Error::Stopped) => Err(Error::Stopped),
            Err(error) => {
                self.abort();
                Err(error)
            }
        }
    }
}
