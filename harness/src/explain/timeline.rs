//! What happened when, and in whose lane: operations, steps, requests, locks, waits.
//!
//! Promises the order of the machine's events, up to the failure. It must never know what was
//! wrong.

use super::story::{
    Fate, Lane, LaneKind, LockSeen, OperationSeen, RequestSeen, StepSeen, WaitSeen,
};
use crate::execution::Executor;
use crate::lanes;
use crate::program::Program;
use crate::target::PowerTarget;
use machine::choice::DEVICE;
use machine::disk::{Log, Logged, Op, Outcome, Request};
use machine::{
    Actor, Happening, Mode, Moment, Range, Recorded, Step, StepKind, TaskId, place_name,
};
use rustc_hash::FxHashMap;

/// Steps that are told at most: the last ones.
const STEPS_MAX: usize = 1500;

/// The last execution, up to a moment.
pub struct Timeline<'a, T> {
    executor: &'a Executor<T>,
    program: &'a Program,
    start: Moment,
    until: Moment,
    recorded: Vec<Recorded>,
}

impl<'a, T: PowerTarget> Timeline<'a, T> {
    /// The last execution, whose tasks started after `start`, up to a moment.
    pub fn new(
        executor: &'a Executor<T>,
        program: &'a Program,
        start: Moment,
        until: Moment,
    ) -> Self {
        let recorded = executor.machine().recorded();
        let recorded = recorded.iter().filter(|it| it.moment <= until).copied().collect();
        Timeline { executor, program, start, until, recorded }
    }

    /// Who took part.
    pub fn lanes(&self) -> Vec<Lane> {
        let is_task = |name: &str| {
            name == "setup" || name == "end" || self.program.tasks.iter().any(|it| it.name == name)
        };
        let lane = |name: &String| Lane {
            name: name.clone(),
            kind: if is_task(name) { LaneKind::Task } else { LaneKind::Worker },
        };
        let mut lanes: Vec<Lane> = self.executor.task_names().iter().map(lane).collect();
        lanes.push(Lane { name: DEVICE.to_string(), kind: LaneKind::Disk });
        lanes
    }

    fn disk_lane(&self) -> usize {
        self.executor.task_names().len()
    }

    /// The lane of a task of the program by its index there, from 1; 0 is setup, or the end.
    fn lane_of(&self, index: u8, moment: u64) -> usize {
        let names = self.executor.task_names();
        let name = match index.checked_sub(1) {
            Some(at) => self.program.tasks.get(usize::from(at)).map_or("?", |it| &it.name),
            None if moment <= self.start.0 => "setup",
            None => "end",
        };
        let last = names.iter().rposition(|known| known == name);
        last.unwrap_or(self.disk_lane())
    }

    /// The operations.
    pub fn operations(&self) -> Vec<OperationSeen> {
        self.executor.with_oracle(|oracle| {
            let calls = oracle.account().filter(|call| call.invoked.0 <= self.until.0);
            let seen = calls.map(|call| OperationSeen {
                number: call.id.0,
                lane: self.lane_of(call.task.0, call.invoked.0),
                text: self.program.operation_text(call.op),
                invoked: call.invoked.0,
                returned: call.returned.map(|at| at.0).filter(|at| *at <= self.until.0),
                failed: call.failed,
            });
            seen.collect()
        })
    }

    /// The steps of the tasks; of setup, if it failed there.
    pub fn steps(&self) -> Vec<StepSeen> {
        let machine = self.executor.machine();
        let trace = machine.trace();
        let from = if self.until <= self.start { Moment(0) } else { self.start };
        let shown = |step: &&Step| step.moment > from && step.moment <= self.until;
        let mut steps = Vec::new();
        let mut last = None;
        for step in trace.iter().filter(shown) {
            let lane = match (step.actor, step.what) {
                (Actor::Task(id), StepKind::Event(_)) => usize::from(id.0),
                _ => self.disk_lane(),
            };
            steps.push(StepSeen {
                moment: step.moment.0,
                lane,
                text: lanes::text(step, machine),
                is_switch: last.is_some_and(|last| last != lane),
            });
            last = Some(lane);
        }
        let spare = steps.len().saturating_sub(STEPS_MAX);
        steps.split_off(spare)
    }

