//! What a task is about to do: sites, objects, accesses.
//!
//! An event is announced *before* it happens, so that a chooser sees the next event of every ready
//! task and can tell which of them commute. Nothing here knows what an object is: the code that
//! runs on the machine numbers its kinds.

/// A place in the code at which another task may be scheduled.
///
/// Declared as a static; two sites are the same if their names are equal. The name is
/// `path.step`, e.g. `"punch.evict"`.
#[derive(Debug)]
pub struct Site {
    name: &'static str,
    hash: u32,
    path_hash: u32,
}

impl Site {
    /// A site of this name.
    pub const fn new(name: &'static str) -> Self {
        Site { name, hash: fnv1a(name, name.len()), path_hash: fnv1a(name, path_len(name)) }
    }

    pub(crate) const fn new_hash(name: &str) -> u32 {
        fnv1a(name, name.len())
    }

    /// The name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A number derived from the name alone: equal on every machine and in every build.
    pub const fn hash(&self) -> u32 {
        self.hash
    }

    /// The same of the path alone: the name up to the dot.
    pub const fn path_hash(&self) -> u32 {
        self.path_hash
    }
}

/// Bytes of a name before the first dot.
const fn path_len(name: &str) -> usize {
    let bytes = name.as_bytes();
    let mut len = 0;
    while len < bytes.len() && bytes[len] != b'.' {
        len += 1;
    }
    len
}

/// FNV-1a over the first bytes of a name.
const fn fnv1a(name: &str, len: usize) -> u32 {
    let bytes = name.as_bytes();
    let mut hash: u32 = 0x811c_9dc5;
    let mut index = 0;
    while index < len {
        hash ^= bytes[index] as u32;
        hash = hash.wrapping_mul(0x0100_0193);
        index += 1;
    }
    hash
}

/// How an event touches its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Looks at it.
    Read,
    /// Changes it.
    Write,
    /// Takes a lock on it, or waits for it.
    Acquire,
    /// Gives a lock on it back.
    Release,
    /// Submits device IO.
    Io,
    /// Touches user memory.
    Fault,
    /// Touches nothing: an invitation to switch.
    Yield,
}

/// What an event touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Object {
    /// The kind, numbered by the code that runs on the machine; 0 is "nothing".
    pub kind: u8,
    /// The instance, e.g. an inode number.
    pub a: u64,
    /// A part of the instance, e.g. a page index.
    pub b: u64,
}

impl Object {
    /// An event that touches nothing in particular.
    pub const NONE: Object = Object { kind: 0, a: 0, b: 0 };

    /// An object of a kind.
    pub const fn new(kind: u8, a: u64, b: u64) -> Self {
        Object { kind, a, b }
    }
}

/// What a ready task will do when it runs next.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Where.
    pub site: &'static Site,
    /// To what.
    pub object: Object,
    /// How.
    pub access: Access,
}

static START: Site = Site::new("task.start");

/// The names of the machine's own sites at which tasks make steps.
pub const SITES: &[&str] = &["io.submit", "lock.acquire"];

impl Event {
    /// The first step of a task.
    pub const START: Event = Event { site: &START, object: Object::NONE, access: Access::Yield };

    /// Whether the order of two events of different tasks can matter: they touch the same object
    /// and at least one changes it. Locks and IO always conflict on the same object.
    pub fn conflicts(&self, other: &Event) -> bool {
        if self.object == Object::NONE || self.object != other.object {
            return false;
        }
        let reads = |access: Access| access == Access::Read || access == Access::Yield;
        !(reads(self.access) && reads(other.access))
    }
}
