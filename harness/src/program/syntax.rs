//! The syntax of operations as one table: which words and arguments each kind of operation has.
//!
//! Parser, printer, generator, mutator and the reference in `docs/program-text.md` all read this
//! table, so a new operation is one row here and one arm in [`split`] and in [`build`]. A row never
//! changes its meaning: old programs must keep theirs.

use oracle::operation::{Fill, MapId, NodeId, Operation, PathId, Span, Sync};

/// One argument of an operation line, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// The name of the file operated on, or of the source.
    Path,
    /// The name of the target of a clone or dedupe.
    Target,
    /// The name of a mapping.
    Map,
    /// The offset in the file, or in the mapping for loads, stores and msync.
    Offset,
    /// The length of the range.
    Len,
    /// A file size; kept in [`Fields::len`].
    Size,
    /// The offset in the target of a clone, or in the mapping that is a user buffer.
    Other,
    /// The number of a bare node.
    Node,
    /// A fixed word that separates two operands.
    Word(&'static str),
    /// `fill=0xNN`; without it the bytes describe themselves.
    Fill,
    /// `sync`: durable at return, as O_DSYNC.
    Sync,
    /// `keep`: the size of the file stays.
    Keep,
}

/// The arguments of any operation, in a form that generic code can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// [`Arg::Path`].
    pub path: PathId,
    /// [`Arg::Target`].
    pub target: PathId,
    /// [`Arg::Map`].
    pub map: MapId,
    /// [`Arg::Offset`], in bytes.
    pub offset: u64,
    /// [`Arg::Len`] or [`Arg::Size`], in bytes.
    pub len: u64,
    /// [`Arg::Other`], in bytes.
    pub other: u64,
    /// [`Arg::Node`].
    pub node: NodeId,
    /// [`Arg::Fill`].
    pub fill: Fill,
    /// [`Arg::Sync`].
    pub sync: Sync,
    /// [`Arg::Keep`].
    pub keep: bool,
}

impl Fields {
    /// What a line means that mentions nothing.
    pub const EMPTY: Fields = Fields {
        path: PathId(0),
        target: PathId(0),
        map: MapId(0),
        offset: 0,
        len: 0,
        other: 0,
        node: NodeId(0),
        fill: Fill::Tag,
        sync: Sync::None,
        keep: false,
    };

