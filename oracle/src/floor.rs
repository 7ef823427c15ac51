//! Durability: what a persistence call that returned has promised, and what device errors undo.
//!
//! *Verified*: fsync, fdatasync, range fsync, msync, sync, synchronous writes; the error rule G-20.
//! *Not verified, because* a sync returns no errors: after a failed write it promises nothing of
//! the files concerned until an fsync has reported the error.
use crate::attach::{span_of, through};
use crate::call::{CallId, Calls, FileId, Moment, OPEN};
use crate::file::{Asked, File, SizeEffect};
use crate::guarantee::Tier;
use crate::history::{History, Mask, bits};
use crate::model::Oracle;
use crate::namespace::{Mappings, NameEffect};
use crate::operation::{BLOCK_BYTES, Operation as Op, PathId, Span, Sync};
use smallvec::SmallVec;

/// Where a device error struck, as far as the harness knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceErrorPlace {
    /// A block of the data of a file.
    Block {
        /// The name of the file at that time.
        path: PathId,
        /// The 4 KiB block of the file.
        block: u64,
    },
    /// Some data of a file.
    File(PathId),
    /// Bare nodes.
    Nodes,
    /// Metadata, or unknown.
    Unknown,
}

/// A read or write that the device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError {
    /// Whether a write failed: then data may be lost.
    pub write: bool,
    /// What it concerns.
    pub place: DeviceErrorPlace,
}

/// Which kinds of device errors have struck.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeviceErrors {
    pub(crate) any: bool,
    pub(crate) writes: bool,
    /// A metadata write failed: sync may do nothing from then on.
    pub(crate) broken: bool,
}

impl Oracle {
    /// After a failed write of metadata nothing becomes durable any more, so nothing that is cached
    /// has to stay readable either (G-20).
    pub(crate) fn lose_if_broken(&mut self, at: u64) {
        if self.errors.broken {
            for id in self.files.ids() {
                lose(self.files.get_mut(id), None, &self.calls, at);
            }
        }
    }

    /// The device failed a request: EIO becomes legal, and after a failed write the data concerned
    /// may be lost unless a later fsync says otherwise (G-20).
    pub fn note_device_error(&mut self, at: Moment, error: DeviceError) {
        self.generation += 1;
        self.errors.any = true;
        self.errors.writes |= error.write;
        // An engine that cannot read its metadata in the middle of a change stops as well.
        self.errors.broken |= error.place == DeviceErrorPlace::Unknown;
        if !error.write {
            return;
        }
        self.nodes.lossy |= error.place == DeviceErrorPlace::Nodes;
        let (path, block) = match error.place {
            DeviceErrorPlace::Block { path, block } => (Some(path), Some(block)),
            DeviceErrorPlace::File(path) => (Some(path), None),
            DeviceErrorPlace::Nodes | DeviceErrorPlace::Unknown => (None, None),
        };
        self.errors.broken |= path.is_none();
        // A name may have changed hands while the write was in flight: all its files are hit.
        for id in self.files.ids() {
            let file = self.files.get_mut(id);
            if path.is_none_or(|path| path == file.path) {
                lose(file, block, &self.calls, at.0);
            }
        }
        if path.is_none() {
            for name in self.names.iter_mut() {
                let hit = name.history.invoked(&self.calls, at.0) & !name.history.durable();
                name.history.mark_lossy(hit);
            }
        }
    }

    /// A call that persists said EIO: its task knows now.
    pub(crate) fn note_report(&mut self, id: CallId) {
        if !persists(&self.calls[id].op) {
            return;
        }
        let asked = asked(&self.mappings, &self.calls, id);
        for file in self.calls[id].files.clone() {
            let file = self.files.get_mut(file);
            file.reports.push(asked.clone());
            file.unreported = false;
        }
    }

    /// A call returned without error: what it promised is durable from now on.
    pub(crate) fn raise_floors(&mut self, id: CallId) {
        let op = self.calls[id].op.clone();
        if matches!(op, Op::Sync) {
            return self.raise_all(id);
        }
        if is_sync_write(&op) {
            return self.raise_own(id);
        }
        // Which of several files was persisted is unknown.
        let &[file] = &self.calls[id].files[..] else { return };
        match op {
            Op::Fsync { .. } | Op::Fdatasync { .. } => self.raise_file(id, file),
            Op::FsyncRange { span, .. } => self.raise_range(id, file, span),
            Op::Msync { map, span } => {
                let mapped = self.mapped(map, self.calls[id].interval());
                if let &[place] = &mapped[..] {
                    self.raise_range(id, file, through(place, span));
                }
            }
            _ => {}
        }
    }

