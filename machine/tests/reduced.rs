//! The reduced search on bare machines: it reaches what plain enumeration reaches, each outcome
//! with the same fewest preemptions, and tasks that share nothing run in one order.

use machine::cell::{Cell, RefCell};
use machine::choosers::{Exhaustive, Reduced, RoundRobin};
use machine::disk::{BlockSource, Note, Request};
use machine::{
    Access, Block, Chooser, Config, DeviceId, Disk, End, Kind, LockClass, Machine, Mutex, Object,
    RwLock, Server, Site, Stopped, Task, WaitQueue,
};
use std::collections::BTreeMap;
use std::rc::Rc;

static STEP: Site = Site::new("test.step");
static LOCK: LockClass = LockClass::new("TEST", 10);
static WAIT: LockClass = LockClass::new("TEST-WAIT", 20);

type Outcome = Vec<u64>;
type Shared = Rc<dyn Fn() -> Outcome>;

struct Zeros;

impl BlockSource for Zeros {
    fn blocks(&self) -> u64 {
        8
    }

    fn read(&self, _block: u64) -> Block {
        Block::zero()
    }
}

fn step(task: &Task) -> Result<(), Stopped> {
    task.site(&STEP, Object::NONE, Access::Yield)
}

/// Every outcome of a program with the fewest preemptions that reach it, and how many executions
/// that took.
fn outcomes(
    program: &dyn Fn(&Machine) -> Shared,
    bound: u32,
    reduced: bool,
) -> (BTreeMap<Outcome, u32>, u64) {
    let disk = Disk::new(vec![Rc::new(Zeros)]);
    let machine = Machine::new(Config::default(), disk, Box::new(RoundRobin));
    let (mut found, mut executions) = (BTreeMap::new(), 0);
    for preemptions in 0..=bound {
        let mut chooser: Box<dyn Chooser> = match reduced {
            true => Box::new(Reduced::new(preemptions)),
            false => Box::new(Exhaustive::new(preemptions)),
        };
        while advance(&mut *chooser) {
            executions += 1;
            machine.reset(Config::default());
            machine.disk_mut().reset([Rc::new(Zeros) as Rc<dyn BlockSource>]);
            machine.set_chooser(chooser);
            let outcome = program(&machine);
            let end = machine.run();
            chooser = machine.set_chooser(Box::new(RoundRobin));
            if end == End::Done {
                found.entry(outcome()).or_insert(preemptions);
            } else if !machine.faults().is_empty() {
                found.entry(vec![u64::MAX]).or_insert(preemptions);
            }
        }
    }
    (found, executions)
}

fn advance(chooser: &mut dyn Chooser) -> bool {
    if let Some(reduced) = chooser.as_any().downcast_mut::<Reduced>() {
        assert!(!reduced.unsteady(), "executions repeat");
        return reduced.advance();
    }
    chooser.as_any().downcast_mut::<Exhaustive>().expect("one of two").advance()
}

/// Both searches agree; the executions that each took.
fn agree(program: &dyn Fn(&Machine) -> Shared, bound: u32) -> (u64, u64) {
    let (full, all) = outcomes(program, bound, false);
    let (reduced, few) = outcomes(program, bound, true);
    assert_eq!(full, reduced);
    assert!(few <= all);
    (all, few)
}

fn spawn(machine: &Machine, name: &str, body: impl FnOnce(&Task) -> Result<(), Stopped> + 'static) {
    machine.spawn(name, Kind::Foreground, Box::new(body));
}

#[test]
fn tasks_that_share_nothing_run_in_one_order() {
    let program = |machine: &Machine| -> Shared {
        for name in ["a", "b"] {
            let own = Cell::new(0);
            spawn(machine, name, move |task| {
                for _ in 0..4 {
                    step(task)?;
                    own.set(own.get() + 1);
                }
                Ok(())
            });
        }
        Rc::new(Vec::new)
    };
    let (all, few) = agree(&program, 2);
    assert!(few * 2 < all, "{all} schedules, {few} executed");
}

