//! The queue behind every lock.

use super::lockdep::{Held, Token};
use super::{LockClass, Mode, Range};
use crate::deadlock::place as show;
use crate::event::{Access, Event, Object, Site};
use crate::fault::{Fault, FaultKind};
use crate::footprint::{self, Touch};
use crate::machine::{Fairness, Machine, Server, Status, Stopped, TaskId, Waiting};
use crate::record::Happening;
use crate::task::Task;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;

static ACQUIRE: Site = Site::new("lock.acquire");

/// Who holds a granted range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Task(TaskId),
    /// An asynchronous IO, to which a task moved its guard. See [`Token`].
    Token,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    hold: u32,
    range: Range,
    mode: Mode,
    holder: Holder,
}

pub(super) struct Core {
    pub(super) instance: (u64, u64),
    class: &'static LockClass,
    /// The number of the class in the machine's class graph, once it was asked for.
    node: Cell<Option<u8>>,
    id: u32,
    epoch: u32,
    object: u32,
    machine: Machine,
    granted: RefCell<SmallVec<[Grant; 2]>>,
    queue: RefCell<SmallVec<[Rc<Waiter>; 2]>>,
}

/// One lock's share of a request.
pub(super) struct Part {
    pub(super) core: Rc<Core>,
    pub(super) range: Cell<Range>,
    pub(super) resolve: Option<Rc<dyn Fn() -> Range>>,
    mode: Mode,
    /// As what it waits, where readers and writers are not treated alike: all parts of a request as
    /// the same, or two requests could each let the other go first.
    queues_as: Mode,
    /// It waits for tasks only, not for asynchronous IO.
    pub(super) passes_tokens: bool,
    hold: u32,
}

struct Waiter {
    task: TaskId,
    parts: SmallVec<[Part; 2]>,
    granted: Cell<bool>,
    /// How often a later request that conflicts was granted before this one.
    bypassed: Cell<u32>,
    place: &'static Location<'static>,
}

/// A held range; released when dropped. No scheduling point in the release.
pub struct Guard {
    core: Rc<Core>,
    hold: u32,
    range: Range,
}

impl Part {
    pub(super) fn new(core: &Rc<Core>, range: Range, mode: Mode) -> Self {
        let hold = core.machine.new_lock_id();
        let (core, range) = (core.clone(), Cell::new(range));
        Part { core, range, resolve: None, mode, queues_as: mode, passes_tokens: false, hold }
    }

    /// Waits as a writer: another part of its request writes.
    pub(super) fn queue_as_writer(&mut self) {
        self.queues_as = Mode::Write;
    }

    pub(super) fn writes(&self) -> bool {
        self.mode == Mode::Write
    }

    /// Whether a following part of the same lock overlaps or touches this one.
    pub(super) fn absorbs(&self, next: &Part) -> bool {
        let (mine, theirs) = (self.range.get(), next.range.get());
        Rc::ptr_eq(&self.core, &next.core) && theirs.start <= mine.end.saturating_add(1)
    }

    pub(super) fn absorb(&mut self, next: &Part) {
        debug_assert!(self.absorbs(next));
        let (mine, theirs) = (self.range.get(), next.range.get());
        self.range.set(Range::new(mine.start, mine.end.max(theirs.end)));
        if next.mode == Mode::Write {
            (self.mode, self.queues_as) = (Mode::Write, Mode::Write);
        }
    }

    fn current_range(&self) -> Range {
        if let Some(resolve) = &self.resolve {
            self.range.set(resolve());
        }
        self.range.get()
    }

    fn conflicts_with(&self, range: &Range, mode: Mode) -> bool {
        self.current_range().overlaps(range) && !(self.mode == Mode::Read && mode == Mode::Read)
    }

    /// Whether this part can be granted now. `me` is the waiter it belongs to, if it is queued.
    fn is_grantable(&self, me: Option<&Rc<Waiter>>) -> bool {
        let range = self.current_range();
        if self.core.is_held_against(&range, self.mode, self.passes_tokens) {
            return false;
        }
        let fairness = self.core.machine.0.config.get().fairness;
        let queue = self.core.queue.borrow();
        let mut ahead = true;
        for other in queue.iter() {
            if me.is_some_and(|me| Rc::ptr_eq(me, other)) {
                ahead = false;
                continue;
            }
            let conflicts = |part: &Part| {
                Rc::ptr_eq(&part.core, &self.core) && part.conflicts_with(&range, self.mode)
            };
            let Some(part) = other.parts.iter().find(|part| conflicts(part)) else { continue };
            let passes = match fairness {
                Fairness::Fifo => !ahead,
                Fairness::Reader => !ahead || (self.mode == Mode::Read && self.core.is_read_held()),
                Fairness::Writer => match (self.queues_as, part.queues_as) {
                    (Mode::Write, Mode::Read) => true,
                    (Mode::Read, Mode::Write) => false,
                    _ => !ahead,
                },
            };
            if !passes {
                return false;
            }
        }
        true
    }
}

