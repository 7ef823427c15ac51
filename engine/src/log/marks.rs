//! Whether a log of the running transaction may still be published.
//!
//! Promises: once a log tree could not be completed, in memory or on the medium, no log of that
//! transaction is published (B-3), and every fsync commits instead until the next one begins. It
//! must never know inodes.

use crate::types::TransactionId;
use machine::cell::Cell;

/// The state of the log of a mount.
#[derive(Debug, Default)]
pub struct LogMarks {
    broken: Cell<TransactionId>,
}

impl LogMarks {
    /// A log tree of this transaction is incomplete.
    pub fn note_broken(&self, transaction: TransactionId) {
        debug_assert!(self.broken.get() <= transaction, "marks come in the order of transactions");
        self.broken.set(transaction);
    }

    /// Whether a log of this transaction must not be published.
    pub fn is_broken(&self, transaction: TransactionId) -> bool {
        self.broken.get() == transaction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_log_ends_with_its_transaction() {
        let (marks, now) = (LogMarks::default(), TransactionId(5));
        assert!(!marks.is_broken(now));
        marks.note_broken(now);
        assert!(marks.is_broken(now) && !marks.is_broken(now.next()));
    }
}
