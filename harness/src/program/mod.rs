//! Programs: file-system operations in `setup`, concurrent tasks and `after`, with all that an
//! execution of them depends on.
//!
//! What lives here: the data type, its text (strict and lenient parsers, canonical printer),
//! generation and mutation. What it must never know: how an operation is executed or judged.
//!
//! - [`syntax`] is the table of operations, [`options`] the table of knobs, [`limits`] every bound;
//! - [`Program::fixup`] brings any program into canonical form: within the limits, names in the
//!   order of their first use. Parsers, generators and mutators all return canonical programs, and
//!   for those `strict(&p.to_string()) == Ok(p)`;
//! - [`strict`] is for people, [`lenient`] for corpora;
//! - [`generate`](fn@generate) and `Arbitrary` share one generator over a [`Source`] of numbers,
//!   with a [`SwarmMask`] drawn first;
//! - [`mutate`](fn@mutate) and [`crossover`] change programs by operations.

mod dice;
mod edit;
mod emphasis;
mod error;
mod fixup;
mod generate;
mod lexer;
pub mod limits;
mod mutate;
pub mod options;
mod parse;
mod parse_lines;
mod print;
mod ranges;
mod reduce;
mod repertoire;
mod replay;
mod splice;
mod swarm;
pub mod syntax;
mod text_bytes;
mod words;
mod world;

pub use dice::{Dice, Source};
pub use edit::Slot;
pub use emphasis::Emphasis;
pub use error::{ParseError, nearest};
pub use generate::{AnyOperation, TextProgram, arbitrary_program, generate};
pub use mutate::mutate;
pub use options::{
    AllocPolicy, ChooserKind, Fairness, FsyncProtocol, ImageKnobs, MachineKnobs, MountKnobs,
    Setting, Temper,
};
pub use parse::{Repaired, lenient, strict};
pub use repertoire::Repertoire;
pub use replay::{CutSpec, KeptSpec, Move, Rest, Schedule};
pub use splice::crossover;
pub use swarm::SwarmMask;
pub use syntax::{Kind, kind};
pub use text_bytes::{crossover_text, mutate_text};
pub(crate) use words::default_names;

use oracle::operation::{Errno, OpId, Operation, PathId, Span};

/// A program: what one execution performs, and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The version of the text; see [`limits::VERSION`].
    pub version: u32,
    /// Comments, in the order of the text.
    pub comments: Vec<Comment>,
    /// Options of the image.
    pub image: ImageKnobs,
    /// Options of the mount.
    pub mount: MountKnobs,
    /// Options of the machine: who takes the choices.
    pub machine: MachineKnobs,
    /// Defects of the engine switched on, by name.
    pub defects: Vec<String>,
    /// Faults that the device injects.
    pub faults: Vec<FaultSpec>,
    /// Names of files, indexed by [`PathId`], in the order of their first use.
    pub paths: Vec<String>,
    /// Names of mappings, indexed by `MapId`, in the order of their first use.
    pub maps: Vec<String>,
    /// Operations performed one after the other before the tasks start.
    pub setup: Vec<Operation>,
    /// The concurrent tasks.
    pub tasks: Vec<Task>,
    /// What to do and to check on each recovered state.
    pub after: Vec<AfterLine>,
    /// The verdict that a person expects.
    pub expect: Option<Expect>,
    /// The recorded choices of a finding.
    pub schedule: Option<Schedule>,
    /// The power cut of a finding.
    pub cut: Option<CutSpec>,
    /// Choices as bytes, for the chooser `bytes`.
    pub choices: Vec<u8>,
}

impl Default for Program {
    fn default() -> Self {
        Program {
            version: limits::VERSION,
            comments: Vec::new(),
            image: ImageKnobs::default(),
            mount: MountKnobs::default(),
            machine: MachineKnobs::default(),
            defects: Vec::new(),
            faults: Vec::new(),
            paths: Vec::new(),
            maps: Vec::new(),
            setup: Vec::new(),
            tasks: Vec::new(),
            after: Vec::new(),
            expect: None,
            schedule: None,
            cut: None,
            choices: Vec::new(),
        }
    }
}

/// Operations that run one after the other, concurrently with the other tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The name, unique among the tasks of a program.
    pub name: String,
    /// The operations.
    pub ops: Vec<Operation>,
}

/// One line of `after`, on a recovered state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterLine {
    /// An operation that must succeed.
    Operation(Operation),
    /// The name must be there.
    Exists(PathId),
    /// The name must not be there.
    Absent(PathId),
    /// The file must have this size.
    Size {
        /// The file.
        path: PathId,
        /// Its size in bytes.
        size: u64,
    },
    /// The range must read as this.
    Content {
        /// The file.
        path: PathId,
        /// The range in bytes.
        span: Span,
        /// What it must hold.
        holds: Content,
    },
}

/// What a range of a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One byte repeated: `fill=0xNN`.
    Byte(u8),
    /// Zeros: `zero`.
    Zero,
    /// The self-describing bytes of an operation: `tag=N`.
    Tag(OpId),
}

/// The direction of a device request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device.
    Read,
    /// To the device.
    Write,
}

/// A device request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSpec {
    /// Which requests are counted.
    pub direction: Direction,
    /// Which one fails, counted from 1.
    pub nth: u32,
    /// With which error; devices report EIO only.
    pub errno: Errno,
    /// Count only requests submitted on behalf of this operation.
    pub op: Option<OpId>,
}

/// The verdict that a person expects of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No execution violates a guarantee.
    Pass,
    /// The recorded execution violates a guarantee.
    Violation {
        /// The kind of the violation, such as `stale-data`.
        kind: String,
        /// The number of the guarantee.
        guarantee: Option<u16>,
    },
    /// Some schedule with at most this many preemptions violates a guarantee.
    Reachable {
        /// The kind of the violation.
        kind: String,
        /// The bound.
        preemptions: u32,
    },
    /// No schedule with at most this many preemptions violates any.
    Unreachable {
        /// The bound.
        preemptions: u32,
    },
}

/// A comment, printed on a line of its own before the line that it stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The part of the text.
    pub place: Place,
    /// Before which line of that part; 0 is its first.
    pub item: u32,
    /// The words, without `#` and the space after it.
    pub text: String,
}

/// A part of the text. The order is that of the canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Right after the first line.
    Head,
    /// A header line of knobs.
    Knobs(options::Group),
    /// The `defect` lines.
    Defects,
    /// The `fault` lines.
    Faults,
    /// `setup` and its operations.
    Setup,
    /// The task of this index and its operations.
    Task(u8),
    /// `after` and its lines.
    After,
    /// The `expect` line.
    Expect,
    /// `schedule` and its moves.
    Schedule,
    /// `cut` and its blocks.
    Cut,
    /// `recovery-cut` and its blocks.
    RecoveryCut,
    /// The `choices` lines.
    Choices,
    /// After everything.
    End,
}
