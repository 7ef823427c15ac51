//! Campaigns: generated programs, one after the other, until the time or the number is up.
//!
//! Program `i` of seed `s` is a function of `(s, i)` alone, whatever the number of workers and
//! whatever was found before; so is its verdict.

use crate::clock::{self, Stopwatch};
use crate::corpus::{self, Corpus};
use crate::cuts::{Plan, Totals};
use crate::files::write_whole;
use crate::finding::Finding;
use crate::findings::{self, Sighting};
use crate::fuzzing::feedback::Seen as Coverage;
use crate::minimize::{self, Effort};
use crate::program::{self, Program, Repertoire, Setting, SwarmMask};
use crate::replay;
use crate::session::{Session, Shown};
use crate::sites::Sites;
use crate::stability::Witness;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use crate::triage::{Bug, Known};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// What a campaign does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time after which it ends.
    pub seconds: Option<f64>,
    /// Programs after which it ends.
    pub programs: Option<u64>,
    /// What the programs are derived from.
    pub seed: u64,
    /// Defects switched on in every program.
    pub defects: Vec<String>,
    /// Knobs that every program has.
    pub settings: Vec<Setting>,
    /// Workers.
    pub jobs: u32,
    /// Whether it ends at the first finding.
    pub stop_at_first: bool,
    /// Where findings are written, as soon as they are there.
    pub out: Option<PathBuf>,
    /// Cuts and states of each program.
    pub plan: Plan,
    /// Whether findings are minimized before they are shown.
    pub minimize: bool,
    /// Where it goes on, and keeps programs that show something new.
    pub corpus: Option<Corpus>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seconds: None,
            programs: None,
            seed: 1,
            defects: Vec::new(),
            settings: Vec::new(),
            jobs: 1,
            stop_at_first: false,
            out: None,
            plan: Plan::campaign(),
            minimize: true,
            corpus: None,
        }
    }
}

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Programs executed.
    pub programs: u64,
    /// Operations performed.
    pub operations: u64,
    /// Decisions taken.
    pub decisions: u64,
    /// What was judged.
    pub totals: Totals,
    /// Findings that are the same as an earlier one.
    pub repeated: u64,
    /// Programs that could not be executed, with the last reason: a bug of ours.
    pub refused: u64,
    /// The last reason.
    pub refusal: Option<String>,
    /// Why a finding could not be written, the last time that one could not.
    pub unwritten: Option<String>,
    /// Interleaving pairs that one worker has seen; all together at the end.
    pub interleaving_pairs: u32,
    /// State classes that one worker has seen; all together at the end.
    pub state_classes: u32,
    /// Sites that any worker has reached.
    pub sites: Sites,
    /// Programs executed a second time.
    pub twice: u64,
    /// How many of these did something else: determinism is broken.
    pub unstable: u64,
    /// The first of them.
    pub unstable_programs: Vec<Unstable>,
    /// The index of the program that a worker told of last.
    pub latest: u64,
    /// Seconds from the start until a program showed something new, the last time.
    pub new_seconds: f64,
    /// All programs before this one were executed.
    pub next: u64,
    /// Seconds since the start.
    pub seconds: f64,
}

/// A program that did something else when it was executed a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstable {
    /// Its index.
    pub program: u64,
    /// What was different, in words.
    pub difference: String,
    /// Where it was written.
    pub file: Option<PathBuf>,
}

/// A finding as a campaign keeps it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The minimized finding.
    pub finding: Finding,
    /// Its signature.
    pub signature: String,
    /// The index of the program that showed it first.
    pub program: u64,
    /// Programs executed until then.
    pub programs_until: u64,
    /// Seconds until then.
    pub seconds_until: f64,
    /// How often it was seen.
    pub count: u64,
    /// The index of the program that showed it last.
    pub last_program: u64,
    /// Seconds until it was seen last.
    pub last_seconds: f64,
    /// How many times of these are in the folder.
    recorded: u64,
    /// Other programs that show it, which are not in the folder yet.
    others: Vec<Finding>,
    /// Where it was written.
    pub file: Option<PathBuf>,
}

/// The end of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was done.
    pub stats: Stats,
    /// What was found, one for each signature, in the order of discovery.
    pub findings: Vec<Kept>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Interleaving pairs and state classes seen.
    pub coverage: Coverage,
    /// The next program of each worker.
    next: BTreeMap<u64, u64>,
}

