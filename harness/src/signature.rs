//! Signatures: what makes two minimized findings the same bug.
//!
//! A stack does not tell bugs of interleavings and power cuts apart, and neither do bytes. A
//! signature says what is broken, where and how if that is known, by which program, with what that
//! is not usual, and by which interruption, loss and path. Minimizing leads findings of one bug to
//! one program and to the first schedule that shows it. Two bugs should never have one signature;
//! which signatures are of one bug, [triage](crate::triage) tells.

use crate::execution::{Executed, Executor};
use crate::finding::Finding;
use crate::lanes;
use crate::program::options::{Group, KNOBS, WORKERS};
use crate::program::{self, CutSpec, Direction, Program, Rest};
use crate::target::PowerTarget;
use machine::disk::Op;
use machine::{Access, Actor, DeviceId, Moment, Preemption, StepKind, TaskId};
use oracle::operation::Operation;
use std::collections::BTreeMap;

/// What a violation takes, beside its program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The steps before which tasks of the program were interrupted, in their order.
    pub interrupted: Vec<String>,
    /// What was last written to the blocks that the medium lost, sorted.
    pub lost: Vec<String>,
    /// A digest of the kinds of step that each task of the program made, in their order: the way
    /// through the code, which two bugs with the same consequence do not share.
    pub path: Option<String>,
}

impl Circumstances {
    /// Those of the last execution, if power is cut as a program says.
    pub fn of(
        executor: &Executor<impl PowerTarget>,
        executed: &Executed,
        program: &Program,
    ) -> Self {
        let cut = program.cut.as_ref();
        let end = cut.map_or(Moment(u64::MAX), |cut| Moment(cut.moment));
        let preemptions = executor.machine().preemptions();
        let of_race = preemptions.iter().filter(|it| it.moment >= executed.setup_end);
        let before_cut = of_race.filter(|it| it.moment <= end);
        let names = executor.task_names();
        let of_program = before_cut.filter(|it| {
            let name = names.get(usize::from(it.task.0));
            program.tasks.iter().any(|task| Some(&task.name) == name)
        });
        let step = |it: &Preemption| lanes::kind_text(&it.event, executor.machine());
        let interrupted = of_program.map(step).collect();
        let lost = cut.map_or_else(Vec::new, |cut| lost(executor, cut));
        let path = match program.tasks.is_empty() {
            true => path(executor, &names[..names.len().min(1)], Moment(0), end),
            false => {
                let tasks: Vec<String> = program.tasks.iter().map(|it| it.name.clone()).collect();
                path(executor, &tasks, executed.setup_end, end)
            }
        };
        Circumstances { interrupted, lost, path }
    }
}

/// The path of some tasks between two moments of the last execution, whichever is named first; none
/// if no step has a name.
fn path(
    executor: &Executor<impl PowerTarget>,
    tasks: &[String],
    start: Moment,
    end: Moment,
) -> Option<String> {
    let (machine, names) = (executor.machine(), executor.task_names());
    let mut paths: BTreeMap<TaskId, String> = BTreeMap::new();
    let mut is_named = false;
    for step in machine.trace().iter().filter(|step| (start..=end).contains(&step.moment)) {
        let (Actor::Task(id), StepKind::Event(event)) = (step.actor, step.what) else { continue };
        if names.get(usize::from(id.0)).is_some_and(|name| tasks.contains(name)) {
            is_named |= event.access != Access::Acquire;
            paths.entry(id).or_default().extend([&lanes::kind_text(&event, machine), "\n"]);
        }
    }
    let mut paths: Vec<String> = paths.into_values().collect();
    paths.sort_unstable();
    let digest = || blake3::hash(paths.join("\n").as_bytes()).to_hex()[..8].to_string();
    is_named.then(digest)
}

/// What was last written to each block that shows something older at a cut of the last execution,
/// if the rest was kept; and whether that was in flight, or complete and in a cache that was not
/// flushed. Sorted.
fn lost(executor: &Executor<impl PowerTarget>, cut: &CutSpec) -> Vec<String> {
    if cut.rest == Rest::Lost {
        return Vec::new();
    }
    let disk = executor.machine().disk();
    let last_write = |device: u8, block: u64| {
        let requests = disk.log().requests().iter().rev();
        let mut writes = requests.filter(|it| it.request.op() == Op::Write);
        let found = writes.find(|it| {
            let (on, first) = it.request.place();
            let blocks = first..first + it.request.count();
            it.submitted.0 <= cut.moment && on == DeviceId(device) && blocks.contains(&block)
        });
        found.map(|it| {
            let is_complete = it.completed.is_some_and(|moment| moment.0 <= cut.moment);
            let how = if is_complete { "unflushed" } else { "in flight" };
            format!("{} {how}", it.note.what)
        })
    };
    let lost = cut.kept.iter().filter_map(|spec| last_write(spec.device, spec.block));
    let mut lost: Vec<String> = lost.collect();
    lost.sort_unstable();
    lost.dedup();
    lost
}

impl Finding {
    /// The key that makes two minimized findings the same bug.
    pub fn signature(&self) -> String {
        let mut signature = self.title();
        let Circumstances { interrupted, lost, path } = &self.circumstances;
        let unusual = &self.unusual();
        for (how, what) in [("with", unusual), ("interrupted at", interrupted), ("lost", lost)] {
            if !what.is_empty() {
                signature += &format!(", {how} {}", what.join(", "));
            }
        }
        if let Some(path) = path {
            signature += &format!(", path {path}");
        }
        signature
    }

    /// The options that the program needs, and the failures: minimizing leaves no others.
    fn unusual(&self) -> Vec<String> {
        let options = KNOBS.iter().filter(|knob| {
            let is_plain = (knob.get)(&self.program) == knob.default;
            !is_plain && knob.group != Group::Machine && !WORKERS.contains(&knob.key)
        });
        let options =
            options.map(|knob| format!("{}={}", knob.key, knob.text((knob.get)(&self.program))));
        let failures = self.program.faults.iter().map(|fault| match fault.direction {
            Direction::Read => "a failing read".to_string(),
            Direction::Write => "a failing write".to_string(),
        });
        options.chain(failures).collect()
    }

    /// What is broken, and by which program: the part of the signature that follows from the text
    /// of the finding.
    pub fn title(&self) -> String {
        let label = self.wrong.label();
        match self.wrong.complaint() {
            Some(complaint) => format!("{label}, {complaint}: {}", self.shape()),
            None => format!("{label}: {}", self.shape()),
        }
    }

    /// The operations of the setup, and of each task, without the names of files.
    fn shape(&self) -> String {
        let mut program = self.program.clone();
        let (paths, maps, _) = program::default_names();
        program.paths = paths.iter().map(ToString::to_string).collect();
        program.maps = maps.iter().map(ToString::to_string).collect();
        let text = |ops: &[Operation]| {
            let text = ops.iter().map(|operation| program.operation_text(operation));
            text.collect::<Vec<_>>().join("; ")
        };
        let tasks = program.tasks.iter().map(|task| text(&task.ops));
        let parts: Vec<String> = [text(&program.setup)].into_iter().chain(tasks).collect();
        parts.join(" | ")
    }
}
