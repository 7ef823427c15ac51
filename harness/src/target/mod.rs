//! Targets: what is tested, behind one trait at the level of one operation.
//!
//! What lives here: the trait, what every implementor needs (the bytes of a call), a target as a
//! reader sees it at one moment ([`Snapshot`]), and the larger trait of targets whose power can be
//! cut ([`PowerTarget`]). Implementors: the engine, whose operations run inside fibres of the
//! machine, a directory of a mounted kernel file system ([`kernel`]), and whatever users bring.
//! What it must never know: which results are allowed; that is the oracle's.

pub mod engine;
pub mod kernel;
mod ordinary;
mod power;
mod refusal;
mod snapshot;

pub(crate) use ordinary::perform;
pub use power::{PowerTarget, Stage, TargetError, Unseen};
pub use refusal::Refusal;
pub use snapshot::{Snapshot, SnapshotFile};

use crate::program::Program;
use oracle::Promises;
use oracle::content;
use oracle::operation::{OpId, Operation, Outcome, PathId, TaskIndex, Value};

/// One operation to perform, with everything that its bytes depend on.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The program, for its names.
    pub program: &'a Program,
    /// Who performs it.
    pub task: TaskIndex,
    /// Its number, which its bytes name.
    pub id: OpId,
    /// What to do.
    pub operation: &'a Operation,
}

impl Call<'_> {
    /// Fills `out` with the bytes that the operation writes, from its first byte on.
    pub fn payload(&self, out: &mut [u8]) {
        content::payload(self.id, self.operation, out);
    }

    /// The value of `list`, if these names are there.
    ///
    /// # Errors
    /// If there is a name that the program does not have.
    pub fn names<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Value, Refusal> {
        let mut ids = Vec::new();
        for name in names {
            match self.program.paths.iter().position(|path| path == name) {
                Some(index) => ids.push(PathId(index as u8)),
                None => {
                    let what = format!("the name {name:?}, which no operation created");
                    return Err(Refusal::Strange(what));
                }
            }
        }
        ids.sort_unstable();
        Ok(Value::Names(ids))
    }
}

/// How performing an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    /// It returned.
    Done(Outcome),
    /// It is asynchronous and was submitted; [`Target::reaped`] hands over its result.
    Submitted,
    /// It will never return: the power is cut, or a bound of the machine was hit.
    Stopped,
    /// The target did what no operation can answer, such as an error number or a name outside of
    /// the vocabulary. A fragment that completes "the target answered with …".
    Strange(String),
}

/// What is tested. Methods take `&self`, since the tasks of a program share one target; what
/// belongs to one task is in its worker.
pub trait Target {
    /// What performs the operations of one task: its descriptors, the fibre's handle.
    type Worker<'w>
    where
        Self: 'w;

    /// What the target declares that it promises.
    fn promises(&self) -> Promises;

    /// Performs one operation and returns when it has returned. `Reap` returns when every
    /// asynchronous operation of this worker is complete.
    fn perform(&self, worker: &mut Self::Worker<'_>, call: &Call<'_>) -> Performed;

    /// Hands over the results of this worker's asynchronous operations that are complete and were
    /// not handed over yet, in the order of their completion. Never waits. A target without
    /// asynchronous operations has none.
    fn reaped(&self, _worker: &mut Self::Worker<'_>, _each: &mut dyn FnMut(OpId, Performed)) {}
}
