//! User memory that is a mapping: how reads and writes touch it (races.md §7.3, F-1 to F-6).
//!
//! Two ways: what is resident is copied at once under any lock, *nofault* (F-4); what is not is
//! faulted in with nothing above RL held (F-1), which may wait, fail and be undone by others before
//! the next copy. So whoever copies under a lock goes round: fault in, lock, copy what is there.
//!
//! Promises: a nofault copy takes no lock and waits for nothing; every page is copied at one
//! instant. It must never know what the bytes are for.

use crate::defects::Defect;
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::span::Span;
use crate::mm::{Mapping, part_of};
use crate::types::{BLOCK_BYTES, SECTOR_BYTES};
use machine::Task;

/// A range of addresses within a mapping.
#[derive(Clone)]
pub struct UserMemory {
    mapping: Mapping,
    offset: u64,
    len: u64,
}

/// Where a write takes its bytes from.
#[derive(Clone)]
pub(crate) enum Source<'s> {
    /// Memory that is always there.
    Bytes(&'s [u8]),
    /// Memory that may have to be faulted in.
    Mapped(UserMemory),
}

/// What an access to memory wants of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// To read them.
    Load,
    /// To write to them.
    Store,
}

impl UserMemory {
    /// `len` bytes of a mapping from `offset` on. Whether they are there is seen when they are
    /// touched.
    pub fn new(mapping: Mapping, offset: u64, len: u64) -> UserMemory {
        UserMemory { mapping, offset, len }
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to touch.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it shows a file.
    pub(crate) fn is_of(&self, inode: &Inode) -> bool {
        std::ptr::eq(&**self.mapping.file().inode(), inode)
    }

    /// Direct IO wants memory in sectors, too.
    pub(crate) fn is_aligned(&self) -> bool {
        self.offset.is_multiple_of(SECTOR_BYTES)
    }

    /// The memory without its first `done` bytes.
    pub(crate) fn after(&self, done: u64) -> UserMemory {
        assert!(done <= self.len, "a part of the memory");
        UserMemory {
            mapping: self.mapping.clone(),
            offset: self.offset + done,
            len: self.len - done,
        }
    }

    /// The first `len` bytes of the memory.
    pub(crate) fn first(&self, len: u64) -> UserMemory {
        assert!(len <= self.len, "a part of the memory");
        UserMemory { len, ..self.clone() }
    }

    /// The page that the memory begins in, and how much of it belongs to the memory.
    fn first_page(&self) -> Result<(u64, Span)> {
        let end = self.offset.saturating_add(self.len);
        let page_end = (self.offset / BLOCK_BYTES + 1).saturating_mul(BLOCK_BYTES).min(end);
        let span = self.mapping.file_span(self.offset, page_end - self.offset)?;
        Ok((span.start / BLOCK_BYTES, span))
    }
}

impl<'s> Source<'s> {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Source::Bytes(bytes) => bytes.len(),
            Source::Mapped(memory) => memory.len() as usize,
        }
    }

    /// `len` bytes from the `from`th on.
    pub(crate) fn part(&self, from: usize, len: usize) -> Source<'s> {
        match self {
            Source::Bytes(bytes) => Source::Bytes(&bytes[from..from + len]),
            Source::Mapped(memory) => Source::Mapped(memory.after(from as u64).first(len as u64)),
        }
    }
}

/// The bytes of one page that a write takes from its source, from WRITE.3 to WRITE.4.
pub(crate) struct Incoming<'s> {
    source: Source<'s>,
    /// What was copied from memory.
    bounce: Vec<u8>,
    /// Whether it is all there.
    is_complete: bool,
    rounds: u32,
}

/// Rounds in which a nofault copy may find nothing before memory is copied with faults (F-5).
const ROUNDS_MAX: u32 = 2;

