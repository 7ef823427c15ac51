//! Findings: a violation with everything that replays it, as a program text.

use crate::cuts::CutFound;
use crate::execution::{Executed, Executor};
use crate::files::write_whole;
use crate::program::{Comment, CutSpec, Expect, KeptSpec, Move, Place, Program, Rest, Schedule};
use crate::signature::Circumstances;
use crate::target::PowerTarget;
use crate::verdict::Wrong;
use machine::choice::{Actor, DEVICE, RUN, name_hash};
use machine::choosers::{self, Replay};
use machine::disk::{Kept, Selection, Source, Strategy};
use machine::{DeviceId, Moment, RequestId, TaskId};
use oracle::operation::OpId;
use smallvec::SmallVec;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A violation and the program that shows it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Wrong,
    /// The program, with the executed schedule, the cut and what is expected of it.
    pub program: Program,
    /// What it takes, as far as it was executed here.
    pub circumstances: Circumstances,
}

impl Finding {
    /// The finding of something wrong while the program ran.
    pub fn live(
        executor: &Executor<impl PowerTarget>,
        executed: &Executed,
        program: &Program,
        wrong: &Wrong,
    ) -> Self {
        let mut program = recorded(executor, executed, program);
        program.cut = None;
        let circumstances = Circumstances::of(executor, executed, &program);
        Finding { circumstances, ..Finding::of(program, wrong) }
    }

    /// The finding of something wrong on a crash state.
    pub fn crash(
        executor: &Executor<impl PowerTarget>,
        executed: &Executed,
        program: &Program,
        found: &CutFound,
    ) -> Self {
        let mut program = recorded(executor, executed, program);
        let mut cut = CutSpec::at(found.moment.0);
        cut.rest = Rest::Kept;
        cut.kept = kept(&found.selection);
        if let Some((moment, selection)) = &found.inner {
            cut.inside_recovery = Some(moment.0);
            cut.kept_inside = kept(selection);
        }
        program.cut = Some(cut);
        let circumstances = Circumstances::of(executor, executed, &program);
        Finding { circumstances, ..Finding::of(program, &found.wrong) }
    }

    /// A violation that a program shows as it is, with its schedule and cut.
    pub fn of(mut program: Program, wrong: &Wrong) -> Self {
        let guarantee = Some(wrong.guarantee);
        program.expect = Some(Expect::Violation { kind: wrong.kind.clone(), guarantee });
        program.comments.retain(|comment| comment.place != Place::Head);
        let lines = wrong.message.lines().map(str::to_string).collect::<Vec<_>>();
        for text in lines {
            program.comments.push(Comment { place: Place::Head, item: 0, text });
        }
        program.fixup();
        Finding { wrong: wrong.clone(), program, circumstances: Circumstances::default() }
    }

    /// How often the recorded schedule switches from one task to another.
    pub fn switches(&self) -> usize {
        let moves = self.program.schedule.iter().flat_map(|schedule| &schedule.moves);
        let tasks = moves.filter_map(|step| match step {
            Move::Run { who, .. } if who != DEVICE => Some(who),
            _ => None,
        });
        let mut switches = 0;
        let mut last: Option<&String> = None;
        for who in tasks {
            switches += usize::from(last.is_some_and(|last| last != who));
            last = Some(who);
        }
        switches
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        self.program.to_string()
    }

    /// A name for the file: the kind and the first digits of the hash of the text.
    pub fn file_name(&self) -> String {
        let hash = blake3::hash(self.text().as_bytes()).to_hex();
        format!("{}-{}.pf", self.wrong.kind, &hash.as_str()[..10])
    }

    /// Writes the file into a folder, which is made if it is not there; returns its path. The file
    /// is complete or not there at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        self.write_as(folder, &self.file_name())
    }

    /// As [`write`](Self::write), under a name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_as(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join(name);
        write_whole(&path, &self.text()).map(|()| path)
    }
}

/// One choice of an execution, in the words of programs.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The operation within which it was taken; none for workers and for the device.
    pub op: Option<OpId>,
    /// The task whose turn it was, or which chose.
    pub task: Option<TaskId>,
    /// The choice.
    pub step: Move,
}

