//! Replay: what fsync made durable since the last commit becomes part of the trees (B-5, B-6).
//!
//! One transaction contains the whole log, and its commit clears the log root, so a crash before
//! the commit finds log and trees as they were and repeats the same replay.
//!
//! Order matters. First all blocks of the log, and all blocks that its ranges name, are kept from
//! being handed out: the trees that replay writes must not be put on them. Then every range takes
//! its references, and only then do the ranges that it replaces lose theirs: a block that moved
//! from one file to another never passes through zero references, and keeps its checksum.
//!
//! Promises: after replay the trees say of each logged inode what its fsync promised. It must never
//! know pages or the inode cache: nothing is in memory yet.

use super::items::{Held, LogRange};
use super::read::{LogReader, LoggedInode};
use super::sites::{REPLAY_CLAIM, REPLAY_COMMIT, REPLAY_INODE, REPLAY_READ};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::inode::span::Blocks;
use crate::store::items::{Damage, DirEntry, DirItem, FileKind, InodeItem, OrphanItem, csum_key};
use crate::store::key::{Key, Tree};
use crate::store::{ExtentItem, Handle, Join};
use crate::types::{BLOCK_BYTES, Ino, Run};
use machine::{Access, Object, Task};
use std::ops::ControlFlow;

/// Replays the log if there is one, before anything else is done with the file system.
///
/// # Errors
/// `Corrupt` if the log is damaged; `NoSpace`; those of the trees and of the commit.
pub(crate) fn replay(task: &Task, fs: &Fs) -> Result<()> {
    if !fs.store().has_log() {
        return Ok(());
    }
    task.site(&REPLAY_READ, Object::default(), Access::Read)?;
    fs.store().pin_log(task)?; // B-5: its blocks, and those that it names, before any allocation
    let inodes = fs.read_log(task)?;
    let handle = fs.store().join(task, Join::User)?; // B-6: one transaction
    handle.set_freeing();
    fs.claim_ranges(task, &handle, &inodes)?;
    for inode in &inodes {
        fs.replay_inode(task, &handle, inode)?;
    }
    drop(handle);
    task.site(&REPLAY_COMMIT, Object::default(), Access::Write)?;
    fs.store().commit(task)?; // B-6: its superblock has no log root
    assert!(!fs.store().has_log(), "B-6: a replayed log is gone");
    Ok(())
}

