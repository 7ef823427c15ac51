//! What the tests of the log, of crashes and of the check share.

#![allow(dead_code, reason = "each test uses a part")]

pub mod bench;
pub mod change;
pub mod explore;
pub mod hold;
pub mod model;
pub mod script;
