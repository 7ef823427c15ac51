//! What is simpler than what: tables in which every step leads down, so that minimizing ends, and
//! that findings of one bug end alike.

use crate::program::syntax::{Fields, Kind, build, split};
use crate::program::{Program, Slot};
use oracle::operation::{BLOCK_BYTES, Fill, MapId, Operation, Sync};

/// Kinds that may stand for a kind, the simplest first.
fn below(kind: Kind) -> &'static [Kind] {
    use Kind::*;
    match kind {
        Append => &[Write],
        Store => &[Write],
        WriteFrom => &[Write],
        DirectWrite => &[Write],
        DirectWriteFrom => &[Write, DirectWrite, WriteFrom],
        AsyncWrite => &[Write, DirectWrite],
        ReadInto => &[Read],
        Load => &[Read],
        DirectRead => &[Read],
        DirectReadInto => &[Read, DirectRead, ReadInto],
        AsyncRead => &[Read, DirectRead],
        Fdatasync | FsyncRange => &[Fsync],
        Msync => &[Fsync],
        ZeroRange => &[Punch],
        Punch => &[Truncate],
        Dedupe => &[Clone],
        Fallocate => &[Truncate, Write],
        Truncate => &[Write],
        Commit => &[Sync],
        NodeReadahead => &[NodeRead],
        NodeNew => &[NodeModify],
        NodeWrite => &[Sync],
        LayoutWrite => &[Write],
        _ => &[],
    }
}

/// The same operation in simpler kinds, the simplest first.
pub(super) fn simpler_kinds(program: &Program, operation: &Operation) -> Vec<Operation> {
    let (kind, fields) = split(operation);
    let fields = match kind {
        Kind::Store | Kind::Load | Kind::Msync => match in_file(program, &fields) {
            Some(fields) => fields,
            None => return Vec::new(),
        },
        // Nothing is left behind the hole.
        Kind::Punch => Fields { len: fields.offset, ..fields },
        // A size becomes a write that ends there.
        Kind::Truncate => Fields { offset: fields.len.saturating_sub(BLOCK_BYTES), ..fields },
        _ => fields,
    };
    below(kind).iter().map(|&kind| build(kind, &fields)).collect()
}

/// A range of a mapping as a range of its file.
pub(super) fn in_file(program: &Program, fields: &Fields) -> Option<Fields> {
    let (path, offset) = mapped(program, fields.map)?;
    Some(Fields { path, offset: offset + fields.offset, ..*fields })
}

/// The file of a mapping, and where in it the mapping begins.
pub(super) fn mapped(program: &Program, map: MapId) -> Option<(oracle::operation::PathId, u64)> {
    program.operations().find_map(|(_, slot, operation)| match (slot, split(operation)) {
        (Slot::After(_), _) => None,
        (_, (Kind::Mmap, fields)) if fields.map == map => Some((fields.path, fields.offset)),
        _ => None,
    })
}

/// Simpler arguments, the simplest first.
pub(super) fn simpler_fields(fields: &Fields) -> Vec<Fields> {
    const BLOCK: u64 = BLOCK_BYTES;
    let block_len = fields.len.min(BLOCK);
    let candidates = [
        Fields { offset: 0, len: block_len, other: 0, ..*fields },
        Fields { offset: 0, len: block_len, ..*fields },
        Fields { len: block_len, ..*fields },
        Fields { offset: 0, ..*fields },
        Fields { other: 0, ..*fields },
        Fields { len: fields.len.next_multiple_of(BLOCK), ..*fields },
        Fields { offset: fields.offset / BLOCK * BLOCK, ..*fields },
        Fields { other: fields.other / BLOCK * BLOCK, ..*fields },
        Fields { offset: (fields.offset / BLOCK).saturating_sub(1) * BLOCK, ..*fields },
        Fields { other: (fields.other / BLOCK).saturating_sub(1) * BLOCK, ..*fields },
        Fields { len: (fields.len / BLOCK).saturating_sub(1).max(1) * BLOCK, ..*fields },
        Fields { sync: Sync::None, ..*fields },
        Fields { keep: false, ..*fields },
        Fields { fill: Fill::Tag, ..*fields },
    ];
    candidates.into_iter().filter(|simpler| is_simpler(simpler, fields)).collect()
}

/// The measure by which every step leads down: aligned ranges first, then short ones, then ones
/// that begin early, then fewer extras.
fn is_simpler(new: &Fields, old: &Fields) -> bool {
    let measure = |fields: &Fields| {
        let ragged = [fields.offset, fields.len, fields.other];
        let ragged = ragged.into_iter().filter(|value| value % BLOCK_BYTES != 0).count();
        let blocks = fields.len.div_ceil(BLOCK_BYTES);
        (ragged, blocks, fields.offset + fields.other, extras(fields), fields.len)
    };
    measure(new) < measure(old)
}

/// How many optional arguments differ from what is usual.
pub(super) fn extras(fields: &Fields) -> u64 {
    let Fields { sync, keep, fill, .. } = *fields;
    u64::from(sync != Sync::None) + u64::from(keep) + u64::from(fill != Fill::Tag)
}

/// The kinds in the order in which a person would rather see them; [`below`] agrees with it.
const USUAL: &[Kind] = &[
    Kind::Create,
    Kind::Read,
    Kind::Write,
    Kind::Truncate,
    Kind::Punch,
    Kind::Fsync,
    Kind::Sync,
    Kind::Mmap,
    Kind::Load,
    Kind::Store,
    Kind::DirectRead,
    Kind::DirectWrite,
    Kind::Clone,
    Kind::Dedupe,
    Kind::NodeRead,
    Kind::NodeModify,
    Kind::NodeWrite,
    Kind::NodeReclaim,
];

/// How unusual a kind is: those that are not in the list are more so, in the order of the table.
pub(super) fn rank(kind: Kind) -> usize {
    let usual = USUAL.iter().position(|usual| *usual == kind);
    usual.unwrap_or(USUAL.len() + kind as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_lead_down_and_end() {
        for kind in Kind::all() {
            let mut seen = vec![kind];
            let mut next = 0;
            while let Some(&at) = seen.get(next) {
                next += 1;
                for &simpler in below(at) {
                    assert_ne!(simpler, kind, "{kind:?} stands for itself by {at:?}");
                    if !seen.contains(&simpler) {
                        seen.push(simpler);
                    }
                }
            }
        }
    }

    #[test]
    fn kinds_lead_to_more_usual_ones() {
        for kind in Kind::all() {
            for &simpler in below(kind) {
                assert!(rank(simpler) < rank(kind), "{simpler:?} for {kind:?}");
            }
        }
    }

    #[test]
    fn arguments_lead_down_and_end() {
        let mut fields =
            Fields { offset: 3 * 4096 + 7, len: 9000, other: 12288, keep: true, ..Fields::EMPTY };
        let mut steps = 0;
        while let Some(simpler) = simpler_fields(&fields).pop() {
            fields = simpler;
            steps += 1;
            assert!(steps < 100, "{fields:?}");
        }
        assert_eq!(fields, Fields { len: 4096, ..Fields::EMPTY });
    }
}
