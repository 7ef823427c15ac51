//! The harness: programs, targets, execution, cuts, recovery, verdicts, findings.

pub mod conform;
pub mod program;
pub mod target;
