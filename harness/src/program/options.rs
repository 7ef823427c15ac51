//! The knobs of a program: options of the image, of the mount, and of the machine, in one table.
//!
//! Parser, printer, generator, mutator and the reference in `docs/program-text.md` read
//! [`KNOBS`]; names and defaults are shared with the engine's options and never change. A knob
//! that a program does not mention has its default, and the printer mentions only the others.

use super::Program;

/// Which header line a knob stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `image`: fixed when the image is made.
    Image,
    /// `mount`: how the engine runs on it.
    Mount,
    /// `machine`: who decides what is not determined.
    Machine,
}

impl Group {
    /// Every group, in the order of the text.
    pub const ALL: [Group; 3] = [Group::Image, Group::Mount, Group::Machine];

    /// The first word of the line.
    pub const fn word(self) -> &'static str {
        match self {
            Group::Image => "image",
            Group::Mount => "mount",
            Group::Machine => "machine",
        }
    }
}

/// Where free space is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AllocPolicy {
    /// The lowest free block, which reuses freed blocks soon.
    Lowest,
    /// The next free block after the last one taken, which reuses them late.
    Next,
    /// The block freed last, which reuses at once whatever is not pinned.
    Reuse,
}

/// Whom a lock lets in first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fairness {
    /// In the order of arrival.
    Fifo,
    /// Readers pass waiting writers.
    Reader,
    /// Writers pass waiting readers.
    Writer,
}

/// The protocol of fsync (races.md §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FsyncProtocol {
    /// Exclude writers and wait for ordered extents.
    P0,
    /// Log what is in flight, and wait for the device.
    P1,
}

/// Who takes the machine's choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChooserKind {
    /// The `choices` of the program, then dice seeded with their hash.
    Bytes,
    /// Dice.
    Random,
    /// Random priorities with `depth` change points.
    Pct,
    /// Partial order sampling.
    Pos,
    /// Each in turn.
    RoundRobin,
    /// Random choices, and now and then somebody stands still for long.
    Delay,
}

/// How the device serves its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Temper {
    /// As the chooser draws.
    Even,
    /// At once.
    Eager,
    /// When nobody can go on without.
    Lazy,
    /// As the chooser draws, but for a few requests that end late.
    Straggler,
}

/// Options of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageKnobs {
    /// Size of the main device, in blocks of 4 KiB.
    pub blocks: u32,
    /// A checksum for every data block.
    pub datasum: bool,
    /// Copy-on-write of data; off overwrites in place.
    pub datacow: bool,
    /// Items in a tree node at most; 0 is as many as fit.
    pub leaf: u16,
    /// The log on a device of its own.
    pub logdev: bool,
    /// Log trees, which fsyncs of different files fill side by side.
    pub log_trees: u8,
    /// Bare nodes.
    pub buffers: u8,
}

/// Options of the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountKnobs {
    /// Allocate at writeback, not at write.
    pub delalloc: bool,
    /// Where free space is taken from.
    pub alloc: AllocPolicy,
    /// Completion workers.
    pub workers: u8,
    /// Pages in the cache at most; 0 is no limit.
    pub cache_pages: u16,
    /// Blocks read behind one that is missed.
    pub readahead: u8,
    /// Blocks of the window around a read fault whose pages are mapped, too.
    pub faultaround: u8,
    /// Whom locks let in first.
    pub fair: Fairness,
    /// Spontaneous wakeups of the flusher.
    pub flusher: u8,
    /// Spontaneous wakeups of the committer.
    pub committer: u8,
    /// Spontaneous wakeups of the reclaimer.
    pub reclaimer: u8,
    /// Discard freed blocks.
    pub discard: bool,
    /// The protocol of fsync.
    pub fsync: FsyncProtocol,
    /// Readers of the source go on during a remap.
    pub remap_readers: bool,
    /// Tree nodes live in buffers.
    pub node_buffers: bool,
    /// References to buffers without their lock.
    pub eb_fast_path: bool,
    /// A write of a buffer makes sure of the cache's reference.
    pub eb_hunk: bool,
}

/// Options of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineKnobs {
    /// Who takes the choices.
    pub chooser: ChooserKind,
    /// Change points of `pct`.
    pub depth: u8,
    /// Seed of the choosers that roll dice.
    pub seed: u64,
    /// How the device serves its requests.
    pub temper: Temper,
}

