//! Explaining: whose bytes were shown, why they cannot be there, and what was allowed.
//!
//! *Verified*: nothing; the judge has decided before. The kind is a classification for reports and
//! for telling findings apart: poison before foreign before stale, lost and torn.
//! *Not verified, because* bytes of one value, and zeros, name no operation.
use crate::call::{CallId, FileId};
use crate::content::{GRANULE_BYTES, Origin, identify};
use crate::guarantee::GuaranteeId;
use crate::history::{Grain, Query, bits};
use crate::model::Oracle;
use crate::operation::{BLOCK_BYTES, Fill, OpId, Operation as Op, PathId};
use crate::version::{BLOCK, Source};
use crate::violation::{Kind, Violation};
use smallvec::SmallVec;

/// Who looks at which file: a call, or a judge after a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) file: FileId,
    pub(crate) path: PathId,
    pub(crate) call: Option<CallId>,
    pub(crate) cut: Option<u64>,
}

/// The name of an operation in messages.
pub(crate) fn describe(op: &Op, id: OpId) -> String {
    let verb = match op {
        Op::Create { .. } => "create",
        Op::Unlink { .. } => "unlink",
        Op::Truncate { .. } => "truncate",
        Op::Write { .. } | Op::WriteFrom { .. } => "write",
        Op::Append { .. } => "append",
        Op::Read { .. } | Op::ReadInto { .. } => "read",
        Op::DirectWrite { .. } | Op::DirectWriteFrom { .. } => "dwrite",
        Op::DirectRead { .. } | Op::DirectReadInto { .. } => "dread",
        Op::AsyncWrite { .. } => "awrite",
        Op::AsyncRead { .. } => "aread",
        Op::Reap => "reap",
        Op::Mmap { .. } => "mmap",
        Op::Munmap { .. } => "munmap",
        Op::Load { .. } => "load",
        Op::Store { .. } => "store",
        Op::Msync { .. } => "msync",
        Op::Fallocate { .. } => "falloc",
        Op::Punch { .. } => "punch",
        Op::ZeroRange { .. } => "zero",
        Op::Clone { .. } => "clone",
        Op::Dedupe { .. } => "dedupe",
        Op::Fsync { .. } => "fsync",
        Op::Fdatasync { .. } => "fdatasync",
        Op::FsyncRange { .. } => "fsyncrange",
        Op::Sync => "sync",
        Op::Writeback { .. } => "wb",
        Op::Commit => "commit",
        Op::Reclaim { .. } => "reclaim",
        Op::Layout { .. } => "layout",
        Op::LayoutWrite { .. } => "lwrite",
        Op::Readahead { .. } => "readahead",
        Op::Holes { .. } => "holes",
        Op::Stat { .. } => "stat",
        Op::List => "list",
        Op::NodeRead { .. } => "node read",
        Op::NodeReadahead { .. } => "node readahead",
        Op::NodeModify { .. } => "node modify",
        Op::NodeWrite => "node write",
        Op::NodeReclaim { .. } => "node reclaim",
        Op::NodeNew { .. } => "node new",
    };
    format!("{verb} #{}", id.0)
}

impl Oracle {
    /// The guarantee that a persistence call gives for data.
    pub(crate) fn promise_of(&self, by: CallId) -> GuaranteeId {
        match self.calls[by].op {
            Op::Fsync { .. } | Op::Fdatasync { .. } => GuaranteeId::FSYNC_DATA,
            Op::FsyncRange { .. } | Op::Msync { .. } => GuaranteeId::RANGE_SYNC,
            Op::Sync => GuaranteeId::SYNC,
            _ => GuaranteeId::SYNC_WRITE,
        }
    }

