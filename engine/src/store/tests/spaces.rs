//! Who gets which block, and whether all come back.

use super::*;
use crate::options::AllocPolicy;
use crate::types::Run;
use machine::choosers::Dice;
use machine::disk::Op;

fn mount_with(task: &Task, alloc: AllocPolicy) -> Result<Rc<Store>> {
    Store::mount(task, &MountOptions { alloc, ..MountOptions::default() })
}

/// The first blocks after the superblocks, a leaf, the bitmap and the index: what is free.
fn first_blocks(alloc: AllocPolicy) -> Vec<u64> {
    let bench = Bench::new(&image(0));
    let body = move |task: &Task| {
        let store = mount_with(task, alloc)?;
        let handle = store.join(task, Join::User)?;
        let mut blocks = Vec::new();
        let one = store.allocate_data(task, &handle, 2, None, None)?;
        let two = store.allocate_data(task, &handle, 2, None, None)?;
        store.free_data(task, &handle, one)?;
        let three = store.allocate_data(task, &handle, 1, None, None)?;
        drop(handle);
        // not before the commit is durable.
        assert!(!one.contains(three.block) && !two.contains(three.block));
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        let four = store.allocate_data(task, &handle, 2, None, None)?;
        for run in [one, two, three, four] {
            blocks.push(run.block);
        }
        Ok(blocks)
    };
    bench.run(body).unwrap()
}

#[test]
fn store_policies_choose_as_their_names_say() {
    // Blocks 2 to 4 hold a leaf, a bitmap and an index, which the commit moves.
    let lowest = first_blocks(AllocPolicy::Lowest);
    assert_eq!(lowest, [5, 7, 9, 3], "the lowest that is free");
    let next = first_blocks(AllocPolicy::Next);
    assert!(next.windows(2).all(|pair| pair[0] < pair[1]), "{next:?}: ever further");
    let reuse = first_blocks(AllocPolicy::Reuse);
    assert_eq!(reuse, [5, 7, 9, 4], "what the commit let go of last");
}

#[test]
fn store_freed_blocks_are_reused_only_after_the_commit_and_reads() {
    let bench = Bench::new(&ImageOptions { blocks: 64, ..image(0) });
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        let run = store.allocate_data(task, &handle, 4, None, None)?;
        drop(handle);
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        store.free_data(task, &handle, run)?;
        assert_eq!(store.held_blocks(), 4);
        let taken = take_all(task, &store, &handle)?;
        assert!(taken.iter().all(|other| !other.overlaps(run)), "X-6: pinned");
        drop(handle);
        let pin = store.pin_read(run);
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        assert!(take_all(task, &store, &handle)?.iter().all(|other| !other.overlaps(run)));
        drop(pin);
        let taken = take_all(task, &store, &handle)?;
        assert!(taken.iter().any(|other| other.overlaps(run)), "{taken:?}: free at last");
        Ok(())
    };
    bench.run(body).unwrap();
}

