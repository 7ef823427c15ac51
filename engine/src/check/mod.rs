//! The full check of an image: reads everything and reports every inconsistency.
//!
//! Verified: superblock copies, every node of every tree, the space map against what is reachable,
//! reference counts, checksums against data, extents, inodes against names, orphans, the log.
//!
//! Not verified, because: extents beyond the end of a file may be left by a crash and hold
//! nothing that a reader sees; times mean nothing to the engine.
//!
//! Promises: arbitrary damage gives problems, never a panic or a hang; memory and time are
//! proportional to what is used. It must never change anything, nor know anything in memory.

mod csums;
mod files;
mod image;
mod logs;
mod nodes;
mod report;
mod usage;

use crate::error::{Error, Result};
use crate::options::AllocPolicy;
use crate::store::items::RefsItem;
use crate::store::key::{Key, Kind, Tree};
use crate::store::mount::check_devices;
use crate::store::nodes::node::Capacity;
use crate::store::region;
use crate::store::space::{FIRST_BLOCK, Space};
use crate::store::superblock::Superblock;
use crate::types::Run;
use csums::Checksums;
use files::Files;
use image::{Claim, User};
use machine::Task;
use nodes::TreeWalk;

pub(crate) use image::Image;
pub use report::{CheckReport, PROBLEMS_MAX, Problem, ProblemKind};

/// Checks everything on the medium: the state that a mount finds now. Changes in memory are not
/// seen, so a mounted file system shall have committed.
///
/// # Errors
/// `Corrupt` if no superblock is readable, or the devices are not as large as it says; `Stopped`.
pub fn check(task: &Task) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let mut image = Image::new(task.machine());
    let superblock = superblock(&mut image, &mut report)?;
    check_devices(task.machine(), &superblock)?;
    let mut checker = Checker { image, report, superblock };
    checker.bare_nodes();
    checker.files();
    let records = checker.refs();
    checker.logs();
    checker.space(task, &records)?;
    Ok(checker.report)
}

struct Checker<'a> {
    image: Image<'a>,
    report: CheckReport,
    superblock: Superblock,
}

/// The newest superblock; both copies are looked at.
fn superblock(image: &mut Image<'_>, report: &mut CheckReport) -> Result<Superblock> {
    let (structure, what) = ("superblock", "the device is too small for an image");
    let too_small = Error::Corrupt { structure, block: 0, what };
    let copies = [image.read(0, 0), image.read(0, 1)];
    let [Some(first), Some(second)] = copies else { return Err(too_small) };
    let copies = [first, second];
    let newest = Superblock::newest(&copies)?;
    for (slot, copy) in copies.iter().enumerate() {
        if let Err(what) = Superblock::decode(copy.bytes()) {
            let is_super = Superblock::is_marked(copy);
            let what = if is_super { what } else { "something else stands there" };
            let message = format!("copy {slot} of the superblock: {what}");
            report.add(ProblemKind::SuperDamaged, slot as u64, message);
        }
    }
    let run = Run::new(0, FIRST_BLOCK + u64::from(newest.image.buffers));
    image.claims.push(Claim { run, user: User::Metadata });
    Ok(newest)
}

