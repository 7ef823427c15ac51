//! Executions beside the recorded one: how likely the violation is when only the beginning of the
//! schedule is kept, and the nearest schedule that shows nothing wrong.
//!
//! Promises numbers that depend on the finding alone: dice have fixed seeds, and every trial starts
//! with a graph of lock classes that has seen nothing. It must never know files or blocks.

use super::choices::{Among, Asked, Script, brought_forward, moves};
use super::story::{Decisive, Likelihood, OtherSchedule, Point};
use crate::cuts::Plan;
use crate::lanes;
use crate::program::Program;
use crate::recovery::{Depth, Share};
use crate::session::Session;
use crate::target::PowerTarget;
use machine::choice::DEVICE;
use machine::choosers::{Random, Replay};
use machine::lock::lockdep::Lockdep;
use machine::{Actor, Chooser};
use std::rc::Rc;

/// Executions for each point of the curve.
const SAMPLES: u32 = 48;
/// Points that are spread evenly, before the steepest part is looked at closely.
const POINTS: u32 = 24;
/// Rises below this part of the samples decide nothing.
const RISE_MIN: u32 = SAMPLES / 4;
/// Schedules tried for the nearest one.
const SCHEDULES_MAX: u32 = 600;

/// Where a violation has to show to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// While the program runs.
    Live,
    /// A broken rule, or a violation while the program runs.
    Suspicion,
    /// While it runs, or after a cut.
    Crash,
}

/// Executes variants of one execution.
pub struct Trials<T> {
    session: Session<T>,
    program: Rc<Program>,
    sort: Sort,
    plan: Plan,
}

impl<T: PowerTarget> Trials<T> {
    /// Variants of a program's execution. `deep` is whether recovered states must be put to use.
    pub fn new(program: &Program, sort: Sort, deep: bool) -> Self {
        let mut bare = program.clone();
        (bare.cut, bare.expect) = (None, None);
        let mut plan = Plan { cuts_max: usize::MAX, in_setup: false, ..Plan::campaign() };
        let share = if deep { Share::Always } else { Share::Never };
        plan.depth = Depth { check: true, usable: share, inner_cuts: share };
        if sort != Sort::Crash {
            plan.cuts_max = 0;
        }
        Trials { session: Session::of_target(), program: Rc::new(bare), sort, plan }
    }

    /// Whether an execution with these first choices shows a violation.
    fn violates(&mut self, first: Vec<u32>, then: Box<dyn Chooser>, plan: &Plan) -> bool {
        let machine = self.session.executor().machine();
        machine.swap_lockdep(&mut Lockdep::default());
        let script = Box::new(Script::new(machine, first, then));
        match self.session.run_with(&self.program, plan, 1, script) {
            Ok((shown, _)) if self.sort == Sort::Suspicion => shown.first().is_some(),
            Ok((shown, _)) => shown.finding.is_some(),
            Err(_) => false,
        }
    }

    /// How many of the samples show a violation if so many choices are kept.
    fn count(&mut self, choices: &[u32], kept: u32) -> u32 {
        let first = &choices[..kept as usize];
        let plan = self.plan;
        if kept as usize == choices.len() {
            let then = Box::new(Replay::new(Vec::new()));
            return SAMPLES * u32::from(self.violates(first.to_vec(), then, &plan));
        }
        let mut violations = 0;
        for sample in 0..SAMPLES {
            let seed = u64::from(kept) << 32 | u64::from(sample);
            let then = Box::new(Random::with_bias(seed, sample % 4 * 25));
            violations += u32::from(self.violates(first.to_vec(), then, &plan));
        }
        violations
    }

    /// The curve over the choices before `until`, beyond which nothing can matter.
    pub fn likelihood(&mut self, asked: &[Asked], until: usize) -> Likelihood {
        let choices: Vec<u32> = asked[..until].iter().map(|choice| choice.chosen).collect();
        let count = choices.len() as u32;
        let mut points: Vec<(u32, u32)> = Vec::new();
        for kept in (0..=count).step_by(count.div_ceil(POINTS).max(1) as usize) {
            points.push((kept, self.count(&choices, kept)));
        }
        if points.last().is_some_and(|(kept, _)| *kept != count) {
            points.push((count, self.count(&choices, count)));
        }
        // Between the two points that differ most, until they are neighbours.
        while let Some(steepest) = steepest(&points) {
            let (low, high) = (points[steepest].0, points[steepest + 1].0);
            if high - low <= 1 {
                break;
            }
            let middle = low + (high - low) / 2;
            points.insert(steepest + 1, (middle, self.count(&choices, middle)));
        }
        let decisive = steepest(&points).map(|at| self.decisive(asked, points[at], points[at + 1]));
        let point = |&(kept, violations): &(u32, u32)| {
            let next = asked.get(kept as usize).or(asked.last());
            Point { kept, moment: next.map_or(0, |choice| choice.moment.0), violations }
        };
        let points: Vec<Point> = points.iter().map(point).collect();
        let stretch = stretch(&points);
        Likelihood { choices: count, samples: SAMPLES, points, decisive, stretch }
    }

