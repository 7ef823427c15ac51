//! READ: the content of a buffer from the medium.
//!
//! Promises: a buffer is read only while it is not up to date (E-4), by one request at a time, with
//! all pages locked until the request ends; the request keeps the buffer through the cache's
//! reference alone (RE4b), as readahead does not wait.

use super::buffer::{Bits, Buffer, BufferId};
use super::find::Locked;
use super::steps::{RE1, RE3, RE4, RE4B};
use super::{Buffers, EBIO, PAGES};
use crate::defects::Defect;
use crate::error::{Error, Result};
use machine::disk::{Data, DiskError, Note, Request};
use machine::{Access, Block, DeviceId, Server, Task};
use std::rc::Rc;

/// Whether a read waits for locks and for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It does.
    Complete,
    /// Readahead: it does not.
    None,
}

impl Buffers {
    /// READ: brings a buffer that the caller refers to up to date, or begins to (readahead).
    ///
    /// # Errors
    /// `Io`, if it waits; `Stopped`.
    pub fn read(self: &Rc<Self>, task: &Task, id: BufferId, wait: Wait) -> Result<()> {
        let buffer = self.at(id, "eb.read")?;
        let rechecks = !self.rules.get().defects.has(Defect::EbDoubleRead);
        self.step(task, &RE1, &buffer, Access::Read)?;
        if buffer.has(Bits::UPTODATE) {
            return Ok(()); // RE1
        }
        let Some(pages) = self.lock_pages(task, &buffer, wait)? else { return Ok(()) }; // RE2
        self.step(task, &RE3, &buffer, Access::Read)?;
        if buffer.has(Bits::UPTODATE) && rechecks {
            return Ok(()); // RE3, E-4: somebody else read it in the meantime
        }
        self.start_read(task, &buffer, pages)?;
        if wait == Wait::None {
            return Ok(()); // RE6
        }
        let done = || !buffer.has(Bits::READING);
        task.wait(&buffer.ended, &EBIO, self.object(buffer.block), Server::Device, done)?;
        self.step(task, &RE1, &buffer, Access::Read)?;
        if buffer.has(Bits::UPTODATE) {
            return Ok(());
        }
        Err(Error::Io { device: self.device, block: buffer.block, what: "read a buffer" })
    }

    /// The content of a block: ALLOC, READ, FREE.
    ///
    /// # Errors
    /// `Io`; `Stopped`.
    pub fn get_content(self: &Rc<Self>, task: &Task, block: u64) -> Result<Block> {
        let id = self.alloc(task, block)?;
        let read = self.read(task, id, Wait::Complete);
        if matches!(read, Err(Error::Stopped)) {
            return Err(Error::Stopped);
        }
        let content = self.content(task, id)?;
        self.free(task, id)?;
        read?;
        content.ok_or(Error::Bug("a buffer was read and has no content"))
    }

    /// Readahead of a block: ALLOC, READ without waiting, FREE.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn read_ahead(self: &Rc<Self>, task: &Task, block: u64) -> Result<()> {
        let id = self.alloc(task, block)?;
        self.read(task, id, Wait::None)?;
        self.free(task, id)
    }

    /// RE2: locks all pages of a buffer; readahead gives up where it would have to wait (O-4).
    pub(super) fn lock_pages(
        &self,
        task: &Task,
        buffer: &Buffer,
        wait: Wait,
    ) -> Result<Option<Locked>> {
        let mut locked = Locked::new();
        for page in &buffer.pages {
            match wait {
                Wait::Complete => locked.push(page.lock.lock(task)?),
                Wait::None => {
                    self.step(task, &RE1, buffer, Access::Write)?;
                    let Some(guard) = page.lock.try_lock(task) else { return Ok(None) };
                    locked.push(guard);
                }
            }
        }
        Ok(Some(locked))
    }

    /// RE4 and RE5: from here on the pages belong to the request.
    fn start_read(self: &Rc<Self>, task: &Task, buffer: &Buffer, pages: Locked) -> Result<()> {
        {
            let _change = buffer.change();
            self.step(task, &RE4, buffer, Access::Write)?;
            buffer.set(Bits::READING);
            buffer.io_pages.set(PAGES as u32);
            if !self.rules.get().defects.has(Defect::EbReadNoTreeRefRecheck) {
                self.keep(task, &RE4B, buffer)?; // REL cannot be between RL3 and RL6 here.
            }
        }
        self.assert_block(buffer.block)?;
        let pages: Locked = pages.into_iter().map(|page| page.into_token(Server::Device)).collect();
        let request = Request::read(DeviceId(self.device), buffer.block);
        let note = Note { tag: buffer.block, what: self.what };
        let (room, id) = (self.clone(), buffer.id);
        let end = Box::new(move |outcome: &_| room.end_read(id, pages, outcome));
        task.submit_then(request, note, end)?; // RE5
        Ok(())
    }

    /// The end of a read, in the device's step.
    fn end_read(&self, id: BufferId, pages: Locked, outcome: &Result<Data, DiskError>) {
        let Ok(buffer) = self.at(id, "eb.end-read") else { return };
        if let Ok(data) = outcome {
            *buffer.content.borrow_mut() = data.first().cloned();
            buffer.set(Bits::UPTODATE);
        }
        buffer.io_pages.set(0);
        buffer.clear(Bits::READING); // E-5: the counter drops before the bit clears
        drop(pages);
        buffer.ended.wake_all();
        self.look_at_end(buffer.block);
    }
}
