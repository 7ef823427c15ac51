//! All crash states of a cut that recovery can tell apart.
//!
//! Recovery is deterministic given the contents of the blocks that it reads. So two crash states
//! that agree on every block that recovery (with the check and the reads after it) reads are one
//! class, and the classes of a log form a tree ([`super::trie`]) that all its cuts share. The
//! explorer walks that tree with the options of a cut; where the walk leaves the tree, it hands out
//! a state to recover from, and what the recovery reads extends the tree.
//!
//! The order is that of least discrepancy: first everything written, then nothing that is not
//! durable, then all classes in which one block is not the newest, then two, and so on; a torn
//! block counts as two. Lost single writes, which is what most bugs need, therefore come first, and
//! if the limit stops the walk, random states follow.
//!
//! Promises: within a cut no class is handed out twice; *exhausted* means that each class over the
//! options of the [`TornPolicy`] was handed out.
//!
//! Must never know what an observation means.

use std::rc::Rc;

use smallvec::SmallVec;

use super::crash::{CrashState, Pick, Strategy};
use super::request::Log;
use super::selection::Selection;
use super::trie::{Diverged, Fork, Kind, LeafId, Trie};
use super::versions::{History, Options, TornPolicy};
use super::{DeviceId, Moment};

/// How much of a cut is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most classes handed out in order.
    pub exhaustive: u32,
    /// Random states tried if there are more; those that fall into a class that was handed out
    /// already are not handed out.
    pub sampled: u32,
    /// Which torn blocks are options.
    pub torn: TornPolicy,
}

/// The next class of a cut.
pub enum Step {
    /// A recovery has ended here, from this cut or another: what it showed is what it would show.
    Known(LeafId),
    /// Nobody recovered from such a state: do so and [`Explorer::record`] it before the next step.
    Recover(Rc<CrashState>),
}

/// What was done at a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// Classes whose recovery was known.
    pub known: u32,
    /// States handed out for recovery.
    pub recovered: u32,
    /// Whether every class over the options of the policy was handed out, and each recorded.
    pub exhausted: bool,
}

struct Leaf<T> {
    value: T,
    /// The cut that it was last handed out for.
    seen: u64,
}

/// A node on the walk and the choice taken there.
#[derive(Clone, Copy)]
struct Frame {
    node: u32,
    slot: u32,
    choice: u16,
    /// Cost of the choices above.
    before: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first class: everything written.
    Newest,
    /// The second: nothing that is not durable.
    Oldest,
    /// Classes in the order of their cost.
    Ordered,
    Random,
    Over,
}

/// Where a walk ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Leaf(LeafId),
    Missing,
}

enum Current {
    None,
    Known(Strategy),
    Recover(Rc<CrashState>),
}

/// The classes of one execution's crash states, with the caller's observation `T` of each.
pub struct Explorer<T> {
    history: Rc<History>,
    trie: Trie,
    leaves: Vec<Leaf<T>>,
    path: Vec<(u32, u64)>,

    cut: Moment,
    limits: Limits,
    /// Counts cuts, to mark leaves.
    serial: u64,
    /// Options of this cut by slot, as far as needed.
    options: Vec<Option<Rc<Options>>>,
    /// Pending slots of this cut with their number of versions, as far as asked for.
    pending: Option<Vec<(u32, u32)>>,
    phase: Phase,
    handed: u32,
    tried: u32,
    frames: Vec<Frame>,
    cost: u32,
    budget: u32,
    /// Whether something dearer than the budget was left out.
    pruned: bool,
    /// Whether a state was handed out for recovery and never recorded.
    unrecorded: bool,
    /// Whether the walk of this budget has begun.
    begun: bool,
    current: Current,
    report: CutReport,
}

