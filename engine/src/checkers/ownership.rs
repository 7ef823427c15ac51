//! Who owns which block, at every request (races.md §7.5.5): lba → {free, held until a commit,
//! owner (inode, block) × references, read pins}.
//!
//! The map is no table of its own: the allocator says what is allocated, held and pinned for
//! reading, the extent maps who owns what in memory, and what the superblock on the medium reaches
//! is known from the requests alone ([`super::reach`]).
//!
//! Verified: data are written to blocks that belong to the writing inode alone, through an ordered
//! extent that is in flight, and never over what the superblock on the medium reaches, unless that
//! is the inode's own and overwritten in place; metadata go to blocks that nothing reaches and no
//! file has; data are read from blocks that somebody owns and has written, or that a pin keeps;
//! no block counts as written that never was; nothing is discarded that is allocated, reached
//! or being read. What was written is what its checksum is of, and what the page still holds.
//!
//! Not verified, because: an inode that is not in memory is asked for nothing; what it owns is
//! reached from the superblock.

use super::{Broken, Landed, Ledger};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::extents::ExtentState;
use crate::inode::ordered::{OrderedExtent, OrderedKind};
use crate::inode::pages::Page;
use crate::store::BlockUse;
use crate::store::space::FIRST_BLOCK;
use crate::types::Ino;
use machine::disk::{Logged, Op, Request};
use std::rc::Rc;

const RULE: &str = "ownership";

fn broken(what: String) -> Broken {
    Some((RULE, what))
}

/// An extent in memory that has a block.
struct Owner {
    ino: Ino,
    index: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Written,
    Unwritten,
    /// A write to new blocks is in flight.
    PendingNew,
    /// A write over written blocks is in flight.
    PendingInPlace,
}

/// Judges a request other than that of a superblock.
pub(super) fn request(ledger: &Ledger, fs: &Fs, logged: &Logged) -> Broken {
    let (device, first) = logged.request.place();
    let what = logged.note.what;
    let mut blocks = first..first + logged.request.count();
    match logged.request.op() {
        Op::Flush => None,
        Op::Write if what == "buffer" => blocks.find_map(|block| bare(fs, block)),
        Op::Write if what == "data" => {
            blocks.find_map(|block| write_data(ledger, fs, Ino(logged.note.tag), block))
        }
        Op::Write => blocks.find_map(|block| write_metadata(ledger, fs, device.0, block)),
        Op::Read if what == "data" => blocks.find_map(|block| read_data(ledger, fs, block)),
        Op::Read if what == "super" || what == "buffer" => None,
        Op::Read => blocks.find_map(|block| read_metadata(ledger, fs, device.0, block)),
        Op::Discard => blocks.find_map(|block| discard(ledger, fs, device.0, block)),
    }
}

/// One past the last block that never moves: superblocks and bare nodes.
fn fixed_end(fs: &Fs) -> u64 {
    FIRST_BLOCK + u64::from(fs.store().bare_nodes())
}

fn bare(fs: &Fs, block: u64) -> Broken {
    let is_bare = (FIRST_BLOCK..fixed_end(fs)).contains(&block);
    if is_bare { None } else { broken(format!("a bare node is written to block {block}")) }
}

/// The extents in memory that have a block.
fn owners(fs: &Fs, block: u64, mut visit: impl FnMut(Owner)) {
    fs.inodes().for_each(|inode| {
        for extent in inode.extents.borrow().iter() {
            if !extent.run().contains(block) {
                continue;
            }
            let state = match &extent.state {
                ExtentState::Written => State::Written,
                ExtentState::Unwritten => State::Unwritten,
                ExtentState::Pending(it) if it.kind == OrderedKind::Nocow => State::PendingInPlace,
                ExtentState::Pending(_) => State::PendingNew,
            };
            let index = extent.blocks.start + (block - extent.block);
            visit(Owner { ino: inode.ino, index, state });
        }
    });
}

