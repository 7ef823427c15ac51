//! What the engine's checkers say of historical defects, without any power cut (docs/checkers.md):
//! the programs of the regression corpus, executed and not cut. One line a defect and rule; adding
//! one is adding a line.

use harness::cuts::Plan;
use harness::program::{Program, strict};
use harness::session::{Session, Shown};
use std::path::Path;
use std::rc::Rc;

/// The defects that a checker sees at work, by the rule that it names.
const SUSPECTED: &[(&str, &str)] = &[
    // 4: pairs
    ("em-before-oe", "X-2"),
    ("oe-logged-bit-sticky", "X-2"),
    ("punch-vs-writeback-race", "X-2"),
    // 5: ownership
    ("alloc-written-crash", "ownership"),
    ("discard-before-commit", "ownership"),
    ("freed-extent-reused-before-commit", "ownership"),
    ("stale-cached-mapping", "ownership"),
    ("dio-count-after-flush", "X-5"),
    ("mkwrite-alloc-written", "X-5"),
    ("mkwrite-count-check-before-dirty", "X-5"),
    // 6: barriers
    ("data-flush-missing-multidev", "B-1"),
    ("flush-before-tail-sample", "B-1"),
    ("log-root-before-log-tree", "B-1"),
    ("super-before-log-blocks", "B-1"),
    ("write-error-em-logged", "B-1"),
    ("journal-super-race", "B-2"),
    ("super-no-fua", "B-2"),
    ("super-no-preflush", "B-2"),
    ("torn-super-no-checksum", "B-2"),
    // 7: checksums of what is logged and committed
    ("async-csum-not-in-log", "csum coverage"),
    // 9: pages
    ("fault-holds-page-then-ml", "P-1"),
    ("mkwrite-only-lock", "P-1"),
    ("read-fill-unlocked", "P-1"),
    ("mkwrite-no-invalidate-lock", "P-2"),
];

fn program(defect: &str) -> Program {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regress/defects");
    let text = std::fs::read_to_string(root.join(format!("{defect}.pf"))).expect("it is there");
    strict(&text).expect("it is a program")
}

/// Executes a program with its recorded schedule.
fn executed(program: Program, cuts_max: usize) -> Shown {
    let program = Rc::new(program);
    let plan = Plan { cuts_max, ..Plan::thorough() };
    let chooser: Box<dyn machine::Chooser> = match &program.schedule {
        Some(schedule) => Box::new(harness::finding::replayer(schedule)),
        None => harness::execution::chooser(&program),
    };
    let shown = Session::default().run_with(&program, &plan, 0, chooser);
    shown.expect("it can be executed").0
}

#[test]
fn checkers_see_defects_without_a_power_cut() {
    for (defect, rule) in SUSPECTED {
        let shown = executed(program(defect), 0);
        let wrong = shown.executed.suspicion.unwrap_or_else(|| panic!("{defect}: no suspicion"));
        assert_eq!((wrong.kind.as_str(), wrong.guarantee), ("invariant", 26), "{defect}");
        let named = wrong.cause.split(" at ").next();
        assert_eq!(named, Some(*rule), "{defect}: {}", wrong.message);
        let mut clean = program(defect);
        clean.defects.clear();
        assert_eq!(executed(clean, 0).executed.suspicion, None, "{defect}: without it");
    }
}

#[test]
fn a_suspicion_is_said_last() {
    // A cut shows what the missing flush breaks: that is what is told.
    let shown = executed(program("super-no-preflush"), usize::MAX);
    let finding = shown.first().expect("a violation");
    assert_ne!(finding.wrong.kind, "invariant");
    assert!(shown.suspicion.is_some());
    // Not cut, there is nothing else to tell; the finding replays as what it is.
    let shown = executed(program("super-no-preflush"), 0);
    let finding = shown.first().expect("a suspicion");
    assert_eq!(finding.wrong.kind, "invariant");
    let written = strict(&finding.text()).expect("a finding is a program");
    let replayed = harness::replay::replay(&mut Session::default(), &written);
    let replayed = replayed.expect("it can be executed");
    assert!(replayed.as_expected, "{replayed:?}");
}