impl<T> Default for Explorer<T> {
    fn default() -> Self {
        Explorer {
            history: Rc::new(History::new(&Log::default())),
            trie: Trie::default(),
            leaves: Vec::new(),
            path: Vec::new(),
            cut: Moment(0),
            limits: Limits { exhaustive: 0, sampled: 0, torn: TornPolicy::None },
            serial: 0,
            options: Vec::new(),
            pending: None,
            phase: Phase::Over,
            handed: 0,
            tried: 0,
            frames: Vec::new(),
            cost: 0,
            budget: 0,
            pruned: false,
            unrecorded: false,
            begun: false,
            current: Current::None,
            report: CutReport::default(),
        }
    }
}

impl<T> Explorer<T> {
    /// An explorer without a log.
    pub fn new() -> Self {
        Explorer::default()
    }

    /// Turns to another log and forgets everything about the one before.
    pub fn begin(&mut self, log: &Log) {
        self.history = Rc::new(History::new(log));
        self.trie.clear();
        self.leaves.clear();
        self.serial = 0;
        self.phase = Phase::Over;
        self.frames.clear();
        self.options.clear();
        self.current = Current::None;
        self.report = CutReport::default();
    }

    /// Turns to a cut of the log.
    pub fn cut(&mut self, cut: Moment, limits: Limits) {
        self.cut = cut.min(Moment::LAST);
        self.limits = limits;
        self.serial += 1;
        self.options.clear();
        self.options.resize(self.history.slots() as usize, None);
        self.pending = None;
        self.phase = Phase::Newest;
        self.handed = 0;
        self.tried = 0;
        self.unrecorded = false;
        self.frames.clear();
        self.current = Current::None;
        self.report = CutReport::default();
    }

    /// The next class of the cut, or `None` if there is none or the limits are reached. `draw`
    /// returns a number below its argument; it is called only for random states, once each.
    pub fn next(&mut self, draw: &mut dyn FnMut(u32) -> u32) -> Option<Step> {
        let (end, strategy) = self.advance(draw)?;
        self.handed += 1;
        match end {
            End::Leaf(leaf) => {
                self.leaves[leaf.0 as usize].seen = self.serial;
                self.current = Current::Known(strategy);
                self.report.known += 1;
                Some(Step::Known(leaf))
            }
            End::Missing => {
                let state = self.state(strategy);
                self.current = Current::Recover(state.clone());
                self.report.recovered += 1;
                Some(Step::Recover(state))
            }
        }
    }

    /// Keeps what a recovery from `state` showed. What it reads of the state afterwards is not part
    /// of the class any more: let everything that `value` depends on read before. If the class is
    /// known already, the first value stays.
    ///
    /// # Errors
    /// [`Diverged`] if the recovery read other blocks than one before it that found the same.
    pub fn record(&mut self, state: &CrashState, value: T) -> Result<LeafId, Diverged> {
        assert!(Rc::ptr_eq(state.history(), &self.history), "a state of another log");
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        state.path(|slot, content_id| path.push((slot, content_id)));
        let inserted = self.trie.insert(&path);
        self.path = path;
        let (leaf, is_new) = inserted.map_err(|fork| self.diverged(fork))?;
        if is_new {
            assert_eq!(leaf.0 as usize, self.leaves.len());
            self.leaves.push(Leaf { value, seen: 0 });
        }
        if state.cut() == self.cut {
            self.leaves[leaf.0 as usize].seen = self.serial;
        }
        Ok(leaf)
    }

    /// What the recovery that ended in the leaf showed.
    ///
    /// # Panics
    /// If the leaf is of another log.
    pub fn leaf(&self, leaf: LeafId) -> &T {
        &self.leaves[leaf.0 as usize].value
    }

    /// Number of leaves: classes over all cuts of the log so far.
    pub fn leaves(&self) -> u32 {
        self.leaves.len() as u32
    }

    /// What was done at the cut so far.
    pub fn report(&self) -> CutReport {
        self.report
    }

    /// The versions of the log, to build other states from.
    pub fn history(&self) -> &Rc<History> {
        &self.history
    }

