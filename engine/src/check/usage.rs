//! Who uses which blocks: all claims of an image in one sweep.
//!
//! Promises: the segments that come out ascend, do not overlap, and cover exactly what was claimed.
//! It must never know where the claims come from.

use super::image::{Claim, User};
use super::report::{CheckReport, ProblemKind};
use crate::types::Run;

/// Blocks with one number of references from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) run: Run,
    /// References from files.
    pub(super) data: u32,
    /// References from metadata.
    pub(super) metadata: u32,
}

/// Cuts the claims into segments at every place where their number changes; neighbours differ.
pub(super) fn segments(claims: &[Claim]) -> Vec<Segment> {
    let mut edges: Vec<(u64, i32, i32)> = Vec::with_capacity(claims.len() * 2);
    for claim in claims.iter().filter(|claim| !claim.run.is_empty()) {
        let (data, metadata) = match claim.user {
            User::Data => (1, 0),
            User::Metadata => (0, 1),
        };
        edges.push((claim.run.block, data, metadata));
        edges.push((claim.run.end(), -data, -metadata));
    }
    edges.sort_unstable_by_key(|edge| edge.0);
    let mut segments: Vec<Segment> = Vec::with_capacity(edges.len());
    let (mut start, mut data, mut metadata) = (0, 0, 0);
    for (at, more_data, more_metadata) in edges {
        if at > start && data + metadata > 0 {
            push(&mut segments, start, at, data as u32, metadata as u32);
        }
        (start, data, metadata) = (at, data + more_data, metadata + more_metadata);
    }
    assert_eq!((data, metadata), (0, 0), "every claim that begins ends");
    segments
}

fn push(segments: &mut Vec<Segment>, start: u64, end: u64, data: u32, metadata: u32) {
    let alike =
        |last: &&mut Segment| (last.run.end(), last.data, last.metadata) == (start, data, metadata);
    if let Some(last) = segments.last_mut().filter(alike) {
        last.run.len_blocks += end - start;
        return;
    }
    segments.push(Segment { run: Run::new(start, end - start), data, metadata });
}

/// Reports blocks that two structures use and that are not data shared by files.
pub(super) fn check_single_use(report: &mut CheckReport, segments: &[Segment]) {
    for Segment { run, data, metadata } in segments.iter().copied() {
        if metadata > 1 || (metadata == 1 && data > 0) {
            let message =
                format!("the blocks {run} are metadata {metadata} times, data {data} times");
            report.add(ProblemKind::DoubleUse, run.block, message);
        }
    }
}

/// The union of runs, ascending and apart.
pub(super) fn union(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut union: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match union.last_mut() {
            Some(last) if run.block <= last.end() => {
                let end = last.end().max(run.end());
                last.len_blocks = end - last.block;
            }
            _ => union.push(run),
        }
    }
    union
}

/// Compares reference records, which ascend, with the segments that files share.
pub(super) fn check_refs(report: &mut CheckReport, records: &[(Run, u32)], segments: &[Segment]) {
    let shared = segments.iter().filter(|segment| segment.data >= 2);
    let mut wanted = shared.map(|segment| (segment.run, segment.data)).peekable();
    let mut records = records.iter().copied().peekable();
    let mut rest: Option<(Run, u32)> = None;
    let mut have: Option<(Run, u32)> = None;
    loop {
        rest = rest.or_else(|| wanted.next());
        have = have.or_else(|| records.next());
        let (first, found) = match (rest, have) {
            (None, None) => return,
            (Some((run, count)), None) => (run, (count, 1)),
            (None, Some((run, count))) => (run, (1, count)),
            (Some((a, count)), Some((b, found))) if a.block == b.block => {
                let len = a.len_blocks.min(b.len_blocks);
                (Run::new(a.block, len), (count, found))
            }
            (Some((a, count)), Some((b, _))) if a.block < b.block => {
                (Run::new(a.block, a.len_blocks.min(b.block - a.block)), (count, 1))
            }
            (Some((a, _)), Some((b, found))) => {
                (Run::new(b.block, b.len_blocks.min(a.block - b.block)), (1, found))
            }
        };
        let (count, recorded) = found;
        if count != recorded {
            let message = format!("{count} references to {first}, {recorded} recorded");
            report.add(ProblemKind::RefsWrong, first.block, message);
        }
        rest = after(rest, first.end());
        have = after(have, first.end());
    }
}

