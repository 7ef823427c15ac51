//! Changes of a small program, each a list of programs that differ from it in one respect: some are
//! plainer, some are not, and whoever tries them picks.
//!
//! They promise nothing of what a changed program shows, and not that it is canonical:
//! [`Program::fixup`] makes it so. They must never know why a change is made.

use super::operations::{moved_to_setup, with_one_file};
use super::simpler::{in_file, mapped, simpler_fields};
use crate::program::options::{Group, KNOBS, WORKERS};
use crate::program::syntax::{Arg, Fields, Kind, build, split};
use crate::program::{FaultSpec, MountKnobs, Program, Slot, Task};
use oracle::operation::{BLOCK_BYTES, Operation, PathId, Sync};

/// Where in a block a range may end that ends in its middle.
pub(super) const MIDDLE: u64 = BLOCK_BYTES / 2;

/// One kind of change: the programs that differ in one such respect.
pub(super) type Change = fn(&Program) -> Vec<Program>;

/// The changes that may lead to something plainer, in the order in which they are tried.
pub(super) const TO_PLAINER: [Change; 9] = [
    with_fewer_operations,
    with_fewer_tasks,
    with_tasks_for_async,
    with_plainer_options,
    in_less_space,
    with_mappings_elsewhere,
    with_other_kinds,
    in_plainer_order,
    with_plainer_arguments,
];

/// The changes that lead elsewhere.
const SIDEWAYS: [Change; 3] = [with_setup_divided, in_more_space, with_durability_divided];

/// Everything that is one change.
pub(super) fn one_change(program: &Program) -> Vec<Program> {
    TO_PLAINER.iter().chain(&SIDEWAYS).flat_map(|changed| changed(program)).collect()
}

/// Without one operation, whose work another may take over with another length.
fn with_fewer_operations(program: &Program) -> Vec<Program> {
    let ends = ends(program);
    let mut changed = Vec::new();
    for slot in slots(program) {
        let mut fewer = program.clone();
        fewer.remove_operation(slot);
        for other in slots(&fewer) {
            let Some(operation) = fewer.operation_mut(other) else { continue };
            let (kind, fields) = split(operation);
            let ranges = ends.iter().filter(|end| **end > fields.offset && kind == Kind::Write);
            for end in ranges {
                let fields = Fields { len: end - fields.offset, ..fields };
                changed.push(with(&fewer, other, build(kind, &fields)));
            }
        }
        changed.extend([with_workers(&fewer), fewer]);
    }
    changed
}

/// With background workers that do as they like, which may stand for an operation or a knob.
fn with_workers(program: &Program) -> Program {
    let mut program = program.clone();
    let MountKnobs { flusher, committer, reclaimer, .. } = MountKnobs::default();
    program.mount = MountKnobs { flusher, committer, reclaimer, ..program.mount };
    program
}

/// With one worker, knob, file or fault less, or with a fault that comes earlier.
fn with_plainer_options(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for knob in KNOBS.iter().filter(|knob| knob.group != Group::Machine) {
        let now = (knob.get)(program);
        let is_worker = WORKERS.contains(&knob.key);
        let plain = if is_worker { 0 } else { knob.default };
        if now != plain {
            let mut candidate = program.clone();
            (knob.set)(&mut candidate, plain);
            if !is_worker {
                changed.push(with_workers(&candidate));
            }
            changed.push(candidate);
        }
    }
    for from in 1..program.paths.len() {
        for into in 0..from {
            changed.extend(with_joined_files(program, from, into));
        }
    }
    for index in 0..program.faults.len() {
        let mut candidate = program.clone();
        let fault = candidate.faults.remove(index);
        changed.push(candidate.clone());
        for nth in 1..fault.nth {
            candidate.faults.insert(index, FaultSpec { nth, ..fault });
            changed.push(candidate.clone());
            candidate.faults.remove(index);
        }
        candidate.faults.insert(index, FaultSpec { op: None, ..fault });
        changed.push(candidate);
    }
    changed
}

/// With one task less, or with less in it: its operations, or the first of them, in the setup.
fn with_fewer_tasks(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for task in 0..program.tasks.len() {
        let first = Slot::Task { task, index: 0 };
        let mut candidate = program.clone();
        if let Some(operation) = candidate.remove_operation(first) {
            let end = candidate.setup.len();
            candidate.insert_operation(Slot::Setup(end), operation);
        }
        changed.extend([candidate, moved_to_setup(program, task)]);
    }
    changed
}

