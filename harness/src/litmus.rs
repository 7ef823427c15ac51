//! Litmus tests: programs that say what an exploration of them finds.
//!
//! `expect reachable KIND preemptions=N` demands that N is the fewest preemptions that reach a
//! violation, and that it is of this kind. `expect unreachable preemptions=N` demands that every
//! schedule with at most N preemptions was executed and every crash state judged: a search that
//! was stopped proves nothing and is never as expected.
//!
//! A rule that a checker saw broken, without a consequence in any schedule, is no violation. Where
//! no defect is on there must be none of these either; a defect breaks rules, and `unreachable`
//! says that it has no consequence.

use crate::clock::Stopwatch;
use crate::explore::{self, Bounds, Explored};
use crate::jobs;
use crate::program::{Expect, Program};
use crate::session::Session;
use crate::target::PowerTarget;
use std::sync::atomic::AtomicBool;

/// What one file came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What the file expects, in the words of its `expect` line.
    pub expected: String,
    /// What was found: "unreachable", "reachable KIND", "suspect" or "inconclusive".
    pub found: String,
    /// Whether both agree, the fewest preemptions included.
    pub as_expected: bool,
    /// The exploration.
    pub explored: Explored,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What is allowed for one file.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Schedules at most.
    pub schedules: u64,
    /// Preemptions up to which `unreachable` is shown, where the file demands fewer.
    pub preemptions: u32,
}

/// Whether a program says what is reachable.
pub fn is_litmus(program: &Program) -> bool {
    matches!(program.expect, Some(Expect::Reachable { .. } | Expect::Unreachable { .. }))
}

/// Explores a program as far as its `expect` line demands, and compares.
///
/// # Errors
/// A sentence, if it expects nothing of an exploration or cannot be executed.
pub fn check(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
    allowance: Allowance,
    stop: &AtomicBool,
) -> Result<Verdict, String> {
    let (expected, preemptions) = match &program.expect {
        Some(Expect::Reachable { kind, preemptions }) => {
            (format!("reachable {kind} preemptions={preemptions}"), *preemptions)
        }
        Some(Expect::Unreachable { preemptions }) => {
            let preemptions = (*preemptions).max(allowance.preemptions);
            (format!("unreachable preemptions={preemptions}"), preemptions)
        }
        _ => return Err("it expects neither `reachable` nor `unreachable`".to_string()),
    };
    let clock = Stopwatch::start();
    let Allowance { schedules, .. } = allowance;
    let bounds = Bounds { preemptions, schedules, shorten: 0, shard: None };
    let explored = explore::explore(session, program, bounds, stop, &mut |_| {})?;
    let is_suspect = explored.suspicion.is_some() && program.defects.is_empty();
    let found = match (&explored.finding, explored.exhausted) {
        (Some(finding), _) => format!("reachable {}", finding.wrong.kind),
        (None, _) if is_suspect => "suspect".to_string(),
        (None, true) => "unreachable".to_string(),
        (None, false) => "inconclusive".to_string(),
    };
    let as_expected = match (&program.expect, &explored.finding) {
        (Some(Expect::Reachable { kind, preemptions }), Some(finding)) => {
            finding.wrong.kind == *kind && explored.pmin == Some(*preemptions)
        }
        (Some(Expect::Unreachable { .. }), None) => explored.exhausted && !is_suspect,
        _ => false,
    };
    Ok(Verdict { expected, found, as_expected, explored, seconds: clock.seconds() })
}

/// Checks programs on several threads, each program in a session of its own, as the order of lock
/// classes is remembered over the executions of a session. The answers come in the order of the
/// programs; a program that was not checked before the stop has none.
pub fn check_all(
    programs: &[Program],
    allowance: Allowance,
    jobs: usize,
    stop: &AtomicBool,
    done: &(dyn Fn(usize) + std::marker::Sync),
) -> Vec<Option<Result<Verdict, String>>> {
    jobs::in_order(programs, jobs, stop, &|index, program| {
        let answer = check(&mut Session::default(), program, allowance, stop);
        done(index);
        answer
    })
}
