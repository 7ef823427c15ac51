//! Device IO as tasks see it: submit, wait, completion handlers.

use crate::cell::RefCell;
use crate::disk::{Data, Disk, DiskError, Note, Request, RequestId};
use crate::event::{Access, Object, Site};
use crate::footprint::{self, Entry, Touch};
use crate::lock::LockClass;
use crate::machine::{Machine, Server, Status, Stopped, TaskId, Waiting};
use crate::record::Happening;
use crate::task::Task;
use smallvec::SmallVec;
use std::panic::Location;
use std::rc::Rc;

/// The pseudo-class of waiting for the device alone: legal at any rank (races.md §7.1).
pub static IOWAIT: LockClass = LockClass::new("IOWAIT", 94);

static SUBMIT: Site = Site::new("io.submit");

/// The object kind of device blocks: `a` is the device, `b` the block.
pub const OBJECT_BLOCK: u8 = 255;

type Outcome = Result<Data, DiskError>;

/// Runs when a request completes, as an interrupt handler does: must not call anything that may
/// switch tasks.
pub type OnEnd = Box<dyn FnOnce(&Outcome)>;

/// A submitted request.
#[derive(Clone)]
pub struct Bio {
    id: RequestId,
    state: Rc<BioState>,
}

#[derive(Default)]
struct BioState {
    outcome: RefCell<Option<Outcome>>,
    waiters: RefCell<SmallVec<[TaskId; 4]>>,
}

/// What is to be done when each request of an execution ends, by request number.
#[derive(Default)]
pub(crate) struct Bios(Vec<Option<Pending>>);

enum Pending {
    Wake(Rc<BioState>),
    Call(OnEnd),
}

impl Bios {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn set(&mut self, id: RequestId, pending: Pending) {
        let index = id.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(pending);
    }
}

/// What a submission touches: the order of the writes of a block, what a cut may leave, what a
/// flush covers.
fn touch_submission(disk: &Disk, request: &Request) {
    let (device, first) = request.place();
    match request {
        Request::Read { .. } => {}
        Request::Flush { .. } => footprint::touch(footprint::coverage(device), Touch::Oppose),
        Request::Write { .. } | Request::Discard { .. } => {
            for block in first..first + request.count() {
                footprint::touch(footprint::block(device, block), Touch::Change);
            }
            footprint::touch(footprint::CUTS, Touch::Look);
        }
    }
    if disk.plans_errors() {
        footprint::touch(footprint::ERROR_PLAN, Touch::Change);
    }
}

/// What a completion touches: the blocks that readers see, what later flushes cover, and what a cut
/// may leave, if the request makes anything durable or fails.
pub(crate) fn touch_completion(disk: &Disk, id: RequestId) {
    let Some(logged) = disk.log().get(id) else { return };
    let (device, first) = logged.request.place();
    let blocks = first..first + logged.request.count();
    if logged.is_to_fail() {
        footprint::touch(footprint::EVERYTHING, Touch::Change);
    }
    match &logged.request {
        Request::Flush { .. } => footprint::touch(footprint::CUTS, Touch::Oppose),
        Request::Read { .. } => {
            blocks.for_each(|b| footprint::touch(footprint::block(device, b), Touch::Look));
        }
        Request::Write { fua, .. } => {
            blocks.for_each(|b| footprint::touch(footprint::block(device, b), Touch::Change));
            footprint::touch(footprint::coverage(device), Touch::Look);
            if *fua {
                footprint::touch(footprint::CUTS, Touch::Oppose);
            }
        }
        Request::Discard { .. } => {
            blocks.for_each(|b| footprint::touch(footprint::block(device, b), Touch::Change));
            footprint::touch(footprint::coverage(device), Touch::Look);
        }
    }
}

/// The "interrupt" after a completion.
pub(crate) fn finish(machine: &Machine, id: RequestId) {
    let pending = machine.0.bios.borrow_mut().0.get_mut(id.0 as usize).and_then(Option::take);
    let Some(pending) = pending else { return };
    let outcome = machine.disk_mut().result(id).expect("a completed request has a result");
    match pending {
        Pending::Wake(state) => {
            *state.outcome.borrow_mut() = Some(outcome);
            for id in std::mem::take(&mut *state.waiters.borrow_mut()) {
                machine.set_ready(id);
            }
        }
        Pending::Call(on_end) => on_end(&outcome),
    }
}

impl BioState {
    fn enlist(&self, id: TaskId) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.contains(&id) {
            waiters.push(id);
        }
    }
}

impl Bio {
    /// Whether the request has completed.
    pub fn is_done(&self) -> bool {
        self.state.outcome.borrow().is_some()
    }

    /// The number of the request in the disk's log.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Waits for the completion; the outcome is the device's.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn wait(&self, task: &Task) -> Result<Outcome, Stopped> {
        let place = Location::caller();
        let machine = task.machine();
        if !self.is_done() && !machine.preempts() {
            // No choice to make: the device serves the one that is waited for.
            machine.complete(self.id);
        }
        footprint::boundary();
        while !self.is_done() {
            self.state.enlist(task.id());
            footprint::retract();
            let waiting = Waiting {
                class: IOWAIT.name(),
                instance: (u64::from(self.id.0), 0),
                lock: None,
                server: Server::Device,
                place,
            };
            machine.block(task.id(), Status::Blocked, waiting)?;
        }
        let outcome = self.state.outcome.borrow();
        Ok(outcome.clone().expect("just seen"))
    }
}

impl Task {
    /// Submits a request. A scheduling point precedes the submission.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned; then nothing was submitted.
    pub fn submit(&self, request: Request, note: Note) -> Result<Bio, Stopped> {
        let state = Rc::new(BioState::default());
        let id = self.submit_pending(request, note, Pending::Wake(state.clone()))?;
        Ok(Bio { id, state })
    }

    /// Submits a request and has `on_end` called when it completes. A scheduling point precedes
    /// the submission.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned; then nothing was submitted.
    pub fn submit_then(
        &self,
        request: Request,
        note: Note,
        on_end: OnEnd,
    ) -> Result<RequestId, Stopped> {
        self.submit_pending(request, note, Pending::Call(on_end))
    }

    fn submit_pending(
        &self,
        request: Request,
        note: Note,
        pending: Pending,
    ) -> Result<RequestId, Stopped> {
        let (device, block) = request.place();
        let object = Object::new(OBJECT_BLOCK, u64::from(device.0), block);
        self.site(&SUBMIT, object, Access::Io)?;
        let machine = self.machine();
        touch_submission(&machine.disk(), &request);
        let moment = machine.tick();
        let id = machine.disk_mut().submit(moment, request, note);
        footprint::note(Entry::Submitted(id));
        machine.0.bios.borrow_mut().set(id, pending);
        machine.happened(|| Happening::Submitted { task: self.id(), request: id });
        machine.look_at_submission(id);
        Ok(id)
    }

    /// Flushes a device's cache and waits for it.
    ///
    /// # Errors
    /// [`Stopped`] if the machine is poisoned.
    #[track_caller]
    pub fn flush(&self, device: crate::disk::DeviceId, note: Note) -> Result<Outcome, Stopped> {
        let place = Location::caller();
        let _ = place;
        self.submit(Request::Flush { device }, note)?.wait(self)
    }
}

/// A disk for a machine that does no IO.
pub fn no_disk() -> Disk {
    Disk::new(Vec::new())
}
