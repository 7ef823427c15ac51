//! What a finding adds to its program: the executed choices and the power cut.
//!
//! Both are hints when the engine's code has changed since: a replay follows them as far as they
//! apply.

/// The choices of an execution, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The moves, run-length encoded.
    pub moves: Vec<Move>,
}

/// One move of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// `run WHO STEPS`: an actor runs over this many sites.
    Run {
        /// The name of the task or background actor.
        who: String,
        /// How many sites it passes.
        steps: u32,
    },
    /// `complete REQUEST`: the device completes a request.
    Complete {
        /// The number of the request in the disk's log.
        request: u32,
    },
    /// `decide LABEL N CHOSEN`: any other choice.
    Choose {
        /// What is decided.
        label: String,
        /// How many alternatives there were.
        n: u32,
        /// Which one was taken, below `n`.
        chosen: u32,
    },
}

impl Schedule {
    /// Adds one step of an actor, joining it to the run before if that is of the same actor.
    pub fn push_step(&mut self, actor: &str) {
        match self.moves.last_mut() {
            Some(Move::Run { who, steps }) if who == actor => *steps = steps.saturating_add(1),
            _ => self.moves.push(Move::Run { who: actor.to_owned(), steps: 1 }),
        }
    }
}

/// What the medium shows for pending blocks that a cut does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Their durable content: the volatile cache is gone. The default.
    Lost,
    /// Their newest version: the cache was written back.
    Kept,
}

/// When power is lost, and what the medium then holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutSpec {
    /// `after=N`: the position in the sequence of events after which power is lost.
    pub moment: u64,
    /// `rest=lost|kept`: the blocks that are not listed.
    pub rest: Rest,
    /// The listed blocks.
    pub kept: Vec<KeptSpec>,
    /// `recovery-cut after=N`: power is lost again, at this position of recovery's events.
    pub inside_recovery: Option<u64>,
    /// What is listed for the second cut; for its other blocks `rest` holds as well.
    pub kept_inside: Vec<KeptSpec>,
}

impl CutSpec {
    /// A cut that loses everything that was not flushed.
    pub fn at(moment: u64) -> Self {
        let (kept, kept_inside) = (Vec::new(), Vec::new());
        CutSpec { moment, rest: Rest::Lost, kept, inside_recovery: None, kept_inside }
    }
}

/// What the medium holds in one block.
///
/// `keep B vN` for a whole version, `lose B` for version 0, `tear B vN sectors=MASK` for some
/// sectors of a version; several `tear` lines of a block add up. B is a block number, with
/// `DEVICE:` before it where the device is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSpec {
    /// The device.
    pub device: u8,
    /// The block.
    pub block: u64,
    /// The version: 0 is the durable content, then the pending writes in order of submission.
    pub version: u32,
    /// The sectors that have this version; all of them if absent.
    pub sectors: Option<u8>,
}
