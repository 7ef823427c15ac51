//! A log-structured store of small files: all that happens is appended to one log, in memory at
//! first, and goes to the disk when somebody asks for it to be durable. A mount replays the log.
//!
//! A record says what a file is from now on: a block with a line of text (`chain name length`, of
//! which the length is `-` if the file is gone), and the blocks of its content. `chain` is a
//! checksum of the record and of the chain before it, so that a record counts only behind the very
//! record that it was written behind. Replay ends at the first that does not fit.
//!
//! `LogStore<false>` has a bug left in; see `commit`.

use harness::program::{ImageKnobs, Kind, Program, Repertoire};
use harness::target::{Call, Device, Performed, PowerTarget, Refusal, Stage, Target, TargetError};
use machine::cell::RefCell;
use machine::{BLOCK_BYTES, LockClass, Mutex, Task};
use oracle::Promises;
use oracle::operation::{Errno, Operation, TaskIndex, Value};
use std::collections::BTreeMap;

const BLOCKS: u64 = 4096;
const DISK: Device = Device::new(0, "log");
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x100_0000_01b3;
static WRITER: LockClass = LockClass::new("WRITER", 10);

/// What is in memory.
#[derive(Default)]
struct Log {
    files: BTreeMap<String, Vec<u8>>,
    /// Records that are not on the disk yet: the last ones.
    pending: Vec<u8>,
    /// The block behind all records.
    end: u64,
    chain: u64,
    writer: Option<Mutex>,
}

/// The store.
#[derive(Default)]
pub struct LogStore<const FIXED: bool> {
    log: RefCell<Log>,
}

/// The record behind a chain, and the chain behind the record: FNV-1a, by words, of the record with
/// the chain before it in the place of its own.
fn record(chain: u64, name: &str, content: Option<&[u8]>) -> (Vec<u8>, u64) {
    let len = content.map_or("-".to_string(), |bytes| bytes.len().to_string());
    let mut record = format!("{chain:016x} {name} {len}\n").into_bytes();
    record.resize(BLOCK_BYTES, 0);
    record.extend(content.unwrap_or_default());
    record.resize(record.len().next_multiple_of(BLOCK_BYTES), 0);
    let step = |hash: u64, word: &[u8; 8]| (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
    let chain = record.as_chunks().0.iter().fold(BASIS, step);
    record[..16].copy_from_slice(format!("{chain:016x}").as_bytes());
    (record, chain)
}

impl Log {
    /// Changes a file as a record says, and appends the record to what is pending.
    fn append(&mut self, name: &str, content: Option<Vec<u8>>) -> Result<Value, Refusal> {
        let (record, chain) = record(self.chain, name, content.as_deref());
        let end = self.end + (record.len() / BLOCK_BYTES) as u64;
        if end >= BLOCKS {
            return Err(Errno::ENOSPC.into());
        }
        (self.end, self.chain) = (end, chain);
        self.pending.extend(record);
        match content {
            Some(bytes) => self.files.insert(name.to_string(), bytes),
            None => self.files.remove(name),
        };
        Ok(Value::Unit)
    }

    /// Replays the record at the end, if there is one.
    fn replay(&mut self, task: &Task) -> Result<bool, Refusal> {
        let head = DISK.read(task, self.end, 1)?;
        let Ok(text) = str::from_utf8(&head) else { return Ok(false) };
        let words: Vec<&str> = text.split([' ', '\n']).take(3).collect();
        let [_, name, len] = words[..] else { return Ok(false) };
        let len = len.parse::<usize>().ok();
        let count = len.unwrap_or(0).div_ceil(BLOCK_BYTES) as u64;
        if self.end + 1 + count >= BLOCKS {
            return Ok(false);
        }
        let body = DISK.read(task, self.end + 1, count)?;
        let content = len.map(|len| body[..len].to_vec());
        if record(self.chain, name, content.as_deref()).0 != [head.as_slice(), &body].concat() {
            return Ok(false);
        }
        self.append(name, content)?;
        self.pending.clear(); // It is on the disk.
        Ok(true)
    }
}

impl<const FIXED: bool> LogStore<FIXED> {
    /// Makes everything durable that is pending.
    ///
    /// The bug: who comes second finds nothing pending, and returns while the first still writes.
    /// The fix: it waits until the first is through.
    fn commit(&self, task: &Task) -> Result<Value, Refusal> {
        let writer = self.log.borrow().writer.clone().expect("it is mounted");
        let _alone = if FIXED { Some(writer.lock(task)?) } else { None };
        let pending = std::mem::take(&mut self.log.borrow_mut().pending);
        if !pending.is_empty() {
            let start = self.log.borrow().end - (pending.len() / BLOCK_BYTES) as u64;
            DISK.write(task, start, &pending)?;
            DISK.flush(task)?;
        }
        Ok(Value::Unit)
    }

    fn run(&self, task: &Task, call: &Call<'_>) -> Result<Value, Refusal> {
        let file = |path| match self.log.borrow().files.get(call.name(path)) {
            Some(content) => Ok(content.clone()),
            None => Err(Refusal::Errno(Errno::ENOENT)),
        };
        let set = |path, content| self.log.borrow_mut().append(call.name(path), content);
        Ok(match *call.operation {
            Operation::Create { path } if file(path).is_ok() => return Err(Errno::EEXIST.into()),
            Operation::Create { path } => set(path, Some(Vec::new()))?,
            Operation::Unlink { path } => file(path).and_then(|_| set(path, None))?,
            Operation::Write { path, span, .. } => {
                let mut content = file(path)?;
                call.overwrite(span, &mut content);
                set(path, Some(content))?;
                Value::Count(span.len)
            }
            Operation::Read { path, span } => Value::Bytes(span.part_of(&file(path)?).to_vec()),
            Operation::Stat { path } => Value::Stat { size: file(path)?.len() as u64, nlink: 1 },
            Operation::List => call.names(self.log.borrow().files.keys())?,
            Operation::Fsync { path } => file(path).and_then(|_| self.commit(task))?,
            _ => self.commit(task)?,
        })
    }
}

impl<const FIXED: bool> Target for LogStore<FIXED> {
    type Worker<'w> = &'w Task;

    fn promises(&self) -> Promises {
        Promises::strict()
    }

    fn perform(&self, task: &mut &Task, call: &Call<'_>) -> Performed {
        self.run(task, call).into()
    }
}

impl<const FIXED: bool> PowerTarget for LogStore<FIXED> {
    fn repertoire() -> Repertoire {
        use Kind::{Create, Fsync, List, Read, Stat, Sync, Unlink, Write};
        Repertoire::of(&[Create, Unlink, Write, Read, Stat, List, Fsync, Sync])
    }

    fn devices(_image: &ImageKnobs) -> Result<Vec<u64>, String> {
        Ok(vec![BLOCKS])
    }

    fn new(_program: &Program, _stage: Stage) -> Result<Self, String> {
        Ok(LogStore::default())
    }

    fn worker<'w>(&self, task: &'w Task, _who: TaskIndex) -> &'w Task {
        task
    }

    fn mount(&self, task: &Task) -> Result<(), TargetError> {
        let writer = Some(Mutex::new(task.machine(), &WRITER, (0, 0)));
        let mut log = Log { writer, ..Log::default() };
        while log.replay(task)? {}
        // What was written behind this, and lost before this, must never fit the chain again.
        log.append("-", None)?;
        *self.log.borrow_mut() = log;
        self.commit(task)?;
        Ok(())
    }
}
