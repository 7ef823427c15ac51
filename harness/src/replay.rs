//! Replaying a program and comparing what it shows with what it expects.

use crate::explore::{self, Bounds};
use crate::program::{Expect, Program};
use crate::session::Session;
use crate::verdict::Wrong;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// Schedules that a `reachable` or `unreachable` line may cost.
const SCHEDULES_MAX: u64 = 2_000_000;

/// What a replay showed.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The first thing wrong.
    pub wrong: Option<Wrong>,
    /// What the file expects, in words.
    pub expected: String,
    /// What was found, in words.
    pub found: String,
    /// Whether both agree. A file that expects nothing expects to pass.
    pub as_expected: bool,
    /// Where a recorded schedule did not fit.
    pub divergences: u32,
    /// Crash states judged.
    pub crash_states: u64,
}

/// Replays a program as it says.
///
/// # Errors
/// A sentence, if it cannot be executed.
pub fn replay(session: &mut Session, program: &Program) -> Result<Replayed, String> {
    match &program.expect {
        Some(Expect::Reachable { kind, preemptions }) => {
            let found = explored(session, program, *preemptions)?;
            let expected = format!("reachable {kind} with {preemptions} preemptions");
            let as_expected = found.wrong.as_ref().is_some_and(|wrong| wrong.kind == *kind);
            Ok(Replayed { expected, as_expected, ..found })
        }
        Some(Expect::Unreachable { preemptions }) => {
            let found = explored(session, program, *preemptions)?;
            let expected = format!("unreachable with {preemptions} preemptions");
            let as_expected = found.found.starts_with("unreachable");
            Ok(Replayed { expected, as_expected, ..found })
        }
        expect => {
            let shown = session.replay(&Rc::new(program.clone()))?;
            let wrong = shown.finding.map(|finding| finding.wrong);
            let found = match &wrong {
                None => "pass".to_string(),
                Some(wrong) => format!("violation {} G-{}", wrong.kind, wrong.guarantee),
            };
            let (expected, as_expected) = match expect {
                Some(Expect::Violation { kind, guarantee }) => {
                    let number = guarantee.map_or(String::new(), |n| format!(" G-{n}"));
                    let matches = wrong.as_ref().is_some_and(|wrong| {
                        wrong.kind == *kind && guarantee.is_none_or(|n| n == wrong.guarantee)
                    });
                    (format!("violation {kind}{number}"), matches)
                }
                _ => ("pass".to_string(), wrong.is_none()),
            };
            let divergences = shown.divergences;
            let crash_states = shown.totals.crash_states;
            Ok(Replayed { wrong, expected, found, as_expected, divergences, crash_states })
        }
    }
}

fn explored(session: &mut Session, program: &Program, bound: u32) -> Result<Replayed, String> {
    let bounds = Bounds { preemptions: bound, schedules: SCHEDULES_MAX };
    let stop = AtomicBool::new(false);
    let explored = explore::explore(session, program, bounds, &stop, &mut |_| {})?;
    let wrong = explored.finding.map(|finding| finding.wrong);
    let found = match (&wrong, explored.pmin) {
        (Some(wrong), Some(pmin)) => format!("reachable {} with {pmin} preemptions", wrong.kind),
        _ if explored.exhausted => format!("unreachable with {bound} preemptions"),
        _ => format!("inconclusive after {} schedules", explored.schedules),
    };
    Ok(Replayed {
        wrong,
        expected: String::new(),
        found,
        as_expected: false,
        divergences: 0,
        crash_states: explored.totals.crash_states,
    })
}
