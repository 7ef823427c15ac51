//! Whether two minimized findings are one bug: their programs differ in numbers and options alone,
//! or a chain of programs leads from one to the other, each differs from the next in one respect,
//! and all of them show the violation.
//!
//! One bug may have several smallest programs, between which no change leads that is always for the
//! better; what lies between those of two different bugs mostly passes. Promises that every program
//! of a chain was run and showed the same, and that the answer depends on the two findings and the
//! target alone. It is evidence, not a proof: two bugs may be one change apart. It must never know
//! which defect is on.

use super::changes::one_change;
use super::{Effort, SMALL_OPERATIONS_MAX, Search, Thoroughness};
use crate::finding::Finding;
use crate::program::options::{Group, KNOBS};
use crate::program::syntax::{Kind, split};
use crate::program::{Program, Slot, Task};
use crate::session::Session;
use crate::target::PowerTarget;
use oracle::operation::{self, BLOCK_BYTES, Operation};

/// Whether two minimized findings are one bug, as far as a chain of programs can tell; `progress`
/// is told of the executions made.
pub fn meet(
    session: &mut Session<impl PowerTarget>,
    one: &Finding,
    other: &Finding,
    effort: Effort,
    progress: &mut dyn FnMut(u32),
) -> bool {
    let (from, to) = (&one.program, &other.program);
    let is_comparable = |program: &Program| {
        program.after.is_empty() && program.operation_count() <= SMALL_OPERATIONS_MAX
    };
    if one.wrong.grievance() != other.wrong.grievance() || from.defects != to.defects {
        return false;
    }
    if distance(from, to) == 0 && from.after == to.after {
        return true;
    }
    if ![from, to].into_iter().all(is_comparable) {
        return false;
    }
    session.look_for(Some(&one.wrong.key()));
    let mut search = Search::new(session, one, effort, progress);
    // What was found earlier may be repaired by now.
    let shown = search.try_schedule(to) || search.try_program(to, Thoroughness::Explored);
    let met = shown && (kinds(from) == kinds(to) || search.lead_to_one(from, to));
    session.look_for(None);
    met
}

impl<T: PowerTarget> Search<'_, T> {
    /// Whether a chain leads from one of two programs to the other. What is added to a small one
    /// rarely hides what it shows, so that one comes first.
    fn lead_to_one(&mut self, one: &Program, other: &Program) -> bool {
        let (small, large) = match one.operation_count() <= other.operation_count() {
            true => (one, other),
            false => (other, one),
        };
        self.executions_max = self.executions.saturating_add(self.effort.executions);
        let (met, mut around) = self.lead(small, large, std::slice::from_ref(large));
        around.push(small.clone());
        self.executions_max = self.executions.saturating_add(self.effort.executions);
        met || self.lead(large, small, &around).0
    }

    /// Looks for a chain towards a program, to one of some that a chain leads to; tells if there is
    /// one, and which programs showed the violation.
    fn lead(&mut self, from: &Program, to: &Program, ends: &[Program]) -> (bool, Vec<Program>) {
        let operations_max = from.operation_count().max(to.operation_count());
        let may_replace = self.best.wrong.names_cause();
        let (mut open, mut shown) = (vec![from.clone()], Vec::new());
        while let Some(program) = open.pop() {
            let closer = closer::<T>(&program, to, operations_max, may_replace);
            let is_end = |it: &Program| ends.iter().any(|end| distance(it, end) == 0);
            if closer.iter().any(|(_, candidate)| is_end(candidate)) {
                return (true, shown);
            }
            let mut goes_on = |how| closer.iter().any(|(_, it)| self.try_program(it, how));
            if goes_on(Thoroughness::Random) || goes_on(Thoroughness::Explored) {
                let next = self.best.program.clone();
                shown.push(next.clone());
                open.extend([program, next]);
            }
        }
        (false, shown)
    }
}

