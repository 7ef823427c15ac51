//! One worker's whole line: execute a program, judge its cuts, keep what was found. Everything that
//! runs programs (campaigns, replay, minimizing, exploration, fuzz targets) goes through here.

use crate::cuts::{Judge, Plan, Totals};
use crate::execution::{Executed, Executor, Manner};
use crate::finding::{self, Finding};
use crate::images::Images;
use crate::program::Program;
use crate::signature::Circumstances;
use crate::sites::Sites;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use machine::Chooser;
use machine::choosers::Dice;
use std::rc::Rc;

/// What one program showed.
#[derive(Debug, Default)]
pub struct Shown {
    /// The execution.
    pub executed: Executed,
    /// The cuts judged.
    pub totals: Totals,
    /// The first thing wrong.
    pub finding: Option<Finding>,
    /// A broken rule without a consequence: it counts if there is no finding.
    pub suspicion: Option<Finding>,
    /// Where a recorded schedule did not fit.
    pub divergences: u32,
}

impl Shown {
    /// What there is to tell: what was found, or else what is suspected.
    pub fn first(&self) -> Option<&Finding> {
        self.finding.as_ref().or(self.suspicion.as_ref())
    }

    /// What was found, or is suspected, of a key.
    pub fn with_key(&self, key: &str) -> Option<&Finding> {
        let both = [&self.finding, &self.suspicion].into_iter().flatten();
        both.into_iter().find(|finding| finding.wrong.key() == key)
    }
}

/// Runs programs one after the other, with everything reusable kept: on the engine, or on any
/// target that the type names.
pub struct Session<T = EngineTarget> {
    images: Images<T>,
    executor: Executor<T>,
    judge: Judge<T>,
}

impl Default for Session {
    fn default() -> Self {
        Session::of_target()
    }
}

impl<T: PowerTarget> Session<T> {
    /// A session that has seen nothing, of a target that the type names.
    pub fn of_target() -> Self {
        let (images, executor) = (Images::of_target(), Executor::of_target());
        Session { images, executor, judge: Judge::of_target() }
    }

    /// Executes a program with its own chooser and judges its cuts. `seed` decides which cuts and
    /// states are drawn where there are too many.
    ///
    /// # Errors
    /// A sentence, if the program cannot be executed at all.
    pub fn run(&mut self, program: &Rc<Program>, plan: &Plan, seed: u64) -> Result<Shown, String> {
        let chooser = crate::execution::chooser(program);
        self.run_with(program, plan, seed, chooser).map(|(shown, _)| shown)
    }

    /// Executes a program with a chooser, judges its cuts, and gives the chooser back.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(
        &mut self,
        program: &Rc<Program>,
        plan: &Plan,
        seed: u64,
        chooser: Box<dyn Chooser>,
    ) -> Result<(Shown, Box<dyn Chooser>), String> {
        let manner = Manner::default();
        let (executed, chooser) =
            self.executor.execute_with(&mut self.images, program, manner, chooser)?;
        let mut shown = Shown { executed, ..Shown::default() };
        if let Some(wrong) = &shown.executed.suspicion {
            let finding = Finding::live(&self.executor, &shown.executed, program, wrong);
            shown.suspicion = Some(finding);
        }
        if let Some(wrong) = &shown.executed.wrong {
            let finding = Finding::live(&self.executor, &shown.executed, program, wrong);
            shown.finding = Some(finding);
            return Ok((shown, chooser));
        }
        if shown.executed.cut_short || shown.executed.is_declined {
            return Ok((shown, chooser));
        }
        if plan.cuts_max > 0 {
            let mut dice = Dice::new(seed);
            let (totals, found) =
                self.judge.judge(&self.executor, &shown.executed, program, plan, &mut dice);
            shown.totals = totals;
            shown.finding =
                found.map(|found| Finding::crash(&self.executor, &shown.executed, program, &found));
        }
        Ok((shown, chooser))
    }

    /// Runs a program as it says: with its recorded schedule, if it has one, and judged at its
    /// recorded cut alone, if it has one.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn replay(&mut self, program: &Rc<Program>) -> Result<Shown, String> {
        let mut plan = Plan::thorough();
        if program.cut.is_some() {
            plan.cuts_max = 0;
        }
        let Some(schedule) = &program.schedule else {
            let mut shown = self.run(program, &plan, 0)?;
            self.judge_recorded(program, &mut shown);
            return Ok(shown);
        };
        let chooser = Box::new(finding::replayer(schedule));
        let (mut shown, mut spent) = self.run_with(program, &plan, 0, chooser)?;
        if let Some(replay) = spent.as_any().downcast_mut::<machine::choosers::Replay>() {
            shown.divergences = replay.divergences();
        }
        self.judge_recorded(program, &mut shown);
        Ok(shown)
    }

    /// Judges the one crash state that a program describes.
    fn judge_recorded(&mut self, program: &Rc<Program>, shown: &mut Shown) {
        let Some(cut) = &program.cut else { return };
        if shown.finding.is_some() {
            return;
        }
        let kept = finding::selection(&cut.kept);
        let inside = finding::selection(&cut.kept_inside);
        let inner = cut.inside_recovery.map(|moment| (machine::Moment(moment), &inside));
        let moment = finding::moment(cut).min(shown.executed.end);
        let default = finding::strategy(cut);
        shown.totals.cuts = 1;
        shown.totals.crash_states = 1;
        let wrong = self.judge.judge_one(&self.executor, program, moment, &kept, default, inner);
        if let Some(wrong) = wrong {
            let mut same = (**program).clone();
            same.cut = Some(cut.clone());
            let circumstances = Circumstances::of(&self.executor, &shown.executed, program);
            shown.finding = Some(Finding { wrong, program: same, circumstances });
        }
    }

    /// Whether hashes of what the oracle is told are kept.
    pub fn observe(&mut self, observes: bool) {
        self.executor.observe(observes);
    }

    /// Whether equal cuts of several executions of one program are judged only once.
    pub fn judge_once(&mut self, once: bool) {
        self.executor.observe(once);
        self.judge.once(once);
    }

    /// From now on, passes crash states that are wrong in another way than this
    /// [key](crate::verdict::Wrong::key); or, with none, none.
    pub fn look_for(&mut self, key: Option<&str>) {
        self.judge.look_for(key);
    }

    /// Adds the sites that the last execution has reached, and all recoveries so far.
    pub fn add_sites_to(&self, sites: &mut Sites) {
        sites.collect(&self.executor.machine().trace());
        sites.merge(self.judge.sites());
    }

    /// The executor, with the last execution.
    pub fn executor(&self) -> &Executor<T> {
        &self.executor
    }
}
