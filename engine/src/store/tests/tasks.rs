//! Several tasks on one store, in random orders.

use super::*;
use machine::choosers::Random;
use machine::{Access, Object, Site};

static STEP: Site = Site::new("test.step");

/// Runs `bodies` as concurrent tasks on a mounted store, then checks the image.
fn race(seed: u64, options: ImageOptions, mount_options: MountOptions) {
    let bench = Bench::new(&options);
    bench.machine.set_chooser(Box::new(Random::new(seed)));
    let store = bench.run(move |task| Store::mount(task, &mount_options)).unwrap();
    for number in 0..3_u64 {
        let store = store.clone();
        let body = Box::new(move |task: &Task| {
            work(task, &store, number).expect("no error is planned");
            Ok(())
        });
        bench.machine.spawn(&format!("user{number}"), TaskKind::Foreground, body);
    }
    let committer = store.clone();
    let body = Box::new(move |task: &Task| {
        for _ in 0..3 {
            committer.commit(task).expect("no error is planned");
            committer.reclaim_nodes();
        }
        Ok(())
    });
    bench.machine.spawn("committer", TaskKind::Foreground, body);
    let end = bench.machine.run();
    assert_eq!(end, End::Done, "seed {seed}: {:?}", *bench.machine.faults());
    let check = move |task: &Task| {
        store.commit(task)?;
        let other = mount(task)?;
        for number in 0..3 {
            for object in 0..8 {
                let found = other.lookup(task, Tree::Fs, key(100 + number * 50 + object))?;
                assert_eq!(found.is_some(), object % 2 == 0, "task {number}, item {object}");
            }
        }
        check_space(task, &other, 3)
    };
    bench.run(check).unwrap();
}

/// Inserts and deletes items, allocates and frees data; ends an ordered extent as a completion.
fn work(task: &Task, store: &Rc<Store>, number: u64) -> Result<()> {
    for object in 0..8 {
        let handle = store.join(task, Join::User)?;
        store.insert(task, &handle, Tree::Fs, key(100 + number * 50 + object), &[1; 20])?;
        task.site(&STEP, Object::NONE, Access::Yield)?;
        let nested = store.join(task, Join::User)?;
        assert_eq!(nested.generation(), handle.generation(), "a task joins once");
    }
    store.begin_pending();
    task.site(&STEP, Object::NONE, Access::Yield)?;
    // W-3: this join must not wait for a commit that waits for the pending extent.
    let handle = store.join(task, Join::Completion)?;
    let run = store.allocate_data(task, &handle, 1, None, None)?;
    store.end_pending();
    drop(handle);
    for object in 0..8 {
        let handle = store.join(task, Join::User)?;
        if object % 2 == 1 {
            store.delete(task, &handle, Tree::Fs, key(100 + number * 50 + object))?;
        }
        let other = store.allocate_data(task, &handle, 1, None, None)?;
        assert_ne!(other, run);
        store.free_data(task, &handle, other)?;
    }
    Ok(())
}

#[test]
fn store_tasks_and_commits_interleave_in_any_order() {
    for seed in 0..60 {
        let leaf = if seed % 2 == 0 { 4 } else { 0 };
        let node_buffers = seed % 3 == 0;
        race(seed, image(leaf), MountOptions { node_buffers, ..MountOptions::default() });
    }
}

#[test]
fn store_tasks_interleave_under_every_fairness_of_locks() {
    use machine::Fairness;
    let fairnesses = [Fairness::Fifo, Fairness::Reader, Fairness::Writer];
    for seed in 0..30_usize {
        let options = image(4);
        let bases = Bench::new(&options).contents(&options);
        let fairness = fairnesses[seed % 3];
        let config = Config { steps_max: 1_000_000, fairness, ..Config::default() };
        let chooser = Box::new(Random::new(seed as u64));
        let bench = Bench { machine: Machine::new(config, Disk::new(bases), chooser) };
        let store = bench.run(mount).unwrap();
        for number in 0..3_u64 {
            let store = store.clone();
            let body = Box::new(move |task: &Task| {
                if number == 2 {
                    (0..3).for_each(|_| store.commit(task).expect("no error"));
                    return Ok(());
                }
                work(task, &store, number).expect("no error");
                Ok(())
            });
            bench.machine.spawn("task", TaskKind::Foreground, body);
        }
        assert_eq!(bench.machine.run(), End::Done, "{:?}", *bench.machine.faults());
    }
}
