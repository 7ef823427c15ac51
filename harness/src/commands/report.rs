//! `powerfail report`: the story of a finding as a page, or as a trace for Perfetto; and what
//! `replay` and `run` write for other programs.

use super::explain::explanation;
use super::{Exit, Failure, print_json, say};
use crate::report::{self, Outcome};
use clap::Args;
use std::path::{Path, PathBuf};

/// What is reported, and where to.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A finding, or any program that shows a violation.
    file: PathBuf,
    /// Write one page that needs nothing else.
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Write a trace for Perfetto or chrome://tracing.
    #[arg(long, value_name = "OUT")]
    chrome_trace: Option<PathBuf>,
}

/// Reports; exit 1, since there is a violation.
///
/// # Errors
/// A file that cannot be read, parsed or executed, that shows nothing wrong, or an output that
/// cannot be written.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let Arguments { file, html, chrome_trace } = arguments;
    if html.is_none() && chrome_trace.is_none() && !json {
        let wanted = "--html OUT, --chrome-trace OUT or --format json";
        return Err(Failure::Input(format!("failed to report: say where to, with {wanted}")));
    }
    let story = explanation(file)?;
    if let Some(out) = html {
        write(out, &report::html(&story).map_err(Failure::Input)?)?;
    }
    if let Some(out) = chrome_trace {
        write(out, &report::chrome_trace(&story))?;
    }
    if json {
        print_json(&story);
    } else {
        let written = [html, chrome_trace].into_iter().flatten();
        written.for_each(|out| say(&out.display().to_string()));
    }
    Ok(Exit::Violation)
}

/// What a verb writes for other programs.
#[derive(Args, Clone, Debug, Default)]
pub struct Outputs {
    /// Write the results as JUnit.
    #[arg(long, value_name = "OUT")]
    junit: Option<PathBuf>,
    /// Write the results as SARIF.
    #[arg(long, value_name = "OUT")]
    sarif: Option<PathBuf>,
}

impl Outputs {
    /// Writes what was asked for.
    ///
    /// # Errors
    /// An output that cannot be written.
    pub fn write(&self, suite: &str, outcomes: &[Outcome]) -> Result<(), Failure> {
        if let Some(out) = &self.junit {
            write(out, &report::junit(suite, outcomes).map_err(Failure::Input)?)?;
        }
        if let Some(out) = &self.sarif {
            write(out, &report::sarif(outcomes))?;
        }
        Ok(())
    }
}

fn write(out: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(out, text)
        .map_err(|error| Failure::Input(format!("failed to write {}: {error}", out.display())))
}