    /// Says what is wrong with bytes of a block, from `start` on, that no allowed state shows.
    pub(crate) fn explain_bytes(
        &self,
        sight: Sight,
        number: u64,
        start: usize,
        bytes: &[u8],
        query: Query,
        values: &[u64],
    ) -> Violation {
        let origins = identify(bytes);
        let wrong = origins.iter().enumerate().filter_map(|(slot, &origin)| {
            let from = slot * GRANULE_BYTES;
            let piece = &bytes[from..bytes.len().min(from + GRANULE_BYTES)];
            let fits = self.shown_by_one(values, start + from, piece);
            (!fits).then_some((from, origin))
        });
        let classified = wrong.map(|(from, origin)| {
            let piece = &bytes[from..bytes.len().min(from + GRANULE_BYTES)];
            let torn = origin == Origin::Unknown
                && self.shown_by_parts(values, start + from, piece, Grain::Byte);
            let class = if torn {
                (GuaranteeId::DATA_ATOM, Kind::TornData)
            } else {
                self.classify(sight, number, origin, query)
            };
            (from, origin, class)
        });
        // The gravest is the one to tell; the first of equals.
        let worst = classified.min_by_key(|&(from, _, (_, kind))| (gravity(kind), from));
        let (from, origin, (guarantee, kind)) = worst.unwrap_or((
            0,
            origins.first().copied().unwrap_or(Origin::Unknown),
            (GuaranteeId::DATA_ATOM, Kind::TornData),
        ));
        let mut violation = Violation::new(guarantee, kind, String::new()).on(sight.path);
        violation.block = Some(number);
        self.fill_ops(&mut violation, &origins, values, start + from);
        let at = number * BLOCK_BYTES + (start + from) as u64;
        violation.message = self.tell(sight, number, at, origin, &violation, values, query);
        violation
    }

    fn fill_ops(&self, violation: &mut Violation, origins: &[Origin], values: &[u64], at: usize) {
        for origin in origins {
            if let Origin::Tag { op, .. } = *origin
                && !violation.shown.contains(&op)
            {
                violation.shown.push(op);
            }
        }
        for &value in values {
            if let Some(Source::Tag { op, .. }) = self.source_at(value, at)
                && !violation.allowed.contains(&op)
            {
                violation.allowed.push(op);
            }
        }
    }

    fn source_at(&self, value: u64, at: usize) -> Option<Source> {
        let versions = self.lab.versions.borrow();
        let mut runs = versions.get(value).runs();
        runs.find(|run| run.0 <= at && at < run.1.min(BLOCK)).map(|run| run.2)
    }

    /// What kind of wrong bytes these are.
    fn classify(
        &self,
        sight: Sight,
        number: u64,
        origin: Origin,
        query: Query,
    ) -> (GuaranteeId, Kind) {
        match origin {
            Origin::Poison { .. } => (GuaranteeId::NO_POISON, Kind::Poison),
            Origin::Unknown => (GuaranteeId::DATA_ATOM, Kind::CorruptData),
            Origin::Zero => self.classify_old(sight, number, query),
            Origin::Byte(byte) => {
                let known = self.entries_of(sight, number, |op| fill_of(op) == Some(byte));
                if known {
                    self.classify_old(sight, number, query)
                } else {
                    (GuaranteeId::DATA_ATOM, Kind::CorruptData)
                }
            }
            Origin::Tag { op, .. } => {
                let here = |call: &crate::call::Call| call.id == op;
                if self.history_has(sight, number, here) {
                    return self.classify_old(sight, number, query);
                }
                let touching = self.calls.iter().any(|call| {
                    call.id == op && call.files.iter().any(|&file| self.related(sight, file))
                });
                let kind = if touching { Kind::StaleData } else { Kind::ForeignData };
                (GuaranteeId::NO_FOREIGN_DATA, kind)
            }
        }
    }

    /// Whether a file is, or was by name, the one that is looked at.
    fn related(&self, sight: Sight, file: FileId) -> bool {
        file == sight.file || self.files.get(file).path == self.files.get(sight.file).path
    }

    fn history_has(
        &self,
        sight: Sight,
        number: u64,
        wanted: impl Fn(&crate::call::Call) -> bool,
    ) -> bool {
        self.files.get(sight.file).block(number).is_some_and(|history| {
            history.entries().iter().any(|entry| wanted(&self.calls[entry.call]))
        })
    }

