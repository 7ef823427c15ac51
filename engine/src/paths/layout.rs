//! LAYOUT: a holder is told where blocks of a file lie, and writes them past the file system, until
//! it is asked to give them back.
//!
//! ```text
//! GRANT   1 layouts(W-6) 2 +RL W 3 files that are written in place only, blocks within the size
//!         4 +ML W 5 flush+wait, evict, OEWAIT 6 EXT R: nobody else refers to any block; space for
//!         the end of writes 7 the holder has the layout 8 -ML -RL
//! LWRITE  1 count the write; EAGAIN if there is no layout, or it was asked for  2 submit, wait
//!         3 +ML W 4 evict 5 TX, EXT W: Unwritten -> Written, log marks, -EXT -TX 6 -ML
//!         7 count it no more: the last one gives back a layout that was asked for
//! BREAK   1 ask for all layouts of the file 2 wait until they are given back: blocking, with no
//!         lock held 3 +RL W 4 look again: if there is one, -RL and from 1 (W-6)
//! ```
//!
//! GRANT is Linux's `xfs_fs_map_blocks`, LWRITE.3 to 6 `xfs_fs_commit_blocks`, BREAK
//! `xfs_break_leased_layouts`. Whoever changes a file breaks first. A write fault does, too, but
//! with RL held by its caller, perhaps: hence LWRITE takes none.
//!
//! Promises: while a holder writes, its blocks stay where they are, nobody else refers to them, and
//! no dirty page is in front of them. It must never know what the holder is.

