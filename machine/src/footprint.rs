//! What a step touches: the objects that the code between two scheduling points looks at and
//! changes. From it an explorer knows which steps commute.
//!
//! Everything that tasks share goes through [`crate::cell`], through locks, wait queues and the
//! disk, and all of these tell this module. It records only while a chooser watches
//! ([`crate::Chooser::watches`]); otherwise the cost is one test of a flag.
//!
//! A step has *parts*: a wait ends one, as what follows it may run in the same step or in a later
//! one, whether or not the task had to block. A check that fails and blocks leaves nothing behind,
//! so what it looked at is *hidden*: it conflicts, but it is no part of history.
//!
//! Objects are numbered in the order of their creation, which is the same in every execution with
//! the same beginning. It must never know what an object is.

use crate::disk::{DeviceId, RequestId};
use std::cell::{Cell, RefCell};

/// How a step touches an object. Two touches of one object commute if both are shared in the same
/// way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Touch {
    /// Changes it: commutes with nothing.
    Change,
    /// Looks at it, or changes it in a way that commutes with itself.
    Look,
    /// Another way that commutes with itself, and not with looking.
    Oppose,
}

/// One entry of a footprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The step touched an object.
    Touched {
        /// The object.
        object: u64,
        /// How.
        touch: Touch,
        /// Whether nothing of it remains.
        hidden: bool,
    },
    /// A decision was taken, and its outcome.
    Decided(u64),
    /// A request was submitted.
    Submitted(RequestId),
    /// A task was created, with the hash of its name.
    Spawned(u32),
    /// A part ends here.
    Boundary,
}

/// Touched by every step; changed by what commutes with nothing.
pub const EVERYTHING: u64 = 1 << 40;

/// What a power cut can show, and what is allowed of it. Touched with [`Touch::Look`] by what adds
/// crash states or takes away what is allowed of them (the submission of a write, the return of an
/// operation), and with [`Touch::Oppose`] by what does the contrary (a write that becomes durable,
/// the invocation of an operation). Steps of one kind commute: the cut after all of them is judged
/// by the strictest rule on the most states, and implies those in between.
pub const CUTS: u64 = EVERYTHING + 1;

/// The order of invocations and returns that an observer of the tasks sees.
pub const OBSERVER: u64 = EVERYTHING + 2;

/// The plan of device errors, which counts requests.
pub const ERROR_PLAN: u64 = EVERYTHING + 3;

/// What a FLUSH of the device will cover: completions against submissions of flushes (D-5).
pub(crate) const fn coverage(device: DeviceId) -> u64 {
    EVERYTHING + 16 + device.0 as u64
}

/// A block of a device.
pub(crate) const fn block(device: DeviceId, block: u64) -> u64 {
    1 << 48 | (device.0 as u64) << 40 | block
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static NEXT: Cell<u32> = const { Cell::new(1) };
    static STEP: RefCell<Step> = const { RefCell::new(Step::new()) };
}

struct Step {
    entries: Vec<Entry>,
    part: usize,
    /// For each cell: the part that touched it last, and where that stands among the entries.
    last: Vec<(u32, u32)>,
    serial: u32,
}

impl Step {
    const fn new() -> Self {
        Step { entries: Vec::new(), part: 0, last: Vec::new(), serial: 1 }
    }

    fn touch(&mut self, object: u64, touch: Touch) {
        let at = self.entries.len() as u32;
        if object < EVERYTHING {
            let index = object as usize;
            if self.last.len() <= index {
                self.last.resize(index + 64, (0, 0));
            }
            let (serial, place) = self.last[index];
            if serial == self.serial {
                if let Entry::Touched { touch: known, .. } = &mut self.entries[place as usize]
                    && *known != touch
                {
                    *known = Touch::Change;
                }
                return;
            }
            self.last[index] = (self.serial, at);
        }
        self.entries.push(Entry::Touched { object, touch, hidden: false });
    }

    fn end_part(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        if self.serial == 0 {
            self.last.clear();
            self.serial = 1;
        }
        self.part = self.entries.len();
    }
}

/// The number of a new object.
#[inline]
pub(crate) fn fresh() -> u32 {
    let id = NEXT.get();
    NEXT.set(id.wrapping_add(1));
    id
}

/// Starts numbering again: a new execution begins.
pub(crate) fn restart() {
    NEXT.set(1);
    forget();
}

/// Records from now on, or does not.
pub(crate) fn record(on: bool) {
    ON.set(on);
    forget();
}

fn forget() {
    STEP.with_borrow_mut(|step| {
        step.entries.clear();
        step.end_part();
    });
}

#[cold]
fn push(object: u64, touch: Touch) {
    STEP.with_borrow_mut(|step| step.touch(object, touch));
}

/// The running step touches an object.
#[inline]
pub fn touch(object: u64, touch: Touch) {
    if ON.get() {
        push(object, touch);
    }
}

/// The running step depends on what no object tells, as on the number of references to something:
/// it commutes with nothing.
#[inline]
pub fn touch_everything() {
    touch(EVERYTHING, Touch::Change);
}

/// The running step touches something that leaves no trace in what follows.
pub(crate) fn touch_hidden(object: u64) {
    if ON.get() {
        let entry = Entry::Touched { object, touch: Touch::Change, hidden: true };
        STEP.with_borrow_mut(|step| step.entries.push(entry));
    }
}

/// The running step does something that only this entry tells.
pub(crate) fn note(entry: Entry) {
    if ON.get() {
        STEP.with_borrow_mut(|step| step.entries.push(entry));
    }
}

/// A wait begins: what follows it is a part of its own.
pub(crate) fn boundary() {
    if ON.get() {
        STEP.with_borrow_mut(|step| {
            step.entries.push(Entry::Boundary);
            step.end_part();
        });
    }
}

/// The wait that began last blocks: what it has looked at leaves no trace.
pub(crate) fn retract() {
    if ON.get() {
        STEP.with_borrow_mut(|step| {
            let part = step.part;
            for entry in &mut step.entries[part..] {
                if let Entry::Touched { hidden, .. } = entry {
                    *hidden = true;
                }
            }
        });
    }
}

/// Runs what only looks on: nothing of it enters a footprint.
pub(crate) fn unseen<T>(looks_on: impl FnOnce() -> T) -> T {
    let was_on = ON.replace(false);
    let seen = looks_on();
    ON.set(was_on);
    seen
}

/// The footprint of the step that ends here; the next one begins.
pub(crate) fn take(into: &mut Vec<Entry>) {
    into.clear();
    STEP.with_borrow_mut(|step| {
        std::mem::swap(&mut step.entries, into);
        step.end_part();
    });
}
