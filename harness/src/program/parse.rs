//! The two parsers of the text: strict for people, lenient for corpora.
//!
//! They are one parser. Strict stops at the first trouble and explains it; lenient repairs what it
//! can, skips what it cannot, counts both, never fails, and always yields an executable program.
//! What may stand on each line is in [`super::parse_lines`].

use std::ops::Range;

use super::error::{Expected, Trouble};
use super::lexer::{Cursor, Word};
use super::options::{Knob, Values};
use super::parse_lines::operation_shape;
use super::{Comment, CutSpec, ParseError, Place, Program, Rest, limits, words};

/// What the lenient parser made of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The program, canonical.
    pub program: Program,
    /// Lines that were left out.
    pub skipped: usize,
    /// Values and words on other lines that were changed or ignored.
    pub repaired: usize,
}

/// Parses the text of a program; everything must be as the reference says.
pub fn strict(text: &str) -> Result<Program, ParseError> {
    let text = text.as_bytes();
    let mut parser = Parser::new(text, false);
    match parser.run().and_then(|()| parser.check_references()) {
        Ok(()) => Ok(parser.finish().program),
        Err(trouble) => Err(trouble.explain(text)),
    }
}

/// Parses any bytes: skips unknown lines, brings numbers within the limits, never fails.
pub fn lenient(text: &[u8]) -> Repaired {
    let mut parser = Parser::new(text, true);
    // In this mode a text without any line is all that fails, and references are mended at the end.
    let troubles = [parser.run(), parser.check_references()];
    parser.repaired += troubles.iter().filter(|trouble| trouble.is_err()).count();
    parser.finish()
}

/// The section that indented lines belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Setup,
    Task(usize),
    After,
    Schedule,
    Cut,
    RecoveryCut,
}

