//! The workers of a mount: completion, dsync, trim, flusher, committer, reclaim.
//!
//! A worker is created when there is first something for it to do. The flusher, the committer and
//! reclaim also wake by themselves, a number of times that the mount options give; when they then
//! run is the scheduler's choice, as that of every task.
//!
//! Promises: a worker without work is idle, and all of them end at unmount. It must never know what
//! the work consists of.

use super::direct::Iocb;
use super::writeback::Effort;
use crate::classes::{WORKERS, kind};
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::{File, Fs, Sync};
use crate::inode::ordered::OrderedExtent;
use crate::inode::span::{Blocks, Span};
use crate::options::MountOptions;
use crate::types::Ino;
use machine::cell::{Cell, RefCell};
use machine::{Kind, Machine, Object, Server, Stopped, Task, WaitQueue};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// The names of completion workers.
const COMPLETION: [&str; 4] = ["cw0", "cw1", "cw2", "cw3"];

/// A write that is part of the file and is now to be made durable.
type DsyncWork = (Rc<Iocb>, File, Sync);

/// Queues and budgets.
pub struct Workers {
    completions: RefCell<VecDeque<Rc<OrderedExtent>>>,
    completion_work: WaitQueue,
    completion_count: u8,
    dsyncs: RefCell<VecDeque<DsyncWork>>,
    dsync_work: WaitQueue,
    trims: RefCell<VecDeque<Rc<Iocb>>>,
    trim_work: WaitQueue,
    /// Inodes that have had dirty pages since the flusher looked at them.
    dirty: RefCell<BTreeSet<Ino>>,
    flusher: Wakeups,
    committer: Wakeups,
    reclaimer: Wakeups,
    spawned: Cell<u8>,
    alive: Cell<u32>,
    stopping: Cell<bool>,
    ended: WaitQueue,
}

/// When a worker runs that has work of its own accord.
struct Wakeups {
    budget: Cell<u32>,
    demanded: Cell<bool>,
    work: WaitQueue,
}

impl Wakeups {
    fn new(machine: &Machine, budget: u32) -> Wakeups {
        let (budget, demanded) = (Cell::new(budget), Cell::new(false));
        Wakeups { budget, demanded, work: WaitQueue::new(machine) }
    }

    fn may_run(&self) -> bool {
        self.demanded.get() || self.budget.get() > 0
    }

    /// Takes one wakeup: on demand, or of the budget.
    fn take(&self) {
        if !self.demanded.replace(false) {
            assert!(self.budget.get() > 0, "a worker ran without a reason");
            self.budget.set(self.budget.get() - 1);
        }
    }
}

/// Bits of `spawned`.
const SPAWNED_COMPLETION: u8 = 1;
const SPAWNED_DSYNC: u8 = 2;
const SPAWNED_FLUSHER: u8 = 4;
const SPAWNED_COMMITTER: u8 = 8;
const SPAWNED_RECLAIMER: u8 = 16;
const SPAWNED_TRIM: u8 = 32;

impl Workers {
    pub(crate) fn new(machine: &Machine, options: &MountOptions) -> Workers {
        Workers {
            completions: RefCell::default(),
            completion_work: WaitQueue::new(machine),
            completion_count: options.workers.clamp(1, COMPLETION.len() as u8),
            dsyncs: RefCell::default(),
            dsync_work: WaitQueue::new(machine),
            trims: RefCell::default(),
            trim_work: WaitQueue::new(machine),
            dirty: RefCell::default(),
            flusher: Wakeups::new(machine, options.flusher),
            committer: Wakeups::new(machine, options.committer),
            reclaimer: Wakeups::new(machine, options.reclaimer),
            spawned: Cell::new(0),
            alive: Cell::new(0),
            stopping: Cell::new(false),
            ended: WaitQueue::new(machine),
        }
    }

    /// Forgets all work, as a mount that is abandoned does.
    pub(crate) fn abandon(&self) {
        self.stopping.set(true);
        self.completions.borrow_mut().clear();
        self.dsyncs.borrow_mut().clear();
        self.trims.borrow_mut().clear();
        self.dirty.borrow_mut().clear();
    }

    fn wake_everybody(&self) {
        self.completion_work.wake_all();
        self.dsync_work.wake_all();
        self.trim_work.wake_all();
        self.flusher.work.wake_all();
        self.committer.work.wake_all();
        self.reclaimer.work.wake_all();
    }
}

