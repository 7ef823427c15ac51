//! What a superblock reaches: nodes, blocks of the free-space map, the log, and data of files.
//!
//! Promises: it reads the blocks that the device shows, and nothing that is in memory, so that a
//! mistake of the engine cannot hide itself; damage ends a branch and is reported, it never panics.

use super::Broken;
use crate::log::items::{Held, LogRange};
use crate::store::items::{ExtentItem, ExtentKind, InodeItem};
use crate::store::key::{BlockPtr, Key, Kind, Root, Tree};
use crate::store::log::decode_root;
use crate::store::nodes::node::{Body, Node};
use crate::store::space::pointers;
use crate::store::superblock::Superblock;
use crate::types::Run;
use machine::disk::Disk;
use machine::{Block, DeviceId};
use rustc_hash::{FxHashMap, FxHashSet};

/// A block of data as a superblock has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    /// A file that has it.
    pub(super) ino: u64,
    /// Extents of files that have it.
    pub(super) refs: u32,
    /// Whether it holds data; otherwise it reads as zeros.
    pub(super) is_written: bool,
    /// Whether it may be overwritten where it is.
    pub(super) is_in_place: bool,
}

/// Everything that a superblock reaches.
#[derive(Default)]
pub(super) struct Reached {
    /// Nodes, the free-space map and the log, by device and block.
    pub(super) metadata: FxHashSet<(u8, u64)>,
    /// Data of files, by block.
    pub(super) data: FxHashMap<u64, Data>,
}

/// A run of data that a tree names.
struct Named {
    ino: u64,
    run: Run,
    is_written: bool,
    has_datasum: bool,
    is_in_place: bool,
    is_logged: bool,
}

/// Who judges blocks as they are reached.
pub(super) trait Judge {
    /// A block of metadata: its content is named by a digest.
    fn metadata(&mut self, device: u8, ptr: &BlockPtr, content: &Block) -> Broken;

    /// A block of written data, with its checksum if it has one.
    fn data(&mut self, block: u64, data: &Data, digest: Option<&[u8; 32]>) -> Broken;

    /// A block of written data that must have a checksum has none.
    fn unsummed(&mut self, block: u64, data: &Data) -> Broken;
}

/// Judges nothing.
struct Anything;

impl Judge for Anything {
    fn metadata(&mut self, _: u8, _: &BlockPtr, _: &Block) -> Broken {
        None
    }

    fn data(&mut self, _: u64, _: &Data, _: Option<&[u8; 32]>) -> Broken {
        None
    }

    fn unsummed(&mut self, _: u64, _: &Data) -> Broken {
        None
    }
}

struct Walk<'a> {
    disk: &'a Disk,
    judge: &'a mut dyn Judge,
    reached: Reached,
    named: Vec<Named>,
    digests: FxHashMap<u64, [u8; 32]>,
    /// The inode whose items come, and its flags.
    inode: (u64, u32),
    broken: Broken,
}

/// What a superblock reaches, whatever state it is in.
pub(super) fn reached(disk: &Disk, superblock: &Superblock) -> Reached {
    walk(disk, superblock, &mut Anything).0
}

/// What a superblock reaches, and the first thing that `judge` says.
pub(super) fn walk(
    disk: &Disk,
    superblock: &Superblock,
    judge: &mut dyn Judge,
) -> (Reached, Broken) {
    let mut walk = Walk {
        disk,
        judge,
        reached: Reached::default(),
        named: Vec::new(),
        digests: FxHashMap::default(),
        inode: (0, 0),
        broken: None,
    };
    for (root, tree) in superblock.roots.iter().zip(Tree::COMMITTED) {
        walk.root(0, root, tree);
    }
    walk.space(&superblock.space);
    if let Some(log) = superblock.log
        && let Some(content) = walk.block(log.device, &log.ptr)
        && let Ok(roots) =
            decode_root(content.bytes(), &log.ptr, usize::from(superblock.image.log_trees))
    {
        for (group, root) in roots.iter().enumerate() {
            walk.root(log.device, root, Tree::Log(group as u8));
        }
    }
    walk.data();
    (walk.reached, walk.broken)
}

