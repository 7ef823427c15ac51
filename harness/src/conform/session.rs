//! One script on one target, with the oracle listening.
//!
//! It promises that the oracle hears of every invocation before it happens and of every return
//! after it happened, so that an interval that it knows is never shorter than the real one. It must
//! never know which kind of target it drives.

use super::script::{Script, Step};
use crate::program::Program;
use crate::target::kernel::KernelRoot;
use crate::target::{Call, Performed, Snapshot, Target};
use oracle::operation::{OpId, Operation, Outcome, PathId, Span, TaskIndex, Value};
use oracle::{CallId, Moment, Oracle, Violation};
use std::collections::BTreeMap;

/// Operations and comparisons of a campaign so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) comparisons: u64,
    /// Operations that returned an error, by its name.
    pub(super) errors: BTreeMap<String, u64>,
}

/// An answer that the oracle does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disagreement {
    /// The operation as text.
    pub(super) operation: String,
    /// The kind of violation.
    pub(super) kind: String,
    /// The guarantee.
    pub(super) guarantee: String,
    /// The oracle's sentence.
    pub(super) message: String,
}

impl Disagreement {
    /// What makes two the same: kind, guarantee, and the first word of the operation.
    pub(super) fn way(&self) -> (String, String, String) {
        let word = self.operation.split(' ').next().unwrap_or_default();
        (self.kind.clone(), self.guarantee.clone(), word.to_owned())
    }

    pub(super) fn is_like(&self, other: &Disagreement) -> bool {
        self.way() == other.way()
    }
}

