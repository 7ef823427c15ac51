//! The trace of an execution: the executed steps, and the preemptions, which tell races apart.
//!
//! Promises that an execution keeps them all, in their order. Must never know why a chooser chose.

use crate::choice::{Actor, Candidate};
use crate::disk::{Moment, RequestId};
use crate::event::{Event, Object};
use crate::machine::{Machine, TaskId};
use std::cell::Ref;

/// One executed step, for traces, hashes and coverage of interleavings.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When.
    pub moment: Moment,
    /// Who.
    pub actor: Actor,
    /// What.
    pub what: StepKind,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub enum StepKind {
    /// A task passed a site.
    Event(Event),
    /// The device completed a request.
    Complete(RequestId),
}

/// A task that was ready, when another one went on.
#[derive(Clone, Copy, Debug)]
pub struct Preemption {
    /// The last moment before.
    pub moment: Moment,
    /// Who had to wait.
    pub task: TaskId,
    /// The step that it was about to make.
    pub event: Event,
}

impl Machine {
    /// The executed steps so far.
    pub fn trace(&self) -> Ref<'_, Vec<Step>> {
        self.0.trace.borrow()
    }

    /// The preemptions so far.
    pub fn preemptions(&self) -> Ref<'_, Vec<Preemption>> {
        self.0.preemptions.borrow()
    }

    pub(crate) fn note_preemption(&self, current: &Candidate) {
        let (Actor::Task(task), Some(event)) = (current.actor, current.event) else { return };
        let moment = self.now();
        self.0.preemptions.borrow_mut().push(Preemption { moment, task, event });
    }

    /// A hash of the executed steps: equal if and only if two executions did the same. Names of
    /// sites, objects and requests enter it; no address does.
    pub fn trace_hash(&self) -> u64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut mix = |value: u64| {
            hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        };
        for step in self.0.trace.borrow().iter() {
            match step.what {
                StepKind::Event(Event { site, object: Object { kind, a, b }, .. }) => {
                    let Actor::Task(TaskId(task)) = step.actor else { continue };
                    mix(u64::from(site.hash()) << 32 | u64::from(kind) << 8 | u64::from(task));
                    mix(a);
                    mix(b);
                }
                StepKind::Complete(RequestId(id)) => mix(u64::from(id) << 8 | 0xff),
            }
        }
        hash
    }
}
