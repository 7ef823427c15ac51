//! The scheduler: who runs, what ends, when it is over.
//!
//! One thread, persistent fibres. A task runs until it reaches a site; there the chooser may let
//! another ready task, or the device, make the next step. A stop (bound, deadlock, finding) poisons
//! the machine: every later call of a task returns [`Stopped`], so tasks leave through `?` without
//! touching the disk.
//!
//! It knows tasks, requests and locks by number only, and no file system.

use crate::choice::{
    Actor, COMPLETE, Candidate, Choice, Chooser, DEVICE_NAME, RUN, Ready, STOP, name_hash,
};
use crate::disk::{Disk, Moment, RequestId};
use crate::event::{Access, Event, Site};
use crate::fault::{Fault, FaultKind, capture};
use crate::fibre::{Fibre, Handle, Pause, Resume};
use crate::footprint::{self, Entry, Touch};
use crate::io::Bios;
use crate::lock::lockdep::{Held, Lockdep, Token};
use crate::task::Task;
use crate::trace::{Preemption, Step, StepKind};
use crate::watch::Watch;
use smallvec::SmallVec;
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;

/// The most tasks of one execution: the ready set is one machine word.
pub const TASKS_MAX: usize = 64;

/// The number of a task, in order of creation within an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u8);

/// The machine stopped: power is off, a bound was hit or something was found. Leave through `?`
/// and do not touch the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine has stopped")]
pub struct Stopped;

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The execution is over when all of these are.
    Foreground,
    /// Serves the others; idle between pieces of work.
    Worker,
}

/// What a task does.
pub type Body = Box<dyn FnOnce(&Task) -> Result<(), Stopped>>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All foreground tasks finished.
    Done,
    /// The machine is poisoned; see [`Machine::faults`].
    Stopped,
}

/// How locks order those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fairness {
    /// First come, first served.
    #[default]
    Fifo,
    /// A reader passes waiting writers while a reader holds the lock.
    Reader,
    /// A waiting writer passes waiting readers.
    Writer,
}

/// Bounds and manners of one execution.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Steps after which the execution counts as livelocked.
    pub steps_max: u64,
    /// Retries of one operation after which it counts as livelocked (races.md §7.5.11).
    pub retries_max: u32,
    /// How often later requests may pass one that waits for a lock, where [`Fairness`] lets them
    /// at all; then it counts as livelocked (races.md §7.5.11).
    pub bypasses_max: u32,
    /// How locks order those who wait.
    pub fairness: Fairness,
}

impl Default for Config {
    fn default() -> Self {
        let (retries_max, bypasses_max) = (64, 256);
        Config { steps_max: 100_000, retries_max, bypasses_max, fairness: Fairness::Fifo }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    Blocked,
    Idle,
    Finished,
}

/// Who must act before a waiting task can go on; the edges of the wait-for graph that are not
/// locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The device.
    Device,
    /// A worker, by the name it was spawned with.
    Worker(&'static str),
    /// A task.
    Task(TaskId),
    /// Whoever holds the lock that is waited for.
    Holders,
    /// Anyone.
    Any,
}

/// What a blocked task waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub class: &'static str,
    pub instance: (u64, u64),
    pub lock: Option<u32>,
    pub server: Server,
    pub place: &'static std::panic::Location<'static>,
}

pub(crate) struct TaskState {
    pub name: String,
    pub name_hash: u32,
    pub kind: Kind,
    pub status: Status,
    pub event: Event,
    /// Where its step began, if somebody watches: no chooser sees it.
    pub site: &'static Site,
    pub waiting: Option<Waiting>,
    pub held: SmallVec<[Held; 8]>,
    /// What the asynchronous IO holds that the task works for.
    pub serving: SmallVec<[Held; 2]>,
    pub retries: u32,
    pub handle: Handle,
    fibre: Option<Fibre>,
    job: Option<Box<dyn FnOnce()>>,
}