impl Fs {
    /// Creates a worker unless there is one. What it runs ends when the mount does.
    fn spawn_once(&self, bit: u8, name: &'static str, body: fn(&Fs, &Task) -> Result<(), Stopped>) {
        let workers = self.workers();
        if workers.spawned.get() & bit != 0 && bit != SPAWNED_COMPLETION {
            return;
        }
        workers.spawned.set(workers.spawned.get() | bit);
        workers.alive.set(workers.alive.get() + 1);
        let fs = self.clone();
        let run = move |task: &Task| {
            let result = body(&fs, task);
            let workers = fs.workers();
            workers.alive.set(workers.alive.get() - 1);
            workers.ended.wake_all();
            result
        };
        self.machine().spawn(name, Kind::Worker, Box::new(run));
    }

    /// Ends all workers; nothing may be left for them to do.
    pub(crate) fn end_workers(&self, task: &Task) -> Result<()> {
        let workers = self.workers();
        workers.stopping.set(true);
        workers.wake_everybody();
        let object = Object::new(kind::WORK, 0, 0);
        task.wait(&workers.ended, &WORKERS, object, Server::Any, || workers.alive.get() == 0)?;
        debug_assert!(
            workers.completions.borrow().is_empty() && workers.dsyncs.borrow().is_empty()
        );
        debug_assert!(workers.trims.borrow().is_empty());
        Ok(())
    }

    /// Completion workers exist from the first submission on: an interrupt creates none.
    pub(crate) fn ensure_completion_workers(&self) {
        let workers = self.workers();
        if workers.spawned.get() & SPAWNED_COMPLETION == 0 {
            for name in COMPLETION.iter().take(workers.completion_count.into()) {
                self.spawn_once(SPAWNED_COMPLETION, name, Fs::run_completions);
            }
        }
    }

    /// Hands an ordered extent whose IO is done to a completion worker. Called by interrupts.
    pub(crate) fn queue_completion(&self, ordered: Rc<OrderedExtent>) {
        let workers = self.workers();
        workers.completions.borrow_mut().push_back(ordered);
        workers.completion_work.wake_one();
    }

    /// W-4: hands what O_DSYNC adds to a worker of another class.
    pub(crate) fn queue_dsync(&self, iocb: Rc<Iocb>, file: File, sync: Sync) {
        self.workers().dsyncs.borrow_mut().push_back((iocb, file, sync));
        if self.defects().has(Defect::DsyncOnCompletionWorker) {
            return;
        }
        self.spawn_once(SPAWNED_DSYNC, "dsync", Fs::run_dsyncs);
        self.workers().dsync_work.wake_one();
    }

    /// W-4: hands the end of a failed direct write to a worker that may join a transaction. Not to
    /// the one for O_DSYNC, which may wait for the ranges that this request holds.
    pub(crate) fn queue_trim(&self, iocb: Rc<Iocb>) {
        self.workers().trims.borrow_mut().push_back(iocb);
        self.spawn_once(SPAWNED_TRIM, "trim", Fs::run_trims);
        self.workers().trim_work.wake_one();
    }

    /// A page became dirty.
    pub(crate) fn kick_flusher(&self, ino: Ino) {
        let workers = self.workers();
        workers.dirty.borrow_mut().insert(ino);
        if workers.flusher.may_run() {
            self.spawn_once(SPAWNED_FLUSHER, "flusher", Fs::run_flusher);
            workers.flusher.work.wake_all();
        }
    }

    /// The flusher is to run once beyond its budget, if anything is dirty.
    fn demand_flusher(&self) {
        let workers = self.workers();
        if !workers.dirty.borrow().is_empty() {
            workers.flusher.demanded.set(true);
            self.spawn_once(SPAWNED_FLUSHER, "flusher", Fs::run_flusher);
            workers.flusher.work.wake_all();
        }
    }

    /// Something joined the running transaction.
    pub(crate) fn kick_committer(&self) {
        let workers = self.workers();
        if workers.committer.may_run() {
            self.spawn_once(SPAWNED_COMMITTER, "committer", Fs::run_committer);
            workers.committer.work.wake_all();
        }
    }

    /// A page came into the cache: reclaim is demanded if there are too many.
    pub(crate) fn kick_reclaimer(&self) {
        let workers = self.workers();
        if self.has_too_many_pages() {
            workers.reclaimer.demanded.set(true);
        }
        if workers.reclaimer.may_run() {
            self.spawn_once(SPAWNED_RECLAIMER, "reclaimer", Fs::run_reclaimer);
            workers.reclaimer.work.wake_all();
        }
    }

    fn has_too_many_pages(&self) -> bool {
        let bound = u64::from(self.options().cache_pages);
        bound != 0 && self.cached_pages() > bound
    }

