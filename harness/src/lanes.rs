//! The executed steps of the last execution, one column for each task, the disk last.

use crate::session::Session;
use crate::target::PowerTarget;
use machine::{Access, Actor, Event, Machine, Moment, Step, StepKind};

/// Columns are this wide.
const WIDTH: usize = 26;

/// Which steps are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// From the end of the setup to the cut, or to the end if there is none.
    Race {
        /// The event after which the concurrent tasks started.
        setup_end: Moment,
        /// The last event before the cut.
        cut: Option<Moment>,
    },
    /// All of them.
    All,
}

impl Window {
    fn shows(self, moment: Moment) -> bool {
        match self {
            Window::Race { setup_end, cut } => {
                moment > setup_end && cut.is_none_or(|cut| moment <= cut)
            }
            Window::All => true,
        }
    }
}

/// The lines of the picture. Tasks that do nothing in the window have no column.
pub fn lines(session: &Session<impl PowerTarget>, window: Window) -> Vec<String> {
    let executor = session.executor();
    let names = executor.task_names();
    let trace = executor.machine().trace();
    let shown: Vec<&Step> = trace.iter().filter(|step| window.shows(step.moment)).collect();
    let lane = |step: &Step| match (step.actor, step.what) {
        (Actor::Task(id), StepKind::Event(_)) => usize::from(id.0),
        _ => names.len(),
    };
    let mut lanes: Vec<usize> = shown.iter().map(|step| lane(step)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let titles = lanes.iter().map(|&lane| names.get(lane).map_or("disk", String::as_str));
    let mut header = format!("{:>6} ", "event");
    titles.for_each(|title| header.push_str(&format!("{title:<WIDTH$}")));
    let mut lines = vec![header.trim_end().to_string()];
    for step in shown {
        let column = lanes.binary_search(&lane(step)).unwrap_or(0);
        let mut line = format!("{:>6} ", step.moment.0);
        line.extend(std::iter::repeat_n(' ', column * WIDTH));
        line.push_str(&text(step, executor.machine()));
        lines.push(line);
    }
    lines
}

/// A step in words.
pub(crate) fn text(step: &Step, machine: &Machine) -> String {
    match (step.actor, step.what) {
        (_, StepKind::Complete(id)) => {
            let disk = machine.disk();
            let what = disk.log().get(id).map_or("request", |logged| logged.note.what);
            format!("done #{} {what}", id.0)
        }
        (Actor::Device, StepKind::Event(event)) => event.site.name().to_string(),
        (Actor::Task(_), StepKind::Event(event)) => event_text(&event, machine),
    }
}

/// The kind of step that a task makes: a site, or the lock it takes.
pub(crate) fn kind_text(event: &Event, machine: &Machine) -> String {
    let lock = match event.access {
        Access::Acquire => machine.lock_name(event.object.kind),
        _ => None,
    };
    lock.map_or(event.site.name().to_string(), |lock| format!("+{lock}"))
}

/// What a task does, in words.
pub(crate) fn event_text(event: &Event, machine: &Machine) -> String {
    let object = event.object;
    let what = kind_text(event, machine);
    match object.b {
        u64::MAX => format!("{what} {}", object.a),
        _ => format!("{what} {}:{}", object.a, object.b),
    }
}
