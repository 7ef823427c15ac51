//! Log trees: what fsync makes durable without a commit.
//!
//! Each group of files has a log tree, built in memory like any other tree. Its blocks belong to no
//! committed map: until the next commit is durable they are only held (B-5). One block, the log
//! root, names the log trees; a superblock written between commits points to it.
//!
//! ```text
//! log root   magic "PFLR" | count u32 | generation u64 | block u64 | reserved u64 = 0 |
//!            count × root 49; zero after that
//! ```
//!
//! The steps of B-1 are separate calls, in this order: [`write_tree`](LogTrees::write_tree) (2),
//! [`lock_root`](LogTrees::lock_root), [`write_root`](LogTrees::write_root) (3),
//! [`Writes::wait`] of both and [`acknowledge`](LogTrees::acknowledge) (4),
//! [`Store::flush_devices`] (5), [`Store::publish_log`] (6).
//!
//! Promises: a log root names only trees whose writes were acknowledged, besides the caller's own.
//! It must never know what is logged, nor replay it.

use super::codec::{Reader, Writer};
use super::items::{Damage, ExtentItem, Value};
use super::key::{BlockPtr, Key, Kind, Root, Tree};
use super::nodes::node::Capacity;
use super::nodes::{Nodes, read_block};
use super::space::{LogDevice, Places, Space};
use super::superblock::{LogRoot, Superblock};
use super::tree::BTree;
use super::tree::edit::Put;
use super::writes::Writes;
use super::{Handle, OBJECT_TRANSACTION, Store};
use crate::error::{Error, Result};
use crate::types::{Ino, Run};
use machine::cell::Cell;
use machine::{Access, BLOCK_BYTES, Block, Guard, LockClass, Machine, Mutex, Object, Site, Task};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;

/// The class of the lock of a log tree.
pub static LOG: LockClass = LockClass::new("LOG", 65);

/// The class of the lock of the log root.
pub static LOGROOT: LockClass = LockClass::new("LOGROOT", 66);

static WRITE_TREE: Site = Site::new("log.write-tree");
static WRITE_ROOT: Site = Site::new("log.write-root");
static PUBLISH: Site = Site::new("log.super");

const MAGIC: &[u8; 4] = b"PFLR";

/// The log trees of a mount.
pub struct LogTrees {
    groups: SmallVec<[Group; 2]>,
    places: Places,
    space: Rc<Space>,
    log_device: Option<Rc<LogDevice>>,
    nodes: Rc<Nodes>,
    root_lock: Mutex,
}

struct Group {
    tree: BTree,
    lock: Mutex,
    /// The root whose writes were acknowledged.
    acknowledged: Cell<Root>,
}

