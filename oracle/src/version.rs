//! Possible contents of a block, as symbols: which stream stands where.
//!
//! *Promises*: equal symbols are equal bytes and, but for collisions of streams that do not exist,
//! the reverse; a content is rendered and hashed at most once. *Must never know*: who may have
//! which content.
//!
//! *Verified*: the overlay against a byte-wise one. *Not verified, because* a byte fill that equals
//! stream bytes by chance counts as a different symbol; comparisons with a target are by bytes.
use crate::content::{self, BlockHash};
use crate::operation::{Fill, OpId, PathId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Bytes in a block, as an index.
pub(crate) const BLOCK: usize = 4096;

/// Where the bytes of a piece come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Zero,
    Byte(u8),
    /// The stream (`op`, `path`); `base` is the stream position of the block's byte 0.
    Tag {
        op: OpId,
        path: PathId,
        base: i64,
    },
}

impl Source {
    /// The source of a fill whose stream position at the block's byte 0 is `base`.
    pub(crate) fn of(fill: Fill, op: OpId, path: PathId, base: i64) -> Source {
        match fill {
            Fill::Byte(0) => Source::Zero,
            Fill::Byte(byte) => Source::Byte(byte),
            Fill::Tag => Source::Tag { op, path, base },
        }
    }

    fn shifted(self, by: i64) -> Source {
        match self {
            Source::Tag { op, path, base } => Source::Tag { op, path, base: base.wrapping_add(by) },
            other => other,
        }
    }

    fn shows(self, start: usize, bytes: &[u8]) -> bool {
        match self {
            Source::Zero => content::is_filled(bytes, 0),
            Source::Byte(want) => content::is_filled(bytes, want),
            Source::Tag { op, path, base } => {
                content::is_stream(op, path, base.wrapping_add(start as i64) as u64, bytes)
            }
        }
    }
}

/// A run of one source; it reaches to the next piece or to the end of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    pub(crate) start: u16,
    pub(crate) source: Source,
}

/// A block's content: pieces in order, the first at 0, neighbours different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pieces: SmallVec<[Piece; 3]>,
}

impl Content {
    fn uniform(source: Source) -> Content {
        Content { pieces: SmallVec::from_slice(&[Piece { start: 0, source }]) }
    }

    /// The runs as (start, end, source).
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, usize, Source)> + '_ {
        let ends = self.pieces.iter().skip(1).map(|piece| usize::from(piece.start));
        self.pieces
            .iter()
            .zip(ends.chain(std::iter::once(BLOCK)))
            .map(|(piece, end)| (usize::from(piece.start), end, piece.source))
    }

    fn push(&mut self, start: usize, source: Source) {
        if self.pieces.last().is_none_or(|last| last.source != source) {
            self.pieces.push(Piece { start: start as u16, source });
        }
    }

    /// This content with `[start, end)` replaced by `middle`: pieces from `start` on.
    fn overlay(&self, start: usize, end: usize, middle: &[Piece]) -> Content {
        debug_assert!(start < end && end <= BLOCK);
        debug_assert!(middle.first().is_some_and(|piece| usize::from(piece.start) == start));
        let mut out = Content { pieces: SmallVec::new() };
        for (from, _, source) in self.runs().take_while(|run| run.0 < start) {
            out.push(from, source);
        }
        for piece in middle {
            out.push(usize::from(piece.start), piece.source);
        }
        for (from, _, source) in self.runs().filter(|run| run.1 > end) {
            out.push(from.max(end), source);
        }
        out
    }

    /// The pieces of `[from, from + len)`, moved so that they begin at `to`.
    fn excerpt(&self, from: usize, len: usize, to: usize) -> SmallVec<[Piece; 4]> {
        let shift = from as i64 - to as i64;
        self.runs()
            .filter(|run| run.0 < from + len && run.1 > from)
            .map(|(start, _, source)| Piece {
                start: (start.max(from) as i64 - shift) as u16,
                source: source.shifted(shift),
            })
            .collect()
    }

    fn shows(&self, start: usize, bytes: &[u8]) -> bool {
        let end = start + bytes.len();
        self.runs().filter(|run| run.0 < end && run.1 > start).all(|(from, to, source)| {
            let (from, to) = (from.max(start), to.min(end));
            source.shows(from, &bytes[from - start..to - start])
        })
    }

    fn render(&self, out: &mut [u8; BLOCK]) {
        for (start, end, source) in self.runs() {
            match source {
                Source::Zero => out[start..end].fill(0),
                Source::Byte(byte) => out[start..end].fill(byte),
                Source::Tag { op, path, base } => {
                    let position = base.wrapping_add(start as i64) as u64;
                    content::fill(Fill::Tag, op, path, position, &mut out[start..end]);
                }
            }
        }
    }
}

/// The name of an interned content.
pub(crate) type VersionId = u64;

/// The content of a block that nobody wrote.
pub(crate) const ZERO: VersionId = 0;

/// Every content that came up, once.
#[derive(Debug)]
pub(crate) struct Versions {
    list: Vec<Content>,
    hashes: Vec<Option<BlockHash>>,
    ids: FxHashMap<Content, VersionId>,
}

impl Versions {
    pub(crate) fn new() -> Versions {
        let mut versions =
            Versions { list: Vec::new(), hashes: Vec::new(), ids: FxHashMap::default() };
        versions.clear();
        versions
    }

