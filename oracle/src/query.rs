//! What a name, a size or a block may be: the exploration of its history, remembered.
//!
//! *Verified*: against a sequential file system in every order of tiny histories (`tests/`).
//! *Not verified, because* contents that are copied while their source changes byte by byte are
//! judged byte by byte (any byte of any possible content), which admits some impossible mixtures.
use crate::call::{CallId, FileId, Standing};
use crate::file::{BlockEffect, Change, SizeEffect};
use crate::history::{Answer, Grain, History, Mask, Query, bits};
use crate::model::Oracle;
use crate::namespace::{FREE, file_of};
use crate::operation::{BLOCK_BYTES, Fill, Operation, PathId};
use crate::version::{Source, VersionId, ZERO};
use smallvec::SmallVec;

/// Values of a query, copied out of the arena.
pub(crate) type Values = SmallVec<[u64; 4]>;

/// Where the arena holds the answer of a block that no call touches.
const UNTOUCHED: u32 = 0;
/// What the arena begins with.
pub(crate) const ARENA_START: [u64; 1] = [ZERO];
/// How deep copies of copies are followed.
const MAX_DEPTH: usize = 16;
/// The most sizes at which one call may have stopped that are followed further.
const MAX_BOUNDARIES: usize = 64;
/// How often one question looks at the source of a copy.
const MAX_COPIES: u32 = 1024;
/// The most alternatives that one copy may have.
const MAX_ALTERNATIVES: usize = 256;

impl Oracle {
    pub(crate) fn values(&self, answer: Answer) -> Values {
        let arena = self.lab.arena.borrow();
        let start = answer.start as usize;
        SmallVec::from_slice(&arena[start..start + answer.len as usize])
    }

    fn store(&self, states: &[(Mask, u64)], spans: &[(u64, u64)], grain: Grain) -> Answer {
        let mut arena = self.lab.arena.borrow_mut();
        let start = arena.len() as u32;
        arena.extend(states.iter().map(|pair| pair.1));
        arena.extend(spans.iter().flat_map(|span| [span.0, span.1]));
        let (len, spans) = (states.len() as u32, spans.len() as u32);
        Answer { start, len, grain, doubt: false, spans }
    }

    fn doubt() -> Answer {
        Answer { start: 0, len: 0, grain: Grain::Block, doubt: true, spans: 0 }
    }

    fn with_states<T>(&self, run: impl FnOnce(&mut Vec<(Mask, u64)>) -> T) -> T {
        let mut states = self.lab.pool.borrow_mut().pop().unwrap_or_default();
        let result = run(&mut states);
        self.lab.pool.borrow_mut().push(states);
        result
    }

    // --- names ---

    /// The bindings that answer a query; `None` if nothing can be concluded.
    pub(crate) fn bindings(&self, path: PathId, query: Query) -> Option<Values> {
        let Some(name) = self.names.get(path) else {
            return Some(SmallVec::from_slice(&[FREE]));
        };
        let history = &name.history;
        if history.overflowed() {
            return None;
        }
        let answer = history.remembered(query, self.generation).unwrap_or_else(|| {
            let answer = self.with_states(|states| {
                let effects = history.entries();
                let doubt = history.explore(
                    query,
                    FREE,
                    states,
                    |_| false,
                    |index, state, next| {
                        next.extend(effects[index].effect.apply(state));
                        true
                    },
                );
                if doubt { Self::doubt() } else { self.store(states, &[], Grain::Block) }
            });
            history.remember(query, answer, 0);
            answer
        });
        // No state at all: an impossible result was let through or reported before.
        (!answer.doubt && answer.len > 0).then(|| self.values(answer))
    }

    /// The bindings during an interval.
    pub(crate) fn bindings_during(&self, path: PathId, interval: (u64, u64)) -> Option<Values> {
        let Some(name) = self.names.get(path) else {
            return Some(SmallVec::from_slice(&[FREE]));
        };
        self.bindings(path, name.history.during(&self.calls, interval))
    }

    /// The files that a name may lead to now.
    pub(crate) fn resolve(&self, path: PathId, interval: (u64, u64)) -> SmallVec<[FileId; 2]> {
        match self.names.get(path) {
            None => SmallVec::new(),
            Some(name) if name.changing == 0 && !name.unsettled => {
                file_of(name.now).into_iter().collect()
            }
            Some(_) => self
                .bindings_during(path, interval)
                .into_iter()
                .flatten()
                .filter_map(file_of)
                .collect(),
        }
    }

    // --- sizes ---

    /// The sizes that answer a query. Calls in flight may stop on their way.
    pub(crate) fn size_answer(&self, file: FileId, query: Query) -> Answer {
        self.size_answer_while(file, query, true)
    }

