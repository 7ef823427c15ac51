//! Swarm masks: which features take part in a program, drawn before anything else.
//!
//! A program that uses a few kinds of operation often meets states that one using all of them
//! rarely gets to (Groce et al., *Swarm testing*, ISSTA 2012). The mask of a program leaves out
//! about half of the kinds, knobs and choosers; every eighth leaves out nothing.

use super::dice::Source;
use super::limits;
use super::options::{ChooserKind, KNOBS};
use super::syntax::{Kind, Shape};

/// Which features take part in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmMask {
    /// Kinds of operation, by bit `Kind as u64`.
    pub kinds: u64,
    /// Kinds that are drawn much more often than others, by bit; mostly none or one or two.
    pub focus: u64,
    /// Knobs that may differ from their default, by bit of the index in [`KNOBS`].
    pub knobs: u32,
    /// Choosers, by bit `ChooserKind as u8`. `bytes` is for fuzzers, which bring the bytes.
    pub choosers: u8,
    /// Concurrent tasks.
    pub tasks: u8,
    /// Names of files at most.
    pub paths: u8,
    /// Writes may be O_DSYNC.
    pub sync_writes: bool,
    /// Writes may have fills that are equal in several places, as dedupe needs.
    pub equal_fills: bool,
    /// Ranges may begin and end within blocks.
    pub sub_blocks: bool,
    /// Tasks work mostly on a file of their own.
    pub homes: bool,
    /// The device may fail a request.
    pub faults: bool,
    /// The image has bare nodes, and operations on them take part.
    pub nodes: bool,
    /// Files are overwritten in place, and operations on layouts take part.
    pub layouts: bool,
}

/// What the weight of a kind in focus grows by: a third of all operations are of it.
const FOCUS_WEIGHT: u32 = 40;

/// Kinds that put bytes into files.
pub(super) const WRITERS: &[Kind] =
    &[Kind::Write, Kind::DirectWrite, Kind::AsyncWrite, Kind::Store];
/// Kinds that make something durable.
pub(super) const PERSISTERS: &[Kind] =
    &[Kind::Fsync, Kind::Fdatasync, Kind::FsyncRange, Kind::Msync];
/// Kinds that need a mapping.
const MAPPED: &[Kind] = &[
    Kind::Load,
    Kind::Store,
    Kind::Msync,
    Kind::WriteFrom,
    Kind::ReadInto,
    Kind::DirectWriteFrom,
    Kind::DirectReadInto,
];
/// Kinds that change a file, or look at it, beneath its mappings.
const BENEATH: &[Kind] = &[
    Kind::Dedupe,
    Kind::Clone,
    Kind::Punch,
    Kind::Truncate,
    Kind::ZeroRange,
    Kind::DirectRead,
    Kind::DirectWrite,
];
/// Kinds that submit and do not wait.
const ASYNC: &[Kind] = &[Kind::AsyncWrite, Kind::AsyncRead];

impl SwarmMask {
    /// Everything takes part but injected faults.
    pub fn everything() -> Self {
        SwarmMask {
            kinds: (1 << Kind::COUNT) - 1,
            focus: 0,
            knobs: (1 << KNOBS.len()) - 1,
            choosers: 0b111111,
            tasks: 3,
            paths: 3,
            sync_writes: true,
            equal_fills: true,
            sub_blocks: true,
            homes: false,
            faults: false,
            nodes: true,
            layouts: true,
        }
    }

    /// A mask from a source.
    pub fn draw<S: Source>(source: &mut S) -> Self {
        let tasks = source.pick(&[3, 3, 3, 3, 3, 2, 2, 4]);
        let paths = source.pick(&[1, 1, 2, 2, 3, 3]);
        let faults = source.chance(1, 6);
        let nodes = source.chance(1, 6);
        let layouts = source.chance(1, 10);
        if source.chance(1, 8) {
            let mut mask =
                SwarmMask { tasks, paths, faults, nodes, layouts, ..SwarmMask::everything() };
            mask.settle_layouts(source);
            mask.settle_nodes(source);
            return mask;
        }
        let all = SwarmMask::everything();
        let mut mask = SwarmMask {
            kinds: source.bits() & all.kinds,
            focus: 0,
            knobs: source.below(1 << 16) | source.below(1 << 16) << 16 & all.knobs,
            choosers: source.below(64) as u8 | 1 << source.pick(&[1, 2, 3, 5]),
            tasks,
            paths,
            sync_writes: source.chance(1, 2),
            equal_fills: source.chance(1, 3),
            sub_blocks: source.chance(1, 2),
            homes: source.chance(1, 3),
            faults,
            nodes,
            layouts,
        };
        mask.knobs &= all.knobs;
        mask.settle_layouts(source);
        mask.settle_nodes(source);
        mask.draw_focus(source);
        mask.complete(source);
        mask
    }

