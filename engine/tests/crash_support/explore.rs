//! All crash states of a script: recovered, checked and judged.

use super::bench::{Bench, sources};
use super::hold::Hold;
use super::model::{Cell, Model};
use super::script::{Player, look};
use engine::defects::Defects;
use engine::error::Result;
use engine::options::{ImageOptions, MountOptions};
use engine::{Fs, check};
use machine::choosers::{Pct, Random, RoundRobin};
use machine::disk::{CrashState, Explorer, Limits, Step, TornPolicy};
use machine::{Chooser, End, Kind, Moment};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is tried, and how hard.
#[derive(Clone)]
pub struct Case {
    pub image: ImageOptions,
    pub mount: MountOptions,
    pub defects: Defects,
    /// Executed and unmounted before.
    pub setup: &'static str,
    /// Executed at the same time, one task each. Their files must differ.
    pub tasks: &'static [&'static str],
    /// Random schedules tried besides the one without preemption.
    pub seeds: u64,
    /// A schedule made by hand, tried as well.
    pub hold: Option<Hold>,
    pub torn: TornPolicy,
    /// Whether every recovery is cut itself, at every moment.
    pub cuts_recovery: bool,
}

impl Default for Case {
    fn default() -> Self {
        let mount =
            MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..MountOptions::default() };
        Case {
            image: ImageOptions { leaf: 4, ..ImageOptions::default() },
            mount,
            defects: Defects::default(),
            setup: "",
            tasks: &[],
            seeds: 0,
            hold: None,
            torn: TornPolicy::None,
            cuts_recovery: false,
        }
    }
}

/// What a recovery showed.
#[derive(Clone, Debug)]
pub struct Shown {
    wrong: Option<String>,
    files: BTreeMap<String, Option<Vec<Cell>>>,
    /// The event after which recovery proper was over.
    mounted: Moment,
}

/// What became of a case.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The first violation.
    pub violation: Option<String>,
    pub states: u64,
    /// States recovered after a cut inside recovery.
    pub inner_states: u64,
}

/// Executes a case and judges all crash states of all its cuts.
pub fn explore(case: &Case) -> Verdict {
    let mut verdict = Verdict::default();
    let random = (1..=case.seeds).map(|seed| -> Box<dyn Chooser> {
        match seed % 2 {
            0 => Box::new(Random::new(seed)),
            // Few preemptions, and long stretches between them.
            _ => Box::new(Pct::new(seed, 3, 200)),
        }
    });
    let hold = case.hold.map(|hold| -> Box<dyn Chooser> { Box::new(hold) });
    let plain: Box<dyn Chooser> = Box::new(RoundRobin);
    for chooser in std::iter::once(plain).chain(hold).chain(random) {
        one_schedule(case, chooser, &mut verdict);
        if verdict.violation.is_some() {
            break;
        }
    }
    verdict
}

fn one_schedule(case: &Case, chooser: Box<dyn Chooser>, verdict: &mut Verdict) {
    let model = Rc::new(RefCell::new(Model::new()));
    let media = Bench::media(&case.image);
    let setup = Bench::on(sources(&media), Box::new(RoundRobin));
    let (inside, it) = (model.clone(), case.clone());
    let made = setup.run(move |task| {
        let fs = Fs::mount(task, &it.mount, Defects::default())?;
        Player::new(&fs, &inside).play(task, it.setup, 1)?;
        fs.unmount(task)
    });
    made.expect("the setup runs");
    setup.settle(&media);
    model.borrow_mut().values_mut().for_each(|file| file.settle());

    let bench = Bench::on(sources(&media), chooser);
    if let Err(message) = run_tasks(&bench, case, &model) {
        verdict.violation = Some(message);
        return;
    }
    let mut explorer: Explorer<Shown> = Explorer::new();
    explorer.begin(bench.machine.disk().log());
    let limits = Limits { exhaustive: 400, sampled: 0, torn: case.torn };
    let mut cuts: Vec<Moment> = Vec::new();
    for cut in bench.machine.disk().log().cuts() {
        cuts.extend([cut.before(), cut]);
    }
    cuts.push(bench.machine.now());
    cuts.dedup();
    for cut in cuts {
        explorer.cut(cut, limits);
        while let Some(step) = explorer.next(&mut |_| 0) {
            let shown = match step {
                Step::Known(leaf) => explorer.leaf(leaf).clone(),
                Step::Recover(state) => {
                    verdict.states += 1;
                    let shown = recover(case, &state, &model, &mut verdict.inner_states);
                    explorer.record(&state, shown.clone()).expect("recovery is deterministic");
                    shown
                }
            };
            if let Err(message) = judge(&model.borrow(), cut, &shown) {
                verdict.violation = Some(format!("cut at {}: {message}", cut.0));
                return;
            }
        }
    }
}

