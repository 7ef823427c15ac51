//! Images: small ones of every version, clean or with a log to replay. They mount, hold what the
//! record says, and are clean afterwards; and the engine of today makes images that hold the same
//! from the program beside each.

use super::{compare, makes, name, root, trial};
use engine::defects::Defects;
use engine::dump::{Section, dump};
use engine::options::{BARE_NODES_MAX, MountOptions};
use engine::{Error, Fs};
use harness::execution::{Executor, Manner};
use harness::finding;
use harness::images::Images;
use harness::program::strict;
use libtest_mimic::Trial;
use machine::choosers::RoundRobin;
use machine::disk::{BlockSource, CrashState, Disk, History, Strategy, TornPolicy};
use machine::{BLOCK_BYTES, Block, Config, End, Kind, Machine, Moment, Task};
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How much work making a file smaller may be: the most.
const LEVEL: u8 = 10;

/// Endings of the devices of an image, by number.
const DEVICES: [&str; 2] = ["img.z", "log.z"];

/// What a record of an image must show between all of them: each structure and each item that the
/// engine writes, with the words of a dump.
const ITEMS: &[&str] = &[
    "super 0:",
    "super 1:",
    "Csum empty",
    "level 1,",
    "inode ",
    "names in ",
    ": Written ",
    ": Unwritten ",
    "checksum of block ",
    "references to ",
    "orphan ",
    "Log on device 0 ",
    "Log on device 1 ",
    "Log(1):",
    "names of ",
    "hole ",
];

pub fn trials() -> Vec<Trial> {
    let all = super::files("image", "pf").into_iter();
    let mut trials: Vec<Trial> =
        all.map(|file| trial(name(&file), move || is_read_the_same(&file))).collect();
    trials.push(trial("every_structure_is_golden", every_structure));
    trials.push(trial("the_version_of_images_is_golden", the_version));
    trials
}

/// The content of a device.
pub struct Blocks(Vec<Block>);

impl BlockSource for Blocks {
    fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, block: u64) -> Block {
        self.0[block as usize].clone()
    }
}

impl Blocks {
    /// What the devices hold after an execution if nothing is lost.
    pub fn last_of(executor: &Executor) -> Vec<Blocks> {
        Blocks::at(executor, Moment::LAST)
    }

    /// What they hold at a moment if nothing is lost.
    fn at(executor: &Executor, moment: Moment) -> Vec<Blocks> {
        let history = Rc::new(History::new(executor.machine().disk().log()));
        let state = CrashState::new(history, moment, TornPolicy::None, Strategy::Newest);
        let read = |device: &Rc<dyn BlockSource>| {
            Blocks((0..device.blocks()).map(|block| device.read(block)).collect())
        };
        state.bases().iter().map(read).collect()
    }

    fn compressed(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|block| *block.bytes()).collect();
        compress_to_vec_zlib(&bytes, LEVEL)
    }

    fn decompressed(bytes: &[u8]) -> Blocks {
        let bytes = decompress_to_vec_zlib(bytes).expect("it is zlib data");
        assert_eq!(bytes.len() % BLOCK_BYTES, 0, "whole blocks");
        Blocks(bytes.chunks(BLOCK_BYTES).map(Block::from_slice).collect())
    }
}

fn is_read_the_same(file: &Path) {
    let text = fs::read_to_string(file).expect("the file is readable");
    if makes() && !file.with_extension(DEVICES[0]).exists() {
        for (device, ending) in made(&text).iter().zip(DEVICES) {
            fs::write(file.with_extension(ending), device.compressed()).expect("it is written");
        }
    }
    let kept = DEVICES.map(|ending| file.with_extension(ending)).into_iter();
    let kept = kept.filter(|path| path.exists());
    let kept: Vec<Blocks> = kept.map(|path: PathBuf| read(&path)).collect();
    let [dumped, shown] = shown(kept);
    let today = files(made(&text));
    assert_eq!(shown, today, "an image made today holds the same");
    compare(file, &format!("{shown}\n{dumped}"));
}

fn read(path: &Path) -> Blocks {
    Blocks::decompressed(&fs::read(path).expect("the file is readable"))
}

