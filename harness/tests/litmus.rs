//! Litmus tests: the corpus is well formed, and a verdict is as expected only if it is proven.
//!
//! The whole corpus is explored by `powerfail litmus`; here only what takes a moment.

use harness::litmus::{self, Allowance, Verdict};
use harness::program::{self, Expect, Place, Program};
use harness::session::Session;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/litmus");
    let entries = fs::read_dir(folder).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Program {
    let text = fs::read_to_string(file).expect("a file of the corpus is read");
    program::strict(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn check(program: &Program, schedules: u64) -> Verdict {
    let allowance = Allowance { schedules, preemptions: 0 };
    let stop = AtomicBool::new(false);
    litmus::check(&mut Session::default(), program, allowance, &stop).expect("it can be executed")
}

fn named(name: &str) -> Program {
    let file = corpus().into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == name));
    read(&file.unwrap_or_else(|| panic!("there is no {name}")))
}

#[test]
fn every_file_asks_a_question_and_answers_it() {
    for file in corpus() {
        let program = read(&file);
        let name = file.display();
        assert!(litmus::is_litmus(&program), "{name} does not say what is reachable");
        let asks = program.comments.iter().any(|comment| comment.place == Place::Head);
        assert!(asks, "{name} does not open with its question");
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(stem.starts_with('L') && stem.contains('.'), "{name} names no row");
    }
}

#[test]
fn the_page_of_the_five_races_says_of_each_program_what_the_program_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/races.md");
    let page = fs::read_to_string(page).expect("the page is read");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `L")?.strip_suffix(" |"))
        .filter_map(|row| Some((row.split_once('`')?.0, row.rsplit_once(" | ")?.1)))
        .collect();
    for file in corpus() {
        let text = fs::read_to_string(&file).expect("a file of the corpus is read");
        let expected = text.lines().find_map(|line| line.strip_prefix("expect "));
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let said = rows.iter().find(|(name, _)| stem.strip_prefix('L') == Some(*name));
        assert_eq!(said.map(|(_, verdict)| *verdict), expected, "{stem} in docs/races.md");
    }
    assert_eq!(rows.len(), corpus().len(), "rows of docs/races.md, and programs");
}

#[test]
fn what_is_exhausted_is_as_expected() {
    for name in ["L1.4-write", "L3.8-fill-under-lock", "L5.2-truncate-store"] {
        let verdict = check(&named(name), u64::MAX);
        assert!(verdict.as_expected && verdict.explored.exhausted, "{name}: {}", verdict.found);
    }
}

#[test]
fn a_search_that_was_stopped_proves_nothing() {
    let verdict = check(&named("L1.4-write"), 100);
    assert_eq!(verdict.found, "inconclusive");
    assert!(!verdict.as_expected && !verdict.explored.exhausted);
    assert_eq!(verdict.explored.schedules, 100);
}

#[test]
fn a_violation_is_as_expected_only_with_its_kind_and_its_preemptions() {
    let mut program = named("L3.10-eof-tail-shared");
    let verdict = check(&program, u64::MAX);
    assert!(verdict.as_expected, "found {}", verdict.found);
    assert_eq!(verdict.explored.pmin, Some(0));
    let mut expect = |kind: &str, preemptions| {
        program.expect = Some(Expect::Reachable { kind: kind.to_string(), preemptions });
        check(&program, u64::MAX).as_expected
    };
    assert!(expect("stale-data", 0));
    assert!(!expect("stale-data", 1));
    assert!(!expect("poison", 0));
    program.expect = Some(Expect::Unreachable { preemptions: 0 });
    assert!(!check(&program, u64::MAX).as_expected);
}
