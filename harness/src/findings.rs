//! A folder of findings: one directory for each signature, which campaigns of many nights share.
//!
//! A directory holds the smallest program that shows it (`finding.pf`), the executed steps
//! (`trace.txt`), how often and when it was seen (`finding.json`), its story as a page
//! (`report.html`), and other minimized programs that show it (`also`). Its name is a function of
//! the signature alone, so that the same bug found again is counted where it was before, and its
//! program is replaced only by a smaller one.
//!
//! Promises: a file is complete or not there at all; what is there is never lost, nor is a count,
//! if several campaigns add at the same time (`LOCK`); a page is of the program beside it. The page
//! takes some thousand executions, so it is made when the program is new, or none is there, after
//! all else is written, and while others may add. It must never know how a finding was come by.

use crate::explain::explain;
use crate::files::write_whole;
use crate::finding::Finding;
use crate::lanes::{self, Window};
use crate::program::{self, Program};
use crate::report;
use crate::session::Session;
use crate::target::PowerTarget;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The program of a directory.
pub const PROGRAM: &str = "finding.pf";
/// The executed steps.
const TRACE: &str = "trace.txt";
/// What is known of it.
const RECORD: &str = "finding.json";
/// Other programs that show it.
const ALSO: &str = "also";
/// Its story, as `powerfail report` draws it; none, if nothing can be told of it.
const REPORT: &str = "report.html";
/// The file of the folder that is locked by whoever changes something in it.
const LOCK: &str = ".lock";

/// When a finding was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The seed of the campaign; none if it was no campaign of generated programs.
    pub seed: Option<u64>,
    /// The number of the program in it.
    pub program: Option<u64>,
    /// Seconds since 1970, UTC.
    pub unix_seconds: u64,
}

/// What is known of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key that makes two findings the same bug.
    pub signature: String,
    /// The kind of violation.
    pub kind: String,
    /// The guarantee that is broken: `G-N`.
    pub guarantee: String,
    /// What was found, in a sentence.
    pub message: String,
    /// Concurrent tasks of the program.
    pub tasks: usize,
    /// Operations of the program.
    pub operations: usize,
    /// Switches from one task to another in its schedule.
    pub switches: usize,
    /// How often it was seen.
    pub count: u64,
    /// When it was seen first.
    pub first_seen: Sighting,
    /// When it was seen last.
    pub last_seen: Sighting,
}

/// A directory of a folder, with what is known.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The directory.
    pub folder: PathBuf,
    /// What is known.
    pub record: Record,
}

impl Entry {
    /// The page that tells its story, if there is one.
    pub fn report(&self) -> Option<PathBuf> {
        Some(self.folder.join(REPORT)).filter(|page| page.exists())
    }

    /// The other programs that show it, by name.
    pub fn others(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.join(ALSO)).into_iter().flatten();
        let mut others: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        others.retain(|file| file.extension().is_some_and(|end| end == "pf"));
        others.sort();
        others
    }
}

/// The name of the directory of a signature: the kind of violation, with which it begins, and a
/// hash.
fn directory_name(signature: &str) -> String {
    let kind = signature.split(' ').next().unwrap_or_default();
    let hash = blake3::hash(signature.as_bytes()).to_hex();
    format!("{kind}-{}", &hash.as_str()[..10])
}