impl Fs {
    fn read_log(&self, task: &Task) -> Result<Vec<LoggedInode>> {
        let mut reader = LogReader::default();
        let logs = self.store().log();
        for group in 0..logs.groups() {
            let mut damage = None;
            logs.range(task, group, Key::MIN, Key::MAX, |key, value| {
                match reader.item(key, value) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(what) => {
                        damage = Some((key, what));
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some((key, what)) = damage {
                return Err(logs.corrupt_item(task, group, key, what));
            }
        }
        reader.finish().map_err(|what| self.damaged_log(what))
    }

    /// The error that what the log says contradicts itself or the trees.
    fn damaged_log(&self, what: Damage) -> Error {
        let root = self.store().superblock().log;
        Error::Corrupt { structure: "log", block: root.map_or(0, |log| log.ptr.block), what }
    }

    /// Gives every range that has blocks a reference to each of them.
    fn claim_ranges(&self, task: &Task, handle: &Handle, inodes: &[LoggedInode]) -> Result<()> {
        for inode in inodes {
            let object = Object::new(kind::INODE, inode.ino, 0);
            task.site(&REPLAY_CLAIM, object, Access::Write)?;
            for run in inode.ranges.iter().filter_map(run_of) {
                self.claim_run(task, handle, run)?;
            }
        }
        Ok(())
    }

    /// One more reference to each block of a run, the first one where nobody has the block.
    fn claim_run(&self, task: &Task, handle: &Handle, run: Run) -> Result<()> {
        let mut start = run.block;
        while start < run.end() {
            let is_shared = self.store().is_allocated(task, start)?;
            let mut end = start + 1;
            while end < run.end() && self.store().is_allocated(task, end)? == is_shared {
                end += 1;
            }
            let part = Run::new(start, end - start);
            if is_shared {
                self.store().share_data(task, handle, part)?;
            } else {
                let claimed = self.store().claim_data(task, handle, part)?;
                assert_eq!(claimed, part.len_blocks, "nobody has these blocks");
            }
            start = end;
        }
        Ok(())
    }

    fn replay_inode(&self, task: &Task, handle: &Handle, logged: &LoggedInode) -> Result<()> {
        let ino = Ino(logged.ino);
        task.site(&REPLAY_INODE, Object::new(kind::INODE, ino.0, 1), Access::Write)?;
        let item =
            logged.item.ok_or(Error::Bug("the log reader lets no inode without item pass"))?;
        for range in &logged.ranges {
            let blocks = Blocks::new(range.index, range.end());
            if self.defects().has(Defect::LogReplayDropsCsums) {
                self.drop_csums(task, handle, ino, blocks)?;
            }
            self.drop_items(task, handle, ino, blocks, true)?;
            if let Some(extent) = range.extent() {
                let key = ExtentItem::key(ino, range.index * BLOCK_BYTES);
                self.store().put(task, handle, Tree::Fs, key, &extent.encode())?;
            }
        }
        if !item.has(InodeItem::NODATASUM) {
            for range in &logged.ranges {
                self.replay_csums(task, handle, logged, range)?;
            }
        }
        for (directory, names) in &logged.names {
            for name in &names.names {
                self.replay_name(task, handle, *directory, ino, &item, name)?;
            }
        }
        self.store().put(task, handle, Tree::Fs, InodeItem::key(ino), &item.encode())?;
        self.store().raise_next_ino(handle, ino);
        // A truncate that the commit cut short was over before fsync logged the inode.
        self.store().delete(task, handle, Tree::Fs, OrphanItem::key(ino))?;
        Ok(())
    }

    /// Deletes the checksums of all blocks that a range of the file has, whoever else has them.
    fn drop_csums(&self, task: &Task, handle: &Handle, ino: Ino, blocks: Blocks) -> Result<()> {
        let mut runs = Vec::new();
        let from = ExtentItem::key(ino, 0);
        let to = ExtentItem::key(ino, blocks.end * BLOCK_BYTES);
        self.store().range(task, Tree::Fs, from, to, |key, value| {
            let extent = ExtentItem::decode(value).ok();
            let end = |it: &ExtentItem| key.offset / BLOCK_BYTES + it.len_blocks;
            runs.extend(extent.filter(|it| end(it) > blocks.start));
            ControlFlow::Continue(())
        })?;
        for ExtentItem { block, len_blocks, .. } in runs {
            let (from, to) = (csum_key(block), csum_key(block + len_blocks));
            self.store().delete_range(task, handle, Tree::Csum, from, to)?;
        }
        Ok(())
    }

    /// Puts the checksums of a range's blocks into the CSUM tree.
    fn replay_csums(
        &self,
        task: &Task,
        handle: &Handle,
        logged: &LoggedInode,
        range: &LogRange,
    ) -> Result<()> {
        let Held::Written { block } = range.held else { return Ok(()) };
        for block in block..block + range.len_blocks {
            let Some(digest) = logged.csums.get(&block) else {
                return Err(self.damaged_log("a written block without a checksum"));
            };
            self.store().put(task, handle, Tree::Csum, csum_key(block), digest)?;
        }
        Ok(())
    }

    /// Brings a name back, unless it is there.
    fn replay_name(
        &self,
        task: &Task,
        handle: &Handle,
        directory: Ino,
        ino: Ino,
        item: &InodeItem,
        name: &[u8],
    ) -> Result<()> {
        let key = DirItem::key(directory, name);
        let damaged = |what| self.damaged_log(what);
        let mut entries = match self.store().lookup(task, Tree::Fs, key)? {
            Some(value) => DirItem::decode(&value).map_err(|what| {
                self.store().corrupt_item(task, Tree::Fs, key, "directory item", what)
            })?,
            None => DirItem::default(),
        };
        match entries.find(name) {
            Some(entry) if entry.ino == ino => return Ok(()),
            // B-7: an inode that takes another's name is never logged, fsync commits instead.
            Some(_) => return Err(damaged("a name that belongs to another inode")),
            None => {}
        }
        if !entries.has_room_for(name) {
            return Err(damaged("too many names of one hash"));
        }
        let kind = FileKind::of_mode(item.mode).ok_or(damaged("an inode of an unknown kind"))?;
        let name = name.iter().copied().collect();
        entries.entries.push(DirEntry { ino, kind, name });
        self.store().put(task, handle, Tree::Fs, key, &entries.encode())
    }
}

/// The blocks of the device that a range names.
fn run_of(range: &LogRange) -> Option<Run> {
    range.extent().map(|extent| Run::new(extent.block, extent.len_blocks))
}
