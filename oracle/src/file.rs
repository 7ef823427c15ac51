//! File objects: per block and for the size, the calls that touch it; who touched the file when,
//! and which errors were reported to whom.
//!
//! *Promises*: a call that may change a block is in that block's history from its invocation on.
//! *Must never know*: names other than the one of its birth, or what a target showed.
use crate::call::{CallId, Calls, FileId, OPEN};
use crate::history::{History, Mask};
use crate::operation::{BLOCK_BYTES, Fill, PathId, Span, TaskIndex};
use smallvec::SmallVec;

/// Files are modelled up to this many blocks (16 MiB): once data beyond may have been written,
/// nothing is concluded about the file.
pub(crate) const MAX_BLOCKS: u64 = 1 << 12;

/// What a call does to the bytes `[start, end)` of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockEffect {
    pub(crate) start: u16,
    pub(crate) end: u16,
    pub(crate) change: Change,
}

impl BlockEffect {
    /// Whether the bytes of the two overlap.
    pub(crate) fn overlaps(&self, other: &BlockEffect) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Where the new bytes of a block come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Zero,
    /// A stream; `base` is its position at the block's byte 0.
    Fill {
        fill: Fill,
        path: PathId,
        base: i64,
    },
    /// As `Fill`, through a mapping: bytes beyond the end of the file do not count.
    Store {
        fill: Fill,
        path: PathId,
        base: i64,
    },
    /// An append whose place is not known yet.
    Append {
        fill: Fill,
        path: PathId,
    },
    /// Bytes of the call's sources: the source position is the file position plus `delta`.
    /// `mapped`: the bytes land through a mapping.
    Copy {
        delta: i64,
        mapped: bool,
    },
}

/// What a call does to the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeEffect {
    Set(u64),
    Raise(u64),
    Append(u64),
}

/// A call that is told of errors, and the tasks of whose open files it may go through one: its own,
/// but for msync, which goes through the open file that was mapped.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) call: CallId,
    pub(crate) openers: SmallVec<[TaskIndex; 2]>,
}

/// A file object.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathId,
    pub(crate) born: CallId,
    slots: Vec<u16>,
    blocks: Vec<History<BlockEffect>>,
    numbers: Vec<u64>,
    used: usize,
    pub(crate) sizes: History<SizeEffect>,
    /// Calls in flight that cut the file or zero ranges: they concern blocks yet to be written.
    zeroing: SmallVec<[CallId; 2]>,
    /// Appends in flight.
    pub(crate) appending: SmallVec<[CallId; 2]>,
    /// Appends that landed where the file ends only if a call in flight stops on its way.
    pub(crate) midway: SmallVec<[(CallId, u64); 1]>,
    /// Ranges with reserved blocks, for hole maps.
    pub(crate) reserved: SmallVec<[Span; 2]>,
    /// The first call of each task that named the file: it opens it.
    pub(crate) touched: SmallVec<[CallId; 4]>,
    /// The calls that persist and were answered with EIO.
    pub(crate) reports: SmallVec<[Asked; 2]>,
    /// When the device failed to take a block, or any.
    pub(crate) failures: SmallVec<[(Option<u64>, u64); 2]>,
    /// A write error was noted that no call has reported yet.
    pub(crate) unreported: bool,
    /// Something happened that the model does not cover: nothing is concluded.
    pub(crate) murky: bool,
}

const NO_SLOT: u16 = u16::MAX;

impl File {
    pub(crate) fn new(path: PathId, born: CallId) -> File {
        File {
            path,
            born,
            slots: Vec::new(),
            blocks: Vec::new(),
            numbers: Vec::new(),
            used: 0,
            sizes: History::default(),
            zeroing: SmallVec::new(),
            appending: SmallVec::new(),
            midway: SmallVec::new(),
            reserved: SmallVec::new(),
            touched: SmallVec::new(),
            reports: SmallVec::new(),
            failures: SmallVec::new(),
            unreported: false,
            murky: false,
        }
    }

