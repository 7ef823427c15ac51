//! REL: reclaim wants the memory of a page, and takes the cache's reference of its buffer.
//!
//! Promises: nothing that is in use, under IO or dirty goes; nothing is waited for but locks that
//! are held for a moment. The lock of the page is held throughout: that is what lets a read make
//! sure of the reference (RE4b) without anybody in between.

use super::buffer::{Bits, Buffer};
use super::steps::{RL1, RL3A, RL3B, RL3C, RL3D, RL5, RL6};
use super::{Buffers, PAGES};
use crate::defects::Defect;
use crate::error::Result;
use machine::{Access, Task};

impl Buffers {
    /// REL: frees the buffer of a block if nobody but the cache refers to it. Whether it did.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn release(&self, task: &Task, block: u64) -> Result<bool> {
        if !self.state.borrow().pages.contains_key(&block) {
            return Ok(false);
        }
        // Reclaim comes by its list of pages, in which either may be the older one.
        let page = self.pages(block)[task.decide("buffer.page", PAGES as u32) as usize].clone();
        task.site(&RL1, self.object(block), Access::Write)?;
        let Some(_page) = page.lock.try_lock(task) else { return Ok(false) };
        let private = self.private_lock.lock(task)?; // RL1
        let Some(id) = page.private.get() else { return Ok(false) };
        let buffer = self.at(id, "eb.release")?;
        let mut refs = self.lock_refs(task, &buffer)?; // RL2
        if !self.is_idle(task, &buffer)? {
            return Ok(false); // RL3
        }
        drop(private); // RL4
        if self.rules.get().defects.has(Defect::EbReleaseCheckThenClearUnlocked) {
            drop(refs);
            refs = self.lock_refs(task, &buffer)?;
        }
        let change = buffer.change();
        self.step(task, &RL5, &buffer, Access::Write)?;
        if !buffer.has(Bits::TREE_REF) {
            return Ok(false);
        }
        buffer.clear(Bits::TREE_REF); // RL5
        self.step(task, &RL6, &buffer, Access::Write)?;
        buffer.refs.set(buffer.refs.get() - 1); // RL6
        drop(change);
        self.assert_block(block)?;
        if buffer.refs.get() == 0 {
            self.destroy(task, &buffer, refs)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// RL3: one question after the other, as they are in the code that the thread is about.
    fn is_idle(&self, task: &Task, buffer: &Buffer) -> Result<bool> {
        self.step(task, &RL3A, buffer, Access::Read)?;
        if buffer.refs.get() != 1 {
            return Ok(false);
        }
        self.step(task, &RL3B, buffer, Access::Read)?;
        if buffer.io_pages.get() > 0 {
            return Ok(false);
        }
        self.step(task, &RL3C, buffer, Access::Read)?;
        if buffer.has(Bits::WRITEBACK) {
            return Ok(false);
        }
        self.step(task, &RL3D, buffer, Access::Read)?;
        let looks = !self.rules.get().defects.has(Defect::EbReleaseIgnoresDirty);
        Ok(!(looks && buffer.has(Bits::DIRTY)))
    }

    /// REL for every block that has a buffer; how many were freed.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn release_all(&self, task: &Task) -> Result<usize> {
        let (mut freed, mut from) = (0, 0);
        while let Some(block) = self.blocks_from(from) {
            from = block + 1;
            freed += usize::from(self.release(task, block)?);
        }
        Ok(freed)
    }
}
