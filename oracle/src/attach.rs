//! Invocation: from this moment on, a call may have its effect.
//!
//! *Verified*: a call is in the history of everything it may change before anyone can see it.
//! *Not verified, because* a call whose name or mapping is replaced while it is in flight may act
//! on either file; it is then required in neither.
use crate::call::{CallId, FileId};
use crate::direct::chases_itself;
use crate::file::{Change, Mark, SizeEffect};
use crate::model::{Mapped, Oracle};
use crate::namespace::NameEffect;
use crate::operation::{BLOCK_BYTES, MapId, Operation as Op, PathId, Span, whole_blocks};
use smallvec::SmallVec;

impl Oracle {
    pub(crate) fn attach_call(&mut self, id: CallId) {
        let op = self.calls[id].op.clone();
        for path in [acting_path(&op), source_path(&op)].into_iter().flatten() {
            self.names.mention(path);
        }
        match op {
            Op::Create { path } => self.attach_create(id, path),
            Op::Unlink { path } => {
                let (names, calls) = (&mut self.names, &self.calls);
                let name = names.get_mut(path);
                name.history.add(id, NameEffect::Unbind, false, calls);
                name.changing += 1;
                self.late_freedom(path);
            }
            Op::Mmap { map, path, span } => {
                self.calls[id].files = self.resolve(path, self.calls[id].interval());
                for &file in &self.calls[id].files {
                    self.files.get_mut(file).touch(id, &self.calls);
                }
                let open = self.open.iter().copied();
                let unmaps = open.filter(|&open| self.calls[open].op == Op::Munmap { map });
                let instance = self.mappings.create(map, span, id, unmaps);
                self.calls[id].instances.push(instance);
                self.late_mapping(id, map);
            }
            Op::Munmap { map } => self.mappings.end(map, id),
            _ => self.attach_io(id, &op),
        }
    }

    fn attach_create(&mut self, id: CallId, path: PathId) {
        let file = self.files.create(path, id);
        self.calls[id].files.push(file);
        let (names, calls) = (&mut self.names, &self.calls);
        let name = names.get_mut(path);
        name.history.add(id, NameEffect::Bind(file), false, calls);
        name.changing += 1;
        self.late_birth(path, file);
    }

    fn attach_io(&mut self, id: CallId, op: &Op) {
        let interval = self.calls[id].interval();
        if let Some(path) = source_path(op) {
            let files = self.resolve(path, interval);
            self.calls[id].sources = files.into_iter().map(|file| (file, 0)).collect();
        }
        if let Op::DirectWriteFrom { span, map, map_offset, .. }
        | Op::WriteFrom { span, map, map_offset, .. } = *op
        {
            let mapped = self.mapped(map, interval);
            let extra = |m: &Mapped| between(m.offset, map_offset, span.offset);
            self.calls[id].sources = mapped.iter().map(|m| (m.file, extra(m))).collect();
        }
        self.calls[id].len = self.asked_len(id, op);
        if let Some(path) = acting_path(op) {
            let files = self.resolve(path, interval);
            let doubtful = files.len() > 1;
            for file in files {
                self.attach(id, file, None, doubtful);
            }
        } else if let Some(map) = acting_map(op) {
            let mapped = self.mapped(map, interval);
            let doubtful = mapped.len() > 1;
            for place in mapped {
                self.attach(id, place.file, Some(place), doubtful);
            }
        }
    }

    /// The bytes that a call asks to cover.
    fn asked_len(&self, id: CallId, op: &Op) -> u64 {
        match *op {
            Op::Append { len, .. } => len,
            Op::Clone { len: 0, source_offset, .. } => {
                let sizes = self.calls[id]
                    .sources
                    .iter()
                    .filter_map(|source| self.sizes_during(source.0, id)?.into_iter().max());
                sizes.max().unwrap_or(0).saturating_sub(source_offset)
            }
            Op::Clone { len, .. } | Op::Dedupe { len, .. } => len,
            _ => span_of(op).map_or(0, |span| span.len),
        }
    }

