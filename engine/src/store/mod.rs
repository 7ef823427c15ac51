//! The persistent half of the engine: what is on the medium, and how it changes atomically.
//!
//! Trees of items, free space, transactions and log trees. Everything above (files, pages,
//! mappings, fsync) speaks to it in items and runs of blocks.
//!
//! ```text
//! superblock ─┬─ FS, CSUM, REFS trees   key.rs items.rs nodes/ tree/
//!             ├─ free-space map         space/
//!             └─ log root ── log trees  log.rs
//! ```
//!
//! Promises: a commit is atomic and durable when it returns; damage of any kind is an
//! [`Error::Corrupt`]. It must never know pages, ordered extents or
//! programs.

pub mod items;
pub mod key;
pub mod region;
pub mod space;

pub(crate) mod nodes;
pub(crate) mod tree;

mod codec;
mod commit;
mod data;
pub(crate) mod log;
pub(crate) mod mount;
mod refs;
pub(crate) mod superblock;
#[cfg(test)]
mod tests;
mod transaction;
mod writes;

pub use commit::SUPER;
pub use items::{ExtentItem, ExtentKind, InodeItem, OrphanItem, RefsItem, Value};
pub use key::{BlockPtr, Key, Kind, Root, Tree};
pub use log::{LOG, LOGROOT, LogTrees, RootLocked};
pub use space::{ALLOC, BlockUse, ReadPin, Reserve};
pub use superblock::{LogRoot, Superblock};
pub use transaction::{Handle, Join, OBJECT_TRANSACTION, PENDING, TX, TXCW};
pub use tree::NODE;
pub use writes::Writes;

use crate::buffers::{Buffers, Rules};
use crate::defects::Defects;
use crate::error::{Error, Result};
use crate::options::MountOptions;
use crate::types::{Ino, Run};
use items::Damage;
use machine::cell::{Cell, RefCell};
use machine::{Machine, Mutex, Task};
use nodes::Nodes;
use space::Space;
use std::ops::ControlFlow;
use std::rc::Rc;
use transaction::Transaction;
use tree::BTree;
use tree::edit::Put;

/// A mounted image.
pub struct Store {
    machine: Machine,
    options: MountOptions,
    nodes: Rc<Nodes>,
    space: Rc<Space>,
    /// Blocks of device 0 that are written in place.
    buffers: Rc<Buffers>,
    /// FS, CSUM, REFS.
    trees: [BTree; 3],
    logs: LogTrees,
    transaction: Transaction,
    /// The superblock that is on the medium.
    committed: RefCell<Superblock>,
    super_lock: Mutex,
    next_ino: Cell<u64>,
    aborted: Cell<bool>,
    defects: Cell<Defects>,
    /// Runs that lost one of several references since the last durable commit.
    unshared: RefCell<Vec<Run>>,
    /// The log found at mount was not pinned yet: nothing may be allocated.
    log_unpinned: Cell<bool>,
}

impl Store {
    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The options of the mount.
    pub fn options(&self) -> &MountOptions {
        &self.options
    }

    /// The defects that are on.
    pub fn defects(&self) -> Defects {
        self.defects.get()
    }

    /// Switches defects on, before anything is changed.
    pub fn set_defects(&self, defects: Defects) {
        self.defects.set(defects);
        let rules = Rules::new(&self.options, defects);
        self.buffers.set_rules(rules);
        if let Some(room) = self.nodes.room(0) {
            room.set_rules(rules);
        }
    }

    /// The buffers of blocks that are written in place.
    pub fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// The superblock that is on the medium.
    pub fn superblock(&self) -> Superblock {
        self.committed.borrow().clone()
    }

    /// The log trees.
    pub fn log(&self) -> &LogTrees {
        &self.logs
    }

    /// Whether the medium holds a log that was not replayed yet.
    pub fn has_log(&self) -> bool {
        self.committed.borrow().log.is_some()
    }

    /// Loads the log found at mount and keeps its blocks (B-5, B-6): to be called, where there is a
    /// log, before anything is allocated.
    ///
    /// # Errors
    /// `Corrupt`; those of reading.
    pub fn pin_log(&self, task: &Task) -> Result<()> {
        let superblock = self.superblock();
        self.logs.pin(task, &superblock)?;
        self.log_unpinned.set(false);
        Ok(())
    }

    fn devices(&self) -> u8 {
        1 + u8::from(self.committed.borrow().image.logdev)
    }

    fn tree(&self, tree: Tree) -> &BTree {
        let index = match tree {
            Tree::Fs => 0,
            Tree::Csum => 1,
            Tree::Refs => 2,
            Tree::Log(_) => unreachable!("log trees are reached through the log"),
        };
        debug_assert_eq!(self.trees[index].name(), tree);
        &self.trees[index]
    }

    /// Joins the running transaction; waits while it is being committed. A task that holds a handle
    /// gets another one of the same join.
    ///
    /// # Errors
    /// `Aborted`; `Bug` if there is a log that was not pinned (B-6); `Stopped`.
    #[track_caller]
    pub fn join(&self, task: &Task, join: Join) -> Result<Handle> {
        self.check_alive()?;
        if self.log_unpinned.get() {
            return Err(Error::Bug("a log must be pinned before anything changes"));
        }
        let handle = self.transaction.join(task, join)?;
        self.check_alive()?;
        Ok(handle)
    }

    /// The generation of the running transaction.
    pub fn generation(&self) -> u64 {
        self.transaction.generation()
    }

    /// TXC.3: an ordered extent is pending; the running transaction does not commit before its end.
    pub fn begin_pending(&self) {
        self.transaction.begin_pending();
    }

