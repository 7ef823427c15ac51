//! Shrinking mutation: every step leaves less. For libFuzzer's minimizer, which tries steps at
//! random and keeps those that still fail; what decides which failure is meant stays as it is:
//! defects, expectation and checks.

use super::dice::{Dice, Source};
use super::mutate::{any_slot, operation_mut};
use super::options::KNOBS;
use super::syntax::{Arg, build, split};
use super::{Program, limits};

/// Makes the program smaller or simpler in one respect.
pub(super) fn reduce(program: &mut Program, dice: &mut Dice) {
    for _ in 0..8 {
        if step(program, dice) {
            return;
        }
    }
}

fn step(program: &mut Program, dice: &mut Dice) -> bool {
    match dice.below(12) {
        0..=4 => remove_operations(program, dice),
        5 => remove_task(program, dice),
        6 => simplify_arguments(program, dice),
        7 => reset_knob(program, dice),
        8 => shorten_choices(program, dice),
        9 => shorten_schedule(program, dice),
        10 => shorten_cut(program, dice),
        _ => {
            let had = program.comments.len() + program.faults.len();
            program.comments.clear();
            program.faults.pop();
            had > 0
        }
    }
}

fn remove_operations(program: &mut Program, dice: &mut Dice) -> bool {
    let Some(slot) = any_slot(program, dice) else {
        return false;
    };
    let mut removed = false;
    for _ in 0..dice.pick(&[1, 1, 1, 2, 4, 8]) {
        removed |= program.remove_operation(slot).is_some();
    }
    removed
}

fn remove_task(program: &mut Program, dice: &mut Dice) -> bool {
    let count = program.tasks.len() as u32;
    if count == 0 {
        return false;
    }
    let task = dice.below(count) as usize;
    // One by one, so that references to later operations follow.
    while program.remove_operation(super::Slot::Task { task, index: 0 }).is_some() {}
    program.tasks.remove(task);
    program.comments.retain(|comment| !matches!(comment.place, super::Place::Task(_)));
    true
}

fn simplify_arguments(program: &mut Program, dice: &mut Dice) -> bool {
    let Some(slot) = any_slot(program, dice) else {
        return false;
    };
    let Some(operation) = operation_mut(program, slot) else {
        return false;
    };
    let (kind, mut fields) = split(operation);
    let old = fields;
    match dice.below(4) {
        0 => fields.offset /= 2,
        1 => fields.len = fields.len.min(4096),
        2 => fields.other /= 2,
        _ if kind.shape().has(Arg::Keep) => fields.keep = false,
        _ => fields.sync = oracle::operation::Sync::None,
    }
    *operation = build(kind, &fields);
    old != fields
}

fn reset_knob(program: &mut Program, dice: &mut Dice) -> bool {
    let start = dice.below(KNOBS.len() as u32) as usize;
    let mut knobs = KNOBS.iter().cycle().skip(start).take(KNOBS.len());
    match knobs.find(|knob| (knob.get)(program) != knob.default) {
        Some(knob) => {
            (knob.set)(program, knob.default);
            true
        }
        None => false,
    }
}

fn shorten_choices(program: &mut Program, dice: &mut Dice) -> bool {
    let len = program.choices.len();
    if len == 0 {
        return false;
    }
    let lines = len.div_ceil(limits::CHOICES_LINE_BYTES);
    let keep = dice.pick(&[0, len / 2, len - 1, (lines - 1) * limits::CHOICES_LINE_BYTES]);
    program.choices.truncate(keep);
    true
}

fn shorten_schedule(program: &mut Program, dice: &mut Dice) -> bool {
    let Some(schedule) = &mut program.schedule else {
        return false;
    };
    match schedule.moves.len() as u32 {
        0 => program.schedule = None,
        count if dice.chance(1, 2) => schedule.moves.truncate(count as usize / 2),
        count => {
            schedule.moves.remove(dice.below(count) as usize);
        }
    }
    true
}

fn shorten_cut(program: &mut Program, dice: &mut Dice) -> bool {
    let Some(cut) = &mut program.cut else {
        return false;
    };
    match cut.kept.len() as u32 {
        0 => program.cut = None,
        count => {
            cut.kept.remove(dice.below(count) as usize);
        }
    }
    true
}
