//! The canonical program: what a small program may become in one change and still show the same,
//! the plainest first, until no change leads further down.
//!
//! Findings of one bug begin as different programs. Removing what is not needed leaves them with
//! other kinds of operation, other numbers and another order; here they meet, so that a
//! [signature](crate::signature) can be about the program. Every change leads down in one order of
//! all programs ([`plainness`]), so this ends.

use super::changes::{
    Change, MIDDLE, TO_PLAINER, in_less_space, in_plainer_order, waiting, with_fewer_and_others,
};
use super::simpler::{extras, rank};
use super::{SMALL_OPERATIONS_MAX, Search, Thoroughness};
use crate::program::options::{Group, KNOBS, WORKERS};
use crate::program::syntax::{Arg, Fields, Kind, split};
use crate::program::{MountKnobs, Move, Program, default_names};
use crate::target::PowerTarget;
use oracle::operation::BLOCK_BYTES;

impl<T: PowerTarget> Search<'_, T> {
    /// The plainest program that small changes lead to. What `after` demands of the operations that
    /// are there means nothing of others: with it, a program stays as it is. Tells if it became
    /// another.
    pub(super) fn canonical_program(&mut self, how: Thoroughness) -> bool {
        if !self.best.program.after.is_empty() {
            return false;
        }
        let first = self.size();
        while self.best.program.operation_count() <= SMALL_OPERATIONS_MAX && !self.spent() {
            let names_cause = self.best.wrong.names_cause();
            let changed = TO_PLAINER.into_iter().any(|it| self.plainer(it, how))
                || names_cause && self.plainer(with_fewer_and_others, Thoroughness::Calm)
                || self.plainer(in_less_space, Thoroughness::Explored)
                || self.plainer(in_plainer_order, Thoroughness::Explored);
            if !changed {
                break;
            }
        }
        self.rename();
        self.size() != first
    }

    /// Tries the changes that lead down; tells if one showed the same.
    fn plainer(&mut self, changes: Change, how: Thoroughness) -> bool {
        let now = plainness(&self.best.program);
        let repertoire = T::repertoire();
        let (image, mount) = (self.best.program.image, self.best.program.mount);
        let candidates = changes(&self.best.program).into_iter().map(|mut candidate| {
            if !repertoire.knobs {
                (candidate.image, candidate.mount) = (image, mount);
            }
            candidate.fixup();
            (plainness(&candidate), candidate)
        });
        let leads_down = |(plainness, candidate): &(_, Program)| {
            *plainness < now && repertoire.lacks(candidate).is_none()
        };
        let mut candidates: Vec<_> = candidates.filter(leads_down).collect();
        candidates.sort_by(|(one, _), (other, _)| one.cmp(other));
        candidates.iter().any(|(_, candidate)| self.try_program(candidate, how))
    }

    /// The first names for files, mappings and tasks, which mean nothing.
    fn rename(&mut self) {
        let mut candidate = self.best.program.clone();
        let (paths, maps, tasks) = default_names();
        let first = |names: &[&str], count| -> Vec<String> {
            names.iter().take(count).map(ToString::to_string).collect()
        };
        candidate.paths = first(paths, candidate.paths.len());
        candidate.maps = first(maps, candidate.maps.len());
        let names = first(tasks, candidate.tasks.len());
        if let Some(schedule) = &mut candidate.schedule {
            let old: Vec<&String> = candidate.tasks.iter().map(|task| &task.name).collect();
            for step in &mut schedule.moves {
                let Move::Run { who, .. } = step else { continue };
                if let Some(index) = old.iter().position(|name| *name == who) {
                    who.clone_from(&names[index]);
                }
            }
        }
        for (task, name) in candidate.tasks.iter_mut().zip(names) {
            task.name = name;
        }
        candidate.fixup();
        if candidate != self.best.program {
            self.try_schedule(&candidate);
        }
    }
}

/// The order of programs: fewest operations, tasks and knobs; the most usual kinds of operation, in
/// the most usual order; then the plainest numbers.
pub(super) fn plainness(program: &Program) -> impl Ord + use<> {
    let operations = || program.operations().map(|(_, _, operation)| split(operation));
    let ranks: Vec<usize> = operations().map(|(kind, _)| rank(kind)).collect();
    let unusual = |knob: &&crate::program::options::Knob| {
        let is_worker = WORKERS.contains(&knob.key);
        knob.group != Group::Machine && !is_worker && (knob.get)(program) != knob.default
    };
    let MountKnobs { flusher, committer, reclaimer, .. } = program.mount;
    let workers = [flusher, committer, reclaimer].iter().filter(|worker| **worker > 0).count();
    let nth: u32 = program.faults.iter().map(|fault| fault.nth).sum();
    let of_operations = program.faults.iter().filter(|fault| fault.op.is_some()).count();
    let mut numbers = Numbers::default();
    operations().for_each(|(kind, fields)| numbers.add(kind, &fields));
    // A length of 0 that means another is an extra, too.
    let to_end = |kind: Kind, fields: &Fields| kind.shape().has(Arg::Target) && fields.len == 0;
    let extras = operations().map(|(kind, it)| extras(&it) + u64::from(to_end(kind, &it)));
    let extras: u64 = extras.sum();
    let of_tasks = program.task_operation_count();
    // Whatever is asynchronous could be a task of its own, beside the rest.
    let in_background = operations().filter(|(kind, _)| waiting(*kind).is_some()).count();
    let concurrency = program.tasks.len() + 2 * in_background;
    let text = program.operations().map(|(.., operation)| program.operation_text(operation));
    let text: Vec<String> = text.collect();
    (
        (program.operation_count(), concurrency, program.faults.len()),
        (KNOBS.iter().filter(unusual).count(), workers, program.paths.len()),
        (nth, of_operations, extras),
        (ranks.iter().sum::<usize>(), of_tasks, numbers, ranks, text.concat()),
    )
}

/// How plain the numbers of a program are, in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers {
    /// Those inside a block, but not in its middle.
    odd: usize,
    /// Those inside a block.
    ragged: usize,
    len_blocks: u64,
    offsets: u64,
    len: u64,
}

impl Numbers {
    fn add(&mut self, kind: Kind, fields: &Fields) {
        let ends = [fields.offset, fields.offset + fields.len, fields.other];
        let inside = ends.iter().map(|end| end % BLOCK_BYTES).filter(|rest| *rest != 0);
        self.odd += inside.clone().filter(|rest| *rest != MIDDLE).count();
        self.ragged += inside.count();
        self.len += fields.len;
        self.len_blocks += fields.len.div_ceil(BLOCK_BYTES);
        self.offsets += fields.offset + fields.other;
        // The number of a node is a number, too.
        self.offsets += u64::from(fields.node.0) * u64::from(kind.is_of_nodes());
    }
}