/// A deterministic computer. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Machine(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub config: Cell<Config>,
    pub tasks: RefCell<Vec<TaskState>>,
    pub bios: RefCell<Bios>,
    pub lockdep: RefCell<Lockdep>,
    /// Locks that asynchronous IO holds.
    pub tokens: RefCell<SmallVec<[Token; 4]>>,
    pub watch: Watch,
    pub faults: RefCell<Vec<Fault>>,
    pub poisoned: Cell<bool>,
    ready: Cell<u64>,
    next: Cell<Option<TaskId>>,
    foreground: Cell<u32>,
    moment: Cell<u64>,
    steps: Cell<u64>,
    locks: Cell<u32>,
    epoch: Cell<u32>,
    chooser: RefCell<Box<dyn Chooser>>,
    preempts: Cell<bool>,
    watches: Cell<bool>,
    candidates: RefCell<Vec<Candidate>>,
    choices: RefCell<Vec<Choice>>,
    pub(crate) trace: RefCell<Vec<Step>>,
    pub(crate) preemptions: RefCell<Vec<Preemption>>,
    disk: RefCell<Disk>,
}

impl Machine {
    /// A machine with a disk attached, whose decisions come from `chooser`.
    pub fn new(config: Config, disk: Disk, chooser: Box<dyn Chooser>) -> Self {
        capture::install();
        let (preempts, watches) = (chooser.preempts(), chooser.watches());
        Machine(Rc::new(Inner {
            config: Cell::new(config),
            tasks: RefCell::default(),
            bios: RefCell::default(),
            lockdep: RefCell::default(),
            tokens: RefCell::default(),
            watch: Watch::default(),
            faults: RefCell::default(),
            poisoned: Cell::new(false),
            ready: Cell::new(0),
            next: Cell::new(None),
            foreground: Cell::new(0),
            moment: Cell::new(0),
            steps: Cell::new(0),
            locks: Cell::new(0),
            epoch: Cell::new(0),
            chooser: RefCell::new(chooser),
            preempts: Cell::new(preempts),
            watches: Cell::new(watches),
            candidates: RefCell::default(),
            choices: RefCell::default(),
            trace: RefCell::default(),
            preemptions: RefCell::default(),
            disk: RefCell::new(disk),
        }))
    }

    /// Makes the machine as new, for the next execution, with buffers and fibres kept. The class
    /// graph of lockdep is kept too: it collects over executions. Tasks that have not finished are
    /// stopped first. The disk is the caller's to reset (see [`Machine::disk`]).
    pub fn reset(&self, config: Config) {
        self.stop();
        let m = &*self.0;
        m.tasks.borrow_mut().clear();
        m.bios.borrow_mut().clear();
        m.choices.borrow_mut().clear();
        m.trace.borrow_mut().clear();
        m.preemptions.borrow_mut().clear();
        m.faults.borrow_mut().clear();
        m.tokens.borrow_mut().clear();
        self.forget_watch();
        m.config.set(config);
        m.ready.set(0);
        m.next.set(None);
        m.foreground.set(0);
        m.moment.set(0);
        m.steps.set(0);
        m.locks.set(0);
        m.epoch.set(m.epoch.get() + 1);
        footprint::restart();
        m.poisoned.set(false);
    }

    /// Replaces the chooser and gives the old one back.
    pub fn set_chooser(&self, chooser: Box<dyn Chooser>) -> Box<dyn Chooser> {
        self.0.preempts.set(chooser.preempts());
        self.0.watches.set(chooser.watches());
        footprint::record(chooser.watches());
        self.0.chooser.replace(chooser)
    }

    /// Takes the class graph of lockdep out, to be given to another machine.
    pub fn swap_lockdep(&self, lockdep: &mut Lockdep) {
        std::mem::swap(&mut *self.0.lockdep.borrow_mut(), lockdep);
    }