    /// Puts a call into the histories of a file that it may act on.
    fn attach(&mut self, id: CallId, file: FileId, via: Option<Mapped>, doubtful: bool) {
        if !self.calls[id].files.contains(&file) {
            self.calls[id].files.push(file);
        }
        if via.is_none() {
            self.files.get_mut(file).touch(id, &self.calls);
        }
        let op = self.calls[id].op.clone();
        let len = self.calls[id].len;
        if let Some(effect) = size_effect(&op, len) {
            self.files.get_mut(file).sizes.add(id, effect, doubtful, &self.calls);
            self.size_may_change(file, id);
        }
        let calls = &self.calls;
        let target = self.files.get_mut(file);
        match op {
            Op::Truncate { size, .. } => {
                target.zero(id, Span::new(size, u64::MAX - size), doubtful, calls);
            }
            Op::Punch { span, .. } => target.zero(id, span, doubtful, calls),
            Op::ZeroRange { span, .. } => {
                target.zero(id, span, doubtful, calls);
                target.reserved.push(span);
            }
            Op::Fallocate { span, .. } => target.reserved.push(span),
            // A hole that equals the source shares its blocks, while the call is still on its way.
            Op::Dedupe { target_offset, len, .. } => {
                target.reserved.push(Span::new(target_offset, len));
            }
            Op::Write { path, span, fill, .. }
            | Op::DirectWrite { path, span, fill, .. }
            | Op::AsyncWrite { path, span, fill, .. }
            | Op::LayoutWrite { path, span, fill } => {
                target.write(id, span, doubtful, calls, |number| Change::Fill {
                    fill,
                    path,
                    base: (number * BLOCK_BYTES) as i64,
                });
            }
            Op::DirectWriteFrom { span, .. } | Op::WriteFrom { span, .. } => {
                target
                    .write(id, span, doubtful, calls, |_| Change::Copy { delta: 0, mapped: false });
                let sources = &self.calls[id].sources;
                let mut own = sources.iter().filter(|source| source.0 == file);
                if own.any(|source| chases_itself(span, source.1)) {
                    self.files.get_mut(file).mark(id, Mark::Unknowable);
                }
            }
            Op::Clone { source_offset, target_offset, .. } => {
                let span = Span::new(target_offset, len);
                let delta = between(source_offset, 0, target_offset);
                target.write(id, span, doubtful, calls, |_| Change::Copy { delta, mapped: false });
            }
            Op::Append { .. } => {
                target.appending.push(id);
                self.spread_appends(file);
                if doubtful {
                    self.files.get_mut(file).mark(id, Mark::Doubtful);
                }
            }
            _ => self.attach_mapped(id, file, via, doubtful),
        }
    }

    /// The part of `attach` for calls that write through a mapping.
    fn attach_mapped(&mut self, id: CallId, file: FileId, via: Option<Mapped>, doubtful: bool) {
        let Some(place) = via else { return };
        let calls = &self.calls;
        let target = self.files.get_mut(file);
        match calls[id].op {
            Op::Store { map, span, fill } => {
                let path = crate::content::map_stream(map);
                let shift = place.offset as i64;
                target.write(id, through(place, span), doubtful, calls, |number| {
                    let base = ((number * BLOCK_BYTES) as i64).wrapping_sub(shift);
                    Change::Store { fill, path, base }
                });
            }
            Op::DirectReadInto { span, map_offset, .. } | Op::ReadInto { span, map_offset, .. } => {
                let landing = through(place, Span::new(map_offset, span.len));
                let delta = between(span.offset, 0, place.offset.wrapping_add(map_offset));
                target
                    .write(id, landing, doubtful, calls, |_| Change::Copy { delta, mapped: true });
                let own = self.calls[id].sources.iter().any(|source| source.0 == file);
                if own && chases_itself(landing, delta) {
                    self.files.get_mut(file).mark(id, Mark::Unknowable);
                }
            }
            _ => {}
        }
    }

    /// A call that may change the size of a file is invoked: appends in flight may land elsewhere,
    /// and what "to the end of the source" means is open.
    fn size_may_change(&mut self, file: FileId, id: CallId) {
        self.spread_appends(file);
        let open = &self.open;
        let to_the_end = open.iter().copied().filter(|&other| {
            let call = &self.calls[other];
            let whole = matches!(call.op, Op::Clone { len: 0, .. });
            other != id && whole && call.sources.iter().any(|source| source.0 == file)
        });
        let unclear: SmallVec<[CallId; 2]> = to_the_end.collect();
        for other in unclear {
            for target in self.calls[other].files.clone() {
                self.files.get_mut(target).murky = true;
            }
        }
    }

