//! A log-structured store of small files: all that happens is appended to one log, in memory at
//! first, and goes to the disk when somebody asks for it to be durable. A mount replays the log.
//!
//! A record is a line of text (`chain verb name offset length`), its bytes, and zeros up to the
//! next block. `chain` is a checksum of the record and of the chain before it, so that a record
//! counts only behind the very record that it was written behind. Replay ends at the first that
//! does not fit.
//!
//! `LogStore<false>` has a bug left in; see `commit`.

use harness::program::{ImageKnobs, Kind, Program, Repertoire};
use harness::target::{Call, Performed, PowerTarget, Refusal, Stage, Target, TargetError};
use machine::cell::{RefCell, RefMut};
use machine::disk::{Note, Request};
use machine::{BLOCK_BYTES, Block, DeviceId, LockClass, Mutex, Task};
use oracle::Promises;
use oracle::operation::{Errno, Operation, TaskIndex, Value};
use std::collections::BTreeMap;

const BLOCKS: u64 = 4096;
const NOTE: Note = Note { tag: 0, what: "log" };
static WRITER: LockClass = LockClass::new("WRITER", 10);

/// What is in memory.
struct Log {
    files: BTreeMap<String, Vec<u8>>,
    /// Records that are not on the disk yet.
    pending: Vec<u8>,
    /// The block that they go to.
    tail: u64,
    chain: u64,
    writer: Mutex,
}

/// The store.
pub struct LogStore<const FIXED: bool> {
    log: RefCell<Option<Log>>,
}

/// FNV-1a, from a chain on.
fn chained(chain: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(chain ^ 0xcbf2_9ce4_8422_2325, step)
}

impl Log {
    /// What a record does, now and when it is replayed.
    fn apply(&mut self, verb: &str, name: &str, offset: usize, bytes: &[u8]) {
        match (verb, self.files.get_mut(name)) {
            ("create", None) => drop(self.files.insert(name.to_string(), Vec::new())),
            ("unlink", _) => drop(self.files.remove(name)),
            ("write", Some(file)) => {
                file.resize(file.len().max(offset + bytes.len()), 0);
                file[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            _ => {}
        }
    }

    /// Appends a record to what is pending.
    fn append(&mut self, verb: &str, name: &str, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut record = format!("{verb} {name} {offset} {}\n", bytes.len()).into_bytes();
        record.extend(bytes);
        let chain = chained(self.chain, &record);
        record.splice(..0, format!("{chain:016x} ").into_bytes());
        record.resize(record.len().next_multiple_of(BLOCK_BYTES), 0);
        if self.tail + ((self.pending.len() + record.len()) / BLOCK_BYTES) as u64 > BLOCKS {
            return Err(Errno::ENOSPC);
        }
        self.chain = chain;
        self.pending.extend(record);
        self.apply(verb, name, offset as usize, bytes);
        Ok(())
    }

    /// Replays the record at the tail, if there is one.
    fn replay(&mut self, task: &Task) -> Result<bool, Refusal> {
        let mut bytes = read(task, self.tail, 1)?;
        let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..line]).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let [chain, verb, name, offset, len] = words[..] else { return Ok(false) };
        let (Ok(offset), Ok(len)) = (offset.parse(), len.parse::<u32>()) else { return Ok(false) };
        let end = line + 1 + len as usize;
        let blocks = end.div_ceil(BLOCK_BYTES) as u64;
        if self.tail + blocks > BLOCKS {
            return Ok(false);
        }
        bytes.extend(read(task, self.tail + 1, blocks - 1)?);
        let found = chained(self.chain, &bytes[chain.len() + 1..end]);
        if chain != format!("{found:016x}") {
            return Ok(false);
        }
        (self.chain, self.tail) = (found, self.tail + blocks);
        self.apply(verb, name, offset, &bytes[line + 1..end]);
        Ok(true)
    }
}

/// Reads blocks of the log.
fn read(task: &Task, block: u64, count: u64) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    for block in block..block + count {
        let data = task.submit(Request::read(DeviceId(0), block), NOTE)?.wait(task)??;
        data.iter().for_each(|block| bytes.extend(block.bytes()));
    }
    Ok(bytes)
}

