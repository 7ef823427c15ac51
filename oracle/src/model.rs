//! The oracle: its state, and the events that change it.
//!
//! *Verified*: results, contents, sizes, names and hole maps of single calls under concurrency.
//! *Not verified, because* one call's effects on different blocks, on size and on names are judged
//! apart from each other: neither POSIX nor Linux makes a call that spans blocks atomic.
use crate::call::{Call, CallId, Calls, FileId, Moment, OPEN, Standing};
use crate::file::Files;
use crate::floor::DeviceErrors;
use crate::guarantee::guarantee;
use crate::history::Mask;
use crate::namespace::{Mappings, Names};
use crate::nodes::Nodes;
use crate::operation::{Errno, MapId, OpId, Operation, Outcome, PathId, TaskIndex, whole_blocks};
use crate::promises::Promises;
use crate::query::{ARENA_START, Place};
use crate::version::Versions;
use crate::violation::Violation;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};

/// The reference model of one execution, and the judge of what a target shows of it.
#[derive(Debug)]
pub struct Oracle {
    pub(crate) promises: Promises,
    pub(crate) calls: Calls,
    pub(crate) files: Files,
    pub(crate) names: Names,
    pub(crate) mappings: Mappings,
    pub(crate) nodes: Nodes,
    /// Calls in flight, oldest first.
    pub(crate) open: Vec<CallId>,
    pub(crate) errors: DeviceErrors,
    /// Grows with every event, so that answers that depend on several histories expire.
    pub(crate) generation: u64,
    pub(crate) lab: Lab,
    path_names: Vec<String>,
    doubts: Cell<u64>,
    unpromised: Cell<u64>,
}

/// What questions leave behind: answers are asked for through a shared reference.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) versions: RefCell<Versions>,
    pub(crate) arena: RefCell<Vec<u64>>,
    pub(crate) pool: RefCell<Vec<Vec<(Mask, u64)>>>,
    /// The copies that are being followed.
    pub(crate) stack: RefCell<Vec<Place>>,
    /// How many were followed for the question at hand.
    pub(crate) copies: Cell<u32>,
}

impl Oracle {
    /// A model of an empty file system.
    pub fn new(promises: Promises) -> Oracle {
        Oracle {
            promises,
            calls: Calls::default(),
            files: Files::default(),
            names: Names::default(),
            mappings: Mappings::default(),
            nodes: Nodes::default(),
            open: Vec::new(),
            errors: DeviceErrors::default(),
            generation: 1,
            lab: Lab {
                versions: RefCell::new(Versions::new()),
                arena: RefCell::new(ARENA_START.to_vec()),
                pool: RefCell::default(),
                stack: RefCell::default(),
                copies: Cell::new(0),
            },
            path_names: Vec::new(),
            doubts: Cell::new(0),
            unpromised: Cell::new(0),
        }
    }

    /// Becomes the model of an empty file system again; keeps the allocations and the counters.
    pub fn reset(&mut self, promises: Promises) {
        self.promises = promises;
        self.calls.clear();
        self.files.clear();
        self.names.clear();
        self.mappings.clear();
        self.nodes.clear();
        self.open.clear();
        self.errors = DeviceErrors::default();
        self.generation = 1;
        self.lab.versions.get_mut().clear();
        self.lab.arena.get_mut().truncate(ARENA_START.len());
        self.lab.stack.get_mut().clear();
        self.path_names.clear();
    }

    /// What the target promises.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Gives the names that messages use, in the order of path ids; otherwise "path 0" and so on.
    pub fn set_path_names<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.path_names.clear();
        self.path_names.extend(names.into_iter().map(str::to_owned));
    }

    /// How often a bound was hit or the model does not cover what happened, so that nothing was
    /// concluded; counted since [`Oracle::new`].
    pub fn inconclusive(&self) -> u64 {
        self.doubts.get()
    }

    /// How many violations passed because the target does not promise their tier.
    pub fn unpromised(&self) -> u64 {
        self.unpromised.get()
    }

    /// How many calls were invoked since the last reset.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// A task invokes an operation. The interval of an asynchronous IO ends at the completion of
    /// the IO, not of its submission.
    pub fn invoke(&mut self, task: TaskIndex, id: OpId, op: &Operation, at: Moment) -> CallId {
        self.generation += 1;
        let call = self.calls.push(Call {
            task,
            id,
            op: op.clone(),
            invoke: at.0,
            ret: OPEN,
            standing: Standing::Open,
            files: SmallVec::new(),
            sources: SmallVec::new(),
            instances: SmallVec::new(),
            len: 0,
        });
        self.attach_call(call);
        self.nodes.attach(call, op);
        self.open.push(call);
        call
    }

    /// An operation returns. Its result is checked against what the calls so far allow.
    ///
    /// # Errors
    /// The first violation found. The model goes on with the result as it was reported.
    ///
    /// # Panics
    /// If the call was completed before: a bug of the caller.
    pub fn complete(
        &mut self,
        call: CallId,
        at: Moment,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        assert!(self.calls[call].standing == Standing::Open, "a call completes once");
        self.generation += 1;
        self.open.retain(|open| *open != call);
        self.calls[call].ret = at.0;
        self.calls[call].standing = if outcome.is_ok() { Standing::Done } else { Standing::Failed };
        self.lose_if_broken(at.0);
        let verdict = self.check_result(call, outcome);
        self.settle(call, outcome);
        let verdict = verdict.and_then(|()| self.check_midway(call, outcome));
        if outcome.is_ok() {
            self.raise_floors(call);
        } else if *outcome == Err(Errno::EIO) {
            self.note_report(call);
        }
        verdict
    }

    /// Reports a violation, unless its tier is not promised.
    pub(crate) fn report(&self, violation: Violation) -> Result<(), Violation> {
        let tier = guarantee(violation.guarantee).map(|guarantee| guarantee.tier);
        if tier.is_some_and(|tier| !self.promises.tiers.contains(tier)) {
            self.unpromised.set(self.unpromised.get() + 1);
            return Ok(());
        }
        Err(violation)
    }

    /// Nothing can be concluded here.
    pub(crate) fn give_up(&self) -> Result<(), Violation> {
        self.doubts.set(self.doubts.get() + 1);
        Ok(())
    }

    pub(crate) fn path_name(&self, path: PathId) -> String {
        match self.path_names.get(usize::from(path.0)) {
            Some(name) => name.clone(),
            None => format!("path {}", path.0),
        }
    }

    /// The files that mappings of a name may show during an interval, with the mapping's place.
    pub(crate) fn mapped(&self, map: MapId, interval: (u64, u64)) -> SmallVec<[Mapped; 2]> {
        let mut found = SmallVec::new();
        for id in self.mappings.during(&self.calls, map, interval) {
            let instance = self.mappings.get(id);
            for &file in &self.calls[instance.made].files {
                found.push(Mapped {
                    file,
                    offset: instance.span.offset,
                    len: whole_blocks(instance.span.len),
                    lasts: self.mappings.lasts(&self.calls, id, interval),
                });
            }
        }
        found
    }
}

/// A file as a mapping shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    pub(crate) file: FileId,
    /// The file offset at which the mapping begins.
    pub(crate) offset: u64,
    /// Bytes mapped: whole pages, as a mapping has them whatever was asked for (mmap(2)).
    pub(crate) len: u64,
    /// Whether it is there during the whole interval.
    pub(crate) lasts: bool,
}
