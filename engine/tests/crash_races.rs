//! Tasks that write, reshape and sync at the same time, on random schedules, with all crash states
//! of each; and IO errors at every write.

mod crash_support;

use crash_support::explore::{Case, explore};
use engine::options::{ImageOptions, MountOptions};

/// Setup and tasks. A file is changed by one task; others may sync it.
const RACES: &[(&str, &[&str])] = &[
    ("create f\nwrite f 0 2", &["write f 0 1\nwrite f 1 1\nwrite f 2 1", "fsync f\nfsync f"]),
    ("create f\nwrite f 0 2", &["dwrite f 0 1\ndwrite f 1 1\ndwrite f 2 1", "fsync f\nfsync f"]),
    ("create f\nfalloc f 0 4", &["dwrite f 1 1\ndwrite f 0 2", "fsync f\nfsync_range f 1 1"]),
    ("create f\nwrite f 0 4", &["punch f 1 1\nwrite f 1 1\nwb f", "fsync_range f 0 2\nfsync f"]),
    ("create f\nwrite f 0 4", &["trunc f 1\ntrunc f 3\nwrite f 2 1", "fsync f\nsync", "sync"]),
    (
        "create f\nwrite f 0 2\ncreate g",
        &["clone f 0 g 0 2\nwrite g 0 1\nfsync g", "fsync f\nsync", "fsync f"],
    ),
    (
        "create f\ncreate g\nwrite f 0 1",
        &["write f 0 2\nfsync f\nwrite f 1 1\nfsync f", "write g 0 1\nfsync g\nwrite g 1 1\nsync"],
    ),
    (
        "create f\nwrite f 0 2",
        &["create g\nwrite g 0 1\nfsync g\nunlink g", "fsync f\nwrite f 0 1\nfsync f", "commit"],
    ),
];

fn all_are_clean(case: &Case) {
    for (number, (setup, tasks)) in RACES.iter().enumerate() {
        let verdict = explore(&Case { setup, tasks, ..case.clone() });
        assert_eq!(verdict.violation, None, "race {number}: {setup:?} {tasks:?}");
    }
}

#[test]
fn every_schedule_keeps_what_fsync_promised() {
    all_are_clean(&Case { seeds: 60, ..Case::default() });
}

#[test]
fn every_schedule_keeps_it_with_two_logs_on_a_device() {
    let image = ImageOptions { leaf: 4, logdev: true, log_trees: 2, ..ImageOptions::default() };
    all_are_clean(&Case { seeds: 40, image, ..Case::default() });
}

#[test]
fn every_schedule_keeps_it_in_place_with_workers() {
    let image = ImageOptions { leaf: 4, datasum: false, datacow: false, ..ImageOptions::default() };
    let mount = MountOptions { delalloc: false, workers: 2, ..MountOptions::default() };
    all_are_clean(&Case { seeds: 40, image, mount, ..Case::default() });
}

#[test]
fn every_failed_write_leaves_a_consistent_image() {
    const SCRIPTS: [&[&str]; 16] = {
        macro_rules! scripts {
            ($($n:literal)*) => {
                [$(&[concat!(
                    "eio ", $n, "\nwrite f 0 1\nwrite f 3 1\nfsync_maybe f\nfsync_maybe g\n",
                    "write g 1 1\nfsync_maybe g\nsync_maybe"
                )]),*]
            };
        }
        scripts!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    for tasks in SCRIPTS {
        for logdev in [false, true] {
            let image = ImageOptions { leaf: 4, logdev, ..ImageOptions::default() };
            let setup = "create f\nwrite f 0 2\ncreate g\nwrite g 0 2";
            let verdict = explore(&Case { image, setup, tasks, ..Case::default() });
            assert_eq!(verdict.violation, None, "{tasks:?}, logdev {logdev}");
        }
    }
}