    /// Everything that returned before the sync was invoked.
    fn raise_all(&mut self, id: CallId) {
        let (invoke, at) = (self.calls[id].invoke, self.calls[id].ret);
        if self.errors.broken {
            return;
        }
        let (files, calls) = (&mut self.files, &self.calls);
        for file in files.ids() {
            let file = files.get_mut(file);
            if file.unreported {
                continue;
            }
            for (_, history) in file.blocks_mut() {
                let hard = history.settled(calls, invoke) & !history.lossy;
                history.raise(at, id, hard, 0);
            }
            let hard = file.sizes.settled(calls, invoke) & !file.sizes.lossy;
            file.sizes.raise(at, id, hard, 0);
        }
        for name in self.names.iter_mut() {
            let hard = name.history.settled(calls, invoke) & !name.history.lossy;
            name.history.raise(at, id, hard, 0);
        }
    }

    /// A synchronous write promises itself, unless another may have been told that it was lost.
    fn raise_own(&mut self, id: CallId) {
        let at = self.calls[id].ret;
        let &[file] = &self.calls[id].files[..] else { return };
        let told_elsewhere = self.errors.writes && syncs_besides(&self.calls, id);
        let lost = |lossy: Mask| if told_elsewhere { lossy } else { 0 };
        let file = self.files.get_mut(file);
        for (_, history) in file.blocks_mut() {
            let own = history.of(id) & !history.partial & !lost(history.lossy);
            history.raise(at, id, 0, own);
        }
        let own = file.sizes.of(id) & !file.sizes.partial & !lost(file.sizes.lossy);
        file.sizes.raise(at, id, 0, own);
    }

    /// All data and the size of a file, and by practice its name.
    fn raise_file(&mut self, id: CallId, file_id: FileId) {
        let at = self.calls[id].ret;
        let calls = &self.calls;
        let known = (&self.mappings, calls);
        let file = self.files.get_mut(file_id);
        let numbers = file.numbers().len();
        for index in 0..numbers {
            let number = file.numbers()[index];
            let at_block = |number| (file_id, &*file, Some(number));
            let hard =
                file.block(number).map_or(0, |history| owed(at_block(number), history, known, id));
            file.block_mut(index).raise(at, id, hard, 0);
        }
        let hard = owed((file_id, file, None), &file.sizes, known, id);
        file.sizes.raise(at, id, hard, 0);
        let practice = self.promises.tiers.contains(Tier::LinuxPractice);
        if self.promises.fsync_persists_name && practice {
            let history = &mut self.names.get_mut(file.path).history;
            let settled = history.settled(calls, calls[id].invoke);
            let birth = bits(settled)
                .find(|&index| history.entries()[index].effect == NameEffect::Bind(file_id));
            let hard = birth.map_or(0, |index| 1 << index);
            history.raise(at, id, hard, 0);
        }
    }

    /// The data of a range, and as much of the size as reading it needs.
    fn raise_range(&mut self, id: CallId, file_id: FileId, span: Span) {
        if span.len == 0 {
            return;
        }
        let soft = self.needed_size(id, file_id, span);
        let at = self.calls[id].ret;
        let known = (&self.mappings, &self.calls);
        let file = self.files.get_mut(file_id);
        for index in 0..file.numbers().len() {
            let number = file.numbers()[index];
            if span.overlaps(Span::new(number * BLOCK_BYTES, BLOCK_BYTES)) {
                let hard = file.block(number).map_or(0, |history| {
                    owed((file_id, file, Some(number)), history, known, id)
                        & within(history, span, number)
                });
                file.block_mut(index).raise(at, id, 0, hard);
            }
        }
        file.sizes.raise(at, id, 0, soft);
    }

    /// The calls that extended the file into or over a range.
    fn needed_size(&self, id: CallId, file_id: FileId, span: Span) -> Mask {
        let file = self.files.get(file_id);
        let entries = file.sizes.entries();
        let owed = owed((file_id, file, None), &file.sizes, (&self.mappings, &self.calls), id);
        bits(owed).fold(0, |mask, index| {
            let entry = &entries[index];
            let needed = match entry.effect {
                SizeEffect::Raise(end) => {
                    let start = span_of(&self.calls[entry.call].op)
                        .map_or(end.saturating_sub(self.calls[entry.call].len), |s| s.offset);
                    start < span.end() && end > span.offset
                }
                SizeEffect::Set(size) => {
                    let before = self.sizes_during(file_id, entry.call);
                    let grew = before.is_some_and(|sizes| sizes.iter().all(|&old| old < size));
                    grew && size > span.offset
                }
                SizeEffect::Append(_) => false,
            };
            mask | u64::from(needed) << index
        })
    }
}

