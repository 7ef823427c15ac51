//! The running disk: takes requests, completes them when told to, and shows what reads see.
//!
//! Promises that reads follow D-9 whatever is durable, and that steady use allocates nothing once
//! the log has grown to its size: [`Disk::reset`] keeps what it has.
//!
//! Must never decide when something completes.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::plan::{Failure, Part, Plan, Rule};
use super::request::{Data, DiskError, Log, Logged, Note, Outcome, Request, RequestId};
use super::{BlockSource, DeviceId, Moment, place_key};
use crate::block::Block;
use crate::medium::{Medium, MediumError};

/// One or more devices with their cache, and the log of their requests.
#[derive(Default)]
pub struct Disk {
    log: Log,
    /// The data of completed reads until it is taken, by request.
    answers: Vec<Data>,
    /// Content that differs from the base, as reads see it now.
    newest: FxHashMap<u64, Block>,
    in_flight: Vec<RequestId>,
    plan: Plan,
    failures: Vec<Failure>,
    last: Moment,
}

impl Disk {
    /// A disk whose device `n` starts with the content of `bases[n]`. At most 256 devices.
    pub fn new(bases: Vec<Rc<dyn BlockSource>>) -> Disk {
        let mut disk = Disk::default();
        disk.reset(bases);
        disk
    }

    /// Forgets log, cache, errors and moments, and starts over with these bases.
    pub fn reset(&mut self, bases: impl IntoIterator<Item = Rc<dyn BlockSource>>) {
        self.log.requests.clear();
        self.log.bases.clear();
        self.log.bases.extend(bases);
        assert!(self.log.bases.len() <= 256, "{} devices", self.log.bases.len());
        self.answers.clear();
        self.newest.clear();
        self.in_flight.clear();
        self.plan.clear();
        self.failures.clear();
        self.last = Moment(0);
    }

    /// Takes a request. What is wrong with it, it tells at its completion.
    ///
    /// # Panics
    /// If `now` is not later than the event before.
    pub fn submit(&mut self, now: Moment, request: Request, note: Note) -> RequestId {
        self.advance(now);
        let id =
            RequestId(u32::try_from(self.log.requests.len()).expect("fewer than 2^32 requests"));
        let fate = self.fate(&request);
        self.log.requests.push(Logged {
            id,
            request,
            note,
            submitted: now,
            completed: None,
            outcome: Outcome::InFlight,
            fate,
        });
        self.answers.push(Data::new());
        self.in_flight.push(id);
        debug_assert_eq!(self.answers.len(), self.log.requests.len());
        id
    }

    /// The requests that have not completed, in the order of submission.
    pub fn in_flight(&self) -> &[RequestId] {
        &self.in_flight
    }

    /// Completes a request: it takes effect for readers, and so do its promises (D-5, D-6).
    ///
    /// # Panics
    /// If the request is not in flight, or `now` is not later than the event before.
    pub fn complete(&mut self, now: Moment, id: RequestId) {
        self.advance(now);
        let place = self.in_flight.iter().position(|other| *other == id);
        self.in_flight.remove(place.expect("only a request in flight completes"));
        let index = id.0 as usize;
        let part = match self.log.requests[index].fate {
            Ok(()) => {
                self.log.requests[index].outcome = Outcome::Done;
                None
            }
            Err((error, part)) => {
                self.log.requests[index].outcome = Outcome::Failed { error, part };
                self.failures.push(Failure { request: id, moment: now });
                Some(part)
            }
        };
        self.log.requests[index].completed = Some(now);
        self.take_effect(index, part);
    }

    /// How a request ended, and what it read; `None` while it is in flight. Takes the data: a
    /// second call finds none.
    pub fn result(&mut self, id: RequestId) -> Option<Result<Data, DiskError>> {
        let logged = self.log.get(id)?;
        match logged.outcome {
            Outcome::InFlight => None,
            Outcome::Done => Some(Ok(std::mem::take(&mut self.answers[id.0 as usize]))),
            Outcome::Failed { error, .. } => Some(Err(error)),
        }
    }