    fn spread_appends(&mut self, file: FileId) {
        for call in self.files.get(file).appending.clone() {
            let Op::Append { path, fill, .. } = self.calls[call].op else { continue };
            let Some(sizes) = self.sizes_during(file, call) else {
                self.files.get_mut(file).murky = true;
                return;
            };
            let (low, high) = sizes
                .iter()
                .fold((u64::MAX, 0), |(low, high), &size| (low.min(size), high.max(size)));
            let high = high.saturating_add(self.calls[call].len);
            let change = Change::Append { fill, path };
            let doubtful = self.calls[call].files.len() > 1;
            let file = self.files.get_mut(file);
            file.spread(call, low, high, change, &self.calls);
            if doubtful {
                // It may act on another file, also where it is attached only now.
                file.mark(call, Mark::Doubtful);
            }
        }
    }

    /// An unlink is invoked: creates in flight, which the name was taken for, may succeed now.
    fn late_freedom(&mut self, path: PathId) {
        for id in self.open.clone() {
            if self.calls[id].op == (Op::Create { path }) {
                self.late_birth(path, self.calls[id].files[0]);
            }
        }
    }

    /// A create may succeed from now on: calls in flight by that name may act on the new file.
    fn late_birth(&mut self, path: PathId, file: FileId) {
        for id in self.open.clone() {
            let op = self.calls[id].op.clone();
            let knows_source = self.calls[id].sources.iter().any(|source| source.0 == file);
            if source_path(&op) == Some(path) && !knows_source {
                self.calls[id].sources.push((file, 0));
            }
            if acting_path(&op) != Some(path) || matches!(op, Op::Create { .. } | Op::Unlink { .. })
            {
                continue;
            }
            if self.calls[id].files.contains(&file) {
                continue;
            }
            let others = self.calls[id].files.clone();
            for &other in &others {
                self.files.get_mut(other).mark(id, Mark::Doubtful);
            }
            if matches!(op, Op::Mmap { .. }) {
                self.calls[id].files.push(file);
                // Stores through a mapping of either file are beyond this model.
                for &murky in self.calls[id].files.clone().iter().filter(|_| !others.is_empty()) {
                    self.files.get_mut(murky).murky = true;
                }
            } else {
                self.attach(id, file, None, !others.is_empty());
            }
        }
    }

    /// An mmap is invoked: calls in flight through that name may go through the new mapping.
    fn late_mapping(&mut self, made: CallId, map: MapId) {
        let Op::Mmap { span, .. } = self.calls[made].op else { return };
        let fresh = self.calls[made].files.clone();
        for id in self.open.clone() {
            let op = self.calls[id].op.clone();
            if let Op::DirectWriteFrom { span: to, map: from, map_offset, .. }
            | Op::WriteFrom { span: to, map: from, map_offset, .. } = op
                && from == map
            {
                let extra = between(span.offset, map_offset, to.offset);
                self.calls[id].sources.extend(fresh.iter().map(|&file| (file, extra)));
            }
            if acting_map(&op) != Some(map) || matches!(op, Op::Msync { .. }) {
                continue;
            }
            for other in self.calls[id].files.clone() {
                self.files.get_mut(other).mark(id, Mark::Doubtful);
            }
            for &file in &fresh {
                let len = whole_blocks(span.len);
                let place = Mapped { file, offset: span.offset, len, lasts: false };
                self.attach(id, file, Some(place), true);
            }
        }
    }
}

/// What to add to an offset counted from `to` to get it counted from `from + more`.
fn between(from: u64, more: u64, to: u64) -> i64 {
    from.wrapping_add(more).wrapping_sub(to) as i64
}

/// The bytes of a file that a range of a mapping shows.
pub(crate) fn through(place: Mapped, span: Span) -> Span {
    let end = span.end().min(place.len);
    Span::new(place.offset.saturating_add(span.offset), end.saturating_sub(span.offset))
}

