//! The persistent half of the engine: what is on the medium, and how it changes atomically.
//!
//! Trees of items, free space, transactions and log trees. Everything above (files, pages, mappings,
//! fsync) speaks to it in items and runs of blocks.
//!
//! Promises: a commit is atomic and durable when it returns; damage of any kind is an
//! [`Error::Corrupt`](crate::error::Error::Corrupt). It must never know pages, ordered extents or
//! programs.

pub mod items;
pub mod key;
pub mod space;

mod codec;

pub use items::{ExtentItem, ExtentKind, InodeItem, OrphanItem, RefsItem, Value};
pub use key::{BlockPtr, Key, Kind, Root, Tree};
