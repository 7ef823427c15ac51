//! The beginnings of a store: making an image and mounting one.
//!
//! A mount reads the two superblocks and nothing else; trees, free-space map and log are read when
//! they are needed.

use super::log::LogTrees;
use super::nodes::Nodes;
use super::nodes::node::Capacity;
use super::space::{FIRST_BLOCK, Places, Space};
use super::superblock::{Superblock, uuid_of};
use super::transaction::Transaction;
use super::tree::BTree;
use super::{BlockPtr, InodeItem, Join, Root, SUPER, Store, Tree};
use crate::buffers::{Buffers, Rules};
use crate::defects::Defects;
use crate::error::{Error, Result};
use crate::options::{ImageOptions, MountOptions};
use crate::types::Ino;
use machine::cell::{Cell, RefCell};
use machine::disk::{Note, Request};
use machine::{DeviceId, Machine, Mutex, Task};
use std::rc::Rc;

impl Store {
    /// Mounts the image on the machine's disk. A log, if [`has_log`](Self::has_log), is for the
    /// caller to pin and to replay.
    ///
    /// # Errors
    /// `Corrupt` if there is no valid superblock, or one that the disk does not fit; `Io`;
    /// `Stopped`.
    pub fn mount(task: &Task, options: &MountOptions) -> Result<Rc<Store>> {
        let machine = task.machine();
        if machine.disk().blocks(DeviceId(0)) < FIRST_BLOCK {
            return Err(Store::corrupt("superblock", 0, "the device is too small for an image"));
        }
        let request = Request::Read { device: DeviceId(0), block: 0, count: 2 };
        let bio = task.submit(request, Note { tag: 0, what: "super" })?;
        let failed = |_| Error::Io { device: 0, block: 0, what: "read the superblocks" };
        let copies = bio.wait(task)?.map_err(failed)?;
        let superblock = Superblock::newest(&copies)?;
        check_devices(machine, &superblock)?;
        let (root, free) = (superblock.space, superblock.free_blocks);
        let space = Space::open(machine, superblock.image.blocks, root, free, options.alloc);
        Ok(Rc::new(Store::assemble(machine, options, superblock, space)))
    }

    /// A store in memory over an image that holds nothing yet.
    pub(crate) fn format(machine: &Machine, image: &ImageOptions) -> Result<Store> {
        image.check()?;
        let space = Space::format(machine, image);
        let superblock = Superblock {
            image: *image,
            uuid: uuid_of(image),
            sequence: 0,
            generation: 0,
            free_blocks: space.free_blocks(),
            next_ino: Ino::FIRST_FREE.0,
            roots: [Root::EMPTY; 3],
            space: BlockPtr::default(),
            log: None,
        };
        check_devices(machine, &superblock)?;
        Ok(Store::assemble(machine, &MountOptions::default(), superblock, space))
    }

    fn assemble(
        machine: &Machine,
        options: &MountOptions,
        superblock: Superblock,
        space: Rc<Space>,
    ) -> Store {
        let rules = Rules::new(options, Defects::NONE);
        let room = options.node_buffers.then(|| Buffers::new(machine, 0, "tree node", rules));
        let nodes = Rc::new(Nodes::new(room));
        let capacity = Capacity::new(superblock.image.leaf);
        let tree = |index: usize| {
            let places = Places::Committed(space.clone());
            let (name, root) = (Tree::COMMITTED[index], superblock.roots[index]);
            BTree::new(machine, name, root, capacity, nodes.clone(), places)
        };
        let store = Store {
            machine: machine.clone(),
            options: *options,
            trees: [tree(0), tree(1), tree(2)],
            logs: LogTrees::new(machine, &superblock, nodes.clone(), space.clone()),
            transaction: Transaction::new(machine, superblock.generation + 1, space.clone()),
            super_lock: Mutex::new(machine, &SUPER, (0, 0)),
            next_ino: Cell::new(superblock.next_ino),
            log_unpinned: Cell::new(superblock.log.is_some()),
            committed: RefCell::new(superblock),
            aborted: Cell::new(false),
            defects: Cell::new(Defects::NONE),
            unshared: RefCell::default(),
            buffers: Buffers::new(machine, 0, "buffer", rules),
            nodes,
            space,
        };
        store.keep_for_deletions();
        store
    }

    /// Writes the second copy of the superblock, so that mkfs leaves two.
    pub(crate) fn write_second_super(&self, task: &Task) -> Result<()> {
        let committed = self.superblock();
        self.publish_super(task, committed)
    }

    /// Creates the root directory.
    pub(crate) fn create_root(&self, task: &Task) -> Result<()> {
        let handle = self.join(task, Join::User)?;
        let inode = InodeItem {
            mode: super::items::FileKind::Directory.mode_bits() | 0o755,
            nlink: 2,
            generation: handle.generation(),
            transid: handle.generation(),
            ..InodeItem::default()
        };
        self.insert(task, &handle, Tree::Fs, InodeItem::key(Ino::ROOT), &inode.encode())
    }
}

/// The disk must have all devices of the image, as large as the image says.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn check_devices(machine: &Machine, superblock: &Superblock) -> Result<()> {
    let disk = machine.disk();
    for (device, wanted) in superblock.image.devices().into_iter().enumerate() {
        let what = match (device, disk.blocks(DeviceId(device as u8))) {
            (_, blocks) if blocks >= wanted => continue,
            (0, _) => "the image that it describes is larger than its device",
            (_, 0) => "the log device that it names is missing",
            (_, _) => "the log that it describes is larger than its device",
        };
        return Err(Store::corrupt("superblock", superblock.slot(), what));
    }
    Ok(())
}
