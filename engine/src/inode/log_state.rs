//! What fsync must log of an inode: what its FS-tree items say differently from the last commit.
//!
//! All marks belong to one transaction. The first mark made under a later one forgets the others:
//! nobody joins a transaction before the one before it is durable, so what was marked earlier is
//! committed by then.
//!
//! Promises: a mark stays until it was put into a log tree or its transaction is durable (B-7: who
//! changes names never writes the log, but marks; fsync decides). It must never know what a log
//! looks like.

use super::span::Blocks;
use crate::types::{Ino, TransactionId};
use machine::cell::RefCell;
use smallvec::SmallVec;

/// A name in a directory.
pub type Name = SmallVec<[u8; 24]>;

/// The marks of one inode. Held by the inode; changed under EXT W or, for names, under the
/// directory's lock.
#[derive(Debug, Default)]
pub struct LogState {
    /// The transaction that had changed the inode last when it was read.
    changed: TransactionId,
    marks: RefCell<Marks>,
}

#[derive(Clone, Debug, Default)]
struct Marks {
    transaction: TransactionId,
    /// The size in bytes that the tree has now, and the one that the last commit has.
    size: u64,
    committed_size: u64,
    /// Ranges whose extents changed and are not in the log: ascending, apart.
    modified: SmallVec<[Blocks; 4]>,
    /// The inode item changed and is not in the log as it is now.
    inode: bool,
    /// Names that the inode has and that the last commit does not have, with their directories.
    names: SmallVec<[(Ino, Name); 1]>,
    /// The size became less than it was at some time in this transaction.
    shrunk: bool,
    /// Why the log cannot express what happened.
    must_commit: Option<&'static str>,
    /// The log has items of this inode.
    logged: bool,
    /// Where pairs in flight are in the log as they are about to be.
    pairs: SmallVec<[Blocks; 2]>,
    /// Writes that the device failed, for those who log them all the same.
    failed: Vec<FailedWrite>,
}

/// A write that the device failed
/// ([`Defect::WriteErrorEmLogged`](crate::defects::Defect::WriteErrorEmLogged)).
#[derive(Clone, Debug)]
pub(crate) struct FailedWrite {
    pub(crate) blocks: Blocks,
    pub(crate) block: u64,
    pub(crate) digests: Vec<[u8; 32]>,
}

impl Marks {
    /// The marks of a transaction; those of an earlier one are forgotten.
    fn of(&mut self, transaction: TransactionId) -> &mut Marks {
        if self.transaction != transaction {
            debug_assert!(
                self.transaction < transaction,
                "marks come in the order of transactions"
            );
            let size = self.size;
            *self = Marks { transaction, size, committed_size: size, ..Marks::default() };
        }
        self
    }

    fn add(&mut self, range: Blocks) {
        if range.is_empty() {
            return;
        }
        let Blocks { mut start, mut end } = range;
        let first = self.modified.partition_point(|held| held.end < start);
        let last = self.modified.partition_point(|held| held.start <= end);
        if let Some([touched, ..]) = self.modified.get(first..last) {
            start = start.min(touched.start);
            end = end.max(self.modified[last - 1].end);
        }
        self.modified.drain(first..last);
        self.modified.insert(first, Blocks::new(start, end));
        debug_assert!(self.modified.windows(2).all(|pair| pair[0].end < pair[1].start));
    }

    fn take(&mut self, within: Blocks) -> SmallVec<[Blocks; 4]> {
        let mut taken = SmallVec::new();
        let mut kept: SmallVec<[Blocks; 4]> = SmallVec::new();
        for &held in &self.modified {
            let inside = held.intersection(within);
            if inside.is_empty() {
                kept.push(held);
                continue;
            }
            taken.push(inside);
            kept.push(Blocks::new(held.start, inside.start));
            kept.push(Blocks::new(inside.end, held.end));
        }
        kept.retain(|held| !held.is_empty());
        self.modified = kept;
        taken
    }
}

impl LogState {
    /// The marks of an inode that was just created, or read, with this size in bytes: none. What
    /// changed in `changed`, the transaction that changed it last, is not known.
    pub fn new(size: u64, changed: TransactionId) -> LogState {
        let marks = Marks { size, committed_size: size, ..Marks::default() };
        LogState { changed, marks: RefCell::new(marks) }
    }