    /// The end of a [`begin_pending`](Self::begin_pending).
    pub fn end_pending(&self) {
        self.transaction.end_pending();
    }

    /// Ordered extents that are pending.
    pub fn pending(&self) -> u64 {
        self.transaction.pending()
    }

    /// A new inode number.
    pub fn allocate_ino(&self, _handle: &Handle) -> Ino {
        let ino = self.next_ino.get();
        self.next_ino.set(ino + 1);
        Ino(ino)
    }

    /// Makes sure that `ino`, found in a log, is not given out again.
    pub fn raise_next_ino(&self, _handle: &Handle, ino: Ino) {
        self.next_ino.set(self.next_ino.get().max(ino.0.saturating_add(1)));
    }

    /// The value of an item.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Stopped`.
    pub fn lookup(&self, task: &Task, tree: Tree, key: Key) -> Result<Option<Value>> {
        self.tree(tree).lookup(task, key)
    }

    /// The item with the greatest key that is not greater than `key`.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Stopped`.
    pub fn floor(&self, task: &Task, tree: Tree, key: Key) -> Result<Option<(Key, Value)>> {
        self.tree(tree).floor(task, key)
    }

    /// Calls `visit` for each item with a key in `from..to`, in order, until it breaks. The tree is
    /// locked meanwhile: `visit` must not switch tasks.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Stopped`.
    pub fn range(
        &self,
        task: &Task,
        tree: Tree,
        from: Key,
        to: Key,
        mut visit: impl FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.tree(tree).range(task, from, to, &mut visit)
    }

    /// Adds an item.
    ///
    /// # Errors
    /// EEXIST if there is one; `NoSpace`, `Io`, `Corrupt`, `Stopped`. Nothing is changed then.
    pub fn insert(
        &self,
        task: &Task,
        handle: &Handle,
        tree: Tree,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        self.put_item(task, handle, tree, key, value, Put::Insert)
    }

    /// Gives an item another value.
    ///
    /// # Errors
    /// ENOENT if there is none; otherwise as [`insert`](Self::insert).
    pub fn replace(
        &self,
        task: &Task,
        handle: &Handle,
        tree: Tree,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        self.put_item(task, handle, tree, key, value, Put::Replace)
    }

    /// Adds an item, or gives it another value.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), without EEXIST.
    pub fn put(
        &self,
        task: &Task,
        handle: &Handle,
        tree: Tree,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        self.put_item(task, handle, tree, key, value, Put::Any)
    }

    fn put_item(
        &self,
        task: &Task,
        handle: &Handle,
        tree: Tree,
        key: Key,
        value: &[u8],
        how: Put,
    ) -> Result<()> {
        self.check_alive()?;
        let tree = self.tree(tree).edit(task)?;
        tree.put(task, &handle.claim(), key, value, how)
    }

    /// Removes an item; whether there was one.
    ///
    /// # Errors
    /// `NoSpace`, `Io`, `Corrupt`, `Stopped`. Nothing is changed then.
    pub fn delete(&self, task: &Task, handle: &Handle, tree: Tree, key: Key) -> Result<bool> {
        self.check_alive()?;
        self.tree(tree).edit(task)?.delete(task, &handle.claim(), key)
    }

    /// Removes the items with keys in `from..to`; how many. An error leaves those that remain.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_range(
        &self,
        task: &Task,
        handle: &Handle,
        tree: Tree,
        from: Key,
        to: Key,
    ) -> Result<u64> {
        self.check_alive()?;
        self.tree(tree).edit(task)?.delete_range(task, &handle.claim(), from, to)
    }

    /// Reserves, for a handle, the blocks that so many changes of neighbouring items take at most,
    /// so that none of them fails for want of space.
    ///
    /// # Errors
    /// `NoSpace`: nothing was changed yet, and the operation can be refused.
    pub fn reserve_changes(&self, handle: &Handle, changes: u64) -> Result<()> {
        let trees = Tree::COMMITTED.into_iter();
        let blocks = trees.map(|tree| self.blocks_for(tree, changes)).max().unwrap_or(0);
        handle.reserve_blocks(blocks)
    }

    /// Drops every clean tree node that nobody uses; how many.
    pub fn reclaim_nodes(&self) -> usize {
        self.nodes.reclaim()
    }

    /// Reclaims the buffers of tree nodes, where those are kept in buffers.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn release_nodes(&self, task: &Task) -> Result<()> {
        self.nodes.room(0).map_or(Ok(()), |room| room.release_all(task).map(drop))
    }

    /// Tree nodes in memory.
    pub fn cached_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Calls `visit` with block and level of each node of a tree.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Stopped`.
    pub fn walk_nodes(
        &self,
        task: &Task,
        tree: Tree,
        mut visit: impl FnMut(u64, u8),
    ) -> Result<()> {
        self.tree(tree).walk_nodes(task, &mut visit)
    }

    /// Calls `visit` with each block of the free-space map itself; returns the number of allocated
    /// blocks according to the map, to be compared with the superblock's count.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Stopped`.
    pub fn walk_space(&self, task: &Task, mut visit: impl FnMut(u64)) -> Result<u64> {
        self.space.walk_own(task, &mut visit)
    }

    /// The error that an item which was read is damaged: it names the block of the item's leaf. No
    /// lock of a tree is held.
    pub fn corrupt_item(
        &self,
        task: &Task,
        tree: Tree,
        key: Key,
        structure: &'static str,
        what: Damage,
    ) -> Error {
        self.tree(tree).corrupt(task, key, structure, what)
    }

    fn corrupt(structure: &'static str, block: u64, what: &'static str) -> Error {
        Error::Corrupt { structure, block, what }
    }
}
