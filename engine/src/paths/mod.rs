//! The IO paths: each operation as the numbered steps of races.md §7.4.
//!
//! A path is the only place that decides which locks are taken in which order. One step, one line
//! or one call, with the step and the rules cited beside it.
//!
//! What tasks may see of each other is marked by sites; every acquisition of a lock is one, too.

pub mod arguments;
mod chunk;
pub mod completion;
pub mod direct;
pub mod fallocate;
pub mod fault;
pub mod fsync;
mod historical;
pub mod holes;
pub mod layout;
pub mod memory;
pub mod namespace;
pub mod nodes;
pub mod orphans;
pub mod punch;
pub mod read;
mod readahead;
pub mod reclaim;
pub mod remap;
pub mod truncate;
pub mod workers;
pub mod write;
pub mod writeback;
