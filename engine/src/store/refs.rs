//! Reference counts of data blocks: how many file extents hold each.
//!
//! The REFS tree has a record for each run with two or more references; an allocated data block
//! without a record has one. Records do not overlap; neighbours with equal counts are one record.
//!
//! Promises: the record of a block says exactly how many extents hold it. It must never know which.

use super::Handle;
use super::items::{Damage, RefsItem};
use super::key::{Key, Kind};
use super::tree::edit::{Edit, Put};
use crate::error::{Error, Result};
use crate::types::Run;
use machine::Task;
use smallvec::SmallVec;

/// A record: a run and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) run: Run,
    pub(crate) count: u32,
}

/// The greatest count.
const COUNT_MAX: u32 = u32::MAX;

/// One more reference to each block of `run`.
pub(super) fn increase(task: &Task, tree: &Edit<'_>, handle: &Handle, run: Run) -> Result<()> {
    let pieces = pieces(task, tree, run)?;
    if pieces.iter().any(|piece| piece.count == COUNT_MAX) {
        return Err(crate::error::Errno::EMLINK.into());
    }
    for piece in pieces {
        set(task, tree, handle, piece.run, piece.count + 1)?;
    }
    Ok(())
}

/// What became of the blocks that lost a reference.
#[derive(Debug, Default)]
pub(super) struct Decreased {
    /// Runs without a reference.
    pub(super) freed: SmallVec<[Run; 2]>,
    /// Runs that somebody else still has.
    pub(super) kept: SmallVec<[Run; 2]>,
}

/// One reference less to each block of `run`.
pub(super) fn decrease(
    task: &Task,
    tree: &Edit<'_>,
    handle: &Handle,
    run: Run,
) -> Result<Decreased> {
    let mut decreased = Decreased::default();
    for piece in pieces(task, tree, run)? {
        if piece.count == 1 {
            decreased.freed.push(piece.run);
        } else {
            set(task, tree, handle, piece.run, piece.count - 1)?;
            decreased.kept.push(piece.run);
        }
    }
    Ok(decreased)
}

/// `run` cut into pieces of equal counts.
pub(super) fn pieces(task: &Task, tree: &Edit<'_>, run: Run) -> Result<SmallVec<[Record; 2]>> {
    let mut pieces = SmallVec::new();
    let mut at = run.block;
    while at < run.end() {
        let (count, end) = match covering(task, tree, at)? {
            Some(record) => (record.count, record.run.end()),
            None => {
                let next = tree.first(task, RefsItem::key(at), RefsItem::key(run.end()))?;
                (1, next.map_or(run.end(), |(key, _)| key.object))
            }
        };
        let end = end.min(run.end());
        if end <= at {
            // A record at `at` that does not cover it: only damage makes one.
            return Err(corrupt(task, tree, RefsItem::key(at), "a record without blocks"));
        }
        pieces.push(Record { run: Run::new(at, end - at), count });
        at = end;
    }
    Ok(pieces)
}

/// The record that `block` is in.
fn covering(task: &Task, tree: &Edit<'_>, block: u64) -> Result<Option<Record>> {
    let Some((key, value)) = tree.floor(task, RefsItem::key(block))? else { return Ok(None) };
    let record = decode(key, &value, tree.data_blocks());
    let record = record.map_err(|what| corrupt(task, tree, key, what))?;
    Ok(record.run.contains(block).then_some(record))
}

/// Reads a record of a device of so many blocks.
fn decode(key: Key, value: &[u8], blocks: u64) -> Result<Record, Damage> {
    if key.kind != Kind::REFS || key.offset != 0 {
        return Err("a key of another kind");
    }
    let item = RefsItem::decode(value)?;
    let run = Run::new(key.object, item.len_blocks);
    if run.end() > blocks {
        return Err("a run that ends beyond the device");
    }
    Ok(Record { run, count: item.count })
}

fn corrupt(task: &Task, tree: &Edit<'_>, key: Key, what: Damage) -> Error {
    tree.corrupt(task, key, "reference record", what)
}

/// Gives `run`, which lies within one record or within none, a count.
fn set(task: &Task, tree: &Edit<'_>, handle: &Handle, run: Run, count: u32) -> Result<()> {
    // Cut the record that it lies in.
    if let Some(record) = covering(task, tree, run.block)? {
        let before = run.block - record.run.block;
        // Records of a damaged image may overlap; then the run may end after the record.
        let after = record.run.end().saturating_sub(run.end());
        put(task, tree, handle, Run::new(record.run.block, before), record.count)?;
        put(task, tree, handle, Run::new(run.end(), after), record.count)?;
        if before == 0 {
            remove(task, tree, handle, run.block)?;
        }
    }
    if count < 2 {
        return Ok(());
    }
    // Join neighbours of the same count.
    let mut joined = run;
    let before = run.block.saturating_sub(1);
    if let Some(left) = covering(task, tree, before)?.filter(|left| left.count == count) {
        joined = Run::new(left.run.block, left.run.len_blocks + joined.len_blocks);
    }
    if let Some(right) = covering(task, tree, run.end())?.filter(|right| right.count == count) {
        remove(task, tree, handle, right.run.block)?;
        joined.len_blocks += right.run.len_blocks;
    }
    put(task, tree, handle, joined, count)
}

fn put(task: &Task, tree: &Edit<'_>, handle: &Handle, run: Run, count: u32) -> Result<()> {
    if run.is_empty() {
        return Ok(());
    }
    let item = RefsItem { len_blocks: run.len_blocks, count };
    tree.put(task, &handle.claim(), RefsItem::key(run.block), &item.encode(), Put::Any)
}

fn remove(task: &Task, tree: &Edit<'_>, handle: &Handle, block: u64) -> Result<()> {
    let was_there = tree.delete(task, &handle.claim(), RefsItem::key(block))?;
    debug_assert!(was_there, "a record just seen under the same lock");
    Ok(())
}