    /// Forgets all but [`ZERO`]; keeps the allocations.
    pub(crate) fn clear(&mut self) {
        self.list.truncate(1);
        self.hashes.truncate(1);
        self.ids.clear();
        if self.list.is_empty() {
            self.intern(Content::uniform(Source::Zero));
        } else {
            self.ids.insert(self.list[0].clone(), ZERO);
        }
    }

    fn intern(&mut self, content: Content) -> VersionId {
        if let Some(&id) = self.ids.get(&content) {
            return id;
        }
        let id = self.list.len() as VersionId;
        self.list.push(content.clone());
        self.hashes.push(None);
        self.ids.insert(content, id);
        id
    }

    /// `under` with `[start, end)` filled from `source`.
    pub(crate) fn filled(
        &mut self,
        under: VersionId,
        start: usize,
        end: usize,
        source: Source,
    ) -> VersionId {
        if start == 0 && end == BLOCK {
            return self.intern(Content::uniform(source));
        }
        let piece = Piece { start: start as u16, source };
        let content = self.list[under as usize].overlay(start, end, &[piece]);
        self.intern(content)
    }

    /// `under` with `[start, end)` replaced by the bytes of `other` from `from` on.
    pub(crate) fn copied(
        &mut self,
        under: VersionId,
        (start, end): (usize, usize),
        other: VersionId,
        from: usize,
    ) -> VersionId {
        let pieces = self.list[other as usize].excerpt(from, end - start, start);
        let content = self.list[under as usize].overlay(start, end, &pieces);
        self.intern(content)
    }

    /// `id` with zeros from `size` on: what a reader sees if the file ends there.
    pub(crate) fn clipped(&mut self, id: VersionId, size: usize) -> VersionId {
        if size >= BLOCK { id } else { self.filled(id, size, BLOCK, Source::Zero) }
    }

    pub(crate) fn hash(&mut self, id: VersionId) -> BlockHash {
        if let Some(hash) = self.hashes[id as usize] {
            return hash;
        }
        let mut bytes = [0; BLOCK];
        self.list[id as usize].render(&mut bytes);
        let hash = content::hash_block(&bytes);
        self.hashes[id as usize] = Some(hash);
        hash
    }

    pub(crate) fn get(&self, id: VersionId) -> &Content {
        &self.list[id as usize]
    }

    /// Whether the content's bytes from `start` on are `bytes`.
    pub(crate) fn shows(&self, id: VersionId, start: usize, bytes: &[u8]) -> bool {
        self.list[id as usize].shows(start, bytes)
    }

    pub(crate) fn render(&self, id: VersionId, out: &mut [u8; BLOCK]) {
        self.list[id as usize].render(out);
    }

    /// Whether the two contents have equal bytes: `a` in `[at, at + len)`, `b` from `other` on.
    pub(crate) fn equal(
        &self,
        (a, at): (VersionId, usize),
        (b, other): (VersionId, usize),
        len: usize,
    ) -> bool {
        let mut left = [0; BLOCK];
        self.render(a, &mut left);
        self.shows(b, other, &left[at..at + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(op: u16, base: i64) -> Source {
        Source::Tag { op: OpId(op), path: PathId(0), base }
    }

    #[test]
    fn overlays_and_copies_agree_with_bytes() {
        let mut versions = Versions::new();
        let mut bytes = [[0u8; BLOCK]; 2];
        let mut ids = [ZERO, ZERO];
        // (into, start, end, op or, when zero, a copy from the other block at `from`)
        let steps = [
            (0, 0, 4096, 1, 0),
            (0, 100, 200, 2, 0),
            (1, 0, 512, 3, 0),
            (1, 512, 1024, 0, 60),
            (0, 150, 4096, 4, 0),
            (0, 0, 2048, 0, 100),
            (1, 4000, 4096, 5, 0),
            (1, 0, 4096, 0, 0),
        ];
        for (into, start, end, op, from) in steps {
            if op > 0 {
                ids[into] = versions.filled(ids[into], start, end, tag(op, 8192));
                let at = 8192 + start as u64;
                content::fill(Fill::Tag, OpId(op), PathId(0), at, &mut bytes[into][start..end]);
            } else {
                ids[into] = versions.copied(ids[into], (start, end), ids[1 - into], from);
                let copy = bytes[1 - into][from..from + end - start].to_vec();
                bytes[into][start..end].copy_from_slice(&copy);
            }
            let mut shown = [0; BLOCK];
            versions.render(ids[into], &mut shown);
            assert_eq!(shown, bytes[into], "after {start}..{end} of op {op}");
            assert!(versions.shows(ids[into], 7, &bytes[into][7..4000]));
            assert_eq!(versions.hash(ids[into]), content::hash_block(&bytes[into]));
        }
        assert_eq!(ids[0], ids[1], "a whole copy is the same symbol");
    }

    #[test]
    fn a_content_that_returns_keeps_its_name() {
        let mut versions = Versions::new();
        let one = versions.filled(ZERO, 0, 100, tag(1, 0));
        let back = versions.filled(one, 0, 100, Source::Zero);
        assert_eq!(back, ZERO);
        assert_eq!(versions.clipped(one, 100), one);
        assert_eq!(versions.clipped(one, 0), ZERO);
    }
}
