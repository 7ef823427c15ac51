//! The partial order of an execution's steps, as hashes: what each step found where it touched
//! something.
//!
//! A step's hash is made of its actor's step before and, for each object touched, of the steps that
//! shaped the object: the last change, and those that touched it since in a way that does not
//! commute with the step. By induction the hash tells everything that the step depends on, and so
//! what it did. The history is the set of all steps: a sum of hashes, in which the order of steps
//! that commute does not show.

use crate::disk::RequestId;
use crate::footprint::{EVERYTHING, Entry, Touch};
use rustc_hash::FxHashMap;

/// What the steps of an actor from one node touch.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprint {
    touched: Vec<(u64, Touch)>,
}

impl Footprint {
    /// Adds what one step touched.
    pub(super) fn add(&mut self, entries: &[Entry]) {
        let touched = entries.iter().filter_map(|entry| match *entry {
            Entry::Touched { object, touch, .. } => Some((object, touch)),
            _ => None,
        });
        self.touched.extend(touched.chain([(EVERYTHING, Touch::Look)]));
        self.touched.sort_unstable_by_key(|(object, touch)| (*object, *touch as u8));
        self.touched.dedup();
    }

    /// Whether everything that a step touched is in it.
    pub(super) fn includes(&self, entries: &[Entry]) -> bool {
        entries.iter().all(|entry| match *entry {
            Entry::Touched { object, touch, .. } => {
                let key = (object, touch as u8);
                self.touched.binary_search_by_key(&key, |(o, t)| (*o, *t as u8)).is_ok()
            }
            _ => true,
        })
    }
}

/// An object as the steps so far left it.
#[derive(Clone, Copy, Default)]
struct State {
    /// The history of everything before the touches that commute.
    before: u64,
    /// The sum of the steps that touched it since.
    since: u64,
    /// How these touch it; `None` after a change.
    kind: Option<Touch>,
    /// The step that touched it last, and how it did.
    step: u32,
    kinds: u8,
}

/// The order of one execution so far.
#[derive(Default)]
pub(super) struct Order {
    cells: Vec<State>,
    others: FxHashMap<u64, State>,
    /// The hash of the last step of each actor.
    actors: FxHashMap<u64, u64>,
    requests: Vec<u64>,
    history: u128,
    steps: u32,
}

/// A strong mixture of two numbers (the finalizer of SplitMix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(31) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn wide(hash: u64) -> u128 {
    u128::from(mix(hash, 1)) << 64 | u128::from(mix(hash, 2))
}

impl Order {
    /// Nothing has happened.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.others.clear();
        self.actors.clear();
        self.requests.clear();
        self.history = 0;
        self.steps = 0;
    }

    /// The history so far.
    pub(super) fn history(&self) -> u128 {
        self.history
    }

    /// The state that the history leads to, with the task that goes on for free.
    pub(super) fn state(&self, current: Option<u64>) -> u128 {
        self.history ^ wide(current.map_or(3, |key| key << 8))
    }

    /// A request by a number that is the same in equivalent executions.
    pub(super) fn request_key(&self, id: RequestId) -> u64 {
        self.requests.get(id.0 as usize).copied().unwrap_or(u64::from(id.0) | 1 << 40)
    }

    /// A step of an actor.
    pub(super) fn apply(&mut self, actor: u64, entries: &[Entry]) {
        self.steps += 1;
        self.touch(EVERYTHING, Touch::Look);
        let mut last = self.actors.get(&actor).copied().unwrap_or(actor);
        for (index, part) in entries.split(|entry| *entry == Entry::Boundary).enumerate() {
            let is_empty = part.iter().all(|e| matches!(e, Entry::Touched { hidden: true, .. }));
            if !is_empty || index == 0 {
                last = self.apply_part(last, part);
            }
        }
        self.actors.insert(actor, last);
        for entry in entries {
            if let Entry::Touched { object, touch, .. } = *entry {
                self.touch(object, touch);
            }
        }
    }

    fn apply_part(&mut self, last: u64, part: &[Entry]) -> u64 {
        let everything = Entry::Touched { object: EVERYTHING, touch: Touch::Look, hidden: false };
        let mut hash = mix(last, 5);
        for entry in part.iter().chain([&everything]) {
            match *entry {
                Entry::Touched { object, touch, hidden: false } => {
                    hash = mix(hash, self.state_of(object).found(touch));
                }
                Entry::Decided(outcome) => hash = mix(hash, outcome),
                _ => {}
            }
        }
        for (index, entry) in part.iter().chain([&everything]).enumerate() {
            match *entry {
                Entry::Touched { object, touch, hidden: false } => {
                    self.state_of(object).leave(touch, hash);
                }
                Entry::Submitted(id) => {
                    self.requests.resize(id.0 as usize + 1, 0);
                    self.requests[id.0 as usize] = mix(hash, index as u64);
                }
                Entry::Spawned(name) => {
                    self.actors.insert(u64::from(name), mix(hash, u64::from(name)));
                }
                _ => {}
            }
        }
        self.history = self.history.wrapping_add(wide(hash));
        hash
    }

    fn state_of(&mut self, object: u64) -> &mut State {
        if object >= EVERYTHING {
            return self.others.entry(object).or_default();
        }
        let index = object as usize;
        if self.cells.len() <= index {
            self.cells.resize(index + 64, State::default());
        }
        &mut self.cells[index]
    }

    /// Remembers how the last step touched an object, to compare with.
    fn touch(&mut self, object: u64, touch: Touch) {
        let step = self.steps;
        let state = self.state_of(object);
        if state.step != step {
            state.step = step;
            state.kinds = 0;
        }
        state.kinds |= 1 << touch as u8;
    }

    /// Whether the last step does not commute with a footprint.
    pub(super) fn conflicts(&self, footprint: &Footprint) -> bool {
        footprint.touched.iter().any(|(object, touch)| {
            let state = match *object {
                object if object >= EVERYTHING => self.others.get(&object),
                object => self.cells.get(object as usize),
            };
            let Some(state) = state.filter(|state| state.step == self.steps) else {
                return false;
            };
            *touch == Touch::Change || state.kinds != 1 << *touch as u8
        })
    }
}

impl State {
    /// What a step finds that touches the object.
    fn found(&self, touch: Touch) -> u64 {
        if self.kind == Some(touch) && touch != Touch::Change {
            self.before
        } else {
            mix(self.before, self.since)
        }
    }

    /// A step has touched it.
    fn leave(&mut self, touch: Touch, hash: u64) {
        if self.kind == Some(touch) && touch != Touch::Change {
            self.since = self.since.wrapping_add(mix(hash, 7));
        } else {
            self.before = mix(self.before, self.since);
            self.since = mix(hash, 7);
            self.kind = Some(touch);
        }
    }
}
