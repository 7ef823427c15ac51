//! One execution of a program on a target, on the machine, under the eyes of the oracle.
//!
//! Setup runs without preemption, the tasks as the chooser decides, then everything is unmounted
//! cleanly. The disk's log and the oracle's history of that one run are what all cuts are judged on
//! afterwards ([`crate::cuts`]): a cut costs no second run.

use crate::images::{Base, Images};
use crate::program::{ChooserKind, Direction, Program, Temper};
use crate::target::engine::EngineTarget;
use crate::target::{Call, Performed, PowerTarget, Stage};
use crate::verdict::{Phase, Wrong};
use machine::choosers::{self, Bytes, Delay, Pct, Pos, Random, Replay, RoundRobin, Tempered};
use machine::disk::{Op, Rule};
use machine::footprint::{self, Touch};
use machine::{Chooser, Config, End, Kind, Machine, Moment, Stopped, Task, TaskId};
use oracle::operation::{NodeId, OpId, Operation, Outcome, PathId, Span, TaskIndex};
use oracle::{CallId, Oracle};
use rustc_hash::FxHasher;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Decisions that PCT expects of an execution; its change points fall among them.
const EXPECTED_DECISIONS: u32 = 300;

/// What an execution looks at besides the program's operations.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Steps after which it counts as livelocked.
    pub steps_max: u64,
    /// Whether it ends with a clean unmount, after which everything must be durable.
    pub unmount: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Manner { steps_max: 60_000, unmount: true }
    }
}

/// What one execution did.
#[derive(Clone, Debug, Default)]
pub struct Executed {
    /// What was wrong while it ran: the first thing, as the machine stops at it.
    pub wrong: Option<Wrong>,
    /// A rule of the engine that was broken and was not seen to have a consequence while it ran:
    /// the first. It counts if no power cut shows one either.
    pub suspicion: Option<Wrong>,
    /// Decisions taken.
    pub decisions: u64,
    /// Operations performed.
    pub operations: u64,
    /// The event after which the concurrent tasks started.
    pub setup_end: Moment,
    /// The last event.
    pub end: Moment,
    /// A hash of all steps.
    pub trace_hash: u64,
    /// A hash of all invocations and results, in their order.
    pub results_hash: u64,
    /// Whether the chooser ended it before its end: nothing can be said of it.
    pub cut_short: bool,
    /// Whether another shard of the search judges it.
    pub is_declined: bool,
    /// Which of the machine's recorded choices were the chooser's: those of the tasks.
    pub chosen: std::ops::Range<usize>,
}

/// The beginning of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub op: OpId,
    /// Who began it.
    pub task: TaskId,
    /// Choices that the machine had recorded.
    pub choices: usize,
}

/// What the tasks of one execution share.
struct Shared<T> {
    program: Rc<Program>,
    oracle: RefCell<Oracle>,
    target: T,
    wrong: RefCell<Option<Wrong>>,
    /// Asynchronous operations whose results are out.
    submitted: RefCell<SmallVec<[(OpId, CallId); 4]>>,
    operations: Cell<u64>,
    /// How many choices there were when each operation began, and who began it.
    begun: RefCell<Vec<Begun>>,
    /// Whether what the oracle is told is kept.
    observes: bool,
    /// After each event that the oracle saw: its moment, and a hash of all so far.
    observed: RefCell<Vec<(Moment, u64)>>,
}

/// Executes programs, one after the other, with everything reusable kept.
pub struct Executor<T = EngineTarget> {
    machine: Machine,
    shared: Option<Rc<Shared<T>>>,
    spare_oracle: Option<Oracle>,
    base: Option<Rc<Base>>,
    /// The name hash of every task of the last execution, by number.
    names: Vec<String>,
    observes: bool,
}

impl Default for Executor {
    fn default() -> Self {
        Executor::new()
    }
}

impl Executor {
    /// An executor of the engine, with a machine of its own.
    pub fn new() -> Self {
        Executor::of_target()
    }
}

