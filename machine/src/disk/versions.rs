//! What a cut may leave of each block: the versions of a log, and the options that a cut has.
//!
//! Promises that the options of a block at a cut are exactly what the assumptions D-1 to D-13 allow
//! at the grain asked for ([`TornPolicy`]), that equal content has one identity over all cuts of a
//! log, and that the work for one block is done once for each interval in which its options are the
//! same.
//!
//! Must never know what recovery reads, nor prefer a state over another.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::request::{Log, Logged, Outcome, Request, RequestId};
use super::{BlockSource, DeviceId, Moment, place_key};
use crate::block::{Block, SECTORS_PER_BLOCK};

/// Which mixtures of versions within a block are options, besides whole versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TornPolicy {
    /// None. Each version with all before it, and each partial write alone.
    #[default]
    None,
    /// Of each version over its predecessor: the first sector only, all but the first, all but the
    /// last, and one mixture drawn by a hash of the request.
    Few,
    /// Each sector any version (D-4), while a block has at most [`EVERY_LIMIT`] mixtures; else
    /// `Few`.
    Every,
}

/// Most mixtures of one block that [`TornPolicy::Every`] lists: two versions of eight sectors have
/// 256.
pub const EVERY_LIMIT: usize = 1024;

/// One request's content for one block.
#[derive(Clone, Debug)]
pub struct Version {
    /// The request.
    pub request: RequestId,
    /// The index of the block in the request.
    pub index: u32,
    /// A number of the block and of the version's place in the order of effect.
    salt: u64,
    /// The whole payload of the block; zeros for a discard.
    pub content: Block,
    submitted: Moment,
    completed: Moment,
    /// From when on nothing older can be there; never for a discard (D-8).
    durable: Moment,
    /// Sectors that may be there while it is in flight, and after it completed (D-10).
    mask_in_flight: u8,
    mask_completed: u8,
}

/// For each sector of a block, the version that is there: 0 is the durable one, `k` the `k`th of
/// [`Options::pending`].
pub type Ages = [u16; SECTORS_PER_BLOCK];

/// One content that a cut may leave in a block.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The content.
    pub content: Block,
    /// Which version each sector is of.
    pub ages: Ages,
    /// How far this is from an orderly shutdown: 0 all newest, 1 other whole versions, 2 torn.
    pub cost: u8,
}

/// What a cut may leave of one block. At least one choice; the first has everything written.
#[derive(Debug)]
pub struct Options {
    from: Moment,
    until: Moment,
    torn: TornPolicy,
    /// The contents, each once, by rising cost.
    pub choices: Vec<Choice>,
    /// The index of the choice that has nothing but what is durable.
    pub oldest: u16,
    /// The content that is durable.
    pub durable: Block,
    /// The content that each of its sectors comes from: equal mixtures have one identity only if
    /// they are made from the same sources.
    floor: [Block; SECTORS_PER_BLOCK],
    /// The versions that may be there or not, in the order in which they took effect; in flight
    /// last.
    pub pending: SmallVec<[(Version, u8); 2]>,
}

/// A block that the log writes.
struct Slot {
    device: DeviceId,
    block: u64,
    versions: std::ops::Range<u32>,
    options: RefCell<SmallVec<[Rc<Options>; 2]>>,
}

/// The versions of all blocks that a log writes, by block.
pub struct History {
    bases: Vec<Rc<dyn BlockSource>>,
    slots: Vec<Slot>,
    index: FxHashMap<u64, u32>,
    versions: Vec<Version>,
    /// Mixed blocks by the contents that they took their sectors from.
    mixed: RefCell<FxHashMap<[u64; SECTORS_PER_BLOCK], Block>>,
}

impl History {
    /// Sorts a log by block. The log may go on afterwards; the history does not.
    pub fn new(log: &Log) -> History {
        let flushes = flushes_by_device(log);
        let mut slots: Vec<Slot> = Vec::new();
        let mut index = FxHashMap::default();
        let mut found: Vec<(u32, Version)> = Vec::with_capacity(log.requests().len());
        for logged in log.requests().iter().filter(|logged| logged.was_accepted()) {
            let (device, first) = logged.request.place();
            let blocks = if logged.request.mask() == 0 { 0 } else { logged.request.count() };
            for offset in 0..blocks {
                let block = first + offset;
                let slot = *index.entry(place_key(device, block)).or_insert_with(|| {
                    slots.push(Slot { device, block, versions: 0..0, options: RefCell::default() });
                    slots.len() as u32 - 1
                });
                let flushes = &flushes[usize::from(device.0)];
                found.push((slot, Version::new(logged, offset as u32, flushes)));
            }
        }
        // In the order of effect (D-7), those that never complete in the order of submission.
        found.sort_unstable_by_key(|(slot, v)| (*slot, v.completed, v.submitted));
        let mut start = 0;
        for run in found.chunk_by_mut(|a, b| a.0 == b.0) {
            let end = start + run.len() as u32;
            let slot = &slots[run[0].0 as usize];
            let place = place_key(slot.device, slot.block);
            for (at, (_, version)) in run.iter_mut().enumerate() {
                version.salt = super::mix(place).wrapping_add(at as u64);
            }
            slots[run[0].0 as usize].versions = start..end;
            start = end;
        }
        let versions: Vec<Version> = found.into_iter().map(|(_, version)| version).collect();
        assert!(slots.iter().all(|slot| !slot.versions.is_empty()));
        let bases = log.bases().to_vec();
        History { bases, slots, index, versions, mixed: RefCell::default() }
    }

