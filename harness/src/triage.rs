//! Triage: which of the bugs that are known a finding is.
//!
//! Findings with one signature are one bug. So are, as far as can be told, two between which a
//! chain of programs leads ([`minimize::meet`]): then the one that was known first stays the name
//! of the bug, and the other is one more program that shows it.
//!
//! Promises that a finding is taken for a known bug only if that one is still shown here and now,
//! and that what is new is known from then on, to every worker, and to campaigns that run at the
//! same time as soon as it is in the folder that they share. It must never know which defect is on.

use crate::finding::Finding;
use crate::findings::{self, Entry, PROGRAM};
use crate::minimize::{self, Effort};
use crate::program;
use crate::session::Session;
use crate::target::PowerTarget;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

/// A bug, by the finding that it was known by first.
#[derive(Clone, Debug)]
pub struct Bug {
    /// The signature of that finding.
    pub signature: String,
    /// The finding.
    pub finding: Finding,
}

impl Bug {
    /// A finding as a bug of its own.
    pub fn of(finding: &Finding) -> Self {
        Bug { signature: finding.signature(), finding: finding.clone() }
    }
}

/// The bugs that are known.
#[derive(Debug, Default)]
pub struct Known {
    /// The folder of findings, if they are kept in one.
    root: Option<PathBuf>,
    bugs: Mutex<Bugs>,
}

#[derive(Debug, Default)]
struct Bugs {
    known: Vec<Bug>,
    /// The directories that were looked at.
    seen: BTreeSet<PathBuf>,
}

impl Known {
    /// Those of a folder of findings, as far as they are shown here and now, and those that others
    /// add to it. What cannot be read is not known.
    pub fn of_folder<T: PowerTarget>(root: &Path) -> Self {
        let known = Known { root: Some(root.to_path_buf()), bugs: Mutex::default() };
        known.look(&mut Session::<T>::of_target());
        known
    }

    /// The bug that a minimized finding is: one that is known, or a new one, which is known from
    /// then on.
    pub fn place(
        &self,
        session: &mut Session<impl PowerTarget>,
        finding: &Finding,
        effort: Effort,
    ) -> Bug {
        self.look(session);
        let own = Bug::of(finding);
        let mut compared = 0;
        loop {
            let more = {
                let known = &mut self.bugs().known;
                if let Some(same) = known.iter().find(|bug| bug.signature == own.signature) {
                    return same.clone();
                }
                if known.len() == compared {
                    known.push(own.clone());
                    return own;
                }
                known[compared..].to_vec()
            };
            compared += more.len();
            let mut meets =
                |bug: &Bug| minimize::meet(session, finding, &bug.finding, effort, &mut |_| {});
            if let Some(same) = more.into_iter().find(|bug| meets(bug)) {
                return same;
            }
        }
    }

    /// Looks at what is new in the folder.
    fn look(&self, session: &mut Session<impl PowerTarget>) {
        let Some(root) = &self.root else { return };
        let mut entries = findings::list(root).unwrap_or_default();
        entries.sort_by(|one, other| one.record.signature.cmp(&other.record.signature));
        for entry in entries {
            let signature = entry.record.signature.clone();
            let is_new = {
                let bugs = &mut *self.bugs();
                let is_known = || bugs.known.iter().any(|bug| bug.signature == signature);
                !is_known() && bugs.seen.insert(entry.folder.clone())
            };
            if is_new && let Some(finding) = shown(session, &entry) {
                self.bugs().known.push(Bug { signature, finding });
            }
        }
    }

    fn bugs(&self) -> MutexGuard<'_, Bugs> {
        self.bugs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What the program of a directory shows here and now, if that is what it was found as: it may show
/// other things, too, which are findings of their own.
fn shown(session: &mut Session<impl PowerTarget>, entry: &Entry) -> Option<Finding> {
    let text = fs::read_to_string(entry.folder.join(PROGRAM)).ok()?;
    let program = Rc::new(program::strict(&text).ok()?);
    let shown = session.replay(&program).ok()?;
    let mut both = [shown.finding, shown.suspicion].into_iter().flatten();
    both.find(|finding| finding.wrong.kind == entry.record.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Sighting;
    use crate::target::engine::EngineTarget;

    /// What a program shows while a clone of a hole is not logged.
    fn of_setup(setup: &str) -> Finding {
        let text = format!("powerfail 1\ndefect clone-hole-not-logged\nsetup\n{setup}");
        let program = Rc::new(program::strict(&text).expect("it is a program"));
        let shown = Session::<EngineTarget>::of_target().replay(&program);
        shown.expect("it is executable").first().expect("it is found").clone()
    }

    fn one() -> Finding {
        of_setup("  create f\n  write f 4K 4K\n  clone f 0 to f 4K 4K\n  fsync f\n")
    }

    fn other() -> Finding {
        of_setup("  create f\n  write f 0 4K\n  write f 8K 4K\n  clone f 4K to f 0 4K\n  fsync f\n")
    }

    fn place(known: &Known, finding: &Finding) -> String {
        let mut session = Session::<EngineTarget>::of_target();
        known.place(&mut session, finding, Effort::default()).signature
    }

    #[test]
    fn the_first_finding_of_a_bug_names_it() {
        let known = Known::default();
        assert_eq!(place(&known, &one()), one().signature());
        assert_eq!(place(&known, &other()), one().signature());
        assert_ne!(one().signature(), other().signature());
    }

    #[test]
    fn what_another_campaign_adds_is_known() {
        let root = tempfile::tempdir().expect("there is room");
        let seen = Sighting { seed: None, program: None, unix_seconds: 1 };
        let known = Known::of_folder::<EngineTarget>(root.path());
        let signature = one().signature();
        findings::add::<EngineTarget>(root.path(), &signature, &one(), &seen, 1).expect("written");
        assert_eq!(place(&known, &other()), signature);
    }

    #[test]
    fn a_directory_is_of_what_it_was_found_as() {
        let text = "powerfail 1\ndefect super-no-preflush\nsetup\n  create f\n  sync\n";
        let program = Rc::new(program::strict(text).expect("it is a program"));
        let shown = Session::<EngineTarget>::of_target().replay(&program);
        let shown = shown.expect("it is executable");
        let (found, suspected) = (shown.finding.expect("found"), shown.suspicion.expect("seen"));
        let root = tempfile::tempdir().expect("there is room");
        let seen = Sighting { seed: None, program: None, unix_seconds: 1 };
        let signature = suspected.signature();
        findings::add::<EngineTarget>(root.path(), &signature, &suspected, &seen, 1)
            .expect("written");
        let known = Known::of_folder::<EngineTarget>(root.path());
        assert_eq!(place(&known, &found), found.signature());
        assert_eq!(place(&known, &suspected), signature);
    }

    #[test]
    fn a_folder_knows_what_is_still_shown() {
        let root = tempfile::tempdir().expect("there is room");
        let seen = Sighting { seed: None, program: None, unix_seconds: 1 };
        let signature = one().signature();
        let file = findings::add::<EngineTarget>(root.path(), &signature, &one(), &seen, 1);
        let file = file.expect("written");
        let known = || Known::of_folder::<EngineTarget>(root.path());
        assert_eq!(place(&known(), &other()), signature);
        let text = fs::read_to_string(&file).expect("it is there");
        let repaired = text.replace("defect clone-hole-not-logged\n", "");
        fs::write(&file, repaired).expect("written");
        assert_eq!(place(&known(), &other()), other().signature());
    }
}
