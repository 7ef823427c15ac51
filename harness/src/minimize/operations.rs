//! What makes a program smaller or simpler, in passes that are repeated until nothing changes.

use super::changes::slots;
use super::simpler::{simpler_fields, simpler_kinds};
use super::{BELIEVED_OPERATIONS_MAX, Search, Thoroughness};
use crate::explore;
use crate::finding::{self, Taken};
use crate::program::options::{Group, KNOBS, WORKERS};
use crate::program::syntax::{Fields, Kind, build, split};
use crate::program::{Program, Slot};
use crate::target::PowerTarget;
use oracle::operation::{OpId, Operation, PathId};

/// Rounds at most; each makes the program smaller, and few are needed.
const ROUNDS_MAX: u32 = 8;

/// Operations of tasks of which pairs are tried.
const PAIRED_OPERATIONS_MAX: usize = 8;

/// Kinds of operation that allocate as much as they are long.
const WRITES: &[Kind] =
    &[Kind::Write, Kind::Append, Kind::DirectWrite, Kind::AsyncWrite, Kind::Fallocate];

impl<T: PowerTarget> Search<'_, T> {
    /// Removes what the recorded schedule can do without, in few executions: what it keeps is then
    /// tried with other schedules.
    pub(super) fn drop_readily(&mut self) {
        self.drop_tasks(Thoroughness::Recorded);
        self.drop_operations(Thoroughness::Recorded);
    }

    /// All passes over the program, until a round changes nothing; tells if any did.
    pub(super) fn shrink_program(&mut self, how: Thoroughness) -> bool {
        let first = self.size();
        for _ in 0..ROUNDS_MAX {
            let before = self.size();
            self.drop_tasks(how);
            self.drop_operations(how);
            self.merge_tasks(how);
            self.move_to_setup(how);
            if how == Thoroughness::Explored {
                self.keep_pair();
                self.simplify_kinds();
                self.merge_writes();
            }
            if how == Thoroughness::Random {
                self.drop_after();
                self.reset_knobs();
                self.merge_files();
                self.simplify_operations();
            }
            if self.size() == before || self.spent() {
                break;
            }
        }
        self.size() != first
    }

    /// The program without its schedule, to tell whether anything changed.
    pub(super) fn size(&self) -> String {
        text(&self.best.program)
    }

    fn drop_tasks(&mut self, how: Thoroughness) {
        let mut index = 0;
        while index < self.best.program.tasks.len() {
            let ops = self.operations_of(index);
            let mut candidate = self.without(&ops);
            while candidate.remove_operation(Slot::Task { task: index, index: 0 }).is_some() {}
            candidate.tasks.remove(index);
            candidate.fixup();
            let fewer = candidate.tasks.len() < self.best.program.tasks.len();
            if !fewer || !self.try_program(&candidate, how) {
                index += 1;
            }
        }
    }

    /// Removes runs of operations, long ones first, from the end, where they matter least.
    fn drop_operations(&mut self, how: Thoroughness) {
        let mut length = self.best.program.operation_count().next_power_of_two() / 2;
        while length > 0 {
            let mut end = slots(&self.best.program).len();
            while end > 0 {
                let slots = slots(&self.best.program);
                end = end.min(slots.len());
                let start = end.saturating_sub(length);
                let numbers =
                    slots[start..end].iter().map(|slot| self.best.program.number_at(*slot));
                let mut candidate = self.without(&numbers.collect::<Vec<_>>());
                for slot in slots[start..end].iter().rev() {
                    candidate.remove_operation(*slot);
                }
                candidate.fixup();
                if candidate.operation_count() < self.best.program.operation_count() {
                    self.try_program(&candidate, how);
                }
                end = start;
            }
            length /= 2;
        }
    }

    /// The best program with a schedule that leaves out the steps of some operations.
    fn without(&self, ops: &[OpId]) -> Program {
        let mut program = self.best.program.clone();
        let stays = |taken: &&Taken| taken.op.is_none_or(|op| !ops.contains(&op));
        program.schedule = Some(finding::schedule(self.taken.iter().filter(stays)));
        program
    }

    fn operations_of(&self, task: usize) -> Vec<OpId> {
        let operations = self.best.program.operations();
        let of_task = operations.filter(
            |(_, slot, _)| matches!(slot, Slot::Task { task: other, .. } if *other == task),
        );
        of_task.map(|(number, ..)| number).collect()
    }

    /// Makes a task part of the setup, or puts it before or behind another: what does not race is
    /// not shown as if it did.
    fn merge_tasks(&mut self, how: Thoroughness) {
        let mut index = 0;
        while index < self.best.program.tasks.len() {
            let quiet = self.without(&self.operations_of(index));
            let mut candidates = vec![moved_to_setup(&quiet, index)];
            for other in 0..self.best.program.tasks.len() {
                if other != index {
                    candidates.push(joined(&self.best.program, index, other));
                }
            }
            if !candidates.iter().any(|candidate| self.try_program(candidate, how)) {
                index += 1;
            }
        }
    }

    /// Performs the first operations of a task before the race, where they need not be part of it.
    fn move_to_setup(&mut self, how: Thoroughness) {
        for task in 0..self.best.program.tasks.len() {
            while self.best.program.tasks.get(task).is_some_and(|it| it.ops.len() > 1) {
                let first = Slot::Task { task, index: 0 };
                let mut candidate = self.without(&[self.best.program.number_at(first)]);
                let end = candidate.setup.len();
                let Some(operation) = candidate.remove_operation(first) else { break };
                candidate.insert_operation(Slot::Setup(end), operation);
                candidate.fixup();
                if !self.try_program(&candidate, how) {
                    break;
                }
            }
        }
    }

    /// Two operations of the tasks, and nothing else beside the setup: most races are of two.
    fn keep_pair(&mut self) {
        let of_tasks = |slot: &Slot| matches!(slot, Slot::Task { .. });
        let slots: Vec<Slot> = slots(&self.best.program).into_iter().filter(of_tasks).collect();
        if slots.len() <= 2 || slots.len() > PAIRED_OPERATIONS_MAX {
            return;
        }
        for (at, first) in slots.iter().enumerate() {
            for second in &slots[at + 1..] {
                let others = slots.iter().filter(|slot| ![first, second].contains(slot));
                let others: Vec<Slot> = others.copied().collect();
                let numbers = others.iter().map(|slot| self.best.program.number_at(*slot));
                let mut candidate = self.without(&numbers.collect::<Vec<_>>());
                for slot in others.iter().rev() {
                    candidate.remove_operation(*slot);
                }
                candidate.fixup();
                if self.try_program(&candidate, Thoroughness::Explored) {
                    return;
                }
            }
        }
    }

    /// One write instead of two: where a violation takes a certain block to be allocated, it does
    /// not matter by which operation those before it were.
    fn merge_writes(&mut self) {
        let mut index = 0;
        while let Some(from) = slots(&self.best.program).get(index).copied() {
            if self.best.program.operation_count() <= BELIEVED_OPERATIONS_MAX {
                return;
            }
            let others = slots(&self.best.program).into_iter().filter(|into| *into != from);
            let merged: Vec<Program> =
                others.filter_map(|into| self.with_one_write(from, into)).collect();
            if !merged.iter().any(|it| self.try_program(it, Thoroughness::Random)) {
                index += 1;
            }
        }
    }

    /// The best program without a write, and with another one that is longer by as much.
    fn with_one_write(&self, from: Slot, into: Slot) -> Option<Program> {
        let write = |slot| {
            let (kind, fields) = split(self.best.program.operation_at(slot)?);
            WRITES.contains(&kind).then_some((kind, fields))
        };
        let ((_, gone), (kind, fields)) = (write(from)?, write(into)?);
        let longer = Fields { len: fields.len + gone.len, ..fields };
        let mut program = self.without(&[self.best.program.number_at(from)]);
        *program.operation_mut(into)? = build(kind, &longer);
        program.remove_operation(from);
        program.fixup();
        Some(program)
    }

    fn drop_after(&mut self) {
        let mut index = 0;
        while index < self.best.program.after.len() {
            let mut candidate = self.best.program.clone();
            candidate.after.remove(index);
            candidate.fixup();
            if !self.try_program(&candidate, Thoroughness::Random) {
                index += 1;
            }
        }
        if !self.best.program.faults.is_empty() {
            let mut candidate = self.best.program.clone();
            candidate.faults.clear();
            self.try_program(&candidate, Thoroughness::Random);
        }
    }

    /// Background workers first: without them a program is easier to follow.
    fn reset_knobs(&mut self) {
        if !T::repertoire().knobs {
            return;
        }
        for quiet in WORKERS {
            self.set_knob(quiet, Some(0));
        }
        for knob in KNOBS.iter().filter(|knob| knob.group != Group::Machine) {
            self.set_knob(knob.key, None);
        }
    }

    /// Sets a knob to a value, or to its default.
    fn set_knob(&mut self, key: &str, value: Option<u64>) {
        let Some(knob) = KNOBS.iter().find(|knob| knob.key == key) else { return };
        let value = value.unwrap_or(knob.default);
        let quiet = WORKERS.contains(&key);
        let now = (knob.get)(&self.best.program);
        if now == value || (quiet && now == 0) {
            return;
        }
        let mut candidate = self.best.program.clone();
        (knob.set)(&mut candidate, value);
        candidate.fixup();
        self.try_program(&candidate, Thoroughness::Random);
    }

    /// One file instead of two.
    fn merge_files(&mut self) {
        for from in (1..self.best.program.paths.len()).rev() {
            for into in 0..from {
                let candidate = with_one_file(&self.best.program, from, into);
                if self.try_program(&candidate, Thoroughness::Random) {
                    break;
                }
            }
        }
    }

    /// The simplest kind and arguments that each operation may have.
    fn simplify_operations(&mut self) {
        let mut at = 0;
        while let Some(slot) = slots(&self.best.program).get(at).copied() {
            at += 1;
            self.simplify(slot);
        }
    }

    /// The simplest kinds of operation, of which what they show may be hard to reach.
    fn simplify_kinds(&mut self) {
        for slot in slots(&self.best.program) {
            let Some(operation) = self.best.program.operation_at(slot).cloned() else { return };
            for simpler in simpler_kinds(&self.best.program, &operation) {
                let mut candidate = self.best.program.clone();
                if let Some(place) = candidate.operation_mut(slot) {
                    *place = simpler;
                }
                candidate.fixup();
                if self.try_program(&candidate, Thoroughness::Explored) {
                    break;
                }
            }
        }
    }

    fn simplify(&mut self, slot: Slot) {
        loop {
            let Some(operation) = self.best.program.operation_at(slot).cloned() else { return };
            let kinds = simpler_kinds(&self.best.program, &operation);
            if !kinds.into_iter().any(|simpler| self.try_operation(slot, simpler, true)) {
                break;
            }
        }
        loop {
            let Some(operation) = self.best.program.operation_at(slot).cloned() else { return };
            let (kind, fields) = split(&operation);
            let mut simpler = simpler_fields(&fields).into_iter();
            if !simpler.any(|fields| self.try_operation(slot, build(kind, &fields), false)) {
                return;
            }
        }
    }

    /// Tries another operation at a place; with random schedules, or only with the recorded one.
    fn try_operation(&mut self, slot: Slot, operation: Operation, thorough: bool) -> bool {
        let mut candidate = self.best.program.clone();
        let Some(place) = candidate.operation_mut(slot) else { return false };
        if *place == operation {
            return false;
        }
        *place = operation;
        candidate.fixup();
        match thorough {
            true => self.try_program(&candidate, Thoroughness::Random),
            false => self.try_schedule(&candidate),
        }
    }
}

