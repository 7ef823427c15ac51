//! What a report needs beyond the trace: who held which lock and waited for what from when to when,
//! and who submitted which request.
//!
//! Promises that nothing is kept, and no step costs more than one comparison, unless somebody asked
//! ([`Machine::record`]), and that recording changes nothing and leaves no footprint.
//!
//! Must never know why anybody asks.

use crate::disk::{Moment, RequestId};
use crate::lock::{Mode, Range};
use crate::machine::{Machine, Status, TaskId, Waiting};
use std::cell::{Cell, Ref, RefCell};
use std::panic::Location;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// The last event before it was over.
    pub moment: Moment,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// A task took a lock.
    Took {
        /// Who.
        task: TaskId,
        /// The number by which it is given back.
        hold: u32,
        /// The class of the lock.
        class: &'static str,
        /// The lock within its class.
        instance: (u64, u64),
        /// What of it.
        range: Range,
        /// How.
        mode: Mode,
        /// The line that asked for it.
        place: &'static Location<'static>,
    },
    /// A holder goes on with a part of it, or as a reader.
    Changed {
        /// The number of what is held.
        hold: u32,
        /// What is held from now on.
        range: Range,
        /// How.
        mode: Mode,
    },
    /// A task moved a lock to an asynchronous IO.
    Handed {
        /// The number of what is held.
        hold: u32,
    },
    /// A lock was given back.
    Gave {
        /// The number of what was held.
        hold: u32,
    },
    /// A task began to wait.
    Waits {
        /// Who.
        task: TaskId,
        /// The class of the lock or of the pseudo-resource.
        class: &'static str,
        /// Which one of the class.
        instance: (u64, u64),
        /// The line that waits.
        place: &'static Location<'static>,
    },
    /// A task that waited may go on.
    Woke {
        /// Who.
        task: TaskId,
    },
    /// A task submitted a request.
    Submitted {
        /// Who.
        task: TaskId,
        /// The request, by its number in the log.
        request: RequestId,
    },
}

/// What a machine has kept.
#[derive(Default)]
pub(crate) struct Record {
    is_on: Cell<bool>,
    happened: RefCell<Vec<Recorded>>,
}

impl Machine {
    /// Keeps from now on what happens, over all executions until it is told not to; or does not.
    pub fn record(&self, is_on: bool) {
        self.0.watch.record.is_on.set(is_on);
        self.forget_record();
    }

    /// What happened in this execution, in order: nothing, unless it was to be
    /// [kept](Self::record).
    pub fn recorded(&self) -> Ref<'_, Vec<Recorded>> {
        self.0.watch.record.happened.borrow()
    }

    pub(crate) fn forget_record(&self) {
        self.0.watch.record.happened.borrow_mut().clear();
    }

    /// A task waits; a worker that has nothing to do does not.
    #[inline]
    pub(crate) fn note_wait(&self, task: TaskId, status: Status, waiting: &Waiting) {
        if status == Status::Blocked {
            let Waiting { class, instance, place, .. } = *waiting;
            self.happened(|| Happening::Waits { task, class, instance, place });
        }
    }

    #[inline]
    pub(crate) fn note_wake(&self, task: TaskId) {
        self.happened(|| Happening::Woke { task });
    }

    /// Keeps something, if somebody asked. What a stopped machine gives back was held at its end.
    #[inline]
    pub(crate) fn happened(&self, what: impl FnOnce() -> Happening) {
        if self.0.watch.record.is_on.get() && !self.0.poisoned.get() {
            let recorded = Recorded { moment: self.now(), what: what() };
            self.0.watch.record.happened.borrow_mut().push(recorded);
        }
    }
}

/// A source place in words: the end of the path, which is the same on every machine, and the line.
pub fn place_name(place: &Location<'_>) -> String {
    crate::deadlock::place(place)
}