/// What a worker tells.
enum News {
    Done { job: u64, next: u64, batch: Batch },
    Reached(Box<Sites>),
    Unstable { index: u64, program: String, difference: String },
    New { program: Box<Program>, interleaving_pairs: u32, state_classes: u32 },
    Refused(String),
    Found { index: u64, finding: Box<Finding>, bug: Box<Bug> },
    SeenAgain { index: u64, signature: String },
    Coverage(Box<Coverage>),
}

/// What a worker did since it told last.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    programs: u64,
    twice: u64,
    operations: u64,
    decisions: u64,
    totals: Totals,
}

/// Of so many programs one is executed twice.
const TWICE_ONE_OF: u64 = 64;

/// Unstable programs that are kept.
const UNSTABLE_MAX: usize = 8;

/// Of so many programs one is cut.
const CUT_ONE_OF: u64 = 4;

/// Findings of one label that a worker minimizes.
const MINIMIZED_MAX: u32 = 4;

/// Seconds after which counts are written.
const RECORD_SECONDS: f64 = 5.0;

/// Seconds after which progress is told even if no worker has anything to tell.
const TICK: Duration = Duration::from_millis(500);

/// Programs after which a worker tells what it did.
const BATCH: u64 = 32;

/// The program of an index, for the engine.
pub fn program(seed: u64, index: u64) -> Program {
    program_of(&Repertoire::EVERYTHING, seed, index)
}

/// The program of an index, for a target of this repertoire.
pub fn program_of(repertoire: &Repertoire, seed: u64, index: u64) -> Program {
    let (mask, mut dice) = drawn(repertoire, seed, index);
    let mut program = program::generate(&mut dice, &mask);
    program.keep_to(repertoire);
    program
}

/// What the program of an index was drawn from, for a target of this repertoire.
pub fn mask_of(repertoire: &Repertoire, seed: u64, index: u64) -> SwarmMask {
    drawn(repertoire, seed, index).0
}

/// The mask of a program, and the dice that roll what follows.
fn drawn(repertoire: &Repertoire, seed: u64, index: u64) -> (SwarmMask, program::Dice) {
    let mut dice = program::Dice::new(mix(seed, index));
    (SwarmMask::draw(&mut dice).within(repertoire), dice)
}

/// Whether the program of an index is executed twice.
fn is_twice(seed: u64, index: u64) -> bool {
    mix(seed ^ 0x007e_57ed, index).is_multiple_of(TWICE_ONE_OF)
}

/// What is done with the program of an index: cutting one takes many times as long as executing
/// it, and much shows while it runs.
pub fn plan(seed: u64, index: u64, plan: &Plan) -> Plan {
    let is_cut = mix(seed ^ 0x00c0_ffee, index).is_multiple_of(CUT_ONE_OF);
    if is_cut { *plan } else { Plan { cuts_max: 0, ..*plan } }
}

/// A seed for the index: neighbours share nothing (the finalizer of SplitMix64).
fn mix(seed: u64, index: u64) -> u64 {
    let mut z =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_add(0x632b_e59b_d9b4_e019);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Runs a campaign on the engine. `stop` ends it early; `progress` is called a few times a second
/// at most.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Stats, &[Kept]),
) -> Report {
    run_on::<EngineTarget>(options, stop, progress)
}