impl Walk<'_> {
    fn keep(&mut self, broken: Broken) {
        self.broken = self.broken.take().or(broken);
    }

    /// The content behind a pointer, unless it is not what the pointer says, or was seen before.
    fn block(&mut self, device: u8, ptr: &BlockPtr) -> Option<Block> {
        if !self.reached.metadata.insert((device, ptr.block)) {
            return None;
        }
        let content = self.disk.read_now(DeviceId(device), ptr.block).ok()?;
        let broken = self.judge.metadata(device, ptr, &content);
        self.keep(broken);
        (content.digest() == ptr.digest).then_some(content)
    }

    fn root(&mut self, device: u8, root: &Root, tree: Tree) {
        if !root.is_empty() {
            self.node(device, &root.ptr, tree);
        }
    }

    fn node(&mut self, device: u8, ptr: &BlockPtr, tree: Tree) {
        let Some(content) = self.block(device, ptr) else { return };
        let Ok(node) = Node::decoded(&content) else { return };
        match &node.body {
            Body::Interior(children) => {
                children.iter().for_each(|child| self.node(device, &child.ptr, tree));
            }
            Body::Leaf(leaf) if tree != Tree::Refs => {
                leaf.items().for_each(|(key, value)| self.item(tree, key, value));
            }
            Body::Leaf(_) => {}
        }
    }

    fn item(&mut self, tree: Tree, key: Key, value: &[u8]) {
        let is_logged = matches!(tree, Tree::Log(_));
        match key.kind {
            Kind::INODE => {
                let flags = InodeItem::decode(value).map_or(0, |item| item.flags);
                self.inode = (key.object, flags);
            }
            Kind::EXTENT => {
                let found = match is_logged {
                    true => LogRange::decode(key, value).map(|range| match range.held {
                        Held::Written { block } => Some((block, range.len_blocks, true)),
                        Held::Unwritten { block } => Some((block, range.len_blocks, false)),
                        Held::Hole => None,
                    }),
                    false => ExtentItem::decode(value).map(|item| {
                        Some((item.block, item.len_blocks, item.kind == ExtentKind::Written))
                    }),
                };
                let Ok(Some((block, len_blocks, is_written))) = found else { return };
                let flags = if self.inode.0 == key.object { self.inode.1 } else { 0 };
                let has_datasum = flags & InodeItem::NODATASUM == 0;
                let is_in_place = !has_datasum && flags & InodeItem::NODATACOW != 0;
                let (ino, run) = (key.object, Run::new(block, len_blocks));
                let named = Named { ino, run, is_written, has_datasum, is_in_place, is_logged };
                self.named.push(named);
            }
            Kind::CSUM => {
                let block = if is_logged { key.offset } else { key.object };
                if let Ok(digest) = value.try_into() {
                    self.digests.insert(block, digest);
                }
            }
            _ => {}
        }
    }

    /// The free-space map.
    fn space(&mut self, ptr: &BlockPtr) {
        if ptr.block == 0 {
            return;
        }
        let Some(content) = self.block(0, ptr) else { return };
        for child in pointers(&content) {
            self.space(&child);
        }
    }

    fn data(&mut self) {
        for named in std::mem::take(&mut self.named) {
            let Named { ino, run, is_written, has_datasum, is_in_place, is_logged } = named;
            // A damaged item may claim anything.
            let end = run.end().min(self.disk.blocks(DeviceId(0)));
            for block in run.block..end {
                let known = self.reached.data.get(&block);
                // What a log says again is the same reference.
                let refs = known.map_or(0, |it| it.refs) + u32::from(!is_logged || known.is_none());
                let was_written = known.is_some_and(|it| it.is_written);
                let data = Data { ino, refs, is_written: is_written || was_written, is_in_place };
                self.reached.data.insert(block, data);
                if !is_written || was_written {
                    continue;
                }
                let digest = self.digests.get(&block).filter(|_| has_datasum);
                let broken = match digest {
                    None if has_datasum => self.judge.unsummed(block, &data),
                    digest => self.judge.data(block, &data, digest),
                };
                self.keep(broken);
            }
        }
    }
}
