//! Replaying a program and comparing what it shows with what it expects.

use crate::finding::Finding;
use crate::litmus::{self, Allowance};
use crate::program::{Expect, Program};
use crate::session::Session;
use crate::target::PowerTarget;
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
pub fn replay(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
) -> Result<Replayed, String> {
    match &program.expect {
        Some(Expect::Reachable { .. } | Expect::Unreachable { .. }) => {
            let allowance = Allowance { schedules: SCHEDULES_MAX, preemptions: 0 };
            let verdict = litmus::check(session, program, allowance, &AtomicBool::new(false))?;
            let explored = verdict.explored;
            let pmin = explored.pmin.map_or(String::new(), |pmin| format!(" preemptions={pmin}"));
            Ok(Replayed {
                wrong: explored.finding.map(|finding| finding.wrong),
                expected: verdict.expected,
                found: format!("{}{pmin}", verdict.found),
                as_expected: verdict.as_expected,
                divergences: 0,
                crash_states: explored.totals.crash_states,
            })
        }
        expect => {
            let shown = session.replay(&Rc::new(program.clone()))?;
            let wrong = shown.first().map(|finding| finding.wrong.clone());
            let found = match &wrong {
                None => "pass".to_string(),
                Some(wrong) => format!("violation {} G-{}", wrong.kind, wrong.guarantee),
            };
            let (expected, as_expected) = match expect {
                Some(Expect::Violation { kind, guarantee }) => {
                    let number = guarantee.map_or(String::new(), |n| format!(" G-{n}"));
                    // A suspicion is as expected, even if something else was found too.
                    let both = [&shown.finding, &shown.suspicion].into_iter().flatten();
                    let matches = both.into_iter().any(|Finding { wrong, .. }| {
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
