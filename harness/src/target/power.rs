//! What a target gives whose power can be cut: the engine of this repository, or one's own.
//!
//! It promises that execution, cuts, recovery, minimizing and reports need nothing else of a
//! target. What it must never know: programs that run, cuts, and what is allowed.
//!
//! What a target does depends on the program and on the machine alone: it is made from a program
//! ([`PowerTarget::new`]), draws what it draws from its task, and keeps nothing from one program to
//! the next. That is why a finding is a program, and replays.

use super::ordinary;
use super::{Performed, Target};
use crate::program::{ImageKnobs, Program, Repertoire};
use crate::seen::Seen;
use machine::{Machine, Stopped, Task};
use oracle::Oracle;
use oracle::operation::{OpId, Operation, PathId, TaskIndex};
use std::fmt;

/// What a target is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The execution of a program, with the background workers that its knobs ask for.
    Execution,
    /// The recovery of a crash state: nothing runs in the background, so that what is shown
    /// depends on the state alone.
    Recovery,
}

/// Why a target could not do what it must always be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    /// What tells two causes apart, and is the same on every schedule: the structure, not the
    /// place. Two findings with the same cause are the same bug.
    pub cause: String,
    /// For a reader; completes "failed to mount: …".
    pub message: String,
}

impl TargetError {
    /// An error of this cause that is told in these words.
    pub fn new(cause: impl Into<String>, message: impl Into<String>) -> TargetError {
        TargetError { cause: cause.into(), message: message.into() }
    }
}

impl From<Stopped> for TargetError {
    fn from(_: Stopped) -> Self {
        TargetError::new("stopped", "the machine stopped")
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a recovered target could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It has a name that no operation created.
    Ghost(String),
    /// It failed to do something, such as "list the names".
    Failed(&'static str, TargetError),
}

/// A target whose power can be cut.
///
/// Required is what makes an image, mounts it, and performs operations in fibres of the machine;
/// everything else is done through [`Target::perform`], as any user of the target would, unless
/// the target knows better. `docs/your-own-engine.md` leads through an example.
///
/// Everything that tasks share lies in `machine::cell`, in locks of the machine or on its disk, so
/// that explorers know which steps commute.
pub trait PowerTarget: Target + Sized + 'static {
    /// What programs may ask of it: others are not generated, and not executed.
    fn repertoire() -> Repertoire {
        Repertoire::EVERYTHING
    }

    /// The names of all sites at which its tasks can make a step, if it knows them: a campaign then
    /// tells which it has never reached.
    fn sites() -> Option<Vec<&'static str>> {
        None
    }

    /// How many blocks of 4 KiB each device of an image has.
    ///
    /// # Errors
    /// A sentence, if there is no such image.
    fn devices(image: &ImageKnobs) -> Result<Vec<u64>, String>;

    /// Makes an empty image on the machine's disk, which is full of poison, and says how many
    /// blocks are free then, if it can tell. Nothing is made for a target that sees by the poison
    /// that the disk is new.
    ///
    /// # Errors
    /// If that fails.
    fn format(_task: &Task, _image: &ImageKnobs) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }

    /// A target for this program that is not mounted yet.
    ///
    /// # Errors
    /// A sentence, if there is no target of these knobs and defects.
    fn new(program: &Program, stage: Stage) -> Result<Self, String>;

    /// Mounts the machine's disk, recovery included: after this returns, cuts are no longer inside
    /// recovery.
    ///
    /// # Errors
    /// If the image cannot be mounted, which is a violation whenever a cut left it (G-21).
    fn mount(&self, task: &Task) -> Result<(), TargetError>;

    /// What performs the operations of a task.
    fn worker<'w>(&self, task: &'w Task, who: TaskIndex) -> Self::Worker<'w>;

    /// Has checkers of the target look on from now on.
    fn watch(&self) {}

    /// Unmounts cleanly: as a `sync`, everything is durable afterwards, and background workers
    /// have ended.
    fn unmount(&self, task: &Task, program: &Program) -> Performed {
        ordinary::perform(self, task, program, OpId(0), &Operation::Sync)
    }

    /// The power is off: forgets, without touching the disk, what would not be forgotten when the
    /// target is dropped, such as cycles of references.
    fn abandon(&self) {}

    /// Waits for all asynchronous operations of a worker whose task ends.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    fn reap(&self, _worker: &mut Self::Worker<'_>) -> Result<(), Stopped> {
        Ok(())
    }

    /// Tells the oracle which requests the device has failed since it was told last, and what they
    /// were of. A target in whose repertoire there are no device faults has nothing to tell.
    fn note_failures(&self, _machine: &Machine, _oracle: &mut Oracle) {}

    /// The size of a file as it stands, or `None` if there is no such name.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    fn size(&self, task: &Task, program: &Program, path: PathId) -> Result<Option<u64>, Stopped> {
        ordinary::size(self, task, program, path)
    }

    /// Checks the whole recovered image: the first problem, if there is one.
    ///
    /// # Errors
    /// If the check itself cannot go on.
    fn check(&self, _task: &Task) -> Result<Option<TargetError>, TargetError> {
        Ok(None)
    }

    /// Everything that a reader of the recovered target sees.
    ///
    /// # Errors
    /// If it cannot be read; an error of one block is seen like a block.
    fn look(&self, task: &Task, program: &Program) -> Result<Seen, Unseen> {
        ordinary::look(self, task, program)
    }

    /// The blocks that are free, if it can tell.
    ///
    /// # Errors
    /// If they cannot be counted.
    fn free_blocks(&self, _task: &Task) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }

    /// Makes a file, uses it, and removes it together with all others; the blocks that are free
    /// then, if it can tell: those of the new image, if nothing leaks (G-25).
    ///
    /// # Errors
    /// If the recovered target does not take these operations (G-24).
    fn exercise(&self, task: &Task, program: &Program) -> Result<Option<u64>, TargetError> {
        ordinary::exercise(self, task, program)
    }
}