fn take_all(task: &Task, store: &Store, handle: &Handle) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    loop {
        match store.allocate_data(task, handle, 8, None, None) {
            Ok(run) => runs.push(run),
            Err(Error::NoSpace { .. }) => return Ok(runs),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn store_a_full_device_still_commits_and_can_be_emptied() {
    for leaf in [4, 0] {
        let bench = Bench::new(&ImageOptions { blocks: 128, ..image(leaf) });
        let body = |task: &Task| {
            let store = mount(task)?;
            let baseline = store.free_blocks();
            let mut object = 100;
            loop {
                let handle = store.join(task, Join::User)?;
                let value = [1; 1000];
                let result = store
                    .reserve_changes(&handle, 1)
                    .and_then(|()| store.insert(task, &handle, Tree::Fs, key(object), &value));
                drop(handle);
                match result {
                    Ok(()) => object += 1,
                    Err(Error::NoSpace { .. }) if store.held_blocks() == 0 => break,
                    Err(Error::NoSpace { .. }) => store.commit(task)?,
                    Err(error) => return Err(error),
                }
            }
            assert!(object > 150, "only {object}");
            store.commit(task)?;
            check_space(task, &store, 0)?;
            for object in 100..object {
                let handle = store.join(task, Join::User)?;
                handle.set_freeing();
                let result = store.delete(task, &handle, Tree::Fs, key(object));
                drop(handle);
                if let Err(Error::NoSpace { .. }) = result {
                    store.commit(task)?;
                    let handle = store.join(task, Join::User)?;
                    handle.set_freeing();
                    store.delete(task, &handle, Tree::Fs, key(object))?;
                }
            }
            store.commit(task)?;
            assert_eq!(store.free_blocks(), baseline);
            let other = mount(task)?;
            assert_eq!(other.free_blocks(), baseline);
            check_space(task, &other, 0)
        };
        bench.run(body).unwrap();
    }
}

#[test]
fn store_a_reserve_is_a_promise() {
    let bench = Bench::new(&ImageOptions { blocks: 64, ..image(0) });
    let body = |task: &Task| {
        let store = mount(task)?;
        let all = store.available_blocks();
        let reserve = store.reserve_data(10)?;
        assert_eq!(store.available_blocks(), all - 10 - store.metadata_for(10));
        let handle = store.join(task, Join::User)?;
        take_all(task, &store, &handle)?;
        assert_eq!(store.available_blocks(), 0);
        assert!(matches!(store.reserve_data(1), Err(Error::NoSpace { .. })));
        let mut got = 0;
        while got < 10 {
            got += store.allocate_data(task, &handle, 10 - got, None, Some(&reserve))?.len_blocks;
        }
        assert_eq!(reserve.blocks(), store.metadata_for(10));
        drop(reserve);
        assert_eq!(store.available_blocks(), store.metadata_for(10));
        drop(handle);
        store.commit(task)
    };
    bench.run(body).unwrap();
}

#[test]
fn store_references_agree_with_a_model() {
    for leaf in [4, 0] {
        let bench = Bench::new(&ImageOptions { blocks: 512, ..image(leaf) });
        bench.run(|task| random_references(task, 5)).unwrap();
    }
}

fn random_references(task: &Task, seed: u64) -> Result<()> {
    let store = mount(task)?;
    let baseline = store.free_blocks();
    let handle = store.join(task, Join::User)?;
    let mut counts = std::collections::BTreeMap::new();
    let mut wanted = 40;
    while wanted > 0 {
        let run = store.allocate_data(task, &handle, wanted, None, None)?;
        wanted -= run.len_blocks;
        (run.block..run.end()).for_each(|block| assert_eq!(counts.insert(block, 1_u32), None));
    }
    for block in counts.keys() {
        store.insert(task, &handle, Tree::Csum, items::csum_key(*block), &[1; 32])?;
    }
    let first = *counts.keys().next().unwrap();
    let mut dice = Dice::new(seed);
    for _ in 0..400 {
        let run = Run::new(first + u64::from(dice.below(40)), 1 + u64::from(dice.below(9)));
        let blocks: Vec<u64> = (run.block..run.end()).collect();
        if blocks.iter().any(|block| counts.get(block).is_none_or(|count| *count == 0)) {
            continue;
        }
        if dice.below(100) < 55 {
            store.share_data(task, &handle, run)?;
            blocks.iter().for_each(|block| *counts.get_mut(block).unwrap() += 1);
        } else {
            let freed = store.free_data(task, &handle, run)?;
            blocks.iter().for_each(|block| *counts.get_mut(block).unwrap() -= 1);
            let freed: Vec<u64> = freed.iter().flat_map(|run| run.block..run.end()).collect();
            let wanted: Vec<u64> = blocks.into_iter().filter(|block| counts[block] == 0).collect();
            assert_eq!(freed, wanted);
        }
        check_references(task, &store, &counts)?;
    }
    for (block, count) in counts {
        for _ in 0..count {
            store.free_data(task, &handle, Run::new(block, 1))?;
        }
    }
    drop(handle);
    store.commit(task)?;
    assert_eq!(store.free_blocks(), baseline);
    check_space(task, &store, 0)
}

fn check_references(
    task: &Task,
    store: &Store,
    counts: &std::collections::BTreeMap<u64, u32>,
) -> Result<()> {
    let mut last: Option<(Run, u32)> = None;
    let mut shared = std::collections::BTreeMap::new();
    for (key, value) in items(task, store, Tree::Refs)? {
        let item = RefsItem::decode(&value).unwrap();
        let run = Run::new(key.object, item.len_blocks);
        if let Some((before, count)) = last {
            assert!(before.end() < run.block || (before.end() == run.block && count != item.count));
        }
        last = Some((run, item.count));
        (run.block..run.end()).for_each(|block| assert_eq!(shared.insert(block, item.count), None));
    }
    let mut wanted = counts.clone();
    wanted.retain(|_, count| *count > 1);
    assert_eq!(shared, wanted);
    let sums = items(task, store, Tree::Csum)?.len();
    assert_eq!(sums, counts.values().filter(|count| **count > 0).count());
    Ok(())
}

#[test]
fn store_a_block_is_freed_once() {
    let bench = Bench::new(&image(0));
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        let run = store.allocate_data(task, &handle, 1, None, None)?;
        store.free_data(task, &handle, run)?;
        for run in [run, Run::new(1, 1), Run::new(255, 2)] {
            let result = store.free_data(task, &handle, run);
            assert!(matches!(result, Err(Error::Corrupt { .. })), "{run}: {result:?}");
        }
        Ok(())
    };
    bench.run(body).unwrap();
}

/// A device that takes no memory.
struct Zeros(u64);

impl BlockSource for Zeros {
    fn blocks(&self) -> u64 {
        self.0
    }

    fn read(&self, _block: u64) -> machine::Block {
        machine::Block::zero()
    }
}

#[test]
fn store_a_device_of_several_bitmaps_and_two_levels_works() {
    // 71 bitmaps need a second index block.
    let blocks = space::BITMAP_BLOCKS * space::INDEX_POINTERS + 100;
    let options = ImageOptions { blocks, ..image(0) };
    let bench = Bench::on(vec![Rc::new(Zeros(blocks))], Box::new(RoundRobin));
    bench.run(move |task| mkfs(task, &options)).unwrap();
    let body = move |task: &Task| {
        let store = mount_with(task, AllocPolicy::Next)?;
        assert_eq!(store.free_blocks(), blocks - 2 - 1 - 71 - 3);
        let handle = store.join(task, Join::User)?;
        let far = store.allocate_data(task, &handle, 4, Some(blocks - 50), None)?;
        assert_eq!(far.block, blocks - 50);
        drop(handle);
        store.commit(task)?;
        let other = mount(task)?;
        assert!(other.is_allocated(task, far.block)?);
        check_space(task, &other, 4)
    };
    bench.run(body).unwrap();
}

#[test]
fn store_freed_blocks_are_discarded_after_the_superblock() {
    let bench = Bench::new(&image(0));
    let body = |task: &Task| {
        let options = MountOptions { discard: true, ..MountOptions::default() };
        let store = Store::mount(task, &options)?;
        let handle = store.join(task, Join::User)?;
        let run = store.allocate_data(task, &handle, 3, None, None)?;
        drop(handle);
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        store.free_data(task, &handle, run)?;
        drop(handle);
        store.commit(task)?;
        Ok(run)
    };
    let run = bench.run(body).unwrap();
    let disk = bench.machine.disk();
    let requests = disk.log().requests();
    let discards = requests.iter().filter(|r| r.request.op() == Op::Discard);
    let covered = discards.clone().any(|r| {
        let (_, block) = r.request.place();
        Run::new(block, r.request.count()).contains(run.block)
    });
    assert!(covered, "the freed run is discarded");
    for discard in discards {
        let mut supers =
            requests.iter().filter(|r| r.note.what == "super" && r.completed.is_some());
        let last = supers.rfind(|r| r.submitted < discard.submitted).unwrap();
        assert!(last.completed.unwrap() < discard.submitted, "discard-before-commit");
        let between = requests.iter().filter(|r| r.note.what == "tree node");
        assert!(
            between
                .filter(|r| r.submitted > last.submitted)
                .all(|r| r.submitted > discard.submitted)
        );
    }
}
