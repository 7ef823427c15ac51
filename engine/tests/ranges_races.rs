//! Operations that reshape files against each other and against data, on random schedules: no
//! deadlock, no lock out of order, nothing foreign to be read, nothing lost on the device.

mod core_support;
mod ranges_support;

use core_support::{Body, Rig, SECTOR, fill};
use engine::error::{Errno, Error};
use engine::options::{AllocPolicy, ImageOptions, MountOptions};
use engine::paths::remap::Dedupe;
use engine::{File, Fs, Mapping, Span, Sync, check};
use machine::choosers::{Dice, Pct, Random};
use machine::{Chooser, Task};
use ranges_support::BLOCK;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const FILES: usize = 2;
const SECTORS: u32 = 48;

fn chooser(seed: u64) -> Box<dyn Chooser> {
    match seed % 3 {
        0 => Box::new(Random::new(seed)),
        1 => Box::new(Random::with_bias(seed, 70)),
        _ => Box::new(Pct::new(seed, 4, 600)),
    }
}

/// How many seeds; more by hand.
fn seeds(usual: u64) -> u64 {
    std::env::var("RANGES_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Sectors are zeros or what one write put into them, wherever clones have carried it.
fn judge(bytes: &[u8], writes: u32) {
    for (index, sector) in bytes.chunks(SECTOR as usize).enumerate() {
        let first: [u8; 8] = sector[..8].try_into().expect("sizes are whole sectors");
        let mixed = sector.chunks(8).any(|chunk| chunk != first);
        assert!(!mixed, "sector {index} is mixed: {:x?}", &sector[..32]);
        let value = u64::from_le_bytes(first);
        let (write, place, file) = (value >> 32, (value >> 8) & 0xff_ffff, (value >> 4) & 0xf);
        let is_ours = value & 0xf == 0xf
            && (1..=u64::from(writes)).contains(&write)
            && place < 128
            && file < FILES as u64;
        assert!(value == 0 || is_ours, "sector {index} holds {value:x}");
    }
}

/// One task of a storm.
struct Racer {
    fs: Fs,
    files: Vec<(File, Mapping)>,
    dice: Dice,
    writes: Rc<Cell<u32>>,
}

impl Racer {
    fn run(mut self, task: &Task, steps: u32) -> engine::Result<()> {
        for _ in 0..steps {
            task.begin_operation();
            match self.step(task) {
                Ok(()) | Err(Error::NoSpace { .. }) => {}
                // A mapping beyond the end, sizes that another task has changed, names that are
                // gone.
                Err(Error::Refused(
                    Errno::EFAULT | Errno::EINVAL | Errno::ENOENT | Errno::EEXIST,
                )) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn span(&mut self) -> Span {
        let start = u64::from(self.dice.below(SECTORS)) * SECTOR;
        let len = u64::from(1 + self.dice.below(24)) * SECTOR;
        if self.dice.below(2) == 0 {
            return Span::new(start, start + len);
        }
        let start = start / BLOCK * BLOCK;
        Span::new(start, start + len.next_multiple_of(BLOCK))
    }

    fn data(&mut self, file: usize, span: Span) -> Vec<u8> {
        self.writes.set(self.writes.get() + 1);
        let mut bytes = vec![0; span.len() as usize];
        fill(file as u64, span.start, self.writes.get(), &mut bytes);
        bytes
    }

    fn step(&mut self, task: &Task) -> engine::Result<()> {
        let number = self.dice.below(FILES as u32) as usize;
        let (file, mapping) = self.files[number].clone();
        let span = self.span();
        let data = self.data(number, span);
        let mut target = vec![0; data.len()];
        match self.dice.below(22) {
            0 | 1 => file.write(task, span.start, &data, Sync::None).map(|_| ()),
            2 => file.direct_write(task, span.start, &data, Sync::None).map(|_| ()),
            3..=5 => self.fs.store_bytes(task, &mapping, span.start, &data),
            6 => {
                let len = file.read(task, span.start, &mut target)?;
                judge(&target[..len], self.writes.get());
                Ok(())
            }
            7 => {
                let len = file.direct_read(task, span.start, &mut target)?;
                judge(&target[..len], self.writes.get());
                Ok(())
            }
            8 => {
                self.fs.load(task, &mapping, span.start, &mut target)?;
                judge(&target, self.writes.get());
                Ok(())
            }
            9..=11 => file.punch(task, span),
            12 => file.zero_range(task, span, self.dice.below(2) == 0),
            13 => file.fallocate(task, span, self.dice.below(2) == 0),
            14 | 15 => file.truncate(task, span.start),
            16 | 17 => self.remap(task, &file),
            18 => file.append(task, &data[..SECTOR as usize], Sync::None).map(|_| ()),
            19 => self.settle(task, &file),
            20 => {
                let runs = file.holes(task)?;
                assert!(runs.windows(2).all(|two| two[0].0.end == two[1].0.start), "{runs:?}");
                Ok(())
            }
            _ => self.names(task),
        }
    }

    fn remap(&mut self, task: &Task, file: &File) -> engine::Result<()> {
        let (other, _) = self.files[self.dice.below(FILES as u32) as usize].clone();
        let source = u64::from(self.dice.below(6)) * BLOCK;
        let target = u64::from(self.dice.below(6)) * BLOCK;
        let len = u64::from(self.dice.below(4)) * BLOCK;
        if self.dice.below(2) == 0 {
            return file.clone_range(task, source, &other, target, len);
        }
        file.dedupe_range(task, source, &other, target, len).map(|_| ())
    }

    fn settle(&mut self, task: &Task, file: &File) -> engine::Result<()> {
        match self.dice.below(6) {
            0 => self.fs.sync(task),
            1 => self.fs.commit(task),
            2 => file.fsync(task),
            3 => file.writeback(task),
            _ => file.reclaim(task).map(|_| ()),
        }
    }

    /// A name comes and goes, with a file behind it that may be open when it goes.
    fn names(&mut self, task: &Task) -> engine::Result<()> {
        let name = ["x", "y"][self.dice.below(2) as usize];
        if self.dice.below(2) == 0 {
            return self.fs.unlink(task, name);
        }
        let file = self.fs.create(task, name)?;
        file.write(task, 0, &[0; 2 * BLOCK as usize], Sync::None)?;
        if self.dice.below(2) == 0 {
            self.fs.unlink(task, name)?;
            file.truncate(task, BLOCK)?;
        }
        Ok(())
    }
}

fn read_all(task: &Task, fs: &Fs) -> engine::Result<Vec<(String, Vec<u8>)>> {
    let mut contents = Vec::new();
    for name in fs.list(task)? {
        let file = fs.open(task, &name)?;
        let mut bytes = vec![0; file.stat(task)?.size as usize];
        assert_eq!(file.read(task, 0, &mut bytes)?, bytes.len());
        contents.push((name, bytes));
    }
    Ok(contents)
}

/// After a race: the device has what memory had, nothing is inconsistent, and nothing stays
/// allocated when everything is deleted.
fn settle(task: &Task, fs: &Fs, mount: &MountOptions, baseline: u64) -> engine::Result<()> {
    task.begin_operation();
    let before = read_all(task, fs)?;
    fs.unmount(task)?;
    let report = check(task)?;
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let fs = Fs::mount(task, mount, engine::defects::Defects::NONE)?;
    assert!(before == read_all(task, &fs)?, "memory and device differ");
    for (name, _) in before {
        fs.unlink(task, &name)?;
    }
    fs.sync(task)?;
    assert_eq!(fs.store().free_blocks(), baseline, "blocks are lost");
    fs.unmount(task)
}

fn storm(rig: &Rig, mount: &MountOptions, seed: u64) {
    rig.reset();
    let what = format!("seed {seed} {mount:?}");
    let fs = rig.mount(mount);
    let baseline = fs.store().free_blocks();
    let used = fs.clone();
    let files = rig.run(move |task| {
        let mut files = Vec::new();
        for name in ["f", "g"] {
            let file = used.create(task, name)?;
            let mapping = used.mmap(task, &file, 0, 16 * BLOCK)?;
            files.push((file, mapping));
        }
        Ok(files)
    });
    let files = files.expect("set-up");
    let writes = Rc::new(Cell::new(0));
    let bodies = (0..3).map(|number| {
        let racer = Racer {
            fs: fs.clone(),
            files: files.clone(),
            dice: Dice::new(seed * 4 + number),
            writes: writes.clone(),
        };
        Box::new(move |task: &Task| racer.run(task, 8)) as Body
    });
    rig.race(&what, chooser(seed), bodies.collect());
    drop(files);
    let mount = *mount;
    let settled = rig.run(move |task| {
        for (_, bytes) in read_all(task, &fs)? {
            judge(&bytes, writes.get());
        }
        settle(task, &fs, &mount, baseline)
    });
    settled.unwrap_or_else(|error| panic!("{what}: {error}"));
}

/// Seeds that have found something once: completions or truncates that ran out of space and aborted
/// the file system, and a truncate without space that forgot what was dirty behind the new end.
const FOUND: [u64; 6] = [1453, 2460, 3610, 16_116, 24_088, 30_180];

fn storms(image: ImageOptions) {
    let base = MountOptions::default();
    let mounts = [
        base,
        MountOptions { workers: 2, ..base },
        MountOptions { delalloc: false, ..base },
        MountOptions { cache_pages: 2, flusher: 8, committer: 8, ..base },
        MountOptions { alloc: AllocPolicy::Reuse, workers: 2, ..base },
    ];
    let rig = Rig::new(&image);
    for seed in (0..seeds(400)).chain(FOUND) {
        storm(&rig, &mounts[seed as usize % mounts.len()], seed);
    }
}

#[test]
fn small_nodes_survive_storms() {
    storms(ImageOptions { leaf: 4, ..ImageOptions::default() });
}

#[test]
fn large_nodes_survive_storms() {
    storms(ImageOptions::default());
}

#[test]
fn files_without_checksums_survive_storms() {
    storms(ImageOptions { datasum: false, leaf: 4, ..ImageOptions::default() });
}

#[test]
fn files_overwritten_in_place_survive_storms() {
    storms(ImageOptions { datasum: false, datacow: false, ..ImageOptions::default() });
}

#[test]
fn a_small_device_survives_storms() {
    storms(ImageOptions { blocks: 80, leaf: 4, ..ImageOptions::default() });
}

/// Files "f" and "g" with four blocks each, of one byte a block.
fn pair(rig: &Rig, fs: &Fs, contents: [[u8; 4]; 2]) -> [File; 2] {
    let used = fs.clone();
    let files = rig.run(move |task| {
        let make = |name, content: [u8; 4]| -> engine::Result<File> {
            let file = used.create(task, name)?;
            for (index, byte) in content.into_iter().enumerate() {
                file.write(task, index as u64 * BLOCK, &[byte; BLOCK as usize], Sync::None)?;
            }
            Ok(file)
        };
        Ok([make("f", contents[0])?, make("g", contents[1])?])
    });
    files.expect("set-up")
}

/// The bytes of a file, a byte a block.
fn bytes_of(rig: &Rig, file: &File) -> Vec<u8> {
    let file = file.clone();
    let read = rig.run(move |task| {
        let mut bytes = vec![0; file.stat(task)?.size as usize];
        file.read(task, 0, &mut bytes)?;
        Ok(bytes)
    });
    let read = read.expect("it can be read");
    for block in read.chunks(BLOCK as usize) {
        assert!(block.iter().all(|byte| *byte == block[0]), "a block of two versions");
    }
    read.iter().copied().step_by(BLOCK as usize).collect()
}

/// Runs a race of two files in many schedules, on files that are checksummed or overwritten in
/// place.
fn two_files(
    contents: [[u8; 4]; 2],
    bodies: impl Fn(&Fs, &[File; 2]) -> Vec<Body>,
    end: fn(&[Vec<u8>; 2]),
) {
    for datacow in [true, false] {
        let image = ImageOptions { datasum: datacow, datacow, leaf: 4, ..ImageOptions::default() };
        let rig = Rig::new(&image);
        for seed in 0..seeds(600) {
            rig.reset();
            let mount = MountOptions::default();
            let fs = rig.mount(&mount);
            let baseline = fs.store().free_blocks();
            let files = pair(&rig, &fs, contents);
            rig.race(&format!("seed {seed}"), chooser(seed), bodies(&fs, &files));
            end(&files.each_ref().map(|file| bytes_of(&rig, file)));
            drop(files);
            rig.run(move |task| settle(task, &fs, &mount, baseline))
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn clones_crosswise_take_place_one_after_the_other() {
    let clone = |from: &File, to: &File| {
        let (from, to) = (from.clone(), to.clone());
        Box::new(move |task: &Task| from.clone_range(task, 0, &to, 0, 4 * BLOCK)) as Body
    };
    two_files(
        [[1, 2, 3, 4], [5, 6, 7, 8]],
        move |_, [f, g]| vec![clone(f, g), clone(g, f)],
        |[f, g]| {
            assert_eq!(f, g, "the second clone saw all of the first");
            assert!(*f == [1, 2, 3, 4] || *f == [5, 6, 7, 8], "{f:?}");
        },
    );
}

#[test]
fn dedupe_changes_nothing_while_others_write() {
    let dedupe = |from: &File, to: &File| {
        let (from, to) = (from.clone(), to.clone());
        Box::new(move |task: &Task| {
            for start in 0..4 {
                task.begin_operation();
                let at = start * BLOCK;
                let found = from.dedupe_range(task, at, &to, at, BLOCK)?;
                assert!(matches!(found, Dedupe::Same(BLOCK) | Dedupe::Differs), "{found:?}");
            }
            Ok(())
        }) as Body
    };
    two_files(
        [[1, 1, 1, 1], [1, 1, 1, 1]],
        move |fs, [f, g]| {
            let (file, other, fs) = (f.clone(), g.clone(), fs.clone());
            let write = move |task: &Task| {
                let map = fs.mmap(task, &other, 0, 4 * BLOCK)?;
                for (index, byte) in [(0, 2), (2, 3), (3, 1)] {
                    task.begin_operation();
                    let data = [byte; BLOCK as usize];
                    file.direct_write(task, index * BLOCK, &data, Sync::None)?;
                    fs.store_bytes(task, &map, index * BLOCK, &[byte + 3; BLOCK as usize])?;
                    file.write(task, BLOCK, &data, Sync::None)?;
                }
                fs.munmap(task, &map)
            };
            vec![dedupe(f, g), dedupe(g, f), Box::new(write)]
        },
        |[f, g]| {
            assert_eq!(*f, [2, 1, 3, 1], "what was written to f is there");
            assert_eq!(*g, [5, 1, 6, 4], "what was stored to g is there");
        },
    );
}

#[test]
fn a_punch_leaves_what_was_stored_after_it() {
    two_files(
        [[1, 2, 3, 4], [0; 4]],
        |fs, [f, g]| {
            let (file, log) = (f.clone(), g.clone());
            let punch = move |task: &Task| {
                file.punch(task, Span::new(0, 3 * BLOCK))?;
                // Whoever sees this, stores after the punch.
                log.write(task, 0, &[1; BLOCK as usize], Sync::None).map(|_| ())
            };
            let (file, log, fs) = (f.clone(), g.clone(), fs.clone());
            let store = move |task: &Task| {
                let map = fs.mmap(task, &file, 0, 4 * BLOCK)?;
                let mut byte = [0];
                for round in 0..2 {
                    task.begin_operation();
                    log.read(task, 0, &mut byte)?;
                    let value = if byte[0] == 1 { 9 } else { 8 };
                    fs.store_bytes(task, &map, round * BLOCK, &[value; BLOCK as usize])?;
                }
                fs.munmap(task, &map)
            };
            vec![Box::new(punch), Box::new(store)]
        },
        |[f, _]| {
            // 9 is stored after the punch and stays; 8 may have been before it or after it.
            assert!([0, 8, 9].contains(&f[0]) && [0, 8, 9].contains(&f[1]), "{f:?}");
            assert_eq!((f[2], f[3]), (0, 4), "{f:?}");
        },
    );
}

#[test]
fn appends_never_leave_a_gap_behind_a_truncate() {
    let rig = Rig::new(&ImageOptions { leaf: 4, ..ImageOptions::default() });
    for seed in 0..seeds(1000) {
        rig.reset();
        let mount = MountOptions::default();
        let fs = rig.mount(&mount);
        let baseline = fs.store().free_blocks();
        let used = fs.clone();
        let file = rig.run(move |task| used.create(task, "f")).expect("set-up");
        let next = Rc::new(Cell::new(1_u8));
        let landed = Rc::new(RefCell::new(Vec::new()));
        let append = || {
            let (file, next, landed) = (file.clone(), next.clone(), landed.clone());
            Box::new(move |task: &Task| {
                for _ in 0..4 {
                    task.begin_operation();
                    let byte = next.replace(next.get() + 1);
                    let (offset, len) = file.append(task, &[byte; 3000], Sync::None)?;
                    assert_eq!((offset % 3000, len), (0, 3000), "behind whole records");
                    landed.borrow_mut().push(byte);
                }
                Ok(())
            }) as Body
        };
        let shorter = file.clone();
        let truncate = move |task: &Task| {
            for _ in 0..2 {
                task.begin_operation();
                shorter.truncate(task, 0)?;
            }
            Ok(())
        };
        let bodies = vec![append(), append(), Box::new(truncate) as Body];
        rig.race(&format!("seed {seed}"), chooser(seed), bodies);
        let read = file.clone();
        let bytes = rig.run(move |task| {
            let mut bytes = vec![0; read.stat(task)?.size as usize];
            read.read(task, 0, &mut bytes)?;
            Ok(bytes)
        });
        let bytes = bytes.expect("it can be read");
        let mut seen = Vec::new();
        for record in bytes.chunks(3000) {
            assert!(record.len() == 3000 && record.iter().all(|byte| *byte == record[0]));
            assert!(landed.borrow().contains(&record[0]) && !seen.contains(&record[0]));
            seen.push(record[0]);
        }
        drop(file);
        rig.run(move |task| settle(task, &fs, &mount, baseline))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