    /// Kinds that are about layouts take part together, where files allow them. Mostly they are
    /// many, as whatever changes a file takes its layouts away; so does what moves blocks.
    fn settle_layouts<S: Source>(&mut self, source: &mut S) {
        let layouts = 1 << Kind::Layout as u64 | 1 << Kind::LayoutWrite as u64;
        if !self.layouts {
            self.kinds &= !layouts;
            return;
        }
        self.kinds |= layouts;
        if source.chance(2, 3) {
            self.focus |= layouts;
        }
        let mover = source.pick(&[Kind::Clone, Kind::Clone, Kind::Dedupe, Kind::Punch]);
        self.allow(mover);
        if source.chance(1, 2) {
            self.focus |= 1 << mover as u64;
        }
        self.paths = self.paths.max(2);
        self.equal_fills |= self.allows(Kind::Dedupe);
    }

    /// Kinds that are about bare nodes take part where the image has some, and then, mostly, few
    /// others do: what happens to buffers is decided among themselves.
    fn settle_nodes<S: Source>(&mut self, source: &mut S) {
        let nodes = of_nodes();
        if !self.nodes {
            self.kinds &= !nodes;
            return;
        }
        self.kinds |= nodes;
        // What becomes of a buffer whose read or write failed is a state of its own.
        self.faults |= source.chance(1, 3);
        if source.chance(3, 4) {
            self.kinds &= nodes | 1 << Kind::Sync as u64 | 1 << Kind::Commit as u64;
        }
    }

    /// Whether the program is about bare nodes alone.
    fn is_about_nodes(&self) -> bool {
        self.kinds & !(of_nodes() | 1 << Kind::Sync as u64 | 1 << Kind::Commit as u64) == 0
    }

    /// Half of the programs do one or two things over and over: races need them at the same time.
    /// What is most often done together is to write and to make that durable; and what meets
    /// without a lock of system calls is a store, and what changes a file beneath its mappings.
    fn draw_focus<S: Source>(&mut self, source: &mut S) {
        if !self.is_about_nodes() && source.chance(1, 4) {
            for kind in [source.pick(&WRITERS[..3]), source.pick(&PERSISTERS[..2])] {
                self.allow(kind);
                self.focus |= 1 << kind as u64;
            }
            self.homes |= source.chance(1, 2);
            return;
        }
        if !self.is_about_nodes() && source.chance(1, 6) {
            for kind in [Kind::Store, source.pick(BENEATH)] {
                self.allow(kind);
                self.focus |= 1 << kind as u64;
            }
            return;
        }
        for _ in 0..source.pick(&[0, 0, 1, 2]) {
            let nth = source.below(self.kinds.count_ones().max(1)) as usize;
            let mut taking_part = Kind::all().filter(|&kind| self.allows(kind));
            if let Some(kind) = taking_part.nth(nth) {
                self.focus |= 1 << kind as u64;
            }
        }
    }

    /// Adds what no useful program can do without.
    fn complete<S: Source>(&mut self, source: &mut S) {
        let about_nodes = self.is_about_nodes();
        for needed in [WRITERS, PERSISTERS] {
            let is_missing = !needed.iter().any(|&kind| self.allows(kind));
            if is_missing && !about_nodes {
                self.allow(source.pick(needed));
            }
        }
        if MAPPED.iter().any(|&kind| self.allows(kind)) {
            self.allow(Kind::Mmap);
        }
        if ASYNC.iter().any(|&kind| self.allows(kind)) {
            self.allow(Kind::Reap);
        }
        if self.allows(Kind::Unlink) {
            self.allow(Kind::Create);
        }
        if self.allows(Kind::Dedupe) {
            self.equal_fills = true;
        }
        if self.allows(Kind::Clone) || self.allows(Kind::Dedupe) {
            self.paths = self.paths.max(2);
        }
        if self.homes {
            self.paths = self.paths.max(self.tasks.min(3));
        }
        self.paths = self.paths.min(limits::PATHS_MAX as u8);
    }

    /// Whether a kind of operation takes part.
    pub fn allows(&self, kind: Kind) -> bool {
        self.kinds >> kind as u64 & 1 == 1
    }

    /// Whether a kind is drawn much more often than others.
    pub(super) fn focuses(&self, kind: Kind) -> bool {
        self.focus >> kind as u64 & 1 == 1
    }

    /// How often a kind is drawn, relative to the others.
    pub(super) fn weight(&self, shape: &Shape) -> u32 {
        shape.weight + if self.focuses(shape.kind) { FOCUS_WEIGHT } else { 0 }
    }

    /// Lets a kind of operation take part.
    pub fn allow(&mut self, kind: Kind) {
        self.kinds |= 1 << kind as u64;
    }

    /// Whether a chooser takes part.
    pub fn allows_chooser(&self, chooser: ChooserKind) -> bool {
        self.choosers >> chooser as u8 & 1 == 1
    }

    /// Whether anything needs a mapping.
    pub(super) fn maps(&self) -> bool {
        MAPPED.iter().any(|&kind| self.allows(kind)) || self.allows(Kind::Munmap)
    }
}

/// The kinds that are about bare nodes, as bits.
fn of_nodes() -> u64 {
    let kinds = Kind::all().filter(|kind| kind.is_of_nodes());
    kinds.fold(0, |kinds, kind| kinds | 1 << kind as u64)
}

impl<'a> arbitrary::Arbitrary<'a> for SwarmMask {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(SwarmMask::draw(&mut super::dice::Bytes(u)))
    }
}