impl Core {
    pub(super) fn new(
        machine: &Machine,
        class: &'static LockClass,
        instance: (u64, u64),
    ) -> Rc<Self> {
        Rc::new(Core {
            instance,
            class,
            node: Cell::new(None),
            id: machine.new_lock_id(),
            epoch: machine.epoch(),
            object: footprint::fresh(),
            machine: machine.clone(),
            granted: RefCell::default(),
            queue: RefCell::default(),
        })
    }

    pub(super) fn is_held(&self) -> bool {
        self.look();
        !self.granted.borrow().is_empty()
    }

    /// Somebody asks who holds it: that conflicts with readers too.
    pub(super) fn look(&self) {
        footprint::touch(self.object.into(), Touch::Change);
    }

    /// Readers that take it and give it back while nobody queues commute with each other.
    fn touch(&self, mode: Mode) {
        let touch = match mode {
            Mode::Read if self.queue.borrow().is_empty() => Touch::Look,
            _ => Touch::Change,
        };
        footprint::touch(self.object.into(), touch);
    }

    /// Whether the task that runs holds all of a range, in this mode or a stronger one. For
    /// watchers: it leaves no footprint.
    pub(super) fn is_held_by_runner(&self, range: Range, mode: Mode) -> bool {
        let runner = Holder::Task(self.machine.0.watch.running.get());
        self.granted.borrow().iter().any(|grant| {
            let suffices = mode == Mode::Read || grant.mode == Mode::Write;
            grant.holder == runner && suffices && grant.range.contains(&range)
        })
    }

    fn is_read_held(&self) -> bool {
        self.granted.borrow().iter().any(|grant| grant.mode == Mode::Read)
    }

    pub(super) fn has_conflict(&self, range: &Range, mode: Mode) -> bool {
        self.is_held_against(range, mode, false)
    }

    /// Whether anybody holds a part of a range in a mode that conflicts; of tokens, only if they
    /// are not passed.
    fn is_held_against(&self, range: &Range, mode: Mode, passes_tokens: bool) -> bool {
        self.granted.borrow().iter().any(|grant| {
            grant.range.overlaps(range)
                && !(grant.mode == Mode::Read && mode == Mode::Read)
                && !(passes_tokens && grant.holder == Holder::Token)
        })
    }

    /// Whether anybody waits who does not wait for tokens.
    fn is_awaited_by_passers(&self) -> bool {
        let queue = self.queue.borrow();
        queue.iter().any(|waiter| waiter.parts.iter().any(|part| part.passes_tokens))
    }