use super::remap::Sides;
use crate::classes::{LAYOUT, kind};
use crate::defects::Defect;
use crate::error::{Errno, Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::extents::{Extent, ExtentState};
use crate::inode::layouts::Layout;
use crate::inode::span::{Blocks, Span};
use crate::store::ExtentKind;
use crate::types::{BLOCK_BYTES, TransactionId};
use machine::disk::{Data, Note, Request};
use machine::{Access, Block, DeviceId, Mode, Object, Server, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static GRANT: Site = Site::new("layout.grant");
static WRITE: Site = Site::new("layout.write");
static COMMIT: Site = Site::new("layout.commit");
static END: Site = Site::new("layout.end");
static RECALL: Site = Site::new("layout.recall");

/// Changes of items that the end of a write takes at most: an extent cut in three and put in again,
/// and the inode.
const CHANGES: u64 = 5;

impl File {
    /// Lets a holder write the blocks of a range itself.
    ///
    /// # Errors
    /// `EOPNOTSUPP` unless the file is overwritten in place and has no checksums; `EAGAIN` if a
    /// block is a hole, is shared, or does not lie within the size; those of writeback.
    pub fn grant_layout(&self, task: &Task, span: Span) -> Result<()> {
        self.fs().grant_layout(task, self.inode(), span)
    }

    /// Writes as a holder of a layout: to the blocks of the device, which are part of the file when
    /// this returns. Nothing is made durable. Tells how many bytes.
    ///
    /// # Errors
    /// `EINVAL` unless it is about whole blocks; `EAGAIN` if no layout holds them all; `Io`.
    pub fn layout_write(&self, task: &Task, offset: u64, source: &[u8]) -> Result<usize> {
        let span = Span::of(offset, source.len() as u64)?;
        if !offset.is_multiple_of(BLOCK_BYTES) || !span.len().is_multiple_of(BLOCK_BYTES) {
            return Err(Errno::EINVAL.into());
        }
        if !span.is_empty() {
            self.fs().layout_write(task, self.inode(), span.blocks(), source)?;
        }
        Ok(source.len())
    }
}

impl Fs {
    /// GRANT.
    fn grant_layout(&self, task: &Task, inode: &Rc<Inode>, span: Span) -> Result<()> {
        let blocks = span.blocks();
        if inode.has_datacow() {
            return Err(Errno::EOPNOTSUPP.into()); // GRANT.3
        }
        let lock = || Ok(inode.rl.lock(task, span.lock_range(), Mode::Write)?);
        let _rl = self.lock_unheld(task, inode, lock)?; // GRANT.1, GRANT.2
        if blocks.is_empty() || blocks.bytes().end > inode.size() {
            return Err(Errno::EAGAIN.into()); // GRANT.3
        }
        let growth = self.store().reserve_growth(blocks.len())?;
        let _ml = inode.ml.lock(task, blocks.bytes().lock_range(), Mode::Write)?; // GRANT.4
        self.flush_range(task, inode, blocks.bytes())?; // GRANT.5
        self.evict(task, inode, blocks)?; // GRANT.5
        self.wait_ordered(task, inode, blocks)?; // GRANT.5
        let _ext = self.read_extents(task, inode)?;
        let found: SmallVec<[Extent; 2]> = {
            let map = inode.extents.borrow();
            map.overlapping(blocks).map(|extent| extent.clipped(blocks)).collect()
        };
        let len: u64 = found.iter().map(|extent| extent.blocks.len()).sum();
        let mut is_own = len == blocks.len();
        for extent in &found {
            is_own = is_own && self.is_overwritable(task, inode, extent)?; // GRANT.6
        }
        if !is_own {
            return Err(Errno::EAGAIN.into());
        }
        task.site(&GRANT, object(inode, blocks.start), Access::Write)?;
        inode.layouts.grant(Layout::new(blocks, found, growth)); // GRANT.7
        Ok(())
    } // GRANT.8

    /// LWRITE.
    fn layout_write(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        source: &[u8],
    ) -> Result<()> {
        task.site(&WRITE, object(inode, blocks.start), Access::Read)?;
        let layout = inode.layouts.begin_write(blocks); // LWRITE.1
        let layout = layout.ok_or(Error::Refused(Errno::EAGAIN))?;
        let written = self
            .write_raw(task, inode, &layout.pieces(blocks), source)
            .and_then(|()| self.commit_layout(task, inode, &layout, blocks));
        task.site(&END, object(inode, blocks.start), Access::Write)?;
        inode.layouts.end_write(&layout); // LWRITE.7
        written
    }

    /// LWRITE.2: the holder knows nothing of files.
    fn write_raw(
        &self,
        task: &Task,
        inode: &Inode,
        pieces: &[Extent],
        source: &[u8],
    ) -> Result<()> {
        let mut rest = source.chunks_exact(BLOCK_BYTES as usize).map(Block::from_slice);
        for piece in pieces {
            let contents: SmallVec<[Block; 4]> =
                rest.by_ref().take(piece.blocks.len() as usize).collect();
            let (device, block, payload) = (DeviceId(0), piece.block, Data::from(&contents[..]));
            let request = Request::Write { device, block, payload, sectors: None, fua: false };
            let bio = task.submit(request, Note { what: "data", tag: inode.ino.0 })?;
            bio.wait(task)?.map_err(|_| super::completion::write_error(block))?;
        }
        Ok(())
    }

    /// LWRITE.3 to LWRITE.6: what was written is part of the file.
    fn commit_layout(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        layout: &Layout,
        blocks: Blocks,
    ) -> Result<()> {
        let _ml = inode.ml.lock(task, blocks.bytes().lock_range(), Mode::Write)?; // LWRITE.3
        let is_clean = inode.pages.first_dirty(blocks).is_none();
        debug_assert!(is_clean || !self.defects().is_empty(), "whoever dirties breaks first");
        self.evict(task, inode, blocks)?; // LWRITE.4: reads see the device
        let is_unwritten = {
            let _ext = self.read_extents(task, inode)?;
            layout.pieces(blocks).iter().any(|piece| is_still(inode, piece))
        };
        if !is_unwritten {
            return Ok(()); // nothing of the tree changes: fsync needs its barrier only
        }
        drop(layout.take_growth()); // for what follows
        let handle = self.join_for(task, CHANGES)?;
        let _ext = self.write_extents(task, inode)?;
        task.site(&COMMIT, object(inode, blocks.start), Access::Write)?;
        for piece in layout.pieces(blocks) {
            for found in pieces_of(inode, &piece) {
                self.convert(task, &handle, inode, &found).inspect_err(|_| self.abort())?;
            }
        }
        inode.raise_disk_size(); // X-7
        self.write_item(task, &handle, inode).inspect_err(|_| self.abort())
    }

    /// LWRITE.5: X-1, the device has acknowledged what is there. Under EXT W.
    fn convert(
        &self,
        task: &Task,
        handle: &crate::store::Handle,
        inode: &Rc<Inode>,
        piece: &Extent,
    ) -> Result<()> {
        self.drop_items(task, handle, inode.ino, piece.blocks, false)?;
        let (blocks, block) = (piece.blocks, piece.block);
        self.insert_item(task, handle, inode.ino, blocks, block, ExtentKind::Written)?;
        let generation = TransactionId(handle.generation());
        let mut map = inode.extents.borrow_mut();
        map.remove(blocks);
        map.insert(Extent { blocks, block, state: ExtentState::Written, generation });
        inode.log.note_range(generation, blocks);
        Ok(())
    }

    /// BREAK around what locks a file for a change of it: nobody has a layout of the file, and
    /// nobody gets one while the lock is held.
    pub(super) fn lock_unheld<T>(
        &self,
        task: &Task,
        inode: &Inode,
        lock: impl Fn() -> Result<T>,
    ) -> Result<T> {
        loop {
            self.break_layouts(task, inode)?; // BREAK.1, BREAK.2
            let locked = lock()?; // BREAK.3
            if inode.layouts.is_empty() {
                return Ok(locked); // BREAK.4
            }
            drop(locked);
            task.progress("breaking layouts")?;
        }
    }

    /// BREAK for both sides of a remap.
    pub(super) fn lock_sides_unheld<T>(
        &self,
        task: &Task,
        sides: &Sides,
        lock: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let spares_source = self.defects().has(Defect::RemapSourceLayoutUnbroken);
        loop {
            if !spares_source {
                self.break_layouts(task, &sides.source)?;
            }
            self.break_layouts(task, &sides.target)?;
            let locked = lock()?;
            let is_held = |inode: &Inode| !inode.layouts.is_empty();
            let rechecks = !self.defects().has(Defect::RemapLayoutNotRechecked);
            if !rechecks || !(is_held(&sides.target) || !spares_source && is_held(&sides.source)) {
                return Ok(locked);
            }
            drop(locked);
            task.progress("breaking layouts")?;
        }
    }

    /// BREAK.1 and BREAK.2. At most RL is held, by who writes to memory; no other lock.
    pub(super) fn break_layouts(&self, task: &Task, inode: &Inode) -> Result<()> {
        if inode.layouts.is_empty() {
            return Ok(());
        }
        task.site(&RECALL, object(inode, 0), Access::Write)?;
        inode.layouts.recall();
        let given_back = || !inode.layouts.has_recalled();
        let returned = inode.layouts.returned();
        Ok(task.wait(returned, &LAYOUT, object(inode, 0), Server::Any, given_back)?)
    }
}

/// What of a piece of a layout is unwritten, and where the layout says. Under EXT.
fn pieces_of(inode: &Inode, piece: &Extent) -> SmallVec<[Extent; 2]> {
    let map = inode.extents.borrow();
    map.overlapping(piece.blocks)
        .map(|extent| extent.clipped(piece.blocks))
        .filter(|found| {
            matches!(found.state, ExtentState::Unwritten)
                && found.block == piece.block_of(found.blocks.start)
        })
        .collect()
}

fn is_still(inode: &Inode, piece: &Extent) -> bool {
    !pieces_of(inode, piece).is_empty()
}

fn object(inode: &Inode, block: u64) -> Object {
    Object::new(kind::INODE, inode.ino.0, block)
}
