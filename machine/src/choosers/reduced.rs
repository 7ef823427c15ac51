//! Every schedule within a preemption bound, up to the order of steps that commute.
//!
//! A preemption is a switch away from a task whose last step ended at a site, to another task.
//! Completions of requests, and who runs when the current task blocks or ends, are free (races.md
//! §0.2).
//!
//! Two executions are *equivalent* if one becomes the other by swapping neighbouring steps of
//! different actors that commute ([`crate::footprint`]). Equivalent executions return the same
//! results, and a cut of one that shows something wrong has its like in the other, as
//! [`crate::footprint::CUTS`] orders what cuts depend on. The search visits at least one execution
//! of every class that has one within the bound, and finds the fewest preemptions of each.
//!
//! **Sleeping actors.** At a node whose child by actor *q* has been searched, the children searched
//! later let *q* sleep until a step touches what *q*'s next step touches; a node lets only those
//! act that do not sleep. This is sound with a bound only if *q*'s step, moved to the front, never
//! makes an execution dearer. It does not in two cases, and only these sleep:
//!
//! - *q* is the current task, whose going on is free. Let `u1…uk e v…` be an execution from the
//!   node, in which others preempt *q* before its step `e`, which commutes with all `u`. It pays 1
//!   for the switch to `u1` and, if the task of `uk` is not blocked then, 1 for the switch back.
//!   `e u1…uk v…` pays nothing for `e`, at most 1 for the switch to `u1`, and at most what the
//!   other paid for the switch back, for the one to `v`.
//! - *q* is the device. Its steps are free wherever they stand, and do not change who is current.
//!   Whether a task is current depends on how its own last step ended, which swaps of commuting
//!   steps do not change.
//!
//! **Visited states.** A node is given up if its state was searched before with at least as many
//! preemptions left and no more sleepers. States are told apart by the history that leads to them:
//! the set of steps with, for each, what it found where it touched something ([`Order`]); two
//! histories that agree in this lead to the same state by any order. As a step's hash includes its
//! causal past, equal sums of hashes mean equal sets, but for collisions of 64 bits.
//!
//! By induction over the length of what remains of an execution, each that a node must cover (it
//! costs no more than is left, and no sleeper can be moved to its front) is covered: by the child
//! of its first step, by the child of an actor that sleeps there because its step can be moved to
//! the front, or, at a node that was given up, by the node that was searched instead.
//!
//! **Shards.** A search can be split among processes that know nothing of each other. All of them
//! walk the trunk of the tree, where fewer than half of the preemptions are spent (rounded up), in
//! the same order, and number its *units*: the nodes right behind the preemption that leads out of
//! it, each with everything below, and the executions that end in the trunk. Each unit is of one
//! shard ([`Shard::owns`]); at those of others an execution is given up. What was visited in the
//! trunk is known to all; what was visited inside of a unit is forgotten at its end, so that what
//! is searched in a unit does not depend on who searches which others. The price is that a state
//! that two units can come to is searched in both.

use super::order::{Footprint, Order};
use super::shard::Shard;
use crate::choice::{Actor, Candidate, Chooser, Ready, STOP};
use crate::disk::RequestId;
use crate::footprint::{self, Entry};
use crate::machine::TaskId;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::rc::Rc;

/// Depth-first search over the classes of schedules.
pub struct Reduced {
    bound: u32,
    path: Vec<Level>,
    depth: usize,
    /// The first level that this execution decides otherwise than the one before.
    fresh: usize,
    executions: u64,
    states: u64,
    order: Order,
    visited: Visited,
    /// Which units are searched; `None` if the search is not split into units.
    shard: Option<Shard>,
    /// Units numbered so far.
    units: u64,
    /// The level at which the unit that is searched begins; `None` in the trunk.
    unit: Option<usize>,
    /// What was visited inside of the unit.
    visited_inside: Visited,
    /// Whether the execution is of a unit of another shard.
    declines: bool,
    /// The level of the step that runs.
    running: Option<usize>,
    entries: Vec<Entry>,
    /// Who sleeps at the node that comes next, and what is left there.
    sleepers: SmallVec<[Sleeper; 4]>,
    left: u32,
    completion: u32,
    cut_short: bool,
    unsteady: bool,
}

#[expect(clippy::large_enum_variant, reason = "most levels are nodes")]
enum Level {
    Run(Node),
    Pick { n: u32, next: u32 },
}

/// A state, with those who may act.
struct Node {
    moves: SmallVec<[Move; 4]>,
    next: usize,
    sleepers: SmallVec<[Sleeper; 4]>,
    left: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Task(TaskId),
    Request(RequestId),
}

