//! `powerfail explain`: the story of a finding, as text or as data.

use super::{Exit, Failure, print_json, read_program, say};
use crate::explain::{self, Explanation, text};
use crate::target::engine::EngineTarget;
use clap::Args;
use std::path::{Path, PathBuf};

/// What is explained.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A finding, or any program that shows a violation.
    file: PathBuf,
}

/// Explains; exit 1, since there is a violation.
///
/// # Errors
/// A file that cannot be read, parsed or executed, or that shows nothing wrong.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let explanation = explanation(&arguments.file)?;
    match json {
        true => print_json(&explanation),
        false => say(text::text(&explanation).trim_end()),
    }
    Ok(Exit::Violation)
}

/// The explanation of a file.
///
/// # Errors
/// As [`run`].
pub fn explanation(file: &Path) -> Result<Explanation, Failure> {
    let program = read_program(file)?;
    let name = file.display().to_string();
    let explained = explain::explain::<EngineTarget>(&program, &name)
        .map_err(|why| Failure::Input(format!("failed to explain {name}: {why}")))?;
    explained
        .ok_or_else(|| Failure::Input(format!("failed to explain {name}: it shows nothing wrong")))
}
