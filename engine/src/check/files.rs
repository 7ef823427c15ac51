//! The FS tree as files: inodes, names, extents, orphans, each against the others.
//!
//! Promises: sees every item once; tells which blocks hold data, and which of them need checksums.
//! It must never know the space map.

use super::report::{CheckReport, ProblemKind};
use crate::store::items::{
    DirItem, ExtentItem, ExtentKind, FileKind, InodeItem, OrphanItem, name_hash,
};
use crate::store::key::{Key, Kind};
use crate::types::{BLOCK_BYTES, Ino, Run};
use rustc_hash::FxHashMap;

/// An inode as found.
struct Found {
    ino: u64,
    item: InodeItem,
    block: u64,
}

/// A name as found.
struct Name {
    directory: u64,
    ino: u64,
    kind: FileKind,
    block: u64,
}

/// Collects the FS tree, item by item, in the order of keys.
#[derive(Default)]
pub(super) struct Files {
    inodes: Vec<Found>,
    names: Vec<Name>,
    orphans: Vec<(u64, OrphanItem, u64)>,
    /// Where the last extent ended: inode and byte offset.
    covered: (u64, u64),
    /// Blocks of device 0.
    blocks: u64,
    /// Data of files, once for each reference.
    pub(super) data: Vec<Run>,
    /// Data that needs checksums, once for each reference.
    pub(super) summed: Vec<Run>,
}

impl Files {
    pub(super) fn new(blocks: u64) -> Files {
        Files { blocks, ..Files::default() }
    }

    /// Takes the next item.
    pub(super) fn item(&mut self, report: &mut CheckReport, key: Key, value: &[u8], block: u64) {
        let result = match key.kind {
            Kind::INODE => {
                InodeItem::decode(value).map(|item| self.inode(report, key, item, block))
            }
            Kind::DIR_ENTRY => {
                DirItem::decode(value).map(|item| self.directory(report, key, &item, block))
            }
            Kind::EXTENT => {
                ExtentItem::decode(value).map(|item| self.extent(report, key, item, block))
            }
            Kind::ORPHAN => OrphanItem::decode(value).map(|item| {
                self.orphans.push((key.offset, item, block));
            }),
            Kind::PARENT | Kind::XATTR | Kind::SYMLINK => Ok(()),
            _ => {
                let message = format!("{key:?} does not belong into the FS tree");
                return report.add(ProblemKind::ItemMisplaced, block, message);
            }
        };
        if let Err(what) = result {
            report.add(ProblemKind::ItemDamaged, block, format!("{key:?}: {what}"));
        }
    }

    fn inode(&mut self, report: &mut CheckReport, key: Key, item: InodeItem, block: u64) {
        if key.offset != 0 || key.object == 0 {
            let message = format!("{key:?} is the key of no inode");
            report.add(ProblemKind::ItemMisplaced, block, message);
        }
        self.inodes.push(Found { ino: key.object, item, block });
    }

    fn directory(&mut self, report: &mut CheckReport, key: Key, item: &DirItem, block: u64) {
        for (index, entry) in item.entries.iter().enumerate() {
            let is_first = item.entries[..index].iter().all(|other| other.name != entry.name);
            if name_hash(&entry.name) != key.offset || !is_first {
                let name = String::from_utf8_lossy(&entry.name);
                let message = format!("the name {name:?} in {} is misplaced", key.object);
                report.add(ProblemKind::NameMisplaced, block, message);
            }
            let (ino, kind) = (entry.ino.0, entry.kind);
            self.names.push(Name { directory: key.object, ino, kind, block });
        }
    }

    fn extent(&mut self, report: &mut CheckReport, key: Key, item: ExtentItem, block: u64) {
        let (ino, run) = (key.object, Run::new(item.block, item.len_blocks));
        if !key.offset.is_multiple_of(BLOCK_BYTES) {
            let message = format!("an extent of {ino} starts at byte {}", key.offset);
            report.add(ProblemKind::ExtentUnaligned, block, message);
        }
        if self.covered.0 == ino && key.offset < self.covered.1 {
            let message = format!("extents of {ino} overlap at byte {}", key.offset);
            report.add(ProblemKind::ExtentOverlap, block, message);
        }
        let len_bytes = item.len_blocks.saturating_mul(BLOCK_BYTES);
        self.covered = (ino, key.offset.saturating_add(len_bytes));
        if run.end() > self.blocks {
            let message = format!("an extent of {ino} has the blocks {run}");
            return report.add(ProblemKind::ExtentBeyondDevice, block, message);
        }
        self.data.push(run);
        // Items of an inode stand right before its extents.
        let owner = self.inodes.last().filter(|found| found.ino == ino).map(|found| found.item);
        match owner {
            Some(owner) if FileKind::of_mode(owner.mode) == Some(FileKind::Regular) => {
                let is_written = item.kind == ExtentKind::Written;
                if is_written && !owner.has(InodeItem::NODATASUM) {
                    self.summed.push(run);
                }
            }
            _ => {
                let message = format!("an extent belongs to {ino}, which is no regular file");
                report.add(ProblemKind::ExtentWithoutInode, block, message);
            }
        }
    }

