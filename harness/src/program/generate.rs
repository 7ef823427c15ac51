//! Generation of programs.
//!
//! One generator over a [`Source`] of numbers: campaigns give it [`super::Dice`], fuzzers their
//! bytes. A swarm mask is drawn first. Names are few and shared among tasks; ranges are biased to
//! block boundaries, to ranges used before, and to the end of the file; what makes things durable
//! is frequent. A few percent of the operations fail on purpose.

use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use oracle::operation::{BLOCK_BYTES, Errno, Fill, MapId, OpId, Operation, PathId, Span, Sync};

use super::dice::{Bytes, Source};
use super::options::{ChooserKind, Group, KNOBS, Temper};
use super::ranges::is_direct;
use super::swarm::PERSISTERS;
use super::syntax::{Arg, Fields, Kind, SHAPES, build, kind};
use super::world::{Mapping, World};
use super::{Direction, FaultSpec, Program, SwarmMask, Task, lenient, limits, words};

/// The choosers that programs are given, if the mask allows them.
pub(super) const DRAWN_CHOOSERS: [ChooserKind; 4] =
    [ChooserKind::Random, ChooserKind::Pct, ChooserKind::Pos, ChooserKind::Delay];

/// A program of the features in the mask, canonical: a short setup, then two to four tasks.
pub fn generate<S: Source>(source: &mut S, mask: &SwarmMask) -> Program {
    let mut program = Program::default();
    knobs(source, mask, &mut program);
    let mut writer = Writer::new(source, mask, World::default());
    writer.setup(&mut program);
    writer.tasks(&mut program);
    if mask.faults {
        faults(source, &mut program);
    }
    program.paths = words::PATHS.map(str::to_owned).to_vec();
    program.maps = words::MAPS.map(str::to_owned).to_vec();
    program.fixup();
    program
}

/// One or two requests that the device fails: of all, or counted from an operation on that, most
/// likely, submits them or waits for them.
fn faults<S: Source>(source: &mut S, program: &mut Program) {
    let does_io = |operation: &Operation| {
        let kind = kind(operation);
        kind.is_of_nodes()
            || is_direct(kind)
            || PERSISTERS.contains(&kind)
            || kind == Kind::Writeback
    };
    let first = program.setup.len();
    let operations = program.tasks.iter().flat_map(|task| &task.ops).enumerate();
    let candidates: Vec<u16> = operations
        .filter(|(_, operation)| does_io(operation))
        .map(|(index, _)| (first + index + 1) as u16)
        .collect();
    for _ in 0..source.pick(&[1, 1, 2]) {
        let mut direction = source.pick(&[Direction::Write, Direction::Write, Direction::Read]);
        if program.image.buffers > 0 && source.chance(1, 2) {
            // What is not in memory, as its read failed, is a state of buffers only.
            direction = Direction::Read;
        }
        let of_one = !candidates.is_empty() && source.chance(2, 3);
        let (nth, op) = match of_one {
            true => (source.pick(&[1, 1, 1, 2, 3]), Some(OpId(source.pick(&candidates)))),
            false => (1 + source.below(40), None),
        };
        program.faults.push(FaultSpec { direction, nth, errno: Errno::EIO, op });
    }
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
    if mask.layouts {
        (program.image.datasum, program.image.datacow) = (false, false);
    }
    if mask.nodes {
        program.image.buffers = 2;
    }
    program.mount.node_buffers &= mask.nodes;
    let choosers = DRAWN_CHOOSERS;
    let start = source.below(choosers.len() as u32) as usize;
    let allowed = |&chooser: &ChooserKind| mask.allows_chooser(chooser);
    let mut turn = choosers.into_iter().cycle().skip(start).take(choosers.len());
    program.machine.chooser = turn.find(allowed).unwrap_or(ChooserKind::Random);
    program.machine.depth = source.pick(&[1, 2, 3, 4, 6]);
    program.machine.seed = u64::from(source.below(u32::MAX));
    program.machine.temper = source.pick(&[
        Temper::Even,
        Temper::Even,
        Temper::Even,
        Temper::Eager,
        Temper::Lazy,
        Temper::Straggler,
        Temper::Straggler,
        Temper::Straggler,
    ]);
}

/// Kinds that can move the end of a file on without touching what it holds.
const GROWERS: &[Kind] = &[
    Kind::Truncate,
    Kind::Write,
    Kind::DirectWrite,
    Kind::Fallocate,
    Kind::ZeroRange,
    Kind::Clone,
];

