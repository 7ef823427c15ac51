//! The image as a check sees it: blocks as they are now, decoded once per content.
//!
//! Promises: a block beyond its device is an answer, not a panic. It must never know what is wrong.

use crate::types::Run;
use machine::{Block, DeviceId, Machine};
use rustc_hash::FxHashSet;

/// What one structure uses of device 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) run: Run,
    pub(super) user: User,
}

/// Who uses blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    /// Data of files; may be shared.
    Data,
    /// A node, a block of the space map or a superblock: one user only.
    Metadata,
}

/// The devices, and which of their blocks were visited.
pub(crate) struct Image<'a> {
    machine: &'a Machine,
    /// Metadata blocks seen, to read none twice whatever points to it.
    visited: FxHashSet<(u8, u64)>,
    /// Everything that uses blocks of device 0.
    pub(super) claims: Vec<Claim>,
}

impl<'a> Image<'a> {
    pub(crate) fn new(machine: &'a Machine) -> Image<'a> {
        Image { machine, visited: FxHashSet::default(), claims: Vec::with_capacity(64) }
    }

    /// A block, if the device has it.
    pub(crate) fn read(&self, device: u8, block: u64) -> Option<Block> {
        self.machine.disk().read_now(DeviceId(device), block).ok()
    }

    /// Whether this is the first visit of a metadata block. A second one is a second use of the
    /// block, and going on below it could take as long as there are paths.
    pub(crate) fn visit(&mut self, device: u8, block: u64) -> bool {
        let is_first = self.visited.insert((device, block));
        if device == 0 {
            self.claims.push(Claim { run: Run::new(block, 1), user: User::Metadata });
        }
        is_first
    }
}