    /// Makes it a newly born file; keeps the allocations.
    pub(crate) fn renew(&mut self, path: PathId, born: CallId) {
        (self.path, self.born) = (path, born);
        self.slots.clear();
        self.numbers.clear();
        for block in &mut self.blocks[..self.used] {
            block.clear();
        }
        self.used = 0;
        self.sizes.clear();
        self.zeroing.clear();
        self.appending.clear();
        self.midway.clear();
        self.reserved.clear();
        self.touched.clear();
        self.reports.clear();
        self.failures.clear();
        (self.unreported, self.murky) = (false, false);
    }

    /// The history of a block, if any call touches it.
    pub(crate) fn block(&self, number: u64) -> Option<&History<BlockEffect>> {
        let slot = *self.slots.get(usize::try_from(number).ok()?)?;
        (slot != NO_SLOT).then(|| &self.blocks[usize::from(slot)])
    }

    /// The histories with their block numbers, in the order in which they were first touched.
    pub(crate) fn blocks_mut(
        &mut self,
    ) -> impl Iterator<Item = (u64, &mut History<BlockEffect>)> + '_ {
        self.numbers.iter().copied().zip(&mut self.blocks[..self.used])
    }

    /// The numbers of the blocks that have histories.
    pub(crate) fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The history at a position of [`File::numbers`].
    pub(crate) fn block_mut(&mut self, index: usize) -> &mut History<BlockEffect> {
        &mut self.blocks[index]
    }

    fn block_or_new(&mut self, number: u64, calls: &Calls) -> &mut History<BlockEffect> {
        let at = number as usize;
        if self.slots.len() <= at {
            self.slots.resize(at + 1, NO_SLOT);
        }
        if self.slots[at] == NO_SLOT {
            if self.blocks.len() == self.used {
                self.blocks.push(History::default());
            }
            self.slots[at] = self.used as u16;
            self.numbers.push(number);
            self.used += 1;
            for index in 0..self.zeroing.len() {
                let call = self.zeroing[index];
                let span = zeroed(calls, call);
                if let Some((start, end)) = part(span, number) {
                    let effect = BlockEffect { start, end, change: Change::Zero };
                    self.blocks[self.used - 1].add(call, effect, false, calls);
                }
            }
        }
        &mut self.blocks[usize::from(self.slots[at])]
    }

    /// Adds a call that writes `span`.
    pub(crate) fn write(
        &mut self,
        call: CallId,
        span: Span,
        doubtful: bool,
        calls: &Calls,
        change: impl Fn(u64) -> Change,
    ) {
        if span.len == 0 {
            return;
        }
        let last = (span.end() - 1) / BLOCK_BYTES;
        if last >= MAX_BLOCKS {
            self.murky = true;
            return;
        }
        for number in span.offset / BLOCK_BYTES..=last {
            if let Some((start, end)) = part(span, number) {
                let effect = BlockEffect { start, end, change: change(number) };
                self.block_or_new(number, calls).add(call, effect, doubtful, calls);
            }
        }
    }

    /// Adds a call that zeroes what there is in `span`.
    pub(crate) fn zero(&mut self, call: CallId, span: Span, doubtful: bool, calls: &Calls) {
        for (number, history) in self.blocks_mut() {
            if let Some((start, end)) = part(span, number) {
                let effect = BlockEffect { start, end, change: Change::Zero };
                history.add(call, effect, doubtful, calls);
            }
        }
        self.zeroing.push(call);
    }

    /// The call has ended: it no longer concerns new blocks.
    pub(crate) fn ended(&mut self, call: CallId) {
        self.zeroing.retain(|open| *open != call);
        self.appending.retain(|open| *open != call);
    }

    /// Makes sure that an append in flight is in the history of every block from `lo` to `hi`.
    pub(crate) fn spread(&mut self, call: CallId, lo: u64, hi: u64, change: Change, calls: &Calls) {
        if hi == lo {
            return;
        }
        let last = (hi - 1) / BLOCK_BYTES;
        if last >= MAX_BLOCKS {
            self.murky = true;
            return;
        }
        for number in lo / BLOCK_BYTES..=last {
            let history = self.block_or_new(number, calls);
            if history.of(call) == 0 {
                let effect = BlockEffect { start: 0, end: BLOCK_BYTES as u16, change };
                history.add(call, effect, false, calls);
            }
        }
    }

    /// Applies `mark` to the entries of one call in every history.
    pub(crate) fn mark(&mut self, call: CallId, mark: Mark) {
        for (_, history) in self.blocks_mut() {
            apply_mark(history, call, mark);
        }
        if mark != Mark::Unknowable {
            apply_mark(&mut self.sizes, call, mark);
        }
    }

    /// Notes that a call names the file: the first one of its task opens it.
    pub(crate) fn touch(&mut self, id: CallId, calls: &Calls) {
        if self.touched.iter().all(|&touch| calls[touch].task != calls[id].task) {
            self.touched.push(id);
        }
    }

    /// Whether an Ok of the persistence call `asked` may leave out a call whose data the device
    /// failed to take at `lost` (G-20): its open file was told before, or another one was told
    /// before it was opened. `asking` are the calls in flight that may be told.
    pub(crate) fn excused(
        &self,
        calls: &Calls,
        asked: &Asked,
        lost: u64,
        asking: &[Asked],
    ) -> bool {
        let first = |task| self.touched.iter().find(|&&touch| calls[touch].task == task);
        let opened = asked.openers.iter().map(|&task| first(task).map_or(OPEN, |&t| calls[t].ret));
        let opened = opened.max().unwrap_or(OPEN);
        let told = |report: &Asked| {
            let same = report.openers.iter().any(|opener| asked.openers.contains(opener));
            let report = &calls[report.call];
            let before = if same { calls[asked.call].ret } else { opened };
            report.ret > lost && report.invoke < before
        };
        self.reports.iter().chain(asking).any(told)
    }

    /// When the device first failed to take what a call invoked at `invoke` did to a block, or to
    /// the size.
    pub(crate) fn lost_at(&self, block: Option<u64>, invoke: u64) -> Option<u64> {
        let hits = |failure: &&(Option<u64>, u64)| {
            let concerns = failure.0.is_none() || block.is_none() || failure.0 == block;
            concerns && failure.1 >= invoke
        };
        self.failures.iter().filter(hits).map(|failure| failure.1).min()
    }
}