impl<T: PowerTarget> Executor<T> {
    /// An executor of a target that the type names, with a machine of its own.
    pub fn of_target() -> Self {
        let machine = Machine::new(Config::default(), machine::io::no_disk(), Box::new(RoundRobin));
        let names = Vec::new();
        Executor { machine, shared: None, spare_oracle: None, base: None, names, observes: false }
    }

    /// The machine, with the log and the trace of the last execution.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The oracle, with the history of the last execution.
    ///
    /// # Panics
    /// If nothing was executed yet.
    pub fn with_oracle<R>(&self, look: impl FnOnce(&Oracle) -> R) -> R {
        let shared = self.shared.as_ref().expect("something was executed");
        look(&shared.oracle.borrow())
    }

    /// The operations of the last execution, in the order of their beginnings.
    pub fn begun(&self) -> Vec<Begun> {
        self.shared.as_ref().map_or_else(Vec::new, |shared| shared.begun.borrow().clone())
    }

    /// From now on, keeps hashes of what the oracle is told, or does not.
    pub fn observe(&mut self, observes: bool) {
        self.observes = observes;
    }

    /// What the oracle was told by a cut, and in all, as hashes: of the executions that were
    /// [observed](Executor::observe).
    ///
    /// # Panics
    /// If nothing was executed yet.
    pub fn observed(&self, cut: Moment) -> (u64, u64) {
        let shared = self.shared.as_ref().expect("something was executed");
        let observed = shared.observed.borrow();
        let by_then = observed.partition_point(|(at, _)| *at <= cut);
        let hash = |count: usize| count.checked_sub(1).map_or(0, |last| observed[last].1);
        (hash(by_then), hash(observed.len()))
    }

    /// The image that the last execution started from.
    ///
    /// # Panics
    /// If nothing was executed yet.
    pub fn base(&self) -> &Rc<Base> {
        self.base.as_ref().expect("something was executed")
    }

    /// The names of the tasks of the last execution, by task number.
    pub fn task_names(&self) -> &[String] {
        &self.names
    }

    /// Executes a program with its own chooser.
    ///
    /// # Errors
    /// A sentence, if the image cannot be made or a defect has no such name.
    pub fn execute(
        &mut self,
        images: &mut Images<T>,
        program: &Rc<Program>,
        manner: Manner,
    ) -> Result<Executed, String> {
        let chooser = chooser(program);
        self.execute_with(images, program, manner, chooser).map(|(executed, _)| executed)
    }

    /// Executes a program with a chooser, and gives it back.
    ///
    /// # Errors
    /// As [`Executor::execute`].
    pub fn execute_with(
        &mut self,
        images: &mut Images<T>,
        program: &Rc<Program>,
        manner: Manner,
        chooser: Box<dyn Chooser>,
    ) -> Result<(Executed, Box<dyn Chooser>), String> {
        if let Some(what) = T::repertoire().lacks(program) {
            return Err(format!("failed to execute the program: the target has no {what}"));
        }
        let base = images.base(&program.image)?;
        self.prepare(program, &base, manner);
        let shared = self.share(program, &base)?;
        let mut executed = Executed::default();
        let mounted = self.mount(&shared);
        executed.setup_end = self.machine.now();
        let mut spent = chooser;
        if mounted {
            let first = self.machine.choices().len();
            spent = self.run_tasks(&shared, spent);
            executed.chosen = first..self.machine.choices().len();
            let stopped = self.machine.is_stopped();
            executed.is_declined = spent.declines();
            executed.cut_short =
                stopped && shared.wrong.borrow().is_none() && self.machine.faults().is_empty();
            if manner.unmount && !stopped {
                self.finish(&shared);
            }
        }
        self.collect(&shared, &mut executed);
        Ok((executed, spent))
    }

    fn prepare(&mut self, program: &Program, base: &Rc<Base>, manner: Manner) {
        if let Some(old) = self.shared.take() {
            self.machine.stop();
            old.target.abandon();
            if let Ok(shared) = Rc::try_unwrap(old) {
                self.spare_oracle = Some(shared.oracle.into_inner());
            }
        }
        let config = Config {
            steps_max: manner.steps_max,
            fairness: crate::knobs::fairness(program.mount.fair),
            ..Config::default()
        };
        self.machine.reset(config);
        let mut disk = self.machine.disk_mut();
        disk.reset(base.devices.iter().cloned());
        drop(disk);
        self.base = Some(base.clone());
        self.names.clear();
    }

