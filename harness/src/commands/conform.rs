//! `powerfail conform`: programs on a directory of a mounted file system.

use super::{Exit, Failure, bar, interruptible, print_json, say};
use crate::conform::{self, ConformOptions};
use clap::Args;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Where, and how much.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A directory of the file system; everything happens in a new folder below it.
    dir: PathBuf,
    /// Programs to run.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    programs: u64,
    /// What the programs are derived from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// End after this many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Run the tasks as threads, so that operations overlap in time.
    #[arg(long)]
    threads: bool,
}

/// Runs programs; exit 1 if the file system and the oracle disagree.
///
/// # Errors
/// A directory that is not there or cannot be used.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let options = ConformOptions {
        dir: arguments.dir.clone(),
        programs: arguments.programs,
        seed: arguments.seed,
        seconds: arguments.seconds,
        threads: arguments.threads,
    };
    let stop = interruptible();
    let bar = bar(Some(arguments.programs));
    let report = conform::conform(&options, &mut |progress| {
        bar.set_position(progress.programs);
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::Environment(error.to_string()))?;
    if json {
        print_json(&report);
    } else {
        say(report.to_string().trim_end());
    }
    Ok(if report.agrees() { Exit::Expected } else { Exit::Violation })
}