/// With the last operation of the setup in a task: a new one, or one that is there.
fn with_setup_divided(program: &Program) -> Vec<Program> {
    let mut less = program.clone();
    let Some(last) = less.setup.pop() else { return Vec::new() };
    let mut changed = Vec::new();
    for task in 0..program.tasks.len() {
        let mut candidate = less.clone();
        candidate.tasks[task].ops.insert(0, last.clone());
        changed.push(candidate);
    }
    less.tasks.push(Task { name: String::new(), ops: vec![last] });
    changed.push(less);
    changed
}

/// The kind that does the same and returns when it is done, for one that returns before.
pub(super) fn waiting(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::AsyncWrite => Some(Kind::DirectWrite),
        Kind::AsyncRead => Some(Kind::DirectRead),
        _ => None,
    }
}

/// With a task that waits in place of an asynchronous operation, beside what came after it.
fn with_tasks_for_async(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        let Some(kind) = waiting(kind) else { continue };
        let mut candidate = program.clone();
        candidate.remove_operation(slot);
        if let Slot::Setup(index) = slot {
            let ops = candidate.setup.split_off(index);
            candidate.tasks.push(Task { name: String::new(), ops });
        }
        let ops = vec![build(kind, &fields)];
        candidate.tasks.push(Task { name: String::new(), ops });
        for task in &mut candidate.tasks {
            task.ops.retain(|operation| *operation != Operation::Reap);
        }
        candidate.tasks.retain(|task| !task.ops.is_empty());
        changed.push(candidate);
    }
    changed
}

/// With an operation of another kind, or on a plain range.
fn with_other_kinds(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        let same = match kind {
            Kind::Truncate => Fields { offset: fields.len.saturating_sub(BLOCK_BYTES), ..fields },
            _ if !kind.shape().has(Arg::Path) => in_file(program, &fields).unwrap_or(fields),
            _ => fields,
        };
        for other in Kind::all() {
            let mut arguments = vec![Fields { len: BLOCK_BYTES, ..same }, same];
            if other.shape().has(Arg::Offset) {
                let blocks = (0..3).map(|block| block * BLOCK_BYTES);
                arguments.extend(blocks.map(|offset| Fields { offset, len: BLOCK_BYTES, ..same }));
            }
            for fields in arguments {
                changed.push(with(program, slot, build(other, &fields)));
            }
        }
    }
    changed
}

/// With one operation or task less, so that nothing races, and another kind of operation in place
/// of one that is left.
pub(super) fn with_fewer_and_others(program: &Program) -> Vec<Program> {
    let mut alone = program.clone();
    (alone.mount.flusher, alone.mount.committer, alone.mount.reclaimer) = (0, 0, 0);
    let mut smaller = with_fewer_tasks(&alone);
    for slot in slots(&alone) {
        let mut fewer = alone.clone();
        fewer.remove_operation(slot);
        smaller.push(fewer);
    }
    smaller.iter().filter(|it| it.is_sequential()).flat_map(with_other_kinds).collect()
}

/// With two neighbours the other way round, or two tasks.
pub(super) fn in_plainer_order(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for index in 1..program.setup.len() {
        let mut candidate = program.clone();
        candidate.setup.swap(index - 1, index);
        changed.push(candidate);
    }
    for task in 0..program.tasks.len() {
        for index in 1..program.tasks[task].ops.len() {
            let mut candidate = program.clone();
            candidate.tasks[task].ops.swap(index - 1, index);
            changed.push(candidate);
        }
    }
    for task in 1..program.tasks.len() {
        let mut candidate = program.clone();
        candidate.tasks.swap(task - 1, task);
        changed.push(candidate);
    }
    changed
}

/// With plainer arguments of one operation.
fn with_plainer_arguments(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        let middle = |value: u64| value / BLOCK_BYTES * BLOCK_BYTES + MIDDLE;
        let mut arguments = simpler_fields(&fields);
        arguments.push(Fields { len: middle(fields.len), ..fields });
        arguments.push(Fields { offset: middle(fields.offset), ..fields });
        if kind.shape().has(Arg::Offset) {
            arguments.extend(plain_ranges().map(|(offset, len)| Fields { offset, len, ..fields }));
        }
        for fields in arguments {
            changed.push(with(program, slot, build(kind, &fields)));
        }
        for path in 0..program.paths.len() {
            let path = PathId(u8::try_from(path).expect("few files"));
            changed.push(with(program, slot, build(kind, &Fields { path, ..fields })));
            let target = path;
            changed.push(with(program, slot, build(kind, &Fields { target, ..fields })));
        }
        let (offset, other) = (fields.other, fields.offset);
        changed.push(with(program, slot, build(kind, &Fields { offset, other, ..fields })));
    }
    changed
}