/// A program as text, without its schedule and what else a finding adds.
pub(super) fn text(program: &Program) -> String {
    let mut bare = explore::bare(program);
    bare.comments.clear();
    (bare.expect, bare.machine) = (None, Program::default().machine);
    bare.to_string()
}

/// The program with the operations of a task at the end of the setup.
pub(super) fn moved_to_setup(program: &Program, task: usize) -> Program {
    let mut program = program.clone();
    while let Some(operation) = program.remove_operation(Slot::Task { task, index: 0 }) {
        let end = program.setup.len();
        program.insert_operation(Slot::Setup(end), operation);
    }
    program.tasks.remove(task);
    program.fixup();
    program
}

/// The program with the operations of one task behind those of another.
fn joined(program: &Program, task: usize, other: usize) -> Program {
    let mut program = program.clone();
    while let Some(operation) = program.remove_operation(Slot::Task { task, index: 0 }) {
        let end = program.tasks[other].ops.len();
        program.insert_operation(Slot::Task { task: other, index: end }, operation);
    }
    program.tasks.remove(task);
    program.fixup();
    program
}

/// The program with every operation on one file done to another.
pub(super) fn with_one_file(program: &Program, from: usize, into: usize) -> Program {
    let mut program = program.clone();
    let renamed = |path: PathId| if usize::from(path.0) == from { into } else { path.0.into() };
    let id = |path: PathId| PathId(u8::try_from(renamed(path)).unwrap_or(path.0));
    let slots: Vec<Slot> = program.operations().map(|(_, slot, _)| slot).collect();
    for slot in slots {
        if let Some(place) = program.operation_mut(slot) {
            let (kind, mut fields) = split(place);
            (fields.path, fields.target) = (id(fields.path), id(fields.target));
            *place = build(kind, &fields);
        }
    }
    program.fixup();
    program
}

