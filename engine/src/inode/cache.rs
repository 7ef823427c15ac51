//! The inodes in memory, by number.
//!
//! Promises: one [`Inode`] a number, whoever asks at the same time; an inode that anything is going
//! on with stays. It must never know names.

use super::Inode;
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::store::{InodeItem, Tree};
use crate::types::Ino;
use machine::Task;
use machine::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Inodes that stay in memory after their last use.
const UNUSED_MAX: usize = 4096;

/// The inodes in memory.
#[derive(Default)]
pub struct InodeCache {
    inodes: RefCell<BTreeMap<Ino, Rc<Inode>>>,
}

impl InodeCache {
    /// An inode, if it is in memory.
    pub fn find(&self, ino: Ino) -> Option<Rc<Inode>> {
        self.inodes.borrow().get(&ino).cloned()
    }

    /// Adds an inode unless its number is there; the one that is there then.
    pub fn add(&self, inode: Rc<Inode>) -> Rc<Inode> {
        let mut inodes = self.inodes.borrow_mut();
        if inodes.len() >= UNUSED_MAX {
            machine::footprint::touch_everything();
            inodes.retain(|_, inode| Rc::strong_count(inode) > 1 || inode.is_busy());
        }
        inodes.entry(inode.ino).or_insert(inode).clone()
    }

    /// Forgets an inode that does not exist any more.
    pub fn remove(&self, ino: Ino) -> Option<Rc<Inode>> {
        self.inodes.borrow_mut().remove(&ino)
    }

    /// The inode after `ino` in the order of numbers, for loops that may wait in between.
    pub fn next_after(&self, ino: Ino) -> Option<Rc<Inode>> {
        self.inodes.borrow().range(Ino(ino.0 + 1)..).next().map(|(_, inode)| inode.clone())
    }

    /// Calls `visit` with each inode, in the order of numbers.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Rc<Inode>)) {
        self.inodes.borrow().values().for_each(&mut visit);
    }

    /// The first inode for which `wanted` holds.
    pub fn first_where(&self, wanted: impl Fn(&Inode) -> bool) -> Option<Rc<Inode>> {
        self.inodes.borrow().values().find(|inode| wanted(inode)).cloned()
    }

    /// How many inodes are in memory.
    pub fn len(&self) -> usize {
        self.inodes.borrow().len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.inodes.borrow().is_empty()
    }

    /// Takes all inodes out, as a mount that ends does.
    pub(crate) fn take(&self) -> BTreeMap<Ino, Rc<Inode>> {
        self.inodes.take()
    }
}

impl Fs {
    /// The inode of a number, read from the tree if it is not in memory.
    ///
    /// # Errors
    /// `ENOENT` if there is none; `Corrupt`; those of reading.
    pub fn iget(&self, task: &Task, ino: Ino) -> Result<Rc<Inode>> {
        if let Some(inode) = self.inodes().find(ino) {
            return Ok(inode);
        }
        let key = InodeItem::key(ino);
        let value = self.store().lookup(task, Tree::Fs, key)?;
        let value = value.ok_or(Error::Refused(Errno::ENOENT))?;
        let item = InodeItem::decode(&value)
            .map_err(|what| self.store().corrupt_item(task, Tree::Fs, key, "inode", what))?;
        // Somebody may have read it at the same time: the first one counts.
        Ok(self.inodes().add(Inode::new(task.machine(), ino, item)))
    }
}