    /// Grants every waiter whose turn has come, in queue order.
    fn grant_waiters(&self) {
        if self.queue.borrow().is_empty() {
            return;
        }
        let waiters: SmallVec<[Rc<Waiter>; 4]> = self.queue.borrow().iter().cloned().collect();
        for waiter in waiters {
            for part in &waiter.parts {
                footprint::touch(part.core.object.into(), Touch::Change);
            }
            if waiter.parts.iter().all(|part| part.is_grantable(Some(&waiter))) {
                waiter.parts.iter().for_each(|it| it.core.note_bypassed(it, Some(&waiter)));
                for part in &waiter.parts {
                    part.core.queue.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter));
                }
                grant(waiter.task, &waiter.parts, waiter.place);
                waiter.granted.set(true);
                self.machine.set_ready(waiter.task);
            }
        }
    }

    fn node(&self) -> u8 {
        let node = || self.machine.0.lockdep.borrow_mut().node(self.class);
        let node = self.node.get().unwrap_or_else(node);
        self.node.set(Some(node));
        node
    }

    /// Lets a task hold a range that nothing conflicts with, but for tokens that it passes.
    fn grant(
        &self,
        task: TaskId,
        (hold, range, mode): (u32, Range, Mode),
        place: &'static Location<'static>,
    ) {
        self.granted.borrow_mut().push(Grant { hold, range, mode, holder: Holder::Task(task) });
        let held = Held {
            class: self.class,
            node: self.node(),
            instance: self.instance,
            lock: self.id,
            hold,
            place,
        };
        self.machine.0.tasks.borrow_mut()[task.0 as usize].held.push(held);
        let (class, instance) = (self.class.name(), self.instance);
        let took = || Happening::Took { task, hold, class, instance, range, mode, place };
        self.machine.happened(took);
    }

    /// Counts whom a grant passes: those who asked before and want what it takes (races.md
    /// §7.5.11). First come, first served lets nobody pass.
    fn note_bypassed(&self, part: &Part, me: Option<&Rc<Waiter>>) {
        let queue = self.queue.borrow();
        let range = part.range.get();
        let earlier = queue.iter().take_while(|it| me.is_none_or(|me| !Rc::ptr_eq(me, it)));
        for waiter in earlier {
            let is_mine = |other: &Part| std::ptr::eq(&*other.core, self);
            let conflicts =
                |other: &Part| is_mine(other) && other.conflicts_with(&range, part.mode);
            if !waiter.parts.iter().any(conflicts) {
                continue;
            }
            let count = waiter.bypassed.get() + 1;
            waiter.bypassed.set(count);
            let config = self.machine.0.config.get();
            let most = if config.fairness == Fairness::Fifo { 0 } else { config.bypasses_max };
            if count > most {
                self.report_starved(waiter, count);
            }
        }
    }

    fn report_starved(&self, waiter: &Waiter, count: u32) {
        let (name, place) = (self.machine.task_name(waiter.task), show(waiter.place));
        let (class, (a, b)) = (self.class.name(), self.instance);
        self.machine.report(Fault {
            kind: FaultKind::Livelock,
            message: format!(
                "task {name} waits for {class}({a},{b}) at {place}: \
                 {count} later requests passed it"
            ),
            details: crate::deadlock::lanes(&self.machine),
            key: format!("livelock bypassed {class}"),
        });
    }

    /// For reports: what a holder holds has become less.
    fn note_change(&self, hold: u32) {
        self.machine.happened(|| {
            let Grant { range, mode, .. } = self.granted.borrow()[self.find(hold)];
            Happening::Changed { hold, range, mode }
        });
    }

    fn find(&self, hold: u32) -> usize {
        let position = self.granted.borrow().iter().position(|grant| grant.hold == hold);
        position.expect("a guard's grant exists until it is dropped")
    }
}

fn grant(task: TaskId, parts: &[Part], place: &'static Location<'static>) {
    for part in parts {
        let range = part.range.get();
        debug_assert!(!part.core.is_held_against(&range, part.mode, part.passes_tokens));
        part.core.grant(task, (part.hold, range, part.mode), place);
    }
}

fn guards(parts: &[Part]) -> SmallVec<[Guard; 2]> {
    let guard =
        |part: &Part| Guard { core: part.core.clone(), hold: part.hold, range: part.range.get() };
    parts.iter().map(guard).collect()
}

fn event(core: &Core) -> Event {
    let object = Object::new(core.class.rank(), core.instance.0, core.instance.1);
    Event { site: &ACQUIRE, object, access: Access::Acquire }
}

pub(super) fn acquire_one(
    task: &Task,
    core: &Rc<Core>,
    range: Range,
    mode: Mode,
    place: &'static Location<'static>,
) -> Result<Guard, Stopped> {
    let machine = task.machine();
    machine.pass_site(task.id(), event(core))?;
    machine.check_order(task.id(), core.class, core.instance, place)?;
    if core.queue.borrow().is_empty() && !core.has_conflict(&range, mode) {
        // Most often nobody is there: no queue, no list of parts.
        let hold = machine.new_lock_id();
        core.touch(mode);
        core.grant(task.id(), (hold, range, mode), place);
        return Ok(Guard { core: core.clone(), hold, range });
    }
    let part = Part::new(core, range, mode);
    let mut guards = grant_or_wait(task, smallvec::smallvec![part], place)?;
    Ok(guards.pop().expect("one part, one guard"))
}

/// As [`acquire_one`], not waiting for asynchronous IO that holds the range.
pub(super) fn acquire_beside_tokens(
    task: &Task,
    core: &Rc<Core>,
    range: Range,
    mode: Mode,
    place: &'static Location<'static>,
) -> Result<Guard, Stopped> {
    let part = Part { passes_tokens: true, ..Part::new(core, range, mode) };
    let mut guards = acquire(task, smallvec::smallvec![part], place)?;
    Ok(guards.pop().expect("one part, one guard"))
}

pub(super) fn acquire(
    task: &Task,
    parts: SmallVec<[Part; 2]>,
    place: &'static Location<'static>,
) -> Result<SmallVec<[Guard; 2]>, Stopped> {
    let machine = task.machine();
    machine.pass_site(task.id(), event(&parts[0].core))?;
    for part in &parts {
        machine.check_order(task.id(), part.core.class, part.core.instance, place)?;
    }
    grant_or_wait(task, parts, place)
}