    fn share(&mut self, program: &Rc<Program>, base: &Rc<Base>) -> Result<Rc<Shared<T>>, String> {
        let target = T::new(program, Stage::Execution)?;
        let mut oracle = match self.spare_oracle.take() {
            Some(mut oracle) => {
                oracle.reset(target.promises());
                oracle
            }
            None => Oracle::new(target.promises()),
        };
        oracle.set_path_names(program.paths.iter().map(String::as_str));
        let shared = Rc::new(Shared {
            program: program.clone(),
            oracle: RefCell::new(oracle),
            target,
            wrong: RefCell::new(None),
            submitted: RefCell::default(),
            operations: Cell::new(0),
            begun: RefCell::default(),
            observes: self.observes,
            observed: RefCell::default(),
        });
        debug_assert!(!base.devices.is_empty());
        self.shared = Some(shared.clone());
        Ok(shared)
    }

    /// Mounts and runs the setup, without preemption. Whether both succeeded.
    fn mount(&mut self, shared: &Rc<Shared<T>>) -> bool {
        self.machine.set_chooser(Box::new(RoundRobin));
        let inside = shared.clone();
        let body = move |task: &Task| -> Result<(), Stopped> {
            if let Err(error) = inside.target.mount(task) {
                let message = format!("failed to mount a new image: {error}");
                inside.set_wrong(task, Wrong::recovered("mount-failed", 21, "", message));
                return Err(Stopped);
            }
            inside.target.watch();
            plan_faults(task, &inside.program, None);
            let mut worker = inside.target.worker(task, TaskIndex(0));
            for (index, operation) in inside.program.setup.iter().enumerate() {
                inside.perform(
                    task,
                    &mut worker,
                    TaskIndex(0),
                    OpId(index as u16 + 1),
                    operation,
                )?;
            }
            inside.end_of_task(task, &mut worker)
        };
        self.machine.spawn("setup", Kind::Foreground, Box::new(body));
        let end = self.machine.run();
        end == End::Done && shared.wrong.borrow().is_none()
    }

    fn run_tasks(&mut self, shared: &Rc<Shared<T>>, chooser: Box<dyn Chooser>) -> Box<dyn Chooser> {
        self.machine.set_chooser(chooser);
        let mut first = shared.program.setup.len() as u16 + 1;
        for (index, task) in shared.program.tasks.iter().enumerate() {
            let inside = shared.clone();
            let start = first;
            let body = move |task: &Task| -> Result<(), Stopped> {
                let who = TaskIndex(index as u8 + 1);
                let mut worker = inside.target.worker(task, who);
                let program = inside.program.clone();
                for (at, operation) in program.tasks[index].ops.iter().enumerate() {
                    inside.perform(task, &mut worker, who, OpId(start + at as u16), operation)?;
                }
                inside.end_of_task(task, &mut worker)
            };
            self.machine.spawn(&task.name, Kind::Foreground, Box::new(body));
            first += task.ops.len() as u16;
        }
        self.machine.run();
        self.machine.set_chooser(Box::new(RoundRobin))
    }

