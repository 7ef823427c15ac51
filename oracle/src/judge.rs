//! The judge: what a recovered target shows after a cut.
//!
//! *Verified*: names, link counts, sizes, every block below the size, and bare nodes, each against
//! what is durable and what may have happened before the cut.
//! *Not verified, because* the states of different blocks, sizes and names are judged apart: an
//! unsynced rewrite of one block may survive and that of another not, and no file system promises
//! an order between files that nobody synced (tier "ordered metadata").
use crate::call::{FileId, Moment};
use crate::content::BlockHash;
use crate::explain::Sight;
use crate::file::MAX_BLOCKS;
use crate::guarantee::GuaranteeId;
use crate::history::{Grain, Query};
use crate::model::Oracle;
use crate::namespace::{FREE, Name, file_of};
use crate::operation::{BLOCK_BYTES, Operation as Op, PathId, SECTOR_BYTES};
use crate::promises::Atom;
use crate::query::Values;
use crate::version::{BLOCK, ZERO};
use crate::view::View;
use crate::violation::{Kind, Violation};

type Verdict = Result<(), Violation>;

impl Oracle {
    /// Judges what a target shows that lost power at `cut` and recovered: calls invoked before the
    /// cut may have happened; what persistence calls that returned before it promised must be
    /// there.
    ///
    /// # Errors
    /// The first violation, names before sizes before data, in the order of path ids.
    pub fn judge(&self, cut: Moment, seen: &dyn View) -> Result<(), Violation> {
        for (path, name) in self.names.iter() {
            let shown = seen.names().contains(&path);
            self.judge_name(cut, path, name, shown, seen)?;
        }
        for &path in seen.names() {
            if self.names.get(path).is_none() {
                self.ghost(path, "which no call ever used")?;
            }
        }
        self.judge_nodes(cut, seen)
    }

    fn judge_name(
        &self,
        cut: Moment,
        path: PathId,
        name: &Name,
        shown: bool,
        seen: &dyn View,
    ) -> Verdict {
        let query = name.history.after_cut(&self.calls, cut.0, false);
        let Some(bindings) = self.bindings(path, query) else { return self.give_up() };
        if !shown {
            if bindings.contains(&FREE) {
                return Ok(());
            }
            return self.lost_name(cut, path, name, query);
        }
        let mut first = None;
        // The newest file is the likeliest explanation of what is shown.
        for file in bindings.iter().rev().filter_map(|&binding| file_of(binding)) {
            let verdict = self.judge_file(cut, file, path, seen);
            if verdict.is_ok() {
                return Ok(());
            }
            first = first.or(Some(verdict));
        }
        first.unwrap_or_else(|| self.ghost(path, "but its removal was durable, or it never was"))
    }

    fn ghost(&self, path: PathId, why: &str) -> Verdict {
        let text = format!("{} is there, {why}", self.path_name(path));
        let violation = Violation::new(GuaranteeId::SOUND_NAMES, Kind::GhostName, text);
        self.report(violation.on(path))
    }

    fn lost_name(&self, cut: Moment, path: PathId, name: &Name, query: Query) -> Verdict {
        let floor = name.history.floor(cut.0).map(|floor| floor.by);
        let guarantee = match floor.map(|by| &self.calls[by].op) {
            Some(Op::Sync) => GuaranteeId::SYNC,
            Some(_) => GuaranteeId::FSYNC_NAME,
            None => GuaranteeId::UNSYNCED,
        };
        let by = floor.map_or_else(String::new, |by| self.call_name(by));
        let text = format!("{} is gone, but {by} had returned", self.path_name(path));
        let mut violation = Violation::new(guarantee, Kind::LostName, text).on(path);
        let required = crate::history::bits(query.required);
        let births = required.map(|index| self.calls[name.history.entries()[index].call].id);
        violation.allowed.extend(births);
        self.report(violation)
    }

    fn judge_file(&self, cut: Moment, file: FileId, path: PathId, seen: &dyn View) -> Verdict {
        let nlink = seen.nlink(path);
        if nlink != 1 {
            let text = format!("{} has {nlink} links and one name", self.path_name(path));
            let violation = Violation::new(GuaranteeId::SOUND_NAMES, Kind::WrongLinks, text);
            self.report(violation.on(path))?;
        }
        let size = seen.size(path);
        self.judge_size(cut, file, path, size)?;
        let blocks = size.div_ceil(BLOCK_BYTES);
        let zero = self.lab.versions.borrow_mut().hash(ZERO);
        for number in 0..blocks.min(MAX_BLOCKS) {
            self.judge_block(cut, file, path, number, size, zero, seen)?;
        }
        // What no call touches beyond can only be a hole; its end is looked at.
        if blocks > MAX_BLOCKS {
            self.judge_block(cut, file, path, blocks - 1, size, zero, seen)?;
        }
        Ok(())
    }

