//! Stability: whether a program that is executed a second time does the same again.
//!
//! It promises to share nothing with whoever executed it first: the second execution is in an
//! executor of its own, which has seen other programs, so that what somebody left behind shows,
//! and nothing changes for the first. It must never know which programs are worth it.

use crate::execution::{Executed, Executor, Manner};
use crate::images::Images;
use crate::program::Program;
use crate::target::PowerTarget;
use machine::{Actor, Machine, Step, StepKind};
use std::rc::Rc;

/// Executes programs a second time.
pub struct Witness<T> {
    images: Images<T>,
    executor: Executor<T>,
}

impl<T: PowerTarget> Witness<T> {
    /// A witness that has seen nothing, of a target that the type names.
    pub fn of_target() -> Self {
        Witness { images: Images::of_target(), executor: Executor::of_target() }
    }

    /// Executes a program that `first` has executed last; tells in words what is different.
    pub fn differs(
        &mut self,
        program: &Rc<Program>,
        first: &Executor<T>,
        executed: &Executed,
    ) -> Option<String> {
        match self.executor.execute(&mut self.images, program, Manner::default()) {
            Err(why) => Some(format!("the second execution failed: {why}")),
            Ok(second) => {
                difference((first.machine(), executed), (self.executor.machine(), &second))
            }
        }
    }
}

/// What is different between two executions: the first step, or else the number of decisions.
fn difference(first: (&Machine, &Executed), second: (&Machine, &Executed)) -> Option<String> {
    let key = |it: &Executed| (it.trace_hash, it.decisions, it.end);
    if key(first.1) == key(second.1) {
        return None;
    }
    let (ours, theirs) = (first.0.trace(), second.0.trace());
    let same = |index: &usize| words(ours.get(*index)) == words(theirs.get(*index));
    let steps = ours.len().max(theirs.len());
    Some(match (0..steps).find(|index| !same(index)) {
        Some(index) => {
            let (first, second) = (words(ours.get(index)), words(theirs.get(index)));
            format!("step {} was {first}, and then {second}", index + 1)
        }
        None => {
            let (first, second) = (first.1.decisions, second.1.decisions);
            format!("the steps are the same, after {first} decisions and then {second}")
        }
    })
}

/// All of a step that the hash of a trace sees.
fn words(step: Option<&Step>) -> String {
    let Some(step) = step else { return "none".to_string() };
    match (step.what, step.actor) {
        (StepKind::Complete(request), _) => format!("the end of request {}", request.0),
        (StepKind::Event(event), actor) => {
            let object = event.object;
            let who = match actor {
                Actor::Task(task) => format!("task {}", task.0),
                Actor::Device => "the device".to_string(),
            };
            let site = event.site.name();
            format!("{site} of {who} at {}:{}:{}", object.kind, object.a, object.b)
        }
    }
}