    /// A state of the class of the last step, with its footprint: for a known class it is built
    /// here. `None` before the first step of a cut.
    pub fn current(&self) -> Option<Rc<CrashState>> {
        match &self.current {
            Current::None => None,
            Current::Recover(state) => Some(state.clone()),
            Current::Known(strategy) => {
                let state = self.state(*strategy);
                for frame in &self.frames {
                    state.read_slot(frame.slot);
                }
                Some(state)
            }
        }
    }

    /// The class of the last step, to be written down.
    pub fn selection(&self) -> Selection {
        self.current().map(|state| state.selection()).unwrap_or_default()
    }

    /// For how many images of whole versions the class of the last step stands: the product, over
    /// the pending blocks that recovery did not read, of their numbers of versions. Saturates.
    pub fn images(&mut self) -> u64 {
        let (history, cut) = (&self.history, self.cut);
        let counted = |slot| (slot, history.count(slot, cut));
        let pending = self.pending.get_or_insert_with(|| {
            (0..history.slots()).map(counted).filter(|(_, count)| *count > 1).collect()
        });
        let mut read = vec![false; history.slots() as usize];
        match &self.current {
            Current::Recover(state) => state.path(|slot, _| read[slot as usize] = true),
            _ => self.frames.iter().for_each(|frame| read[frame.slot as usize] = true),
        }
        let unread = pending.iter().filter(|(slot, _)| !read[*slot as usize]);
        unread.fold(1, |product: u64, (_, count)| product.saturating_mul(u64::from(*count)))
    }

    fn advance(&mut self, draw: &mut dyn FnMut(u32) -> u32) -> Option<(End, Strategy)> {
        loop {
            let (end, strategy) = match self.phase {
                Phase::Newest => {
                    self.phase = Phase::Oldest;
                    (self.walk_from_root(Strategy::Newest), Strategy::Newest)
                }
                Phase::Oldest => {
                    self.phase = Phase::Ordered;
                    self.budget = 1;
                    self.begun = false;
                    // The walk of the budget 0 was the first phase; whether it left out anything is
                    // seen on its path, which is complete now that the recovery is recorded.
                    let end = self.walk_from_root(Strategy::Newest);
                    self.unrecorded |= end == End::Missing;
                    self.pruned = self.frames.iter().any(|frame| self.choices(frame.slot) > 1);
                    (self.walk_from_root(Strategy::Oldest), Strategy::Oldest)
                }
                Phase::Ordered => match self.walk_ordered() {
                    Some(end) => (end, Strategy::Newest),
                    None => {
                        self.phase = Phase::Over;
                        self.report.exhausted = !self.unrecorded;
                        return None;
                    }
                },
                Phase::Random if self.tried < self.limits.sampled => {
                    self.tried += 1;
                    let strategy = Strategy::Random(u64::from(draw(u32::MAX)));
                    (self.walk_from_root(strategy), strategy)
                }
                Phase::Random | Phase::Over => {
                    self.phase = Phase::Over;
                    return None;
                }
            };
            if self.is_seen(end) {
                continue;
            }
            if self.phase != Phase::Random && self.handed >= self.limits.exhaustive {
                // There is a class beyond the limit: the cut is not exhausted.
                self.phase = Phase::Random;
                continue;
            }
            return Some((end, strategy));
        }
    }

    fn is_seen(&self, end: End) -> bool {
        match end {
            End::Leaf(leaf) => self.leaves[leaf.0 as usize].seen == self.serial,
            End::Missing => false,
        }
    }

