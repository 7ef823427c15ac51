//! Paths against each other on random schedules: no deadlock, no lock out of order, and whatever is
//! read was written there.

mod core_support;

use core_support::{Body, Rig, SECTOR, fill, writes_in};
use engine::error::Error;
use engine::options::{ImageOptions, MountOptions};
use engine::{AsyncIo, File, Fs, Mapping, Sync};
use machine::Task;
use machine::choosers::{Dice, Pct, Random};
use std::cell::Cell;
use std::rc::Rc;

const FILES: u64 = 2;
const FILE_BYTES: u32 = 6 * 4096;
const MAPPED_BYTES: u64 = 8 * 4096;

/// One task of a race.
struct Racer {
    fs: Fs,
    files: Vec<(File, Mapping)>,
    dice: Dice,
    /// The number of the last write of any task.
    writes: Rc<Cell<u32>>,
    in_flight: Vec<(u64, u64, AsyncIo)>,
}

impl Racer {
    fn run(mut self, task: &Task, steps: u32) -> engine::Result<()> {
        for _ in 0..steps {
            task.begin_operation();
            match self.step(task) {
                Ok(()) | Err(Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
            self.fs.assert_memory();
        }
        while let Some((_, _, io)) = self.in_flight.pop() {
            task.begin_operation();
            io.wait(task)?;
        }
        Ok(())
    }

    fn step(&mut self, task: &Task) -> engine::Result<()> {
        let number = self.dice.below(FILES as u32) as u64;
        let (file, mapping) = self.files[number as usize].clone();
        let sectors = FILE_BYTES / SECTOR as u32;
        let offset = u64::from(self.dice.below(sectors)) * SECTOR;
        let len = (1 + self.dice.below(20)) as usize * SECTOR as usize;
        let sync = [Sync::None, Sync::None, Sync::None, Sync::Data][self.dice.below(4) as usize];
        let judge = |offset, bytes: &[u8]| {
            writes_in(number, offset, bytes).map(|_| ()).unwrap_or_else(|what| panic!("{what}"));
        };
        match self.dice.below(16) {
            0 | 1 => file.write(task, offset, &self.data(number, offset, len), sync).map(|_| ()),
            2 | 3 => {
                file.direct_write(task, offset, &self.data(number, offset, len), sync).map(|_| ())
            }
            4 => {
                let io = file.submit_write(task, offset, &self.data(number, offset, len), sync)?;
                self.in_flight.push((number, offset, io));
                Ok(())
            }
            5 => {
                let mut target = vec![0; len];
                let read = file.read(task, offset, &mut target)?;
                judge(offset, &target[..read]);
                Ok(())
            }
            6 => {
                let mut target = vec![0; len];
                let read = file.direct_read(task, offset, &mut target)?;
                judge(offset, &target[..read]);
                Ok(())
            }
            7 => self.reap(task, judge),
            8 | 9 => self.store(task, &file, &mapping, number, offset),
            10 => {
                let size = file.inode().size();
                let mut target = vec![0; len.min(size.saturating_sub(offset) as usize)];
                self.fs.load(task, &mapping, offset.min(size), &mut target)?;
                judge(offset, &target);
                Ok(())
            }
            11 => file.writeback(task),
            12 => file.reclaim(task).map(|_| ()),
            13 => file.fsync(task),
            14 => self.fs.msync(task, &mapping, 0, MAPPED_BYTES),
            _ => match self.dice.below(3) {
                0 => self.fs.sync(task),
                1 => self.fs.commit(task),
                _ => file.fdatasync(task),
            },
        }
    }

    fn data(&mut self, file: u64, offset: u64, len: usize) -> Vec<u8> {
        self.writes.set(self.writes.get() + 1);
        let mut bytes = vec![0; len];
        fill(file, offset, self.writes.get(), &mut bytes);
        bytes
    }

    fn reap(&mut self, task: &Task, judge: impl Fn(u64, &[u8])) -> engine::Result<()> {
        if let Some((_, _, io)) = self.in_flight.pop() {
            return io.wait(task).map(|_| ());
        }
        let (file, _) = self.files[0].clone();
        let io = file.submit_read(task, 0, 8192)?;
        io.wait(task)?;
        let _ = (&judge, &io);
        let bytes = io.bytes();
        writes_in(0, 0, &bytes).map(|_| ()).unwrap_or_else(|what| panic!("{what}"));
        Ok(())
    }

    fn store(
        &mut self,
        task: &Task,
        file: &File,
        mapping: &Mapping,
        number: u64,
        offset: u64,
    ) -> engine::Result<()> {
        let size = file.inode().size();
        if offset + SECTOR > size {
            return Ok(());
        }
        let len = (size - offset).min(3 * SECTOR) / SECTOR * SECTOR;
        let data = self.data(number, offset, len as usize);
        self.fs.store_bytes(task, mapping, offset, &data)
    }
}

fn race(rig: &Rig, mount: &MountOptions, seed: u64, tasks: u64, steps: u32) {
    rig.reset();
    let fs = rig.mount(mount);
    let used = fs.clone();
    let files = rig
        .run(move |task| {
            let mut files = Vec::new();
            for name in ["f", "g"] {
                let file = used.create(task, name)?;
                let mapping = used.mmap(task, &file, 0, MAPPED_BYTES)?;
                files.push((file, mapping));
            }
            used.sync(task)?;
            Ok(files)
        })
        .expect("set-up");
    let writes = Rc::new(Cell::new(0));
    let bodies = (0..tasks).map(|number| {
        let racer = Racer {
            fs: fs.clone(),
            files: files.clone(),
            dice: Dice::new(seed * 8 + number),
            writes: writes.clone(),
            in_flight: Vec::new(),
        };
        Box::new(move |task: &Task| racer.run(task, steps)) as Body
    });
    let what = format!("seed {seed} {mount:?}");
    let chooser: Box<dyn machine::Chooser> = match seed % 3 {
        0 => Box::new(Random::new(seed)),
        1 => Box::new(Random::with_bias(seed, 70)),
        _ => Box::new(Pct::new(seed, 4, 600)),
    };
    rig.race(&what, chooser, bodies.collect());
    let before = contents(rig, &files);
    let inos: Vec<_> = files.iter().map(|(file, _)| file.inode().ino).collect();
    drop(files);
    rig.unmount(fs);
    let problems = rig.run(engine::check).expect("the check reads everything");
    assert!(problems.problems.is_empty(), "{what}: {:?}", problems.problems);
    let fs = rig.mount(mount);
    let used = fs.clone();
    let files = rig.run(move |task| {
        inos.iter().map(|&ino| Ok(File::new(&used, used.iget(task, ino)?))).collect()
    });
    let files: Vec<File> = files.expect("the files are there");
    let after = read_all(rig, files);
    assert!(before == after, "{what}: what was read before and after the remount differs");
    rig.unmount(fs);
}

fn contents(rig: &Rig, files: &[(File, Mapping)]) -> Vec<Vec<u8>> {
    read_all(rig, files.iter().map(|(file, _)| file.clone()).collect())
}

fn read_all(rig: &Rig, files: Vec<File>) -> Vec<Vec<u8>> {
    let read = rig.run(move |task| {
        let mut contents = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let mut bytes = vec![0; 128 * 1024];
            let len = file.read(task, 0, &mut bytes)?;
            bytes.truncate(len);
            writes_in(number as u64, 0, &bytes).unwrap_or_else(|what| panic!("{what}"));
            contents.push(bytes);
        }
        Ok(contents)
    });
    read.expect("everything can be read")
}

fn seeds() -> u64 {
    std::env::var("CORE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

fn run(image: ImageOptions, mounts: &[MountOptions]) {
    let rig = Rig::new(&image);
    for seed in 0..seeds() {
        let mount = mounts[seed as usize % mounts.len()];
        race(&rig, &mount, seed, 2 + seed % 2, 8);
    }
}

fn mounts() -> Vec<MountOptions> {
    let base = MountOptions::default();
    vec![
        base,
        MountOptions { workers: 2, ..base },
        MountOptions { node_buffers: true, reclaimer: 8, eb_fast_path: true, ..base },
        MountOptions { delalloc: false, ..base },
        MountOptions { cache_pages: 2, flusher: 8, committer: 8, ..base },
        MountOptions { alloc: engine::options::AllocPolicy::Reuse, workers: 2, ..base },
    ]
}

#[test]
fn checksummed_files_survive_races() {
    run(ImageOptions::default(), &mounts());
}

#[test]
fn small_nodes_survive_races() {
    run(ImageOptions { leaf: 4, ..ImageOptions::default() }, &mounts());
}

#[test]
fn files_without_checksums_survive_races() {
    run(ImageOptions { datasum: false, ..ImageOptions::default() }, &mounts());
}

#[test]
fn files_written_in_place_survive_races() {
    run(ImageOptions { datasum: false, datacow: false, ..ImageOptions::default() }, &mounts());
}

#[test]
fn a_small_device_survives_races() {
    run(ImageOptions { blocks: 80, ..ImageOptions::default() }, &mounts());
}