    fn run_completions(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        let is_waiting = || !workers.completions.borrow().is_empty();
        loop {
            let has_work = || is_waiting() || workers.stopping.get();
            task.idle(&workers.completion_work, has_work)?;
            let next = workers.completions.borrow_mut().pop_front();
            let Some(ordered) = next else {
                if workers.stopping.get() {
                    return Ok(());
                }
                continue; // another worker was faster
            };
            task.begin_operation();
            self.serve(task, ordered.iocb.as_deref());
            self.complete(task, &ordered).or_else(only_stopped)?;
            self.serve(task, None);
            if self.defects().has(Defect::DsyncOnCompletionWorker) {
                let dsync = workers.dsyncs.borrow_mut().pop_front();
                if let Some((iocb, file, sync)) = dsync {
                    self.serve(task, Some(&iocb));
                    self.end_synced(task, &iocb, &file, sync).or_else(only_stopped)?;
                    self.serve(task, None);
                }
            }
        }
    }

    fn run_dsyncs(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        loop {
            let has_work = || !workers.dsyncs.borrow().is_empty() || workers.stopping.get();
            task.idle(&workers.dsync_work, has_work)?;
            let next = workers.dsyncs.borrow_mut().pop_front();
            let Some((iocb, file, sync)) = next else { return Ok(()) };
            task.begin_operation();
            self.serve(task, Some(&iocb));
            self.end_synced(task, &iocb, &file, sync).or_else(only_stopped)?;
            self.serve(task, None);
        }
    }

    fn run_trims(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        loop {
            let has_work = || !workers.trims.borrow().is_empty() || workers.stopping.get();
            task.idle(&workers.trim_work, has_work)?;
            let next = workers.trims.borrow_mut().pop_front();
            let Some(iocb) = next else { return Ok(()) };
            task.begin_operation();
            self.serve(task, Some(&iocb));
            self.end_failed(task, &iocb).or_else(only_stopped)?;
            self.serve(task, None);
        }
    }

    fn run_flusher(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        loop {
            let has_dirty = || !workers.dirty.borrow().is_empty();
            let has_work = || workers.stopping.get() || workers.flusher.may_run() && has_dirty();
            task.idle(&workers.flusher.work, has_work)?;
            if workers.stopping.get() {
                return Ok(());
            }
            workers.flusher.take();
            let next = workers.dirty.borrow_mut().pop_first();
            let Some(inode) = next.and_then(|ino| self.inodes().find(ino)) else { continue };
            task.begin_operation();
            let all = Span::ALL.blocks();
            self.write_range(task, &inode, all, Effort::Try).or_else(only_stopped)?;
        }
    }

    fn run_committer(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        loop {
            let has_work =
                || workers.stopping.get() || workers.committer.may_run() && self.store().is_dirty();
            task.idle(&workers.committer.work, has_work)?;
            if workers.stopping.get() {
                return Ok(());
            }
            workers.committer.take();
            task.begin_operation();
            self.store().commit(task).or_else(only_stopped)?; // an error has aborted the mount
        }
    }

    fn run_reclaimer(&self, task: &Task) -> Result<(), Stopped> {
        let workers = self.workers();
        loop {
            let has_pages = || self.cached_pages() > 0;
            let has_work = || workers.stopping.get() || workers.reclaimer.may_run() && has_pages();
            task.idle(&workers.reclaimer.work, has_work)?;
            if workers.stopping.get() {
                return Ok(());
            }
            workers.reclaimer.take();
            task.begin_operation();
            self.reclaim_some(task).or_else(only_stopped)?;
            self.store().release_nodes(task).or_else(only_stopped)?;
        }
    }

    /// Reclaims until the cache is within its bound; at least from one file.
    fn reclaim_some(&self, task: &Task) -> Result<()> {
        let all = Blocks::new(0, u64::MAX);
        let mut after = Ino(0);
        let mut dropped = 0;
        while let Some(inode) = self.inodes().next_after(after) {
            after = inode.ino;
            let bound = u64::from(self.options().cache_pages);
            let excess = self.cached_pages().saturating_sub(bound) as usize;
            if excess == 0 || bound == 0 && dropped > 0 {
                break;
            }
            dropped += self.reclaim_pages(task, &inode, all, excess)?;
        }
        if self.has_too_many_pages() {
            self.demand_flusher(); // what is dirty must be clean to go
        }
        Ok(())
    }
}

/// Workers report errors where they belong; only a stopped machine ends them.
fn only_stopped(error: Error) -> Result<(), Stopped> {
    match error {
        Error::Stopped => Err(Stopped),
        _ => Ok(()),
    }
}
