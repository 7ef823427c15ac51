//! The one stream of nondeterminism: every decision of an execution is a number below `n`, asked
//! of one [`Chooser`] and recorded as (label, n, chosen).
//!
//! A chooser must be a function of its own state and of what it is shown: no clock, no address, no
//! hash order. The same chooser state, program and image then give the same execution.

use crate::disk::RequestId;
use crate::event::{Event, Site};
use crate::machine::TaskId;

/// The label under which the decision "who runs next" is recorded.
pub const RUN: &str = "run";

/// The label under which the decision "which request ends" is recorded.
pub const COMPLETE: &str = "complete";

/// The name of the device among the actors.
pub const DEVICE: &str = "disk";

/// The [`name_hash`] of [`DEVICE`].
pub const DEVICE_NAME: u32 = name_hash(DEVICE);

/// The number under which choosers know the actor of a name.
pub const fn name_hash(name: &str) -> u32 {
    Site::new_hash(name)
}

/// One recorded decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What was decided.
    pub label: &'static str,
    /// How many possibilities there were; at least two, as others are not asked.
    pub n: u32,
    /// The one taken, below `n`.
    pub chosen: u32,
    /// Who made the step that the decision precedes or chose: for [`RUN`], the actor chosen.
    pub actor: Actor,
}

/// Who makes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// A task.
    Task(TaskId),
    /// The device, which completes a request.
    Device,
}

/// One of those who may make the next step.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Who.
    pub actor: Actor,
    /// The [`name_hash`] of the name of the task, or [`DEVICE_NAME`]: stable when tasks are added
    /// or removed, which numbers are not.
    pub name: u32,
    /// What it will do; for the device, `None`.
    pub event: Option<Event>,
}

/// Who may make the next step. Candidate 0 is the task that made the last one, if it is still
/// ready: taking 0 throughout means no preemption. The others follow by task number, the device
/// last.
pub struct Ready<'a> {
    /// Whether candidate 0 is the task that made the last step.
    pub current_is_ready: bool,
    /// The candidates; at least two, unless the chooser watches.
    pub candidates: &'a [Candidate],
    /// The requests that the device may complete, in the order in which [`COMPLETE`] numbers them.
    pub in_flight: &'a [RequestId],
}

/// What a chooser returns in place of a candidate to end the execution there: the machine stops
/// without a report.
pub const STOP: u32 = u32::MAX;

impl Ready<'_> {
    /// How many candidates there are.
    pub fn count(&self) -> u32 {
        self.candidates.len() as u32
    }
}

/// Turns a source of numbers into decisions.
pub trait Chooser {
    /// Who makes the next step: an index into the candidates, or [`STOP`].
    fn run(&mut self, ready: &Ready<'_>) -> u32;

    /// Any other decision: a number below `n`, where `n` is at least two.
    fn pick(&mut self, label: &'static str, n: u32) -> u32;

    /// Which request ends: an index into those in flight, which are at least two.
    fn complete(&mut self, in_flight: &[RequestId]) -> u32 {
        self.pick(COMPLETE, in_flight.len() as u32)
    }

    /// Whether this chooser ever switches away from a task that is ready. If not, the machine does
    /// not ask it while the current task is ready, and completes requests only when they are
    /// waited for.
    fn preempts(&self) -> bool {
        true
    }

    /// Whether this chooser is asked before every step, even if there is only one candidate, and
    /// sees what each step touched ([`crate::footprint`]).
    fn watches(&self) -> bool {
        false
    }

    /// The run that it decided has ended. Told only to a chooser that watches.
    fn ended(&mut self) {}

    /// Whether the execution that has ended is not for this search to judge, as it is another
    /// shard's.
    fn declines(&self) -> bool {
        false
    }

    /// Gives the chooser back its concrete type.
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}
