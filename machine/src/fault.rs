//! What the machine itself finds: deadlocks, livelocks, broken lock order, faults under locks,
//! panics of a task.

use crate::machine::Machine;
use std::fmt;

/// Something that must not happen on any schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// One line that names the parties: classes, instances, source lines.
    pub message: String,
    /// For a deadlock, one line per blocked task with what it holds and where it waits.
    pub details: Vec<String>,
    /// A key that is equal for the same fault on different schedules: lock classes and source
    /// lines, no instance, no number.
    pub key: String,
}

/// The kinds of faults, in the words of races.md §0.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A cycle of tasks that wait for each other, or all tasks blocked with no event pending.
    Deadlock,
    /// A task waits for itself.
    SelfDeadlock,
    /// A step bound or a retry bound was exceeded.
    Livelock,
    /// A lock was taken against its rank, or an edge closed a cycle in the class graph.
    LockOrder,
    /// User memory was touched under a lock that a page fault may need (rule F-1).
    FaultUnderLock,
    /// A task panicked: an assertion of the code under test.
    Panic,
    /// The code under test reported a broken invariant.
    Invariant,
    /// The code under test touched an object that it had freed.
    UseAfterFree,
}

impl FaultKind {
    /// The kebab-case name used in findings.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Deadlock => "deadlock",
            FaultKind::SelfDeadlock => "self-deadlock",
            FaultKind::Livelock => "livelock",
            FaultKind::LockOrder => "lock-order",
            FaultKind::FaultUnderLock => "fault-under-lock",
            FaultKind::Panic => "panic",
            FaultKind::Invariant => "invariant",
            FaultKind::UseAfterFree => "use-after-free",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl Machine {
    /// Records a fault and stops the machine.
    pub fn report(&self, fault: Fault) {
        self.0.faults.borrow_mut().push(fault);
        self.0.poisoned.set(true);
    }

    /// Reports a broken invariant of the code that runs on the machine; `key` names the invariant.
    pub fn invariant(&self, key: &str, message: &str) {
        self.report(Fault {
            kind: FaultKind::Invariant,
            message: message.to_string(),
            details: Vec::new(),
            key: format!("invariant {key}"),
        });
    }
}

pub(crate) mod capture {
    //! Keeps the message and place of a panic inside a task, instead of printing it.

    use std::cell::{Cell, RefCell};
    use std::sync::Once;

    thread_local! {
        static INSIDE_TASK: Cell<bool> = const { Cell::new(false) };
        static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
    }

    /// Installs the process-wide panic hook: a panic inside a task is kept for its report, any
    /// other goes to the hook that was there before.
    pub fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !INSIDE_TASK.get() {
                    return before(info);
                }
                let message = match info.payload().downcast_ref::<&str>() {
                    Some(text) => (*text).to_string(),
                    None => info.payload().downcast_ref::<String>().cloned().unwrap_or_default(),
                };
                let place = info.location().map_or(String::new(), |l| {
                    format!("{}:{}", crate::fault::short_file(l.file()), l.line())
                });
                LAST.with_borrow_mut(|last| *last = Some((message, place)));
            }));
        });
    }

    /// Runs `body`, turning a panic into its message and place.
    pub fn guard<T>(body: impl FnOnce() -> T) -> Result<T, (String, String)> {
        INSIDE_TASK.set(true);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        INSIDE_TASK.set(false);
        result.map_err(|_| LAST.with_borrow_mut(Option::take).unwrap_or_default())
    }

    /// Tells that this thread runs inside a task, or no longer.
    pub fn set_inside(inside: bool) {
        INSIDE_TASK.set(inside);
    }
}

/// The last two components of a source path: the same on every machine.
pub(crate) fn short_file(path: &str) -> String {
    let parts: Vec<&str> = path.rsplit(['/', '\\']).take(3).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}
