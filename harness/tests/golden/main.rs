//! Golden files: what a version of a format wrote is read for ever, and read the same way. One
//! trial a file of `corpus/golden`; the README there says what the folders hold, and how a version
//! is added.
//!
//! A trial compares what a file is read as with the text beside it. Where the engine has come to do
//! something else on purpose, look at what changed and accept it with
//! `INSTA_UPDATE=always cargo test -p powerfail-harness --test golden`. The golden files themselves
//! never change.

mod damages;
mod folders;
mod images;
mod programs;
mod texts;

use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::path::{Path, PathBuf};

/// Set to anything, files that are not there are made: programs of images become images, and rows
/// of the table of damage become inputs. What is there is left as it is.
const MAKE: &str = "POWERFAIL_MAKE_GOLDEN";

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = programs::trials();
    trials.extend(texts::trials());
    trials.extend(images::trials());
    trials.extend(damages::trials());
    trials.extend(folders::trials());
    trials.push(trial("no_golden_file_is_gone", nothing_is_gone));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial that fails if its body panics.
fn trial(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        body();
        Ok::<(), Failed>(())
    })
}

/// The folder of all.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/golden")
}

/// The files of every version of a format, sorted: those with this extension in the folders named
/// like `FORMAT-v1`.
fn files(format: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root()).expect("the folder is readable") {
        let folder = folder.expect("the entry is readable").path();
        let version = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = version.strip_prefix(format).and_then(|rest| rest.strip_prefix("-v"));
        if version.is_none_or(|version| version.parse::<u32>().is_err()) {
            continue;
        }
        for file in fs::read_dir(&folder).expect("the folder is readable") {
            let file = file.expect("the entry is readable").path();
            if file.extension().is_some_and(|it| it == extension) {
                found.push(file);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is a golden file of {format}");
    found
}

/// The name of a trial: the folder and the name of the file.
fn name(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).expect("a file of a folder");
    let stem = file.file_stem().expect("a file has a name");
    format!("{}/{}", folder.display(), stem.display())
}

/// Compares what a file is read as with the text beside it, `NAME.snap`.
fn compare(file: &Path, told: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(file.parent().expect("a file of a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let stem = file.file_stem().expect("a file has a name").display().to_string();
    settings.bind(|| insta::assert_snapshot!(stem, told));
}

/// Beside each record is the file that it is of.
fn nothing_is_gone() {
    for format in ["program", "text", "image", "damage"] {
        for record in files(format, "snap") {
            let is_there = ["pf", "txt", "bin"].map(|it| record.with_extension(it).exists());
            assert!(is_there.contains(&true), "the file of {} is gone", record.display());
        }
    }
}

/// Whether files that are missing are to be made.
fn makes() -> bool {
    std::env::var_os(MAKE).is_some()
}
