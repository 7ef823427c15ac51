//! The questions of thread 001 (races.md §2.c, L2.1 to L2.8) on the room itself, each with its
//! verdict within a bound. corpus/litmus asks the same of the whole engine.

#![cfg(feature = "defects")]

mod buffers_support;

use buffers_support::{Case, Do};

const UNREAD: &[Do] = &[Do::Touch(0)];
const READ: &[Do] = &[Do::Read(0)];
const MODIFY: &[Do] = &[Do::Modify(0, 1)];
const RECLAIM: &[Do] = &[Do::Reclaim(0)];
const AHEAD: &[Do] = &[Do::Ahead(0)];

#[track_caller]
fn unreachable(case: Case, bound: u32) {
    let explored = case.explore(bound);
    eprintln!("{} schedules", explored.schedules);
    assert_eq!(explored.fault, None, "after {} schedules", explored.schedules);
}

#[track_caller]
fn reachable(case: Case, pmin: u32) {
    let found = case.explore(pmin).fault;
    assert_eq!(found.as_ref().map(|(preemptions, _)| *preemptions), Some(pmin), "{found:?}");
}

#[test]
fn the_panic_of_the_thread() {
    let case = || Case::new(UNREAD, &[AHEAD, RECLAIM]).fast();
    reachable(case().defect("eb-read-no-tree-ref-recheck"), 2);
    unreachable(case(), 3);
    unreachable(Case::new(UNREAD, &[AHEAD, AHEAD, RECLAIM]).fast(), 2);
}

#[test]
fn the_hunk_of_the_write_path_is_not_needed() {
    let write: &[Do] = &[Do::Write];
    for fast in [false, true] {
        let case = |setup: &[Do], tasks: &[&[Do]]| {
            let case = Case::new(setup, tasks);
            if fast { case.fast() } else { case }
        };
        unreachable(case(MODIFY, &[write, RECLAIM]), 1);
        unreachable(case(READ, &[MODIFY, RECLAIM]), 3);
        unreachable(case(READ, &[&[Do::Modify(0, 1), Do::Write], RECLAIM]), 1);
        unreachable(case(MODIFY, &[&[Do::Modify(0, 2)], write, RECLAIM]), 0);
    }
}

#[test]
fn what_is_dirty_has_the_cache_s_reference_only_if_both_are_one_section() {
    let case = || Case::new(READ, &[MODIFY, RECLAIM]);
    reachable(case().defect("eb-dirty-check-before-bit"), 1);
    reachable(case().defect("eb-dirty-check-before-bit").hunk(), 1);
    reachable(case().defect("eb-dirty-bit-before-check"), 1);
    unreachable(case().fast(), 3);
}

#[test]
fn without_the_lock_reads_and_writes_with_the_hunk_are_safe_and_changes_are_not() {
    let unlocked =
        |setup: &[Do], tasks: &[&[Do]]| Case::new(setup, tasks).defect("eb-no-refs-lock");
    unreachable(unlocked(UNREAD, &[AHEAD, RECLAIM]), 3);
    let write: &[Do] = &[Do::Write];
    reachable(unlocked(MODIFY, &[write, RECLAIM]), 1);
    unreachable(unlocked(MODIFY, &[write, RECLAIM]).hunk(), 1);
    reachable(unlocked(READ, &[MODIFY, RECLAIM]), 1);
    reachable(unlocked(READ, &[MODIFY, RECLAIM]).hunk(), 1);
}
