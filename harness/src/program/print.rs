//! The canonical text of a program.
//!
//! Only what differs from its default is printed, in a fixed order, so that equal programs have
//! equal texts. A canonical program ([`Program::fixup`]) comes back unchanged from the parser.

use std::fmt;

use oracle::operation::{Fill, MapId, OpId, Operation, PathId, Span, Sync};

use super::options::{Group, KNOBS, Values};
use super::syntax::{Arg, split};
use super::{
    AfterLine, Content, Direction, Expect, KeptSpec, Move, Place, Program, Rest, limits, words,
};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(1024);
        self.print_into(&mut out);
        f.write_str(&out)
    }
}

impl Program {
    /// Appends the canonical text.
    pub fn print_into(&self, out: &mut String) {
        let mut printer = Printer { out, program: self, comments: 0 };
        printer.head();
        printer.body();
        printer.replay();
        printer.comments_up_to(Place::End, u32::MAX);
    }

    /// Appends one operation as the text writes it, without indentation or end of line.
    pub fn print_operation(&self, operation: &Operation, out: &mut String) {
        Printer { out, program: self, comments: self.comments.len() }.operation(operation);
    }

    /// One operation as the text writes it.
    pub fn operation_text(&self, operation: &Operation) -> String {
        let mut out = String::new();
        self.print_operation(operation, &mut out);
        out
    }

    /// The name of a file; a default one if the table has no such index.
    pub fn path_name(&self, path: PathId) -> &str {
        let index = path.0 as usize;
        self.paths.get(index).map_or(words::PATHS[index % limits::PATHS_MAX], String::as_str)
    }

    /// The name of a mapping; a default one if the table has no such index.
    pub fn map_name(&self, map: MapId) -> &str {
        let index = map.0 as usize;
        self.maps.get(index).map_or(words::MAPS[index % limits::MAPS_MAX], String::as_str)
    }
}

struct Printer<'a> {
    out: &'a mut String,
    program: &'a Program,
    /// How many comments are printed.
    comments: usize,
}

