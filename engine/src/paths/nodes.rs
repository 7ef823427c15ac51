//! Operations on bare nodes, which no tree owns: the programs of races.md §2.c and §6.2.
//!
//! Promises: a read shows a version that some modification wrote, not older than the last that had
//! returned; what returned is durable with the next commit (TXC.5). While a node is being allocated
//! anew, its old content may come back. It must never know how buffers live.

use crate::buffers::{BufferId, Buffers, Wait};
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::store::region::{HALVES, block_of, decode, encode};
use machine::{Guard, Task};
use std::rc::Rc;

impl Fs {
    /// `rd`: the versions of the halves of a node, read if it is not in memory.
    ///
    /// # Errors
    /// `EOPNOTSUPP` on an image without such nodes, `EINVAL` for one that it does not have; `Io`,
    /// `Corrupt`, `Stopped`.
    pub fn node_read(&self, task: &Task, node: u8) -> Result<[u16; HALVES]> {
        let room = self.node_room(node)?;
        let (id, content) = open(room, task, node)?;
        let bytes = room.content(task, id)?.ok_or(Error::Bug("a node was read and is not there"));
        drop(content);
        room.free(task, id)?;
        decode(node, &bytes?)
    }

    /// `ra`: begins to read a node.
    ///
    /// # Errors
    /// As [`node_read`](Self::node_read), but none of the device.
    pub fn node_readahead(&self, task: &Task, node: u8) -> Result<()> {
        let room = self.node_room(node)?;
        room.read_ahead(task, block_of(node))
    }

    /// `mod`: gives a node another version: find, lock, make dirty, free.
    ///
    /// # Errors
    /// As [`node_read`](Self::node_read); `Aborted`.
    pub fn node_modify(&self, task: &Task, node: u8, version: u16) -> Result<()> {
        let room = self.node_room(node)?;
        self.store().check_alive()?;
        let (id, content) = open(room, task, node)?;
        room.modify(task, id, encode(node, version))?;
        drop(content);
        room.free(task, id)
    }

    /// `wb`: writes what is dirty, and waits; nothing is made durable.
    ///
    /// # Errors
    /// `EOPNOTSUPP`; `Io` if a write has failed since the mount (E-6); `Stopped`.
    pub fn node_write(&self, task: &Task) -> Result<()> {
        self.node_room(0)?.write_all(task)
    }

    /// `ebrc`: reclaims a node's buffer, if nobody uses it. Whether it did.
    ///
    /// # Errors
    /// As [`node_readahead`](Self::node_readahead).
    pub fn node_reclaim(&self, task: &Task, node: u8) -> Result<bool> {
        self.node_room(node)?.release(task, block_of(node))
    }

    /// `new`: gives the block of a node up, and takes it into use again with another content.
    ///
    /// # Errors
    /// As [`node_modify`](Self::node_modify), but none of the device.
    pub fn node_new(&self, task: &Task, node: u8, version: u16) -> Result<()> {
        let room = self.node_room(node)?;
        self.store().check_alive()?;
        let block = block_of(node);
        if let Some(old) = room.find(task, block)? {
            let content = room.lock(task, old)?;
            room.clean(task, old)?;
            drop(content);
            room.free_stale(task, old)?;
        }
        room.put_content(task, block, encode(node, version))
    }

    fn node_room(&self, node: u8) -> Result<&Rc<Buffers>> {
        match self.store().superblock().image.buffers {
            0 => Err(Errno::EOPNOTSUPP.into()),
            count if node >= count => Err(Errno::EINVAL.into()),
            _ => Ok(self.store().buffers()),
        }
    }
}

/// A node that is up to date, with its content locked.
fn open(room: &Rc<Buffers>, task: &Task, node: u8) -> Result<(BufferId, Guard)> {
    let id = room.alloc(task, block_of(node))?;
    if let Err(error) = room.read(task, id, Wait::Complete) {
        if !error.is_stopped() {
            room.free(task, id)?;
        }
        return Err(error);
    }
    Ok((id, room.lock(task, id)?))
}
