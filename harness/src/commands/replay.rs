//! `powerfail replay`: program files as they say.

use super::report::Outputs;
use super::{Exit, Failure, print_json, program_files, read_program, say};
use crate::lanes::{self, Window};
use crate::replay::{self, Replayed};
use crate::report::Outcome;
use crate::session::Session;
use crate::target::PowerTarget;
use crate::target::engine::EngineTarget;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which files are replayed.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Program files, or folders of files ending in `.pf`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the executed steps, one lane for each task.
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Serialize)]
struct Row {
    file: PathBuf,
    as_expected: bool,
    expected: String,
    found: String,
    message: Option<String>,
    divergences: u32,
    crash_states: u64,
}

/// Replays files on the engine; exit 1 unless each shows what it expects.
///
/// # Errors
/// A file that cannot be read, parsed or executed.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    run_on::<EngineTarget>(arguments, json)
}

/// Replays files on a target; exit 1 unless each shows what it expects.
///
/// # Errors
/// As [`run`].
pub fn run_on<T: PowerTarget>(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let files = program_files(&arguments.files)?;
    if files.is_empty() {
        return Err(Failure::Input("failed to find any program file (*.pf)".to_string()));
    }
    let mut session = Session::<T>::of_target();
    let mut rows = Vec::new();
    let mut outcomes = Vec::new();
    for file in files {
        let program = read_program(&file)?;
        let replayed = replay::replay(&mut session, &program)
            .map_err(|why| Failure::Input(format!("{}: {why}", file.display())))?;
        if !json {
            print_text(&file, &replayed);
            if arguments.trace {
                lanes::lines(&session, Window::All).iter().for_each(|line| say(line));
            }
        }
        outcomes.push(outcome(&file, &replayed));
        rows.push(row(file, &replayed));
    }
    arguments.outputs.write("replay", &outcomes)?;
    if json {
        print_json(&rows);
    }
    let all = rows.iter().all(|row| row.as_expected);
    Ok(if all { Exit::Expected } else { Exit::Violation })
}

fn row(file: PathBuf, replayed: &Replayed) -> Row {
    Row {
        file,
        as_expected: replayed.as_expected,
        expected: replayed.expected.clone(),
        found: replayed.found.clone(),
        message: replayed.wrong.as_ref().map(|wrong| wrong.message.clone()),
        divergences: replayed.divergences,
        crash_states: replayed.crash_states,
    }
}

fn outcome(file: &Path, replayed: &Replayed) -> Outcome {
    let Replayed { wrong, expected, found, as_expected, .. } = replayed;
    Outcome {
        file: file.to_owned(),
        as_expected: *as_expected,
        expected: expected.clone(),
        found: found.clone(),
        wrong: wrong.as_ref().map(|wrong| (wrong.kind.clone(), wrong.guarantee)),
        message: wrong.as_ref().map(|wrong| wrong.message.clone()),
    }
}

fn print_text(file: &Path, replayed: &Replayed) {
    let verdict = if replayed.as_expected { "as expected" } else { "NOT as expected" };
    say(&format!("{}: {verdict}: {}", file.display(), replayed.found));
    if !replayed.as_expected {
        say(&format!("  expected: {}", replayed.expected));
    }
    if let Some(wrong) = &replayed.wrong {
        wrong.message.lines().for_each(|line| say(&format!("  {line}")));
    }
    if replayed.divergences > 0 {
        say(&format!("  the recorded schedule did not fit in {} places", replayed.divergences));
    }
}