impl Checker<'_> {
    fn walk(&mut self, tree: Tree, visit: &mut nodes::Visit<'_>) {
        let index = Tree::COMMITTED.iter().position(|other| *other == tree);
        let root = self.superblock.roots[index.expect("a committed tree")];
        let capacity = Capacity::new(self.superblock.image.leaf);
        let (image, report) = (&mut self.image, &mut self.report);
        TreeWalk { image, report, tree, device: 0, capacity }.walk(&root, visit);
    }

    /// Bare nodes: each half is some version.
    fn bare_nodes(&mut self) {
        for node in 0..self.superblock.image.buffers {
            let block = region::block_of(node);
            let Some(content) = self.image.read(0, block) else { continue };
            if let Err(error) = region::decode(node, &content) {
                self.report.add(ProblemKind::BareNodeDamaged, block, error.to_string());
            }
        }
    }

    /// The FS tree, and the checksums of what it says is written.
    fn files(&mut self) {
        let mut files = Files::new(self.superblock.image.blocks);
        self.walk(Tree::Fs, &mut |report, key, value, block| files.item(report, key, value, block));
        files.finish(&mut self.report, self.superblock.next_ino);
        let mut sums = Checksums::new(usage::union(std::mem::take(&mut files.summed)));
        self.walk(Tree::Csum, &mut |report, key, value, block| {
            sums.item(report, key, value, block)
        });
        sums.finish(&mut self.report, &self.image);
        let data = files.data.iter().map(|&run| Claim { run, user: User::Data });
        self.image.claims.extend(data);
    }

    /// The records of shared blocks.
    fn refs(&mut self) -> Vec<(Run, u32)> {
        let mut records: Vec<(Run, u32)> = Vec::new();
        self.walk(Tree::Refs, &mut |report, key, value, block| {
            refs_item(report, &mut records, key, value, block);
        });
        records
    }

    /// What is left of a log.
    fn logs(&mut self) {
        let Some(root) = self.superblock.log else { return };
        let message = "a log was not replayed";
        self.report.add(ProblemKind::LogLeft, root.ptr.block, message);
        logs::walk(&mut self.image, &mut self.report, &self.superblock, root);
    }

    /// Everything that uses blocks against the free-space map and the records of shared blocks.
    fn space(&mut self, task: &Task, records: &[(Run, u32)]) -> Result<()> {
        let Superblock { space: root, free_blocks, .. } = self.superblock;
        let blocks = self.superblock.image.blocks;
        let space = Space::open(task.machine(), blocks, root, free_blocks, AllocPolicy::Lowest);
        let claims = &mut self.image.claims;
        let walked = space.walk_own(task, &mut |block| {
            claims.push(Claim { run: Run::new(block, 1), user: User::Metadata });
        });
        let segments = usage::segments(&self.image.claims);
        usage::check_single_use(&mut self.report, &segments);
        usage::check_refs(&mut self.report, records, &segments);
        match walked {
            Ok(allocated) if allocated + free_blocks != blocks => {
                let message =
                    format!("{allocated} blocks are marked used, {free_blocks} counted free");
                self.report.add(ProblemKind::SpaceUnreadable, root.block, message);
            }
            Ok(_) => {}
            Err(Error::Corrupt { structure, block, what }) => {
                let message = format!("the {structure}: {what}");
                self.report.add(ProblemKind::SpaceUnreadable, block, message);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let mut marked = Vec::new();
        space.allocated_runs(&mut |run| marked.push(run));
        self.report.used_blocks = marked.iter().map(|run| run.len_blocks).sum();
        usage::check_marks(&mut self.report, &marked, &segments);
        Ok(())
    }
}

fn refs_item(
    report: &mut CheckReport,
    records: &mut Vec<(Run, u32)>,
    key: Key,
    value: &[u8],
    block: u64,
) {
    if key.kind != Kind::REFS || key.offset != 0 {
        let message = format!("{key:?} does not belong into the tree of references");
        return report.add(ProblemKind::ItemMisplaced, block, message);
    }
    match RefsItem::decode(value) {
        Ok(item) => {
            let run = Run::new(key.object, item.len_blocks);
            if key.object.checked_add(item.len_blocks).is_none() {
                let message = format!("references to {run}");
                return report.add(ProblemKind::ItemDamaged, block, message);
            }
            if records.last().is_some_and(|(last, _)| last.end() > run.block) {
                let message = format!("the references to {run} overlap those before");
                return report.add(ProblemKind::RefsWrong, run.block, message);
            }
            records.push((run, item.count));
        }
        Err(what) => report.add(ProblemKind::ItemDamaged, block, format!("{key:?}: {what}")),
    }
}