/// Adds a finding of the bug of a signature, seen `count` times more; returns the path of the
/// smallest program of that bug.
///
/// # Errors
/// Those of the file system.
pub fn add<T: PowerTarget>(
    root: &Path,
    signature: &str,
    finding: &Finding,
    seen: &Sighting,
    count: u64,
) -> io::Result<PathBuf> {
    let folder = root.join(directory_name(signature));
    let (file, page) = (folder.join(PROGRAM), folder.join(REPORT));
    fs::create_dir_all(&folder)?;
    let locked = lock(root)?;
    let known = read(&folder);
    let mut record = record(signature, finding, seen, count);
    if let Some(known) = &known {
        (record.count, record.first_seen) = (known.count + count, known.first_seen.clone());
    }
    let size = |it: &Record| (it.tasks, it.operations, it.switches);
    let is_smaller =
        known.as_ref().is_none_or(|known| size(&record) < size(known) || !file.exists());
    if let Some(Ok(before)) = fs::read_to_string(&file).ok().map(|text| program::strict(&text)) {
        let larger = if is_smaller { &before } else { &finding.program };
        if bare(&before) != bare(&finding.program) {
            keep_other(&folder, larger)?;
        }
    }
    if !is_smaller && let Some(known) = known {
        record = Record { count: record.count, last_seen: record.last_seen, ..known };
    }
    if is_smaller {
        // The page of another program would lie.
        remove(&page)?;
        finding.write_as(&folder, PROGRAM)?;
        write_whole(&folder.join(TRACE), &trace::<T>(finding))?;
    }
    let text = serde_json::to_string_pretty(&record).map_err(io::Error::other)?;
    write_whole(&folder.join(RECORD), &(text + "\n"))?;
    drop(locked);
    if !page.exists() {
        write_page::<T>(root, &file, &page)?;
    }
    Ok(file)
}

/// Writes the page of a program, unless another one is there when it is made.
fn write_page<T: PowerTarget>(root: &Path, file: &Path, page: &Path) -> io::Result<()> {
    let told = fs::read_to_string(file)?;
    let Some(story) = tell::<T>(&told, file) else { return Ok(()) };
    let _locked = lock(root)?;
    if fs::read_to_string(file)? == told {
        write_whole(page, &story)?;
    }
    Ok(())
}

/// Nobody else changes the folder until this is dropped. Where files cannot be locked, only one
/// campaign at a time should add to it.
fn lock(root: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(root.join(LOCK))?;
    match file.lock() {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(file),
    }
}

/// Removes a file, if it is there.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A program as it is compared with others: what it does.
fn bare(program: &Program) -> String {
    let mut bare = crate::explore::bare(program);
    bare.comments.clear();
    bare.machine = Program::default().machine;
    bare.to_string()
}

/// Keeps a program beside the smaller one that stands for the bug: who repairs it wants both to
/// pass.
fn keep_other(folder: &Path, program: &Program) -> io::Result<()> {
    let folder = folder.join(ALSO);
    fs::create_dir_all(&folder)?;
    let hash = blake3::hash(bare(program).as_bytes()).to_hex();
    write_whole(&folder.join(format!("{}.pf", &hash.as_str()[..10])), &program.to_string())
}

/// The page of the program of a file; none, if it shows nothing wrong that could be told.
fn tell<T: PowerTarget>(text: &str, file: &Path) -> Option<String> {
    let program = program::strict(text).ok()?;
    let story = explain::<T>(&program, &file.display().to_string()).ok().flatten()?;
    report::html(&story).ok()
}

/// All findings of a folder, those seen most recently first.
///
/// # Errors
/// The folder cannot be read.
pub fn list(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        if let Some(record) = read(&folder) {
            entries.push(Entry { folder, record });
        }
    }
    entries.sort_by(|a, b| {
        let key =
            |it: &Entry| (std::cmp::Reverse(it.record.last_seen.unix_seconds), it.folder.clone());
        key(a).cmp(&key(b))
    });
    Ok(entries)
}

fn read(folder: &Path) -> Option<Record> {
    let text = fs::read_to_string(folder.join(RECORD)).ok()?;
    serde_json::from_str(&text).ok()
}

fn record(signature: &str, finding: &Finding, seen: &Sighting, count: u64) -> Record {
    Record {
        signature: signature.to_string(),
        kind: finding.wrong.kind.clone(),
        guarantee: format!("G-{}", finding.wrong.guarantee),
        message: finding.wrong.message.clone(),
        tasks: finding.program.tasks.len(),
        operations: finding.program.operation_count(),
        switches: finding.switches(),
        count,
        first_seen: seen.clone(),
        last_seen: seen.clone(),
    }
}