    /// The extents of a range changed under a handle of `transaction`.
    pub fn note_range(&self, transaction: TransactionId, range: Blocks) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        marks.add(range);
        marks.inode = true;
    }

    /// The inode item changed; its size in bytes is this one now.
    pub fn note_item(&self, transaction: TransactionId, size: u64) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        (marks.inode, marks.size) = (true, size);
    }

    /// The size in bytes that the last commit has, seen from `transaction`.
    pub fn committed_size(&self, transaction: TransactionId) -> u64 {
        let marks = self.marks.borrow();
        if marks.transaction == transaction { marks.committed_size } else { marks.size }
    }

    /// The size became less: a log of a part of the file would bring old data back.
    pub fn note_shrunk(&self, transaction: TransactionId) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        (marks.inode, marks.shrunk) = (true, true);
    }

    /// The inode got a name.
    pub fn note_named(&self, transaction: TransactionId, directory: Ino, name: &[u8]) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        marks.inode = true;
        marks.names.push((directory, SmallVec::from_slice(name)));
    }

    /// The inode lost a name.
    pub fn note_unnamed(&self, transaction: TransactionId, directory: Ino, name: &[u8]) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        marks.inode = true;
        marks.names.retain(|held| held.0 != directory || held.1.as_slice() != name);
        // After a crash before the commit the name is there again, with what was synced: the log
        // does not bring back what has no name.
        marks.must_commit = Some("it lost a name");
    }

    /// Something happened that only a commit makes durable; `why` is for reports (B-7).
    pub fn note_must_commit(&self, transaction: TransactionId, why: &'static str) {
        self.marks.borrow_mut().of(transaction).must_commit = Some(why);
    }

    /// Why fsync must commit, if it must.
    pub fn must_commit(&self, transaction: TransactionId) -> Option<&'static str> {
        if self.changed == transaction && self.names(transaction).is_empty() {
            // Its marks went with it when it left memory; a new inode has its name marked.
            return Some("it was read in the middle of the transaction");
        }
        self.current(transaction, |marks| marks.must_commit).flatten()
    }

    /// The names that the inode has and the last commit does not have.
    pub fn names(&self, transaction: TransactionId) -> SmallVec<[(Ino, Name); 1]> {
        self.current(transaction, |marks| marks.names.clone()).unwrap_or_default()
    }

    /// Whether a log of a part of the file would bring old data back.
    pub fn is_shrunk(&self, transaction: TransactionId) -> bool {
        self.current(transaction, |marks| marks.shrunk).unwrap_or(false)
    }

    /// Whether there is anything that the log does not have yet.
    pub fn is_marked(&self, transaction: TransactionId) -> bool {
        self.current(transaction, |marks| marks.inode || !marks.modified.is_empty())
            .unwrap_or(false)
    }

    /// Whether the log has items of this inode.
    pub fn is_logged(&self, transaction: TransactionId) -> bool {
        self.current(transaction, |marks| marks.logged).unwrap_or(false)
    }

    /// extent and ordered extent of a write in flight were both taken, to be logged as what
    /// they are about to be.
    pub fn note_pair(&self, transaction: TransactionId, blocks: Blocks) {
        let mut marks = self.marks.borrow_mut();
        let pairs = &mut marks.of(transaction).pairs;
        debug_assert!(!pairs.iter().any(|held| held.overlaps(blocks)), "one write a block");
        pairs.push(blocks);
    }

    /// Whether the write in flight to just these blocks was noted.
    pub fn has_pair(&self, transaction: TransactionId, blocks: Blocks) -> bool {
        self.current(transaction, |marks| marks.pairs.contains(&blocks)).unwrap_or(false)
    }

    /// The write to these blocks has ended: whether the log has what became of them.
    pub fn take_pair(&self, transaction: TransactionId, blocks: Blocks) -> bool {
        let mut marks = self.marks.borrow_mut();
        let pairs = &mut marks.of(transaction).pairs;
        let found = pairs.iter().position(|&held| held == blocks);
        found.map(|index| pairs.swap_remove(index)).is_some()
    }

    /// Remembers a write that the device failed.
    pub(crate) fn note_failed(
        &self,
        transaction: TransactionId,
        blocks: Blocks,
        block: u64,
        digests: Vec<[u8; 32]>,
    ) {
        let mut marks = self.marks.borrow_mut();
        marks.of(transaction).failed.push(FailedWrite { blocks, block, digests });
    }

    /// Takes the failed writes out.
    pub(crate) fn take_failed(&self, transaction: TransactionId) -> Vec<FailedWrite> {
        let mut marks = self.marks.borrow_mut();
        std::mem::take(&mut marks.of(transaction).failed)
    }

    /// Takes the modified ranges within `within` out, ascending: the caller puts them into the log
    /// tree before it releases the log's lock. What lies outside stays marked.
    pub fn take_ranges(&self, transaction: TransactionId, within: Blocks) -> SmallVec<[Blocks; 4]> {
        let mut marks = self.marks.borrow_mut();
        if marks.transaction != transaction {
            return SmallVec::new();
        }
        marks.take(within)
    }

    /// The inode item is in the log as it is now.
    pub fn note_logged(&self, transaction: TransactionId) {
        let mut marks = self.marks.borrow_mut();
        let marks = marks.of(transaction);
        (marks.inode, marks.logged) = (false, true);
    }

    fn current<R>(&self, transaction: TransactionId, read: impl FnOnce(&Marks) -> R) -> Option<R> {
        let marks = self.marks.borrow();
        (marks.transaction == transaction).then(|| read(&marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TransactionId = TransactionId(7);

    fn ranges(state: &LogState) -> Vec<(u64, u64)> {
        state.marks.borrow().modified.iter().map(|held| (held.start, held.end)).collect()
    }

    fn taken(state: &LogState, at: TransactionId, start: u64, end: u64) -> Vec<(u64, u64)> {
        let taken = state.take_ranges(at, Blocks::new(start, end));
        taken.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn ranges_join_where_they_touch() {
        let state = LogState::default();
        for (start, end) in [(4, 5), (0, 1), (8, 9), (1, 2), (5, 5)] {
            state.note_range(NOW, Blocks::new(start, end));
        }
        assert_eq!(ranges(&state), [(0, 2), (4, 5), (8, 9)]);
        state.note_range(NOW, Blocks::new(2, 8));
        assert_eq!(ranges(&state), [(0, 9)]);
    }

    #[test]
    fn what_is_not_taken_stays() {
        let state = LogState::default();
        state.note_range(NOW, Blocks::new(0, 4));
        state.note_range(NOW, Blocks::new(6, 9));
        assert_eq!(taken(&state, NOW, 1, 7), [(1, 4), (6, 7)]);
        assert_eq!(ranges(&state), [(0, 1), (7, 9)]);
        state.note_logged(NOW);
        assert!(state.is_marked(NOW) && state.is_logged(NOW));
        assert_eq!(taken(&state, NOW, 0, u64::MAX), [(0, 1), (7, 9)]);
        assert!(!state.is_marked(NOW));
    }

    #[test]
    fn a_pair_is_logged_once_and_until_its_write_ends() {
        let (state, pair) = (LogState::default(), Blocks::new(2, 4));
        state.note_pair(NOW, pair);
        assert!(state.has_pair(NOW, pair) && !state.has_pair(NOW, Blocks::new(2, 3)));
        assert!(!state.has_pair(NOW.next(), pair), "of its transaction only");
        assert!(state.take_pair(NOW, pair) && !state.take_pair(NOW, pair));
        state.note_pair(NOW, pair);
        assert!(!state.take_pair(NOW.next(), pair));
    }

    #[test]
    fn a_later_transaction_forgets() {
        let state = LogState::default();
        state.note_named(NOW, Ino::ROOT, b"f");
        state.note_must_commit(NOW, "a name was reused");
        state.note_shrunk(NOW);
        assert_eq!(state.must_commit(NOW), Some("a name was reused"));
        assert!(state.names(NOW).len() == 1 && state.is_shrunk(NOW));
        assert!(!state.is_marked(NOW.next()) && taken(&state, NOW.next(), 0, 9).is_empty());
        state.note_item(NOW.next(), 0);
        assert!(state.must_commit(NOW.next()).is_none());
        assert!(state.names(NOW.next()).is_empty());
        state.note_unnamed(NOW.next(), Ino::ROOT, b"f");
        assert!(state.is_marked(NOW.next()));
    }

    #[test]
    fn an_inode_read_after_it_was_changed_must_be_committed() {
        let state = LogState::new(0, NOW);
        assert!(state.must_commit(NOW).is_some() && state.must_commit(NOW.next()).is_none());
        state.note_named(NOW, Ino::ROOT, b"f");
        assert!(state.must_commit(NOW).is_none(), "it was created");
    }

    #[test]
    fn the_committed_size_is_that_before_the_transaction() {
        let state = LogState::new(10, TransactionId(0));
        assert_eq!(state.committed_size(NOW), 10);
        state.note_range(NOW, Blocks::new(0, 1));
        state.note_item(NOW, 20);
        state.note_item(NOW, 30);
        assert_eq!((state.committed_size(NOW), state.committed_size(NOW.next())), (10, 30));
        state.note_range(NOW.next(), Blocks::new(0, 1));
        assert_eq!(state.committed_size(NOW.next()), 30);
    }

    #[test]
    fn random_marks_agree_with_a_set_of_blocks() {
        let mut seed = 1_u64;
        let mut next = |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..300 {
            let state = LogState::default();
            let mut model = [false; 40];
            for _ in 0..12 {
                let start = next(36);
                let end = start + next(5);
                if next(3) > 0 {
                    state.note_range(NOW, Blocks::new(start, end));
                    model[start as usize..end as usize].fill(true);
                    continue;
                }
                let taken = taken(&state, NOW, start, end);
                let blocks: Vec<u64> = taken.into_iter().flat_map(|(from, to)| from..to).collect();
                let wanted = (start..end).filter(|&block| model[block as usize]);
                assert_eq!(blocks, wanted.collect::<Vec<_>>());
                model[start as usize..end as usize].fill(false);
            }
            let left = ranges(&state).into_iter().flat_map(|(start, end)| start..end);
            let wanted = (0..40).filter(|&block| model[block as usize]);
            assert_eq!(left.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }
    }
}
