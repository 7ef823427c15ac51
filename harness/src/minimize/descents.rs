//! Ways down: each begins with another schedule of the program, and ends where no change leads
//! further. The plainest end counts, and where two end there are no more.
//!
//! Where a way ends depends on the schedule with which it begins, and a finding is the same bug by
//! whichever schedule it was found. So ways begin with random schedules that depend on the program
//! alone; its own is taken only where none of these shows the same, or nothing small. It must never
//! know what a change is.

use super::canonical::plainness;
use super::operations::text;
use super::{
    BELIEVED_OPERATIONS_MAX, Effort, Minimized, SMALL_OPERATIONS_MAX, Search, Thoroughness,
};
use crate::cuts::Plan;
use crate::explore;
use crate::finding::Finding;
use crate::session::Session;
use crate::target::PowerTarget;
use std::ops::Range;
use std::rc::Rc;

/// Random schedules of a program at most until the first that shows the same. Of 266 findings of
/// campaigns with a defect, ten schedules show three of four, and 1,100 show all.
pub(super) const TRIES: u32 = 3000;

/// Random schedules after it, for other ways.
const MORE_TRIES: u32 = 300;

/// Minimizes a finding; `progress` is told of the executions made.
pub fn minimize(
    session: &mut Session<impl PowerTarget>,
    finding: &Finding,
    effort: Effort,
    progress: &mut dyn FnMut(u32),
) -> Minimized {
    session.look_for(Some(&finding.wrong.key()));
    let mut seeds = 0..TRIES;
    let first = start(session, finding, &mut seeds, progress);
    seeds.end = seeds.end.min(seeds.start + MORE_TRIES);
    let mut own = first.is_some().then_some(finding);
    let tries = seeds.start;
    let mut further = |more| progress(tries + more);
    let mut best = descend(session, first.as_ref().unwrap_or(finding), effort, &mut further);
    for _ in 1..effort.descents {
        let operations = best.finding.program.operation_count();
        if operations <= BELIEVED_OPERATIONS_MAX || finding.program.is_sequential() {
            break;
        }
        let is_large = operations > SMALL_OPERATIONS_MAX;
        let last = || own.take().filter(|_| is_large).cloned();
        let before = best.executions;
        let next = start(session, finding, &mut seeds, &mut |more| progress(before + more));
        let Some(start) = next.or_else(last) else { break };
        let before = before + seeds.start;
        let other = descend(session, &start, effort, &mut |more| progress(before + more));
        let executions = best.executions + other.executions;
        let is_same = text(&other.finding.program) == text(&best.finding.program);
        if height(&other.finding) < height(&best.finding) {
            best = other;
        }
        best.executions = executions;
        if is_same {
            break;
        }
    }
    best.executions += seeds.start;
    session.look_for(None);
    best
}

/// How far up a finding is.
fn height(finding: &Finding) -> impl Ord + use<> {
    (plainness(&finding.program), finding.switches(), finding.program.to_string())
}

/// What the next random schedule shows that shows the same.
fn start(
    session: &mut Session<impl PowerTarget>,
    finding: &Finding,
    seeds: &mut Range<u32>,
    progress: &mut dyn FnMut(u32),
) -> Option<Finding> {
    let key = finding.wrong.key();
    seeds.find_map(|seed| {
        progress(seed);
        let program = Rc::new(explore::with_dice(&finding.program, seed.into()));
        let shown = session.run(&program, &Plan::campaign(), seed.into());
        shown.ok()?.with_key(&key).cloned()
    })
}

/// One way down.
fn descend(
    session: &mut Session<impl PowerTarget>,
    finding: &Finding,
    effort: Effort,
    progress: &mut dyn FnMut(u32),
) -> Minimized {
    let mut search = Search::new(session, finding, effort, progress);
    // Its schedule once more, for the choices of each operation.
    search.try_schedule(&finding.program);
    search.drop_readily();
    search.shrink_program(Thoroughness::Random);
    if search.best.program.operation_count() > SMALL_OPERATIONS_MAX {
        search.shrink_program(Thoroughness::Stubborn);
    }
    // What dice miss in a small program, a search does not.
    search.shrink_program(Thoroughness::Explored);
    let exhausted = search.spent();
    search.executions_max = search.executions.saturating_add(2 * effort.executions);
    search.canonical_program(Thoroughness::Random);
    search.canonical_schedule();
    // What failed with the schedule that there was may show the violation with this one.
    search.executions_max = search.executions.saturating_add(effort.executions);
    let smaller = search.shrink_program(Thoroughness::Nearby);
    if search.canonical_program(Thoroughness::Nearby) || smaller {
        search.canonical_schedule();
    }
    let exhausted = exhausted || search.spent();
    search.executions_max = search.executions.saturating_add(effort.last_schedules);
    search.interrupt_early();
    search.lose_less();
    Minimized { finding: search.best, executions: search.executions, exhausted }
}