/// What one change makes of a program that is closer to another one, the closest first.
///
/// Nothing grows beyond the larger of two: it would show both bugs, and lead to either. And unless
/// what is wrong says why, no operation makes place for one that is for something else.
fn closer<T: PowerTarget>(
    program: &Program,
    to: &Program,
    operations_max: usize,
    may_replace: bool,
) -> Vec<(usize, Program)> {
    let now = distance(program, to);
    let repertoire = T::repertoire();
    let mut changed = one_change(program);
    changed.extend(with_options_of(program, to));
    changed.extend(with_operations_of(program, to));
    let mut closer: Vec<(usize, Program)> = Vec::new();
    for mut candidate in changed {
        candidate.fixup();
        let distance = distance(&candidate, to);
        let fits = candidate.operation_count() <= operations_max
            && (may_replace || !replaces(program, &candidate));
        if fits && distance < now && repertoire.lacks(&candidate).is_none() {
            closer.push((distance, candidate));
        }
    }
    let text = |program: &Program| program.to_string();
    closer.sort_by_cached_key(|(distance, program)| (*distance, text(program)));
    closer.dedup();
    closer
}

/// What an operation is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// To have names.
    Name,
    /// To give a file another content.
    Change,
    /// To give it another shape: size, holes, space.
    Shape,
    /// To look at it.
    Look,
    /// To share what it has.
    Share,
    /// To make it durable, or to be on the way there.
    Keep,
    /// To have less in memory.
    Forget,
    /// To have a layout, or give it back.
    Lease,
    /// To make others possible.
    Serve,
}

/// What an operation is for: more than one thing, some of them.
fn purposes(operation: &Operation) -> impl Iterator<Item = Purpose> {
    use Kind::*;
    let (kind, fields) = split(operation);
    let (first, second) = match kind {
        Create | Unlink => (Purpose::Name, None),
        Write | Append | DirectWrite | AsyncWrite | Store | LayoutWrite | NodeModify | NodeNew => {
            (Purpose::Change, None)
        }
        WriteFrom | DirectWriteFrom => (Purpose::Change, Some(Purpose::Look)),
        ReadInto | DirectReadInto => (Purpose::Look, Some(Purpose::Change)),
        Truncate | Fallocate => (Purpose::Shape, Some(Purpose::Change)),
        Punch | ZeroRange => (Purpose::Shape, None),
        Read | DirectRead | AsyncRead | Load | Holes | Stat | List | Readahead | NodeRead
        | NodeReadahead => (Purpose::Look, None),
        Clone | Dedupe => (Purpose::Share, None),
        Msync | Fsync | Fdatasync | FsyncRange | Sync | Writeback | Commit | NodeWrite => {
            (Purpose::Keep, None)
        }
        Reclaim | NodeReclaim => (Purpose::Forget, None),
        Layout => (Purpose::Lease, None),
        Mmap | Munmap | Reap => (Purpose::Serve, None),
    };
    // What is written of a block needs the rest of it.
    let is_ragged = !(fields.offset | fields.len).is_multiple_of(BLOCK_BYTES);
    let looks = first == Purpose::Change && second.is_none() && is_ragged;
    let keeps = fields.sync != operation::Sync::None;
    let more = [(looks, Purpose::Look), (keeps, Purpose::Keep)];
    let more = more.into_iter().filter_map(|(is_so, purpose)| is_so.then_some(purpose));
    [Some(first), second].into_iter().flatten().chain(more)
}

/// Whether an operation made place for one that is for something else: then both programs may show
/// the same, and not for the same reason.
fn replaces(program: &Program, changed: &Program) -> bool {
    let sorted = |program: &Program| {
        let all = program.operations().flat_map(|(.., operation)| purposes(operation));
        let mut all: Vec<Purpose> = all.filter(|it| *it != Purpose::Serve).collect();
        all.sort_unstable();
        all
    };
    let (before, after) = (sorted(program), sorted(changed));
    let has_all = |some: &[Purpose], all: &[Purpose]| {
        let mut all = all.iter();
        some.iter().all(|purpose| all.any(|other| other == purpose))
    };
    !has_all(&before, &after) && !has_all(&after, &before)
}

/// With one option as another program has it, or with its failures.
fn with_options_of(program: &Program, to: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    for knob in KNOBS.iter().filter(|knob| knob.group != Group::Machine) {
        let mut candidate = program.clone();
        (knob.set)(&mut candidate, (knob.get)(to));
        changed.push(candidate);
    }
    changed.push(Program { faults: to.faults.clone(), ..program.clone() });
    changed
}

