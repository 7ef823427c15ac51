//! The disk: a passive device with a volatile cache, the log of its requests, and what the medium
//! may hold after the power is cut.
//!
//! Promises the assumptions of `docs/device-model.md` (cited as D-n) and determinism: nothing here
//! chooses. Who submits and completes what, and when, comes in through calls with a [`Moment`];
//! what a crash state keeps comes in through a [`Strategy`], a [`Selection`] or the [`Explorer`]'s
//! order.
//!
//! Must never know tasks, locks, or what the blocks mean.
//!
//! Reading order: `request` (what is asked and the log), `device` (the running disk), `versions`
//! (what a cut may leave of each block), `crash` (one state, read lazily), `trie` and `explore`
//! (all states that recovery can tell apart), `volatile` (what is not durable now).

mod crash;
mod device;
mod explore;
mod plan;
mod request;
mod selection;
mod trie;
mod versions;
mod volatile;

#[cfg(test)]
mod explore_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod testing;

use std::fmt;

use crate::block::Block;

pub use crash::{CrashDevice, CrashState, Footstep, Strategy};
pub use device::Disk;
pub use explore::{CutReport, Explorer, Limits, Step};
pub use plan::{Failure, Part, Rule, Target};
pub use request::{Data, DiskError, Log, Logged, Note, Op, Outcome, Request, RequestId};
pub use selection::{Kept, ParseKeptError, Selection, Source};
pub use trie::{Diverged, LeafId};
pub use versions::{Ages, Choice, EVERY_LIMIT, History, Options, TornPolicy, Version};
pub use volatile::Volatile;

/// The number of an event. The caller counts; every event that the disk hears of has a larger one
/// than the event before. Zero is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than every event: the completion of what never completes.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// A cut after everything that ever happened.
    pub const LAST: Moment = Moment(u64::MAX - 1);

    /// The moment just before: a cut there is after every event but this one.
    pub fn before(self) -> Moment {
        Moment(self.0.saturating_sub(1))
    }
}

/// One of the devices of a disk, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u8);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Something that has content for each block of one device: an image, or a crash state.
///
/// A source is constant: two reads of a block give equal bytes, and while it is remembered, the
/// same [`Block`].
pub trait BlockSource {
    /// Blocks of the device.
    fn blocks(&self) -> u64;

    /// The content of `block`, which is less than [`BlockSource::blocks`]; may panic otherwise.
    fn read(&self, block: u64) -> Block;
}

/// The place of a block in a disk as one number, for maps. Blocks fit 52 bits, as a device has
/// fewer than 2^64 bytes.
fn place_key(device: DeviceId, block: u64) -> u64 {
    debug_assert!(block < 1 << 56);
    block << 8 | u64::from(device.0)
}

/// Spreads the bits of a number over 64 (the finalizer of SplitMix64). A fixed function: the same
/// for ever, as findings depend on it.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
