//! A machine with disks in memory, for tests of whole images.

use engine::error::Result;
use engine::mkfs::mkfs;
use engine::options::ImageOptions;
use machine::choosers::RoundRobin;
use machine::disk::BlockSource;
use machine::medium::Medium;
use machine::{Chooser, Config, Disk, End, Kind, Machine, Task};
use std::cell::RefCell;
use std::rc::Rc;

/// Disks that start with the content of these sources, and a machine.
pub struct Bench {
    pub machine: Machine,
}

impl Bench {
    /// A machine on these devices.
    pub fn on(bases: Vec<Rc<dyn BlockSource>>, chooser: Box<dyn Chooser>) -> Bench {
        let config = Config { steps_max: 1_000_000, ..Config::default() };
        Bench { machine: Machine::new(config, Disk::new(bases), chooser) }
    }

    /// Media with a new image.
    pub fn media(image: &ImageOptions) -> Vec<Rc<RefCell<Medium>>> {
        let device = |(number, blocks): (usize, u64)| {
            Rc::new(RefCell::new(Medium::anonymous(blocks, number as u8).expect("memory")))
        };
        let media: Vec<_> = image.devices().into_iter().enumerate().map(device).collect();
        let bench = Bench::on(sources(&media), Box::new(RoundRobin));
        let image = *image;
        bench.run(move |task| mkfs(task, &image)).expect("mkfs");
        bench.settle(&media);
        media
    }

    /// Writes what the disk shows now to the media.
    pub fn settle(&self, media: &[Rc<RefCell<Medium>>]) {
        for (number, medium) in media.iter().enumerate() {
            // The disk reads from the medium while it is changed: collect first.
            let device = machine::DeviceId(number as u8);
            let disk = self.machine.disk();
            let contents: Vec<_> = (0..disk.blocks(device))
                .map(|block| disk.read_now(device, block).expect("a block of the device"))
                .collect();
            for (block, content) in contents.iter().enumerate() {
                medium.borrow_mut().write(block as u64, content).expect("it has the block");
            }
        }
    }

    /// Runs a task to its end.
    pub fn run<T: 'static>(&self, body: impl FnOnce(&Task) -> Result<T> + 'static) -> Result<T> {
        let result = Rc::new(RefCell::new(None));
        let out = result.clone();
        let body = Box::new(move |task: &Task| {
            *out.borrow_mut() = Some(body(task));
            Ok(())
        });
        self.machine.spawn("test", Kind::Foreground, body);
        let end = self.machine.run();
        assert_eq!(end, End::Done, "{:?}", *self.machine.faults());
        result.take().expect("the task ended")
    }
}

/// The media as what a disk starts with.
pub fn sources(media: &[Rc<RefCell<Medium>>]) -> Vec<Rc<dyn BlockSource>> {
    media.iter().map(|medium| medium.clone() as Rc<dyn BlockSource>).collect()
}
