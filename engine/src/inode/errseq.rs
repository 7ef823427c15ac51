//! Errors of writeback, each reported once to every open file (Linux `lib/errseq.c`).
//!
//! Promises: an error set after an open file looked last is reported to it once; one that nobody
//! has seen yet is also reported to a file that is opened later. It must never know what failed.

use crate::error::Error;
use machine::cell::{Cell, RefCell};

/// The errors of an inode so far: a counter that moves when the last error was seen.
#[derive(Default)]
pub struct ErrSeq {
    /// Twice the number of errors that count, plus one if the last was seen.
    state: Cell<u32>,
    count: Cell<u32>,
    taken: Cell<u32>,
    error: RefCell<Option<Error>>,
}

/// What an open file has seen of an [`ErrSeq`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u32);

impl ErrSeq {
    /// Records an error.
    pub fn set(&self, error: Error) {
        let state = self.state.get();
        if state == 0 || state & 1 == 1 {
            self.state.set((state | 1).wrapping_add(1));
        }
        self.count.set(self.count.get().wrapping_add(1));
        *self.error.borrow_mut() = Some(error);
    }

    /// Where a file that is opened now begins: before an error that nobody has seen yet.
    pub fn sample(&self) -> Seen {
        let state = self.state.get();
        if state & 1 == 1 { Seen(state) } else { Seen(0) }
    }

    /// The error that the file of `seen` has not seen, once.
    pub fn check_and_advance(&self, seen: &Cell<Seen>) -> Option<Error> {
        let state = self.state.get();
        if Seen(state) == seen.get() {
            return None;
        }
        let marked = if state == 0 { 0 } else { state | 1 };
        self.state.set(marked);
        let known = seen.replace(Seen(marked));
        if known == Seen(marked) { None } else { self.error.borrow().clone() }
    }

    /// The last error, once for all open files together
    /// (the defect `fsync-error-reported-once-lost`).
    pub(crate) fn take_for_all(&self) -> Option<Error> {
        let count = self.count.get();
        if self.taken.replace(count) == count { None } else { self.last() }
    }

    /// How many errors there were: to tell whether one came up during some work.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// The last error.
    pub fn last(&self) -> Option<Error> {
        self.error.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_open_file_hears_of_an_error_once() {
        let failed = Error::Io { device: 0, block: 7, what: "write data" };
        let full = Error::NoSpace { wanted: 1, available: 0 };
        let errors = ErrSeq::default();
        let (first, second) = (Cell::new(errors.sample()), Cell::new(errors.sample()));
        assert_eq!(errors.check_and_advance(&first), None);
        errors.set(failed.clone());
        assert_eq!(errors.check_and_advance(&first), Some(failed.clone()));
        assert_eq!(errors.check_and_advance(&first), None);
        let late = Cell::new(errors.sample());
        assert_eq!(errors.check_and_advance(&late), None, "seen by somebody before the open");
        assert_eq!(errors.check_and_advance(&second), Some(failed));
        errors.set(full.clone());
        let late = Cell::new(errors.sample());
        assert_eq!(errors.check_and_advance(&late), Some(full.clone()), "nobody saw it yet");
        assert_eq!(errors.check_and_advance(&first), Some(full));
        assert_eq!(errors.count(), 2);
    }
}
