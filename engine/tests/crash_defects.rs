//! Each defect of the families durability and fsync that needs no more than files: its script fails
//! in some crash state with the defect, and in none without it.

#![cfg(feature = "defects")]

mod crash_support;

use crash_support::explore::{Case, explore};
use crash_support::hold::Hold;
use engine::defects::{Defect, Defects};
use engine::options::{AllocPolicy, ImageOptions, MountOptions};
use machine::disk::TornPolicy;

/// With the defect some crash state is wrong; without it none is.
fn check(defect: Defect, case: Case) {
    let clean = explore(&case);
    assert_eq!(clean.violation, None, "{defect}: the clean engine");
    let broken = explore(&Case { defects: Defects::NONE.with(defect), ..case });
    let violation = broken.violation.unwrap_or_else(|| panic!("{defect} is not seen"));
    println!("{defect}: {violation}");
}

fn script(setup: &'static str, tasks: &'static [&'static str]) -> Case {
    Case { setup, tasks, ..Case::default() }
}

fn with_image(case: Case, change: impl FnOnce(&mut ImageOptions)) -> Case {
    let mut case = case;
    change(&mut case.image);
    case
}

fn with_mount(case: Case, change: impl FnOnce(&mut MountOptions)) -> Case {
    let mut case = case;
    change(&mut case.mount);
    case
}

#[test]
fn super_no_preflush() {
    check(Defect::SuperNoPreflush, script("", &["create f\nwrite f 0 1\nfsync f"]));
    check(Defect::SuperNoPreflush, script("", &["create f\nwrite f 0 1\nsync"]));
}

#[test]
fn super_no_fua() {
    check(Defect::SuperNoFua, script("", &["create f\nwrite f 0 1\nfsync f"]));
    check(Defect::SuperNoFua, script("", &["create f\nwrite f 0 1\nsync"]));
}

#[test]
fn super_before_log_blocks() {
    check(Defect::SuperBeforeLogBlocks, script("", &["create f\nwrite f 0 1\nfsync f"]));
}

#[test]
fn log_root_before_log_tree() {
    let tasks = &["dwrite f 0 1\nfsync f", "dwrite g 0 1\nfsync g"];
    let case = script("create f\nwrite f 0 1\ncreate g\nwrite g 0 1", tasks);
    let case = with_image(case, |image| image.log_trees = 2);
    // Before the lock of the log root, whose rank is 66.
    let hold = Hold::before("lock.acquire", Some(66));
    check(Defect::LogRootBeforeLogTree, Case { seeds: 20, hold: Some(hold), ..case });
}

#[test]
fn fsync_elides_flush() {
    let case = script("create f\nwrite f 0 1", &["dwrite f 0 1\nfsync f"]);
    let case = with_image(case, |image| (image.datasum, image.datacow) = (false, false));
    check(Defect::FsyncElidesFlush, case);
}

#[test]
fn flush_before_tail_sample() {
    let case = script("create f\nwrite f 0 1", &["write f 0 1\nfsync f"]);
    check(Defect::FlushBeforeTailSample, case.clone());
    check(Defect::FlushBeforeTailSample, with_image(case, |image| image.logdev = true));
}

#[test]
fn data_flush_missing_multidev() {
    let case = script("create f\nwrite f 0 1", &["write f 0 1\nfsync f"]);
    check(Defect::DataFlushMissingMultidev, with_image(case, |image| image.logdev = true));
}

#[test]
fn freed_extent_reused_before_commit() {
    let case = script("create f\nwrite f 0 2\ncreate g", &["punch f 0 1\nwrite g 0 1\nwb g"]);
    let case = with_mount(case, |mount| mount.alloc = AllocPolicy::Reuse);
    check(Defect::FreedExtentReusedBeforeCommit, case);
}

#[test]
fn discard_before_commit() {
    let case = script("create f\nwrite f 0 2", &["unlink f\ncommit"]);
    check(Defect::DiscardBeforeCommit, with_mount(case, |mount| mount.discard = true));
}

#[test]
fn fsync_error_reported_once_lost() {
    let tasks = &["open f'\nopen f''\neio 1\nwrite f 0 1\nwb f\nfsync_fails f'\nfsync_maybe f''"];
    check(Defect::FsyncErrorReportedOnceLost, script("create f\nwrite f 0 1", tasks));
}

#[test]
fn journal_super_race() {
    let tasks = &["write f 0 1\nfsync f", "write g 0 1\nsync\nwrite g 0 1\nsync"];
    let case = script("create f\nwrite f 0 1\ncreate g\nwrite g 0 1", tasks);
    let hold = Hold::before("log.super", None);
    check(Defect::JournalSuperRace, Case { seeds: 20, hold: Some(hold), ..case });
}

#[test]
fn torn_super_no_checksum() {
    let script = script(
        "create f\nwrite f 0 1",
        &["write f 0 1\nsync\nwrite f 0 1\nsync\nwrite f 0 1\nsync"],
    );
    check(Defect::TornSuperNoChecksum, Case { torn: TornPolicy::Few, ..script });
}

#[test]
fn write_error_em_logged() {
    let tasks = &["eio 1\nwrite f 0 1\nwb f\nfsync_maybe f"];
    check(Defect::WriteErrorEmLogged, script("create f\nwrite f 0 1", tasks));
}

#[test]
fn log_replay_drops_csums() {
    let setup = "create f\nwrite f 0 2\nclone f 0 f 4 1";
    check(Defect::LogReplayDropsCsums, script(setup, &["write f 0 1\nfsync f"]));
}

#[test]
fn hole_not_logged_no_holes() {
    let case = script("create f\nwrite f 0 3", &["punch f 1 1\nfsync f"]);
    check(Defect::HoleNotLoggedNoHoles, case);
}

#[test]
fn trailing_hole_not_logged() {
    let case = script("create f\nwrite f 0 2", &["trunc f 1\ntrunc f 2\nfsync f"]);
    check(Defect::TrailingHoleNotLogged, case);
}

#[test]
fn ranged_fsync_drops_others() {
    let tasks = &["write f 0 1\nwrite f 4 1\nwb f\nfsync_range f 0 1\nfsync f"];
    check(Defect::RangedFsyncDropsOthers, script("create f\nwrite f 0 5", tasks));
}

#[test]
fn clone_fsync_missing_em() {
    let tasks = &["clone f 0 g 0 1\nfsync g"];
    check(Defect::CloneFsyncMissingEm, script("create f\nwrite f 0 1\ncreate g", tasks));
}

#[test]
fn clone_hole_not_logged() {
    let setup = "create f\ntrunc f 1\ncreate g\nwrite g 0 1";
    check(Defect::CloneHoleNotLogged, script(setup, &["clone f 0 g 0 1\nfsync g"]));
}
