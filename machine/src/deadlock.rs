//! Reports of tasks that wait for each other: the wait-for graph in words.

use crate::fault::{Fault, FaultKind, short_file};
use crate::lock::lockdep::Token;
use crate::machine::{Kind, Machine, Server, Status, TaskId, TaskState};
use std::panic::Location;

/// A source place, the same on every machine.
pub(crate) fn place(location: &Location<'_>) -> String {
    format!("{}:{}", short_file(location.file()), location.line())
}

/// The fault for a machine in which no step is possible although foreground tasks are unfinished.
pub(crate) fn report(machine: &Machine) -> Fault {
    let tasks = machine.0.tasks.borrow();
    let blocked: Vec<usize> = (0..tasks.len())
        .filter(|&i| tasks[i].status == Status::Blocked || is_stuck_foreground(&tasks[i]))
        .collect();
    assert!(!blocked.is_empty(), "a deadlock without a blocked task");
    let cycle = find_cycle(&tasks, &machine.0.tokens.borrow(), &blocked);
    // Through an IO that holds a lock for it, a task waits for the IO, and that for the task.
    let is_self = cycle.len() == 1 && servers(&tasks, &[], cycle[0]).contains(&cycle[0]);
    let kind = if is_self { FaultKind::SelfDeadlock } else { FaultKind::Deadlock };
    let parties = if cycle.is_empty() { &blocked } else { &cycle };
    let names: Vec<&str> = parties.iter().map(|&i| tasks[i].name.as_str()).collect();
    let mut keys: Vec<String> = parties.iter().map(|&i| edge_key(&tasks[i])).collect();
    keys.sort();
    keys.dedup();
    let message = if cycle.is_empty() {
        format!("no step is possible while {} wait", names.join(", "))
    } else {
        match (cycle.len(), is_self) {
            (1, true) => format!("{} waits for itself", names[0]),
            (1, false) => format!("{} waits for an IO that waits for it", names[0]),
            _ => format!("{} wait for each other", names.join(" -> ")),
        }
    };
    drop(tasks);
    Fault { kind, message, details: lanes(machine), key: format!("deadlock {}", keys.join(" ")) }
}

fn is_stuck_foreground(task: &TaskState) -> bool {
    task.kind == Kind::Foreground && task.status == Status::Idle
}

fn edge_key(task: &TaskState) -> String {
    task.waiting.map_or_else(String::new, |w| format!("{}@{}", w.class, place(w.place)))
}

/// One line per blocked task: what it waits for and where, and what it holds.
pub(crate) fn lanes(machine: &Machine) -> Vec<String> {
    let tasks = machine.0.tasks.borrow();
    let mut lines = Vec::new();
    for task in tasks.iter().filter(|task| task.status == Status::Blocked) {
        let Some(waiting) = task.waiting else { continue };
        let held: Vec<String> = task
            .held
            .iter()
            .map(|h| {
                format!(
                    "{}({},{}) since {}",
                    h.class.name(),
                    h.instance.0,
                    h.instance.1,
                    place(h.place)
                )
            })
            .collect();
        lines.push(format!(
            "{} waits for {}({},{}) at {}, served by {:?}; holds [{}]",
            task.name,
            waiting.class,
            waiting.instance.0,
            waiting.instance.1,
            place(waiting.place),
            waiting.server,
            held.join(", ")
        ));
    }
    for Token { held, server } in machine.0.tokens.borrow().iter() {
        let (class, (a, b), since) = (held.class.name(), held.instance, place(held.place));
        lines.push(format!("an IO holds {class}({a},{b}) since {since}, served by {server:?}"));
    }
    lines
}

/// Whom a blocked task waits for, by index: who holds a lock, or who ends the asynchronous IO that
/// holds it (`waiter -> IO -> worker`), or who serves a pseudo-resource.
fn servers(tasks: &[TaskState], tokens: &[Token], index: usize) -> Vec<usize> {
    let Some(waiting) = tasks[index].waiting else { return Vec::new() };
    if waiting.server != Server::Holders {
        return served_by(tasks, waiting.server);
    }
    let holds = |task: &TaskState| task.held.iter().any(|held| Some(held.lock) == waiting.lock);
    let mut found: Vec<usize> = (0..tasks.len()).filter(|&i| holds(&tasks[i])).collect();
    for token in tokens.iter().filter(|token| Some(token.held.lock) == waiting.lock) {
        found.extend(served_by(tasks, token.server));
    }
    found
}

/// The tasks behind a server.
fn served_by(tasks: &[TaskState], server: Server) -> Vec<usize> {
    match server {
        Server::Task(TaskId(id)) => vec![usize::from(id)],
        Server::Worker(name) => (0..tasks.len())
            .filter(|&i| tasks[i].kind == Kind::Worker && tasks[i].name.starts_with(name))
            .collect(),
        Server::Device | Server::Any | Server::Holders => Vec::new(),
    }
}

/// A cycle of blocked tasks, if the edges show one.
fn find_cycle(tasks: &[TaskState], tokens: &[Token], blocked: &[usize]) -> Vec<usize> {
    for &start in blocked {
        let mut path = vec![start];
        if extend(tasks, tokens, start, &mut path) {
            return path;
        }
    }
    Vec::new()
}

/// Depth-first search back to `start`. The path never holds a task twice, so it ends.
fn extend(tasks: &[TaskState], tokens: &[Token], start: usize, path: &mut Vec<usize>) -> bool {
    let last = *path.last().expect("the path starts with one");
    for next in servers(tasks, tokens, last) {
        if next == start {
            return true;
        }
        if path.contains(&next) || tasks[next].status != Status::Blocked {
            continue;
        }
        path.push(next);
        if extend(tasks, tokens, start, path) {
            return true;
        }
        path.pop();
    }
    false
}
