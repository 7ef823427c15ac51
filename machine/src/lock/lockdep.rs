//! Lock order: ranks, instance order within a class, and the class graph over all executions.

use super::LockClass;
use crate::deadlock::place as show;
use crate::fault::{Fault, FaultKind};
use crate::machine::{Machine, Server, Stopped, TaskId};
use crate::task::Task;
use std::panic::Location;

/// A lock that a task holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub class: &'static LockClass,
    /// The number of the class in the class graph.
    pub node: u8,
    pub instance: (u64, u64),
    pub lock: u32,
    pub hold: u32,
    pub place: &'static Location<'static>,
}

/// A lock that an asynchronous IO holds: a task took it and moved it there (races.md §7.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub held: Held,
    /// Who ends the IO.
    pub server: Server,
}

/// Which classes were acquired while which others were held, over all executions. At most 64
/// classes.
#[derive(Default)]
pub struct Lockdep {
    classes: Vec<&'static LockClass>,
    /// `after[x]` has bit `y` set if `y` was acquired while `x` was held.
    after: Vec<u64>,
}

impl Lockdep {
    /// The number of a class: the same for as long as this graph is.
    pub(super) fn node(&mut self, class: &'static LockClass) -> u8 {
        if let Some(index) = self.classes.iter().position(|&known| std::ptr::eq(known, class)) {
            return index as u8;
        }
        assert!(self.classes.len() < 64, "too many lock classes");
        self.classes.push(class);
        self.after.push(0);
        self.classes.len() as u8 - 1
    }

    /// Adds an edge; tells whether it closes a cycle.
    fn add(&mut self, held: u8, next: u8) -> bool {
        let (from, to) = (usize::from(held), usize::from(next));
        if from == to || self.after[from] & (1 << to) != 0 {
            return false;
        }
        self.after[from] |= 1 << to;
        self.reaches(to, from)
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen: u64 = 1 << from;
        let mut frontier = seen;
        while frontier != 0 {
            let next = frontier.trailing_zeros() as usize;
            frontier &= frontier - 1;
            if next == to {
                return true;
            }
            frontier |= self.after[next] & !seen;
            seen |= self.after[next];
        }
        false
    }

    /// The name of the first class of a rank that was acquired: what an event's kind stands for.
    fn name_of(&self, rank: u8) -> Option<&'static str> {
        self.classes.iter().find(|class| class.rank() == rank).map(|class| class.name())
    }

    /// The edges seen so far, as pairs of class names, in order of class name.
    pub fn edges(&self) -> Vec<(&'static str, &'static str)> {
        let mut edges = Vec::new();
        for (from, after) in self.after.iter().enumerate() {
            for (to, class) in self.classes.iter().enumerate() {
                if after & (1 << to) != 0 {
                    edges.push((self.classes[from].name(), class.name()));
                }
            }
        }
        edges.sort_unstable();
        edges
    }
}

impl Machine {
    /// The name of a class of locks by its rank, if one was acquired.
    pub fn lock_name(&self, rank: u8) -> Option<&'static str> {
        self.0.lockdep.borrow().name_of(rank)
    }

    /// Checks that a task may acquire, or wait for, `class` with what it holds (O-1, O-2).
    pub(crate) fn check_order(
        &self,
        id: TaskId,
        class: &'static LockClass,
        instance: (u64, u64),
        place: &'static Location<'static>,
    ) -> Result<(), Stopped> {
        let tasks = self.0.tasks.borrow();
        let held = &tasks[id.0 as usize].held;
        if !tasks[id.0 as usize].serving.is_empty() {
            self.check_served(id, class, instance, place);
        }
        if held.is_empty() {
            return Ok(());
        }
        let mut lockdep = self.0.lockdep.borrow_mut();
        let node = lockdep.node(class);
        let mut broken: Option<(Held, &'static str)> = None;
        for held in held {
            let ranked = held.class.rank() != 0 && class.rank() != 0;
            if ranked && held.class.rank() > class.rank() {
                broken = Some((*held, "against its rank"));
            } else if std::ptr::eq(held.class, class) && held.instance >= instance {
                broken = Some((*held, "against the order of its class"));
            } else if lockdep.add(held.node, node) {
                broken = Some((*held, "closing a cycle of classes"));
            }
            if broken.is_some() {
                break;
            }
        }
        drop(lockdep);
        let Some((held, how)) = broken else { return Ok(()) };
        let name = tasks[id.0 as usize].name.clone();
        drop(tasks);
        self.report(order_fault(&name, class, instance, place, &held, how));
        Err(Stopped)
    }

    /// Removes a lock from the held set of a task.
    pub(crate) fn forget_held(&self, task: TaskId, hold: u32) -> Option<Held> {
        let mut tasks = self.0.tasks.borrow_mut();
        // After a reset the task is gone; its locks go with the engine that owned them.
        let state = tasks.get_mut(task.0 as usize)?;
        let index = state.held.iter().rposition(|held| held.hold == hold)?;
        Some(state.held.remove(index))
    }

    /// An asynchronous IO gives a lock back.
    pub(crate) fn forget_token(&self, hold: u32) {
        self.0.tokens.borrow_mut().retain(|token| token.held.hold != hold);
    }

    /// Checks what a task acquires while it works for an asynchronous IO, against what that holds.
    /// No task holds both, so a broken order is a suspicion: the worker may have to wait for
    /// others, and they for the IO.
    fn check_served(
        &self,
        id: TaskId,
        class: &'static LockClass,
        instance: (u64, u64),
        place: &'static Location<'static>,
    ) {
        let tasks = self.0.tasks.borrow();
        let task = &tasks[usize::from(id.0)];
        let mut lockdep = self.0.lockdep.borrow_mut();
        let node = lockdep.node(class);
        for held in &task.serving {
            let ranked = held.class.rank() != 0 && class.rank() != 0;
            let how = if ranked && held.class.rank() > class.rank() {
                "against its rank"
            } else if std::ptr::eq(held.class, class) && held.instance >= instance {
                "against the order of its class"
            } else if lockdep.add(held.node, node) {
                "closing a cycle of classes"
            } else {
                continue;
            };
            let fault = order_fault(&task.name, class, instance, place, held, how);
            let message = format!("{}, for the IO that it serves", fault.message);
            let key = format!("token {} under {}", class.name(), held.class.name());
            return self.suspect(FaultKind::LockOrder, &key, &message);
        }
    }
}

impl Task {
    /// Tells that from now on the task works for an asynchronous IO that holds these tokens: what
    /// it acquires is acquired under them. Nothing, when it is done.
    pub fn serve(&self, tokens: &[super::Guard]) {
        let machine = self.machine();
        let all = machine.0.tokens.borrow();
        let mine = |token: &&Token| tokens.iter().any(|guard| guard.hold() == token.held.hold);
        let serving = all.iter().filter(mine).map(|token| token.held).collect();
        machine.0.tasks.borrow_mut()[usize::from(self.id().0)].serving = serving;
    }
}

fn order_fault(
    name: &str,
    class: &'static LockClass,
    instance: (u64, u64),
    place: &'static Location<'static>,
    held: &Held,
    how: &str,
) -> Fault {
    let message = format!(
        "task {name} takes {}({},{}) at {} {how}: it holds {}({},{}) since {}",
        class.name(),
        instance.0,
        instance.1,
        show(place),
        held.class.name(),
        held.instance.0,
        held.instance.1,
        show(held.place),
    );
    let key = format!("lock-order {} under {}", class.name(), held.class.name());
    Fault { kind: FaultKind::LockOrder, message, details: Vec::new(), key }
}
