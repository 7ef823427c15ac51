//! The calls of an execution: what was invoked when, what it acts on, and how it ended.
//!
//! *Promises*: a call's number is its position in the order of invocations. *Must never know*:
//! what is allowed.
use crate::operation::{OpId, Operation, TaskIndex};
use smallvec::SmallVec;
use std::ops::{Index, IndexMut};

/// A point of machine time: the harness stamps every event (invocation, return, disk event) with a
/// strictly growing number, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// One execution of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u32);

/// The end of the interval of a call in flight.
pub(crate) const OPEN: u64 = u64::MAX;

/// A file object: what a create gives birth to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) u32);

/// A mapping, from its mmap to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceId(pub(crate) u32);

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    Done,
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) task: TaskIndex,
    pub(crate) id: OpId,
    pub(crate) op: Operation,
    pub(crate) invoke: u64,
    pub(crate) ret: u64,
    pub(crate) standing: Standing,
    /// The files that it may act on: more than one only if names change meanwhile.
    pub(crate) files: SmallVec<[FileId; 2]>,
    /// Where copied bytes may come from: a file, and what to add to a source position.
    pub(crate) sources: SmallVec<[(FileId, i64); 2]>,
    /// The mappings that it may act through.
    pub(crate) instances: SmallVec<[InstanceId; 2]>,
    /// The bytes that it covers: what was asked for, later what was done.
    pub(crate) len: u64,
}

impl Call {
    /// The interval: open at the end while it is in flight.
    pub(crate) fn interval(&self) -> (u64, u64) {
        (self.invoke, self.ret)
    }
}

/// All calls in the order of their invocations.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    list: Vec<Call>,
}

impl Calls {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn push(&mut self, call: Call) -> CallId {
        self.list.push(call);
        CallId(self.list.len() as u32 - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Call> {
        self.list.iter()
    }
}

impl Index<CallId> for Calls {
    type Output = Call;

    fn index(&self, id: CallId) -> &Call {
        &self.list[id.0 as usize]
    }
}

impl IndexMut<CallId> for Calls {
    fn index_mut(&mut self, id: CallId) -> &mut Call {
        &mut self.list[id.0 as usize]
    }
}
