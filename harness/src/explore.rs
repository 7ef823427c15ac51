//! Exploring: every schedule of a program within a preemption bound, every crash state of each.

use crate::cuts::{Plan, Totals};
use crate::finding::Finding;
use crate::program::Program;
use crate::session::Session;
use machine::choosers::Exhaustive;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an exploration is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Preemptions at most: all smaller numbers are explored first.
    pub preemptions: u32,
    /// Schedules at most.
    pub schedules: u64,
}

/// What an exploration came to.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Schedules executed.
    pub schedules: u64,
    /// What was judged.
    pub totals: Totals,
    /// Whether every schedule within the bound was executed, and every crash state of each judged.
    pub exhausted: bool,
    /// The fewest preemptions that reach a violation.
    pub pmin: Option<u32>,
    /// The first violation, with the fewest preemptions.
    pub finding: Option<Finding>,
}

/// Explores a program. The background workers take part with the budgets that its knobs give.
///
/// # Errors
/// A sentence, if the program cannot be executed.
pub fn explore(
    session: &mut Session,
    program: &Program,
    bounds: Bounds,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Explored),
) -> Result<Explored, String> {
    let mut program = program.clone();
    program.schedule = None;
    program.cut = None;
    let program = Rc::new(program);
    let mut explored = Explored::default();
    for bound in 0..=bounds.preemptions {
        let complete = within(session, &program, bound, bounds, stop, &mut explored, progress)?;
        if explored.finding.is_some() {
            explored.pmin = Some(bound);
            return Ok(explored);
        }
        if !complete {
            return Ok(explored);
        }
    }
    explored.exhausted = true;
    Ok(explored)
}

/// Explores within one bound; whether everything was looked at.
fn within(
    session: &mut Session,
    program: &Rc<Program>,
    bound: u32,
    bounds: Bounds,
    stop: &AtomicBool,
    explored: &mut Explored,
    progress: &mut dyn FnMut(&Explored),
) -> Result<bool, String> {
    let plan = Plan::thorough();
    let mut chooser: Box<dyn machine::Chooser> = Box::new(Exhaustive::new(bound));
    let mut complete = true;
    loop {
        let search = chooser.as_any().downcast_mut::<Exhaustive>();
        if !search.expect("the chooser comes back").advance() {
            return Ok(complete);
        }
        if explored.schedules >= bounds.schedules || stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let (shown, spent) = session.run_with(program, &plan, explored.schedules, chooser)?;
        chooser = spent;
        explored.schedules += 1;
        explored.totals.add(&shown.totals);
        complete &= shown.totals.exhausted == shown.totals.cuts;
        if shown.finding.is_some() {
            explored.finding = shown.finding;
            return Ok(false);
        }
        progress(explored);
    }
}
