//! Return: what a call did is known better now.
//!
//! *Verified*: short counts, the place of an append, failed calls.
//! *Not verified, because* a call that failed with EIO, ENOSPC or EFAULT may have written anything
//! from nothing to all of its bytes, in any mixture; a file of which nobody knows where it ends, as
//! a write without memory may have raised its size (`failed_copies_keep_size` off).
use crate::attach::{acting_map, size_effect, span_of};
use crate::call::{CallId, FileId};
use crate::file::{BlockEffect, Change, File, Mark, SizeEffect, part};
use crate::model::Oracle;
use crate::namespace::{FREE, NameEffect};
use crate::operation::{BLOCK_BYTES, Errno, Operation as Op, Outcome, PathId, Span, Value};

impl Oracle {
    /// Brings the histories up to date with the result of a call.
    pub(crate) fn settle(&mut self, id: CallId, outcome: &Outcome) {
        let op = self.calls[id].op.clone();
        if self.may_raise_size_first(id) {
            for file in self.calls[id].files.clone() {
                self.files.get_mut(file).murky = true;
            }
        }
        match outcome {
            Ok(value) => self.settle_done(id, &op, value),
            Err(errno) => self.settle_failed(id, &op, *errno),
        }
        for file in self.calls[id].files.clone() {
            self.files.get_mut(file).ended(id);
        }
        if let Op::Create { path } | Op::Unlink { path } = op {
            self.settle_name(id, path);
        }
    }

    fn settle_done(&mut self, id: CallId, op: &Op, value: &Value) {
        if self.calls[id].files.len() == 1 && acting_map(op).is_none() {
            let file = self.calls[id].files[0];
            self.files.get_mut(file).mark(id, Mark::Certain);
        }
        match (op, value) {
            (Op::Append { .. }, Value::Appended { offset, len }) => {
                self.settle_append(id, Span::new(*offset, *len));
            }
            (Op::Clone { len: 0, source_offset, .. }, _) => {
                self.settle_clone(id, *source_offset);
            }
            (_, Value::Count(count)) if *count < self.calls[id].len => {
                self.settle_short(id, op, *count);
            }
            _ => {}
        }
    }

    fn settle_append(&mut self, id: CallId, span: Span) {
        self.calls[id].len = span.len;
        let Op::Append { fill, path, .. } = self.calls[id].op else { return };
        for file in self.calls[id].files.clone() {
            let file = self.files.get_mut(file);
            rewrite(file, id, span, |effect, number| {
                let base = ((number * BLOCK_BYTES) as i64).wrapping_sub(span.offset as i64);
                effect.change = Change::Fill { fill, path, base };
            });
            let entries = file.sizes.of(id);
            if span.len == 0 {
                file.sizes.mark_void(entries);
            }
            file.sizes.amend(entries, |effect| *effect = SizeEffect::Raise(span.end()));
        }
    }

    /// A clone to the end of its source: how much that was must be clear.
    fn settle_clone(&mut self, id: CallId, source_offset: u64) {
        let sources = self.calls[id].sources.clone();
        let sizes = sources.iter().map(|source| self.sizes_during(source.0, id));
        let clear = sizes.into_iter().all(|sizes| {
            let len = self.calls[id].len;
            sizes.is_some_and(|all| all.iter().all(|s| s.saturating_sub(source_offset) == len))
        });
        if !clear || sources.len() != 1 {
            for target in self.calls[id].files.clone() {
                self.files.get_mut(target).murky = true;
            }
        }
    }

    /// Fewer bytes than asked for.
    fn settle_short(&mut self, id: CallId, op: &Op, count: u64) {
        if matches!(op, Op::Dedupe { .. }) {
            return;
        }
        self.calls[id].len = count;
        let troubled = self.errors.any;
        for file in self.calls[id].files.clone() {
            let target = self.files.get_mut(file);
            if troubled {
                target.mark(id, Mark::Partial);
                continue;
            }
            if matches!(op, Op::DirectReadInto { .. } | Op::ReadInto { .. }) {
                if self.promises.direct_reads_spare_rest || matches!(op, Op::ReadInto { .. }) {
                    self.shorten_landing(id, file, count);
                } else {
                    target.mark(id, Mark::Partial);
                }
                continue;
            }
            let Some(span) = span_of(op) else { continue };
            rewrite(target, id, Span::new(span.offset, count), |_, _| {});
            let entries = target.sizes.of(id);
            match size_effect(op, count) {
                Some(shorter) => target.sizes.amend(entries, |effect| *effect = shorter),
                None => target.sizes.mark_void(entries),
            }
        }
    }

