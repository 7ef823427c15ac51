//! Signatures: what makes two minimized findings the same bug.
//!
//! A stack does not tell bugs of interleavings and power cuts apart, and neither do bytes. A
//! signature says what is broken, where and how if that is known, and by which program: minimizing
//! leads findings of one bug to one program. It says what the medium lost only if nothing races,
//! because else that depends on the schedule.

use crate::execution::Executor;
use crate::finding::Finding;
use crate::program::{self, CutSpec, Rest};
use crate::target::PowerTarget;
use machine::DeviceId;
use machine::disk::Op;
use oracle::operation::Operation;

/// What was last written to each block that shows something older at a cut of the last execution,
/// if the rest was kept; and whether that was in flight, or complete and in a cache that was not
/// flushed. Sorted.
pub fn lost(executor: &Executor<impl PowerTarget>, cut: &CutSpec) -> Vec<String> {
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
        let mut signature = self.wrong.label();
        if let Some(complaint) = self.wrong.complaint() {
            signature += &format!(", {complaint}");
        }
        signature += &format!(": {}", self.shape());
        if !self.lost.is_empty() && self.program.is_sequential() {
            signature += &format!(", lost {}", self.lost.join(", "));
        }
        signature
    }

    /// The operations of the setup, and of each task, without the names of files.
    pub fn shape(&self) -> String {
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
