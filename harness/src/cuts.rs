//! The power cuts of one execution: where, which crash states, and what the oracle says of each.
//!
//! A cut is a moment of the execution's log. Between two disk events the set of crash states is
//! constant, and the last moment before the next event is the strictest: every operation that has
//! returned by then is over. So one cut an interval stands for all.

use crate::execution::{Executed, Executor};
use crate::program::Program;
use crate::recovery::{Depth, Recovered, Recoverer, Share};
use crate::sites::Sites;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use crate::verdict::{Phase, Wrong};
use machine::Moment;
use machine::choosers::Dice;
use machine::disk::{Explorer, Limits, Selection, Step, TornPolicy};
use rustc_hash::FxHashSet;
use std::rc::Rc;

/// How much of an execution is judged.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Cuts at most; if there are more intervals, some are drawn.
    pub cuts_max: usize,
    /// Crash states of one cut.
    pub limits: Limits,
    /// What is done with each recovered state.
    pub depth: Depth,
    /// Whether setup is cut too.
    pub in_setup: bool,
}

/// Of so many recovered states a campaign uses and empties one, and cuts its recovery: these take
/// two thirds of the time of a recovery that does both.
const DEEP_ONE_OF: u32 = 3;

impl Plan {
    /// What a campaign does with each program.
    pub fn campaign() -> Plan {
        let limits = Limits { exhaustive: 24, sampled: 6, torn: TornPolicy::Few };
        let often = Share::OneOf(DEEP_ONE_OF);
        let depth = Depth { usable: often, inner_cuts: often, ..Depth::FULL };
        Plan { cuts_max: 64, limits, depth, in_setup: true }
    }

    /// Every cut and every class of states, up to a bound that small programs do not reach.
    pub fn thorough() -> Plan {
        let limits = Limits { exhaustive: 4096, sampled: 64, torn: TornPolicy::Few };
        Plan { cuts_max: usize::MAX, limits, depth: Depth::FULL, in_setup: true }
    }
}

/// Counts of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Cuts judged.
    pub cuts: u64,
    /// Crash states judged: classes of images that recovery can tell apart, counted at each cut.
    pub crash_states: u64,
    /// Cuts of which every class was judged.
    pub exhausted: u64,
    /// Recoveries run; the other crash states were known to recover in the same way.
    pub recoveries: u64,
}

impl Totals {
    /// Adds what else was done.
    pub fn add(&mut self, other: &Totals) {
        self.cuts += other.cuts;
        self.crash_states += other.crash_states;
        self.exhausted += other.exhausted;
        self.recoveries += other.recoveries;
    }
}

/// A crash state that shows something wrong.
#[derive(Clone, Debug)]
pub struct CutFound {
    /// What is wrong.
    pub wrong: Wrong,
    /// When power was lost.
    pub moment: Moment,
    /// What the medium kept.
    pub selection: Selection,
    /// When power was lost again, inside recovery.
    pub inner: Option<(Moment, Selection)>,
}

/// The crash states of a cut, what the oracle was told by then, and in all.
type CutKey = (u128, u64, u64);

/// Judges the cuts of executions, with everything reusable kept.
pub struct Judge<T = EngineTarget> {
    /// What was judged in this exploration: crash states with what was promised of them.
    judged: Option<FxHashSet<CutKey>>,
    /// The key of what is looked for; anything else is passed.
    wanted: Option<String>,
    explorer: Explorer<Recovered>,
    recoverer: Recoverer<T>,
}

impl Default for Judge {
    fn default() -> Self {
        Judge::of_target()
    }
}

impl<T: PowerTarget> Judge<T> {
    /// A judge of a target that the type names.
    pub fn of_target() -> Self {
        let recoverer = Recoverer::of_target();
        Judge { judged: None, wanted: None, explorer: Explorer::default(), recoverer }
    }