    /// Number of blocks that the log writes: slots are numbered from 0 by first submission.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot of a block, if the log writes it.
    pub fn slot(&self, device: DeviceId, block: u64) -> Option<u32> {
        self.index.get(&place_key(device, block)).copied()
    }

    /// The block of a slot.
    pub fn place(&self, slot: u32) -> (DeviceId, u64) {
        let slot = &self.slots[slot as usize];
        (slot.device, slot.block)
    }

    /// What each device held before the log.
    pub fn bases(&self) -> &[Rc<dyn BlockSource>] {
        &self.bases
    }

    /// Number of whole versions that a block may have at a cut, the durable one included. Cheap: no
    /// content is looked at.
    pub fn count(&self, slot: u32, cut: Moment) -> u32 {
        let cut = cut.min(Moment::LAST);
        let versions = self.versions_of(slot);
        let floors = floors(versions, cut);
        let pending = versions.iter().enumerate();
        1 + pending.filter(|(at, v)| v.live_mask(*at, cut, &floors) != 0).count() as u32
    }

    /// What a cut may leave of the block of a slot.
    pub fn options(&self, slot: u32, cut: Moment, torn: TornPolicy) -> Rc<Options> {
        let cut = cut.min(Moment::LAST);
        let known = &self.slots[slot as usize].options;
        let fits = |o: &&Rc<Options>| o.torn == torn && o.from <= cut && cut < o.until;
        // The newest first: cuts are mostly asked for in order.
        if let Some(options) = known.borrow().iter().rev().find(fits) {
            return options.clone();
        }
        let options = Rc::new(self.options_at(slot, cut, torn));
        known.borrow_mut().push(options.clone());
        options
    }

    /// A number for what a cut may leave of all blocks: equal, over all logs on the same bases, for
    /// cuts that have the same options everywhere.
    pub fn state_key(&self, cut: Moment) -> u128 {
        let cut = cut.min(Moment::LAST);
        (0..self.slots()).fold(0, |sum: u128, slot| sum.wrapping_add(self.slot_key(slot, cut)))
    }

    fn slot_key(&self, slot: u32, cut: Moment) -> u128 {
        let versions = self.versions_of(slot);
        let floors = floors(versions, cut);
        let mut key = 0;
        let mut add = |number: u64| key = super::mix(key ^ number).rotate_left(17);
        let mut is_base = true;
        for floor in floors {
            is_base &= floor.is_none();
            add(floor.map_or(0, |at| content_key(&versions[at].content)));
        }
        for (at, version) in versions.iter().enumerate() {
            let mask = version.live_mask(at, cut, &floors);
            if mask != 0 {
                is_base = false;
                add(u64::from(mask));
                add(content_key(&version.content));
                add(version.salt);
            }
        }
        if is_base {
            return 0;
        }
        let (device, block) = self.place(slot);
        add(place_key(device, block));
        u128::from(super::mix(key)) << 64 | u128::from(super::mix(!key))
    }

    /// The content that has each sector of the age given. An age beyond the last version of a
    /// sector stands for the last.
    pub fn compose(&self, options: &Options, ages: &Ages) -> Block {
        let source = |sector: usize| options.content_of(sector, ages[sector]);
        self.mix(std::array::from_fn(source))
    }

    fn mix(&self, sources: [&Block; SECTORS_PER_BLOCK]) -> Block {
        let ids = sources.map(Block::content_id);
        if ids.iter().all(|id| *id == ids[0]) {
            return sources[0].clone();
        }
        let mut mixed = self.mixed.borrow_mut();
        mixed.entry(ids).or_insert_with(|| Block::from_sectors(sources)).clone()
    }

    fn versions_of(&self, slot: u32) -> &[Version] {
        let range = &self.slots[slot as usize].versions;
        &self.versions[range.start as usize..range.end as usize]
    }

