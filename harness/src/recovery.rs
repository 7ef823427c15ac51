//! Recovery of one crash state: mount, full check, read everything, then show that the file system
//! still works and that nothing leaked; and recovery that is itself cut gives the same answer.
//!
//! What a recovery shows depends on the crash state alone, so it is done once for each class of
//! states ([`machine::disk::Explorer`]) and judged at every cut that can lead there.

use crate::images::Base;
use crate::program::{AfterLine, Content, Program};
use crate::seen::Seen;
use crate::sites::Sites;
use crate::target::engine::EngineTarget;
use crate::target::{Performed, PowerTarget, Stage, TargetError, Unseen, perform};
use crate::verdict::{self, Phase, Wrong, guarantee};
use machine::choosers::RoundRobin;
use machine::disk::{CrashState, Explorer, Limits, Selection, Step, TornPolicy};
use machine::{Config, End, Kind, Machine, Moment, Task};
use oracle::operation::{OpId, Operation, PathId, Value};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

/// Steps after which a recovery counts as livelocked.
const STEPS_MAX: u64 = 200_000;

/// Cuts inside one recovery.
const INNER_CUTS_MAX: usize = 3;

/// What is done with a recovered state, beyond reading it.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The full check of the image.
    pub check: bool,
    /// New operations, deletion of everything, the leak check.
    pub usable: Share,
    /// Cuts inside recovery.
    pub inner_cuts: Share,
}

impl Depth {
    /// Everything.
    pub const FULL: Depth = Depth { check: true, usable: Share::Always, inner_cuts: Share::Always };
}

/// With how many of the recovered states something is done. Which ones depends on what they show,
/// so that states that recovery cannot tell apart are treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// With none.
    Never,
    /// With one of so many.
    OneOf(u32),
    /// With all.
    Always,
}

impl Share {
    fn is_due(self, drawn: u64) -> bool {
        match self {
            Share::Never => false,
            Share::OneOf(count) => drawn.is_multiple_of(u64::from(count)),
            Share::Always => true,
        }
    }
}

/// What a recovery showed.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// What was wrong whatever the program did: the first thing.
    pub wrong: Option<Wrong>,
    /// Where inside recovery it was cut, if that is what was wrong, and what the medium kept then.
    pub inner_cut: Option<(Moment, Selection)>,
    /// What a reader sees, unless the mount failed.
    pub seen: Seen,
}

/// Recovers crash states, with everything reusable kept.
pub struct Recoverer<T = EngineTarget> {
    machine: Machine,
    target: PhantomData<T>,
    inner: Explorer<Recovered>,
    /// Recoveries run, those inside recovery included.
    pub recoveries: u64,
    /// The sites that recoveries have reached.
    pub sites: Sites,
    /// Draws, together with what a state shows, with which states more is done.
    pub salt: u64,
}

impl Default for Recoverer {
    fn default() -> Self {
        Recoverer::of_target()
    }
}

/// What the task of one recovery and its caller share.
struct Session<T> {
    program: Rc<Program>,
    target: T,
    free_blocks: Option<u64>,
    depth: Depth,
    salt: u64,
    result: RefCell<Recovered>,
    /// The event after which recovery proper was over.
    mounted: Cell<Moment>,
}

impl<T: PowerTarget> Recoverer<T> {
    /// A recoverer of a target that the type names, with a machine of its own.
    pub fn of_target() -> Self {
        let chooser = Box::new(RoundRobin);
        let machine = Machine::new(Config::default(), machine::io::no_disk(), chooser);
        let inner = Explorer::new();
        let (target, sites) = (PhantomData, Sites::default());
        Recoverer { machine, target, inner, recoveries: 0, sites, salt: 0 }
    }

    /// Recovers a crash state.
    pub fn recover(
        &mut self,
        state: &Rc<CrashState>,
        program: &Rc<Program>,
        base: &Base,
        depth: Depth,
    ) -> Recovered {
        let (mut recovered, mounted) = self.run(state, program, base, depth);
        let wrote = mounted > Moment(0)
            && self.machine.disk().log().cuts().first().is_some_and(|first| *first <= mounted);
        let is_due = || depth.inner_cuts.is_due(recovered.seen.hash(self.salt));
        if wrote && recovered.wrong.is_none() && is_due() {
            self.cut_inside(program, base, mounted, &mut recovered);
        }
        recovered
    }

    /// Recovers a state, cut again inside recovery after `inner`, with what `selection` says kept.
    pub fn recover_twice(
        &mut self,
        state: &Rc<CrashState>,
        program: &Rc<Program>,
        base: &Base,
        inner: Moment,
        selection: &Selection,
    ) -> Recovered {
        let (first, _) = self.run(state, program, base, Depth::FULL);
        self.inner.begin(self.machine.disk().log());
        let history = self.inner.history().clone();
        let default = machine::disk::Strategy::Newest;
        let again = CrashState::with_selection(history, inner, selection, default);
        let (second, _) =
            self.run(&again, program, base, Depth { inner_cuts: Share::Never, ..Depth::FULL });
        match compare(&first, &second, inner) {
            Some(wrong) => Recovered { wrong: Some(wrong), ..second },
            None => second,
        }
    }

