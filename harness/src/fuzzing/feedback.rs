//! Features of an execution beyond the code that it covers: which accesses of different tasks met,
//! and which classes of states were there. Coarse on purpose: a fine hash of the state makes a
//! fuzzer keep everything and find less.
//!
//! It promises that features are functions of the execution alone, numbered equally in every build
//! and on every machine. It must never know which features are good.

use crate::execution::Executor;
use crate::program::{Program, syntax};
use crate::session::Shown;
use crate::target::PowerTarget;
use machine::disk::{Logged, Op, Outcome};
use machine::{Access, Actor, Event, Site, Step, StepKind, TASKS_MAX};
use std::fmt;

/// Features of interleavings: pairs of accesses of different tasks to one object, by what each
/// task was doing, the kind of the object, and how it was accessed.
pub const INTERLEAVINGS: usize = 4096;

/// Features of states: neighbouring operations, requests in the order of the device, blocks that
/// were pending, and how many crash states that made.
pub const STATES: usize = 2048;

/// All features.
pub const FEATURES: usize = INTERLEAVINGS + STATES;

/// Objects whose last access is remembered; two that fall together forget each other.
const OBJECTS: usize = 4096;

// The regions of the state features.
const BIGRAMS: (usize, usize) = (INTERLEAVINGS, 1024);
const REQUESTS: (usize, usize) = (BIGRAMS.0 + BIGRAMS.1, 512);
const PENDING: (usize, usize) = (REQUESTS.0 + REQUESTS.1, 256);
const CRASHES: (usize, usize) = (PENDING.0 + PENDING.1, 256);
const _: () = assert!(CRASHES.0 + CRASHES.1 == FEATURES);

/// The features seen so far, and what it takes to find them.
#[derive(Clone)]
pub struct Seen {
    bits: Box<[u64; FEATURES / 64]>,
    watch: Watch,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { bits: Box::new([0; FEATURES / 64]), watch: Watch::default() }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pairs, classes) = (self.interleaving_pairs(), self.state_classes());
        write!(f, "Seen({pairs} interleaving pairs, {classes} state classes)")
    }
}

impl Seen {
    /// Adds the features of the last execution of `executor`.
    pub fn collect(
        &mut self,
        executor: &Executor<impl PowerTarget>,
        program: &Program,
        shown: &Shown,
    ) {
        self.collect_with(executor, program, shown, |_| {});
    }

    /// Adds the features of the last execution of `executor`, and names each to `show`, maybe more
    /// than once.
    pub fn collect_with(
        &mut self,
        executor: &Executor<impl PowerTarget>,
        program: &Program,
        shown: &Shown,
        mut show: impl FnMut(u16),
    ) {
        let bits = &mut self.bits;
        let mut hit = |feature: usize| {
            debug_assert!(feature < FEATURES);
            bits[feature / 64] |= 1 << (feature % 64);
            show(feature as u16);
        };
        self.watch.interleavings(&executor.machine().trace(), &mut hit);
        operations(program, &mut hit);
        requests(executor.machine().disk().log().requests(), &mut hit);
        crashes(shown, &mut hit);
    }

    /// Adds the features that another has seen.
    pub fn merge(&mut self, other: &Seen) {
        for (mine, theirs) in self.bits.iter_mut().zip(other.bits.iter()) {
            *mine |= theirs;
        }
    }

    /// Interleaving features seen.
    pub fn interleaving_pairs(&self) -> u32 {
        self.bits[..INTERLEAVINGS / 64].iter().map(|word| word.count_ones()).sum()
    }

    /// State features seen.
    pub fn state_classes(&self) -> u32 {
        self.bits[INTERLEAVINGS / 64..].iter().map(|word| word.count_ones()).sum()
    }
}

/// The last access to an object.
#[derive(Clone, Copy, Default)]
struct Last {
    round: u32,
    object: u64,
    task: u8,
    path: u32,
    access: u8,
}

/// Finds which accesses met.
#[derive(Clone)]
struct Watch {
    round: u32,
    last: Vec<Last>,
    /// The path of the engine that each task is on.
    paths: [u32; TASKS_MAX],
}

