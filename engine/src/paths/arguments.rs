//! What Linux accepts as arguments of the operations that reshape files, and what it makes of them.
//!
//! Pure functions of numbers: offsets, lengths and sizes in bytes. Each says which function of the
//! kernel it follows.
//!
//! Promises: an accepted range never overflows, never reaches beyond [`FILE_BYTES_MAX`], and is
//! what the operation then does. It must never know inodes, locks or pages.

use crate::error::{Errno, Result};
use crate::inode::span::{FILE_BYTES_MAX, Span};
use crate::types::BLOCK_BYTES;

/// Rounds down to the start of a block.
const fn block_floor(bytes: u64) -> u64 {
    bytes - bytes % BLOCK_BYTES
}

/// `inode_newsize_ok`: a size that a file may get.
///
/// # Errors
/// EFBIG beyond [`FILE_BYTES_MAX`].
pub fn check_size(size: u64) -> Result<()> {
    if size > FILE_BYTES_MAX {
        return Err(Errno::EFBIG.into());
    }
    Ok(())
}

/// `vfs_fallocate`: the range of a fallocate, punch or zero range.
///
/// # Errors
/// EINVAL for an empty range or one that begins beyond any `loff_t`; EFBIG if it ends beyond
/// [`FILE_BYTES_MAX`].
pub fn check_allocation(span: Span) -> Result<()> {
    if span.start > i64::MAX as u64 || span.end <= span.start {
        return Err(Errno::EINVAL.into());
    }
    check_size(span.end)
}

/// The names that a directory takes: 1 to 255 bytes, no slash, no NUL, not a dot name.
///
/// # Errors
/// ENOENT for the empty name, ENAMETOOLONG, EEXIST for dot names (they exist), EINVAL otherwise.
pub fn check_name(name: &str) -> Result<()> {
    match name {
        "" => Err(Errno::ENOENT.into()),
        "." | ".." => Err(Errno::EEXIST.into()),
        _ if name.len() > crate::store::items::NAME_BYTES_MAX => Err(Errno::ENAMETOOLONG.into()),
        _ if name.contains(['/', '\0']) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

/// What is asked of a clone or dedupe, with the sizes under which it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemapRequest {
    /// First byte in the source.
    pub source: u64,
    /// First byte in the target.
    pub target: u64,
    /// Bytes; for a clone 0 means to the end of the source.
    pub len: u64,
    /// Size of the source in bytes.
    pub source_size: u64,
    /// Size of the target in bytes.
    pub target_size: u64,
    /// Whether both are one file.
    pub same_file: bool,
}

/// What a clone or dedupe then does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemapPlan {
    /// Bytes that are asked to be shared, 0 for nothing to do.
    pub len: u64,
    /// The same in whole blocks: `len` rounded up where the end of the source is its end.
    pub len_blocks: u64,
}

impl RemapPlan {
    const NOTHING: RemapPlan = RemapPlan { len: 0, len_blocks: 0 };
}

/// `generic_remap_checks` and `generic_remap_check_len` for FICLONERANGE: block-aligned starts, a
/// range within the source, whole blocks except at the end of the source, where the target must not
/// go on behind it; no overlap within one file.
///
/// # Errors
/// EINVAL against these rules; EFBIG if the target would start at the greatest size.
pub fn plan_clone(request: RemapRequest) -> Result<RemapPlan> {
    let RemapRequest { source, target, source_size, target_size, .. } = request;
    if is_negative(&[source, target, request.len]) {
        return Err(Errno::EINVAL.into());
    }
    let mut len = request.len;
    if len == 0 {
        if source > source_size {
            return Err(Errno::EINVAL.into());
        }
        len = source_size - source;
        if len == 0 {
            return Ok(RemapPlan::NOTHING);
        }
    }
    let end = checked_ends(source, target, len)?;
    if source >= source_size || end > source_size {
        return Err(Errno::EINVAL.into());
    }
    if target >= FILE_BYTES_MAX {
        return Err(Errno::EFBIG.into());
    }
    let to_end = end == source_size;
    if !to_end && !len.is_multiple_of(BLOCK_BYTES) {
        return Err(Errno::EINVAL.into());
    }
    let len_blocks = len.div_ceil(BLOCK_BYTES);
    check_overlap(&request, len_blocks)?;
    let has_tail = !len.is_multiple_of(BLOCK_BYTES);
    // generic_remap_check_len: a partial block may only become the last one.
    if has_tail && target + len < target_size {
        return Err(Errno::EINVAL.into());
    }
    Ok(RemapPlan { len, len_blocks })
}

