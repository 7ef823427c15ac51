//! Watchers, the class graph of tokens, edges through asynchronous IO, and bypassed waiters.

use machine::choosers::RoundRobin;
use machine::disk::{Disk, Note, Request};
use machine::{
    Access, Actor, Config, DeviceId, End, Fairness, FaultKind, Kind, LockClass, Machine, Object,
    RequestId, RwLock, Server, Site, Stopped, Task, WaitQueue, Watcher,
};
use machine::{Block, Guard, Mutex};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

static STEP: Site = Site::new("test.step");
static LOW: LockClass = LockClass::new("LOW", 10);
static HIGH: LockClass = LockClass::new("HIGH", 20);
static WAIT: LockClass = LockClass::new("WAIT", 30);

fn machine(config: Config) -> Machine {
    Machine::new(config, machine::io::no_disk(), Box::new(RoundRobin))
}

fn step(task: &Task) -> Result<(), Stopped> {
    task.site(&STEP, Object::NONE, Access::Write)
}

fn spawn(
    machine: &Machine,
    name: &str,
    kind: Kind,
    body: impl FnOnce(&Task) -> Result<(), Stopped> + 'static,
) {
    machine.spawn(name, kind, Box::new(body));
}

#[derive(Default)]
struct Diary {
    steps: Cell<u32>,
    requests: RefCell<Vec<(RequestId, bool)>>,
}

impl Watcher for Diary {
    fn stepped(&self, machine: &Machine, who: Actor) {
        self.steps.set(self.steps.get() + 1);
        machine.suspect(FaultKind::Invariant, "rule", &machine.actor_name(who));
    }

    fn submitted(&self, _: &Machine, id: RequestId) {
        self.requests.borrow_mut().push((id, false));
    }

    fn completed(&self, _: &Machine, id: RequestId) {
        self.requests.borrow_mut().push((id, true));
    }
}

/// A device of 16 zero blocks.
struct Zeros;

impl machine::disk::BlockSource for Zeros {
    fn blocks(&self) -> u64 {
        16
    }

    fn read(&self, _: u64) -> Block {
        Block::zero()
    }
}

#[test]
fn a_watcher_is_told_of_changes_and_requests_and_stops_nothing() {
    let disk = Disk::new(vec![Rc::new(Zeros)]);
    let machine = Machine::new(Config::default(), disk, Box::new(RoundRobin));
    let diary = Rc::new(Diary::default());
    machine.watch(Some(diary.clone()));
    spawn(&machine, "a", Kind::Foreground, |task| {
        step(task)?; // nothing has changed
        task.machine().changes().note();
        step(task)?;
        step(task)?;
        let request = Request::write(DeviceId(0), 3, Block::from_slice(b"x"));
        task.submit(request, Note::default())?.wait(task).map(drop)
    });
    assert_eq!(machine.run(), End::Done);
    assert_eq!(diary.steps.get(), 1, "one step changed something");
    assert_eq!(*diary.requests.borrow(), [(RequestId(0), false), (RequestId(0), true)]);
    let suspicion = machine.suspicion().expect("it was kept");
    assert!(suspicion.kind == FaultKind::Invariant && suspicion.message.contains("task a"));
    machine.reset(Config::default());
    assert!(machine.suspicion().is_none(), "of one execution");
}

#[test]
fn what_serves_an_io_acquires_under_its_tokens() {
    let machine = machine(Config::default());
    let (low, high) = (Mutex::new(&machine, &LOW, (1, 0)), Mutex::new(&machine, &HIGH, (2, 0)));
    let slot: Rc<RefCell<Vec<Guard>>> = Rc::default();
    let tokens = slot.clone();
    spawn(&machine, "submit", Kind::Foreground, move |task| {
        tokens.borrow_mut().push(high.lock(task)?.into_token(Server::Worker("cw")));
        Ok(())
    });
    spawn(&machine, "cw", Kind::Foreground, move |task| {
        task.serve(&slot.borrow());
        drop(low.lock(task)?); // it holds nothing itself
        task.serve(&[]);
        slot.borrow_mut().clear();
        Ok(())
    });
    assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
    let suspicion = machine.suspicion().expect("the token ranks higher");
    assert_eq!(suspicion.kind, FaultKind::LockOrder);
    assert!(suspicion.message.contains("takes LOW(1,0)"), "{suspicion}");
    assert!(suspicion.message.contains("it holds HIGH(2,0)"), "{suspicion}");
}

#[test]
fn a_wait_for_a_token_leads_to_who_ends_the_io() {
    let machine = machine(Config::default());
    let lock = Mutex::new(&machine, &HIGH, (1, 0));
    let queue = WaitQueue::new(&machine);
    let slot: Rc<RefCell<Vec<Guard>>> = Rc::default();
    let (held, never, tokens) = (lock.clone(), queue.clone(), slot.clone());
    spawn(&machine, "user", Kind::Foreground, move |task| {
        let token = held.lock(task)?.into_token(Server::Worker("cw"));
        tokens.borrow_mut().push(token);
        step(task)?;
        task.wait(&never, &WAIT, Object::NONE, Server::Worker("cw"), || false)
    });
    spawn(&machine, "cw0", Kind::Worker, move |task| lock.lock(task).map(drop));
    assert_eq!(machine.run(), End::Stopped);
    let faults = machine.faults();
    let fault = faults.first().expect("nobody can go on");
    assert_eq!(fault.kind, FaultKind::Deadlock);
    assert!(fault.message.contains("cw0 waits for an IO that waits for it"), "{fault}");
    let line = "an IO holds HIGH(1,0)";
    assert!(fault.details.iter().any(|it| it.starts_with(line)), "{fault}");
    drop(slot);
}

/// One reader stays, another comes and goes, and a writer waits.
fn visited(fairness: Fairness, rounds: u32) -> (End, Option<String>) {
    let machine = machine(Config { fairness, bypasses_max: 8, ..Config::default() });
    let lock = RwLock::new(&machine, &LOW, (1, 0));
    let (held, visits) = (lock.clone(), Rc::new(Cell::new(0)));
    let seen = visits.clone();
    spawn(&machine, "stays", Kind::Foreground, move |task| {
        let _guard = held.read(task)?;
        let mut steps = 0;
        while seen.get() < rounds && steps < 1000 {
            steps += 1;
            step(task)?;
        }
        Ok(())
    });
    let held = lock.clone();
    spawn(&machine, "visits", Kind::Foreground, move |task| {
        step(task)?;
        for _ in 0..rounds {
            drop(held.read(task)?);
            visits.set(visits.get() + 1);
        }
        Ok(())
    });
    spawn(&machine, "w", Kind::Foreground, move |task| lock.write(task).map(drop));
    machine.set_chooser(Box::new(machine::choosers::Random::new(3)));
    let end = machine.run();
    let fault = machine.faults().first().map(|fault| format!("{}: {fault}", fault.kind.name()));
    (end, fault)
}

#[test]
fn a_waiter_is_passed_a_bounded_number_of_times() {
    assert_eq!(visited(Fairness::Fifo, 100), (End::Done, None), "nobody passes");
    assert_eq!(visited(Fairness::Reader, 3), (End::Done, None), "few do");
    let (end, fault) = visited(Fairness::Reader, 1000);
    let fault = fault.expect("the writer starves");
    assert!(end == End::Stopped && fault.starts_with("livelock"), "{fault}");
    assert!(fault.contains("task w waits for LOW(1,0)"), "{fault}");
}
