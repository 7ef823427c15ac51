//! Checksums: the CSUM tree against the written blocks, and the blocks against the checksums.
//!
//! Promises: every block that needs a checksum is read once, and once again never. It must never
//! know files.

use super::image::Image;
use super::report::{CheckReport, ProblemKind};
use crate::store::key::{Key, Kind};
use crate::types::Run;

/// Takes the checksums in the order of blocks and compares them with the blocks that need one.
pub(super) struct Checksums {
    /// Blocks that need a checksum: ascending, apart.
    wanted: Vec<Run>,
    /// The run of `wanted` that is being compared, and its next block.
    at: usize,
    next: u64,
    /// The checksums, in the order of blocks.
    found: Vec<(u64, [u8; 32])>,
}

impl Checksums {
    pub(super) fn new(wanted: Vec<Run>) -> Checksums {
        Checksums { wanted, at: 0, next: 0, found: Vec::new() }
    }

    /// Takes the next item of the tree.
    pub(super) fn item(&mut self, report: &mut CheckReport, key: Key, value: &[u8], block: u64) {
        if key.kind != Kind::CSUM || key.offset != 0 {
            let message = format!("{key:?} does not belong into the checksum tree");
            return report.add(ProblemKind::ItemMisplaced, block, message);
        }
        let Ok(digest) = <[u8; 32]>::try_from(value) else {
            let message = format!("the checksum of {} has {} bytes", key.object, value.len());
            return report.add(ProblemKind::ItemDamaged, block, message);
        };
        if self.found.last().is_none_or(|last| last.0 < key.object) {
            self.found.push((key.object, digest));
        }
    }

    /// Compares.
    pub(super) fn finish(mut self, report: &mut CheckReport, image: &Image<'_>) {
        for (block, digest) in std::mem::take(&mut self.found) {
            if !self.advance(report, block) {
                let message = format!("nobody needs a checksum of {block}");
                report.add(ProblemKind::CsumExtra, block, message);
                continue;
            }
            if image.read(0, block).is_none_or(|content| content.digest() != digest) {
                let message = format!("the content of {block} is not the one of its checksum");
                report.add(ProblemKind::CsumMismatch, block, message);
            }
        }
        self.advance(report, u64::MAX);
    }

    /// Goes on to `block`, reporting the blocks on the way that have no checksum; whether `block`
    /// needs one.
    fn advance(&mut self, report: &mut CheckReport, block: u64) -> bool {
        while let Some(run) = self.wanted.get(self.at).copied() {
            let start = run.block.max(self.next);
            let end = run.end().min(block);
            if start < end {
                let message =
                    format!("the blocks {} have no checksum", Run::new(start, end - start));
                report.add(ProblemKind::CsumMissing, start, message);
            }
            if run.end() > block {
                self.next = block.saturating_add(1);
                return run.contains(block);
            }
            self.at += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_checksums_are_named_by_run() {
        let mut sums = Checksums::new(vec![Run::new(5, 3), Run::new(10, 4)]);
        let mut report = CheckReport::default();
        assert!(!sums.advance(&mut report, 4));
        assert!(sums.advance(&mut report, 5));
        assert!(sums.advance(&mut report, 7));
        assert!(!sums.advance(&mut report, 8));
        assert!(sums.advance(&mut report, 12));
        assert!(!sums.advance(&mut report, u64::MAX));
        let missing: Vec<_> = report.problems.iter().map(|p| p.message.as_ref()).collect();
        let wanted =
            ["6+1", "10+2", "13+1"].map(|run| format!("the blocks {run} have no checksum"));
        assert_eq!(missing, wanted);
    }
}
