//! The hole map of a file by `lseek(SEEK_DATA)` and `lseek(SEEK_HOLE)`.

use oracle::operation::{HoleRun, Span};
use rustix::fd::AsFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How often a map is taken anew because the file changed meanwhile.
const TRIES_MAX: u32 = 1000;

/// The runs of data and holes up to the end of the file, in order.
pub(super) fn map(file: impl AsFd) -> Result<Vec<HoleRun>, Errno> {
    let size = || rustix::fs::fstat(&file).map(|stat| stat.st_size as u64);
    let mut before = size()?;
    for _ in 0..TRIES_MAX {
        let runs = map_up_to(&file, before)?;
        let after = size()?;
        // The calls of one map see the file at different moments and may not fit together.
        match runs {
            Some(runs) if after == before => return Ok(runs),
            _ => before = after,
        }
    }
    Err(Errno::AGAIN)
}

/// `None` if the file changed so that the runs do not fit together.
fn map_up_to(file: impl AsFd, size: u64) -> Result<Option<Vec<HoleRun>>, Errno> {
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
        // Another task may have cut the file off, or punched the data, meanwhile.
        let end = match rustix::fs::seek(&file, SeekFrom::Hole(start)) {
            Ok(end) if end > start => end.min(size),
            Ok(_) | Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        runs.push(HoleRun { span: Span::new(start, end - start), data: true });
        at = end;
    }
    Ok(Some(runs))
}
