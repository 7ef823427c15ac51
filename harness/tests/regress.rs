//! The regression corpus: one trial a file. Each file is replayed as it says, with its schedule and
//! its cut if it records them, and compared with its `expect` line, and is replayed without its
//! `defect` lines, if it has any. `powerfail regress` does the same.
//!
//! A bug that is still open stands there with `expect violation`: its trial fails when the bug is
//! fixed, and the line is then changed. The files are the tests, so adding one is adding a file.

use harness::regress::check;
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/regress");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(&root).expect("it is inside").display().to_string();
            Trial::test(name, move || trial(&file))
        })
        .collect();
    trials.push(Trial::test("a_wrong_expectation_fails", a_wrong_expectation_fails));
    trials.push(Trial::test("a_broken_file_fails", a_broken_file_fails));
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(file: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(file).map_err(|error| format!("failed to read: {error}"))?;
    check(&text).map_err(|what| format!("{}: {what}", file.display()).into())
}

const HARMLESS: &str = "powerfail 1\nsetup\n  create f\n  write f 0 4K\n  fsync f\n";

fn a_wrong_expectation_fails() -> Result<(), Failed> {
    check(&format!("{HARMLESS}expect pass\n"))?;
    match check(&format!("{HARMLESS}expect violation stale-data\n")) {
        Err(what) if what.starts_with("expected violation stale-data, found pass") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn a_broken_file_fails() -> Result<(), Failed> {
    match check("powerfail 1\nsetup\n  crate f\n") {
        Err(what) if what.contains("crate") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "pf") {
            files.push(path);
        }
    }
}
