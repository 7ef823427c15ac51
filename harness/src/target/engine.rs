//! The engine as a target: operations run inside fibres of the machine.
//!
//! Each task keeps the files that it has opened, and reopens one when its name has come to mean
//! another file: errors of writeback are reported per open file, as by kernels. How it is made,
//! mounted and looked at after a power cut is in [`power`](self).

mod power;

pub use power::mkfs;

use super::{Call, Performed, PowerTarget, Target};
use engine::defects::Defects;
use engine::options::MountOptions;
use engine::paths::remap::Dedupe;
use engine::{AsyncIo, Error, File, Fs, Mapping, UserMemory};
use machine::cell::{Cell, RefCell};
use machine::{Stopped, Task};
use oracle::Promises;
use oracle::operation::{
    Errno, HoleRun, MapId, NodeId, OpId, Operation, Outcome, PathId, Span, Sync, Value,
};
use smallvec::SmallVec;
use std::rc::Rc;

/// A mounted engine, shared by the tasks of a program.
pub struct EngineTarget {
    options: MountOptions,
    defects: Defects,
    promises: Promises,
    fs: RefCell<Option<Fs>>,
    maps: RefCell<SmallVec<[Option<Mapping>; 4]>>,
    /// The names by which inodes were opened, by number; the newest last.
    inos: RefCell<SmallVec<[(u64, PathId); 8]>>,
    /// Device failures that the oracle was told of.
    told: Cell<usize>,
}

/// One task's descriptors and asynchronous IO.
pub struct EngineWorker<'w> {
    task: &'w Task,
    files: SmallVec<[Option<File>; 4]>,
    submitted: SmallVec<[(OpId, Operation, AsyncIo); 4]>,
    done: SmallVec<[(OpId, Outcome); 4]>,
}

impl EngineTarget {
    /// The mounted file system.
    pub fn fs(&self) -> Option<Fs> {
        self.fs.borrow().clone()
    }

    fn path_of(&self, ino: u64) -> Option<PathId> {
        let known = self.inos.borrow();
        known.iter().rev().find(|(other, _)| *other == ino).map(|(_, path)| *path)
    }

    fn open(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>, path: PathId) -> Opened {
        let fs = self.fs().ok_or(Error::Aborted)?;
        let fresh = fs.open(worker.task, call.program.path_name(path))?;
        let index = usize::from(path.0);
        if worker.files.len() <= index {
            worker.files.resize(index + 1, None);
        }
        match &worker.files[index] {
            Some(known) if Rc::ptr_eq(known.inode(), fresh.inode()) => Ok(known.clone()),
            _ => {
                self.inos.borrow_mut().push((fresh.inode().ino.0, path));
                worker.files[index] = Some(fresh.clone());
                Ok(fresh)
            }
        }
    }

    fn map(&self, map: MapId) -> Result<Mapping, Error> {
        let maps = self.maps.borrow();
        let known = maps.get(usize::from(map.0)).and_then(Clone::clone);
        known.ok_or(Error::Refused(engine::error::Errno::EFAULT))
    }

    fn set_map(&self, map: MapId, mapping: Option<Mapping>) -> Option<Mapping> {
        let mut maps = self.maps.borrow_mut();
        let index = usize::from(map.0);
        if maps.len() <= index {
            maps.resize(index + 1, None);
        }
        std::mem::replace(&mut maps[index], mapping)
    }

