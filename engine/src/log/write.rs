//! Putting an inode into its log tree: what was collected as changed since the last commit.
//!
//! A range is logged as a whole: what the log said of it before goes, what the file holds now
//! comes, holes included. So the log of an inode after any number of fsyncs is what one fsync would
//! have written.
//!
//! Promises: what was collected is in the log tree when this returns; if it fails, the caller must
//! not publish the log any more. It must never know when the log reaches the
//! medium.

use super::collect::{Changes, logs_pending};
use super::items::{Held, INDEX_END, LogNames, LogRange, RANGE_KINDS, log_csum_key};
use super::sites::{CSUMS, ITEM, RANGES};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::log_state::Name;
use crate::inode::ordered::OrderedExtent;
use crate::inode::span::Blocks;
use crate::store::items::{InodeItem, csum_key};
use crate::store::key::{Key, Kind, Tree};
use crate::store::{Handle, LogTrees};
use crate::types::{BLOCK_BYTES, Ino, TransactionId};
use machine::{Access, Object, Task};
use smallvec::SmallVec;
use std::ops::ControlFlow;

/// The log tree that an inode goes to, locked by the caller.
#[derive(Clone, Copy)]
pub(crate) struct LogTree<'a> {
    pub(crate) trees: &'a LogTrees,
    pub(crate) handle: &'a Handle,
    pub(crate) group: u8,
}

impl LogTree<'_> {
    pub(super) fn put(&self, task: &Task, key: Key, value: &[u8]) -> Result<()> {
        self.trees.put(task, self.handle, self.group, key, value)
    }

    fn delete(&self, task: &Task, key: Key) -> Result<()> {
        let to = key.successor();
        let count = self.trees.delete_range(task, self.handle, self.group, key, to)?;
        debug_assert_eq!(count, 1, "an item just seen under the log's lock");
        Ok(())
    }

    pub(crate) fn transaction(&self) -> TransactionId {
        TransactionId(self.handle.generation())
    }
}

/// Puts what was collected of an inode into its log tree. False if some of that is not there any
/// more: the log must not be published then.
///
/// The caller holds the tree's lock.
///
/// # Errors
/// `NoSpace` if the log has no room; those of the trees. The log must not be published then.
pub(crate) fn log_changes(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    log: LogTree<'_>,
    changes: &Changes,
) -> Result<bool> {
    let object = Object::new(kind::INODE, inode.ino.0, 0);
    let logged = || changes.ranges.iter().filter(|found| is_logged(fs, inode, &found.range));
    task.site(&RANGES, object, Access::Write)?;
    for range in &changes.wanted {
        clear(task, log, inode.ino, *range)?;
    }
    for found in logged() {
        log.put(task, found.range.key(inode.ino), &found.range.encode())?;
    }

    if fs.defects().has(Defect::WriteErrorEmLogged) {
        log_failed(task, inode, log)?;
    }
    if inode.has_datasum() {
        task.site(&CSUMS, object, Access::Write)?;
        for found in logged() {
            let Some(ordered) = &found.ordered else {
                if !copy_csums(task, fs, inode, log, &found.range)? {
                    return Ok(false);
                }
                continue;
            };
            log_digests(task, fs, ordered, log, &found.range)?;
        }
    }

    task.site(&ITEM, object, Access::Write)?;
    log.put(task, InodeItem::key(inode.ino), &changes.item.encode())?;
    log_names(task, inode, log, &changes.names)?;
    Ok(true)
}

/// Whether a range goes into the log: always.
fn is_logged(fs: &Fs, inode: &Inode, range: &LogRange) -> bool {
    let end = inode.size().div_ceil(BLOCK_BYTES);
    let is_hole = range.held == Held::Hole && range.index < end;
    let missed = match range.end() < end {
        true => Defect::HoleNotLoggedNoHoles,
        false => Defect::TrailingHoleNotLogged,
    };
    !(is_hole && fs.defects().has(missed))
}

/// Logs what the device failed to write, as if it had been written.
fn log_failed(task: &Task, inode: &Inode, log: LogTree<'_>) -> Result<()> {
    for failed in inode.log.take_failed(log.transaction()) {
        let Blocks { start: index, end } = failed.blocks;
        let held = Held::Written { block: failed.block };
        clear(task, log, inode.ino, failed.blocks)?;
        let range = LogRange { index, len_blocks: end - index, held, generation: 1 };
        log.put(task, range.key(inode.ino), &range.encode())?;
        for (block, digest) in (failed.block..).zip(&failed.digests) {
            log.put(task, log_csum_key(inode.ino, block), digest)?;
        }
    }
    Ok(())
}

