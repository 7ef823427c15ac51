//! Free space: which blocks of the data device are in use, and who may have the others.
//!
//! On the medium a tree of fixed shape: the space root (an index) points to bitmaps, on devices of
//! more than 8.6 GiB through a second level. In memory bitmaps are loaded when they are needed.
//!
//! A free block is handed out only if no transaction that is not durable freed it (X-6, B-2), no
//! log uses it (B-5) and no read of it is in flight.
//!
//! Promises: what was reserved can be allocated; a commit always finds place for its bitmaps;
//! `free_blocks` counts exactly what is not allocated. It must never know what a block holds.

mod bitmap;
mod index;
mod load;
mod places;
mod write;

use crate::error::{Error, Result};
use crate::options::{AllocPolicy, ImageOptions};
use crate::store::key::BlockPtr;
use crate::types::Run;
use bitmap::Bitmap;
use index::Index;
use machine::cell::{Cell, RefCell};
use machine::{LockClass, Machine, Mutex, Task};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::rc::Rc;

pub(crate) use index::pointers;
pub(crate) use places::{LogDevice, Places};

/// Blocks that one bitmap block describes.
pub const BITMAP_BLOCKS: u64 = (4096 - 64) * 8;

/// Pointers in one index block.
pub const INDEX_POINTERS: u64 = 70;

/// The greatest number of blocks that two levels of index can describe (603 GiB).
pub const BLOCKS_MAX: u64 = BITMAP_BLOCKS * INDEX_POINTERS * INDEX_POINTERS;

/// The first block that is not a superblock.
pub const FIRST_BLOCK: u64 = 2;

/// The class of the allocator's lock.
pub static ALLOC: LockClass = LockClass::new("ALLOC", 80);

/// Blocks that were freed last and remembered for the policy `reuse`.
const RECENT_MAX: usize = 1024;

/// Block numbers for new nodes.
pub(crate) type Blocks = SmallVec<[u64; 8]>;

/// Free space.
pub(crate) struct Space {
    blocks: u64,
    policy: AllocPolicy,
    lock: Mutex,
    state: RefCell<State>,
}

struct State {
    /// Pointer to the space root as of the last commit; empty before the first.
    root: BlockPtr,
    /// The index of level 1, where there is more than one of level 0.
    top: Option<Index>,
    leaves: Vec<Option<Index>>,
    maps: Vec<Option<Bitmap>>,
    /// New places that the commit has chosen, until it is durable.
    placed: BTreeMap<Part, u64>,
    /// Freed by the running transaction.
    pinned: Vec<u64>,
    /// Busy on account of the log.
    log_blocks: Vec<u64>,
    read_pins: Vec<(u64, Run)>,
    next_pin: u64,
    recent: Vec<u64>,
    cursor: u64,
    /// Blocks that are not allocated.
    unallocated: u64,
    /// Of these, the busy ones.
    held: u64,
    /// Of the others, those promised to somebody who could have been refused.
    reserved: u64,
    /// Those promised to completions; as far as they go, out of what is kept.
    promised: u64,
    /// How many others cannot be refused.
    irrevocable: u64,
    /// Kept for deletions and completions, so that a full device can be emptied.
    kept: u64,
    /// Of these, what only completions may use.
    kept_for_completions: u64,
    /// Of these, what trees may grow by without being asked to.
    kept_for_growth: u64,
}

/// A block of the free-space map itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Map(usize),
    Leaf(usize),
    Top,
}

/// Whose need comes first when space is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// It can be refused.
    Ordinary,
    /// It has its blocks already, and only trees will grow: it may use what is kept for that.
    Growing,
    /// It frees space: it may use what is kept, but for the part of completions.
    Freeing,
    /// It cannot be refused any more: it may use all.
    Completion,
}

/// Who asks for blocks.
pub(crate) struct Claim<'a> {
    /// What was reserved for it.
    pub(crate) reserve: Option<&'a Reserve>,
    /// Whether it may use what is kept for deletions and completions.
    pub(crate) urgency: Urgency,
    /// The running transaction.
    pub(crate) generation: u64,
}

/// Blocks promised to somebody. Given back when dropped.
pub struct Reserve {
    space: Rc<Space>,
    blocks: Cell<u64>,
    is_promise: bool,
}

/// Somebody cannot be refused blocks, until this is dropped.
pub(crate) struct Irrevocable {
    space: Rc<Space>,
}

/// Keeps a run from being reused while it is being read, until dropped.
pub struct ReadPin {
    space: Rc<Space>,
    id: u64,
}

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockUse {
    /// Nothing: anybody may have it.
    Free,
    /// It is free once a commit is durable: freed by the running transaction, or of the log.
    Held,
    /// Something that the running transaction has.
    Allocated,
}

