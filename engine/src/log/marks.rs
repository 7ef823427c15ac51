//! What the log trees of the running transaction name that is not on the device yet, and whether
//! they may be published at all.
//!
//! Promises: once a log tree could not be completed, in memory or on the medium, no log of that
//! transaction is published (B-3), and every fsync commits instead until the next one begins. What
//! a tree names in flight stays known to everybody who publishes that tree, whoever logged it
//! (B-1). It must never know what else is logged.

use super::collect::InFlight;
use crate::inode::ordered::OrderedExtent;
use crate::types::TransactionId;
use machine::cell::{Cell, RefCell};
use std::rc::Rc;

/// The state of the log of a mount.
#[derive(Default)]
pub struct LogMarks {
    broken: Cell<TransactionId>,
    named: RefCell<Named>,
}

/// Ordered extents that log trees of a transaction name, with the group of the tree.
#[derive(Default)]
struct Named {
    transaction: TransactionId,
    in_flight: Vec<(u8, Rc<OrderedExtent>)>,
}

impl LogMarks {
    /// A log tree of this transaction is incomplete.
    pub fn note_broken(&self, transaction: TransactionId) {
        debug_assert!(self.broken.get() <= transaction, "marks come in the order of transactions");
        self.broken.set(transaction);
        self.clear(); // nobody publishes what would have to be waited for
    }

    /// Whether a log of this transaction must not be published.
    pub fn is_broken(&self, transaction: TransactionId) -> bool {
        self.broken.get() == transaction
    }

    /// The log tree of a group names these, or will. Under the tree's lock.
    pub(crate) fn note_named(&self, transaction: TransactionId, group: u8, found: &InFlight) {
        if found.is_empty() {
            return;
        }
        let mut named = self.named.borrow_mut();
        if named.transaction != transaction {
            *named = Named { transaction, in_flight: Vec::new() };
        }
        named.in_flight.extend(found.iter().map(|ordered| (group, ordered.clone())));
    }

    /// What the log tree of a group names and nobody has waited for yet: the first that matters.
    /// Under the tree's lock.
    pub(crate) fn first_named(
        &self,
        transaction: TransactionId,
        group: u8,
        matters: impl Fn(&OrderedExtent) -> bool,
    ) -> Option<Rc<OrderedExtent>> {
        let named = self.named.borrow();
        let is_current = named.transaction == transaction;
        let mut of_group = named.in_flight.iter().filter(|(of, _)| *of == group && is_current);
        of_group.find(|(_, ordered)| matters(ordered)).map(|(_, ordered)| ordered.clone())
    }

    /// It is on the device. Under the tree's lock.
    pub(crate) fn forget_named(&self, group: u8, ordered: &Rc<OrderedExtent>) {
        let is_it =
            |(of, held): &(u8, Rc<OrderedExtent>)| *of == group && Rc::ptr_eq(held, ordered);
        self.named.borrow_mut().in_flight.retain(|held| !is_it(held));
    }

    /// Forgets what is named in flight, as a mount that is abandoned does.
    pub(crate) fn clear(&self) {
        self.named.borrow_mut().in_flight.clear();
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