    fn run(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Done, Error> {
        match call.operation {
            Operation::Create { .. }
            | Operation::Unlink { .. }
            | Operation::List
            | Operation::Sync
            | Operation::Commit => self.names(worker, call).map(Done::Value),
            Operation::Mmap { .. }
            | Operation::Munmap { .. }
            | Operation::Load { .. }
            | Operation::Store { .. }
            | Operation::Msync { .. } => self.memory(worker, call).map(Done::Value),
            Operation::AsyncWrite { .. } | Operation::AsyncRead { .. } | Operation::Reap => {
                self.asynchronous(worker, call)
            }
            Operation::Write { .. }
            | Operation::Append { .. }
            | Operation::Read { .. }
            | Operation::DirectWrite { .. }
            | Operation::DirectRead { .. } => self.data(worker, call).map(Done::Value),
            Operation::WriteFrom { .. }
            | Operation::ReadInto { .. }
            | Operation::DirectWriteFrom { .. }
            | Operation::DirectReadInto { .. } => self.between(worker, call).map(Done::Value),
            Operation::Truncate { .. }
            | Operation::Fallocate { .. }
            | Operation::Punch { .. }
            | Operation::ZeroRange { .. }
            | Operation::Clone { .. }
            | Operation::Dedupe { .. } => self.ranges(worker, call).map(Done::Value),
            Operation::NodeRead { .. }
            | Operation::NodeReadahead { .. }
            | Operation::NodeModify { .. }
            | Operation::NodeWrite
            | Operation::NodeReclaim { .. }
            | Operation::NodeNew { .. } => self.nodes(worker, call).map(Done::Value),
            _ => self.others(worker, call).map(Done::Value),
        }
    }

    /// Operations on bare nodes. The version that one leaves is its number.
    fn nodes(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let (fs, task) = (self.fs().ok_or(Error::Aborted)?, worker.task);
        match *call.operation {
            Operation::NodeRead { node: NodeId(node) } => {
                return Ok(Value::Versions(fs.node_read(task, node)?.map(OpId)));
            }
            Operation::NodeReadahead { node: NodeId(node) } => fs.node_readahead(task, node)?,
            Operation::NodeModify { node: NodeId(node) } => {
                fs.node_modify(task, node, call.id.0)?;
            }
            Operation::NodeReclaim { node: NodeId(node) } => {
                fs.node_reclaim(task, node)?;
            }
            Operation::NodeNew { node: NodeId(node) } => fs.node_new(task, node, call.id.0)?,
            _ => fs.node_write(task)?,
        }
        Ok(Value::Unit)
    }

    fn names(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let (fs, task) = (self.fs().ok_or(Error::Aborted)?, worker.task);
        match call.operation {
            Operation::Create { path } => {
                fs.create(task, call.program.path_name(*path))?;
            }
            Operation::Unlink { path } => fs.unlink(task, call.program.path_name(*path))?,
            Operation::Sync => fs.sync(task)?,
            Operation::Commit => fs.commit(task)?,
            _ => {
                let mut names = Vec::new();
                for name in fs.list(task)? {
                    let index = call.program.paths.iter().position(|path| *path == name);
                    let index = index.ok_or(Error::Bug("a name that no operation created"))?;
                    names.push(PathId(index as u8));
                }
                names.sort_unstable();
                return Ok(Value::Names(names));
            }
        }
        Ok(Value::Unit)
    }

    fn data(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let task = worker.task;
        match *call.operation {
            Operation::Write { path, span, sync, .. } => {
                let file = self.open(worker, call, path)?;
                let bytes = payload(call, span.len);
                let count = file.write(task, span.offset, &bytes, durability(sync))?;
                Ok(Value::Count(count as u64))
            }
            Operation::Append { path, len, sync, .. } => {
                let file = self.open(worker, call, path)?;
                let bytes = payload(call, len);
                let (offset, count) = file.append(task, &bytes, durability(sync))?;
                Ok(Value::Appended { offset, len: count as u64 })
            }
            Operation::DirectWrite { path, span, sync, .. } => {
                let file = self.open(worker, call, path)?;
                let bytes = payload(call, span.len);
                let count = file.direct_write(task, span.offset, &bytes, durability(sync))?;
                Ok(Value::Count(count as u64))
            }
            Operation::Read { path, span } | Operation::DirectRead { path, span } => {
                let file = self.open(worker, call, path)?;
                let mut bytes = vec![0; span.len as usize];
                let direct = matches!(call.operation, Operation::DirectRead { .. });
                let count = match direct {
                    true => file.direct_read(task, span.offset, &mut bytes)?,
                    false => file.read(task, span.offset, &mut bytes)?,
                };
                bytes.truncate(count);
                Ok(Value::Bytes(bytes))
            }
            _ => Err(Error::Bug("not a data operation")),
        }
    }

    fn asynchronous(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Done, Error> {
        let task = worker.task;
        let io = match *call.operation {
            Operation::AsyncWrite { path, span, sync, .. } => {
                let file = self.open(worker, call, path)?;
                file.submit_write(task, span.offset, &payload(call, span.len), durability(sync))?
            }
            Operation::AsyncRead { path, span } => {
                let file = self.open(worker, call, path)?;
                file.submit_read(task, span.offset, span.len as usize)?
            }
            _ => {
                self.reap(worker)?;
                return Ok(Done::Value(Value::Unit));
            }
        };
        worker.submitted.push((call.id, call.operation.clone(), io));
        Ok(Done::Submitted)
    }

    fn memory(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let (fs, task) = (self.fs().ok_or(Error::Aborted)?, worker.task);
        match *call.operation {
            Operation::Mmap { map, path, span } => {
                let file = self.open(worker, call, path)?;
                let mapping = file.mmap(task, span.offset, span.len)?;
                if let Some(old) = self.set_map(map, Some(mapping)) {
                    fs.munmap(task, &old)?;
                }
            }
            Operation::Munmap { map } => {
                if let Some(old) = self.set_map(map, None) {
                    fs.munmap(task, &old)?;
                }
            }
            Operation::Load { map, span } => {
                let mut bytes = vec![0; span.len as usize];
                fs.load(task, &self.map(map)?, span.offset, &mut bytes)?;
                return Ok(Value::Bytes(bytes));
            }
            Operation::Store { map, span, .. } => {
                fs.store_bytes(task, &self.map(map)?, span.offset, &payload(call, span.len))?;
            }
            Operation::Msync { map, span } => {
                let unmapped = |_| Error::Refused(engine::error::Errno::ENOMEM);
                let mapping = self.map(map).map_err(unmapped)?;
                fs.msync(task, &mapping, span.offset, span.len)?;
            }
            _ => return Err(Error::Bug("not an operation on memory")),
        }
        Ok(Value::Unit)
    }

    /// Operations whose memory is a mapping.
    fn between(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let task = worker.task;
        let count = match *call.operation {
            Operation::WriteFrom { path, span, map, map_offset, sync } => {
                let file = self.open(worker, call, path)?;
                let memory = UserMemory::new(self.map(map)?, map_offset, span.len);
                file.write_from(task, span.offset, &memory, durability(sync))?
            }
            Operation::ReadInto { path, span, map, map_offset } => {
                let file = self.open(worker, call, path)?;
                let memory = UserMemory::new(self.map(map)?, map_offset, span.len);
                file.read_into(task, span.offset, &memory)?
            }
            Operation::DirectWriteFrom { path, span, map, map_offset, sync } => {
                let file = self.open(worker, call, path)?;
                let memory = UserMemory::new(self.map(map)?, map_offset, span.len);
                file.direct_write_from(task, span.offset, &memory, durability(sync))?
            }
            Operation::DirectReadInto { path, span, map, map_offset } => {
                let file = self.open(worker, call, path)?;
                let memory = UserMemory::new(self.map(map)?, map_offset, span.len);
                file.direct_read_into(task, span.offset, &memory)?
            }
            _ => return Err(Error::Bug("not an operation between a file and a mapping")),
        };
        Ok(Value::Count(count as u64))
    }

    fn ranges(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let task = worker.task;
        match *call.operation {
            Operation::Truncate { path, size } => {
                self.open(worker, call, path)?.truncate(task, size)?;
            }
            Operation::Fallocate { path, span, keep_size } => {
                self.open(worker, call, path)?.fallocate(task, of(span)?, keep_size)?;
            }
            Operation::Punch { path, span } => {
                self.open(worker, call, path)?.punch(task, of(span)?)?;
            }
            Operation::ZeroRange { path, span, keep_size } => {
                self.open(worker, call, path)?.zero_range(task, of(span)?, keep_size)?;
            }
            Operation::Clone { source, source_offset, target, target_offset, len } => {
                let from = self.open(worker, call, source)?;
                let to = self.open(worker, call, target)?;
                from.clone_range(task, source_offset, &to, target_offset, len)?;
            }
            Operation::Dedupe { source, source_offset, target, target_offset, len } => {
                let from = self.open(worker, call, source)?;
                let to = self.open(worker, call, target)?;
                return match from.dedupe_range(task, source_offset, &to, target_offset, len)? {
                    Dedupe::Same(count) => Ok(Value::Count(count)),
                    Dedupe::Differs => Ok(Value::Differs),
                };
            }
            _ => return Err(Error::Bug("not an operation on ranges")),
        }
        Ok(Value::Unit)
    }

    fn others(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Result<Value, Error> {
        let task = worker.task;
        match *call.operation {
            Operation::Fsync { path } => self.open(worker, call, path)?.fsync(task)?,
            Operation::Fdatasync { path } => self.open(worker, call, path)?.fdatasync(task)?,
            Operation::FsyncRange { path, span } => {
                self.open(worker, call, path)?.fsync_range(task, of(span)?)?;
            }
            Operation::Writeback { path } => self.open(worker, call, path)?.writeback(task)?,
            Operation::Reclaim { path } => {
                self.open(worker, call, path)?.reclaim(task)?;
            }
            Operation::Layout { path, span } => {
                self.open(worker, call, path)?.grant_layout(task, of(span)?)?;
            }
            Operation::LayoutWrite { path, span, .. } => {
                let file = self.open(worker, call, path)?;
                let count = file.layout_write(task, span.offset, &payload(call, span.len))?;
                return Ok(Value::Count(count as u64));
            }
            Operation::Readahead { path, span } => {
                self.open(worker, call, path)?.advise_readahead(task, of(span)?)?;
            }
            Operation::Holes { path } => {
                let runs = self.open(worker, call, path)?.holes(task)?;
                let run = |(span, data): (engine::Span, bool)| HoleRun {
                    span: Span::new(span.start, span.end - span.start),
                    data,
                };
                return Ok(Value::Holes(runs.into_iter().map(run).collect()));
            }
            Operation::Stat { path } => {
                let stat = self.open(worker, call, path)?.stat(task)?;
                return Ok(Value::Stat { size: stat.size, nlink: stat.nlink });
            }
            _ => return Err(Error::Refused(engine::error::Errno::EOPNOTSUPP)),
        }
        Ok(Value::Unit)
    }
}

type Opened = Result<File, Error>;

enum Done {
    Value(Value),
    Submitted,
}

impl Target for EngineTarget {
    type Worker<'w> = EngineWorker<'w>;

    fn promises(&self) -> Promises {
        self.promises.clone()
    }

    fn perform(&self, worker: &mut EngineWorker<'_>, call: &Call<'_>) -> Performed {
        match self.run(worker, call) {
            Ok(Done::Value(value)) => Performed::Done(Ok(value)),
            Ok(Done::Submitted) => Performed::Submitted,
            Err(Error::Stopped) => Performed::Stopped,
            Err(Error::Bug(what)) => Performed::Strange(what.to_string()),
            Err(error @ Error::Corrupt { .. }) => Performed::Strange(error.to_string()),
            Err(error) => Performed::Done(Err(errno(&error))),
        }
    }

    fn reaped(&self, worker: &mut EngineWorker<'_>, each: &mut dyn FnMut(OpId, Performed)) {
        let task = worker.task;
        let done = &mut worker.done;
        worker.submitted.retain(|(id, operation, io)| {
            let outcome = io.is_done().then(|| ended(task, operation, io));
            match outcome {
                Some(Ok(outcome)) => done.push((*id, outcome)),
                _ => return true,
            }
            false
        });
        for (id, outcome) in std::mem::take(&mut worker.done) {
            each(id, Performed::Done(outcome));
        }
    }
}

/// The outcome of an asynchronous operation, once it has ended.
fn ended(task: &Task, operation: &Operation, io: &AsyncIo) -> Result<Outcome, Stopped> {
    match (io.wait(task), operation) {
        (Err(Error::Stopped), _) => Err(Stopped),
        (Err(error), _) => Ok(Err(errno(&error))),
        (Ok(_), Operation::AsyncRead { .. }) => Ok(Ok(Value::Bytes(io.bytes()))),
        (Ok(count), _) => Ok(Ok(Value::Count(count as u64))),
    }
}

fn payload(call: &Call<'_>, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    call.payload(&mut bytes);
    bytes
}

fn durability(sync: Sync) -> engine::Sync {
    match sync {
        Sync::None => engine::Sync::None,
        Sync::Data => engine::Sync::Data,
    }
}

fn of(span: Span) -> Result<engine::Span, Error> {
    engine::Span::of(span.offset, span.len)
}

/// The error number of an engine error, in the vocabulary of operations.
pub fn errno(error: &Error) -> Errno {
    use engine::error::Errno as E;
    match error.errno() {
        E::EPERM => Errno::EPERM,
        E::ENOENT => Errno::ENOENT,
        E::EIO => Errno::EIO,
        E::EBADF => Errno::EBADF,
        E::EAGAIN => Errno::EAGAIN,
        E::ENOMEM => Errno::ENOMEM,
        E::EFAULT => Errno::EFAULT,
        E::EBUSY => Errno::EBUSY,
        E::EEXIST => Errno::EEXIST,
        E::EXDEV => Errno::EXDEV,
        E::ENOTDIR => Errno::ENOTDIR,
        E::EISDIR => Errno::EISDIR,
        E::EINVAL => Errno::EINVAL,
        E::ETXTBSY => Errno::ETXTBSY,
        E::EFBIG => Errno::EFBIG,
        E::ENOSPC => Errno::ENOSPC,
        E::EROFS => Errno::EROFS,
        E::EMLINK => Errno::EMLINK,
        E::ERANGE => Errno::ERANGE,
        E::ENAMETOOLONG => Errno::ENAMETOOLONG,
        E::ENOTEMPTY => Errno::ENOTEMPTY,
        E::ELOOP => Errno::ELOOP,
        E::ENODATA => Errno::ENODATA,
        E::EOVERFLOW => Errno::EOVERFLOW,
        E::EOPNOTSUPP => Errno::EOPNOTSUPP,
        E::EUCLEAN => Errno::EUCLEAN,
    }
}
