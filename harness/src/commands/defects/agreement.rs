//! How well signatures do: whether the same finding has the same one whatever it began as, and
//! whether those of different defects differ.
//!
//! The same finding is one of the same defect that breaks the same guarantee in the same way
//! ([`Wrong::key`](crate::verdict::Wrong::key)). It must never know how a signature is made.

use super::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the findings of several seeds say of signatures.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Findings that came from more than one seed.
    seen_again: usize,
    /// Of these, those with one signature.
    agreed: usize,
    /// Those with several: the defect, and its signatures.
    split: BTreeMap<&'static str, BTreeSet<String>>,
    /// Signatures, and the defects that each was seen of.
    signatures: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Agreement {
    /// Of the findings that were minimized.
    pub fn of(rows: &[Row]) -> Agreement {
        let mut agreement = Agreement::default();
        let mut findings: BTreeMap<_, Vec<&String>> = BTreeMap::new();
        for row in rows {
            let Some(minimized) = &row.minimized else { continue };
            let signature = &minimized.signature;
            findings.entry((row.name, &minimized.key)).or_default().push(signature);
            let defects = agreement.signatures.entry(signature.clone()).or_default();
            defects.insert(row.name);
        }
        for ((name, _), signatures) in findings {
            agreement.seen_again += usize::from(signatures.len() > 1);
            let different: BTreeSet<String> = signatures.iter().copied().cloned().collect();
            match (signatures.len(), different.len()) {
                (1, _) => {}
                (_, 1) => agreement.agreed += 1,
                _ => agreement.split.entry(name).or_default().extend(different),
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
             seeds, {} have one signature",
            self.signatures.len(),
            shared.clone().count(),
            self.seen_again,
            self.agreed,
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
    use crate::commands::defects::Minimized;

    fn row(name: &'static str, key: &str, signature: &str) -> Row {
        let (key, signature) = (key.to_string(), signature.to_string());
        Row {
            name,
            minimized: Some(Minimized { key, signature, ..Minimized::default() }),
            ..Row::default()
        }
    }

    #[test]
    fn what_differs_is_told() {
        let rows = [
            row("a", "lost-data", "x"),
            row("a", "lost-data", "x"),
            row("a", "stale-data", "z"),
            row("b", "lost-data", "x"),
            row("b", "lost-data", "y"),
        ];
        let told = Agreement::of(&rows).to_string();
        let expected = "3 signatures, 1 of more than one defect; of 2 findings that came from \
                        several seeds, 1 have one signature\n\
                        shared by a, b:\n  x\n\
                        several of b:\n  x\n  y\n";
        assert_eq!(told, expected);
    }
}
