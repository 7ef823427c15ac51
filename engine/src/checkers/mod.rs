//! Checkers that look on while the engine runs (races.md §7.5; the table is in docs/checkers.md).
//!
//! - `memory`: pairs, pages, page tables, owners of what is in flight (4, 5, 9), after every step
//!   that changed any of them.
//! - `points`: who adds a page and who makes one dirty (9: P-1, P-2), where it happens.
//! - `ownership`: requests against who owns their blocks (5), at submission; stable content (9:
//!   X-9), at completion.
//! - `barriers`: what a superblock reaches against what is durable (6, 7), at the submission of
//!   each. What it reaches is walked in `reach`.
//!
//! What they find is a suspicion ([`Machine::suspect`](machine::Machine::suspect)): it does not end
//! the execution, and whoever runs it says it only if no power cut shows a consequence. A step
//! costs one comparison of a counter ([`machine::Tally`]) unless it changed something, and then
//! only inodes that changed are looked at.
//!
//! Not looked at, because: a recovery is one task, and is judged by what it leaves and by cutting
//! it; so nobody watches it.
//!
//! It must never change anything, nor switch tasks.

mod barriers;
mod memory;
mod ownership;
mod points;
mod reach;
#[cfg(test)]
mod tests;

use crate::fs::{Fs, WeakFs};
use crate::store::superblock::Superblock;
use machine::cell::RefCell;
use machine::disk::{Logged, Op, Outcome, RequestId, Volatile};
use machine::{Actor, DeviceId, FaultKind, Machine, Watcher};
use reach::Reached;
use rustc_hash::FxHashMap;
use std::rc::Rc;

pub use memory::Violation;

/// A rule that is broken, and how.
type Broken = Option<(&'static str, String)>;

/// What was last written to a block in this execution, and acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landed {
    Data,
    Metadata,
}

/// What is known of the medium, from the requests alone.
#[derive(Default)]
struct Ledger {
    volatile: Volatile,
    /// By device and block.
    landed: FxHashMap<(u8, u64), Landed>,
    /// What the superblock on the medium reaches.
    reached: Reached,
    /// What the superblock that is being written reaches.
    coming: Option<(RequestId, Reached)>,
    /// The block of the superblock that was written last.
    slot: u64,
    /// A superblock could not be read: nothing is known of what is reached.
    is_blind: bool,
}

/// The checkers of one mount.
struct Checkers {
    fs: WeakFs,
    ledger: RefCell<Ledger>,
}

impl Fs {
    /// Has everything that happens from now on looked at, until the mount ends.
    pub fn watch(&self) {
        let machine = self.machine();
        let disk = machine.disk();
        let copies = [0, 1].map(|slot| disk.read_now(DeviceId(0), slot));
        let copies: Vec<_> = copies.into_iter().flatten().collect();
        let mut ledger = Ledger::default();
        match Superblock::newest(&copies) {
            Ok(superblock) => {
                ledger.slot = superblock.slot();
                ledger.reached = reach::reached(&disk, &superblock);
            }
            Err(_) => ledger.is_blind = true,
        }
        drop(disk);
        let checkers = Checkers { fs: self.downgrade(), ledger: RefCell::new(ledger) };
        machine.watch(Some(Rc::new(checkers)));
    }
}

/// Tells of a broken rule: who broke it, and at which step or by which request.
fn suspect(machine: &Machine, broken: Broken, who: &str, at: &str) {
    if let Some((rule, what)) = broken {
        let key = format!("{rule} at {at}");
        machine.suspect(FaultKind::Invariant, &key, &format!("{rule}: {what} ({who})"));
    }
}

/// What a request is, for reports.
fn describe(logged: &Logged) -> String {
    let (device, block) = logged.request.place();
    let (op, what) = (logged.request.op().name(), logged.note.what);
    format!("{op} {} of {what} at block {block} of device {device}", logged.id.0)
}

/// Tells of a rule that a step broke.
fn suspect_step(machine: &Machine, broken: Broken, who: Actor) {
    suspect(machine, broken, &machine.actor_name(who), machine.site_name(who));
}

/// What kind of request it is.
fn summary(logged: &Logged) -> String {
    format!("{} of {}", logged.request.op().name(), logged.note.what)
}

impl Watcher for Checkers {
    fn stepped(&self, machine: &Machine, who: Actor) {
        let Some(fs) = self.fs.upgrade() else { return };
        if let Err(violation) = fs.check_changed() {
            let broken = Some((violation.rule, violation.what));
            suspect_step(machine, broken, who);
        }
    }

    fn submitted(&self, machine: &Machine, id: RequestId) {
        let Some(fs) = self.fs.upgrade() else { return };
        let disk = machine.disk();
        let Some(logged) = disk.log().get(id) else { return };
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        let is_super = logged.request.op() == Op::Write && logged.note.what == "super";
        let broken = match is_super {
            true => barriers::superblock(ledger, &disk, logged),
            false => ownership::request(ledger, &fs, logged),
        };
        if broken.is_some() {
            let who = machine.running_name();
            let who = format!("{}, {who}", describe(logged));
            suspect(machine, broken, &who, &summary(logged));
        }
        ledger.volatile.submitted(logged);
    }

    fn completed(&self, machine: &Machine, id: RequestId) {
        let Some(fs) = self.fs.upgrade() else { return };
        let disk = machine.disk();
        let Some(logged) = disk.log().get(id) else { return };
        let mut ledger = self.ledger.borrow_mut();
        let ledger = &mut *ledger;
        ledger.volatile.completed(logged);
        if logged.outcome != Outcome::Done {
            return;
        }
        let (device, first) = logged.request.place();
        let blocks = first..first + logged.request.count();
        match logged.request.op() {
            Op::Write => {
                let is_data = logged.note.what == "data";
                let landed = if is_data { Landed::Data } else { Landed::Metadata };
                ledger.landed.extend(blocks.map(|block| ((device.0, block), landed)));
            }
            Op::Discard => blocks.for_each(|block| {
                ledger.landed.remove(&(device.0, block));
            }),
            Op::Read | Op::Flush => return,
        }
        if let Some((_, reached)) = ledger.coming.take_if(|(coming, _)| *coming == id) {
            ledger.reached = reached;
        }
        let broken = ownership::stable(&fs, logged);
        if broken.is_some() {
            suspect(machine, broken, &describe(logged), &summary(logged));
        }
    }
}
