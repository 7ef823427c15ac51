//! Buffers of metadata blocks, with the lifetime of thread 001: references of which one may belong
//! to the cache itself (`TREE_REF`), a count of pages under IO, and a reclaim that takes away what
//! nobody else refers to.
//!
//! A buffer is one block in two pages, each with a lock of its own, so that locking all of them can
//! fail half-way. A page is half a block (2 KiB): the pages of a buffer are then written by
//! requests of their own, one after the other or at once, as the pages of a larger node are, and
//! still belong to one block of the medium.
//!
//! Every numbered step of races.md §2.a.1 is one line or one call here, and a site: `FE` and `A` in
//! `find`, `RE` in `read`, `FR` in `free`, `RL` in `release`, `SD` in `dirty`, `WE` in `write`.
//! What stands here is the protocol that the thread and its successors arrived at (rules E-1 to E-6
//! of §7.3); historical steps are switched on by [`Rules`].
//!
//! Promises: I1 to I5, asserted after every step (`check`); a buffer under IO or dirty keeps its
//! place; what `read` brought or `modify` left is what `content` shows; an error of a write is
//! never forgotten (E-6). It must never know trees, nor what a block means.

mod buffer;
mod check;
mod dirty;
mod find;
mod free;
mod read;
mod release;
mod steps;
mod write;

use crate::classes::kind;
use crate::defects::{Defect, Defects};
use crate::error::{Error, Result};
use crate::options::MountOptions;
use buffer::{Bits, Buffer, Page, Slots};
use machine::cell::{Cell, RefCell};
use machine::fault::Fault;
use machine::{
    Access, Block, FaultKind, Guard, LockClass, Machine, Mutex, Object, Server, Site, Task,
};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub use buffer::BufferId;
pub use read::Wait;
pub(crate) use steps::SITES;

/// Pages of a buffer.
pub const PAGES: usize = 2;

/// The content of one buffer: who changes or writes it. The *tree lock* of races.md §2.
pub static EBLOCK: LockClass = LockClass::new("EBLOCK", 76);

/// The end of a buffer that loses its last reference. Waited for with nothing below it held.
pub static EBGONE: LockClass = LockClass::new("EBGONE", 83);

/// A page of a buffer. Between the locks of trees and those of the cache, and held over IO.
pub static EBPAGE: LockClass = LockClass::new("EBPAGE", 84);

/// Which buffer a page belongs to (`private_lock`).
pub static EBPRIV: LockClass = LockClass::new("EBPRIV", 85);

/// References and state bits of one buffer (`refs_lock`).
pub static EBREF: LockClass = LockClass::new("EBREF", 86);

/// The index of buffers by block, and its tags.
pub static EBTREE: LockClass = LockClass::new("EBTREE", 90);

/// The end of a buffer's IO; served by the device alone, as IOWAIT is.
pub static EBIO: LockClass = LockClass::new("EBIO", 94);

const TAGS: Object = Object::new(kind::BUFFER_TAGS, 0, 0);

/// Which steps are followed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// FE2, FE4, FR1 and WE1 without a lock, as Linux has them; otherwise E-1 holds.
    pub fast_path: bool,
    /// WE7b: the write path makes sure of the cache's reference, too.
    pub hunk: bool,
    /// The defects that are on.
    pub defects: Defects,
}

impl Rules {
    /// The rules of a mount.
    pub fn new(options: &MountOptions, defects: Defects) -> Rules {
        Rules { fast_path: options.eb_fast_path, hunk: options.eb_hunk, defects }
    }

    /// Whether references are taken without a lock. Some defects are races against that.
    fn is_lockless(self) -> bool {
        const RACES: [Defect; 5] = [
            Defect::EbReadNoTreeRefRecheck,
            Defect::EbDirtyCheckBeforeBit,
            Defect::EbDirtyBitBeforeCheck,
            Defect::EbDirtyToWritebackGap,
            Defect::EbStaleFreeRace,
        ];
        self.fast_path || !self.locks_refs() || RACES.iter().any(|&race| self.defects.has(race))
    }

    fn locks_refs(self) -> bool {
        !self.defects.has(Defect::EbNoRefsLock)
    }
}

/// The buffers of one device.
pub struct Buffers {
    machine: Machine,
    device: u8,
    /// What its requests are called in reports.
    what: &'static str,
    rules: Cell<Rules>,
    private_lock: Mutex,
    tree_lock: Mutex,
    state: RefCell<State>,
    /// E-6: a write failed, whatever became of the buffer.
    failed: Cell<Option<u64>>,
}

#[derive(Default)]
struct State {
    slots: Slots,
    /// The buffers that can be found (`IN_TREE`), by block.
    index: BTreeMap<u64, BufferId>,
    /// Those that are not in the index yet, or not any more.
    hidden: Vec<BufferId>,
    /// Blocks with the tag of dirty pages (SD3).
    dirty: BTreeSet<u64>,
    /// Pages stay when their buffer goes; then they belong to none.
    pages: BTreeMap<u64, [Rc<Page>; PAGES]>,
}

