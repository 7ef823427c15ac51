//! Conformity: programs run on a mounted kernel file system, every answer compared with the
//! oracle's live model.
//!
//! It promises that whatever the model and a kernel disagree on is found as one operation of one
//! small program, whoever is wrong: a model that is too strict cries wolf on crash states, one that
//! is too lax lets bugs through. Each program runs in a fresh directory: `setup`, then the tasks,
//! one operation after the other in an order that a seed decides (or, with `threads`, at the same
//! time), then a look at all names, sizes, contents and hole maps. Power is never cut here.
//!
//! It must never know what is allowed; [`oracle`] does.

mod reduce;
mod script;
mod session;
#[cfg(test)]
mod tests;
mod threads;

use crate::clock::Stopwatch;
use crate::target::kernel::{KernelError, KernelRoot};
use oracle::Oracle;
use rustc_hash::FxHashMap;
use script::Script;
use serde::Serialize;
use session::{Counts, Disagreement, Session};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Programs that a report shows for each kind of mismatch.
const SHOWN_MAX: u64 = 2;

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct ConformOptions {
    /// A directory of the file system; programs run in subdirectories of it.
    pub dir: PathBuf,
    /// Programs to run.
    pub programs: u64,
    /// Decides programs and interleavings.
    pub seed: u64,
    /// Stop after so many seconds, whatever is left.
    pub seconds: Option<f64>,
    /// Run the tasks as threads, so that operations overlap in time; not reproducible.
    pub threads: bool,
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
pub struct ConformProgress {
    /// Programs run.
    pub programs: u64,
    /// Operations performed.
    pub operations: u64,
    /// Programs that did not agree.
    pub mismatched: u64,
}

/// One answer that the oracle does not allow.
#[derive(Clone, Debug, Serialize)]
pub struct Mismatch {
    /// Which program of the seed.
    pub index: u64,
    /// How many programs disagreed in this way.
    pub times: u64,
    /// The operation as a line of the program.
    pub operation: String,
    /// The kind of the violation, such as `wrong-result`.
    pub kind: String,
    /// The guarantee that would be broken, such as `G-7`.
    pub guarantee: String,
    /// What was found and what is allowed.
    pub message: String,
    /// The minimized program; a comment gives the order of its tasks' operations.
    pub program: String,
}

/// What was run, and what did not agree.
#[derive(Clone, Debug, Serialize)]
pub struct ConformReport {
    /// The file system, such as `xfs`.
    pub fs: String,
    /// What it was found to support.
    pub supports: String,
    /// Programs run.
    pub programs: u64,
    /// Operations performed.
    pub operations: u64,
    /// Of those, the ones that returned an error, by its name.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// Answers compared, those of the final look included.
    pub comparisons: u64,
    /// Questions that the oracle left open because a bound was hit.
    pub inconclusive: u64,
    /// Programs that did not agree.
    pub mismatched: u64,
    /// Some of them for each way of disagreeing, minimized.
    pub mismatches: Vec<Mismatch>,
    /// Programs that could not be run.
    pub skipped: u64,
    /// Seconds taken.
    pub seconds: f64,
}

impl ConformReport {
    /// Whether the oracle and the kernel agree.
    pub fn agrees(&self) -> bool {
        self.mismatched == 0
    }
}

impl std::fmt::Display for ConformReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} ({}): {} programs, {} operations, {} comparisons, {} inconclusive, {} skipped, \
             {:.1} s, {:.0} programs/s",
            self.fs,
            self.supports,
            self.programs,
            self.operations,
            self.comparisons,
            self.inconclusive,
            self.skipped,
            self.seconds,
            self.programs as f64 / self.seconds.max(1e-3),
        )?;
        if self.agrees() {
            return writeln!(f, "{}: agrees with the oracle", self.fs);
        }
        writeln!(f, "{}: {} programs disagree with the oracle", self.fs, self.mismatched)?;
        for mismatch in &self.mismatches {
            let Mismatch { index, times, operation, kind, guarantee, message, program } = mismatch;
            writeln!(f, "\n{kind} ({guarantee}), {times} times, first in program {index}")?;
            writeln!(f, "  {operation}: {message}\n{program}")?;
        }
        Ok(())
    }
}