    fn decisive(&self, asked: &[Asked], low: (u32, u32), high: (u32, u32)) -> Decisive {
        let choice = &asked[high.0 as usize - 1];
        let (chosen, others) = self.words(choice);
        Decisive {
            choice: high.0,
            before: low.1,
            after: high.1,
            moment: choice.moment.0,
            chosen,
            others,
        }
    }

    /// What was chosen, and what else could have been.
    fn words(&self, choice: &Asked) -> (String, Vec<String>) {
        let all = 0..choice.among.count();
        let others = all.filter(|&one| one != choice.chosen);
        let others = others.map(|one| self.word(choice, one)).collect();
        (self.word(choice, choice.chosen), others)
    }

    fn word(&self, choice: &Asked, one: u32) -> String {
        match &choice.among {
            Among::Run(actors) => {
                let (actor, _, event) = &actors[one as usize];
                let names = self.session.executor().task_names();
                let name = match actor {
                    Actor::Device => DEVICE,
                    Actor::Task(id) => names.get(usize::from(id.0)).map_or("?", String::as_str),
                };
                match event {
                    Some(event) => {
                        let machine = self.session.executor().machine();
                        format!("{name}: {}", lanes::event_text(event, machine))
                    }
                    None => format!("{name}: a request completes"),
                }
            }
            Among::Complete(requests) => {
                format!("{DEVICE}: request #{} completes", requests[one as usize].0)
            }
            Among::Other(label, _) => format!("{label} is {one}"),
        }
    }

    /// The schedule that agrees with the recorded one for longest and shows nothing wrong, and how
    /// many were tried.
    pub fn nearest(&mut self, asked: &[Asked], until: usize) -> (Option<OtherSchedule>, u32) {
        let mut tried = 0;
        let thorough = Plan { in_setup: false, ..Plan::thorough() };
        let thorough = if self.sort == Sort::Crash { thorough } else { self.plan };
        for at in (0..until).rev() {
            let choice = &asked[at];
            let others = (0..choice.among.count()).filter(|&one| one != choice.chosen);
            for other in others {
                for (tail, then) in tails(asked, at, other) {
                    if tried == SCHEDULES_MAX {
                        return (None, tried);
                    }
                    tried += 1;
                    let mut first: Vec<u32> = asked[..at].iter().map(|it| it.chosen).collect();
                    first.push(other);
                    let plan = self.plan;
                    if self.violates(first.clone(), Box::new(tail()), &plan)
                        || self.violates(first, Box::new(tail()), &thorough)
                    {
                        continue;
                    }
                    let schedule = OtherSchedule {
                        choice: at as u32 + 1,
                        moment: choice.moment.0,
                        instead_of: self.word(choice, choice.chosen),
                        chosen: self.word(choice, other),
                        then: then.to_string(),
                    };
                    return (Some(schedule), tried);
                }
            }
        }
        (None, tried)
    }
}

/// A way on after a choice that differs.
type Tail = Box<dyn Fn() -> Replay>;

/// The ways to go on after another choice at this place, the least change first.
fn tails(asked: &[Asked], at: usize, other: u32) -> Vec<(Tail, &'static str)> {
    let Among::Run(actors) = &asked[at].among else {
        let rest = moves(&asked[at + 1..]);
        return vec![(Box::new(move || Replay::new(rest.clone())), "the rest as recorded")];
    };
    let who = actors[other as usize].1;
    let rest = moves(&asked[at..]);
    let same = rest.clone();
    let forward = rest;
    vec![
        (Box::new(move || Replay::new(same.clone())), "one step, and the rest as recorded"),
        (
            Box::new(move || brought_forward(who, &forward)),
            "its next stretch, and the rest as recorded",
        ),
        (Box::new(|| Replay::new(Vec::new())), "and on, with no preemption"),
    ]
}

/// Between which neighbours the curve rises most, if it rises enough to say so.
fn steepest(points: &[(u32, u32)]) -> Option<usize> {
    let rise = |at: &usize| points[at + 1].1.saturating_sub(points[*at].1);
    let all = 0..points.len().saturating_sub(1);
    let best = all.rev().max_by_key(rise)?;
    (rise(&best) >= RISE_MIN).then_some(best)
}

/// The shortest stretch over which the curve rises by more than half, the last of equals.
fn stretch(points: &[Point]) -> Option<(Point, Point)> {
    let mut best: Option<(Point, Point)> = None;
    for (index, high) in points.iter().enumerate() {
        let rises = |low: &&Point| high.violations >= low.violations + SAMPLES / 2;
        let Some(low) = points[..index].iter().rev().find(rises) else { continue };
        let is_shorter = |(from, to): (Point, Point)| high.kept - low.kept <= to.kept - from.kept;
        if best.is_none_or(is_shorter) {
            best = Some((*low, *high));
        }
    }
    best
}
