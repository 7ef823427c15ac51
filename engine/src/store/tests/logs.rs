//! Log trees: what may be published, and when their blocks come back.

use super::crashes::sync_log;
use super::*;
use crate::types::Run;

fn with_log(
    options: ImageOptions,
    body: impl FnOnce(&Task, &Store, Handle) -> Result<()> + 'static,
) {
    let bench = Bench::new(&options);
    let run = move |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        body(task, &store, handle)
    };
    bench.run(run).unwrap();
}

#[test]
fn store_log_blocks_are_held_until_the_commit_and_then_free() {
    for logdev in [false, true] {
        with_log(ImageOptions { logdev, ..image(4) }, move |task, store, handle| {
            let before = store.free_blocks();
            for round in 0..5_u8 {
                for object in 0..9 {
                    store.log().put(task, &handle, 0, key(object), &[round; 30])?;
                }
                sync_log(task, store, &handle, 0)?;
            }
            assert_eq!(store.free_blocks(), before, "the log owns nothing");
            assert_eq!(store.held_blocks() > 15, !logdev);
            assert_eq!(store.log().lookup(task, 0, key(8))?.as_deref(), Some(&[4; 30][..]));
            drop(handle);
            // Nothing else changed, yet the log must go.
            assert!(store.is_dirty());
            store.commit(task)?;
            assert_eq!((store.held_blocks(), store.has_log()), (0, false));
            assert!(store.log().is_empty());
            check_space(task, store, 0)
        });
    }
}

/// `log-root-before-log-tree` (4203e9689470): another group's tree is named only when its writes
/// were acknowledged.
#[test]
fn store_a_log_root_names_only_acknowledged_trees_of_others() {
    with_log(ImageOptions { log_trees: 2, ..image(4) }, |task, store, handle| {
        let log = store.log();
        log.put(task, &handle, 0, key(1), b"acknowledged")?;
        sync_log(task, store, &handle, 0)?;
        // A newer tree of group 0 is being written while group 1 publishes.
        log.put(task, &handle, 0, key(1), b"in flight")?;
        let (root, writes) = log.write_tree(task, 0)?;
        log.put(task, &handle, 1, key(2), b"other")?;
        sync_log(task, store, &handle, 1)?;
        let other = mount(task)?;
        other.pin_log(task)?;
        let found = other.log().lookup(task, 0, key(1))?;
        assert_eq!(found.as_deref(), Some(&b"acknowledged"[..]));
        assert_eq!(other.log().lookup(task, 1, key(2))?.as_deref(), Some(&b"other"[..]));
        // Once it is acknowledged, whoever publishes next includes it.
        writes.wait(task)?;
        log.acknowledge(0, root);
        sync_log(task, store, &handle, 1)?;
        let other = mount(task)?;
        other.pin_log(task)?;
        let found = other.log().lookup(task, 0, key(1))?;
        assert_eq!(found.as_deref(), Some(&b"in flight"[..]));
        Ok(())
    });
}

/// B-5, B-6: a replay allocates neither blocks of the log nor data that the log refers to.
#[test]
fn store_a_pinned_log_and_its_data_are_not_handed_out() {
    with_log(image(4), |task, store, handle| {
        let data = store.allocate_data(task, &handle, 6, None, None)?;
        let kind = ExtentKind::Written;
        let (block, len_blocks) = (data.block, data.len_blocks);
        let extent = ExtentItem { kind, block, len_blocks, generation: handle.generation() };
        let extent_key = ExtentItem::key(Ino(20), 0);
        store.log().put(task, &handle, 0, extent_key, &extent.encode())?;
        sync_log(task, store, &handle, 0)?;
        drop(handle);

        let other = mount(task)?;
        assert!(other.has_log());
        other.pin_log(task)?;
        let mut used = vec![data];
        other.log().walk_nodes(task, &mut |_, block, _| used.push(Run::new(block, 1)))?;
        used.push(Run::new(other.superblock().log.unwrap().ptr.block, 1));
        let replay = other.join(task, Join::User)?;
        assert_eq!(other.claim_data(task, &replay, Run::new(data.block, 4))?, 4);
        assert_eq!(other.claim_data(task, &replay, Run::new(data.block, 4))?, 0);
        let mut taken = Vec::new();
        while let Ok(run) = other.allocate_data(task, &replay, 4, None, None) {
            taken.push(run);
        }
        assert!(taken.len() > 20);
        assert!(taken.iter().all(|run| used.iter().all(|used| !used.overlaps(*run))));
        let count: u64 = taken.iter().map(|run| run.len_blocks).sum();
        drop(replay);
        other.commit(task)?;
        assert_eq!(other.held_blocks(), 0);
        check_space(task, &other, count + 4)
    });
}

#[test]
fn store_a_log_of_an_older_transaction_is_not_published() {
    with_log(image(0), |task, store, handle| {
        let log = store.log();
        log.put(task, &handle, 0, key(1), b"x")?;
        let (root, writes) = log.write_tree(task, 0)?;
        let locked = log.lock_root(task)?;
        let (log_root, root_writes) = log.write_root(task, &handle, &locked, 0, root)?;
        writes.wait(task)?;
        root_writes.wait(task)?;
        store.insert(task, &handle, Tree::Fs, key(50), b"makes the commit a commit")?;
        drop((locked, handle));
        store.commit(task)?;
        let handle = store.join(task, Join::User)?;
        let locked = store.log().lock_root(task)?;
        let result = store.publish_log(task, &handle, &locked, log_root);
        assert!(matches!(result, Err(Error::Bug(_))), "{result:?}");
        assert!(!store.has_log());
        Ok(())
    });
}

#[test]
fn store_nothing_changes_before_a_log_is_pinned() {
    with_log(image(0), |task, store, handle| {
        store.log().put(task, &handle, 0, key(1), b"x")?;
        sync_log(task, store, &handle, 0)?;
        drop(handle);
        let other = mount(task)?;
        assert!(matches!(other.join(task, Join::User), Err(Error::Bug(_))));
        assert!(matches!(other.commit(task), Err(Error::Bug(_))));
        other.pin_log(task)?;
        drop(other.join(task, Join::User)?);
        other.commit(task)
    });
}
