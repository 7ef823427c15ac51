//! A store that keeps its files in memory, and promises that fsync makes them durable.

use harness::commands::own;
use harness::program::{ImageKnobs, Kind, Program, Repertoire};
use harness::target::{Call, Performed, PowerTarget, Refusal, Stage, Target, TargetError};
use machine::Task;
use machine::cell::RefCell;
use oracle::Promises;
use oracle::operation::{Errno, Operation, TaskIndex, Value};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// The store.
#[derive(Default)]
pub struct MyStore {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl MyStore {
    fn run(&self, call: &Call<'_>) -> Result<Value, Refusal> {
        let mut files = self.files.borrow_mut();
        Ok(match *call.operation {
            Operation::Create { path } if files.contains_key(call.name(path)) => {
                return Err(Errno::EEXIST.into());
            }
            Operation::Create { path } => {
                files.insert(call.name(path).to_string(), Vec::new());
                Value::Unit
            }
            Operation::Unlink { path } => {
                files.remove(call.name(path)).ok_or(Errno::ENOENT)?;
                Value::Unit
            }
            Operation::Write { path, span, .. } => {
                call.overwrite(span, files.get_mut(call.name(path)).ok_or(Errno::ENOENT)?);
                Value::Count(span.len)
            }
            Operation::Read { path, span } => {
                let file = files.get(call.name(path)).ok_or(Errno::ENOENT)?;
                Value::Bytes(span.part_of(file).to_vec())
            }
            Operation::Stat { path } => {
                let file = files.get(call.name(path)).ok_or(Errno::ENOENT)?;
                Value::Stat { size: file.len() as u64, nlink: 1 }
            }
            Operation::List => call.names(files.keys())?,
            Operation::Fsync { path } => {
                files.get(call.name(path)).ok_or(Errno::ENOENT)?;
                Value::Unit // Is it durable?
            }
            _ => Value::Unit,
        })
    }
}

impl Target for MyStore {
    type Worker<'w> = &'w Task;

    fn promises(&self) -> Promises {
        Promises::strict()
    }

    fn perform(&self, _task: &mut &Task, call: &Call<'_>) -> Performed {
        self.run(call).into()
    }
}

impl PowerTarget for MyStore {
    fn repertoire() -> Repertoire {
        use Kind::{Create, Fsync, List, Read, Stat, Sync, Unlink, Write};
        Repertoire::of(&[Create, Unlink, Write, Read, Stat, List, Fsync, Sync])
    }

    fn devices(_image: &ImageKnobs) -> Result<Vec<u64>, String> {
        Ok(vec![1024])
    }

    fn new(_program: &Program, _stage: Stage) -> Result<Self, String> {
        Ok(MyStore::default())
    }

    fn worker<'w>(&self, task: &'w Task, _who: TaskIndex) -> &'w Task {
        task
    }

    fn mount(&self, _task: &Task) -> Result<(), TargetError> {
        Ok(())
    }
}

fn main() -> ExitCode {
    own::main::<MyStore>(std::env::args())
}
