//! The tasks of a script as threads, so that operations overlap in time.
//!
//! The oracle is told under a lock, before and after each operation, and the operation itself runs
//! outside of the lock: intervals overlap as the operations do, and are never too short.

use super::script::Step;
use super::session::{Disagreement, Session};
use crate::target::{Performed, Target};
use oracle::operation::{OpId, Operation};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};

/// Performs `setup`, then each task in a thread of its own. The first disagreement ends all.
pub(super) fn run<'w, T>(
    session: &mut Session<'_>,
    target: &T,
    workers: &mut [T::Worker<'w>],
) -> Result<(), Disagreement>
where
    T: Target + Sync + 'w,
    T::Worker<'w>: Send,
{
    let script = session.script;
    session.setup(target, &mut workers[0])?;
    let start = Barrier::new(workers.len() - 1);
    let shared = Mutex::new(Shared { session, found: None });
    std::thread::scope(|scope| {
        for (task, worker) in (1u8..).zip(&mut workers[1..]) {
            let (start, shared) = (&start, &shared);
            scope.spawn(move || {
                start.wait();
                for step in script.task(task) {
                    if step_of_thread(shared, target, worker, step).is_none() {
                        break;
                    }
                }
            });
        }
    });
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    shared.found.map_or(Ok(()), Err)
}

struct Shared<'a, 's> {
    session: &'a mut Session<'s>,
    found: Option<Disagreement>,
}

impl Shared<'_, '_> {
    fn note(&mut self, verdict: Result<(), Disagreement>) {
        if let Err(found) = verdict {
            self.found.get_or_insert(found);
        }
    }
}

/// A thread that panicked has reported already; the others end.
fn lock<'m, 'a, 's>(shared: &'m Mutex<Shared<'a, 's>>) -> MutexGuard<'m, Shared<'a, 's>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` when a disagreement was found, by whomever.
fn step_of_thread<T: Target>(
    shared: &Mutex<Shared<'_, '_>>,
    target: &T,
    worker: &mut T::Worker<'_>,
    step: Step<'_>,
) -> Option<()> {
    let (call, program) = {
        let mut guard = lock(shared);
        if guard.found.is_some() {
            return None;
        }
        (guard.session.invoke(step), guard.session.script.program())
    };
    let performed = target.perform(worker, &step.call(program));
    let mut results: Vec<(OpId, Performed)> = Vec::new();
    if matches!(step.operation, Operation::Reap) {
        target.reaped(worker, &mut |id, result| results.push((id, result)));
    }
    let mut guard = lock(shared);
    for (id, result) in &results {
        let verdict = guard.session.reaped(*id, result);
        guard.note(verdict);
    }
    let verdict = guard.session.complete(call, step, &performed);
    guard.note(verdict);
    guard.found.is_none().then_some(())
}
