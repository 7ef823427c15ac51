//! The storage engine: a copy-on-write file system on a deterministic machine.
//!
//! [`Fs`] is a mounted image, [`File`] an open file; what they do is in [`paths`], step by step as
//! races.md §7.4 has it. Under them, [`inode`] and [`mm`] hold what is in memory, [`store`] what is
//! on the medium, [`log`] what fsync adds, [`mod@check`] what must hold of every image.
//!
//! Architecture invariant: nothing here reaches time, randomness, threads or IO but through the
//! machine, and nothing knows programs or oracles.

pub mod buffers;
pub mod check;
pub mod checkers;
pub mod classes;
pub mod defects;
pub mod dump;
pub mod error;
pub mod fs;
pub mod inode;
pub mod log;
pub mod mkfs;
pub mod mm;
pub mod options;
pub mod paths;
pub mod sites;
pub mod store;
pub mod types;

pub use error::{Errno, Error, Result};
pub use fs::{AsyncIo, File, Fs, SpaceUse, Sync};
pub use inode::span::{Blocks, Span};
pub use mm::Mapping;
pub use paths::memory::UserMemory;

pub use check::{CheckReport, Problem, check};
