//! Explaining a finding: what happened, who held what, which choice decided, what the medium kept,
//! what is nearest and right, and which promise was broken.
//!
//! Promises an [`Explanation`] that is a function of the finding alone: no clock, no chance. What
//! it needs is executed again, with a record of locks and requests ([`machine::Machine::record`]).
//!
//! It must never know how an explanation is shown: [`crate::report`] and [`text`] know only the
//! data.

mod choices;
mod files;
mod medium;
mod rules;
mod story;
pub mod text;
mod timeline;
mod trials;

pub use story::*;

use crate::execution::Executed;
use crate::explore::{self, Bounds};
use crate::finding::{self, Finding};
use crate::program::{Expect, Program};
use crate::session::{Session, Shown};
use crate::target::PowerTarget;
use crate::verdict::{self, Phase};
use choices::{Asked, Script};
use files::Files;
use machine::{Chooser, Moment};
use medium::Medium;
use oracle::When;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use timeline::Timeline;
use trials::{Sort, Trials};

/// Schedules that looking for the violation of a litmus program may cost.
const SCHEDULES_MAX: u64 = 2_000_000;

/// Explains what a program shows on a target; nothing, if it shows nothing wrong. `file` is what
/// the explanation calls it.
///
/// # Errors
/// A sentence, if the program cannot be executed.
pub fn explain<T: PowerTarget>(
    program: &Program,
    file: &str,
) -> Result<Option<Explanation>, String> {
    let Some((finding, divergences)) = find::<T>(program)? else { return Ok(None) };
    let mut session = Session::<T>::of_target();
    session.executor().machine().record(true);
    let (executed, asked) = execute(&mut session, &finding.program)?;
    let telling = Telling { program, finding: &finding, session: &session, executed, asked };
    Ok(Some(telling.tell(file, divergences)))
}

/// What a program shows: what it expects, if it shows that too.
fn find<T: PowerTarget>(program: &Program) -> Result<Option<(Finding, u32)>, String> {
    let mut session = Session::<T>::of_target();
    if let Some(Expect::Reachable { preemptions, .. } | Expect::Unreachable { preemptions }) =
        &program.expect
    {
        let bounds =
            Bounds { preemptions: *preemptions, schedules: SCHEDULES_MAX, shorten: 0, shard: None };
        let stop = AtomicBool::new(false);
        let explored = explore::explore(&mut session, program, bounds, &stop, &mut |_| {})?;
        return Ok(explored.first().map(|finding| (finding.clone(), 0)));
    }
    let shown = session.replay(&Rc::new(program.clone()))?;
    let found = expected(program, &shown).or(shown.first());
    Ok(found.map(|finding| (finding.clone(), shown.divergences)))
}

/// Of what was shown, what the program expects.
fn expected<'a>(program: &Program, shown: &'a Shown) -> Option<&'a Finding> {
    let Some(Expect::Violation { kind, guarantee }) = &program.expect else { return None };
    let both = [&shown.finding, &shown.suspicion].into_iter().flatten();
    both.into_iter().find(|finding| {
        let wrong = &finding.wrong;
        wrong.kind == *kind && guarantee.is_none_or(|number| number == wrong.guarantee)
    })
}

/// Executes a finding once more; what was asked on the way.
fn execute(
    session: &mut Session<impl PowerTarget>,
    program: &Program,
) -> Result<(Executed, Vec<Asked>), String> {
    let then: Box<dyn Chooser> = match &program.schedule {
        Some(schedule) => Box::new(finding::replayer(schedule)),
        None => crate::execution::chooser(program),
    };
    let plan = crate::cuts::Plan { cuts_max: 0, ..crate::cuts::Plan::campaign() };
    let script = Box::new(Script::new(session.executor().machine(), Vec::new(), then));
    let (shown, mut spent) = session.run_with(&Rc::new(program.clone()), &plan, 0, script)?;
    let script = spent.as_any().downcast_mut::<Script>();
    let asked = script.map(|script| std::mem::take(&mut script.asked)).unwrap_or_default();
    Ok((shown.executed, asked))
}

/// An execution that is told.
struct Telling<'a, T> {
    /// As it was given.
    program: &'a Program,
    finding: &'a Finding,
    session: &'a Session<T>,
    executed: Executed,
    asked: Vec<Asked>,
}

