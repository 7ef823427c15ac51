//! WRITE: dirty buffers go to the medium, in place, page by page.
//!
//! Promises: between dirty and under writeback there is no moment with neither (WE4, under EBREF);
//! the count of pages drops before the bit clears (E-5); an error is kept where no eviction reaches
//! it (E-6). A write that was waited for is acknowledged, not durable.

use super::buffer::{Bits, Buffer, BufferId, Page};
use super::steps::{WE0, WE1, WE2, WE4, WE4B, WE7, WE7B};
use super::{Buffers, EBIO, PAGES, TAGS, Wait};
use crate::defects::Defect;
use crate::error::{Error, Result};
use machine::disk::{Note, Request};
use machine::{Access, DeviceId, Server, Task};
use smallvec::SmallVec;
use std::rc::Rc;

/// The sectors of each page.
const SECTORS: [u8; PAGES] = [0x0f, 0xf0];

impl Buffers {
    /// Writes every dirty buffer and waits until all writes, others' too, have ended.
    ///
    /// # Errors
    /// `Io` if a write has ever failed (E-6); `Stopped`.
    pub fn write_all(self: &Rc<Self>, task: &Task) -> Result<()> {
        let mut from = 0;
        loop {
            task.site(&WE0, TAGS, Access::Read)?;
            let next = self.state.borrow().dirty.range(from..).next().copied();
            let Some(block) = next else { break };
            from = block + 1;
            self.write(task, block)?;
        }
        self.wait(task, |_| true)
    }

    /// Waits for the writes of some blocks that are in flight now.
    ///
    /// # Errors
    /// `Io` if a write has ever failed, of whatever block (E-6); `Stopped`.
    pub fn wait(&self, task: &Task, is_wanted: impl Fn(u64) -> bool) -> Result<()> {
        self.wait_writes(task, is_wanted)?;
        match self.first_failure() {
            Some(block) => {
                Err(Error::Io { device: self.device, block, what: "write a buffer" }) // B-3
            }
            None => Ok(()),
        }
    }

