//! `powerfail explore`: every schedule within a bound.

use super::{COMMAND, Exit, Failure, bar, interruptible, print_json, read_program, say};
use crate::clock::Stopwatch;
use crate::explore::{self, Bounds, Explored};
use crate::lanes::{self, Window};
use crate::session::Session;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use clap::Args;
use machine::choosers::Shard;
use serde::Serialize;
use std::path::PathBuf;
use std::rc::Rc;

/// Schedules executed after the first violation, to find one with fewer switches.
const SHORTEN: u64 = 1000;

/// What is explored.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A program file.
    file: PathBuf,
    /// Preemptions at most.
    #[arg(long, value_name = "N", default_value_t = 1)]
    preemptions: u32,
    /// Schedules at most.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    schedules: u64,
    /// Only the Ith of N parts of the schedules; what is said is said of this part alone, and the
    /// parts together are all schedules.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Print the steps of the violation from the end of the setup to the cut, one lane for each
    /// task.
    #[arg(long)]
    trace: bool,
    /// Write the violation to this folder.
    #[arg(long, value_name = "DIR", default_value = "findings")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Document {
    file: PathBuf,
    verdict: &'static str,
    kind: Option<String>,
    pmin: Option<u32>,
    preemptions: u32,
    /// Which part of the schedules all figures are of; null is all.
    shard: Option<String>,
    schedules: u64,
    complete: u64,
    cuts: u64,
    crash_states: u64,
    recoveries: u64,
    exhausted: bool,
    seconds: f64,
    finding: Option<PathBuf>,
}

/// Explores on the engine; exit 1 if a violation is reachable or nothing can be said.
///
/// # Errors
/// A file that cannot be read, parsed or executed.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    run_on::<EngineTarget>(arguments, json, COMMAND)
}

/// Explores on a target, which `command` replays.
///
/// # Errors
/// As [`run`].
pub fn run_on<T: PowerTarget>(
    arguments: &Arguments,
    json: bool,
    command: &str,
) -> Result<Exit, Failure> {
    let program = read_program(&arguments.file)?;
    let mut session = Session::<T>::of_target();
    let stop = interruptible();
    let clock = Stopwatch::start();
    let bar = bar(None);
    let bounds = Bounds {
        preemptions: arguments.preemptions,
        schedules: arguments.schedules,
        shorten: SHORTEN,
        shard: arguments.shard,
    };
    let explored = explore::explore(&mut session, &program, bounds, &stop, &mut |so_far| {
        if so_far.schedules % 64 == 0 {
            let states = so_far.totals.crash_states;
            bar.set_message(format!("{} schedules, {states} crash states", so_far.schedules));
        }
    })
    .map_err(Failure::Input)?;
    bar.finish_and_clear();
    let document = document(arguments, &explored, clock.seconds())?;
    if json {
        print_json(&document);
    } else {
        print_text(&document, &explored, command);
        if let Some(finding) = explored.first().filter(|_| arguments.trace) {
            let program = Rc::new(finding.program.clone());
            let shown = session.replay(&program).map_err(Failure::Input)?;
            let cut = program.cut.as_ref().map(crate::finding::moment);
            let window = Window::Race { setup_end: shown.executed.setup_end, cut };
            lanes::lines(&session, window).iter().for_each(|line| say(line));
        }
    }
    let fine = document.verdict == "unreachable";
    Ok(if fine { Exit::Expected } else { Exit::Violation })
}

fn document(arguments: &Arguments, explored: &Explored, seconds: f64) -> Result<Document, Failure> {
    let finding = match explored.first() {
        None => None,
        Some(finding) => Some(finding.write(&arguments.out).map_err(|error| {
            Failure::Input(format!("failed to write to {}: {error}", arguments.out.display()))
        })?),
    };
    let verdict = match (&explored.finding, explored.exhausted) {
        (Some(_), _) => "reachable",
        (None, _) if explored.suspicion.is_some() => "suspect",
        (None, true) => "unreachable",
        (None, false) => "inconclusive",
    };
    Ok(Document {
        file: arguments.file.clone(),
        verdict,
        kind: explored.first().map(|finding| finding.wrong.kind.clone()),
        pmin: explored.pmin,
        preemptions: arguments.preemptions,
        shard: arguments.shard.map(|shard| shard.to_string()),
        schedules: explored.schedules,
        complete: explored.complete,
        cuts: explored.totals.cuts,
        crash_states: explored.totals.crash_states,
        recoveries: explored.totals.recoveries,
        exhausted: explored.exhausted,
        seconds,
        finding,
    })
}

fn print_text(document: &Document, explored: &Explored, command: &str) {
    let place = document.shard.as_ref().map(|shard| format!(" in shard {shard}"));
    say(&format!(
        "{}{} within {} preemptions: {} schedules ({} to their end), {} cuts, {} crash states, \
         {} recoveries in {:.1} s",
        document.verdict,
        place.unwrap_or_default(),
        document.preemptions,
        document.schedules,
        document.complete,
        document.cuts,
        document.crash_states,
        document.recoveries,
        document.seconds
    ));
    if let (Some(pmin), Some(finding)) = (document.pmin, &explored.finding) {
        let switches = finding.switches();
        say(&format!("with {pmin} preemptions, {switches} switches: {}", finding.wrong));
    }
    if let Some(finding) = explored.suspicion.as_ref().filter(|_| document.verdict == "suspect") {
        say(&format!("no consequence within the bound, and a broken rule: {}", finding.wrong));
    }
    if document.verdict == "inconclusive" {
        say("the bound was not exhausted: nothing is proven");
    }
    if let Some(file) = &document.finding {
        say(&format!("replay: {command} replay {}", file.display()));
    }
}
