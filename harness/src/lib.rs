//! Placeholder.
pub mod program;