pub(super) struct Parser<'a> {
    text: &'a [u8],
    pub(super) lenient: bool,
    pub(super) program: Program,
    section: Section,
    /// Comments whose line has not come yet.
    pending: Vec<String>,
    /// Whether a line besides the first was read.
    started: bool,
    /// Which of [`words::TOP`] were there.
    seen: u32,
    /// Which of the knobs were there.
    seen_knobs: u32,
    /// References to operations, to be checked when all are known.
    pub(super) references: Vec<(Range<usize>, u64)>,
    skipped: usize,
    pub(super) repaired: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], lenient: bool) -> Self {
        Parser {
            text,
            lenient,
            program: Program::default(),
            section: Section::None,
            pending: Vec::new(),
            started: false,
            seen: 0,
            seen_knobs: 0,
            references: Vec::new(),
            skipped: 0,
            repaired: 0,
        }
    }

    fn finish(mut self) -> Repaired {
        let end = if self.started { Place::End } else { Place::Head };
        self.attach(end, 0);
        self.program.fixup();
        Repaired { program: self.program, skipped: self.skipped, repaired: self.repaired }
    }

    fn run(&mut self) -> Result<(), Trouble> {
        let mut start = 0;
        let mut header = false;
        for line in self.text.split(|&b| b == b'\n') {
            let code = self.comment(line);
            let mut cursor = Cursor { rest: code, start };
            start += line.len() + 1;
            let indented = code.first().is_some_and(u8::is_ascii_whitespace);
            let Some(word) = cursor.next() else { continue };
            if !header {
                header = true;
                match self.header(word, cursor) {
                    Ok(()) => continue,
                    Err(trouble) => self.mend(trouble)?,
                }
            }
            if word.is("end") && !indented {
                break;
            }
            match self.line(word, cursor, indented) {
                Ok((place, item)) => {
                    let place = if self.started { place } else { Place::Head };
                    self.started = true;
                    self.attach(place, item);
                }
                Err(_) if self.lenient => self.skipped += 1,
                Err(trouble) => return Err(trouble),
            }
        }
        if header {
            return Ok(());
        }
        let end = self.text.len();
        Err(Trouble { at: end..end, expected: Expected::Text(HEADER) })
    }

    /// Takes the comment off a line.
    fn comment(&mut self, line: &'a [u8]) -> &'a [u8] {
        let Some(start) = line.iter().position(|&b| b == b'#') else {
            return line;
        };
        let text = line[start + 1..].strip_prefix(b" ").unwrap_or(&line[start + 1..]);
        self.pending.push(String::from_utf8_lossy(text).into_owned());
        &line[..start]
    }

    fn attach(&mut self, place: Place, item: u32) {
        let comments = self.pending.drain(..).map(|text| Comment { place, item, text });
        self.program.comments.extend(comments);
    }

    fn header(&mut self, word: Word<'a>, mut cursor: Cursor<'a>) -> Result<(), Trouble> {
        if !word.is("powerfail") {
            return Err(word.but(Expected::Text(HEADER)));
        }
        let version = cursor.need(Expected::Text(NEWEST))?;
        if words::number(version.text) != Some(u64::from(limits::VERSION)) {
            return Err(version.but(Expected::Text(NEWEST)));
        }
        self.end(&mut cursor, "the end of the line")
    }

    /// Reads one line, and returns which place of the canonical text it has.
    fn line(
        &mut self,
        word: Word<'a>,
        cursor: Cursor<'a>,
        indented: bool,
    ) -> Result<(Place, u32), Trouble> {
        if indented {
            return self.body(word, cursor);
        }
        match words::TOP.iter().position(|top| word.is(top)) {
            Some(index) => self.top(index, cursor, word),
            None if self.lenient => {
                let place = self.body(word, cursor)?;
                self.repaired += 1;
                Ok(place)
            }
            None if operation_shape(word).is_some() => {
                Err(word.but(Expected::Text("a section, or two spaces before an operation")))
            }
            None => Err(word.but(Expected::Word(words::TOP))),
        }
    }

    fn top(
        &mut self,
        index: usize,
        mut cursor: Cursor<'a>,
        word: Word<'a>,
    ) -> Result<(Place, u32), Trouble> {
        let again = self.seen & 1 << index != 0;
        let once = ["setup", "after", "expect", "schedule", "cut", "recovery-cut"];
        if again && once.contains(&words::TOP[index]) {
            self.mend(word.but(Expected::Text("something else: this is there already")))?;
        }
        self.seen |= 1 << index;
        if let Some(group) = words::group(word.text) {
            self.section = Section::None;
            self.knobs(group, cursor)?;
            return Ok((Place::Knobs(group), 0));
        }
        let cursor = &mut cursor;
        let (section, place, item) = match words::TOP[index] {
            "defect" => (Section::None, Place::Defects, self.defect(cursor)?),
            "fault" => (Section::None, Place::Faults, self.fault(cursor)?),
            "setup" => (Section::Setup, Place::Setup, 0),
            "task" => {
                let task = self.task(cursor)?;
                (Section::Task(task), Place::Task(task as u8), 0)
            }
            "after" => (Section::After, Place::After, 0),
            "expect" => {
                self.program.expect = Some(self.expect(cursor)?);
                (Section::None, Place::Expect, 0)
            }
            "schedule" => {
                self.program.schedule.get_or_insert_default();
                (Section::Schedule, Place::Schedule, 0)
            }
            "cut" => {
                self.cut(cursor)?;
                (Section::Cut, Place::Cut, 0)
            }
            "recovery-cut" => {
                self.recovery_cut(word, cursor)?;
                (Section::RecoveryCut, Place::RecoveryCut, 0)
            }
            _ => (Section::None, Place::Choices, self.choices(cursor)?),
        };
        self.section = section;
        self.end(cursor, "the end of the line")?;
        Ok((place, item))
    }

    fn body(&mut self, word: Word<'a>, mut cursor: Cursor<'a>) -> Result<(Place, u32), Trouble> {
        if self.section == Section::None && self.lenient && operation_shape(word).is_some() {
            self.section = Section::Setup;
            self.repaired += 1;
        }
        let cursor = &mut cursor;
        let (place, item) = match self.section {
            Section::None => {
                let expected = "a section such as `setup` or `task a` before indented lines";
                return Err(word.but(Expected::Text(expected)));
            }
            Section::Setup | Section::Task(_) => return self.operation_line(word, cursor),
            Section::After => {
                let line = self.after_line(word, cursor)?;
                self.below(self.program.after.len(), limits::AFTER_LINES_MAX, "checks", word)?;
                self.program.after.push(line);
                (Place::After, self.program.after.len())
            }
            Section::Schedule => {
                let step = self.step(word, cursor)?;
                let count = self.program.schedule.as_ref().map_or(0, |s| s.moves.len());
                self.below(count, limits::MOVES_MAX, "moves", word)?;
                let schedule = self.program.schedule.get_or_insert_default();
                schedule.moves.push(step);
                (Place::Schedule, count + 1)
            }
            Section::Cut | Section::RecoveryCut => {
                let block = self.block(word, cursor)?;
                let inside = self.section == Section::RecoveryCut;
                let cut = self.program.cut.get_or_insert_with(|| CutSpec::at(0));
                let list = if inside { &mut cut.kept_inside } else { &mut cut.kept };
                if list.len() >= limits::KEPT_MAX {
                    return Err(word.but(Expected::AtMost(limits::KEPT_MAX, "blocks")));
                }
                list.push(block);
                let count = list.len();
                (if inside { Place::RecoveryCut } else { Place::Cut }, count)
            }
        };
        self.end(cursor, "the end of the line")?;
        Ok((place, item as u32))
    }

    fn operation_line(
        &mut self,
        word: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<(Place, u32), Trouble> {
        let operation = self.operation(word, cursor)?;
        let total = self.program.setup.len() + self.program.task_operation_count();
        self.below(total, limits::TOTAL_OPS_MAX, "operations in setup and tasks", word)?;
        let (list, max, what, place) = match self.section {
            Section::Task(task) => {
                let ops = &mut self.program.tasks[task].ops;
                (ops, limits::TASK_OPS_MAX, "operations in a task", Place::Task(task as u8))
            }
            _ => {
                let ops = &mut self.program.setup;
                (ops, limits::SETUP_OPS_MAX, "operations in setup", Place::Setup)
            }
        };
        if list.len() >= max {
            return Err(word.but(Expected::AtMost(max, what)));
        }
        list.push(operation);
        Ok((place, list.len() as u32))
    }

    fn knobs(
        &mut self,
        group: super::options::Group,
        mut cursor: Cursor<'a>,
    ) -> Result<(), Trouble> {
        if !self.lenient {
            // A header line without keys says nothing; likely something is missing.
            cursor.clone().need(Expected::Key(group))?;
        }
        for word in &mut cursor {
            match self.knob(group, word) {
                Ok(()) => {}
                Err(trouble) => self.mend(trouble)?,
            }
        }
        Ok(())
    }

    fn knob(&mut self, group: super::options::Group, word: Word<'a>) -> Result<(), Trouble> {
        let wrong = || word.but(Expected::Key(group));
        let (key, value) = word.pair().ok_or_else(wrong)?;
        let (index, knob) = Knob::find(group, key).ok_or_else(wrong)?;
        if self.seen_knobs & 1 << index != 0 {
            return Err(word.but(Expected::Text("each key once")));
        }
        let number = self.knob_value(knob, value)?;
        self.seen_knobs |= 1 << index;
        (knob.set)(&mut self.program, number);
        Ok(())
    }

    fn knob_value(&mut self, knob: &'static Knob, value: Word<'a>) -> Result<u64, Trouble> {
        let wrong = || value.but(Expected::Value(knob));
        if let Some(allowed) = knob.values.parse(value.text) {
            return Ok(allowed);
        }
        let Values::Number { .. } = knob.values else { return Err(wrong()) };
        let number = words::number(value.text).ok_or_else(wrong)?;
        self.mend(wrong())?;
        Ok(knob.values.clamp(number))
    }

    /// Nothing may follow on the line.
    pub(super) fn end(
        &mut self,
        cursor: &mut Cursor<'a>,
        expected: &'static str,
    ) -> Result<(), Trouble> {
        match cursor.next() {
            Some(word) => self.mend(word.but(Expected::Text(expected))),
            None => Ok(()),
        }
    }

    /// Strict stops here; lenient counts, and the caller mends.
    pub(super) fn mend(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if !self.lenient {
            return Err(trouble);
        }
        self.repaired += 1;
        Ok(())
    }

    /// There must be room for one more.
    fn below(
        &self,
        count: usize,
        max: usize,
        what: &'static str,
        word: Word<'a>,
    ) -> Result<(), Trouble> {
        if count < max { Ok(()) } else { Err(word.but(Expected::AtMost(max, what))) }
    }

    fn check_references(&self) -> Result<(), Trouble> {
        let last = self.program.operation_count() as u64;
        match self.references.iter().find(|(_, op)| !(1..=last).contains(op)) {
            Some((at, _)) => Err(Trouble { at: at.clone(), expected: Expected::OpId(last) }),
            None => Ok(()),
        }
    }

    fn cut(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Trouble> {
        let moment = self.key_number(cursor, "after", 0, u64::MAX)?;
        let mut rest = Rest::Lost;
        if let Some(word) = cursor.next() {
            rest = match word.text {
                b"rest=kept" => Rest::Kept,
                b"rest=lost" => Rest::Lost,
                _ => return Err(word.but(Expected::Text("rest=kept or rest=lost"))),
            };
        }
        let cut = self.program.cut.get_or_insert_with(|| CutSpec::at(moment));
        (cut.moment, cut.rest) = (moment, rest);
        Ok(())
    }

    fn recovery_cut(&mut self, word: Word<'a>, cursor: &mut Cursor<'a>) -> Result<(), Trouble> {
        let moment = self.key_number(cursor, "after", 0, u64::MAX)?;
        let cut = self.program.cut.as_mut();
        let cut = cut.ok_or_else(|| word.but(Expected::Text("`cut` before `recovery-cut`")))?;
        cut.inside_recovery = Some(moment);
        Ok(())
    }
}

const HEADER: &str = "`powerfail 1` on the first line";
const NEWEST: &str = "a known version of the text: 1";
