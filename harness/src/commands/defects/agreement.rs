//! How well signatures do: whether the same finding has the same one whatever it began as, or is
//! taken for the same bug, and whether those of different defects differ.
//!
//! The same finding is one of the same defect that breaks the same guarantee in the same way
//! ([`Wrong::key`](crate::verdict::Wrong::key)). It must never know how a signature is made.

use super::{Minimized, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the findings of several seeds say of signatures.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Findings that came from more than one seed.
    seen_again: usize,
    /// Of these, those with one signature.
    agreed: usize,
    /// Those that are taken for one bug.
    joined: usize,
    /// Those that are not: the defect, and a signature of each bug.
    split: BTreeMap<&'static str, BTreeSet<String>>,
    /// Signatures, and the defects that each was seen of.
    signatures: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Agreement {
    /// Of the findings that were minimized.
    pub fn of(rows: &[Row]) -> Agreement {
        let mut agreement = Agreement::default();
        let mut findings: BTreeMap<_, Vec<&Minimized>> = BTreeMap::new();
        for row in rows {
            let Some(minimized) = &row.minimized else { continue };
            findings.entry((row.name, &minimized.key)).or_default().push(minimized);
            let defects = agreement.signatures.entry(minimized.signature.clone()).or_default();
            defects.insert(row.name);
        }
        for ((name, _), findings) in findings.into_iter().filter(|(_, all)| all.len() > 1) {
            let all = |of: fn(&Minimized) -> &String| -> BTreeSet<String> {
                findings.iter().map(|it| of(it).clone()).collect()
            };
            let (signatures, bugs) = (all(|it| &it.signature), all(|it| &it.bug));
            agreement.seen_again += 1;
            agreement.agreed += usize::from(signatures.len() == 1);
            agreement.joined += usize::from(bugs.len() == 1);
            if bugs.len() > 1 {
                agreement.split.entry(name).or_default().extend(bugs);
            }
        }
        agreement
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.signatures.iter().filter(|(_, defects)| defects.len() > 1);
        writeln!(
            f,
            "{} signatures, {} of more than one defect; of {} findings that came from several \
             seeds, {} have one signature, and {} are one bug where they come together",
            self.signatures.len(),
            shared.clone().count(),
            self.seen_again,
            self.agreed,
            self.joined,
        )?;
        for (signature, defects) in shared {
            let defects: Vec<&str> = defects.iter().copied().collect();
            writeln!(f, "shared by {}:\n  {signature}", defects.join(", "))?;
        }
        for (name, signatures) in &self.split {
            writeln!(f, "several of {name}:")?;
            for signature in signatures {
                writeln!(f, "  {signature}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, key: &str, signature: &str, bug: &str) -> Row {
        let [key, signature, bug] = [key, signature, bug].map(str::to_string);
        Row {
            name,
            minimized: Some(Minimized { key, signature, bug, ..Minimized::default() }),
            ..Row::default()
        }
    }

    #[test]
    fn what_differs_is_told() {
        let rows = [
            row("a", "lost-data", "x", "x"),
            row("a", "lost-data", "x", "x"),
            row("a", "stale-data", "z", "z"),
            row("b", "lost-data", "x", "x"),
            row("b", "lost-data", "y", "y"),
            row("c", "lost-data", "v", "v"),
            row("c", "lost-data", "w", "v"),
        ];
        let told = Agreement::of(&rows).to_string();
        let expected = "5 signatures, 1 of more than one defect; of 3 findings that came from \
                        several seeds, 1 have one signature, and 2 are one bug where they come \
                        together\nshared by a, b:\n  x\nseveral of b:\n  x\n  y\n";
        assert_eq!(told, expected);
    }
}