    fn run(
        &mut self,
        state: &Rc<CrashState>,
        program: &Rc<Program>,
        base: &Base,
        depth: Depth,
    ) -> (Recovered, Moment) {
        self.recoveries += 1;
        self.machine.reset(Config { steps_max: STEPS_MAX, ..Config::default() });
        self.machine.disk_mut().reset(state.bases());
        let target = match T::new(program, Stage::Recovery) {
            Ok(target) => target,
            Err(why) => {
                return (Recovered { wrong: Some(unmade(why)), ..Recovered::default() }, Moment(0));
            }
        };
        let session = Rc::new(Session {
            program: program.clone(),
            target,
            free_blocks: base.free_blocks,
            depth,
            salt: self.salt,
            result: RefCell::default(),
            mounted: Cell::new(Moment(0)),
        });
        let inside = session.clone();
        let body = move |task: &Task| {
            if let Err(wrong) = inside.examine(task) {
                inside.result.borrow_mut().wrong.get_or_insert(wrong);
            }
            Ok(())
        };
        self.machine.spawn("recovery", Kind::Foreground, Box::new(body));
        let end = self.machine.run();
        self.sites.collect(&self.machine.trace());
        let mut recovered = std::mem::take(&mut *session.result.borrow_mut());
        if end == End::Stopped
            && let Some(fault) = self.machine.faults().first()
        {
            recovered.wrong = Some(Wrong::from_fault(fault, Phase::Recovered));
        }
        self.machine.stop();
        session.target.abandon();
        (recovered, session.mounted.get())
    }

    /// Cuts the recovery that was just run, at a few places, and recovers again.
    fn cut_inside(
        &mut self,
        program: &Rc<Program>,
        base: &Base,
        mounted: Moment,
        recovered: &mut Recovered,
    ) {
        let mut inner = std::mem::take(&mut self.inner);
        inner.begin(self.machine.disk().log());
        let cuts: Vec<Moment> =
            self.machine.disk().log().cuts().into_iter().filter(|cut| *cut <= mounted).collect();
        let stride = cuts.len().div_ceil(INNER_CUTS_MAX).max(1);
        let limits = Limits { exhaustive: 4, sampled: 0, torn: TornPolicy::None };
        let depth = Depth { check: true, usable: Share::Never, inner_cuts: Share::Never };
        // The last cuts first: they are those at which most has been written.
        'cuts: for cut in cuts.iter().rev().step_by(stride) {
            inner.cut(*cut, limits);
            while let Some(step) = inner.next(&mut |_| 0) {
                let Step::Recover(state) = step else { continue };
                let (second, _) = self.run(&state, program, base, depth);
                let wrong = compare(recovered, &second, *cut);
                if inner.record(&state, second).is_err() {
                    continue;
                }
                if wrong.is_some() {
                    recovered.wrong = wrong;
                    recovered.inner_cut = Some((*cut, inner.selection()));
                    break 'cuts;
                }
            }
        }
        self.inner = inner;
    }
}

/// What is wrong if a recovery and one that was cut and repeated show this.
fn compare(first: &Recovered, second: &Recovered, cut: Moment) -> Option<Wrong> {
    match &second.wrong {
        Some(wrong) if first.wrong.is_none() => Some(wrong.clone()),
        None if !first.seen.same(&second.seen) => Some(Wrong::recovered(
            verdict::RECOVERY_DIFFERS,
            guarantee::REPEATABLE,
            "",
            format!("recovery cut after its event {} shows other names, sizes or contents", cut.0),
        )),
        _ => None,
    }
}

impl<T: PowerTarget> Session<T> {
    fn examine(&self, task: &Task) -> Result<(), Wrong> {
        self.target.mount(task).map_err(|error| {
            let message = format!("failed to mount after the power cut: {error}");
            Wrong::recovered(verdict::MOUNT_FAILED, guarantee::MOUNTS, &error.cause, message)
        })?;
        self.mounted.set(task.machine().now());
        if self.depth.check {
            self.check(task)?;
        }
        let seen = self.look(task)?;
        let is_due = self.depth.usable.is_due(seen.hash(self.salt));
        self.result.borrow_mut().seen = seen;
        self.after(task)?;
        if is_due {
            self.usable(task)?;
        }
        Ok(())
    }

    fn check(&self, task: &Task) -> Result<(), Wrong> {
        let failed = |cause: &str, message: String| {
            Wrong::recovered(verdict::CHECK_FAILED, guarantee::CHECKS, cause, message)
        };
        let problem = self.target.check(task).map_err(|TargetError { cause, message }| {
            failed(&cause, format!("the full check ended with: failed to read: {message}"))
        })?;
        match problem {
            None => Ok(()),
            Some(TargetError { cause, message }) => Err(failed(
                &cause,
                format!("the full check of the recovered image says: {message}"),
            )),
        }
    }