    fn options_at(&self, slot: u32, cut: Moment, torn: TornPolicy) -> Options {
        let versions = self.versions_of(slot);
        let floors = floors(versions, cut);
        let (from, until) = interval(versions, cut);
        let floor = self.floor(slot, versions, &floors);
        let mut options = Options {
            from,
            until,
            torn,
            choices: Vec::new(),
            oldest: 0,
            durable: self.mix(floor.each_ref()),
            floor,
            pending: SmallVec::new(),
        };
        for (at, version) in versions.iter().enumerate() {
            let mask = version.live_mask(at, cut, &floors);
            if mask != 0 {
                options.pending.push((version.clone(), mask));
            }
        }
        self.list_choices(&mut options);
        assert!(!options.choices.is_empty() && options.choices[0].cost == 0);
        options
    }

    /// The durable content that each sector comes from. The base is read only if it is needed.
    fn floor(
        &self,
        slot: u32,
        versions: &[Version],
        floors: &Floors,
    ) -> [Block; SECTORS_PER_BLOCK] {
        let base = floors.contains(&None).then(|| {
            let (device, block) = self.place(slot);
            self.bases[usize::from(device.0)].read(block)
        });
        floors.map(|floor| match floor {
            Some(at) => versions[at].content.clone(),
            None => base.clone().expect("read above"),
        })
    }

    fn list_choices(&self, options: &mut Options) {
        let pending = options.pending.len() as u16;
        let newest = options.ages_up_to(pending);
        self.offer(options, newest, 0);
        if pending == 0 {
            return;
        }
        options.oldest = self.offer(options, [0; SECTORS_PER_BLOCK], 1);
        for age in (1..pending).rev() {
            let ages = options.ages_up_to(age);
            self.offer(options, ages, 1);
        }
        for age in (1..=pending).rev() {
            // Differs from the version only where partial writes are pending together.
            let ages = std::array::from_fn(|sector| if options.has(sector, age) { age } else { 0 });
            self.offer(options, ages, 1);
        }
        match options.torn {
            TornPolicy::None => {}
            TornPolicy::Every if options.mixtures() <= EVERY_LIMIT => self.list_every(options),
            TornPolicy::Few | TornPolicy::Every => self.list_few(options),
        }
    }

    fn list_few(&self, options: &mut Options) {
        for age in (1..=options.pending.len() as u16).rev() {
            let (newer, older) = (options.ages_up_to(age), options.ages_up_to(age - 1));
            let (version, _) = &options.pending[usize::from(age) - 1];
            for mask in [0x01, 0xfe, 0x7f, drawn_mask(version)] {
                let ages = std::array::from_fn(|sector| {
                    if mask >> sector & 1 == 1 { newer[sector] } else { older[sector] }
                });
                self.offer(options, ages, 2);
            }
        }
    }

    fn list_every(&self, options: &mut Options) {
        let mut ages = [0; SECTORS_PER_BLOCK];
        // An odometer over the ages that each sector has.
        loop {
            self.offer(options, ages, 2);
            let Some(sector) = (0..SECTORS_PER_BLOCK)
                .find(|sector| options.next_age(*sector, ages[*sector]).is_some())
            else {
                return;
            };
            ages[sector] = options.next_age(sector, ages[sector]).expect("just found");
            ages[..sector].fill(0);
        }
    }

    /// Adds a content unless it is there, and says where it is.
    fn offer(&self, options: &mut Options, ages: Ages, cost: u8) -> u16 {
        let content = self.compose(options, &ages);
        let id = content.content_id();
        if let Some(at) = options.choices.iter().position(|c| c.content.content_id() == id) {
            return at as u16;
        }
        options.choices.push(Choice { content, ages, cost });
        options.choices.len() as u16 - 1
    }
}

impl Options {
    /// The content at the age given, or at the last age before it that the sector has.
    fn content_of(&self, sector: usize, age: u16) -> &Block {
        let upto = usize::from(age).min(self.pending.len());
        let last = self.pending[..upto].iter().rev().find(|(_, mask)| mask >> sector & 1 == 1);
        last.map_or(&self.floor[sector], |(version, _)| &version.content)
    }

    /// The state of the block when everything up to a pending version took effect.
    fn ages_up_to(&self, age: u16) -> Ages {
        std::array::from_fn(|sector| {
            (1..=age).rev().find(|age| self.has(sector, *age)).unwrap_or(0)
        })
    }

    fn has(&self, sector: usize, age: u16) -> bool {
        self.pending[usize::from(age) - 1].1 >> sector & 1 == 1
    }

    fn next_age(&self, sector: usize, age: u16) -> Option<u16> {
        (age + 1..=self.pending.len() as u16).find(|age| self.has(sector, *age))
    }

