//! Mutation of programs by operations, deterministic in the seed.
//!
//! A mutated program is another program: its expected verdict and its checks of recovered states
//! no longer apply and go, comments but those at the head go too. Schedule and cut stay as hints.
//! The operators and their measured worth: facts on fuzzing, §2.3 and §2.6.

use oracle::operation::{BLOCK_BYTES, Fill, MapId, Operation, PathId, SECTOR_BYTES, Sync};

use super::dice::{Dice, Source};
use super::generate::Writer;
use super::options::{Group, KNOBS};
use super::reduce::reduce;
use super::syntax::{Arg, Fields, Kind, build, split};
use super::world::World;
use super::{Move, Place, Program, Rest, Slot, SwarmMask, Task, limits, words};

/// Changes the program by one to a few operators; with `shrink` it only ever removes or simplifies,
/// and keeps what says which violation is meant. The result is canonical.
pub fn mutate(program: &mut Program, seed: u64, shrink: bool) {
    let mut dice = Dice::new(seed);
    if shrink {
        reduce(program, &mut dice);
        return program.fixup();
    }
    forget_expectations(program);
    let mut mask = SwarmMask::draw(&mut dice);
    mask.paths = mask.paths.max(program.paths.len() as u8);
    let mut rounds = 1;
    while rounds < limits::MUTATIONS_MAX && dice.chance(1, 3) {
        rounds += 1;
    }
    for _ in 0..rounds {
        // An operator that finds nothing to change lets another try.
        let mut tries = 0;
        while !step(program, &mask, &mut dice) && tries < 8 {
            tries += 1;
        }
    }
    fill_names(program);
    program.fixup();
}

/// Removes what was true of the program before it was changed.
pub(super) fn forget_expectations(program: &mut Program) {
    program.expect = None;
    program.after.clear();
    program.comments.retain(|comment| comment.place == Place::Head);
}

/// Gives names to all indices that operations may use now.
pub(super) fn fill_names(program: &mut Program) {
    let fill = |names: &mut Vec<String>, defaults: &[&str]| {
        for name in defaults {
            if names.len() < defaults.len() && !names.iter().any(|taken| taken == name) {
                names.push((*name).to_owned());
            }
        }
    };
    fill(&mut program.paths, &words::PATHS);
    fill(&mut program.maps, &words::MAPS);
}

type Operator = fn(&mut Program, &SwarmMask, &mut Dice) -> bool;

/// The operators with their weights.
const OPERATORS: &[(u32, Operator)] = &[
    (8, insert),
    (4, insert_conflict),
    (4, delete_span),
    (2, duplicate),
    (2, swap),
    (4, move_to_task),
    (8, change_argument),
    (3, change_kind),
    (1, rename),
    (1, truncate_tail),
    (1, add_task),
    (2, flip_knob),
    (4, change_choices),
    (2, change_schedule),
    (2, change_cut),
    (1, change_fault),
];

fn step(program: &mut Program, mask: &SwarmMask, dice: &mut Dice) -> bool {
    let total: u32 = OPERATORS.iter().map(|(weight, _)| weight).sum();
    let mut ticket = dice.below(total);
    for (weight, operator) in OPERATORS {
        match ticket.checked_sub(*weight) {
            Some(rest) => ticket = rest,
            None => return operator(program, mask, dice),
        }
    }
    false
}

/// A place of an operation in setup or, mostly, in a task.
pub(super) fn any_slot(program: &Program, dice: &mut Dice) -> Option<Slot> {
    let in_tasks = program.task_operation_count() as u32;
    let setup = program.setup.len() as u32;
    if setup > 0 && (in_tasks == 0 || dice.chance(1, 5)) {
        return Some(Slot::Setup(dice.below(setup) as usize));
    }
    let mut number = dice.below(in_tasks.max(1)) as usize;
    for (task, body) in program.tasks.iter().enumerate() {
        if number < body.ops.len() {
            return Some(Slot::Task { task, index: number });
        }
        number -= body.ops.len();
    }
    None
}

