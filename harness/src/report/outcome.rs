//! What became of one file: the common input of formats that other programs read.
//!
//! It must never know how the file was run.

use std::path::PathBuf;

/// A file with what it expects and what it showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The file.
    pub file: PathBuf,
    /// Whether it showed what it expects.
    pub as_expected: bool,
    /// What it expects, in words.
    pub expected: String,
    /// What it showed, in words.
    pub found: String,
    /// The kind of what is wrong with the target, and the number of the guarantee.
    pub wrong: Option<(String, u16)>,
    /// The message of what is wrong.
    pub message: Option<String>,
}
