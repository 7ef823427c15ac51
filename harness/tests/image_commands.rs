//! `powerfail mkfs`, `fsck` and `dump` as people use them: on files that are no images, and on
//! images with each kind of structure damaged. They say in a sentence which structure is damaged in
//! which block, exit with the code that the README promises, and change nothing.

use engine::options::{ImageOptions, MountOptions};
use engine::{Fs, Sync};
use machine::choosers::RoundRobin;
use machine::disk::{BlockSource, Disk};
use machine::medium::Medium;
use machine::{BLOCK_BYTES, Config, DeviceId, End, Kind, Machine, Task};
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use tempfile::TempDir;

/// The exit code, and both outputs.
fn powerfail(words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_powerfail")).args(words).output().expect("runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal"), String::from_utf8(said).expect("UTF-8"))
}

/// What `fsck` and `dump` say of a file with this content, which stays.
fn looked_at(content: &[u8]) -> [(i32, String); 2] {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("it.img");
    fs::write(&path, content).expect("written");
    let name = path.to_str().expect("UTF-8");
    let said = ["fsck", "dump"].map(|verb| powerfail(&[verb, name]));
    assert_eq!(fs::read(&path).expect("still there"), content, "nothing is written");
    said.map(|(code, text)| (code, text.replace(name, "it.img")))
}

#[test]
fn what_is_no_image_is_refused_in_a_sentence() {
    let zeros = vec![0; 64 * BLOCK_BYTES];
    let noise: Vec<u8> = (0..64 * BLOCK_BYTES as u64).map(|at| ((at * at) >> 7) as u8).collect();
    let length = |len| {
        format!("it.img has {len} bytes, which is not a positive multiple of 4096 (truncated?)")
    };
    let no_super = "the superblock at block 0 is damaged: no magic number of a superblock";
    for (content, wanted) in [
        (&zeros[..0], length(0)),
        (&zeros[..100], length(100)),
        (&noise[..5000], length(5000)),
        (&zeros[..], no_super.to_string()),
        (&noise[..], no_super.to_string()),
    ] {
        for (code, text) in looked_at(content) {
            assert!(code == 2 && text.trim_end().ends_with(&wanted), "{code}: {text}");
        }
    }
    let [(code, text), _] = looked_at(&zeros[..BLOCK_BYTES]);
    let wanted = "the superblock at block 0 is damaged: the device is too small for an image\n";
    assert!(code == 2 && text.ends_with(wanted), "{code}: {text}");
    let (code, text) = powerfail(&["fsck", "/nonexistent/image"]);
    assert_eq!(code, 2);
    assert!(
        text.starts_with("powerfail: failed to open the image: cannot open /nonexistent/image")
    );
}

#[test]
fn mkfs_replaces_nothing_unasked() {
    let folder = TempDir::new().expect("a folder");
    let [image, log] = ["it.img", "it.img.log"].map(|name| folder.path().join(name));
    let name = image.to_str().expect("UTF-8");
    fs::write(&log, "letters").expect("written");
    let (code, text) = powerfail(&["mkfs", name, "logdev=on"]);
    assert_eq!((code, image.exists()), (2, false), "not one device of two: {text}");
    assert!(text.ends_with("it.img.log exists (--force replaces it)\n"), "{text}");
    assert_eq!(powerfail(&["mkfs", name]).0, 0, "it has no log device");
    assert_eq!(powerfail(&["fsck", name]).0, 0, "what stands beside it is no matter");
    let made = fs::read(&image).expect("there");
    assert_eq!(powerfail(&["mkfs", name, "blocks=64"]).0, 2);
    assert_eq!(fs::read(&image).expect("there"), made);
    assert_eq!(powerfail(&["mkfs", name, "logdev=on", "--force"]).0, 0);
    assert_eq!(powerfail(&["fsck", name]).0, 0);
    fs::remove_file(&log).expect("there");
    for verb in ["fsck", "dump"] {
        let (code, text) = powerfail(&[verb, name]);
        assert!(code > 0 && text.contains("the log device that it names is missing"), "{text}");
    }
}

/// Files with shared, unwritten and written blocks, committed, and one of them changed and synced
/// after that, so that there is a log.
fn populate(task: &Task) -> engine::Result<()> {
    let options = ImageOptions { blocks: 128, leaf: 4, poison: false, ..ImageOptions::default() };
    engine::mkfs::mkfs(task, &options)?;
    let mount = MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..MountOptions::default() };
    let fs = Fs::mount(task, &mount, engine::defects::Defects::NONE)?;
    let [f, g] = ["f", "g"].map(|name| fs.create(task, name));
    let (f, g) = (f?, g?);
    f.write(task, 0, &[1; 20_000], Sync::None)?;
    g.write(task, 0, &[2; 9000], Sync::None)?;
    f.clone_range(task, 0, &g, 12_288, 8192)?;
    fs.sync(task)?;
    f.write(task, 4096, &[3; 4096], Sync::None)?;
    f.fsync(task)?;
    fs.abandon();
    Ok(())
}

/// The bytes of a populated image.
fn populated(path: &Path) -> Vec<u8> {
    let medium = Rc::new(RefCell::new(Medium::create(path, 128).expect("a file")));
    let base = medium.clone() as Rc<dyn BlockSource>;
    let machine = Machine::new(Config::default(), Disk::new(vec![base]), Box::new(RoundRobin));
    let run = |task: &Task| {
        populate(task).expect("it is populated");
        Ok(())
    };
    machine.spawn("populate", Kind::Foreground, Box::new(run));
    assert_eq!(machine.run(), End::Done, "{:?}", *machine.faults());
    machine.drain_disk();
    let disk = machine.disk();
    let read = |block| disk.read_now(DeviceId(0), block).expect("a block of the device");
    (0..128).flat_map(|block| *read(block).bytes()).collect()
}

#[test]
fn damage_of_each_structure_is_told_with_its_block() {
    let folder = TempDir::new().expect("a folder");
    let good = populated(&folder.path().join("base.img"));
    let [(code, text), (shown, lines)] = looked_at(&good);
    assert_eq!((code, shown), (1, 0), "only a log is left: {text}");
    assert!(text.contains(" 1 problem\n") && text.contains("log-left"), "{text}");
    let is_structure = |block: &usize| good[block * BLOCK_BYTES..].starts_with(b"PF");
    let mut kinds = std::collections::BTreeSet::new();
    for block in (0..128).filter(is_structure) {
        let at = block * BLOCK_BYTES;
        let mut bad = good.clone();
        bad[at + 45] ^= 4;
        let [(code, text), (shown, lines_now)] = looked_at(&bad);
        if lines_now == lines && shown == 0 {
            continue; // it was freed: nobody reads it
        }
        assert_eq!((code, shown), (1, 1), "block {block}: {text}{lines_now}");
        let is_it = |line: &&str| line.ends_with(&format!("(block {block})"));
        assert!(text.lines().any(|line| is_it(&line)), "block {block} is named: {text}");
        let names = |line: &str| line.contains("damaged") && line.contains(&block.to_string());
        assert!(lines_now.lines().any(names), "block {block} is shown: {lines_now}");
        kinds.insert(good[at..at + 4].to_vec());
    }
    let names: Vec<_> = kinds.iter().map(|kind| String::from_utf8_lossy(kind)).collect();
    assert_eq!(names, ["PFAI", "PFBM", "PFLR", "PFND", "PFSP"], "every kind was damaged");
}