impl<T: PowerTarget> Telling<'_, T> {
    fn tell(&self, file: &str, divergences: u32) -> Explanation {
        let wrong = &self.finding.wrong;
        let executor = self.session.executor();
        let start = self.executed.setup_end;
        let mut medium = self.medium();
        let failure = match &self.finding.program.cut {
            Some(cut) => finding::moment(cut).min(self.executed.end),
            None => self.executed.end,
        };
        let timeline = Timeline::new(executor, &self.finding.program, start, failure);
        let mut requests = timeline.requests();
        if let Some(medium) = &medium {
            for request in requests.iter_mut().filter(|request| request.op == "write") {
                request.fate = medium.fate(request);
            }
        }
        let (locks, waits) = timeline.locks();
        let (likelihood, mut nearest) = self.trials(failure);
        nearest.blocks = medium.as_mut().map(Medium::deciding).unwrap_or_default();
        let cut = medium.as_mut().map(|medium| medium.cut(&wrong.kind));
        Explanation {
            format: FORMAT,
            file: file.to_string(),
            finding: self.found(divergences),
            guarantee: rules::promise(wrong.guarantee),
            rules: rules::rules(wrong),
            defects: rules::defects(self.program),
            lanes: timeline.lanes(),
            tasks_start: start.0,
            failure: failure.0,
            end: self.executed.end.0,
            cut,
            operations: timeline.operations(),
            steps: timeline.steps(),
            requests,
            locks,
            waits,
            likelihood,
            nearest,
            files: self.files(failure, medium.as_ref()),
            program: self.finding.text(),
            commands: commands(file),
        }
    }

    fn medium(&self) -> Option<Medium<'_, T>> {
        let spec = self.finding.program.cut.as_ref()?;
        let program = Rc::new(self.finding.program.clone());
        Some(Medium::new(self.session.executor(), &program, spec, self.executed.end))
    }

    fn found(&self, divergences: u32) -> Found {
        let wrong = &self.finding.wrong;
        let expected_instead = match &self.program.expect {
            Some(Expect::Violation { kind, guarantee })
                if *kind != wrong.kind || guarantee.is_some_and(|n| n != wrong.guarantee) =>
            {
                let number = guarantee.map_or(String::new(), |number| format!(" G-{number}"));
                Some(format!("{kind}{number}"))
            }
            Some(Expect::Pass) => Some("no violation".to_string()),
            _ => None,
        };
        Found {
            kind: wrong.kind.clone(),
            title: self.finding.title(),
            phase: match wrong.phase {
                Phase::Live => "while it ran",
                Phase::Recovered => "after a power cut",
            },
            message: wrong.message.lines().map(str::to_string).collect(),
            expected_instead,
            divergences,
        }
    }

    /// The executions beside this one. Choices that were made after the failure, or of a failure
    /// before there was any, decide nothing.
    fn trials(&self, failure: Moment) -> (Likelihood, Nearest) {
        let wrong = &self.finding.wrong;
        let until = self.asked.partition_point(|choice| choice.moment < failure);
        let is_rule = self.executed.suspicion.as_ref() == Some(wrong);
        let sort = match wrong.phase {
            Phase::Recovered => Sort::Crash,
            Phase::Live if is_rule => Sort::Suspicion,
            Phase::Live => Sort::Live,
        };
        if until == 0 {
            return Default::default();
        }
        let deep = [verdict::UNUSABLE, verdict::LEAKED_SPACE, verdict::RECOVERY_DIFFERS];
        let mut trials =
            Trials::<T>::new(&self.finding.program, sort, deep.contains(&wrong.kind.as_str()));
        let likelihood = trials.likelihood(&self.asked, until);
        let (schedule, schedules_tried) = trials.nearest(&self.asked, until);
        (likelihood, Nearest { schedule, schedules_tried, blocks: Vec::new() })
    }

    fn files(&self, failure: Moment, medium: Option<&Medium<'_, T>>) -> Vec<FileStory> {
        let then = oracle::Moment(failure.0);
        self.session.executor().with_oracle(|oracle| {
            let seen = medium.map(|medium| &medium.recovered.seen);
            let unread = [verdict::MOUNT_FAILED];
            let is_shown = !unread.contains(&self.finding.wrong.kind.as_str());
            let files = Files {
                program: &self.finding.program,
                oracle,
                before: When::Live(oracle::Moment(self.executed.setup_end.0)),
                then: if medium.is_some() { When::Cut(then) } else { When::Live(then) },
                seen: seen.filter(|_| is_shown),
                message: &self.finding.wrong.message,
            };
            files.stories()
        })
    }
}

/// What to do with a finding next.
fn commands(file: &str) -> Vec<Command> {
    let command = |purpose, line: String| Command { purpose, line };
    vec![
        command("replay it", format!("powerfail replay {file}")),
        command("make it smaller", format!("powerfail minimize {file}")),
        command("see every step", format!("powerfail replay --trace {file}")),
        command("search all its schedules", format!("powerfail explore {file}")),
        command("stop where it goes wrong", format!("gdb --args powerfail replay {file}")),
        command("get this as data", format!("powerfail explain --format json {file}")),
    ]
}
