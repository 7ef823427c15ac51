//! `powerfail run`: a campaign.

use super::report::Outputs;
use super::{COMMAND, Exit, Failure, bar, interruptible, print_json, say};
use crate::campaign::{self, Kept, Options, Report, Stats};
use crate::corpus::{Corpus, State};
use crate::cuts::Plan;
use crate::program::Setting;
use crate::report::Outcome;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

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

#[derive(Serialize)]
struct FindingRow {
    signature: String,
    kind: String,
    guarantee: String,
    message: String,
    count: u64,
    program: u64,
    seconds: f64,
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    seed: u64,
    programs: u64,
    operations: u64,
    decisions: u64,
    cuts: u64,
    crash_states: u64,
    recoveries: u64,
    refused: u64,
    interleaving_pairs: u32,
    state_classes: u32,
    new_seconds: f64,
    next: u64,
    seconds: f64,
    interrupted: bool,
    findings: Vec<FindingRow>,
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

/// Runs a campaign on the engine; exit 1 if it found anything.
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

/// Runs a campaign on a target; exit 1 if it found anything.
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
    let bar = bar(options.seconds.map(|seconds| seconds.ceil() as u64));
    let report = campaign::run_on::<T>(&options, &stop, &mut |stats, findings| {
        if options.seconds.is_some() {
            bar.set_position(stats.seconds as u64);
        }
        bar.set_message(status(stats, findings));
    });
    bar.finish_and_clear();
    if report.stats.programs == 0
        && let Some(refusal) = &report.stats.refusal
    {
        return Err(Failure::Input(refusal.clone()));
    }
    arguments.outputs.write("run", &outcomes(&report))?;
    match json {
        true => print_json(&document(&options, &report)),
        false => print_text(&report, tone),
    }
    Ok(if report.findings.is_empty() { Exit::Expected } else { Exit::Violation })
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
    let campaign = State {
        seed: arguments.seed,
        defects: arguments.defects.clone(),
        knobs: arguments.knobs.clone(),
        ..State::default()
    };
    Corpus::open(folder, campaign).map(Some).map_err(Failure::Input)
}

fn status(stats: &Stats, findings: &[Kept]) -> String {
    let per_second = |count: u64| count as f64 / stats.seconds.max(1e-9);
    format!(
        "{} programs ({:.0}/s)  {} crash states ({:.0}/s)  {} pairs  {} classes  new {:.0} s ago  \
         {} findings",
        stats.programs,
        per_second(stats.programs),
        stats.totals.crash_states,
        per_second(stats.totals.crash_states),
        stats.interleaving_pairs,
        stats.state_classes,
        stats.seconds - stats.new_seconds,
        findings.len()
    )
}

fn document(options: &Options, report: &Report) -> Document {
    let stats = &report.stats;
    let row = |kept: &Kept| FindingRow {
        signature: kept.signature.clone(),
        kind: kept.finding.wrong.kind.clone(),
        guarantee: format!("G-{}", kept.finding.wrong.guarantee),
        message: kept.finding.wrong.message.clone(),
        count: kept.count,
        program: kept.program,
        seconds: kept.seconds_until,
        file: kept.file.clone(),
    };
    Document {
        seed: options.seed,
        programs: stats.programs,
        operations: stats.operations,
        decisions: stats.decisions,
        cuts: stats.totals.cuts,
        crash_states: stats.totals.crash_states,
        recoveries: stats.totals.recoveries,
        refused: stats.refused,
        interleaving_pairs: report.coverage.interleaving_pairs(),
        state_classes: report.coverage.state_classes(),
        new_seconds: stats.new_seconds,
        next: stats.next,
        seconds: stats.seconds,
        interrupted: report.interrupted,
        findings: report.findings.iter().map(row).collect(),
    }
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

fn print_text(report: &Report, tone: Tone<'_>) {
    let stats = &report.stats;
    say(&format!(
        "{} programs, {} operations, {} decisions, {} cuts, {} crash states, {} recoveries \
         in {:.1} s{}",
        stats.programs,
        stats.operations,
        stats.decisions,
        stats.totals.cuts,
        stats.totals.crash_states,
        stats.totals.recoveries,
        stats.seconds,
        if report.interrupted { " (interrupted)" } else { "" }
    ));
    say(&format!(
        "{} interleaving pairs, {} state classes",
        report.coverage.interleaving_pairs(),
        report.coverage.state_classes()
    ));
    if let Some(refusal) = &stats.refusal {
        say(&format!("{} programs were refused, the last because: {refusal}", stats.refused));
    }
    if let Some(why) = &stats.unwritten {
        say(&format!("a finding could not be written: {why}"));
    }
    if report.findings.is_empty() {
        say("no finding");
    }
    for kept in &report.findings {
        say(&format!("\n{}  (seen {} times)", kept.signature, kept.count));
        say(&format!("  {}", kept.finding.wrong.message));
        if let Some(file) = &kept.file {
            say(&format!("  replay: {} replay {}", tone.command, file.display()));
        }
        if tone.texts {
            say(&format!("\n{}", kept.finding.text().trim_end()));
        }
    }
}
