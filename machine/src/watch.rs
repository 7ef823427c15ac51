//! Looking at what runs on a machine without being part of it: checkers of the code under test.
//!
//! A watcher is told of every step and of every request. What it looks at enters no footprint, so
//! explorers take no notice of it; a schedule that an explorer leaves out, as its steps commute, is
//! not looked at either.
//!
//! What a watcher finds is a *suspicion*: a rule that is broken, and nobody has seen a consequence
//! yet. It does not stop the machine. Whoever runs it says it last, when nothing else was found.
//!
//! A watcher must never change anything, decide anything or switch tasks.

use crate::choice::Actor;
use crate::disk::RequestId;
use crate::event::Site;
use crate::fault::{Fault, FaultKind};
use crate::footprint;
use crate::machine::{Machine, TaskId};
use crate::record::Record;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Who looks at a machine.
pub trait Watcher {
    /// A step is over that changed something (see [`Tally`]): `who` made it.
    fn stepped(&self, machine: &Machine, who: Actor);

    /// The disk took a request.
    fn submitted(&self, machine: &Machine, id: RequestId);

    /// A request completed; its "interrupt" has not run yet.
    fn completed(&self, machine: &Machine, id: RequestId);
}

/// Counts changes, for watchers alone: it leaves no footprint. Cloning gives another handle to the
/// same one.
#[derive(Clone, Debug, Default)]
pub struct Tally(Rc<Cell<u64>>);

impl Tally {
    /// Something changed.
    #[inline]
    pub fn note(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    /// How often something has changed.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.get()
    }

    /// Makes it equal to a count that was seen; whether it differed.
    pub fn catch_up(&self, count: u64) -> bool {
        self.0.replace(count) != count
    }
}

/// What a machine knows of its watcher.
pub(crate) struct Watch {
    watcher: RefCell<Option<Rc<dyn Watcher>>>,
    is_on: Cell<bool>,
    changes: Tally,
    seen: Cell<u64>,
    /// The task that runs.
    pub running: Cell<TaskId>,
    suspicion: RefCell<Option<Fault>>,
    pub record: Record,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            watcher: RefCell::default(),
            is_on: Cell::new(false),
            changes: Tally::default(),
            seen: Cell::new(0),
            running: Cell::new(TaskId(0)),
            suspicion: RefCell::default(),
            record: Record::default(),
        }
    }
}

impl Machine {
    /// Has somebody look at everything from now on, until the next reset; or nobody.
    pub fn watch(&self, watcher: Option<Rc<dyn Watcher>>) {
        self.0.watch.is_on.set(watcher.is_some());
        // Dropped after the place is free again: it may hold what holds this machine.
        let _old = self.0.watch.watcher.replace(watcher);
    }

    /// Where code under test tells that something changed that a watcher looks at.
    pub fn changes(&self) -> &Tally {
        &self.0.watch.changes
    }

    /// Keeps a broken rule that was not seen to have consequences: the first one of an execution.
    /// `key` names the rule.
    pub fn suspect(&self, kind: FaultKind, key: &str, message: &str) {
        let mut suspicion = self.0.watch.suspicion.borrow_mut();
        suspicion.get_or_insert_with(|| Fault {
            kind,
            message: message.to_string(),
            details: Vec::new(),
            key: format!("{} {key}", kind.name()),
        });
    }

    /// The first broken rule of this execution, if one was seen.
    pub fn suspicion(&self) -> Option<Fault> {
        self.0.watch.suspicion.borrow().clone()
    }

    /// Looks at something where it happens, if anybody watches: for rules that can be asked only
    /// there.
    #[inline]
    pub fn look_on(&self, how: impl FnOnce(&Machine)) {
        if self.0.watch.is_on.get() && !self.0.poisoned.get() {
            footprint::unseen(|| how(self));
        }
    }

    /// The name of the task that runs, and the site at which its step began.
    pub fn running_name(&self) -> String {
        self.actor_name(Actor::Task(self.0.watch.running.get()))
    }

    /// The task that runs.
    pub fn running(&self) -> Actor {
        Actor::Task(self.0.watch.running.get())
    }

    /// The name of who made a step, and at which site a task's step began.
    pub fn actor_name(&self, who: Actor) -> String {
        match who {
            Actor::Device => "the device".to_string(),
            Actor::Task(TaskId(id)) => match self.0.tasks.borrow().get(usize::from(id)) {
                Some(task) => format!("task {} at {}", task.name, task.site.name()),
                None => format!("task {id}"),
            },
        }
    }

    /// The step at which a task is, or that it is the device.
    pub fn site_name(&self, who: Actor) -> &'static str {
        match who {
            Actor::Device => "the device",
            Actor::Task(TaskId(id)) => {
                self.0.tasks.borrow().get(usize::from(id)).map_or("no step", |it| it.site.name())
            }
        }
    }

    pub(crate) fn forget_watch(&self) {
        self.watch(None);
        self.0.watch.suspicion.borrow_mut().take();
        self.forget_record();
    }

    /// A step of a task begins.
    #[inline]
    pub(crate) fn note_site(&self, id: TaskId, site: &'static Site) {
        if self.0.watch.is_on.get() {
            self.0.tasks.borrow_mut()[usize::from(id.0)].site = site;
        }
    }

    /// A step of somebody is over.
    #[inline]
    pub(crate) fn look_at_step(&self, who: Actor) {
        let watch = &self.0.watch;
        if watch.is_on.get() && watch.changes.count() != watch.seen.get() {
            watch.seen.set(watch.changes.count());
            self.look(|watcher| watcher.stepped(self, who));
        }
    }

    #[inline]
    pub(crate) fn look_at_submission(&self, id: RequestId) {
        if self.0.watch.is_on.get() {
            self.look(|watcher| watcher.submitted(self, id));
        }
    }

    #[inline]
    pub(crate) fn look_at_completion(&self, id: RequestId) {
        if self.0.watch.is_on.get() {
            self.look(|watcher| watcher.completed(self, id));
        }
    }

    fn look(&self, how: impl FnOnce(&dyn Watcher)) {
        let watcher = self.0.watch.watcher.borrow().clone();
        if let Some(watcher) = watcher.filter(|_| !self.0.poisoned.get()) {
            footprint::unseen(|| how(&*watcher));
        }
    }
}
