//! The commit: how the running transaction becomes durable (TXC of races.md §7.4, B-2).

use super::superblock::Superblock;
use super::writes::{Writes, flush, write_super};
use super::{OBJECT_TRANSACTION, Store};
use crate::defects::Defect;
use crate::error::{Error, Result};
use machine::disk::{Note, Request};
use machine::{Access, Bio, DeviceId, LockClass, Object, Site, Task};

/// The class of the lock of superblock writes.
pub static SUPER: LockClass = LockClass::new("SUPER", 68);

static BEGIN: Site = Site::new("commit.begin");
static WRITE_TREES: Site = Site::new("commit.write-trees");
static WRITE_SPACE: Site = Site::new("commit.write-space");
static WAIT_WRITES: Site = Site::new("commit.wait-writes");
static FLUSH: Site = Site::new("commit.flush");
static WRITE_SUPER: Site = Site::new("commit.super");
static DISCARD: Site = Site::new("commit.discard");
static RELEASE: Site = Site::new("commit.release");

const RUNNING: Object = Object::new(OBJECT_TRANSACTION, 0, 0);

impl Store {
    /// Makes everything durable that transactions joined before this call changed, and all data
    /// whose writes were acknowledged before it. The task must not hold a handle.
    ///
    /// # Errors
    /// `Io`, and then the file system is aborted: nothing of the transaction was published (B-3);
    /// `Aborted` if it was before; `Bug` if there is a log that was not pinned; `Stopped`.
    #[track_caller]
    pub fn commit(&self, task: &Task) -> Result<()> {
        self.check_alive()?;
        if self.log_unpinned.get() {
            return Err(Error::Bug("a commit would drop a log that was not replayed"));
        }
        task.site(&BEGIN, RUNNING, Access::Acquire)?;
        let closed = self.transaction.close(task)?; // TXC.1 to TXC.4
        self.check_alive()?;
        let result = self.commit_changes(task);
        if result.as_ref().is_err_and(|error| !error.is_stopped()) {
            self.abort();
        }
        drop(closed); // TXC.8
        result
    }

    fn commit_changes(&self, task: &Task) -> Result<()> {
        // B-3, E-6: what is written in place goes first, so that its errors forbid the rest.
        if self.buffers.is_used() {
            self.buffers.write_all(task)?;
        }
        if self.is_dirty() {
            return self.commit_closed(task);
        }
        // B-4: data overwritten in place needs its barrier all the same.
        self.flush_devices(task)
    }

    /// Whether a commit has anything to write.
    pub fn is_dirty(&self) -> bool {
        let has_log = self.committed.borrow().log.is_some();
        has_log || self.space.is_dirty() || self.trees.iter().any(|tree| tree.is_dirty())
    }

    fn commit_closed(&self, task: &Task) -> Result<()> {
        let generation = self.transaction.generation();
        let mut writes = Writes::default();
        // TXC.5: trees, then the free-space map that their new places are in.
        task.site(&WRITE_TREES, RUNNING, Access::Io)?;
        let mut roots = self.committed.borrow().roots;
        for (root, tree) in roots.iter_mut().zip(&self.trees) {
            *root = tree.write(task, &mut writes, "tree node")?;
        }
        task.site(&WRITE_SPACE, RUNNING, Access::Io)?;
        self.space.place_changes(task)?;
        let space = self.space.write_changes(generation);
        for (block, content) in space.contents {
            writes.submit(task, 0, block, content, "free-space map")?;
        }
        task.site(&WAIT_WRITES, RUNNING, Access::Read)?;
        writes.wait(task)?; // B-3: an error here forbids the superblock.
        if !self.defects().has(Defect::SuperNoPreflush) {
            self.flush_devices(task)?; // B-2: all of it is durable before it is pointed to.
        }
        let superblock = Superblock {
            sequence: 0,
            generation,
            free_blocks: self.space.free_blocks(),
            next_ino: self.next_ino.get(),
            roots,
            space: space.root,
            log: None, // B-6: what was logged is part of the trees now.
            ..self.committed.borrow().clone()
        };
        self.publish_super(task, superblock)?; // B-2
        self.transaction.advance();
        self.release_freed(task) // TXC.7
    }

    /// Flushes the caches of all devices of the image (B-1.5, B-2).
    ///
    /// # Errors
    /// `Io`; `Stopped`.
    pub fn flush_devices(&self, task: &Task) -> Result<()> {
        task.site(&FLUSH, RUNNING, Access::Io)?;
        flush(task, 0..self.devices(), "flush")
    }

    /// Flushes the cache of one device.
    ///
    /// # Errors
    /// `Io`; `Stopped`.
    pub fn flush_device(&self, task: &Task, device: u8) -> Result<()> {
        task.site(&FLUSH, RUNNING, Access::Io)?;
        flush(task, device..device + 1, "flush")
    }

    /// The device that the log lives on.
    pub fn log_device(&self) -> u8 {
        self.devices() - 1
    }

    /// Writes the next superblock, with FUA, in the place of the older copy.
    pub(super) fn publish_super(&self, task: &Task, superblock: Superblock) -> Result<()> {
        let _super = self.super_lock.lock(task)?;
        let sequence = self.committed.borrow().sequence + 1;
        let superblock = Superblock { sequence, ..superblock };
        task.site(&WRITE_SUPER, RUNNING, Access::Io)?;
        self.write_super(task, &superblock)?;
        *self.committed.borrow_mut() = superblock;
        Ok(())
    }

    /// One superblock, in one sector, with FUA.
    pub(super) fn write_super(&self, task: &Task, superblock: &Superblock) -> Result<()> {
        let fua = !self.defects().has(Defect::SuperNoFua);
        if self.defects().has(Defect::TornSuperNoChecksum) {
            return write_super(task, superblock.slot(), superblock.encode_unsummed(), 0x03, fua);
        }
        write_super(task, superblock.slot(), superblock.encode(), 0x01, fua)
    }

    /// Lets go of what the durable transaction freed, and of the log that it made obsolete.
    fn release_freed(&self, task: &Task) -> Result<()> {
        if self.options.discard {
            // Only after the commit is durable, and before anybody may use the blocks again.
            task.site(&DISCARD, RUNNING, Access::Io)?;
            let mut bios: Vec<Bio> = Vec::new();
            for run in self.space.discardable_runs() {
                let count = run.len_blocks as u32;
                let request = Request::Discard { device: DeviceId(0), block: run.block, count };
                bios.push(task.submit(request, Note { tag: run.block, what: "discard" })?);
            }
            for bio in bios {
                // A discard is advice: its failure changes nothing.
                let _outcome = bio.wait(task)?;
            }
        }
        task.site(&RELEASE, RUNNING, Access::Release)?;
        self.logs.clear(); // B-5
        self.unshared.borrow_mut().clear();
        self.space.finish_commit();
        self.keep_for_deletions();
        Ok(())
    }

    /// Makes the file system read-only for good (E-6: an error is kept where nobody can miss it).
    pub fn abort(&self) {
        self.aborted.set(true);
    }

    /// Refuses to go on after an abort.
    ///
    /// # Errors
    /// `Aborted`.
    pub fn check_alive(&self) -> Result<()> {
        if self.aborted.get() { Err(Error::Aborted) } else { Ok(()) }
    }
}
