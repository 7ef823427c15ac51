//! What the model holds, for reports: the calls with their intervals, and the states that it
//! allows.
//!
//! *Promises*: answers are those that the judge compares with, in a form that can be shown; asking
//! changes no verdict. *Must never know*: what a target showed.
use crate::call::{FileId, Moment, OPEN, Standing};
use crate::history::{Answer, History, Query};
use crate::model::Oracle;
use crate::namespace::{FREE, file_of};
use crate::operation::{BLOCK_BYTES, Fill, OpId, Operation, PathId, TaskIndex};
use crate::promises::Atom;
use crate::version::Source;
use smallvec::SmallVec;

/// A call of the execution.
#[derive(Clone, Copy, Debug)]
pub struct CallSeen<'a> {
    /// The task that made it.
    pub task: TaskIndex,
    /// Its number.
    pub id: OpId,
    /// What was called.
    pub op: &'a Operation,
    /// When it was invoked.
    pub invoked: Moment,
    /// When it returned, if it did.
    pub returned: Option<Moment>,
    /// Whether it returned an error.
    pub failed: bool,
}

/// Where bytes of an allowed state come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Zeros.
    Zero,
    /// One byte repeated.
    Byte(u8),
    /// What an operation wrote.
    Op {
        /// The operation.
        op: OpId,
        /// The name of its stream.
        path: PathId,
        /// The stream position of the run's first byte.
        position: i64,
    },
}

impl Bytes {
    /// Writes the bytes of a run.
    pub fn render(self, out: &mut [u8]) {
        match self {
            Bytes::Zero => out.fill(0),
            Bytes::Byte(byte) => out.fill(byte),
            Bytes::Op { op, path, position } => {
                crate::content::fill(Fill::Tag, op, path, position as u64, out);
            }
        }
    }
}

/// One state that a block may have: runs from their first byte on, in order.
pub type State = Vec<(u16, Bytes)>;

/// What is allowed of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The states, the oldest first. None, if nothing can be concluded.
    pub states: Vec<State>,
    /// The call that had returned and promises that nothing older is there.
    pub promised_by: Option<OpId>,
}

/// What is allowed of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Whether it may be absent.
    pub may_be_absent: bool,
    /// Whether it may be there.
    pub may_exist: bool,
    /// The sizes that its file may have.
    pub sizes: Vec<u64>,
}

/// At which time a state is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// What a call at that moment may see.
    Live(Moment),
    /// What may be found after power was lost then.
    Cut(Moment),
}

impl Oracle {
    /// The calls, in the order of their invocations.
    pub fn account(&self) -> impl Iterator<Item = CallSeen<'_>> {
        self.calls.iter().map(|call| CallSeen {
            task: call.task,
            id: call.id,
            op: &call.op,
            invoked: Moment(call.invoke),
            returned: (call.ret != OPEN).then_some(Moment(call.ret)),
            failed: call.standing == Standing::Failed,
        })
    }

    /// What a name may be.
    pub fn allowed_name(&self, path: PathId, when: When) -> Named {
        let Some(name) = self.names.get(path) else {
            return Named { may_be_absent: true, ..Named::default() };
        };
        let query = self.query_at(&name.history, when, false);
        let bindings = self.bindings(path, query).unwrap_or_default();
        let mut named = Named { may_be_absent: bindings.contains(&FREE), ..Named::default() };
        for file in bindings.iter().filter_map(|&binding| file_of(binding)) {
            named.may_exist = true;
            let history = &self.files.get(file).sizes;
            let answer = self.size_answer(file, self.query_at(history, when, true));
            if !answer.doubt {
                named.sizes.extend(self.values(answer));
            }
        }
        named.sizes.sort_unstable();
        named.sizes.dedup();
        named
    }

    /// What a block of the file of a name may show.
    pub fn allowed_block(&self, path: PathId, number: u64, when: When) -> Allowed {
        let mut allowed = Allowed::default();
        for file in self.files_at(path, when) {
            let Some(history) = self.files.get(file).block(number) else {
                push_new(&mut allowed.states, vec![(0, Bytes::Zero)]);
                continue;
            };
            let relax = self.promises.data_atom == Atom::Sector;
            let query = self.query_at(history, when, relax);
            let answer = self.block_answer(file, number, query);
            if let When::Cut(cut) = when {
                let floor = history.floor(cut.0).filter(|_| query.required != 0);
                allowed.promised_by = floor.map(|floor| self.calls[floor.by].id);
            }
            self.states(answer, &mut allowed.states);
        }
        allowed
    }

    /// The blocks below the largest size that a name may have had.
    pub fn blocks_of(&self, path: PathId, when: When) -> u64 {
        let sizes = self.allowed_name(path, when).sizes;
        sizes.last().map_or(0, |size| size.div_ceil(BLOCK_BYTES))
    }

    fn files_at(&self, path: PathId, when: When) -> SmallVec<[FileId; 2]> {
        let Some(name) = self.names.get(path) else { return SmallVec::new() };
        let query = self.query_at(&name.history, when, false);
        let bindings = self.bindings(path, query).unwrap_or_default();
        bindings.iter().filter_map(|&binding| file_of(binding)).collect()
    }

    fn query_at<E: Copy>(&self, history: &History<E>, when: When, relax: bool) -> Query {
        match when {
            When::Live(at) => history.during(&self.calls, (at.0, at.0)),
            When::Cut(at) => history.after_cut(&self.calls, at.0, relax),
        }
    }

    fn states(&self, answer: Answer, states: &mut Vec<State>) {
        if answer.doubt {
            return;
        }
        let values = self.values(answer);
        let versions = self.lab.versions.borrow();
        for value in values {
            let run = |(start, _, source): (usize, usize, Source)| {
                let bytes = match source {
                    Source::Zero => Bytes::Zero,
                    Source::Byte(byte) => Bytes::Byte(byte),
                    Source::Tag { op, path, base } => {
                        Bytes::Op { op, path, position: base.wrapping_add(start as i64) }
                    }
                };
                (start as u16, bytes)
            };
            push_new(states, versions.get(value).runs().map(run).collect());
        }
    }
}

fn push_new(states: &mut Vec<State>, state: State) {
    if !states.contains(&state) {
        states.push(state);
    }
}