/// The choices of the last execution of the tasks.
pub fn taken(executor: &Executor<impl PowerTarget>, executed: &Executed) -> Vec<Taken> {
    let choices = executor.machine().choices();
    let names = executor.task_names();
    let mut now: Vec<Option<OpId>> = vec![None; names.len()];
    let begun = executor.begun();
    let mut begun = begun.iter().peekable();
    let mut taken = Vec::new();
    for index in executed.chosen.clone() {
        let choice = &choices[index];
        while let Some(begun) = begun.next_if(|begun| begun.choices <= index) {
            now[usize::from(begun.task.0)] = Some(begun.op);
        }
        let task = match choice.actor {
            Actor::Device => None,
            Actor::Task(id) => Some(id),
        };
        let step = if choice.label == RUN {
            let who = task.map_or(DEVICE, |id| &names[usize::from(id.0)]);
            Move::Run { who: who.to_string(), steps: 1 }
        } else {
            let label = choice.label.to_string();
            Move::Choose { label, n: choice.n, chosen: choice.chosen }
        };
        let op = task.and_then(|id| now[usize::from(id.0)]);
        taken.push(Taken { op, task, step });
    }
    taken
}

/// The schedule of choices.
pub fn schedule<'a>(taken: impl IntoIterator<Item = &'a Taken>) -> Schedule {
    let mut schedule = Schedule::default();
    for Taken { step, .. } in taken {
        match step {
            Move::Run { who, .. } => schedule.push_step(who),
            other => schedule.moves.push(other.clone()),
        }
    }
    schedule
}

/// The program with the choices of its last execution.
fn recorded(
    executor: &Executor<impl PowerTarget>,
    executed: &Executed,
    program: &Program,
) -> Program {
    let mut program = program.clone();
    program.schedule = Some(schedule(&taken(executor, executed)));
    program.choices.clear();
    program
}

/// The chooser that follows a recorded schedule.
pub fn replayer(schedule: &Schedule) -> Replay {
    let step = |step: &Move| match step {
        Move::Run { who, steps } => choosers::Move::Run { name: name_hash(who), decisions: *steps },
        Move::Complete { .. } => choosers::Move::Run { name: name_hash(DEVICE), decisions: 1 },
        Move::Choose { label, chosen, .. } => {
            choosers::Move::Choose { label: label.clone(), chosen: *chosen }
        }
    };
    Replay::new(schedule.moves.iter().map(step).collect())
}

/// What the medium kept, in the words of programs.
fn kept(selection: &Selection) -> Vec<KeptSpec> {
    let mut specs = Vec::new();
    for block in &selection.0 {
        for (mask, source) in &block.sources {
            let version = match source {
                Source::Durable => 0,
                Source::Pending { age, .. } => u32::from(*age),
            };
            let sectors = (*mask != u8::MAX).then_some(*mask);
            specs.push(KeptSpec { device: block.device.0, block: block.block, version, sectors });
        }
    }
    specs
}

/// What the medium kept, in the words of the disk: versions are found by their age.
pub fn selection(specs: &[KeptSpec]) -> Selection {
    let mut selection = Selection::default();
    for spec in specs {
        let source = match spec.version {
            0 => Source::Durable,
            age => Source::Pending {
                request: RequestId(u32::MAX),
                index: 0,
                age: u16::try_from(age).unwrap_or(u16::MAX),
            },
        };
        let mask = spec.sectors.unwrap_or(u8::MAX);
        let (device, block) = (DeviceId(spec.device), spec.block);
        let known = selection.0.iter_mut().find(|k| k.device == device && k.block == block);
        match known {
            Some(kept) => {
                let taken = kept.sources.iter().fold(0, |all, (mask, _)| all | mask);
                if mask & !taken != 0 {
                    kept.sources.push((mask & !taken, source));
                }
            }
            None => {
                let mut sources: SmallVec<[(u8, Source); 1]> = SmallVec::new();
                sources.push((mask, source));
                selection.0.push(Kept { device, block, sources });
            }
        }
    }
    for kept in &mut selection.0 {
        let taken = kept.sources.iter().fold(0, |all, (mask, _)| all | mask);
        if taken != u8::MAX {
            kept.sources.push((!taken, Source::Durable));
        }
    }
    selection
}

/// What a state shows in blocks that the cut does not list.
pub fn strategy(cut: &CutSpec) -> Strategy {
    match cut.rest {
        Rest::Lost => Strategy::Oldest,
        Rest::Kept => Strategy::Newest,
    }
}

/// The moment of a cut.
pub fn moment(cut: &CutSpec) -> Moment {
    Moment(cut.moment)
}
