//! HOLES and STAT: what a file consists of, without reading its content.
//!
//! Promises: data is never reported as a hole; a hole and an unwritten extent are reported as holes
//! unless changes of them wait in the cache. It must never change anything.

use crate::classes::kind;
use crate::error::Result;
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::extents::{ExtentState, Piece};
use crate::inode::span::{Blocks, Span};
use crate::types::Ino;
use machine::{Access, Mode, Object, Site, Task};

static MAP: Site = Site::new("holes.map");
static STAT: Site = Site::new("stat.read");

/// What stat says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub ino: Ino,
    /// Its size in bytes.
    pub size: u64,
    /// Names that lead to it.
    pub nlink: u32,
    /// Blocks of the device that it holds, alone or with others; delayed allocation is not counted.
    pub blocks: u64,
}

/// A run of bytes of a file, and whether it holds data.
type Run = (Span, bool);

impl File {
    /// The file cut into runs of data and of holes, in order, up to its end: whole blocks, but for
    /// the last. Two neighbours are never of one kind.
    ///
    /// # Errors
    /// Those of reading trees; `Stopped`.
    pub fn holes(&self, task: &Task) -> Result<Vec<(Span, bool)>> {
        self.fs().holes(task, self.inode())
    }

    /// Number, size, links and blocks, as they are at one moment.
    ///
    /// # Errors
    /// Those of reading trees; `Stopped`.
    pub fn stat(&self, task: &Task) -> Result<Stat> {
        let inode = self.inode();
        task.site(&STAT, Object::new(kind::INODE, inode.ino.0, 0), Access::Read)?;
        let _ext = self.fs().read_extents(task, inode)?;
        let blocks = inode.extents.borrow().iter().map(|extent| extent.blocks.len()).sum();
        Ok(Stat { ino: inode.ino, size: inode.size(), nlink: inode.item().nlink, blocks })
    }
}

impl Fs {
    fn holes(&self, task: &Task, inode: &Inode) -> Result<Vec<Run>> {
        let _rl = inode.rl.lock(task, Span::ALL.lock_range(), Mode::Read)?;
        task.site(&MAP, Object::new(kind::INODE, inode.ino.0, 0), Access::Read)?;
        let _ext = self.read_extents(task, inode)?;
        let size = Span::new(0, inode.size());
        let mut runs = Vec::new();
        for piece in inode.extents.borrow().pieces(size.blocks()) {
            if is_data(&piece) {
                push(&mut runs, piece.blocks(), true);
            } else {
                push_cached(&mut runs, inode, piece.blocks());
            }
        }
        if let Some((last, _)) = runs.last_mut() {
            *last = last.intersection(size);
        }
        debug_assert_eq!(runs.iter().map(|(span, _)| span.len()).sum::<u64>(), size.len());
        Ok(runs)
    }
}

fn is_data(piece: &Piece) -> bool {
    match piece {
        Piece::Hole(_) => false,
        Piece::Extent(extent) => !matches!(extent.state, ExtentState::Unwritten),
    }
}

/// Adds blocks that the device has no data for: those that wait in the cache are data.
fn push_cached(runs: &mut Vec<Run>, inode: &Inode, blocks: Blocks) {
    let mut next = blocks.start;
    while let Some(index) = inode.pages.first_unsettled(Blocks::new(next, blocks.end)) {
        push(runs, Blocks::new(next, index), false);
        push(runs, Blocks::one(index), true);
        next = index + 1;
    }
    push(runs, Blocks::new(next, blocks.end), false);
}

fn push(runs: &mut Vec<Run>, blocks: Blocks, data: bool) {
    if blocks.is_empty() {
        return;
    }
    let span = blocks.bytes();
    match runs.last_mut() {
        Some((last, kind)) if *kind == data => *last = Span::new(last.start, span.end),
        _ => runs.push((span, data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_one_run() {
        let mut runs = Vec::new();
        for (start, end, data) in [(0, 2, true), (2, 2, false), (2, 3, true), (3, 9, false)] {
            push(&mut runs, Blocks::new(start, end), data);
        }
        let wanted = [(Span::new(0, 3 * 4096), true), (Span::new(3 * 4096, 9 * 4096), false)];
        assert_eq!(runs, wanted);
    }
}
