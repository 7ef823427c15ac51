//! What was broken, in words: the guarantee, the engine's rules that a message names, and the
//! defects that a program switches on.
//!
//! Promises that guarantees are told as docs/guarantees.md tells them. It must never know an
//! execution.

use super::story::{DefectSaid, Promise, Rule};
use crate::program::Program;
use crate::verdict::Wrong;
use engine::defects::Defect;
use oracle::GuaranteeId;

/// The page that guarantees are quoted from.
const PAGE: &str = include_str!("../../../docs/guarantees.md");

/// Bytes of a guarantee's text that are quoted at most.
const TEXT_MAX: usize = 360;

/// The rules that messages name, and what each demands.
const RULES: &[(&str, &str)] = &[
    ("O-1", "Locks are taken in growing rank, and no order of classes closes a cycle."),
    ("O-2", "Within a class, locks are taken in the order of their instances."),
    ("F-1", "User memory is touched only while nothing is held that a page fault may need."),
    ("W-2", "Nobody waits for an IO while holding what its completion may take."),
    (
        "progress",
        "A round of retries makes progress, or the operation falls back; who waits for a \
      lock is passed a bounded number of times; every execution ends.",
    ),
    (
        "X-1",
        "An extent goes from hole to delalloc to unwritten, in flight, to written; only the \
      completion makes it written, after the device has done it without an error.",
    ),
    ("X-2", "An extent and its ordered extent are published by one step and retired by one step."),
    (
        "X-5",
        "Who reads an extent that is in flight waits for it or reads the page cache, never \
      the new blocks.",
    ),
    (
        "X-6",
        "Blocks with reads in flight are not used again, nor freed blocks before the commit \
      that freed them is durable.",
    ),
    (
        "X-7",
        "A size rises only when the data below it can be read; the size on disk stays below \
      what is in flight.",
    ),
    (
        "X-9",
        "A checksum is that of memory that does not change: pages in writeback are \
      write-protected, and other memory is copied.",
    ),
    ("P-1", "A page enters the cache only under the mapping lock of its index."),
    (
        "P-2",
        "A page becomes dirty only under its lock, with its mapping looked at again, and under \
      the lock that keeps the mapping.",
    ),
    ("P-3", "On its way from dirty to writeback a page is at no instant without either."),
    (
        "P-4",
        "A writable page-table entry means a dirty page; cleaning a page protects its entries \
      first.",
    ),
    ("P-5", "A page is evicted with no entry left that shows it."),
    ("E-4", "Who wins the right to read a buffer looks again whether it was read meanwhile."),
    ("E-5", "Counters of a buffer drop before its state bits clear."),
    ("I1", "The tree's reference to a buffer is one unit of its count."),
    ("I2", "A buffer's count is that of its holders, and one for the tree."),
    ("I3", "A buffer with IO to do is referenced by the tree."),
    ("I4", "A buffer that nobody refers to has no IO to do and is not in the tree."),
    ("I5", "A freed buffer is never looked at."),
    ("EBPRIV", "A page belongs to the buffer that names it, and changes hands under its lock."),
    (
        "ownership",
        "Every block has one owner, or is free, or is held until a commit: who writes, \
      reads or discards it must be entitled to.",
    ),
    ("csum coverage", "Every written extent that a superblock reaches has its checksums."),
    (
        "B-1",
        "A log's superblock is written after everything that it reaches was written, \
      acknowledged and flushed, on every device.",
    ),
    (
        "B-2",
        "A commit's superblock is written after its trees were written and flushed, and is \
      durable before anything that it freed is given away.",
    ),
];

/// The guarantee that is broken.
pub fn promise(number: u16) -> Promise {
    let known = u8::try_from(number).ok().and_then(|id| oracle::guarantee(GuaranteeId(id)));
    let name = format!("G-{number}");
    let Some(known) = known else {
        return Promise { name, title: String::new(), tier: String::new(), text: String::new() };
    };
    let (title, tier) = (known.title.to_string(), known.tier.name().to_string());
    let text = section(&name);
    Promise { name, title, tier, text }
}

/// The first paragraph of a guarantee's section.
fn section(name: &str) -> String {
    let heading = format!("## {name} ");
    let lines = PAGE.lines().skip_while(|line| !line.starts_with(&heading)).skip(1);
    let paragraph = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    let text = paragraph.collect::<Vec<_>>().join(" ");
    // Whole sentences, as many as one likes to read; the page has the rest.
    let ends = text.match_indices(". ").map(|(at, _)| at + 1).chain([text.len()]);
    let end = ends.take_while(|end| *end <= TEXT_MAX).last();
    plain(&text[..end.unwrap_or(text.len())])
}

/// A text without the marks of the page: no code, and of links their words.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, behind)| behind);
    }
    out.push_str(rest);
    out.replace(['`', '['], "")
}

/// The rules of the engine that a finding breaks.
pub fn rules(wrong: &Wrong) -> Vec<Rule> {
    let named = |(name, text): &(&str, &str)| {
        names(wrong, name).then(|| Rule { name: name.to_string(), text: text.to_string() })
    };
    RULES.iter().filter_map(named).collect()
}

/// Whether a finding is about a rule: its key or its message names it, or its kind implies it.
fn names(wrong: &Wrong, rule: &str) -> bool {
    match (wrong.kind.as_str(), rule) {
        ("lock-order", "O-1") => !wrong.message.contains("against the order of its class"),
        ("lock-order", "O-2") => wrong.message.contains("against the order of its class"),
        ("fault-under-lock", "F-1")
        | ("livelock", "progress")
        | ("deadlock" | "self-deadlock", "W-2")
        | ("use-after-free", "I5") => true,
        ("invariant", _) => has_word(&wrong.cause, rule),
        _ => false,
    }
}

/// Whether a name stands in a text by itself.
fn has_word(text: &str, name: &str) -> bool {
    let is_inside = |c: char| c.is_alphanumeric() || c == '-';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_inside);
        let after = text[at + name.len()..].chars().next().is_some_and(is_inside);
        !before && !after
    })
}

/// The defects that a program switches on.
pub fn defects(program: &Program) -> Vec<DefectSaid> {
    let known = program.defects.iter().filter_map(|name| Defect::by_name(name).ok());
    let said = known.map(|defect| {
        let about = defect.description();
        DefectSaid {
            name: about.name.to_string(),
            family: about.family.name().to_string(),
            change: about.change.to_string(),
            breaks: about.breaks.to_string(),
            source: about.source.to_string(),
        }
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guarantee_has_words() {
        for guarantee in oracle::GUARANTEES {
            let promise = promise(u16::from(guarantee.id.0));
            assert!(!promise.text.is_empty(), "{}", promise.name);
        }
    }

    #[test]
    fn a_text_is_told_without_marks() {
        let text = "as `invariant` ([checkers](checkers.md)), G-1";
        assert_eq!(plain(text), "as invariant (checkers), G-1");
    }

    #[test]
    fn a_rule_is_named_by_itself() {
        assert!(has_word("invariant X-1", "X-1"));
        assert!(!has_word("invariant X-1", "I1"));
        assert!(!has_word("invariant I12", "I1"));
    }
}