    /// The next class that costs the budget, raising the budget when there is none; `None` if the
    /// budget left nothing out.
    fn walk_ordered(&mut self) -> Option<End> {
        loop {
            let end = if self.begun {
                // Down to the end first: the last walk may have stopped where a recovery has read
                // on since.
                let tip = self.tip();
                self.unrecorded |= self.walk(tip, Strategy::Newest) == End::Missing;
                if !self.step_back() {
                    self.begun = false;
                    self.budget += 1;
                    continue;
                }
                let tip = self.tip();
                self.walk(tip, Strategy::Newest)
            } else {
                if !self.pruned {
                    return None;
                }
                self.begun = true;
                self.pruned = false;
                self.walk_from_root(Strategy::Newest)
            };
            // What costs less was handed out when that was the budget.
            if self.cost == self.budget {
                return Some(end);
            }
        }
    }

    /// Takes the next choice at the deepest node that has one within the budget.
    fn step_back(&mut self) -> bool {
        while let Some(frame) = self.frames.last_mut() {
            let options = self.options[frame.slot as usize].as_ref();
            let choices = &options.expect("walked before").choices;
            if let Some(choice) = choices.get(usize::from(frame.choice) + 1) {
                let cost = frame.before + u32::from(choice.cost);
                if cost <= self.budget {
                    frame.choice += 1;
                    self.cost = cost;
                    return true;
                }
                self.pruned = true;
            }
            self.frames.pop();
        }
        false
    }

    fn walk_from_root(&mut self, strategy: Strategy) -> End {
        self.frames.clear();
        self.cost = 0;
        let root = self.trie.root();
        self.walk(root, strategy)
    }

    /// Walks on from a node by the strategy until the tree ends.
    fn walk(&mut self, from: Option<u32>, strategy: Strategy) -> End {
        let mut next = from;
        while let Some(node) = next {
            let slot = match self.trie.kind(node) {
                Kind::Leaf(leaf) => return End::Leaf(leaf),
                Kind::Read(slot) => slot,
            };
            let options = options_at(&mut self.options, &self.history, slot, self.cut, self.limits);
            let choice = strategy.choose(slot, options);
            let taken = &options.choices[usize::from(choice)];
            next = self.trie.child(node, taken.content.content_id());
            self.frames.push(Frame { node, slot, choice, before: self.cost });
            self.cost += u32::from(taken.cost);
        }
        End::Missing
    }

    /// The node that the last frame leads to.
    fn tip(&self) -> Option<u32> {
        let Some(frame) = self.frames.last() else {
            return self.trie.root();
        };
        let options = self.options[frame.slot as usize].as_ref().expect("walked before");
        let taken = &options.choices[usize::from(frame.choice)];
        self.trie.child(frame.node, taken.content.content_id())
    }

    fn choices(&self, slot: u32) -> usize {
        self.options[slot as usize].as_ref().map_or(1, |options| options.choices.len())
    }

    /// A state that agrees with the walk so far and goes on by the strategy.
    fn state(&self, strategy: Strategy) -> Rc<CrashState> {
        let mut forced: SmallVec<[(u32, Pick); 4]> = SmallVec::new();
        for frame in &self.frames {
            let options = self.options[frame.slot as usize].as_ref().expect("walked before");
            if frame.choice != strategy.choose(frame.slot, options) {
                let choice = &options.choices[usize::from(frame.choice)];
                forced.push((frame.slot, Pick::from(choice)));
            }
        }
        CrashState::forced(self.history.clone(), self.cut, self.limits.torn, strategy, forced)
    }

    fn diverged(&self, fork: Fork) -> Diverged {
        let place = |slot: u32| -> (DeviceId, u64) { self.history.place(slot) };
        Diverged {
            depth: fork.depth,
            expected: fork.expected.map(place),
            found: fork.found.map(place),
        }
    }
}

/// A free function, as the walk borrows other fields at the same time.
fn options_at<'a>(
    known: &'a mut [Option<Rc<Options>>],
    history: &History,
    slot: u32,
    cut: Moment,
    limits: Limits,
) -> &'a Options {
    known[slot as usize].get_or_insert_with(|| history.options(slot, cut, limits.torn))
}
