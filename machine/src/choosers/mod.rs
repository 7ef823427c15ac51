//! The choosers: sources of numbers turned into decisions. The only module that may own a random
//! generator, always seeded by its caller.

mod bytes;
mod delay;
mod exhaustive;
mod order;
mod pct;
mod pos;
mod random;
mod reduced;
mod replay;
mod round_robin;
mod shard;
mod tempered;

pub use bytes::Bytes;
pub use delay::Delay;
pub use exhaustive::Exhaustive;
pub use pct::Pct;
pub use pos::Pos;
pub use random::{Dice, Random};
pub use reduced::Reduced;
pub use replay::{Move, Replay, moves};
pub use round_robin::RoundRobin;
pub use shard::Shard;
pub use tempered::{Temper, Tempered};
