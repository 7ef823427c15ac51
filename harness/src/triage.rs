//! Triage: which of the bugs that are known a finding is.
//!
//! Findings with one signature are one bug. So are, as far as can be told, two between which a
//! chain of programs leads ([`minimize::meet`]): then the one that was known first stays the name
//! of the bug, and the other is one more program that shows it.
//!
//! Promises that a finding is taken for a known bug only if that one is still shown here and now,
//! and that what is new is known from then on, to every worker. It must never know which defect is
//! on.

use crate::finding::Finding;
use crate::findings::{self, PROGRAM};
use crate::minimize::{self, Effort};
use crate::program;
use crate::session::Session;
use crate::target::PowerTarget;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;

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
pub struct Known(Mutex<Vec<Bug>>);

impl Known {
    /// Those of a folder of findings, as far as they are shown here and now. What cannot be read is
    /// not known.
    pub fn of_folder<T: PowerTarget>(root: &Path) -> Self {
        let mut session = Session::<T>::of_target();
        let entries = findings::list(root).unwrap_or_default();
        let mut bugs: Vec<Bug> = entries
            .into_iter()
            .filter_map(|entry| {
                let text = fs::read_to_string(entry.folder.join(PROGRAM)).ok()?;
                let program = Rc::new(program::strict(&text).ok()?);
                let shown = session.replay(&program).ok()?;
                let finding = shown.first()?.clone();
                Some(Bug { signature: entry.record.signature, finding })
            })
            .collect();
        bugs.sort_by(|one, other| one.signature.cmp(&other.signature));
        Known(Mutex::new(bugs))
    }

    /// The bug that a minimized finding is: one that is known, or a new one, which is known from
    /// then on.
    pub fn place(
        &self,
        session: &mut Session<impl PowerTarget>,
        finding: &Finding,
        effort: Effort,
    ) -> Bug {
        let own = Bug::of(finding);
        let mut compared = 0;
        loop {
            let more = {
                let mut bugs = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if let Some(same) = bugs.iter().find(|bug| bug.signature == own.signature) {
                    return same.clone();
                }
                if bugs.len() == compared {
                    bugs.push(own.clone());
                    return own;
                }
                bugs[compared..].to_vec()
            };
            compared += more.len();
            let mut meets =
                |bug: &Bug| minimize::meet(session, finding, &bug.finding, effort, &mut |_| {});
            if let Some(same) = more.into_iter().find(|bug| meets(bug)) {
                return same;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Sighting;
    use crate::target::engine::EngineTarget;

    /// What a program shows while a clone of a hole is not logged.
    fn shown(setup: &str) -> Finding {
        let text = format!("powerfail 1\ndefect clone-hole-not-logged\nsetup\n{setup}");
        let program = Rc::new(program::strict(&text).expect("it is a program"));
        let shown = Session::<EngineTarget>::of_target().replay(&program);
        shown.expect("it is executable").first().expect("it is found").clone()
    }

    fn one() -> Finding {
        shown("  create f\n  write f 4K 4K\n  clone f 0 to f 4K 4K\n  fsync f\n")
    }

    fn other() -> Finding {
        shown("  create f\n  write f 0 4K\n  write f 8K 4K\n  clone f 4K to f 0 4K\n  fsync f\n")
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