/// What the superblocks reach at a block, as a sentence, if it forbids a write by `writer`.
fn reached(ledger: &Ledger, device: u8, block: u64, writer: Option<Ino>) -> Broken {
    if ledger.is_blind {
        return None;
    }
    let coming = ledger.coming.as_ref().map(|(_, reached)| reached);
    for reached in std::iter::once(&ledger.reached).chain(coming) {
        if reached.metadata.contains(&(device, block)) {
            return broken(format!("the superblock reaches metadata in block {block}"));
        }
        let Some(data) = reached.data.get(&block).filter(|_| device == 0) else { continue };
        let is_own = writer == Some(Ino(data.ino)) && data.refs == 1;
        if !is_own || data.is_written && !data.is_in_place {
            let state = if data.is_written { "data" } else { "unwritten blocks" };
            let (ino, refs) = (data.ino, data.refs);
            let what = format!("the superblock reaches {state} of inode {ino} in block {block}");
            return broken(format!("{what}, with {refs} references"));
        }
    }
    None
}

/// The ordered extent through which an inode writes a block.
fn ordered_of(inode: &Inode, block: u64) -> Option<Rc<OrderedExtent>> {
    let table = inode.ordered.borrow();
    table.iter().find(|ordered| ordered.run().contains(block)).cloned()
}

fn write_data(ledger: &Ledger, fs: &Fs, ino: Ino, block: u64) -> Broken {
    if block < fixed_end(fs) {
        return broken(format!("data of inode {ino} go to block {block}, which is fixed"));
    }
    if let Some((_, what)) = reached(ledger, 0, block, Some(ino)) {
        return broken(format!("data of inode {ino} overwrite a block: {what}"));
    }
    match fs.store().use_of(block) {
        Some(BlockUse::Free) => return broken(format!("inode {ino} writes free block {block}")),
        Some(BlockUse::Held) => {
            return broken(format!("inode {ino} writes block {block}, held until a commit"));
        }
        Some(BlockUse::Allocated) | None => {}
    }
    let inode = fs.inodes().find(ino)?;
    let index = match ordered_of(&inode, block) {
        Some(ordered) if ordered.kind == OrderedKind::Cow && fs.store().is_being_read(block) => {
            //
            return broken(format!("inode {ino} writes new block {block}, which is being read"));
        }
        Some(ordered) => ordered.blocks.start + (block - ordered.block),
        None => match inode.layouts.written_at(block) {
            Some(index) => index, // LWRITE.2: a holder writes by itself
            None => {
                let what = "without an ordered extent or a layout";
                return broken(format!("inode {ino} writes block {block} {what}"));
            }
        },
    };
    let mut other = None;
    owners(fs, block, |owner| {
        if (owner.ino, owner.index) != (ino, index) {
            other = broken(format!(
                "inode {ino} writes its block {index} to {block}, which is block {} of inode {}",
                owner.index, owner.ino
            ));
        }
    });
    other
}

fn write_metadata(ledger: &Ledger, fs: &Fs, device: u8, block: u64) -> Broken {
    if let Some((_, what)) = reached(ledger, device, block, None) {
        return broken(format!("metadata overwrite a block: {what}"));
    }
    if device != 0 {
        return None;
    }
    if block < fixed_end(fs) {
        return broken(format!("metadata go to block {block}, which is fixed"));
    }
    if fs.store().use_of(block) == Some(BlockUse::Free) {
        return broken(format!("metadata go to block {block}, which is free"));
    }
    let mut owner = None;
    owners(fs, block, |it| owner = Some(it.ino));
    owner.and_then(|ino| broken(format!("metadata go to block {block} of inode {ino}")))
}

/// Whether anything was ever written to a block that is data now.
fn has_data(ledger: &Ledger, block: u64) -> bool {
    ledger.is_blind
        || ledger.landed.get(&(0, block)) == Some(&Landed::Data)
        || ledger.reached.data.get(&block).is_some_and(|data| data.is_written)
}

