//! The log: how fsync makes a file durable without a commit, and how a mount brings it back.
//!
//! `items` (what a log tree holds), `write` (an inode into its log tree), `read` and `replay`
//! (back), `marks` (what makes the log useless for the rest of a transaction). When a log reaches
//! the medium and is published is the business of fsync (`paths::fsync`).
//!
//! Promises: what a published log says is, together with the last commit, the state that fsync
//! promised. It must never know pages or user buffers.

pub mod items;
pub mod marks;

pub(crate) mod fast;
pub(crate) mod read;
pub(crate) mod replay;
mod sites;
pub(crate) mod write;
