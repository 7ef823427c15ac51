//! The trace in the format of Chrome, which Perfetto reads: one track for each lane, locks and
//! requests as spans of their own, one event of the machine as one microsecond.

use super::picture::{fate, request_text};
use crate::explain::{Explanation, LaneKind};
use serde_json::{Value, json};

/// The process of tasks and workers, and that of the disk.
const TASKS: u32 = 1;
const DISK: u32 = 2;

/// The document.
pub fn chrome_trace(story: &Explanation) -> String {
    let mut events = names(story);
    events.extend(operations(story));
    events.extend(steps(story));
    events.extend(waits(story));
    events.extend(locks(story));
    events.extend(requests(story));
    events.extend(marks(story));
    let document = json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "file": story.file,
            "title": story.finding.title,
            "message": story.finding.message.join("\n"),
        },
        "traceEvents": events,
    });
    serde_json::to_string(&document).unwrap_or_default()
}

fn track(story: &Explanation, lane: usize) -> (u32, usize) {
    match story.lanes.get(lane).map(|lane| lane.kind) {
        Some(LaneKind::Disk) | None => (DISK, 1),
        _ => (TASKS, lane + 1),
    }
}

fn names(story: &Explanation) -> Vec<Value> {
    let process = |pid: u32, name: &str| {
        let args = json!({ "name": name });
        json!({ "ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": args })
    };
    let mut events = vec![process(TASKS, "tasks and workers"), process(DISK, "disk")];
    for (lane, about) in story.lanes.iter().enumerate() {
        let (pid, tid) = track(story, lane);
        let name = &about.name;
        let args = json!({ "name": name });
        events.push(
            json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": args }),
        );
    }
    events
}

fn operations(story: &Explanation) -> impl Iterator<Item = Value> {
    story.operations.iter().map(|it| {
        let (pid, tid) = track(story, it.lane);
        let end = it.returned.unwrap_or(story.failure + 1);
        json!({
            "ph": "X", "cat": "operation", "name": format!("#{} {}", it.number, it.text),
            "pid": pid, "tid": tid, "ts": it.invoked, "dur": end.saturating_sub(it.invoked).max(1),
            "args": { "failed": it.failed, "returned": it.returned.is_some() },
        })
    })
}

fn steps(story: &Explanation) -> impl Iterator<Item = Value> {
    story.steps.iter().map(|step| {
        let (pid, tid) = track(story, step.lane);
        json!({
            "ph": "i", "s": "t", "cat": "step", "name": step.text,
            "pid": pid, "tid": tid, "ts": step.moment,
        })
    })
}

/// A span that may overlap others of its track.
fn span(cat: &str, id: String, name: &str, pid: u32, tid: usize, from: u64, to: u64) -> [Value; 2] {
    let event = |ph: &str, ts: u64| {
        json!({
            "ph": ph, "cat": cat, "id": id, "name": name, "pid": pid, "tid": tid, "ts": ts,
        })
    };
    [event("b", from), event("e", to.max(from + 1))]
}

fn waits(story: &Explanation) -> Vec<Value> {
    let spans = story.waits.iter().enumerate().flat_map(|(index, wait)| {
        let (pid, tid) = track(story, wait.lane);
        let name = format!("{} waits for {}", story.lane_name(wait.lane), wait.name());
        let to = wait.until.unwrap_or(story.failure + 1);
        span("wait", format!("w{index}"), &name, pid, tid, wait.from, to)
    });
    spans.collect()
}

fn locks(story: &Explanation) -> Vec<Value> {
    let spans = story.locks.iter().enumerate().flat_map(|(index, lock)| {
        let (pid, tid) = track(story, lock.lane);
        let name = format!("{} holds {}", story.lane_name(lock.lane), lock.name());
        let to = lock.until.unwrap_or(story.failure + 1);
        span("lock", format!("l{index}"), &name, pid, tid, lock.from, to)
    });
    spans.collect()
}

fn requests(story: &Explanation) -> Vec<Value> {
    let mut events = Vec::new();
    for request in &story.requests {
        let to = request.completed.unwrap_or(story.failure + 1);
        let (name, id) = (request_text(request), format!("r{}", request.number));
        events.extend(span("request", id.clone(), &name, DISK, 1, request.submitted, to));
        if request.op == "write" && !request.fua && request.completed.is_some() {
            let until = request.durable.map_or(story.failure + 1, |(_, at)| at);
            let name = format!("#{} in the cache, {}", request.number, fate(request.fate));
            events.extend(span("cache", id, &name, DISK, 1, to, until));
        }
    }
    events
}

fn marks(story: &Explanation) -> Vec<Value> {
    let mark = |name: &str, moment: u64| {
        json!({
            "ph": "i", "s": "g", "cat": "mark", "name": name, "pid": TASKS, "tid": 0, "ts": moment,
        })
    };
    let mut events = vec![match &story.cut {
        Some(cut) => mark("power cut", cut.moment + 1),
        None => mark("failure", story.failure + 1),
    }];
    if let Some(decisive) = &story.likelihood.decisive {
        events.push(mark(&format!("decisive choice: {}", decisive.chosen), decisive.moment + 1));
    }
    for point in &story.likelihood.points {
        let percent = story.likelihood.percent(point.violations);
        events.push(json!({
            "ph": "C", "name": "likelihood of the violation", "pid": TASKS, "tid": 0,
            "ts": point.moment, "args": { "percent": percent },
        }));
    }
    events
}
