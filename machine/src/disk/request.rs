//! Requests to the disk, and the append-only log of them with their moments.
//!
//! Promises that the log alone (with the content that lay below it) decides what a cut at any
//! moment may leave: everything after the execution is derived from it.
//!
//! Must never know who submitted a request; a [`Note`] carries the submitter's words for reports.

use std::rc::Rc;

use smallvec::SmallVec;

use super::plan::Part;
use super::{BlockSource, DeviceId, Moment};
use crate::block::Block;

/// Consecutive blocks: the payload of a write, the data of a read.
pub type Data = SmallVec<[Block; 1]>;

/// The number of a request in its log, from 0 in the order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// What the submitter says about a request, for reports only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// A number of the submitter's: an inode, a transaction.
    pub tag: u64,
    /// What it is: "data", "tree node", "log", "super".
    pub what: &'static str,
}

/// What is asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write consecutive blocks.
    Write {
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
        /// The contents, one a block; at least one.
        payload: Data,
        /// For a single block: the sectors to write, if not all. Bit 0 is the first sector.
        sectors: Option<u8>,
        /// Durable at completion (D-6).
        fua: bool,
    },
    /// Read consecutive blocks.
    Read {
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
        /// Blocks to read; at least one.
        count: u32,
    },
    /// Make durable what completed before (D-5).
    Flush {
        /// The device.
        device: DeviceId,
    },
    /// Give blocks up (D-8).
    Discard {
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
        /// Blocks to discard; at least one.
        count: u32,
    },
}

/// The kinds of requests, as error rules name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`Request::Write`].
    Write,
    /// [`Request::Read`].
    Read,
    /// [`Request::Flush`].
    Flush,
    /// [`Request::Discard`].
    Discard,
}

impl Request {
    /// A write of one whole block without FUA.
    pub fn write(device: DeviceId, block: u64, content: Block) -> Request {
        let payload = SmallVec::from_buf([content]);
        Request::Write { device, block, payload, sectors: None, fua: false }
    }

    /// A write of one whole block with FUA.
    pub fn write_fua(device: DeviceId, block: u64, content: Block) -> Request {
        let payload = SmallVec::from_buf([content]);
        Request::Write { device, block, payload, sectors: None, fua: true }
    }

    /// A read of one block.
    pub fn read(device: DeviceId, block: u64) -> Request {
        Request::Read { device, block, count: 1 }
    }

    /// The device and the first block; block 0 for a flush.
    pub fn place(&self) -> (DeviceId, u64) {
        match *self {
            Request::Write { device, block, .. }
            | Request::Read { device, block, .. }
            | Request::Discard { device, block, .. } => (device, block),
            Request::Flush { device } => (device, 0),
        }
    }

    /// Blocks that the request names; none for a flush.
    pub fn count(&self) -> u64 {
        match self {
            Request::Write { payload, .. } => payload.len() as u64,
            Request::Read { count, .. } | Request::Discard { count, .. } => u64::from(*count),
            Request::Flush { .. } => 0,
        }
    }

    /// The kind.
    pub fn op(&self) -> Op {
        match self {
            Request::Write { .. } => Op::Write,
            Request::Read { .. } => Op::Read,
            Request::Flush { .. } => Op::Flush,
            Request::Discard { .. } => Op::Discard,
        }
    }

    /// Sectors that the request changes in each of its blocks.
    pub(super) fn mask(&self) -> u8 {
        match self {
            Request::Write { sectors, .. } => sectors.unwrap_or(u8::MAX),
            Request::Discard { .. } => u8::MAX,
            Request::Read { .. } | Request::Flush { .. } => 0,
        }
    }
}

impl Op {
    /// The word used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Op::Write => "write",
            Op::Read => "read",
            Op::Flush => "flush",
            Op::Discard => "discard",
        }
    }
}

