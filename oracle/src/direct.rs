//! Direct IO that meets the page cache of its own file.
//!
//! *Verified*: against ext4, xfs and btrfs (`powerfail conform`): EIO comes only to files that had
//! such a meeting.
//! *Not verified, because* how a kernel resolves the meeting is nowhere promised: the bytes of a
//! copy whose source and target overlap are not judged.
use crate::call::{Call, CallId, FileId};
use crate::model::Oracle;
use crate::operation::{BLOCK_BYTES, Operation as Op, Span};

/// The most places at which a direct write is taken to stop.
const MAX_ENDS: usize = 64;

impl Oracle {
    /// Whether a file that the call concerns had direct IO that overlapped cached access in time,
    /// or whose memory was a mapping of the file itself. Linux then fails to drop cached pages, or
    /// meets delayed allocations, and reports EIO to whoever waits for writeback next.
    pub(crate) fn direct_collision(&self, id: CallId) -> bool {
        if self.promises.direct_coherent {
            return false;
        }
        let this = &self.calls[id];
        let earlier =
            self.calls.iter().filter(|call| call.invoke < this.ret && is_direct(&call.op));
        earlier.into_iter().any(|call| {
            concerned(call).any(|file| {
                let matters = matches!(this.op, Op::Sync) || concerned(this).any(|it| it == file);
                matters && (maps_itself(call, file) || self.meets_cached_access(call, file))
            })
        })
    }

    fn meets_cached_access(&self, direct: &Call, file: FileId) -> bool {
        self.calls.iter().any(|call| {
            let overlap = call.invoke < direct.ret && direct.invoke < call.ret;
            let cached = !is_direct(&call.op) || uses_as_memory(call, file);
            overlap && cached && concerned(call).any(|other| other == file)
        })
    }

    /// The sizes to which a direct write from a mapping may bring a file of `size` bytes before the
    /// memory is found missing: where it begins (ext4), and what each page of memory reaches to.
    pub(crate) fn sizes_left_by_fault(
        &self,
        id: CallId,
        size: u64,
    ) -> impl Iterator<Item = u64> + use<> {
        let (span, first) = match self.calls[id].op {
            Op::DirectWriteFrom { span, map_offset, .. }
                if !self.promises.direct_faults_reported =>
            {
                (span, BLOCK_BYTES - map_offset % BLOCK_BYTES)
            }
            _ => (Span::new(0, 0), BLOCK_BYTES),
        };
        let reached = (first..span.len).step_by(BLOCK_BYTES as usize);
        let ends = std::iter::once(0).chain(reached).map(move |len| span.offset + len);
        ends.take(MAX_ENDS).filter(move |&end| end > size)
    }

    /// Whether a misaligned direct write may fail after it has written the first extents.
    pub(crate) fn fails_late(&self, op: &Op) -> bool {
        let writes = matches!(
            op,
            Op::DirectWrite { .. } | Op::AsyncWrite { .. } | Op::DirectWriteFrom { .. }
        );
        writes && !self.promises.direct_align_first
    }

    /// Whether the memory of a write may hold what no file has: bytes that were stored behind the
    /// end of the mapped file, in its last page.
    pub(crate) fn copies_past_end(&self, id: CallId, file: FileId, number: u64) -> bool {
        if !matches!(self.calls[id].op, Op::DirectWriteFrom { .. } | Op::WriteFrom { .. }) {
            return false;
        }
        let block = number * BLOCK_BYTES;
        let ends_there = |size: u64| block < size && size < block.saturating_add(BLOCK_BYTES);
        self.stored_at(file, block)
            && self.sizes_during(file, id).is_none_or(|sizes| sizes.into_iter().any(ends_there))
    }
}

/// The files that a call acts on or reads.
fn concerned(call: &Call) -> impl Iterator<Item = FileId> + '_ {
    call.files.iter().copied().chain(call.sources.iter().map(|source| source.0))
}

/// Whether the memory of a direct IO is a mapping of the file.
fn uses_as_memory(call: &Call, file: FileId) -> bool {
    match call.op {
        Op::DirectReadInto { .. } => call.files.contains(&file),
        Op::DirectWriteFrom { .. } => call.sources.iter().any(|source| source.0 == file),
        _ => false,
    }
}

fn maps_itself(call: &Call, file: FileId) -> bool {
    call.files.contains(&file) && call.sources.iter().any(|source| source.0 == file)
}

/// Whether a transfer between a file and a mapping of it copies a range onto a part of itself: then
/// it may find its own bytes. `shift` is from the target to the source, in bytes.
pub(crate) fn chases_itself(span: Span, shift: i64) -> bool {
    shift != 0 && shift.unsigned_abs() < span.len
}

fn is_direct(op: &Op) -> bool {
    matches!(
        op,
        Op::DirectWrite { .. }
            | Op::DirectWriteFrom { .. }
            | Op::DirectRead { .. }
            | Op::DirectReadInto { .. }
            | Op::AsyncWrite { .. }
            | Op::AsyncRead { .. }
    )
}
