//! The verbs of the command line: each reads its arguments, calls the library and prints.
//!
//! Nothing is decided here: what a verb does is in the library, so that tests, fuzz targets and
//! other programs can do the same.

pub mod bench;
pub mod conform;
pub mod defects;
pub mod explain;
pub mod explore;
pub mod findings;
pub mod image;
pub mod litmus;
pub mod minimize;
pub mod own;
pub mod prune;
pub mod regress;
pub mod replay;
pub mod report;
pub mod run;

use crate::program::{self, ParseError, Program};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{LabeledSpan, NamedSource, Report, miette};
use serde::Serialize;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name by which people call the command.
const COMMAND: &str = "powerfail";

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As expected: exit code 0.
    Expected,
    /// A violation, or a verdict that was not expected: exit code 1.
    Violation,
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// A program file does not parse: exit code 2.
    Program {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// Where and why.
        error: Box<ParseError>,
    },
    /// Bad usage or input: exit code 2.
    Input(String),
    /// The environment lacks something: exit code 3.
    Environment(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Program { .. } | Failure::Input(_) => 2,
            Failure::Environment(_) => 3,
        }
    }
}

/// Prints why a verb failed on standard error.
pub fn complain(failure: &Failure) {
    match failure {
        Failure::Input(sentence) | Failure::Environment(sentence) => {
            drop(writeln!(io::stderr(), "powerfail: {sentence}"));
        }
        Failure::Program { path, text, error } => {
            let report = diagnostic(path, text, error);
            drop(writeln!(io::stderr(), "powerfail: {}: {error}\n{report:?}", path.display()));
        }
    }
}

fn diagnostic(path: &Path, text: &str, error: &ParseError) -> Report {
    let label = LabeledSpan::at(error.span.clone(), format!("expected {}", error.expected));
    let source = NamedSource::new(path.display().to_string(), text.to_string());
    miette!(labels = vec![label], "{error}").with_source_code(source)
}

/// Reads and parses a program file.
///
/// # Errors
/// If the file cannot be read, or does not parse.
pub fn read_program(path: &Path) -> Result<Program, Failure> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::Input(format!("failed to read {}: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::Input(format!("{} is not a program: it is not UTF-8 text", path.display()))
    })?;
    match program::strict(&text) {
        Ok(program) => Ok(program),
        Err(error) => Err(Failure::Program { path: path.to_owned(), text, error: Box::new(error) }),
    }
}

/// The program files of paths: files as they are, of folders all files ending in `.pf`, sorted.
///
/// # Errors
/// If a path is not there.
pub fn program_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, true, &mut files)?;
    }
    Ok(files)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable =
        |error: io::Error| Failure::Input(format!("failed to read {}: {error}", path.display()));
    if fs::metadata(path).map_err(unreadable)?.is_dir() {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            entries.push(entry.map_err(unreadable)?.path());
        }
        entries.sort();
        for entry in entries {
            collect(&entry, false, files)?;
        }
    } else if named || path.extension().is_some_and(|extension| extension == "pf") {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Prints a JSON document.
pub fn print_json<T: Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    say(&text);
}

/// Prints a line on standard output; a closed pipe is no error.
pub fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

/// A flag that Ctrl-C raises: the first asks the work to end, so that all figures and findings are
/// kept; the second ends the process.
pub fn interruptible() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    let handler = move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    };
    // A second handler in one process is refused; the first one serves.
    drop(ctrlc::set_handler(handler));
    stop
}

/// A progress bar on a terminal, nothing elsewhere.
pub fn bar(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match length {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let style = match length {
        Some(_) => "{bar:30} {percent:>3}%  {msg}",
        None => "{spinner} {msg}",
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()))
}