impl Default for Watch {
    fn default() -> Self {
        Watch { round: 0, last: vec![Last::default(); OBJECTS], paths: [0; TASKS_MAX] }
    }
}

impl Watch {
    /// The pairs of consecutive accesses of different tasks to one object whose order matters.
    fn interleavings(&mut self, trace: &[Step], hit: &mut impl FnMut(usize)) {
        self.round = self.round.wrapping_add(1);
        self.paths = [0; TASKS_MAX];
        for step in trace {
            let (StepKind::Event(event), Actor::Task(task)) = (step.what, step.actor) else {
                continue;
            };
            let task = task.0;
            let path = &mut self.paths[usize::from(task)];
            *path = path_of(event.site).unwrap_or(*path);
            if event.object.kind == 0 {
                continue;
            }
            let now = Last {
                round: self.round,
                object: object_key(&event),
                task,
                path: *path,
                access: event.access as u8,
            };
            let slot = &mut self.last[(now.object % OBJECTS as u64) as usize];
            let before = std::mem::replace(slot, now);
            let same = before.round == now.round && before.object == now.object;
            if same && before.task != now.task && matters(before.access, now.access) {
                let doing = u64::from(before.path) << 32 | u64::from(now.path);
                let how = u64::from(before.access) << 4 | u64::from(now.access);
                let kind = u64::from(event.object.kind);
                hit(place(mix(doing) ^ (kind << 8 | how), (0, INTERLEAVINGS)));
            }
        }
    }
}

/// Whether the order of two accesses can matter.
fn matters(first: u8, second: u8) -> bool {
    let reads = |access| access == Access::Read as u8 || access == Access::Yield as u8;
    !(reads(first) && reads(second))
}

/// The path that a site is on: its name up to the dot. Sites of locks and requests are on whatever
/// path the task was.
fn path_of(site: &Site) -> Option<u32> {
    const NONE: [u32; 3] = [hash_name("lock"), hash_name("io"), hash_name("task")];
    let path = site.path_hash();
    (!NONE.contains(&path)).then_some(path)
}

fn object_key(event: &Event) -> u64 {
    let object = event.object;
    mix(mix(object.a ^ u64::from(object.kind) << 56) ^ object.b)
}

/// Neighbouring operations of one task.
fn operations(program: &Program, hit: &mut impl FnMut(usize)) {
    for task in &program.tasks {
        let mut before = u64::MAX;
        for operation in &task.ops {
            let kind = syntax::kind(operation) as u64;
            hit(place(mix(before << 8 | kind), BIGRAMS));
            before = kind;
        }
    }
}

/// Neighbouring requests by what they carry, those that failed, and how many blocks were pending
/// when a flush was asked for.
fn requests(log: &[Logged], hit: &mut impl FnMut(usize)) {
    let mut before = 0;
    let mut pending: u64 = 0;
    for logged in log {
        let op = logged.request.op();
        if op == Op::Read && logged.succeeded() {
            continue;
        }
        let failed = matches!(logged.outcome, Outcome::Failed { .. });
        let what = u64::from(hash_name(logged.note.what)) << 8 | (op as u64) << 1 | failed as u64;
        hit(place(mix(before) ^ what, REQUESTS));
        before = what;
        match op {
            Op::Write => pending += logged.request.count(),
            Op::Flush => {
                hit(place(mix(what) ^ bucket(pending), PENDING));
                pending = 0;
            }
            Op::Read | Op::Discard => {}
        }
    }
    hit(place(mix(u64::MAX) ^ bucket(pending), PENDING));
}

/// How much the cuts had to offer.
fn crashes(shown: &Shown, hit: &mut impl FnMut(usize)) {
    let totals = &shown.totals;
    let counts = [
        totals.crash_states,
        totals.recoveries,
        totals.cuts - totals.exhausted,
        shown.executed.decisions,
        u64::from(shown.divergences),
        u64::from(shown.finding.is_some()),
    ];
    for (which, count) in counts.into_iter().enumerate() {
        hit(CRASHES.0 + which * 32 + bucket(count) as usize);
    }
}

