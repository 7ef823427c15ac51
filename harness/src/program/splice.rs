//! Crossover: a program from two.

use oracle::operation::{MapId, Operation, PathId};

use super::dice::{Dice, Source};
use super::mutate::{fill_names, forget_expectations};
use super::options::KNOBS;
use super::syntax::{build, split};
use super::{Program, Slot, Task, limits};

/// A program with parts of both, deterministic in the seed, canonical. Names of `b` become those of
/// `a` at the same place, so that operations of both meet on one file.
pub fn crossover(a: &Program, b: &Program, seed: u64) -> Program {
    let mut dice = Dice::new(seed);
    let mut child = a.clone();
    forget_expectations(&mut child);
    fill_names(&mut child);
    match dice.below(4) {
        0 => swap_tasks(&mut child, b, &mut dice),
        1 => insert_span(&mut child, b, &mut dice),
        2 => cut_tasks(&mut child, b, &mut dice),
        _ => {
            insert_span(&mut child, b, &mut dice);
            mix_knobs(&mut child, b, &mut dice);
        }
    }
    if dice.chance(1, 3) {
        mix_choices(&mut child, b, &mut dice);
    }
    child.fixup();
    child
}

/// Takes some tasks from the other program.
fn swap_tasks(child: &mut Program, b: &Program, dice: &mut Dice) {
    for (index, task) in b.tasks.iter().enumerate() {
        if !dice.chance(1, 2) {
            continue;
        }
        let ops: Vec<Operation> = task.ops.iter().map(adopt).collect();
        match child.tasks.get_mut(index) {
            Some(own) => own.ops = ops,
            None => child.tasks.push(Task { name: task.name.clone(), ops }),
        }
    }
    adopt_setup(child, b, dice);
}

/// Takes the head of each task from one and its tail from the other.
fn cut_tasks(child: &mut Program, b: &Program, dice: &mut Dice) {
    for (own, task) in child.tasks.iter_mut().zip(&b.tasks) {
        own.ops.truncate(dice.below(own.ops.len() as u32 + 1) as usize);
        let from = dice.below(task.ops.len() as u32 + 1) as usize;
        own.ops.extend(task.ops[from..].iter().map(adopt));
    }
    adopt_setup(child, b, dice);
}

/// Puts a few operations in a row of the other program into one task.
fn insert_span(child: &mut Program, b: &Program, dice: &mut Dice) {
    let lists: Vec<&[Operation]> = b
        .tasks
        .iter()
        .map(|task| task.ops.as_slice())
        .chain([b.setup.as_slice()])
        .filter(|list| !list.is_empty())
        .collect();
    if lists.is_empty() || child.tasks.is_empty() {
        return;
    }
    let list = dice.pick(&lists);
    let from = dice.below(list.len() as u32) as usize;
    let count = (1 + dice.below(6) as usize).min(list.len() - from);
    let task = dice.below(child.tasks.len() as u32) as usize;
    let index = dice.below(child.tasks[task].ops.len() as u32 + 1) as usize;
    for (step, operation) in list[from..from + count].iter().enumerate() {
        child.insert_operation(Slot::Task { task, index: index + step }, adopt(operation));
    }
}

/// Now and then the setup of the other program comes with its tasks.
fn adopt_setup(child: &mut Program, b: &Program, dice: &mut Dice) {
    if dice.chance(1, 3) {
        child.setup = b.setup.iter().map(adopt).collect();
    }
}

fn mix_knobs(child: &mut Program, b: &Program, dice: &mut Dice) {
    for knob in KNOBS {
        if dice.chance(1, 2) {
            (knob.set)(child, (knob.get)(b));
        }
    }
}

fn mix_choices(child: &mut Program, b: &Program, dice: &mut Dice) {
    let keep = dice.below(child.choices.len() as u32 + 1) as usize;
    child.choices.truncate(keep);
    child.choices.extend(b.choices.iter().skip(keep));
    child.choices.truncate(limits::CHOICES_BYTES_MAX);
}

/// An operation of another program; its indices of names count in this one.
fn adopt(operation: &Operation) -> Operation {
    let (kind, mut fields) = split(operation);
    fields.path = PathId(fields.path.0 % limits::PATHS_MAX as u8);
    fields.target = PathId(fields.target.0 % limits::PATHS_MAX as u8);
    fields.map = MapId(fields.map.0 % limits::MAPS_MAX as u8);
    build(kind, &fields)
}
