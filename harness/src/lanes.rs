//! The executed steps of the last execution, one column for each task, the disk last.

use crate::session::Session;
use machine::{Actor, Step, StepKind};

/// Columns are this wide.
const WIDTH: usize = 26;

/// The lines of the picture.
pub fn lines(session: &Session) -> Vec<String> {
    let executor = session.executor();
    let names = executor.task_names();
    let trace = executor.machine().trace();
    let mut lines = vec![header(names)];
    for step in trace.iter() {
        lines.push(line(step, names, session));
    }
    lines
}

fn header(names: &[String]) -> String {
    let mut line = format!("{:>6} ", "event");
    for name in names.iter().map(String::as_str).chain(["disk"]) {
        line.push_str(&format!("{name:<WIDTH$}"));
    }
    line.trim_end().to_string()
}

fn line(step: &Step, names: &[String], session: &Session) -> String {
    let (column, text) = match (step.actor, step.what) {
        (Actor::Task(id), StepKind::Event(event)) => {
            let object = event.object;
            let text = format!("{} {}:{}", event.site.name(), object.a, object.b);
            (usize::from(id.0), text)
        }
        (_, StepKind::Complete(id)) => {
            let machine = session.executor().machine();
            let disk = machine.disk();
            let what = disk.log().get(id).map_or("request", |logged| logged.note.what);
            (names.len(), format!("done #{} {what}", id.0))
        }
        (Actor::Device, StepKind::Event(event)) => (names.len(), event.site.name().to_string()),
    };
    let mut line = format!("{:>6} ", step.moment.0);
    line.extend(std::iter::repeat_n(' ', column * WIDTH));
    line.push_str(&text);
    line
}
