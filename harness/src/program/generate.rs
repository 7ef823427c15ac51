//! Generation of programs.
//!
//! One generator over a [`Source`] of numbers: campaigns give it [`super::Dice`], fuzzers their
//! bytes. A swarm mask is drawn first. Names are few and shared among tasks; ranges are biased to
//! block boundaries, to ranges used before, and to the end of the file; what makes things durable
//! is frequent. A few percent of the operations fail on purpose.

use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use oracle::operation::{BLOCK_BYTES, Fill, MapId, Operation, PathId, SECTOR_BYTES, Span, Sync};

use super::dice::{Bytes, Source};
use super::options::{ChooserKind, Group, KNOBS};
use super::syntax::{Arg, Fields, Kind, SHAPES, build};
use super::world::{Mapping, World};
use super::{Direction, FaultSpec, Program, SwarmMask, Task, lenient, limits, words};

/// A program of the features in the mask, canonical: a short setup, then two to four tasks.
pub fn generate<S: Source>(source: &mut S, mask: &SwarmMask) -> Program {
    let mut program = Program::default();
    knobs(source, mask, &mut program);
    let mut writer = Writer::new(source, mask, World::default());
    writer.setup(&mut program);
    writer.tasks(&mut program);
    if mask.faults && source.chance(1, 2) {
        let direction = source.pick(&[Direction::Write, Direction::Write, Direction::Read]);
        let nth = 1 + source.below(40);
        let errno = oracle::operation::Errno::EIO;
        program.faults.push(FaultSpec { direction, nth, errno, op: None });
    }
    program.paths = words::PATHS.map(str::to_owned).to_vec();
    program.maps = words::MAPS.map(str::to_owned).to_vec();
    program.fixup();
    program
}

/// A program from the bytes of a fuzzer: the mask, then the program, then what is left as choices.
pub fn arbitrary_program(u: &mut Unstructured<'_>) -> Program {
    let mask = SwarmMask::draw(&mut Bytes(u));
    let mut program = generate(&mut Bytes(u), &mask);
    program.machine.chooser = ChooserKind::Bytes;
    program.machine.seed = 0;
    let left = u.len().min(limits::DRAWN_CHOICES_MAX);
    program.choices = u.bytes(left).unwrap_or_default().to_vec();
    program.fixup();
    program
}

fn knobs<S: Source>(source: &mut S, mask: &SwarmMask, program: &mut Program) {
    for (index, knob) in KNOBS.iter().enumerate() {
        if mask.knobs >> index & 1 == 1 && knob.group != Group::Machine {
            let value = knob.values.drawn(source.below(knob.values.drawn_count()));
            (knob.set)(program, value);
        }
    }
    let choosers = [ChooserKind::Random, ChooserKind::Pct, ChooserKind::Pos];
    let start = source.below(choosers.len() as u32) as usize;
    let allowed = |&chooser: &ChooserKind| mask.allows_chooser(chooser);
    let mut turn = choosers.into_iter().cycle().skip(start).take(choosers.len());
    program.machine.chooser = turn.find(allowed).unwrap_or(ChooserKind::Random);
    program.machine.depth = 1 + source.below(4) as u8;
    program.machine.seed = u64::from(source.below(u32::MAX));
}

/// Writes operations one after the other, and keeps a belief of what they do.
pub(super) struct Writer<'a, S> {
    source: &'a mut S,
    mask: &'a SwarmMask,
    world: World,
    /// Sum of the weights of the kinds that take part.
    weights: u32,
    /// Whether the task that is written now has asynchronous operations in flight.
    in_flight: [bool; limits::TASKS_MAX],
}

impl<'a, S: Source> Writer<'a, S> {
    pub(super) fn new(source: &'a mut S, mask: &'a SwarmMask, world: World) -> Self {
        let taking_part = SHAPES.iter().filter(|shape| mask.allows(shape.kind));
        let weights = taking_part.map(|shape| shape.weight).sum();
        Writer { source, mask, world, weights, in_flight: [false; limits::TASKS_MAX] }
    }