/// Compares the runs that are marked used, ascending and apart, with the segments in use.
pub(super) fn check_marks(report: &mut CheckReport, marked: &[Run], segments: &[Segment]) {
    let used = union(segments.iter().map(|segment| segment.run).collect());
    for run in difference(marked, &used) {
        let message = format!("the blocks {run} are marked used and nothing reaches them");
        report.add(ProblemKind::SpaceLeaked, run.block, message);
    }
    for run in difference(&used, marked) {
        let message = format!("the blocks {run} are in use and marked free");
        report.add(ProblemKind::SpaceUnmarked, run.block, message);
    }
}

/// What is in `all` and not in `without`; both ascend and are apart.
fn difference(all: &[Run], without: &[Run]) -> Vec<Run> {
    let mut difference = Vec::new();
    let mut without = without.iter().copied().peekable();
    for run in all {
        let mut start = run.block;
        while let Some(hole) = without.peek().filter(|hole| hole.block < run.end()) {
            if hole.block > start {
                difference.push(Run::new(start, hole.block - start));
            }
            start = start.max(hole.end());
            if hole.end() > run.end() {
                break;
            }
            without.next();
        }
        if start < run.end() {
            difference.push(Run::new(start, run.end() - start));
        }
    }
    difference
}

/// What is left of a run from `end` on.
fn after(run: Option<(Run, u32)>, end: u64) -> Option<(Run, u32)> {
    let (run, count) = run?;
    if run.block >= end {
        return Some((run, count));
    }
    (run.end() > end).then(|| (Run::new(end, run.end() - end), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(block: u64, len: u64) -> Claim {
        Claim { run: Run::new(block, len), user: User::Data }
    }

    #[test]
    fn segments_count_each_block_as_often_as_it_is_claimed() {
        let node = Claim { run: Run::new(7, 1), user: User::Metadata };
        let segments = segments(&[data(2, 4), data(4, 4), data(4, 1), node]);
        let found: Vec<_> =
            segments.iter().map(|s| (s.run.block, s.run.end(), s.data, s.metadata)).collect();
        assert_eq!(found, [(2, 4, 1, 0), (4, 5, 3, 0), (5, 6, 2, 0), (6, 7, 1, 0), (7, 8, 1, 1)]);
        let mut report = CheckReport::default();
        check_single_use(&mut report, &segments);
        assert_eq!(report.problems.len(), 1);
        assert_eq!(report.problems[0].block, Some(7));
    }

    #[test]
    fn records_are_compared_block_by_block() {
        let segments = segments(&[data(10, 6), data(12, 2), data(14, 2)]);
        let check = |records: &[(Run, u32)]| {
            let mut report = CheckReport::default();
            check_refs(&mut report, records, &segments);
            report.problems.iter().map(|p| p.block.expect("a block")).collect::<Vec<_>>()
        };
        assert_eq!(check(&[(Run::new(12, 4), 2)]), []);
        assert_eq!(check(&[(Run::new(12, 1), 2), (Run::new(13, 3), 2)]), []);
        assert_eq!(check(&[]), [12]);
        assert_eq!(check(&[(Run::new(12, 4), 3)]), [12]);
        assert_eq!(check(&[(Run::new(11, 4), 2)]), [11, 15]);
        assert_eq!(check(&[(Run::new(12, 4), 2), (Run::new(40, 1), 2)]), [40]);
    }

    #[test]
    fn the_union_of_runs_is_apart() {
        let runs = vec![Run::new(9, 1), Run::new(2, 3), Run::new(4, 2), Run::new(6, 1)];
        assert_eq!(union(runs), [Run::new(2, 5), Run::new(9, 1)]);
    }

    #[test]
    fn the_difference_is_what_only_the_first_has() {
        let all = [Run::new(2, 6), Run::new(10, 2), Run::new(20, 1)];
        let without = [Run::new(0, 3), Run::new(4, 1), Run::new(7, 4)];
        let found: Vec<_> = difference(&all, &without).iter().map(|r| (r.block, r.end())).collect();
        assert_eq!(found, [(3, 4), (5, 7), (11, 12), (20, 21)]);
        assert_eq!(difference(&all, &all), []);
        assert_eq!(difference(&all, &[]), all);
        assert_eq!(difference(&all, &[Run::new(0, 99)]), []);
    }
}
