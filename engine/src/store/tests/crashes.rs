//! Power loss at every moment of commits and log writes: what recovery finds is what some durable
//! point left, not older than the last one that returned, not newer than the last one that began.

use super::*;
use machine::Moment;
use machine::disk::{Explorer, Limits, Step, TornPolicy};

type Items = Vec<(Key, Vec<u8>)>;

/// What a durable point left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    files: Items,
    checksums: Items,
    logged: Items,
}

/// A durable point: a commit or a published log.
struct Point {
    begun: Moment,
    returned: Moment,
    snapshot: Snapshot,
}

fn snapshot(task: &Task, store: &Store) -> Result<Snapshot> {
    let mut logged = Vec::new();
    for group in 0..store.log().groups() {
        store.log().range(task, group, Key::MIN, Key::MAX, |key, value| {
            logged.push((key, value.to_vec()));
            ControlFlow::Continue(())
        })?;
    }
    let files = items(task, store, Tree::Fs)?;
    Ok(Snapshot { files, checksums: items(task, store, Tree::Csum)?, logged })
}

/// What fsync does with the log of one group (B-1).
pub(super) fn sync_log(task: &Task, store: &Store, handle: &Handle, group: u8) -> Result<()> {
    let log = store.log();
    let tree_lock = log.lock(task, group)?;
    let (root, writes) = log.write_tree(task, group)?; // B-1.2
    let locked = log.lock_root(task)?;
    let (log_root, root_writes) = log.write_root(task, handle, &locked, group, root)?; // B-1.3
    writes.wait(task)?; // B-1.4
    log.acknowledge(group, root);
    root_writes.wait(task)?;
    store.flush_devices(task)?; // B-1.5
    store.publish_log(task, handle, &locked, log_root)?; // B-1.6
    drop((locked, tree_lock));
    Ok(())
}

/// Changes of items and of data with their checksums, in the trees and in the log.
fn change(task: &Task, store: &Store, handle: &Handle, round: u64) -> Result<()> {
    for object in 0..6 {
        let object = 100 + (object * 7 + round * 5) % 30;
        store.put(task, handle, Tree::Fs, key(object), &round.to_le_bytes())?;
        store.delete(task, handle, Tree::Fs, key(object + 9))?;
    }
    let run = store.allocate_data(task, handle, 1, None, None)?;
    store.insert(task, handle, Tree::Csum, items::csum_key(run.block), &[round as u8; 32])?;
    if round % 2 == 1 {
        store.free_data(task, handle, run)?;
    }
    Ok(())
}

fn record(task: &Task, points: &RefCell<Vec<Point>>, store: &Store, begun: Moment) -> Result<()> {
    let returned = task.machine().now();
    let mut snapshot = snapshot(task, store)?;
    if !store.has_log() {
        snapshot.logged.clear();
    }
    points.borrow_mut().push(Point { begun, returned, snapshot });
    Ok(())
}

fn rounds(task: &Task, points: &RefCell<Vec<Point>>) -> Result<()> {
    let store = mount(task)?;
    record(task, points, &store, Moment(0))?;
    for round in 0..4_u64 {
        for part in 0..2 {
            let handle = store.join(task, Join::User)?;
            let group = (part % store.log().groups() as u64) as u8;
            for item in 0..5 {
                let value = [round as u8; 40];
                store.log().put(task, &handle, group, key(1 + item + part * 3), &value)?;
            }
            let begun = task.machine().now();
            sync_log(task, &store, &handle, group)?;
            // The trees of the transaction are not durable; what was committed and the log are.
            let mut point = snapshot(task, &store)?;
            let last = points.borrow().last().map(|last| last.snapshot.clone());
            let last = last.expect("mount was recorded");
            (point.files, point.checksums) = (last.files, last.checksums);
            let returned = task.machine().now();
            points.borrow_mut().push(Point { begun, returned, snapshot: point });
            change(task, &store, &handle, round * 2 + part)?;
        }
        let begun = task.machine().now();
        store.commit(task)?;
        record(task, points, &store, begun)?;
    }
    Ok(())
}

