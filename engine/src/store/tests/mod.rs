//! Tests of the store, on a machine with a disk in memory.

mod commits;
mod crashes;
mod damage;
mod logs;
mod spaces;
mod tasks;

use super::*;
use crate::mkfs::mkfs;
use crate::options::ImageOptions;
use machine::choosers::RoundRobin;
use machine::disk::BlockSource;
use machine::medium::Medium;
use machine::{Chooser, Config, Disk, End, Kind as TaskKind};
use std::cell::RefCell;

/// A machine with disks in memory.
pub(super) struct Bench {
    pub(super) machine: Machine,
}

impl Bench {
    /// A machine on these devices.
    pub(super) fn on(bases: Vec<Rc<dyn BlockSource>>, chooser: Box<dyn Chooser>) -> Bench {
        let config = Config { steps_max: 50_000_000, ..Config::default() };
        Bench { machine: Machine::new(config, Disk::new(bases), chooser) }
    }

    /// What the devices hold now, as the bases of another machine.
    pub(super) fn contents(&self, options: &ImageOptions) -> Vec<Rc<dyn BlockSource>> {
        let disk = self.machine.disk();
        let device = |(number, blocks): (usize, u64)| -> Rc<dyn BlockSource> {
            let device = machine::DeviceId(number as u8);
            let read = |block| disk.read_now(device, block).unwrap();
            Rc::new(Blocks((0..blocks).map(read).collect()))
        };
        options.devices().into_iter().enumerate().map(device).collect()
    }

    /// A machine with a new image.
    pub(super) fn new(image: &ImageOptions) -> Bench {
        let bench = Bench::empty(image);
        let image = *image;
        bench.run(move |task| mkfs(task, &image)).expect("mkfs");
        bench
    }

    /// A machine with empty devices for an image.
    pub(super) fn empty(image: &ImageOptions) -> Bench {
        let device = |(number, blocks): (usize, u64)| -> Rc<dyn BlockSource> {
            Rc::new(RefCell::new(Medium::anonymous(blocks, number as u8).unwrap()))
        };
        let bases = image.devices().into_iter().enumerate().map(device).collect();
        Bench::on(bases, Box::new(RoundRobin))
    }

    /// Runs a task to its end.
    pub(super) fn run<T: 'static>(
        &self,
        body: impl FnOnce(&Task) -> Result<T> + 'static,
    ) -> Result<T> {
        let result = Rc::new(RefCell::new(None));
        let out = result.clone();
        let body = Box::new(move |task: &Task| {
            *out.borrow_mut() = Some(body(task));
            Ok(())
        });
        self.machine.spawn("test", TaskKind::Foreground, body);
        let end = self.machine.run();
        assert_eq!(end, End::Done, "{:?}", *self.machine.faults());
        result.take().expect("the task ended")
    }
}

/// A device that holds these blocks.
pub(super) struct Blocks(Vec<machine::Block>);

impl BlockSource for Blocks {
    fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, block: u64) -> machine::Block {
        self.0[block as usize].clone()
    }
}

/// A small image with the given node capacity.
pub(super) fn image(leaf: u16) -> ImageOptions {
    ImageOptions { leaf, poison: false, ..ImageOptions::default() }
}

/// Mounts with default options.
pub(super) fn mount(task: &Task) -> Result<Rc<Store>> {
    Store::mount(task, &MountOptions::default())
}

/// A key of an ordinary item of the FS tree.
pub(super) fn key(object: u64) -> Key {
    Key::new(object, Kind::INODE, 0)
}

/// All items of a tree.
pub(super) fn items(task: &Task, store: &Store, tree: Tree) -> Result<Vec<(Key, Vec<u8>)>> {
    let mut items = Vec::new();
    store.range(task, tree, Key::MIN, Key::MAX, |key, value| {
        items.push((key, value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(items)
}

/// Checks that the allocated blocks are the superblocks, the nodes, the free-space map and
/// `data_blocks` others, each once.
pub(super) fn check_space(task: &Task, store: &Store, data_blocks: u64) -> Result<()> {
    let mut used = vec![0, 1];
    for tree in Tree::COMMITTED {
        store.walk_nodes(task, tree, |block, _| used.push(block))?;
    }
    let allocated = store.walk_space(task, |block| used.push(block))?;
    let count = used.len() as u64;
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len() as u64, count, "no block is used twice");
    assert_eq!(allocated, count + data_blocks, "every allocated block is used");
    assert_eq!(store.free_blocks(), store.blocks() - allocated, "the count is that of the map");
    for block in used {
        assert!(store.is_allocated(task, block).unwrap_or(block < 2), "block {block} is used");
    }
    Ok(())
}