/// The result of looking for a free block.
enum Pick {
    Found(u64),
    /// The bitmap of this index must be loaded first.
    Load(usize),
    Full,
}

impl Space {
    /// The map of a device on which only the superblocks and the bare nodes are in use.
    pub(crate) fn format(machine: &Machine, image: &ImageOptions) -> Rc<Space> {
        let blocks = image.blocks;
        let space = Space::open(machine, blocks, BlockPtr::default(), blocks, AllocPolicy::Lowest);
        {
            let mut state = space.state.borrow_mut();
            for leaf in 0..state.leaves.len() {
                state.leaves[leaf] = Some(space.empty_leaf(leaf));
            }
            for map in 0..state.maps.len() {
                let mut bitmap = Bitmap::new(map as u64, blocks);
                bitmap.dirty = true;
                state.maps[map] = Some(bitmap);
            }
            state.top = space.empty_top();
            let taken = FIRST_BLOCK + u64::from(image.buffers);
            (0..taken).for_each(|block| state.allocate(block));
        }
        space
    }

    /// The map of a device with this space root and number of free blocks. Reads nothing.
    pub(crate) fn open(
        machine: &Machine,
        blocks: u64,
        root: BlockPtr,
        unallocated: u64,
        policy: AllocPolicy,
    ) -> Rc<Space> {
        let maps = blocks.div_ceil(BITMAP_BLOCKS) as usize;
        let leaves = maps.div_ceil(INDEX_POINTERS as usize);
        let state = State {
            root,
            top: None,
            leaves: (0..leaves).map(|_| None).collect(),
            maps: (0..maps).map(|_| None).collect(),
            placed: BTreeMap::new(),
            pinned: Vec::new(),
            log_blocks: Vec::new(),
            read_pins: Vec::new(),
            next_pin: 0,
            recent: Vec::new(),
            cursor: FIRST_BLOCK,
            unallocated,
            held: 0,
            reserved: 0,
            promised: 0,
            irrevocable: 0,
            kept: 0,
            kept_for_completions: 0,
            kept_for_growth: 0,
        };
        let lock = Mutex::new(machine, &ALLOC, (0, 0));
        Rc::new(Space { blocks, policy, lock, state: RefCell::new(state) })
    }

    /// Blocks of the device.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks that are not allocated, pinned ones included.
    pub(crate) fn free_blocks(&self) -> u64 {
        self.state.borrow().unallocated
    }

    /// Free blocks that cannot be handed out before the next commit is durable.
    pub(crate) fn held_blocks(&self) -> u64 {
        self.state.borrow().held
    }

    /// Blocks that anybody may still reserve.
    pub(crate) fn available_blocks(&self, urgency: Urgency) -> u64 {
        self.state.borrow().available(urgency)
    }

    /// Keeps this many blocks for deletions, this many more for completions, and this many more
    /// for the growth of trees.
    pub(crate) fn keep(&self, deletions: u64, completions: u64, growth: u64) {
        let mut state = self.state.borrow_mut();
        state.kept = deletions + completions + growth;
        (state.kept_for_completions, state.kept_for_growth) = (completions, growth);
    }

    /// Whether a commit would write bitmaps.
    pub(crate) fn is_dirty(&self) -> bool {
        self.state.borrow().maps.iter().flatten().any(|map| map.dirty)
    }

