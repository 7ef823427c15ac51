//! Exploring: every schedule of a program within a preemption bound, every crash state of each.
//!
//! Schedules that differ only in the order of steps that commute are one ([`Reduced`]), and crash
//! states that differ in nothing that recovery or the oracle looks at are judged once
//! ([`crate::cuts`]). What is found, and with how many preemptions, is the same as without either.

use crate::cuts::{Plan, Totals};
use crate::finding::Finding;
use crate::program::{ChooserKind, Program};
use crate::session::{Session, Shown};
use crate::target::PowerTarget;
use machine::Chooser;
use machine::choosers::{Exhaustive, Reduced, Shard};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an exploration is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Preemptions at most: all smaller numbers are explored first.
    pub preemptions: u32,
    /// Schedules at most.
    pub schedules: u64,
    /// Schedules that are executed after the first violation, to find one with fewer switches.
    pub shorten: u64,
    /// Which part of the schedules; `None` is all, in one search. The parts together are all, too,
    /// but as they know nothing of each other they take more executions.
    pub shard: Option<Shard>,
}

/// What an exploration came to.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Schedules begun; of those that others cover, only the beginning was executed.
    pub schedules: u64,
    /// Schedules executed to their end and judged.
    pub complete: u64,
    /// What was judged.
    pub totals: Totals,
    /// Whether the verdict is proven: every schedule within the bound was executed, or with fewer
    /// preemptions than the violation has, and every crash state of each judged. Of a shard, that
    /// is said of its schedules only.
    pub exhausted: bool,
    /// The fewest preemptions that reach a violation.
    pub pmin: Option<u32>,
    /// A violation with the fewest preemptions; of those seen, the one with the fewest switches.
    pub finding: Option<Finding>,
    /// A broken rule of which no schedule showed a consequence: the first. It is no violation, and
    /// the search goes on.
    pub suspicion: Option<Finding>,
}

impl Explored {
    /// What there is to tell: a violation, or else a broken rule without a consequence.
    pub fn first(&self) -> Option<&Finding> {
        self.finding.as_ref().or(self.suspicion.as_ref())
    }

    /// What was found, or is suspected, of a key.
    pub fn with_key(&self, key: &str) -> Option<&Finding> {
        let both = [&self.finding, &self.suspicion].into_iter().flatten();
        both.into_iter().find(|finding| finding.wrong.key() == key)
    }
}

/// Everything that the schedules within a bound show, for comparison.
#[derive(Clone, Debug, Default)]
pub struct Surveyed {
    /// Schedules begun.
    pub schedules: u64,
    /// Every key of a violation, with the fewest preemptions that reach it.
    pub keys: BTreeMap<String, u32>,
    /// Hashes of the results that the tasks saw, of all executions.
    pub results: BTreeMap<u64, u32>,
}

/// A chooser that enumerates schedules.
trait Search: Chooser + Sized + 'static {
    fn new(bound: u32, shard: Option<Shard>) -> Self;
    fn advance(&mut self) -> bool;
    fn unsteady(&self) -> bool;
}

impl Search for Exhaustive {
    fn new(bound: u32, shard: Option<Shard>) -> Self {
        assert!(shard.is_none(), "plain enumeration is not split");
        Exhaustive::new(bound)
    }

    fn advance(&mut self) -> bool {
        Exhaustive::advance(self)
    }

    fn unsteady(&self) -> bool {
        false
    }
}

impl Search for Reduced {
    fn new(bound: u32, shard: Option<Shard>) -> Self {
        match shard {
            Some(shard) => Reduced::shard(bound, shard),
            None => Reduced::new(bound),
        }
    }

    fn advance(&mut self) -> bool {
        Reduced::advance(self)
    }

    fn unsteady(&self) -> bool {
        Reduced::unsteady(self)
    }
}

/// How a walk over the schedules of one bound ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walked {
    /// All were executed.
    All,
    /// The visitor had enough, or there were too many.
    Stopped,
    /// Executions did not repeat: the walk means nothing.
    Unsteady,
}

/// Explores a program. The background workers take part with the budgets that its knobs give.
///
/// # Errors
/// A sentence, if the program cannot be executed.
pub fn explore(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
    bounds: Bounds,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Explored),
) -> Result<Explored, String> {
    explore_for(session, program, bounds, None, stop, progress)
}

