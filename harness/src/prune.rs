//! Which programs of a corpus folder are worth keeping: a set cover over what each covers.
//!
//! A program covers the sites that its execution came to and the features that a fuzzer is shown
//! ([`crate::fuzzing::feedback`]), executed as the fuzz target `power_cut` executes it. Of programs
//! that cover the same the shortest stays, then the one whose name is first: the answer is a
//! function of the files alone.
//!
//! A smallest cover is too dear to find (the problem is NP-hard); the one here is greedy, which is
//! at most 1 + ln n times as large, where n is the most that one program covers.

use crate::fuzzing::power_cut::PowerCut;
use crate::program::lenient;
use machine::StepKind;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Above these numbers, what is covered is a site, by the hash of its name; below, a feature.
const SITES: u64 = 1 << 32;

/// What one program covers.
#[derive(Clone, Debug, Default)]
pub struct Covered {
    /// Sites and features, by their numbers.
    pub what: BTreeSet<u64>,
    /// The signature of what it shows on the engine without defects.
    pub wrong: Option<String>,
}

/// Executes the bytes of a file as the fuzz target does.
pub fn covered(target: &mut PowerCut, bytes: &[u8]) -> Covered {
    let refused = target.summary().refused.0;
    let mut what = BTreeSet::new();
    let finding = target.judge_with(&lenient(bytes).program, |feature| {
        what.insert(u64::from(feature));
    });
    if target.summary().refused.0 == refused {
        for step in target.session().executor().machine().trace().iter() {
            if let StepKind::Event(event) = step.what {
                what.insert(SITES | u64::from(event.site.hash()));
            }
        }
    }
    Covered { what, wrong: finding.map(|finding| finding.wrong.label()) }
}

/// One program of a folder: its size in bytes, and what it covers.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Bytes of its text.
    pub len_bytes: u64,
    /// What it covers.
    pub covered: Covered,
}

/// The indices of those that stay, in order: together they cover what all cover. A program that
/// shows something wrong stays whatever it covers. Candidates come in the order of their names.
pub fn cover(candidates: &[Candidate]) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    let mut missing: BTreeSet<u64> = BTreeSet::new();
    for (index, candidate) in candidates.iter().enumerate() {
        missing.extend(&candidate.covered.what);
        if candidate.covered.wrong.is_some() {
            kept.insert(index);
        }
    }
    for &index in &kept {
        missing.retain(|what| !candidates[index].covered.what.contains(what));
    }
    while !missing.is_empty() {
        let gain = |index: usize| candidates[index].covered.what.intersection(&missing).count();
        let open = (0..candidates.len()).filter(|index| !kept.contains(index));
        let best = open
            .max_by_key(|&index| (gain(index), Reverse((candidates[index].len_bytes, index))))
            .expect("what is missing is covered by one that is not kept");
        missing.retain(|what| !candidates[best].covered.what.contains(what));
        kept.insert(best);
    }
    without_idle(candidates, kept).into_iter().collect()
}

/// Leaves out, the longest first, those whose every part another covers too: what was the best
/// choice early can be idle in the end.
fn without_idle(candidates: &[Candidate], mut kept: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut by_length: Vec<usize> = kept.iter().copied().collect();
    by_length.sort_by_key(|&index| Reverse((candidates[index].len_bytes, index)));
    for index in by_length {
        let candidate = &candidates[index];
        let others = || kept.iter().filter(|other| **other != index);
        let is_elsewhere =
            |what| others().any(|&other| candidates[other].covered.what.contains(what));
        if candidate.covered.wrong.is_none() && candidate.covered.what.iter().all(is_elsewhere) {
            kept.remove(&index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(of: &[(u64, &[u64])]) -> Vec<Candidate> {
        let candidate = |&(len_bytes, what): &(u64, &[u64])| {
            let covered = Covered { what: what.iter().copied().collect(), wrong: None };
            Candidate { len_bytes, covered }
        };
        of.iter().map(candidate).collect()
    }

    #[test]
    fn everything_stays_covered_by_few() {
        let all = candidates(&[(9, &[1, 2]), (9, &[2, 3]), (9, &[1, 2, 3]), (9, &[4]), (9, &[])]);
        assert_eq!(cover(&all), [2, 3]);
        assert!(cover(&[]).is_empty());
    }

    #[test]
    fn of_equals_the_shortest_stays_and_then_the_first() {
        assert_eq!(cover(&candidates(&[(9, &[1]), (5, &[1]), (5, &[1])])), [1]);
    }

    #[test]
    fn what_the_greedy_choice_made_idle_goes() {
        let greedy: &[(u64, &[u64])] =
            &[(9, &[1, 2, 3, 4]), (9, &[1, 2, 5, 6]), (9, &[3, 4, 7, 8])];
        assert_eq!(cover(&candidates(greedy)), [1, 2]);
    }

    #[test]
    fn what_shows_something_wrong_stays() {
        let mut all = candidates(&[(9, &[1]), (5, &[1])]);
        all[0].covered.wrong = Some("poison".to_string());
        assert_eq!(cover(&all), [0]);
        all[1].covered.wrong = Some("poison".to_string());
        assert_eq!(cover(&all), [0, 1]);
    }

    #[test]
    fn a_program_covers_the_same_each_time_and_nonsense_less() {
        let mut target = PowerCut::new(Vec::new(), None);
        let text = b"powerfail 1\nsetup\n  create f\ntask a\n  write f 0 4K\ntask b\n  fsync f\n";
        let first = covered(&mut target, text);
        let empty = covered(&mut target, b"\xff\n");
        let again = covered(&mut target, text);
        assert!(first.wrong.is_none() && first.what == again.what);
        assert!(first.what.iter().any(|what| *what >= SITES), "{first:?}");
        assert!(first.what.iter().any(|what| *what < SITES), "{first:?}");
        assert!(empty.what.len() < first.what.len());
        target.quiet();
    }
}