#[test]
fn lost_updates_need_a_preemption() {
    let program = |machine: &Machine| -> Shared {
        let sum = Rc::new(Cell::new(0_u64));
        for (name, by) in [("a", 1), ("b", 10), ("c", 100)] {
            let sum = sum.clone();
            spawn(machine, name, move |task| {
                for _ in 0..2 {
                    step(task)?;
                    let seen = sum.get();
                    step(task)?;
                    sum.set(seen + by);
                }
                Ok(())
            });
        }
        Rc::new(move || vec![sum.get()])
    };
    let (found, _) = outcomes(&program, 2, true);
    assert_eq!(found.get(&vec![222]), Some(&0));
    assert_eq!(found.get(&vec![2]), Some(&1));
    agree(&program, 2);
}

#[test]
fn locks_in_two_orders_deadlock() {
    let program = |machine: &Machine| -> Shared {
        let locks = [0, 1].map(|n| Mutex::new(machine, &LOCK, (n, 0)));
        let others = RwLock::new(machine, &WAIT, (0, 0));
        let log = Rc::new(RefCell::new(Vec::new()));
        for (name, first) in [("a", 0_usize), ("b", 0), ("c", 1)] {
            let (locks, others, log) = (locks.clone(), others.clone(), log.clone());
            spawn(machine, name, move |task| {
                let shared = others.read(task)?;
                step(task)?;
                drop(shared);
                let guard = locks[first].lock(task)?;
                step(task)?;
                log.borrow_mut().push(first as u64);
                drop(guard);
                let _alone = others.write(task)?;
                log.borrow_mut().push(2);
                Ok(())
            });
        }
        Rc::new(move || log.borrow().clone())
    };
    agree(&program, 2);
}

#[test]
fn waiters_are_woken_in_every_order() {
    let program = |machine: &Machine| -> Shared {
        let ready = Rc::new(Cell::new(0_u64));
        let queue = WaitQueue::new(machine);
        let log = Rc::new(RefCell::new(Vec::new()));
        for name in ["a", "b"] {
            let (ready, queue, log) = (ready.clone(), queue.clone(), log.clone());
            spawn(machine, name, move |task| {
                step(task)?;
                log.borrow_mut().push(u64::from(task.id().0));
                let none = Object::NONE;
                task.wait(&queue, &WAIT, none, Server::Any, || ready.get() > 0)?;
                log.borrow_mut().push(10 + u64::from(task.id().0));
                Ok(())
            });
        }
        let (told, counted) = (ready, log.clone());
        spawn(machine, "c", move |task| {
            step(task)?;
            counted.borrow_mut().push(5);
            told.set(1);
            step(task)?;
            queue.wake_all();
            step(task)?;
            counted.borrow_mut().push(6);
            Ok(())
        });
        Rc::new(move || log.borrow().clone())
    };
    agree(&program, 2);
}

#[test]
fn requests_end_in_every_order_that_matters() {
    let program = |machine: &Machine| -> Shared {
        let log = Rc::new(RefCell::new(Vec::new()));
        for (name, block) in [("a", 1_u64), ("b", 2)] {
            let log = log.clone();
            spawn(machine, name, move |task| {
                let content = |n: u64| Block::from_slice(&[n as u8 + 1; 16]);
                let write = |b, n| Request::write(DeviceId(0), b, content(n));
                let one = task.submit(write(block, block), Note::default())?;
                let two = task.submit(write(3, block), Note::default())?;
                one.wait(task)?.expect("no errors are planned");
                two.wait(task)?.expect("no errors are planned");
                let read = Request::read(DeviceId(0), 3);
                let data = task.submit(read, Note::default())?.wait(task)?;
                let data = data.expect("no errors are planned");
                log.borrow_mut().push(u64::from(data[0].bytes()[0]));
                Ok(())
            });
        }
        Rc::new(move || log.borrow().clone())
    };
    let (all, few) = agree(&program, 1);
    assert!(few * 10 < all, "{all} schedules, {few} executed");
}