/// Takes what may be taken now, or waits in the queues for it.
fn grant_or_wait(
    task: &Task,
    parts: SmallVec<[Part; 2]>,
    place: &'static Location<'static>,
) -> Result<SmallVec<[Guard; 2]>, Stopped> {
    let machine = task.machine();
    let is_grantable = parts.iter().all(|part| part.is_grantable(None));
    for part in &parts {
        part.core.touch(if is_grantable { part.mode } else { Mode::Write });
    }
    if is_grantable {
        parts.iter().for_each(|part| part.core.note_bypassed(part, None));
        grant(task.id(), &parts, place);
        return Ok(guards(&parts));
    }
    let (granted, bypassed) = (Cell::new(false), Cell::new(0));
    let waiter = Rc::new(Waiter { task: task.id(), parts, granted, bypassed, place });
    for part in &waiter.parts {
        part.core.queue.borrow_mut().push(waiter.clone());
    }
    let missing = waiter.parts.iter().find(|part| !part.is_grantable(Some(&waiter)));
    let core = &missing.unwrap_or(&waiter.parts[0]).core;
    let waiting = Waiting {
        class: core.class.name(),
        instance: core.instance,
        lock: Some(core.id),
        server: Server::Holders,
        place,
    };
    while !waiter.granted.get() {
        machine.block(task.id(), Status::Blocked, waiting)?;
        for part in &waiter.parts {
            footprint::touch(part.core.object.into(), Touch::Look);
        }
    }
    Ok(guards(&waiter.parts))
}

pub(super) fn try_acquire(
    task: &Task,
    core: &Rc<Core>,
    range: Range,
    mode: Mode,
    place: &'static Location<'static>,
) -> Option<Guard> {
    let part = Part::new(core, range, mode);
    let is_grantable = part.is_grantable(None);
    core.touch(if is_grantable { mode } else { Mode::Write });
    if core.machine.0.poisoned.get() || !is_grantable {
        return None;
    }
    core.note_bypassed(&part, None);
    grant(task.id(), std::slice::from_ref(&part), place);
    guards(std::slice::from_ref(&part)).pop()
}

impl Guard {
    /// What is held.
    pub fn range(&self) -> Range {
        self.range
    }

    /// The number of what it holds.
    pub(crate) fn hold(&self) -> u32 {
        self.hold
    }

    /// Gives part of the range back; `range` must lie within what is held.
    pub fn shrink(&mut self, range: Range) {
        assert!(self.range.contains(&range), "a guard cannot grow");
        self.core.touch(Mode::Write);
        let index = self.core.find(self.hold);
        self.core.granted.borrow_mut()[index].range = range;
        self.range = range;
        self.core.note_change(self.hold);
        self.core.grant_waiters();
    }

    /// Goes on reading only, and lets other readers in.
    pub fn downgrade(&mut self) {
        self.core.touch(Mode::Write);
        let index = self.core.find(self.hold);
        self.core.granted.borrow_mut()[index].mode = Mode::Read;
        self.core.note_change(self.hold);
        self.core.grant_waiters();
    }

    /// Makes the guard a token of an asynchronous IO: it leaves the held set of its task, and may
    /// be dropped by anyone; `server` is who ends the IO, for the wait-for graph.
    pub fn into_token(self, server: Server) -> Guard {
        self.core.touch(Mode::Write);
        let index = self.core.find(self.hold);
        let holder = self.core.granted.borrow()[index].holder;
        if let Holder::Task(task) = holder
            && let Some(held) = self.core.machine.forget_held(task, self.hold)
        {
            self.core.machine.0.tokens.borrow_mut().push(Token { held, server });
        }
        self.core.granted.borrow_mut()[index].holder = Holder::Token;
        self.core.machine.happened(|| Happening::Handed { hold: self.hold });
        if self.core.is_awaited_by_passers() {
            self.core.grant_waiters();
        }
        self
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let index = self.core.find(self.hold);
        let grant = self.core.granted.borrow_mut().remove(index);
        self.core.touch(grant.mode);
        if self.core.epoch != self.core.machine.epoch() {
            return; // The execution that took it is over.
        }
        self.core.machine.happened(|| Happening::Gave { hold: self.hold });
        match grant.holder {
            Holder::Task(task) => {
                self.core.machine.forget_held(task, self.hold);
            }
            Holder::Token => self.core.machine.forget_token(self.hold),
        }
        if !self.core.machine.0.poisoned.get() {
            self.core.grant_waiters();
        }
    }
}
