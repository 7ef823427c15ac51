//! Transactions: which changes become durable together.
//!
//! There is one running transaction. Whoever changes something joins it and holds a handle; a
//! commit waits for the handles, writes what changed, and starts the next transaction.
//!
//! Promises: W-3, a commit blocks new joins of users at once, but those of completions only when
//! no ordered extent is pending any more, as they need to join to complete. It must never know what
//! is changed.

use super::space::{Claim, Irrevocable, Reserve, Space, Urgency};
use crate::error::{Error, Result};
use machine::cell::{Cell, RefCell};
use machine::{
    Access, Guard, LockClass, Machine, Object, RwLock, Server, Site, Task, TaskId, WaitQueue,
};
use smallvec::SmallVec;
use std::rc::{Rc, Weak};

/// The class of handles of users.
pub static TX: LockClass = LockClass::new("TX", 60);

/// The class of a commit's wait for pending ordered extents; served by completion workers.
pub static PENDING: LockClass = LockClass::new("PENDING", 61);

/// The class of handles of completions.
pub static TXCW: LockClass = LockClass::new("TXCW", 62);

/// The kind of object that events name for the running transaction.
pub const OBJECT_TRANSACTION: u8 = 111;

static JOIN: Site = Site::new("transaction.join");

/// On whose behalf a transaction is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// A system call, writeback, or fsync.
    User,
    /// A completion worker: what it does, a commit may be waiting for (W-3).
    Completion,
}

/// How urgent the needs of a join are, if it frees nothing.
const fn urgency_of(join: Join) -> Urgency {
    match join {
        Join::User => Urgency::Ordinary,
        Join::Completion => Urgency::Completion,
    }
}

/// Which tasks have joined.
type Tasks = SmallVec<[(TaskId, Weak<Joined>); 4]>;

/// The running transaction.
pub(crate) struct Transaction {
    generation: Rc<Cell<u64>>,
    space: Rc<Space>,
    /// Read-held by users; write-held by a commit.
    users: RwLock,
    /// Read-held by completions; write-held by a commit that has waited for pending extents.
    completions: RwLock,
    /// A commit lets no new user in, whatever order the locks serve in.
    is_closing: Rc<Cell<u32>>,
    /// The task that closed it last, for the wait-for graph.
    closer: Cell<Option<TaskId>>,
    gate: WaitQueue,
    pending: Rc<Cell<u64>>,
    pending_queue: WaitQueue,
    /// Handles by task, so that a task that joins twice holds one.
    joined: RefCell<Tasks>,
}

/// Membership in the running transaction: it does not commit while a handle lives. Clones are
/// nested joins of the same task.
#[derive(Clone)]
pub struct Handle(Rc<Joined>);

struct Joined {
    generation: u64,
    join: Join,
    is_freeing: Cell<bool>,
    irrevocable: RefCell<Option<Irrevocable>>,
    reserve: Reserve,
    _guard: Guard,
}

impl Handle {
    /// The transaction joined.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// On whose behalf it was joined.
    pub fn join(&self) -> Join {
        self.0.join
    }

    /// What this task does frees space: it may use the blocks that are kept for that.
    pub fn set_freeing(&self) {
        self.0.is_freeing.set(true);
    }

    /// What this task has begun can not be refused any more: it may use all that is kept.
    pub fn set_irrevocable(&self) {
        let mut irrevocable = self.0.irrevocable.borrow_mut();
        irrevocable.get_or_insert_with(|| self.0.reserve.space().begin_irrevocable());
    }

    /// As [`set_irrevocable`](Self::set_irrevocable) while `work` runs.
    pub fn irrevocably<T>(&self, work: impl FnOnce() -> T) -> T {
        let was = self.0.irrevocable.borrow().is_some();
        self.set_irrevocable();
        let done = work();
        if !was {
            self.0.irrevocable.take();
        }
        done
    }

    /// Reserves blocks for what this handle will change.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn reserve_blocks(&self, blocks: u64) -> Result<()> {
        self.0.reserve.add(blocks, self.urgency())
    }

    /// Makes sure that at least `blocks` are reserved; returns how many were added, to be given
    /// back with [`settle`](Self::settle) as far as they were not spent. What nobody can refuse any
    /// more, or frees space itself, goes on with less than the worst case if there is no more.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn top_up(&self, blocks: u64) -> Result<u64> {
        let added = blocks.saturating_sub(self.0.reserve.blocks());
        match self.0.reserve.add(added, self.urgency()) {
            Err(Error::NoSpace { .. }) if self.urgency() > Urgency::Ordinary => Ok(0),
            result => result.map(|()| added),
        }
    }

    /// The end of what a [`top_up`](Self::top_up) was for.
    pub(crate) fn settle(&self, added: u64) {
        self.0.reserve.give_back(added);
    }

    fn urgency(&self) -> Urgency {
        match urgency_of(self.0.join) {
            _ if self.0.irrevocable.borrow().is_some() => Urgency::Completion,
            Urgency::Ordinary if self.0.is_freeing.get() => Urgency::Freeing,
            urgency => urgency,
        }
    }

    /// What it may allocate.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim {
            reserve: Some(&self.0.reserve),
            urgency: self.urgency(),
            generation: self.0.generation,
        }
    }
}

