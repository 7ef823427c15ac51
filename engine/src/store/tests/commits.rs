//! What a commit makes durable, and what a mount finds.

use super::*;
use machine::disk::{Op, Rule};

#[test]
fn store_a_new_image_holds_an_empty_root_directory() {
    for options in [image(0), ImageOptions { logdev: true, poison: true, ..image(4) }] {
        let bench = Bench::new(&options);
        let body = move |task: &Task| {
            let store = mount(task)?;
            let found = items(task, &store, Tree::Fs)?;
            assert_eq!(found.len(), 1);
            let root = InodeItem::decode(&found[0].1).unwrap();
            assert_eq!((root.nlink, found[0].0), (2, InodeItem::key(Ino::ROOT)));
            assert_eq!(store.superblock().image, ImageOptions { poison: false, ..options });
            assert_eq!((store.has_log(), store.is_dirty()), (false, false));
            // Two superblocks, a leaf, a bitmap and an index.
            assert_eq!(store.free_blocks(), 256 - 5);
            check_space(task, &store, 0)
        };
        bench.run(body).unwrap();
    }
}

#[test]
fn store_the_same_options_give_the_same_image() {
    let options = ImageOptions { poison: true, blocks: 64, ..image(4) };
    let [one, two] = [Bench::new(&options), Bench::new(&options)];
    for block in 0..64 {
        let read =
            |bench: &Bench| bench.machine.disk().read_now(machine::DeviceId(0), block).unwrap();
        assert_eq!(read(&one), read(&two), "block {block}");
    }
}

#[test]
fn store_what_was_committed_is_found_and_nothing_else() {
    let bench = Bench::new(&image(4));
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        let ino = store.allocate_ino(&handle);
        (100..140).try_for_each(|o| store.insert(task, &handle, Tree::Fs, key(o), b"one"))?;
        drop(handle);
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        assert_eq!(handle.generation(), 3);
        store.replace(task, &handle, Tree::Fs, key(110), b"two")?;
        store.delete(task, &handle, Tree::Fs, key(111))?;
        drop(handle);

        let other = mount(task)?;
        assert_eq!(other.lookup(task, Tree::Fs, key(110))?.as_deref(), Some(&b"one"[..]));
        assert!(other.lookup(task, Tree::Fs, key(111))?.is_some());
        let handle = other.join(task, Join::User)?;
        assert!(other.allocate_ino(&handle) > ino, "no number is given out twice");
        drop(handle);

        store.commit(task)?;
        let other = mount(task)?;
        assert_eq!(other.lookup(task, Tree::Fs, key(110))?.as_deref(), Some(&b"two"[..]));
        assert_eq!(other.lookup(task, Tree::Fs, key(111))?, None);
        check_space(task, &other, 0)
    };
    bench.run(body).unwrap();
}

#[test]
fn store_an_empty_commit_still_flushes_and_writes_nothing() {
    let bench = Bench::new(&image(0));
    let before = bench.machine.disk().log().requests().len();
    bench.run(|task| mount(task)?.commit(task)).unwrap();
    let disk = bench.machine.disk();
    let ops: Vec<Op> = disk.log().requests()[before..].iter().map(|r| r.request.op()).collect();
    assert_eq!(ops, [Op::Read, Op::Flush]);
}

/// B-3: an error before the superblock forbids the superblock.
#[test]
fn store_an_io_error_in_a_commit_publishes_nothing_and_shuts_down() {
    for (op, n) in [(Op::Write, 1), (Op::Write, 2), (Op::Write, 3), (Op::Flush, 1)] {
        let bench = Bench::new(&image(0));
        let body = move |task: &Task| {
            let store = mount(task)?;
            let before = store.superblock();
            let handle = store.join(task, Join::User)?;
            store.insert(task, &handle, Tree::Fs, key(50), b"lost")?;
            drop(handle);
            task.machine().disk_mut().fail(Rule::nth(op, n));
            assert!(matches!(store.commit(task), Err(Error::Io { .. })), "{op:?} {n}");
            assert_eq!(store.superblock(), before);
            assert!(matches!(store.join(task, Join::User), Err(Error::Aborted)));
            assert_eq!(store.commit(task), Err(Error::Aborted));
            // What was read before can still be read.
            assert!(store.lookup(task, Tree::Fs, key(50))?.is_some());
            let other = mount(task)?;
            assert_eq!(other.superblock(), before);
            assert_eq!(other.lookup(task, Tree::Fs, key(50))?, None);
            check_space(task, &other, 0)
        };
        bench.run(body).unwrap();
    }
}

#[test]
fn store_a_read_error_fails_the_operation_and_changes_nothing() {
    let bench = Bench::new(&image(4));
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        (100..160).try_for_each(|o| store.insert(task, &handle, Tree::Fs, key(o), &[0; 50]))?;
        drop(handle);
        store.commit(task)?;
        let mut before = items(task, &store, Tree::Fs)?;
        for n in 1..6 {
            store.reclaim_nodes();
            let handle = store.join(task, Join::User)?;
            task.machine().disk_mut().fail(Rule::nth(Op::Read, n));
            match store.delete(task, &handle, Tree::Fs, key(120 + u64::from(n))) {
                Err(Error::Io { .. }) => {}
                result => {
                    assert!(result?, "the item was there");
                    before.retain(|(k, _)| *k != key(120 + u64::from(n)));
                }
            }
            drop(handle);
            // Use up the rule if the operation did not.
            while task.machine().disk().failed().len() < n as usize {
                store.reclaim_nodes();
                let _outcome = mount(task).and_then(|other| other.lookup(task, Tree::Fs, key(1)));
            }
            assert_eq!(items(task, &store, Tree::Fs)?, before);
        }
        store.commit(task)?;
        let other = mount(task)?;
        check_space(task, &other, 0)
    };
    bench.run(body).unwrap();
}