    /// A size of some state, or a block boundary to which a call in between had come.
    fn judge_size(&self, cut: Moment, file: FileId, path: PathId, size: u64) -> Verdict {
        let history = &self.files.get(file).sizes;
        let query = history.after_cut(&self.calls, cut.0, true);
        let answer = self.size_answer(file, query);
        if answer.doubt || answer.len == 0 {
            return self.give_up();
        }
        {
            let arena = self.lab.arena.borrow();
            let start = answer.start as usize;
            if arena[start..start + answer.len as usize].contains(&size) {
                return Ok(());
            }
        }
        let unit = match self.promises.data_atom {
            Atom::Block => BLOCK_BYTES,
            Atom::Sector => SECTOR_BYTES,
        };
        let spans = self.spans(answer);
        if size.is_multiple_of(unit) && spans.iter().any(|span| span.0 < size && size < span.1) {
            return Ok(());
        }
        let legal = self.values(answer);
        let floor = history.floor(cut.0).filter(|_| query.required != 0).map(|floor| floor.by);
        let (guarantee, since) = match floor {
            Some(by) => {
                let guarantee = match self.promise_of(by) {
                    GuaranteeId::FSYNC_DATA => GuaranteeId::FSYNC_SIZE,
                    other => other,
                };
                (guarantee, format!("; {} had returned", self.call_name(by)))
            }
            None => (GuaranteeId::UNSYNCED, String::new()),
        };
        let text = format!("{} has size {size}{since}; allowed: {legal:?}", self.path_name(path));
        let mut violation = Violation::new(guarantee, Kind::WrongSize, text).on(path);
        violation.allowed.extend(floor.map(|by| self.calls[by].id));
        self.report(violation)
    }

    #[allow(clippy::too_many_arguments)]
    fn judge_block(
        &self,
        cut: Moment,
        file: FileId,
        path: PathId,
        number: u64,
        size: u64,
        zero: BlockHash,
        seen: &dyn View,
    ) -> Verdict {
        let shown = seen.block_hash(path, number);
        let history = self.files.get(file).block(number);
        if history.is_none_or(|history| history.is_empty()) && shown == zero {
            return Ok(());
        }
        if shown == BlockHash::UNREADABLE {
            return self.unreadable(path, number, seen);
        }
        let relax = self.promises.data_atom == Atom::Sector;
        let query =
            history.map_or(Query::NOTHING, |history| history.after_cut(&self.calls, cut.0, relax));
        let answer = self.block_answer(file, number, query);
        if answer.doubt || answer.len == 0 {
            return self.give_up();
        }
        let inside = (size - number * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
        {
            let arena = self.lab.arena.borrow();
            let mut versions = self.lab.versions.borrow_mut();
            let start = answer.start as usize;
            for &value in &arena[start..start + answer.len as usize] {
                let clipped = versions.clipped(value, inside);
                if versions.hash(clipped) == shown {
                    return Ok(());
                }
            }
        }
        let atom = if relax { Grain::Sector } else { Grain::Block };
        let values = self.values(answer);
        let sight = Sight { file, path, call: None, cut: Some(cut.0) };
        self.judge_bytes(sight, number, inside, query, answer.grain.min(atom), &values, seen)
    }

    /// The slow way: by bytes, where mixtures are legal or a violation is to be explained.
    #[allow(clippy::too_many_arguments)]
    fn judge_bytes(
        &self,
        sight: Sight,
        number: u64,
        inside: usize,
        query: Query,
        grain: Grain,
        values: &Values,
        seen: &dyn View,
    ) -> Verdict {
        let mut bytes = [0; BLOCK];
        seen.block_bytes(sight.path, number, &mut bytes);
        let (file_bytes, beyond) = bytes.split_at(inside);
        if let Some(at) = beyond.iter().position(|&byte| byte != 0) {
            let byte = number * BLOCK_BYTES + (inside + at) as u64;
            let name = self.path_name(sight.path);
            let text = format!("{name} shows byte {byte}, which is beyond its end");
            let violation = Violation::new(GuaranteeId::UNSYNCED, Kind::CorruptData, text);
            return self.report(violation.on(sight.path));
        }
        let legal = self.shown_by_one(values, 0, file_bytes)
            || (grain < Grain::Block && self.shown_by_parts(values, 0, file_bytes, grain));
        if legal {
            return Ok(());
        }
        self.report(self.explain_bytes(sight, number, 0, file_bytes, query, values))
    }

    fn unreadable(&self, path: PathId, number: u64, seen: &dyn View) -> Verdict {
        let why = match seen.read_error(path, number) {
            Some(errno) => format!(": {errno:?}"),
            None => String::new(),
        };
        let text = format!("block {number} of {} cannot be read{why}", self.path_name(path));
        let mut violation = Violation::new(GuaranteeId::READABLE, Kind::Unreadable, text).on(path);
        violation.block = Some(number);
        self.report(violation)
    }
}
