//! Error numbers: which a call may return, and when it must not succeed.
//!
//! A condition may hold at one moment of a call's interval and not at another; a result is legal if
//! some moment gives it.
//!
//! *Verified*: POSIX and Linux conditions of names, ranges, alignment, faults and remapping.
//! *Not verified, because* which of several errors a call prefers is nowhere promised, and how much
//! space is free is the target's secret: ENOSPC is legal whenever it is promised at all.
use crate::attach::{acting_path, source_path, span_of};
use crate::call::{CallId, FileId};
use crate::model::{Mapped, Oracle};
use crate::namespace::FREE;
use crate::operation::{BLOCK_BYTES, Errno, Operation as Op, PathId, Span, whole_blocks};
use smallvec::SmallVec;

/// Whether a condition may have held, and whether it may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) yes: bool,
    pub(crate) no: bool,
}

impl Truth {
    pub(crate) const YES: Truth = Truth { yes: true, no: false };
    pub(crate) const NO: Truth = Truth { yes: false, no: true };
    pub(crate) const OPEN: Truth = Truth { yes: true, no: true };
    const NEITHER: Truth = Truth { yes: false, no: false };

    fn of(holds: bool) -> Truth {
        if holds { Truth::YES } else { Truth::NO }
    }

    fn or_at_another_moment(self, holds: bool) -> Truth {
        Truth { yes: self.yes || holds, no: self.no || !holds }
    }
}

/// The largest offset of a file.
const MAX_OFFSET: u64 = i64::MAX as u64;

impl Oracle {
    /// Whether a call may return this error.
    pub(crate) fn error_is_legal(&self, id: CallId, errno: Errno) -> bool {
        let op = &self.calls[id].op;
        match errno {
            Errno::ENOENT => {
                let paths = [acting_path(op), source_path(op)];
                let creates = matches!(op, Op::Create { .. });
                !creates && paths.into_iter().flatten().any(|path| self.absent(path, id).yes)
            }
            Errno::EEXIST => match *op {
                Op::Create { path } => self.absent(path, id).no,
                _ => false,
            },
            Errno::EINVAL => self.invalid(id).yes,
            Errno::EFAULT => self.faults(id).yes || self.store_may_fail(op),
            Errno::ENOMEM => matches!(op, Op::Msync { .. }) && self.msync_misses(id),
            Errno::EFBIG | Errno::EOVERFLOW => self.too_big(op).yes,
            Errno::ENOSPC => self.promises.may_run_out_of_space && allocates(op),
            Errno::EIO => self.errors.any || self.direct_collision(id),
            Errno::EROFS | Errno::EUCLEAN => self.errors.any,
            Errno::EOPNOTSUPP => self.may_be_missing(op),
            Errno::EAGAIN => is_about_layouts(op),
            _ => false,
        }
    }

    /// Whether a call may have raised the size of its file before it copied anything from memory
    /// that was not there: what it copies then may be there by that.
    pub(crate) fn may_raise_size_first(&self, id: CallId) -> bool {
        let copies = matches!(self.calls[id].op, Op::WriteFrom { .. });
        copies && !self.promises.failed_copies_keep_size && !self.faults(id).no
    }

