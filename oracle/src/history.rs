//! A history: the calls that change one thing (a block, a size, a name), in an interval order.
//!
//! A possible state is the result of applying a set of the calls that is closed downwards (a call
//! that returned before another was invoked precedes it) in some linear order of them. `explore`
//! enumerates the states between what is required and what is possible.
//!
//! *Verified*: exactness for calls that act atomically, against brute force (`tests/`).
//! *Not verified, because* a history of more than 64 calls, or more than 1024 partial orders, is
//! not enumerated: the answer is "inconclusive", never a violation.
use crate::call::{CallId, Calls};
use smallvec::SmallVec;
use std::cell::RefCell;

/// A set of entries of one history.
pub(crate) type Mask = u64;

/// The most entries that a history can hold.
const MAX_ENTRIES: usize = 64;
/// The most (set, state) pairs that one exploration visits.
const MAX_STATES: usize = 1024;

/// A call's effect on the thing that the history is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<E> {
    pub(crate) call: CallId,
    /// The entries that returned before this one was invoked.
    pub(crate) before: Mask,
    pub(crate) effect: E,
}

/// From a moment on, these entries are durable. Cumulative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// When the call that promises it returned.
    pub(crate) at: u64,
    /// Required together with all that precedes them.
    pub(crate) hard: Mask,
    /// Required by themselves only.
    pub(crate) soft: Mask,
    /// The call that promised the newest part.
    pub(crate) by: CallId,
}

/// Which states are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Entries that have happened.
    pub(crate) required: Mask,
    /// Entries that may have happened.
    pub(crate) possible: Mask,
    /// Entries that are not required need not precede those that are.
    pub(crate) relaxed: bool,
    /// Calls in flight may stop on their way: the answer is good until the next event.
    pub(crate) may_stop: bool,
}

impl Query {
    /// Nothing has happened.
    pub(crate) const NOTHING: Query =
        Query { required: 0, possible: 0, relaxed: false, may_stop: false };
}

/// The finest piece that must come from a single state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grain {
    Byte,
    Sector,
    Block,
}

/// The states that answer a query: a range of the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) grain: Grain,
    /// Whether a bound was hit; then nothing can be concluded.
    pub(crate) doubt: bool,
    /// Sizes only: so many (low, high) pairs follow in the arena, between which a call may have
    /// been cut short.
    pub(crate) spans: u32,
}

#[derive(Clone, Copy, Debug)]
struct Memo {
    query: Query,
    answer: Answer,
    /// The generation of the model that the answer depends on; 0 if on this history alone.
    generation: u64,
}

/// The calls that change one thing.
#[derive(Debug)]
pub(crate) struct History<E> {
    entries: SmallVec<[Entry<E>; 4]>,
    /// Entries that turned out not to have happened at all.
    void: Mask,
    /// Entries that may not have happened here although they returned.
    doubtful: Mask,
    /// Entries that may have happened in part, or not at all.
    pub(crate) partial: Mask,
    /// Entries that a device error may have undone.
    pub(crate) lossy: Mask,
    overflow: bool,
    floors: SmallVec<[Floor; 2]>,
    memo: RefCell<SmallVec<[Memo; 2]>>,
}

impl<E> Default for History<E> {
    fn default() -> Self {
        History {
            entries: SmallVec::new(),
            void: 0,
            doubtful: 0,
            partial: 0,
            lossy: 0,
            overflow: false,
            floors: SmallVec::new(),
            memo: RefCell::default(),
        }
    }
}

/// The bits of a mask as indices.
pub(crate) fn bits(mut mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            index
        })
    })
}

