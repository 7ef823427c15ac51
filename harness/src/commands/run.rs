//! `powerfail run`: a campaign.

mod screen;
mod summary;

use super::report::Outputs;
use super::{COMMAND, Exit, Failure, bar, interruptible, print_json, say};
use crate::campaign::{self, Kept, Options, Report, Stats};
use crate::corpus::{self, Corpus};
use crate::cuts::Plan;
use crate::program::{Repertoire, Setting};
use crate::report::Outcome;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::termios::tcgetwinsize;
use screen::{Row, State};
use std::io::{self, Write};
use std::path::PathBuf;

/// Seconds between two screens.
const SHOW_SECONDS: f64 = 0.25;

/// What a campaign is told.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// End after this many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// End after this many programs.
    #[arg(long, value_name = "N")]
    programs: Option<u64>,
    /// What the programs are derived from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Switch a defect of the engine on, by its name; may be repeated.
    #[arg(long = "defect", value_name = "D")]
    defects: Vec<String>,
    /// Give every program this knob, as in `mount.fsync=p1`; may be repeated.
    #[arg(long = "knob", value_name = "GROUP.KEY=VALUE")]
    knobs: Vec<String>,
    /// Workers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: u32,
    /// Write findings to this folder as soon as they are there.
    #[arg(long, value_name = "DIR", default_value = "findings")]
    out: PathBuf,
    /// Keep how far the campaign is, and the programs that show something new, in this folder, and
    /// go on from there.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// End at the first finding.
    #[arg(long)]
    first: bool,
    /// Execute only: no power cuts.
    #[arg(long)]
    no_cuts: bool,
    #[command(flatten)]
    outputs: Outputs,
}

impl Arguments {
    /// These, with an end at the first finding, or after so many programs if they have no end.
    pub(super) fn until_first(mut self, programs: u64) -> Arguments {
        if self.programs.is_none() && self.seconds.is_none() {
            self.programs = Some(programs);
        }
        Arguments { first: true, ..self }
    }
}

/// Runs a campaign on the engine; exit 1 if it found anything, or if executions are not stable.
///
/// # Errors
/// Bad options.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    for name in &arguments.defects {
        engine::defects::Defect::by_name(name)
            .map_err(|error| Failure::Input(format!("failed to switch a defect on: {error}")))?;
    }
    run_on::<EngineTarget>(arguments, json, Tone { command: COMMAND, texts: false })
}

/// How findings are told.
#[derive(Clone, Copy, Debug)]
pub struct Tone<'a> {
    /// The command that replays them.
    pub command: &'a str,
    /// Whether their texts are shown, too.
    pub texts: bool,
}

/// Runs a campaign on a target; exit 1 if it found anything, or if executions are not stable.
///
/// # Errors
/// Bad options.
pub fn run_on<T: PowerTarget>(
    arguments: &Arguments,
    json: bool,
    tone: Tone<'_>,
) -> Result<Exit, Failure> {
    let options = options(arguments)?;
    let stop = interruptible();
    let mut shower = Shower::of::<T>(&options);
    let report = campaign::run_on::<T>(&options, &stop, &mut |stats, findings| {
        shower.show(stats, findings);
    });
    shower.bar.finish_and_clear();
    if report.stats.programs == 0
        && let Some(refusal) = &report.stats.refusal
    {
        return Err(Failure::Input(refusal.clone()));
    }
    arguments.outputs.write("run", &outcomes(&report))?;
    let sites_known = T::sites();
    match json {
        true => print_json(&summary::document(&options, &report, sites_known.as_deref())),
        false => {
            summary::lines(&report, sites_known.as_deref(), tone).iter().for_each(|it| say(it))
        }
    }
    if json && report.stats.unstable > 0 {
        drop(writeln!(io::stderr(), "powerfail: {}", summary::BROKEN));
    }
    let as_expected = report.findings.is_empty() && report.stats.unstable == 0;
    Ok(if as_expected { Exit::Expected } else { Exit::Violation })
}

