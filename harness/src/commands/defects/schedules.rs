//! Whether a finding is the same bug by whichever schedule its program showed it first: it is
//! minimized from several, and each of them begins elsewhere.
//!
//! It must never know how findings are minimized, or compared.

use super::Row;
use crate::campaign;
use crate::cuts::Plan;
use crate::explore;
use crate::finding::Finding;
use crate::minimize::Effort;
use crate::session::Session;
use crate::triage::Known;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

/// Schedules tried of one seed for one that shows the finding.
const TRIES: u64 = 60;

/// The first of them: far from those with which minimizing begins, or all would begin alike.
const FIRST: u64 = 1_000_000;

/// What other schedules led to.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Seeds of which a schedule showed the finding.
    schedules: usize,
    /// Signatures after minimizing.
    signatures: usize,
    /// Bugs that these are where they come together.
    bugs: usize,
}

impl Again {
    /// Minimizes what a finding's program shows with schedules of `seeds` other seeds, if it breaks
    /// the same guarantee in the same way.
    pub fn of(session: &mut Session, finding: &Finding, seeds: u64) -> Again {
        let (known, mut again) = (Known::default(), Again::default());
        let (mut signatures, mut bugs) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..seeds {
            let Some(shown) = shown_by(session, finding, seed) else { continue };
            let smallest = campaign::smallest(session, shown);
            bugs.insert(known.place(session, &smallest, Effort::default()).signature);
            signatures.insert(smallest.signature());
            again.schedules += 1;
        }
        Again { signatures: signatures.len(), bugs: bugs.len(), ..again }
    }
}

/// The finding, by the first random schedule of a seed that shows it.
fn shown_by(session: &mut Session, finding: &Finding, seed: u64) -> Option<Finding> {
    let key = finding.wrong.key();
    session.look_for(Some(&key));
    let shown = (0..TRIES).find_map(|attempt| {
        let program = explore::with_dice(&finding.program, FIRST + seed * TRIES + attempt);
        let shown = session.run(&Rc::new(program), &Plan::campaign(), seed).ok()?;
        shown.with_key(&key).cloned()
    });
    session.look_for(None);
    shown
}

/// What became of all findings that more than one schedule shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Schedules {
    seen_again: usize,
    agreed: usize,
    joined: usize,
    split: Vec<(&'static str, u64, Again)>,
}

impl Schedules {
    /// Of the findings that were minimized.
    pub fn of(rows: &[Row]) -> Schedules {
        let mut told = Schedules::default();
        for row in rows {
            let again = row.minimized.as_ref().and_then(|it| it.again);
            let Some(again) = again.filter(|again| again.schedules > 1) else { continue };
            told.seen_again += 1;
            told.agreed += usize::from(again.signatures == 1);
            told.joined += usize::from(again.bugs == 1);
            if again.bugs > 1 {
                told.split.push((row.name, row.seed, again));
            }
        }
        told
    }
}

impl fmt::Display for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "of {} findings that several schedules of one program show, {} have one signature, and \
             {} are one bug",
            self.seen_again, self.agreed, self.joined
        )?;
        self.split.iter().try_for_each(|(name, seed, again)| {
            writeln!(f, "  {} of {name}, seed {seed}", again.bugs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::defects::Minimized;
    use crate::commands::defects::tests::finding_of_corpus;

    #[test]
    fn schedules_of_one_program_lead_to_one_bug() {
        let again = Again::of(&mut Session::default(), &finding_of_corpus(), 3);
        assert_eq!(again, Again { schedules: 3, signatures: 1, bugs: 1 });
    }

    #[test]
    fn what_differs_is_told() {
        let row = |schedules, signatures, bugs| Row {
            name: "a",
            minimized: Some(Minimized {
                again: Some(Again { schedules, signatures, bugs }),
                ..Minimized::default()
            }),
            ..Row::default()
        };
        let told = Schedules::of(&[row(3, 1, 1), row(3, 2, 1), row(3, 3, 2), row(1, 1, 1)]);
        let expected = "of 3 findings that several schedules of one program show, 1 have one \
                        signature, and 2 are one bug\n  2 of a, seed 0\n";
        assert_eq!(told.to_string(), expected);
    }
}
