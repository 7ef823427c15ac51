//! Crashes in the middle of operations that reshape files: what the next mount makes of them.

mod core_support;
mod crash_support;
mod ranges_support;

use core_support::Rig;
use crash_support::explore::{Case, explore};
use engine::defects::Defects;
use engine::options::{ImageOptions, MountOptions};
use engine::{File, Fs, Span, Sync, check};
use machine::Task;
use ranges_support::BLOCK;

fn quiet() -> MountOptions {
    MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..MountOptions::default() }
}

/// Drops a mount with everything in memory, and mounts again. The device keeps what it has.
fn crash(task: &Task, fs: &Fs) -> engine::Result<Fs> {
    fs.abandon();
    let fs = Fs::mount(task, &quiet(), Defects::NONE)?;
    let report = check(task)?;
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(fs)
}

fn content(task: &Task, file: &File) -> engine::Result<Vec<u8>> {
    let mut bytes = vec![0; file.stat(task)?.size as usize];
    assert_eq!(file.read(task, 0, &mut bytes)?, bytes.len());
    Ok(bytes)
}

/// A file of no size with a written block at 1: the first block of a write was never written.
fn leave_behind(task: &Task) -> engine::Result<(Fs, u64)> {
    let fs = Fs::mount(task, &quiet(), Defects::NONE)?;
    let baseline = fs.store().free_blocks();
    let file = fs.create(task, "f")?;
    file.write(task, 0, &[7; 2 * BLOCK as usize], Sync::None)?;
    fs.flush_range(task, file.inode(), Span::new(BLOCK, 2 * BLOCK))?;
    fs.commit(task)?;
    drop(file);
    let fs = crash(task, &fs)?;
    assert_eq!(fs.open(task, "f")?.stat(task)?.size, 0, "X-7");
    Ok((fs, baseline))
}

/// Symptom: data of a write that a crash had cut off came back when the file grew again. Cause: its
/// blocks were complete, its size was not, and the extent map took what the tree had. Consequence:
/// what a mount finds behind the end of a file is dropped before the size may rise.
#[test]
fn what_a_crash_left_behind_the_end_never_comes_back() {
    type Raise = fn(&Task, &Fs, &File) -> engine::Result<()>;
    let ways: [(&str, Raise); 5] = [
        ("truncate", |task, _, file| file.truncate(task, 3 * BLOCK)),
        ("write", |task, _, file| file.write(task, 3 * BLOCK - 1, &[0], Sync::None).map(|_| ())),
        ("direct", |task, _, file| {
            file.direct_write(task, 3 * BLOCK - 512, &[0; 512], Sync::None).map(|_| ())
        }),
        ("fallocate", |task, _, file| file.fallocate(task, Span::new(0, 3 * BLOCK), false)),
        ("clone", |task, fs, file| {
            let zeros = fs.create(task, "zeros")?;
            zeros.write(task, 0, &[0; BLOCK as usize], Sync::None)?;
            zeros.clone_range(task, 0, file, 2 * BLOCK, BLOCK)
        }),
    ];
    let image = ImageOptions { leaf: 4, ..ImageOptions::default() };
    for (what, raise) in ways {
        for is_logged in [false, true] {
            let rig = Rig::new(&image);
            rig.run(move |task| {
                let (fs, baseline) = leave_behind(task)?;
                let file = fs.open(task, "f")?;
                raise(task, &fs, &file)?;
                let zeros = vec![0; 3 * BLOCK as usize];
                assert_eq!(content(task, &file)?, zeros, "{what}");
                if is_logged {
                    file.fsync(task)?;
                } else {
                    fs.sync(task)?;
                }
                drop(file);
                let fs = crash(task, &fs)?;
                assert_eq!(content(task, &fs.open(task, "f")?)?, zeros, "{what}, mounted again");
                for name in fs.list(task)? {
                    fs.unlink(task, &name)?;
                }
                fs.sync(task)?;
                assert_eq!(fs.store().free_blocks(), baseline, "{what}");
                fs.unmount(task)
            })
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

#[test]
fn an_open_file_without_a_name_is_deleted_by_the_next_mount() {
    let rig = Rig::new(&ImageOptions { leaf: 4, ..ImageOptions::default() });
    rig.run(|task| {
        let fs = Fs::mount(task, &quiet(), Defects::NONE)?;
        let baseline = fs.store().free_blocks();
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[3; 9 * BLOCK as usize], Sync::None)?;
        fs.sync(task)?;
        let mapping = file.mmap(task, 0, BLOCK)?;
        fs.unlink(task, "f")?;
        drop(file);
        fs.sync(task)?;
        let mut byte = [0];
        fs.load(task, &mapping, 5, &mut byte)?;
        assert_eq!(byte, [3], "a mapping keeps the file");
        assert!(fs.store().free_blocks() < baseline);
        drop(mapping);
        let fs = crash(task, &fs)?;
        assert_eq!(fs.list(task)?.len(), 0);
        assert_eq!(fs.store().free_blocks(), baseline);
        fs.unmount(task)
    })
    .unwrap();
}

#[test]
fn the_last_close_lets_the_next_sync_delete() {
    let rig = Rig::new(&ImageOptions { leaf: 4, ..ImageOptions::default() });
    rig.run(|task| {
        let fs = Fs::mount(task, &quiet(), Defects::NONE)?;
        let baseline = fs.store().free_blocks();
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[3; 9 * BLOCK as usize], Sync::None)?;
        fs.unlink(task, "f")?;
        fs.sync(task)?;
        assert!(fs.store().free_blocks() < baseline);
        drop(file);
        fs.sync(task)?;
        assert_eq!(fs.store().free_blocks(), baseline);
        fs.unmount(task)
    })
    .unwrap();
}

/// Many extents: a truncate, a punch or a deletion takes several transactions, and any of them may
/// be the last.
const SCATTERED: &str = "create f\nwrite f 0 1\nwrite f 2 1\nwrite f 4 1\nwrite f 6 1\n\
    write f 8 1\nwrite f 10 1\nwrite f 12 1\nwrite f 14 1\nwrite f 16 1\nwrite f 18 1";

#[test]
fn operations_of_several_transactions_are_finished_or_were_never_begun() {
    let scripts: &[&[&str]] = &[
        &["trunc f 3\nfsync f"],
        &["trunc f 3\nwrite f 5 1\nfsync f\ntrunc f 1\nsync"],
        &["trunc f 3", "create g\nwrite g 0 1\nfsync g\nsync"],
        &["unlink f\nsync", "create g\nwrite g 0 1\nfsync g\ncommit"],
        &["punch f 1 30\nfsync f", "create g\nwrite g 0 2\nfsync g\nsync"],
    ];
    let mut states = 0;
    for tasks in scripts {
        for leaf in [4, 0] {
            let image = ImageOptions { leaf, ..ImageOptions::default() };
            let seeds = if tasks.len() > 1 { 12 } else { 0 };
            let case = Case { image, setup: SCATTERED, tasks, seeds, ..Case::default() };
            let verdict = explore(&case);
            assert_eq!(verdict.violation, None, "leaf {leaf}: {tasks:?}");
            states += verdict.states;
        }
    }
    assert!(states > 200, "{states} states");
}