    /// The requests.
    pub fn requests(&self) -> Vec<RequestSeen> {
        let mut submitters: FxHashMap<u32, TaskId> = FxHashMap::default();
        for it in &self.recorded {
            if let Happening::Submitted { task, request } = it.what {
                submitters.insert(request.0, task);
            }
        }
        let disk = self.executor.machine().disk();
        let log = disk.log();
        let logged = log.requests().iter().filter(|logged| logged.submitted <= self.until);
        let seen = logged.map(|logged| {
            let (device, block) = logged.request.place();
            let submitter = submitters.get(&logged.id.0);
            RequestSeen {
                number: logged.id.0,
                op: logged.request.op().name(),
                what: logged.note.what.to_string(),
                device: device.0,
                block,
                count: logged.request.count(),
                fua: is_fua(logged),
                lane: submitter.map_or(self.disk_lane(), |task| usize::from(task.0)),
                submitted: logged.submitted.0,
                completed: logged.completed.map(|at| at.0).filter(|at| *at <= self.until.0),
                durable: self.durable(log, logged),
                failed: matches!(logged.outcome, Outcome::Failed { .. }),
                fate: Fate::None,
            }
        });
        seen.collect()
    }

    /// The request that made a write durable, and when.
    fn durable(&self, log: &Log, logged: &Logged) -> Option<(u32, u64)> {
        let completed = logged.completed.filter(|at| *at <= self.until)?;
        if logged.request.op() != Op::Write || !logged.succeeded() {
            return None;
        }
        if is_fua(logged) {
            return Some((logged.id.0, completed.0));
        }
        let (device, _) = logged.request.place();
        let flushes = log.requests().iter().filter(|flush| {
            flush.request.op() == Op::Flush
                && flush.request.place().0 == device
                && flush.submitted >= completed
                && flush.succeeded()
        });
        let ends = flushes.filter_map(|flush| flush.completed.map(|at| (flush.id.0, at.0)));
        ends.filter(|(_, at)| *at <= self.until.0).min_by_key(|(_, at)| *at)
    }

    /// The locks, and who waited.
    pub fn locks(&self) -> (Vec<LockSeen>, Vec<WaitSeen>) {
        let mut holds: Vec<u32> = Vec::new();
        let mut locks: Vec<LockSeen> = Vec::new();
        let mut waits: Vec<WaitSeen> = Vec::new();
        for Recorded { moment, what } in &self.recorded {
            let held = |hold: &u32| holds.iter().rposition(|known| known == hold);
            match what {
                Happening::Took { task, hold, class, instance, range, mode, place } => {
                    holds.push(*hold);
                    locks.push(LockSeen {
                        lane: usize::from(task.0),
                        class: class.to_string(),
                        instance: *instance,
                        range: part(range),
                        shared: *mode == Mode::Read,
                        from: moment.0,
                        until: None,
                        handed: None,
                        place: place_name(place),
                    });
                }
                Happening::Changed { hold, range, mode } => {
                    let Some(at) = held(hold) else { continue };
                    (locks[at].range, locks[at].shared) = (part(range), *mode == Mode::Read);
                }
                Happening::Handed { hold } => {
                    let Some(at) = held(hold) else { continue };
                    locks[at].handed = Some(moment.0);
                }
                Happening::Gave { hold } => {
                    let Some(at) = held(hold) else { continue };
                    locks[at].until = Some(moment.0);
                }
                Happening::Waits { task, class, instance, place } => waits.push(WaitSeen {
                    lane: usize::from(task.0),
                    class: class.to_string(),
                    instance: *instance,
                    from: moment.0,
                    until: None,
                    place: place_name(place),
                }),
                Happening::Woke { task } => {
                    let lane = usize::from(task.0);
                    let open = |wait: &&mut WaitSeen| wait.lane == lane && wait.until.is_none();
                    if let Some(wait) = waits.iter_mut().rev().find(open) {
                        wait.until = Some(moment.0);
                    }
                }
                Happening::Submitted { .. } => {}
            }
        }
        (locks, waits)
    }
}

/// A range, unless it is everything.
fn part(range: &Range) -> Option<(u64, u64)> {
    (*range != Range::ALL).then_some((range.start, range.end))
}

fn is_fua(logged: &Logged) -> bool {
    matches!(logged.request, Request::Write { fua: true, .. })
}