fn read_data(ledger: &Ledger, fs: &Fs, block: u64) -> Broken {
    let (mut is_owned, mut is_pending, mut is_unwritten) = (None, None, None);
    owners(fs, block, |owner| match owner.state {
        State::Written | State::PendingInPlace => is_owned = Some(owner.ino),
        State::PendingNew => is_pending = Some(owner.ino),
        State::Unwritten => is_unwritten = Some(owner.ino),
    });
    if let Some(ino) = is_owned {
        let what = || format!("block {block} of inode {ino} counts as written, and never was");
        return (!has_data(ledger, block)).then(|| ("X-1", what()));
    }
    if let Some(ino) = is_pending {
        let what = format!("block {block} is read before inode {ino} has written it");
        return Some(("X-5", what));
    }
    if let Some(ino) = is_unwritten {
        return Some(("X-5", format!("block {block} of inode {ino} is read and never written")));
    }
    match fs.store().use_of(block) {
        Some(BlockUse::Free | BlockUse::Held) if !fs.store().is_being_read(block) => {
            Some(("X-6", format!("block {block} is read, which nobody owns and nobody pins")))
        }
        _ => None,
    }
}

fn read_metadata(ledger: &Ledger, fs: &Fs, device: u8, block: u64) -> Broken {
    let is_reached = ledger.reached.metadata.contains(&(device, block));
    if ledger.is_blind || device != 0 || is_reached {
        return None;
    }
    let is_data = ledger.landed.get(&(device, block)) == Some(&Landed::Data);
    let mut owner = None;
    owners(fs, block, |it| owner = Some(it.ino));
    match owner {
        Some(ino) => broken(format!("metadata are read from block {block} of inode {ino}")),
        None if is_data => broken(format!("metadata are read from block {block}, which has data")),
        None => None,
    }
}

fn discard(ledger: &Ledger, fs: &Fs, device: u8, block: u64) -> Broken {
    if let Some((_, what)) = reached(ledger, device, block, None) {
        return broken(format!("a block is discarded: {what}"));
    }
    if fs.store().use_of(block) == Some(BlockUse::Allocated) {
        return broken(format!("block {block} is discarded and allocated"));
    }
    if fs.store().is_being_read(block) {
        return broken(format!("block {block} is discarded and being read"));
    }
    let mut owner = None;
    owners(fs, block, |it| owner = Some(it.ino));
    owner.and_then(|ino| broken(format!("block {block} of inode {ino} is discarded")))
}

/// X-9, P-4: what was written is what its checksum is of, and what the page still holds unless it
/// is dirty again.
pub(super) fn stable(fs: &Fs, logged: &Logged) -> Broken {
    let Request::Write { block: first, payload, .. } = &logged.request else { return None };
    if logged.note.what != "data" {
        return None;
    }
    let inode = fs.inodes().find(Ino(logged.note.tag))?;
    let ordered = ordered_of(&inode, *first).filter(|it| it.block == *first)?;
    let digests = ordered.digests.borrow();
    for (at, content) in payload.iter().enumerate() {
        let index = ordered.blocks.start + at as u64;
        let ino = inode.ino;
        if digests.get(at).is_some_and(|digest| *digest != content.digest()) {
            let what = format!("block {index} of inode {ino} was written with another checksum");
            return Some(("X-9", what));
        }
        let page = inode.pages.find(index).filter(|_| !ordered.direct);
        // What lies behind the end may be zero in the page alone; it is not forgotten.
        let is_clean = |page: &Rc<Page>| !page.is_dirty() && !page.is_unsaved();
        let page = page.filter(|page| page.is_under_writeback() && is_clean(page));
        if page.is_some_and(|page| !page.data().is_same(content)) {
            let what = format!("page {index} of inode {ino} changed while it was being written");
            return Some(("X-9", format!("{what}, and is clean")));
        }
    }
    None
}