/// Mounts, pins the log, checks, commits as a replay does, and checks again.
fn recover(task: &Task) -> Result<Snapshot> {
    let store = mount(task)?;
    store.pin_log(task)?;
    let found = snapshot(task, &store)?;
    let data = data_blocks(task, &store)?;
    check_space(task, &store, data)?;
    let handle = store.join(task, Join::User)?;
    store.put(task, &handle, Tree::Fs, key(1000), b"recovered")?;
    store.delete(task, &handle, Tree::Fs, key(1000))?;
    drop(handle);
    store.commit(task)?;
    assert!(!store.has_log() && store.log().is_empty());
    let other = mount(task)?;
    assert!(!other.has_log(), "B-6: the commit of a replay clears the log");
    check_space(task, &other, data)?;
    Ok(found)
}

/// Allocated blocks that are neither superblocks, nodes nor the map: none is lost between commits
/// because each round allocates a known number and frees every other run.
fn data_blocks(task: &Task, store: &Store) -> Result<u64> {
    let mut metadata = 2;
    for tree in Tree::COMMITTED {
        store.walk_nodes(task, tree, |_, _| metadata += 1)?;
    }
    let mut map = 0;
    let allocated = store.walk_space(task, |_| map += 1)?;
    let data = allocated - metadata - map;
    assert_eq!(data, items(task, store, Tree::Csum)?.len() as u64, "a checksum for each");
    Ok(data)
}

fn explore(options: ImageOptions) -> u32 {
    // The image is the base, so that only the rounds are cut.
    let image = Bench::new(&options).contents(&options);
    let bench = Bench::on(image, Box::new(RoundRobin));
    let points = Rc::new(RefCell::new(Vec::new()));
    let shared = points.clone();
    bench.run(move |task| rounds(task, &shared)).unwrap();
    let points = points.borrow();
    let disk = bench.machine.disk();
    let log = disk.log();
    let mut explorer = Explorer::new();
    explorer.begin(log);
    let cuts = log.cuts();
    let limits = Limits { exhaustive: 60, sampled: 20, torn: TornPolicy::Few };
    let mut dice = machine::choosers::Dice::new(3);
    let mut states = 0;
    for (at, cut) in cuts.iter().enumerate() {
        let until = cuts.get(at + 1).map_or(Moment::NEVER, |next| next.before());
        let floor = points.iter().rposition(|point| point.returned <= until);
        let ceiling = points.iter().rposition(|point| point.begun <= until).unwrap();
        explorer.cut(*cut, limits);
        while let Some(step) = explorer.next(&mut |n| dice.below(n)) {
            let leaf = match step {
                Step::Known(leaf) => leaf,
                Step::Recover(state) => {
                    let bases = state.bases().into_iter().collect();
                    let recovery = Bench::on(bases, Box::new(RoundRobin));
                    let found = recovery.run(recover).unwrap_or_else(|e| panic!("at {cut:?}: {e}"));
                    explorer.record(&state, found).unwrap()
                }
            };
            let found = explorer.leaf(leaf);
            let allowed = &points[floor.unwrap_or(0)..=ceiling];
            let is_allowed = allowed.iter().any(|point| point.snapshot == *found);
            assert!(is_allowed, "at {cut:?}, points {floor:?} to {ceiling}: {found:?}");
            states += 1;
        }
    }
    states
}

#[test]
fn store_recovers_to_a_durable_point_from_every_crash() {
    for (leaf, logdev, log_trees) in [(4, false, 2), (0, true, 2), (4, true, 1), (0, false, 1)] {
        let options = ImageOptions { logdev, log_trees, ..image(leaf) };
        let states = explore(options);
        assert!(states > 50, "{states} crash states");
    }
}
