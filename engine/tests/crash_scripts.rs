//! Small scripts, cut at every moment, in every crash state: after recovery the image is
//! consistent, and what fsync promised is there.

mod crash_support;

use crash_support::explore::{Case, explore};
use engine::options::{ImageOptions, MountOptions};

/// Scripts with their setup. Everything is run with every image below.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("", &["create f\nwrite f 0 1\nfsync f"]),
    ("", &["create f\nwrite f 0 3\nfsync f\nwrite f 1 1\nfsync f\nwrite f 5 1\nfdatasync f"]),
    ("create f\nwrite f 0 3", &["write f 1 1\nfsync f\nsync\nwrite f 0 1\nfsync f"]),
    ("create f\nwrite f 0 3", &["dwrite f 0 2\nfsync f\ndwrite f 2 3\nfsync f"]),
    (
        "create f\nwrite f 0 4",
        &["punch f 1 2\nfsync f\nwrite f 2 1\nfsync f\npunch f 0 9\nfsync f"],
    ),
    ("create f\nwrite f 0 4", &["trunc f 1\nfsync f\ntrunc f 6\nfsync f\nwrite f 5 1\nfsync f"]),
    ("create f\nwrite f 0 2", &["trunc f 1\ntrunc f 2\nfsync f"]),
    ("create f\nfalloc f 0 4", &["dwrite f 1 1\nfsync f\nwrite f 0 1\nwb f\nfsync f"]),
    ("create f", &["falloc f 0 4\nfsync f\nwrite f 1 2\nfsync f"]),
    ("create f\nwrite f 0 6", &["write f 0 1\nwrite f 4 1\nfsync_range f 0 1\nfsync f"]),
    ("create f\nwrite f 0 1", &["write f 0 1\nwrite f 4 1\nfsync_range f 4 1\nwrite f 0 1\nsync"]),
    ("create f\nwrite f 0 2", &["create g\nclone f 0 g 0 2\nfsync g\nwrite f 0 2\nfsync f"]),
    ("create f\nwrite f 0 2", &["clone f 0 f 4 1\nwrite f 0 1\nfsync f\nwrite f 4 1\nfsync f"]),
    ("create f\nwrite f 0 2\nclone f 0 f 4 1", &["write f 0 1\nfsync f"]),
    (
        "create f\nwrite f 0 2",
        &["unlink f\ncreate f\nwrite f 0 1\nfsync f\ncreate g\nfsync g\nunlink g\nsync"],
    ),
    ("create f\nwrite f 0 2", &["create g\nwrite g 0 1\nfsync g\nunlink g\nwrite f 0 1\nfsync f"]),
    (
        "create f\nwrite f 0 1",
        &["write f 0 1\nfsync f\nunlink_open f\nfsync f'\ncreate f\nfsync f"],
    ),
    ("create f", &["owrite f 0 1\nowrite f 1 1\nowrite f 0 1\nowrite f 9 1"]),
    (
        "create f\nwrite f 0 2",
        &["write f 0 1\nfsync f\nunlink f\ncreate g\nwrite g 0 1\nfsync g\ncommit\nwrite g 0 1"],
    ),
];

fn all_are_clean(case: &Case) {
    for (number, (setup, tasks)) in SCRIPTS.iter().enumerate() {
        let case = Case { setup, tasks, ..case.clone() };
        let verdict = explore(&case);
        assert_eq!(verdict.violation, None, "script {number}: {setup:?} {tasks:?}");
        assert!(verdict.states >= 2, "script {number}: {} states", verdict.states);
    }
}

#[test]
fn every_state_recovers_with_checksums() {
    all_are_clean(&Case::default());
}

#[test]
fn every_state_recovers_with_large_nodes_and_two_log_trees() {
    let image = ImageOptions { leaf: 0, log_trees: 2, ..ImageOptions::default() };
    all_are_clean(&Case { image, ..Case::default() });
}

#[test]
fn every_state_recovers_with_a_log_device() {
    let image = ImageOptions { leaf: 4, logdev: true, log_trees: 2, ..ImageOptions::default() };
    all_are_clean(&Case { image, ..Case::default() });
}

#[test]
fn every_state_recovers_without_checksums_and_in_place() {
    let image = ImageOptions { leaf: 4, datasum: false, datacow: false, ..ImageOptions::default() };
    all_are_clean(&Case { image, ..Case::default() });
}

#[test]
fn every_state_recovers_without_delayed_allocation_and_with_discard() {
    let case = Case::default();
    let mount = MountOptions { delalloc: false, discard: true, ..case.mount };
    all_are_clean(&Case { mount, ..case });
}

#[test]
fn recovery_that_is_cut_and_repeated_ends_the_same() {
    let image = ImageOptions { leaf: 4, log_trees: 2, ..ImageOptions::default() };
    let case = Case { image, cuts_recovery: true, ..Case::default() };
    let mut inner_states = 0;
    for (number, (setup, tasks)) in SCRIPTS.iter().enumerate() {
        let verdict = explore(&Case { setup, tasks, ..case.clone() });
        assert_eq!(verdict.violation, None, "script {number}: {setup:?} {tasks:?}");
        inner_states += verdict.inner_states;
    }
    assert!(inner_states > 40, "{inner_states} states after a cut inside recovery");
}