    /// WRITE of one block: begins it, if the block is dirty.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn write(self: &Rc<Self>, task: &Task, block: u64) -> Result<()> {
        let Some(buffer) = self.peek(block) else { return Ok(()) };
        let is_taken = {
            let is_lockless = self.rules.get().is_lockless();
            let _refs = if is_lockless { None } else { self.lock_refs(task, &buffer)? }; // E-1
            self.take(task, &WE1, &buffer)? // WE1
        };
        if !is_taken {
            return Ok(()); // Only what is clean is ever freed.
        }
        if self.start_writeback(task, &buffer)? {
            self.submit_pages(task, &buffer)?;
        }
        self.free(task, buffer.id) // WE9
    }

    /// WE2 to WE5; false if there is nothing to write.
    fn start_writeback(&self, task: &Task, buffer: &Buffer) -> Result<bool> {
        loop {
            let _content = buffer.lock.lock(task)?; // WE2
            self.step(task, &WE2, buffer, Access::Read)?;
            if !buffer.has(Bits::DIRTY) {
                return Ok(false);
            }
            if !buffer.has(Bits::WRITEBACK) {
                self.swap_dirty(task, buffer)?;
                self.untag(task, buffer, |page| page.writes.set(page.writes.get() + 1))?;
                return Ok(true);
            }
            drop(_content);
            self.wait_writeback(task, buffer)?;
        }
    }

    /// WE4: the dirty bit becomes the writeback bit, in one step.
    fn swap_dirty(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        // Until WE7b, the cache's reference is this actor's concern.
        buffer.changing.set(buffer.changing.get() + 1);
        if self.rules.get().defects.has(Defect::EbDirtyToWritebackGap) {
            self.step(task, &WE4, buffer, Access::Write)?;
            buffer.clear(Bits::DIRTY);
            self.step(task, &WE4B, buffer, Access::Write)?;
            buffer.set(Bits::WRITEBACK);
            return Ok(());
        }
        let _refs = self.lock_refs(task, buffer)?; // WE3
        self.step(task, &WE4, buffer, Access::Write)?;
        buffer.clear(Bits::DIRTY);
        buffer.set(Bits::WRITEBACK);
        Ok(()) // WE5
    }

    /// WE6 to WE8.
    fn submit_pages(self: &Rc<Self>, task: &Task, buffer: &Buffer) -> Result<()> {
        let pages = self.lock_pages(task, buffer, Wait::Complete)?; // WE6
        self.step(task, &WE7, buffer, Access::Write)?;
        buffer.clear(Bits::WRITE_ERR);
        buffer.io_pages.set(PAGES as u32); // WE7
        if self.rules.get().hunk {
            self.keep(task, &WE7B, buffer)?; // WE7b
        }
        buffer.changing.set(buffer.changing.get() - 1);
        self.assert_block(buffer.block)?;
        let content = buffer.content.borrow().clone().expect("what is dirty has content");
        for (index, page) in pages.into_iter().flatten().enumerate() {
            let request = Request::Write {
                device: DeviceId(self.device),
                block: buffer.block,
                payload: SmallVec::from_buf([content.clone()]),
                sectors: Some(SECTORS[index]),
                fua: false,
            };
            let note = Note { tag: buffer.block, what: self.what };
            let (room, id) = (self.clone(), buffer.id);
            let mine = buffer.pages[index].clone();
            let end = Box::new(move |outcome: &std::result::Result<_, _>| {
                mine.writes.set(mine.writes.get() - 1);
                mine.ended.wake_all();
                room.end_write(id, outcome.is_ok());
            });
            task.submit_then(request, note, end)?; // WE8
            drop(page);
        }
        Ok(())
    }

    /// The end of the write of one page, in the device's step.
    fn end_write(&self, id: BufferId, is_ok: bool) {
        let Ok(buffer) = self.at(id, "eb.end-write") else { return };
        if !is_ok {
            buffer.set(Bits::WRITE_ERR);
            if !self.rules.get().defects.has(Defect::EbWriteErrorEvicted) {
                self.failed.set(self.failed.get().or(Some(buffer.block))); // E-6
            }
        }
        let Some(left) = buffer.io_pages.get().checked_sub(1) else {
            let what = format!("E-5: a page of block {} ends and none is under IO", buffer.block);
            return self.machine.invariant("E-5", &what);
        };
        buffer.io_pages.set(left); // WE10
        let clears_early = self.rules.get().defects.has(Defect::EbWritebackClearedBeforeIoPages);
        if left == 0 || clears_early {
            buffer.clear(Bits::WRITEBACK); // WE11
            buffer.ended.wake_all();
        }
        self.look_at_end(buffer.block);
    }

    fn wait_writes(&self, task: &Task, is_wanted: impl Fn(u64) -> bool) -> Result<()> {
        let mut pages: Vec<(u64, Rc<Page>)> = Vec::new();
        for (&block, both) in self.state.borrow().pages.iter().filter(|(b, _)| is_wanted(**b)) {
            let in_flight = both.iter().filter(|page| page.writes.get() > 0);
            pages.extend(in_flight.map(|page| (block, page.clone())));
        }
        for (block, page) in pages {
            let done = || page.writes.get() == 0;
            task.wait(&page.ended, &EBIO, self.object(block), Server::Device, done)?;
        }
        Ok(())
    }

    /// A block whose write failed and was not repeated since mount (E-6).
    fn first_failure(&self) -> Option<u64> {
        let in_memory = || {
            let state = self.state.borrow();
            let failed = |id: &BufferId| {
                let buffer = state.slots.get(*id)?;
                buffer.has(Bits::WRITE_ERR).then_some(buffer.block)
            };
            state.index.values().find_map(failed)
        };
        self.failed.get().or_else(in_memory)
    }
}
