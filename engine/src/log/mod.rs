//! The log: how fsync makes a file durable without a commit, and how a mount brings it back.
//!
//! `items` (what a log tree holds), `collect` (what is to be logged of an inode), `write` (into its
//! log tree), `read` and `replay` (back), `marks` (what a log tree names that is not on the device
//! yet, and what makes the log useless for the rest of a transaction). When a log reaches the
//! medium and is published is the business of fsync (`paths::fsync`). `historical` is for defects.
//!
//! Promises: what a published log says is, together with the last commit, the state that fsync
//! promised. It must never know pages or user buffers.

pub mod items;
pub mod marks;

pub(crate) mod collect;
pub(crate) mod historical;
pub(crate) mod read;
pub(crate) mod replay;
mod sites;
pub(crate) mod write;
