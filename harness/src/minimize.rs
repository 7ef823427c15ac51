//! Minimizing: the smallest program, schedule and cut that still show the same signature.
//!
//! Delta debugging on the structure: tasks, operations, knobs, arguments, then switches of the
//! schedule, then what the medium lost. A candidate counts only if it was run and showed the
//! signature; everything is deterministic in the finding.

use crate::cuts::Plan;
use crate::finding::Finding;
use crate::program::options::{Group, KNOBS};
use crate::program::syntax::{Fields, build, split};
use crate::program::{ChooserKind, Move, Program, Slot};
use crate::session::Session;
use crate::target::PowerTarget;
use machine::disk::{Limits, TornPolicy};
use oracle::operation::Operation;
use std::rc::Rc;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Candidates run at most.
    pub candidates: u32,
    /// Random schedules tried for a candidate that its old schedule does not show.
    pub schedules: u32,
}

impl Default for Effort {
    fn default() -> Self {
        Effort { candidates: 3000, schedules: 8 }
    }
}

/// What minimizing came to.
#[derive(Clone, Debug)]
pub struct Minimized {
    /// The smallest finding.
    pub finding: Finding,
    /// Executions made.
    pub executions: u32,
    /// Whether the candidates ran out before everything was tried.
    pub exhausted: bool,
}

/// The state of a search.
struct Search<'a, T> {
    session: &'a mut Session<T>,
    effort: Effort,
    signature: String,
    best: Finding,
    executions: u32,
    progress: &'a mut dyn FnMut(u32),
}

/// Minimizes a finding; `progress` is told of the executions made.
pub fn minimize(
    session: &mut Session<impl PowerTarget>,
    finding: &Finding,
    effort: Effort,
    progress: &mut dyn FnMut(u32),
) -> Minimized {
    let signature = finding.wrong.signature();
    let best = finding.clone();
    let mut search = Search { session, effort, signature, best, executions: 0, progress };
    loop {
        let before = search.best.program.clone();
        search.drop_tasks();
        search.drop_operations();
        search.drop_after();
        search.reset_knobs();
        search.shrink_arguments();
        if search.best.program.operation_count() == before.operation_count() || search.spent() {
            break;
        }
    }
    search.calm_schedule();
    search.lose_less();
    let exhausted = search.spent();
    Minimized { finding: search.best, executions: search.executions, exhausted }
}