    /// The range in the file or mapping.
    pub const fn span(&self) -> Span {
        Span::new(self.offset, self.len)
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Shape {
    /// The kind that the row describes.
    pub kind: Kind,
    /// The first word of the line. Two kinds may share it; the separating word tells them apart.
    pub word: &'static str,
    /// The arguments in order; optional ones come last and in any order.
    pub args: &'static [Arg],
    /// How often a generator draws the kind, relative to the others.
    pub weight: u32,
    /// One sentence for the reference.
    pub doc: &'static str,
}

impl Shape {
    /// Whether a line of this kind has the argument.
    pub fn has(&self, arg: Arg) -> bool {
        self.args.contains(&arg)
    }

    /// The word in the middle that tells two kinds of the same first word apart.
    pub fn separator(&self) -> Option<(usize, &'static str)> {
        self.args.iter().enumerate().find_map(|(index, arg)| match arg {
            Arg::Word(word) => Some((index, *word)),
            _ => None,
        })
    }
}

macro_rules! table {
    ($($kind:ident $word:literal [$($arg:expr),*] $weight:literal $doc:literal;)*) => {
        /// The kind of an operation, without its arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $(#[doc = $doc] $kind,)* }

        /// Every kind of operation, indexed by `Kind as usize`.
        pub static SHAPES: &[Shape] = {
            use Arg::*;
            &[$(Shape { kind: Kind::$kind, word: $word, args: &[$($arg),*], weight: $weight,
                doc: $doc },)*]
        };
    };
}

#[rustfmt::skip]
table! {
    Create "create" [Path] 3 "Create an empty file; EEXIST if the name is taken.";
    Unlink "unlink" [Path] 2 "Remove a name.";
    Truncate "truncate" [Path, Size] 5 "Set the size; growing shows zeros.";
    Write "write" [Path, Offset, Len, Fill, Sync] 12 "Buffered write.";
    Append "append" [Path, Len, Fill, Sync] 3 "Buffered write at the end of the file.";
    Read "read" [Path, Offset, Len] 5 "Buffered read.";
    WriteFrom "write" [Path, Offset, Len, Word("from"), Map, Other, Sync] 2
        "Buffered write whose user buffer is the memory of a mapping, from an offset on.";
    ReadInto "read" [Path, Offset, Len, Word("into"), Map, Other] 2
        "Buffered read into the memory of a mapping, from an offset on.";
    DirectWrite "dwrite" [Path, Offset, Len, Fill, Sync] 10 "O_DIRECT write.";
    DirectWriteFrom "dwrite" [Path, Offset, Len, Word("from"), Map, Other, Sync] 3
        "O_DIRECT write whose user buffer is the memory of a mapping, from an offset on.";
    DirectRead "dread" [Path, Offset, Len] 5 "O_DIRECT read.";
    DirectReadInto "dread" [Path, Offset, Len, Word("into"), Map, Other] 3
        "O_DIRECT read into the memory of a mapping, from an offset on.";
    AsyncWrite "awrite" [Path, Offset, Len, Fill, Sync] 5
        "O_DIRECT write that returns when it is submitted.";
    AsyncRead "aread" [Path, Offset, Len] 2 "O_DIRECT read that returns when it is submitted.";
    Reap "reap" [] 3 "Wait for the asynchronous operations of this task.";
    Mmap "mmap" [Map, Path, Offset, Len] 2 "Map a range of whole pages, shared; nothing is read.";
    Munmap "munmap" [Map] 1 "Remove a mapping.";
    Load "load" [Map, Offset, Len] 4 "CPU loads through a mapping.";
    Store "store" [Map, Offset, Len, Fill] 8 "CPU stores through a mapping.";
    Msync "msync" [Map, Offset, Len] 4 "msync(MS_SYNC) of a part of a mapping.";
    Fallocate "falloc" [Path, Offset, Len, Keep] 4 "Preallocate unwritten space.";
    Punch "punch" [Path, Offset, Len] 5 "Punch a hole.";
    ZeroRange "zero" [Path, Offset, Len, Keep] 3 "Zero a range without writing data.";
    Clone "clone" [Path, Offset, Word("to"), Target, Other, Len] 4
        "Share a range with another file (reflink); length 0 means to the end of the source.";
    Dedupe "dedupe" [Path, Offset, Word("to"), Target, Other, Len] 4
        "Share a range with another file if the contents are equal.";
    Fsync "fsync" [Path] 12 "fsync.";
    Fdatasync "fdatasync" [Path] 6 "fdatasync.";
    FsyncRange "fsyncrange" [Path, Offset, Len] 4 "fsync of a range of bytes.";
    Sync "sync" [] 5 "Make everything durable that every operation returned before has done.";
    Writeback "wb" [Path] 6 "Ask for background writeback of a file; promises nothing.";
    Commit "commit" [] 4 "Ask for a transaction commit in the background; promises nothing.";
    Reclaim "reclaim" [Path] 4 "Drop clean caches of a file; promises nothing.";
    Holes "holes" [Path] 2 "The map of data and holes.";
    Stat "stat" [Path] 2 "Size and link count.";
    List "list" [] 1 "The names in the root directory.";
    NodeRead "node" [Word("read"), Node] 6 "The versions of the halves of a bare node.";
    NodeReadahead "node" [Word("readahead"), Node] 5 "Begin to read a bare node.";
    NodeModify "node" [Word("modify"), Node] 9 "Give a bare node another version.";
    NodeWrite "node" [Word("write")] 6 "Write dirty bare nodes and wait; promises nothing.";
    NodeReclaim "node" [Word("reclaim"), Node] 9
        "Drop a bare node from memory if nobody uses it; promises nothing.";
    NodeNew "node" [Word("new"), Node] 7
        "Give the block of a bare node up and take it into use again, with another version.";
    Readahead "readahead" [Path, Offset, Len] 3
        "readahead(2): begin to read a range into the cache; promises nothing.";
    Layout "layout" [Path, Offset, Len] 6
        "Let a holder write the blocks of a range past the file system, as pNFS does, until \
         something else changes the file; it changes nothing.";
    LayoutWrite "lwrite" [Path, Offset, Len, Fill] 9
        "Write of whole blocks by a holder of a layout; EAGAIN if there is no layout.";
}

impl Kind {
    /// The number of kinds.
    pub const COUNT: usize = Kind::LayoutWrite as usize + 1;

    /// The row of the table.
    pub fn shape(self) -> &'static Shape {
        &SHAPES[self as usize]
    }

    /// A name that no other kind has: the first word, and the one that separates two operands.
    pub fn name(self) -> String {
        match self.shape().separator() {
            None | Some((_, "to")) => self.shape().word.to_string(),
            Some((_, separator)) => format!("{}-{separator}", self.shape().word),
        }
    }

    /// Whether it is about bare nodes.
    pub fn is_of_nodes(self) -> bool {
        self.shape().word == "node"
    }

    /// Whether it is about layouts.
    pub fn is_of_layouts(self) -> bool {
        matches!(self, Kind::Layout | Kind::LayoutWrite)
    }

    /// The kind whose row has this index.
    pub fn from_index(index: usize) -> Option<Kind> {
        SHAPES.get(index).map(|shape| shape.kind)
    }

    /// Every kind, in the order of the table.
    pub fn all() -> impl Iterator<Item = Kind> {
        SHAPES.iter().map(|shape| shape.kind)
    }
}

/// The kind of an operation.
pub fn kind(operation: &Operation) -> Kind {
    split(operation).0
}

/// Takes an operation apart. Arguments that the kind does not have are those of
/// [`Fields::EMPTY`], so `build(split(op)) == op` and two equal operations have equal fields.
#[rustfmt::skip]
pub fn split(operation: &Operation) -> (Kind, Fields) {
    use Operation as O;
    const E: Fields = Fields::EMPTY;
    let on = |path: PathId, span: Span| Fields { path, offset: span.offset, len: span.len, ..E };
    let mapped = |map: MapId, span: Span| Fields { map, offset: span.offset, len: span.len, ..E };
    match *operation {
        O::Create { path } => (Kind::Create, Fields { path, ..E }),
        O::Unlink { path } => (Kind::Unlink, Fields { path, ..E }),
        O::Truncate { path, size } => (Kind::Truncate, Fields { path, len: size, ..E }),
        O::Write { path, span, fill, sync } =>
            (Kind::Write, Fields { fill, sync, ..on(path, span) }),
        O::Append { path, len, fill, sync } =>
            (Kind::Append, Fields { path, len, fill, sync, ..E }),
        O::Read { path, span } => (Kind::Read, on(path, span)),
        O::WriteFrom { path, span, map, map_offset, sync } =>
            (Kind::WriteFrom, Fields { map, other: map_offset, sync, ..on(path, span) }),
        O::ReadInto { path, span, map, map_offset } =>
            (Kind::ReadInto, Fields { map, other: map_offset, ..on(path, span) }),
        O::DirectWrite { path, span, fill, sync } =>
            (Kind::DirectWrite, Fields { fill, sync, ..on(path, span) }),
        O::DirectWriteFrom { path, span, map, map_offset, sync } =>
            (Kind::DirectWriteFrom, Fields { map, other: map_offset, sync, ..on(path, span) }),
        O::DirectRead { path, span } => (Kind::DirectRead, on(path, span)),
        O::DirectReadInto { path, span, map, map_offset } =>
            (Kind::DirectReadInto, Fields { map, other: map_offset, ..on(path, span) }),
        O::AsyncWrite { path, span, fill, sync } =>
            (Kind::AsyncWrite, Fields { fill, sync, ..on(path, span) }),
        O::AsyncRead { path, span } => (Kind::AsyncRead, on(path, span)),
        O::Reap => (Kind::Reap, E),
        O::Mmap { map, path, span } => (Kind::Mmap, Fields { map, ..on(path, span) }),
        O::Munmap { map } => (Kind::Munmap, Fields { map, ..E }),
        O::Load { map, span } => (Kind::Load, mapped(map, span)),
        O::Store { map, span, fill } => (Kind::Store, Fields { fill, ..mapped(map, span) }),
        O::Msync { map, span } => (Kind::Msync, mapped(map, span)),
        O::Fallocate { path, span, keep_size } =>
            (Kind::Fallocate, Fields { keep: keep_size, ..on(path, span) }),
        O::Punch { path, span } => (Kind::Punch, on(path, span)),
        O::ZeroRange { path, span, keep_size } =>
            (Kind::ZeroRange, Fields { keep: keep_size, ..on(path, span) }),
        O::Clone { source, source_offset, target, target_offset, len } => (Kind::Clone,
            Fields { target, other: target_offset, ..on(source, Span::new(source_offset, len)) }),
        O::Dedupe { source, source_offset, target, target_offset, len } => (Kind::Dedupe,
            Fields { target, other: target_offset, ..on(source, Span::new(source_offset, len)) }),
        O::Fsync { path } => (Kind::Fsync, Fields { path, ..E }),
        O::Fdatasync { path } => (Kind::Fdatasync, Fields { path, ..E }),
        O::FsyncRange { path, span } => (Kind::FsyncRange, on(path, span)),
        O::Sync => (Kind::Sync, E),
        O::Writeback { path } => (Kind::Writeback, Fields { path, ..E }),
        O::Commit => (Kind::Commit, E),
        O::Reclaim { path } => (Kind::Reclaim, Fields { path, ..E }),
        O::Holes { path } => (Kind::Holes, Fields { path, ..E }),
        O::Stat { path } => (Kind::Stat, Fields { path, ..E }),
        O::List => (Kind::List, E),
        O::NodeRead { node } => (Kind::NodeRead, Fields { node, ..E }),
        O::NodeReadahead { node } => (Kind::NodeReadahead, Fields { node, ..E }),
        O::NodeModify { node } => (Kind::NodeModify, Fields { node, ..E }),
        O::NodeWrite => (Kind::NodeWrite, E),
        O::NodeReclaim { node } => (Kind::NodeReclaim, Fields { node, ..E }),
        O::NodeNew { node } => (Kind::NodeNew, Fields { node, ..E }),
        O::Layout { path, span } => (Kind::Layout, on(path, span)),
        O::LayoutWrite { path, span, fill } =>
            (Kind::LayoutWrite, Fields { fill, ..on(path, span) }),
        O::Readahead { path, span } => (Kind::Readahead, on(path, span)),
        // Programs are made by `build` alone, so an operation without a row cannot be in one.
        ref other => unreachable!("{other:?} has no row in the table of operations"),
    }
}

/// Puts an operation together; arguments that the kind does not have are ignored.
#[rustfmt::skip]
pub fn build(kind: Kind, fields: &Fields) -> Operation {
    use Operation as O;
    let Fields { path, target, map, offset, len, other, node, fill, sync, keep: keep_size } =
        *fields;
    let span = fields.span();
    match kind {
        Kind::Create => O::Create { path },
        Kind::Unlink => O::Unlink { path },
        Kind::Truncate => O::Truncate { path, size: len },
        Kind::Write => O::Write { path, span, fill, sync },
        Kind::Append => O::Append { path, len, fill, sync },
        Kind::Read => O::Read { path, span },
        Kind::WriteFrom => O::WriteFrom { path, span, map, map_offset: other, sync },
        Kind::ReadInto => O::ReadInto { path, span, map, map_offset: other },
        Kind::DirectWrite => O::DirectWrite { path, span, fill, sync },
        Kind::DirectWriteFrom => O::DirectWriteFrom { path, span, map, map_offset: other, sync },
        Kind::DirectRead => O::DirectRead { path, span },
        Kind::DirectReadInto => O::DirectReadInto { path, span, map, map_offset: other },
        Kind::AsyncWrite => O::AsyncWrite { path, span, fill, sync },
        Kind::AsyncRead => O::AsyncRead { path, span },
        Kind::Reap => O::Reap,
        Kind::Mmap => O::Mmap { map, path, span },
        Kind::Munmap => O::Munmap { map },
        Kind::Load => O::Load { map, span },
        Kind::Store => O::Store { map, span, fill },
        Kind::Msync => O::Msync { map, span },
        Kind::Fallocate => O::Fallocate { path, span, keep_size },
        Kind::Punch => O::Punch { path, span },
        Kind::ZeroRange => O::ZeroRange { path, span, keep_size },
        Kind::Clone => O::Clone {
            source: path, source_offset: offset, target, target_offset: other, len },
        Kind::Dedupe => O::Dedupe {
            source: path, source_offset: offset, target, target_offset: other, len },
        Kind::Fsync => O::Fsync { path },
        Kind::Fdatasync => O::Fdatasync { path },
        Kind::FsyncRange => O::FsyncRange { path, span },
        Kind::Sync => O::Sync,
        Kind::Writeback => O::Writeback { path },
        Kind::Commit => O::Commit,
        Kind::Reclaim => O::Reclaim { path },
        Kind::Holes => O::Holes { path },
        Kind::Stat => O::Stat { path },
        Kind::List => O::List,
        Kind::NodeRead => O::NodeRead { node },
        Kind::NodeReadahead => O::NodeReadahead { node },
        Kind::NodeModify => O::NodeModify { node },
        Kind::NodeWrite => O::NodeWrite,
        Kind::NodeReclaim => O::NodeReclaim { node },
        Kind::NodeNew => O::NodeNew { node },
        Kind::Layout => O::Layout { path, span },
        Kind::LayoutWrite => O::LayoutWrite { path, span, fill },
        Kind::Readahead => O::Readahead { path, span },
    }
}