#[cfg(test)]
mod tests {
    use super::super::Effort;
    use super::*;
    use crate::finding::Finding;
    use crate::program;
    use crate::session::Session;
    use crate::target::engine::EngineTarget;
    use crate::verdict::{Phase, Wrong};

    #[test]
    fn one_write_is_as_long_as_two() {
        let of = |setup: &str| {
            let text = format!("powerfail 1\nsetup\n  create f\n{setup}  fsync f\n");
            program::strict(&text).expect("it is right")
        };
        let wrong = Wrong {
            kind: "lost-data".to_string(),
            guarantee: 11,
            cause: String::new(),
            message: String::new(),
            phase: Phase::Recovered,
        };
        let two = Finding::of(of("  write f 0 4K\n  dwrite f 4K 8K\n"), &wrong);
        let mut session = Session::<EngineTarget>::of_target();
        let mut progress = |_| {};
        let search = Search::new(&mut session, &two, Effort::default(), &mut progress);
        let one = |from, into| search.with_one_write(Slot::Setup(from), Slot::Setup(into));
        let is =
            |merged: Option<Program>, setup| merged.is_some_and(|it| text(&it) == text(&of(setup)));
        assert!(is(one(1, 2), "  dwrite f 4K 12K\n"));
        assert!(is(one(2, 1), "  write f 0 12K\n"));
        assert!(one(1, 3).is_none() && one(3, 1).is_none(), "fsync writes nothing");
    }
}
