//! Programs of a campaign that are executed twice: a target that does the same is stable, and one
//! that does not is told apart from it, by the report, by the exit code and by a file.

#[path = "../examples/log_store/store.rs"]
mod store;

use harness::campaign::{self, Options, Report};
use harness::commands::own;
use harness::cuts::Plan;
use harness::program::{ImageKnobs, Program, Repertoire, strict};
use harness::session::{Session, Shown};
use harness::stability::Witness;
use harness::target::engine::EngineTarget;
use harness::target::{Call, Performed, PowerTarget, Stage, Target, TargetError};
use machine::{Access, Object, Site, Task};
use oracle::Promises;
use oracle::operation::TaskIndex;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use store::LogStore;

/// Programs of a campaign, of which some are executed twice.
const PROGRAMS: u64 = 200;

/// A store that is right, but whose steps depend on what else the process has done.
struct Fickle(LogStore<true>);

static FICKLE: Site = Site::new("test.fickle");
static PERFORMED: AtomicU64 = AtomicU64::new(0);

impl Target for Fickle {
    type Worker<'w> = &'w Task;

    fn promises(&self) -> Promises {
        self.0.promises()
    }

    fn perform(&self, task: &mut &Task, call: &Call<'_>) -> Performed {
        let count = PERFORMED.fetch_add(1, Ordering::Relaxed);
        match task.site(&FICKLE, Object::new(1, count, 0), Access::Read) {
            Ok(()) => self.0.perform(task, call),
            Err(_) => Performed::Stopped,
        }
    }
}

impl PowerTarget for Fickle {
    fn repertoire() -> Repertoire {
        LogStore::<true>::repertoire()
    }

    fn devices(image: &ImageKnobs) -> Result<Vec<u64>, String> {
        LogStore::<true>::devices(image)
    }

    fn format(task: &Task, image: &ImageKnobs) -> Result<Option<u64>, TargetError> {
        LogStore::<true>::format(task, image)
    }

    fn new(program: &Program, stage: Stage) -> Result<Self, String> {
        LogStore::new(program, stage).map(Fickle)
    }

    fn worker<'w>(&self, task: &'w Task, _who: TaskIndex) -> &'w Task {
        task
    }

    fn mount(&self, task: &Task) -> Result<(), TargetError> {
        self.0.mount(task)
    }
}

fn run<T: PowerTarget>(out: Option<PathBuf>) -> Report {
    let options = Options { programs: Some(PROGRAMS), out, ..Options::default() };
    campaign::run_on::<T>(&options, &AtomicBool::new(false), &mut |_, _| {})
}

#[test]
fn a_store_that_does_the_same_again_is_stable() {
    let stats = run::<LogStore<true>>(None).stats;
    assert!(stats.twice > 0, "{stats:?}");
    assert_eq!((stats.unstable, stats.unstable_programs), (0, Vec::new()));
    assert!(LogStore::<true>::sites().is_none(), "nobody knows what it could reach");
    let reached: Vec<&str> = stats.sites.names().collect();
    assert_eq!(reached, ["io.submit", "lock.acquire"]);
}

#[test]
fn a_store_that_does_something_else_is_told() {
    let out = tempfile::tempdir().expect("there is room");
    let report = run::<Fickle>(Some(out.path().to_path_buf()));
    let stats = &report.stats;
    assert!(report.findings.is_empty(), "what it shows is right");
    assert!(stats.twice > 0 && stats.unstable == stats.twice, "{stats:?}");
    let first = stats.unstable_programs.first().expect("at least one");
    assert!(first.difference.contains("was test.fickle of task 0 at 1:"), "{first:?}");
    let file = first.file.as_ref().expect("it is written");
    let text = fs::read_to_string(file).expect("it is there");
    let program = campaign::program_of(&Fickle::repertoire(), 1, first.program);
    assert_eq!(strict(&text), Ok(program));
}

#[test]
fn broken_determinism_is_no_success() {
    let out = tempfile::tempdir().expect("there is room");
    let folder = out.path().display().to_string();
    let programs = PROGRAMS.to_string();
    let line = ["store", "run", "--programs", &programs, "--out", &folder].map(str::to_string);
    let exit = |code: ExitCode| format!("{code:?}");
    assert_eq!(exit(own::main::<LogStore<true>>(line.clone())), exit(ExitCode::SUCCESS));
    assert_eq!(exit(own::main::<Fickle>(line)), exit(ExitCode::from(1)));
}

/// What a program shows, in a session in which a witness executes each again, or not.
fn shown(is_witnessed: bool) -> Vec<String> {
    let mut session = Session::<EngineTarget>::of_target();
    let mut witness = Witness::<EngineTarget>::of_target();
    let mut run = |index| {
        let program = Rc::new(campaign::program(5, index));
        let plan = campaign::plan(5, index, &Plan::campaign());
        let shown: Shown = session.run(&program, &plan, index).expect("it is executable");
        if is_witnessed {
            let differs = witness.differs(&program, session.executor(), &shown.executed);
            assert_eq!(differs, None, "\n{program}");
        }
        format!("{:x} {:?}", shown.executed.trace_hash, shown.totals)
    };
    (0..60).map(&mut run).collect()
}

#[test]
fn looking_twice_changes_nothing() {
    assert_eq!(shown(false), shown(true));
}

#[test]
fn all_sites_that_are_reached_are_known() {
    let options = Options { programs: Some(PROGRAMS), ..Options::default() };
    let report = campaign::run(&options, &AtomicBool::new(false), &mut |_, _| {});
    let known = EngineTarget::sites().expect("the engine knows them");
    let sites = &report.stats.sites;
    assert!(sites.count() > known.len() / 2, "{sites:?}");
    let missing = sites.missing_of(&known).len();
    assert_eq!(sites.count() + missing, known.len(), "{sites:?} are not all among {known:?}");
}
