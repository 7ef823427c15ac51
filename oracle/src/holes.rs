//! Hole maps.
//!
//! *Verified*: the map covers the file; data is in no hole; blocks that nobody wrote or reserved
//! are no data where the target promises that.
//! *Not verified, because* zeros that were written may be reported either way, and whether punched
//! or cut-off blocks are holes again depends on when the target frees them.
use crate::call::{CallId, FileId};
use crate::file::{Change, MAX_BLOCKS};
use crate::guarantee::GuaranteeId;
use crate::model::Oracle;
use crate::operation::{BLOCK_BYTES, HoleRun, Span};
use crate::version::BLOCK;
use crate::violation::{Kind, Violation};

impl Oracle {
    pub(crate) fn check_holes(&self, id: CallId, runs: &[HoleRun]) -> Result<(), Violation> {
        let mut first = None;
        for &file in &self.calls[id].files {
            let verdict = self.check_holes_of(id, file, runs);
            if verdict.is_ok() {
                return Ok(());
            }
            first = first.or(Some(verdict));
        }
        first.unwrap_or(Ok(()))
    }

    fn check_holes_of(&self, id: CallId, file: FileId, runs: &[HoleRun]) -> Result<(), Violation> {
        let Some(sizes) = self.sizes_during(file, id) else { return self.give_up() };
        let mut end = 0;
        for run in runs {
            if run.span.offset != end || run.span.len == 0 {
                return self.hole_violation(
                    id,
                    (GuaranteeId::RESULTS, Kind::WrongResult),
                    format!("has a gap or an overlap at byte {end}"),
                );
            }
            end = run.span.end();
        }
        let rounded = |size: u64| size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        let passed = || self.passes_size(file, id, end);
        if !sizes.iter().any(|&size| end == size || end == rounded(size)) && !passed() {
            return self.hole_violation(
                id,
                (GuaranteeId::LIVE_SIZE, Kind::WrongSize),
                format!("ends at {end}; legal: {sizes:?}"),
            );
        }
        for run in runs {
            let last = (run.span.end() - 1) / BLOCK_BYTES;
            for number in run.span.offset / BLOCK_BYTES..=last.min(MAX_BLOCKS) {
                if run.data {
                    self.check_data(id, file, number)?;
                } else {
                    self.check_hole(id, file, number, run.span)?;
                }
            }
        }
        Ok(())
    }

    /// A block in a hole must be one that may be all zeros.
    fn check_hole(
        &self,
        id: CallId,
        file: FileId,
        number: u64,
        run: Span,
    ) -> Result<(), Violation> {
        let answer = self.block_during(file, number, self.calls[id].interval());
        if answer.doubt {
            return self.give_up();
        }
        let Some((start, end)) = crate::file::part(run, number) else { return Ok(()) };
        let zeros = [0; BLOCK];
        let values = self.values(answer);
        let zeros = &zeros[usize::from(start)..usize::from(end)];
        if self.shown_by_one(&values, start.into(), zeros)
            || answer.grain < crate::history::Grain::Block
        {
            return Ok(());
        }
        self.hole_violation(
            id,
            (GuaranteeId::HOLES_SAFE, Kind::HiddenData),
            format!("shows block {number} as a hole, which holds data"),
        )
    }

    /// A block of data must have been written or reserved.
    fn check_data(&self, id: CallId, file: FileId, number: u64) -> Result<(), Violation> {
        let file = self.files.get(file);
        if !self.promises.holes_exact || file.murky {
            return Ok(());
        }
        let block = Span::new(number * BLOCK_BYTES, BLOCK_BYTES);
        let written = file.block(number).is_some_and(|history| {
            history.overflowed()
                || history.entries().iter().any(|entry| entry.effect.change != Change::Zero)
        });
        if written || file.reserved.iter().any(|span| span.overlaps(block)) {
            return Ok(());
        }
        self.hole_violation(
            id,
            (GuaranteeId::HOLES_EXACT, Kind::FalseData),
            format!("shows block {number} as data, which nobody wrote"),
        )
    }

    fn hole_violation(
        &self,
        id: CallId,
        (guarantee, kind): (GuaranteeId, Kind),
        what: String,
    ) -> Result<(), Violation> {
        let text = format!("the map of {} {what}", self.call_name(id));
        let mut violation = Violation::new(guarantee, kind, text).by(self.calls[id].id);
        violation.path = crate::attach::acting_path(&self.calls[id].op);
        self.report(violation)
    }
}