/// Powers of two, from 0 to 31.
fn bucket(count: u64) -> u64 {
    u64::from(u64::BITS - count.leading_zeros()).min(31)
}

/// A feature of a region.
fn place(hash: u64, (first, len): (usize, usize)) -> usize {
    first + (mix(hash) % len as u64) as usize
}

/// Spreads the bits (the finalizer of SplitMix64); frozen, as corpora are kept by these numbers.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
const fn hash_name(name: &'static str) -> u32 {
    Site::new(name).hash()
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::{Moment, Object, TaskId};

    static WRITE: Site = Site::new("write.copy");
    static FSYNC: Site = Site::new("fsync.collect");
    static LOCK: Site = Site::new("lock.acquire");

    fn step(task: u8, site: &'static Site, a: u64, access: Access) -> Step {
        let event = Event { site, object: Object::new(3, a, 0), access };
        Step { moment: Moment(1), actor: Actor::Task(TaskId(task)), what: StepKind::Event(event) }
    }

    fn pairs(trace: &[Step]) -> Vec<usize> {
        let mut found = Vec::new();
        Watch::default().interleavings(trace, &mut |feature| found.push(feature));
        found
    }

    #[test]
    fn conflicting_accesses_of_different_tasks_meet() {
        let (read, write) = (Access::Read, Access::Write);
        let trace = [step(0, &WRITE, 7, write), step(1, &FSYNC, 7, read)];
        let there = pairs(&trace);
        assert_eq!(there.len(), 1);
        let back = [step(0, &FSYNC, 7, read), step(1, &WRITE, 7, write)];
        assert_ne!(pairs(&back), there, "the order is what counts");
        let swapped = [step(1, &WRITE, 7, write), step(0, &FSYNC, 7, read)];
        assert_eq!(pairs(&swapped), there, "the numbers of the tasks do not");
        assert!(pairs(&[step(0, &WRITE, 7, read), step(1, &FSYNC, 7, read)]).is_empty());
        assert!(pairs(&[step(0, &WRITE, 7, write), step(1, &FSYNC, 8, write)]).is_empty());
        assert!(pairs(&[step(0, &WRITE, 7, write), step(0, &FSYNC, 7, write)]).is_empty());
    }

    #[test]
    fn locks_belong_to_the_path_that_takes_them() {
        let take = |path| [step(0, path, 1, Access::Write), step(0, &LOCK, 7, Access::Acquire)];
        let other = step(1, &FSYNC, 7, Access::Write);
        let by_write = pairs(&[take(&WRITE)[0], take(&WRITE)[1], other]);
        let by_fsync = pairs(&[take(&FSYNC)[0], take(&FSYNC)[1], other]);
        assert!(by_write.len() == 1 && by_fsync.len() == 1 && by_write != by_fsync);
    }

    #[test]
    fn an_execution_forgets_the_one_before() {
        let mut watch = Watch::default();
        let mut found = 0;
        let write = [step(0, &WRITE, 7, Access::Write)];
        watch.interleavings(&write, &mut |_| found += 1);
        watch.interleavings(&[step(1, &WRITE, 7, Access::Write)], &mut |_| found += 1);
        assert_eq!(found, 0);
    }

    #[test]
    fn merging_is_a_union_and_regions_are_apart() {
        let (mut one, mut two) = (Seen::default(), Seen::default());
        one.bits[0] = 0b11;
        two.bits[0] = 0b110;
        two.bits[INTERLEAVINGS / 64] = 1;
        one.merge(&two);
        assert_eq!((one.interleaving_pairs(), one.state_classes()), (3, 1));
        assert_eq!([0, 1, 2, 3, 4].map(bucket), [0, 1, 2, 2, 3]);
        assert_eq!(bucket(u64::MAX), 31);
        for hash in 0..1000 {
            let feature = place(hash, REQUESTS);
            assert!((REQUESTS.0..PENDING.0).contains(&feature));
        }
    }
}
