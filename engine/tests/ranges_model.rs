//! Operations that reshape files, one after the other, against plain bytes; with remounts, with
//! nodes as small as possible, on devices that are nearly full.

mod core_support;
mod ranges_support;

use core_support::Rig;
use engine::options::{AllocPolicy, ImageOptions, MountOptions};
use engine::{Errno, Error, Fs, check};
use machine::Task;
use ranges_support::World;

fn images() -> Vec<ImageOptions> {
    let base = ImageOptions { leaf: 4, ..ImageOptions::default() };
    vec![
        base,
        ImageOptions { leaf: 0, ..base },
        ImageOptions { datasum: false, ..base },
        ImageOptions { datasum: false, datacow: false, ..base },
    ]
}

fn mounts() -> Vec<MountOptions> {
    let base = MountOptions::default();
    let quiet = MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..base };
    vec![
        base,
        quiet,
        MountOptions { delalloc: false, alloc: AllocPolicy::Reuse, ..base },
        MountOptions { cache_pages: 4, flusher: 9, committer: 5, reclaimer: 9, workers: 2, ..base },
    ]
}

/// The image on the medium has no inconsistency.
fn check_clean(task: &Task) -> engine::Result<()> {
    let report = check(task)?;
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

fn play(task: &Task, fs: &Fs, mount: &MountOptions, seed: u64) -> engine::Result<()> {
    let baseline = fs.store().free_blocks();
    let mut world = World::new(fs, mount, seed, false);
    for _ in 0..3 {
        for _ in 0..15 {
            world.step(task)?;
        }
        world.compare_all(task)?;
        world.remount(task)?;
        check_clean(task)?;
        world.compare_all(task)?;
    }
    world.delete_all(task, baseline)?;
    world.fs.unmount(task)?;
    check_clean(task)
}

fn play_all(image: &ImageOptions, seeds: u64) {
    let rig = Rig::new(image);
    for (number, mount) in mounts().into_iter().enumerate() {
        for seed in 0..seeds {
            rig.reset();
            let seed = seed * 16 + number as u64;
            let what = format!("seed {seed} {image:?} {mount:?}");
            eprintln!("{what}");
            let fs = rig.mount(&mount);
            let played = rig.run(move |task| play(task, &fs, &mount, seed));
            played.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

#[test]
fn files_hold_what_the_model_says_with_checksums() {
    play_all(&images()[0], 120);
}

#[test]
fn files_hold_what_the_model_says_with_large_nodes() {
    play_all(&images()[1], 120);
}

#[test]
fn files_hold_what_the_model_says_without_checksums() {
    play_all(&images()[2], 120);
}

#[test]
fn files_hold_what_the_model_says_overwritten_in_place() {
    play_all(&images()[3], 120);
}

/// A device of 64 blocks: operations are refused, done in part at most, and nothing is lost.
fn play_tight(task: &Task, fs: &Fs, mount: &MountOptions, seed: u64) -> engine::Result<u64> {
    let baseline = fs.store().free_blocks();
    let mut world = World::new(fs, mount, seed, true);
    let mut refused = 0;
    for _ in 0..40 {
        match world.step(task) {
            Ok(()) => {}
            Err(Error::NoSpace { .. } | Error::Refused(Errno::ENOSPC)) => {
                refused += 1;
                world.adopt(task)?;
            }
            Err(error) => return Err(error),
        }
    }
    world.compare_all(task)?;
    world.remount(task)?;
    check_clean(task)?;
    world.compare_all(task)?;
    world.delete_all(task, baseline)?;
    world.fs.unmount(task)?;
    check_clean(task)?;
    Ok(refused)
}

#[test]
fn a_full_device_refuses_and_can_be_emptied() {
    let mut refused = 0;
    for image in images() {
        let image = ImageOptions { blocks: 64, ..image };
        let rig = Rig::new(&image);
        for (number, mount) in mounts().into_iter().enumerate() {
            for seed in 0..60 {
                rig.reset();
                let seed = seed * 16 + number as u64;
                let what = format!("seed {seed} {image:?} {mount:?}");
                eprintln!("{what}");
                let fs = rig.mount(&mount);
                let played = rig.run(move |task| play_tight(task, &fs, &mount, seed));
                refused += played.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
    assert!(refused > 100, "the device was full {refused} times");
}
