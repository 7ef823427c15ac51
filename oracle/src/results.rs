//! Results of single calls while the target lives.
//!
//! *Verified*: counts, bytes, sizes, names, hole maps, and whether dedupe compared right.
//! *Not verified, because* the blocks of one read may come from different moments, and of several
//! results only each by itself (names: all together) must fit an order of the calls.
use crate::attach::through;
use crate::call::{CallId, FileId};
use crate::errors::Truth;
use crate::explain::{Sight, describe};
use crate::file::MAX_BLOCKS;
use crate::guarantee::GuaranteeId;
use crate::history::{Grain, Query};
use crate::model::Oracle;
use crate::operation::{BLOCK_BYTES, Operation as Op, Outcome, PathId, Span, Value};
use crate::version::BLOCK;
use crate::violation::{Kind, Violation};
use smallvec::SmallVec;

type Verdict = Result<(), Violation>;

impl Oracle {
    /// Checks the result of a call that has just returned.
    pub(crate) fn check_result(&self, id: CallId, outcome: &Outcome) -> Verdict {
        if crate::nodes::is_of_nodes(&self.calls[id].op) {
            return self.check_node_result(id, outcome);
        }
        let value = match outcome {
            Err(errno) if self.error_is_legal(id, *errno) => return Ok(()),
            Err(errno) => return self.wrong(id, &format!("failed with {errno:?}")),
            Ok(value) => value,
        };
        if let Some(reason) = self.must_fail(id) {
            return self.wrong(id, &format!("succeeded, but {reason}"));
        }
        let op = &self.calls[id].op;
        match (op, value) {
            (Op::Create { path } | Op::Unlink { path }, Value::Unit) => self.check_name(id, *path),
            (
                Op::Write { span, .. }
                | Op::DirectWrite { span, .. }
                | Op::AsyncWrite { span, .. }
                | Op::LayoutWrite { span, .. }
                | Op::DirectWriteFrom { span, .. }
                | Op::WriteFrom { span, .. },
                Value::Count(count),
            ) => self.check_count(id, *count, span.len),
            (Op::Append { len, .. }, Value::Appended { offset, len: count }) => {
                self.check_count(id, *count, *len)?;
                self.check_append(id, Span::new(*offset, *count))
            }
            (
                Op::Read { span, .. } | Op::DirectRead { span, .. } | Op::AsyncRead { span, .. },
                Value::Bytes(bytes),
            ) => self.check_read(id, *span, bytes),
            (Op::Load { span, .. }, Value::Bytes(bytes)) => self.check_load(id, *span, bytes),
            (Op::DirectReadInto { span, .. } | Op::ReadInto { span, .. }, Value::Count(count)) => {
                self.check_read_len(id, *span, *count)
            }
            (Op::Dedupe { .. }, Value::Count(count)) => self.check_dedupe(id, *count),
            (Op::Dedupe { .. }, Value::Differs) => self.check_differs(id),
            (Op::Holes { .. }, Value::Holes(runs)) => self.check_holes(id, runs),
            (Op::Stat { .. }, Value::Stat { size, nlink }) => self.check_stat(id, *size, *nlink),
            (Op::List, Value::Names(names)) => self.check_list(id, names),
            (Op::Clone { len, .. }, Value::Count(count)) if *len > 0 && count != len => {
                self.wrong(id, &format!("cloned {count} bytes of {len}"))
            }
            (Op::Clone { .. } | Op::Store { .. }, Value::Count(_) | Value::Unit) => Ok(()),
            (op, Value::Unit) if !returns_a_value(op) => Ok(()),
            _ => self.wrong(id, "returned a value of another kind"),
        }
    }

    /// A violation about the result of a call.
    pub(crate) fn wrong(&self, id: CallId, what: &str) -> Verdict {
        let call = &self.calls[id];
        let message = format!("{} {what}", self.call_name(id));
        let mut violation = Violation::new(GuaranteeId::RESULTS, Kind::WrongResult, message);
        violation.path = crate::attach::acting_path(&call.op);
        self.report(violation.by(call.id))
    }