/// `generic_remap_checks` and `generic_remap_check_len` for FIDEDUPERANGE, which may be shortened:
/// both ranges within their files; a partial last block takes part only if it ends both files
/// (rule L3.10), otherwise the range is rounded down.
///
/// # Errors
/// EINVAL for unaligned starts, ranges beyond the end, or overlap within one file.
pub fn plan_dedupe(request: RemapRequest, tail_rule: bool) -> Result<RemapPlan> {
    let RemapRequest { source, target, len, source_size, target_size, .. } = request;
    if is_negative(&[source, target, len]) {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(RemapPlan::NOTHING);
    }
    let end = checked_ends(source, target, len)?;
    let target_end = target + len;
    if source >= source_size || end > source_size {
        return Err(Errno::EINVAL.into());
    }
    if target >= target_size || target_end > target_size {
        return Err(Errno::EINVAL.into());
    }
    let ends_both = end == source_size && target_end == target_size;
    let has_tail = !len.is_multiple_of(BLOCK_BYTES);
    let keeps_tail = ends_both || (!tail_rule && end == source_size); // L3.10
    let len = if has_tail && !keeps_tail { block_floor(len) } else { len };
    let len_blocks = len.div_ceil(BLOCK_BYTES);
    check_overlap(&request, len_blocks)?;
    Ok(RemapPlan { len, len_blocks })
}

/// `remap_verify_area`: what is negative as `loff_t`.
fn is_negative(values: &[u64]) -> bool {
    values.iter().any(|&value| value > i64::MAX as u64)
}

/// The end in the source of a remap whose starts are aligned and whose ends do not wrap.
fn checked_ends(source: u64, target: u64, len: u64) -> Result<u64> {
    if !source.is_multiple_of(BLOCK_BYTES) || !target.is_multiple_of(BLOCK_BYTES) {
        return Err(Errno::EINVAL.into());
    }
    // None of the three exceeds i64::MAX: the sums do not wrap.
    if source + len > FILE_BYTES_MAX || target + len > FILE_BYTES_MAX {
        return Err(Errno::EINVAL.into());
    }
    Ok(source + len)
}