fn run_tasks(bench: &Bench, case: &Case, model: &Rc<RefCell<Model>>) -> Result<(), String> {
    let (mount, defects) = (case.mount, case.defects);
    let fs = bench.run(move |task| Fs::mount(task, &mount, defects)).map_err(|e| e.to_string())?;
    let failures: Rc<RefCell<Vec<String>>> = Rc::default();
    for (number, script) in case.tasks.iter().enumerate() {
        let (player, failures) = (Player::new(&fs, model), failures.clone());
        let body = move |task: &machine::Task| {
            match player.play(task, script, 100 + 20 * number as u8) {
                Ok(()) => {}
                Err(engine::Error::Stopped) => return Err(machine::Stopped),
                Err(error) => failures.borrow_mut().push(format!("{script:?}: {error}")),
            }
            Ok(())
        };
        bench.machine.spawn(&format!("task {number}"), Kind::Foreground, Box::new(body));
    }
    let end = bench.machine.run();
    if end == End::Stopped {
        return Err(format!("{:?}", *bench.machine.faults()));
    }
    match failures.borrow().first() {
        Some(failure) => Err(failure.clone()),
        None => Ok(()),
    }
}

/// Mounts a crash state, checks it, reads everything; then once more for all crash states of that.
fn recover(
    case: &Case,
    state: &Rc<CrashState>,
    model: &Rc<RefCell<Model>>,
    inner_states: &mut u64,
) -> Shown {
    let bench = Bench::on(state.bases().into_iter().collect(), Box::new(RoundRobin));
    let (mount, defects) = (case.mount, case.defects);
    let names: Vec<String> = model.borrow().keys().cloned().collect();
    let result = bench.run(move |task| Ok(show(task, &mount, defects, &names)));
    bench.machine.stop();
    let mut shown = result.expect("it shows something");
    if case.cuts_recovery && shown.wrong.is_none() {
        let plain = Case { cuts_recovery: false, ..case.clone() };
        shown.wrong = recover_again(&plain, &bench, &shown, model, inner_states);
    }
    shown
}

/// What is wrong with a recovery that was cut and repeated.
fn recover_again(
    case: &Case,
    bench: &Bench,
    first: &Shown,
    model: &Rc<RefCell<Model>>,
    inner_states: &mut u64,
) -> Option<String> {
    let mut explorer: Explorer<()> = Explorer::new();
    explorer.begin(bench.machine.disk().log());
    let limits = Limits { exhaustive: 40, sampled: 0, torn: case.torn };
    let cuts = bench.machine.disk().log().cuts();
    for cut in cuts.into_iter().filter(|cut| *cut <= first.mounted) {
        explorer.cut(cut, limits);
        while let Some(step) = explorer.next(&mut |_| 0) {
            let Step::Recover(state) = step else { continue };
            *inner_states += 1;
            let second = recover(case, &state, model, &mut 0);
            explorer.record(&state, ()).expect("recovery is deterministic");
            let found = second.wrong.or_else(|| {
                let differs = second.files != first.files;
                differs.then(|| format!("{:?}, not {:?}", second.files, first.files))
            });
            if let Some(wrong) = found {
                return Some(format!("recovery cut at {}: {wrong}", cut.0));
            }
        }
    }
    None
}

fn show(task: &machine::Task, mount: &MountOptions, defects: Defects, names: &[String]) -> Shown {
    let mut shown = Shown { wrong: None, files: BTreeMap::new(), mounted: Moment(0) };
    let fs = match Fs::mount(task, mount, defects) {
        Ok(fs) => fs,
        Err(error) => {
            shown.wrong = Some(format!("failed to mount: {error}"));
            return shown;
        }
    };
    shown.mounted = task.machine().now();
    match check(task) {
        Ok(report) => shown.wrong = report.problems.first().map(ToString::to_string),
        Err(error) => shown.wrong = Some(format!("failed to check: {error}")),
    }
    for name in names {
        match look(task, &fs, name) {
            Ok(found) => drop(shown.files.insert(name.clone(), found)),
            Err(message) => drop(shown.wrong.get_or_insert(message)),
        }
    }
    if let Err(error) = fs.unmount(task) {
        shown.wrong.get_or_insert(format!("failed to unmount: {error}"));
    }
    shown
}

fn judge(model: &Model, cut: Moment, shown: &Shown) -> Result<(), String> {
    shown.wrong.clone().map_or(Ok(()), Err)?;
    for (name, file) in model {
        let found = shown.files.get(name).and_then(Option::as_deref);
        file.judge(cut, found).map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(())
}