impl<T: PowerTarget> Search<'_, T> {
    fn spent(&self) -> bool {
        self.executions >= self.effort.candidates
    }

    fn plan(&self) -> Plan {
        let limits = Limits { exhaustive: 48, sampled: 8, torn: TornPolicy::Few };
        // What is seen while a program runs needs no cut.
        let cuts_max = if self.best.program.cut.is_some() { 200 } else { 0 };
        Plan { limits, cuts_max, ..Plan::campaign() }
    }

    /// Runs a candidate with its own schedule; keeps it if it shows the signature.
    fn try_once(&mut self, candidate: &Program, recorded_cut: bool) -> bool {
        if self.spent() {
            return false;
        }
        self.executions += 1;
        (self.progress)(self.executions);
        let mut program = candidate.clone();
        program.expect = None;
        if !recorded_cut {
            program.cut = None;
        }
        let program = Rc::new(program);
        let shown = match (&program.schedule, &program.cut) {
            (_, Some(_)) => self.session.replay(&program),
            (Some(schedule), None) => {
                let chooser = Box::new(crate::finding::replayer(schedule));
                let plan = self.plan();
                self.session.run_with(&program, &plan, 0, chooser).map(|(shown, _)| shown)
            }
            (None, None) => self.session.run(&program, &self.plan(), 0),
        };
        let shown = shown.ok();
        match shown.and_then(|shown| shown.with_signature(&self.signature).cloned()) {
            Some(found) => {
                self.best = match recorded_cut {
                    true => Finding { program: expecting(&program, &found), wrong: found.wrong },
                    false => found,
                };
                true
            }
            None => false,
        }
    }

    /// Runs a changed program with the old schedule, without preemption, and with a few random
    /// schedules; keeps what shows the signature.
    fn try_program(&mut self, candidate: &Program) -> bool {
        if self.try_once(candidate, false) {
            return true;
        }
        let mut other = candidate.clone();
        other.schedule = None;
        other.machine.chooser = ChooserKind::RoundRobin;
        if self.try_once(&other, false) {
            return true;
        }
        if candidate.tasks.len() < 2 && candidate.mount.flusher == 0 {
            return false;
        }
        for seed in 0..u64::from(self.effort.schedules) {
            other.machine.chooser = match seed % 3 {
                0 => ChooserKind::Random,
                1 => ChooserKind::Pct,
                _ => ChooserKind::Pos,
            };
            other.machine.seed = seed;
            if self.try_once(&other, false) {
                return true;
            }
        }
        false
    }

    fn drop_tasks(&mut self) {
        let mut index = 0;
        while index < self.best.program.tasks.len() {
            let mut candidate = self.best.program.clone();
            while !candidate.tasks[index].ops.is_empty() {
                candidate.remove_operation(Slot::Task { task: index, index: 0 });
            }
            candidate.tasks.remove(index);
            candidate.fixup();
            if candidate.tasks.len() >= self.best.program.tasks.len()
                || !self.try_program(&candidate)
            {
                index += 1;
            }
        }
    }

    /// Removes runs of operations, long ones first, from the end, where they matter least.
    fn drop_operations(&mut self) {
        let mut length = self.best.program.operation_count().next_power_of_two() / 2;
        while length > 0 {
            let mut end = self.slots().len();
            while end > 0 {
                let slots = self.slots();
                end = end.min(slots.len());
                let start = end.saturating_sub(length);
                let mut candidate = self.best.program.clone();
                for slot in slots[start..end].iter().rev() {
                    candidate.remove_operation(*slot);
                }
                candidate.fixup();
                let fewer = candidate.operation_count() < self.best.program.operation_count();
                if fewer {
                    self.try_program(&candidate);
                }
                end = start;
            }
            length /= 2;
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let slots = self.best.program.operations().map(|(_, slot, _)| slot);
        slots.filter(|slot| !matches!(slot, Slot::After(_))).collect()
    }

    fn drop_after(&mut self) {
        let mut index = 0;
        while index < self.best.program.after.len() {
            let mut candidate = self.best.program.clone();
            candidate.after.remove(index);
            candidate.fixup();
            if !self.try_program(&candidate) {
                index += 1;
            }
        }
        if !self.best.program.faults.is_empty() {
            let mut candidate = self.best.program.clone();
            candidate.faults.clear();
            self.try_program(&candidate);
        }
    }

    /// Background workers first: without them a program is easier to follow.
    fn reset_knobs(&mut self) {
        if !T::repertoire().knobs {
            return;
        }
        for quiet in ["flusher", "committer", "reclaimer"] {
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
        let quiet = ["flusher", "committer", "reclaimer"].contains(&key);
        let now = (knob.get)(&self.best.program);
        if now == value || (quiet && now == 0) {
            return;
        }
        let mut candidate = self.best.program.clone();
        (knob.set)(&mut candidate, value);
        candidate.fixup();
        self.try_program(&candidate);
    }

    /// Ranges at the start of the file, one block long, without extras.
    fn shrink_arguments(&mut self) {
        for slot in self.slots() {
            let Some(operation) = operation_at(&self.best.program, slot) else { continue };
            let (kind, fields) = split(&operation);
            for simpler in simpler_fields(&fields) {
                let changed = build(kind, &simpler);
                if operation_at(&self.best.program, slot).as_ref() == Some(&changed) {
                    continue;
                }
                let mut candidate = self.best.program.clone();
                if let Some(place) = place_mut(&mut candidate, slot) {
                    *place = changed;
                    candidate.fixup();
                    self.try_once(&candidate, false);
                }
            }
        }
    }

    /// Fewer switches: no preemption at all, or without one of the moves.
    fn calm_schedule(&mut self) {
        let mut candidate = self.best.program.clone();
        candidate.schedule = Some(crate::program::Schedule::default());
        if self.try_once(&candidate, false) {
            return;
        }
        let mut index = 0;
        while let Some(schedule) = &self.best.program.schedule {
            if index >= schedule.moves.len() {
                break;
            }
            let mut candidate = self.best.program.clone();
            let moves = &mut candidate.schedule.as_mut().expect("it has one").moves;
            let before = moves.len();
            remove_move(moves, index);
            if moves.len() >= before || !self.try_once(&candidate, false) || self.moves() >= before
            {
                index += 1;
            }
        }
    }

    fn moves(&self) -> usize {
        self.best.program.schedule.as_ref().map_or(0, |schedule| schedule.moves.len())
    }

    /// Blocks that kept what was written, wherever that shows the same.
    fn lose_less(&mut self) {
        let mut index = 0;
        while let Some(cut) = &self.best.program.cut {
            let Some(spec) = cut.kept.get(index).copied() else { break };
            let mut candidate = self.best.program.clone();
            let kept = &mut candidate.cut.as_mut().expect("it has one").kept;
            kept.retain(|other| (other.device, other.block) != (spec.device, spec.block));
            if !self.try_once(&candidate, true) {
                index += 1;
            }
        }
    }
}

/// Gives the steps of a move to the one before it: one switch less.
fn remove_move(moves: &mut Vec<Move>, index: usize) {
    moves.remove(index);
    let Some(before) = index.checked_sub(1) else { return };
    let (Some(Move::Run { who: first, steps: more }), Some(Move::Run { who, steps })) =
        (moves.get(index).cloned(), moves.get_mut(before))
    else {
        return;
    };
    if *who == first {
        *steps = steps.saturating_add(more);
        moves.remove(index);
    }
}

/// The program with the verdict that was found, and its old schedule and cut.
fn expecting(program: &Program, found: &Finding) -> Program {
    let mut program = program.clone();
    program.expect = Some(crate::program::Expect::Violation {
        kind: found.wrong.kind.clone(),
        guarantee: Some(found.wrong.guarantee),
    });
    program
}

fn operation_at(program: &Program, slot: Slot) -> Option<Operation> {
    match slot {
        Slot::Setup(index) => program.setup.get(index).cloned(),
        Slot::Task { task, index } => program.tasks.get(task)?.ops.get(index).cloned(),
        Slot::After(_) => None,
    }
}

fn place_mut(program: &mut Program, slot: Slot) -> Option<&mut Operation> {
    match slot {
        Slot::Setup(index) => program.setup.get_mut(index),
        Slot::Task { task, index } => program.tasks.get_mut(task)?.ops.get_mut(index),
        Slot::After(_) => None,
    }
}

/// Simpler arguments, the simplest first.
fn simpler_fields(fields: &Fields) -> Vec<Fields> {
    const BLOCK: u64 = oracle::operation::BLOCK_BYTES;
    let mut simpler = Vec::new();
    let mut push = |candidate: Fields| {
        if candidate != *fields {
            simpler.push(candidate);
        }
    };
    push(Fields { offset: 0, len: fields.len.min(BLOCK), other: 0, ..*fields });
    push(Fields { len: fields.len.min(BLOCK), ..*fields });
    push(Fields { offset: 0, ..*fields });
    push(Fields {
        offset: fields.offset / BLOCK * BLOCK,
        len: fields.len.next_multiple_of(BLOCK),
        ..*fields
    });
    push(Fields { sync: oracle::operation::Sync::None, keep: false, ..*fields });
    simpler
}
