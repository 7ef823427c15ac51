//! One crash state: what the medium holds after a cut, chosen block by block as recovery reads.
//!
//! Promises that a state never changes its mind (a block read twice has one content), and that its
//! footprint names every block of the log that was read from it, in order, with the content found.
//! Blocks that the log never wrote have one content in all crash states; they pass through
//! unrecorded.
//!
//! Must never know which other states there are.

use std::cell::RefCell;
use std::rc::Rc;

use smallvec::SmallVec;

use super::selection::Selection;
use super::versions::{Ages, Choice, History, Options, TornPolicy};
use super::{BlockSource, DeviceId, Moment};
use crate::block::Block;

/// What a crash state takes for a block for which nothing else is prescribed. A function of the
/// block and its options alone, so the order of reads does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// All that was submitted is there.
    #[default]
    Newest,
    /// Only what is durable is there.
    Oldest,
    /// Any option, by this seed: evenly, or leaning to the newest, or to the oldest.
    Random(u64),
}

impl Strategy {
    /// The index of the choice taken.
    pub(super) fn choose(self, slot: u32, options: &Options) -> u16 {
        let count = options.choices.len() as u64;
        if count == 1 {
            return 0;
        }
        match self {
            Strategy::Newest => 0,
            Strategy::Oldest => options.oldest,
            Strategy::Random(seed) => {
                let drawn = super::mix(seed ^ super::mix(u64::from(slot)));
                let leaning = !drawn.is_multiple_of(8);
                match super::mix(seed) % 4 {
                    0 if leaning => 0,
                    1 if leaning => options.oldest,
                    _ => (drawn / 8 % count) as u16,
                }
            }
        }
    }
}

/// What is in a block, and how it came there.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) ages: Ages,
    pub(super) content: Block,
}

impl From<&Choice> for Pick {
    fn from(choice: &Choice) -> Pick {
        Pick { ages: choice.ages, content: choice.content.clone() }
    }
}

/// A block that was read from a crash state, and what was found there.
#[derive(Clone, Debug)]
pub struct Footstep {
    /// The device.
    pub device: DeviceId,
    /// The block.
    pub block: u64,
    /// Number of contents that it might have had at this cut; 1 if it was not pending.
    pub choices: u32,
    /// Which version each sector is of.
    pub ages: Ages,
    /// The content.
    pub content: Block,
}

#[derive(Default)]
struct Reads {
    /// For each slot the index of its step, or `UNREAD`.
    by_slot: Vec<u32>,
    steps: Vec<(u32, Pick)>,
}

const UNREAD: u32 = u32::MAX;

/// What a medium of one or more devices holds after a cut.
///
/// As a [`BlockSource`] it is device 0; [`CrashState::bases`] has them all.
pub struct CrashState {
    history: Rc<History>,
    cut: Moment,
    torn: TornPolicy,
    strategy: Strategy,
    /// Slots that do not follow the strategy.
    forced: SmallVec<[(u32, Pick); 4]>,
    reads: RefCell<Reads>,
}

impl CrashState {
    /// The state after a cut that the strategy chooses.
    pub fn new(
        history: Rc<History>,
        cut: Moment,
        torn: TornPolicy,
        strategy: Strategy,
    ) -> Rc<CrashState> {
        CrashState::forced(history, cut, torn, strategy, SmallVec::new())
    }

    /// The state that a selection describes. Blocks that it does not name follow `default`.
    ///
    /// With the log that the selection was taken from, the named blocks have the same contents.
    /// With another log it is as near as the log allows: a request that is not pending any more is
    /// replaced by the version of the same age, a block that is not written is left out.
    pub fn with_selection(
        history: Rc<History>,
        cut: Moment,
        selection: &Selection,
        default: Strategy,
    ) -> Rc<CrashState> {
        let mut forced: SmallVec<[(u32, Pick); 4]> = SmallVec::new();
        for kept in &selection.0 {
            let Some(slot) = history.slot(kept.device, kept.block) else {
                continue;
            };
            if forced.iter().any(|(known, _)| *known == slot) {
                continue;
            }
            let options = history.options(slot, cut, TornPolicy::None);
            let ages = kept.ages(&options);
            forced.push((slot, Pick { ages, content: history.compose(&options, &ages) }));
        }
        CrashState::forced(history, cut, TornPolicy::None, default, forced)
    }

