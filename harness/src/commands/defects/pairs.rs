//! How often findings of two defects are taken for one bug, while both defects are on: what
//! [`triage`](crate::triage) costs.
//!
//! Pairs are compared that could be: those that break the same guarantee in the same way. It must
//! never know how findings are compared.

use super::Row;
use crate::finding::Finding;
use crate::jobs;
use crate::minimize::{self, Effort};
use crate::session::Session;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Pairs of findings that both are shown with both defects on.
    compared: usize,
    /// Those that are taken for one bug.
    taken_for_one: Vec<(&'static str, &'static str)>,
}

impl Pairs {
    /// The first finding of each defect with that of each other.
    pub fn of(rows: &[Row], jobs: usize, stop: &AtomicBool) -> Pairs {
        let mut first: Vec<(&'static str, &Finding)> = Vec::new();
        for row in rows {
            let Some(finding) = row.minimized.as_ref().and_then(|it| it.finding.as_ref()) else {
                continue;
            };
            if first.iter().all(|(name, _)| *name != row.name) {
                first.push((row.name, finding));
            }
        }
        let mut pairs = Vec::new();
        for (index, one) in first.iter().enumerate() {
            let alike = |other: &&(&'static str, &Finding)| {
                other.1.wrong.grievance() == one.1.wrong.grievance()
            };
            pairs.extend(first[index + 1..].iter().filter(alike).map(|other| [*one, *other]));
        }
        let answers = jobs::in_order(&pairs, jobs, stop, &|_, pair| are_taken_for_one(pair));
        let mut told = Pairs::default();
        for ([one, other], answer) in pairs.iter().zip(answers) {
            let Some(taken_for_one) = answer.flatten() else { continue };
            told.compared += 1;
            if taken_for_one {
                told.taken_for_one.push((one.0, other.0));
            }
        }
        told
    }
}

/// Whether two findings are taken for one bug while both their defects are on; nothing if that
/// hides one of them.
fn are_taken_for_one(pair: &[(&'static str, &Finding); 2]) -> Option<bool> {
    let mut session = Session::default();
    let mut with_both = |finding: &Finding| {
        let mut program = finding.program.clone();
        program.defects = pair.iter().map(|(name, _)| (*name).to_string()).collect();
        program.fixup();
        let shown = session.replay(&Rc::new(program)).ok()?;
        shown.with_key(&finding.wrong.key()).cloned()
    };
    let (one, other) = (with_both(pair[0].1)?, with_both(pair[1].1)?);
    Some(minimize::meet(&mut session, &one, &other, Effort::default(), &mut |_| {}))
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "of {} pairs of findings of two defects, both on, {} are taken for one bug",
            self.compared,
            self.taken_for_one.len()
        )?;
        self.taken_for_one.iter().try_for_each(|(one, other)| writeln!(f, "  {one}, {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::defects::Minimized;
    use crate::program::strict;

    fn row(name: &'static str, setup: &str) -> Row {
        let text = format!("powerfail 1\ndefect {name}\nsetup\n{setup}");
        let program = Rc::new(strict(&text).expect("it is a program"));
        let shown = Session::default().replay(&program).expect("it is executable");
        let finding = Some(shown.first().expect("it is found").clone());
        Row {
            name,
            minimized: Some(Minimized { finding, ..Minimized::default() }),
            ..Row::default()
        }
    }

    #[test]
    fn the_first_findings_of_two_defects_are_compared() {
        let punch = "  create f\n  write f 0 4K\n  punch f 0 2K\n";
        let rows = [
            row(
                "remap-dst-pagecache-stale",
                "  create f\n  write f 4K 4K\n  clone f 0 to f 4K 4K\n",
            ),
            row("zero-range-partial-stale", punch),
            row("zero-range-partial-stale", punch),
        ];
        let told = Pairs::of(&rows, 1, &AtomicBool::new(false));
        assert_eq!(told, Pairs { compared: 1, taken_for_one: Vec::new() });
    }
}
