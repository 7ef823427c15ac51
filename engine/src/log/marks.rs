//! What happened in the running transaction that the log cannot express, for the whole file system.
//!
//! Marks belong to one transaction, and the first one of a later transaction forgets them: its
//! predecessor is durable then.
//!
//! Promises: whoever is told to commit commits; nobody is told so for longer than the transaction.
//! It must never know inodes.

use crate::inode::log_state::Name;
use crate::types::{Ino, TransactionId};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The marks of a mount.
#[derive(Debug, Default)]
pub struct LogMarks(RefCell<Marks>);

#[derive(Debug, Default)]
struct Marks {
    transaction: TransactionId,
    /// Names that the last commit has, or may have, and that lead nowhere or elsewhere now.
    removed: BTreeSet<(Ino, Name)>,
    /// A log tree could not be completed: no log of this transaction may be published (B-3).
    broken: bool,
}

impl Marks {
    fn of(&mut self, transaction: TransactionId) -> &mut Marks {
        if self.transaction != transaction {
            debug_assert!(
                self.transaction < transaction,
                "marks come in the order of transactions"
            );
            *self = Marks { transaction, ..Marks::default() };
        }
        self
    }
}

impl LogMarks {
    /// A name was removed. An inode that takes it in this transaction cannot be logged: replay would
    /// find the name taken (B-7).
    pub fn note_removed(&self, transaction: TransactionId, directory: Ino, name: &[u8]) {
        let mut marks = self.0.borrow_mut();
        let name = name.iter().copied().collect();
        marks.of(transaction).removed.insert((directory, name));
    }

    /// Whether a name was removed in this transaction.
    pub fn was_removed(&self, transaction: TransactionId, directory: Ino, name: &[u8]) -> bool {
        let marks = self.0.borrow();
        // The empty set, nearly always, is asked without making a key.
        marks.transaction == transaction
            && !marks.removed.is_empty()
            && marks.removed.contains(&(directory, name.iter().copied().collect()))
    }

    /// A log tree of this transaction is incomplete, in memory or on the medium.
    pub fn note_broken(&self, transaction: TransactionId) {
        self.0.borrow_mut().of(transaction).broken = true;
    }

    /// Whether a log of this transaction must not be published.
    pub fn is_broken(&self, transaction: TransactionId) -> bool {
        let marks = self.0.borrow();
        marks.transaction == transaction && marks.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_end_with_their_transaction() {
        let (marks, now) = (LogMarks::default(), TransactionId(5));
        marks.note_removed(now, Ino::ROOT, b"f");
        marks.note_broken(now);
        assert!(marks.was_removed(now, Ino::ROOT, b"f") && marks.is_broken(now));
        assert!(!marks.was_removed(now, Ino::ROOT, b"g") && !marks.is_broken(now.next()));
        marks.note_removed(now.next(), Ino::ROOT, b"g");
        assert!(!marks.was_removed(now.next(), Ino::ROOT, b"f") && !marks.is_broken(now.next()));
    }
}
