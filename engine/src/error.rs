//! What may go wrong in the engine, one variant a kind: a refused request, a full device, an IO
//! error, a corrupt image, an aborted file system, a stopped machine, and a bug of ours.
//!
//! Promises: every message completes "failed to …" and names the offending value; every error has
//! the error number that a system call would return. It must never know how a caller reports it.

use std::borrow::Cow;

/// The result of the engine's own operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that an operation of the engine may fail with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is refused for the reason that POSIX gives this number to.
    #[error("the request is refused: {0}")]
    Refused(Errno),
    /// An option or an argument has a value that cannot be.
    #[error("{what} cannot be {value}")]
    BadInput {
        /// What was given.
        what: Cow<'static, str>,
        /// The value, as given.
        value: String,
    },
    /// No space is left that this request may use.
    #[error("no space is left: {wanted} blocks wanted, {available} available")]
    NoSpace {
        /// Blocks that the request needs.
        wanted: u64,
        /// Blocks that it might have had.
        available: u64,
    },
    /// The device failed a request.
    #[error("the device {device} failed to {what} at block {block}")]
    Io {
        /// The device.
        device: u8,
        /// The first block of the request.
        block: u64,
        /// What was tried, such as "read a tree node".
        what: &'static str,
    },
    /// The image holds what no correct engine writes.
    #[error("the {structure} at block {block} is damaged: {what}")]
    Corrupt {
        /// The structure: "superblock", "tree node", "bitmap", …
        structure: &'static str,
        /// The block at which it was found.
        block: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An earlier error made the file system read-only: nothing can be made durable any more.
    #[error("the file system was shut down by an earlier error")]
    Aborted,
    /// The machine has stopped: power is off, or a bound was hit. Leave without touching the disk.
    #[error("the machine has stopped")]
    Stopped,
    /// The engine contradicts itself.
    #[error("the engine has a bug: {0}")]
    Bug(&'static str),
}

impl Error {
    /// A refusal of a value.
    pub fn bad_input(what: impl Into<Cow<'static, str>>, value: impl ToString) -> Error {
        Error::BadInput { what: what.into(), value: value.to_string() }
    }

    /// The number that a system call returns for this error. `Stopped` never reaches a caller that
    /// could look; it maps to EIO.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Refused(errno) => *errno,
            Error::BadInput { .. } => Errno::EINVAL,
            Error::NoSpace { .. } => Errno::ENOSPC,
            Error::Corrupt { .. } => Errno::EUCLEAN,
            Error::Aborted => Errno::EROFS,
            Error::Io { .. } | Error::Stopped | Error::Bug(_) => Errno::EIO,
        }
    }

    /// Whether the machine has stopped, so that the error says nothing about the file system.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Error::Stopped)
    }
}

impl From<machine::Stopped> for Error {
    fn from(_: machine::Stopped) -> Error {
        Error::Stopped
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

macro_rules! errno {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// Error numbers by their POSIX names, with Linux's values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Errno { $($name),* }

        impl Errno {
            /// The number on Linux (all architectures that use the generic table).
            pub const fn number(self) -> i32 {
                match self { $(Errno::$name => $number),* }
            }

            /// The POSIX name.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name)),* }
            }

            /// What it says, in a few words.
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$name => $text),* }
            }
        }
    };
}

errno! {
    EPERM = 1, "the operation is not permitted";
    ENOENT = 2, "there is no such name";
    EIO = 5, "the device failed";
    EBADF = 9, "the file is not open for this";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EFAULT = 14, "the address is not mapped";
    EBUSY = 16, "the object is busy";
    EEXIST = 17, "the name is taken";
    EXDEV = 18, "the names are on different file systems";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "a directory";
    EINVAL = 22, "an argument is invalid";
    ETXTBSY = 26, "the file is being executed or swapped to";
    EFBIG = 27, "the file would be too large";
    ENOSPC = 28, "no space is left";
    EROFS = 30, "the file system is read-only";
    EMLINK = 31, "too many links";
    ERANGE = 34, "the result does not fit";
    ENAMETOOLONG = 36, "the name is too long";
    ENOTEMPTY = 39, "the directory is not empty";
    ELOOP = 40, "too many symbolic links";
    ENODATA = 61, "there is no such attribute";
    EOVERFLOW = 75, "the value is too large";
    EOPNOTSUPP = 95, "the operation is not supported";
    EUCLEAN = 117, "the image is damaged";
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_completes_failed_to() {
        let error = Error::Corrupt { structure: "tree node", block: 7, what: "no items" };
        assert_eq!(error.to_string(), "the tree node at block 7 is damaged: no items");
        assert_eq!(error.errno().name(), "EUCLEAN");
        let refused = Error::from(Errno::ENOENT);
        assert_eq!(refused.to_string(), "the request is refused: there is no such name (ENOENT)");
        assert_eq!((refused.errno(), Errno::ENOENT.number()), (Errno::ENOENT, 2));
    }

    #[test]
    fn kinds_have_different_numbers() {
        let full = Error::NoSpace { wanted: 3, available: 1 };
        let damaged = Error::Corrupt { structure: "x", block: 0, what: "y" };
        let failed = Error::Io { device: 0, block: 3, what: "read a tree node" };
        let numbers = [full, damaged, failed, Error::Aborted].map(|e| e.errno().number());
        assert_eq!(numbers, [28, 117, 5, 30]);
    }
}
