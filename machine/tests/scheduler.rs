//! The scheduler, its choosers, its locks and what it finds, on programs of a few steps.

use machine::choosers::{Bytes, Exhaustive, Pct, Pos, Random, Replay, RoundRobin, moves};
use machine::{
    Access, Body, Chooser, Config, End, Event, FaultKind, Kind, LockClass, Machine, Mode, Mutex,
    Object, Range, RangeLock, RwLock, Server, Site, StepKind, Stopped, Task, WaitQueue,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

static STEP: Site = Site::new("test.step");
static A: LockClass = LockClass::new("A", 10);
static B: LockClass = LockClass::new("B", 20);
static C: LockClass = LockClass::new("C", 0);
static D: LockClass = LockClass::new("D", 0);

fn machine(chooser: Box<dyn Chooser>) -> Machine {
    Machine::new(Config::default(), machine::io::no_disk(), chooser)
}

fn steps(task: &Task, count: u64) -> Result<(), Stopped> {
    for step in 0..count {
        task.site(&STEP, Object::new(1, u64::from(task.id().0), step), Access::Write)?;
    }
    Ok(())
}

fn order(machine: &Machine) -> Vec<(u8, u64)> {
    let trace = machine.trace();
    let events = trace.iter().filter_map(|step| match step.what {
        StepKind::Event(Event { object, .. }) => Some((object.a as u8, object.b)),
        StepKind::Complete(_) => None,
    });
    events.collect()
}

fn three_tasks(machine: &Machine) {
    for name in ["a", "b", "c"] {
        let body: Body = Box::new(|task| steps(task, 10));
        machine.spawn(name, Kind::Foreground, body);
    }
    assert_eq!(machine.run(), End::Done);
}

fn choosers(seed: u64) -> Vec<Box<dyn Chooser>> {
    vec![
        Box::new(Random::new(seed)),
        Box::new(Random::with_bias(seed, 80)),
        Box::new(Pct::new(seed, 3, 30)),
        Box::new(Pos::new(seed)),
        Box::new(Bytes::new(&seed.to_le_bytes())),
        Box::new(RoundRobin),
    ]
}

#[test]
fn same_choices_give_the_same_trace_twice() {
    for seed in 0..50 {
        for (first, second) in choosers(seed).into_iter().zip(choosers(seed)) {
            let one = machine(first);
            three_tasks(&one);
            let two = machine(second);
            three_tasks(&two);
            assert_eq!(order(&one), order(&two));
            assert_eq!(one.trace_hash(), two.trace_hash());
            assert_eq!(*one.choices(), *two.choices());
        }
    }
}

#[test]
fn a_reset_machine_behaves_as_a_new_one() {
    let reused = machine(Box::new(Random::new(1)));
    three_tasks(&reused);
    for seed in 2..20 {
        reused.reset(Config::default());
        reused.set_chooser(Box::new(Random::new(seed)));
        three_tasks(&reused);
        let fresh = machine(Box::new(Random::new(seed)));
        three_tasks(&fresh);
        assert_eq!(order(&reused), order(&fresh));
    }
}

#[test]
fn recorded_moves_replay_exactly() {
    for seed in 0..50 {
        let one = machine(Box::new(Random::new(seed)));
        three_tasks(&one);
        let name = |id| machine::choice::name_hash(&one.task_name(id));
        let recorded = moves(&one.choices(), name);
        let two = machine(Box::new(Replay::new(recorded)));
        three_tasks(&two);
        assert_eq!(order(&one), order(&two));
        let mut chooser = two.set_chooser(Box::new(RoundRobin));
        let replay = chooser.as_any().downcast_mut::<Replay>().expect("it was set");
        assert_eq!(replay.divergences(), 0);
    }
}

#[test]
fn round_robin_never_preempts_and_random_does() {
    let one = machine(Box::new(RoundRobin));
    three_tasks(&one);
    let mut expected = Vec::new();
    for task in 0..3 {
        expected.extend((0..10).map(|step| (task, step)));
    }
    assert_eq!(order(&one), expected);
    let two = machine(Box::new(Random::new(7)));
    three_tasks(&two);
    assert_ne!(order(&two), expected);
}

/// All interleavings of two tasks of `count` steps within a preemption bound.
fn explore(bound: u32, count: u64) -> (u64, BTreeSet<Vec<(u8, u64)>>) {
    let machine = machine(Box::new(Exhaustive::new(bound)));
    let mut seen = BTreeSet::new();
    let mut executions = 0;
    loop {
        let mut chooser = machine.set_chooser(Box::new(RoundRobin));
        let search = chooser.as_any().downcast_mut::<Exhaustive>().expect("it was set");
        if !search.advance() {
            return (executions, seen);
        }
        machine.reset(Config::default());
        machine.set_chooser(chooser);
        for name in ["a", "b"] {
            let body: Body = Box::new(move |task| steps(task, count));
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done);
        executions += 1;
        seen.insert(order(&machine));
    }
}

#[test]
fn exhaustive_never_repeats_an_interleaving_and_misses_none() {
    // A task has `count` steps and an end, so that every order of the steps is one execution.
    let (executions, seen) = explore(u32::MAX, 3);
    assert_eq!(seen.len(), 20, "three and three steps interleave in (6 choose 3) ways");
    // Starting a task is a step of its own that the trace does not show, hence the factor.
    assert!(executions >= 20);
    let (executions_0, seen_0) = explore(0, 3);
    assert_eq!((executions_0, seen_0.len()), (2, 2), "without preemption only the two orders");
    let (_, seen_1) = explore(1, 3);
    assert!(seen_0.is_subset(&seen_1) && seen_1.is_subset(&seen) && seen_1.len() < seen.len());
}

#[test]
fn exhaustive_executions_differ_in_their_choices() {
    let machine = machine(Box::new(Exhaustive::new(2)));
    let mut seen = BTreeSet::new();
    let mut executions = 0;
    loop {
        let mut chooser = machine.set_chooser(Box::new(RoundRobin));
        let search = chooser.as_any().downcast_mut::<Exhaustive>().expect("it was set");
        if !search.advance() {
            break;
        }
        machine.reset(Config::default());
        machine.set_chooser(chooser);
        let lock = Mutex::new(&machine, &A, (0, 0));
        for name in ["a", "b", "c"] {
            let lock = lock.clone();
            let body: Body = Box::new(move |task| {
                let _guard = lock.lock(task)?;
                steps(task, 1)
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done);
        executions += 1;
        let choices: Vec<(u32, u32)> =
            machine.choices().iter().map(|choice| (choice.n, choice.chosen)).collect();
        assert!(seen.insert(choices), "an execution was repeated");
    }
    assert!(executions > 6);
}

#[test]
fn a_mutex_excludes() {
    for seed in 0..200 {
        let machine = machine(Box::new(Random::new(seed)));
        let lock = Mutex::new(&machine, &A, (0, 0));
        let inside = Rc::new(Cell::new(0));
        for name in ["a", "b", "c"] {
            let (lock, inside) = (lock.clone(), inside.clone());
            let body: Body = Box::new(move |task| {
                for _ in 0..3 {
                    let guard = lock.lock(task)?;
                    assert_eq!(inside.replace(1), 0);
                    steps(task, 2)?;
                    inside.set(0);
                    drop(guard);
                }
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
    }
}

#[test]
fn readers_share_and_writers_do_not() {
    let mut shared = false;
    for seed in 0..200 {
        let machine = machine(Box::new(Random::new(seed)));
        let lock = RwLock::new(&machine, &A, (0, 0));
        let state = Rc::new(Cell::new((0_i32, 0_i32, false)));
        for name in ["r1", "r2", "w1", "w2"] {
            let (lock, state) = (lock.clone(), state.clone());
            let body: Body = Box::new(move |task| {
                let write = name.starts_with('w');
                let guard = if write { lock.write(task)? } else { lock.read(task)? };
                let (mut readers, mut writers, mut seen) = state.get();
                if write {
                    writers += 1
                } else {
                    readers += 1
                }
                assert!(writers == 0 || (writers == 1 && readers == 0));
                seen |= readers == 2;
                state.set((readers, writers, seen));
                steps(task, 3)?;
                let (readers, writers, seen) = state.get();
                state.set(if write {
                    (readers, writers - 1, seen)
                } else {
                    (readers - 1, writers, seen)
                });
                drop(guard);
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
        shared |= state.get().2;
    }
    assert!(shared, "two readers never met");
}

#[test]
fn ranges_conflict_only_where_they_overlap() {
    for seed in 0..200 {
        let machine = machine(Box::new(Random::new(seed)));
        let lock = RangeLock::new(&machine, &A, (1, 0));
        let owners: Rc<RefCell<[u8; 8]>> = Rc::default();
        for name in ["a", "b", "c", "d"] {
            let (lock, owners) = (lock.clone(), owners.clone());
            let body: Body = Box::new(move |task| {
                for round in 0..3_u64 {
                    let start = (u64::from(task.id().0) * 3 + round) % 6;
                    let range = Range::new(start, start + 2);
                    let guard = lock.lock(task, range, Mode::Write)?;
                    for cell in &mut owners.borrow_mut()[start as usize..start as usize + 3] {
                        assert_eq!(*cell, 0);
                        *cell = 1;
                    }
                    steps(task, 2)?;
                    owners.borrow_mut()[start as usize..start as usize + 3].fill(0);
                    drop(guard);
                }
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
    }
}

#[test]
fn many_ranges_are_granted_all_or_nothing() {
    // Two tasks take two locks in opposite order, as one element: never a deadlock.
    for seed in 0..300 {
        let machine = machine(Box::new(Random::new(seed)));
        let first = RangeLock::new(&machine, &A, (1, 0));
        let second = RangeLock::new(&machine, &A, (2, 0));
        for name in ["a", "b", "c"] {
            let (first, second) = (first.clone(), second.clone());
            let body: Body = Box::new(move |task| {
                for _ in 0..3 {
                    let parts = [
                        (&second, Range::new(0, 5), Mode::Write),
                        (&first, Range::new(3, 9), Mode::Write),
                    ];
                    let guards = RangeLock::lock_many(task, &parts)?;
                    assert_eq!(guards.len(), 2);
                    steps(task, 2)?;
                    drop(guards);
                    let one = first.lock(task, Range::new(4, 4), Mode::Read)?;
                    steps(task, 1)?;
                    drop(one);
                }
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
    }
}

#[test]
fn an_append_is_resolved_when_it_is_granted() {
    for seed in 0..200 {
        let machine = machine(Box::new(Random::new(seed)));
        let lock = RangeLock::new(&machine, &A, (1, 0));
        let size = Rc::new(Cell::new(0_u64));
        for name in ["a", "b", "c"] {
            let (lock, size) = (lock.clone(), size.clone());
            let body: Body = Box::new(move |task| {
                for _ in 0..4 {
                    let end = size.clone();
                    let resolve = Rc::new(move || Range::new(end.get(), u64::MAX));
                    let guard = lock.lock_resolved(task, resolve)?;
                    assert_eq!(guard.range().start, size.get(), "the position was stale");
                    steps(task, 2)?;
                    size.set(size.get() + 10);
                    drop(guard);
                }
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
        assert_eq!(size.get(), 120);
    }
}

#[test]
fn who_passes_tokens_waits_for_tasks_only() {
    let machine = machine(Box::new(RoundRobin));
    let lock = RangeLock::new(&machine, &A, (0, 0));
    let slot: Rc<RefCell<Option<machine::Guard>>> = Rc::default();
    let is_token = Rc::new(Cell::new(false));
    let (l, s, t) = (lock.clone(), slot.clone(), is_token.clone());
    machine.spawn(
        "submit",
        Kind::Foreground,
        Box::new(move |task| {
            let guard = l.lock(task, Range::new(0, 9), Mode::Write)?;
            steps(task, 3)?;
            t.set(true);
            *s.borrow_mut() = Some(guard.into_token(Server::Device));
            Ok(())
        }),
    );
    let (l, s, t) = (lock.clone(), slot.clone(), is_token.clone());
    machine.spawn(
        "pass",
        Kind::Foreground,
        Box::new(move |task| {
            let _guard = l.lock_beside_tokens(task, Range::ALL, Mode::Write)?;
            assert!(t.get() && s.borrow().is_some(), "it waited for the task");
            assert!(l.try_lock(task, Range::new(5, 5), Mode::Read).is_none(), "others do not pass");
            steps(task, 3)
        }),
    );
    let (l, s) = (lock, slot.clone());
    machine.spawn(
        "wait",
        Kind::Foreground,
        Box::new(move |task| {
            steps(task, 1)?;
            let _guard = l.lock(task, Range::new(0, 0), Mode::Read)?;
            assert!(s.borrow().is_none(), "it waited for the token too");
            Ok(())
        }),
    );
    let s = slot;
    machine.spawn(
        "end",
        Kind::Foreground,
        Box::new(move |task| {
            steps(task, 20)?;
            drop(s.borrow_mut().take());
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
}

#[test]
fn a_token_outlives_its_task_and_is_released_by_another() {
    let machine = machine(Box::new(RoundRobin));
    let lock = Mutex::new(&machine, &A, (0, 0));
    let slot: Rc<RefCell<Option<machine::Guard>>> = Rc::default();
    let entered = Rc::new(Cell::new(false));
    let (l, s) = (lock.clone(), slot.clone());
    machine.spawn(
        "submit",
        Kind::Foreground,
        Box::new(move |task| {
            *s.borrow_mut() = Some(l.lock(task)?.into_token(machine::Server::Any));
            Ok(())
        }),
    );
    let (l, e) = (lock.clone(), entered.clone());
    machine.spawn(
        "wait",
        Kind::Foreground,
        Box::new(move |task| {
            let _guard = l.lock(task)?;
            e.set(true);
            Ok(())
        }),
    );
    let (s, e) = (slot, entered.clone());
    machine.spawn(
        "end",
        Kind::Foreground,
        Box::new(move |task| {
            assert!(!e.get());
            steps(task, 1)?;
            drop(s.borrow_mut().take());
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
    assert!(entered.get());
}

fn first_fault(machine: &Machine) -> (FaultKind, String) {
    let faults = machine.faults();
    let fault = faults.first().expect("a fault was expected");
    (fault.kind, fault.to_string())
}

#[test]
fn rank_is_checked_without_a_deadlock() {
    let machine = machine(Box::new(RoundRobin));
    let (a, b) = (Mutex::new(&machine, &A, (0, 0)), Mutex::new(&machine, &B, (0, 0)));
    machine.spawn(
        "t",
        Kind::Foreground,
        Box::new(move |task| {
            let _b = b.lock(task)?;
            let _a = a.lock(task)?;
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    let (kind, text) = first_fault(&machine);
    assert_eq!(kind, FaultKind::LockOrder);
    assert!(text.contains("task t takes A(0,0)") && text.contains("holds B(0,0)"), "{text}");
    assert!(text.contains("tests/scheduler.rs"), "{text}");
}

#[test]
fn instance_order_is_checked() {
    let machine = machine(Box::new(RoundRobin));
    let (one, two) = (Mutex::new(&machine, &A, (1, 0)), Mutex::new(&machine, &A, (2, 0)));
    machine.spawn(
        "t",
        Kind::Foreground,
        Box::new(move |task| {
            let _two = two.lock(task)?;
            let _one = one.lock(task)?;
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    assert_eq!(first_fault(&machine).0, FaultKind::LockOrder);
}

#[test]
fn the_class_graph_remembers_over_executions() {
    let machine = machine(Box::new(RoundRobin));
    for swapped in [false, true] {
        machine.reset(Config::default());
        let (c, d) = (Mutex::new(&machine, &C, (0, 0)), Mutex::new(&machine, &D, (0, 0)));
        let (first, second) = if swapped { (d, c) } else { (c, d) };
        machine.spawn(
            "t",
            Kind::Foreground,
            Box::new(move |task| {
                let _first = first.lock(task)?;
                let _second = second.lock(task)?;
                Ok(())
            }),
        );
        let end = machine.run();
        assert_eq!(end, if swapped { End::Stopped } else { End::Done });
    }
    assert_eq!(first_fault(&machine).0, FaultKind::LockOrder);
}

#[test]
fn a_deadlock_names_both_parties_and_what_they_hold() {
    let mut found = false;
    for seed in 0..50 {
        let machine = machine(Box::new(Random::new(seed)));
        // Waiting for a condition that the other sets after its own wait.
        let (one, two) = (WaitQueue::new(&machine), WaitQueue::new(&machine));
        let lock = Mutex::new(&machine, &A, (0, 0));
        let (q, l) = (one.clone(), lock.clone());
        let ready = Rc::new(Cell::new(false));
        let r = ready.clone();
        machine.spawn(
            "holder",
            Kind::Foreground,
            Box::new(move |task| {
                let _guard = l.lock(task)?;
                task.wait(&q, &B, Object::NONE, Server::Worker("other"), || r.get())
            }),
        );
        let q = one.clone();
        machine.spawn(
            "other",
            Kind::Worker,
            Box::new(move |task| {
                steps(task, 2)?;
                let _guard = lock.lock(task)?;
                ready.set(true);
                q.wake_all();
                Ok(())
            }),
        );
        drop(two);
        if machine.run() == End::Stopped {
            let (kind, text) = first_fault(&machine);
            assert_eq!(kind, FaultKind::Deadlock, "{text}");
            assert!(
                text.contains("holder waits for B") && text.contains("holds [A(0,0)"),
                "{text}"
            );
            found = true;
        }
    }
    assert!(found);
}

#[test]
fn waiting_for_oneself_is_told_apart() {
    let machine = machine(Box::new(RoundRobin));
    let lock = RangeLock::new(&machine, &A, (0, 0));
    machine.spawn(
        "t",
        Kind::Foreground,
        Box::new(move |task| {
            let _one = lock.lock(task, Range::new(0, 1), Mode::Write)?;
            let _two = lock.lock(task, Range::new(1, 2), Mode::Write)?;
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    // Taking an instance again is against the order of its class, found before it blocks.
    assert_eq!(first_fault(&machine).0, FaultKind::LockOrder);
}

#[test]
fn endless_steps_and_retries_are_livelocks() {
    let machine = machine(Box::new(RoundRobin));
    machine.spawn("t", Kind::Foreground, Box::new(|task| steps(task, u64::MAX)));
    assert_eq!(machine.run(), End::Stopped);
    assert_eq!(first_fault(&machine).0, FaultKind::Livelock);
    machine.reset(Config::default());
    machine.spawn(
        "t",
        Kind::Foreground,
        Box::new(|task| {
            loop {
                task.progress("test.retry")?;
            }
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    assert_eq!(first_fault(&machine).0, FaultKind::Livelock);
}

#[test]
fn faulting_under_a_lock_is_found_even_if_it_would_not_block() {
    static ML: LockClass = LockClass::new("ML", 40);
    let machine = machine(Box::new(RoundRobin));
    let (rl, ml) = (Mutex::new(&machine, &B, (0, 0)), Mutex::new(&machine, &ML, (0, 0)));
    machine.spawn(
        "t",
        Kind::Foreground,
        Box::new(move |task| {
            let _rl = rl.lock(task)?;
            task.may_fault()?;
            let _ml = ml.lock(task)?;
            task.may_fault()
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    assert_eq!(first_fault(&machine).0, FaultKind::FaultUnderLock);
}

#[test]
fn a_panic_is_a_finding_and_the_machine_goes_on_after_a_reset() {
    let machine = machine(Box::new(Random::new(3)));
    for round in 0..20 {
        machine.reset(Config::default());
        for name in ["a", "b"] {
            let body: Body = Box::new(move |task| {
                steps(task, 3)?;
                assert!(name != "b", "planted in round {round}");
                steps(task, 30)
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Stopped);
        let (kind, text) = first_fault(&machine);
        assert_eq!(kind, FaultKind::Panic);
        assert!(text.contains("planted in round") && text.contains("scheduler.rs"), "{text}");
    }
    machine.reset(Config::default());
    three_tasks(&machine);
}

#[test]
fn a_stop_lets_every_task_leave_through_its_error() {
    let machine = machine(Box::new(Random::new(5)));
    let left = Rc::new(Cell::new(0));
    for name in ["a", "b", "c"] {
        let left = left.clone();
        let body: Body = Box::new(move |task| {
            let result = steps(task, 1000);
            assert!(result.is_err());
            left.set(left.get() + 1);
            result
        });
        machine.spawn(name, Kind::Foreground, body);
    }
    let lock = Mutex::new(&machine, &A, (0, 0));
    machine.spawn(
        "stopper",
        Kind::Foreground,
        Box::new(move |task| {
            steps(task, 5)?;
            let _guard = lock.lock(task)?;
            task.machine().invariant("test", "planted");
            Ok(())
        }),
    );
    assert_eq!(machine.run(), End::Stopped);
    machine.stop();
    assert!(left.get() <= 3);
}

#[test]
fn workers_idle_without_work_and_are_no_deadlock() {
    for seed in 0..50 {
        let machine = machine(Box::new(Random::new(seed)));
        let queue = WaitQueue::new(&machine);
        let (work, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (q, w, d) = (queue.clone(), work.clone(), done.clone());
        machine.spawn(
            "worker",
            Kind::Worker,
            Box::new(move |task| {
                loop {
                    task.idle(&q, || w.get() > 0)?;
                    w.set(w.get() - 1);
                    steps(task, 2)?;
                    d.set(d.get() + 1);
                }
            }),
        );
        let (q, w) = (queue.clone(), work.clone());
        machine.spawn(
            "a",
            Kind::Foreground,
            Box::new(move |task| {
                for _ in 0..3 {
                    w.set(w.get() + 1);
                    q.wake_all();
                    steps(task, 2)?;
                }
                Ok(())
            }),
        );
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
        assert!(done.get() <= 3);
        machine.stop();
    }
}
