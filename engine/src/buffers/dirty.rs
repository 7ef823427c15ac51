//! DIRTY: changes of a buffer's content, and what makes its block new or old.
//!
//! Promises: content changes under EBLOCK only, and never under writeback; what is dirty has the
//! cache's reference from the very step on that makes it dirty (E-3).

use super::buffer::{Bits, Buffer, BufferId, Page};
use super::steps::{CLEAN, FILL, FRESH, SD1, SD2, SD3, WE4C};
use super::{Buffers, TAGS, Wait};
use crate::defects::Defect;
use crate::error::Result;
use machine::{Access, Block, Task};

impl Buffers {
    /// Replaces the content of a buffer that is up to date and that the caller refers to; EBLOCK is
    /// held.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn modify(&self, task: &Task, id: BufferId, content: Block) -> Result<()> {
        let buffer = self.at(id, "eb.modify")?;
        debug_assert!(buffer.lock.is_locked(), "under EBLOCK");
        self.wait_writeback(task, &buffer)?;
        self.step(task, &FILL, &buffer, Access::Write)?;
        assert!(buffer.has(Bits::UPTODATE), "what is changed was read before");
        assert!(!buffer.has(Bits::WRITEBACK), "STABLE: content stays under IO");
        *buffer.content.borrow_mut() = Some(content);
        self.set_dirty(task, &buffer)
    }

    /// Gives a buffer, whose block is in use from now on, its first content; EBLOCK is held.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn init(&self, task: &Task, id: BufferId, content: Block) -> Result<()> {
        let buffer = self.at(id, "eb.init")?;
        debug_assert!(buffer.lock.is_locked(), "under EBLOCK");
        self.wait_writeback(task, &buffer)?;
        // A read of what stood there before would end upon the new content.
        let pages = self.lock_pages(task, &buffer, Wait::Complete)?;
        self.step(task, &FRESH, &buffer, Access::Write)?;
        buffer.clear(Bits::STALE);
        buffer.set(Bits::UPTODATE);
        *buffer.content.borrow_mut() = Some(content);
        drop(pages);
        self.set_dirty(task, &buffer)
    }

    /// Puts content into a block, whatever it held: ALLOC, first content, FREE.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn put_content(&self, task: &Task, block: u64, content: Block) -> Result<()> {
        let id = self.alloc(task, block)?;
        let locked = self.lock(task, id)?;
        self.init(task, id, content)?;
        drop(locked);
        self.free(task, id)
    }

    /// The content is not wanted any more, as the block is given up; EBLOCK is held.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn clean(&self, task: &Task, id: BufferId) -> Result<()> {
        let buffer = self.at(id, "eb.clean")?;
        debug_assert!(buffer.lock.is_locked(), "under EBLOCK");
        self.wait_writeback(task, &buffer)?;
        {
            let _refs = self.lock_refs(task, &buffer)?; // E-1
            self.step(task, &CLEAN, &buffer, Access::Write)?;
            buffer.clear(Bits::DIRTY);
        }
        self.untag(task, &buffer, |_| {})
    }

    /// DIRTY.
    fn set_dirty(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        let defects = self.rules.get().defects;
        let change = buffer.change();
        if defects.has(Defect::EbDirtyCheckBeforeBit) {
            self.keep(task, &SD1, buffer)?;
            self.step(task, &SD2, buffer, Access::Write)?;
            buffer.set(Bits::DIRTY);
        } else if defects.has(Defect::EbDirtyBitBeforeCheck) {
            self.step(task, &SD2, buffer, Access::Write)?;
            buffer.set(Bits::DIRTY);
            self.keep(task, &SD1, buffer)?;
        } else {
            let _refs = self.lock_refs(task, buffer)?; // E-1
            self.step(task, &SD2, buffer, Access::Write)?;
            buffer.set(Bits::DIRTY); // SD2, and then SD1: E-3
            self.step(task, &SD1, buffer, Access::Write)?;
            buffer.give_tree_ref();
        }
        drop(change);
        self.assert_block(buffer.block)?;
        let _tree = self.tree_lock.lock(task)?;
        task.site(&SD3, TAGS, Access::Write)?;
        self.state.borrow_mut().dirty.insert(buffer.block); // SD3
        Ok(())
    }

    /// Takes the tag of dirty pages away, and in the same step what `instead` does to each: who
    /// waits for all writes finds a page with the tag or with a write.
    pub(super) fn untag(
        &self,
        task: &Task,
        buffer: &Buffer,
        instead: impl Fn(&Page),
    ) -> Result<()> {
        let _tree = self.tree_lock.lock(task)?;
        task.site(&WE4C, TAGS, Access::Write)?;
        self.state.borrow_mut().dirty.remove(&buffer.block);
        buffer.pages.iter().for_each(|page| instead(page));
        Ok(())
    }
}