/// The ranges between the first places in a file.
fn plain_ranges() -> impl Iterator<Item = (u64, u64)> {
    let ends = (0..6).map(|half| half * MIDDLE);
    ends.clone().flat_map(move |from| {
        ends.clone().filter(move |end| *end > from).map(move |end| (from, end - from))
    })
}

/// With one block less in all files, or with other numbers inside a block, in every operation.
pub(super) fn in_less_space(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    let ends = ends(program);
    let last = ends.last().copied().unwrap_or(0);
    for block in 0..last.div_ceil(BLOCK_BYTES) {
        let at = block * BLOCK_BYTES;
        changed.push(with_places(program, |_, place| match place {
            _ if place >= at + BLOCK_BYTES => place - BLOCK_BYTES,
            _ => place.min(at),
        }));
    }
    let mut rests: Vec<u64> = ends.iter().map(|end| end % BLOCK_BYTES).collect();
    rests.retain(|rest| *rest != 0);
    rests.sort_unstable();
    rests.dedup();
    for rest in rests {
        for other in [0, MIDDLE, BLOCK_BYTES] {
            changed.push(with_places(program, |_, place| match place % BLOCK_BYTES {
                it if it == rest => place - rest + other,
                _ => place,
            }));
        }
    }
    let all = |other| {
        move |_, place: u64| match place % BLOCK_BYTES {
            0 => place,
            rest => place - rest + other,
        }
    };
    changed.extend([0, MIDDLE, BLOCK_BYTES].map(|other| with_places(program, all(other))));
    changed.extend((1..last.div_ceil(BLOCK_BYTES)).map(|block| with_swapped(program, block)));
    changed.push(with_first_nodes(program));
    changed
}

/// With one block more in all files.
fn in_more_space(program: &Program) -> Vec<Program> {
    let last = ends(program).last().copied().unwrap_or(0);
    let blocks = 0..last.div_ceil(BLOCK_BYTES);
    let with_one_more = |block: u64| {
        with_places(program, |_, place| match place {
            _ if place >= block * BLOCK_BYTES => place + BLOCK_BYTES,
            _ => place,
        })
    };
    blocks.map(with_one_more).collect()
}

/// With a mapping of another part of its file, whose memory is used where it shows the same part.
fn with_mappings_elsewhere(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    let blocks = ends(program).last().map_or(0, |last| last.div_ceil(BLOCK_BYTES));
    for slot in slots(program) {
        let Some((Kind::Mmap, mapping)) = at(program, slot) else { continue };
        let starts = (0..blocks).map(|block| block * BLOCK_BYTES);
        let places =
            starts.flat_map(|start| (1..=blocks).map(move |count| (start, count * BLOCK_BYTES)));
        for (offset, len) in places {
            let other = build(Kind::Mmap, &Fields { offset, len, ..mapping });
            let mut candidate = with(program, slot, other);
            let moved = |place: u64| (mapping.offset + place).saturating_sub(offset);
            for user in slots(program) {
                let Some((kind, fields)) = at(program, user) else { continue };
                let uses = kind != Kind::Mmap && kind.shape().has(Arg::Map);
                if !uses || fields.map != mapping.map {
                    continue;
                }
                let fields = match kind.shape().has(Arg::Path) {
                    true => Fields { other: moved(fields.other), ..fields },
                    false => Fields { offset: moved(fields.offset), ..fields },
                };
                candidate = with(&candidate, user, build(kind, &fields));
            }
            changed.push(candidate);
        }
    }
    changed
}

/// With a write that is not durable when it returns, and an fsync that makes it so; the write may
/// be in the setup.
fn with_durability_divided(program: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        if fields.sync == Sync::None {
            continue;
        }
        let write = build(kind, &Fields { sync: Sync::None, ..fields });
        let fsync = build(Kind::Fsync, &fields);
        let mut alone = program.clone();
        if let Some(place) = alone.operation_mut(slot) {
            *place = fsync;
        }
        let mut both = alone.clone();
        both.insert_operation(slot, write.clone());
        changed.push(both);
        if let Slot::Task { .. } = slot {
            alone.setup.push(write);
            changed.push(alone);
        }
    }
    changed
}