    pub(super) fn forced(
        history: Rc<History>,
        cut: Moment,
        torn: TornPolicy,
        strategy: Strategy,
        forced: SmallVec<[(u32, Pick); 4]>,
    ) -> Rc<CrashState> {
        let by_slot = vec![UNREAD; history.slots() as usize];
        let reads = RefCell::new(Reads { by_slot, steps: Vec::new() });
        Rc::new(CrashState { history, cut: cut.min(Moment::LAST), torn, strategy, forced, reads })
    }

    /// When the power was cut.
    pub fn cut(&self) -> Moment {
        self.cut
    }

    /// The devices, for a [`super::Disk`] on which recovery runs.
    pub fn bases(self: &Rc<Self>) -> SmallVec<[Rc<dyn BlockSource>; 1]> {
        let device = |index: usize| -> Rc<dyn BlockSource> {
            match index {
                0 => self.clone(),
                _ => Rc::new(CrashDevice { state: self.clone(), device: DeviceId(index as u8) }),
            }
        };
        (0..self.history.bases().len()).map(device).collect()
    }

    /// The content of a block, which must lie on the device.
    pub fn read_block(&self, device: DeviceId, block: u64) -> Block {
        match self.history.slot(device, block) {
            None => self.history.bases()[usize::from(device.0)].read(block),
            Some(slot) => self.read_slot(slot),
        }
    }

    /// The blocks of the log that were read, in the order of their first reads.
    pub fn footprint(&self) -> Vec<Footstep> {
        let reads = self.reads.borrow();
        let step = |(slot, pick): &(u32, Pick)| {
            let (device, block) = self.history.place(*slot);
            let choices = self.history.options(*slot, self.cut, self.torn).choices.len() as u32;
            Footstep { device, block, choices, ages: pick.ages, content: pick.content.clone() }
        };
        reads.steps.iter().map(step).collect()
    }

    /// What was found in the pending blocks that were read: with it and the same default, the state
    /// is rebuilt exactly as far as it was seen.
    pub fn selection(&self) -> Selection {
        let reads = self.reads.borrow();
        let mut selection = Selection::default();
        for (slot, pick) in &reads.steps {
            let options = self.history.options(*slot, self.cut, self.torn);
            if !options.pending.is_empty() {
                let (device, block) = self.history.place(*slot);
                selection.push(device, block, &options, &pick.ages);
            }
        }
        selection
    }

    pub(super) fn history(&self) -> &Rc<History> {
        &self.history
    }

    /// The slots read with the identities of the contents found.
    pub(super) fn path(&self, mut visit: impl FnMut(u32, u64)) {
        for (slot, pick) in &self.reads.borrow().steps {
            visit(*slot, pick.content.content_id());
        }
    }

    pub(super) fn read_slot(&self, slot: u32) -> Block {
        let mut reads = self.reads.borrow_mut();
        let reads = &mut *reads;
        let step = &mut reads.by_slot[slot as usize];
        if *step == UNREAD {
            let forced = self.forced.iter().find(|(other, _)| *other == slot);
            let pick = match forced {
                Some((_, pick)) => pick.clone(),
                None => {
                    let options = self.history.options(slot, self.cut, self.torn);
                    let choice = self.strategy.choose(slot, &options);
                    Pick::from(&options.choices[usize::from(choice)])
                }
            };
            *step = reads.steps.len() as u32;
            reads.steps.push((slot, pick));
        }
        reads.steps[*step as usize].1.content.clone()
    }
}

impl BlockSource for CrashState {
    fn blocks(&self) -> u64 {
        self.history.bases().first().map_or(0, |base| base.blocks())
    }

    fn read(&self, block: u64) -> Block {
        self.read_block(DeviceId(0), block)
    }
}

/// One device of a crash state.
pub struct CrashDevice {
    state: Rc<CrashState>,
    device: DeviceId,
}

impl BlockSource for CrashDevice {
    fn blocks(&self) -> u64 {
        self.state.history.bases()[usize::from(self.device.0)].blocks()
    }

    fn read(&self, block: u64) -> Block {
        self.state.read_block(self.device, block)
    }
}
