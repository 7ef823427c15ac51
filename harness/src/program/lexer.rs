//! Words of a line with their places, so that every mistake can be pointed at.

use std::ops::Range;

use super::error::{Expected, Trouble};

/// A word of a line, and where it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub(super) text: &'a [u8],
    pub(super) start: usize,
}

impl<'a> Word<'a> {
    pub(super) fn at(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    pub(super) fn is(&self, word: &str) -> bool {
        self.text == word.as_bytes()
    }

    pub(super) fn but(&self, expected: Expected) -> Trouble {
        Trouble { at: self.at(), expected }
    }

    /// The parts of `key=value`.
    pub(super) fn pair(&self) -> Option<(&'a [u8], Word<'a>)> {
        let middle = self.text.iter().position(|&b| b == b'=')?;
        let value = Word { text: &self.text[middle + 1..], start: self.start + middle + 1 };
        Some((&self.text[..middle], value))
    }

    /// What follows a prefix.
    pub(super) fn after(&self, prefix: &str) -> Option<Word<'a>> {
        let text = self.text.strip_prefix(prefix.as_bytes())?;
        Some(Word { text, start: self.start + prefix.len() })
    }

    pub(super) fn owned(&self) -> String {
        String::from_utf8_lossy(self.text).into_owned()
    }
}

/// The words of one line that are not read yet.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
    pub(super) start: usize,
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let space = self.rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let rest = &self.rest[space..];
        let len = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
        let word = Word { text: &rest[..len], start: self.start + space };
        (self.rest, self.start) = (&rest[len..], self.start + space + len);
        (len > 0).then_some(word)
    }
}

impl<'a> Cursor<'a> {
    /// The next word, which must be there.
    pub(super) fn need(&mut self, expected: Expected) -> Result<Word<'a>, Trouble> {
        let end = self.start + self.rest.trim_ascii_end().len();
        self.next().ok_or(Trouble { at: end..end, expected })
    }
}
