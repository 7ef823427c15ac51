//! Swarm masks: which features take part in a program, drawn before anything else.
//!
//! A program that uses a few kinds of operation often meets states that one using all of them
//! rarely gets to (Groce et al., *Swarm testing*, ISSTA 2012). The mask of a program leaves out
//! about half of the kinds, knobs and choosers; every eighth leaves out nothing.

use super::Kind;
use super::dice::Source;
use super::limits;
use super::options::{ChooserKind, KNOBS};

/// Which features take part in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmMask {
    /// Kinds of operation, by bit `Kind as u64`.
    pub kinds: u64,
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
    /// The device may fail a request.
    pub faults: bool,
}

/// Kinds that put bytes into files.
const WRITERS: &[Kind] = &[Kind::Write, Kind::DirectWrite, Kind::AsyncWrite, Kind::Store];
/// Kinds that make something durable.
const PERSISTERS: &[Kind] = &[Kind::Fsync, Kind::Fdatasync, Kind::FsyncRange, Kind::Msync];
/// Kinds that need a mapping.
const MAPPED: &[Kind] =
    &[Kind::Load, Kind::Store, Kind::Msync, Kind::DirectWriteFrom, Kind::DirectReadInto];
/// Kinds that submit and do not wait.
const ASYNC: &[Kind] = &[Kind::AsyncWrite, Kind::AsyncRead];

impl SwarmMask {
    /// Everything takes part but injected faults.
    pub fn everything() -> Self {
        SwarmMask {
            kinds: (1 << Kind::COUNT) - 1,
            knobs: (1 << KNOBS.len()) - 1,
            choosers: 0b11111,
            tasks: 3,
            paths: 3,
            sync_writes: true,
            equal_fills: true,
            sub_blocks: true,
            faults: false,
        }
    }

    /// A mask from a source.
    pub fn draw<S: Source>(source: &mut S) -> Self {
        let tasks = source.pick(&[3, 3, 3, 3, 3, 2, 2, 4]);
        let paths = source.pick(&[1, 1, 2, 2, 2, 3]);
        let faults = source.chance(1, 16);
        if source.chance(1, 8) {
            return SwarmMask { tasks, paths, faults, ..SwarmMask::everything() };
        }
        let all = SwarmMask::everything();
        let mut mask = SwarmMask {
            kinds: source.bits() & all.kinds,
            knobs: source.below(1 << 16) | source.below(1 << 16) << 16 & all.knobs,
            choosers: source.below(32) as u8 | 1 << source.pick(&[1, 2, 3]),
            tasks,
            paths,
            sync_writes: source.chance(1, 2),
            equal_fills: source.chance(1, 3),
            sub_blocks: source.chance(1, 2),
            faults,
        };
        mask.knobs &= all.knobs;
        mask.complete(source);
        mask
    }

    /// Adds what no useful program can do without.
    fn complete<S: Source>(&mut self, source: &mut S) {
        for needed in [WRITERS, PERSISTERS] {
            if !needed.iter().any(|&kind| self.allows(kind)) {
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
        self.paths = self.paths.min(limits::PATHS_MAX as u8);
    }

    /// Whether a kind of operation takes part.
    pub fn allows(&self, kind: Kind) -> bool {
        self.kinds >> kind as u64 & 1 == 1
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

impl<'a> arbitrary::Arbitrary<'a> for SwarmMask {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(SwarmMask::draw(&mut super::dice::Bytes(u)))
    }
}