/// Proof that the log root is locked: from the writing of a log root to its publication.
pub struct RootLocked(#[expect(dead_code, reason = "held, not used")] Guard);

impl LogTrees {
    pub(super) fn new(
        machine: &Machine,
        superblock: &Superblock,
        nodes: Rc<Nodes>,
        space: Rc<Space>,
    ) -> LogTrees {
        let image = &superblock.image;
        let log_device = image.logdev.then(|| LogDevice::new(image.log_blocks()));
        let places = match &log_device {
            Some(device) => Places::LogDevice(device.clone()),
            None => Places::Log(space.clone()),
        };
        let group = |number| {
            let capacity = Capacity::new(image.leaf);
            let (nodes, places) = (nodes.clone(), places.clone());
            Group {
                tree: BTree::new(machine, Tree::Log(number), Root::EMPTY, capacity, nodes, places),
                lock: Mutex::new(machine, &LOG, (u64::from(number), 0)),
                acknowledged: Cell::new(Root::EMPTY),
            }
        };
        let groups = (0..image.log_trees).map(group).collect();
        let root_lock = Mutex::new(machine, &LOGROOT, (0, 0));
        LogTrees { groups, places, space, log_device, nodes, root_lock }
    }

    /// How many groups there are.
    pub fn groups(&self) -> u8 {
        self.groups.len() as u8
    }

    /// The group that logs a file.
    pub fn group_of(&self, ino: Ino) -> u8 {
        (ino.0 % self.groups.len() as u64) as u8
    }

    fn group(&self, group: u8) -> &Group {
        &self.groups[usize::from(group)]
    }

    /// Locks a group's tree for the length of what fsync logs into it.
    ///
    /// # Errors
    /// `Stopped`.
    #[track_caller]
    pub fn lock(&self, task: &Task, group: u8) -> Result<Guard> {
        Ok(self.group(group).lock.lock(task)?)
    }

    /// Locks the log root, from writing it to publishing it, so that no log tree is lost between.
    ///
    /// # Errors
    /// `Stopped`.
    #[track_caller]
    pub fn lock_root(&self, task: &Task) -> Result<RootLocked> {
        Ok(RootLocked(self.root_lock.lock(task)?))
    }

    /// Whether nothing is logged in any group.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.tree.root().is_empty())
    }

    /// The value of an item of a group's tree.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn lookup(&self, task: &Task, group: u8, key: Key) -> Result<Option<Value>> {
        self.group(group).tree.lookup(task, key)
    }

    /// The item of a group's tree with the greatest key that is not greater than `key`.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn floor(&self, task: &Task, group: u8, key: Key) -> Result<Option<(Key, Value)>> {
        self.group(group).tree.floor(task, key)
    }

    /// Calls `visit` for each item of a group's tree with a key in `from..to`, in order.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn range(
        &self,
        task: &Task,
        group: u8,
        from: Key,
        to: Key,
        mut visit: impl FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.group(group).tree.range(task, from, to, &mut visit)
    }

    /// Puts an item into a group's tree, in the place of one with the same key.
    ///
    /// # Errors
    /// `NoSpace`, and a commit is the way out; those of reading nodes.
    pub fn put(
        &self,
        task: &Task,
        handle: &Handle,
        group: u8,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let tree = self.group(group).tree.edit(task)?;
        tree.put(task, &handle.claim(), key, value, Put::Any)
    }

    /// Removes an item of a group's tree; whether there was one.
    ///
    /// # Errors
    /// `NoSpace`; those of reading nodes.
    pub fn delete(&self, task: &Task, handle: &Handle, group: u8, key: Key) -> Result<bool> {
        self.group(group).tree.edit(task)?.delete(task, &handle.claim(), key)
    }

    /// Removes the items of a group's tree with keys in `from..to`; how many.
    ///
    /// # Errors
    /// `NoSpace`; those of reading nodes.
    pub fn delete_range(
        &self,
        task: &Task,
        handle: &Handle,
        group: u8,
        from: Key,
        to: Key,
    ) -> Result<u64> {
        let tree = self.group(group).tree.edit(task)?;
        tree.delete_range(task, &handle.claim(), from, to)
    }

    /// B-1.2: submits the changed nodes of a group's tree. The caller holds the group's lock.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn write_tree(&self, task: &Task, group: u8) -> Result<(Root, Writes)> {
        let object = Object::new(OBJECT_TRANSACTION, 1, u64::from(group));
        task.site(&WRITE_TREE, object, Access::Io)?;
        let mut writes = Writes::default();
        let root = self.group(group).tree.write(task, &mut writes, "log tree node")?;
        Ok((root, writes))
    }

    /// B-1.4: the writes of this root were waited for without an error.
    pub fn acknowledge(&self, group: u8, root: Root) {
        self.group(group).acknowledged.set(root);
    }

    /// B-1.3: submits a log root that names `root` as the tree of `group`, and the acknowledged
    /// trees of the other groups.
    ///
    /// # Errors
    /// `NoSpace`; `Stopped`.
    pub fn write_root(
        &self,
        task: &Task,
        handle: &Handle,
        _locked: &RootLocked,
        group: u8,
        root: Root,
    ) -> Result<(LogRoot, Writes)> {
        task.site(&WRITE_ROOT, Object::new(OBJECT_TRANSACTION, 1, u64::MAX), Access::Io)?;
        let mut block = self.places.take(task, 1, &handle.claim())?;
        let block = block.pop().expect("one was taken");
        let mut roots: SmallVec<[Root; 2]> =
            self.groups.iter().map(|group| group.acknowledged.get()).collect();
        roots[usize::from(group)] = root;
        let generation = handle.generation();
        let content = encode_root(&roots, generation, block);
        let ptr = BlockPtr { block, generation, digest: content.digest() };
        let mut writes = Writes::default();
        let device = self.places.device();
        writes.submit(task, device, block, content, "log root")?;
        Ok((LogRoot { device, ptr }, writes))
    }

    /// B-5, B-6: loads the log that a superblock points to, and keeps its blocks, and the data that
    /// its extents refer to, from being handed out until the next commit is durable. Nothing may be
    /// allocated before.
    ///
    /// # Errors
    /// `Corrupt`; those of reading.
    pub(super) fn pin(&self, task: &Task, superblock: &Superblock) -> Result<()> {
        let Some(log) = superblock.log else { return Ok(()) };
        let corrupt = |what| Error::Corrupt { structure: "log root", block: log.ptr.block, what };
        if log.device != self.places.device() {
            return Err(corrupt("it is on the wrong device"));
        }
        if log.ptr.generation != superblock.generation + 1 {
            return Err(corrupt("it is not of the transaction after the commit"));
        }
        let content = read_block(task, log.device, log.ptr.block, "log root")?;
        if content.digest() != log.ptr.digest {
            return Err(corrupt("the digest differs from the superblock's"));
        }
        let roots = decode_root(content.bytes(), &log.ptr, self.groups.len()).map_err(corrupt)?;
        self.hold(task, log.ptr.block)?;
        for (group, root) in self.groups.iter().zip(roots) {
            group.tree.set_root(root);
            group.acknowledged.set(root);
            self.pin_tree(task, group)?;
        }
        Ok(())
    }

    fn pin_tree(&self, task: &Task, group: &Group) -> Result<()> {
        let mut blocks: Vec<u64> = Vec::new();
        group.tree.walk_nodes(task, &mut |block, _| blocks.push(block))?;
        for block in blocks {
            self.hold(task, block)?;
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut damage = None;
        group.tree.range(task, Key::MIN, Key::MAX, &mut |key, value| {
            if key.kind == Kind::EXTENT {
                match ExtentItem::decode(value) {
                    Ok(extent) if extent.run().end() <= self.space.blocks() => {
                        runs.push(extent.run());
                    }
                    Ok(_) => damage = Some((key, "an extent that ends beyond the device")),
                    Err(what) => damage = Some((key, what)),
                }
            }
            ControlFlow::Continue(())
        })?;
        if let Some((key, what)) = damage {
            return Err(group.tree.corrupt(task, key, "log item", what));
        }
        runs.into_iter().try_for_each(|run| self.space.hold_run(task, run))
    }

    /// The error that an item of a group's tree is damaged: it names the block of the item's leaf.
    pub fn corrupt_item(&self, task: &Task, group: u8, key: Key, what: Damage) -> Error {
        self.group(group).tree.corrupt(task, key, "log item", what)
    }

    fn hold(&self, task: &Task, block: u64) -> Result<()> {
        match &self.log_device {
            Some(device) => device.hold(block),
            None => self.space.hold_run(task, Run::new(block, 1)),
        }
    }

    /// Calls `visit` with device, block and level of each node of the log trees.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn walk_nodes(&self, task: &Task, visit: &mut dyn FnMut(u8, u64, u8)) -> Result<()> {
        let device = self.places.device();
        for group in &self.groups {
            group.tree.walk_nodes(task, &mut |block, level| visit(device, block, level))?;
        }
        Ok(())
    }

    /// B-5: a commit that obsoletes the log is durable.
    pub(super) fn clear(&self) {
        for group in &self.groups {
            group.tree.set_root(Root::EMPTY);
            group.acknowledged.set(Root::EMPTY);
        }
        self.nodes.forget_trees(|tree| tree >= Tree::Log(0).id());
        if let Some(device) = &self.log_device {
            device.clear();
        }
    }
}