/// The oracle's side of one execution.
#[derive(Debug)]
pub(super) struct Session<'s> {
    oracle: &'s mut Oracle,
    pub(super) script: &'s Script,
    counts: &'s mut Counts,
    moment: u64,
    /// Asynchronous operations that were submitted and not handed over.
    pending: Vec<(OpId, CallId)>,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        oracle: &'s mut Oracle,
        root: &KernelRoot,
        script: &'s Script,
        counts: &'s mut Counts,
    ) -> Session<'s> {
        oracle.reset(root.promises().clone());
        oracle.set_path_names(script.program().paths.iter().map(String::as_str));
        Session { oracle, script, counts, moment: 0, pending: Vec::new() }
    }

    fn program(&self) -> &'s Program {
        self.script.program()
    }

    fn now(&mut self) -> Moment {
        self.moment += 1;
        Moment(self.moment)
    }

    /// An operation is about to happen.
    pub(super) fn invoke(&mut self, step: Step<'_>) -> CallId {
        self.counts.operations += 1;
        let now = self.now();
        self.oracle.invoke(step.task, step.id, step.operation, now)
    }

    /// An operation has happened.
    pub(super) fn complete(
        &mut self,
        call: CallId,
        step: Step<'_>,
        performed: &Performed,
    ) -> Result<(), Disagreement> {
        match performed {
            Performed::Done(outcome) => {
                self.counts.comparisons += 1;
                if let Err(errno) = outcome {
                    *self.counts.errors.entry(format!("{errno:?}")).or_default() += 1;
                }
                let now = self.now();
                let verdict = self.oracle.complete(call, now, outcome);
                verdict.map_err(|violation| self.disagreement(step.operation, &violation))
            }
            Performed::Submitted => {
                self.pending.push((step.id, call));
                Ok(())
            }
            Performed::Stopped => Err(self.strange(step.operation, "nothing: it stopped")),
            Performed::Strange(what) => Err(self.strange(step.operation, what)),
        }
    }

    /// An asynchronous operation was handed over.
    pub(super) fn reaped(&mut self, id: OpId, performed: &Performed) -> Result<(), Disagreement> {
        let Some(index) = self.pending.iter().position(|(pending, _)| *pending == id) else {
            let what = format!("a result of operation {} that is not in flight", id.0);
            return Err(self.strange(&Operation::Reap, &what));
        };
        let (_, call) = self.pending.swap_remove(index);
        let operation = self.program().operation(id).map_or(&Operation::Reap, |(_, found)| found);
        self.complete(call, Step { task: TaskIndex(0), id, operation }, performed)
    }

    fn strange(&self, operation: &Operation, what: &str) -> Disagreement {
        Disagreement {
            operation: self.program().operation_text(operation),
            kind: "strange-answer".to_owned(),
            guarantee: "none".to_owned(),
            message: format!("the target answered with {what}"),
        }
    }

    fn disagreement(&self, operation: &Operation, violation: &Violation) -> Disagreement {
        Disagreement {
            operation: self.program().operation_text(operation),
            kind: violation.kind.to_string(),
            guarantee: violation.guarantee.to_string(),
            message: violation.message.clone(),
        }
    }

    /// Performs one operation and everything that it hands over.
    pub(super) fn step<T: Target>(
        &mut self,
        target: &T,
        worker: &mut T::Worker<'_>,
        step: Step<'_>,
    ) -> Result<Performed, Disagreement> {
        let call = self.invoke(step);
        let performed = target.perform(worker, &step.call(self.program()));
        if matches!(step.operation, Operation::Reap) {
            let mut verdict = Ok(());
            target.reaped(worker, &mut |id, result| {
                let found = self.reaped(id, &result);
                verdict = verdict.clone().and(found);
            });
            verdict?;
        }
        self.complete(call, step, &performed)?;
        Ok(performed)
    }

    /// Performs `setup`.
    pub(super) fn setup<T: Target>(
        &mut self,
        target: &T,
        worker: &mut T::Worker<'_>,
    ) -> Result<(), Disagreement> {
        let script = self.script;
        script.setup().try_for_each(|step| self.step(target, worker, step).map(|_| ()))
    }

    /// Performs `setup` and all operations of the tasks, one after the other in the script's order.
    pub(super) fn tasks_in_order<T: Target>(
        &mut self,
        target: &T,
        workers: &mut [T::Worker<'_>],
    ) -> Result<(), Disagreement> {
        let script = self.script;
        self.setup(target, &mut workers[0])?;
        for step in script.interleaved() {
            self.step(target, &mut workers[usize::from(step.task.0)], step)?;
        }
        Ok(())
    }

    /// Ends asynchronous operations, then looks at every name, size, content and hole map.
    pub(super) fn look<T: Target>(
        &mut self,
        target: &T,
        workers: &mut [T::Worker<'_>],
    ) -> Result<(), Disagreement> {
        let mut id = self.script.next_id();
        let mut next = |task: u8, operation: &Operation, session: &mut Self, worker: &mut _| {
            let step = Step { task: TaskIndex(task), id, operation };
            id.0 += 1;
            session.step(target, worker, step)
        };
        for (task, worker) in (0u8..).zip(&mut *workers) {
            next(task, &Operation::Reap, self, worker)?;
        }
        let worker = &mut workers[0];
        next(0, &Operation::List, self, worker)?;
        for path in (0..self.program().paths.len()).map(|index| PathId(index as u8)) {
            let stat = next(0, &Operation::Stat { path }, self, worker)?;
            let Performed::Done(Outcome::Ok(Value::Stat { size, .. })) = stat else { continue };
            let span = Span::new(0, size + 100);
            next(0, &Operation::Read { path, span }, self, worker)?;
            next(0, &Operation::Holes { path }, self, worker)?;
        }
        Ok(())
    }

    /// With nothing in flight, what is there now may be there after a cut now.
    pub(super) fn judge(&mut self, snapshot: &Snapshot) -> Result<(), Disagreement> {
        self.counts.comparisons += 1;
        let now = self.now();
        let verdict = self.oracle.judge(now, snapshot);
        verdict.map_err(|violation| Disagreement {
            operation: "judge the state without a cut".to_owned(),
            kind: violation.kind.to_string(),
            guarantee: violation.guarantee.to_string(),
            message: violation.message,
        })
    }
}

impl<'s> Step<'s> {
    pub(super) fn call(self, program: &'s Program) -> Call<'s> {
        Call { program, task: self.task, id: self.id, operation: self.operation }
    }
}
