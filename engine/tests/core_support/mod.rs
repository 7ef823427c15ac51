//! A machine with an image in memory, and what the tests of the paths share.
//!
//! Every sector that a test writes names its file, its place and the write; so whatever is read can
//! be judged without knowing who won a race.

#![allow(dead_code, reason = "each test uses a part")]

use engine::Fs;
use engine::defects::Defects;
use engine::error::Result;
use engine::mkfs::mkfs;
use engine::options::{ImageOptions, MountOptions};
use machine::choosers::RoundRobin;
use machine::disk::BlockSource;
use machine::medium::Medium;
use machine::{Chooser, Config, DeviceId, Disk, End, Kind, Machine, Task};
use std::cell::RefCell;
use std::rc::Rc;

pub const SECTOR: u64 = 512;

/// What a task of a test does.
pub type Body = Box<dyn FnOnce(&Task) -> Result<()>>;

/// A machine, and the media that its disk starts with in every run.
pub struct Rig {
    pub machine: Machine,
    media: Vec<Rc<RefCell<Medium>>>,
}

impl Rig {
    /// A machine on a new image.
    pub fn new(image: &ImageOptions) -> Rig {
        let device = |(number, blocks): (usize, u64)| {
            Rc::new(RefCell::new(Medium::anonymous(blocks, number as u8).expect("memory")))
        };
        let media: Vec<_> = image.devices().into_iter().enumerate().map(device).collect();
        let disk = Disk::new(sources(&media));
        let machine = Machine::new(config(), disk, Box::new(RoundRobin));
        let rig = Rig { machine, media };
        let image = *image;
        rig.run(move |task| mkfs(task, &image)).expect("mkfs");
        for (number, medium) in rig.media.iter().enumerate() {
            let disk = rig.machine.disk();
            let device = DeviceId(number as u8);
            let read = |block| disk.read_now(device, block).expect("a block of the device");
            let contents: Vec<_> = (0..disk.blocks(device)).map(read).collect();
            for (block, content) in contents.iter().enumerate() {
                medium.borrow_mut().write(block as u64, content).expect("it has the block");
            }
        }
        rig
    }

    /// Everything as after mkfs.
    pub fn reset(&self) {
        self.machine.reset(config());
        self.machine.disk_mut().reset(sources(&self.media));
        self.machine.set_chooser(Box::new(RoundRobin));
    }

    /// Runs one task to its end.
    pub fn run<T: 'static>(&self, body: impl FnOnce(&Task) -> Result<T> + 'static) -> Result<T> {
        let result = Rc::new(RefCell::new(None));
        let out = result.clone();
        let run = move |task: &Task| {
            task.begin_operation();
            *out.borrow_mut() = Some(body(task));
            Ok(())
        };
        self.machine.spawn("test", Kind::Foreground, Box::new(run));
        self.finish("one task");
        result.take().expect("the task ended")
    }

    /// Runs tasks against each other, as `chooser` has it. All must succeed.
    pub fn race(&self, what: &str, chooser: Box<dyn Chooser>, bodies: Vec<Body>) {
        let names = ["a", "b", "c", "d"];
        let errors = Rc::new(RefCell::new(Vec::new()));
        for (name, body) in names.into_iter().zip(bodies) {
            let errors = errors.clone();
            let run = move |task: &Task| {
                if let Err(error) = body(task) {
                    errors.borrow_mut().push(format!("{name}: {error}"));
                }
                Ok(())
            };
            self.machine.spawn(name, Kind::Foreground, Box::new(run));
        }
        self.machine.set_chooser(chooser);
        self.finish(what);
        self.machine.set_chooser(Box::new(RoundRobin));
        assert!(errors.borrow().is_empty(), "{what}: {:?}", errors.borrow());
    }

    fn finish(&self, what: &str) {
        let end = self.machine.run();
        let faults: Vec<String> = self.machine.faults().iter().map(ToString::to_string).collect();
        assert!(end == End::Done && faults.is_empty(), "{what}:\n{}", faults.join("\n"));
    }

    pub fn mount(&self, options: &MountOptions) -> Fs {
        let options = *options;
        self.run(move |task| Fs::mount(task, &options, Defects::NONE)).expect("mount")
    }

    pub fn unmount(&self, fs: Fs) {
        self.run(move |task| fs.unmount(task)).expect("unmount");
    }
}

fn config() -> Config {
    Config { steps_max: 400_000, retries_max: 400, ..Config::default() }
}

fn sources(media: &[Rc<RefCell<Medium>>]) -> Vec<Rc<dyn BlockSource>> {
    media.iter().map(|medium| medium.clone() as Rc<dyn BlockSource>).collect()
}

/// What a sector that is written holds: its file and place, and which write.
pub fn fill(file: u64, offset: u64, write: u32, bytes: &mut [u8]) {
    assert!(offset.is_multiple_of(SECTOR) && (bytes.len() as u64).is_multiple_of(SECTOR));
    for (index, sector) in bytes.chunks_exact_mut(SECTOR as usize).enumerate() {
        let place = offset / SECTOR + index as u64;
        let mark = mark(file, place, write);
        for chunk in sector.chunks_exact_mut(8) {
            chunk.copy_from_slice(&mark);
        }
    }
}

fn mark(file: u64, place: u64, write: u32) -> [u8; 8] {
    (u64::from(write) << 32 | place << 8 | file << 4 | 0xf).to_le_bytes()
}

/// Which writes stand in the sectors that were read; 0 for zeros. Anything else is an error.
pub fn writes_in(file: u64, offset: u64, bytes: &[u8]) -> std::result::Result<Vec<u32>, String> {
    let mut found = Vec::new();
    for (index, sector) in bytes.chunks(SECTOR as usize).enumerate() {
        let place = offset / SECTOR + index as u64;
        let first: [u8; 8] = sector[..8].try_into().expect("eight bytes");
        if sector.chunks(8).any(|chunk| chunk != first) {
            return Err(format!("sector {place} of file {file} is mixed: {:x?}", &sector[..32]));
        }
        let write = (u64::from_le_bytes(first) >> 32) as u32;
        if first != [0; 8] && first != mark(file, place, write) {
            return Err(format!("sector {place} of file {file} holds {first:x?}"));
        }
        found.push(write);
    }
    Ok(found)
}