fn options(arguments: &Arguments) -> Result<Options, Failure> {
    let setting = |text: &String| {
        Setting::parse(text)
            .map_err(|wrong| Failure::Input(format!("failed to set a knob: {wrong}")))
    };
    let settings = arguments.knobs.iter().map(setting).collect::<Result<_, _>>()?;
    if let Some(seconds) = arguments.seconds
        && !(0.0..=1e9).contains(&seconds)
    {
        return Err(Failure::Input(format!("failed to run for {seconds} seconds")));
    }
    if arguments.jobs == 0 || arguments.jobs > 1024 {
        return Err(Failure::Input(format!("failed to run with {} workers", arguments.jobs)));
    }
    let mut plan = Plan::campaign();
    if arguments.no_cuts {
        plan.cuts_max = 0;
    }
    // Without a limit a campaign would never end unless somebody stops it, which is allowed.
    Ok(Options {
        seconds: arguments.seconds,
        programs: arguments.programs,
        seed: arguments.seed,
        defects: arguments.defects.clone(),
        settings,
        jobs: arguments.jobs,
        stop_at_first: arguments.first,
        out: Some(arguments.out.clone()),
        plan,
        minimize: true,
        corpus: corpus(arguments)?,
    })
}

/// The folder of the campaign that these arguments describe.
fn corpus(arguments: &Arguments) -> Result<Option<Corpus>, Failure> {
    let Some(folder) = &arguments.corpus else { return Ok(None) };
    let campaign = corpus::State {
        seed: arguments.seed,
        defects: arguments.defects.clone(),
        knobs: arguments.knobs.clone(),
        ..corpus::State::default()
    };
    Corpus::open(folder, campaign).map(Some).map_err(Failure::Input)
}

/// Shows how far it is, a few times a second at most.
struct Shower<'a> {
    bar: ProgressBar,
    options: &'a Options,
    repertoire: Repertoire,
    sites_known: Option<usize>,
    /// Seconds until it was shown last.
    shown: Option<f64>,
}

impl<'a> Shower<'a> {
    fn of<T: PowerTarget>(options: &'a Options) -> Self {
        let sites_known = T::sites().map(|names| names.len());
        Shower { bar: screen_bar(), options, repertoire: T::repertoire(), sites_known, shown: None }
    }

    fn show(&mut self, stats: &Stats, findings: &[Kept]) {
        let is_early = self.shown.is_some_and(|shown| stats.seconds < shown + SHOW_SECONDS);
        if self.bar.is_hidden() || is_early {
            return;
        }
        self.shown = Some(stats.seconds);
        self.bar.set_message(screen::lines(&self.state(stats, findings), width()).join("\n"));
    }

    fn state(&self, stats: &Stats, findings: &[Kept]) -> State {
        let swarm = campaign::mask_of(&self.repertoire, self.options.seed, stats.latest);
        let row = |kept: &Kept| Row {
            signature: kept.signature.clone(),
            count: kept.count,
            ago_seconds: (stats.seconds - kept.last_seconds).max(0.0) as u64,
        };
        let unstable = stats.unstable_programs.iter();
        State {
            seed: self.options.seed,
            jobs: self.options.jobs,
            seconds: stats.seconds,
            seconds_max: self.options.seconds,
            programs: stats.programs,
            cuts: stats.totals.cuts,
            crash_states: stats.totals.crash_states,
            recoveries: stats.totals.recoveries,
            new_seconds: stats.seconds - stats.new_seconds,
            sites: stats.sites.count(),
            sites_known: self.sites_known,
            pairs: stats.interleaving_pairs,
            classes: stats.state_classes,
            twice: stats.twice,
            unstable: stats.unstable,
            unstable_programs: unstable.map(|it| (it.program, it.difference.clone())).collect(),
            latest: stats.latest,
            swarm: swarm.emphasis(),
            findings: findings.iter().map(row).collect(),
        }
    }
}

/// What a screen is drawn by: it repaints its lines in their place on a terminal, and shows nothing
/// elsewhere.
fn screen_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}").unwrap_or(ProgressStyle::default_bar());
    bar(None).with_style(style)
}

/// Columns of the terminal.
fn width() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

/// Each finding, which nobody expects.
fn outcomes(report: &Report) -> Vec<Outcome> {
    let outcome = |kept: &Kept| {
        let wrong = &kept.finding.wrong;
        Outcome {
            file: kept.file.clone().unwrap_or_else(|| kept.finding.file_name().into()),
            as_expected: false,
            expected: "no violation".to_string(),
            found: kept.signature.clone(),
            wrong: Some((wrong.kind.clone(), wrong.guarantee)),
            message: Some(wrong.message.clone()),
        }
    };
    report.findings.iter().map(outcome).collect()
}
