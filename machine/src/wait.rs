//! Wait queues: a task blocks on one until somebody wakes it.

use crate::footprint::{self, Touch};
use crate::machine::{Machine, TaskId};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::rc::Rc;

/// A queue of blocked tasks. Cloning gives another handle to the same queue.
#[derive(Clone)]
pub struct WaitQueue {
    machine: Machine,
    waiters: Rc<RefCell<SmallVec<[TaskId; 4]>>>,
    object: u32,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new(machine: &Machine) -> Self {
        WaitQueue { machine: machine.clone(), waiters: Rc::default(), object: footprint::fresh() }
    }

    pub(crate) fn enlist(&self, id: TaskId) {
        footprint::touch_hidden(self.object.into());
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.contains(&id) {
            waiters.push(id);
        }
    }

    /// Makes all waiters ready; each looks at its condition again when it runs.
    pub fn wake_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        self.touch(waiters.is_empty());
        for id in waiters {
            self.machine.set_ready(id);
        }
    }

    /// Makes the waiter that came first ready.
    pub fn wake_one(&self) {
        let mut waiters = self.waiters.borrow_mut();
        if waiters.is_empty() {
            return self.touch(true);
        }
        let id = waiters.remove(0);
        self.touch(false);
        drop(waiters);
        self.machine.set_ready(id);
    }

    /// Waking conflicts with waiting. Whether somebody waited already leaves no trace: who comes
    /// later finds what he waits for.
    fn touch(&self, is_empty: bool) {
        footprint::touch(self.object.into(), Touch::Look);
        if !is_empty {
            footprint::touch_hidden(self.object.into());
        }
    }
}