/// Runs a campaign on a target.
pub fn run_on<T: PowerTarget>(
    options: &Options,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Stats, &[Kept]),
) -> Report {
    let clock = Stopwatch::start();
    let over = AtomicBool::new(false);
    let mut report = Report::default();
    report.stats.latest = options.first();
    let mut recorded = 0.0;
    let known = options.out.as_ref().map_or_else(Known::default, |it| Known::of_folder::<T>(it));
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(256);
        let jobs = options.jobs.max(1);
        for job in 0..jobs {
            let (sender, over, known) = (sender.clone(), &over, &known);
            let job = u64::from(job);
            scope.spawn(move || worker::<T>(options, job, &clock, [stop, over], known, &sender));
        }
        drop(sender);
        loop {
            let news = match receiver.recv_timeout(TICK) {
                Ok(news) => Some(news),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let found = matches!(news, Some(News::Found { .. }));
            if let Some(news) = news {
                report.take(news, options, &clock);
            }
            if found || clock.seconds() > recorded + RECORD_SECONDS {
                recorded = clock.seconds();
                report.record::<T>(options);
                report.save(options, &clock);
            }
            if found && options.stop_at_first {
                over.store(true, Ordering::Relaxed);
            }
            report.stats.seconds = clock.seconds();
            progress(&report.stats, &report.findings);
        }
    });
    report.record::<T>(options);
    report.stats.interleaving_pairs = report.coverage.interleaving_pairs();
    report.stats.state_classes = report.coverage.state_classes();
    report.save(options, &clock);
    report.stats.seconds = clock.seconds();
    report.interrupted = stop.load(Ordering::Relaxed);
    report
}

impl Options {
    /// The index of the first program that is executed.
    fn first(&self) -> u64 {
        self.corpus.as_ref().map_or(0, |corpus| corpus.state().next)
    }

    /// The program of an index, with the defects and knobs of this campaign.
    fn program(&self, repertoire: &Repertoire, index: u64) -> Program {
        let mut program = program_of(repertoire, self.seed, index);
        program.defects.clone_from(&self.defects);
        if !self.settings.is_empty() {
            self.settings.iter().for_each(|setting| setting.apply(&mut program));
            program.fixup();
        }
        program
    }
}

impl Report {
    fn take(&mut self, news: News, options: &Options, clock: &Stopwatch) {
        let stats = &mut self.stats;
        match news {
            News::Done { job, next, batch } => {
                self.next.insert(job, next);
                stats.latest = next.saturating_sub(u64::from(options.jobs.max(1)));
                stats.programs += batch.programs;
                stats.twice += batch.twice;
                stats.operations += batch.operations;
                stats.decisions += batch.decisions;
                stats.totals.add(&batch.totals);
            }
            News::Reached(sites) => {
                let before = stats.sites.count();
                stats.sites.merge(&sites);
                if stats.sites.count() > before {
                    stats.new_seconds = clock.seconds();
                }
            }
            News::Unstable { index, program, difference } => {
                self.differed(index, &program, difference, options);
            }
            News::New { program, interleaving_pairs, state_classes } => {
                let now = (interleaving_pairs, state_classes);
                stats.interleaving_pairs = stats.interleaving_pairs.max(now.0);
                stats.state_classes = stats.state_classes.max(now.1);
                stats.new_seconds = clock.seconds();
                let corpus = options.corpus.as_ref();
                let kept = corpus.map_or(Ok(()), |corpus| corpus.keep(&program));
                stats.unwritten = kept.err().or_else(|| stats.unwritten.take());
            }
            News::Refused(reason) => {
                stats.refused += 1;
                stats.refusal = Some(reason);
            }
            News::Coverage(coverage) => self.coverage.merge(&coverage),
            News::Found { index, finding, bug } => self.found(index, *finding, *bug, clock),
            News::SeenAgain { index, signature } => self.seen_again(index, &signature, clock),
        }
    }

    /// A program did something else the second time.
    fn differed(&mut self, index: u64, program: &str, difference: String, options: &Options) {
        let stats = &mut self.stats;
        stats.unstable += 1;
        if stats.unstable_programs.len() == UNSTABLE_MAX {
            return;
        }
        let write = |folder: &PathBuf| {
            let file = folder.join(format!("unstable-{}-{index}.pf", options.seed));
            fs::create_dir_all(folder)?;
            write_whole(&file, program).map(|()| file)
        };
        let written = options.out.as_ref().map(write).transpose();
        if let Err(error) = &written {
            stats.unwritten = Some(error.to_string());
        }
        let file = written.ok().flatten();
        stats.unstable_programs.push(Unstable { program: index, difference, file });
    }

    fn found(&mut self, index: u64, finding: Finding, bug: Bug, clock: &Stopwatch) {
        let Bug { signature, finding: first } = bug;
        let others = match finding.signature() == signature {
            true => Vec::new(),
            false => vec![finding],
        };
        if let Some(kept) = self.findings.iter_mut().find(|kept| kept.signature == signature) {
            kept.others.extend(others);
            return self.seen_again(index, &signature, clock);
        }
        self.findings.push(Kept {
            finding: first,
            signature,
            others,
            program: index,
            programs_until: self.stats.programs,
            seconds_until: clock.seconds(),
            count: 1,
            last_program: index,
            last_seconds: clock.seconds(),
            recorded: 0,
            file: None,
        });
    }

