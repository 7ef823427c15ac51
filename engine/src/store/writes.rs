//! Device requests of the store: writes that are submitted together and waited for later, and
//! flushes.
//!
//! Promises: `wait` returns success only if every write was acknowledged without an error (B-1.4,
//! B-3). It must never know what the writes mean.

use super::nodes::Buffer;
use crate::buffers::Buffers;
use crate::error::{Error, Result};
use machine::disk::{Note, Request};
use machine::{Bio, Block, DeviceId, Task};
use std::ops::Range;
use std::rc::Rc;

/// Writes in flight.
#[derive(Default)]
pub struct Writes {
    pending: Vec<Pending>,
    /// Nodes that are written by a room of buffers, and the room.
    nodes: Vec<Rc<Buffer>>,
    room: Option<Rc<Buffers>>,
}

struct Pending {
    bio: Bio,
    device: u8,
    block: u64,
    buffer: Option<Rc<Buffer>>,
}

impl Writes {
    /// Submits a block.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn submit(
        &mut self,
        task: &Task,
        device: u8,
        block: u64,
        content: Block,
        what: &'static str,
    ) -> Result<()> {
        let request = Request::write(DeviceId(device), block, content);
        let bio = task.submit(request, Note { tag: block, what })?;
        self.pending.push(Pending { bio, device, block, buffer: None });
        Ok(())
    }

    /// Submits a node; its buffer is under writeback until it was waited for.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn submit_node(
        &mut self,
        task: &Task,
        device: u8,
        buffer: Rc<Buffer>,
        content: Block,
        what: &'static str,
    ) -> Result<()> {
        self.submit(task, device, buffer.block(), content, what)?;
        self.pending.last_mut().expect("just pushed").buffer = Some(buffer);
        Ok(())
    }

    /// Begins to write a node through a room of buffers; the node is under writeback until it was
    /// waited for.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn submit_buffer(
        &mut self,
        task: &Task,
        room: &Rc<Buffers>,
        buffer: Rc<Buffer>,
        content: Block,
    ) -> Result<()> {
        room.put_content(task, buffer.block(), content)?;
        room.write(task, buffer.block())?;
        self.nodes.push(buffer);
        self.room = Some(room.clone());
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pending.len() + self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for all of them, also after one failed.
    ///
    /// # Errors
    /// `Io` of the first that failed; `Stopped`.
    pub fn wait(self, task: &Task) -> Result<()> {
        let mut failed = None;
        for Pending { bio, device, block, buffer } in self.pending {
            let outcome = bio.wait(task)?;
            // E-5: whoever looks at the buffer after this finds no IO on it.
            if let Some(buffer) = buffer {
                buffer.end_write();
            }
            if outcome.is_err() && failed.is_none() {
                failed = Some(Error::Io { device, block, what: "write a block of metadata" });
            }
        }
        if let Some(room) = self.room {
            let is_mine = |block| self.nodes.iter().any(|buffer| buffer.block() == block);
            match room.wait(task, is_mine) {
                Ok(()) => self.nodes.iter().for_each(|buffer| buffer.end_write()),
                Err(Error::Stopped) => return Err(Error::Stopped),
                // What the medium does not have stays in memory, whatever reclaim takes.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Flushes the caches of devices, and waits until all have (B-1.5, B-2).
///
/// # Errors
/// `Io` if one failed; `Stopped`.
pub(crate) fn flush(task: &Task, devices: Range<u8>, what: &'static str) -> Result<()> {
    let mut bios: smallvec::SmallVec<[Bio; 2]> = smallvec::SmallVec::new();
    for device in devices.clone() {
        let request = Request::Flush { device: DeviceId(device) };
        bios.push(task.submit(request, Note { tag: 0, what })?);
    }
    let mut result = Ok(());
    for (device, bio) in devices.zip(bios) {
        if bio.wait(task)?.is_err() {
            result = Err(Error::Io { device, block: 0, what: "flush its cache" });
        }
    }
    result
}

/// Writes the sectors of a superblock and waits for them.
///
/// # Errors
/// `Io`; `Stopped`.
pub(crate) fn write_super(
    task: &Task,
    slot: u64,
    content: Block,
    sectors: u8,
    fua: bool,
) -> Result<()> {
    let payload = smallvec::SmallVec::from_buf([content]);
    // The sector is the unit that the medium writes atomically.
    let (device, sectors) = (DeviceId(0), Some(sectors));
    let request = Request::Write { device, block: slot, payload, sectors, fua };
    let bio = task.submit(request, Note { tag: slot, what: "super" })?;
    let failed = |_| Error::Io { device: 0, block: slot, what: "write a superblock" };
    bio.wait(task)?.map(drop).map_err(failed)
}