    /// Judges the cuts of the last execution; stops at the first thing wrong.
    pub fn judge(
        &mut self,
        executor: &Executor<T>,
        executed: &Executed,
        program: &Rc<Program>,
        plan: &Plan,
        dice: &mut Dice,
    ) -> (Totals, Option<CutFound>) {
        let before = self.recoverer.recoveries;
        let mut totals = Totals::default();
        self.recoverer.salt = u64::from(dice.below(u32::MAX));
        self.explorer.begin(executor.machine().disk().log());
        let cuts = moments(executor, executed, plan, dice);
        let mut found = None;
        for cut in cuts {
            let key = self.key(executor, program, cut);
            let judged = self.judged.as_ref().zip(key.as_ref());
            if judged.is_some_and(|(judged, key)| judged.contains(key)) {
                continue;
            }
            totals.cuts += 1;
            found = self.judge_cut(executor, program, cut, plan, dice, &mut totals);
            if let Some((judged, key)) = self.judged.as_mut().zip(key).filter(|_| found.is_none()) {
                judged.insert(key);
            }
            if found.is_some() {
                break;
            }
        }
        totals.recoveries = self.recoverer.recoveries - before;
        (totals, found)
    }

    /// From now on, judges a cut only if none was found right that has the same crash states and of
    /// which the oracle was told the same; or, if `once` is false, every cut.
    pub fn once(&mut self, once: bool) {
        self.judged = once.then(FxHashSet::default);
    }

    /// From now on, passes whatever has another [key](Wrong::key); or, with none, nothing.
    pub fn look_for(&mut self, key: Option<&str>) {
        self.wanted = key.map(str::to_string);
    }

    /// What the verdict on a cut depends on. Not known where the device fails requests.
    fn key(&self, executor: &Executor<T>, program: &Program, cut: Moment) -> Option<CutKey> {
        let is_known = self.judged.is_some() && program.faults.is_empty();
        is_known.then(|| {
            let (by_then, in_all) = executor.observed(cut);
            (self.explorer.history().state_key(cut), by_then, in_all)
        })
    }

    fn judge_cut(
        &mut self,
        executor: &Executor<T>,
        program: &Rc<Program>,
        cut: Moment,
        plan: &Plan,
        dice: &mut Dice,
        totals: &mut Totals,
    ) -> Option<CutFound> {
        self.explorer.cut(cut, plan.limits);
        while let Some(step) = self.explorer.next(&mut |n| dice.below(n)) {
            totals.crash_states += 1;
            let leaf = match step {
                Step::Known(leaf) => leaf,
                Step::Recover(state) => {
                    let base = executor.base();
                    let recovered = self.recoverer.recover(&state, program, base, plan.depth);
                    match self.explorer.record(&state, recovered) {
                        Ok(leaf) => leaf,
                        Err(diverged) => return Some(self.diverged(cut, &diverged.to_string())),
                    }
                }
            };
            let recovered = self.explorer.leaf(leaf);
            let (wrong, inner) = match &recovered.wrong {
                Some(wrong) => (Some(wrong.clone()), recovered.inner_cut.clone()),
                None => (judge_seen(executor, cut, recovered), None),
            };
            let is_wanted =
                |wrong: &Wrong| self.wanted.as_ref().is_none_or(|key| wrong.key() == *key);
            if let Some(wrong) = wrong.filter(is_wanted) {
                let selection = self.explorer.selection();
                return Some(CutFound { wrong, moment: cut, selection, inner });
            }
        }
        totals.exhausted += u64::from(self.explorer.report().exhausted);
        None
    }

