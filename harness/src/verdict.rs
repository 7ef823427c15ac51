//! Verdicts: what was found wrong, in one shape whoever found it, and the signature that makes two
//! findings the same bug.
//!
//! Four finders meet here: the oracle (live and after a cut), the machine (deadlocks and their
//! like), the full check of a recovered image, and the checks that recovery works at all.

use machine::Fault;
use oracle::Violation;
use std::fmt;

/// Something that no allowed behaviour shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The kebab-case kind: of [`oracle::Kind`], of [`machine::FaultKind`], or one of
    /// this module's constants.
    pub kind: String,
    /// The number of the guarantee in docs/guarantees.md.
    pub guarantee: u16,
    /// What tells two causes of one kind apart, and is equal on every schedule that shows the same.
    pub cause: String,
    /// For a reader.
    pub message: String,
    /// Where it was seen.
    pub phase: Phase,
}

/// When something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// While the program ran.
    Live,
    /// On a crash state.
    Recovered,
}

/// The image cannot be mounted after a cut.
pub const MOUNT_FAILED: &str = "mount-failed";
/// The full check of the recovered image found something.
pub const CHECK_FAILED: &str = "check-failed";
/// A cut inside recovery leads to another state than recovery without it.
pub const RECOVERY_DIFFERS: &str = "recovery-differs";
/// The recovered file system refuses ordinary operations.
pub const UNUSABLE: &str = "unusable";
/// With everything deleted, free space is not what it was when the image was made.
pub const LEAKED_SPACE: &str = "leaked-space";
/// A line of `after` does not hold.
pub const AFTER_FAILED: &str = "after-failed";

/// Numbers of the structural guarantees.
pub mod guarantee {
    /// Every crash state mounts.
    pub const MOUNTS: u16 = 21;
    /// The recovered image passes the full check.
    pub const CHECKS: u16 = 22;
    /// Recovery that is itself cut gives the same answer.
    pub const REPEATABLE: u16 = 23;
    /// The recovered file system takes new operations.
    pub const USABLE: u16 = 24;
    /// Nothing leaks: everything can be deleted and all space comes back.
    pub const NO_LEAK: u16 = 25;
    /// Every operation ends: no deadlock, no livelock, no panic, and locks keep their order.
    pub const PROGRESS: u16 = 26;
    /// What a program's own `after` lines demand.
    pub const AFTER: u16 = 27;
}

impl Wrong {
    /// What the oracle found.
    pub fn from_violation(violation: &Violation, phase: Phase) -> Self {
        Wrong {
            kind: violation.kind.name().to_string(),
            guarantee: u16::from(violation.guarantee.0),
            cause: String::new(),
            message: violation.message.clone(),
            phase,
        }
    }

    /// What the machine found.
    pub fn from_fault(fault: &Fault, phase: Phase) -> Self {
        Wrong {
            kind: fault.kind.name().to_string(),
            guarantee: guarantee::PROGRESS,
            cause: canonical(fault.kind.name(), &fault.key),
            message: fault.to_string(),
            phase,
        }
    }

    /// What no operation can answer.
    pub fn strange_answer(what: &str) -> Self {
        let kind = "strange-answer";
        Wrong {
            kind: kind.to_string(),
            guarantee: guarantee::USABLE,
            cause: canonical(kind, what),
            message: format!("the target answered with {what}"),
            phase: Phase::Live,
        }
    }

    /// What the checks of a recovered state found.
    pub fn recovered(kind: &str, guarantee: u16, cause: &str, message: String) -> Self {
        let (kind, cause) = (kind.to_string(), cause.to_string());
        Wrong { kind, guarantee, cause, message, phase: Phase::Recovered }
    }

    /// What stays the same while a finding is minimized: what is broken, but not where that was
    /// seen. A shorter deadlock is a better one, a rule may be seen to be broken earlier, and which
    /// block of a broken image is read first means nothing.
    pub fn key(&self) -> String {
        let cause = match self.kind.as_str() {
            "deadlock" | MOUNT_FAILED => "",
            "invariant" => self.cause.split(" at ").next().unwrap_or_default(),
            _ => &self.cause,
        };
        Wrong { cause: cause.to_string(), ..self.clone() }.label()
    }

    /// What is wrong, and how: where a rule is broken, but not at which block an image is damaged,
    /// nor which locks a deadlock is about.
    pub fn grievance(&self) -> String {
        match self.kind.as_str() {
            "invariant" => format!("{} {}", self.label(), self.complaint().unwrap_or_default()),
            MOUNT_FAILED => {
                let damage = self.cause.rsplit_once(": ").map_or("", |(_, damage)| damage);
                format!("{} {damage}", self.key())
            }
            _ => self.key(),
        }
    }

    /// Whether it says more than which guarantee is broken: then another program that shows the
    /// same hardly shows another bug.
    pub fn names_cause(&self) -> bool {
        !self.cause.is_empty()
    }

    /// How a rule is broken, without what differs from one execution to another: numbers, and who
    /// broke it where.
    pub fn complaint(&self) -> Option<String> {
        let rest = self.message.strip_prefix("invariant: ").filter(|_| self.kind == "invariant")?;
        let text = rest.lines().next()?.rsplit_once(" (").map_or(rest, |(text, _)| text);
        let words =
            text.split(' ').map(|word| match word.contains(|it: char| it.is_ascii_digit()) {
                true => "_",
                false => word,
            });
        Some(words.skip(1).collect::<Vec<_>>().join(" "))
    }

    /// What is broken, and why, as far as it can be said before minimizing; afterwards
    /// [`Finding::signature`](crate::finding::Finding::signature) says more.
    pub fn label(&self) -> String {
        let phase = match self.phase {
            Phase::Live => "live",
            Phase::Recovered => "crash",
        };
        if self.cause.is_empty() {
            format!("{} G-{} {phase}", self.kind, self.guarantee)
        } else {
            format!("{} G-{} {phase} {}", self.kind, self.guarantee, self.cause)
        }
    }
}

/// A cause without what differs from one execution to another: lines of the code at which tasks
/// wait, and numbers of blocks.
fn canonical(kind: &str, cause: &str) -> String {
    match kind {
        "deadlock" => {
            let words = cause.split(' ').skip(1).map(|word| word.split('@').next().unwrap_or(word));
            let mut classes: Vec<&str> = words.collect();
            classes.sort_unstable();
            classes.dedup();
            classes.join(" ")
        }
        "strange-answer" => {
            let words = cause.split(' ').filter(|word| word.parse::<u64>().is_err());
            words.collect::<Vec<_>>().join(" ")
        }
        _ => cause.strip_prefix(kind).unwrap_or(cause).trim().to_string(),
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (G-{}): {}", self.kind, self.guarantee, self.message)
    }
}