/// The steps from the end of the setup to the cut, in a session that has seen nothing else.
fn trace<T: PowerTarget>(finding: &Finding) -> String {
    let mut session = Session::<T>::of_target();
    let replayed = program::strict(&finding.text()).map_err(|error| error.to_string());
    let shown = replayed.and_then(|program| session.replay(&Rc::new(program)));
    match shown {
        Err(why) => format!("it does not replay: {why}\n"),
        Ok(shown) => {
            let cut = finding.program.cut.as_ref().map(crate::finding::moment);
            let window = Window::Race { setup_end: shown.executed.setup_end, cut };
            lanes::lines(&session, window).join("\n") + "\n"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs;
    use crate::program::Move;
    use crate::target::engine::EngineTarget;
    use crate::verdict::{Phase, Wrong};
    use std::sync::atomic::AtomicBool;

    fn finding(operations: &str) -> Finding {
        let text = format!("powerfail 1\nsetup\n  create f\ntask a\n{operations}");
        let wrong = Wrong {
            kind: "lost-data".to_string(),
            guarantee: 11,
            cause: String::new(),
            message: "block 0 of f shows zeros".to_string(),
            phase: Phase::Recovered,
        };
        Finding::of(program::strict(&text).expect("it is right"), &wrong)
    }

    fn sighting(unix_seconds: u64) -> Sighting {
        Sighting { seed: Some(1), program: Some(7), unix_seconds }
    }

    /// Adds a finding as the bug of its own signature.
    fn add_own(root: &Path, finding: &Finding, seen: &Sighting, count: u64) -> io::Result<PathBuf> {
        add::<EngineTarget>(root, &finding.signature(), finding, seen, count)
    }

    #[test]
    fn another_program_of_a_bug_is_kept_beside_it() {
        let root = tempfile::tempdir().expect("there is room");
        let large = finding("  write f 0 4K\n  dwrite f 0 4K\n  fsync f\n");
        let small = finding("  write f 0 4K\n  fsync f\n");
        let other = finding("  write f 0 4K\n  fdatasync f\n");
        let add = |finding: &Finding, seen| {
            let signature = large.signature();
            add::<EngineTarget>(root.path(), &signature, finding, &sighting(seen), 1)
        };
        let file = add(&large, 1).expect("written");
        assert_eq!(add(&small, 2).expect("written"), file);
        assert_eq!(add(&other, 3).expect("written"), file);
        assert_eq!(add(&small, 4).expect("written"), file);
        assert_eq!(fs::read_to_string(file).expect("it is there"), small.text());
        let [entry] = &list(root.path()).expect("it is there")[..] else { panic!("one bug") };
        let Record { count, operations, signature, .. } = &entry.record;
        assert_eq!((*count, *operations, signature), (4, 3, &large.signature()));
        assert_eq!(entry.record.last_seen, sighting(4));
        let others = entry.others().into_iter().map(fs::read_to_string);
        let mut others: Vec<String> = others.map(|text| text.expect("it is there")).collect();
        let mut expected = [large.text(), other.text()];
        others.sort();
        expected.sort();
        assert_eq!(others, expected);
    }

    #[test]
    fn the_same_bug_is_counted_where_it_was() {
        let root = tempfile::tempdir().expect("there is room");
        let one = finding("  write f 0 4K\n  fsync f\n");
        let mut same = one.clone();
        same.program.paths = vec!["g".to_string()];
        let file = add_own(root.path(), &one, &sighting(100), 1).expect("written");
        assert_eq!(add_own(root.path(), &same, &sighting(200), 4).expect("written"), file);
        let listed = list(root.path()).expect("it is there");
        assert_eq!(listed.len(), 1);
        let record = &listed[0].record;
        assert_eq!((record.count, record.operations), (5, 3));
        assert_eq!((&record.first_seen, &record.last_seen), (&sighting(100), &sighting(200)));
        assert_eq!(fs::read_to_string(file).expect("it is there"), one.text());
    }

    #[test]
    fn campaigns_that_add_at_the_same_time_lose_no_count() {
        let root = tempfile::tempdir().expect("there is room");
        let one = finding("  write f 0 4K\n  fsync f\n");
        let times: Vec<u64> = (0..100).collect();
        jobs::in_order(&times, 4, &AtomicBool::new(false), &|_, time| {
            add_own(root.path(), &one, &sighting(*time), 1).expect("written")
        });
        let [entry] = &list(root.path()).expect("it is there")[..] else { panic!("one bug") };
        assert_eq!(entry.record.count, 100);
    }

    #[test]
    fn another_bug_has_another_directory() {
        let root = tempfile::tempdir().expect("there is room");
        add_own(root.path(), &finding("  write f 0 4K\n  fsync f\n"), &sighting(1), 1)
            .expect("written");
        add_own(root.path(), &finding("  dwrite f 0 4K\n  fsync f\n"), &sighting(2), 1)
            .expect("written");
        let listed = list(root.path()).expect("it is there");
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].record.last_seen, sighting(2), "the newest comes first");
    }

    /// What a flush that is left out shows.
    fn shown() -> Finding {
        let text = "powerfail 1\nmount flusher=0 committer=0 reclaimer=0\n\
                    defect super-no-preflush\nsetup\n  create f\n  write f 0 4K\n  fsync f\n\
                    task a\n  stat f\n";
        let program = Rc::new(program::strict(text).expect("it is right"));
        let shown = Session::<EngineTarget>::of_target().replay(&program);
        shown.expect("it is executable").finding.expect("it is found")
    }

    /// The same, with switches that come after its end: it is larger, and the same bug whatever a
    /// signature is made of.
    fn larger(finding: &Finding) -> Finding {
        let mut larger = finding.clone();
        let moves = &mut larger.program.schedule.get_or_insert_default().moves;
        let step = |who: &str| Move::Run { who: who.to_string(), steps: 1 };
        moves.extend(["a", "b", "a"].map(step));
        larger
    }

    /// The page that `powerfail report` makes of a program.
    fn told(file: &Path) -> String {
        let text = fs::read_to_string(file).expect("it is there");
        let program = program::strict(&text).expect("it is right");
        let story = explain::<EngineTarget>(&program, &file.display().to_string());
        let story = story.expect("it is executable").expect("it shows something");
        report::html(&story).expect("the template can be filled")
    }

    #[test]
    fn the_page_is_that_of_the_program_beside_it() {
        let root = tempfile::tempdir().expect("there is room");
        let small = shown();
        let large = larger(&small);
        let add = |finding: &Finding| {
            let file = add_own(root.path(), finding, &sighting(1), 1).expect("written");
            let [entry] = &list(root.path()).expect("it is there")[..] else { panic!("one bug") };
            let page = entry.report().expect("there is a page");
            assert_eq!(fs::read_to_string(&page).expect("it is there"), told(&file));
            (file, page)
        };
        let (file, page) = add(&large);
        let before = fs::read_to_string(&page).expect("it is there");
        assert_eq!(add(&small), (file.clone(), page.clone()));
        assert!(fs::read_to_string(&page).expect("it is there") != before, "it is of another");
        fs::remove_file(&page).expect("it is there");
        assert_eq!(add(&large), (file.clone(), page));
        assert_eq!(fs::read_to_string(file).expect("it is there"), small.text());
    }

    #[test]
    fn what_cannot_be_told_has_no_page() {
        let root = tempfile::tempdir().expect("there is room");
        let harmless = finding("  write f 0 4K\n  fsync f\n");
        let large = larger(&harmless);
        let file = add_own(root.path(), &large, &sighting(1), 1).expect("written");
        let page = file.with_file_name(REPORT);
        assert!(!page.exists(), "nothing is wrong");
        fs::write(&page, "of another program").expect("written");
        add_own(root.path(), &harmless, &sighting(2), 1).expect("written");
        assert!(!page.exists(), "the page of a program that is gone");
    }

    #[test]
    fn what_is_no_finding_is_passed() {
        let root = tempfile::tempdir().expect("there is room");
        fs::create_dir(root.path().join("other")).expect("made");
        fs::write(root.path().join("note.txt"), "hello").expect("written");
        assert!(list(root.path()).expect("it is there").is_empty());
    }
}