/// With two neighbouring blocks the other way round, for operations on one block at most.
fn with_swapped(program: &Program, block: u64) -> Program {
    let swapped = |place: u64, len: u64| match place / BLOCK_BYTES {
        _ if len > BLOCK_BYTES => place,
        it if it == block => place - BLOCK_BYTES,
        it if it + 1 == block => place + BLOCK_BYTES,
        _ => place,
    };
    let mut changed = program.clone();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        if kind.shape().has(Arg::Path) && kind.shape().has(Arg::Offset) {
            let offset = swapped(fields.offset, fields.len);
            let other = match kind.shape().has(Arg::Target) {
                true => swapped(fields.other, fields.len),
                false => fields.other,
            };
            changed = with(&changed, slot, build(kind, &Fields { offset, other, ..fields }));
        }
    }
    changed
}

/// With one file less: what was done to it is done to another, there or behind all that is there;
/// or with the two the other way round, but for who is there first.
fn with_joined_files(program: &Program, from: usize, into: usize) -> Vec<Program> {
    let id = |index: usize| PathId(u8::try_from(index).expect("few files"));
    let (from_id, into_id) = (id(from), id(into));
    let end = ends(program).last().map_or(0, |last| last.next_multiple_of(BLOCK_BYTES));
    let behind = with_places(program, |path, place| match path == from_id {
        true => place + end,
        false => place,
    });
    let mut other = program.clone();
    for slot in slots(program) {
        let Some((kind, mut fields)) = at(program, slot) else { continue };
        for path in [&mut fields.path, &mut fields.target] {
            *path = match *path {
                it if it == from_id => into_id,
                it if it == into_id => from_id,
                it => it,
            };
        }
        if kind != Kind::Create {
            other = with(&other, slot, build(kind, &fields));
        }
    }
    vec![with_one_file(program, from, into), with_one_file(&behind, from, into), other]
}

/// With nodes numbered in the order of their first use.
fn with_first_nodes(program: &Program) -> Program {
    let mut changed = program.clone();
    let mut known = Vec::new();
    for slot in slots(program) {
        let Some((kind, mut fields)) = at(program, slot) else { continue };
        if kind.shape().has(Arg::Node) {
            if !known.contains(&fields.node) {
                known.push(fields.node);
            }
            let number = known.iter().position(|node| *node == fields.node).unwrap_or(0);
            fields.node.0 = u8::try_from(number).expect("few nodes");
            changed = with(&changed, slot, build(kind, &fields));
        }
    }
    changed
}

/// The program with every place in a file moved: where ranges begin and end, and sizes.
fn with_places(program: &Program, moved: impl Fn(PathId, u64) -> u64) -> Program {
    let mut changed = program.clone();
    for slot in slots(program) {
        let Some((kind, fields)) = at(program, slot) else { continue };
        let mut new = fields;
        let (path, base) = mapped(program, fields.map).unwrap_or((fields.path, 0));
        let range = |path, from: u64, len: u64| {
            let start = moved(path, from);
            (start, moved(path, from + len).saturating_sub(start))
        };
        if kind == Kind::Truncate || kind == Kind::Append {
            new.len = moved(fields.path, fields.len);
        } else if kind.shape().has(Arg::Path) {
            (new.offset, new.len) = range(fields.path, fields.offset, fields.len);
        } else if kind.shape().has(Arg::Map) {
            let (from, len) = range(path, base + fields.offset, fields.len);
            (new.offset, new.len) = (from.saturating_sub(moved(path, base)), len);
        }
        if kind.shape().has(Arg::Target) {
            new.other = moved(fields.target, fields.other);
        } else if kind.shape().has(Arg::Other) {
            new.other = moved(path, base + fields.other).saturating_sub(moved(path, base));
        }
        if let Some(operation) = changed.operation_mut(slot) {
            *operation = build(kind, &new);
        }
    }
    changed
}

/// Every place at which a range of a file begins or ends, sorted.
fn ends(program: &Program) -> Vec<u64> {
    let operations = program.operations().map(|(.., operation)| split(operation));
    let ranged = operations.filter(|(kind, _)| kind.shape().has(Arg::Path));
    let mut ends: Vec<u64> = ranged
        .flat_map(|(_, fields)| {
            let other = if fields.other > 0 { fields.other + fields.len } else { 0 };
            [fields.offset, fields.offset + fields.len, fields.other, other]
        })
        .collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The places of all operations but those of `after`.
pub(super) fn slots(program: &Program) -> Vec<Slot> {
    let slots = program.operations().map(|(_, slot, _)| slot);
    slots.filter(|slot| !matches!(slot, Slot::After(_))).collect()
}

fn at(program: &Program, slot: Slot) -> Option<(Kind, Fields)> {
    program.operation_at(slot).map(split)
}

fn with(program: &Program, slot: Slot, operation: Operation) -> Program {
    let mut program = program.clone();
    if let Some(place) = program.operation_mut(slot) {
        *place = operation;
    }
    program
}
