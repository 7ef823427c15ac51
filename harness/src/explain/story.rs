//! What an explanation consists of: plain data, in the order in which it is told.
//!
//! Promises that it holds everything that a report needs, and serializes. Moments are numbers of
//! machine events; lanes are indices into [`Explanation::lanes`].
//!
//! It must never know how anything was found out, nor how it is shown.

use serde::Serialize;

/// The version of the format: it grows when a field changes its meaning.
pub const FORMAT: u32 = 1;

/// Everything that there is to tell about a finding.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// [`FORMAT`].
    pub format: u32,
    /// The file that was explained, as it was named.
    pub file: String,
    /// What was found.
    pub finding: Found,
    /// The guarantee that is broken.
    pub guarantee: Promise,
    /// Rules of the engine that the finding names.
    pub rules: Vec<Rule>,
    /// Historical defects that the program switches on.
    pub defects: Vec<DefectSaid>,
    /// Who took part: tasks and workers in order of creation, the disk last.
    pub lanes: Vec<Lane>,
    /// The event after which the concurrent tasks started.
    pub tasks_start: u64,
    /// The last event that counts: the cut, or where the machine stopped.
    pub failure: u64,
    /// The last event of the execution.
    pub end: u64,
    /// The power cut, if there is one.
    pub cut: Option<Cut>,
    /// Operations, in the order of their invocations.
    pub operations: Vec<OperationSeen>,
    /// Steps, in order.
    pub steps: Vec<StepSeen>,
    /// Requests to the disk, in the order of submission.
    pub requests: Vec<RequestSeen>,
    /// Locks, in the order in which they were taken.
    pub locks: Vec<LockSeen>,
    /// Times in which a task waited.
    pub waits: Vec<WaitSeen>,
    /// What the schedule has to do with it.
    pub likelihood: Likelihood,
    /// The executions and states nearest to the finding that show nothing wrong.
    pub nearest: Nearest,
    /// Files before, as they may be, and as they were found.
    pub files: Vec<FileStory>,
    /// The program, with what replays it.
    pub program: String,
    /// What to do with it next.
    pub commands: Vec<Command>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The kebab-case kind.
    pub kind: String,
    /// What is broken, and by which program.
    pub title: String,
    /// "while it ran" or "after a power cut".
    pub phase: &'static str,
    /// The lines of the message.
    pub message: Vec<String>,
    /// What the file expects, if it expects a violation, and another was found.
    pub expected_instead: Option<String>,
    /// Where the recorded schedule did not fit.
    pub divergences: u32,
}

/// A guarantee of docs/guarantees.md.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// Its number, as in `G-4`.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its tier.
    pub tier: String,
    /// Its first paragraph.
    pub text: String,
}

/// A rule of the engine's protocols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name, as in `X-2`.
    pub name: String,
    /// What it demands.
    pub text: String,
}

/// A defect that is switched on.
#[derive(Clone, Debug, Serialize)]
pub struct DefectSaid {
    /// Its name.
    pub name: String,
    /// Its family.
    pub family: String,
    /// What it changes.
    pub change: String,
    /// What breaks.
    pub breaks: String,
    /// Where it comes from.
    pub source: String,
}

/// A participant.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LaneKind,
}

/// What a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneKind {
    /// A task of the program, or the setup before and the unmount after them.
    Task,
    /// A worker of the engine.
    Worker,
    /// The device.
    Disk,
}

/// The power cut.
#[derive(Clone, Debug, Serialize)]
pub struct Cut {
    /// The last event before it.
    pub moment: u64,
    /// The events between which a cut that keeps the same shows the same kind of violation.
    pub window: Option<(u64, u64)>,
    /// The last event before a second cut, of recovery's own events.
    pub inside_recovery: Option<u64>,
    /// The blocks of which the medium held more than one version.
    pub medium: Vec<MediumBlock>,
}

/// A block that was not settled when the power was lost.
#[derive(Clone, Debug, Serialize)]
pub struct MediumBlock {
    /// The device.
    pub device: u8,
    /// The block.
    pub block: u64,
    /// What was written to it and was not durable, the oldest first.
    pub pending: Vec<PendingWrite>,
    /// For each sector the version that the medium kept: 0 is what was durable, `k` the `k`th of
    /// the pending writes.
    pub kept: Vec<u16>,
    /// The same in words.
    pub verdict: String,
    /// Whether anything that was written is not there.
    pub lost: bool,
    /// Whether recovery read it.
    pub was_read: bool,
}

/// A write of a block that was not durable.
#[derive(Clone, Debug, Serialize)]
pub struct PendingWrite {
    /// The request.
    pub request: u32,
    /// What its submitter called it.
    pub what: String,
}

