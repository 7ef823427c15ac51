//! What a generator believes of the files while it writes a program: it keeps the operations from
//! failing for dull reasons and their ranges near each other. A belief, not a model: tasks run in
//! other orders than they are written in, and nothing depends on it being right.

use oracle::operation::{BLOCK_BYTES, Fill, MapId, Operation, PathId, Span};

use super::syntax::{Fields, Kind, split};
use super::{AfterLine, Program, limits};

/// How many ranges of a file are remembered.
const RECENT: usize = 6;

/// Of how many blocks of a file it is remembered what they hold.
const BLOCKS: usize = (limits::DRAWN_FILE_BYTES_MAX / BLOCK_BYTES) as usize;

/// What a block holds, as far as whole blocks go: the repeated byte, or from [`FIRST_UNIQUE`] on
/// something that nothing but copies of it is equal to.
type Content = u16;

const ZEROS: Content = 0;
const FIRST_UNIQUE: Content = 256;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct File {
    pub(super) exists: bool,
    pub(super) size: u64,
    recent: [(u64, u64); RECENT],
    touched: usize,
    blocks: [Content; BLOCKS],
}

impl File {
    /// The ranges that operations used last, in no particular order.
    pub(super) fn recent(&self) -> &[(u64, u64)] {
        &self.recent[..self.touched.min(RECENT)]
    }

    /// Whether so many blocks hold what those of the other file do, from the two blocks on.
    pub(super) fn holds_as(&self, (from, to): (u64, u64), other: &File, count: u64) -> bool {
        let (from, to, count) = (from as usize, to as usize, count as usize);
        match (self.blocks.get(from..from + count), other.blocks.get(to..to + count)) {
            (Some(left), Some(right)) => left == right,
            _ => false,
        }
    }

    fn touch(&mut self, span: Span) {
        if span.len > 0 {
            self.recent[self.touched % RECENT] = (span.offset, span.len);
            self.touched += 1;
        }
    }
}

/// A mapping: of which file, and which range of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) path: PathId,
    pub(super) span: Span,
}

#[derive(Clone, Debug, Default)]
pub(super) struct World {
    /// Contents that are like no other, so far.
    unique: Content,
    pub(super) files: [File; limits::PATHS_MAX],
    pub(super) maps: [Option<Mapping>; limits::MAPS_MAX],
}

impl World {
    /// The world after a whole program.
    pub(super) fn of(program: &Program) -> World {
        let mut world = World::default();
        let tasks = program.tasks.iter().flat_map(|task| &task.ops);
        program.setup.iter().chain(tasks).for_each(|operation| world.apply(operation));
        for line in &program.after {
            if let AfterLine::Operation(operation) = line {
                world.apply(operation);
            }
        }
        world
    }

    pub(super) fn file(&self, path: PathId) -> &File {
        &self.files[usize::from(path.0) % limits::PATHS_MAX]
    }

    fn file_mut(&mut self, path: PathId) -> &mut File {
        &mut self.files[usize::from(path.0) % limits::PATHS_MAX]
    }

    pub(super) fn map(&self, map: MapId) -> Option<Mapping> {
        self.maps[usize::from(map.0) % limits::MAPS_MAX]
    }