/// With one operation as another program has it, or none, or one more.
fn with_operations_of(program: &Program, to: &Program) -> Vec<Program> {
    let mut changed = Vec::new();
    let lists = |program: &Program| -> Vec<Slot> {
        let setup = (0..=program.setup.len()).map(Slot::Setup);
        let tasks =
            program.tasks.iter().enumerate().flat_map(|(task, it)| {
                (0..=it.ops.len()).map(move |index| Slot::Task { task, index })
            });
        setup.chain(tasks).collect()
    };
    let operations: Vec<&Operation> = to.operations().map(|(.., operation)| operation).collect();
    for slot in lists(program) {
        let mut fewer = program.clone();
        let removed = fewer.remove_operation(slot);
        for operation in &operations {
            let mut more = program.clone();
            more.insert_operation(slot, (*operation).clone());
            changed.push(more);
            if removed.is_some() {
                let mut other = fewer.clone();
                other.insert_operation(slot, (*operation).clone());
                changed.push(other);
            }
        }
        changed.extend(removed.map(|_| fewer));
    }
    for operation in operations {
        let mut more = program.clone();
        more.tasks.push(Task { name: String::new(), ops: vec![operation.clone()] });
        changed.push(more);
    }
    changed
}

/// The kinds of operation of the setup, and of each task, whichever comes first: programs that are
/// alike in these, and show the same, differ in numbers and options alone.
fn kinds(program: &Program) -> (Vec<Kind>, Vec<Vec<Kind>>) {
    let of = |ops: &[Operation]| ops.iter().map(|it| split(it).0).collect::<Vec<Kind>>();
    let mut tasks: Vec<Vec<Kind>> = program.tasks.iter().map(|task| of(&task.ops)).collect();
    tasks.sort();
    (of(&program.setup), tasks)
}

/// What it costs to have an operation more or less, or one of another kind.
const OTHER_KIND: usize = 8;
/// What it costs at most to give an operation other arguments.
const OTHER_ARGUMENTS_MAX: usize = 6;

/// In how much two programs differ: options, failures, and the operations of each task, whichever
/// task is taken for which.
fn distance(one: &Program, other: &Program) -> usize {
    let knobs = KNOBS
        .iter()
        .filter(|knob| knob.group != Group::Machine && (knob.get)(one) != (knob.get)(other));
    let faults = usize::from(one.faults != other.faults);
    let (one_tasks, other_tasks) = (&one.tasks, &other.tasks);
    let mut free: Vec<&[Operation]> = other_tasks.iter().map(|task| &task.ops[..]).collect();
    free.resize(one_tasks.len().max(other_tasks.len()), &[]);
    let mut tasks: Vec<&[Operation]> = one_tasks.iter().map(|task| &task.ops[..]).collect();
    tasks.resize(free.len(), &[]);
    let numbers = one_tasks.len().abs_diff(other_tasks.len());
    knobs.count() + faults + numbers + changes(&one.setup, &other.setup) + matched(&tasks, &free)
}

/// The fewest changes from some tasks to others.
fn matched(tasks: &[&[Operation]], others: &[&[Operation]]) -> usize {
    let Some((first, tasks)) = tasks.split_first() else { return 0 };
    let with = |index: usize| {
        let mut others = others.to_vec();
        changes(first, others.remove(index)) + matched(tasks, &others)
    };
    (0..others.len()).map(with).min().unwrap_or(0)
}

/// The edit distance of two lists of operations.
fn changes(one: &[Operation], other: &[Operation]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).map(|count| count * OTHER_KIND).collect();
    for operation in one {
        let mut diagonal = row[0];
        row[0] += OTHER_KIND;
        for (index, wanted) in other.iter().enumerate() {
            let same = diagonal + cost(operation, wanted);
            diagonal = row[index + 1];
            row[index + 1] = same.min(row[index] + OTHER_KIND).min(diagonal + OTHER_KIND);
        }
    }
    row[other.len()]
}

/// What it costs to make one operation of another: less, the nearer its numbers are.
fn cost(one: &Operation, other: &Operation) -> usize {
    let ((kind, from), (other_kind, to)) = (split(one), split(other));
    match one == other {
        true => 0,
        false if kind != other_kind => OTHER_KIND,
        false => {
            let blocks = |from: u64, to: u64| from.abs_diff(to).div_ceil(BLOCK_BYTES) as usize;
            let numbers = [(from.offset, to.offset), (from.len, to.len), (from.other, to.other)];
            let far: usize = numbers.into_iter().map(|(from, to)| blocks(from, to)).sum();
            (1 + far).min(OTHER_ARGUMENTS_MAX)
        }
    }
}
