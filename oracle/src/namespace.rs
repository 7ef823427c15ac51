//! Names: which file each name may lead to, over time; and mappings, which hold files without name.
//!
//! One root directory for now. Directories make a name (directory object, path) instead of a path;
//! links and renames add effects to [`NameEffect`] (a rename binds one name and unbinds another in
//! one call, so their entries share its interval); extended attributes are histories of their own
//! beside the size of a file.
//!
//! *Verified*: bindings after create, unlink and both at once, live and after a cut.
//! *Not verified, because* not in the vocabulary yet: directories, links, renames, attributes.
use crate::call::{CallId, Calls, FileId, InstanceId};
use crate::history::History;
use crate::operation::{MapId, PathId, Span};
use smallvec::SmallVec;

/// What a call does to a name. A state of a name is 0 where it is free, else the file's number + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameEffect {
    /// The free name leads to the file.
    Bind(FileId),
    /// The taken name is free.
    Unbind,
}

impl NameEffect {
    /// The state after it, if it can happen in `state`.
    pub(crate) fn apply(self, state: u64) -> Option<u64> {
        match self {
            NameEffect::Bind(file) => (state == FREE).then(|| bound(file)),
            NameEffect::Unbind => (state != FREE).then_some(FREE),
        }
    }
}

/// The state of a name that leads nowhere.
pub(crate) const FREE: u64 = 0;

/// The state of a name that leads to `file`.
pub(crate) fn bound(file: FileId) -> u64 {
    u64::from(file.0) + 1
}

/// The file that a state leads to.
pub(crate) fn file_of(state: u64) -> Option<FileId> {
    state.checked_sub(1).map(|number| FileId(number as u32))
}

/// A name of the program.
#[derive(Debug, Default)]
pub(crate) struct Name {
    pub(crate) history: History<NameEffect>,
    /// The binding while no call changes it.
    pub(crate) now: u64,
    /// Calls in flight that change it.
    pub(crate) changing: u32,
    /// Whether `now` is only one of several possible bindings.
    pub(crate) unsettled: bool,
}

/// All names that the program's calls used, by path id.
#[derive(Debug, Default)]
pub(crate) struct Names {
    list: Vec<Name>,
    used: usize,
}

impl Names {
    pub(crate) fn clear(&mut self) {
        for name in &mut self.list[..self.used] {
            name.history.clear();
            (name.now, name.changing, name.unsettled) = (FREE, 0, false);
        }
        self.used = 0;
    }

    /// Makes the name known.
    pub(crate) fn mention(&mut self, path: PathId) {
        self.used = self.used.max(usize::from(path.0) + 1);
        if self.list.len() < self.used {
            self.list.resize_with(self.used, Name::default);
        }
    }

    pub(crate) fn get(&self, path: PathId) -> Option<&Name> {
        self.list[..self.used].get(usize::from(path.0))
    }

    pub(crate) fn get_mut(&mut self, path: PathId) -> &mut Name {
        self.mention(path);
        &mut self.list[usize::from(path.0)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PathId, &Name)> {
        (0..=u8::MAX).map(PathId).zip(&self.list[..self.used])
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Name> {
        self.list[..self.used].iter_mut()
    }
}

/// A mapping from its mmap to the call that removes or replaces it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) map: MapId,
    pub(crate) span: Span,
    pub(crate) made: CallId,
    /// The first call that ends it, in the order of invocations.
    pub(crate) ended: SmallVec<[CallId; 2]>,
    pub(crate) void: bool,
}

/// All mappings of an execution.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    list: Vec<Instance>,
}

impl Mappings {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn get(&self, id: InstanceId) -> &Instance {
        &self.list[id.0 as usize]
    }

    /// A new mapping is invoked; it ends those of the same name. `unmaps` are in flight and may end
    /// it.
    pub(crate) fn create(
        &mut self,
        map: MapId,
        span: Span,
        made: CallId,
        unmaps: impl Iterator<Item = CallId>,
    ) -> InstanceId {
        self.end(map, made);
        self.list.push(Instance { map, span, made, ended: unmaps.collect(), void: false });
        InstanceId(self.list.len() as u32 - 1)
    }

    /// A call is invoked that ends all mappings of the name.
    pub(crate) fn end(&mut self, map: MapId, call: CallId) {
        for instance in self.list.iter_mut().filter(|instance| instance.map == map) {
            instance.ended.push(call);
        }
    }

    /// The call failed: it made and ended nothing.
    pub(crate) fn failed(&mut self, call: CallId) {
        for instance in &mut self.list {
            instance.ended.retain(|ended| *ended != call);
            instance.void |= instance.made == call;
        }
    }

    /// The mappings of a name that may be there at some moment of an interval.
    pub(crate) fn during<'a>(
        &'a self,
        calls: &'a Calls,
        map: MapId,
        (invoke, ret): (u64, u64),
    ) -> impl Iterator<Item = InstanceId> + 'a {
        let alive = move |instance: &Instance| {
            // Of two calls that overlap, either may have come last.
            let after = |call: CallId| calls[instance.made].ret < calls[call].invoke;
            let ended = |&call: &CallId| calls[call].ret < invoke && after(call);
            let gone = instance.ended.iter().any(ended);
            instance.map == map && !instance.void && !gone && calls[instance.made].invoke < ret
        };
        let numbered = (0u32..).zip(&self.list);
        numbered.filter(move |(_, instance)| alive(instance)).map(|(index, _)| InstanceId(index))
    }

    /// Whether a mapping is there during the whole interval.
    pub(crate) fn lasts(&self, calls: &Calls, id: InstanceId, (invoke, ret): (u64, u64)) -> bool {
        let instance = self.get(id);
        let ended = instance.ended.iter().any(|&call| calls[call].invoke < ret);
        let made = instance.made;
        let rival = self.list.iter().any(|other| {
            let overlap = calls[other.made].invoke < calls[made].ret
                && calls[made].invoke < calls[other.made].ret;
            other.made != made && other.map == instance.map && !other.void && overlap
        });
        calls[made].ret < invoke && !ended && !rival
    }
}