    /// Reads everything, unmounts: after that all must be durable, which the oracle is told as a
    /// `sync`.
    fn finish(&mut self, shared: &Rc<Shared<T>>) {
        let inside = shared.clone();
        let body = move |task: &Task| -> Result<(), Stopped> {
            let mut worker = inside.target.worker(task, TaskIndex(0));
            let mut id = inside.program.operation_count() as u16 + 1;
            for index in 0..inside.program.paths.len() {
                let path = PathId(index as u8);
                let size = inside.target.size(task, &inside.program, path)?;
                let read = match size {
                    Some(size) if size > 0 => Operation::Read { path, span: Span::new(0, size) },
                    _ => Operation::Stat { path },
                };
                inside.perform(task, &mut worker, TaskIndex(0), OpId(id), &read)?;
                id += 1;
            }
            for node in (0..inside.program.image.buffers).map(NodeId) {
                let read = Operation::NodeRead { node };
                inside.perform(task, &mut worker, TaskIndex(0), OpId(id), &read)?;
                id += 1;
            }
            inside.perform(task, &mut worker, TaskIndex(0), OpId(id), &Operation::List)?;
            let sync = Operation::Sync;
            let call = inside.invoke(task, TaskIndex(0), OpId(id + 1), &sync);
            let unmounted = inside.target.unmount(task, &inside.program);
            inside.conclude(task, call, unmounted)
        };
        self.machine.spawn("end", Kind::Foreground, Box::new(body));
        if self.machine.run() == End::Done {
            self.machine.drain_disk();
        }
    }

    fn collect(&mut self, shared: &Rc<Shared<T>>, executed: &mut Executed) {
        executed.end = self.machine.now();
        executed.decisions = self.machine.choices().len() as u64;
        executed.operations = shared.operations.get();
        executed.trace_hash = self.machine.trace_hash();
        executed.results_hash = shared.observed.borrow().last().map_or(0, |(_, hash)| *hash);
        executed.wrong = shared.wrong.borrow_mut().take();
        let fault = self.machine.faults().first().map(|f| Wrong::from_fault(f, Phase::Live));
        if executed.wrong.is_none() {
            executed.wrong = fault;
        }
        let suspicion = self.machine.suspicion();
        executed.suspicion = suspicion.map(|fault| Wrong::from_fault(&fault, Phase::Live));
        for index in 0..self.machine.task_count() {
            self.names.push(self.machine.task_name(TaskId(index as u8)));
        }
    }
}

impl<T: PowerTarget> Shared<T> {
    fn set_wrong(&self, task: &Task, wrong: Wrong) {
        let mut slot = self.wrong.borrow_mut();
        if slot.is_none() {
            *slot = Some(wrong);
        }
        task.machine().poison();
    }

    /// Keeps what the oracle is told at a moment.
    fn observe(&self, at: Moment, what: impl FnOnce() -> u64) {
        if !self.observes {
            return;
        }
        let what = what();
        let mut observed = self.observed.borrow_mut();
        let before = observed.last().map_or(0, |(_, hash)| *hash);
        let mut hasher = FxHasher::default();
        (before, what).hash(&mut hasher);
        observed.push((at, hasher.finish()));
    }

    fn invoke(&self, task: &Task, who: TaskIndex, id: OpId, operation: &Operation) -> CallId {
        task.begin_operation();
        let choices = task.machine().choices().len();
        self.begun.borrow_mut().push(Begun { op: id, task: task.id(), choices });
        footprint::touch(footprint::OBSERVER, Touch::Change);
        footprint::touch(footprint::CUTS, Touch::Oppose);
        let at = task.machine().tick();
        self.observe(at, || u64::from(id.0) << 1);
        self.oracle.borrow_mut().invoke(who, id, operation, oracle::Moment(at.0))
    }

    fn complete(&self, task: &Task, call: CallId, outcome: &Outcome) -> Result<(), Stopped> {
        self.operations.set(self.operations.get() + 1);
        footprint::touch(footprint::OBSERVER, Touch::Change);
        footprint::touch(footprint::CUTS, Touch::Look);
        let at = task.machine().tick();
        self.observe(at, || hash_outcome(call, outcome));
        self.note_device_errors(task);
        let result = self.oracle.borrow_mut().complete(call, oracle::Moment(at.0), outcome);
        match result {
            Ok(()) => Ok(()),
            Err(violation) => {
                self.set_wrong(task, Wrong::from_violation(&violation, Phase::Live));
                Err(Stopped)
            }
        }
    }

    /// Tells the oracle of requests that the device failed since it was told last.
    fn note_device_errors(&self, task: &Task) {
        self.target.note_failures(task.machine(), &mut self.oracle.borrow_mut());
    }

