//! Why an operation has no value, in one type that `?` makes from whatever was met on the way.
//!
//! It promises that nothing is lost that the oracle is to know. It must never know a target.

use super::{Performed, TargetError};
use machine::Stopped;
use machine::disk::DiskError;
use oracle::operation::{Errno, Value};

/// Why an operation has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It returns this error.
    Errno(Errno),
    /// It will never return: see [`Performed::Stopped`].
    Stopped,
    /// The target did what no operation can answer: see [`Performed::Strange`].
    Strange(String),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal::Errno(errno)
    }
}

impl From<Stopped> for Refusal {
    fn from(_: Stopped) -> Self {
        Refusal::Stopped
    }
}

/// A request that the device failed is an EIO; any other is a bug of its submitter.
impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Io { .. } => Refusal::Errno(Errno::EIO),
            other => Refusal::Strange(other.to_string()),
        }
    }
}

impl From<Result<Value, Refusal>> for Performed {
    fn from(result: Result<Value, Refusal>) -> Self {
        match result {
            Ok(value) => Performed::Done(Ok(value)),
            Err(Refusal::Errno(errno)) => Performed::Done(Err(errno)),
            Err(Refusal::Stopped) => Performed::Stopped,
            Err(Refusal::Strange(what)) => Performed::Strange(what),
        }
    }
}

impl From<Refusal> for TargetError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Errno(errno) => TargetError::new(format!("{errno:?}"), format!("{errno:?}")),
            Refusal::Stopped => Stopped.into(),
            Refusal::Strange(what) => {
                let message = format!("the target answered with {what}");
                TargetError::new(what, message)
            }
        }
    }
}
