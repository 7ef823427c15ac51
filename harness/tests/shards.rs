//! The shards of an exploration together are the exploration: each unit of schedules is executed by
//! exactly one of them, and what one search finds, one of the shards finds.
//!
//! The programs here are such that no state is in two units; then the shards execute as many
//! schedules as the search that is not split. Where some are, they execute more.

use harness::explore::{self, Bounds, Surveyed};
use harness::program::{self, Program};
use harness::session::Session;
use machine::choosers::Shard;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn named(name: &str) -> Program {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/litmus");
    let text = fs::read_to_string(folder.join(format!("{name}.pf"))).expect("it is there");
    program::strict(&text).expect("it is valid")
}

fn survey(program: &Program, preemptions: u32, shard: Option<&str>) -> Surveyed {
    let shard = shard.map(|text| text.parse::<Shard>().expect("it is a shard"));
    let bounds = Bounds { preemptions, schedules: u64::MAX, shorten: 0, shard };
    let surveyed = explore::survey(&mut Session::default(), program, bounds, true);
    surveyed.expect("it can be executed").expect("no bound was hit")
}

/// Adds what another found: the fewest preemptions of each.
fn unite<K: Ord + Clone>(all: &mut BTreeMap<K, u32>, more: &BTreeMap<K, u32>) {
    for (key, preemptions) in more {
        let known = all.entry(key.clone()).or_insert(*preemptions);
        *known = (*known).min(*preemptions);
    }
}

/// Shards of several counts against the search in one; the schedules and signatures of the latter.
fn agree(name: &str, preemptions: u32) -> (u64, usize) {
    let program = named(name);
    let whole = survey(&program, preemptions, None);
    let single = survey(&program, preemptions, Some("1/1"));
    assert_eq!(whole.schedules, single.schedules, "no state of {name} is in two units");
    assert_eq!((&whole.keys, &whole.results), (&single.keys, &single.results));
    for count in [2, 5] {
        let mut sum = Surveyed::default();
        for index in 1..=count {
            let part = survey(&program, preemptions, Some(&format!("{index}/{count}")));
            sum.schedules += part.schedules;
            unite(&mut sum.keys, &part.keys);
            unite(&mut sum.results, &part.results);
        }
        assert_eq!(sum.schedules, single.schedules, "schedules of {count} shards of {name}");
        assert_eq!(sum.keys, whole.keys, "violations of {count} shards of {name}");
        assert_eq!(sum.results, whole.results, "results of {count} shards of {name}");
    }
    (single.schedules, whole.keys.len())
}

#[test]
fn an_unreachable_violation_is_unreachable_in_all_shards() {
    let (schedules, signatures) = agree("L5.2-truncate-store", 3);
    assert!(schedules > 1000 && signatures == 0, "{schedules} schedules, {signatures} signatures");
}

#[test]
fn a_violation_is_in_a_shard() {
    let (schedules, signatures) = agree("L5.1-no-lock", 1);
    assert!(schedules > 20 && signatures > 0, "{schedules} schedules, {signatures} signatures");
}

#[test]
fn a_violation_without_preemption_is_in_a_shard() {
    let (schedules, signatures) = agree("L3.10-eof-tail-shared", 1);
    assert!(schedules > 20 && signatures > 0, "{schedules} schedules, {signatures} signatures");
}