    /// Why a call cannot have succeeded, if it cannot.
    pub(crate) fn must_fail(&self, id: CallId) -> Option<&'static str> {
        let op = &self.calls[id].op;
        if let Op::Create { path } = *op {
            return (!self.absent(path, id).yes).then_some("the name was taken");
        }
        let mut paths = [acting_path(op), source_path(op)].into_iter().flatten();
        if paths.any(|path| !self.absent(path, id).no) {
            return Some("the name did not exist");
        }
        if !self.invalid(id).no {
            return Some("its arguments are invalid");
        }
        if !self.faults(id).no && !self.may_raise_size_first(id) {
            return Some("it touches memory beyond the mapping or the file");
        }
        (!self.too_big(op).no).then_some("it goes beyond the largest file")
    }

    /// Whether a name led nowhere during a call.
    pub(crate) fn absent(&self, path: PathId, id: CallId) -> Truth {
        let Some(name) = self.names.get(path) else { return Truth::YES };
        let own = name.history.of(id);
        if name.changing == 0 && !name.unsettled && own == 0 && !self.changed_since(path, id) {
            return Truth::of(name.now == FREE);
        }
        let mut query = name.history.during(&self.calls, self.calls[id].interval());
        query.possible &= !own;
        let Some(values) = self.bindings(path, query) else { return Truth::OPEN };
        values
            .iter()
            .fold(Truth::NEITHER, |truth, &value| truth.or_at_another_moment(value == FREE))
    }

    /// Whether a call that changes the name overlaps another call.
    pub(crate) fn changed_since(&self, path: PathId, id: CallId) -> bool {
        let invoke = self.calls[id].invoke;
        self.names.get(path).is_some_and(|name| {
            let entries = name.history.entries().iter().rev();
            let mut ends = entries.map(|entry| self.calls[entry.call].ret);
            ends.any(|end| end > invoke)
        })
    }

    fn may_be_missing(&self, op: &Op) -> bool {
        match op {
            Op::Clone { .. } | Op::Dedupe { .. } => !self.promises.has_clone,
            Op::Fallocate { .. } | Op::Punch { .. } | Op::ZeroRange { .. } => {
                !self.promises.has_fallocate
            }
            _ => is_about_layouts(op),
        }
    }

    /// Faults are how stores and loads learn of failed reads and of a full device.
    fn store_may_fail(&self, op: &Op) -> bool {
        let through = matches!(
            op,
            Op::Store { .. }
                | Op::Load { .. }
                | Op::DirectReadInto { .. }
                | Op::DirectWriteFrom { .. }
                | Op::ReadInto { .. }
                | Op::WriteFrom { .. }
        );
        let full = self.promises.may_run_out_of_space && !matches!(op, Op::Load { .. });
        through && (full || self.errors.any)
    }

    fn too_big(&self, op: &Op) -> Truth {
        let (start, end) = match *op {
            Op::Truncate { size, .. } => (size, size),
            ref other if allocates(other) => match span_of(other) {
                Some(span) if span.len > 0 => (span.offset.saturating_add(1), span.end()),
                _ => return Truth::NO,
            },
            _ => return Truth::NO,
        };
        let max = self.promises.max_file_bytes;
        Truth { yes: end > max, no: start <= max }
    }

    /// Whether the arguments were invalid (EINVAL).
    pub(crate) fn invalid(&self, id: CallId) -> Truth {
        let op = &self.calls[id].op;
        if let Some(span) = span_of(op)
            && (span.offset > MAX_OFFSET || span.end() > MAX_OFFSET)
        {
            return Truth::OPEN;
        }
        match *op {
            Op::DirectWrite { span, .. } | Op::AsyncWrite { span, .. } => {
                self.misaligned_write(id, span, 0)
            }
            Op::DirectRead { span, .. } | Op::AsyncRead { span, .. } => {
                self.misaligned_read(id, &self.calls[id].files, span, 0)
            }
            Op::DirectWriteFrom { span, map_offset, .. } => {
                self.misaligned_write(id, span, map_offset)
            }
            Op::DirectReadInto { span, map_offset, .. } => {
                let sources = self.calls[id].sources.iter().map(|source| source.0);
                let sources: SmallVec<[FileId; 2]> = sources.collect();
                self.misaligned_read(id, &sources, span, map_offset)
            }
            Op::Fallocate { span, .. } | Op::Punch { span, .. } | Op::ZeroRange { span, .. } => {
                Truth::of(span.len == 0)
            }
            Op::Mmap { span, .. } => {
                if span.len == 0 || !span.offset.is_multiple_of(BLOCK_BYTES) {
                    Truth::YES
                } else {
                    Truth { yes: !span.len.is_multiple_of(BLOCK_BYTES), no: true }
                }
            }
            Op::Munmap { map } => {
                let mapped = self.mapped(map, self.calls[id].interval());
                Truth { yes: !mapped.iter().any(|place| place.lasts), no: true }
            }
            Op::Msync { .. } => Truth { yes: self.msync_misses(id), no: true },
            Op::LayoutWrite { span, .. } => {
                let is_whole = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES);
                Truth::of(!is_whole(span.offset) || !is_whole(span.len))
            }
            Op::Truncate { size, .. } if size > MAX_OFFSET => Truth::OPEN,
            Op::Clone { source_offset, target_offset, len, .. } => {
                let remap = Remap { source_offset, target_offset, len };
                self.remap_invalid(id, |sizes, same| remap.clone_invalid(sizes, same))
            }
            Op::Dedupe { source_offset, target_offset, len, .. } => {
                let remap = Remap { source_offset, target_offset, len };
                self.remap_invalid(id, |sizes, same| remap.dedupe_invalid(sizes, same))
            }
            _ => Truth::NO,
        }
    }

    fn misaligned(&self, span: Span, memory: u64) -> Truth {
        let align = self.promises.direct_align.max(1);
        let file = !span.offset.is_multiple_of(align) || !span.len.is_multiple_of(align);
        let both = span.len == 0 || self.promises.direct_falls_back;
        match (file, memory.is_multiple_of(align)) {
            (true, _) => Truth { yes: true, no: both },
            (false, true) => Truth::NO,
            // How a buffer in memory must be aligned depends on the device.
            (false, false) => Truth::OPEN,
        }
    }

    /// As `misaligned`; but what meets cached access may be done through the page cache.
    fn misaligned_write(&self, id: CallId, span: Span, memory: u64) -> Truth {
        let truth = self.misaligned(span, memory);
        if truth.no {
            return truth;
        }
        Truth { yes: truth.yes, no: self.direct_collision(id) }
    }

    /// As `misaligned`; but at or beyond the end of the file there is nothing to align.
    fn misaligned_read(&self, id: CallId, files: &[FileId], span: Span, memory: u64) -> Truth {
        let truth = self.misaligned(span, memory);
        if truth.no {
            return truth;
        }
        let at_the_end = |&file: &FileId| {
            let sizes = self.sizes_during(file, id);
            sizes.is_none_or(|sizes| sizes.iter().any(|&size| size <= span.offset))
        };
        let unchecked = !self.promises.direct_align_first;
        Truth { yes: truth.yes, no: unchecked || files.iter().any(at_the_end) }
    }

    /// Folds a condition over the sizes that source and target may have had.
    fn remap_invalid(&self, id: CallId, invalid: impl Fn((u64, u64), bool) -> Truth) -> Truth {
        let call = &self.calls[id];
        let mut truth = Truth::NEITHER;
        for &(source, _) in &call.sources {
            for &target in &call.files {
                let sizes = (self.sizes_during(source, id), self.sizes_during(target, id));
                let (Some(source_sizes), Some(target_sizes)) = sizes else { return Truth::OPEN };
                for &from in &source_sizes {
                    for &to in target_sizes.iter().filter(|&&to| source != target || to == from) {
                        let one = invalid((from, to), source == target);
                        truth = Truth { yes: truth.yes || one.yes, no: truth.no || one.no };
                    }
                }
            }
        }
        if truth == Truth::NEITHER { Truth::OPEN } else { truth }
    }

    fn msync_misses(&self, id: CallId) -> bool {
        let Op::Msync { map, span } = self.calls[id].op else { return false };
        let mapped = self.mapped(map, self.calls[id].interval());
        !span.offset.is_multiple_of(BLOCK_BYTES)
            || !mapped.iter().any(|place| place.lasts && span.end() <= place.len)
    }

    /// Whether memory that the call touches is not there (EFAULT).
    pub(crate) fn faults(&self, id: CallId) -> Truth {
        let (map, span) = match self.calls[id].op {
            Op::Load { map, span } | Op::Store { map, span, .. } => (map, span),
            Op::DirectWriteFrom { map, map_offset, span, .. }
            | Op::DirectReadInto { map, map_offset, span, .. }
            | Op::WriteFrom { map, map_offset, span, .. }
            | Op::ReadInto { map, map_offset, span, .. } => (map, Span::new(map_offset, span.len)),
            _ => return Truth::NO,
        };
        if span.len == 0 {
            return Truth { yes: true, no: true };
        }
        let mapped = self.mapped(map, self.calls[id].interval());
        if mapped.is_empty() {
            return Truth::YES;
        }
        let mut truth = Truth::NEITHER;
        for place in mapped {
            let whole = self.range_faults(id, place, span);
            // What comes before the fault is transferred, and a read may end before it.
            let no = match self.calls[id].op {
                Op::DirectReadInto { .. } | Op::ReadInto { .. } => true,
                ref op @ (Op::DirectWriteFrom { .. } | Op::WriteFrom { .. }) => {
                    let first = self.range_faults(id, place, Span::new(span.offset, 1));
                    let direct = matches!(op, Op::DirectWriteFrom { .. });
                    first.no || direct && !self.promises.direct_faults_reported
                }
                _ => whole.no,
            };
            truth = Truth { yes: truth.yes || whole.yes || !place.lasts, no: truth.no || no };
        }
        truth
    }

    fn range_faults(&self, id: CallId, place: Mapped, span: Span) -> Truth {
        if span.end() > whole_blocks(place.len) {
            return Truth::YES;
        }
        let end = place.offset.saturating_add(span.end());
        self.sizes_of(place.file, id).map_or(Truth::OPEN, |sizes| {
            sizes.iter().fold(Truth::NEITHER, |truth, size| {
                truth.or_at_another_moment(end > whole_blocks(*size))
            })
        })
    }

    fn sizes_of(&self, file: FileId, id: CallId) -> Option<crate::query::Values> {
        self.sizes_during(file, id)
    }
}