    fn seen_again(&mut self, index: u64, signature: &str, clock: &Stopwatch) {
        self.stats.repeated += 1;
        if let Some(known) = self.findings.iter_mut().find(|kept| kept.signature == signature) {
            known.count += 1;
            known.last_program = index;
            known.last_seconds = clock.seconds();
        }
    }

    /// Keeps how far it is.
    fn save(&mut self, options: &Options, clock: &Stopwatch) {
        // A worker that has told nothing yet is where it began.
        let has_all = self.next.len() as u64 == u64::from(options.jobs.max(1));
        self.stats.next = self.next.values().copied().min().filter(|_| has_all).unwrap_or(0);
        let Some(corpus) = &options.corpus else { return };
        let since = corpus::State {
            next: self.stats.next,
            programs: self.stats.programs,
            crash_states: self.stats.totals.crash_states,
            milliseconds: (clock.seconds() * 1000.0) as u64,
            ..corpus::State::default()
        };
        if let Err(why) = corpus.save(&since) {
            self.stats.unwritten = Some(why);
        }
    }

    /// Writes what is not in the folder yet.
    fn record<T: PowerTarget>(&mut self, options: &Options) {
        let Some(folder) = &options.out else { return };
        for kept in self.findings.iter_mut().filter(|kept| kept.count > kept.recorded) {
            let first = if kept.recorded == 0 { kept.program } else { kept.last_program };
            let sighting = Sighting {
                seed: Some(options.seed),
                program: Some(first),
                unix_seconds: clock::unix_seconds(),
            };
            let more = kept.count - kept.recorded;
            let add = |finding: &Finding, more| {
                findings::add::<T>(folder, &kept.signature, finding, &sighting, more)
            };
            let written = add(&kept.finding, more).and_then(|file| {
                kept.others.iter().try_for_each(|other| add(other, 0).map(drop)).map(|()| file)
            });
            match written {
                Ok(file) => {
                    (kept.file, kept.recorded) = (Some(file), kept.count);
                    kept.others.clear();
                }
                // Another try comes, and the end of the campaign tells if that fails, too.
                Err(error) => self.stats.unwritten = Some(error.to_string()),
            }
        }
    }
}

fn worker<T: PowerTarget>(
    options: &Options,
    job: u64,
    clock: &Stopwatch,
    ends: [&AtomicBool; 2],
    known: &Known,
    sender: &mpsc::SyncSender<News>,
) {
    let mut session = Session::<T>::of_target();
    let mut witness = Witness::<T>::of_target();
    let mut sites = Sites::default();
    let repertoire = T::repertoire();
    let mut coverage = Coverage::default();
    let mut labels = BTreeMap::new();
    let budget = options.seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
    let mut batch = Batch::default();
    let tell = |news: News| drop(sender.send(news));
    let mut index = options.first() + job;
    loop {
        let done = options.programs.is_some_and(|most| index >= most);
        let halted = ends.iter().any(|end| end.load(Ordering::Relaxed));
        if done || halted || clock.exceeds(budget) {
            break;
        }
        let program = Rc::new(options.program(&repertoire, index));
        match examine(&mut session, &program, index, options) {
            Err(reason) => tell(News::Refused(reason)),
            Ok(shown) => {
                batch.add(&shown);
                if is_twice(options.seed, index) {
                    batch.twice += 1;
                    differs(&mut witness, &session, index, &program, &shown).map(tell);
                }
                reached(&mut sites, &session).map(tell);
                covered(&mut coverage, &session, &program, &shown).map(tell);
                if let Some(finding) = shown.first().cloned() {
                    tell(news(&mut session, index, finding, &mut labels, known, options));
                    if options.stop_at_first {
                        break;
                    }
                }
            }
        }
        index += u64::from(options.jobs.max(1));
        if batch.programs >= BATCH {
            tell(News::Done { job, next: index, batch: std::mem::take(&mut batch) });
        }
    }
    tell(News::Done { job, next: index, batch });
    tell(News::Coverage(Box::new(coverage)));
}