/// The values that a knob may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// `off` (0) or `on` (1).
    Switch,
    /// One of the words, by index.
    Word(&'static [&'static str]),
    /// A number; zero may be allowed below `min`, where it has a meaning of its own.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
        /// Whether 0 is allowed besides.
        zero: bool,
        /// What generators draw.
        drawn: &'static [u64],
    },
}

impl Values {
    /// The nearest allowed value.
    pub fn clamp(self, value: u64) -> u64 {
        match self {
            Values::Switch => value.min(1),
            Values::Word(words) => value.min(words.len() as u64 - 1),
            Values::Number { zero: true, .. } if value == 0 => 0,
            Values::Number { min, max, .. } => value.clamp(min, max),
        }
    }

    /// The value of a text, if it is allowed.
    pub fn parse(self, text: &[u8]) -> Option<u64> {
        let find = |words: &[&str]| words.iter().position(|word| word.as_bytes() == text);
        match self {
            Values::Switch => find(&["off", "on"]).map(|index| index as u64),
            Values::Word(words) => find(words).map(|index| index as u64),
            Values::Number { .. } => {
                super::words::number(text).filter(|&number| self.clamp(number) == number)
            }
        }
    }

    /// How many values generators draw from; see [`Values::drawn`].
    pub fn drawn_count(self) -> u32 {
        match self {
            Values::Switch => 2,
            Values::Word(words) => words.len() as u32,
            Values::Number { drawn, .. } => drawn.len() as u32,
        }
    }

    /// The value that generators draw at an index below [`Values::drawn_count`].
    pub fn drawn(self, index: u32) -> u64 {
        match self {
            Values::Switch | Values::Word(_) => u64::from(index),
            Values::Number { drawn, .. } => drawn[index as usize],
        }
    }

    /// The allowed values in words, for messages and the reference.
    pub fn describe(self) -> String {
        match self {
            Values::Switch => "off or on".into(),
            Values::Word(words) => words.join(" or "),
            Values::Number { min, max: u64::MAX, .. } => format!("a number from {min}"),
            Values::Number { min, max, zero, .. } => {
                let zero = if zero { "0 or " } else { "" };
                format!("{zero}a number from {min} to {max}")
            }
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Knob {
    /// The header line.
    pub group: Group,
    /// The key.
    pub key: &'static str,
    /// The allowed values.
    pub values: Values,
    /// The value of a program that does not mention it.
    pub default: u64,
    /// One sentence for the reference.
    pub doc: &'static str,
    /// Reads it from a program.
    pub get: fn(&Program) -> u64,
    /// Puts an allowed value into a program.
    pub set: fn(&mut Program, u64),
}

impl Knob {
    /// The knob of a key, and its index in [`KNOBS`].
    pub fn find(group: Group, key: &[u8]) -> Option<(usize, &'static Knob)> {
        let is = |knob: &Knob| knob.group == group && knob.key.as_bytes() == key;
        KNOBS.iter().enumerate().find(|(_, knob)| is(knob))
    }

    /// The value as the text writes it.
    pub fn text(&self, value: u64) -> std::borrow::Cow<'static, str> {
        match self.values {
            Values::Switch => (if value == 0 { "off" } else { "on" }).into(),
            Values::Word(words) => words[value as usize].into(),
            Values::Number { .. } => value.to_string().into(),
        }
    }
}

/// A value for a knob, which every program of a campaign gets.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    knob: &'static Knob,
    value: u64,
}

impl Setting {
    /// From `GROUP.KEY=VALUE`, as in `mount.fsync=p1`.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text.split_once('=').and_then(|(name, value)| {
            let (group, key) = name.split_once('.')?;
            Some((Group::ALL.into_iter().find(|it| it.word() == group)?, key, value))
        });
        let (group, key, value) =
            split.ok_or_else(|| format!("{text:?} is not of the form mount.KEY=VALUE"))?;
        let (_, knob) = Knob::find(group, key.as_bytes())
            .ok_or_else(|| format!("{} has no knob {key:?}", group.word()))?;
        let value = knob.values.parse(value.as_bytes()).ok_or_else(|| {
            format!("{}.{key} is {}, not {value:?}", group.word(), knob.values.describe())
        })?;
        Ok(Setting { knob, value })
    }

    /// Gives the knob of a program this value.
    pub fn apply(self, program: &mut Program) {
        (self.knob.set)(program, self.value);
    }
}

