//! The same program, executed twice, makes the same steps, the same decisions and the same crash
//! states: every file of the corpus, and two hundred generated programs.

use harness::campaign;
use harness::cuts::{Plan, Totals};
use harness::program::{Program, strict};
use harness::replay::replay;
use harness::session::Session;
use machine::disk::{Limits, TornPolicy};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Generated programs.
const PROGRAMS: u64 = 200;

/// All that must be equal.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    hash: u64,
    decisions: u64,
    operations: u64,
    totals: Totals,
    signature: Option<String>,
}

fn run(session: &mut Session, program: &Rc<Program>) -> Trace {
    let limits = Limits { exhaustive: 8, sampled: 4, torn: TornPolicy::Few };
    let plan = Plan { cuts_max: 4, limits, ..Plan::campaign() };
    let shown = session.run(program, &plan, 7).expect("the program is executable");
    Trace {
        hash: shown.executed.trace_hash,
        decisions: shown.executed.decisions,
        operations: shown.executed.operations,
        totals: shown.totals,
        signature: shown.finding.map(|finding| finding.wrong.key()),
    }
}

/// Once in a session that has run other programs, once in a new one.
#[track_caller]
fn same_twice(used: &mut Session, program: Program) {
    let program = Rc::new(program);
    let first = run(used, &program);
    let second = run(&mut Session::default(), &program);
    assert_eq!(first, second, "\n{program}");
    assert!(first.hash != 0, "something was executed");
}

#[test]
fn generated_programs_execute_the_same_twice() {
    let mut session = Session::default();
    let mut hashes = std::collections::BTreeSet::new();
    for index in 0..PROGRAMS {
        let program = campaign::program(11, index);
        hashes.insert(run(&mut session, &Rc::new(program.clone())).hash);
        same_twice(&mut session, program);
    }
    assert!(hashes.len() as u64 > PROGRAMS / 2, "programs differ from each other");
}

/// Findings of the chooser that never preempts did not replay: the machine asked it less often than
/// a replay is asked.
#[test]
fn findings_replay_from_their_text_whatever_chose() {
    let choosers = ["random", "pct", "pos", "roundrobin", "delay"];
    let tempers = ["even", "eager", "lazy", "straggler"];
    for (chooser, temper) in choosers.iter().flat_map(|it| tempers.map(|temper| (it, temper))) {
        let text = format!(
            "powerfail 1\nmachine chooser={chooser} temper={temper} seed=5\n\
             defect super-no-preflush\nsetup\n  create f\n\
             task a\n  awrite f 0 8K sync\n  fsync f\n  reap\n\
             task b\n  append f 4K\n  fsync f\n"
        );
        let program = strict(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let plan = Plan::campaign();
        let shown = Session::default().run(&Rc::new(program), &plan, 1).expect("it is executable");
        let found = shown.finding.unwrap_or_else(|| panic!("no violation:\n{text}")).text();
        let again = strict(&found).expect("findings are programs");
        let replayed = replay(&mut Session::default(), &again).expect("it is executable");
        assert!(replayed.as_expected && replayed.divergences == 0, "{replayed:?}\n{found}");
    }
}

#[test]
fn programs_of_the_corpus_execute_the_same_twice() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut session = Session::default();
    for file in files {
        let text = fs::read_to_string(&file).expect("the file is readable");
        let program = strict(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        same_twice(&mut session, program);
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "pf") {
            files.push(path);
        }
    }
}