    fn perform(
        &self,
        task: &Task,
        worker: &mut T::Worker<'_>,
        who: TaskIndex,
        id: OpId,
        operation: &Operation,
    ) -> Result<(), Stopped> {
        let call = self.invoke(task, who, id, operation);
        plan_faults(task, &self.program, Some(id));
        let request = Call { program: &self.program, task: who, id, operation };
        let performed = self.target.perform(worker, &request);
        if performed == Performed::Submitted {
            self.submitted.borrow_mut().push((id, call));
            return Ok(());
        }
        self.collect_async(task, worker)?;
        self.conclude(task, call, performed)
    }

    fn conclude(&self, task: &Task, call: CallId, performed: Performed) -> Result<(), Stopped> {
        match performed {
            Performed::Done(outcome) => self.complete(task, call, &outcome),
            Performed::Submitted | Performed::Stopped => Err(Stopped),
            Performed::Strange(what) => {
                self.set_wrong(task, Wrong::strange_answer(&what));
                Err(Stopped)
            }
        }
    }

    /// Tells the oracle of asynchronous operations that have been reaped.
    fn collect_async(&self, task: &Task, worker: &mut T::Worker<'_>) -> Result<(), Stopped> {
        let mut reaped: SmallVec<[(OpId, Performed); 4]> = SmallVec::new();
        self.target.reaped(worker, &mut |id, performed| reaped.push((id, performed)));
        for (id, performed) in reaped {
            let mut submitted = self.submitted.borrow_mut();
            let index = submitted.iter().position(|(known, _)| *known == id);
            let (_, call) = submitted.remove(index.expect("what is reaped was submitted"));
            drop(submitted);
            self.conclude(task, call, performed)?;
        }
        Ok(())
    }

    /// A task that ends waits for what it has submitted, as a process does.
    fn end_of_task(&self, task: &Task, worker: &mut T::Worker<'_>) -> Result<(), Stopped> {
        self.target.reap(worker)?;
        self.collect_async(task, worker)
    }
}

/// A number for what an operation returned.
fn hash_outcome(call: CallId, outcome: &Outcome) -> u64 {
    let mut hasher = FxHasher::default();
    (call, outcome).hash(&mut hasher);
    hasher.finish()
}

/// Tells the disk which requests to fail, counted from now on: the end of the mount, or the call of
/// the operation that a fault names.
fn plan_faults(task: &Task, program: &Program, op: Option<OpId>) {
    let mut disk = task.machine().disk_mut();
    for fault in program.faults.iter().filter(|fault| fault.op == op) {
        let op = match fault.direction {
            Direction::Read => Op::Read,
            Direction::Write => Op::Write,
        };
        footprint::touch_everything();
        disk.fail(Rule::nth(op, fault.nth));
    }
}

/// The chooser that a program asks for.
pub fn chooser(program: &Program) -> Box<dyn Chooser> {
    let knobs = &program.machine;
    let chooser: Box<dyn Chooser> = match knobs.chooser {
        ChooserKind::Bytes => Box::new(Bytes::new(&program.choices)),
        ChooserKind::Random => {
            Box::new(Random::with_bias(knobs.seed, (knobs.seed % 4) as u32 * 25))
        }
        ChooserKind::Pct => {
            Box::new(Pct::new(knobs.seed, u32::from(knobs.depth), EXPECTED_DECISIONS))
        }
        ChooserKind::Pos => Box::new(Pos::new(knobs.seed)),
        // Asked at every site, unlike `RoundRobin`, so that what it did can be replayed.
        ChooserKind::RoundRobin => Box::new(Replay::new(Vec::new())),
        ChooserKind::Delay => Box::new(Delay::new(knobs.seed)),
    };
    let temper = match knobs.temper {
        Temper::Even => return chooser,
        Temper::Eager => choosers::Temper::Eager,
        Temper::Lazy => choosers::Temper::Lazy,
        Temper::Straggler => choosers::Temper::Straggler,
    };
    Box::new(Tempered::new(chooser, temper, knobs.seed))
}
