//! The fixed words of the text and the rules for names.

use super::limits;
use super::options::Group;

/// The first words of unindented lines.
pub(super) const TOP: &[&str] = &[
    "image",
    "mount",
    "machine",
    "defect",
    "fault",
    "setup",
    "task",
    "after",
    "expect",
    "schedule",
    "cut",
    "recovery-cut",
    "choices",
    "end",
];
/// The checks of `after`.
pub(super) const CHECKS: &[&str] = &["exists", "absent", "size", "content"];
/// The verdicts of `expect`.
pub(super) const VERDICTS: &[&str] = &["pass", "violation", "reachable", "unreachable"];
/// The moves of `schedule`.
pub(super) const MOVES: &[&str] = &["run", "complete", "decide"];
/// The lines of `cut`.
pub(super) const KEPT: &[&str] = &["keep", "tear", "lose"];
/// The directions of `fault`.
pub(super) const DIRECTIONS: &[&str] = &["write", "read"];

/// Default names of files, in order.
pub(super) const PATHS: [&str; limits::PATHS_MAX] = ["f", "g", "h", "k"];
/// Default names of mappings.
pub(super) const MAPS: [&str; limits::MAPS_MAX] = ["m", "n", "o"];
/// Default names of tasks.
pub(super) const TASKS: [&str; limits::TASKS_MAX] = ["a", "b", "c", "d"];

/// Names, the first to be given first.
type Names = &'static [&'static str];

/// The default names of files, of mappings and of tasks.
pub fn default_names() -> (Names, Names, Names) {
    (&PATHS, &MAPS, &TASKS)
}

/// Whether a word may name a file: letters, digits, `_`, `-` and `.`, but not `.` or `..`.
pub(super) fn is_path_name(word: &[u8]) -> bool {
    is_symbol(word) && word != b"." && word != b".."
}

/// Whether a word may name a mapping, task, actor, label, defect or kind: letters, digits, `_`, `-`
/// and `.`. Nothing that would start a comment or a key.
pub(super) fn is_symbol(word: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !word.is_empty() && word.len() <= limits::NAME_BYTES_MAX && word.iter().all(letter)
}

/// The group whose header line starts with this word.
pub(super) fn group(word: &[u8]) -> Option<Group> {
    Group::ALL.into_iter().find(|group| group.word().as_bytes() == word)
}

/// A size in bytes: decimal, with `K` or `M` after it for multiples of 1024 or 1024².
pub(super) fn size(word: &[u8]) -> Option<u64> {
    let (digits, unit) = match word.split_last()? {
        (b'K', digits) => (digits, 1 << 10),
        (b'M', digits) => (digits, 1 << 20),
        _ => (word, 1),
    };
    decimal(digits).map(|number| number.saturating_mul(unit))
}

/// A number, decimal or hexadecimal with `0x`. Too large ones saturate.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    let Some(digits) = word.strip_prefix(b"0x") else {
        return decimal(word);
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &b| {
        let digit = u64::from(char::from(b).to_digit(16)?);
        Some(value.checked_mul(16).map_or(u64::MAX, |value| value | digit))
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let grow = |value: u64, b: &u8| value.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    Some(digits.iter().fold(0, grow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::options::{KNOBS, Values};
    use crate::program::syntax::SHAPES;
    use std::collections::BTreeSet;

    /// The dictionary that byte mutation takes words from: all words of the text, one a line.
    #[test]
    fn the_dictionary_of_fuzzers_has_the_words_of_the_text() {
        let lists = [TOP, CHECKS, VERDICTS, MOVES, KEPT, DIRECTIONS];
        let mut words: BTreeSet<String> =
            lists.concat().iter().map(|word| (*word).to_string()).collect();
        for shape in SHAPES {
            words.insert(shape.word.to_string());
            words.extend(shape.separator().map(|(_, word)| word.to_string()));
        }
        words.extend(["fill=0x", "sync", "keep", "powerfail 1"].map(str::to_string));
        for knob in KNOBS {
            match knob.values {
                Values::Word(values) => {
                    words.extend(values.iter().map(|value| format!("{}={value}", knob.key)));
                }
                _ => {
                    words.insert(format!("{}=", knob.key));
                }
            }
        }
        let lines: Vec<String> = words.iter().map(|word| format!("\"{word}\"\n")).collect();
        let committed = include_str!("../../../fuzz/options/program.dict");
        assert!(
            committed == lines.concat(),
            "fuzz/options/program.dict should be\n{}",
            lines.concat()
        );
    }
}