/// The running transaction, closed for a commit: no handle is out, none is given out.
pub(crate) struct Closed {
    is_closing: Rc<Cell<u32>>,
    gate: WaitQueue,
    _users: Option<Guard>,
    _completions: Option<Guard>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self._completions = None;
        self._users = None;
        self.is_closing.set(self.is_closing.get() - 1);
        if self.is_closing.get() == 0 {
            self.gate.wake_all();
        }
    }
}

impl Transaction {
    /// The transaction of this generation.
    pub(crate) fn new(machine: &Machine, generation: u64, space: Rc<Space>) -> Transaction {
        Transaction {
            generation: Rc::new(Cell::new(generation)),
            space,
            users: RwLock::new(machine, &TX, (0, 0)),
            completions: RwLock::new(machine, &TXCW, (0, 0)),
            is_closing: Rc::default(),
            closer: Cell::new(None),
            gate: WaitQueue::new(machine),
            pending: Rc::default(),
            pending_queue: WaitQueue::new(machine),
            joined: RefCell::default(),
        }
    }

    /// The generation of the running transaction.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The running transaction is durable; the next one begins.
    pub(crate) fn advance(&self) {
        self.generation.set(self.generation.get() + 1);
    }

    /// Joins the running transaction, or the next one if it is being committed.
    #[track_caller]
    pub(crate) fn join(&self, task: &Task, join: Join) -> Result<Handle> {
        if let Some(handle) = self.joined_by(task.id()) {
            return Ok(handle);
        }
        task.site(&JOIN, Object::new(OBJECT_TRANSACTION, 0, 0), Access::Acquire)?;
        let guard = match join {
            Join::User => {
                let is_closing = &self.is_closing;
                let gate = Object::new(OBJECT_TRANSACTION, 0, 1);
                // TXC.1: users do not pass a waiting commit.
                let server = self.closer.get().map_or(Server::Any, Server::Task);
                task.wait(&self.gate, &TX, gate, server, || is_closing.get() == 0)?;
                self.users.read(task)?
            }
            // W-3: a commit blocks completions only once nothing is pending.
            Join::Completion => self.completions.read(task)?,
        };
        let joined = Joined {
            generation: self.generation.get(),
            join,
            is_freeing: Cell::new(false),
            irrevocable: RefCell::default(),
            reserve: self.space.reserve(0, urgency_of(join))?,
            _guard: guard,
        };
        let handle = Handle(Rc::new(joined));
        let mut list = self.joined.borrow_mut();
        list.retain(|(_, other)| other.strong_count() > 0);
        list.push((task.id(), Rc::downgrade(&handle.0)));
        Ok(handle)
    }

    fn joined_by(&self, task: TaskId) -> Option<Handle> {
        let list = self.joined.borrow();
        list.iter()
            .filter(|(id, _)| *id == task)
            .find_map(|(_, joined)| joined.upgrade())
            .map(Handle)
    }

    /// Closes the transaction for a commit.
    #[track_caller]
    pub(crate) fn close(&self, task: &Task) -> Result<Closed> {
        assert!(self.joined_by(task.id()).is_none(), "a task cannot commit what it has joined");
        self.is_closing.set(self.is_closing.get() + 1);
        self.closer.set(Some(task.id()));
        let mut closed = Closed {
            is_closing: self.is_closing.clone(),
            gate: self.gate.clone(),
            _users: None,
            _completions: None,
        };
        closed._users = Some(self.users.write(task)?); // TXC.1, TXC.2
        let pending = &self.pending;
        let object = Object::new(OBJECT_TRANSACTION, 0, 2);
        let server = Server::Worker("cw");
        task.wait(&self.pending_queue, &PENDING, object, server, || pending.get() == 0)?; // TXC.3
        closed._completions = Some(self.completions.write(task)?); // TXC.4
        Ok(closed)
    }

    /// An ordered extent belongs to the running transaction until
    /// [`end_pending`](Self::end_pending).
    pub(crate) fn begin_pending(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    /// It is complete.
    pub(crate) fn end_pending(&self) {
        assert!(self.pending.get() > 0, "ends come after beginnings");
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() == 0 {
            self.pending_queue.wake_all();
        }
    }

    /// How many ordered extents are pending.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.get()
    }
}
