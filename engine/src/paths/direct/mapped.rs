//! DREAD and DWRITE whose user memory is a mapping, of the same file or of another one (races.md
//! §7.4, §5.a NOFAULT).
//!
//! RL is held over the whole call, so that nothing moves the end of the file meanwhile; ML only
//! while memory is copied nofault and until what was copied is written. A write goes round: fault
//! in, ML, evict, copy what is resident, write exactly that, wait for it. A round without progress,
//! as when the eviction takes away the memory itself, ends in WRITE(buffered).
//!
//! Promises: no fault under ML (F-1, F-4); every round makes progress or is the last (F-5).
//! It must never know whose the memory is.

use super::{AsyncIo, EVICTED, Iocb, check_alignment};
use crate::classes::{IOCB_PART, kind};
use crate::defects::Defect;
use crate::error::{Errno, Result};
use crate::fs::{File, Fs, Sync};
use crate::inode::Inode;
use crate::inode::span::{FILE_BYTES_MAX, Span};
use crate::paths::historical::is_whole;
use crate::paths::memory::{Source, Touch, UserMemory};
use crate::paths::write::{floor, write_span};
use crate::paths::writeback::Room;
use machine::{Access, Mode, Object, Server, Task};
use std::rc::Rc;

impl Fs {
    /// DREAD into a mapping. Fewer bytes at the end of the file, or where memory ends.
    pub(crate) fn direct_read_into(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        offset: u64,
        memory: &UserMemory,
    ) -> Result<usize> {
        check_memory(offset, memory)?;
        let end = offset.saturating_add(memory.len()).min(FILE_BYTES_MAX);
        let span = Span::new(offset.min(end), end);
        if span.is_empty() {
            return Ok(0);
        }
        let _rl = inode.rl.lock(task, span.lock_range(), Mode::Read)?; // DREAD.1
        let span = span.intersection(Span::new(0, inode.size())); // stable under RL
        if span.is_empty() {
            return Ok(0);
        }
        self.fault_in_for(task, inode, span, &memory.first(span.len()), Touch::Store)?; // DREAD.2
        let iocb = Iocb::new(task, inode, span);
        self.flush_for_read(task, &iocb, span)?; // DREAD.3
        let blocks = span.blocks();
        *iocb.data.borrow_mut() = vec![None; blocks.len() as usize];
        self.submit_reads(task, inode, &iocb, blocks)?; // DREAD.4, DREAD.5
        self.end_piece(&iocb);
        iocb.wait(task, &IOCB_PART)?; // DREAD.6: RL stays with the task
        self.copy_to_memory(task, memory, &AsyncIo(iocb).bytes()) // DREAD.7: dirty; -RL
    }

    /// DWRITE from a mapping. Fewer bytes if an error follows the first of them.
    pub(crate) fn direct_write_from(
        &self,
        task: &Task,
        file: &File,
        offset: u64,
        memory: &UserMemory,
        sync: Sync,
    ) -> Result<usize> {
        check_memory(offset, memory)?;
        let inode = file.inode();
        let span = write_span(offset, memory.len() as usize)?;
        if span.is_empty() {
            return Ok(0);
        }
        let done = {
            let _rl = self.lock_write(task, inode, span)?; // DWRITE.1
            self.write_rounds(task, inode, span, memory)?
        };
        file.sync_write(task, Span::new(span.start, span.start + done), sync)?; // CW.6
        Ok(done as usize)
    }

