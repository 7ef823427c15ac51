//! The reduced exploration finds what the unreduced one finds: the same violations, each with the
//! same fewest preemptions, and the same results of all operations, over programs small enough for
//! both.
//!
//! Verified: signatures and results, each with the smallest bound that shows it, are equal as sets.
//! This covers what commutes (footprints, sleeping), visited states, and cuts judged once.
//!
//! Not verified, because the unreduced exploration does not end: programs with several syncs at
//! once, and more than two preemptions.

use harness::explore::{self, Bounds, Surveyed};
use harness::program::{self, Dice, Source};
use harness::session::Session;
use std::ops::Range;

/// Programs with more schedules are left out.
const SCHEDULES_MAX: u64 = 600;

const OPERATIONS: [&str; 30] = [
    "write f 0 4K",
    "write f 0 8K",
    "write f 4K 4K",
    "write g 0 4K",
    "write g 4K 4K sync",
    "append f 4K",
    "read f 0 8K",
    "dwrite f 0 4K",
    "dread f 0 8K",
    "awrite f 0 4K",
    "truncate f 0",
    "truncate f 4K",
    "punch f 0 4K",
    "falloc f 0 12K",
    "zero f 0 4K",
    "load m 0 4K",
    "store m 0 4K",
    "store m 4K 4K",
    "msync m 0 4K",
    "clone f 0 to g 0 4K",
    "dedupe f 0 to g 0 4K",
    "unlink f",
    "stat f",
    "fsync f",
    "fsync g",
    "fdatasync f",
    "sync",
    "commit",
    "reclaim f",
    "wb f",
];

/// A program of two tasks with at least one operation each.
fn small_program(seed: u64, operations_max: usize, defect: Option<&str>) -> String {
    let mut dice = Dice::new(seed);
    let mut roll = |n: usize| dice.below(n as u32) as usize;
    let mut text = String::from("powerfail 1\n");
    if roll(4) == 0 {
        text += "image datacow=off datasum=off\n";
    }
    let flusher = roll(3) / 2;
    text += &format!("mount flusher={flusher} committer=0 reclaimer=0\n");
    if let Some(defect) = defect {
        text += &format!("defect {defect}\n");
    }
    let first = ["write f 0 8K", "falloc f 0 8K", "truncate f 8K"][roll(3)];
    text += &format!("setup\n  create f\n  {first}\n  create g\n  write g 0 8K\n");
    if roll(3) > 0 {
        text += "  sync\n";
    }
    text += "  mmap m f 0 8K\n";
    for task in ["a", "b"] {
        text += &format!("task {task}\n");
        for _ in 0..1 + roll(operations_max) {
            text += &format!("  {}\n", OPERATIONS[roll(OPERATIONS.len())]);
        }
    }
    text
}

fn survey(text: &str, preemptions: u32, reduced: bool) -> Option<Surveyed> {
    let program = program::strict(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let bounds = Bounds { preemptions, schedules: SCHEDULES_MAX, shorten: 0, shard: None };
    let surveyed = explore::survey(&mut Session::default(), &program, bounds, reduced);
    surveyed.unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// Programs compared, and violations that they show.
fn compare(
    seeds: Range<u64>,
    operations_max: usize,
    preemptions: u32,
    defect: Option<&str>,
) -> (u32, usize) {
    let (mut compared, mut violations) = (0, 0);
    for seed in seeds {
        let text = small_program(seed, operations_max, defect);
        let Some(full) = survey(&text, preemptions, false) else { continue };
        let reduced = survey(&text, preemptions, true);
        let reduced = reduced.unwrap_or_else(|| panic!("more schedules than all of\n{text}"));
        assert!(reduced.schedules <= full.schedules, "more schedules than all of\n{text}");
        assert_eq!(full.keys, reduced.keys, "violations of\n{text}");
        assert_eq!(full.results, reduced.results, "results of\n{text}");
        compared += 1;
        violations += full.keys.len();
    }
    (compared, violations)
}

#[test]
fn no_preemption() {
    let (compared, _) = compare(0..30, 3, 0, None);
    assert!(compared >= 15, "{compared} compared");
}

#[test]
fn one_preemption() {
    let (compared, _) = compare(100..130, 2, 1, None);
    assert!(compared >= 10, "{compared} compared");
}

#[test]
fn two_preemptions() {
    let (compared, _) = compare(200..240, 1, 2, None);
    assert!(compared >= 8, "{compared} compared");
}

#[test]
fn with_a_defect_that_every_commit_shows() {
    let (compared, violations) = compare(300..320, 2, 1, Some("super-no-preflush"));
    assert!(compared >= 5 && violations >= 5, "{compared} compared, {violations} violations");
}

#[test]
fn with_a_defect_that_few_programs_show() {
    let defect = Some("freed-extent-reused-before-commit");
    let (compared, violations) = compare(400..430, 2, 1, defect);
    assert!(compared >= 8 && violations > 0, "{compared} compared, {violations} violations");
}
