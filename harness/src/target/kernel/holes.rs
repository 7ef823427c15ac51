//! The hole map of a file by `lseek(SEEK_DATA)` and `lseek(SEEK_HOLE)`.

use oracle::operation::{HoleRun, Span};
use rustix::fd::AsFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How often a map is taken anew because the size of the file changed meanwhile.
const TRIES_MAX: u32 = 1000;

/// The runs of data and holes up to the end of the file, in order.
pub(super) fn map(file: impl AsFd) -> Result<Vec<HoleRun>, Errno> {
    let size = || rustix::fs::fstat(&file).map(|stat| stat.st_size as u64);
    let mut before = size()?;
    for _ in 0..TRIES_MAX {
        let runs = map_up_to(&file, before)?;
        let after = size()?;
        // The calls of one map see the file at different moments: those of a changing size do not
        // fit together.
        if after == before && runs.last().map_or(0, |run| run.span.end()) == after {
            return Ok(runs);
        }
        before = after;
    }
    Err(Errno::AGAIN)
}

fn map_up_to(file: impl AsFd, size: u64) -> Result<Vec<HoleRun>, Errno> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole follows.
            Err(Errno::NXIO) => size,
            Err(errno) => return Err(errno),
        };
        if start > at {
            runs.push(HoleRun { span: Span::new(at, start - at), data: false });
        }
        if start == size {
            break;
        }
        // Another task may have cut the file off meanwhile.
        let end = match rustix::fs::seek(&file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        if end > start {
            runs.push(HoleRun { span: Span::new(start, end - start), data: true });
        }
        at = end.max(start + 1);
    }
    Ok(runs)
}