impl<E: Copy> History<E> {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        (self.void, self.doubtful, self.partial, self.lossy) = (0, 0, 0, 0);
        self.overflow = false;
        self.floors.clear();
        self.memo.get_mut().clear();
    }

    /// Adds a call that was invoked (and, for an entry that is added late, not returned before
    /// any entry here was invoked).
    pub(crate) fn add(&mut self, call: CallId, effect: E, doubtful: bool, calls: &Calls) {
        if self.entries.len() == MAX_ENTRIES {
            self.overflow = true;
            return;
        }
        let before = self.returned(calls, calls[call].invoke);
        if doubtful {
            self.doubtful |= 1 << self.entries.len();
        }
        self.entries.push(Entry { call, before, effect });
        self.memo.get_mut().clear();
    }

    pub(crate) fn entries(&self) -> &[Entry<E>] {
        &self.entries
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    /// The entries of one call.
    pub(crate) fn of(&self, call: CallId) -> Mask {
        self.select(|entry| entry.call == call) & !self.void
    }

    fn select(&self, wanted: impl Fn(&Entry<E>) -> bool) -> Mask {
        let bits = self.entries.iter().enumerate();
        bits.fold(0, |mask, (index, entry)| mask | u64::from(wanted(entry)) << index)
    }

    /// The entries invoked before `moment`.
    pub(crate) fn invoked(&self, calls: &Calls, moment: u64) -> Mask {
        self.select(|entry| calls[entry.call].invoke < moment) & !self.void
    }

    /// The entries that returned before `moment`.
    pub(crate) fn returned(&self, calls: &Calls, moment: u64) -> Mask {
        self.select(|entry| calls[entry.call].ret < moment) & !self.void
    }

    /// The entries that certainly had their whole effect before `moment`.
    pub(crate) fn settled(&self, calls: &Calls, moment: u64) -> Mask {
        self.returned(calls, moment) & !self.doubtful & !self.partial
    }

    /// The query of an observation during `[invoke, ret]`.
    pub(crate) fn during(&self, calls: &Calls, (invoke, ret): (u64, u64)) -> Query {
        Query {
            required: self.settled(calls, invoke) & !self.lossy,
            possible: self.invoked(calls, ret),
            relaxed: false,
            may_stop: false,
        }
    }

    /// The query of an observation after a cut.
    pub(crate) fn after_cut(&self, calls: &Calls, cut: u64, may_relax: bool) -> Query {
        let possible = self.invoked(calls, cut);
        let Some(floor) = self.floor(cut) else {
            return Query { possible, ..Query::NOTHING };
        };
        Query {
            required: (floor.hard | floor.soft) & !self.void,
            possible,
            relaxed: may_relax && floor.soft & !floor.hard != 0,
            may_stop: false,
        }
    }

    /// The floor at a cut.
    pub(crate) fn floor(&self, cut: u64) -> Option<&Floor> {
        self.floors.iter().rev().find(|floor| floor.at < cut)
    }

    /// Everything that is durable by now.
    pub(crate) fn durable(&self) -> Mask {
        self.floors.last().map_or(0, |floor| floor.hard | floor.soft)
    }

    /// Makes entries durable from `at` on.
    pub(crate) fn raise(&mut self, at: u64, by: CallId, hard: Mask, soft: Mask) {
        let last = self.floors.last().copied();
        let old = last.unwrap_or(Floor { at: 0, hard: 0, soft: 0, by });
        if hard & !old.hard == 0 && soft & !(old.soft | old.hard) == 0 {
            return;
        }
        debug_assert!(at >= old.at);
        self.floors.push(Floor { at, hard: old.hard | hard, soft: old.soft | soft, by });
    }

    pub(crate) fn mark_void(&mut self, entries: Mask) {
        self.void |= entries;
        self.memo.get_mut().clear();
    }

    pub(crate) fn mark_partial(&mut self, entries: Mask) {
        self.partial |= entries;
        self.memo.get_mut().clear();
    }

    pub(crate) fn mark_lossy(&mut self, entries: Mask) {
        self.lossy |= entries;
        self.memo.get_mut().clear();
    }

    pub(crate) fn mark_doubtful(&mut self, entries: Mask, doubtful: bool) {
        self.doubtful = if doubtful { self.doubtful | entries } else { self.doubtful & !entries };
        self.memo.get_mut().clear();
    }

    /// From now on nothing is concluded from this history.
    pub(crate) fn mark_unknowable(&mut self) {
        self.overflow = true;
        self.memo.get_mut().clear();
    }

    /// Replaces the effect of entries whose details became known.
    pub(crate) fn amend(&mut self, entries: Mask, mut change: impl FnMut(&mut E)) {
        for index in bits(entries) {
            change(&mut self.entries[index].effect);
        }
        self.memo.get_mut().clear();
    }

    pub(crate) fn remembered(&self, query: Query, generation: u64) -> Option<Answer> {
        let memo = self.memo.borrow();
        let mut fitting = memo.iter().filter(|memo| memo.query == query);
        fitting
            .find(|memo| memo.generation == 0 || memo.generation == generation)
            .map(|memo| memo.answer)
    }

    pub(crate) fn remember(&self, query: Query, answer: Answer, generation: u64) {
        let mut memo = self.memo.borrow_mut();
        memo.retain(|old| old.query != query);
        memo.push(Memo { query, answer, generation });
    }

    /// Whether the newest entry is that of `call`, and no other overlaps it in time.
    pub(crate) fn is_newest_alone(&self, call: CallId) -> bool {
        let last = self.entries.len().wrapping_sub(1);
        let Some(entry) = self.entries.last().filter(|entry| entry.call == call) else {
            return false;
        };
        let others = self.select(|other| other.call != call) & !self.void;
        let unsure = self.doubtful | self.partial | self.lossy;
        entry.before == others && (unsure | self.void) & 1 << last == 0 && !self.overflow
    }

    /// Whether two entries overlap in time.
    pub(crate) fn concurrent(&self, a: usize, b: usize) -> bool {
        self.entries[a].before & 1 << b == 0 && self.entries[b].before & 1 << a == 0
    }

    /// The last required entry that separates time into before and after and makes everything
    /// before it irrelevant: the set from which to start.
    fn reset_point(&self, query: Query, resets: &impl Fn(&E) -> bool) -> Option<usize> {
        let unsure = self.partial | self.lossy | self.doubtful;
        (0..self.entries.len()).rev().find(|&index| {
            let bit = 1u64 << index;
            let after = query.possible & !self.entries[index].before & !bit;
            query.required & bit != 0
                && unsure & bit == 0
                && resets(&self.entries[index].effect)
                && bits(after).all(|later| self.entries[later].before & bit != 0)
        })
    }

    /// Visits all reachable (set, state) pairs between nothing and `query.possible`, and leaves in
    /// `states` those that contain `query.required`, as sorted states without duplicates. `apply`
    /// pushes the states that an entry may make of a state; `resets` says that an entry makes the
    /// same state of every state. Returns whether a bound was hit.
    pub(crate) fn explore(
        &self,
        query: Query,
        start: u64,
        states: &mut Vec<(Mask, u64)>,
        resets: impl Fn(&E) -> bool,
        mut apply: impl FnMut(usize, u64, &mut SmallVec<[u64; 4]>) -> bool,
    ) -> bool {
        states.clear();
        let mut unsure = self.doubtful | self.partial | self.lossy;
        if query.relaxed {
            unsure = u64::MAX;
        }
        let skippable = unsure & !query.required;
        let first = if query.relaxed { None } else { self.reset_point(query, &resets) };
        let done = first.map_or(0, |index| self.entries[index].before & query.possible);
        states.push((done, start));
        let mut next = SmallVec::new();
        let mut cursor = 0;
        while cursor < states.len() {
            let (set, state) = states[cursor];
            let only = first.filter(|_| cursor == 0).map_or(u64::MAX, |index| 1 << index);
            cursor += 1;
            for index in bits(query.possible & !set & only) {
                if !self.may_follow(index, set, query.possible & !skippable, skippable) {
                    continue;
                }
                next.clear();
                if !apply(index, state, &mut next) {
                    return true;
                }
                for &state in &next {
                    let pair = (set | 1 << index, state);
                    // Scanning beats hashing at the usual dozen of states.
                    if !states.contains(&pair) {
                        states.push(pair);
                    }
                }
                if states.len() > MAX_STATES {
                    return true;
                }
            }
        }
        let required = query.required & query.possible;
        states.retain(|pair| required & !pair.0 == 0);
        states.sort_unstable_by_key(|pair| pair.1);
        states.dedup_by_key(|pair| pair.1);
        false
    }

    /// Whether `index` may be the next after the entries of `set`.
    fn may_follow(&self, index: usize, set: Mask, needed: Mask, skippable: Mask) -> bool {
        let bit = 1u64 << index;
        self.entries[index].before & needed & !set == 0
            && (skippable & bit == 0
                || bits(set).all(|earlier| self.entries[earlier].before & bit == 0))
    }
}
