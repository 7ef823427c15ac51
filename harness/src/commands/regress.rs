//! `powerfail regress`: the committed corpus, as `cargo test` replays it.

use super::{Exit, Failure, bar, interruptible, print_json, program_files, say};
use crate::clock::Stopwatch;
use crate::regress;
use clap::Args;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Which files.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A program file, or a folder of files ending in `.pf`.
    #[arg(value_name = "PATH", default_value = "corpus/regress")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Row {
    file: PathBuf,
    as_expected: bool,
    message: Option<String>,
    seconds: f64,
}

/// Replays files; exit 1 unless each shows what it expects, and nothing without its defects.
///
/// # Errors
/// A path that is not there.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let files = program_files(std::slice::from_ref(&arguments.path))?;
    if files.is_empty() {
        let path = arguments.path.display();
        return Err(Failure::Input(format!("failed to find any program file (*.pf) in {path}")));
    }
    let stop = interruptible();
    let bar = bar(Some(files.len() as u64));
    let mut rows = Vec::new();
    for file in &files {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        bar.set_message(file.display().to_string());
        let clock = Stopwatch::start();
        let text = fs::read_to_string(file).map_err(|error| format!("failed to read: {error}"));
        let message = text.and_then(|text| regress::check(&text)).err();
        if let Some(message) = message.as_ref().filter(|_| !json) {
            bar.suspend(|| say(&format!("{}: NOT as expected: {message}", file.display())));
        }
        let (file, as_expected) = (file.clone(), message.is_none());
        rows.push(Row { file, as_expected, message, seconds: clock.seconds() });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let right = rows.iter().filter(|row| row.as_expected).count();
    if json {
        print_json(&rows);
    } else {
        let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
        say(&format!("{right} of {} as expected, {seconds:.1} s", files.len()));
    }
    Ok(if right == files.len() { Exit::Expected } else { Exit::Violation })
}