    /// Number of contents if each sector has any of its versions.
    fn mixtures(&self) -> usize {
        (0..SECTORS_PER_BLOCK).fold(1usize, |product, sector| {
            let ages = 1 + self.pending.iter().filter(|(_, mask)| mask >> sector & 1 == 1).count();
            product.saturating_mul(ages)
        })
    }
}

impl Version {
    fn new(logged: &Logged, index: u32, flushes: &Flushes) -> Version {
        let mask = logged.request.mask();
        let completed = logged.completed.unwrap_or(Moment::NEVER);
        let (content, fua) = match &logged.request {
            Request::Write { payload, fua, .. } => (payload[index as usize].clone(), *fua),
            _ => (Block::zero(), false),
        };
        let mask_completed = match logged.outcome {
            Outcome::InFlight | Outcome::Done => mask,
            Outcome::Failed { part, .. } => part.mask(index) & mask,
        };
        let durable = match &logged.request {
            Request::Discard { .. } => Moment::NEVER,
            _ if fua && logged.succeeded() => completed,
            _ => flushes.covering(completed),
        };
        assert!(mask != 0 && completed > logged.submitted && durable >= completed);
        Version {
            request: logged.id,
            index,
            salt: 0,
            content,
            submitted: logged.submitted,
            completed,
            durable,
            mask_in_flight: mask,
            mask_completed,
        }
    }

    /// Sectors that it may have changed at a cut.
    fn mask(&self, cut: Moment) -> u8 {
        if self.submitted > cut {
            0
        } else if self.completed <= cut {
            self.mask_completed
        } else {
            self.mask_in_flight
        }
    }

    /// The same without the sectors for which something newer is durable, or itself is. `at` is its
    /// index in the order of effect.
    fn live_mask(&self, at: usize, cut: Moment, floors: &Floors) -> u8 {
        let mask = self.mask(cut);
        let above = |sector: &usize| floors[*sector].is_none_or(|floor| at > floor);
        let live = (0..SECTORS_PER_BLOCK).filter(above).fold(0, |live, sector| live | 1 << sector);
        mask & live
    }
}

/// For each sector the index of the version that is durable; `None` is the base.
type Floors = [Option<usize>; SECTORS_PER_BLOCK];

fn floors(versions: &[Version], cut: Moment) -> Floors {
    let mut floors = [None; SECTORS_PER_BLOCK];
    for (at, version) in versions.iter().enumerate().filter(|(_, v)| v.durable <= cut) {
        match version.mask_completed {
            u8::MAX => floors = [Some(at); SECTORS_PER_BLOCK],
            mask => {
                for (sector, floor) in floors.iter_mut().enumerate() {
                    if mask >> sector & 1 == 1 {
                        *floor = Some(at);
                    }
                }
            }
        }
    }
    floors
}

/// The cuts around `cut` that have the same options: from the first moment to before the second.
fn interval(versions: &[Version], cut: Moment) -> (Moment, Moment) {
    let (mut from, mut until) = (Moment(0), Moment::NEVER);
    for version in versions {
        for moment in [version.submitted, version.completed, version.durable] {
            if moment <= cut {
                from = from.max(moment);
            } else {
                until = until.min(moment);
            }
        }
    }
    (from, until)
}

/// The first bytes of the hash of a content.
fn content_key(content: &Block) -> u64 {
    let digest = content.digest();
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// A mixture that depends on nothing but the block and the version's place in the order of effect,
/// so that schedules which lead to the same versions have the same mixtures.
fn drawn_mask(version: &Version) -> u8 {
    1 + (super::mix(version.salt) % 254) as u8
}

/// The flushes of a device that succeeded: when submitted, and the first completion of one that was
/// submitted then or later.
#[derive(Default)]
struct Flushes(Vec<(Moment, Moment)>);

impl Flushes {
    /// The moment at which what completed at `completed` is covered (D-5).
    fn covering(&self, completed: Moment) -> Moment {
        let first = self.0.partition_point(|(submitted, _)| *submitted <= completed);
        self.0.get(first).map_or(Moment::NEVER, |(_, effective)| *effective)
    }
}

fn flushes_by_device(log: &Log) -> Vec<Flushes> {
    let mut devices: Vec<Flushes> = Vec::new();
    devices.resize_with(log.bases().len(), Flushes::default);
    for logged in log.requests().iter().filter(|logged| logged.succeeded()) {
        if let (Request::Flush { device }, Some(completed)) = (&logged.request, logged.completed) {
            devices[usize::from(device.0)].0.push((logged.submitted, completed));
        }
    }
    for Flushes(list) in &mut devices {
        for at in (1..list.len()).rev() {
            list[at - 1].1 = list[at - 1].1.min(list[at].1);
        }
    }
    devices
}
