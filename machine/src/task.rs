//! A task's view of the machine: the handle that is passed to every function of the engine.

use crate::event::{Access, Event, Object, Site};
use crate::fault::{Fault, FaultKind};
use crate::footprint;
use crate::lock::LockClass;
use crate::machine::{Machine, Server, Status, Stopped, TaskId, Waiting};
use crate::wait::WaitQueue;
use std::panic::Location;

/// Locks of this rank or below it (numerically at least this) forbid page faults (rule F-1).
pub const FAULT_RANK: u8 = 30;

/// The task that runs.
pub struct Task {
    machine: Machine,
    id: TaskId,
}

/// Where a task is that has made no step of an operation yet.
static BEGIN: Site = Site::new("operation.begin");

impl Task {
    pub(crate) fn new(machine: Machine, id: TaskId) -> Self {
        Task { machine, id }
    }

    /// The machine that the task runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The task's number.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// A place at which another task may be scheduled, announced with what follows it.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned, before or after the switch.
    pub fn site(&self, site: &'static Site, object: Object, access: Access) -> Result<(), Stopped> {
        self.machine.pass_site(self.id, Event { site, object, access })
    }

    /// Any decision that is not about who runs: a number below `n`.
    pub fn decide(&self, label: &'static str, n: u32) -> u32 {
        self.machine.decide(label, n)
    }

    /// Tells that a new operation begins: its retries count from zero.
    pub fn begin_operation(&self) {
        self.machine.0.tasks.borrow_mut()[self.id.0 as usize].retries = 0;
        self.machine.note_site(self.id, &BEGIN);
    }

    /// Counts one round of a retry loop; `what` names the loop (races.md §7.5.11).
    ///
    /// # Errors
    /// [`Stopped`] after a report of a livelock, if the operation retried too often.
    pub fn progress(&self, what: &'static str) -> Result<(), Stopped> {
        let retries = {
            let mut tasks = self.machine.0.tasks.borrow_mut();
            let state = &mut tasks[self.id.0 as usize];
            state.retries += 1;
            state.retries
        };
        if self.machine.0.poisoned.get() {
            return Err(Stopped);
        }
        if retries <= self.machine.0.config.get().retries_max {
            return Ok(());
        }
        let name = self.machine.task_name(self.id);
        self.machine.report(Fault {
            kind: FaultKind::Livelock,
            message: format!("task {name} retried {retries} times in {what}"),
            details: Vec::new(),
            key: format!("livelock {what}"),
        });
        Err(Stopped)
    }

    /// Asserts that a page fault is legal here: no lock of rank 30 or higher is held (rule F-1).
    /// To be called at every access to user memory, whether or not the page is resident.
    ///
    /// # Errors
    /// [`Stopped`] after a report, if a lock is held that the fault may need.
    #[track_caller]
    pub fn may_fault(&self) -> Result<(), Stopped> {
        if self.machine.0.poisoned.get() {
            return Err(Stopped);
        }
        let place = Location::caller();
        let bad = self.machine.0.tasks.borrow()[self.id.0 as usize]
            .held
            .iter()
            .find(|held| held.class.rank() >= FAULT_RANK)
            .map(|held| (held.class.name(), held.place));
        let Some((class, taken)) = bad else { return Ok(()) };
        let (at, taken) = (crate::deadlock::place(place), crate::deadlock::place(taken));
        self.machine.report(Fault {
            kind: FaultKind::FaultUnderLock,
            message: format!("user memory touched at {at} with {class} held since {taken}"),
            details: Vec::new(),
            key: format!("fault-under-lock {class}"),
        });
        Err(Stopped)
    }

    /// Waits until `done` holds; woken through `queue`. Waiting counts as acquiring `class`, whose
    /// rank is checked (rules W-1, W-2).
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn wait(
        &self,
        queue: &WaitQueue,
        class: &'static LockClass,
        object: Object,
        server: Server,
        done: impl Fn() -> bool,
    ) -> Result<(), Stopped> {
        let place = Location::caller();
        let instance = (object.a, object.b);
        self.machine.check_order(self.id, class, instance, place)?;
        footprint::boundary();
        while !done() {
            queue.enlist(self.id);
            footprint::retract();
            let waiting = Waiting { class: class.name(), instance, lock: None, server, place };
            self.machine.block(self.id, Status::Blocked, waiting)?;
        }
        if self.machine.0.poisoned.get() { Err(Stopped) } else { Ok(()) }
    }

    /// Waits for work, as a worker does: not counted as blocked when the machine looks for
    /// deadlocks.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn idle(&self, queue: &WaitQueue, has_work: impl Fn() -> bool) -> Result<(), Stopped> {
        let place = Location::caller();
        footprint::boundary();
        while !has_work() {
            queue.enlist(self.id);
            footprint::retract();
            let waiting =
                Waiting { class: "work", instance: (0, 0), lock: None, server: Server::Any, place };
            self.machine.block(self.id, Status::Idle, waiting)?;
        }
        if self.machine.0.poisoned.get() { Err(Stopped) } else { Ok(()) }
    }
}
