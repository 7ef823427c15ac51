//! The full check of an image: reads everything and reports every inconsistency.
//!
//! Verified: superblock copies, every node of every tree, the space map against what is reachable,
//! reference counts, checksums against data, extents, inodes against names, orphans, the log.
//!
//! Not verified, because: extents beyond the end of a file may be left by a crash and hold
//! nothing that a reader sees; times mean nothing to the engine.
//!
//! Promises: arbitrary damage gives problems, never a panic or a hang; memory and time are
//! proportional to what is used. It must never change anything, nor know anything in memory.

mod report;

pub use report::{CheckReport, PROBLEMS_MAX, Problem, ProblemKind};