    /// The same; `may_stop` tells whether calls in flight may yet fail, or turn out short.
    fn size_answer_while(&self, file: FileId, query: Query, may_stop: bool) -> Answer {
        let file = self.files.get(file);
        let history = &file.sizes;
        if history.overflowed() || file.murky {
            return Self::doubt();
        }
        let entries = history.entries();
        let may_stop = may_stop && (self.errors.any || self.promises.may_run_out_of_space);
        let is_open = |index: usize| self.calls[entries[index].call].standing == Standing::Open;
        let depends = may_stop && bits(query.possible).any(is_open);
        let query = Query { may_stop: depends, ..query };
        if let Some(answer) = history.remembered(query, self.generation) {
            return answer;
        }
        let mut spans: SmallVec<[(u64, u64); 8]> = SmallVec::new();
        let answer = self.with_states(|states| {
            let doubt = history.explore(
                query,
                0,
                states,
                |effect| matches!(effect, SizeEffect::Set(_)),
                |index, state, next| {
                    let size = match entries[index].effect {
                        SizeEffect::Set(size) => size,
                        SizeEffect::Raise(size) => state.max(size),
                        SizeEffect::Append(len) => state.saturating_add(len),
                    };
                    let cut_short =
                        history.partial & 1 << index != 0 || query.required & 1 << index == 0;
                    if cut_short && size != state {
                        spans.push((size.min(state), size.max(state)));
                    }
                    if cut_short {
                        next.extend(self.sizes_left_by_fault(entries[index].call, state));
                    }
                    let stops = history.partial & 1 << index != 0 || may_stop && is_open(index);
                    if cut_short && stops {
                        next.extend(boundaries(state, size).take(MAX_BOUNDARIES));
                    }
                    next.push(size);
                    true
                },
            );
            if doubt { Self::doubt() } else { self.store(states, &spans, Grain::Block) }
        });
        history.remember(query, answer, if depends { self.generation } else { 0 });
        answer
    }

    /// The sizes during a call, as if it had no effect itself; `None` if nothing can be concluded.
    pub(crate) fn sizes_during(&self, file: FileId, call: CallId) -> Option<Values> {
        self.sizes_while(file, call, true)
    }

    /// The same; `may_stop` tells whether calls in flight may yet fail, or turn out short.
    pub(crate) fn sizes_while(&self, file: FileId, call: CallId, may_stop: bool) -> Option<Values> {
        let history = &self.files.get(file).sizes;
        let mut query = history.during(&self.calls, self.calls[call].interval());
        query.possible &= !history.of(call);
        let answer = self.size_answer_while(file, query, may_stop);
        let values = self.values(answer);
        (!answer.doubt && !values.is_empty()).then_some(values)
    }

    /// Whether a write that overlaps a call in time may show it `size` on its way: sizes rise page
    /// by page, and stat takes no lock (G-8).
    pub(crate) fn passes_size(&self, file: FileId, call: CallId, size: u64) -> bool {
        let history = &self.files.get(file).sizes;
        let mut query = history.during(&self.calls, self.calls[call].interval());
        query.possible &= !history.of(call);
        let rises = |index: usize| !matches!(history.entries()[index].effect, SizeEffect::Set(_));
        let growing = bits(query.possible & !query.required).any(rises);
        let inside = |(low, high): (u64, u64)| low < size && size < high;
        let aligned = size.is_multiple_of(BLOCK_BYTES);
        aligned && growing && self.spans(self.size_answer(file, query)).into_iter().any(inside)
    }

    /// The pairs of sizes between which a call may have been cut short.
    pub(crate) fn spans(&self, answer: Answer) -> SmallVec<[(u64, u64); 4]> {
        let arena = self.lab.arena.borrow();
        let start = (answer.start + answer.len) as usize;
        let pairs = &arena[start..start + 2 * answer.spans as usize];
        pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    }

    // --- blocks ---

    /// The contents that answer a query on a block.
    pub(crate) fn block_answer(&self, file: FileId, number: u64, query: Query) -> Answer {
        if self.files.get(file).murky {
            return Self::doubt();
        }
        let Some(history) = self.files.get(file).block(number) else {
            return Answer {
                start: UNTOUCHED,
                len: 1,
                grain: Grain::Block,
                doubt: false,
                spans: 0,
            };
        };
        if history.overflowed() {
            return Self::doubt();
        }
        let nested = !self.lab.stack.borrow().is_empty();
        if !nested {
            self.lab.copies.set(0);
        }
        if !nested && let Some(answer) = history.remembered(query, self.generation) {
            return answer;
        }
        let entries = history.entries();
        let mut grain = self.grain(history, query);
        let incoherent = !self.promises.direct_coherent && self.collides(history, query);
        let answer = self.with_states(|states| {
            let doubt = incoherent
                || history.explore(query, ZERO, states, resets_block, |index, state, next| {
                    let entry = &entries[index];
                    let at = Place { call: entry.call, file, number };
                    self.apply(at, &entry.effect, state, next, &mut grain)
                });
            if doubt { Self::doubt() } else { self.store(states, &[], grain) }
        });
        if !nested {
            let local = bits(query.possible).all(|index| {
                matches!(entries[index].effect.change, Change::Zero | Change::Fill { .. })
            });
            history.remember(query, answer, if local { 0 } else { self.generation });
        }
        answer
    }