    /// Whether all changes of the name so far have an order.
    fn check_name(&self, id: CallId, path: PathId) -> Verdict {
        let Some(name) = self.names.get(path) else { return Ok(()) };
        let history = &name.history;
        if history.is_newest_alone(id) {
            return Ok(());
        }
        let end = self.calls[id].ret + 1;
        let query = Query {
            required: history.settled(&self.calls, end) & !history.lossy,
            possible: history.invoked(&self.calls, end),
            relaxed: false,
            may_stop: false,
        };
        if self.bindings(path, query).is_none() && !history.overflowed() {
            return self.wrong(id, "succeeded, but no order of the calls allows that");
        }
        Ok(())
    }

    fn check_count(&self, id: CallId, count: u64, len: u64) -> Verdict {
        let op = &self.calls[id].op;
        let big = self.promises.max_file_bytes;
        let may_be_short = self.promises.may_run_out_of_space
            || self.errors.any
            || self.faults(id).yes
            || crate::attach::span_of(op).is_some_and(|span| span.end() > big);
        if count > len || (count < len && !may_be_short) {
            return self.wrong(id, &format!("wrote {count} bytes of {len}"));
        }
        Ok(())
    }

    /// An append lands at the end of the file, and appends do not overlap.
    fn check_append(&self, id: CallId, span: Span) -> Verdict {
        let call = &self.calls[id];
        if span.len == 0 {
            return Ok(()); // G-8: it lands nowhere
        }
        let mut known = false;
        for &file in &call.files {
            let Some(sizes) = self.sizes_during(file, id) else { return self.give_up() };
            known |= sizes.contains(&span.offset);
            // A write whose memory must be fetched first lets others in between its pages.
            known |=
                !self.promises.direct_faults_reported && self.passes_size(file, id, span.offset);
        }
        if !known {
            return self.wrong(id, &format!("landed at {}, not at the end", span.offset));
        }
        let &[file] = &call.files[..] else { return Ok(()) };
        let history = &self.files.get(file).sizes;
        // The file may have been cut between two appends.
        let cut_after = |moment: u64| {
            history.entries().iter().any(|entry| {
                matches!(entry.effect, crate::file::SizeEffect::Set(_))
                    && self.calls[entry.call].ret > moment
            })
        };
        for entry in history.entries().iter().filter(|entry| entry.call != id) {
            let other = &self.calls[entry.call];
            let crate::file::SizeEffect::Raise(end) = entry.effect else { continue };
            let overlaps = end > span.offset && end - other.len.min(end) < span.end();
            let appended = matches!(other.op, Op::Append { .. }) && other.files.len() == 1;
            let concurrent = other.ret > call.invoke && other.ret < call.ret;
            if appended && concurrent && overlaps && !cut_after(other.invoke.min(call.invoke)) {
                let message = format!("overlaps {}", self.call_name(entry.call));
                return self.wrong(id, &message);
            }
        }
        Ok(())
    }

    /// Judges the appends that were let pass because a call in flight might stop on its way, when
    /// that call returns; and remembers `id`, if it is such an append.
    pub(crate) fn check_midway(&mut self, id: CallId, outcome: &Outcome) -> Verdict {
        let &[file] = &self.calls[id].files[..] else { return Ok(()) };
        if !self.promises.direct_faults_reported {
            return Ok(());
        }
        if let (Op::Append { .. }, Ok(Value::Appended { offset, len: 1.. })) =
            (&self.calls[id].op, outcome)
        {
            self.files.get_mut(file).midway.push((id, *offset));
        }
        let landed = |may_stop: bool, &(append, offset): &(CallId, u64)| {
            let sizes = self.sizes_while(file, append, may_stop);
            sizes.is_none_or(|sizes| sizes.contains(&offset))
        };
        let midway = self.files.get(file).midway.clone();
        let open: SmallVec<[(CallId, u64); 1]> =
            midway.into_iter().filter(|append| !landed(false, append)).collect();
        let wrong = open.iter().find(|append| !landed(true, append)).copied();
        self.files.get_mut(file).midway = open;
        let Some((append, offset)) = wrong else { return Ok(()) };
        self.files.get_mut(file).midway.retain(|(other, _)| *other != append);
        self.wrong(append, &format!("landed at {offset}, not at the end"))
    }