#[derive(Clone)]
struct Move {
    who: Who,
    /// Who, by a number that is the same in equivalent executions.
    key: u64,
    cost: u32,
    /// Whether the actor may sleep when this move has been searched.
    may_sleep: bool,
    /// What its steps from this node touched so far.
    footprint: Rc<Footprint>,
}

#[derive(Clone)]
struct Sleeper {
    who: Who,
    key: u64,
    footprint: Rc<Footprint>,
}

/// The states that were searched.
type Visited = FxHashMap<u128, SmallVec<[Visit; 1]>>;

/// How a state was searched.
struct Visit {
    left: u32,
    sleepers: SmallVec<[u64; 4]>,
}

impl Visit {
    /// Whether a search like this one leaves nothing for the other.
    fn covers(&self, other: &Visit) -> bool {
        self.left >= other.left && self.sleepers.iter().all(|key| other.sleepers.contains(key))
    }
}

impl Reduced {
    /// Of the classes of schedules with at most `bound` preemptions, those in the units of a shard.
    pub fn shard(bound: u32, shard: Shard) -> Self {
        Reduced { shard: Some(shard), ..Reduced::new(bound) }
    }

    /// All classes of schedules with at most `bound` preemptions.
    pub fn new(bound: u32) -> Self {
        Reduced {
            bound,
            path: Vec::new(),
            depth: 0,
            fresh: 0,
            executions: 0,
            states: 0,
            order: Order::default(),
            visited: Visited::default(),
            shard: None,
            units: 0,
            unit: None,
            visited_inside: Visited::default(),
            declines: false,
            running: None,
            entries: Vec::new(),
            sleepers: SmallVec::new(),
            left: bound,
            completion: 0,
            cut_short: false,
            unsteady: false,
        }
    }

    /// Prepares the next execution; false when all have been made. To be called before each
    /// execution, the first included.
    pub fn advance(&mut self) -> bool {
        if self.executions > 0 {
            self.path.truncate(self.depth);
            while let Some(level) = self.path.last_mut() {
                let more = match level {
                    Level::Run(node) => {
                        node.next += 1;
                        node.next < node.moves.len()
                    }
                    Level::Pick { n, next } => {
                        *next += 1;
                        next < n
                    }
                };
                if more {
                    break;
                }
                self.path.pop();
            }
            if self.path.is_empty() {
                return false;
            }
            self.unit = self.unit.filter(|level| *level < self.path.len());
        }
        self.declines = false;
        self.fresh = self.path.len().saturating_sub(1);
        self.executions += 1;
        self.depth = 0;
        self.running = None;
        self.sleepers.clear();
        self.left = self.bound;
        self.cut_short = false;
        self.order.clear();
        true
    }

    /// Executions begun so far.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// States searched so far.
    pub fn states(&self) -> u64 {
        self.states
    }

    /// Whether the last execution was given up, as others cover it.
    pub fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// Whether an execution did not repeat what one with the same beginning did: then nothing that
    /// the search says can be relied on.
    pub fn unsteady(&self) -> bool {
        self.unsteady
    }

    /// A hash of the history of the execution so far: equal for equivalent executions.
    pub fn history(&self) -> u128 {
        self.order.history()
    }

    /// Takes what the step that ends here touched into account.
    fn end_step(&mut self) {
        footprint::take(&mut self.entries);
        let Some(level) = self.running.take() else { return };
        let (is_known, is_last) = (self.depth <= self.fresh, self.depth == self.path.len());
        let Level::Run(node) = &mut self.path[level] else {
            unreachable!("a step begins at a node");
        };
        let taken = &mut node.moves[node.next];
        self.order.apply(taken.key, &self.entries);
        if is_known {
            // The step was made before, from the same state.
            self.unsteady |= !taken.footprint.includes(&self.entries);
            return;
        }
        let mut footprint = (*taken.footprint).clone();
        footprint.add(&self.entries);
        taken.footprint = Rc::new(footprint);
        if !is_last {
            return;
        }
        let (searched, order) = (&node.moves[..node.next], &self.order);
        let awake = |footprint: &Footprint| !order.conflicts(footprint);
        self.sleepers.clear();
        self.sleepers.extend(node.sleepers.iter().filter(|s| awake(&s.footprint)).cloned());
        for done in searched.iter().filter(|done| done.may_sleep && awake(&done.footprint)) {
            let Move { who, key, .. } = *done;
            self.sleepers.push(Sleeper { who, key, footprint: done.footprint.clone() });
        }
    }

