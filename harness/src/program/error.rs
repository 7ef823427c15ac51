//! Errors of the strict parser, and the nearest word for a misspelled one.

use std::fmt;
use std::ops::Range;

use super::options::{KNOBS, Knob};
use super::syntax::SHAPES;
use super::words;

/// What is wrong with the text of a program. The message completes "failed to parse the program".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The bytes of the text that are wrong; empty where something is missing.
    pub span: Range<usize>,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// A word that may be meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseError { line, column, found, expected, .. } = self;
        write!(f, "line {line}, column {column}: found {found}, expected {expected}")?;
        match &self.suggestion {
            Some(word) => write!(f, "; did you mean `{word}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// What should have stood at a place. Cheap to make: the lenient parser makes many and drops them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// Described in words.
    Text(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// The first word of an operation.
    Operation,
    /// The first word of a line in `after`.
    AfterLine,
    /// A knob of the group, as `key=value`.
    Key(super::options::Group),
    /// A value of this knob.
    Value(&'static Knob),
    /// A number within bounds.
    Number(u64, u64),
    /// A size in bytes up to the limit.
    Size,
    /// No more than this many of these.
    AtMost(usize, &'static str),
    /// The number of an operation of this program.
    OpId(u64),
}

/// A place where the text is wrong, before it becomes a message.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) at: Range<usize>,
    pub(super) expected: Expected,
}

impl Trouble {
    /// Turns it into words. `text` is what the range is in.
    pub(super) fn explain(self, text: &[u8]) -> ParseError {
        let before = &text[..self.at.start];
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |index| index + 1);
        let found = String::from_utf8_lossy(&text[self.at.clone()]).into_owned();
        let suggestion = self.expected.suggest(&found);
        let found = match found.as_str() {
            _ if self.at.start >= text.len() => "the end of the text".into(),
            "" => "the end of the line".into(),
            found => format!("`{found}`"),
        };
        ParseError {
            line: before.iter().filter(|&&b| b == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
            span: self.at,
            found,
            expected: self.expected.describe(),
            suggestion,
        }
    }
}

impl Expected {
    fn describe(self) -> String {
        match self {
            Expected::Text(text) => text.into(),
            Expected::Word(words) => one_of(words.iter().copied()),
            Expected::Operation => "an operation".into(),
            Expected::AfterLine => "an operation or a check".into(),
            Expected::Key(group) => {
                let keys = KNOBS.iter().filter(|knob| knob.group == group).map(|knob| knob.key);
                format!("key=value with the key {}", one_of(keys))
            }
            Expected::Value(knob) => format!("{} for {}", knob.values.describe(), knob.key),
            Expected::Number(min, u64::MAX) => format!("a number from {min}"),
            Expected::Number(min, max) => format!("a number from {min} to {max}"),
            Expected::Size => "a size of at most 4M, such as 0, 512, 4K or 1M".into(),
            Expected::AtMost(count, what) => format!("at most {count} {what}"),
            Expected::OpId(0) => "no number: the program has no operations".into(),
            Expected::OpId(last) => format!("the number of an operation, from 1 to {last}"),
        }
    }

    fn suggest(self, found: &str) -> Option<String> {
        let operations = || SHAPES.iter().map(|shape| shape.word);
        match self {
            Expected::Word(candidates) => nearest(found, candidates.iter().copied()),
            Expected::Operation => nearest(found, operations()),
            Expected::AfterLine => {
                nearest(found, operations().chain(words::CHECKS.iter().copied()))
            }
            Expected::Key(group) => {
                let key = found.split('=').next().unwrap_or(found);
                let keys = KNOBS.iter().filter(|knob| knob.group == group).map(|knob| knob.key);
                nearest(key, keys)
            }
            Expected::Value(knob) => match knob.values {
                super::options::Values::Word(words) => nearest(found, words.iter().copied()),
                super::options::Values::Switch => nearest(found, ["off", "on"]),
                super::options::Values::Number { .. } => None,
            },
            _ => None,
        }
        .map(str::to_owned)
    }
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.split_last() {
        Some((last, [])) => format!("`{last}`"),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".into(),
    }
}

/// The candidate that a misspelled word most likely means: at most a third of its letters differ.
/// Of equally near ones the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.len().clamp(3, 12) / 3).max(1);
    let scored = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    scored
        .filter(|&(cost, candidate)| 0 < cost && cost <= allowed && cost < candidate.len())
        .min_by_key(|&(cost, _)| cost)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 4 {
        return usize::MAX;
    }
    let mut rows = [(0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1], vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows.rotate_right(1);
        let [row, above, before] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
    }
    rows[0][b.len()]
}
