//! The extent map of a file: which blocks of the device hold which blocks of the file, as memory
//! believes it.
//!
//! Where no extent is, the file has a hole. Delayed allocation is no extent: it is a dirty page
//! with a reservation (see `pages`). An extent with an ordered extent in flight is *pending*; the
//! tree on the medium still has what was there before.
//!
//! Promises: extents never overlap; every change raises `seq`. It must never know trees,
//! pages or tasks: the inode's EXT lock guards it.

use super::ordered::OrderedExtent;
use super::span::Blocks;
use crate::store::ExtentKind;
use crate::types::{Run, TransactionId};
use machine::Tally;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What an extent's blocks hold.
#[derive(Clone)]
pub enum ExtentState {
    /// Blocks that belong to the file and read as zeros.
    Unwritten,
    /// The file's data.
    Written,
    /// What an ordered extent is writing: not to be read before that has completed.
    Pending(Rc<OrderedExtent>),
}

impl ExtentState {
    /// The state that an item of the tree says.
    pub const fn of(kind: ExtentKind) -> ExtentState {
        match kind {
            ExtentKind::Written => ExtentState::Written,
            ExtentKind::Unwritten => ExtentState::Unwritten,
        }
    }

    /// Whether an ordered extent is in flight.
    pub const fn is_pending(&self) -> bool {
        matches!(self, ExtentState::Pending(_))
    }
}

/// A part of a file in consecutive blocks of the device.
#[derive(Clone)]
pub struct Extent {
    /// Where in the file.
    pub blocks: Blocks,
    /// The first block of the device.
    pub block: u64,
    /// What is there.
    pub state: ExtentState,
    /// The transaction that made it so; that of its creation while it is pending.
    pub generation: TransactionId,
}

impl Extent {
    /// The blocks of the device.
    pub const fn run(&self) -> Run {
        Run::new(self.block, self.blocks.len())
    }

    /// The device block of the file's block `index`, which must be in the extent.
    pub fn block_of(&self, index: u64) -> u64 {
        debug_assert!(self.blocks.contains(index));
        self.block + (index - self.blocks.start)
    }

    /// The part of it within `blocks`, which must overlap it.
    pub fn clipped(&self, blocks: Blocks) -> Extent {
        let part = self.blocks.intersection(blocks);
        assert!(!part.is_empty(), "an extent clipped to nothing");
        Extent { blocks: part, block: self.block_of(part.start), ..self.clone() }
    }

    /// The ordered extent in flight, if there is one.
    pub fn ordered(&self) -> Option<&Rc<OrderedExtent>> {
        match &self.state {
            ExtentState::Pending(ordered) => Some(ordered),
            _ => None,
        }
    }
}

/// A part of a file as looked up: a hole or (part of) an extent.
#[derive(Clone)]
pub enum Piece {
    /// Nothing is allocated here.
    Hole(Blocks),
    /// An extent, clipped to what was asked for.
    Extent(Extent),
}

impl Piece {
    /// Where in the file.
    pub const fn blocks(&self) -> Blocks {
        match self {
            Piece::Hole(blocks) => *blocks,
            Piece::Extent(extent) => extent.blocks,
        }
    }
}

/// The extents of one file, in order.
#[derive(Default)]
pub struct ExtentMap {
    extents: BTreeMap<u64, Extent>,
    loaded: bool,
    seq: u64,
    changes: Tally,
    /// Written blocks behind the end of the file that the tree still has.
    leftovers: SmallVec<[Blocks; 1]>,
}

impl ExtentMap {
    /// An empty map that tells of its changes.
    pub(super) fn new(changes: &Tally) -> ExtentMap {
        ExtentMap { changes: changes.clone(), ..ExtentMap::default() }
    }

    fn note_change(&mut self) {
        self.seq += 1;
        self.changes.note();
    }

    /// Whether the map has been read from the tree.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Tells that all extents of the tree were inserted.
    pub fn set_loaded(&mut self) {
        self.loaded = true;
    }

    /// Tells of written blocks behind the end of the file: a crash came before the size that they
    /// belong to. The map has a hole there.
    pub(super) fn add_leftover(&mut self, blocks: Blocks) {
        self.leftovers.push(blocks);
    }

    /// Takes out a leftover: whoever changes the tree drops it first.
    pub(super) fn take_leftover(&mut self) -> Option<Blocks> {
        self.leftovers.pop()
    }

    /// A number that grows with every change.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The extent that holds the file's block `index`.
    pub fn at(&self, index: u64) -> Option<&Extent> {
        debug_assert!(self.loaded, "an extent map is read before it is asked");
        let (_, extent) = self.extents.range(..=index).next_back()?;
        extent.blocks.contains(index).then_some(extent)
    }

    /// The extents that overlap `blocks`, whole, in order.
    pub fn overlapping(&self, blocks: Blocks) -> impl Iterator<Item = &Extent> {
        debug_assert!(self.loaded, "an extent map is read before it is asked");
        let before = self.extents.range(..blocks.start).next_back().map(|(_, extent)| extent);
        let inside = self.extents.range(blocks.start..blocks.end).map(|(_, extent)| extent);
        before.into_iter().filter(move |extent| extent.blocks.overlaps(blocks)).chain(inside)
    }

    /// The extents that overlap `blocks`, whole, from the last to the first.
    pub fn overlapping_backwards(&self, blocks: Blocks) -> impl Iterator<Item = &Extent> {
        debug_assert!(self.loaded, "an extent map is read before it is asked");
        let before = self.extents.range(..blocks.end).rev().map(|(_, extent)| extent);
        before.take_while(move |extent| extent.blocks.overlaps(blocks))
    }