/// A place where an operation may be inserted.
fn any_gap(program: &Program, dice: &mut Dice) -> Slot {
    if program.tasks.is_empty() || dice.chance(1, 6) {
        return Slot::Setup(dice.below(program.setup.len() as u32 + 1) as usize);
    }
    let task = dice.below(program.tasks.len() as u32) as usize;
    let index = dice.below(program.tasks[task].ops.len() as u32 + 1) as usize;
    Slot::Task { task, index }
}

fn has_room(program: &Program) -> bool {
    program.setup.len() + program.task_operation_count() < limits::TOTAL_OPS_MAX
}

pub(super) fn operation_mut(program: &mut Program, slot: Slot) -> Option<&mut Operation> {
    match slot {
        Slot::Setup(index) => program.setup.get_mut(index),
        Slot::Task { task, index } => program.tasks.get_mut(task)?.ops.get_mut(index),
        Slot::After(_) => None,
    }
}

fn insert(program: &mut Program, mask: &SwarmMask, dice: &mut Dice) -> bool {
    if !has_room(program) {
        return false;
    }
    let slot = any_gap(program, dice);
    let world = World::of(program);
    let operation = Writer::new(dice, mask, world).operation(0);
    program.insert_operation(slot, operation);
    true
}

/// Inserts an operation of another kind on the very range that an operation of another task uses.
fn insert_conflict(program: &mut Program, mask: &SwarmMask, dice: &mut Dice) -> bool {
    if !has_room(program) || program.tasks.len() < 2 {
        return false;
    }
    let Some(Slot::Task { task, index }) = any_slot(program, dice) else {
        return false;
    };
    let (kind, at) = split(&program.tasks[task].ops[index]);
    if !kind.shape().has(Arg::Path) {
        return false;
    }
    let other =
        (task + 1 + dice.below(program.tasks.len() as u32 - 1) as usize) % program.tasks.len();
    let same_file = |kind: &Kind| kind.shape().has(Arg::Path) && *kind != Kind::Create;
    let kinds: Vec<Kind> = Kind::all().filter(|k| mask.allows(*k)).filter(same_file).collect();
    if kinds.is_empty() {
        return false;
    }
    let kind = dice.pick(&kinds);
    let drawn = Writer::new(dice, mask, World::of(program)).fields(kind);
    let len = if at.len == 0 { drawn.len } else { at.len };
    let fields = Fields { path: at.path, offset: at.offset, len, ..drawn };
    let index = dice.below(program.tasks[other].ops.len() as u32 + 1) as usize;
    program.insert_operation(Slot::Task { task: other, index }, build(kind, &fields));
    true
}

fn delete_span(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(slot) = any_slot(program, dice) else {
        return false;
    };
    for _ in 0..dice.pick(&[1, 1, 1, 2, 4]) {
        program.remove_operation(slot);
    }
    true
}

fn duplicate(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(from) = any_slot(program, dice) else {
        return false;
    };
    let to = any_gap(program, dice);
    let copy = operation_mut(program, from).cloned();
    match copy {
        Some(operation) if has_room(program) => program.insert_operation(to, operation),
        _ => return false,
    }
    true
}

fn swap(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let (Some(a), Some(b)) = (any_slot(program, dice), any_slot(program, dice)) else {
        return false;
    };
    let first = operation_mut(program, a).cloned();
    let second = operation_mut(program, b).cloned();
    let (Some(first), Some(second)) = (first, second) else {
        return false;
    };
    if let Some(operation) = operation_mut(program, a) {
        *operation = second;
    }
    if let Some(operation) = operation_mut(program, b) {
        *operation = first;
    }
    a != b
}

fn move_to_task(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(from) = any_slot(program, dice) else {
        return false;
    };
    let Some(operation) = program.remove_operation(from) else {
        return false;
    };
    let to = any_gap(program, dice);
    program.insert_operation(to, operation);
    from != to
}