/// The arguments of clone and dedupe.
#[derive(Clone, Copy)]
struct Remap {
    source_offset: u64,
    target_offset: u64,
    len: u64,
}

impl Remap {
    fn unaligned(self) -> bool {
        let (source, target) = (self.source_offset, self.target_offset);
        !source.is_multiple_of(BLOCK_BYTES) || !target.is_multiple_of(BLOCK_BYTES)
    }

    fn overlaps_itself(self, len: u64) -> bool {
        let len = whole_blocks(len);
        len > 0 && Span::new(self.source_offset, len).overlaps(Span::new(self.target_offset, len))
    }

    /// As Linux: `generic_remap_checks` and `generic_remap_check_len`.
    fn clone_invalid(self, (source, target): (u64, u64), same_file: bool) -> Truth {
        if self.len == 0 && self.source_offset == source {
            return Truth::NO; // nothing to do, wherever the target begins
        }
        if self.unaligned() || self.source_offset > source {
            return Truth::YES;
        }
        let rest = source - self.source_offset;
        let len = if self.len == 0 { rest } else { self.len };
        let ends_inside = len < rest && !len.is_multiple_of(BLOCK_BYTES);
        let target_end = self.target_offset.saturating_add(len);
        let cuts_target = !len.is_multiple_of(BLOCK_BYTES) && target_end < target;
        let overlaps = same_file && self.overlaps_itself(len);
        Truth::of(len > rest || ends_inside || cuts_target || overlaps)
    }