/// Writes operations one after the other, and keeps a belief of what they do.
pub(super) struct Writer<'a, S> {
    pub(super) source: &'a mut S,
    pub(super) mask: &'a SwarmMask,
    pub(super) world: World,
    /// Sum of the weights of the kinds that take part.
    weights: u32,
    /// Whether the task that is written now has asynchronous operations in flight.
    in_flight: [bool; limits::TASKS_MAX],
    /// The file that each task changed last and has not made durable since.
    changed: [Option<PathId>; limits::TASKS_MAX],
    /// The file behind whose end, in its last page, each task has just stored.
    ragged: [Option<PathId>; limits::TASKS_MAX],
    /// The file that each task used last.
    used: [Option<PathId>; limits::TASKS_MAX],
    /// The file that the operation written now is likely to be about, and how likely, in 6ths.
    near: (Option<PathId>, u32),
}

impl<'a, S: Source> Writer<'a, S> {
    pub(super) fn new(source: &'a mut S, mask: &'a SwarmMask, world: World) -> Self {
        let taking_part = SHAPES.iter().filter(|shape| mask.allows(shape.kind));
        let weights = taking_part.map(|shape| mask.weight(shape)).sum();
        let in_flight = [false; limits::TASKS_MAX];
        let (changed, ragged, used) = Default::default();
        let near = (None, 0);
        Writer { source, mask, world, weights, in_flight, changed, ragged, used, near }
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
        let span = self.map_span(path);
        let pages_end = self.world.file(path).size.next_multiple_of(BLOCK_BYTES);
        if pages_end < span.end() && self.source.chance(7, 8) {
            let within = self.mask.sub_blocks && self.source.chance(3, 4);
            let less = if within { self.source.below(BLOCK_BYTES as u32) } else { 0 };
            let size = Operation::Truncate { path, size: span.end() - u64::from(less) };
            self.add(&mut program.setup, size);
        }
        self.add(&mut program.setup, Operation::Mmap { map, path, span });
    }

    fn setup_fields(&mut self, path: PathId) -> Fields {
        let span = self.setup_span();
        let keep = self.source.chance(1, 3);
        let (offset, len) = (span.offset, span.len);
        // Files that can be deduplicated are alike from the start.
        let alike = self.mask.allows(Kind::Dedupe) && self.source.chance(1, 2);
        let fill = if alike { Fill::Byte(0xaa) } else { self.fill() };
        Fields { path, offset, len, keep, fill, ..Fields::EMPTY }
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
        if let Some(path) = self.ragged[task].take()
            && self.source.chance(1, 2)
            && let Some(operation) = self.exposing(path)
        {
            return operation;
        }
        if self.changed[task].is_some() && self.source.chance(1, 6) {
            kind = self.persister().unwrap_or(kind);
        }
        match kind {
            Kind::AsyncWrite | Kind::AsyncRead => self.in_flight[task] = true,
            Kind::Reap => self.in_flight[task] = false,
            _ => {}
        }
        // A task works on its own file, if the mask says so, or goes on where it was.
        let home = PathId((task % usize::from(self.mask.paths.max(1))) as u8);
        self.near = if self.mask.homes { (Some(home), 4) } else { (self.used[task], 2) };
        let mut fields = self.fields(kind);
        self.near = (None, 0);
        self.note_use(task, kind, &mut fields);
        build(kind, &fields)
    }

    /// Keeps what the task used and changed. It makes durable mostly what it changed itself.
    fn note_use(&mut self, task: usize, kind: Kind, fields: &mut Fields) {
        let shape = kind.shape();
        match kind {
            Kind::Fsync | Kind::Fdatasync | Kind::Writeback => {
                if let Some(path) = self.changed[task].filter(|_| self.source.chance(2, 3)) {
                    fields.path = path;
                }
                self.changed[task] = None;
            }
            Kind::Store | Kind::Load => {
                let mapping = self.world.map(fields.map);
                self.used[task] = mapping.map(|mapping| mapping.path);
                let is_behind = |mapping: &Mapping| {
                    let size = self.world.file(mapping.path).size;
                    let end = mapping.span.offset + fields.offset + fields.len;
                    !size.is_multiple_of(BLOCK_BYTES) && end > size
                };
                if kind == Kind::Store {
                    self.ragged[task] = mapping.filter(is_behind).map(|mapping| mapping.path);
                }
            }
            _ if shape.has(Arg::Target) => self.used[task] = Some(fields.target),
            _ if shape.has(Arg::Path) => self.used[task] = Some(fields.path),
            _ => {}
        }
        if shape.has(Arg::Fill) || shape.has(Arg::Target) || kind == Kind::Punch {
            self.changed[task] = self.used[task];
        }
    }

