//! What can be done with any target through [`Target::perform`], as its users do.
//!
//! It promises to ask for nothing that is not in the target's repertoire, but for `list`, `stat`
//! and `read`, which every target has. It must never know a particular target.
//!
//! [`Target::perform`]: super::Target::perform

use super::power::{PowerTarget, TargetError, Unseen};
use super::{Call, Performed, Refusal};
use crate::program::{Kind, Program};
use crate::seen::{FileSeen, Seen};
use machine::{Block, Stopped, Task};
use oracle::content::is_filled;
use oracle::operation::{
    BLOCK_BYTES, Errno, Fill, OpId, Operation, PathId, Span, Sync, TaskIndex, Value,
};

/// The name of the file that shows that a recovered target takes new operations.
pub const NEW_FILE: &str = "powerfail-new";

/// Performs one operation, as a task of its own.
pub fn perform<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
    id: OpId,
    operation: &Operation,
) -> Performed {
    let who = TaskIndex(0);
    target.perform(&mut target.worker(task, who), &Call { program, task: who, id, operation })
}

fn ask<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
    operation: &Operation,
) -> Result<Value, Refusal> {
    match perform(target, task, program, OpId(0), operation) {
        Performed::Done(Ok(value)) => Ok(value),
        Performed::Done(Err(errno)) => Err(Refusal::Errno(errno)),
        Performed::Submitted => Err(Refusal::Strange("a submission".to_string())),
        Performed::Stopped => Err(Refusal::Stopped),
        Performed::Strange(what) => Err(Refusal::Strange(what)),
    }
}

fn unfit(operation: &str, value: &Value) -> Refusal {
    let what = match value {
        Value::Bytes(bytes) => format!("{} bytes to `{operation}`", bytes.len()),
        other => format!("{other:?} to `{operation}`"),
    };
    Refusal::Strange(what)
}

/// The size of a file, by `stat`.
pub fn size<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
    path: PathId,
) -> Result<Option<u64>, Stopped> {
    match ask(target, task, program, &Operation::Stat { path }) {
        Ok(Value::Stat { size, .. }) => Ok(Some(size)),
        Err(Refusal::Stopped) => Err(Stopped),
        // What is wrong here is wrong for the `stat` that follows, which is judged.
        Ok(_) | Err(_) => Ok(None),
    }
}

/// All names, sizes and contents, by `list`, `stat` and `read`.
pub fn look<T: PowerTarget>(target: &T, task: &Task, program: &Program) -> Result<Seen, Unseen> {
    let failed = |what| move |refusal: Refusal| Unseen::Failed(what, refusal.into());
    let mut seen = Seen::default();
    for path in names(target, task, program).map_err(failed("list the names"))? {
        let file = file(target, task, program, path).map_err(failed("read a file"))?;
        seen.push(file);
    }
    Ok(seen)
}

fn names<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
) -> Result<Vec<PathId>, Refusal> {
    match ask(target, task, program, &Operation::List)? {
        Value::Names(names) => Ok(names),
        other => Err(unfit("list", &other)),
    }
}

fn file<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
    path: PathId,
) -> Result<FileSeen, Refusal> {
    let (size, nlink) = match ask(target, task, program, &Operation::Stat { path })? {
        Value::Stat { size, nlink } => (size, nlink),
        other => return Err(unfit("stat", &other)),
    };
    let mut blocks = Vec::new();
    if size > 0 {
        let read = Operation::Read { path, span: Span::new(0, size) };
        blocks = match ask(target, task, program, &read) {
            Ok(Value::Bytes(bytes)) if bytes.len() as u64 == size => {
                bytes.chunks(BLOCK_BYTES as usize).map(|bytes| Ok(block(bytes))).collect()
            }
            Ok(other) => return Err(unfit("read", &other)),
            // What cannot be read is seen, and judged.
            Err(Refusal::Errno(errno)) => vec![Err(errno); size.div_ceil(BLOCK_BYTES) as usize],
            Err(refusal) => return Err(refusal),
        };
    }
    Ok(FileSeen { path, size, nlink, blocks })
}

fn block(bytes: &[u8]) -> Option<Block> {
    (!is_filled(bytes, 0)).then(|| Block::from_slice(bytes))
}

/// Makes a file, reads it back, and deletes everything; the free blocks in the end. A target
/// without free space cannot show more, and is fine.
pub fn exercise<T: PowerTarget>(
    target: &T,
    task: &Task,
    program: &Program,
) -> Result<Option<u64>, TargetError> {
    let has = T::repertoire();
    if ![Kind::Create, Kind::Write, Kind::Unlink].into_iter().all(|kind| has.allows(kind)) {
        return Ok(None);
    }
    let mut visitor = Program { image: program.image, ..Program::default() };
    visitor.paths.clone_from(&program.paths);
    visitor.paths.push(NEW_FILE.to_string());
    let path = PathId(program.paths.len() as u8);
    let full = |refusal: &Refusal| matches!(refusal, Refusal::Errno(Errno::ENOSPC));
    let is_full = match make_new(target, task, &visitor, path) {
        Err(refusal) if full(&refusal) => true,
        made => made.map(|()| false)?,
    };
    match delete_all(target, task, &visitor) {
        // Even a name takes space to remove where nothing is ever overwritten.
        Err(refusal) if is_full && full(&refusal) => Ok(None),
        deleted => {
            deleted?;
            target.free_blocks(task)
        }
    }
}

fn make_new<T: PowerTarget>(
    target: &T,
    task: &Task,
    visitor: &Program,
    path: PathId,
) -> Result<(), Refusal> {
    let ask = |operation: Operation| ask(target, task, visitor, &operation);
    ask(Operation::Create { path })?;
    let (span, fill) = (Span::new(100, 700), Fill::Byte(0x5a));
    ask(Operation::Write { path, span, fill, sync: Sync::None })?;
    if T::repertoire().allows(Kind::Fsync) {
        ask(Operation::Fsync { path })?;
    }
    match ask(Operation::Read { path, span: Span::new(0, 800) })? {
        Value::Bytes(bytes)
            if bytes.len() == 800
                && is_filled(&bytes[..100], 0)
                && is_filled(&bytes[100..], 0x5a) =>
        {
            Ok(())
        }
        _ => Err(Refusal::Strange("other bytes than a new file was given".to_string())),
    }
}

fn delete_all<T: PowerTarget>(target: &T, task: &Task, visitor: &Program) -> Result<(), Refusal> {
    let ask = |operation: Operation| ask(target, task, visitor, &operation);
    for path in names(target, task, visitor)? {
        ask(Operation::Unlink { path })?;
    }
    if T::repertoire().allows(Kind::Sync) {
        ask(Operation::Sync)?;
    }
    Ok(())
}