/// The path whose file a call acts on.
pub(crate) fn acting_path(op: &Op) -> Option<PathId> {
    match *op {
        Op::Create { path }
        | Op::Unlink { path }
        | Op::Truncate { path, .. }
        | Op::Write { path, .. }
        | Op::Append { path, .. }
        | Op::Read { path, .. }
        | Op::DirectWrite { path, .. }
        | Op::DirectWriteFrom { path, .. }
        | Op::WriteFrom { path, .. }
        | Op::DirectRead { path, .. }
        | Op::AsyncWrite { path, .. }
        | Op::AsyncRead { path, .. }
        | Op::Layout { path, .. }
        | Op::LayoutWrite { path, .. }
        | Op::Mmap { path, .. }
        | Op::Fallocate { path, .. }
        | Op::Punch { path, .. }
        | Op::ZeroRange { path, .. }
        | Op::Fsync { path }
        | Op::Fdatasync { path }
        | Op::FsyncRange { path, .. }
        | Op::Writeback { path }
        | Op::Reclaim { path }
        | Op::Readahead { path, .. }
        | Op::Holes { path }
        | Op::Stat { path } => Some(path),
        Op::Clone { target, .. } | Op::Dedupe { target, .. } => Some(target),
        _ => None,
    }
}

/// The path whose file a call copies from, or compares with.
pub(crate) fn source_path(op: &Op) -> Option<PathId> {
    match *op {
        Op::Clone { source, .. } | Op::Dedupe { source, .. } => Some(source),
        Op::DirectReadInto { path, .. } | Op::ReadInto { path, .. } => Some(path),
        _ => None,
    }
}

/// The mapping that a call acts through.
pub(crate) fn acting_map(op: &Op) -> Option<MapId> {
    match *op {
        Op::Load { map, .. }
        | Op::Store { map, .. }
        | Op::Msync { map, .. }
        | Op::DirectReadInto { map, .. }
        | Op::ReadInto { map, .. } => Some(map),
        _ => None,
    }
}

/// The range that a call names; of clone and dedupe, that of the target.
pub(crate) fn span_of(op: &Op) -> Option<Span> {
    match *op {
        Op::Write { span, .. }
        | Op::Read { span, .. }
        | Op::DirectWrite { span, .. }
        | Op::DirectWriteFrom { span, .. }
        | Op::WriteFrom { span, .. }
        | Op::DirectRead { span, .. }
        | Op::DirectReadInto { span, .. }
        | Op::ReadInto { span, .. }
        | Op::AsyncWrite { span, .. }
        | Op::AsyncRead { span, .. }
        | Op::LayoutWrite { span, .. }
        | Op::Mmap { span, .. }
        | Op::Load { span, .. }
        | Op::Store { span, .. }
        | Op::Msync { span, .. }
        | Op::Fallocate { span, .. }
        | Op::Punch { span, .. }
        | Op::ZeroRange { span, .. }
        | Op::FsyncRange { span, .. } => Some(span),
        Op::Clone { target_offset, len, .. } | Op::Dedupe { target_offset, len, .. } => {
            Some(Span::new(target_offset, len))
        }
        _ => None,
    }
}

/// What a call that covers `len` bytes does to the size of the file that it acts on.
pub(crate) fn size_effect(op: &Op, len: u64) -> Option<SizeEffect> {
    let raise = |offset: u64| (len > 0).then(|| SizeEffect::Raise(offset.saturating_add(len)));
    match *op {
        Op::Truncate { size, .. } => Some(SizeEffect::Set(size)),
        Op::Append { .. } => (len > 0).then_some(SizeEffect::Append(len)),
        Op::Write { span, .. }
        | Op::DirectWrite { span, .. }
        | Op::AsyncWrite { span, .. }
        | Op::DirectWriteFrom { span, .. }
        | Op::WriteFrom { span, .. }
        | Op::Fallocate { span, keep_size: false, .. }
        | Op::ZeroRange { span, keep_size: false, .. } => raise(span.offset),
        Op::Clone { target_offset, .. } => raise(target_offset),
        _ => None,
    }
}
