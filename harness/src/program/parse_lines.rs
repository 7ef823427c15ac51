//! What may stand on each line of a program: operations, checks, moves, faults, verdicts.

use oracle::operation::{Errno, Fill, MapId, NodeId, OpId, Operation, PathId, Span, Sync};

use super::error::{Expected, Trouble};
use super::fixup::clamp;
use super::lexer::{Cursor, Word};
use super::parse::Parser;
use super::syntax::{Arg, Fields, Kind, SHAPES, Shape, build};
use super::{
    AfterLine, Content, Direction, Expect, FaultSpec, KeptSpec, Move, Task, limits, words,
};

const WITHIN: Expected = Expected::Text("a range that ends within 4M");
const KIND: Expected = Expected::Text("the kind of a violation, such as stale-data");

/// What may follow `node`.
const NODE_WORDS: &[&str] = &["read", "readahead", "modify", "write", "reclaim", "new"];

/// The first row of the table of operations with this word.
pub(super) fn operation_shape(word: Word<'_>) -> Option<(usize, &'static Shape)> {
    SHAPES.iter().enumerate().find(|(_, shape)| word.is(shape.word))
}

impl<'a> Parser<'a> {
    pub(super) fn operation(
        &mut self,
        first: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<Operation, Trouble> {
        let kind = find_kind(first, *cursor).ok_or_else(|| first.but(Expected::Operation))?;
        let shape = kind.shape();
        let mut fields = Fields::EMPTY;
        let mut last = first;
        for arg in shape.args {
            match arg {
                Arg::Path => fields.path = self.path(cursor)?,
                Arg::Target => fields.target = self.path(cursor)?,
                Arg::Map => fields.map = self.map(cursor)?,
                Arg::Offset => fields.offset = self.size(cursor, &mut last)?,
                Arg::Len | Arg::Size => fields.len = self.size(cursor, &mut last)?,
                Arg::Other => fields.other = self.size(cursor, &mut last)?,
                Arg::Node => fields.node = NodeId(self.node(cursor)?),
                Arg::Word(separator) => {
                    let expected = match *separator {
                        "to" => Expected::Word(&["to"]),
                        "from" => Expected::Word(&["from"]),
                        "into" => Expected::Word(&["into"]),
                        _ => Expected::Word(NODE_WORDS),
                    };
                    let word = cursor.need(expected)?;
                    if !word.is(separator) {
                        return Err(word.but(expected));
                    }
                }
                Arg::Fill | Arg::Sync | Arg::Keep => break,
            }
        }
        let asked = fields;
        clamp(kind, &mut fields);
        if asked != fields {
            self.mend(last.but(WITHIN))?;
        }
        self.options(shape, cursor, &mut fields)?;
        Ok(build(kind, &fields))
    }

    fn options(
        &mut self,
        shape: &'static Shape,
        cursor: &mut Cursor<'a>,
        fields: &mut Fields,
    ) -> Result<(), Trouble> {
        let (fill, sync) = (shape.has(Arg::Fill), shape.has(Arg::Sync));
        let expected = Expected::Text(match (fill, sync, shape.has(Arg::Keep)) {
            (true, true, _) => "`fill=0xNN`, `sync` or the end of the line",
            (true, false, _) => "`fill=0xNN` or the end of the line",
            (false, true, _) => "`sync` or the end of the line",
            (_, _, true) => "`keep` or the end of the line",
            _ => "the end of the line",
        });
        for word in cursor {
            match word.text {
                b"sync" if sync && fields.sync == Sync::None => fields.sync = Sync::Data,
                b"keep" if shape.has(Arg::Keep) && !fields.keep => fields.keep = true,
                _ => match word.after("fill=") {
                    Some(value) if fill && fields.fill == Fill::Tag => {
                        fields.fill = Fill::Byte(self.number(value, 0, 255)? as u8);
                    }
                    _ => self.mend(word.but(expected))?,
                },
            }
        }
        Ok(())
    }

    fn node(&mut self, cursor: &mut Cursor<'a>) -> Result<u8, Trouble> {
        const MAX: u64 = limits::NODE_MAX;
        let word = cursor.need(Expected::Number(0, MAX))?;
        Ok(self.number(word, 0, MAX)? as u8)
    }

    fn path(&mut self, cursor: &mut Cursor<'a>) -> Result<PathId, Trouble> {
        const EXPECTED: Expected = Expected::Text("the name of a file");
        let word = cursor.need(EXPECTED)?;
        if !words::is_path_name(word.text) {
            return Err(word.but(EXPECTED));
        }
        let index = self.name(word, true)?;
        Ok(PathId(index))
    }

    fn map(&mut self, cursor: &mut Cursor<'a>) -> Result<MapId, Trouble> {
        const EXPECTED: Expected = Expected::Text("the name of a mapping");
        let word = cursor.need(EXPECTED)?;
        if !words::is_symbol(word.text) {
            return Err(word.but(EXPECTED));
        }
        let index = self.name(word, false)?;
        Ok(MapId(index))
    }

    /// The index of a name in its table. A table that is full stands in with a name that it has.
    fn name(&mut self, word: Word<'a>, path: bool) -> Result<u8, Trouble> {
        let (table, max, what) = if path {
            (&mut self.program.paths, limits::PATHS_MAX, "names of files")
        } else {
            (&mut self.program.maps, limits::MAPS_MAX, "names of mappings")
        };
        if let Some(index) = table.iter().position(|name| word.is(name)) {
            return Ok(index as u8);
        }
        if table.len() < max {
            table.push(word.owned());
            return Ok(table.len() as u8 - 1);
        }
        self.mend(word.but(Expected::AtMost(max, what)))?;
        let sum: usize = word.text.iter().map(|&b| usize::from(b)).sum();
        Ok((sum % max) as u8)
    }

    fn size(&mut self, cursor: &mut Cursor<'a>, last: &mut Word<'a>) -> Result<u64, Trouble> {
        let word = cursor.need(Expected::Size)?;
        let bytes = words::size(word.text).ok_or_else(|| word.but(Expected::Size))?;
        *last = word;
        self.within(bytes, 0, limits::FILE_BYTES_MAX, word.but(Expected::Size))
    }

    pub(super) fn number(&mut self, word: Word<'a>, min: u64, max: u64) -> Result<u64, Trouble> {
        let trouble = word.but(Expected::Number(min, max));
        match words::number(word.text) {
            Some(number) => self.within(number, min, max, trouble),
            None => Err(trouble),
        }
    }

    fn within(&mut self, n: u64, min: u64, max: u64, trouble: Trouble) -> Result<u64, Trouble> {
        if !(min..=max).contains(&n) {
            self.mend(trouble)?;
        }
        Ok(n.clamp(min, max))
    }

    /// A word `key=NUMBER`, which must come next.
    pub(super) fn key_number(
        &mut self,
        cursor: &mut Cursor<'a>,
        key: &'static str,
        min: u64,
        max: u64,
    ) -> Result<u64, Trouble> {
        let expected = Expected::Text(match key {
            "after" => "after=N, the position in the sequence of events",
            "preemptions" => "preemptions=N",
            "sectors" => "sectors=0xNN, one bit for each sector",
            _ => "nth=N",
        });
        let word = cursor.need(expected)?;
        match word.pair() {
            Some((found, value)) if found == key.as_bytes() => self.number(value, min, max),
            _ => Err(word.but(expected)),
        }
    }

    fn symbol(&self, cursor: &mut Cursor<'a>, expected: Expected) -> Result<String, Trouble> {
        let word = cursor.need(expected)?;
        if words::is_symbol(word.text) { Ok(word.owned()) } else { Err(word.but(expected)) }
    }

    pub(super) fn defect(&mut self, cursor: &mut Cursor<'a>) -> Result<u32, Trouble> {
        let expected = Expected::Text("the name of a defect");
        let word = cursor.clone().need(expected)?;
        let name = self.symbol(cursor, expected)?;
        if self.program.defects.contains(&name) {
            return Err(word.but(Expected::Text("each defect once")));
        }
        if self.program.defects.len() >= limits::DEFECTS_MAX {
            return Err(word.but(Expected::AtMost(limits::DEFECTS_MAX, "defects")));
        }
        self.program.defects.push(name);
        Ok(self.program.defects.len() as u32 - 1)
    }

    pub(super) fn fault(&mut self, cursor: &mut Cursor<'a>) -> Result<u32, Trouble> {
        const FORM: Expected = Expected::Text("`errno=EIO`");
        let word = cursor.need(Expected::Word(words::DIRECTIONS))?;
        let direction = match word.text {
            b"write" => Direction::Write,
            b"read" => Direction::Read,
            _ => return Err(word.but(Expected::Word(words::DIRECTIONS))),
        };
        let nth = self.key_number(cursor, "nth", 1, limits::FAULT_NTH_MAX)? as u32;
        let errno = cursor.need(FORM)?;
        if !errno.is("errno=EIO") {
            return Err(errno.but(FORM));
        }
        let mut op = None;
        if let Some(word) = cursor.next() {
            let expected = Expected::Text("`op=N` or the end of the line");
            op = Some(self.reference(word, "op=", expected)?);
        }
        if self.program.faults.len() >= limits::FAULTS_MAX {
            return Err(word.but(Expected::AtMost(limits::FAULTS_MAX, "faults")));
        }
        self.program.faults.push(FaultSpec { direction, nth, errno: Errno::EIO, op });
        Ok(self.program.faults.len() as u32 - 1)
    }

    /// The number of an operation after a key. Whether it exists is checked at the end.
    fn reference(
        &mut self,
        word: Word<'a>,
        key: &str,
        expected: Expected,
    ) -> Result<OpId, Trouble> {
        let value = word.after(key).ok_or_else(|| word.but(expected))?;
        let number = self.number(value, 0, u64::MAX)?;
        self.references.push((value.at(), number));
        Ok(OpId(number.min(u64::from(u16::MAX)) as u16))
    }

    /// Opens the section of a task, which the lenient parser lets a text open again.
    pub(super) fn task(&mut self, cursor: &mut Cursor<'a>) -> Result<usize, Trouble> {
        let expected = Expected::Text("the name of a task");
        let word = cursor.clone().need(expected)?;
        let name = self.symbol(cursor, expected)?;
        let tasks = &mut self.program.tasks;
        if let Some(index) = tasks.iter().position(|task| task.name == name) {
            self.mend(word.but(Expected::Text("a name that no other task has")))?;
            return Ok(index);
        }
        if tasks.len() >= limits::TASKS_MAX {
            return Err(word.but(Expected::AtMost(limits::TASKS_MAX, "tasks")));
        }
        tasks.push(Task { name, ops: Vec::new() });
        Ok(tasks.len() - 1)
    }

    pub(super) fn after_line(
        &mut self,
        word: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<AfterLine, Trouble> {
        match word.text {
            b"exists" => Ok(AfterLine::Exists(self.path(cursor)?)),
            b"absent" => Ok(AfterLine::Absent(self.path(cursor)?)),
            b"size" => {
                let path = self.path(cursor)?;
                Ok(AfterLine::Size { path, size: self.size(cursor, &mut word.clone())? })
            }
            b"content" => self.content(word, cursor),
            _ if operation_shape(word).is_none() => Err(word.but(Expected::AfterLine)),
            _ => Ok(AfterLine::Operation(self.operation(word, cursor)?)),
        }
    }

    fn content(
        &mut self,
        mut last: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<AfterLine, Trouble> {
        const HOLDS: Expected = Expected::Text("`fill=0xNN`, `zero` or `tag=N`");
        let path = self.path(cursor)?;
        let offset = self.size(cursor, &mut last)?;
        let len = self.size(cursor, &mut last)?;
        if offset + len > limits::FILE_BYTES_MAX {
            self.mend(last.but(WITHIN))?;
        }
        let word = cursor.need(HOLDS)?;
        let holds = match word.after("fill=") {
            Some(value) => Content::Byte(self.number(value, 0, 255)? as u8),
            None if word.is("zero") => Content::Zero,
            None => Content::Tag(self.reference(word, "tag=", HOLDS)?),
        };
        Ok(AfterLine::Content { path, span: Span::new(offset, len), holds })
    }

    pub(super) fn expect(&mut self, cursor: &mut Cursor<'a>) -> Result<Expect, Trouble> {
        let word = cursor.need(Expected::Word(words::VERDICTS))?;
        Ok(match word.text {
            b"pass" => Expect::Pass,
            b"violation" => {
                let kind = self.symbol(cursor, KIND)?;
                let mut guarantee = None;
                if let Some(word) = cursor.next() {
                    let expected = Expected::Text("the number of a guarantee, as G-7");
                    let value = word.after("G-").ok_or_else(|| word.but(expected))?;
                    guarantee = Some(self.number(value, 1, limits::GUARANTEE_MAX)? as u16);
                }
                Expect::Violation { kind, guarantee }
            }
            b"reachable" => {
                let kind = self.symbol(cursor, KIND)?;
                Expect::Reachable { kind, preemptions: self.preemptions(cursor)? }
            }
            b"unreachable" => Expect::Unreachable { preemptions: self.preemptions(cursor)? },
            _ => return Err(word.but(Expected::Word(words::VERDICTS))),
        })
    }

    fn preemptions(&mut self, cursor: &mut Cursor<'a>) -> Result<u32, Trouble> {
        Ok(self.key_number(cursor, "preemptions", 0, limits::PREEMPTIONS_MAX)? as u32)
    }

    fn count(&mut self, cursor: &mut Cursor<'a>, min: u64, max: u64) -> Result<u32, Trouble> {
        let word = cursor.need(Expected::Number(min, max))?;
        Ok(self.number(word, min, max)? as u32)
    }

    pub(super) fn step(
        &mut self,
        word: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<Move, Trouble> {
        let max = limits::COUNT_MAX;
        Ok(match word.text {
            b"run" => {
                let who = self.symbol(cursor, Expected::Text("the name of a task or actor"))?;
                Move::Run { who, steps: self.count(cursor, 1, max)? }
            }
            b"complete" => Move::Complete { request: self.count(cursor, 0, max)? },
            b"decide" => {
                let label = self.symbol(cursor, Expected::Text("the label of a decision"))?;
                let n = self.count(cursor, 1, max)?;
                Move::Choose { label, n, chosen: self.count(cursor, 0, u64::from(n) - 1)? }
            }
            _ => return Err(word.but(Expected::Word(words::MOVES))),
        })
    }

    pub(super) fn block(
        &mut self,
        word: Word<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<KeptSpec, Trouble> {
        const BLOCK: Expected = Expected::Text("the number of a block, as 5 or 1:5");
        const VERSION: Expected = Expected::Text("a version, as v2");
        if !words::KEPT.iter().any(|kept| word.is(kept)) {
            return Err(word.but(Expected::Word(words::KEPT)));
        }
        let at = cursor.need(BLOCK)?;
        let colon = at.text.iter().position(|&b| b == b':');
        let (device, block) = match colon {
            Some(middle) => {
                let device = Word { text: &at.text[..middle], start: at.start };
                let start = at.start + middle + 1;
                let block = Word { text: &at.text[middle + 1..], start };
                (self.number(device, 0, limits::DEVICE_MAX)? as u8, block)
            }
            None => (0, at),
        };
        let block = self.number(block, 0, u64::MAX)?;
        let mut spec = KeptSpec { device, block, version: 0, sectors: None };
        if !word.is("lose") {
            let version = cursor.need(VERSION)?;
            let number = version.after("v").ok_or_else(|| version.but(VERSION))?;
            spec.version = self.number(number, 0, limits::COUNT_MAX)? as u32;
        }
        if word.is("tear") {
            spec.sectors = Some(self.key_number(cursor, "sectors", 0, 255)? as u8);
        }
        Ok(spec)
    }

    /// Adds a line of choices; returns which line it is.
    pub(super) fn choices(&mut self, cursor: &mut Cursor<'a>) -> Result<u32, Trouble> {
        const HEX: Expected = Expected::Text("bytes as pairs of hexadecimal digits");
        let word = cursor.need(HEX)?;
        let (pairs, odd) = word.text.as_chunks::<2>();
        let line = self.program.choices.len() / limits::CHOICES_LINE_BYTES;
        if !odd.is_empty() {
            self.mend(word.but(HEX))?;
        }
        if self.program.choices.len() + pairs.len() > limits::CHOICES_BYTES_MAX {
            return Err(word.but(Expected::AtMost(limits::CHOICES_BYTES_MAX, "bytes of choices")));
        }
        for pair in pairs {
            let digit = |b: u8| char::from(b).to_digit(16);
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => self.program.choices.push((high << 4 | low) as u8),
                _ => return Err(word.but(HEX)),
            }
        }
        Ok(line as u32)
    }
}

/// The kind of an operation line. Of several kinds with one first word, one with a separator is
/// meant where its separator stands, and else the first.
fn find_kind(first: Word<'_>, rest: Cursor<'_>) -> Option<Kind> {
    let (_, shape) = operation_shape(first)?;
    let named = SHAPES.iter().filter(|other| other.word == shape.word);
    let stands = |other: &&Shape| {
        let separator = other.separator();
        separator.is_some_and(|(position, separator)| {
            rest.clone().nth(position).is_some_and(|word| word.is(separator))
        })
    };
    Some(named.clone().find(stands).unwrap_or(shape).kind)
}