/// Runs programs on a directory and compares.
///
/// `progress` is called after every program and may stop the campaign.
///
/// # Errors
/// If the directory cannot be used; disagreements are in the report.
pub fn conform(
    options: &ConformOptions,
    progress: &mut dyn FnMut(ConformProgress) -> ControlFlow<()>,
) -> Result<ConformReport, KernelError> {
    let root = KernelRoot::open(&options.dir)?;
    // Real kernels take real time: this clock limits the campaign and decides nothing within it.
    let start = Stopwatch::start();
    let mut campaign = Campaign {
        threads: options.threads,
        oracle: Oracle::new(root.promises().clone()),
        root,
        counts: Counts::default(),
        mismatches: Vec::new(),
        seen: FxHashMap::default(),
        mismatched: 0,
        skipped: 0,
    };
    let mut programs = 0;
    for index in 0..options.programs {
        if options.seconds.is_some_and(|limit| start.seconds() >= limit) {
            break;
        }
        programs += 1;
        campaign.program(options.seed, index)?;
        let so_far = ConformProgress {
            programs,
            operations: campaign.counts.operations,
            mismatched: campaign.mismatched,
        };
        if progress(so_far).is_break() {
            break;
        }
    }
    Ok(campaign.report(programs, start.seconds()))
}

struct Campaign {
    threads: bool,
    root: KernelRoot,
    oracle: Oracle,
    counts: Counts,
    mismatches: Vec<Mismatch>,
    /// Programs that disagreed in each way, and the place of the first in `mismatches`.
    seen: FxHashMap<Way, (u64, usize)>,
    mismatched: u64,
    skipped: u64,
}

/// What makes two disagreements the same.
type Way = (String, String, String);

impl Campaign {
    fn program(&mut self, seed: u64, index: u64) -> Result<(), KernelError> {
        let script = Script::draw(seed, index);
        if !script.is_runnable() {
            self.skipped += 1;
            return Ok(());
        }
        let mut counts = std::mem::take(&mut self.counts);
        let found = self.execute(&script, &mut counts);
        self.counts = counts;
        if let Some(found) = found? {
            self.note(index, script, found)?;
        }
        Ok(())
    }

    /// Runs a script in a fresh directory.
    fn execute(
        &mut self,
        script: &Script,
        counts: &mut Counts,
    ) -> Result<Option<Disagreement>, KernelError> {
        let run = self.root.start()?;
        let mut workers = Vec::new();
        for _ in 0..=script.program().tasks.len() {
            workers.push(run.worker()?);
        }
        let mut session = Session::new(&mut self.oracle, &self.root, script, counts);
        let found = if self.threads {
            threads::run(&mut session, &run, &mut workers)
        } else {
            session.tasks_in_order(&run, &mut workers)
        };
        let found = match found.and_then(|()| session.look(&run, &mut workers)) {
            Ok(()) => session.judge(&run.snapshot(script.program())?).err(),
            Err(found) => Some(found),
        };
        drop(workers);
        run.finish()?;
        Ok(found)
    }

    fn note(&mut self, index: u64, script: Script, found: Disagreement) -> Result<(), KernelError> {
        self.mismatched += 1;
        let (times, place) = self.seen.entry(found.way()).or_insert((0, self.mismatches.len()));
        *times += 1;
        if *times > SHOWN_MAX {
            self.mismatches[*place].times += 1;
            return Ok(());
        }
        // Threads interleave as they like, so a try that agrees says little: try more often.
        let tries = if self.threads { 20 } else { 1 };
        let mut same = |script: &Script| {
            for _ in 0..tries {
                let again = self.execute(script, &mut Counts::default())?;
                if let Some(again) = again.filter(|again| again.is_like(&found)) {
                    return Ok(Some(again));
                }
            }
            Ok(None)
        };
        let (script, found) = reduce::minimize(script, found.clone(), &mut same)?;
        self.mismatches.push(Mismatch {
            index,
            times: 1,
            operation: found.operation,
            kind: found.kind,
            guarantee: found.guarantee,
            message: found.message,
            program: script.text(self.threads),
        });
        Ok(())
    }

    fn report(self, programs: u64, seconds: f64) -> ConformReport {
        let promises = self.root.promises();
        let has = |what: bool| if what { "yes" } else { "no" };
        ConformReport {
            fs: self.root.file_system().to_owned(),
            supports: format!(
                "clone {}, fallocate {}, direct IO in {} bytes or else {}",
                has(promises.has_clone),
                has(promises.has_fallocate),
                promises.direct_align,
                if promises.direct_falls_back { "cached" } else { "EINVAL" },
            ),
            programs,
            operations: self.counts.operations,
            errors: self.counts.errors,
            comparisons: self.counts.comparisons,
            inconclusive: self.oracle.inconclusive(),
            mismatched: self.mismatched,
            mismatches: self.mismatches,
            skipped: self.skipped,
            seconds,
        }
    }
}