    /// What a read of the block that completed now would return (D-9), without a request.
    ///
    /// # Errors
    /// [`DiskError::NoDevice`] and [`DiskError::OutOfRange`].
    pub fn read_now(&self, device: DeviceId, block: u64) -> Result<Block, DiskError> {
        self.check_range(device, block, 1)?;
        Ok(self.visible(device, block))
    }

    /// Blocks of a device; none if it does not exist.
    pub fn blocks(&self, device: DeviceId) -> u64 {
        self.log.bases.get(usize::from(device.0)).map_or(0, |base| base.blocks())
    }

    /// All requests so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Plans an error, from the next submission on.
    pub fn fail(&mut self, rule: Rule) {
        self.plan.add(rule);
    }

    /// Whether errors are planned.
    pub(crate) fn plans_errors(&self) -> bool {
        !self.plan.is_empty()
    }

    /// The requests that failed so far, in the order of completion, refused ones (D-14) included.
    pub fn failed(&self) -> &[Failure] {
        &self.failures
    }

    /// Writes what readers of the device see now to `medium` and syncs it: the end of a mkfs, or a
    /// flush of a mounted image. Requests in flight are not part of it.
    ///
    /// # Errors
    /// Those of [`Medium::write`] and [`Medium::sync`].
    pub fn settle(&self, device: DeviceId, medium: &mut Medium) -> Result<(), MediumError> {
        for (key, content) in &self.newest {
            if *key & 0xff == u64::from(device.0) {
                medium.write(key >> 8, content)?;
            }
        }
        medium.sync()
    }

    fn advance(&mut self, now: Moment) {
        assert!(now > self.last && now < Moment::NEVER, "{now:?} after {:?}", self.last);
        self.last = now;
    }

    fn fate(&mut self, request: &Request) -> Result<(), (DiskError, Part)> {
        let (device, block) = request.place();
        let op = request.op();
        let refused = |error| (error, Part::Nothing);
        self.check_range(device, block, request.count()).map_err(refused)?;
        let whole = match request {
            Request::Write { payload, sectors: Some(mask), .. } => payload.len() == 1 && *mask != 0,
            Request::Flush { .. } => true,
            other => other.count() > 0,
        };
        if !whole {
            return Err(refused(DiskError::Malformed { op, device, block }));
        }
        match self.plan.fate(request) {
            Some(part) => Err((DiskError::Io { op, device, block }, part)),
            None => Ok(()),
        }
    }

    fn check_range(&self, device: DeviceId, block: u64, count: u64) -> Result<(), DiskError> {
        let Some(base) = self.log.bases.get(usize::from(device.0)) else {
            return Err(DiskError::NoDevice { device });
        };
        let blocks = base.blocks();
        match block.checked_add(count) {
            Some(end) if end <= blocks => Ok(()),
            _ => Err(DiskError::OutOfRange { device, block, count, blocks }),
        }
    }

    fn visible(&self, device: DeviceId, block: u64) -> Block {
        match self.newest.get(&place_key(device, block)) {
            Some(content) => content.clone(),
            None => self.log.bases[usize::from(device.0)].read(block),
        }
    }

    /// Changes what readers see; `part` is what a failed request left.
    fn take_effect(&mut self, index: usize, part: Option<Part>) {
        let (device, first) = self.log.requests[index].request.place();
        match &self.log.requests[index].request {
            Request::Flush { .. } => {}
            Request::Read { count, .. } if part.is_none() => {
                let data = (first..first + u64::from(*count)).map(|b| self.visible(device, b));
                self.answers[index] = data.collect();
            }
            Request::Read { .. } => {}
            Request::Discard { count, .. } => {
                if part.is_none() {
                    let zero = Block::zero();
                    for block in first..first + u64::from(*count) {
                        self.newest.insert(place_key(device, block), zero.clone());
                    }
                }
            }
            Request::Write { payload, .. } => {
                let mask = self.log.requests[index].request.mask();
                for (offset, content) in payload.iter().enumerate() {
                    let written = part.map_or(mask, |part| part.mask(offset as u32) & mask);
                    if written == 0 {
                        continue;
                    }
                    let block = first + offset as u64;
                    let content = match written {
                        u8::MAX => content.clone(),
                        _ => self.visible(device, block).overlaid(content, written),
                    };
                    self.newest.insert(place_key(device, block), content);
                }
            }
        }
    }
}
