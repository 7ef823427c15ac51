//! Several tasks share every block of a file, but no sector: what a task wrote last is what it
//! reads, by whatever path, and what is there after a remount. An update that is lost between two
//! paths shows at once.

mod core_support;

use core_support::{Body, Rig, SECTOR, fill, writes_in};
use engine::options::{AllocPolicy, ImageOptions, MountOptions};
use engine::{File, Fs, Mapping, Sync};
use machine::Task;
use machine::choosers::{Dice, Pct, Pos, Random};
use std::cell::RefCell;
use std::rc::Rc;

const SECTORS: u64 = 40;
const TASKS: u64 = 3;

/// By sector, the write that was last; 0 if none.
type Last = Rc<RefCell<Vec<u32>>>;

struct Owner {
    number: u64,
    fs: Fs,
    file: File,
    mapping: Mapping,
    dice: Dice,
    last: Last,
}

impl Owner {
    fn run(mut self, task: &Task, steps: u32) -> engine::Result<()> {
        for step in 0..steps {
            task.begin_operation();
            let own = u64::from(self.dice.below((SECTORS / TASKS) as u32)) * TASKS + self.number;
            let write = (self.number as u32 + 1) * 1000 + step;
            self.fs.assert_memory();
            match self.dice.below(10) {
                0..=4 => self.write(task, own, write)?,
                5..=7 => self.read(task, own)?,
                8 => self.other(task)?,
                _ => {
                    for sector in (self.number..SECTORS).step_by(TASKS as usize) {
                        self.read(task, sector)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, task: &Task, sector: u64, write: u32) -> engine::Result<()> {
        let offset = sector * SECTOR;
        let mut bytes = [0; SECTOR as usize];
        fill(0, offset, write, &mut bytes);
        let sync = if self.dice.below(4) == 0 { Sync::Data } else { Sync::None };
        match self.dice.below(6) {
            0 | 1 => drop(self.file.write(task, offset, &bytes, sync)?),
            2 => drop(self.file.direct_write(task, offset, &bytes, sync)?),
            3 => drop(self.file.submit_write(task, offset, &bytes, sync)?.wait(task)?),
            _ if offset + SECTOR > self.file.inode().size() => return Ok(()),
            _ => self.fs.store_bytes(task, &self.mapping, offset, &bytes)?,
        }
        self.last.borrow_mut()[sector as usize] = write;
        Ok(())
    }

    fn read(&mut self, task: &Task, sector: u64) -> engine::Result<()> {
        let offset = sector * SECTOR;
        let want = self.last.borrow()[sector as usize];
        let mut bytes = [0; SECTOR as usize];
        let way = self.dice.below(3);
        let is_there = match way {
            0 => self.file.read(task, offset, &mut bytes)? > 0,
            1 => self.file.direct_read(task, offset, &mut bytes)? > 0,
            _ if offset + SECTOR > self.file.inode().size() => false,
            _ => self.fs.load(task, &self.mapping, offset, &mut bytes).map(|()| true)?,
        };
        assert!(is_there || want == 0, "sector {sector} is behind the end after write {want}");
        let found = writes_in(0, offset, &bytes).unwrap_or_else(|what| panic!("{what}"))[0];
        assert_eq!(found, want, "sector {sector}, read by way {way}");
        Ok(())
    }

    fn other(&mut self, task: &Task) -> engine::Result<()> {
        match self.dice.below(6) {
            0 => self.file.writeback(task),
            1 => self.file.reclaim(task).map(|_| ()),
            2 => self.file.fsync(task),
            3 => self.fs.sync(task),
            4 => self.fs.commit(task),
            _ => self.fs.msync(task, &self.mapping, 0, 4096),
        }
    }
}

fn race(rig: &Rig, mount: &MountOptions, seed: u64) {
    rig.reset();
    let fs = rig.mount(mount);
    let used = fs.clone();
    let (file, mapping) = rig
        .run(move |task| {
            let file = used.create(task, "f")?;
            let mapping = used.mmap(task, &file, 0, 8 * 4096)?;
            Ok((file, mapping))
        })
        .expect("set-up");
    let last: Last = Rc::new(RefCell::new(vec![0; SECTORS as usize]));
    let owners = (0..TASKS).map(|number| {
        let (fs, file, mapping) = (fs.clone(), file.clone(), mapping.clone());
        let (dice, last) = (Dice::new(seed * 4 + number), last.clone());
        let owner = Owner { number, fs, file, mapping, dice, last };
        Box::new(move |task: &Task| owner.run(task, 14)) as Body
    });
    let what = format!("seed {seed} {mount:?}");
    let chooser: Box<dyn machine::Chooser> = match seed % 4 {
        0 => Box::new(Random::new(seed)),
        1 => Box::new(Random::with_bias(seed, 80)),
        2 => Box::new(Pos::new(seed)),
        _ => Box::new(Pct::new(seed, 5, 1500)),
    };
    rig.race(&what, chooser, owners.collect());
    let ino = file.inode().ino;
    drop((file, mapping));
    rig.unmount(fs);
    let fs = rig.mount(mount);
    let used = fs.clone();
    let found = rig.run(move |task| {
        let file = File::new(&used, used.iget(task, ino)?);
        let mut bytes = vec![0; (SECTORS * SECTOR) as usize];
        file.read(task, 0, &mut bytes)?;
        Ok(writes_in(0, 0, &bytes).unwrap_or_else(|what| panic!("{what}")))
    });
    assert_eq!(found.expect("readable"), *last.borrow(), "{what}: after a remount");
    rig.unmount(fs);
    let report = rig.run(engine::check).expect("the check reads everything");
    assert!(report.problems.is_empty(), "{what}: {:?}", report.problems);
}

fn run(image: ImageOptions) {
    let rig = Rig::new(&image);
    let base = MountOptions::default();
    let mounts = [
        base,
        MountOptions { workers: 2, ..base },
        MountOptions { delalloc: false, ..base },
        MountOptions { cache_pages: 2, flusher: 20, committer: 10, ..base },
        MountOptions { alloc: AllocPolicy::Reuse, workers: 2, flusher: 20, ..base },
    ];
    let seeds = std::env::var("CORE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        race(&rig, &mounts[seed as usize % mounts.len()], seed);
    }
}

#[test]
fn with_checksums() {
    run(ImageOptions { leaf: 4, ..ImageOptions::default() });
}

#[test]
fn without_checksums() {
    run(ImageOptions { datasum: false, ..ImageOptions::default() });
}

#[test]
fn in_place() {
    run(ImageOptions { datasum: false, datacow: false, ..ImageOptions::default() });
}