    /// The contents of the blocks that each crash state of the last execution touches, in the order
    /// in which they are judged: what a floor of the cost is computed from.
    pub fn footprints(
        &mut self,
        executor: &Executor<T>,
        executed: &Executed,
        program: &Rc<Program>,
        plan: &Plan,
        dice: &mut Dice,
        each: &mut dyn FnMut(Vec<machine::Block>),
    ) {
        self.explorer.begin(executor.machine().disk().log());
        for cut in moments(executor, executed, plan, dice) {
            self.explorer.cut(cut, plan.limits);
            while let Some(step) = self.explorer.next(&mut |n| dice.below(n)) {
                if let Step::Recover(state) = step {
                    let base = executor.base();
                    let recovered = self.recoverer.recover(&state, program, base, plan.depth);
                    if self.explorer.record(&state, recovered).is_err() {
                        return;
                    }
                }
                if let Some(state) = self.explorer.current() {
                    each(state.footprint().into_iter().map(|step| step.content).collect());
                }
            }
        }
    }

    /// The sites that all recoveries so far have reached.
    pub fn sites(&self) -> &Sites {
        &self.recoverer.sites
    }

    fn diverged(&self, cut: Moment, message: &str) -> CutFound {
        let wrong = Wrong::recovered("recovery-diverged", 23, "", message.to_string());
        CutFound { wrong, moment: cut, selection: self.explorer.selection(), inner: None }
    }

    /// Judges one crash state, as a finding describes it.
    pub fn judge_one(
        &mut self,
        executor: &Executor<T>,
        program: &Rc<Program>,
        moment: Moment,
        selection: &Selection,
        default: machine::disk::Strategy,
        inner: Option<(Moment, &Selection)>,
    ) -> Option<Wrong> {
        use machine::disk::CrashState;
        self.explorer.begin(executor.machine().disk().log());
        let history = self.explorer.history().clone();
        let state = CrashState::with_selection(history, moment, selection, default);
        let base = executor.base();
        let recovered = match inner {
            None => self.recoverer.recover(&state, program, base, Depth::FULL),
            Some((inner, kept)) => self.recoverer.recover_twice(&state, program, base, inner, kept),
        };
        recovered.wrong.clone().or_else(|| judge_seen(executor, moment, &recovered))
    }
}

fn judge_seen(
    executor: &Executor<impl PowerTarget>,
    cut: Moment,
    recovered: &Recovered,
) -> Option<Wrong> {
    let verdict =
        executor.with_oracle(|oracle| oracle.judge(oracle::Moment(cut.0), &recovered.seen));
    verdict.err().map(|violation| Wrong::from_violation(&violation, Phase::Recovered))
}

/// The moments to cut at: each the last before the next disk event.
fn moments(
    executor: &Executor<impl PowerTarget>,
    executed: &Executed,
    plan: &Plan,
    dice: &mut Dice,
) -> Vec<Moment> {
    let changes = executor.machine().disk().log().cuts();
    if changes.is_empty() {
        // Nothing was written: the new image is all there is, whatever was promised.
        return vec![executed.end];
    }
    let mut cuts: Vec<Moment> = Vec::with_capacity(changes.len());
    for (index, _) in changes.iter().enumerate() {
        let cut = match changes.get(index + 1) {
            Some(next) => next.before(),
            None => executed.end,
        };
        if plan.in_setup || cut >= executed.setup_end {
            cuts.push(cut);
        }
    }
    if cuts.len() <= plan.cuts_max {
        return cuts;
    }
    // The last is always judged: after a clean unmount everything must be there. Of the others,
    // those after the tasks started are drawn four times as often as those of setup.
    let mut drawn = Vec::with_capacity(plan.cuts_max);
    drawn.extend(cuts.pop());
    let start = cuts.partition_point(|cut| *cut < executed.setup_end);
    while drawn.len() < plan.cuts_max && !cuts.is_empty() {
        let late = start < cuts.len() && (start == 0 || dice.below(5) > 0);
        let (low, high) = if late { (start, cuts.len()) } else { (0, start.max(1)) };
        let index = low + dice.below((high - low) as u32) as usize;
        let cut = cuts[index.min(cuts.len() - 1)];
        if !drawn.contains(&cut) {
            drawn.push(cut);
        } else if dice.below(4) == 0 {
            // Drawn often enough: the program has few places left.
            break;
        }
    }
    drawn.sort_unstable();
    drawn
}
