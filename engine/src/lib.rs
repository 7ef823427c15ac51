//! The storage engine: a copy-on-write file system.

pub mod error;
pub mod options;
pub mod store;
pub mod types;
