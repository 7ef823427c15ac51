//! A comparison that cannot fail is worth nothing: targets that lie are found out.

use super::script::Script;
use super::session::{Counts, Disagreement, Session};
use super::{ConformOptions, conform};
use crate::target::kernel::{KernelRoot, KernelRun, KernelWorker};
use crate::target::{Call, Performed, Target};
use oracle::operation::{Errno, OpId, Value};
use oracle::{Oracle, Promises};
use std::ops::ControlFlow;

/// Programs that a lie is tried on; some have nothing to lie about.
const PROGRAMS: u64 = 40;

/// A kernel whose successful answers are changed.
struct Liar<'r> {
    run: KernelRun<'r>,
    lie: fn(Value) -> Result<Value, Errno>,
}

impl Target for Liar<'_> {
    type Worker<'w>
        = KernelWorker
    where
        Self: 'w;

    fn promises(&self) -> Promises {
        self.run.promises()
    }

    fn perform(&self, worker: &mut KernelWorker, call: &Call<'_>) -> Performed {
        match self.run.perform(worker, call) {
            Performed::Done(Ok(value)) => Performed::Done((self.lie)(value)),
            other => other,
        }
    }

    fn reaped(&self, worker: &mut KernelWorker, each: &mut dyn FnMut(OpId, Performed)) {
        self.run.reaped(worker, each);
    }
}

/// What is found of a lie, over some programs.
fn found(lie: fn(Value) -> Result<Value, Errno>) -> Vec<Disagreement> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = KernelRoot::open(directory.path()).expect("a usable directory");
    let mut oracle = Oracle::new(root.promises().clone());
    let mut counts = Counts::default();
    let mut all = Vec::new();
    for index in 0..PROGRAMS {
        let script = Script::draw(3, index);
        let liar = Liar { run: root.start().expect("a subdirectory"), lie };
        let tasks = script.program().tasks.len();
        let mut workers: Vec<_> =
            (0..=tasks).map(|_| liar.run.worker().expect("a worker")).collect();
        let mut session = Session::new(&mut oracle, &root, &script, &mut counts);
        let verdict = session.tasks_in_order(&liar, &mut workers);
        all.extend(verdict.and_then(|()| session.look(&liar, &mut workers)).err());
    }
    all
}

fn kinds(lie: fn(Value) -> Result<Value, Errno>) -> Vec<String> {
    let mut kinds: Vec<_> = found(lie).into_iter().map(|found| found.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn a_target_that_tells_the_truth_is_believed() {
    assert_eq!(found(Ok), []);
}

#[test]
fn a_byte_that_nobody_wrote_is_noticed() {
    let kinds = kinds(|value| match value {
        Value::Bytes(mut bytes) => {
            if let Some(last) = bytes.last_mut() {
                *last ^= 0x40;
            }
            Ok(Value::Bytes(bytes))
        }
        other => Ok(other),
    });
    assert!(!kinds.is_empty());
    assert!(kinds.iter().all(|kind| kind.ends_with("-data")), "{kinds:?}");
}

#[test]
fn a_wrong_size_is_noticed() {
    let kinds = kinds(|value| match value {
        Value::Stat { size, nlink } => Ok(Value::Stat { size: size + 1, nlink }),
        other => Ok(other),
    });
    assert_eq!(kinds, ["wrong-size"]);
}

#[test]
fn an_error_without_a_reason_is_noticed() {
    let kinds = kinds(|value| match value {
        Value::Count(_) => Err(Errno::EINVAL),
        other => Ok(other),
    });
    assert_eq!(kinds, ["wrong-result"]);
}

#[test]
fn a_name_that_is_not_shown_is_noticed() {
    let kinds = kinds(|value| match value {
        Value::Names(_) => Ok(Value::Names(Vec::new())),
        other => Ok(other),
    });
    assert_eq!(kinds.len(), 1, "{kinds:?}");
}

#[test]
fn data_in_a_hole_is_noticed() {
    let kinds = kinds(|value| match value {
        Value::Holes(mut runs) => {
            runs.iter_mut().for_each(|run| run.data = false);
            Ok(Value::Holes(runs))
        }
        other => Ok(other),
    });
    assert_eq!(kinds, ["hidden-data"]);
}

#[test]
fn a_campaign_counts_what_it_did_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for threads in [false, true] {
        let options = ConformOptions {
            dir: directory.path().to_owned(),
            programs: 20,
            seed: 1,
            seconds: None,
            threads,
        };
        let mut calls = 0;
        let report = conform(&options, &mut |progress| {
            calls += 1;
            assert_eq!(progress.programs, calls);
            if calls == 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = report.expect("a usable directory");
        assert_eq!((report.programs, report.skipped), (12, 0));
        assert!(report.operations > 12 * 16 && report.comparisons >= report.operations);
        assert!(report.agrees(), "{report}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).expect("there").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error() {
    let options = ConformOptions {
        dir: "/nonexistent/powerfail".into(),
        programs: 1,
        seed: 1,
        seconds: None,
        threads: false,
    };
    let error = conform(&options, &mut |_| ControlFlow::Continue(())).expect_err("no directory");
    let text = error.to_string();
    assert!(text.starts_with("failed to open the directory /nonexistent/powerfail: "), "{text}");
}
