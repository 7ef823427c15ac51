//! Locks: byte ranges, readers and writers, mutual exclusion. One queue implements all three.
//!
//! A lock is a set of granted ranges and a queue of waiters. A mutex is the whole range held in
//! write mode; a reader-writer lock is the whole range in either mode. Guards own what they hold:
//! they may be kept in a structure and moved to an asynchronous IO (a *token*, races.md §7.2).
//! Release has no scheduling point: the next site of the releasing task is one.

mod core;
pub mod lockdep;

use crate::machine::{Machine, Stopped};
use crate::task::Task;
use core::{Core, Part};
use smallvec::SmallVec;
use std::panic::Location;
use std::rc::Rc;

pub use core::Guard;

/// A class of locks or of pseudo-resources, with its rank: classes are acquired in growing rank
/// (rule O-1). Rank 0 is unranked: then only the class graph is checked.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    rank: u8,
}

impl LockClass {
    /// A class of this name and rank.
    pub const fn new(name: &'static str, rank: u8) -> Self {
        LockClass { name, rank }
    }

    /// The name, as in races.md §7.1.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The rank, as in races.md §7.1.
    pub const fn rank(&self) -> u8 {
        self.rank
    }
}

/// An inclusive range of bytes or indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First.
    pub start: u64,
    /// Last.
    pub end: u64,
}

impl Range {
    /// Everything.
    pub const ALL: Range = Range { start: 0, end: u64::MAX };

    /// An inclusive range; `start` must not be beyond `end`.
    pub fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "an empty range cannot be locked");
        Range { start, end }
    }

    /// Whether two ranges share an element.
    pub const fn overlaps(&self, other: &Range) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Whether `other` lies within this range.
    pub const fn contains(&self, other: &Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// With others that read.
    Read,
    /// Alone.
    Write,
}

/// Mutual exclusion.
#[derive(Clone)]
pub struct Mutex(Rc<Core>);

impl Mutex {
    /// A free mutex; `instance` orders it within its class (rule O-2).
    pub fn new(machine: &Machine, class: &'static LockClass, instance: (u64, u64)) -> Self {
        Mutex(Core::new(machine, class, instance))
    }

    /// Acquires it; a scheduling point precedes.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn lock(&self, task: &Task) -> Result<Guard, Stopped> {
        core::acquire_one(task, &self.0, Range::ALL, Mode::Write, Location::caller())
    }

    /// Acquires it if it is free now (rule O-4: the order is not checked).
    #[track_caller]
    pub fn try_lock(&self, task: &Task) -> Option<Guard> {
        core::try_acquire(task, &self.0, Range::ALL, Mode::Write, Location::caller())
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self) -> bool {
        self.0.is_held()
    }

    /// Whether the task that runs holds it. For watchers: it leaves no footprint.
    pub fn is_held_by_runner(&self) -> bool {
        self.0.is_held_by_runner(Range::ALL, Mode::Write)
    }
}

/// Readers or one writer.
#[derive(Clone)]
pub struct RwLock(Rc<Core>);

impl RwLock {
    /// A free lock; `instance` orders it within its class (rule O-2).
    pub fn new(machine: &Machine, class: &'static LockClass, instance: (u64, u64)) -> Self {
        RwLock(Core::new(machine, class, instance))
    }

    /// Acquires it with other readers; a scheduling point precedes.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn read(&self, task: &Task) -> Result<Guard, Stopped> {
        core::acquire_one(task, &self.0, Range::ALL, Mode::Read, Location::caller())
    }

    /// Acquires it alone; a scheduling point precedes.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn write(&self, task: &Task) -> Result<Guard, Stopped> {
        core::acquire_one(task, &self.0, Range::ALL, Mode::Write, Location::caller())
    }

    /// Acquires it in a mode if that needs no waiting (rule O-4: the order is not checked).
    #[track_caller]
    pub fn try_acquire(&self, task: &Task, mode: Mode) -> Option<Guard> {
        core::try_acquire(task, &self.0, Range::ALL, mode, Location::caller())
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self) -> bool {
        self.0.is_held()
    }
}