fn change_argument(program: &mut Program, mask: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(slot) = any_slot(program, dice) else {
        return false;
    };
    let Some(operation) = operation_mut(program, slot) else {
        return false;
    };
    let (kind, mut fields) = split(operation);
    let args: Vec<Arg> =
        kind.shape().args.iter().copied().filter(|arg| !matches!(arg, Arg::Word(_))).collect();
    if args.is_empty() {
        return false;
    }
    let paths = u32::from(mask.paths).max(1);
    match dice.pick(&args) {
        Arg::Path => fields.path = PathId(dice.below(paths) as u8),
        Arg::Target => fields.target = PathId(dice.below(paths) as u8),
        Arg::Map => fields.map = MapId(dice.below(2) as u8),
        Arg::Offset => fields.offset = neighbour(fields.offset, dice),
        Arg::Len | Arg::Size => fields.len = neighbour(fields.len, dice),
        Arg::Other => fields.other = neighbour(fields.other, dice),
        Arg::Node => fields.node.0 = dice.below(2) as u8,
        Arg::Fill => {
            fields.fill = match fields.fill {
                Fill::Tag => Fill::Byte(dice.pick(&[0xaa, 0x55, 0])),
                Fill::Byte(_) => Fill::Tag,
            }
        }
        Arg::Sync => {
            fields.sync = match fields.sync {
                Sync::None => Sync::Data,
                Sync::Data => Sync::None,
            }
        }
        Arg::Keep => fields.keep = !fields.keep,
        Arg::Word(_) => return false,
    }
    let changed = build(kind, &fields);
    std::mem::replace(operation, changed.clone()) != changed
}

/// A number near a number: the next blocks and sectors, or a boundary.
fn neighbour(value: u64, dice: &mut Dice) -> u64 {
    let down = value - value % BLOCK_BYTES;
    let near = match dice.below(10) {
        0 => value.saturating_sub(BLOCK_BYTES),
        1 => value + BLOCK_BYTES,
        2 => value.saturating_sub(SECTOR_BYTES),
        3 => value + SECTOR_BYTES,
        4 => down,
        5 => down + BLOCK_BYTES,
        6 => value.saturating_sub(1),
        7 => value / 2,
        8 => 0,
        _ => u64::from(dice.below(limits::DRAWN_BLOCKS_HOT + 1)) * BLOCK_BYTES,
    };
    near.min(limits::DRAWN_FILE_BYTES_MAX)
}

/// Makes another operation of the same arguments: a write becomes direct, a punch a zeroing.
fn change_kind(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(slot) = any_slot(program, dice) else {
        return false;
    };
    let Some(operation) = operation_mut(program, slot) else {
        return false;
    };
    let (old, fields) = split(operation);
    let operands = |kind: Kind| {
        let shape = kind.shape();
        let operands = [Arg::Path, Arg::Target, Arg::Map, Arg::Len, Arg::Node];
        (kind.is_of_nodes(), operands.map(|arg| shape.has(arg)))
    };
    let alike: Vec<Kind> =
        Kind::all().filter(|&kind| kind != old && operands(kind) == operands(old)).collect();
    if alike.is_empty() {
        return false;
    }
    *operation = build(dice.pick(&alike), &fields);
    true
}

/// Replaces one name by another wherever it stands, so that operations on two files meet on one.
fn rename(program: &mut Program, mask: &SwarmMask, dice: &mut Dice) -> bool {
    let from = PathId(dice.below(u32::from(mask.paths).max(1)) as u8);
    let to = PathId(dice.below(u32::from(mask.paths).max(1)) as u8);
    let tasks = program.tasks.iter_mut().flat_map(|task| &mut task.ops);
    for operation in tasks {
        let (kind, mut fields) = split(operation);
        for path in [&mut fields.path, &mut fields.target] {
            if *path == from {
                *path = to;
            }
        }
        *operation = build(kind, &fields);
    }
    from != to
}

fn truncate_tail(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(Slot::Task { task, index }) = any_slot(program, dice) else {
        return false;
    };
    while program.remove_operation(Slot::Task { task, index }).is_some() {}
    true
}

/// Splits a task in two that run concurrently, or removes an empty one.
fn add_task(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    if program.tasks.iter().any(|task| task.ops.is_empty()) {
        program.tasks.retain(|task| !task.ops.is_empty());
        return true;
    }
    let free = words::TASKS.iter().find(|name| program.tasks.iter().all(|t| t.name != **name));
    let Some(name) = free else { return false };
    if program.tasks.len() >= limits::TASKS_MAX {
        return false;
    }
    let ops = match program.tasks.len() as u32 {
        0 => Vec::new(),
        count => {
            let task = &mut program.tasks[dice.below(count) as usize];
            let half = task.ops.len() / 2;
            task.ops.split_off(half)
        }
    };
    program.tasks.push(Task { name: (*name).to_owned(), ops });
    true
}

