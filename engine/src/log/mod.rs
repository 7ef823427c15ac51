//! The log: how fsync makes a file durable without a commit, and how a mount brings it back.
//!
//! Promises: what a published log says is, together with the last commit, the state that fsync
//! promised. It must never know pages or user buffers.

pub mod items;