    /// What moves the end of a file on from where it is, so that what lies behind it can be seen.
    fn exposing(&mut self, path: PathId) -> Option<Operation> {
        let growers: Vec<Kind> =
            GROWERS.iter().copied().filter(|&kind| self.mask.allows(kind)).collect();
        if growers.is_empty() {
            return None;
        }
        let kind = self.source.pick(&growers);
        let mut fields = self.fields(kind);
        let end = self.world.file(path).size.next_multiple_of(BLOCK_BYTES);
        let behind = end + u64::from(self.source.below(3)) * BLOCK_BYTES;
        match kind {
            Kind::Truncate => fields.len = behind + 1,
            Kind::Clone => (fields.target, fields.other) = (path, behind),
            _ => (fields.offset, fields.len, fields.keep) = (behind, BLOCK_BYTES, false),
        }
        if kind != Kind::Clone {
            fields.path = path;
        }
        let fits = behind < limits::DRAWN_FILE_BYTES_MAX - BLOCK_BYTES;
        fits.then(|| build(kind, &fields))
    }

    /// A kind that makes a whole file durable.
    fn persister(&mut self) -> Option<Kind> {
        let kind = self.source.pick(&[Kind::Fsync, Kind::Fsync, Kind::Fdatasync]);
        self.mask.allows(kind).then_some(kind)
    }

    fn kind(&mut self) -> Kind {
        let mut ticket = self.source.below(self.weights.max(1));
        for shape in SHAPES.iter().filter(|shape| self.mask.allows(shape.kind)) {
            match ticket.checked_sub(self.mask.weight(shape)) {
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
            _ if kind.is_of_nodes() => true,
            Kind::Reap => self.in_flight[task % limits::TASKS_MAX],
            Kind::Dedupe => self.has_equal_ranges(),
            Kind::Read
            | Kind::Layout
            | Kind::LayoutWrite
            | Kind::Readahead
            | Kind::DirectRead
            | Kind::AsyncRead
            | Kind::Clone => files.any(|file| file.exists && file.size > 0),
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
        if shape.has(Arg::Node) {
            fields.node.0 = self.source.pick(&[0, 0, 0, 1]);
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
            Kind::Mmap => self.map_span(fields.path),
            Kind::Load | Kind::Store | Kind::Msync => self.mapped_span(fields.map),
            Kind::Truncate => Span::new(0, self.size(fields.path)),
            Kind::Append => Span::new(0, self.len()),
            Kind::Clone => {
                self.clone_fields(&mut fields);
                return fields;
            }
            Kind::Dedupe => {
                self.dedupe_fields(&mut fields);
                return fields;
            }
            _ if kind.is_of_layouts() => self.layout_span(kind, fields.path),
            _ if shape.has(Arg::Len) => self.span(fields.path, is_direct(kind)),
            _ => Span::new(0, 0),
        };
        (fields.offset, fields.len) = (span.offset, span.len);
        if shape.has(Arg::Other) {
            // The user buffer lies within the mapping, where it fits.
            let mapped = self.world.map(fields.map).map_or(0, |mapping| mapping.span.len);
            let room = (mapped.saturating_sub(fields.len) / BLOCK_BYTES).min(3) as u32;
            fields.other = u64::from(self.source.below(room + 1)) * BLOCK_BYTES;
        }
        fields
    }

    /// A name: the first ones are used most, so that tasks meet; existing ones, but for creation.
    pub(super) fn path(&mut self, create: bool) -> PathId {
        let count = u32::from(self.mask.paths).max(1);
        if let (Some(near), chance) = self.near
            && !create
            && self.world.file(near).exists
            && self.source.chance(chance, 6)
        {
            return near;
        }
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
        let maps = [MapId(0), MapId(1)];
        let of_near = |map: &MapId| self.world.map(*map).map(|mapping| mapping.path) == self.near.0;
        if let (Some(_), chance) = self.near
            && let Some(map) = maps.into_iter().find(of_near)
            && self.source.chance(chance, 6)
        {
            return map;
        }
        let map = self.source.pick(&maps);
        if self.world.map(map).is_some() { map } else { MapId(0) }
    }

    fn fill(&mut self) -> Fill {
        // Bytes that describe themselves show more; those that are equal can be shared.
        let share = if self.mask.focuses(Kind::Dedupe) { 7 } else { 4 };
        let equal = self.mask.equal_fills && self.source.chance(share, 8);
        if equal { Fill::Byte(self.source.pick(&[0xaa, 0xaa, 0xaa, 0x55, 0])) } else { Fill::Tag }
    }
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
            // Equal in all files: something can be deduplicated.
            let fill = Fill::Byte(0xaa);
            let fields = Fields { path, len: 4 * BLOCK_BYTES, fill, ..Fields::EMPTY };
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
