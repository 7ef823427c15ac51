//! The ranges that generated operations are about: on blocks, on or beside what was used before, at
//! the end of files, and, where the mask says so, within blocks.

use oracle::operation::{BLOCK_BYTES, MapId, PathId, SECTOR_BYTES, Span};

use super::dice::Source;
use super::generate::Writer;
use super::limits;
use super::syntax::{Fields, Kind};
use super::world::Mapping;

/// Blocks of a file at which a clone or dedupe may begin.
const REMAP_BLOCKS: u64 = 6;

/// Whether offsets and lengths must be multiples of a sector.
pub(super) fn is_direct(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::DirectWrite
            | Kind::DirectWriteFrom
            | Kind::DirectRead
            | Kind::DirectReadInto
            | Kind::AsyncWrite
            | Kind::AsyncRead
    )
}

/// The source of a clone or dedupe, and where it goes.
#[derive(Clone, Copy)]
struct Remap {
    source: PathId,
    span: Span,
    target: PathId,
    at: u64,
}

impl<S: Source> Writer<'_, S> {
    /// A block number, mostly a low one.
    pub(super) fn block(&mut self) -> u64 {
        let far = self.source.chance(1, 8);
        let blocks = if far { 16 } else { limits::DRAWN_BLOCKS_HOT };
        u64::from(self.source.below(blocks))
    }

    pub(super) fn len(&mut self) -> u64 {
        match self.source.below(16) {
            10 | 14 if self.mask.sub_blocks => SECTOR_BYTES * u64::from(1 + self.source.below(12)),
            11 | 15 if self.mask.sub_blocks => u64::from(1 + self.source.below(6000)),
            8..=11 => 2 * BLOCK_BYTES,
            12 | 13 => u64::from(3 + self.source.below(4)) * BLOCK_BYTES,
            _ => BLOCK_BYTES,
        }
    }

    /// A range of a file: on blocks, on or beside a range used before, or at the end of the file.
    pub(super) fn span(&mut self, path: PathId, direct: bool) -> Span {
        let file = *self.world.file(path);
        let recent = file.recent();
        let len = self.len();
        let mut span = match self.source.below(8) {
            0..=2 if !recent.is_empty() => {
                let (offset, len) = self.source.pick(recent);
                Span::new(offset, len)
            }
            3 if !recent.is_empty() => {
                let (offset, old) = self.source.pick(recent);
                let shift = self.source.pick(&[offset + old, offset + BLOCK_BYTES, offset]);
                Span::new(shift, len)
            }
            4 => Span::new(file.size, len),
            5 => Span::new(file.size.saturating_sub(BLOCK_BYTES.min(len)), len),
            _ => Span::new(self.block() * BLOCK_BYTES, len),
        };
        if self.mask.sub_blocks && self.source.chance(1, 6) {
            let unit = if direct { SECTOR_BYTES } else { 1 };
            span.offset += unit * u64::from(self.source.below(8));
        }
        if self.mask.sub_blocks && span.end() > file.size && self.source.chance(1, 2) {
            // The file is to end within a block.
            let less = u64::from(self.source.below(BLOCK_BYTES as u32));
            span.len = span.len.saturating_sub(less).max(1);
        }
        if direct && !self.source.chance(1, 64) {
            span.offset -= span.offset % SECTOR_BYTES;
            span.len = span.len.next_multiple_of(SECTOR_BYTES);
        }
        span.offset = span.offset.min(limits::DRAWN_FILE_BYTES_MAX - BLOCK_BYTES);
        span.len = span.len.clamp(1, limits::DRAWN_FILE_BYTES_MAX - span.offset);
        span
    }

    /// Whole blocks within a file, mostly the same ones: what has a layout is to be written.
    pub(super) fn layout_span(&mut self, kind: Kind, path: PathId) -> Span {
        let blocks = (self.world.file(path).size / BLOCK_BYTES).clamp(1, 4) as u32;
        if kind == Kind::Layout && self.source.chance(1, 2) {
            return Span::new(0, u64::from(blocks) * BLOCK_BYTES);
        }
        let first = self.source.below(blocks).min(self.source.below(blocks));
        let count = 1 + self.source.below((blocks - first).min(2));
        Span::new(u64::from(first) * BLOCK_BYTES, u64::from(count) * BLOCK_BYTES)
    }

    /// A range that setup fills: from the first blocks on, up to a block or, with `sub_blocks`,
    /// into one, so that files end there.
    pub(super) fn setup_span(&mut self) -> Span {
        let offset = u64::from(self.source.pick(&[0u8, 0, 0, 1, 2])) * BLOCK_BYTES;
        let mut len = u64::from(self.source.pick(&[1u8, 2, 4, 4, 8])) * BLOCK_BYTES;
        if self.mask.sub_blocks && self.source.chance(2, 3) {
            len -= u64::from(1 + self.source.below(BLOCK_BYTES as u32 - 1));
        }
        Span::new(offset, len)
    }

    /// The source of a clone or dedupe: whole blocks that exist, or up to the end of the file,
    /// wherever that is.
    fn source_span(&mut self, path: PathId) -> Span {
        let size = self.world.file(path).size;
        let blocks = size.div_ceil(BLOCK_BYTES).clamp(1, 24) as u32;
        let first = self.source.below(blocks.min(REMAP_BLOCKS as u32));
        let count = 1 + self.source.below((blocks - first).min(3));
        let offset = u64::from(first) * BLOCK_BYTES;
        let room = size.saturating_sub(offset).max(1);
        Span::new(offset, (u64::from(count) * BLOCK_BYTES).min(room))
    }

    /// The arguments of a clone: mostly such as are accepted, onto the target or behind its end.
    pub(super) fn clone_fields(&mut self, fields: &mut Fields) {
        let span = self.source_span(fields.path);
        let size = self.world.file(fields.path).size;
        (fields.offset, fields.len) = (span.offset, span.len);
        fields.target = self.path(false);
        let target_size = self.world.file(fields.target).size;
        let end_block = target_size.div_ceil(BLOCK_BYTES);
        let block = match self.source.below(8) {
            0..=2 => fields.offset / BLOCK_BYTES,
            3 | 4 => end_block + u64::from(self.source.below(3)),
            _ => self.block(),
        };
        fields.other = block * BLOCK_BYTES;
        if self.source.chance(7, 8) {
            // No overlap within one file; a partial block only becomes the last one.
            if fields.target == fields.path && fields.other.abs_diff(span.offset) < span.len {
                fields.other = span.end().next_multiple_of(BLOCK_BYTES);
            }
            let is_partial = !span.len.is_multiple_of(BLOCK_BYTES);
            if is_partial && fields.other + span.len < target_size {
                let end = target_size.saturating_sub(span.len);
                fields.other = end.next_multiple_of(BLOCK_BYTES);
            }
        }
        fields.other = fields.other.min(limits::DRAWN_FILE_BYTES_MAX - BLOCK_BYTES);
        if span.end() == size && self.source.chance(1, 8) {
            fields.len = 0;
        }
    }

    /// The arguments of a dedupe: mostly ranges that are believed to be equal, and most of these
    /// times such as end within a block, at the end of the source, if there are any.
    pub(super) fn dedupe_fields(&mut self, fields: &mut Fields) {
        let equal = self.equal_ranges();
        if equal.is_empty() || self.source.chance(1, 12) {
            let span = self.source_span(fields.path);
            (fields.offset, fields.len) = (span.offset, span.len);
            fields.target = self.path(false);
            fields.other = self.block() * BLOCK_BYTES;
            return;
        }
        let ragged = |remap: &&Remap| !remap.span.len.is_multiple_of(BLOCK_BYTES);
        let ragged: Vec<Remap> = equal.iter().filter(ragged).copied().collect();
        let chosen = match !ragged.is_empty() && self.source.chance(3, 4) {
            true => self.source.pick(&ragged),
            false => self.source.pick(&equal),
        };
        (fields.path, fields.target) = (chosen.source, chosen.target);
        (fields.offset, fields.len) = (chosen.span.offset, chosen.span.len);
        fields.other = chosen.at;
    }

    /// Ranges near the start of files that are believed to hold the same.
    fn equal_ranges(&self) -> Vec<Remap> {
        let mut found = Vec::new();
        let paths = || (0..self.mask.paths).map(PathId);
        for (source, target) in paths().flat_map(|a| paths().map(move |b| (a, b))) {
            let (from, to) = (self.world.file(source), self.world.file(target));
            let starts = |size: u64| 0..size.div_ceil(BLOCK_BYTES).min(REMAP_BLOCKS);
            for (first, at) in starts(from.size).flat_map(|a| starts(to.size).map(move |b| (a, b)))
            {
                for count in 1..=3 {
                    let offset = first * BLOCK_BYTES;
                    let len = (count * BLOCK_BYTES).min(from.size - offset);
                    let overlaps = source == target && first.abs_diff(at) < count;
                    let fits = at * BLOCK_BYTES + len <= to.size;
                    let is_new = len > (count - 1) * BLOCK_BYTES;
                    if overlaps || !fits || !is_new || !from.holds_as((first, at), to, count) {
                        break;
                    }
                    let span = Span::new(offset, len);
                    found.push(Remap { source, span, target, at: at * BLOCK_BYTES });
                }
            }
        }
        found
    }

    /// Whether a dedupe can share anything.
    pub(super) fn has_equal_ranges(&self) -> bool {
        !self.equal_ranges().is_empty()
    }

    /// What is mapped of a file: half of the times up to the page that the file ends in.
    pub(super) fn map_span(&mut self, path: PathId) -> Span {
        let size = self.world.file(path).size.min(limits::DRAWN_FILE_BYTES_MAX);
        let end = size.next_multiple_of(BLOCK_BYTES);
        if end > 0 && self.source.chance(1, 2) {
            let pages = self.source.pick(&[1, 2, 4, 8]) * BLOCK_BYTES;
            let offset = end.saturating_sub(pages);
            return Span::new(offset, end - offset);
        }
        let offset = self.source.pick(&[0, 0, 0, 1]) * BLOCK_BYTES;
        Span::new(offset, self.source.pick(&[1, 2, 4, 4, 8]) * BLOCK_BYTES)
    }

    /// A range within a mapping, mostly whole pages: the last one too, whose end may lie behind the
    /// end of the file.
    pub(super) fn mapped_span(&mut self, map: MapId) -> Span {
        let mapping = self.world.map(map);
        let mut len = mapping.map_or(BLOCK_BYTES, |mapping| mapping.span.len);
        if let Some(Mapping { path, span }) = mapping
            && !self.source.chance(1, 32)
        {
            len = len.min(self.world.file(path).size.saturating_sub(span.offset));
        }
        let pages = len.div_ceil(BLOCK_BYTES).clamp(1, 8) as u32;
        let last = self.mask.sub_blocks && self.source.chance(1, 2);
        let first = if last { pages - 1 } else { self.source.below(pages) };
        let count = 1 + self.source.below((pages - first).min(2));
        let mut span = Span::new(u64::from(first) * BLOCK_BYTES, u64::from(count) * BLOCK_BYTES);
        if self.mask.sub_blocks && self.source.chance(1, 6) {
            span.offset += u64::from(self.source.below(4)) * 8;
            span.len = u64::from(1 + self.source.below(BLOCK_BYTES as u32 - 32));
        }
        span
    }

    /// What a file is truncated to.
    pub(super) fn size(&mut self, path: PathId) -> u64 {
        let size = self.world.file(path).size;
        let blocks = self.block() * BLOCK_BYTES;
        let edge = match self.source.below(6) {
            0 => size.saturating_sub(BLOCK_BYTES),
            1 => size + BLOCK_BYTES,
            2 | 3 if self.mask.sub_blocks => blocks + u64::from(self.source.below(4096)),
            4 if self.mask.sub_blocks => size.saturating_sub(u64::from(self.source.below(4096))),
            _ => blocks,
        };
        edge.min(limits::DRAWN_FILE_BYTES_MAX)
    }
}