/// A lock of byte ranges: first come, first served among those that conflict; no upgrade, no
/// recursion (races.md §7.2).
#[derive(Clone)]
pub struct RangeLock(Rc<Core>);

impl RangeLock {
    /// A free lock; `instance` orders it within its class (rule O-2).
    pub fn new(machine: &Machine, class: &'static LockClass, instance: (u64, u64)) -> Self {
        RangeLock(Core::new(machine, class, instance))
    }

    /// Acquires a range; a scheduling point precedes.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn lock(&self, task: &Task, range: Range, mode: Mode) -> Result<Guard, Stopped> {
        core::acquire_one(task, &self.0, range, mode, Location::caller())
    }

    /// Acquires a range in write mode that is known only when it is granted: `resolve` is asked
    /// again whenever the queue moves (an append: `[end of file, ∞)`). The granted range is
    /// [`Guard::range`].
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn lock_resolved(
        &self,
        task: &Task,
        resolve: Rc<dyn Fn() -> Range>,
    ) -> Result<Guard, Stopped> {
        let mut part = Part::new(&self.0, resolve(), Mode::Write);
        part.resolve = Some(resolve);
        let mut guards = core::acquire(task, smallvec::smallvec![part], Location::caller())?;
        Ok(guards.pop().expect("one part, one guard"))
    }

    /// Acquires a range beside asynchronous IO that holds it as a token: waits for tasks only, and
    /// for whoever was there before. Others wait for both.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn lock_beside_tokens(
        &self,
        task: &Task,
        range: Range,
        mode: Mode,
    ) -> Result<Guard, Stopped> {
        core::acquire_beside_tokens(task, &self.0, range, mode, Location::caller())
    }

    /// Acquires a range if that needs no waiting (rule O-4: the order is not checked).
    #[track_caller]
    pub fn try_lock(&self, task: &Task, range: Range, mode: Mode) -> Option<Guard> {
        core::try_acquire(task, &self.0, range, mode, Location::caller())
    }

    /// Acquires several ranges, of one or more locks of one class, as one element of their queues:
    /// all or nothing, so that nobody holds one while waiting for another. Overlapping ranges of
    /// one lock are merged. The guards come in the order of (instance, start).
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn lock_many(
        task: &Task,
        wanted: &[(&RangeLock, Range, Mode)],
    ) -> Result<SmallVec<[Guard; 2]>, Stopped> {
        assert!(!wanted.is_empty(), "nothing to lock");
        let mut parts: SmallVec<[Part; 2]> =
            wanted.iter().map(|(lock, range, mode)| Part::new(&lock.0, *range, *mode)).collect();
        parts.sort_by_key(|part| (part.core.instance, part.range.get().start));
        let mut merged: SmallVec<[Part; 2]> = SmallVec::new();
        for part in parts {
            match merged.last_mut() {
                Some(last) if last.absorbs(&part) => last.absorb(&part),
                _ => merged.push(part),
            }
        }
        if merged.iter().any(Part::writes) {
            merged.iter_mut().for_each(Part::queue_as_writer);
        }
        core::acquire(task, merged, Location::caller())
    }

    /// Whether any part of the range is held in a mode that conflicts with `mode`.
    pub fn conflicts(&self, range: Range, mode: Mode) -> bool {
        self.0.look();
        self.0.has_conflict(&range, mode)
    }

    /// Whether the task that runs holds all of a range, in this mode or a stronger one. For
    /// watchers: it leaves no footprint.
    pub fn is_held_by_runner(&self, range: Range, mode: Mode) -> bool {
        self.0.is_held_by_runner(range, mode)
    }

    /// Whether anybody holds any range.
    pub fn is_locked(&self) -> bool {
        self.0.is_held()
    }
}