    fn setup(&mut self, program: &mut Program) {
        program.setup.reserve_exact(16);
        let paths = 1 + self.source.below(u32::from(self.mask.paths)) as u8;
        let paths = paths.max(self.mask.paths.min(2));
        for path in (0..paths).map(PathId) {
            // Now and then a name is left for a task to create.
            if path.0 > 0 && self.mask.allows(Kind::Create) && self.source.chance(1, 6) {
                continue;
            }
            self.add(&mut program.setup, Operation::Create { path });
            for _ in 0..self.source.pick(&[0, 1, 1, 1, 2, 2]) {
                let kind = self.source.pick(&[Kind::Write, Kind::Write, Kind::Fallocate]);
                let fields = self.setup_fields(path);
                self.add(&mut program.setup, build(kind, &fields));
            }
        }
        if self.mask.maps() {
            for map in (0..1 + self.source.below(2) as u8).map(MapId) {
                self.setup_map(program, map);
            }
        }
        if self.source.chance(9, 10) {
            self.add(&mut program.setup, Operation::Sync);
        }
    }

    /// A mapping of a file that, mostly, has bytes there: loads and stores beyond the end fail.
    fn setup_map(&mut self, program: &mut Program, map: MapId) {
        let path = self.path(false);
        let span = self.map_span();
        if self.world.file(path).size < span.end() && self.source.chance(7, 8) {
            let size = Operation::Truncate { path, size: span.end() };
            self.add(&mut program.setup, size);
        }
        self.add(&mut program.setup, Operation::Mmap { map, path, span });
    }

    fn setup_fields(&mut self, path: PathId) -> Fields {
        let offset = u64::from(self.source.pick(&[0u8, 0, 0, 1, 2])) * BLOCK_BYTES;
        let len = u64::from(self.source.pick(&[1u8, 2, 4, 4, 8])) * BLOCK_BYTES;
        let keep = self.source.chance(1, 3);
        Fields { path, offset, len, keep, fill: self.fill(), ..Fields::EMPTY }
    }

    fn tasks(&mut self, program: &mut Program) {
        let count = usize::from(self.mask.tasks).clamp(1, limits::TASKS_MAX);
        let name = |name: &&str| Task { name: (*name).to_owned(), ops: Vec::with_capacity(16) };
        program.tasks = words::TASKS[..count].iter().map(name).collect();
        let spread = limits::DRAWN_TASK_OPS_MAX - limits::DRAWN_TASK_OPS_MIN + 1;
        let total = limits::DRAWN_TASK_OPS_MIN + self.source.below(spread);
        for index in 0..total {
            // A fuzzer's short input makes a short program.
            if self.source.spent() && index >= 3 {
                break;
            }
            let task = self.source.below(count as u32) as usize;
            let operation = self.operation(task);
            self.add(&mut program.tasks[task].ops, operation);
        }
    }

    fn add(&mut self, list: &mut Vec<Operation>, operation: Operation) {
        self.world.apply(&operation);
        list.push(operation);
    }

    /// The next operation of a task.
    pub(super) fn operation(&mut self, task: usize) -> Operation {
        let mut kind = self.kind();
        for _ in 0..8 {
            if self.sensible(kind, task) || self.source.chance(1, 48) {
                break;
            }
            kind = self.kind();
        }
        let task = task % limits::TASKS_MAX;
        match kind {
            Kind::AsyncWrite | Kind::AsyncRead => self.in_flight[task] = true,
            Kind::Reap => self.in_flight[task] = false,
            _ => {}
        }
        let fields = self.fields(kind);
        build(kind, &fields)
    }

    fn kind(&mut self) -> Kind {
        let mut ticket = self.source.below(self.weights.max(1));
        for shape in SHAPES.iter().filter(|shape| self.mask.allows(shape.kind)) {
            match ticket.checked_sub(shape.weight) {
                Some(rest) => ticket = rest,
                None => return shape.kind,
            }
        }
        Kind::Sync
    }

    /// Whether an operation of this kind can do something.
    fn sensible(&self, kind: Kind, task: usize) -> bool {
        let paths = usize::from(self.mask.paths);
        let mut files = self.world.files[..paths].iter();
        let mapped = self.world.maps.iter().any(Option::is_some);
        match kind {
            Kind::Create => files.any(|file| !file.exists),
            Kind::Sync | Kind::Commit | Kind::List => true,
            Kind::Reap => self.in_flight[task % limits::TASKS_MAX],
            Kind::Read | Kind::DirectRead | Kind::AsyncRead | Kind::Clone | Kind::Dedupe => {
                files.any(|file| file.exists && file.size > 0)
            }
            _ if kind.shape().has(Arg::Path) => {
                files.any(|file| file.exists)
                    && (mapped || !kind.shape().has(Arg::Map) || kind == Kind::Mmap)
            }
            _ => mapped,
        }
    }