/// An operation of the program.
#[derive(Clone, Debug, Serialize)]
pub struct OperationSeen {
    /// Its number.
    pub number: u16,
    /// Who performed it.
    pub lane: usize,
    /// Its text.
    pub text: String,
    /// When it was invoked.
    pub invoked: u64,
    /// When it returned, if it did.
    pub returned: Option<u64>,
    /// Whether it returned an error.
    pub failed: bool,
}

/// A step of a task or of the disk.
#[derive(Clone, Debug, Serialize)]
pub struct StepSeen {
    /// When.
    pub moment: u64,
    /// Who.
    pub lane: usize,
    /// What.
    pub text: String,
    /// Whether another task made the step before.
    pub is_switch: bool,
}

/// A request to the disk.
#[derive(Clone, Debug, Serialize)]
pub struct RequestSeen {
    /// Its number.
    pub number: u32,
    /// "write", "read", "flush" or "discard".
    pub op: &'static str,
    /// What its submitter called it.
    pub what: String,
    /// The device.
    pub device: u8,
    /// The first block.
    pub block: u64,
    /// Blocks.
    pub count: u64,
    /// Whether it is durable at its completion.
    pub fua: bool,
    /// Who submitted it.
    pub lane: usize,
    /// When.
    pub submitted: u64,
    /// When it completed, if it did.
    pub completed: Option<u64>,
    /// The request that made it durable before the failure, and when: a flush, or itself.
    pub durable: Option<(u32, u64)>,
    /// Whether it failed.
    pub failed: bool,
    /// What the cut left of it, if there was a cut.
    pub fate: Fate,
}

/// What a cut left of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was durable.
    Durable,
    /// It was not durable, and all of it was kept.
    Kept,
    /// It was not durable, and a part of it was kept.
    Torn,
    /// It was not durable, and nothing of it was kept.
    Lost,
    /// Later, or not a write, or there was no cut.
    None,
}

/// A lock that somebody held.
#[derive(Clone, Debug, Serialize)]
pub struct LockSeen {
    /// Who took it.
    pub lane: usize,
    /// Its class.
    pub class: String,
    /// Which one of the class.
    pub instance: (u64, u64),
    /// What of it: the first and the last, unless it is all of it.
    pub range: Option<(u64, u64)>,
    /// Whether others may read with the holder.
    pub shared: bool,
    /// When it was taken.
    pub from: u64,
    /// When it was given back, if before the failure.
    pub until: Option<u64>,
    /// Since when an asynchronous IO held it.
    pub handed: Option<u64>,
    /// The line that took it.
    pub place: String,
}

/// A time in which a task waited.
#[derive(Clone, Debug, Serialize)]
pub struct WaitSeen {
    /// Who.
    pub lane: usize,
    /// For which class of locks or pseudo-resources.
    pub class: String,
    /// Which one of the class.
    pub instance: (u64, u64),
    /// From when on.
    pub from: u64,
    /// Until when, if it went on before the failure.
    pub until: Option<u64>,
    /// The line that waits.
    pub place: String,
}

/// How likely a violation is when the beginning of the schedule is kept and the rest is random.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Likelihood {
    /// Choices of the schedule.
    pub choices: u32,
    /// Executions made for each point.
    pub samples: u32,
    /// Points, by rising number of choices that are kept.
    pub points: Vec<Point>,
    /// The choice at which the likelihood rises most, if it rises.
    pub decisive: Option<Decisive>,
    /// The shortest stretch over which it rises by more than half.
    pub stretch: Option<(Point, Point)>,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Choices that are kept.
    pub kept: u32,
    /// Before which event the first random choice was asked for.
    pub moment: u64,
    /// Executions that showed a violation.
    pub violations: u32,
}

/// The choice that matters most.
#[derive(Clone, Debug, Serialize)]
pub struct Decisive {
    /// The last choice of those between which the likelihood rises, from 1.
    pub choice: u32,
    /// Violations without them.
    pub before: u32,
    /// Violations with them.
    pub after: u32,
    /// The event that preceded the choice.
    pub moment: u64,
    /// What was chosen.
    pub chosen: String,
    /// What could have been chosen.
    pub others: Vec<String>,
}

/// What is nearest and shows nothing wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Nearest {
    /// The schedule that agrees with the recorded one for longest.
    pub schedule: Option<OtherSchedule>,
    /// Schedules tried.
    pub schedules_tried: u32,
    /// Blocks of the medium each of which alone decides.
    pub blocks: Vec<OtherBlock>,
}

/// A schedule that shows nothing wrong.
#[derive(Clone, Debug, Serialize)]
pub struct OtherSchedule {
    /// The choice that differs, from 1.
    pub choice: u32,
    /// The event that preceded it.
    pub moment: u64,
    /// What was chosen in the finding.
    pub instead_of: String,
    /// What is chosen here.
    pub chosen: String,
    /// What follows.
    pub then: String,
}

