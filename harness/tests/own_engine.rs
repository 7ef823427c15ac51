//! A target that is not ours: what `docs/your-own-engine.md` leads to comes true.
//!
//! The store of the example forgets, in one place, that somebody else may be writing. A campaign
//! from nothing finds that, the finding replays from its text, and the store without the bug shows
//! nothing of the kind, in as many programs and in that very finding.

#[expect(dead_code, reason = "its `main` is for people")]
#[path = "../examples/first_store.rs"]
mod first_store;
#[path = "../examples/log_store/store.rs"]
mod store;

use first_store::MyStore;
use harness::campaign::{self, Options, Report};
use harness::program::strict;
use harness::replay::{Replayed, replay};
use harness::session::Session;
use harness::target::PowerTarget;
use std::sync::atomic::AtomicBool;
use store::LogStore;

/// Programs of a campaign; the bug is found among the first ten.
const PROGRAMS: u64 = 150;

fn run<T: PowerTarget>(stop_at_first: bool) -> Report {
    let options = Options { programs: Some(PROGRAMS), stop_at_first, ..Options::default() };
    campaign::run_on::<T>(&options, &AtomicBool::new(false), &mut |_, _| {})
}

fn replay_on<T: PowerTarget>(text: &str) -> Result<Replayed, String> {
    let program = strict(text).expect("it parses");
    replay(&mut Session::<T>::of_target(), &program)
}

#[test]
fn the_bug_is_found_and_replays_until_it_is_fixed() {
    let report = run::<LogStore<false>>(true);
    let kept = report.findings.first().expect("a finding");
    let text = kept.finding.text();
    assert!(kept.finding.program.operation_count() <= 8, "it is not small:\n{text}");
    assert!(!text.contains("mount "), "a knob of the engine:\n{text}");
    let replayed = replay_on::<LogStore<false>>(&text).expect("it is executable");
    assert!(replayed.as_expected && replayed.divergences == 0, "{replayed:?} of\n{text}");
    let fixed = replay_on::<LogStore<true>>(&text).expect("it is executable");
    assert_eq!(fixed.found, "pass", "{text}");
}

#[test]
fn without_the_bug_nothing_is_found() {
    let report = run::<LogStore<true>>(false);
    assert_eq!(report.stats.refused, 0, "{:?}", report.stats.refusal);
    let found: Vec<String> = report.findings.iter().map(|kept| kept.finding.text()).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(report.stats.totals.crash_states > 1000, "{:?}", report.stats);
}

#[test]
fn a_store_that_never_writes_is_found_out() {
    let report = run::<MyStore>(true);
    let kept = report.findings.first().expect("a finding");
    assert_eq!(kept.signature, "lost-name G-16 crash: create f; sync");
}

/// The page shows the whole first store, so that what it says of it is true of this file, and says
/// how long the other is.
#[test]
fn the_page_shows_the_stores() {
    let page = include_str!("../../docs/your-own-engine.md");
    let source = include_str!("../examples/first_store.rs");
    assert!(page.contains(&format!("```rust\n{source}```\n")), "docs/your-own-engine.md differs");
    let lines = include_str!("../examples/log_store/store.rs").lines().count();
    assert!(page.contains(&format!("store.rs`, {lines} lines,")), "it has {lines} lines");
}

#[test]
fn a_program_that_asks_for_more_is_refused() {
    let text = "powerfail 1\nsetup\n  create f\n  truncate f 4K\n";
    let refused = replay_on::<LogStore<true>>(text).err();
    let expected = "failed to execute the program: the target has no `truncate`";
    assert_eq!(refused.as_deref(), Some(expected));
}