    /// The attached disk. Must not be borrowed across a call that may switch tasks.
    pub fn disk(&self) -> Ref<'_, Disk> {
        self.0.disk.borrow()
    }

    /// The attached disk, to change. Must not be borrowed across a call that may switch tasks.
    pub fn disk_mut(&self) -> RefMut<'_, Disk> {
        self.0.disk.borrow_mut()
    }

    /// The number of the last event.
    pub fn now(&self) -> Moment {
        Moment(self.0.moment.get())
    }

    /// Numbers a new event: strictly growing.
    pub fn tick(&self) -> Moment {
        let next = self.0.moment.get() + 1;
        self.0.moment.set(next);
        Moment(next)
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.0.steps.get()
    }

    /// The recorded decisions so far.
    pub fn choices(&self) -> Ref<'_, Vec<Choice>> {
        self.0.choices.borrow()
    }

    /// What the machine found so far.
    pub fn faults(&self) -> Ref<'_, Vec<Fault>> {
        self.0.faults.borrow()
    }

    /// The name that a task was spawned with.
    pub fn task_name(&self, id: TaskId) -> String {
        self.0.tasks.borrow().get(id.0 as usize).map_or_else(String::new, |t| t.name.clone())
    }

    /// How many tasks were spawned in this execution.
    pub fn task_count(&self) -> usize {
        self.0.tasks.borrow().len()
    }

    /// Stops the machine without a report: whoever asks has found something itself.
    pub fn poison(&self) {
        self.0.poisoned.set(true);
    }

    /// Whether the machine is poisoned: nothing runs on it any more.
    pub fn is_stopped(&self) -> bool {
        self.0.poisoned.get()
    }

    /// Creates a task. It runs when the chooser lets it; nothing of it runs in this call.
    pub fn spawn(&self, name: &str, kind: Kind, body: Body) -> TaskId {
        let m = &*self.0;
        let mut tasks = m.tasks.borrow_mut();
        assert!(tasks.len() < TASKS_MAX, "too many tasks in one execution");
        let id = TaskId(tasks.len() as u8);
        let fibre = Fibre::take();
        let handle = fibre.handle();
        let machine = self.clone();
        let job = Box::new(move || machine.run_body(id, body));
        tasks.push(TaskState {
            name: name.to_string(),
            name_hash: name_hash(name),
            kind,
            status: Status::Ready,
            event: Event::START,
            site: Event::START.site,
            waiting: None,
            held: SmallVec::new(),
            serving: SmallVec::new(),
            retries: 0,
            handle,
            fibre: Some(fibre),
            job: Some(job),
        });
        m.ready.set(m.ready.get() | 1 << id.0);
        if kind == Kind::Foreground {
            m.foreground.set(m.foreground.get() + 1);
        }
        footprint::note(Entry::Spawned(name_hash(name)));
        id
    }

    /// What runs on the fibre of a task: its body, with panics turned into faults.
    fn run_body(&self, id: TaskId, body: Body) {
        let task = Task::new(self.clone(), id);
        let result = capture::guard(move || body(&task));
        if let Err((message, place)) = result {
            let name = self.task_name(id);
            self.report(Fault {
                kind: FaultKind::Panic,
                message: format!("task {name} panicked at {place}: {message}"),
                details: Vec::new(),
                key: format!("panic {place}"),
            });
        }
        let m = &*self.0;
        let mut tasks = m.tasks.borrow_mut();
        let state = &mut tasks[id.0 as usize];
        let leaked = !state.held.is_empty() && !m.poisoned.get();
        state.held.clear();
        state.status = Status::Finished;
        m.ready.set(m.ready.get() & !(1 << id.0));
        if state.kind == Kind::Foreground {
            m.foreground.set(m.foreground.get() - 1);
            if m.foreground.get() == 0 {
                // Whatever has not happened by now does not happen in this run.
                footprint::touch(footprint::EVERYTHING, Touch::Change);
            }
        }
        drop(tasks);
        if leaked {
            self.invariant("task-ended-with-locks", "a task ended while it held locks");
        }
    }

    /// Runs until all foreground tasks have finished, or the machine stops. Workers stay where they
    /// are and go on in the next run.
    pub fn run(&self) -> End {
        let m = &*self.0;
        while !m.poisoned.get() && m.foreground.get() > 0 {
            let next = match m.next.take() {
                Some(task) => task,
                None => match self.choose_run(None) {
                    Some(Actor::Task(task)) => task,
                    Some(Actor::Device) => {
                        self.complete_one();
                        continue;
                    }
                    None if m.poisoned.get() => break,
                    None => {
                        let fault = crate::deadlock::report(self);
                        self.report(fault);
                        break;
                    }
                },
            };
            self.resume(next);
        }
        if m.watches.get() {
            m.chooser.borrow_mut().ended();
        }
        if m.poisoned.get() { End::Stopped } else { End::Done }
    }

    /// Completes all requests in flight, in order, with no task running: the end of an execution
    /// that is not cut.
    pub fn drain_disk(&self) {
        while !self.0.poisoned.get() {
            let Some(first) = self.disk().in_flight().first().copied() else { return };
            self.complete(first);
        }
    }

    /// Poisons the machine and lets every task leave.
    pub fn stop(&self) {
        let m = &*self.0;
        m.poisoned.set(true);
        let count = m.tasks.borrow().len();
        for index in 0..count {
            let mut rounds = 0;
            while m.tasks.borrow()[index].status != Status::Finished {
                rounds += 1;
                assert!(rounds < 1000, "a task does not leave after the machine stopped");
                if m.tasks.borrow()[index].job.is_some() {
                    // Never started: there is nothing to leave.
                    let mut tasks = m.tasks.borrow_mut();
                    drop(tasks[index].job.take());
                    tasks[index].status = Status::Finished;
                    if let Some(fibre) = tasks[index].fibre.take() {
                        fibre.put();
                    }
                    break;
                }
                self.resume(TaskId(index as u8));
            }
        }
    }

    fn resume(&self, id: TaskId) {
        let m = &*self.0;
        let (mut fibre, resume) = {
            let mut tasks = m.tasks.borrow_mut();
            let state = &mut tasks[id.0 as usize];
            let resume = match state.job.take() {
                Some(job) => Resume::Start(job),
                None => Resume::Continue,
            };
            (state.fibre.take().expect("a task is resumed once at a time"), resume)
        };
        m.watch.running.set(id);
        capture::set_inside(true);
        let pause = fibre.resume(resume);
        capture::set_inside(false);
        match pause {
            Pause::Finished => fibre.put(),
            Pause::Suspended => m.tasks.borrow_mut()[id.0 as usize].fibre = Some(fibre),
        }
    }

    /// A decision that is not about who runs: a number below `n`. Not asked and not recorded if
    /// `n` is one.
    pub fn decide(&self, label: &'static str, n: u32) -> u32 {
        assert!(n > 0, "a decision among nothing");
        if n == 1 {
            return 0;
        }
        let chosen = self.0.chooser.borrow_mut().pick(label, n);
        assert!(chosen < n, "the chooser chose beyond the possibilities");
        let choice = Choice { label, n, chosen, actor: Actor::Device };
        self.0.choices.borrow_mut().push(choice);
        footprint::note(Entry::Decided(u64::from(chosen) << 32 | u64::from(name_hash(label))));
        chosen
    }

    /// Who makes the next step, or `None` if nobody can or the chooser stops the machine.
    fn choose_run(&self, current: Option<TaskId>) -> Option<Actor> {
        let m = &*self.0;
        let mut ready = m.ready.get();
        let mut candidates = m.candidates.borrow_mut();
        candidates.clear();
        let tasks = m.tasks.borrow();
        let candidate = |id: TaskId| Candidate {
            actor: Actor::Task(id),
            name: tasks[id.0 as usize].name_hash,
            event: Some(tasks[id.0 as usize].event),
        };
        let current_is_ready = current.is_some_and(|id| ready & (1 << id.0) != 0);
        if let Some(id) = current.filter(|_| current_is_ready) {
            candidates.push(candidate(id));
            ready &= !(1 << id.0);
        }
        while ready != 0 {
            candidates.push(candidate(TaskId(ready.trailing_zeros() as u8)));
            ready &= ready - 1;
        }
        let disk = m.disk.borrow();
        let in_flight = disk.in_flight();
        if !in_flight.is_empty() {
            candidates.push(Candidate { actor: Actor::Device, name: DEVICE_NAME, event: None });
        }
        match candidates.len() {
            0 => None,
            1 if !m.watches.get() => Some(candidates[0].actor),
            count => {
                let view = Ready { current_is_ready, candidates: &candidates, in_flight };
                let chosen = m.chooser.borrow_mut().run(&view);
                if chosen == STOP {
                    m.poisoned.set(true);
                    return None;
                }
                assert!((chosen as usize) < count, "the chooser chose nobody");
                let actor = candidates[chosen as usize].actor;
                if current_is_ready && chosen != 0 && actor != Actor::Device {
                    self.note_preemption(&candidates[0]);
                }
                if count > 1 {
                    let choice = Choice { label: RUN, n: count as u32, chosen, actor };
                    m.choices.borrow_mut().push(choice);
                }
                Some(actor)
            }
        }
    }

    /// Lets the device complete one request of those in flight.
    fn complete_one(&self) {
        let disk = self.disk();
        let in_flight = disk.in_flight();
        assert!(!in_flight.is_empty(), "the device was chosen with nothing in flight");
        let mut chosen = 0;
        if in_flight.len() > 1 {
            let n = in_flight.len() as u32;
            chosen = self.0.chooser.borrow_mut().complete(in_flight);
            assert!(chosen < n, "the chooser completed what is not in flight");
            let choice = Choice { label: COMPLETE, n, chosen, actor: Actor::Device };
            self.0.choices.borrow_mut().push(choice);
        }
        let id = in_flight[chosen as usize];
        drop(disk);
        self.complete(id);
    }

    /// Completes one request: the device's step, and the "interrupt" that follows it.
    pub(crate) fn complete(&self, id: RequestId) {
        let moment = self.tick();
        self.0.steps.set(self.0.steps.get() + 1);
        crate::io::touch_completion(&self.disk(), id);
        self.disk_mut().complete(moment, id);
        let what = StepKind::Complete(id);
        self.0.trace.borrow_mut().push(Step { moment, actor: Actor::Device, what });
        self.look_at_completion(id);
        crate::io::finish(self, id);
        self.look_at_step(Actor::Device);
    }

    pub(crate) fn set_ready(&self, id: TaskId) {
        let m = &*self.0;
        let mut tasks = m.tasks.borrow_mut();
        let Some(state) = tasks.get_mut(id.0 as usize) else { return };
        if matches!(state.status, Status::Blocked | Status::Idle) {
            state.status = Status::Ready;
            state.waiting = None;
            m.ready.set(m.ready.get() | 1 << id.0);
            self.note_wake(id);
        }
    }

    /// Announces what a task will do next, and lets others go first if the chooser says so.
    pub(crate) fn pass_site(&self, id: TaskId, event: Event) -> Result<(), Stopped> {
        let m = &*self.0;
        if m.poisoned.get() {
            return Err(Stopped);
        }
        self.look_at_step(Actor::Task(id));
        if m.preempts.get() {
            m.tasks.borrow_mut()[id.0 as usize].event = event;
            self.switch_at(id)?;
        }
        self.count_step(id, event.site)?;
        if event.access != Access::Acquire {
            self.note_site(id, event.site); // Where it got to says more than what it waits for.
        }
        let step =
            Step { moment: self.tick(), actor: Actor::Task(id), what: StepKind::Event(event) };
        m.trace.borrow_mut().push(step);
        Ok(())
    }

    fn switch_at(&self, id: TaskId) -> Result<(), Stopped> {
        loop {
            match self.choose_run(Some(id)) {
                Some(Actor::Task(next)) if next == id => return Ok(()),
                Some(Actor::Task(next)) => {
                    self.0.next.set(Some(next));
                    return self.suspend(id);
                }
                Some(Actor::Device) => self.complete_one(),
                // The current task is ready, so the chooser stopped the machine.
                None => return Err(Stopped),
            }
            if self.0.poisoned.get() {
                return Err(Stopped);
            }
        }
    }

    fn count_step(&self, id: TaskId, site: &'static Site) -> Result<(), Stopped> {
        let m = &*self.0;
        let steps = m.steps.get() + 1;
        m.steps.set(steps);
        if steps <= m.config.get().steps_max {
            return Ok(());
        }
        let name = self.task_name(id);
        self.report(Fault {
            kind: FaultKind::Livelock,
            message: format!("no end after {steps} steps; task {name} is at {}", site.name()),
            details: crate::deadlock::lanes(self),
            key: format!("livelock {}", site.name()),
        });
        Err(Stopped)
    }

    /// Gives control to the scheduler; returns when the task is resumed.
    pub(crate) fn suspend(&self, id: TaskId) -> Result<(), Stopped> {
        let handle = self.0.tasks.borrow()[id.0 as usize].handle.clone();
        handle.suspend();
        if self.0.poisoned.get() { Err(Stopped) } else { Ok(()) }
    }

    /// Blocks a task until [`Machine::set_ready`].
    pub(crate) fn block(
        &self,
        id: TaskId,
        status: Status,
        waiting: Waiting,
    ) -> Result<(), Stopped> {
        let m = &*self.0;
        if m.poisoned.get() {
            return Err(Stopped);
        }
        debug_assert!(matches!(status, Status::Blocked | Status::Idle));
        self.note_wait(id, status, &waiting);
        {
            let mut tasks = m.tasks.borrow_mut();
            let state = &mut tasks[id.0 as usize];
            state.status = status;
            state.waiting = Some(waiting);
            m.ready.set(m.ready.get() & !(1 << id.0));
        }
        self.suspend(id)
    }

    pub(crate) fn preempts(&self) -> bool {
        self.0.preempts.get()
    }

    /// Which execution this is: locks of an earlier one are dead.
    pub(crate) fn epoch(&self) -> u32 {
        self.0.epoch.get()
    }

    pub(crate) fn new_lock_id(&self) -> u32 {
        let id = self.0.locks.get();
        self.0.locks.set(id + 1);
        id
    }
}
