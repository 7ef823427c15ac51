//! Operations as system calls.
//!
//! It promises that every operation is the system call that its name says, and nothing more. It
//! must never know what the result should be.

use super::buffer::AlignedBuffer;
use super::descriptors::{Access, Descriptors};
use super::errno::performed;
use super::ioctl::{self, Deduped};
use super::mapping::{Mapping, Scratch};
use super::{KernelRun, holes};
use crate::target::{Call, Performed};
use oracle::operation::{MapId, OpId, Operation, PathId, Span, Sync, Value};
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, AtFlags, FallocateFlags};
use rustix::io::Errno;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};

/// The longest transfer that is passed on; more than any program asks for.
const TRANSFER_BYTES_MAX: u64 = 1 << 30;

/// An asynchronous operation with its result.
type Finished = (OpId, Performed);

/// What performs the operations of one task.
#[derive(Debug)]
pub struct KernelWorker {
    descriptors: Descriptors,
    buffer: AlignedBuffer,
    scratch: Scratch,
    submitted: usize,
    complete: Vec<Finished>,
    results: (Sender<Finished>, Receiver<Finished>),
}

impl KernelWorker {
    pub(super) fn new() -> Result<KernelWorker, Errno> {
        Ok(KernelWorker {
            descriptors: Descriptors::default(),
            buffer: AlignedBuffer::default(),
            scratch: Scratch::new()?,
            submitted: 0,
            complete: Vec::new(),
            results: channel(),
        })
    }

    /// Hands over what has completed.
    pub(super) fn reaped(&mut self, each: &mut dyn FnMut(OpId, Performed)) {
        while let Ok(result) = self.results.1.try_recv() {
            self.submitted -= 1;
            self.complete.push(result);
        }
        for (id, result) in self.complete.drain(..) {
            each(id, result);
        }
    }

    /// Waits until everything submitted is complete.
    fn wait(&mut self) -> Result<Value, Errno> {
        while self.submitted > 0
            && let Ok(result) = self.results.1.recv()
        {
            self.submitted -= 1;
            self.complete.push(result);
        }
        Ok(Value::Unit)
    }

    fn open(
        &mut self,
        run: &KernelRun<'_>,
        call: &Call<'_>,
        path: PathId,
        access: Access,
    ) -> Result<Arc<OwnedFd>, Errno> {
        self.descriptors.open(run.directory(), (path, name(call, path)?), access)
    }

    /// The descriptor for everything but the data of direct, appending and O_DSYNC writes.
    fn plain(
        &mut self,
        run: &KernelRun<'_>,
        call: &Call<'_>,
        path: PathId,
    ) -> Result<Arc<OwnedFd>, Errno> {
        self.open(run, call, path, Access::Cached(Sync::None))
    }
}

/// The name of a path of the program.
fn name<'a>(call: &Call<'a>, path: PathId) -> Result<&'a str, Errno> {
    call.program.paths.get(usize::from(path.0)).map(String::as_str).ok_or(Errno::NOENT)
}

fn transfer_len(len: u64) -> Result<usize, Errno> {
    if len > TRANSFER_BYTES_MAX { Err(Errno::INVAL) } else { Ok(len as usize) }
}

/// Performs one operation.
pub(super) fn perform(
    run: &KernelRun<'_>,
    worker: &mut KernelWorker,
    call: &Call<'_>,
) -> Performed {
    use Operation as O;
    let result = match *call.operation {
        O::AsyncWrite { path, span, sync, .. } => {
            return submit(run, worker, call, path, span, Some(sync));
        }
        O::AsyncRead { path, span } => return submit(run, worker, call, path, span, None),
        O::List => return list(run, call),
        O::Reap => worker.wait(),
        O::Write { .. }
        | O::WriteFrom { .. }
        | O::Append { .. }
        | O::DirectWrite { .. }
        | O::DirectWriteFrom { .. } => write(run, worker, call),
        O::Read { .. } | O::ReadInto { .. } | O::DirectRead { .. } | O::DirectReadInto { .. } => {
            read(run, worker, call)
        }
        O::Mmap { .. } | O::Munmap { .. } | O::Load { .. } | O::Store { .. } | O::Msync { .. } => {
            mapped(run, worker, call)
        }
        O::Clone { .. } | O::Dedupe { .. } => share(run, worker, call),
        O::Create { .. } | O::Unlink { .. } | O::Stat { .. } => named(run, worker, call),
        _ => change(run, worker, call),
    };
    performed(result)
}

