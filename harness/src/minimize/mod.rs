//! Minimizing: the smallest program, schedule and cut that still show the same violation.
//!
//! Delta debugging on the structure: first the program (`operations`: tasks, operations, names,
//! knobs, kinds and arguments), then what makes findings of one bug end alike (`canonical`, by
//! `changes`), then the schedule and what the medium lost (`moments`). What is simpler than what is
//! fixed in tables (`simpler`). One way down may end early, so there may be several (`descents`).
//! And whether two findings that are minimized are one bug (`meeting`).
//!
//! Promises: a candidate counts only if it was run and showed the same [`Wrong::key`]; everything
//! is deterministic in the finding, and does not depend on its schedule where random ones show the
//! same and lead to something small; and the result never has more operations. It must never know
//! what is tested, nor which defect is on.
//!
//! [`Wrong::key`]: crate::verdict::Wrong::key

mod canonical;
mod changes;
mod descents;
mod meeting;
mod moments;
mod operations;
mod simpler;

use crate::cuts::Plan;
use crate::explore::{self, Bounds};
use crate::finding::{self, Finding, Taken};
use crate::program::{ChooserKind, Program, Schedule};
use crate::session::Session;
use crate::target::PowerTarget;
use machine::disk::{Limits, TornPolicy};
use rustc_hash::FxHashSet;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

pub use descents::minimize;
pub use meeting::meet;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Executions at most to make a program small, and twice as many to make it canonical.
    pub executions: u32,
    /// Random schedules tried for a candidate that its old schedule does not show.
    pub random_schedules: u32,
    /// Schedules explored for a small candidate that random ones do not show.
    pub explored_schedules: u32,
    /// Schedules explored for the fewest preemptions, at most twice.
    pub last_schedules: u32,
    /// Ways down at most, each from another schedule, for a program that stays large.
    pub descents: u32,
}

impl Default for Effort {
    fn default() -> Self {
        let (random_schedules, explored_schedules, last_schedules) = (9, 250, 1500);
        let (executions, descents) = (6000, 3);
        Effort { executions, random_schedules, explored_schedules, last_schedules, descents }
    }
}

impl Effort {
    /// Executions at most in all.
    pub fn executions_max(&self) -> u64 {
        let of_one = 4 * u64::from(self.executions) + 5 * u64::from(self.last_schedules);
        of_one * u64::from(self.descents) + u64::from(descents::TRIES)
    }
}

/// What minimizing came to.
#[derive(Clone, Debug)]
pub struct Minimized {
    /// The smallest finding.
    pub finding: Finding,
    /// Executions made.
    pub executions: u32,
    /// Whether the executions ran out before everything was tried.
    pub exhausted: bool,
}

/// Operations of a program whose schedules are explored, and that is made canonical.
const SMALL_OPERATIONS_MAX: usize = 12;

/// Operations of a program that is small enough for one way down to be believed.
const BELIEVED_OPERATIONS_MAX: usize = 5;

/// How many times as many random schedules are tried of a program that stays large.
const STUBBORNNESS: u32 = 6;

/// The state of a search.
struct Search<'a, T> {
    session: &'a mut Session<T>,
    effort: Effort,
    key: String,
    best: Finding,
    /// The choices of its execution.
    taken: Vec<Taken>,
    /// Digests of the programs that were tried, without schedule and cut.
    tried: FxHashSet<[u8; 16]>,
    executions: u32,
    /// Executions after which no more is tried.
    executions_max: u32,
    progress: &'a mut dyn FnMut(u32),
}

/// How a changed program is searched for the violation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thoroughness {
    /// With the recorded schedule.
    Recorded,
    /// Without preemptions.
    Calm,
    /// With the recorded schedule, without preemptions, and with a few random schedules.
    Random,
    /// With many, for a program that is too large to be explored.
    Stubborn,
    /// And with every schedule of one preemption, up to a number.
    Explored,
    /// With the recorded schedule, and with those near it.
    Nearby,
}

impl<'a, T: PowerTarget> Search<'a, T> {
    fn new(
        session: &'a mut Session<T>,
        finding: &Finding,
        effort: Effort,
        progress: &'a mut dyn FnMut(u32),
    ) -> Self {
        let (key, best) = (finding.wrong.key(), finding.clone());
        let (taken, tried) = (Vec::new(), FxHashSet::default());
        let (executions, executions_max) = (0, effort.executions);
        Search { session, effort, key, best, taken, tried, executions, executions_max, progress }
    }

    fn spent(&self) -> bool {
        self.executions >= self.executions_max
    }

    fn count(&mut self) {
        self.executions += 1;
        (self.progress)(self.executions);
    }

    fn plan(&self) -> Plan {
        let limits = Limits { exhaustive: 48, sampled: 8, torn: TornPolicy::Few };
        // What is seen while a program runs needs no cut.
        let cuts_max = if self.best.program.cut.is_some() { 200 } else { 0 };
        Plan { limits, cuts_max, ..Plan::campaign() }
    }

