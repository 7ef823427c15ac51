//! Planned errors: which requests fail with EIO, and what a failed write leaves behind.
//!
//! Promises that a rule's decision depends on nothing but the requests submitted since the rule was
//! made, so that an execution with errors replays.
//!
//! Must never choose: the caller draws the numbers that it puts into a rule.

use std::ops::Range;

use super::request::{Op, Request};
use super::{DeviceId, Moment, RequestId};

/// What is on the medium of a write that failed (D-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Nothing was written.
    #[default]
    Nothing,
    /// These sectors of each block were; bit 0 is the first sector.
    Sectors(u8),
    /// This many blocks from the first were, as a whole.
    Blocks(u32),
}

impl Part {
    /// The sectors written of the block with that index in the request.
    pub(super) fn mask(self, index: u32) -> u8 {
        match self {
            Part::Nothing => 0,
            Part::Sectors(mask) => mask,
            Part::Blocks(count) if index < count => u8::MAX,
            Part::Blocks(_) => 0,
        }
    }
}

/// Which requests a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The request that is the `n`th of its kind submitted after the rule was made, counted from 1,
    /// to any device. Zero is none.
    Nth(u32),
    /// Every request of the kind that touches one of these blocks. A flush touches none.
    Blocks {
        /// The device.
        device: DeviceId,
        /// The blocks.
        blocks: Range<u64>,
    },
}

/// One planned error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind of requests that fail: writes, reads or flushes. Discards do not fail by plan.
    pub op: Op,
    /// Which of them.
    pub target: Target,
    /// What a failed write leaves.
    pub part: Part,
}

impl Rule {
    /// The `n`th request of that kind from now on fails, counted from 1, and leaves nothing.
    pub fn nth(op: Op, n: u32) -> Rule {
        Rule { op, target: Target::Nth(n), part: Part::Nothing }
    }

    /// Every request of that kind to one of the blocks fails and leaves nothing.
    pub fn blocks(op: Op, device: DeviceId, blocks: Range<u64>) -> Rule {
        Rule { op, target: Target::Blocks { device, blocks }, part: Part::Nothing }
    }

    /// The same, but a failed write leaves `part`.
    pub fn leaving(self, part: Part) -> Rule {
        Rule { part, ..self }
    }
}

/// An error that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The request that failed.
    pub request: RequestId,
    /// When it completed.
    pub moment: Moment,
}

/// The rules in force, with their counts.
#[derive(Default)]
pub(super) struct Plan {
    rules: Vec<(Rule, u32)>,
}

impl Plan {
    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push((rule, 0));
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the plan holds for a request being submitted: the part it leaves if it is to fail.
    /// Every rule counts; the first that hits decides.
    pub(super) fn fate(&mut self, request: &Request) -> Option<Part> {
        if request.op() == Op::Discard {
            return None;
        }
        let mut fate = None;
        for (rule, seen) in self.rules.iter_mut().filter(|(rule, _)| rule.op == request.op()) {
            *seen += 1;
            if fate.is_none() && rule.target.hits(request, *seen) {
                fate = Some(rule.part);
            }
        }
        fate
    }
}

impl Target {
    fn hits(&self, request: &Request, seen: u32) -> bool {
        match self {
            Target::Nth(n) => seen == *n,
            Target::Blocks { device, blocks } => {
                let (at, first) = request.place();
                let end = first.saturating_add(request.count());
                at == *device && first < blocks.end && blocks.start < end
            }
        }
    }
}
