//! FREE: how a reference is given back, and what happens with the last one.
//!
//! Promises: the last reference takes the buffer out of the index before anybody can take another
//! (E-1), out of its pages, and frees its slot; nothing is lost by that (I4).

use super::Buffers;
use super::buffer::{Bits, Buffer, BufferId};
use super::steps::{FR1, FR3A, FR3B, FR4, FR5A, FR5B, FR5C, STALE};
use crate::error::Result;
use machine::{Access, Guard, Task};

impl Buffers {
    /// FREE: gives a reference back.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn free(&self, task: &Task, id: BufferId) -> Result<()> {
        let buffer = self.at(id, "eb.free")?;
        if self.rules.get().is_lockless() {
            self.step(task, &FR1, &buffer, Access::Write)?;
            if buffer.refs.get() > 3 {
                buffer.remove_holder(); // FR1
                return self.assert_block(buffer.block);
            }
        }
        let refs = self.lock_refs(task, &buffer)?; // FR2
        self.put(task, &buffer, refs)
    }

    /// FREE of a buffer whose block was given up: the cache lets go of it, too.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn free_stale(&self, task: &Task, id: BufferId) -> Result<()> {
        let buffer = self.at(id, "eb.free")?;
        let refs = self.lock_refs(task, &buffer)?; // FR2
        self.step(task, &STALE, &buffer, Access::Write)?;
        buffer.set(Bits::STALE);
        self.put(task, &buffer, refs)
    }

    /// FR3 to FR5, under EBREF.
    fn put(&self, task: &Task, buffer: &Buffer, refs: Option<Guard>) -> Result<()> {
        self.step(task, &FR3A, buffer, Access::Read)?;
        let is_last = buffer.refs.get() == 2 && !buffer.is_under_io();
        if is_last && buffer.has(Bits::STALE) {
            self.step(task, &FR3B, buffer, Access::Write)?;
            if buffer.has(Bits::TREE_REF) {
                buffer.clear(Bits::TREE_REF); // FR3
                buffer.refs.set(buffer.refs.get() - 1);
            }
        }
        self.step(task, &FR4, buffer, Access::Write)?;
        buffer.remove_holder(); // FR4
        self.assert_block(buffer.block)?;
        if buffer.refs.get() > 0 {
            return Ok(());
        }
        self.destroy(task, buffer, refs)
    }

    /// FR5: the last reference is gone. EBREF is given back once nobody can find the buffer.
    pub(super) fn destroy(&self, task: &Task, buffer: &Buffer, refs: Option<Guard>) -> Result<()> {
        let change = buffer.change();
        self.remove(task, buffer)?;
        drop((refs, change));
        self.detach(task, buffer)?;
        self.free_slot(buffer);
        self.assert_block(buffer.block)
    }

    fn remove(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        let _tree = self.tree_lock.lock(task)?;
        self.step(task, &FR5A, buffer, Access::Write)?;
        let mut state = self.state.borrow_mut();
        assert_eq!(state.index.remove(&buffer.block), Some(buffer.id), "I4: it was in the index");
        state.hidden.push(buffer.id);
        buffer.clear(Bits::IN_TREE);
        Ok(())
    }

    /// Lets go of the pages, but for those that belong to another buffer already.
    pub(super) fn detach(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        for page in &buffer.pages {
            let _private = self.private_lock.lock(task)?;
            self.step(task, &FR5B, buffer, Access::Read)?;
            if page.private.get() != Some(buffer.id) {
                continue;
            }
            self.step(task, &FR5C, buffer, Access::Write)?;
            page.private.set(None);
        }
        Ok(())
    }

    /// The memory is free: whoever still refers to it is mistaken (I5).
    pub(super) fn free_slot(&self, buffer: &Buffer) {
        let mut state = self.state.borrow_mut();
        state.slots.free(buffer.id);
        state.hidden.retain(|&id| id != buffer.id);
        drop(state);
        buffer.ended.wake_all();
    }
}