/// Operations on names.
fn named(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    match *call.operation {
        Operation::Create { path } => {
            worker.descriptors.create(run.directory(), (path, name(call, path)?))?;
            Ok(Value::Unit)
        }
        Operation::Unlink { path } => {
            rustix::fs::unlinkat(run.directory(), name(call, path)?, AtFlags::empty())?;
            Ok(Value::Unit)
        }
        Operation::Stat { path } => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(run.directory(), name(call, path)?, flags)?;
            Ok(Value::Stat { size: stat.st_size as u64, nlink: stat.st_nlink as u32 })
        }
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// Operations on sizes, allocation and durability.
fn change(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    let (path, span) = match *call.operation {
        Operation::Sync => return rustix::fs::syncfs(run.directory()).map(|()| Value::Unit),
        Operation::Commit => return Ok(Value::Unit),
        Operation::Truncate { path, size } => (path, Span::new(0, size)),
        Operation::Fallocate { path, span, .. }
        | Operation::Punch { path, span }
        | Operation::ZeroRange { path, span, .. }
        | Operation::Readahead { path, span }
        | Operation::FsyncRange { path, span } => (path, span),
        Operation::Fsync { path }
        | Operation::Fdatasync { path }
        | Operation::Writeback { path }
        | Operation::Reclaim { path }
        | Operation::Holes { path } => (path, Span::new(0, 0)),
        _ => return Err(Errno::OPNOTSUPP),
    };
    let file = worker.plain(run, call, path)?;
    let keep = |keep: bool| if keep { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
    let flags = match *call.operation {
        Operation::Holes { .. } => return holes::map(&file).map(Value::Holes),
        Operation::Truncate { size, .. } => {
            return rustix::fs::ftruncate(&file, size).map(|()| Value::Unit);
        }
        Operation::Fsync { .. } => return rustix::fs::fsync(&file).map(|()| Value::Unit),
        Operation::Fdatasync { .. } => return rustix::fs::fdatasync(&file).map(|()| Value::Unit),
        Operation::FsyncRange { .. } => return fsync_range(&file, span),
        Operation::Readahead { .. } => {
            // A length of 0 would mean all that follows.
            let len = std::num::NonZeroU64::new(span.len);
            let advise = |len| rustix::fs::fadvise(&file, span.offset, Some(len), Advice::WillNeed);
            return len.map_or(Ok(()), advise).map(|()| Value::Unit);
        }
        // The advice starts writeback of what is dirty and drops what is clean.
        Operation::Writeback { .. } | Operation::Reclaim { .. } => {
            return rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map(|()| Value::Unit);
        }
        Operation::Fallocate { keep_size, .. } => keep(keep_size),
        Operation::Punch { .. } => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        Operation::ZeroRange { keep_size, .. } => FallocateFlags::ZERO_RANGE | keep(keep_size),
        _ => return Err(Errno::OPNOTSUPP),
    };
    rustix::fs::fallocate(&file, flags, span.offset, span.len).map(|()| Value::Unit)
}

/// The kernel offers `vfs_fsync_range` to programs through `msync` only.
fn fsync_range(file: &OwnedFd, span: Span) -> Result<Value, Errno> {
    if span.len > 0 {
        let within = span.offset % oracle::operation::BLOCK_BYTES;
        let pages = Mapping::new(file, span.offset - within, span.len + within)?;
        pages.msync(within, span.len)?;
    }
    Ok(Value::Unit)
}

fn write(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    let (path, access, span) = match *call.operation {
        Operation::Write { path, span, sync, .. }
        | Operation::WriteFrom { path, span, sync, .. } => (path, Access::Cached(sync), span),
        Operation::Append { path, len, sync, .. } => {
            (path, Access::Append(sync), Span::new(0, len))
        }
        Operation::DirectWrite { path, span, sync, .. }
        | Operation::DirectWriteFrom { path, span, sync, .. } => (path, Access::Direct(sync), span),
        _ => return Err(Errno::OPNOTSUPP),
    };
    let len = transfer_len(span.len)?;
    let file = worker.open(run, call, path, access)?;
    if let Operation::DirectWriteFrom { map, map_offset, .. }
    | Operation::WriteFrom { map, map_offset, .. } = *call.operation
    {
        let done = run.mapping(map)?.write_to((map_offset, len), &file, span.offset)?;
        return Ok(Value::Count(done as u64));
    }
    let bytes = worker.buffer.take(len);
    call.payload(bytes);
    if let Access::Append(_) = access {
        let len = rustix::io::write(&file, bytes)? as u64;
        // The write leaves the position of this descriptor, which only this task has, at its end.
        let end = rustix::fs::tell(&file)?;
        // A write of nothing does not look for the end of the file.
        let offset = if len == 0 { rustix::fs::fstat(&file)?.st_size as u64 } else { end - len };
        return Ok(Value::Appended { offset, len });
    }
    Ok(Value::Count(rustix::io::pwrite(&file, bytes, span.offset)? as u64))
}

fn read(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    let (path, access, span) = match *call.operation {
        Operation::Read { path, span } | Operation::ReadInto { path, span, .. } => {
            (path, Access::Cached(Sync::None), span)
        }
        Operation::DirectRead { path, span } | Operation::DirectReadInto { path, span, .. } => {
            (path, Access::Direct(Sync::None), span)
        }
        _ => return Err(Errno::OPNOTSUPP),
    };
    let len = transfer_len(span.len)?;
    let file = worker.open(run, call, path, access)?;
    if let Operation::DirectReadInto { map, map_offset, .. }
    | Operation::ReadInto { map, map_offset, .. } = *call.operation
    {
        let done = run.mapping(map)?.read_from((map_offset, len), &file, span.offset)?;
        return Ok(Value::Count(done as u64));
    }
    let bytes = worker.buffer.take(len);
    let done = rustix::io::pread(&file, &mut *bytes, span.offset)?;
    Ok(Value::Bytes(bytes[..done].to_vec()))
}

/// Asynchronous direct IO: the same system call, in a thread of its own.
fn submit(
    run: &KernelRun<'_>,
    worker: &mut KernelWorker,
    call: &Call<'_>,
    path: PathId,
    span: Span,
    write: Option<Sync>,
) -> Performed {
    let access = Access::Direct(write.unwrap_or(Sync::None));
    let opened =
        transfer_len(span.len).and_then(|len| Ok((len, worker.open(run, call, path, access)?)));
    let (len, file) = match opened {
        Ok(opened) => opened,
        Err(errno) => return performed(Err(errno)),
    };
    let mut buffer = AlignedBuffer::default();
    call.payload(buffer.take(len));
    let (id, done) = (call.id, worker.results.0.clone());
    worker.submitted += 1;
    std::thread::spawn(move || {
        let bytes = buffer.take(len);
        let result = match write {
            Some(_) => rustix::io::pwrite(&file, bytes, span.offset)
                .map(|count| Value::Count(count as u64)),
            None => rustix::io::pread(&file, &mut *bytes, span.offset)
                .map(|count| Value::Bytes(bytes[..count].to_vec())),
        };
        // The receiver is gone only if nobody wants the result any more.
        let _ = done.send((id, performed(result)));
    });
    Performed::Submitted
}

fn mapped(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    match *call.operation {
        Operation::Mmap { map, path, span } => {
            let file = worker.plain(run, call, path)?;
            let mapping = Mapping::new(&file, span.offset, span.len)?;
            run.set_mapping(map, Some(mapping))?;
        }
        Operation::Munmap { map } => {
            run.mapping(map).map_err(|_| Errno::INVAL)?;
            run.set_mapping(map, None)?;
        }
        Operation::Load { map, span } => {
            let bytes = worker.buffer.take(transfer_len(span.len)?);
            run.mapping(map)?.load(&worker.scratch, span.offset, bytes)?;
            return Ok(Value::Bytes(bytes.to_vec()));
        }
        Operation::Store { map, span, .. } => {
            let bytes = worker.buffer.take(transfer_len(span.len)?);
            call.payload(bytes);
            run.mapping(map)?.store(&worker.scratch, span.offset, bytes)?;
        }
        Operation::Msync { map, span } => {
            let mapping = run.mapping(map).map_err(|_| Errno::NOMEM)?;
            mapping.msync(span.offset, span.len)?;
        }
        _ => return Err(Errno::OPNOTSUPP),
    }
    Ok(Value::Unit)
}

fn share(run: &KernelRun<'_>, worker: &mut KernelWorker, call: &Call<'_>) -> Result<Value, Errno> {
    match *call.operation {
        Operation::Clone { source, source_offset, target, target_offset, len } => {
            let source = worker.plain(run, call, source)?;
            let target = worker.plain(run, call, target)?;
            ioctl::clone_range((&source, source_offset), (&target, target_offset), len)?;
            Ok(Value::Unit)
        }
        Operation::Dedupe { source, source_offset, target, target_offset, len } => {
            let source = worker.plain(run, call, source)?;
            let target = worker.plain(run, call, target)?;
            let from = (&source, source_offset);
            Ok(match ioctl::dedupe_range(from, (&target, target_offset), len)? {
                Deduped::Shared(bytes) => Value::Count(bytes),
                Deduped::Differs => Value::Differs,
            })
        }
        _ => Err(Errno::OPNOTSUPP),
    }
}

fn list(run: &KernelRun<'_>, call: &Call<'_>) -> Performed {
    let names = match run.names() {
        Ok(names) => names,
        Err(errno) => return performed(Err(errno)),
    };
    let mut paths = Vec::new();
    for name in names {
        match call.program.paths.iter().position(|known| known.as_bytes() == name.to_bytes()) {
            Some(index) => paths.push(PathId(index as u8)),
            None => return Performed::Strange(format!("name {name:?}, which nobody made")),
        }
    }
    paths.sort_unstable();
    performed(Ok(Value::Names(paths)))
}

impl KernelRun<'_> {
    fn mapping(&self, map: MapId) -> Result<Arc<Mapping>, Errno> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.get(usize::from(map.0)).and_then(Clone::clone).ok_or(Errno::FAULT)
    }

    /// Replaces a mapping; the old one goes when no operation uses it any more.
    fn set_mapping(&self, map: MapId, mapping: Option<Mapping>) -> Result<(), Errno> {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = maps.get_mut(usize::from(map.0)).ok_or(Errno::INVAL)?;
        *slot = mapping.map(Arc::new);
        Ok(())
    }
}
