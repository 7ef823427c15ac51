//! The deterministic computer: tasks, choices, locks, a disk and its power.
//!
//! An engine is plain sequential Rust that takes a [`Task`] and calls [`Task::site`] wherever
//! another task may run. Everything that could differ between two runs (who runs, which request
//! ends, what the medium kept, which fault) is one number asked of one [`choice::Chooser`], and
//! recorded.
//!
//! Architecture invariants: the machine knows no file system, reads no clock and no random
//! generator outside [`choosers`], and has `unsafe` in two rooms only, `fibre` and [`medium`].

pub mod block;
pub mod cell;
pub mod choice;
pub mod choosers;
mod deadlock;
pub mod disk;
pub mod event;
pub mod fault;
mod fibre;
pub mod footprint;
pub mod io;
pub mod lock;
mod machine;
pub mod medium;
mod record;
mod task;
mod trace;
mod wait;
mod watch;

pub use block::{BLOCK_BYTES, Block, SECTOR_BYTES};
pub use choice::{Actor, Choice, Chooser};
pub use disk::{DeviceId, Disk, Moment, RequestId};
pub use event::{Access, Event, Object, Site};
pub use fault::{Fault, FaultKind};
pub use io::{Bio, IOWAIT};
pub use lock::{Guard, LockClass, Mode, Mutex, Range, RangeLock, RwLock};
pub use machine::{Body, Config, End, Fairness, Kind, Machine, Server, Stopped, TASKS_MAX, TaskId};
pub use record::{Happening, Recorded, place_name};
pub use task::Task;
pub use trace::{Preemption, Step, StepKind};
pub use wait::WaitQueue;
pub use watch::{Tally, Watcher};