/// Explores a program for what has this [key](crate::verdict::Wrong::key), passing other findings.
/// It is proven to be unreachable only if nothing was passed.
///
/// # Errors
/// As [`explore`].
pub fn explore_for(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
    bounds: Bounds,
    key: Option<&str>,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Explored),
) -> Result<Explored, String> {
    let is_wanted = |finding: &Finding| key.is_none_or(|key| finding.wrong.key() == key);
    let program = Rc::new(bare(program));
    let mut explored = Explored::default();
    let mut passed = false;
    session.judge_once(true);
    for bound in 0..=bounds.preemptions {
        let mut all_judged = true;
        let mut visit = |shown: &Shown| {
            if shown.executed.is_declined {
                return !stop.load(Ordering::Relaxed);
            }
            explored.schedules += 1;
            explored.complete += u64::from(!shown.executed.cut_short);
            explored.totals.add(&shown.totals);
            all_judged &= shown.totals.exhausted == shown.totals.cuts;
            explored.finding = shown.finding.clone().filter(is_wanted);
            passed |= shown.finding.is_some() && explored.finding.is_none();
            if explored.suspicion.is_none() {
                explored.suspicion = shown.suspicion.clone().filter(is_wanted);
            }
            progress(&explored);
            let is_enough = explored.schedules >= bounds.schedules || stop.load(Ordering::Relaxed);
            explored.finding.is_none() && !is_enough
        };
        let walked = walk::<Reduced, _>(session, &program, bound, bounds.shard, &mut visit);
        if walked != Ok(Walked::All) || !all_judged {
            session.judge_once(false);
            walked?;
            if explored.finding.is_some() {
                (explored.pmin, explored.exhausted) = (Some(bound), true);
                shorten(session, &program, bound, bounds, &mut explored)?;
            }
            return Ok(explored);
        }
    }
    session.judge_once(false);
    explored.exhausted = !passed;
    Ok(explored)
}

/// Looks for the same violation with fewer switches, among the first schedules of its bound.
fn shorten(
    session: &mut Session<impl PowerTarget>,
    program: &Rc<Program>,
    bound: u32,
    bounds: Bounds,
    explored: &mut Explored,
) -> Result<(), String> {
    let Some(best) = &mut explored.finding else { return Ok(()) };
    let mut left = bounds.shorten;
    if left > 0 {
        walk::<Reduced, _>(session, program, bound, bounds.shard, &mut |shown| {
            left -= 1;
            if let Some(finding) = &shown.finding
                && !shown.executed.is_declined
                && finding.wrong.key() == best.wrong.key()
                && finding.switches() < best.switches()
            {
                *best = finding.clone();
            }
            left > 0
        })?;
    }
    Ok(())
}

/// Everything that a program can show within a bound, with or without leaving out what commutes:
/// both must agree. Nothing, if there are more schedules than the bounds allow.
///
/// # Errors
/// A sentence, if the program cannot be executed, or its executions do not repeat.
pub fn survey(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
    bounds: Bounds,
    reduced: bool,
) -> Result<Option<Surveyed>, String> {
    let program = Rc::new(bare(program));
    let mut surveyed = Surveyed::default();
    session.judge_once(reduced);
    session.observe(true);
    for bound in 0..=bounds.preemptions {
        let mut visit = |shown: &Shown| {
            if shown.executed.is_declined {
                return true;
            }
            surveyed.schedules += 1;
            if !shown.executed.cut_short {
                surveyed.results.entry(shown.executed.results_hash).or_insert(bound);
            }
            if let Some(finding) = &shown.finding {
                surveyed.keys.entry(finding.wrong.key()).or_insert(bound);
            }
            surveyed.schedules < bounds.schedules
        };
        let walked = match reduced {
            true => walk::<Reduced, _>(session, &program, bound, bounds.shard, &mut visit)?,
            false => walk::<Exhaustive, _>(session, &program, bound, None, &mut visit)?,
        };
        match walked {
            Walked::All => {}
            Walked::Stopped => return Ok(None),
            Walked::Unsteady => return Err("executions of one beginning differ".to_string()),
        }
    }
    Ok(Some(surveyed))
}

/// A program without what a finding adds.
pub(crate) fn bare(program: &Program) -> Program {
    let mut program = program.clone();
    program.schedule = None;
    program.cut = None;
    program
}

/// A program without what a finding adds, whose schedule dice take: random, PCT and POS in turn.
pub(crate) fn with_dice(program: &Program, seed: u64) -> Program {
    let mut program = bare(program);
    program.machine.seed = seed;
    program.machine.chooser = match seed % 3 {
        0 => ChooserKind::Random,
        1 => ChooserKind::Pct,
        _ => ChooserKind::Pos,
    };
    program
}

/// Executes the schedules within one bound until the visitor has enough.
fn walk<S: Search, T: PowerTarget>(
    session: &mut Session<T>,
    program: &Rc<Program>,
    bound: u32,
    shard: Option<Shard>,
    visit: &mut dyn FnMut(&Shown) -> bool,
) -> Result<Walked, String> {
    let plan = Plan::thorough();
    let mut chooser: Box<dyn Chooser> = Box::new(S::new(bound, shard));
    let mut executions = 0;
    loop {
        let search = chooser.as_any().downcast_mut::<S>().expect("the chooser comes back");
        if search.unsteady() {
            return Ok(Walked::Unsteady);
        }
        if !search.advance() {
            return Ok(Walked::All);
        }
        let (shown, spent) = session.run_with(program, &plan, executions, chooser)?;
        chooser = spent;
        executions += 1;
        if !visit(&shown) {
            return Ok(Walked::Stopped);
        }
    }
}
