//! FIND and ALLOC: how a reference to a buffer is taken.
//!
//! Promises: whoever has a reference finds the buffer in place until it is given back, and the
//! cache has a reference of its own at the moment of return (I2).

use super::buffer::{Bits, Buffer, BufferId};
use super::steps::{A2, A3, A4, FE1, FE2, FE3, FE4, FE5, RE4B};
use super::{Buffers, EBGONE};
use crate::defects::Defect;
use crate::error::Result;
use machine::{Access, Guard, Server, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

/// Locked pages, in order.
pub(super) type Locked = SmallVec<[Guard; 2]>;

/// Whose pages they turned out to be.
enum Attached {
    Mine(Locked),
    Anothers(BufferId),
}

impl Buffers {
    /// FIND: a reference to the buffer of a block, if there is one.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn find(&self, task: &Task, block: u64) -> Result<Option<BufferId>> {
        loop {
            self.assert_block(block)?;
            task.site(&FE1, self.object(block), Access::Read)?; // FE1
            let Some(buffer) = self.peek(block) else { return Ok(None) };
            if self.get(task, &buffer)? {
                return Ok(Some(buffer.id));
            }
            let gone = || !self.state.borrow().slots.is_live(buffer.id);
            let object = self.object(block);
            task.wait(&buffer.ended, &EBGONE, object, Server::Any, gone)?;
        }
    }

    /// FE1: what the index leads to. It may be freed at any time; its memory stays.
    pub(super) fn peek(&self, block: u64) -> Option<Rc<Buffer>> {
        let state = self.state.borrow();
        state.index.get(&block).and_then(|&id| state.slots.get(id))
    }

    /// FE2 to FE5; false if the buffer is being freed.
    fn get(&self, task: &Task, buffer: &Buffer) -> Result<bool> {
        let rules = self.rules.get();
        if !rules.is_lockless() {
            let _refs = self.lock_refs(task, buffer)?; // E-1
            if !self.take(task, &FE2, buffer)? {
                return Ok(false);
            }
            self.step(task, &FE5, buffer, Access::Write)?;
            buffer.give_tree_ref();
            return Ok(true);
        }
        if !self.take(task, &FE2, buffer)? {
            return Ok(false);
        }
        self.step(task, &FE3, buffer, Access::Read)?;
        if buffer.has(Bits::STALE) && !rules.defects.has(Defect::EbStaleFreeRace) {
            drop(self.lock_refs(task, buffer)?); // FE3: the freer is past FR4 now.
        }
        self.keep(task, &FE4, buffer)?;
        Ok(true)
    }

    /// `inc_not_zero(refs)`.
    pub(super) fn take(&self, task: &Task, site: &'static Site, buffer: &Buffer) -> Result<bool> {
        self.glance(task, site, buffer, Access::Write)?;
        if buffer.refs.get() == 0 && !self.rules.get().defects.has(Defect::EbLookupZeroRef) {
            return Ok(false);
        }
        buffer.add_holder();
        Ok(true)
    }

    /// `check_tree_ref`: FE4 where that is allowed to do without the lock, and FE5.
    pub(super) fn keep(&self, task: &Task, site: &'static Site, buffer: &Buffer) -> Result<()> {
        if self.rules.get().is_lockless() {
            self.step(task, site, buffer, Access::Read)?;
            if buffer.is_kept() {
                return Ok(());
            }
        }
        let _refs = self.lock_refs(task, buffer)?;
        self.step(task, &FE5, buffer, Access::Write)?;
        buffer.give_tree_ref();
        Ok(())
    }

    /// ALLOC: a reference to the buffer of a block, made if there is none. Its content is not read.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn alloc(&self, task: &Task, block: u64) -> Result<BufferId> {
        loop {
            if let Some(found) = self.find(task, block)? {
                return Ok(found); // A1
            }
            task.site(&A2, self.object(block), Access::Write)?;
            let buffer = self.create(block); // A2
            match self.attach(task, &buffer)? {
                Attached::Anothers(winner) => {
                    self.discard(task, &buffer)?;
                    return Ok(winner);
                }
                Attached::Mine(pages) => {
                    if self.insert(task, &buffer)? {
                        self.keep(task, &RE4B, &buffer)?; // A5
                        drop(pages); // A7
                        return Ok(buffer.id);
                    }
                    // EEXIST: the winner is found in the next round.
                    drop(pages);
                    self.discard(task, &buffer)?;
                }
            }
        }
    }

    fn create(&self, block: u64) -> Rc<Buffer> {
        let pages = self.pages(block);
        let mut state = self.state.borrow_mut();
        let buffer = state.slots.add(&self.machine, block, pages);
        state.hidden.push(buffer.id);
        buffer
    }

    /// A3: makes the pages the buffer's, and leaves them locked; or finds whose they are.
    fn attach(&self, task: &Task, buffer: &Buffer) -> Result<Attached> {
        let is_locked = !self.rules.get().defects.has(Defect::EbAttachPrivateUnlocked);
        let mut locked = Locked::new();
        for page in &buffer.pages {
            locked.push(page.lock.lock(task)?);
            let private = if is_locked { Some(self.private_lock.lock(task)?) } else { None };
            self.step(task, &A3, buffer, Access::Write)?;
            let other = page.private.get().and_then(|id| self.state.borrow().slots.get(id));
            if let Some(other) = other
                && self.get(task, &other)?
            {
                return Ok(Attached::Anothers(other.id));
            }
            // What is being freed sees that the page is not its own any more.
            page.private.set(Some(buffer.id));
            drop(private);
        }
        Ok(Attached::Mine(locked))
    }

    /// A4 and A6: the index leads to the buffer, unless it leads to another.
    fn insert(&self, task: &Task, buffer: &Buffer) -> Result<bool> {
        let _tree = self.tree_lock.lock(task)?;
        self.step(task, &A4, buffer, Access::Write)?;
        let mut state = self.state.borrow_mut();
        if state.index.contains_key(&buffer.block) {
            return Ok(false);
        }
        state.index.insert(buffer.block, buffer.id);
        state.hidden.retain(|&id| id != buffer.id);
        buffer.set(Bits::IN_TREE);
        Ok(true)
    }

    /// Frees a buffer that the index never led to.
    fn discard(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        buffer.remove_holder();
        self.detach(task, buffer)?;
        self.free_slot(buffer);
        Ok(())
    }
}
