//! Targets: what is tested, behind one trait at the level of one operation.
//!
//! What lives here: the trait, what every implementor needs (the bytes of a call), a target as a
//! reader sees it at one moment ([`Snapshot`]), and the larger trait of targets whose power can be
//! cut ([`PowerTarget`]). Implementors: the engine, whose operations run inside fibres of the
//! machine, a directory of a mounted kernel file system ([`kernel`]), and whatever users bring.
//! What it must never know: which results are allowed; that is the oracle's.

mod device;
pub mod engine;
pub mod kernel;
mod ordinary;
mod power;
mod refusal;
mod snapshot;

pub use device::Device;
pub(crate) use ordinary::perform;
pub use power::{PowerTarget, Stage, TargetError, Unseen};
pub use refusal::Refusal;
pub use snapshot::{Snapshot, SnapshotFile};

use crate::program::Program;
use oracle::Promises;
use oracle::content;
use oracle::operation::{OpId, Operation, Outcome, PathId, Span, TaskIndex, Value};

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
    /// The name of a path of the operation.
    pub fn name(&self, path: PathId) -> &str {
        self.program.path_name(path)
    }

    /// Fills `out` with the bytes that the operation writes, from its first byte on.
    pub fn payload(&self, out: &mut [u8]) {
        content::payload(self.id, self.operation, out);
    }

    /// Does what the operation, a write of this span, does to a file with this content: the file
    /// grows if it must, with zeros up to the span. A write of no bytes changes nothing.
    pub fn overwrite(&self, span: Span, content: &mut Vec<u8>) {
        if span.len > 0 {
            let (start, end) = (span.offset as usize, span.end() as usize);
            content.resize(content.len().max(end), 0);
            self.payload(&mut content[start..end]);
        }
    }

    /// The value of `list`, if these names are there.
    ///
    /// # Errors
    /// If there is a name that the program does not have.
    pub fn names(
        &self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Value, Refusal> {
        let mut ids = Vec::new();
        for name in names {
            let name = name.as_ref();
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

#[cfg(test)]
mod tests {
    use super::*;
    use oracle::operation::{Fill, Sync};

    #[test]
    fn what_is_written_is_what_is_read() {
        let program = Program::default();
        let mut content = vec![1; 4];
        let mut write = |span: Span| {
            let (path, fill, sync) = (PathId(0), Fill::Byte(9), Sync::None);
            let operation = Operation::Write { path, span, fill, sync };
            let (task, id) = (TaskIndex(0), OpId(1));
            Call { program: &program, task, id, operation: &operation }
                .overwrite(span, &mut content);
            content.clone()
        };
        assert_eq!(write(Span::new(9, 0)), [1; 4], "nothing");
        assert_eq!(write(Span::new(1, 2)), [1, 9, 9, 1], "inside");
        assert_eq!(write(Span::new(6, 1)), [1, 9, 9, 1, 0, 0, 9], "behind the end");
        assert_eq!(Span::new(2, 3).part_of(&content), [9, 1, 0]);
        assert_eq!(Span::new(5, u64::MAX).part_of(&content), [0, 9]);
        assert!(Span::new(8, 1).part_of(&content).is_empty());
    }
}