/// A block whose other version makes the state right.
#[derive(Clone, Debug, Serialize)]
pub struct OtherBlock {
    /// The device.
    pub device: u8,
    /// The block.
    pub block: u64,
    /// What it was written as.
    pub what: String,
    /// What it would have to hold.
    pub instead: String,
}

/// A file before, as it may be, and as it was found.
#[derive(Clone, Debug, Serialize)]
pub struct FileStory {
    /// Its name.
    pub name: String,
    /// Its size before the tasks ran; nothing, if it was not there.
    pub before_size: Option<u64>,
    /// Whether it may be absent.
    pub may_be_absent: bool,
    /// The sizes that it may have.
    pub allowed_sizes: Vec<u64>,
    /// Its size as found: nothing, if it was not there.
    pub found_size: Option<u64>,
    /// Whether recovery came as far as showing it.
    pub was_shown: bool,
    /// Its blocks.
    pub blocks: Vec<BlockStory>,
}

/// A block of a file.
#[derive(Clone, Debug, Serialize)]
pub struct BlockStory {
    /// Its number.
    pub number: u64,
    /// What it was before the tasks ran: what a reader may have seen.
    pub before: Vec<Contents>,
    /// What it may be, the oldest first.
    pub allowed: Vec<Contents>,
    /// Which of these is most like what it is.
    pub closest: Option<usize>,
    /// What it is.
    pub found: Option<Contents>,
    /// Whether what it is is one of those.
    pub fits: bool,
    /// The operation that had returned and promises that nothing older is there.
    pub promised_by: Option<u16>,
}

/// The content of a block: runs of one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents(pub Vec<Run>);

/// Bytes of one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The first byte, within the block.
    pub from: u32,
    /// One past the last.
    pub to: u32,
    /// What they are, for a reader.
    pub text: String,
    /// "zero", "byte", "op", "poison", "error" or "unknown".
    pub class: &'static str,
    /// The operation that wrote them.
    pub op: Option<u16>,
}

/// A command.
#[derive(Clone, Debug, Serialize)]
pub struct Command {
    /// What it does.
    pub purpose: &'static str,
    /// The command line.
    pub line: String,
}

impl Explanation {
    /// The locks that were held when it went wrong.
    pub fn held(&self) -> impl Iterator<Item = &LockSeen> {
        self.locks.iter().filter(|lock| lock.until.is_none())
    }

    /// Who waited when it went wrong.
    pub fn waiting(&self) -> impl Iterator<Item = &WaitSeen> {
        self.waits.iter().filter(|wait| wait.until.is_none())
    }

    /// The name of a lane.
    pub fn lane_name(&self, lane: usize) -> &str {
        self.lanes.get(lane).map_or("?", |lane| lane.name.as_str())
    }

    /// The operation of a number.
    pub fn operation(&self, number: u16) -> Option<&OperationSeen> {
        self.operations.iter().find(|operation| operation.number == number)
    }
}

impl Likelihood {
    /// A number of violations in percent.
    pub fn percent(&self, violations: u32) -> u32 {
        violations * 100 / self.samples.max(1)
    }

    /// What there is to say where no single choice decides.
    pub fn without_jump(&self) -> String {
        match &self.stretch {
            Some((from, to)) => format!(
                "No single choice decides. With those between choice {} and choice {} (events {} \
                 to {}) the likelihood rises from {} % to {} %.",
                from.kept,
                to.kept,
                from.moment,
                to.moment,
                self.percent(from.violations),
                self.percent(to.violations)
            ),
            None if self.points.is_empty() => {
                "No choice of the schedule was made before it went wrong.".to_string()
            }
            None => "No choice decides: the likelihood nowhere rises by much.".to_string(),
        }
    }
}

impl std::fmt::Display for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [run] = &self.0[..] {
            return f.write_str(&run.text);
        }
        for (index, run) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} at {}..{}", run.text, run.from, run.to)?;
        }
        Ok(())
    }
}

impl LockSeen {
    /// The lock in words: class, instance, range.
    pub fn name(&self) -> String {
        let range = self.range.map_or(String::new(), |(from, to)| match to {
            u64::MAX => format!(" from {from}"),
            _ => format!(" {from}..={to}"),
        });
        let shared = if self.shared { " shared" } else { "" };
        format!("{}{range}{shared}", lock_name(&self.class, self.instance))
    }
}

impl WaitSeen {
    /// What is waited for, in words.
    pub fn name(&self) -> String {
        lock_name(&self.class, self.instance)
    }
}

/// A class with an instance, as messages of the machine write it.
fn lock_name(class: &str, (a, b): (u64, u64)) -> String {
    format!("{class}({a},{b})")
}
