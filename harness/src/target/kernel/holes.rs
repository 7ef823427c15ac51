//! The hole map of a file by `lseek(SEEK_DATA)` and `lseek(SEEK_HOLE)`.

use oracle::operation::{HoleRun, Span};
use rustix::fd::AsFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// The runs of data and holes up to the end of the file, in order.
pub(super) fn map(file: impl AsFd) -> Result<Vec<HoleRun>, Errno> {
    let size = rustix::fs::fstat(&file)?.st_size as u64;
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