    fn entries_of(&self, sight: Sight, number: u64, wanted: impl Fn(&Op) -> bool) -> bool {
        self.history_has(sight, number, |call| wanted(&call.op))
    }

    /// Bytes that once were right: stale while it lives, lost or back again after a cut.
    fn classify_old(&self, sight: Sight, number: u64, query: Query) -> (GuaranteeId, Kind) {
        let Some(cut) = sight.cut else { return (GuaranteeId::LIVE_DATA, Kind::StaleData) };
        let history = self.files.get(sight.file).block(number);
        let Some((history, floor)) = history.and_then(|h| h.floor(cut).map(|floor| (h, floor)))
        else {
            return (GuaranteeId::UNSYNCED, Kind::StaleData);
        };
        if history.lossy & query.required != 0 {
            return (GuaranteeId::ERROR_REPORTED, Kind::LostError);
        }
        let newest = bits(query.required).last().map(|index| history.entries()[index].effect);
        let zeroed = newest.is_some_and(|effect| effect.change == crate::file::Change::Zero);
        let kind = if zeroed { Kind::StaleData } else { Kind::LostData };
        (self.promise_of(floor.by), kind)
    }

    #[allow(clippy::too_many_arguments)]
    fn tell(
        &self,
        sight: Sight,
        number: u64,
        at: u64,
        origin: Origin,
        violation: &Violation,
        values: &[u64],
        query: Query,
    ) -> String {
        let name = self.path_name(sight.path);
        let mut text = match sight.call {
            Some(call) => format!("{}: block {number} of {name}", self.call_name(call)),
            None => format!("block {number} of {name}"),
        };
        let what = if violation.kind == Kind::TornData {
            "a mixture of versions".to_owned()
        } else {
            self.name_origin(origin)
        };
        text += &format!(" shows {what} at byte {at}");
        let history = self.files.get(sight.file).block(number);
        let floor = sight.cut.and_then(|cut| history.and_then(|history| history.floor(cut)));
        if let Some(floor) = floor.filter(|_| query.required != 0) {
            text += &format!("; {} had returned", self.call_name(floor.by));
        }
        let inside = (at % BLOCK_BYTES) as usize;
        let mut allowed: SmallVec<[String; 4]> = SmallVec::new();
        for &value in values {
            let one = match self.source_at(value, inside) {
                Some(Source::Tag { op, .. }) => format!("#{}", op.0),
                Some(Source::Byte(byte)) => format!("bytes {byte:#04x}"),
                Some(Source::Zero) | None => "zeros".to_owned(),
            };
            if !allowed.contains(&one) {
                allowed.push(one);
            }
        }
        text + &format!("; allowed: {}", allowed.join(", "))
    }

    fn name_origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Tag { op, path, offset } => {
                let call = self.calls.iter().find(|call| call.id == op);
                let who = call.map_or(format!("#{}", op.0), |call| describe(&call.op, op));
                if usize::from(path.0) < 0xc0 {
                    format!("bytes of {who} to {} at {offset}", self.path_name(PathId(path.0)))
                } else {
                    format!("bytes of {who} at {offset} of its mapping")
                }
            }
            Origin::Zero => "zeros".to_owned(),
            Origin::Byte(byte) => format!("bytes {byte:#04x}"),
            Origin::Poison { device, block } => {
                format!("the never-written block {block} of device {device}")
            }
            Origin::Unknown => "bytes that nobody wrote".to_owned(),
        }
    }
}

fn gravity(kind: Kind) -> u8 {
    match kind {
        Kind::Poison => 0,
        Kind::ForeignData => 1,
        Kind::StaleData => 2,
        Kind::LostError => 3,
        Kind::LostData => 4,
        Kind::CorruptData => 5,
        _ => 6,
    }
}

fn fill_of(op: &Op) -> Option<u8> {
    match crate::content::stream(op)?.0 {
        Fill::Byte(byte) => Some(byte),
        Fill::Tag => None,
    }
}
