//! `powerfail prune`: the fewest programs of a corpus folder that cover what all of it covers.
//!
//! It promises that no file is ever lost: without `--apply` nothing is touched, and with it files
//! are moved into a folder beside the corpus.

use super::{Exit, Failure, bar, interruptible, print_json, say};
use crate::corpus;
use crate::fuzzing::power_cut::PowerCut;
use crate::prune::{self, Candidate};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Which folder.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A folder of programs: each of its files is read as one, whatever its name, but for the
    /// `campaign.json` of a campaign; folders inside of it are left alone.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Move what is not kept into the folder `DIR.pruned`.
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
struct Document {
    folder: PathBuf,
    files: usize,
    covered: usize,
    kept: Vec<PathBuf>,
    idle: Vec<PathBuf>,
    /// Kept, as they show something wrong on the engine without defects.
    wrong: Vec<PathBuf>,
    moved_to: Option<PathBuf>,
}

/// Executes each program and says which are enough.
///
/// # Errors
/// A folder that cannot be read or moved from.
pub fn run(arguments: &Arguments, json: bool) -> Result<Exit, Failure> {
    let files = files(&arguments.folder)?;
    let stop = interruptible();
    let bar = bar(Some(files.len() as u64));
    let mut target = PowerCut::new(Vec::new(), None);
    target.quiet();
    let mut candidates = Vec::new();
    for file in &files {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Input("stopped: nothing was moved".to_string()));
        }
        let bytes = fs::read(file).map_err(|error| failed("read", file, &error))?;
        let covered = prune::covered(&mut target, &bytes);
        candidates.push(Candidate { len_bytes: bytes.len() as u64, covered });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let kept: BTreeSet<usize> = prune::cover(&candidates).into_iter().collect();
    let named = |is: &dyn Fn(usize) -> bool| -> Vec<PathBuf> {
        let indices = (0..files.len()).filter(|index| is(*index));
        indices.map(|index| files[index].clone()).collect()
    };
    let idle = named(&|index| !kept.contains(&index));
    let moved_to = match arguments.apply {
        true => Some(set_aside(&arguments.folder, &idle)?),
        false => None,
    };
    let all = candidates.iter().flat_map(|candidate| &candidate.covered.what);
    let document = Document {
        folder: arguments.folder.clone(),
        files: files.len(),
        covered: all.collect::<BTreeSet<_>>().len(),
        kept: named(&|index| kept.contains(&index)),
        wrong: named(&|index| candidates[index].covered.wrong.is_some()),
        idle,
        moved_to,
    };
    match json {
        true => print_json(&document),
        false => print_text(&document),
    }
    Ok(Exit::Expected)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed("read", folder, &error))? {
        let path = entry.map_err(|error| failed("read", folder, &error))?.path();
        // How far a campaign is (`run --corpus`) is no program.
        let is_state = path.file_name().is_some_and(|name| name == corpus::STATE);
        if path.is_file() && !is_state {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Moves files into the folder beside theirs; one that is there already is not replaced.
fn set_aside(folder: &Path, idle: &[PathBuf]) -> Result<PathBuf, Failure> {
    let whole = fs::canonicalize(folder).map_err(|error| failed("find", folder, &error))?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = whole.with_file_name(format!("{name}.pruned"));
    fs::create_dir_all(&beside).map_err(|error| failed("make", &beside, &error))?;
    for file in idle {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = std::iter::once(name.clone()).chain((1..).map(|n| format!("{name}.{n}")));
        let mut places = names.map(|name| beside.join(name));
        let place = places.find(|place| !place.exists()).expect("there is no end of names");
        fs::rename(file, place).map_err(|error| failed("move", file, &error))?;
    }
    Ok(beside)
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Input(format!("failed to {verb} {}: {error}", path.display()))
}

fn print_text(document: &Document) {
    for file in &document.kept {
        let is_wrong = document.wrong.contains(file);
        let why = if is_wrong { "  (shows something wrong)" } else { "" };
        say(&format!("keep {}{why}", file.display()));
    }
    let (files, kept, idle) = (document.files, document.kept.len(), document.idle.len());
    say(&format!("{kept} of {files} programs cover all {} that they cover", document.covered));
    match &document.moved_to {
        Some(beside) => say(&format!("moved {idle} to {}", beside.display())),
        None => say(&format!("nothing was moved; --apply would set {idle} aside")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_all_there() {
        let root = tempfile::tempdir().expect("a folder can be made");
        let folder = root.path().join("corpus");
        fs::create_dir(&folder).expect("a folder can be made");
        for content in ["one", "two"] {
            let file = folder.join("a");
            fs::write(&file, content).expect("it can be written");
            let beside = set_aside(&folder, &[file]).expect("it can be moved");
            assert_eq!(beside.file_name().and_then(|name| name.to_str()), Some("corpus.pruned"));
        }
        let read = |name: &str| fs::read_to_string(root.path().join("corpus.pruned").join(name));
        assert_eq!(read("a").expect("it is there"), "one");
        assert_eq!(read("a.1").expect("it is there"), "two");
        assert!(files(&folder).expect("it is readable").is_empty());
    }

    #[test]
    fn how_far_a_campaign_is_stays() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for name in ["a.pf", corpus::STATE] {
            fs::write(folder.path().join(name), "powerfail 1\n").expect("it can be written");
        }
        let found = files(folder.path()).expect("it is readable");
        assert_eq!(found, [folder.path().join("a.pf")]);
    }
}