    /// Makes the node that the execution has come to. False if there is nothing to search.
    fn open(&mut self, ready: &Ready<'_>) -> bool {
        let current = ready.current_is_ready.then(|| u64::from(ready.candidates[0].name));
        let mut visit = Visit { left: self.left, sleepers: SmallVec::new() };
        visit.sleepers.extend(self.sleepers.iter().map(|sleeper| sleeper.key));
        let state = self.order.state(current);
        if self.unit.is_some() {
            let covers = |known: &Visit| known.covers(&visit);
            if self.visited.get(&state).is_some_and(|visits| visits.iter().any(covers)) {
                return false;
            }
        }
        let visited = match self.unit {
            Some(_) => &mut self.visited_inside,
            None => &mut self.visited,
        };
        let visits = visited.entry(state).or_default();
        if visits.iter().any(|known| known.covers(&visit)) {
            return false;
        }
        visits.retain(|known| !visit.covers(known));
        visits.push(visit);
        let is_trunk = self.left == self.bound || self.left > self.bound / 2;
        if self.unit.is_none() && !is_trunk && !self.enter_unit() {
            return false;
        }
        self.states += 1;
        let moves = self.moves(ready);
        if moves.is_empty() {
            return false;
        }
        let sleepers = std::mem::take(&mut self.sleepers);
        self.path.push(Level::Run(Node { moves, next: 0, sleepers, left: self.left }));
        true
    }

    /// Begins the unit of the node that is made now; false if it is another shard's.
    fn enter_unit(&mut self) -> bool {
        if self.shard.is_some() {
            self.number_unit();
            self.unit = Some(self.path.len());
            self.visited_inside.clear();
        }
        !self.declines
    }

    /// Numbers a unit, and declines it if it is another shard's.
    fn number_unit(&mut self) {
        self.declines = self.shard.is_some_and(|shard| !shard.owns(self.units));
        self.units += 1;
    }

    /// Completions first, which then sleep while the tasks go on; then the current task, which
    /// sleeps while others preempt it; then the others.
    fn moves(&self, ready: &Ready<'_>) -> SmallVec<[Move; 4]> {
        let mut moves: SmallVec<[Move; 4]> = SmallVec::new();
        for &id in ready.in_flight {
            let (who, key) = (Who::Request(id), self.order.request_key(id));
            let footprint = Rc::default();
            moves.push(Move { who, key, cost: 0, may_sleep: true, footprint });
        }
        for (index, candidate) in ready.candidates.iter().enumerate() {
            let Actor::Task(id) = candidate.actor else { continue };
            let is_current = ready.current_is_ready && index == 0;
            let cost = u32::from(ready.current_is_ready && !is_current);
            let key = u64::from(candidate.name);
            let footprint = Rc::default();
            moves.push(Move { who: Who::Task(id), key, cost, may_sleep: is_current, footprint });
        }
        let asleep = |who| self.sleepers.iter().any(|sleeper| sleeper.who == who);
        moves.retain(|candidate| candidate.cost <= self.left && !asleep(candidate.who));
        moves
    }

    fn index_of(&mut self, who: Who, ready: &Ready<'_>) -> Option<u32> {
        let actor = match who {
            Who::Task(id) => Actor::Task(id),
            Who::Request(id) => {
                let place = ready.in_flight.iter().position(|known| *known == id)?;
                self.completion = place as u32;
                Actor::Device
            }
        };
        let is = |candidate: &Candidate| candidate.actor == actor;
        ready.candidates.iter().position(is).map(|index| index as u32)
    }
}

impl Chooser for Reduced {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        assert!(self.executions > 0, "advance comes before an execution");
        self.end_step();
        if self.depth == self.path.len() && !self.open(ready) {
            self.cut_short = true;
            return STOP;
        }
        let Level::Run(node) = &self.path[self.depth] else {
            self.unsteady = true;
            return STOP;
        };
        let (who, left) = (node.moves[node.next].who, node.left - node.moves[node.next].cost);
        let Some(index) = self.index_of(who, ready) else {
            self.unsteady = true;
            return STOP;
        };
        self.left = left;
        self.running = Some(self.depth);
        self.depth += 1;
        index
    }

    fn complete(&mut self, _in_flight: &[RequestId]) -> u32 {
        self.completion
    }

    fn pick(&mut self, _label: &'static str, n: u32) -> u32 {
        if self.depth == self.path.len() {
            self.path.push(Level::Pick { n, next: 0 });
        }
        let Level::Pick { n: known, next } = self.path[self.depth] else {
            self.unsteady = true;
            return 0;
        };
        self.unsteady |= known != n;
        self.depth += 1;
        next.min(n - 1)
    }

    fn watches(&self) -> bool {
        true
    }

    fn ended(&mut self) {
        self.end_step();
        if self.unit.is_none() {
            self.number_unit();
        }
    }

    fn declines(&self) -> bool {
        self.declines
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