impl<'s> Incoming<'s> {
    pub(crate) fn new(source: Source<'s>) -> Incoming<'s> {
        let is_complete = matches!(source, Source::Bytes(_));
        Incoming { source, bounce: Vec::new(), is_complete, rounds: 0 }
    }

    /// WRITE.3: faults memory in; after rounds in vain it is copied at once (F-5). Only RL may be
    /// held.
    ///
    /// # Errors
    /// Those of faults.
    pub(crate) fn prepare(&mut self, fs: &Fs, task: &Task) -> Result<()> {
        task.may_fault()?; // F-1: asked even if nothing is to be faulted in
        let Source::Mapped(memory) = &self.source else { return Ok(()) };
        if self.is_complete {
            return Ok(());
        }
        self.rounds += 1;
        if self.rounds <= ROUNDS_MAX {
            return fs.fault_in(task, memory, Touch::Load);
        }
        self.bounce = fs.copy_from_memory(task, memory)?; // F-5
        self.is_complete = true;
        Ok(())
    }

    /// WRITE.4: the nofault copy (F-4). Whether all of it is there.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn take(&mut self, fs: &Fs, task: &Task) -> Result<bool> {
        if let Source::Mapped(memory) = &self.source
            && !self.is_complete
        {
            self.bounce.resize(memory.len() as usize, 0);
            let copied = fs.copy_from_resident(task, memory, &mut self.bounce)?;
            self.is_complete = copied == self.bounce.len();
        }
        Ok(self.is_complete)
    }

    /// What [`take`](Self::take) found complete.
    pub(crate) fn bytes(&self) -> &[u8] {
        debug_assert!(self.is_complete, "F-4: copied before it is used");
        match &self.source {
            Source::Bytes(bytes) => bytes,
            Source::Mapped(_) => &self.bounce,
        }
    }
}

impl Fs {
    /// F-4: copies from memory without a fault, up to the first page that is not there. Tells how
    /// many bytes. Legal under any lock.
    ///
    /// # Errors
    /// `Stopped`.
    pub(crate) fn copy_from_resident(
        &self,
        task: &Task,
        memory: &UserMemory,
        target: &mut [u8],
    ) -> Result<usize> {
        assert_eq!(memory.len(), target.len() as u64);
        let mut done = 0;
        while done < target.len() {
            let rest = memory.after(done as u64);
            let Ok((index, span)) = rest.first_page() else { break };
            let page = self.resident(task, &memory.mapping, index, Touch::Load)?;
            let Some(page) = page else { break };
            let (within, len) = part_of(span, index);
            target[done..done + len].copy_from_slice(&page.data().bytes()[within..within + len]);
            done += len;
        }
        Ok(done)
    }

    /// Faults memory in: as many pages as can be, in order. Only RL may be held (F-1).
    ///
    /// # Errors
    /// Those of the first page: `EFAULT` where nothing is mapped, `NoSpace`, those of reading.
    pub(crate) fn fault_in(&self, task: &Task, memory: &UserMemory, touch: Touch) -> Result<()> {
        let mut done = 0;
        while done < memory.len() {
            task.may_fault()?; // F-1
            let rest = memory.after(done);
            let found = rest.first_page();
            let faulted = found.and_then(|(index, span)| {
                if self.resident(task, &memory.mapping, index, touch)?.is_none() {
                    self.fault(task, memory.mapping.state(), index, touch == Touch::Store)?;
                }
                Ok(span.len())
            });
            match faulted {
                Ok(len) => done += len,
                Err(error) if error.is_stopped() => return Err(error),
                Err(_) if self.defects().has(Defect::PopulateRetryHang) => {
                    task.progress("faulting memory in")?;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break, // whoever gets that far will hear of it
            }
        }
        Ok(())
    }

    /// Copies all of the memory, with faults as a processor has them: only RL may be held (F-1).
    ///
    /// # Errors
    /// As [`load`](Fs::load).
    pub(crate) fn copy_from_memory(&self, task: &Task, memory: &UserMemory) -> Result<Vec<u8>> {
        let mut bytes = vec![0; memory.len() as usize];
        self.load(task, &memory.mapping, memory.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies to memory, with faults as a processor has them: only RL may be held (F-1). Fewer
    /// bytes if memory ends before them.
    ///
    /// # Errors
    /// As [`store_bytes`](Fs::store_bytes), but for those behind the first page.
    pub(crate) fn copy_to_memory(
        &self,
        task: &Task,
        memory: &UserMemory,
        source: &[u8],
    ) -> Result<usize> {
        let mut done = 0;
        while done < source.len() {
            let rest = memory.after(done as u64);
            let stored = rest.first_page().and_then(|(_, span)| {
                let len = (span.len() as usize).min(source.len() - done);
                let bytes = &source[done..done + len];
                self.store_bytes(task, &memory.mapping, rest.offset, bytes).map(|()| len)
            });
            match stored {
                Ok(len) => done += len,
                // What was read before stays; a full device is told of all the same.
                Err(error @ (Error::Refused(Errno::EFAULT) | Error::Io { .. })) => {
                    return if done == 0 { Err(error) } else { Ok(done) };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}