fn check_overlap(request: &RemapRequest, len_blocks: u64) -> Result<()> {
    let len = len_blocks.saturating_mul(BLOCK_BYTES);
    let RemapRequest { source, target, .. } = *request;
    let overlaps = target.saturating_add(len) > source && target < source.saturating_add(len);
    if request.same_file && overlaps && len_blocks > 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const K: u64 = 1024;

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> Errno {
        match result {
            Err(Error::Refused(errno)) => errno,
            other => panic!("{other:?} is not a refusal"),
        }
    }

    fn request(source: u64, target: u64, len: u64) -> RemapRequest {
        let (source_size, target_size) = (16 * K, 16 * K);
        RemapRequest { source, target, len, source_size, target_size, same_file: false }
    }

    #[test]
    fn allocation_ranges_are_refused_as_linux_does() {
        let check = |start, end| check_allocation(Span { start, end });
        assert_eq!(check(0, 5), Ok(()));
        assert_eq!(check(FILE_BYTES_MAX - 1, FILE_BYTES_MAX), Ok(()));
        assert_eq!(refused(check(7, 7)), Errno::EINVAL);
        assert_eq!(refused(check(7, 6)), Errno::EINVAL);
        assert_eq!(refused(check(1 << 63, u64::MAX)), Errno::EINVAL);
        assert_eq!(refused(check(1, u64::MAX)), Errno::EFBIG);
        assert_eq!(refused(check(FILE_BYTES_MAX, FILE_BYTES_MAX + 1)), Errno::EFBIG);
        assert_eq!(refused(check_size(1 << 63)), Errno::EFBIG);
        assert_eq!(check_size(FILE_BYTES_MAX), Ok(()));
    }

    #[test]
    fn names_are_refused_for_what_is_wrong_with_them() {
        assert_eq!(check_name("f"), Ok(()));
        assert_eq!(check_name(&"x".repeat(255)), Ok(()));
        assert_eq!(refused(check_name(&"x".repeat(256))), Errno::ENAMETOOLONG);
        assert_eq!(refused(check_name("")), Errno::ENOENT);
        assert_eq!(refused(check_name("..")), Errno::EEXIST);
        assert_eq!(refused(check_name("a/b")), Errno::EINVAL);
    }

    #[test]
    fn a_clone_ends_at_a_block_or_at_the_end_of_both() {
        let plan = |len, blocks| Ok(RemapPlan { len, len_blocks: blocks });
        assert_eq!(plan_clone(request(0, 4 * K, 8 * K)), plan(8 * K, 2));
        assert_eq!(refused(plan_clone(request(0, 4 * K, 7 * K))), Errno::EINVAL);
        assert_eq!(refused(plan_clone(request(512, 0, 4 * K))), Errno::EINVAL);
        assert_eq!(refused(plan_clone(request(0, 512, 4 * K))), Errno::EINVAL);
        assert_eq!(refused(plan_clone(request(0, 0, 20 * K))), Errno::EINVAL);
        assert_eq!(refused(plan_clone(request(20 * K, 0, 0))), Errno::EINVAL);
        assert_eq!(plan_clone(request(16 * K, 0, 0)), plan(0, 0));
        let ragged = RemapRequest { source_size: 10 * K, ..request(8 * K, 16 * K, 0) };
        assert_eq!(plan_clone(ragged), plan(2 * K, 1));
        let into_the_middle = RemapRequest { target: 0, ..ragged };
        assert_eq!(refused(plan_clone(into_the_middle)), Errno::EINVAL);
        let at_the_end = RemapRequest { target_size: 2 * K, ..into_the_middle };
        assert_eq!(plan_clone(at_the_end), plan(2 * K, 1));
    }

    #[test]
    fn nothing_is_cloned_onto_itself() {
        let same = RemapRequest { same_file: true, ..request(0, 4 * K, 8 * K) };
        assert_eq!(refused(plan_clone(same)), Errno::EINVAL);
        assert_eq!(refused(plan_dedupe(same, true)), Errno::EINVAL);
        let apart = RemapRequest { target: 8 * K, ..same };
        assert!(plan_clone(apart).is_ok() && plan_dedupe(apart, true).is_ok());
        // The tail counts as a whole block.
        let tail = RemapRequest { source: 4 * K, source_size: 6 * K, target: 4 * K, ..same };
        assert_eq!(refused(plan_clone(RemapRequest { len: 2 * K, ..tail })), Errno::EINVAL);
    }

    #[test]
    fn a_dedupe_shares_a_partial_block_only_at_both_ends() {
        let sized = |source_size, target_size, len| RemapRequest {
            source_size,
            target_size,
            ..request(0, 0, len)
        };
        let plan = |len, len_blocks| Ok(RemapPlan { len, len_blocks });
        assert_eq!(plan_dedupe(sized(6 * K, 6 * K, 6 * K), true), plan(6 * K, 2));
        assert_eq!(plan_dedupe(sized(6 * K, 16 * K, 6 * K), true), plan(4 * K, 1));
        assert_eq!(plan_dedupe(sized(6 * K, 16 * K, 6 * K), false), plan(6 * K, 2));
        assert_eq!(plan_dedupe(sized(16 * K, 16 * K, 2 * K), true), plan(0, 0));
        assert_eq!(refused(plan_dedupe(sized(6 * K, 4 * K, 6 * K), true)), Errno::EINVAL);
        assert_eq!(refused(plan_dedupe(sized(4 * K, 6 * K, 6 * K), true)), Errno::EINVAL);
        assert_eq!(plan_dedupe(sized(4 * K, 4 * K, 0), true), plan(0, 0));
    }

    #[test]
    fn offsets_that_wrap_are_refused() {
        for values in [(1 << 63, 0, 4096), (0, 1 << 63, 4096), (0, 0, 1 << 63)] {
            let request = request(values.0, values.1, values.2);
            assert_eq!(refused(plan_clone(request)), Errno::EINVAL);
            assert_eq!(refused(plan_dedupe(request, true)), Errno::EINVAL);
        }
        let beyond = request(0, FILE_BYTES_MAX, 4096);
        assert_eq!(refused(plan_clone(beyond)), Errno::EINVAL);
    }
}
