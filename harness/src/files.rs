//! Writing files that others may read at any moment.

use std::fs;
use std::io;
use std::path::Path;

/// Writes a file that is complete or not there at all, whenever the process ends.
///
/// # Errors
/// Those of the file system; a file that was there is as it was.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut partial = path.as_os_str().to_os_string();
    partial.push(".partial");
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}