impl Batch {
    fn add(&mut self, shown: &Shown) {
        self.programs += 1;
        self.operations += shown.executed.operations;
        self.decisions += shown.executed.decisions;
        self.totals.add(&shown.totals);
    }
}

/// Executes a program a second time; tells if that does something else.
fn differs<T: PowerTarget>(
    witness: &mut Witness<T>,
    session: &Session<T>,
    index: u64,
    program: &Rc<Program>,
    shown: &Shown,
) -> Option<News> {
    let difference = witness.differs(program, session.executor(), &shown.executed)?;
    Some(News::Unstable { index, program: program.to_string(), difference })
}

/// Adds the sites that a program has reached; tells if one is new to this worker.
fn reached(sites: &mut Sites, session: &Session<impl PowerTarget>) -> Option<News> {
    let before = sites.count();
    session.add_sites_to(sites);
    (sites.count() > before).then(|| News::Reached(Box::new(sites.clone())))
}

/// Adds what a program showed; tells if something of it is new.
fn covered(
    coverage: &mut Coverage,
    session: &Session<impl PowerTarget>,
    program: &Rc<Program>,
    shown: &Shown,
) -> Option<News> {
    let count = |it: &Coverage| (it.interleaving_pairs(), it.state_classes());
    let before = count(coverage);
    coverage.collect(session.executor(), program, shown);
    let now = count(coverage);
    let (interleaving_pairs, state_classes) = now;
    let program = || Box::new(Program::clone(program));
    (now != before).then(|| News::New { program: program(), interleaving_pairs, state_classes })
}

/// Executes a program, and judges its cuts if it is one of those that are cut, or if a broken rule
/// was seen: a consequence says more.
fn examine(
    session: &mut Session<impl PowerTarget>,
    program: &Rc<Program>,
    index: u64,
    options: &Options,
) -> Result<Shown, String> {
    let seed = mix(options.seed, !index);
    let plan = plan(options.seed, index, &options.plan);
    let shown = session.run(program, &plan, seed)?;
    if plan.cuts_max == 0 && shown.finding.is_none() && shown.suspicion.is_some() {
        return session.run(program, &options.plan, seed);
    }
    Ok(shown)
}

/// What a worker knows of the findings of one label.
#[derive(Default)]
struct Label {
    /// How many were minimized.
    minimized: u32,
    /// The signature of the first.
    signature: String,
}

/// Minimizes a finding, if it is one of the first of its label that this worker sees: two bugs may
/// break one guarantee. All later ones count as the first.
fn news<T: PowerTarget>(
    session: &mut Session<T>,
    index: u64,
    finding: Finding,
    labels: &mut BTreeMap<String, Label>,
    known: &Known,
    options: &Options,
) -> News {
    let label = labels.entry(finding.wrong.label()).or_default();
    if label.minimized >= MINIMIZED_MAX {
        return News::SeenAgain { index, signature: label.signature.clone() };
    }
    let (finding, bug) = if options.minimize {
        let finding = smallest(session, finding);
        let bug = known.place(session, &finding, Effort::default());
        (finding, bug)
    } else {
        let bug = Bug::of(&finding);
        (finding, bug)
    };
    if label.minimized == 0 {
        label.signature.clone_from(&bug.signature);
    }
    label.minimized += 1;
    News::Found { index, finding: Box::new(finding), bug: Box::new(bug) }
}

/// Minimizes a finding. What does not replay from its text helps nobody: rather the larger one.
pub fn smallest<T: PowerTarget>(session: &mut Session<T>, finding: Finding) -> Finding {
    let minimized = minimize::minimize(session, &finding, Effort::default(), &mut |_| {}).finding;
    if replays::<T>(&minimized) { minimized } else { finding }
}

/// Whether the text of a finding shows the same in a session that has seen nothing else.
fn replays<T: PowerTarget>(finding: &Finding) -> bool {
    let replay = |program: Program| replay::replay(&mut Session::<T>::of_target(), &program).ok();
    let replayed = program::strict(&finding.text()).ok().and_then(replay);
    replayed.is_some_and(|replayed| replayed.as_expected && replayed.divergences == 0)
}