    /// A read into a mapping that got fewer bytes than its buffer holds.
    fn shorten_landing(&mut self, id: CallId, file: FileId, count: u64) {
        let (Op::DirectReadInto { map, map_offset, .. } | Op::ReadInto { map, map_offset, .. }) =
            self.calls[id].op
        else {
            return;
        };
        let mapped = self.mapped(map, self.calls[id].interval());
        let mut places = mapped.iter().filter(|place| place.file == file);
        let target = self.files.get_mut(file);
        match (places.next(), places.next()) {
            (Some(&place), None) => {
                let landing = crate::attach::through(place, Span::new(map_offset, count));
                rewrite(target, id, landing, |_, _| {});
            }
            _ => target.mark(id, Mark::Partial),
        }
    }

    fn settle_failed(&mut self, id: CallId, op: &Op, errno: Errno) {
        let in_part = matches!(errno, Errno::EIO | Errno::ENOSPC | Errno::EFAULT | Errno::EROFS);
        let in_part = in_part || errno == Errno::EINVAL && self.fails_late(op);
        let mark = if in_part { Mark::Partial } else { Mark::Void };
        for file in self.calls[id].files.clone() {
            self.files.get_mut(file).mark(id, mark);
        }
        match *op {
            Op::Create { path } | Op::Unlink { path } => {
                let history = &mut self.names.get_mut(path).history;
                let entries = history.of(id);
                match mark {
                    Mark::Partial => history.mark_partial(entries),
                    _ => history.mark_void(entries),
                }
                if mark == Mark::Void && matches!(op, Op::Create { .. }) {
                    self.never_born(id);
                }
            }
            Op::Mmap { .. } | Op::Munmap { .. } => self.mappings.failed(id),
            _ => {}
        }
    }

    /// The file of a create that failed does not exist: calls in flight do not act on it.
    fn never_born(&mut self, id: CallId) {
        for file in self.calls[id].files.clone() {
            for open in self.open.clone() {
                let call = &mut self.calls[open];
                call.files.retain(|other| *other != file);
                call.sources.retain(|source| source.0 != file);
            }
        }
    }

    /// A call that changes a name returned.
    fn settle_name(&mut self, id: CallId, path: PathId) {
        let name = self.names.get_mut(path);
        name.changing -= 1;
        if name.history.is_newest_alone(id) && !name.unsettled {
            let entry = name.history.entries()[name.history.entries().len() - 1];
            let applied = entry.effect.apply(name.now);
            let forced = if let NameEffect::Bind(file) = entry.effect {
                crate::namespace::bound(file)
            } else {
                FREE
            };
            // An impossible result was reported; the target's word is taken from here on.
            name.now = applied.unwrap_or(forced);
            return;
        }
        if name.changing > 0 {
            return;
        }
        let after = self.calls[id].ret.saturating_add(1);
        let values = self.bindings_during(path, (after, after)).unwrap_or_default();
        let name = self.names.get_mut(path);
        name.unsettled = values.len() != 1;
        name.now = values.first().copied().unwrap_or(FREE);
    }
}

/// Limits the entries of a call to the bytes of `span`; those outside did not happen.
fn rewrite(file: &mut File, id: CallId, span: Span, change: impl Fn(&mut BlockEffect, u64)) {
    for (number, history) in file.blocks_mut() {
        let entries = history.of(id);
        if entries == 0 {
            continue;
        }
        let Some((start, end)) = part(span, number) else {
            history.mark_void(entries);
            continue;
        };
        history.amend(entries, |effect| {
            (effect.start, effect.end) = (start, end);
            change(effect, number);
        });
    }
}
