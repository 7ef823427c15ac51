//! The harness: programs, targets, execution, cuts, recovery, verdicts, findings.
//!
//! Data flows one way: a [`program`] is executed ([`execution`]) on a [`target`], the power is cut
//! ([`cuts`]), each crash state recovered ([`recovery`]) and judged ([`verdict`]), and what is
//! wrong becomes a [`finding`] that replays ([`replay`]) and is made small ([`minimize`]).
//! [`session`] is that whole line for one program; [`campaign`] and [`explore`] repeat it;
//! [`commands`] are the verbs.
//!
//! It alone knows machine, engine and oracle.

pub mod bench;
pub mod campaign;
mod clock;
pub mod commands;
pub mod conform;
pub mod corpus;
pub mod cuts;
pub mod execution;
pub mod explain;
pub mod explore;
mod files;
pub mod finding;
pub mod findings;
pub mod fuzzing;
pub mod images;
mod jobs;
mod knobs;
mod known;
pub mod lanes;
pub mod litmus;
pub mod minimize;
pub mod program;
pub mod prune;
pub mod recovery;
pub mod regress;
pub mod replay;
pub mod report;
pub mod seen;
pub mod session;
pub mod signature;
pub mod sites;
pub mod stability;
pub mod target;
pub mod triage;
pub mod verdict;