fn flip_knob(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let knob = &KNOBS[dice.below(KNOBS.len() as u32) as usize];
    if knob.group == Group::Machine && dice.chance(3, 4) {
        program.machine.seed = dice.bits() >> 40;
        return true;
    }
    let value = knob.values.drawn(dice.below(knob.values.drawn_count()));
    let old = (knob.get)(program);
    (knob.set)(program, value);
    old != value
}

fn change_choices(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let choices = &mut program.choices;
    let len = choices.len() as u32;
    let at = dice.below(len.max(1)) as usize;
    match dice.below(6) {
        0 | 1 if len < limits::DRAWN_CHOICES_MAX as u32 => {
            for _ in 0..dice.pick(&[1, 1, 4, 16]) {
                choices.insert(at, dice.below(256) as u8);
            }
        }
        _ if len == 0 => return false,
        2 => {
            let end = (at + dice.pick(&[1usize, 1, 4, 16])).min(choices.len());
            choices.drain(at..end);
        }
        3 => choices.truncate(at),
        4 => choices[at] = choices[at].wrapping_add(dice.pick(&[1, 2, 255, 254])),
        _ => choices[at] = dice.below(256) as u8,
    }
    true
}

/// Changes a recorded schedule: one preemption more, less, or elsewhere.
fn change_schedule(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(schedule) = &mut program.schedule else {
        return false;
    };
    if schedule.moves.is_empty() || dice.chance(1, 8) {
        program.schedule = None;
        return true;
    }
    let at = dice.below(schedule.moves.len() as u32) as usize;
    match (dice.below(4), &mut schedule.moves[at]) {
        (0, _) => schedule.moves.truncate(at),
        (1, Move::Run { who, steps }) if *steps > 1 => {
            // The run is cut in two with another actor's step between.
            let first = 1 + dice.below(*steps - 1);
            let second = Move::Run { who: who.clone(), steps: *steps - first };
            *steps = first;
            let other = dice.below(program.tasks.len().max(1) as u32) as usize;
            let who = program.tasks.get(other).map_or("flusher", |task| task.name.as_str());
            let between = Move::Run { who: who.to_owned(), steps: 1 + dice.below(8) };
            schedule.moves.splice(at + 1..at + 1, [between, second]);
        }
        (_, Move::Run { steps, .. }) => *steps = steps.saturating_add(dice.below(4)).max(2) - 1,
        (_, Move::Choose { n, chosen, .. }) => *chosen = dice.below((*n).max(1)),
        (_, Move::Complete { .. }) => {
            schedule.moves.remove(at);
        }
    }
    true
}

fn change_cut(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(cut) = &mut program.cut else {
        return false;
    };
    let near = |moment: u64, dice: &mut Dice| match dice.below(4) {
        0 => moment.saturating_sub(1),
        1 => moment.saturating_add(1),
        2 => moment / 2,
        _ => moment.saturating_add(u64::from(dice.below(16))),
    };
    let count = cut.kept.len() as u32;
    match dice.below(6) {
        0 => program.cut = None,
        1 => cut.rest = if cut.rest == Rest::Lost { Rest::Kept } else { Rest::Lost },
        2 if count > 0 => {
            cut.kept.remove(dice.below(count) as usize);
        }
        3 if count > 0 => {
            let block = &mut cut.kept[dice.below(count) as usize];
            block.version = if block.version == 0 { 1 + dice.below(3) } else { 0 };
        }
        4 if count > 0 => {
            let block = &mut cut.kept[dice.below(count) as usize];
            block.sectors = match block.sectors {
                Some(_) => None,
                None => Some(dice.pick(&[0x01, 0x0f, 0x7f, 0xfe, 0xf0])),
            };
        }
        _ => cut.moment = near(cut.moment, dice),
    }
    true
}

fn change_fault(program: &mut Program, _: &SwarmMask, dice: &mut Dice) -> bool {
    let Some(fault) = program.faults.first_mut() else {
        return false;
    };
    if dice.chance(1, 4) {
        program.faults.clear();
        return true;
    }
    let old = std::mem::replace(&mut fault.nth, 1 + dice.below(40));
    old != fault.nth
}
