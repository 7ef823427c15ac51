//! Signatures: what makes two minimized findings the same bug.
//!
//! A stack does not tell bugs of interleavings and power cuts apart, and neither do bytes. A
//! signature says what is broken, and what it takes: the steps before which a task had to be
//! interrupted, if there are any; or else what the medium lost; or else the kinds of operation.
//! Minimizing makes these canonical: fewest preemptions, each as early as possible, least lost,
//! simplest operations.

use crate::execution::{Executed, Executor};
use crate::finding::Finding;
use crate::program::{self, CutSpec, Program, Rest};
use crate::target::PowerTarget;
use machine::disk::Op;
use machine::{Access, DeviceId, Moment, Preemption};
use oracle::operation::Operation;

/// What a violation takes, beside its operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The steps before which tasks were interrupted, in their order.
    pub interrupted: Vec<String>,
    /// What was written to the blocks that the medium lost, sorted.
    pub lost: Vec<&'static str>,
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
        let step = |it: &Preemption| match (it.event.access, it.event.object.kind) {
            (Access::Acquire, kind) => {
                let lock = executor.machine().lock_name(kind);
                lock.map_or(it.event.site.name().to_string(), |lock| format!("+{lock}"))
            }
            _ => it.event.site.name().to_string(),
        };
        let interrupted = of_program.map(step).collect();
        let mut lost: Vec<&'static str> = cut.map_or_else(Vec::new, |cut| lost(executor, cut));
        lost.sort_unstable();
        lost.dedup();
        Circumstances { interrupted, lost }
    }
}

/// What was last written to each block that shows something older, if the rest was kept.
fn lost(executor: &Executor<impl PowerTarget>, cut: &CutSpec) -> Vec<&'static str> {
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
        found.map(|it| it.note.what)
    };
    cut.kept.iter().filter_map(|spec| last_write(spec.device, spec.block)).collect()
}

impl Finding {
    /// The key that makes two minimized findings the same bug.
    pub fn signature(&self) -> String {
        let Circumstances { interrupted, lost } = &self.circumstances;
        let mut signature = format!("{}: {}", self.wrong.label(), self.shape());
        if !interrupted.is_empty() {
            signature += &format!(", interrupted at {}", interrupted.join(", "));
        }
        if !lost.is_empty() {
            signature += &format!(", lost {}", lost.join(", "));
        }
        signature
    }

    /// The kinds of operation of the setup, and of each task.
    pub fn shape(&self) -> String {
        let words = |ops: &[Operation]| {
            let words = ops.iter().map(|operation| program::kind(operation).name());
            words.collect::<Vec<_>>().join(" ")
        };
        let tasks = self.program.tasks.iter().map(|task| words(&task.ops));
        let parts: Vec<String> = [words(&self.program.setup)].into_iter().chain(tasks).collect();
        parts.join(" | ")
    }
}
