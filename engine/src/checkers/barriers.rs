//! Barriers, judged without a power cut (races.md §7.5.6): when a superblock is submitted, all that
//! it reaches must be durable (B-1, B-2), as it may be durable itself at any moment from then on.
//!
//! Verified: each node, each block of the free-space map and of the log, and each block of data of
//! a written extent was written, acknowledged and flushed; digests and checksums are of what is
//! there; the superblock is one sector, goes with FUA to the place of the older copy, and no other
//! is in flight.
//!
//! Not verified, because: a block that is overwritten in place is not ordered against superblocks
//! that reached it before; that it was durable once is all that they rely on.

use super::reach::{self, Data, Judge, Reached};
use super::{Broken, Ledger};
use crate::store::key::BlockPtr;
use crate::store::superblock::Superblock;
use machine::disk::{Disk, Logged, Request};
use machine::{Block, DeviceId};

/// Judges the submission of a superblock, and takes note of what it reaches.
pub(super) fn superblock(ledger: &mut Ledger, disk: &Disk, logged: &Logged) -> Broken {
    let Request::Write { block: slot, payload, sectors, fua, .. } = &logged.request else {
        return None;
    };
    let form = form(ledger, *slot, *sectors, *fua);
    ledger.slot = *slot;
    let content = payload.first()?;
    let Ok(superblock) = Superblock::decode(content.bytes()) else {
        ledger.is_blind = true;
        return form.or_else(|| Some(("B-2", "a superblock that cannot be read".to_string())));
    };
    if superblock.slot() != *slot {
        // The place of the other copy is what tells which is newer.
        return Some(("B-2", format!("superblock {} in block {slot}", superblock.sequence)));
    }
    let rule = if superblock.log.is_some() { "B-1" } else { "B-2" };
    let mut closure = Closure { rule, ledger, disk };
    let (reached, broken) = reach::walk(disk, &superblock, &mut closure);
    ledger.coming = Some((logged.id, reached));
    form.or(broken)
}

/// B-2: how a superblock is written.
fn form(ledger: &Ledger, slot: u64, sectors: Option<u8>, fua: bool) -> Broken {
    let what = if !fua {
        "the superblock is written without FUA".to_string()
    } else if sectors != Some(1) {
        "the superblock is more than one sector, which may be torn".to_string()
    } else if let Some((other, _)) = &ledger.coming {
        format!("the superblock of request {} is still being written", other.0)
    } else if slot == ledger.slot {
        format!("the superblock goes to block {slot}, where the newest one is")
    } else {
        return None;
    };
    Some(("B-2", what))
}

/// What everything that a superblock reaches must be.
struct Closure<'a> {
    rule: &'static str,
    ledger: &'a Ledger,
    disk: &'a Disk,
}

impl Closure<'_> {
    fn before(&self) -> &Reached {
        &self.ledger.reached
    }

    fn broken(&self, block: u64, what: &str) -> Broken {
        Some((self.rule, format!("the superblock reaches block {block}, {what}")))
    }

    /// What of a block is not durable.
    fn loose(&self, device: u8, block: u64) -> Option<String> {
        let request = self.ledger.volatile.find(DeviceId(device), block)?;
        let logged = self.disk.log().get(request)?;
        let state = match logged.completed {
            Some(_) if logged.succeeded() => "acknowledged and not flushed",
            Some(_) => "failed",
            None => "in flight",
        };
        Some(format!("whose write {} ({}) is {state}", request.0, logged.note.what))
    }
}

impl Judge for Closure<'_> {
    fn metadata(&mut self, device: u8, ptr: &BlockPtr, content: &Block) -> Broken {
        let known = self.before().metadata.contains(&(device, ptr.block));
        match self.loose(device, ptr.block) {
            Some(what) => self.broken(ptr.block, &what),
            None if content.digest() != ptr.digest => {
                let what = "which holds something else than the pointer to it says";
                self.broken(ptr.block, what)
            }
            None if !known && !self.ledger.landed.contains_key(&(device, ptr.block)) => {
                self.broken(ptr.block, "which was not written since it was free")
            }
            None => None,
        }
    }

    fn data(&mut self, block: u64, data: &Data, digest: Option<&[u8; 32]>) -> Broken {
        let was_written = self.before().data.get(&block).is_some_and(|it| it.is_written);
        let has_landed = self.ledger.landed.contains_key(&(0, block));
        if data.is_in_place && (was_written || has_landed) {
            return None;
        }
        let ino = data.ino;
        if let Some(what) = self.loose(0, block) {
            return self.broken(block, &format!("data of inode {ino}, {what}"));
        }
        if was_written {
            return None;
        }
        if !has_landed {
            return self.broken(block, &format!("data of inode {ino}, which nobody wrote"));
        }
        let content = self.disk.read_now(DeviceId(0), block).ok()?;
        if digest.is_some_and(|digest| content.digest() != *digest) {
            let what = format!("data of inode {ino}, and not those of the checksum");
            return self.broken(block, &what);
        }
        None
    }

    fn unsummed(&mut self, block: u64, data: &Data) -> Broken {
        let what = format!("data of inode {}, without a checksum", data.ino);
        self.broken(block, &what).map(|(_, what)| ("csum coverage", what))
    }
}
