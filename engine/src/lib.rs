//! The storage engine: a copy-on-write file system.

pub mod check;
pub mod defects;
pub mod error;
pub mod log;
pub mod mkfs;
pub mod options;
pub mod store;
pub mod types;