    /// Reads everything through the ordinary interface.
    fn look(&self, task: &Task) -> Result<Seen, Wrong> {
        self.target.look(task, &self.program).map_err(|unseen| match unseen {
            Unseen::Ghost(name) => {
                let message = format!("the name {name:?} is there, which no operation created");
                Wrong::recovered("ghost-name", 4, "", message)
            }
            Unseen::Failed(what, TargetError { cause, message }) => {
                let message = format!("failed to {what} after recovery: {message}");
                Wrong::recovered(verdict::UNUSABLE, guarantee::USABLE, &cause, message)
            }
        })
    }

    /// The program's own demands on every recovered state.
    fn after(&self, task: &Task) -> Result<(), Wrong> {
        let first = self.program.setup.len() + self.program.task_operation_count();
        for (index, line) in self.program.after.iter().enumerate() {
            let id = OpId((first + index) as u16 + 1);
            if let Err(Unmet { how, message }) = self.after_line(task, id, line) {
                let message = format!("line {} of `after`: {message}", index + 1);
                let kind = verdict::AFTER_FAILED;
                return Err(Wrong::recovered(kind, guarantee::AFTER, &how, message));
            }
        }
        Ok(())
    }

    fn after_line(&self, task: &Task, id: OpId, line: &AfterLine) -> Result<(), Unmet> {
        let name = |path: &PathId| self.program.path_name(*path);
        let unmet = |how: &str, message: String| Err(Unmet { how: how.to_string(), message });
        let missing = |path: &PathId| unmet("no file", format!("{} is not there", name(path)));
        let result = self.result.borrow();
        match line {
            AfterLine::Exists(path) if result.seen.file(*path).is_none() => missing(path),
            AfterLine::Absent(path) if result.seen.file(*path).is_some() => {
                unmet("a file", format!("{} is there", name(path)))
            }
            AfterLine::Exists(_) | AfterLine::Absent(_) => Ok(()),
            AfterLine::Size { path, size } => match result.seen.file(*path) {
                Some(file) if file.size == *size => Ok(()),
                Some(file) => {
                    let message = format!("{} has size {}, not {size}", name(path), file.size);
                    unmet("another size", message)
                }
                None => missing(path),
            },
            AfterLine::Content { path, span, holds } => {
                let mut expected = vec![0; span.len as usize];
                match holds {
                    Content::Zero => {}
                    Content::Byte(byte) => expected.fill(*byte),
                    Content::Tag(op) => {
                        let tag = oracle::operation::Fill::Tag;
                        oracle::content::fill(tag, *op, *path, span.offset, &mut expected);
                    }
                }
                drop(result);
                let read = Operation::Read { path: *path, span: *span };
                match perform(&self.target, task, &self.program, id, &read) {
                    Performed::Done(Ok(Value::Bytes(found))) if found == expected => Ok(()),
                    Performed::Done(Ok(Value::Bytes(found))) if found.len() < expected.len() => {
                        unmet("fewer bytes", format!("{} ends within the range", name(path)))
                    }
                    Performed::Done(Ok(_)) => {
                        unmet("other bytes", format!("{} holds other bytes", name(path)))
                    }
                    other => {
                        let how = refusal(other);
                        unmet(&how, format!("failed to read: {how}"))
                    }
                }
            }
            AfterLine::Operation(operation) => {
                drop(result);
                match perform(&self.target, task, &self.program, id, operation) {
                    Performed::Done(Ok(_)) | Performed::Submitted => Ok(()),
                    Performed::Done(Err(errno)) => {
                        unmet(&format!("{errno:?}"), format!("the operation fails: {errno:?}"))
                    }
                    other => {
                        let how = refusal(other);
                        unmet(&how, how.clone())
                    }
                }
            }
        }
    }

    /// New operations, then deletes everything; free space must be back.
    fn usable(&self, task: &Task) -> Result<(), Wrong> {
        let left = self.target.exercise(task, &self.program).map_err(|error| {
            let message = format!("an operation on the recovered file system fails: {error}");
            Wrong::recovered(verdict::UNUSABLE, guarantee::USABLE, &error.cause, message)
        })?;
        match (left, self.free_blocks) {
            (Some(free), Some(new)) if free != new => {
                let message = format!(
                    "with everything deleted {free} blocks are free, {new} when the image was made"
                );
                Err(Wrong::recovered(verdict::LEAKED_SPACE, guarantee::NO_LEAK, "", message))
            }
            _ => Ok(()),
        }
    }
}

/// A demand of a program that does not hold.
struct Unmet {
    /// In what way, which minimizing keeps.
    how: String,
    /// In a sentence.
    message: String,
}

/// Why a line of `after` has no result.
fn refusal(performed: Performed) -> String {
    match performed {
        Performed::Done(Err(errno)) => format!("{errno:?}"),
        Performed::Strange(what) => format!("the engine answered with {what}"),
        _ => "the machine stopped".to_string(),
    }
}

/// What is wrong if there is no target for a program that was executed on one.
fn unmade(why: String) -> Wrong {
    let message = format!("failed to mount after the power cut: {why}");
    Wrong::recovered(verdict::MOUNT_FAILED, guarantee::MOUNTS, "", message)
}
