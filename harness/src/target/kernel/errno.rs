//! Error numbers of the kernel as those of the vocabulary.

use crate::target::Performed;
use oracle::operation::{Errno, Outcome, Value};

macro_rules! same_names {
    ($($name:ident $kernel:ident,)*) => {
        /// The error number by its POSIX name; `None` if no operation of the vocabulary has it.
        fn known(errno: rustix::io::Errno) -> Option<Errno> {
            match errno {
                $(rustix::io::Errno::$kernel => Some(Errno::$name),)*
                _ => None,
            }
        }
    };
}

#[rustfmt::skip]
same_names! {
    EPERM PERM, ENOENT NOENT, EIO IO, EBADF BADF, EAGAIN AGAIN, ENOMEM NOMEM, EFAULT FAULT,
    EBUSY BUSY, EEXIST EXIST, EXDEV XDEV, ENOTDIR NOTDIR, EISDIR ISDIR, EINVAL INVAL,
    ETXTBSY TXTBSY, EFBIG FBIG, ENOSPC NOSPC, EROFS ROFS, EMLINK MLINK, ERANGE RANGE,
    ENAMETOOLONG NAMETOOLONG, ENOTEMPTY NOTEMPTY, ELOOP LOOP, ENODATA NODATA, EOVERFLOW OVERFLOW,
    EOPNOTSUPP OPNOTSUPP, EUCLEAN UCLEAN,
}

/// What a system call returned, as an outcome.
pub(super) fn performed(result: Result<Value, rustix::io::Errno>) -> Performed {
    match result.map_err(|errno| (errno, known(errno))) {
        Ok(value) => Performed::Done(Outcome::Ok(value)),
        Err((_, Some(errno))) => Performed::Done(Outcome::Err(errno)),
        Err((errno, None)) => Performed::Strange(format!("error number {errno:?}")),
    }
}
