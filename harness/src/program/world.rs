//! What a generator believes of the files while it writes a program: it keeps the operations from
//! failing for dull reasons and their ranges near each other. A belief, not a model: tasks run in
//! other orders than they are written in, and nothing depends on it being right.

use oracle::operation::{BLOCK_BYTES, MapId, Operation, PathId, Span};

use super::syntax::{Fields, Kind, split};
use super::{AfterLine, Program, limits};

/// How many ranges of a file are remembered.
const RECENT: usize = 6;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct File {
    pub(super) exists: bool,
    pub(super) size: u64,
    recent: [(u64, u64); RECENT],
    touched: usize,
}

impl File {
    /// The ranges that operations used last, in no particular order.
    pub(super) fn recent(&self) -> &[(u64, u64)] {
        &self.recent[..self.touched.min(RECENT)]
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
                file.size = fields.len;
            }
            Kind::Append => {
                let file = self.file_mut(fields.path);
                file.touch(Span::new(file.size, fields.len));
                file.size += fields.len;
            }
            Kind::Write | Kind::DirectWrite | Kind::DirectWriteFrom | Kind::AsyncWrite => {
                self.extend(fields.path, span);
            }
            Kind::Fallocate | Kind::ZeroRange if !fields.keep => self.extend(fields.path, span),
            Kind::Clone => self.extend(fields.target, Span::new(fields.other, fields.len)),
            Kind::Mmap => {
                let map = usize::from(fields.map.0) % limits::MAPS_MAX;
                self.maps[map] = Some(Mapping { path: fields.path, span });
            }
            Kind::Munmap => self.maps[usize::from(fields.map.0) % limits::MAPS_MAX] = None,
            Kind::Load | Kind::Store | Kind::Msync => self.touch_mapped(&fields),
            _ if kind.shape().has(super::syntax::Arg::Len) => {
                self.file_mut(fields.path).touch(span)
            }
            _ => {}
        }
    }

    fn extend(&mut self, path: PathId, span: Span) {
        let file = self.file_mut(path);
        file.touch(span);
        file.size = file.size.max(span.end());
    }

    fn touch_mapped(&mut self, fields: &Fields) {
        if let Some(Mapping { path, span }) = self.map(fields.map) {
            let offset = span.offset.saturating_add(fields.offset);
            self.file_mut(path).touch(Span::new(offset, fields.len.min(BLOCK_BYTES * 4)));
        }
    }
}