    /// The contents of a block during an interval.
    pub(crate) fn block_during(&self, file: FileId, number: u64, interval: (u64, u64)) -> Answer {
        let query = self.block_query(file, number, interval);
        self.block_answer(file, number, query)
    }

    pub(crate) fn block_query(&self, file: FileId, number: u64, interval: (u64, u64)) -> Query {
        match self.files.get(file).block(number) {
            Some(history) => history.during(&self.calls, interval),
            None => Query::NOTHING,
        }
    }

    /// Where mixtures are legal: parts of failed calls, and stores that overlap others in time.
    fn grain(&self, history: &History<BlockEffect>, query: Query) -> Grain {
        if history.partial & query.possible & !query.required != 0 {
            return Grain::Byte;
        }
        let entries = history.entries();
        for store in bits(query.possible) {
            let effect = &entries[store].effect;
            if !is_store(effect) {
                continue;
            }
            let maybe = query.required & 1 << store == 0;
            let mixed = bits(query.possible & !(1 << store)).any(|other| {
                history.concurrent(store, other) && effect.overlaps(&entries[other].effect)
            });
            if mixed || (maybe && !self.promises.stores_atomic) {
                return Grain::Byte;
            }
        }
        Grain::Block
    }

    /// Whether direct and cached changes of the block overlap in time.
    fn collides(&self, history: &History<BlockEffect>, query: Query) -> bool {
        let direct = |index: usize| {
            let op = &self.calls[history.entries()[index].call].op;
            matches!(
                op,
                Operation::DirectWrite { .. }
                    | Operation::AsyncWrite { .. }
                    | Operation::DirectWriteFrom { .. }
            )
        };
        bits(query.possible).filter(|&index| direct(index)).any(|one| {
            let mut others = bits(query.possible & !(1 << one));
            others.any(|other| !direct(other) && history.concurrent(one, other))
        })
    }

