//! The command of a target of one's own: the `main` of a small program.
//!
//! It promises the verbs `run`, `replay`, `explore` and `minimize` with the arguments and exit
//! codes of `powerfail`; without a verb it runs a campaign until the first finding, or a short one
//! if there is none. What it must never know: a particular target.

use super::{Exit, Failure, complain, explore, minimize, replay, run};
use crate::target::PowerTarget;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Programs of a campaign that nothing else ends.
const PROGRAMS: u64 = 1000;

/// Finds crash-consistency bugs: concurrent programs on a storage engine, controlled interleavings,
/// power cuts, and an oracle.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Line {
    /// Print one JSON document.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a campaign of generated programs from an empty corpus.
    Run(run::Arguments),
    /// Run program files as they say and compare with what they expect.
    Replay(replay::Arguments),
    /// Run every schedule of a program within a preemption bound, and judge every crash state.
    Explore(explore::Arguments),
    /// Find the smallest program that shows the same violation as a finding.
    Minimize(minimize::Arguments),
}

/// Does what a command line says, on a target. `arguments` are those of the process, the name of
/// the program included.
pub fn main<T: PowerTarget>(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let line = Line::parse_from(&arguments);
    let command = arguments.first().map_or("", String::as_str);
    match act::<T>(&line, command) {
        Ok(Exit::Expected) => ExitCode::SUCCESS,
        Ok(Exit::Violation) => ExitCode::from(1),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn act<T: PowerTarget>(line: &Line, command: &str) -> Result<Exit, Failure> {
    let tone = run::Tone { command, texts: true };
    match &line.verb {
        None => run::run_on::<T>(&line.run.clone().until_first(PROGRAMS), line.json, tone),
        Some(Verb::Run(arguments)) => run::run_on::<T>(arguments, line.json, tone),
        Some(Verb::Replay(arguments)) => replay::run_on::<T>(arguments, line.json),
        Some(Verb::Explore(arguments)) => explore::run_on::<T>(arguments, line.json, command),
        Some(Verb::Minimize(arguments)) => minimize::run_on::<T>(arguments, line.json),
    }
}