const fn number(min: u64, max: u64, drawn: &'static [u64]) -> Values {
    Values::Number { min, max, zero: false, drawn }
}

const fn number_or_zero(min: u64, max: u64, drawn: &'static [u64]) -> Values {
    Values::Number { min, max, zero: true, drawn }
}

const SWITCH: Values = Values::Switch;
const ALLOC: &[AllocPolicy] = &[AllocPolicy::Lowest, AllocPolicy::Next, AllocPolicy::Reuse];
const FAIR: &[Fairness] = &[Fairness::Fifo, Fairness::Reader, Fairness::Writer];
const FSYNC: &[FsyncProtocol] = &[FsyncProtocol::P0, FsyncProtocol::P1];
const TEMPER: &[Temper] = &[Temper::Even, Temper::Eager, Temper::Lazy, Temper::Straggler];
const CHOOSER: &[ChooserKind] = &[
    ChooserKind::Bytes,
    ChooserKind::Random,
    ChooserKind::Pct,
    ChooserKind::Pos,
    ChooserKind::RoundRobin,
    ChooserKind::Delay,
];

macro_rules! knob {
    ($group:ident $part:ident . $field:ident = $default:literal, $values:expr, $doc:literal,
     |$value:ident| $convert:expr) => {
        Knob {
            group: Group::$group,
            key: stringify!($field),
            values: $values,
            default: $default,
            doc: $doc,
            get: |program| program.$part.$field as u64,
            set: |program, $value| program.$part.$field = $convert,
        }
    };
}

/// The knobs that say how much background workers may do.
pub const WORKERS: [&str; 3] = ["flusher", "committer", "reclaimer"];