/// What became known of a call's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// They did not happen.
    Void,
    /// They may have happened in part.
    Partial,
    /// It is unknown whether they happened in this file.
    Doubtful,
    /// They happened in this file.
    Certain,
    /// What they wrote is nowhere promised.
    Unknowable,
}

fn apply_mark<E: Copy>(history: &mut History<E>, call: CallId, mark: Mark) {
    let entries: Mask = history.of(call);
    if entries == 0 {
        return;
    }
    match mark {
        Mark::Void => history.mark_void(entries),
        Mark::Partial => history.mark_partial(entries),
        Mark::Doubtful => history.mark_doubtful(entries, true),
        Mark::Certain => history.mark_doubtful(entries, false),
        Mark::Unknowable => history.mark_unknowable(),
    }
}

/// The part of a span that lies in a block, as byte indices of the block.
pub(crate) fn part(span: Span, number: u64) -> Option<(u16, u16)> {
    let first = number * BLOCK_BYTES;
    let start = span.offset.max(first);
    let end = span.end().min(first + BLOCK_BYTES);
    (start < end).then(|| ((start - first) as u16, (end - first) as u16))
}

/// What a zeroing call zeroes.
pub(crate) fn zeroed(calls: &Calls, call: CallId) -> Span {
    use crate::operation::Operation as Op;
    match calls[call].op {
        Op::Truncate { size, .. } => Span::new(size, u64::MAX - size),
        Op::Punch { span, .. } | Op::ZeroRange { span, .. } => span,
        _ => Span::new(0, 0),
    }
}

/// The files of an execution, recycled between executions.
#[derive(Debug, Default)]
pub(crate) struct Files {
    list: Vec<File>,
    used: usize,
}

impl Files {
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    pub(crate) fn create(&mut self, path: PathId, born: CallId) -> FileId {
        if self.used == self.list.len() {
            self.list.push(File::new(path, born));
        } else {
            self.list[self.used].renew(path, born);
        }
        self.used += 1;
        FileId(self.used as u32 - 1)
    }

    pub(crate) fn get(&self, id: FileId) -> &File {
        &self.list[id.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, id: FileId) -> &mut File {
        &mut self.list[id.0 as usize]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.used as u32).map(FileId)
    }
}