impl<const FIXED: bool> LogStore<FIXED> {
    fn log(&self) -> RefMut<'_, Log> {
        RefMut::map(self.log.borrow_mut(), |log| log.as_mut().expect("it is mounted"))
    }

    /// Makes everything durable that is pending.
    ///
    /// The bug: who comes second finds nothing pending, and returns while the first still writes.
    /// The fix: it waits until the first is through.
    fn commit(&self, task: &Task) -> Result<(), Refusal> {
        let writer = self.log().writer.clone();
        let _alone = if FIXED { Some(writer.lock(task)?) } else { None };
        let (block, bytes) = self.take_pending();
        if bytes.is_empty() {
            return Ok(());
        }
        let payload = bytes.chunks(BLOCK_BYTES).map(Block::from_slice).collect();
        let device = DeviceId(0);
        let write = Request::Write { device, block, payload, sectors: None, fua: false };
        task.submit(write, NOTE)?.wait(task)??;
        task.flush(device, NOTE)??;
        Ok(())
    }

    fn take_pending(&self) -> (u64, Vec<u8>) {
        let mut log = self.log();
        let (block, bytes) = (log.tail, std::mem::take(&mut log.pending));
        log.tail += (bytes.len() / BLOCK_BYTES) as u64;
        (block, bytes)
    }

    fn run(&self, task: &Task, call: &Call<'_>) -> Result<Value, Refusal> {
        let name = |path| call.program.path_name(path);
        let bytes = |path| self.log().files.get(name(path)).cloned().ok_or(Errno::ENOENT);
        match *call.operation {
            Operation::Create { path } => match bytes(path) {
                Ok(_) => return Err(Errno::EEXIST.into()),
                Err(_) => self.log().append("create", name(path), 0, &[])?,
            },
            Operation::Unlink { path } => {
                bytes(path)?;
                self.log().append("unlink", name(path), 0, &[])?;
            }
            Operation::Write { path, span, .. } => {
                bytes(path)?;
                let mut written = vec![0; span.len as usize];
                call.payload(&mut written);
                self.log().append("write", name(path), span.offset, &written)?;
                return Ok(Value::Count(span.len));
            }
            Operation::Read { path, span } => {
                let bytes = bytes(path)?;
                let (start, end) = (span.offset as usize, span.end() as usize);
                let end = end.min(bytes.len());
                return Ok(Value::Bytes(bytes[start.min(end)..end].to_vec()));
            }
            Operation::Stat { path } => {
                return Ok(Value::Stat { size: bytes(path)?.len() as u64, nlink: 1 });
            }
            Operation::List => return call.names(self.log().files.keys().map(String::as_str)),
            Operation::Fsync { path } => {
                bytes(path)?;
                self.commit(task)?;
            }
            _ => self.commit(task)?,
        }
        Ok(Value::Unit)
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

    fn format(_task: &Task, _image: &ImageKnobs) -> Result<Option<u64>, TargetError> {
        // Nothing on a new disk fits the chain: the log is empty. What is free never comes back.
        Ok(None)
    }

    fn new(_program: &Program, _stage: Stage) -> Result<Self, String> {
        Ok(LogStore { log: RefCell::new(None) })
    }

    fn worker<'w>(&self, task: &'w Task, _who: TaskIndex) -> &'w Task {
        task
    }

    fn mount(&self, task: &Task) -> Result<(), TargetError> {
        let writer = Mutex::new(task.machine(), &WRITER, (0, 0));
        let (files, pending) = (BTreeMap::new(), Vec::new());
        let mut log = Log { files, pending, tail: 0, chain: 0, writer };
        while log.replay(task)? {}
        // What was written behind this, and lost before this, must never fit the chain again.
        log.append("mount", "-", 0, &[]).map_err(Refusal::from)?;
        *self.log.borrow_mut() = Some(log);
        Ok(self.commit(task)?)
    }
}
