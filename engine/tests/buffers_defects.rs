//! Each defect of the family `metadata-buffer` on its minimal program (races.md §6.2), found by
//! every schedule within its bound; and the final steps on the same program, with one preemption
//! more. What the page calls for and what is found differ where the comments say so.

#![cfg(feature = "defects")]

mod buffers_support;

use buffers_support::{Case, Do, Explored};
use machine::disk::Op;

/// A buffer that the cache has and nobody has read: `{refs=1, TREE_REF, !UPTODATE}`.
const UNREAD: &[Do] = &[Do::Touch(0)];
const READ: &[Do] = &[Do::Read(0)];
const MODIFY: &[Do] = &[Do::Modify(0, 1)];
const RECLAIM: &[Do] = &[Do::Reclaim(0)];

/// Demands that a defect is found with exactly `pmin` preemptions, as `key`, and that the final
/// steps show nothing with one more.
#[track_caller]
fn check(defect: &str, setup: &[Do], tasks: &[&[Do]], pmin: u32, key: &str) {
    let Explored { fault, .. } = Case::new(setup, tasks).defect(defect).explore(pmin);
    assert_eq!(fault, Some((pmin, key.to_string())), "{defect}");
    let clean = Case::new(setup, tasks).explore(pmin + 1);
    assert_eq!(clean.fault, None, "the final steps, after {} schedules", clean.schedules);
    let fast = Case::new(setup, tasks).fast().explore(pmin + 1);
    assert_eq!(fast.fault, None, "without locks, after {} schedules", fast.schedules);
}

#[test]
fn a_read_that_does_not_look_for_the_cache_s_reference() {
    check("eb-read-no-tree-ref-recheck", UNREAD, &[&[Do::Ahead(0)], RECLAIM], 2, "invariant I3");
}

#[test]
fn a_look_at_the_reference_before_the_dirty_bit() {
    check("eb-dirty-check-before-bit", READ, &[MODIFY, RECLAIM], 1, "invariant I3");
}

#[test]
fn a_lockless_look_at_the_reference_after_the_dirty_bit() {
    check("eb-dirty-bit-before-check", READ, &[MODIFY, RECLAIM], 1, "invariant I3");
}

#[test]
fn a_reclaim_that_does_not_see_dirty_buffers() {
    let alone = [Do::Modify(0, 1), Do::Reclaim(0)];
    check("eb-release-ignores-dirty", &[], &[&alone], 0, "invariant I4");
}

#[test]
fn a_reclaim_that_looks_and_clears_in_two_sections() {
    let name = "eb-release-check-then-clear-unlocked";
    check(name, READ, &[MODIFY, RECLAIM], 1, "invariant I4");
}

#[test]
fn a_gap_between_dirty_and_writeback_and_the_hunk_that_guards_against_it() {
    let tasks: [&[Do]; 2] = [&[Do::Write], RECLAIM];
    let case = || Case::new(MODIFY, &tasks);
    let gap = case().defect("eb-dirty-to-writeback-gap").explore(1);
    assert_eq!(gap.fault, Some((1, "invariant I3".to_string())));
    let masked = case().defect("eb-dirty-to-writeback-gap").hunk().explore(1);
    assert_eq!(masked.fault, None, "L2.5: the hunk restores what reclaim took");
    let clean = case().explore(1);
    assert_eq!(clean.fault, None, "after {} schedules", clean.schedules);
}

/// The page has two preemptions: writers that wait for the device are switched for free.
#[test]
fn writeback_that_ends_before_its_pages() {
    let tasks: [&[Do]; 2] = [&[Do::Modify(0, 1), Do::Write], &[Do::Modify(0, 2), Do::Write]];
    let case = || Case::new(READ, &tasks);
    let found = case().defect("eb-writeback-cleared-before-io-pages").explore(0);
    assert_eq!(found.fault, Some((0, "invariant E-5".to_string())));
    let clean = case().explore(0);
    assert_eq!(clean.fault, None, "after {} schedules", clean.schedules);
}

/// The page has one preemption: the second reader waits for the pages of the first for free.
#[test]
fn a_second_read_of_what_was_read() {
    check("eb-double-read", &[], &[READ, READ], 0, "invariant E-4");
}

/// The page has two preemptions; from a buffer that nobody has read, one is enough.
#[test]
fn a_lookup_that_does_not_wait_for_the_freer() {
    check("eb-stale-free-race", UNREAD, &[&[Do::New(0, 1)], &[Do::Ahead(0)]], 1, "invariant I3");
}

/// The page has two preemptions and three tasks; two tasks and one are enough.
#[test]
fn a_page_that_is_taken_while_it_is_let_go() {
    check("eb-attach-private-unlocked", READ, &[READ, RECLAIM], 1, "invariant EBPRIV");
}

#[test]
fn a_write_error_that_goes_with_its_buffer() {
    let setup = [Do::Modify(0, 1), Do::Fail(Op::Write), Do::WriteFails, Do::Reclaim(0)];
    let last: [&[Do]; 1] = [&[Do::WriteFails]];
    let name = "eb-write-error-evicted";
    let found = Case::new(&setup, &last).defect(name).explore(0).fault;
    assert_eq!(found, Some((0, "invariant result".to_string())), "a commit would not be refused");
    assert_eq!(Case::new(&setup, &last).explore(1).fault, None);
}

#[test]
fn a_lookup_that_finds_what_has_no_reference() {
    let key = "use-after-free eb.find.keep";
    check("eb-lookup-zero-ref", READ, &[READ, RECLAIM], 1, key);
}

#[test]
fn reclaim_and_changes_without_any_lock() {
    check("eb-no-refs-lock", READ, &[MODIFY, RECLAIM], 1, "invariant I4");
}
