//! A readable dump of an image: superblocks, trees, free space, log.
//!
//! Promises: every line says where it comes from; damage is a line, too, and the rest follows. Each
//! block is shown once, so an image that points in circles ends. It must never change anything.

use crate::check::Image;
use crate::error::{Error, Result};
use crate::log::items::{LOG_HOLE, LogNames, LogRange};
use crate::options::AllocPolicy;
use crate::store::items::{DirItem, ExtentItem, InodeItem, OrphanItem, RefsItem};
use crate::store::key::{BlockPtr, Key, Kind, Root, Tree};
use crate::store::log::decode_root;
use crate::store::mount::check_devices;
use crate::store::nodes::node::{Body, Node};
use crate::store::space::Space;
use crate::store::superblock::Superblock;
use crate::types::BLOCK_BYTES;
use machine::Task;
use std::fmt;

/// A part of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Both copies of the superblock.
    Supers,
    /// FS, CSUM and REFS trees, node by node.
    Trees,
    /// The blocks in use.
    Space,
    /// The log, if there is one.
    Log,
}

impl Section {
    /// Every part, in the order of a whole dump.
    pub const ALL: [Section; 4] = [Section::Supers, Section::Trees, Section::Space, Section::Log];

    /// The name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Section::Supers => "supers",
            Section::Trees => "trees",
            Section::Space => "space",
            Section::Log => "log",
        }
    }
}

/// Gives the lines of these parts of what is on the medium now to `line`; how many of them speak of
/// damage.
///
/// # Errors
/// `Corrupt` if no superblock is valid and more than those was asked for; `Stopped`.
pub fn dump(task: &Task, sections: &[Section], line: &mut dyn FnMut(String)) -> Result<u64> {
    let mut dump = Dump { image: Image::new(task.machine()), line, damaged: 0 };
    let copies: Vec<_> = (0..2).filter_map(|slot| dump.image.read(0, slot)).collect();
    if sections.contains(&Section::Supers) {
        for (slot, copy) in copies.iter().enumerate() {
            match Superblock::decode(copy.bytes()) {
                Ok(superblock) => dump.superblock(slot, &superblock),
                Err(what) => dump.complain(0, format_args!("super {slot}: damaged: {what}")),
            }
        }
    }
    if sections.iter().all(|section| *section == Section::Supers) {
        return Ok(dump.damaged);
    }
    let superblock = Superblock::newest(&copies)?;
    if let Err(error) = check_devices(task.machine(), &superblock) {
        dump.complain(0, format_args!("{error}"));
    }
    if sections.contains(&Section::Trees) {
        for (tree, root) in Tree::COMMITTED.into_iter().zip(&superblock.roots) {
            dump.tree(tree, 0, root);
        }
    }
    if sections.contains(&Section::Space) {
        dump.space(task, &superblock)?;
    }
    if sections.contains(&Section::Log) {
        dump.log(&superblock);
    }
    Ok(dump.damaged)
}

struct Dump<'a> {
    image: Image<'a>,
    line: &'a mut dyn FnMut(String),
    /// Lines that speak of damage.
    damaged: u64,
}