    /// Runs a candidate with the recorded schedule, or with its chooser if it has none, and judges
    /// all cuts; keeps it if it shows the violation.
    fn try_schedule(&mut self, candidate: &Program) -> bool {
        if self.spent() {
            return false;
        }
        self.count();
        let mut program = candidate.clone();
        (program.expect, program.cut) = (None, None);
        let (program, plan) = (Rc::new(program), self.plan());
        let shown = match &program.schedule {
            Some(schedule) => {
                let chooser = Box::new(finding::replayer(schedule));
                self.session.run_with(&program, &plan, 0, chooser).map(|(shown, _)| shown)
            }
            None => self.session.run(&program, &plan, 0),
        };
        let Ok(shown) = shown else { return false };
        let Some(found) = shown.with_key(&self.key) else { return false };
        self.best = found.clone();
        self.taken = finding::taken(self.session.executor(), &shown.executed);
        true
    }

    /// Runs a candidate with the recorded schedule and judges the recorded cut; keeps it if it
    /// shows the violation.
    fn try_cut(&mut self, candidate: &Program) -> bool {
        if self.spent() {
            return false;
        }
        self.count();
        let mut program = candidate.clone();
        program.expect = None;
        let program = Rc::new(program);
        let shown = self.session.replay(&program).ok();
        let Some(found) = shown.and_then(|shown| shown.with_key(&self.key).cloned()) else {
            return false;
        };
        let circumstances = found.circumstances.clone();
        self.best = Finding { circumstances, ..Finding::of(candidate.clone(), &found.wrong) };
        true
    }

    /// Runs a changed program until it shows the violation, which is then the best, or until
    /// everything was tried. Nothing is tried twice.
    fn try_program(&mut self, candidate: &Program, thoroughness: Thoroughness) -> bool {
        if !self.is_new(candidate, thoroughness) {
            return false;
        }
        match thoroughness {
            Thoroughness::Recorded => self.try_schedule(candidate),
            Thoroughness::Calm => self.try_calmly(candidate),
            Thoroughness::Random => self.try_randomly(candidate, 1),
            Thoroughness::Stubborn => self.try_randomly(candidate, STUBBORNNESS),
            Thoroughness::Explored => {
                self.try_explored(candidate, 1, self.effort.explored_schedules)
            }
            Thoroughness::Nearby => self.try_schedule(candidate) || self.try_nearby(candidate),
        }
    }

    fn is_new(&mut self, candidate: &Program, thoroughness: Thoroughness) -> bool {
        let mut bare = explore::bare(candidate);
        bare.comments.clear();
        bare.machine = self.best.program.machine;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[thoroughness as u8]).update(bare.to_string().as_bytes());
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        self.tried.insert(digest)
    }

    fn try_calmly(&mut self, candidate: &Program) -> bool {
        let calm = Program { schedule: Some(Schedule::default()), ..candidate.clone() };
        self.try_schedule(&calm)
    }

    fn try_randomly(&mut self, candidate: &Program, times: u32) -> bool {
        if self.try_schedule(candidate) || self.try_calmly(candidate) {
            return true;
        }
        if candidate.is_sequential() {
            return false;
        }
        let more = if candidate.operation_count() <= SMALL_OPERATIONS_MAX { 2 } else { 1 };
        self.try_dice(candidate, self.effort.random_schedules * more * times)
    }

    /// Runs a program with its tasks in turn, and then with some random schedules.
    fn try_dice(&mut self, candidate: &Program, schedules: u32) -> bool {
        let mut other = Program { schedule: None, ..candidate.clone() };
        other.machine.chooser = ChooserKind::RoundRobin;
        if self.try_schedule(&other) {
            return true;
        }
        (0..schedules).any(|seed| self.try_schedule(&explore::with_dice(candidate, seed.into())))
    }

    /// Explores a small program for the violation, within a number of preemptions and of schedules.
    fn try_explored(&mut self, candidate: &Program, preemptions: u32, schedules: u32) -> bool {
        let is_large = candidate.operation_count() > SMALL_OPERATIONS_MAX;
        if is_large || self.spent() {
            return false;
        }
        let left = self.executions_max - self.executions;
        let schedules = u64::from(schedules.min(left));
        let bounds = Bounds { preemptions, schedules, shorten: 0, shard: None };
        let mut done = 0;
        let progress = &mut *self.progress;
        let before = self.executions;
        let explored = explore::explore_for(
            self.session,
            candidate,
            bounds,
            Some(&self.key),
            &AtomicBool::new(false),
            &mut |explored| {
                done = explored.schedules as u32;
                progress(before + done);
            },
        );
        self.executions += done;
        let Ok(explored) = explored else { return false };
        let Some(found) = explored.with_key(&self.key) else { return false };
        // Once more, as the last schedule explored need not be the one that showed it.
        let found = found.clone();
        self.try_schedule(&found.program)
    }
}