/// The entries of a block's history that change bytes of a range.
fn within(history: &History<crate::file::BlockEffect>, span: Span, number: u64) -> Mask {
    let Some((start, end)) = crate::file::part(span, number) else { return 0 };
    let entries = history.entries().iter().enumerate();
    entries.fold(0, |mask, (index, entry)| {
        let touches = entry.effect.start < end && start < entry.effect.end;
        mask | u64::from(touches) << index
    })
}

/// Whether an asynchronous synchronous write of the same task, which is told of errors as fsync is,
/// overlaps a call: it may be the one that is told (G-20).
fn syncs_besides(calls: &Calls, id: CallId) -> bool {
    let me = &calls[id];
    let others = (0..calls.len() as u32).map(CallId).filter(|&other| other != id);
    others.map(|other| &calls[other]).any(|other| {
        let is_sync = matches!(other.op, Op::AsyncWrite { sync: Sync::Data, .. });
        is_sync && other.task == me.task && other.invoke < me.ret && other.ret > me.invoke
    })
}

/// What an fsync by the task of call `id` owes of the history of a block of a file, or of its size
/// (G-11, G-20).
fn owed<E: Copy>(
    (file_id, file, block): (FileId, &File, Option<u64>),
    history: &History<E>,
    (mappings, calls): (&Mappings, &Calls),
    id: CallId,
) -> Mask {
    let settled = history.settled(calls, calls[id].invoke);
    if settled & history.lossy == 0 {
        return settled;
    }
    let told_elsewhere = syncs_besides(calls, id);
    let asking = asking(file_id, (mappings, calls), id);
    let asked = asked(mappings, calls, id);
    let excused = bits(settled & history.lossy).filter(|&index| {
        let lost = file.lost_at(block, calls[history.entries()[index].call].invoke);
        let excused = |lost| file.excused(calls, &asked, lost, &asking);
        told_elsewhere || lost.is_some_and(excused)
    });
    settled & !excused.fold(0, |mask, index| mask | 1 << index)
}

/// The calls of other tasks in flight that will be told of an error of the file, or were already.
fn asking(
    file: FileId,
    (mappings, calls): (&Mappings, &Calls),
    id: CallId,
) -> SmallVec<[Asked; 2]> {
    let in_flight = |other: &CallId| {
        let call = &calls[*other];
        call.ret == OPEN && call.task != calls[id].task && call.files.contains(&file)
    };
    let ids = (0..calls.len() as u32).map(CallId).filter(in_flight);
    let asking = ids.filter(|&other| persists(&calls[other].op));
    asking.map(|other| asked(mappings, calls, other)).collect()
}

/// A call that persists, with those whose open file it goes through.
fn asked(mappings: &Mappings, calls: &Calls, call: CallId) -> Asked {
    let openers = match calls[call].op {
        Op::Msync { map, .. } => {
            let instances = mappings.during(calls, map, calls[call].interval());
            instances.map(|instance| calls[mappings.get(instance).made].task).collect()
        }
        _ => SmallVec::from_slice(&[calls[call].task]),
    };
    Asked { call, openers }
}

/// Data of a file that is not durable yet may be lost.
fn lose(file: &mut File, block: Option<u64>, calls: &Calls, at: u64) {
    for (number, history) in file.blocks_mut() {
        if block.is_none_or(|block| block == number) {
            let hit = history.invoked(calls, at) & !history.durable();
            history.mark_lossy(hit);
        }
    }
    let hit = file.sizes.invoked(calls, at) & !file.sizes.durable();
    file.sizes.mark_lossy(hit);
    file.unreported = true;
    file.failures.push((block, at));
}

/// Whether a call is told of errors of writeback.
fn persists(op: &Op) -> bool {
    match op {
        Op::Fsync { .. } | Op::Fdatasync { .. } | Op::FsyncRange { .. } | Op::Msync { .. } => true,
        op => is_sync_write(op),
    }
}

fn is_sync_write(op: &Op) -> bool {
    matches!(
        op,
        Op::Write { sync: Sync::Data, .. }
            | Op::Append { sync: Sync::Data, .. }
            | Op::DirectWrite { sync: Sync::Data, .. }
            | Op::DirectWriteFrom { sync: Sync::Data, .. }
            | Op::WriteFrom { sync: Sync::Data, .. }
            | Op::AsyncWrite { sync: Sync::Data, .. }
    )
}