/// Takes out what the log says of a range; what it says beside it stays.
fn clear(task: &Task, log: LogTree<'_>, ino: Ino, range: Blocks) -> Result<()> {
    for kind in RANGE_KINDS {
        for item in overlapping(task, log, ino, kind, range)? {
            log.delete(task, item.key(ino))?;
            let beside = [item.clipped(0, range.start), item.clipped(range.end, INDEX_END)];
            for rest in beside.into_iter().flatten() {
                log.put(task, rest.key(ino), &rest.encode())?;
            }
        }
    }
    Ok(())
}

/// The logged ranges of one kind that overlap a range, whole.
fn overlapping(
    task: &Task,
    log: LogTree<'_>,
    ino: Ino,
    kind: Kind,
    range: Blocks,
) -> Result<SmallVec<[LogRange; 4]>> {
    let mut found: SmallVec<[LogRange; 4]> = SmallVec::new();
    let mut is_damaged = false;
    let start = LogRange::key_of(ino, kind, range.start);
    let mut take = |key: Key, value: &[u8]| match LogRange::decode(key, value) {
        Ok(item) => {
            found.push(item);
            ControlFlow::Continue(())
        }
        Err(_) => {
            is_damaged = true;
            ControlFlow::Break(())
        }
    };
    let before = log.trees.floor(task, log.group, start)?;
    let is_ours = |key: Key| (key.object, key.kind) == (ino.0, kind) && key != start;
    if let Some((key, value)) = before.filter(|(key, _)| is_ours(*key)) {
        let _flow = take(key, &value);
    }
    let end = LogRange::key_of(ino, kind, range.end);
    log.trees.range(task, log.group, start, end, take)?;
    if is_damaged {
        return Err(Error::Bug("the log tree in memory is damaged"));
    }
    found.retain(|item| item.end() > range.start);
    Ok(found)
}

/// The checksums of a range in flight, or a part of it, which its ordered extent has (P1).
fn log_digests(
    task: &Task,
    fs: &Fs,
    ordered: &OrderedExtent,
    log: LogTree<'_>,
    range: &LogRange,
) -> Result<()> {
    if !fs.defects().has(Defect::AsyncCsumNotInLog) {
        fs.wait_digests(task, ordered)?;
    }
    let blocks = range.extent().map(|extent| extent.run()).unwrap_or_else(|| ordered.run());
    let digests = ordered.digests.borrow().clone();
    for (block, digest) in (ordered.block..).zip(&digests) {
        if (blocks.block..blocks.end()).contains(&block) {
            log.put(task, log_csum_key(ordered.inode.ino, block), digest)?;
        }
    }
    Ok(())
}

/// Copies the checksums of a written range from the CSUM tree, where completion put them (CW.2).
/// False if the range was replaced.
fn copy_csums(
    task: &Task,
    fs: &Fs,
    inode: &Inode,
    log: LogTree<'_>,
    range: &LogRange,
) -> Result<bool> {
    let Held::Written { block } = range.held else { return Ok(true) };
    let mut csums: SmallVec<[(u64, [u8; 32]); 8]> = SmallVec::new();
    let end = block + range.len_blocks;
    fs.store().range(task, Tree::Csum, csum_key(block), csum_key(end), |key, value| {
        csums.extend(<[u8; 32]>::try_from(value).ok().map(|digest| (key.object, digest)));
        ControlFlow::Continue(())
    })?;
    if csums.len() as u64 != range.len_blocks && !logs_pending(fs) {
        if fs.is_replaced(inode, range) {
            return Ok(false);
        }
        if !fs.syncs_beside_writers() {
            let (structure, what) = ("checksum tree", "a written block has no checksum");
            return Err(Error::Corrupt { structure, block, what });
        }
    }
    for (block, digest) in csums {
        log.put(task, log_csum_key(inode.ino, block), &digest)?;
    }
    Ok(true)
}

/// Logs the names that the last commit does not have.
fn log_names(task: &Task, inode: &Inode, log: LogTree<'_>, names: &[(Ino, Name)]) -> Result<()> {
    let mut at = 0;
    while let Some((directory, _)) = names.get(at) {
        let mut item = LogNames::default();
        for (_, name) in names.iter().filter(|(other, _)| other == directory) {
            item.names.push(name.clone());
        }
        log.put(task, LogNames::key(inode.ino, *directory), &item.encode())?;
        at += names[at..].iter().take_while(|(other, _)| other == directory).count();
    }
    Ok(())
}