/// Why a request failed. Each message completes "failed to read: ...".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The error that was planned (EIO).
    #[error("input/output error in a {} of block {block} on device {device}", op.name())]
    Io {
        /// The kind of request.
        op: Op,
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
    },
    /// Blocks beyond the end: a bug of the submitter.
    #[error("{count} blocks from {block} do not lie on device {device} of {blocks} blocks")]
    OutOfRange {
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
        /// Blocks asked for.
        count: u64,
        /// Blocks that the device has.
        blocks: u64,
    },
    /// A device that the disk does not have: a bug of the submitter.
    #[error("there is no device {device}")]
    NoDevice {
        /// The device asked for.
        device: DeviceId,
    },
    /// No blocks, no sectors, or sectors of more than one block: a bug of the submitter.
    #[error("a {} of block {block} on device {device} names nothing or too much", op.name())]
    Malformed {
        /// The kind of request.
        op: Op,
        /// The device.
        device: DeviceId,
        /// The first block.
        block: u64,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not completed.
    InFlight,
    /// It did what it was asked.
    Done,
    /// It failed and left this part of itself (D-10).
    Failed {
        /// The reason given to the submitter.
        error: DiskError,
        /// What was written nevertheless; nothing for a read or a flush.
        part: Part,
    },
}

/// A request in the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its number.
    pub id: RequestId,
    /// What was asked.
    pub request: Request,
    /// What the submitter said about it.
    pub note: Note,
    /// When it was submitted.
    pub submitted: Moment,
    /// When it completed, if it did.
    pub completed: Option<Moment>,
    /// How it ended.
    pub outcome: Outcome,
    /// Decided at submission, told at completion.
    pub(super) fate: Result<(), (DiskError, Part)>,
}

impl Logged {
    /// Whether a cut while it was in flight may find a part of it: false for a request that the
    /// disk refused to take (D-14).
    pub(super) fn was_accepted(&self) -> bool {
        match self.fate {
            Ok(()) => true,
            Err((error, _)) => matches!(error, DiskError::Io { .. }),
        }
    }

    /// Whether it will fail, or has failed, when it completes.
    pub(crate) fn is_to_fail(&self) -> bool {
        self.fate.is_err()
    }

    /// Whether it completed without an error.
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Done
    }
}

/// All requests to a disk since its reset, and the content that lay below them.
#[derive(Default)]
pub struct Log {
    pub(super) bases: Vec<Rc<dyn BlockSource>>,
    pub(super) requests: Vec<Logged>,
}

impl Log {
    /// The requests, in the order of submission.
    pub fn requests(&self) -> &[Logged] {
        &self.requests
    }

    /// The request of that number, if there is one.
    pub fn get(&self, id: RequestId) -> Option<&Logged> {
        self.requests.get(id.0 as usize)
    }

    /// What each device held before the first request.
    pub fn bases(&self) -> &[Rc<dyn BlockSource>] {
        &self.bases
    }

    /// The moments at which the set of possible crash states changes, in order, each once:
    /// submission of a write or discard (D-7), completion of a FUA write (D-6), of a FLUSH (D-5),
    /// and of a write that failed (D-10).
    ///
    /// All cuts from one of these moments until just before the next have the same states. The last
    /// of them ([`Moment::before`] of the next) is the one that allows least, as most operations
    /// have returned by then.
    pub fn cuts(&self) -> Vec<Moment> {
        let mut moments = Vec::with_capacity(self.requests.len());
        for logged in self.requests.iter().filter(|logged| logged.was_accepted()) {
            let writes = logged.request.mask() != 0;
            if writes {
                moments.push(logged.submitted);
            }
            let Some(completed) = logged.completed else {
                continue;
            };
            let narrows = match (&logged.request, logged.outcome) {
                (Request::Flush { .. }, Outcome::Done) => true,
                (Request::Write { fua, .. }, Outcome::Done) => *fua,
                (Request::Write { .. }, Outcome::Failed { .. }) => true,
                _ => false,
            };
            if narrows {
                moments.push(completed);
            }
        }
        moments.sort_unstable();
        debug_assert!(moments.windows(2).all(|pair| pair[0] < pair[1]));
        moments
    }
}