    /// Pushes what a call may make of a block. Returns false where nothing can be concluded.
    fn apply(
        &self,
        at: Place,
        effect: &BlockEffect,
        state: VersionId,
        next: &mut SmallVec<[u64; 4]>,
        grain: &mut Grain,
    ) -> bool {
        let op = self.calls[at.call].id;
        let (start, end) = (usize::from(effect.start), usize::from(effect.end));
        match effect.change {
            Change::Zero => {
                next.push(self.lab.versions.borrow_mut().filled(state, start, end, Source::Zero));
            }
            Change::Fill { fill, path, base } => {
                let source = Source::of(fill, op, path, base);
                next.push(self.lab.versions.borrow_mut().filled(state, start, end, source));
            }
            Change::Store { fill, path, base } => {
                let source = Source::of(fill, op, path, base);
                let Some(ends) = self.ends(at, effect) else { return false };
                let mut versions = self.lab.versions.borrow_mut();
                next.extend(ends.into_iter().map(|end| {
                    if end > start { versions.filled(state, start, end, source) } else { state }
                }));
            }
            Change::Append { fill, path } => {
                return self.apply_append(at, fill, path, state, next);
            }
            Change::Copy { delta, mapped } => {
                let ends = if mapped { self.ends(at, effect) } else { None };
                let ends = ends.unwrap_or_else(|| SmallVec::from_slice(&[end]));
                for end in ends {
                    if end <= start {
                        next.push(state);
                    } else if !self.apply_copy(at, (start, end), delta, state, next, grain) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Where a store into a block may end: bytes beyond the end of the file do not count.
    fn ends(&self, at: Place, effect: &BlockEffect) -> Option<SmallVec<[usize; 4]>> {
        let end = usize::from(effect.end);
        let mut ends: SmallVec<[usize; 4]> = SmallVec::new();
        for size in self.sizes_during(at.file, at.call)? {
            let limit = size.saturating_sub(at.number * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            ends.push(end.min(limit));
        }
        if !self.promises.stores_past_end_vanish {
            ends.push(end);
        }
        ends.sort_unstable();
        ends.dedup();
        Some(ends)
    }

    fn apply_append(
        &self,
        at: Place,
        fill: Fill,
        path: PathId,
        state: VersionId,
        next: &mut SmallVec<[u64; 4]>,
    ) -> bool {
        let Some(sizes) = self.sizes_during(at.file, at.call) else { return false };
        let call = &self.calls[at.call];
        for size in sizes {
            let span = crate::operation::Span::new(size, call.len);
            let Some((start, end)) = crate::file::part(span, at.number) else {
                next.push(state);
                continue;
            };
            let base = ((at.number * BLOCK_BYTES) as i64).wrapping_sub(size as i64);
            let source = Source::of(fill, call.id, path, base);
            let mut versions = self.lab.versions.borrow_mut();
            next.push(versions.filled(state, start.into(), end.into(), source));
        }
        true
    }

    fn apply_copy(
        &self,
        at: Place,
        (start, end): (usize, usize),
        delta: i64,
        state: VersionId,
        next: &mut SmallVec<[u64; 4]>,
        grain: &mut Grain,
    ) -> bool {
        let copies = self.lab.copies.get();
        if self.lab.stack.borrow().len() >= MAX_DEPTH || copies >= MAX_COPIES {
            return false;
        }
        self.lab.copies.set(copies + 1);
        self.lab.stack.borrow_mut().push(at);
        let mut sure = true;
        for &(file, extra) in &self.calls[at.call].sources {
            let position = ((at.number * BLOCK_BYTES) as i64 + start as i64)
                .wrapping_add(delta)
                .wrapping_add(extra);
            let copy = Copying { start, end, file, position };
            sure &= self.copy_from(at, copy, state, next, grain);
        }
        self.lab.stack.borrow_mut().pop();
        sure && next.len() <= MAX_ALTERNATIVES
    }

    /// One source of a copy: at most two of its blocks give the bytes.
    fn copy_from(
        &self,
        at: Place,
        copy: Copying,
        state: VersionId,
        next: &mut SmallVec<[u64; 4]>,
        grain: &mut Grain,
    ) -> bool {
        let mut made: SmallVec<[u64; 4]> = SmallVec::from_slice(&[state]);
        let mut to = copy.start;
        while to < copy.end {
            let position = copy.position.wrapping_add((to - copy.start) as i64);
            if position < 0 {
                return false;
            }
            let (number, from) = (position as u64 / BLOCK_BYTES, position as u64 % BLOCK_BYTES);
            let len = (copy.end - to).min((BLOCK_BYTES - from) as usize);
            let Some(contents) = self.source_contents(at, copy.file, number, grain) else {
                return false;
            };
            let mut longer: SmallVec<[u64; 4]> = SmallVec::new();
            for &under in &made {
                for &content in &contents {
                    let mut versions = self.lab.versions.borrow_mut();
                    longer.push(versions.copied(under, (to, to + len), content, from as usize));
                }
            }
            made = longer;
            if made.len() > MAX_ALTERNATIVES {
                return false;
            }
            to += len;
        }
        next.extend(made);
        true
    }

    /// What a copying call may have found in a block of its source.
    fn source_contents(
        &self,
        at: Place,
        file: FileId,
        number: u64,
        grain: &mut Grain,
    ) -> Option<Values> {
        let call = &self.calls[at.call];
        let mut query = self.block_query(file, number, call.interval());
        if let Some(history) = self.files.get(file).block(number) {
            // A call cannot copy what it, or a copy of it, is yet to write.
            for above in self.lab.stack.borrow().iter() {
                if above.file == file && above.number == number {
                    query.possible &= !history.of(above.call);
                    query.required &= query.possible;
                }
            }
        }
        if self.copies_past_end(at.call, file, number) {
            return None;
        }
        let by_bytes = !matches!(call.op, Operation::Clone { .. });
        if by_bytes && query.possible & !query.required != 0 {
            if !self.promises.direct_coherent {
                return None;
            }
            *grain = Grain::Byte;
        }
        let answer = self.block_answer(file, number, query);
        *grain = if answer.grain < Grain::Block { Grain::Byte } else { *grain };
        (!answer.doubt).then(|| self.values(answer))
    }
}

/// A call acting on a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) call: CallId,
    pub(crate) file: FileId,
    pub(crate) number: u64,
}

/// Bytes `[start, end)` of a block that come from `position` of a file.
#[derive(Clone, Copy, Debug)]
struct Copying {
    start: usize,
    end: usize,
    file: FileId,
    position: i64,
}

fn is_store(effect: &BlockEffect) -> bool {
    matches!(effect.change, Change::Store { .. } | Change::Copy { mapped: true, .. })
}

fn resets_block(effect: &BlockEffect) -> bool {
    let whole = effect.start == 0 && u64::from(effect.end) == BLOCK_BYTES;
    whole && matches!(effect.change, Change::Zero | Change::Fill { .. })
}

/// The block boundaries between two sizes, the lowest first.
fn boundaries(one: u64, other: u64) -> impl Iterator<Item = u64> {
    let (low, high) = (one.min(other), one.max(other));
    let first = (low / BLOCK_BYTES + 1).saturating_mul(BLOCK_BYTES);
    (first..high).step_by(BLOCK_BYTES as usize)
}