    /// Promises blocks.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn reserve(self: &Rc<Self>, blocks: u64, urgency: Urgency) -> Result<Reserve> {
        let is_promise = urgency == Urgency::Completion;
        let reserve = Reserve { space: self.clone(), blocks: Cell::new(0), is_promise };
        reserve.add(blocks, urgency)?;
        Ok(reserve)
    }

    /// Promises a completion blocks, unless it should rather wait for others to end.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn promise(self: &Rc<Self>, blocks: u64) -> Result<Reserve> {
        if !self.state.borrow().may_promise(blocks) {
            return Err(self.state.borrow().full(blocks));
        }
        self.reserve(blocks, Urgency::Completion)
    }

    /// Whether somebody has been promised blocks who cannot be refused.
    pub(crate) fn has_promises(&self) -> bool {
        let state = self.state.borrow();
        state.promised > 0 || state.irrevocable > 0
    }

    /// Lets others know, until what it returns is dropped, that somebody cannot be refused.
    pub(crate) fn begin_irrevocable(self: &Rc<Self>) -> Irrevocable {
        self.state.borrow_mut().irrevocable += 1;
        Irrevocable { space: self.clone() }
    }

    /// Keeps `run` from being reused until the pin is dropped.
    pub(crate) fn pin_read(self: &Rc<Self>, run: Run) -> ReadPin {
        let mut state = self.state.borrow_mut();
        let id = state.next_pin;
        state.next_pin += 1;
        state.read_pins.push((id, run));
        ReadPin { space: self.clone(), id }
    }

    /// Allocates up to `want` consecutive blocks, at least one, at `hint` if the policy lets it.
    ///
    /// # Errors
    /// `NoSpace`; those of reading bitmaps.
    pub(crate) fn allocate_run(
        &self,
        task: &Task,
        want: u64,
        hint: Option<u64>,
        claim: &Claim<'_>,
    ) -> Result<Run> {
        assert!(want > 0, "a run has a block");
        loop {
            let missing = {
                let _alloc = self.lock.lock(task)?;
                let mut state = self.state.borrow_mut();
                let promised = state.check_claim(1, want, claim)?;
                match self.pick(&mut state, hint) {
                    Pick::Found(block) => {
                        let run = self.extend(&mut state, block, promised);
                        state.spend(run.len_blocks, claim);
                        return Ok(run);
                    }
                    Pick::Full => return Err(state.full(want)),
                    Pick::Load(map) => map,
                }
            };
            self.load_map(task, missing)?;
        }
    }

    /// Allocates exactly these blocks where they are not allocated yet, as replay of a log does.
    /// Returns how many it allocated.
    ///
    /// # Errors
    /// `Corrupt` if they lie beyond the device; those of reading bitmaps.
    pub(crate) fn claim_run(&self, task: &Task, run: Run) -> Result<u64> {
        self.load_run(task, run)?;
        let _alloc = self.lock.lock(task)?;
        let mut state = self.state.borrow_mut();
        let mut count = 0;
        for block in run.block..run.end() {
            if !state.map_of(block).is_allocated(block) {
                state.allocate(block);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Keeps these blocks from being handed out until the next commit is durable (B-5, B-6).
    ///
    /// # Errors
    /// `Corrupt` if they lie beyond the device; those of reading bitmaps.
    pub(crate) fn hold_run(&self, task: &Task, run: Run) -> Result<()> {
        self.load_run(task, run)?;
        let mut state = self.state.borrow_mut();
        for block in run.block..run.end() {
            if !state.map_of(block).is_busy(block) {
                state.hold(block);
            }
        }
        Ok(())
    }

    /// Frees allocated blocks; they stay pinned until the commit is durable.
    ///
    /// # Errors
    /// `Corrupt` if one is not allocated, and then none is freed; those of reading bitmaps.
    pub(crate) fn free_run(&self, task: &Task, run: Run) -> Result<()> {
        self.load_run(task, run)?;
        let _alloc = self.lock.lock(task)?;
        let mut state = self.state.borrow_mut();
        if let Some(block) = (run.block..run.end()).find(|b| !state.map_of(*b).is_allocated(*b)) {
            let structure = "free-space map";
            return Err(Error::Corrupt { structure, block, what: "a block is freed twice" });
        }
        (run.block..run.end()).for_each(|block| state.free_pinned(block));
        Ok(())
    }

    /// Frees allocated blocks for anybody to take at once.
    ///
    /// # Errors
    /// As [`free_run`](Self::free_run).
    pub(crate) fn free_run_now(&self, task: &Task, run: Run) -> Result<()> {
        self.load_run(task, run)?;
        let _alloc = self.lock.lock(task)?;
        let mut state = self.state.borrow_mut();
        (run.block..run.end()).for_each(|block| state.free_now(block));
        Ok(())
    }

    /// Whether a block is allocated.
    ///
    /// # Errors
    /// Those of reading bitmaps.
    pub(crate) fn is_allocated(&self, task: &Task, block: u64) -> Result<bool> {
        self.load_run(task, Run::new(block, 1))?;
        Ok(self.state.borrow_mut().map_of(block).is_allocated(block))
    }

    /// What a block is used for, if its bitmap is in memory.
    pub(crate) fn use_of(&self, block: u64) -> Option<BlockUse> {
        let state = self.state.borrow();
        let map = state.maps.get((block / BITMAP_BLOCKS) as usize)?.as_ref()?;
        Some(match (map.is_allocated(block), map.is_busy(block)) {
            (true, _) => BlockUse::Allocated,
            (false, true) => BlockUse::Held,
            (false, false) => BlockUse::Free,
        })
    }

    /// Whether a read in flight keeps a block from being reused.
    pub(crate) fn is_being_read(&self, block: u64) -> bool {
        self.state.borrow().is_read(block)
    }

    /// A free block according to the policy.
    fn pick(&self, state: &mut State, hint: Option<u64>) -> Pick {
        match self.policy {
            AllocPolicy::Lowest => state.scan(FIRST_BLOCK, self.blocks),
            AllocPolicy::Next => {
                let from = hint.unwrap_or(state.cursor).clamp(FIRST_BLOCK, self.blocks - 1);
                match state.scan(from, self.blocks) {
                    Pick::Full => state.scan(FIRST_BLOCK, from),
                    pick => pick,
                }
            }
            AllocPolicy::Reuse => {
                while let Some(block) = state.recent.pop() {
                    if !state.map_of(block).is_busy(block) && !state.is_read(block) {
                        return Pick::Found(block);
                    }
                }
                state.scan(FIRST_BLOCK, self.blocks)
            }
        }
    }

    /// Allocates `block` and what follows it, `want` blocks at most.
    fn extend(&self, state: &mut State, block: u64, want: u64) -> Run {
        let mut run = Run::new(block, 0);
        let end = state.map_of(block).end();
        while run.len_blocks < want {
            let next = run.end();
            if next == end || state.map_of(next).is_busy(next) || state.is_read(next) {
                break;
            }
            state.allocate(next);
            run.len_blocks += 1;
        }
        assert!(run.len_blocks > 0, "a picked block is free");
        state.cursor = run.end();
        run
    }
}

impl State {
    /// The bitmap of a block, which is loaded.
    fn map_of(&mut self, block: u64) -> &mut Bitmap {
        let map = (block / BITMAP_BLOCKS) as usize;
        self.maps[map].as_mut().expect("loaded before")
    }

    /// Blocks of the free-space map itself: a commit may have to move each of them.
    fn own_blocks(&self) -> u64 {
        (self.maps.len() + self.leaves.len() + usize::from(self.leaves.len() > 1)) as u64
    }

    fn available(&self, urgency: Urgency) -> u64 {
        let aside = match urgency {
            Urgency::Ordinary => self.kept.max(self.promised),
            Urgency::Growing => (self.kept - self.kept_for_growth).max(self.promised),
            Urgency::Freeing => self.kept_for_completions.max(self.promised),
            Urgency::Completion => self.promised,
        };
        let aside = self.own_blocks() + self.reserved + aside;
        let taken = self.held + aside + self.pinned_by_reads();
        self.unallocated.saturating_sub(taken)
    }

    /// Whether one more completion may be promised so much: out of what is kept, out of what nobody
    /// else needs, or as the only one.
    fn may_promise(&self, blocks: u64) -> bool {
        let is_harmless = self.promised == 0
            || self.promised + blocks <= self.kept
            || blocks <= self.available(Urgency::Ordinary);
        is_harmless && blocks <= self.available(Urgency::Completion)
    }

    /// What was promised is given back or used.
    fn lower_promised(&mut self, blocks: u64, is_promise: bool) {
        let total = if is_promise { &mut self.promised } else { &mut self.reserved };
        assert!(*total >= blocks, "more was promised than is given back");
        *total -= blocks;
    }

    fn full(&self, wanted: u64) -> Error {
        Error::NoSpace { wanted, available: self.available(Urgency::Completion) }
    }

    /// How many of `want` blocks a claim may have: its reserve and what is available; at least
    /// `least`.
    fn check_claim(&self, least: u64, want: u64, claim: &Claim<'_>) -> Result<u64> {
        let promised = claim.reserve.map_or(0, |reserve| reserve.blocks.get());
        let most = promised.saturating_add(self.available(claim.urgency));
        if most < least {
            return Err(Error::NoSpace { wanted: least, available: most });
        }
        Ok(want.min(most))
    }

    /// Counts allocated blocks against the claim's reserve.
    fn spend(&mut self, blocks: u64, claim: &Claim<'_>) {
        let Some(reserve) = claim.reserve else { return };
        let spent = reserve.blocks.get().min(blocks);
        reserve.blocks.set(reserve.blocks.get() - spent);
        self.lower_promised(spent, reserve.is_promise);
    }

    fn scan(&mut self, from: u64, to: u64) -> Pick {
        let mut from = from;
        while from < to {
            let map = (from / BITMAP_BLOCKS) as usize;
            let Some(bitmap) = &self.maps[map] else { return Pick::Load(map) };
            let Some(block) = bitmap.next_free(from) else {
                from = bitmap.end();
                continue;
            };
            if block >= to {
                return Pick::Full;
            }
            match self.read_pins.iter().find(|(_, run)| run.contains(block)) {
                Some((_, run)) => from = run.end(),
                None => return Pick::Found(block),
            }
        }
        Pick::Full
    }

    fn is_read(&self, block: u64) -> bool {
        self.read_pins.iter().any(|(_, run)| run.contains(block))
    }

    /// Free blocks that reads in flight keep from being handed out.
    fn pinned_by_reads(&self) -> u64 {
        let is_free = |block: &u64| {
            let map = self.maps.get((block / BITMAP_BLOCKS) as usize);
            map.and_then(Option::as_ref)
                .is_some_and(|map| *block < map.end() && !map.is_busy(*block))
        };
        let pins = self.read_pins.iter();
        pins.map(|(_, run)| (run.block..run.end()).filter(is_free).count() as u64).sum()
    }

    fn allocate(&mut self, block: u64) {
        let map = self.map_of(block);
        let was_busy = map.is_busy(block);
        map.set_allocated(block, true);
        map.set_busy(block, true);
        // A busy block that becomes allocated was held for the log.
        self.held -= u64::from(was_busy);
        // A damaged superblock may count fewer free blocks than there are.
        self.unallocated = self.unallocated.saturating_sub(1);
    }

    fn hold(&mut self, block: u64) {
        self.map_of(block).set_busy(block, true);
        self.held += 1;
        self.log_blocks.push(block);
    }

    /// Frees a block that something durable may point to.
    fn free_pinned(&mut self, block: u64) {
        self.map_of(block).set_allocated(block, false);
        self.unallocated += 1;
        self.held += 1;
        self.pinned.push(block);
    }

    /// Frees a block that nothing durable points to.
    fn free_now(&mut self, block: u64) {
        let map = self.map_of(block);
        map.set_allocated(block, false);
        map.set_busy(block, false);
        self.unallocated += 1;
        self.remember(block);
    }

    fn remember(&mut self, block: u64) {
        if self.recent.len() == RECENT_MAX {
            self.recent.remove(0);
        }
        self.recent.push(block);
    }

    /// Lets go of held blocks that nobody allocated in the meantime.
    fn unhold(&mut self, blocks: Vec<u64>) {
        for block in blocks {
            let map = self.map_of(block);
            if map.is_busy(block) && !map.is_allocated(block) {
                map.set_busy(block, false);
                self.held -= 1;
                self.remember(block);
            }
        }
    }
}

impl Reserve {
    /// Promises more blocks.
    ///
    /// # Errors
    /// `NoSpace`; what was promised before stays.
    pub(crate) fn add(&self, blocks: u64, urgency: Urgency) -> Result<()> {
        let mut state = self.space.state.borrow_mut();
        let available = state.available(urgency);
        if blocks > available {
            return Err(Error::NoSpace { wanted: blocks, available });
        }
        let state = &mut *state;
        *(if self.is_promise { &mut state.promised } else { &mut state.reserved }) += blocks;
        self.blocks.set(self.blocks.get() + blocks);
        Ok(())
    }

    /// Whose blocks they are.
    pub(crate) fn space(&self) -> &Rc<Space> {
        &self.space
    }

    /// Blocks still promised.
    pub fn blocks(&self) -> u64 {
        self.blocks.get()
    }

    /// Moves up to `blocks` of them to another reserve of the same kind.
    pub(crate) fn split(&self, blocks: u64) -> Reserve {
        let moved = blocks.min(self.blocks.get());
        self.blocks.set(self.blocks.get() - moved);
        let (space, is_promise) = (self.space.clone(), self.is_promise);
        Reserve { space, blocks: Cell::new(moved), is_promise }
    }

    /// Takes what another reserve of the same kind has.
    pub(crate) fn absorb(&self, other: &Reserve) {
        assert_eq!(self.is_promise, other.is_promise, "what was promised stays promised");
        self.blocks.set(self.blocks.get() + other.blocks.take());
    }

    /// Gives up to `blocks` of them back; how many.
    pub fn give_back(&self, blocks: u64) -> u64 {
        let back = blocks.min(self.blocks.get());
        self.blocks.set(self.blocks.get() - back);
        self.space.state.borrow_mut().lower_promised(back, self.is_promise);
        back
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.give_back(u64::MAX);
    }
}

impl Drop for Irrevocable {
    fn drop(&mut self) {
        self.space.state.borrow_mut().irrevocable -= 1;
    }
}

impl Drop for ReadPin {
    fn drop(&mut self) {
        self.space.state.borrow_mut().read_pins.retain(|(id, _)| *id != self.id);
    }
}
