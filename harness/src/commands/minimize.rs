//! `powerfail minimize`: the smallest program that shows the same.

use super::{Exit, Failure, bar, print_json, read_program, say};
use crate::clock::Stopwatch;
use crate::minimize::{self, Effort};
use crate::session::Session;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::rc::Rc;

/// What is minimized.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A finding, or any program that shows a violation.
    file: PathBuf,
    /// Where the result is written; default: beside the file, ending in `.min.pf`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Executions at most.
    #[arg(long, value_name = "N", default_value_t = 6000)]
    executions: u32,
}

#[derive(Serialize)]
struct Document {
    signature: String,
    file: PathBuf,
    operations_before: usize,
    operations: usize,
    tasks: usize,
    moves: usize,
    executions: u32,
    seconds: f64,
}

/// Minimizes on the engine; exit 1, since the result shows a violation.
///
/// # Errors
/// A file that cannot be read or parsed, or shows no violation.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    run_on::<EngineTarget>(arguments, json)
}

/// Minimizes on a target.
///
/// # Errors
/// As [`run`].
pub fn run_on<T: PowerTarget>(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let program = read_program(&arguments.file)?;
    let mut session = Session::<T>::of_target();
    let clock = Stopwatch::start();
    let shown = session.replay(&Rc::new(program.clone())).map_err(Failure::Input)?;
    let Some(finding) = shown.first().cloned() else {
        let name = arguments.file.display();
        return Err(Failure::Input(format!("failed to minimize {name}: it shows no violation")));
    };
    let effort = Effort { executions: arguments.executions, ..Effort::default() };
    let bar = bar(Some(effort.executions_max()));
    let minimized = minimize::minimize(&mut session, &finding, effort, &mut |executions| {
        bar.set_position(u64::from(executions));
    });
    bar.finish_and_clear();
    let out = arguments.out.clone().unwrap_or_else(|| arguments.file.with_extension("min.pf"));
    let text = minimized.finding.text();
    std::fs::write(&out, &text)
        .map_err(|error| Failure::Input(format!("failed to write {}: {error}", out.display())))?;
    let small = &minimized.finding.program;
    let document = Document {
        signature: minimized.finding.signature(),
        file: out,
        operations_before: program.operation_count(),
        operations: small.operation_count(),
        tasks: small.tasks.len(),
        moves: small.schedule.as_ref().map_or(0, |schedule| schedule.moves.len()),
        executions: minimized.executions,
        seconds: clock.seconds(),
    };
    if json {
        print_json(&document);
    } else {
        say(&format!(
            "{} -> {} operations in {} executions, {:.1} s: {}\n",
            document.operations_before,
            document.operations,
            document.executions,
            document.seconds,
            document.file.display()
        ));
        say(text.trim_end());
    }
    Ok(Exit::Violation)
}