    /// Arguments for an operation of this kind.
    pub(super) fn fields(&mut self, kind: Kind) -> Fields {
        let shape = kind.shape();
        let mut fields = Fields::EMPTY;
        if shape.has(Arg::Path) {
            fields.path = self.path(kind == Kind::Create);
        }
        if shape.has(Arg::Map) {
            fields.map = self.map_id();
        }
        if shape.has(Arg::Fill) {
            fields.fill = self.fill();
        }
        if shape.has(Arg::Sync) && self.mask.sync_writes && self.source.chance(1, 5) {
            fields.sync = Sync::Data;
        }
        if shape.has(Arg::Keep) {
            fields.keep = self.source.chance(1, 2);
        }
        let span = match kind {
            Kind::Mmap => self.map_span(),
            Kind::Load | Kind::Store | Kind::Msync => self.mapped_span(fields.map),
            Kind::Truncate => Span::new(0, self.size(fields.path)),
            Kind::Append => Span::new(0, self.len()),
            Kind::Clone | Kind::Dedupe => self.source_span(fields.path),
            _ if shape.has(Arg::Len) => self.span(fields.path, is_direct(kind)),
            _ => Span::new(0, 0),
        };
        (fields.offset, fields.len) = (span.offset, span.len);
        if shape.has(Arg::Target) {
            fields.target = self.path(false);
            let aligned = fields.target != fields.path && self.source.chance(1, 2);
            fields.other = if aligned { fields.offset } else { self.block() * BLOCK_BYTES };
        } else if shape.has(Arg::Other) {
            // The user buffer lies within the mapping, where it fits.
            let mapped = self.world.map(fields.map).map_or(0, |mapping| mapping.span.len);
            let room = (mapped.saturating_sub(fields.len) / BLOCK_BYTES).min(3) as u32;
            fields.other = u64::from(self.source.below(room + 1)) * BLOCK_BYTES;
        }
        fields
    }

    /// A name: the first ones are used most, so that tasks meet; existing ones, but for creation.
    fn path(&mut self, create: bool) -> PathId {
        let count = u32::from(self.mask.paths).max(1);
        for _ in 0..4 {
            let path = PathId(self.source.below(count).min(self.source.below(count)) as u8);
            if self.world.file(path).exists != create {
                return path;
            }
        }
        let mut paths = (0..count as u8).map(PathId);
        paths.find(|&path| self.world.file(path).exists != create).unwrap_or(PathId(0))
    }

    fn map_id(&mut self) -> MapId {
        let map = MapId(self.source.below(2) as u8);
        if self.world.map(map).is_some() { map } else { MapId(0) }
    }

    fn fill(&mut self) -> Fill {
        let equal = self.mask.equal_fills && self.source.chance(1, 2);
        if equal { Fill::Byte(self.source.pick(&[0xaa, 0xaa, 0xaa, 0x55, 0])) } else { Fill::Tag }
    }

    /// A block number, mostly a low one.
    fn block(&mut self) -> u64 {
        let far = self.source.chance(1, 8);
        let blocks = if far { 16 } else { limits::DRAWN_BLOCKS_HOT };
        u64::from(self.source.below(blocks))
    }

    fn len(&mut self) -> u64 {
        match self.source.below(16) {
            0..=7 => BLOCK_BYTES,
            8..=11 => 2 * BLOCK_BYTES,
            12 | 13 => u64::from(3 + self.source.below(4)) * BLOCK_BYTES,
            14 if self.mask.sub_blocks => SECTOR_BYTES * u64::from(1 + self.source.below(12)),
            15 if self.mask.sub_blocks => u64::from(1 + self.source.below(6000)),
            _ => BLOCK_BYTES,
        }
    }

    /// A range of a file: on blocks, on or beside a range used before, or at the end of the file.
    fn span(&mut self, path: PathId, direct: bool) -> Span {
        let file = *self.world.file(path);
        let recent = file.recent();
        let len = self.len();
        let mut span = match self.source.below(8) {
            0..=2 if !recent.is_empty() => {
                let (offset, len) = self.source.pick(recent);
                Span::new(offset, len)
            }
            3 if !recent.is_empty() => {
                let (offset, old) = self.source.pick(recent);
                let shift = self.source.pick(&[offset + old, offset + BLOCK_BYTES, offset]);
                Span::new(shift, len)
            }
            4 => Span::new(file.size, len),
            5 => Span::new(file.size.saturating_sub(BLOCK_BYTES.min(len)), len),
            _ => Span::new(self.block() * BLOCK_BYTES, len),
        };
        if self.mask.sub_blocks && self.source.chance(1, 6) {
            let unit = if direct { SECTOR_BYTES } else { 1 };
            span.offset += unit * u64::from(self.source.below(8));
        }
        if direct && !self.source.chance(1, 64) {
            span.offset -= span.offset % SECTOR_BYTES;
            span.len = span.len.next_multiple_of(SECTOR_BYTES);
        }
        span.offset = span.offset.min(limits::DRAWN_FILE_BYTES_MAX - BLOCK_BYTES);
        span.len = span.len.clamp(1, limits::DRAWN_FILE_BYTES_MAX - span.offset);
        span
    }