/// The image that a program leaves: at its cut, with all that was written; without one, unmounted.
fn made(text: &str) -> Vec<Blocks> {
    let program = Rc::new(strict(text).expect("it is readable for ever"));
    let (mut executor, mut images) = (Executor::new(), Images::default());
    let manner = Manner { unmount: program.cut.is_none(), ..Manner::default() };
    let executed = executor.execute(&mut images, &program, manner).expect("it is executable");
    assert_eq!(executed.wrong, None);
    let last = program.cut.as_ref().map_or(Moment::LAST, finding::moment);
    Blocks::at(&executor, last.min(executed.end))
}

/// What the files of an image hold.
pub fn files(devices: Vec<Blocks>) -> String {
    let [_, files] = shown(devices);
    files
}

/// The structures of an image as they are, and what its files hold once it is mounted.
fn shown(devices: Vec<Blocks>) -> [String; 2] {
    let bases = devices.into_iter().map(|device| Rc::new(device) as Rc<dyn BlockSource>).collect();
    let machine = Machine::new(Config::default(), Disk::new(bases), Box::new(RoundRobin));
    let told = Rc::new(RefCell::new(None));
    let inside = told.clone();
    let body = move |task: &Task| {
        *inside.borrow_mut() = Some(look(task));
        Ok(())
    };
    machine.spawn("look", Kind::Foreground, Box::new(body));
    let end = machine.run();
    assert_eq!(end, End::Done, "{:?}", *machine.faults());
    let told = told.take().expect("it ran to its end");
    told.expect("nothing is damaged")
}

fn look(task: &Task) -> Result<[String; 2], Error> {
    let mut dumped = String::new();
    let damaged = dump(task, &Section::ALL, &mut |line| dumped += &format!("{line}\n"))?;
    assert_eq!(damaged, 0, "{dumped}");
    let mut told = String::new();
    for problem in engine::check(task)?.problems {
        told += &format!("before the mount: {}\n", problem.kind);
    }
    let options =
        MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..MountOptions::default() };
    let fs = Fs::mount(task, &options, Defects::NONE)?;
    for name in fs.list(task)? {
        let file = fs.open(task, &name)?;
        let stat = file.stat(task)?;
        let mut bytes = vec![0; stat.size as usize];
        let len = file.read(task, 0, &mut bytes)?;
        assert_eq!(len, bytes.len(), "all of {name} can be read");
        let (size, hash) = (stat.size, blake3::hash(&bytes).to_hex());
        told += &format!("{name}: {size} bytes, hash {}", &hash.as_str()[..16]);
        for (span, is_data) in file.holes(task)? {
            let what = if is_data { "data" } else { "hole" };
            told += &format!(", {what} {}+{}", span.start, span.len());
        }
        told.push('\n');
    }
    for node in 0..BARE_NODES_MAX {
        let Ok(versions) = fs.node_read(task, node) else { break };
        told += &format!("node {node}: versions {versions:?}\n");
    }
    fs.unmount(task)?;
    let report = engine::check(task)?;
    assert!(report.is_clean(), "after the unmount: {:?}", report.problems);
    Ok([dumped, told])
}

/// All structures and items occur, so that one that is new needs a new image.
fn every_structure() {
    let read = |file| fs::read_to_string(file).expect("the file is readable");
    let records: Vec<String> = super::files("image", "snap").into_iter().map(read).collect();
    for item in ITEMS {
        assert!(records.iter().any(|record| record.contains(item)), "no golden image has `{item}`");
    }
}

/// What is written today is read tomorrow: the newest version has its folder, with images of it.
fn the_version() {
    let version = |devices: &[Blocks]| {
        let bytes: [u8; 4] = devices[0].0[0].bytes()[8..12].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let today = version(&made("powerfail 1\nimage blocks=64\n"));
    let mut versions = BTreeSet::new();
    for file in super::files("image", "z") {
        if !file.to_string_lossy().ends_with(DEVICES[0]) {
            continue;
        }
        let here = version(&[read(&file)]);
        let folder = root().join(format!("image-v{here}"));
        assert_eq!(file.parent(), Some(folder.as_path()), "the folder names the version");
        versions.insert(here);
    }
    assert!(versions.contains(&today), "no golden image of version {today}: {versions:?}");
}