    /// As above; a dedupe may be shortened to whole blocks instead.
    fn dedupe_invalid(self, (source, target): (u64, u64), same_file: bool) -> Truth {
        if self.len == 0 {
            return Truth::OPEN;
        }
        let beyond = self.source_offset.saturating_add(self.len) > source
            || self.target_offset.saturating_add(self.len) > target;
        // A partial block that does not end both files is left out before anything overlaps.
        let whole = self.len / BLOCK_BYTES * BLOCK_BYTES;
        if self.unaligned() || beyond || (same_file && self.overlaps_itself(whole)) {
            return Truth::YES;
        }
        if self.len == whole { Truth::NO } else { Truth::OPEN }
    }
}

/// Who has layouts, and which, is the target's secret: these may always fail.
fn is_about_layouts(op: &Op) -> bool {
    matches!(op, Op::Layout { .. } | Op::LayoutWrite { .. })
}

/// Whether a call may need space.
fn allocates(op: &Op) -> bool {
    !matches!(
        op,
        Op::Read { .. }
            | Op::DirectRead { .. }
            | Op::AsyncRead { .. }
            | Op::Load { .. }
            | Op::Reap
            | Op::Mmap { .. }
            | Op::Munmap { .. }
            | Op::Reclaim { .. }
            | Op::Readahead { .. }
            | Op::Holes { .. }
            | Op::Stat { .. }
            | Op::List
    )
}