impl Printer<'_> {
    fn head(&mut self) {
        self.word("powerfail ");
        self.decimal(u64::from(self.program.version));
        self.end_line();
        for group in Group::ALL {
            self.knobs(group);
        }
        for (index, defect) in self.program.defects.iter().enumerate() {
            self.at(Place::Defects, index);
            self.word("defect ");
            self.word(defect);
            self.end_line();
        }
        for (index, fault) in self.program.faults.iter().enumerate() {
            self.at(Place::Faults, index);
            self.word(match fault.direction {
                Direction::Write => "fault write nth=",
                Direction::Read => "fault read nth=",
            });
            self.decimal(u64::from(fault.nth));
            self.word(&format!(" errno={:?}", fault.errno));
            if let Some(OpId(op)) = fault.op {
                self.key(" op=", u64::from(op));
            }
            self.end_line();
        }
    }

    fn knobs(&mut self, group: Group) {
        let mut open = false;
        for knob in KNOBS.iter().filter(|knob| knob.group == group) {
            let value = (knob.get)(self.program);
            if value == knob.default {
                continue;
            }
            if !open {
                self.at(Place::Knobs(group), 0);
                self.word(group.word());
                open = true;
            }
            self.word(" ");
            self.word(knob.key);
            self.word("=");
            match knob.values {
                Values::Number { .. } => self.decimal(value),
                _ => self.word(&knob.text(value)),
            }
        }
        if open {
            self.end_line();
        }
    }

    fn body(&mut self) {
        if !self.program.setup.is_empty() {
            self.at(Place::Setup, 0);
            self.word("setup\n");
            self.operations(Place::Setup, &self.program.setup);
        }
        for (index, task) in self.program.tasks.iter().enumerate() {
            let place = Place::Task(index as u8);
            self.at(place, 0);
            self.word("task ");
            self.word(&task.name);
            self.end_line();
            self.operations(place, &task.ops);
        }
        if !self.program.after.is_empty() {
            self.at(Place::After, 0);
            self.word("after\n");
        }
        for (index, line) in self.program.after.iter().enumerate() {
            self.item(Place::After, index);
            self.after_line(line);
            self.end_line();
        }
        if let Some(expect) = &self.program.expect {
            self.at(Place::Expect, 0);
            self.expect(expect);
        }
    }

    fn operations(&mut self, place: Place, operations: &[Operation]) {
        for (index, operation) in operations.iter().enumerate() {
            self.item(place, index);
            self.operation(operation);
            self.end_line();
        }
    }

    fn operation(&mut self, operation: &Operation) {
        let program = self.program;
        let (kind, fields) = split(operation);
        let shape = kind.shape();
        self.word(shape.word);
        for arg in shape.args {
            match arg {
                Arg::Path => self.spaced(program.path_name(fields.path)),
                Arg::Target => self.spaced(program.path_name(fields.target)),
                Arg::Map => self.spaced(program.map_name(fields.map)),
                Arg::Offset => self.size(fields.offset),
                Arg::Len | Arg::Size => self.size(fields.len),
                Arg::Other => self.size(fields.other),
                Arg::Node => self.key(" ", u64::from(fields.node.0)),
                Arg::Word(word) => self.spaced(word),
                Arg::Fill => match fields.fill {
                    Fill::Tag => {}
                    Fill::Byte(byte) => self.fill(byte),
                },
                Arg::Sync => match fields.sync {
                    Sync::None => {}
                    Sync::Data => self.spaced("sync"),
                },
                Arg::Keep if fields.keep => self.spaced("keep"),
                Arg::Keep => {}
            }
        }
    }

    fn after_line(&mut self, line: &AfterLine) {
        let program = self.program;
        let mut check = |word: &str, path: PathId| {
            self.word(word);
            self.spaced(program.path_name(path));
        };
        match *line {
            AfterLine::Operation(ref operation) => self.operation(operation),
            AfterLine::Exists(path) => check("exists", path),
            AfterLine::Absent(path) => check("absent", path),
            AfterLine::Size { path, size } => {
                check("size", path);
                self.size(size);
            }
            AfterLine::Content { path, span: Span { offset, len }, holds } => {
                check("content", path);
                self.size(offset);
                self.size(len);
                match holds {
                    Content::Byte(byte) => self.fill(byte),
                    Content::Zero => self.spaced("zero"),
                    Content::Tag(OpId(op)) => self.key(" tag=", u64::from(op)),
                }
            }
        }
    }

    fn expect(&mut self, expect: &Expect) {
        self.word("expect ");
        match expect {
            Expect::Pass => self.word("pass"),
            Expect::Violation { kind, guarantee } => {
                self.word("violation");
                self.spaced(kind);
                if let Some(number) = guarantee {
                    self.key(" G-", u64::from(*number));
                }
            }
            Expect::Reachable { kind, preemptions } => {
                self.word("reachable");
                self.spaced(kind);
                self.key(" preemptions=", u64::from(*preemptions));
            }
            Expect::Unreachable { preemptions } => {
                self.key("unreachable preemptions=", u64::from(*preemptions));
            }
        }
        self.end_line();
    }

    fn replay(&mut self) {
        if let Some(schedule) = &self.program.schedule {
            self.at(Place::Schedule, 0);
            self.word("schedule\n");
            for (index, step) in schedule.moves.iter().enumerate() {
                self.item(Place::Schedule, index);
                self.step(step);
            }
        }
        if let Some(cut) = &self.program.cut {
            self.at(Place::Cut, 0);
            self.key("cut after=", cut.moment);
            self.word(if cut.rest == Rest::Kept { " rest=kept\n" } else { "\n" });
            self.blocks(Place::Cut, &cut.kept);
            if let Some(moment) = cut.inside_recovery {
                self.at(Place::RecoveryCut, 0);
                self.key("recovery-cut after=", moment);
                self.end_line();
                self.blocks(Place::RecoveryCut, &cut.kept_inside);
            }
        }
        let lines = self.program.choices.chunks(limits::CHOICES_LINE_BYTES);
        for (index, bytes) in lines.enumerate() {
            self.at(Place::Choices, index);
            self.word("choices ");
            bytes.iter().for_each(|&byte| self.hex(byte));
            self.end_line();
        }
    }

    fn step(&mut self, step: &Move) {
        match step {
            Move::Run { who, steps } => {
                self.word("run");
                self.spaced(who);
                self.key(" ", u64::from(*steps));
            }
            Move::Complete { request } => self.key("complete ", u64::from(*request)),
            Move::Choose { label, n, chosen } => {
                self.word("decide");
                self.spaced(label);
                self.key(" ", u64::from(*n));
                self.key(" ", u64::from(*chosen));
            }
        }
        self.end_line();
    }

    fn blocks(&mut self, place: Place, kept: &[KeptSpec]) {
        for (index, block) in kept.iter().enumerate() {
            self.item(place, index);
            self.word(match block {
                KeptSpec { sectors: Some(_), .. } => "tear ",
                KeptSpec { version: 0, .. } => "lose ",
                _ => "keep ",
            });
            if block.device != 0 {
                self.decimal(u64::from(block.device));
                self.word(":");
            }
            self.decimal(block.block);
            if block.version != 0 || block.sectors.is_some() {
                self.key(" v", u64::from(block.version));
            }
            if let Some(mask) = block.sectors {
                self.word(" sectors=0x");
                self.hex(mask);
            }
            self.end_line();
        }
    }

    /// Prints the comments that stand before an unindented line.
    fn at(&mut self, place: Place, item: usize) {
        self.comments_up_to(place, item as u32);
    }

    /// Prints the comments that stand before an indented line, and its indentation.
    fn item(&mut self, place: Place, index: usize) {
        self.comments_up_to(place, index as u32 + 1);
        self.word("  ");
    }

    fn comments_up_to(&mut self, place: Place, item: u32) {
        while let Some(comment) = self.program.comments.get(self.comments) {
            if (comment.place, comment.item) > (place, item) {
                break;
            }
            self.comments += 1;
            let indented = comment.item > 0
                && !matches!(comment.place, Place::Defects | Place::Faults | Place::Choices);
            self.word(if indented { "  #" } else { "#" });
            if !comment.text.is_empty() {
                self.spaced(&comment.text);
            }
            self.end_line();
        }
    }

    fn word(&mut self, word: &str) {
        self.out.push_str(word);
    }

    fn spaced(&mut self, word: &str) {
        self.out.push(' ');
        self.out.push_str(word);
    }

    fn end_line(&mut self) {
        self.out.push('\n');
    }

    fn key(&mut self, key: &str, value: u64) {
        self.word(key);
        self.decimal(value);
    }

    fn fill(&mut self, byte: u8) {
        self.word(" fill=0x");
        self.hex(byte);
    }

    fn hex(&mut self, byte: u8) {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        self.out.push(DIGITS[usize::from(byte >> 4)]);
        self.out.push(DIGITS[usize::from(byte & 15)]);
    }

    /// A size with its largest exact unit.
    fn size(&mut self, bytes: u64) {
        self.word(" ");
        match bytes {
            1.. if bytes.is_multiple_of(1 << 20) => {
                self.decimal(bytes >> 20);
                self.word("M");
            }
            1.. if bytes.is_multiple_of(1 << 10) => {
                self.decimal(bytes >> 10);
                self.word("K");
            }
            _ => self.decimal(bytes),
        }
    }

    /// Without `fmt`: numbers are most of what a text holds.
    fn decimal(&mut self, mut value: u64) {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend(digits[start..].iter().map(|&digit| char::from(digit)));
    }
}