    /// DWRITE.2 to DWRITE.10 in rounds, with RL W held. Tells how many bytes were written.
    fn write_rounds(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        memory: &UserMemory,
    ) -> Result<u64> {
        self.clear_tail(task, inode, span.start)?;
        let mut done = 0;
        while done < span.len() {
            let rest = Span::new(span.start + done, span.end);
            let wanted = memory.after(done).first(rest.len());
            match self.write_some(task, inode, rest, &wanted) {
                Ok(count) => done += count,
                Err(error) if done == 0 || error.is_stopped() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// The next bytes of a write: at least one, unless there is an error.
    fn write_some(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        memory: &UserMemory,
    ) -> Result<u64> {
        self.fault_in_for(task, inode, span, memory, Touch::Load)?; // DWRITE.3
        if is_whole(span) && self.defects().has(Defect::DioGupWaitsOwnOe) {
            return self.write_published(task, inode, span, memory);
        }
        match self.write_round(task, inode, span, memory)? {
            0 if self.defects().has(Defect::DioRetryNoProgressBound) => {
                task.progress("writing from memory").map(|()| Ok(0))?
            }
            0 => self.write_cached(task, inode, span, memory), // F-5
            count => Ok(count),
        }
    }

    /// DWRITE.2 and DWRITE.4 to DWRITE.10 of as much memory as is resident under ML; none if none
    /// is. RL W is held.
    fn write_round(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        memory: &UserMemory,
    ) -> Result<u64> {
        let blocks = span.blocks();
        let reserve = self.reserve_direct(task, inode, blocks)?; // DWRITE.2
        let ml = inode.ml.lock(task, blocks.bytes().lock_range(), Mode::Write)?; // DWRITE.4
        self.flush_range(task, inode, blocks.bytes())?; // DWRITE.5
        self.evict(task, inode, blocks)?; // DWRITE.5
        task.site(&EVICTED, Object::new(kind::INODE, inode.ino.0, blocks.start), Access::Read)?;
        if inode.pages.first_in(blocks).is_some() {
            return Ok(0); // DWRITE.5: a page was left, the fallback
        }
        self.wait_ordered(task, inode, blocks)?; // DWRITE.6
        let mut bytes = vec![0; span.len() as usize];
        let copied = self.copy_from_resident(task, memory, &mut bytes)?; // DWRITE.8, F-4
        let mut part = Span::new(span.start, span.start + copied as u64);
        if part.end < span.end {
            part.end = floor(part.end).max(span.start); // a cut leaves whole blocks
        }
        if part.is_empty() {
            return Ok(0);
        }
        // DWRITE.7: exactly what was copied
        let contents = self.contents_for(task, inode, part, &bytes[..part.len() as usize])?;
        let is_split = !self.defects().has(Defect::DioPartialOeNotSplit);
        let iocb = Iocb::new(task, inode, if is_split { part } else { span });
        let published = iocb.span.blocks();
        // DWRITE.7 to DWRITE.9
        self.submit_pieces(task, &iocb, published, &contents, reserve.as_ref())?;
        let ml = ml.into_token(Server::Worker("cw"));
        iocb.tokens.borrow_mut().push(ml); // DWRITE.9: RL stays with the task
        self.end_piece(&iocb);
        Ok((iocb.wait(task, &IOCB_PART)? as u64).min(part.len()))
    }

    /// DWRITE.7 before DWRITE.8, and no lock in between: memory is copied, with faults, for what is
    /// published already. RL W is held.
    fn write_published(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        memory: &UserMemory,
    ) -> Result<u64> {
        let blocks = span.blocks();
        let reserve = self.reserve_direct(task, inode, blocks)?; // DWRITE.2
        let ml = inode.ml.lock(task, blocks.bytes().lock_range(), Mode::Write)?; // DWRITE.4
        self.flush_range(task, inode, blocks.bytes())?; // DWRITE.5
        self.evict(task, inode, blocks)?; // DWRITE.5
        self.wait_ordered(task, inode, blocks)?; // DWRITE.6
        let iocb = Iocb::new(task, inode, span);
        let (room, reserve) = (Room::Plenty, reserve.as_ref());
        let ordered = self.publish_direct(task, &iocb, blocks, room, reserve)?; // DWRITE.7
        drop(ml);
        let part = ordered.blocks.bytes();
        match self.copy_from_memory(task, &memory.first(part.len())) {
            Ok(bytes) => {
                let contents = self.contents_for(task, inode, part, &bytes)?; // DWRITE.8
                self.submit_ordered(task, &ordered, &contents)?;
            }
            Err(error) if error.is_stopped() => return Err(error),
            Err(error) => {
                iocb.fail_write(error);
                ordered.end_io(false);
                self.ensure_completion_workers();
                self.queue_completion(ordered);
            }
        }
        self.end_piece(&iocb);
        iocb.wait(task, &IOCB_PART)?; // DWRITE.9
        Ok(part.len())
    }

    /// DREAD.2, DWRITE.3: faults memory in, for IO of a range that is locked with RL alone.
    fn fault_in_for(
        &self,
        task: &Task,
        inode: &Inode,
        span: Span,
        memory: &UserMemory,
        touch: Touch,
    ) -> Result<()> {
        let abba = self.defects().has(Defect::DioTwoFileAbba) && !memory.is_of(inode);
        let _ml = if abba || self.defects().has(Defect::DioGupUnderRangeLock) {
            Some(inode.ml.lock(task, span.blocks().bytes().lock_range(), Mode::Write)?)
        } else {
            None
        };
        self.fault_in(task, memory, touch) // F-1
    }

    /// F-5: through the cache, then to the device. RL W is held.
    fn write_cached(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        span: Span,
        memory: &UserMemory,
    ) -> Result<u64> {
        let written = self.write_locked(task, inode, span, &Source::Mapped(memory.clone()))? as u64;
        self.flush_range(task, inode, Span::new(span.start, span.start + written))?;
        Ok(written)
    }
}

/// Direct IO is done in sectors, in memory too.
fn check_memory(offset: u64, memory: &UserMemory) -> Result<()> {
    if !memory.is_aligned() {
        return Err(Errno::EINVAL.into());
    }
    check_alignment(offset, memory.len() as usize)
}