impl Store {
    /// B-1.6: lets the superblock point to a log root, if its transaction is still the running one.
    /// The caller has flushed all devices after the log's writes were acknowledged.
    ///
    /// # Errors
    /// `Io`, and then the file system is aborted; `Bug` if the transaction is over; `Stopped`.
    pub fn publish_log(
        &self,
        task: &Task,
        handle: &Handle,
        _locked: &RootLocked,
        log: LogRoot,
    ) -> Result<()> {
        self.check_alive()?;
        task.site(&PUBLISH, Object::new(OBJECT_TRANSACTION, 1, u64::MAX), Access::Io)?;
        if handle.generation() != self.transaction.generation()
            || log.ptr.generation != handle.generation()
        {
            return Err(Error::Bug("a log is published after its transaction"));
        }
        let committed = self.committed.borrow().clone();
        let superblock = Superblock { log: Some(log), ..committed };
        let result = self.publish_super(task, superblock);
        if result.as_ref().is_err_and(|error| !error.is_stopped()) {
            self.abort();
        }
        result
    }
}

impl Store {
    /// B-1.6 without the superblock's lock, and without looking whether the transaction is over
    /// ([`Defect::JournalSuperRace`](crate::defects::Defect::JournalSuperRace)).
    pub(crate) fn publish_log_unlocked(
        &self,
        task: &Task,
        committed: Superblock,
        log: LogRoot,
    ) -> Result<()> {
        let sequence = committed.sequence + 1;
        let superblock = Superblock { log: Some(log), sequence, ..committed };
        task.site(&PUBLISH, Object::new(OBJECT_TRANSACTION, 1, u64::MAX), Access::Io)?;
        self.write_super(task, &superblock)?;
        *self.committed.borrow_mut() = superblock;
        Ok(())
    }
}

fn encode_root(roots: &[Root], generation: u64, block: u64) -> Block {
    let mut bytes = [0; BLOCK_BYTES];
    let mut writer = Writer::new(&mut bytes);
    writer.bytes(MAGIC);
    writer.u32(roots.len() as u32);
    writer.u64(generation);
    writer.u64(block);
    writer.u64(0);
    roots.iter().for_each(|root| root.write(&mut writer));
    Block::new(&bytes)
}

/// Reads a log root: the roots of the log trees.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn decode_root(
    bytes: &[u8; BLOCK_BYTES],
    ptr: &BlockPtr,
    groups: usize,
) -> Result<SmallVec<[Root; 2]>, &'static str> {
    let mut reader = Reader::new(bytes);
    if reader.bytes(4) != Some(MAGIC) {
        return Err("no magic number of a log root");
    }
    if reader.u32() != Some(groups as u32) {
        return Err("another number of log trees than the image has");
    }
    let place = (reader.u64(), reader.u64(), reader.u64());
    if place != (Some(ptr.generation), Some(ptr.block), Some(0)) {
        return Err("it is another log root than the superblock says");
    }
    (0..groups).map(|_| Root::read(&mut reader).ok_or("a short log root")).collect()
}
