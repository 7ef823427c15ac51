//! Reports of tasks that wait for each other: the wait-for graph in words.

use crate::fault::{Fault, FaultKind, short_file};
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
    let cycle = find_cycle(&tasks, &blocked);
    let kind = if cycle.len() == 1 { FaultKind::SelfDeadlock } else { FaultKind::Deadlock };
    let parties = if cycle.is_empty() { &blocked } else { &cycle };
    let names: Vec<&str> = parties.iter().map(|&i| tasks[i].name.as_str()).collect();
    let mut keys: Vec<String> = parties.iter().map(|&i| edge_key(&tasks[i])).collect();
    keys.sort();
    keys.dedup();
    let message = if cycle.is_empty() {
        format!("no step is possible while {} wait", names.join(", "))
    } else {
        format!("{} wait for each other", names.join(" -> "))
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
    lines
}

/// Whom a blocked task waits for, by index.
fn servers(tasks: &[TaskState], index: usize) -> Vec<usize> {
    let Some(waiting) = tasks[index].waiting else { return Vec::new() };
    match waiting.server {
        Server::Task(TaskId(id)) => vec![id as usize],
        Server::Worker(name) => (0..tasks.len())
            .filter(|&i| tasks[i].kind == Kind::Worker && tasks[i].name.starts_with(name))
            .collect(),
        Server::Holders => (0..tasks.len())
            .filter(|&i| tasks[i].held.iter().any(|h| Some(h.lock) == waiting.lock))
            .collect(),
        Server::Device | Server::Any => Vec::new(),
    }
}

/// A cycle of blocked tasks, if the edges show one.
fn find_cycle(tasks: &[TaskState], blocked: &[usize]) -> Vec<usize> {
    for &start in blocked {
        let mut path = vec![start];
        if extend(tasks, start, &mut path) {
            return path;
        }
    }
    Vec::new()
}

/// Depth-first search back to `start`. The path never holds a task twice, so it ends.
fn extend(tasks: &[TaskState], start: usize, path: &mut Vec<usize>) -> bool {
    let last = *path.last().expect("the path starts with one");
    for next in servers(tasks, last) {
        if next == start {
            return true;
        }
        if path.contains(&next) || tasks[next].status != Status::Blocked {
            continue;
        }
        path.push(next);
        if extend(tasks, start, path) {
            return true;
        }
        path.pop();
    }
    false
}