impl Buffers {
    /// No buffers yet.
    pub fn new(machine: &Machine, device: u8, what: &'static str, rules: Rules) -> Rc<Buffers> {
        Rc::new(Buffers {
            machine: machine.clone(),
            device,
            what,
            rules: Cell::new(rules),
            private_lock: Mutex::new(machine, &EBPRIV, (u64::from(device), 0)),
            tree_lock: Mutex::new(machine, &EBTREE, (u64::from(device), 0)),
            state: RefCell::default(),
            failed: Cell::new(None),
        })
    }

    /// Switches historical steps on, before anything is read.
    pub fn set_rules(&self, rules: Rules) {
        debug_assert!(self.is_empty(), "rules hold for the whole life of a buffer");
        self.rules.set(rules);
    }

    /// Whether there has ever been a buffer.
    pub fn is_used(&self) -> bool {
        !self.state.borrow().pages.is_empty()
    }

    /// How many buffers there are.
    pub fn len(&self) -> usize {
        self.state.borrow().index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blocks that have a buffer, from `from` on.
    pub fn blocks_from(&self, from: u64) -> Option<u64> {
        self.state.borrow().index.range(from..).next().map(|(&block, _)| block)
    }

    /// What a buffer holds that the caller refers to; `None` if it was never read or written.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn content(&self, task: &Task, id: BufferId) -> Result<Option<Block>> {
        let buffer = self.at(id, "content")?;
        self.step(task, &steps::CONTENT, &buffer, Access::Read)?;
        let is_there = buffer.has(Bits::UPTODATE);
        Ok(buffer.content.borrow().clone().filter(|_| is_there))
    }

    /// Locks the content of a buffer that the caller refers to.
    ///
    /// # Errors
    /// `Stopped`.
    #[track_caller]
    pub fn lock(&self, task: &Task, id: BufferId) -> Result<Guard> {
        let buffer = self.at(id, "lock")?;
        let guard = buffer.lock.lock(task)?;
        self.touch(&buffer, "lock")?;
        Ok(guard)
    }

    /// The block that a buffer belongs to.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn block_of(&self, id: BufferId) -> Result<u64> {
        Ok(self.at(id, "block")?.block)
    }

    /// One step of a protocol: what all steps before it left is checked, another task may go first,
    /// and then the buffer must still be there.
    fn step(
        &self,
        task: &Task,
        site: &'static Site,
        buffer: &Buffer,
        access: Access,
    ) -> Result<()> {
        self.glance(task, site, buffer, access)?;
        self.touch(buffer, site.name())
    }

    /// A step on a buffer that may be gone: in a read section (RCU), its memory stays.
    fn glance(
        &self,
        task: &Task,
        site: &'static Site,
        buffer: &Buffer,
        access: Access,
    ) -> Result<()> {
        self.assert_block(buffer.block)?;
        task.site(site, self.object(buffer.block), access)?;
        Ok(())
    }

    fn object(&self, block: u64) -> Object {
        Object::new(kind::BUFFER, u64::from(self.device), block)
    }

    /// The buffer that a reference leads to.
    fn at(&self, id: BufferId, step: &'static str) -> Result<Rc<Buffer>> {
        let found = self.state.borrow().slots.get(id);
        found.ok_or_else(|| self.use_after_free(id, step))
    }

    /// I5: a buffer that is touched is still there.
    fn touch(&self, buffer: &Buffer, step: &'static str) -> Result<()> {
        match self.state.borrow().slots.is_live(buffer.id) {
            true => Ok(()),
            false => Err(self.use_after_free(buffer.id, step)),
        }
    }

    fn use_after_free(&self, id: BufferId, step: &'static str) -> Error {
        self.machine.report(Fault {
            kind: FaultKind::UseAfterFree,
            message: format!("{step} touches buffer {id}, which was freed"),
            details: Vec::new(),
            key: format!("use-after-free {step}"),
        });
        Error::Stopped
    }

    /// The lock of a buffer's references, unless the rules do without.
    #[track_caller]
    fn lock_refs(&self, task: &Task, buffer: &Buffer) -> Result<Option<Guard>> {
        if !self.rules.get().locks_refs() {
            return Ok(None);
        }
        Ok(Some(buffer.refs_lock.lock(task)?))
    }

    /// Both pages of a block, which need not have a buffer.
    fn pages(&self, block: u64) -> [Rc<Page>; PAGES] {
        let mut state = self.state.borrow_mut();
        let pages = state.pages.entry(block).or_insert_with(|| {
            std::array::from_fn(|index| Rc::new(Page::new(&self.machine, block, index)))
        });
        pages.clone()
    }

    /// Waits until a buffer that the caller refers to is not under writeback.
    #[track_caller]
    fn wait_writeback(&self, task: &Task, buffer: &Buffer) -> Result<()> {
        let object = self.object(buffer.block);
        let done = || !buffer.has(Bits::WRITEBACK);
        task.wait(&buffer.ended, &EBIO, object, Server::Device, done)?;
        Ok(())
    }
}