    /// A read may come from any of the files that the name led to.
    fn check_read(&self, id: CallId, span: Span, bytes: &[u8]) -> Verdict {
        self.check_read_len(id, span, bytes.len() as u64)?;
        let files = &self.calls[id].files;
        self.any_file(files, |file| {
            let path = self.files.get(file).path;
            let sight = Sight { file, path, call: Some(id), cut: None };
            self.check_bytes(sight, span.offset, bytes)
        })
    }

    fn any_file(&self, files: &[FileId], check: impl Fn(FileId) -> Verdict) -> Verdict {
        let mut first = Ok(());
        for (index, &file) in files.iter().enumerate() {
            let verdict = check(file);
            if verdict.is_ok() {
                return verdict;
            }
            if index == 0 {
                first = verdict;
            }
        }
        first
    }

    /// The bytes from `offset` on, block by block.
    fn check_bytes(&self, sight: Sight, offset: u64, bytes: &[u8]) -> Verdict {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (number, start) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let (piece, later) = rest.split_at(rest.len().min(BLOCK - start));
            self.check_piece(sight, number, start, piece)?;
            at = at.saturating_add(piece.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn check_piece(&self, sight: Sight, number: u64, start: usize, piece: &[u8]) -> Verdict {
        let Some(id) = sight.call else { return Ok(()) };
        let call = &self.calls[id];
        let query = self.block_query(sight.file, number, call.interval());
        let answer = self.block_answer(sight.file, number, query);
        if answer.doubt {
            return self.give_up();
        }
        let values = self.values(answer);
        if self.shown_by_one(&values, start, piece) {
            return Ok(());
        }
        let changing = query.possible & !query.required != 0;
        let tears = matches!(call.op, Op::Load { .. }) || !self.promises.reads_atomic;
        let grain = if changing && tears { Grain::Byte } else { answer.grain };
        if grain < Grain::Block && self.shown_by_parts(&values, start, piece, grain) {
            return Ok(());
        }
        self.report(self.explain_bytes(sight, number, start, piece, query, &values))
    }

    /// Whether the bytes of a block from `start` on are those of one content.
    pub(crate) fn shown_by_one(&self, values: &[u64], start: usize, bytes: &[u8]) -> bool {
        let versions = self.lab.versions.borrow();
        values.iter().any(|&value| versions.shows(value, start, bytes))
    }

    /// Whether each piece of the grain is that of some content.
    pub(crate) fn shown_by_parts(
        &self,
        values: &[u64],
        start: usize,
        bytes: &[u8],
        grain: Grain,
    ) -> bool {
        let versions = self.lab.versions.borrow();
        let mut open = [true; BLOCK];
        let step = if grain == Grain::Byte { 1 } else { 512 };
        for &value in values {
            let mut content = [0; BLOCK];
            versions.render(value, &mut content);
            let mut at = start;
            while at < start + bytes.len() {
                let end = (at / step * step + step).min(start + bytes.len());
                if open[at] && content[at..end] == bytes[at - start..end - start] {
                    open[at] = false;
                }
                at = end;
            }
        }
        let mut at = start;
        while at < start + bytes.len() {
            if open[at] {
                return false;
            }
            at = at / step * step + step;
        }
        true
    }

    /// How many bytes a read of `span` may return.
    fn check_read_len(&self, id: CallId, span: Span, len: u64) -> Verdict {
        let into = matches!(self.calls[id].op, Op::DirectReadInto { .. } | Op::ReadInto { .. });
        let files: SmallVec<[FileId; 2]> = if into {
            self.calls[id].sources.iter().map(|source| source.0).collect()
        } else {
            self.calls[id].files.clone()
        };
        let (mut low, mut high, mut exact) = (u64::MAX, 0, false);
        for file in files {
            let Some(sizes) = self.sizes_during(file, id) else { return self.give_up() };
            for size in sizes {
                let legal = size.saturating_sub(span.offset).min(span.len);
                exact |= legal == len;
                (low, high) = (low.min(legal), high.max(legal));
            }
        }
        // While the size changes, a read looks at it anew for every block.
        let ends_block = span.offset.saturating_add(len).is_multiple_of(BLOCK_BYTES);
        let between = low <= len && len <= high && ends_block;
        // A read ends before the block that the device failed (G-8).
        let failed = self.errors.any || into && self.faults(id).yes;
        let cut_short = failed && len < high && (into || ends_block);
        if exact || between || cut_short {
            return Ok(());
        }
        let text = format!("{} returned {len} bytes; legal: {low} to {high}", self.call_name(id));
        let violation = Violation::new(GuaranteeId::LIVE_SIZE, Kind::WrongSize, text);
        self.report(violation.by(self.calls[id].id))
    }

    fn check_load(&self, id: CallId, span: Span, bytes: &[u8]) -> Verdict {
        if bytes.len() as u64 != span.len {
            return self.wrong(id, &format!("loaded {} bytes of {}", bytes.len(), span.len));
        }
        let Op::Load { map, .. } = self.calls[id].op else { return Ok(()) };
        let mut first = None;
        for place in self.mapped(map, self.calls[id].interval()) {
            let shown = through(place, span);
            let Some(sizes) = self.sizes_during(place.file, id) else { return self.give_up() };
            // Beyond the end of the file, memory holds zeros or what was stored there.
            let end = sizes.iter().copied().min().unwrap_or(0);
            let inside = end.saturating_sub(shown.offset).min(shown.len) as usize;
            let (inside, beyond) = bytes.split_at(inside.min(bytes.len()));
            let path = self.files.get(place.file).path;
            let sight = Sight { file: place.file, path, call: Some(id), cut: None };
            let verdict = self.check_bytes(sight, shown.offset, inside).and_then(|()| {
                let at = shown.offset.saturating_add(inside.len() as u64);
                self.check_beyond(sight, at, beyond)
            });
            if verdict.is_ok() {
                return Ok(());
            }
            first = first.or(Some(verdict));
        }
        first.unwrap_or(Ok(()))
    }

    /// Bytes that a load shows where the file may end before them, block by block.
    fn check_beyond(&self, sight: Sight, offset: u64, bytes: &[u8]) -> Verdict {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let within = (at % BLOCK_BYTES) as usize;
            let (piece, later) = rest.split_at(rest.len().min(BLOCK - within));
            let free = crate::content::is_filled(piece, 0) || self.stored_at(sight.file, at);
            if !free {
                self.check_bytes(sight, at, piece)?;
            }
            at = at.saturating_add(piece.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// Whether any call has stored into the block.
    pub(crate) fn stored_at(&self, file: FileId, offset: u64) -> bool {
        use crate::file::Change;
        let history = self.files.get(file).block(offset / BLOCK_BYTES);
        history.is_some_and(|history| {
            history.entries().iter().any(|entry| {
                matches!(
                    entry.effect.change,
                    Change::Store { .. } | Change::Copy { mapped: true, .. }
                )
            })
        })
    }

    fn check_stat(&self, id: CallId, size: u64, nlink: u32) -> Verdict {
        let call = &self.calls[id];
        let path = crate::attach::acting_path(&call.op).unwrap_or(PathId(0));
        let vanishing = self.changed_since(path, id);
        if nlink != 1 && !(nlink == 0 && vanishing) {
            let text = format!("{} shows {nlink} links", self.call_name(id));
            let violation = Violation::new(GuaranteeId::RESULTS, Kind::WrongLinks, text);
            return self.report(violation.on(path).by(call.id));
        }
        let mut legal = SmallVec::<[u64; 4]>::new();
        for &file in &call.files {
            let Some(sizes) = self.sizes_during(file, id) else { return self.give_up() };
            legal.extend(sizes);
        }
        let passed = || call.files.iter().any(|&file| self.passes_size(file, id, size));
        if legal.contains(&size) || passed() {
            return Ok(());
        }
        let text = format!("{} shows size {size}; legal: {legal:?}", self.call_name(id));
        let violation = Violation::new(GuaranteeId::LIVE_SIZE, Kind::WrongSize, text);
        self.report(violation.on(path).by(call.id))
    }

    fn check_list(&self, id: CallId, names: &[PathId]) -> Verdict {
        let op = self.calls[id].id;
        let known = self.names.iter().map(|(path, _)| path);
        let strangers = names.iter().copied().filter(|&path| self.names.get(path).is_none());
        for path in known.chain(strangers) {
            let listed = names.contains(&path);
            let absent = self.absent(path, id);
            let (kind, what) = match (listed, absent) {
                (true, Truth { no: false, .. }) => (Kind::GhostName, "cannot be there"),
                (false, Truth { yes: false, .. }) => (Kind::LostName, "must be there"),
                _ => continue,
            };
            let list = self.call_name(id);
            let verb = if listed { "shows" } else { "misses" };
            let text = format!("{list} {verb} {}, which {what}", self.path_name(path));
            let violation = Violation::new(GuaranteeId::LIVE_NAMES, kind, text);
            self.report(violation.on(path).by(op))?;
        }
        Ok(())
    }

    /// Whether every block that dedupe shared may have been equal.
    fn check_dedupe(&self, id: CallId, count: u64) -> Verdict {
        let asked = self.calls[id].len;
        let shortened = !asked.is_multiple_of(BLOCK_BYTES) && count.is_multiple_of(BLOCK_BYTES);
        if count > asked || (count < asked && !shortened) {
            return self.wrong(id, &format!("shared {count} bytes of {asked}"));
        }
        if count > MAX_BLOCKS * BLOCK_BYTES {
            return self.give_up();
        }
        let left_out = if self.promises.dedupe_counts_compared { 0 } else { count % BLOCK_BYTES };
        let count = count - left_out;
        for at in (0..count).step_by(BLOCK) {
            let len = (count - at).min(BLOCK_BYTES) as usize;
            if !self.compare(id, at, len).yes {
                let text = format!(
                    "{} shared {len} bytes at {at} that were different",
                    self.call_name(id)
                );
                let violation = Violation::new(GuaranteeId::REMAP, Kind::WrongDedupe, text);
                return self.report(violation.by(self.calls[id].id));
            }
        }
        Ok(())
    }

    fn check_differs(&self, id: CallId) -> Verdict {
        let asked = self.calls[id].len;
        let equal = |at: u64| {
            let len = (asked - at).min(BLOCK_BYTES) as usize;
            self.compare(id, at, len) == Truth::YES
        };
        if asked > MAX_BLOCKS * BLOCK_BYTES {
            return self.give_up();
        }
        if asked == 0 || !(0..asked).step_by(BLOCK).all(equal) {
            return Ok(());
        }
        let text = format!("{} found a difference where there is none", self.call_name(id));
        let violation = Violation::new(GuaranteeId::REMAP, Kind::WrongDedupe, text);
        self.report(violation.by(self.calls[id].id))
    }

    /// Whether one block of the two ranges of a dedupe was equal during the call.
    fn compare(&self, id: CallId, at: u64, len: usize) -> Truth {
        let call = &self.calls[id];
        let Op::Dedupe { source_offset, target_offset, .. } = call.op else { return Truth::OPEN };
        let (&[(source, _)], &[target]) = (&call.sources[..], &call.files[..]) else {
            return Truth::OPEN;
        };
        let one = source_offset.saturating_add(at) / BLOCK_BYTES;
        let two = target_offset.saturating_add(at) / BLOCK_BYTES;
        let left = self.block_during(source, one, call.interval());
        let right = self.block_during(target, two, call.interval());
        if left.doubt || right.doubt || left.grain.min(right.grain) < Grain::Block {
            return Truth::OPEN;
        }
        let mut truth = Truth { yes: false, no: false };
        for &a in &self.values(left) {
            for &b in &self.values(right) {
                let equal = a == b || self.lab.versions.borrow().equal((a, 0), (b, 0), len);
                truth = Truth { yes: truth.yes || equal, no: truth.no || !equal };
            }
        }
        truth
    }

    /// The name of a call in messages: its verb and number.
    pub(crate) fn call_name(&self, id: CallId) -> String {
        let call = &self.calls[id];
        describe(&call.op, call.id)
    }
}

/// Whether success without a value is wrong.
fn returns_a_value(op: &Op) -> bool {
    matches!(
        op,
        Op::Write { .. }
            | Op::DirectWrite { .. }
            | Op::DirectWriteFrom { .. }
            | Op::WriteFrom { .. }
            | Op::AsyncWrite { .. }
            | Op::LayoutWrite { .. }
            | Op::Append { .. }
            | Op::Read { .. }
            | Op::DirectRead { .. }
            | Op::DirectReadInto { .. }
            | Op::ReadInto { .. }
            | Op::AsyncRead { .. }
            | Op::Load { .. }
            | Op::Dedupe { .. }
            | Op::Holes { .. }
            | Op::Stat { .. }
            | Op::List
    )
}