    /// The source of a clone or dedupe: whole blocks that exist.
    fn source_span(&mut self, path: PathId) -> Span {
        let blocks = (self.world.file(path).size / BLOCK_BYTES).clamp(1, 24) as u32;
        let first = self.source.below(blocks.min(6));
        let count = 1 + self.source.below((blocks - first).min(3));
        Span::new(u64::from(first) * BLOCK_BYTES, u64::from(count) * BLOCK_BYTES)
    }

    fn map_span(&mut self) -> Span {
        let offset = self.source.pick(&[0, 0, 0, 1]) * BLOCK_BYTES;
        Span::new(offset, self.source.pick(&[1, 2, 4, 4, 8]) * BLOCK_BYTES)
    }

    /// A range within a mapping, mostly whole pages.
    fn mapped_span(&mut self, map: MapId) -> Span {
        let mapping = self.world.map(map);
        let mut len = mapping.map_or(BLOCK_BYTES, |mapping| mapping.span.len);
        if let Some(Mapping { path, span }) = mapping
            && !self.source.chance(1, 32)
        {
            len = len.min(self.world.file(path).size.saturating_sub(span.offset));
        }
        let pages = (len / BLOCK_BYTES).clamp(1, 8) as u32;
        let first = self.source.below(pages);
        let count = 1 + self.source.below((pages - first).min(2));
        let mut span = Span::new(u64::from(first) * BLOCK_BYTES, u64::from(count) * BLOCK_BYTES);
        if self.mask.sub_blocks && self.source.chance(1, 6) {
            span.offset += u64::from(self.source.below(4)) * 8;
            span.len = u64::from(1 + self.source.below(BLOCK_BYTES as u32 - 32));
        }
        span
    }

    fn size(&mut self, path: PathId) -> u64 {
        let size = self.world.file(path).size;
        let blocks = self.block() * BLOCK_BYTES;
        let edge = match self.source.below(6) {
            0 => size.saturating_sub(BLOCK_BYTES),
            1 => size + BLOCK_BYTES,
            2 if self.mask.sub_blocks => blocks + u64::from(self.source.below(4096)),
            _ => blocks,
        };
        edge.min(limits::DRAWN_FILE_BYTES_MAX)
    }
}

/// Whether offsets and lengths must be multiples of a sector.
fn is_direct(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::DirectWrite
            | Kind::DirectWriteFrom
            | Kind::DirectRead
            | Kind::DirectReadInto
            | Kind::AsyncWrite
            | Kind::AsyncRead
    )
}

impl<'a> Arbitrary<'a> for Program {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(arbitrary_program(u))
    }
}

/// An operation from the bytes of a fuzzer, for files and mappings that are taken to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyOperation(
    /// The operation.
    pub Operation,
);

impl<'a> Arbitrary<'a> for AnyOperation {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mask = SwarmMask::draw(&mut Bytes(u));
        let mut world = World::default();
        for path in (0..mask.paths).map(PathId) {
            let fields = Fields { path, len: 4 * BLOCK_BYTES, ..Fields::EMPTY };
            world.apply(&build(Kind::Create, &fields));
            world.apply(&build(Kind::Write, &fields));
            world.apply(&build(Kind::Mmap, &fields));
        }
        let mut source = Bytes(u);
        Ok(AnyOperation(Writer::new(&mut source, &mask, world).operation(0)))
    }
}

/// A program whose bytes are its text, so that corpora stay readable and never rot. `Debug` prints
/// the text: what cargo-fuzz shows of a crash is the reproducer.
#[derive(Clone, PartialEq, Eq)]
pub struct TextProgram(
    /// The program.
    pub Program,
);

impl fmt::Debug for TextProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

impl<'a> Arbitrary<'a> for TextProgram {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let bytes = u.bytes(u.len())?;
        Ok(TextProgram(lenient(bytes).program))
    }

    fn arbitrary_take_rest(u: Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(TextProgram(lenient(u.take_rest()).program))
    }
}