    /// What lies in `blocks`, clipped to them and without a gap.
    pub fn pieces(&self, blocks: Blocks) -> SmallVec<[Piece; 4]> {
        let mut pieces = SmallVec::new();
        let mut next = blocks.start;
        for extent in self.overlapping(blocks) {
            let extent = extent.clipped(blocks);
            if next < extent.blocks.start {
                pieces.push(Piece::Hole(Blocks::new(next, extent.blocks.start)));
            }
            next = extent.blocks.end;
            pieces.push(Piece::Extent(extent));
        }
        if next < blocks.end {
            pieces.push(Piece::Hole(Blocks::new(next, blocks.end)));
        }
        pieces
    }

    /// All extents, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.extents.values()
    }

    /// Puts an extent where there is none.
    pub fn insert(&mut self, extent: Extent) {
        assert!(!extent.blocks.is_empty(), "an extent of no blocks");
        debug_assert!(self.is_free(extent.blocks), "extents never overlap: {}", extent.blocks);
        self.note_change();
        self.extents.insert(extent.blocks.start, extent);
    }

    /// Takes out what lies in `blocks`, splitting extents at the edges. A pending extent is taken
    /// out whole or not at all: whoever changes its range waits for it first.
    pub fn remove(&mut self, blocks: Blocks) -> SmallVec<[Extent; 2]> {
        let starts: SmallVec<[u64; 4]> = self.overlapping_starts(blocks).collect();
        let mut removed = SmallVec::new();
        for start in starts {
            let Some(extent) = self.extents.remove(&start) else { continue };
            let is_whole = extent.blocks.intersection(blocks) == extent.blocks;
            assert!(is_whole || !extent.state.is_pending(), "a pending extent is not split");
            for rest in [
                Blocks { start: extent.blocks.start, end: blocks.start.max(extent.blocks.start) },
                Blocks { start: blocks.end.min(extent.blocks.end), end: extent.blocks.end },
            ] {
                if !rest.is_empty() {
                    self.extents.insert(rest.start, extent.clipped(rest));
                }
            }
            removed.push(extent.clipped(blocks));
        }
        self.note_change();
        debug_assert!(self.is_free(blocks));
        removed
    }

    /// Puts back what was taken out for a change that then failed: what is not changed on the
    /// medium is still there for readers. Nothing else has come in between, under EXT W.
    pub fn restore(&mut self, extents: impl IntoIterator<Item = Extent>) {
        extents.into_iter().for_each(|extent| self.insert(extent));
    }

    /// Forgets everything, as a mount that is abandoned does.
    pub fn clear(&mut self) {
        self.extents.clear();
        self.leftovers.clear();
        self.loaded = false;
        self.note_change();
    }

    fn overlapping_starts(&self, blocks: Blocks) -> impl Iterator<Item = u64> {
        let before = self.extents.range(..blocks.start).next_back();
        let before = before.filter(|(_, extent)| extent.blocks.overlaps(blocks));
        let inside = self.extents.range(blocks.start..blocks.end);
        before.into_iter().chain(inside).map(|(&start, _)| start)
    }

    fn is_free(&self, blocks: Blocks) -> bool {
        self.overlapping_starts(blocks).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, end: u64, block: u64) -> Extent {
        let generation = TransactionId(1);
        Extent { blocks: Blocks::new(start, end), block, state: ExtentState::Written, generation }
    }

    fn shape(map: &ExtentMap) -> Vec<(u64, u64, u64)> {
        map.iter().map(|e| (e.blocks.start, e.blocks.end, e.block)).collect()
    }

    #[test]
    fn removal_splits_at_the_edges() {
        let mut map = ExtentMap::default();
        map.set_loaded();
        map.insert(extent(2, 8, 100));
        map.insert(extent(10, 12, 50));
        let removed = map.remove(Blocks::new(4, 11));
        assert_eq!(shape(&map), [(2, 4, 100), (11, 12, 51)]);
        let removed: Vec<_> = removed.iter().map(|e| (e.blocks.start, e.block)).collect();
        assert_eq!(removed, [(4, 102), (10, 50)]);
        let mut map = ExtentMap::default();
        map.set_loaded();
        map.insert(extent(0, 9, 100));
        map.remove(Blocks::new(3, 5));
        assert_eq!(shape(&map), [(0, 3, 100), (5, 9, 105)], "a hole in the middle");
    }

    #[test]
    fn pieces_cover_everything_in_order() {
        let mut map = ExtentMap::default();
        map.set_loaded();
        map.insert(extent(2, 4, 100));
        map.insert(extent(5, 9, 200));
        let pieces: Vec<_> = map
            .pieces(Blocks::new(1, 7))
            .iter()
            .map(|piece| match piece {
                Piece::Hole(blocks) => (blocks.start, blocks.end, 0),
                Piece::Extent(extent) => (extent.blocks.start, extent.blocks.end, extent.block),
            })
            .collect();
        assert_eq!(pieces, [(1, 2, 0), (2, 4, 100), (4, 5, 0), (5, 7, 200)]);
        assert_eq!(map.at(8).map(|e| e.block_of(8)), Some(203));
        assert!(map.at(4).is_none() && map.at(9).is_none());
    }

    #[test]
    fn every_change_raises_seq() {
        let mut map = ExtentMap::default();
        map.set_loaded();
        let before = map.seq();
        map.insert(extent(0, 1, 7));
        let after = map.seq();
        map.remove(Blocks::one(0));
        assert!(before < after && after < map.seq());
    }
}