    /// Compares inodes, names and orphans once all items are there.
    pub(super) fn finish(&self, report: &mut CheckReport, next_ino: u64) {
        report.inodes = self.inodes.len() as u64;
        let links = self.links(report);
        self.check_orphans(report, &links);
        for found in &self.inodes {
            let named = links.get(&found.ino).copied().unwrap_or(0);
            if found.ino >= next_ino {
                let message = format!("inode {} is not below {next_ino}", found.ino);
                report.add(ProblemKind::InodeNumber, found.block, message);
            }
            if found.ino == Ino::ROOT.0 {
                if FileKind::of_mode(found.item.mode) != Some(FileKind::Directory) {
                    let message = "the root is no directory";
                    report.add(ProblemKind::DirectoryMissing, found.block, message);
                }
                continue;
            }
            if named == 0 && !self.is_doomed(found.ino) {
                let message = format!("inode {} has no name", found.ino);
                report.add(ProblemKind::InodeLost, found.block, message);
            } else if found.item.nlink != named {
                let nlink = found.item.nlink;
                let message = format!("inode {} has {named} names and says {nlink}", found.ino);
                report.add(ProblemKind::InodeLinks, found.block, message);
            }
        }
        if self.find(Ino::ROOT.0).is_none() {
            report.add(ProblemKind::DirectoryMissing, None, "there is no root directory");
        }
    }

    /// The number of names of each inode; names are compared with their inodes on the way.
    fn links(&self, report: &mut CheckReport) -> FxHashMap<u64, u32> {
        let mut links = FxHashMap::default();
        for name in &self.names {
            *links.entry(name.ino).or_insert(0) += 1;
            let (ino, directory) = (name.ino, name.directory);
            match self.find(ino).map(|found| FileKind::of_mode(found.item.mode)) {
                None => {
                    let message = format!("a name in {directory} leads to inode {ino}");
                    report.add(ProblemKind::NameDangling, name.block, message);
                }
                Some(kind) if kind != Some(name.kind) => {
                    let message =
                        format!("a name in {directory} says that {ino} is {:?}", name.kind);
                    report.add(ProblemKind::NameKind, name.block, message);
                }
                Some(_) => {}
            }
            let parent = self.find(directory).map(|found| FileKind::of_mode(found.item.mode));
            if parent != Some(Some(FileKind::Directory)) {
                let message = format!("a name is filed under {directory}");
                report.add(ProblemKind::DirectoryMissing, name.block, message);
            }
        }
        links
    }

    fn check_orphans(&self, report: &mut CheckReport, links: &FxHashMap<u64, u32>) {
        for &(ino, orphan, block) in &self.orphans {
            let message = format!("an orphan record of inode {ino}: {orphan:?}");
            report.add(ProblemKind::OrphanLeft, block, message);
            if self.find(ino).is_none() {
                let message = format!("an orphan record leads to inode {ino}");
                report.add(ProblemKind::OrphanDangling, block, message);
            }
            if orphan == OrphanItem::Delete && links.contains_key(&ino) {
                let message = format!("inode {ino} is to be deleted and has a name");
                report.add(ProblemKind::OrphanNamed, block, message);
            }
        }
    }

    fn is_doomed(&self, ino: u64) -> bool {
        self.orphans.iter().any(|&(orphan, item, _)| orphan == ino && item == OrphanItem::Delete)
    }

    /// Inodes come in the order of their numbers.
    fn find(&self, ino: u64) -> Option<&Found> {
        let index = self.inodes.binary_search_by_key(&ino, |found| found.ino).ok()?;
        self.inodes.get(index)
    }
}
