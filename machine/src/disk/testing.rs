//! A disk driven by hand, for the tests of this folder.
//!
//! Promises moments that grow by one with each event, and blocks whose sectors each hold one byte,
//! so that a content is eight readable bytes.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{
    BlockSource, CrashState, Data, DeviceId, Disk, DiskError, History, Moment, Note, Request,
    RequestId, TornPolicy,
};
use crate::block::{Block, SECTOR_BYTES, SECTORS_PER_BLOCK};

/// One byte for each sector of a block.
pub(super) type Sectors = [u8; SECTORS_PER_BLOCK];

/// Device 0, with which most tests do.
pub(super) const D0: DeviceId = DeviceId(0);

/// A device whose block `b` is filled with `b`.
pub(super) struct Numbered(pub(super) Vec<Block>);

impl Numbered {
    pub(super) fn source(blocks: u8) -> Rc<dyn BlockSource> {
        Rc::new(Numbered((0..blocks).map(filled).collect()))
    }
}

impl BlockSource for Numbered {
    fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, block: u64) -> Block {
        self.0[block as usize].clone()
    }
}

/// A block filled with one byte.
pub(super) fn filled(byte: u8) -> Block {
    Block::new(&[byte; crate::block::BLOCK_BYTES])
}

/// The byte of each sector; fails if a sector is not uniform (D-1).
pub(super) fn sectors(block: &Block) -> Sectors {
    let of = |sector: usize| {
        let bytes = &block.bytes()[sector * SECTOR_BYTES..][..SECTOR_BYTES];
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "sector {sector} is torn");
        bytes[0]
    };
    std::array::from_fn(of)
}

/// A disk and its clock.
pub(super) struct Rig {
    pub(super) disk: Disk,
    now: u64,
}

impl Rig {
    /// One device of 16 numbered blocks.
    pub(super) fn new() -> Rig {
        Rig::with(vec![Numbered::source(16)])
    }

    pub(super) fn with(bases: Vec<Rc<dyn BlockSource>>) -> Rig {
        Rig { disk: Disk::new(bases), now: 0 }
    }

    /// The moment of the last event: a cut there is a cut now.
    pub(super) fn now(&self) -> Moment {
        Moment(self.now)
    }

    fn tick(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    pub(super) fn submit(&mut self, request: Request) -> RequestId {
        let now = self.tick();
        self.disk.submit(now, request, Note { tag: 7, what: "test" })
    }

    pub(super) fn complete(&mut self, id: RequestId) -> Result<Data, DiskError> {
        let now = self.tick();
        self.disk.complete(now, id);
        self.disk.result(id).expect("completed")
    }

    pub(super) fn run(&mut self, request: Request) -> Result<Data, DiskError> {
        let id = self.submit(request);
        self.complete(id)
    }

    /// Submits a write of a block filled with `byte`.
    pub(super) fn begin_write(&mut self, block: u64, byte: u8) -> RequestId {
        self.submit(Request::write(D0, block, filled(byte)))
    }

    pub(super) fn write(&mut self, block: u64, byte: u8) {
        self.run(Request::write(D0, block, filled(byte))).unwrap();
    }

    pub(super) fn write_sectors(&mut self, block: u64, byte: u8, mask: u8) {
        self.run(partial(block, byte, mask)).unwrap();
    }

    pub(super) fn write_fua(&mut self, block: u64, byte: u8) {
        self.run(Request::write_fua(D0, block, filled(byte))).unwrap();
    }

    pub(super) fn flush(&mut self) {
        self.run(Request::Flush { device: D0 }).unwrap();
    }

    pub(super) fn discard(&mut self, block: u64) {
        self.run(Request::Discard { device: D0, block, count: 1 }).unwrap();
    }

    /// What a read sees now.
    pub(super) fn visible(&self, block: u64) -> Sectors {
        sectors(&self.disk.read_now(D0, block).unwrap())
    }

    /// Everything that a cut may leave in a block of device 0, at sector grain.
    pub(super) fn left(&self, block: u64, cut: Moment) -> BTreeSet<Sectors> {
        self.left_by(block, cut, TornPolicy::Every)
    }

    /// The same at the grain of a policy.
    pub(super) fn left_by(&self, block: u64, cut: Moment, torn: TornPolicy) -> BTreeSet<Sectors> {
        self.left_on(D0, block, cut, torn)
    }

    pub(super) fn left_on(
        &self,
        device: DeviceId,
        block: u64,
        cut: Moment,
        torn: TornPolicy,
    ) -> BTreeSet<Sectors> {
        let history = Rc::new(History::new(self.disk.log()));
        match history.slot(device, block) {
            None => {
                let state = CrashState::new(history, cut, torn, super::Strategy::Newest);
                BTreeSet::from([sectors(&state.read_block(device, block))])
            }
            Some(slot) => {
                let options = history.options(slot, cut, torn);
                let all: BTreeSet<Sectors> =
                    options.choices.iter().map(|choice| sectors(&choice.content)).collect();
                assert!(all.contains(&sectors(&options.durable)));
                all
            }
        }
    }

    /// Everything that a cut now may leave in a block, whole versions only, as their first bytes.
    pub(super) fn whole(&self, block: u64) -> Vec<u8> {
        let left = self.left_by(block, self.now(), TornPolicy::None);
        left.iter().map(|s| if s == &[s[0]; 8] { s[0] } else { panic!("torn: {s:?}") }).collect()
    }
}

/// A write of some sectors of a block.
pub(super) fn partial(block: u64, byte: u8, mask: u8) -> Request {
    let payload = Data::from_iter([filled(byte)]);
    Request::Write { device: D0, block, payload, sectors: Some(mask), fua: false }
}

/// A write of consecutive blocks, one byte for each.
pub(super) fn span(block: u64, bytes: &[u8]) -> Request {
    let payload = bytes.iter().map(|byte| filled(*byte)).collect();
    Request::Write { device: D0, block, payload, sectors: None, fua: false }
}

/// A fixed sequence of numbers.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    /// A number below `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        super::mix(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) % n
    }
}