    pub(super) fn apply(&mut self, operation: &Operation) {
        let (kind, fields) = split(operation);
        let span = fields.span();
        match kind {
            Kind::Create => self.file_mut(fields.path).exists = true,
            Kind::Unlink => *self.file_mut(fields.path) = File::default(),
            Kind::Truncate => {
                let file = self.file_mut(fields.path);
                let low = file.size.min(fields.len);
                file.touch(Span::new(low, file.size.abs_diff(fields.len)));
                let behind = fields.len.div_ceil(BLOCK_BYTES).min(BLOCKS as u64);
                file.blocks[behind as usize..].fill(ZEROS);
                let (old, new) = (file.size, fields.len);
                file.size = new;
                if new > old {
                    self.fill_gap(fields.path, old);
                }
            }
            Kind::Append => {
                let span = Span::new(self.file(fields.path).size, fields.len);
                self.extend(fields.path, span);
                self.put(fields.path, span, fields.fill);
            }
            Kind::Write
            | Kind::WriteFrom
            | Kind::DirectWrite
            | Kind::DirectWriteFrom
            | Kind::AsyncWrite => {
                self.extend(fields.path, span);
                self.put(fields.path, span, fields.fill);
            }
            Kind::LayoutWrite => {
                self.file_mut(fields.path).touch(span);
                self.put(fields.path, span, fields.fill);
            }
            Kind::Punch => {
                self.file_mut(fields.path).touch(span);
                self.put(fields.path, span, Fill::Byte(0));
            }
            Kind::ZeroRange => {
                if fields.keep {
                    self.file_mut(fields.path).touch(span);
                } else {
                    self.extend(fields.path, span);
                }
                self.put(fields.path, span, Fill::Byte(0));
            }
            Kind::Fallocate if !fields.keep => self.extend(fields.path, span),
            Kind::Clone => self.copy(&fields),
            Kind::Mmap => {
                let map = usize::from(fields.map.0) % limits::MAPS_MAX;
                self.maps[map] = Some(Mapping { path: fields.path, span });
            }
            Kind::Munmap => self.maps[usize::from(fields.map.0) % limits::MAPS_MAX] = None,
            Kind::Store => {
                self.touch_mapped(&fields);
                if let Some(Mapping { path, span }) = self.map(fields.map) {
                    let offset = span.offset.saturating_add(fields.offset);
                    self.put(path, Span::new(offset, fields.len), fields.fill);
                }
            }
            Kind::Load | Kind::Msync => self.touch_mapped(&fields),
            _ if kind.shape().has(super::syntax::Arg::Len) => {
                self.file_mut(fields.path).touch(span)
            }
            _ => {}
        }
    }

    fn extend(&mut self, path: PathId, span: Span) {
        let file = self.file_mut(path);
        file.touch(span);
        let old = file.size;
        file.size = old.max(span.end());
        if span.offset > old {
            self.fill_gap(path, old);
        }
    }

    /// A partial block that was the last one goes on with zeros.
    fn fill_gap(&mut self, path: PathId, old: u64) {
        let unique = self.unique();
        let tail = self.file_mut(path).blocks.get_mut((old / BLOCK_BYTES) as usize);
        if let Some(content) = tail.filter(|content| **content != ZEROS)
            && !old.is_multiple_of(BLOCK_BYTES)
        {
            *content = unique;
        }
    }

    /// A content that nothing is equal to.
    fn unique(&mut self) -> Content {
        self.unique = self.unique.wrapping_add(1);
        FIRST_UNIQUE.saturating_add(self.unique % (Content::MAX - FIRST_UNIQUE))
    }

    /// A range gets these bytes. What lies behind the end of the file does not count.
    fn put(&mut self, path: PathId, span: Span, fill: Fill) {
        let first = span.offset / BLOCK_BYTES;
        let end = span.end().div_ceil(BLOCK_BYTES).min(BLOCKS as u64);
        for block in first..end {
            let unique = self.unique();
            let file = self.file_mut(path);
            let block_end = ((block + 1) * BLOCK_BYTES).min(file.size.max(block * BLOCK_BYTES));
            let is_whole = span.offset <= block * BLOCK_BYTES && span.end() >= block_end;
            let content = &mut file.blocks[block as usize];
            match fill {
                Fill::Byte(byte) if is_whole => *content = byte.into(),
                Fill::Byte(byte) if *content == Content::from(byte) => {}
                _ => *content = unique,
            }
        }
    }

    fn copy(&mut self, fields: &Fields) {
        let source = *self.file(fields.path);
        let len = match fields.len {
            0 => source.size.saturating_sub(fields.offset),
            len => len,
        };
        self.extend(fields.target, Span::new(fields.other, len));
        let target = self.file_mut(fields.target);
        for block in 0..len.div_ceil(BLOCK_BYTES) {
            let from = (fields.offset / BLOCK_BYTES + block) as usize;
            let to = (fields.other / BLOCK_BYTES + block) as usize;
            if let (Some(content), Some(place)) =
                (source.blocks.get(from), target.blocks.get_mut(to))
            {
                *place = *content;
            }
        }
    }

    fn touch_mapped(&mut self, fields: &Fields) {
        if let Some(Mapping { path, span }) = self.map(fields.map) {
            let offset = span.offset.saturating_add(fields.offset);
            self.file_mut(path).touch(Span::new(offset, fields.len.min(BLOCK_BYTES * 4)));
        }
    }
}
