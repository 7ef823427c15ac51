//! What `powerfail explain` says of findings of different families, word for word, and that it says
//! the same twice.
//!
//! Texts hold numbers of events and steps of the engine: where a path of it changes, look at what
//! changed and accept it with `INSTA_UPDATE=always cargo test -p powerfail-harness --test explain`.

use harness::explain::{Explanation, Fate, explain, text};
use harness::program::strict;
use harness::target::engine::EngineTarget;
use std::fs;
use std::path::Path;

/// The explanation of a finding of the corpus.
fn explained(name: &str) -> Explanation {
    let file = format!("corpus/regress/defects/{name}.pf");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
    let text = fs::read_to_string(path).expect("the corpus has it");
    let program = strict(&text).expect("it parses");
    explain::<EngineTarget>(&program, &file)
        .expect("it can be executed")
        .expect("it shows something wrong")
}

/// The text without numbers of source lines, which change with every edit.
fn told(name: &str) -> String {
    let text = text::text(&explained(name));
    let mut parts = text.split(".rs:");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push_str(".rs:N");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

#[test]
fn durability_is_told() {
    insta::assert_snapshot!(told("super-no-preflush"));
}

#[test]
fn a_race_of_buffers_is_told() {
    insta::assert_snapshot!(told("eb-double-read"));
}

#[test]
fn a_broken_lock_order_is_told() {
    insta::assert_snapshot!(told("mkwrite-takes-iolock"));
}

#[test]
fn a_lost_size_is_told() {
    insta::assert_snapshot!(told("clone-lost-isize"));
}

#[test]
fn an_explanation_is_a_function_of_its_finding() {
    let name = "eb-double-read";
    let [one, two] = [explained(name), explained(name)];
    let json = |story: &Explanation| serde_json::to_string(story).expect("it serializes");
    assert_eq!(json(&one), json(&two));
}

/// An fsync that passes a direct write: the lost block alone decides, and so does one switch.
#[test]
fn a_lost_block_and_a_switch_decide() {
    let story = explained("fast-fsync-skips-dio-io-wait");
    let cut = story.cut.as_ref().expect("the power is cut");
    let mut lost = cut.medium.iter().filter(|block| block.lost);
    let decides = |block: u64| story.nearest.blocks.iter().any(|other| other.block == block);
    assert!(lost.any(|block| decides(block.block)));
    assert!(story.nearest.schedule.is_some(), "a schedule passes");
    let points = &story.likelihood.points;
    let (first, last) = (points[0].violations, points[points.len() - 1].violations);
    assert!(first < last && last == story.likelihood.samples, "{points:?}");
}

/// A flush that fsync leaves out: the lost block alone decides.
#[test]
fn a_lost_block_decides() {
    let story = explained("fsync-elides-flush");
    let cut = story.cut.as_ref().expect("the power is cut");
    let lost: Vec<_> = cut.medium.iter().filter(|block| block.lost).collect();
    let [block] = lost[..] else { panic!("one block is lost: {lost:?}") };
    assert!(cut.window.is_some_and(|(from, to)| from <= cut.moment && cut.moment <= to));
    assert!(story.nearest.blocks.iter().any(|other| other.block == block.block));
    assert!(story.nearest.schedule.is_none(), "nothing races");
    let write = block.pending.last().expect("it was written").request;
    let request = &story.requests[write as usize];
    assert_eq!((request.op, request.fate), ("write", Fate::Lost));
    let file = &story.files[0];
    let wrong: Vec<_> = file.blocks.iter().filter(|block| !block.fits).collect();
    let [wrong] = wrong[..] else { panic!("one block is wrong: {wrong:?}") };
    assert_eq!(wrong.promised_by, Some(5), "by the fsync that returned");
    assert_ne!(wrong.found.as_ref(), wrong.allowed.first());
}

/// Who waits for whom at a deadlock is told as it was when the machine stopped.
#[test]
fn locks_at_a_deadlock_are_told() {
    let story = explained("fsync-waits-under-dio-sem");
    assert!(story.held().count() >= 1 && story.waiting().count() >= 2, "{:?}", story.waits);
    for lock in &story.locks {
        assert!(lock.until.is_none_or(|until| lock.from <= until && until <= story.failure));
    }
}

#[test]
fn what_shows_nothing_wrong_is_not_explained() {
    let program = strict("powerfail 1\nsetup\n  create f\nexpect pass\n").expect("it parses");
    let story = explain::<EngineTarget>(&program, "it.pf").expect("it can be executed");
    assert!(story.is_none());
}