impl Dump<'_> {
    fn complain(&mut self, depth: usize, text: fmt::Arguments<'_>) {
        self.damaged += 1;
        self.say(depth, text);
    }

    fn say(&mut self, depth: usize, text: fmt::Arguments<'_>) {
        (self.line)(format!("{:1$}{text}", "", depth * 2));
    }

    fn superblock(&mut self, slot: usize, it: &Superblock) {
        let Superblock { sequence, generation, free_blocks, next_ino, .. } = it;
        self.say(0, format_args!("super {slot}: sequence {sequence}, generation {generation}"));
        let image = &it.image;
        let (leaf, trees) = (image.leaf, image.log_trees);
        let flag = |is_on: bool| if is_on { "on" } else { "off" };
        let [datasum, datacow, logdev] = [image.datasum, image.datacow, image.logdev].map(flag);
        self.say(
            1,
            format_args!(
                "blocks {}, datasum {datasum}, datacow {datacow}, leaf {leaf}, logdev {logdev}, \
                 log_trees {trees}",
                image.blocks
            ),
        );
        self.say(1, format_args!("free blocks {free_blocks}, next inode {next_ino}"));
        for (tree, root) in Tree::COMMITTED.into_iter().zip(&it.roots) {
            let (level, ptr) = (root.level, Pointer(&root.ptr));
            match root.is_empty() {
                true => self.say(1, format_args!("{tree:?} empty")),
                false => self.say(1, format_args!("{tree:?} level {level} at {ptr}")),
            }
        }
        self.say(1, format_args!("Space at {}", Pointer(&it.space)));
        match &it.log {
            Some(log) => {
                let (device, ptr) = (log.device, Pointer(&log.ptr));
                self.say(1, format_args!("Log on device {device} at {ptr}"));
            }
            None => self.say(1, format_args!("Log empty")),
        }
    }

    fn tree(&mut self, tree: Tree, device: u8, root: &Root) {
        if root.is_empty() {
            return self.say(0, format_args!("{tree:?}: empty"));
        }
        self.say(0, format_args!("{tree:?}:"));
        self.node(device, &root.ptr, root.level, 1);
    }

    /// A node and those below it; nothing lies below one of another level than its parent says, so
    /// no damage leads deeper than a tree is high.
    fn node(&mut self, device: u8, ptr: &BlockPtr, wanted: u8, depth: usize) {
        let block = ptr.block;
        if !self.image.visit(device, block) {
            return self.complain(depth, format_args!("node {block}: damaged: shown before"));
        }
        let Some(content) = self.image.read(device, block) else {
            let text = format_args!("node {block}: damaged: beyond device {device}");
            return self.complain(depth, text);
        };
        if content.digest() != ptr.digest {
            let text = format_args!("node {block}: damaged: not what its parent points to");
            return self.complain(depth, text);
        }
        let node = match Node::decoded(&content) {
            Ok(node) => node,
            Err(what) => {
                return self.complain(depth, format_args!("node {block}: damaged: {what}"));
            }
        };
        let (level, generation) = (node.level, node.generation);
        if level != wanted {
            let text = format_args!("node {block}: damaged: level {level}, not {wanted}");
            return self.complain(depth, text);
        }
        self.say(depth, format_args!("node {block}: level {level}, generation {generation}"));
        match &node.body {
            Body::Leaf(leaf) => {
                for (key, value) in leaf.items() {
                    match Item(key, value).text() {
                        Ok(text) => self.say(depth + 1, format_args!("{text}")),
                        Err(what) => {
                            let text = format_args!("{key:?}: damaged: {what}");
                            self.complain(depth + 1, text);
                        }
                    }
                }
            }
            Body::Interior(children) => {
                for child in children {
                    self.node(device, &child.ptr, level - 1, depth + 1);
                }
            }
        }
    }

    fn space(&mut self, task: &Task, superblock: &Superblock) -> Result<()> {
        let Superblock { space: root, free_blocks, .. } = *superblock;
        let (policy, blocks) = (AllocPolicy::Lowest, superblock.image.blocks);
        let space = Space::open(task.machine(), blocks, root, free_blocks, policy);
        match space.walk_own(task, &mut |_| {}) {
            Ok(used) => self.say(0, format_args!("Space: {used} of {blocks} blocks in use")),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => self.complain(0, format_args!("Space: {error}")),
        }
        let mut runs = Vec::new();
        space.allocated_runs(&mut |run| runs.push(run));
        for run in runs {
            self.say(1, format_args!("in use {run}"));
        }
        Ok(())
    }

    fn log(&mut self, superblock: &Superblock) {
        let Some(log) = superblock.log else { return self.say(0, format_args!("Log: empty")) };
        let groups = usize::from(superblock.image.log_trees);
        let content = self.image.read(log.device, log.ptr.block);
        let content = content.filter(|content| content.digest() == log.ptr.digest);
        let roots = content.ok_or("not what the superblock points to");
        match roots.and_then(|content| decode_root(content.bytes(), &log.ptr, groups)) {
            Ok(roots) => {
                for (group, root) in roots.iter().enumerate() {
                    self.tree(Tree::Log(group as u8), log.device, root);
                }
            }
            Err(what) => {
                let block = log.ptr.block;
                self.complain(0, format_args!("log root {block}: damaged: {what}"));
            }
        }
    }
}

/// A pointer, with the start of its digest.
struct Pointer<'a>(&'a BlockPtr);

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockPtr { block, generation, digest } = self.0;
        let [a, b, c, d, ..] = digest;
        write!(f, "{block} (generation {generation}, {a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// An item as a sentence.
struct Item<'a>(Key, &'a [u8]);

impl Item<'_> {
    fn text(&self) -> Result<String, &'static str> {
        let Item(key, value) = *self;
        let Key { object, offset, .. } = key;
        Ok(match key.kind {
            Kind::INODE => {
                let InodeItem { mode, nlink, flags, size, .. } = InodeItem::decode(value)?;
                format!("inode {object}: mode {mode:o}, links {nlink}, size {size}, flags {flags}")
            }
            Kind::DIR_ENTRY => {
                let item = DirItem::decode(value)?;
                let entry = |entry: &crate::store::items::DirEntry| {
                    format!("{:?} -> {}", String::from_utf8_lossy(&entry.name), entry.ino)
                };
                let entries: Vec<String> = item.entries.iter().map(entry).collect();
                format!("names in {object}: {}", entries.join(", "))
            }
            Kind::PARENT => {
                let item = LogNames::decode(value)?;
                let names: Vec<_> =
                    item.names.iter().map(|name| String::from_utf8_lossy(name)).collect();
                format!("names of {object} in {offset}: {}", names.join(", "))
            }
            Kind::EXTENT => {
                let ExtentItem { kind, block, len_blocks, .. } = ExtentItem::decode(value)?;
                format!("extent {object} at byte {offset}: {kind:?} {block}+{len_blocks}")
            }
            LOG_HOLE => {
                let LogRange { index, len_blocks, .. } = LogRange::decode(key, value)?;
                format!("hole {object} at byte {}: {len_blocks} blocks", index * BLOCK_BYTES)
            }
            Kind::ORPHAN => format!("orphan {offset}: {:?}", OrphanItem::decode(value)?),
            Kind::CSUM => {
                let digest: &[u8; 32] =
                    value.try_into().map_err(|_| "a checksum of a wrong length")?;
                let [a, b, c, d, ..] = digest;
                let block = if offset == 0 { object } else { offset };
                format!("checksum of block {block}: {a:02x}{b:02x}{c:02x}{d:02x}")
            }
            Kind::REFS => {
                let RefsItem { len_blocks, count } = RefsItem::decode(value)?;
                format!("references to {object}+{len_blocks}: {count}")
            }
            kind => format!("{object} kind {:#x} offset {offset}: {} bytes", kind.0, value.len()),
        })
    }
}
