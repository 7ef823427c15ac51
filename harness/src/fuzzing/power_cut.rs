//! The target `power_cut`: executes a program, cuts the power at a few places, judges what recovery
//! shows, and ends the process at the first thing wrong.
//!
//! It promises that what libFuzzer prints of a finding is the readable program, that the finding
//! file replays it, and that `DEDUP_TOKEN` names the bug, so that libFuzzer's own minimizer does
//! not drift to another. It must never know what is wrong and why: the session does.

use super::feedback::INTERLEAVINGS;
use super::summary::Summary;
use crate::clock::unix_seconds;
use crate::cuts::Plan;
use crate::finding::Finding;
use crate::findings::{self, Sighting};
use crate::minimize::{Effort, minimize};
use crate::program::Program;
use crate::session::Session;
use crate::target::engine::EngineTarget;
use crate::triage::Known;
use machine::disk::{Limits, TornPolicy};
use std::cell::RefCell;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Names the folder into which findings are written.
pub const FINDINGS: &str = "POWERFAIL_FINDINGS";

/// Names defects that are switched on in every program, separated by commas.
pub const DEFECTS: &str = "POWERFAIL_DEFECTS";

/// Set to `off`, interleavings are not shown to libFuzzer: what they are worth is measured so.
pub const INTERLEAVING_COUNTERS: &str = "POWERFAIL_INTERLEAVING_COUNTERS";

/// Executions that minimizing may cost: the time limit of libFuzzer is near.
const EFFORT: Effort = Effort {
    executions: 2000,
    random_schedules: 6,
    explored_schedules: 100,
    last_schedules: 500,
    descents: 1,
};

/// One process of the target.
pub struct PowerCut {
    /// Fibres are not to be unwound when the process ends.
    session: ManuallyDrop<Session>,
    plan: Plan,
    defects: Vec<String>,
    folder: Option<PathBuf>,
    summary: Summary,
    /// The first feature that is shown to libFuzzer: those of interleavings come first.
    first_shown: u16,
}

impl PowerCut {
    /// A target that switches these defects on, and writes findings into this folder.
    pub fn new(defects: Vec<String>, folder: Option<PathBuf>) -> PowerCut {
        let limits = Limits { exhaustive: 8, sampled: 3, torn: TornPolicy::Few };
        PowerCut {
            session: ManuallyDrop::default(),
            plan: Plan { cuts_max: 6, limits, ..Plan::campaign() },
            defects,
            folder,
            summary: Summary::default(),
            first_shown: 0,
        }
    }

    /// A target as the environment says.
    fn from_environment() -> PowerCut {
        let defects = std::env::var(DEFECTS).unwrap_or_default();
        let names = defects.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut target = PowerCut::new(
            names.map(str::to_string).collect(),
            std::env::var_os(FINDINGS).map(PathBuf::from),
        );
        if std::env::var_os(INTERLEAVING_COUNTERS).is_some_and(|value| value == "off") {
            target.first_shown = INTERLEAVINGS as u16;
        }
        target
    }

    /// What has been done.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The session, with the last execution.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Says nothing of what was done when it ends.
    pub fn quiet(&mut self) {
        self.summary.quiet();
    }

    /// Executes a program and judges a few of its cuts; the first thing wrong. What a program of
    /// the corpus expects, and what it demands of recovered states, is not what is asked here.
    pub fn judge(&mut self, program: &Program) -> Option<Finding> {
        let first = self.first_shown;
        self.judge_with(program, |feature| {
            if feature >= first {
                show(feature)
            }
        })
    }

    /// As [`PowerCut::judge`], with the features named to `show`, maybe more than once.
    pub fn judge_with(&mut self, program: &Program, show: impl FnMut(u16)) -> Option<Finding> {
        let mut program = program.clone();
        program.comments.clear();
        program.after.clear();
        program.defects.clone_from(&self.defects);
        (program.expect, program.schedule, program.cut) = (None, None, None);
        program.fixup();
        let program = Rc::new(program);
        let shown = match self.session.run(&program, &self.plan, seed(&program)) {
            Ok(shown) => shown,
            Err(reason) => {
                self.summary.refused = (self.summary.refused.0 + 1, Some(reason));
                return None;
            }
        };
        self.summary.programs += 1;
        self.summary.operations += shown.executed.operations;
        self.summary.decisions += shown.executed.decisions;
        self.summary.totals.add(&shown.totals);
        self.summary.seen.collect_with(self.session.executor(), &program, &shown, show);
        shown.first().cloned()
    }

