//! What a power cut may take away now: the writes that no FLUSH and no FUA has made durable.
//!
//! A ledger beside the running disk, kept request by request, so that somebody who looks at a
//! submission knows at once whether what it relies on is durable. It says of each block the same as
//! the history of the log says of a cut at that moment.
//!
//! Promises: D-5, a FLUSH covers what completed before it was submitted; D-6; a write that failed
//! stays, whatever is flushed, until another has taken its place. It must never know who asks.

use super::request::{Logged, Outcome, Request, RequestId};
use super::{DeviceId, Moment, place_key};
use std::cmp::Ordering;

/// A block of a write that a cut may take away.
#[derive(Clone, Copy, Debug)]
struct Loose {
    request: RequestId,
    place: u64,
    device: DeviceId,
    /// Sectors that it writes.
    mask: u8,
    completed: Option<Moment>,
    has_failed: bool,
}

/// The writes that are not durable.
#[derive(Clone, Debug, Default)]
pub struct Volatile {
    loose: Vec<Loose>,
}

impl Volatile {
    /// Takes note of a request that the disk took.
    pub fn submitted(&mut self, logged: &Logged) {
        let mask = logged.request.mask();
        if mask == 0 {
            return;
        }
        let (device, first) = logged.request.place();
        for block in first..first + logged.request.count() {
            let place = place_key(device, block);
            // What this one covers of what has completed is lost either way. A block may be written
            // part by part.
            let earlier = self.loose.iter_mut().filter(|it| it.place == place);
            earlier.filter(|it| it.completed.is_some()).for_each(|it| it.mask &= !mask);
            self.loose.retain(|it| it.mask != 0);
            let (request, completed, has_failed) = (logged.id, None, false);
            self.loose.push(Loose { request, place, device, mask, completed, has_failed });
        }
    }

    /// Takes note of a request that completed.
    pub fn completed(&mut self, logged: &Logged) {
        let is_done = logged.outcome == Outcome::Done;
        match &logged.request {
            Request::Flush { device } if is_done => {
                let is_covered = |it: &Loose| {
                    let before = it.completed.map(|at| at.cmp(&logged.submitted));
                    it.device == *device && !it.has_failed && before == Some(Ordering::Less)
                };
                self.loose.retain(|it| !is_covered(it));
            }
            Request::Write { fua: true, .. } if is_done => {
                self.loose.retain(|it| it.request != logged.id);
            }
            Request::Write { .. } | Request::Discard { .. } => {
                for it in self.loose.iter_mut().filter(|it| it.request == logged.id) {
                    (it.completed, it.has_failed) = (logged.completed, !is_done);
                }
            }
            Request::Flush { .. } | Request::Read { .. } => {}
        }
    }

    /// Whether everything that was written is durable.
    pub fn is_empty(&self) -> bool {
        self.loose.is_empty()
    }

    /// The last request that wrote to a block and is not durable.
    pub fn find(&self, device: DeviceId, block: u64) -> Option<RequestId> {
        let place = place_key(device, block);
        self.loose.iter().rev().find(|it| it.place == place).map(|it| it.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use crate::disk::testing::Numbered;
    use crate::disk::{Disk, Note, Op, Rule};

    const A: DeviceId = DeviceId(0);

    /// A disk with its ledger, and the next moment.
    struct Bench {
        disk: Disk,
        ledger: Volatile,
        now: u64,
    }

    impl Bench {
        fn submit(&mut self, request: Request) -> RequestId {
            self.now += 1;
            let id = self.disk.submit(Moment(self.now), request, Note::default());
            self.ledger.submitted(self.disk.log().get(id).unwrap());
            id
        }

        fn complete(&mut self, id: RequestId) {
            self.now += 1;
            self.disk.complete(Moment(self.now), id);
            self.ledger.completed(self.disk.log().get(id).unwrap());
        }

        fn write(&mut self, block: u64) -> RequestId {
            self.submit(Request::write(A, block, Block::from_slice(b"x")))
        }

        fn flush(&mut self) {
            let id = self.submit(Request::Flush { device: A });
            self.complete(id);
        }
    }

    fn bench() -> Bench {
        Bench { disk: Disk::new(vec![Numbered::source(16)]), ledger: Volatile::default(), now: 0 }
    }

    #[test]
    fn a_flush_covers_what_completed_before_it() {
        let mut it = bench();
        let (first, second) = (it.write(3), it.write(4));
        it.complete(first);
        assert_eq!(it.ledger.find(A, 3), Some(first), "acknowledged is not durable");
        let flush = it.submit(Request::Flush { device: A });
        it.complete(second);
        it.complete(flush);
        assert_eq!((it.ledger.find(A, 3), it.ledger.find(A, 4)), (None, Some(second)));
        it.flush();
        assert!(it.ledger.is_empty());
    }

    #[test]
    fn fua_is_durable_at_once_and_a_failed_write_never() {
        let mut it = bench();
        let fua = it.submit(Request::write_fua(A, 5, Block::from_slice(b"y")));
        assert_eq!(it.ledger.find(A, 5), Some(fua));
        it.complete(fua);
        assert!(it.ledger.is_empty());
        it.disk.fail(Rule::nth(Op::Write, 1));
        let failed = it.write(6);
        it.complete(failed);
        it.flush();
        assert_eq!(it.ledger.find(A, 6), Some(failed));
        let again = it.write(6);
        it.complete(again);
        it.flush();
        assert!(it.ledger.is_empty());
    }

    #[test]
    fn a_block_that_is_written_part_by_part_is_covered_by_all_of_them() {
        let mut it = bench();
        it.disk.fail(Rule::nth(Op::Write, 1));
        let failed = it.write(7);
        it.complete(failed);
        for sectors in [0x0f, 0xf0] {
            assert!(it.ledger.find(A, 7).is_some());
            let payload = smallvec::SmallVec::from_buf([Block::from_slice(b"z")]);
            let (device, block, sectors, fua) = (A, 7, Some(sectors), false);
            let half = it.submit(Request::Write { device, block, payload, sectors, fua });
            it.complete(half);
            it.flush();
        }
        assert!(it.ledger.is_empty());
    }
}
