//! Whom a contended lock lets in first, where requests are about several locks.

use machine::choosers::Random;
use machine::{
    Access, Body, Config, End, Fairness, Kind, LockClass, Machine, Mode, Object, Range, RangeLock,
    Site, Stopped, Task,
};

static STEP: Site = Site::new("test.step");
static A: LockClass = LockClass::new("A", 10);

fn step(task: &Task) -> Result<(), Stopped> {
    task.site(&STEP, Object::new(1, u64::from(task.id().0), 0), Access::Write)
}

#[test]
fn requests_that_read_here_and_write_there_do_not_wait_for_each_other() {
    for (seed, fairness) in
        (0..300).flat_map(|seed| [Fairness::Writer, Fairness::Reader].map(|fair| (seed, fair)))
    {
        let config = Config { fairness, ..Config::default() };
        let machine = Machine::new(config, machine::io::no_disk(), Box::new(Random::new(seed)));
        let first = RangeLock::new(&machine, &A, (1, 0));
        let second = RangeLock::new(&machine, &A, (2, 0));
        for (name, is_turned) in [("a", false), ("b", true), ("c", false)] {
            let (first, second) = (first.clone(), second.clone());
            let (read, write) = if is_turned { (&first, &second) } else { (&second, &first) };
            let (read, write) = (read.clone(), write.clone());
            let body: Body = Box::new(move |task| {
                for _ in 0..3 {
                    let one = first.lock(task, Range::ALL, Mode::Read)?;
                    step(task)?;
                    drop(one);
                    let all = Range::ALL;
                    let parts = [(&read, all, Mode::Read), (&write, all, Mode::Write)];
                    let guards = RangeLock::lock_many(task, &parts)?;
                    step(task)?;
                    drop(guards);
                }
                Ok(())
            });
            machine.spawn(name, Kind::Foreground, body);
        }
        assert_eq!(machine.run(), End::Done, "{fairness:?}: {:?}", machine.faults());
    }
}