    /// Minimizes a finding and shows it on standard error; it is in its file before that begins.
    pub fn report(&mut self, finding: Finding) {
        let Some(folder) = self.folder.clone() else {
            eprintln!("{}DEDUP_TOKEN: {}", finding.text(), finding.wrong.label());
            return;
        };
        let first = told(finding.write(&folder), &folder);
        let small = minimize(&mut self.session, &finding, EFFORT, &mut |_| {}).finding;
        let seen = Sighting { seed: None, program: None, unix_seconds: unix_seconds() };
        let known = Known::of_folder::<EngineTarget>(&folder);
        let signature = known.place(&mut self.session, &small, EFFORT).signature;
        // Said before the page is made, which takes time that libFuzzer may not give.
        eprintln!("{}DEDUP_TOKEN: {signature}", small.text());
        let added = findings::add::<EngineTarget>(&folder, &signature, &small, &seen, 1);
        let second = told(added, &folder);
        if let (Some(first), Some(_)) = (first, &second) {
            // The larger file has no more to say.
            drop(std::fs::remove_file(first));
        }
        if let Some(file) = second {
            eprintln!("finding: {}", file.display());
        }
    }
}

/// Where a finding was written; says so if that failed: nothing must be lost.
fn told(written: io::Result<PathBuf>, folder: &Path) -> Option<PathBuf> {
    if let Err(error) = &written {
        eprintln!("failed to write the finding into {}: {error}", folder.display());
    }
    written.ok()
}

/// Which cuts are drawn: a function of the program, so that an input shows the same each time.
fn seed(program: &Program) -> u64 {
    let hash = blake3::hash(program.to_string().as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

#[cfg(fuzzing)]
use super::counters::show;

/// Without libFuzzer nobody looks.
#[cfg(not(fuzzing))]
fn show(_: u16) {}

thread_local! {
    static TARGET: RefCell<PowerCut> = RefCell::new(PowerCut::from_environment());
}

/// The body of the fuzz target. Ends the process at a finding.
pub fn run(program: &Program) {
    TARGET.with_borrow_mut(|target| {
        if let Some(finding) = target.judge(program) {
            target.report(finding);
            target.summary.print();
            std::process::abort();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign;
    use crate::program::strict;
    use crate::replay::replay;

    /// The target sees: a flush left out is found, and what is written of it replays.
    #[test]
    fn a_defect_is_found_and_its_file_replays() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let defects = vec!["super-no-preflush".to_string()];
        let mut target = PowerCut::new(defects, Some(folder.path().to_path_buf()));
        let programs = (0..200).map(|index| campaign::program(3, index));
        let finding = programs.filter_map(|program| target.judge(&program)).next();
        target.report(finding.expect("two hundred programs show it"));
        assert!(target.summary.totals.crash_states > 0 && target.summary.programs > 0);
        let entries = findings::list(folder.path()).expect("the folder is readable");
        let [found] = &entries[..] else { panic!("one directory: {entries:?}") };
        let file = &found.folder.join(findings::PROGRAM);
        let program = strict(&std::fs::read_to_string(file).expect("it is readable"));
        let program = program.expect("it is valid");
        let replayed = replay(&mut Session::default(), &program).expect("it is executable");
        assert!(replayed.as_expected, "{}: {replayed:?}", file.display());
        target.summary.quiet();
    }

    /// Seeds from the corpus carry expectations and demands that their descendants do not meet.
    #[test]
    fn what_a_seed_expects_is_not_asked() {
        let text = "powerfail 1\nsetup\n  create f\nafter\n  size f 8K\n\
                    expect violation stale-data\n";
        let mut target = PowerCut::new(Vec::new(), None);
        let finding = target.judge(&strict(text).expect("it is valid"));
        assert!(finding.is_none(), "{finding:?}");
        assert_eq!((target.summary.programs, target.summary.refused.0), (1, 0));
        target.summary.quiet();
    }

    /// A defect with no such name is said, not ignored.
    #[test]
    fn an_unknown_defect_is_refused() {
        let mut target = PowerCut::new(vec!["no-such".to_string()], None);
        assert!(target.judge(&campaign::program(1, 0)).is_none());
        assert_eq!(target.summary.refused.0, 1);
        assert!(target.summary.refused.1.as_ref().is_some_and(|why| why.contains("no-such")));
    }
}