/// Every knob, in the order of the text.
#[rustfmt::skip]
pub static KNOBS: &[Knob] = &[
    knob!(Image image.blocks = 256, number(64, 4096, &[64, 128, 256, 1024]),
        "Size of the main device, in blocks of 4 KiB.", |v| v as u32),
    knob!(Image image.datasum = 1, SWITCH, "A checksum for every data block.", |v| v != 0),
    knob!(Image image.datacow = 1, SWITCH,
        "Copy-on-write of data; off overwrites in place.", |v| v != 0),
    knob!(Image image.leaf = 0, number_or_zero(4, 192, &[0, 4, 5, 8]),
        "Items in a tree node at most; 0 is as many as fit.", |v| v as u16),
    knob!(Image image.logdev = 0, SWITCH, "The log on a device of its own.", |v| v != 0),
    knob!(Image image.log_trees = 1, number(1, 4, &[1, 2, 4, 4]),
        "Log trees, which fsyncs of different files fill side by side.", |v| v as u8),
    knob!(Image image.buffers = 0, number(0, 8, &[0]),
        "Bare nodes: blocks of metadata that no tree owns, for the operations on nodes.",
        |v| v as u8),
    knob!(Mount mount.delalloc = 1, SWITCH,
        "Allocate space at writeback, not at write.", |v| v != 0),
    knob!(Mount mount.alloc = 0, Values::Word(&["lowest", "next", "reuse"]),
        "Where free space is taken from: the lowest block, the next one, the one freed last.",
        |v| ALLOC[v as usize]),
    knob!(Mount mount.workers = 1, number(1, 2, &[1, 2]), "Completion workers.", |v| v as u8),
    knob!(Mount mount.cache_pages = 0, number_or_zero(1, 4096, &[0, 2, 4, 16]),
        "Pages in the cache at most; 0 is no limit.", |v| v as u16),
    knob!(Mount mount.readahead = 0, number(0, 16, &[0, 0, 2, 4]),
        "Blocks that are read behind one that a read or a fault misses.", |v| v as u8),
    knob!(Mount mount.faultaround = 0, number(0, 16, &[0, 0, 2, 4]),
        "Blocks of the window in which a read fault maps pages that are there; 0 is none.",
        |v| v as u8),
    knob!(Mount mount.fair = 0, Values::Word(&["fifo", "reader", "writer"]),
        "Whom a contended lock lets in first.", |v| FAIR[v as usize]),
    knob!(Mount mount.flusher = 2, number(0, 16, &[0, 1, 2, 4]),
        "Spontaneous wakeups of the flusher at most.", |v| v as u8),
    knob!(Mount mount.committer = 1, number(0, 16, &[0, 1, 2]),
        "Spontaneous wakeups of the committer at most.", |v| v as u8),
    knob!(Mount mount.reclaimer = 1, number(0, 16, &[0, 1, 2]),
        "Spontaneous wakeups of the reclaimer at most.", |v| v as u8),
    knob!(Mount mount.discard = 0, SWITCH, "Discard freed blocks.", |v| v != 0),
    knob!(Mount mount.fsync = 0, Values::Word(&["p0", "p1"]),
        "The protocol of fsync: p0 waits until all data are part of the file, p1 logs what is in \
         flight and waits for the device.",
        |v| FSYNC[v as usize]),
    knob!(Mount mount.remap_readers = 0, SWITCH,
        "Readers of the source go on during a clone or a dedupe.", |v| v != 0),
    knob!(Mount mount.node_buffers = 0, SWITCH,
        "Tree nodes live in buffers, which are read ahead and reclaimed.", |v| v != 0),
    knob!(Mount mount.eb_fast_path = 0, SWITCH,
        "Historical: references to buffers are taken and given back without a lock.", |v| v != 0),
    knob!(Mount mount.eb_hunk = 0, SWITCH,
        "Historical: a write of a buffer makes sure that the cache refers to it.", |v| v != 0),
    knob!(Machine machine.chooser = 0,
        Values::Word(&["bytes", "random", "pct", "pos", "roundrobin", "delay"]),
        "Who takes the choices: the program's own, dice, random priorities, partial order \
         sampling, each in turn, dice with long delays.", |v| CHOOSER[v as usize]),
    knob!(Machine machine.depth = 3, number(0, 16, &[1, 2, 3, 4, 6]),
        "Change points of pct.", |v| v as u8),
    knob!(Machine machine.seed = 0, number(0, u64::MAX, &[0]),
        "Seed of the choosers that roll dice.", |v| v),
    knob!(Machine machine.temper = 0, Values::Word(&["even", "eager", "lazy", "straggler"]),
        "How the device serves requests: as the chooser draws, at once, when nobody can go on \
         without, a few of them late.", |v| TEMPER[v as usize]),
];

impl Default for ImageKnobs {
    fn default() -> Self {
        ImageKnobs {
            blocks: 256,
            datasum: true,
            datacow: true,
            leaf: 0,
            logdev: false,
            log_trees: 1,
            buffers: 0,
        }
    }
}

impl Default for MountKnobs {
    fn default() -> Self {
        MountKnobs {
            delalloc: true,
            alloc: AllocPolicy::Lowest,
            workers: 1,
            cache_pages: 0,
            readahead: 0,
            faultaround: 0,
            fair: Fairness::Fifo,
            flusher: 2,
            committer: 1,
            reclaimer: 1,
            discard: false,
            fsync: FsyncProtocol::P0,
            remap_readers: false,
            node_buffers: false,
            eb_fast_path: false,
            eb_hunk: false,
        }
    }
}

impl Default for MachineKnobs {
    fn default() -> Self {
        MachineKnobs { chooser: ChooserKind::Bytes, depth: 3, seed: 0, temper: Temper::Even }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_group_a_key_and_a_value() {
        let mut program = Program::default();
        Setting::parse("mount.fsync=p1").expect("allowed").apply(&mut program);
        Setting::parse("image.blocks=64").expect("allowed").apply(&mut program);
        assert_eq!((program.mount.fsync, program.image.blocks), (FsyncProtocol::P1, 64));
    }

    #[test]
    fn a_wrong_setting_says_what_would_be_right() {
        let wrong = |text| Setting::parse(text).expect_err(text);
        assert!(wrong("fsync=p1").contains("mount.KEY=VALUE"));
        assert!(wrong("mount.fsnyc=p1").contains("no knob \"fsnyc\""));
        assert!(wrong("mount.fsync=p2").contains("p0 or p1"));
        assert!(wrong("image.blocks=63").contains("a number from 64 to 4096"));
    }
}
