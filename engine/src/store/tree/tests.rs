//! Trees against a model, with the shape checked after every change.

use super::super::tests::{Bench, check_space, image, items, mount};
use super::super::{Join, Store};
use super::*;
use crate::error::{Errno, Error};
use crate::options::ImageOptions;
use crate::store::key::Kind;
use machine::choosers::Dice;
use std::collections::BTreeMap;

/// Every node of a tree holds enough and not too much, in order, within its parent's range.
fn check_shape(task: &Task, tree: &BTree) -> Result<()> {
    let Some(root) = tree.load_root(task)? else { return Ok(()) };
    let mut stack = vec![(root, Key::MIN, None::<Key>, true)];
    while let Some((buffer, from, to, is_root)) = stack.pop() {
        let node = buffer.node();
        let fill = node.fill();
        assert!(!tree.capacity.is_over(fill), "{fill:?}");
        // A leaf may also hold too few bytes because its values were replaced by shorter ones.
        let has_enough =
            !tree.capacity.is_under(fill) || (node.level == 0 && tree.capacity.is_full());
        assert!(is_root || has_enough, "{fill:?} at level {}", node.level);
        assert!(!is_root || node.level == 0 || fill.items > 1, "a root that should have gone");
        assert!(from <= node.first_key() && to.is_none_or(|to| node.last_key() < to));
        for (index, child) in node.children().iter().enumerate() {
            let expected = tree.expected_child(&node, index, to);
            let child = tree.nodes.load(task, tree.places.device(), &child.ptr, expected)?;
            stack.push((child, expected.from, expected.to, false));
        }
    }
    Ok(())
}

struct Model {
    dice: Dice,
    items: BTreeMap<Key, Vec<u8>>,
    value_max: u32,
}

impl Model {
    fn key(&mut self, keys: u32) -> Key {
        Key::new(u64::from(self.dice.below(keys)), Kind::INODE, u64::from(self.dice.below(3)))
    }

    fn value(&mut self) -> Vec<u8> {
        let len = self.dice.below(self.value_max) as usize;
        vec![self.dice.below(256) as u8; len]
    }

    /// One random change in the tree and in the model.
    fn change(&mut self, task: &Task, store: &Store, keys: u32, deletes: u32) -> Result<()> {
        let handle = store.join(task, Join::User)?;
        let key = self.key(keys);
        let existed = self.items.contains_key(&key);
        if self.dice.below(10) < deletes {
            let was_there = store.delete(task, &handle, Tree::Fs, key)?;
            assert_eq!(was_there, existed);
            self.items.remove(&key);
            return Ok(());
        }
        let value = self.value();
        match self.dice.below(3) {
            0 => store.put(task, &handle, Tree::Fs, key, &value)?,
            1 => match store.insert(task, &handle, Tree::Fs, key, &value) {
                Err(Error::Refused(Errno::EEXIST)) if existed => return Ok(()),
                result => result?,
            },
            _ => match store.replace(task, &handle, Tree::Fs, key, &value) {
                Err(Error::Refused(Errno::ENOENT)) if !existed => return Ok(()),
                result => result?,
            },
        }
        self.items.insert(key, value);
        Ok(())
    }

    fn check(&self, task: &Task, store: &Store) -> Result<()> {
        let found = items(task, store, Tree::Fs)?;
        assert!(found.iter().map(|(key, value)| (key, value)).eq(self.items.iter()));
        Ok(())
    }

    /// Finding one key, and the one before it.
    fn check_key(&mut self, task: &Task, store: &Store, keys: u32) -> Result<()> {
        let key = self.key(keys + 2);
        let found = store.lookup(task, Tree::Fs, key)?;
        assert_eq!(found.as_deref(), self.items.get(&key).map(Vec::as_slice));
        let floor = store.floor(task, Tree::Fs, key)?;
        let wanted = self.items.range(..=key).next_back();
        assert_eq!(
            floor.as_ref().map(|(key, value)| (key, &value[..])),
            wanted.map(|(k, v)| (k, &v[..]))
        );
        Ok(())
    }
}

fn random_changes(leaf: u16, seed: u64, value_max: u32, keys: u32) {
    let options = ImageOptions { blocks: 4096, ..image(leaf) };
    let bench = Bench::new(&options);
    let body = move |task: &Task| {
        let mut store = mount(task)?;
        let baseline = store.free_blocks();
        let root = items(task, &store, Tree::Fs)?;
        let mut model =
            Model { dice: Dice::new(seed), items: root.into_iter().collect(), value_max };
        for round in 0..1200_u32 {
            // Grows, shrinks, and grows again.
            let deletes = if (round / 300) % 2 == 0 { 2 } else { 8 };
            model.change(task, &store, keys, deletes)?;
            check_shape(task, store.tree(Tree::Fs))?;
            model.check_key(task, &store, keys)?;
            if round % 37 == 0 {
                model.check(task, &store)?;
            }
            if round % 50 == 49 {
                store.commit(task)?;
                check_space(task, &store, 0)?;
                store = if round % 100 == 99 { mount(task)? } else { store };
                store.reclaim_nodes();
            }
        }
        // Emptied again, nothing is lost.
        let handle = store.join(task, Join::User)?;
        let count = store.delete_range(task, &handle, Tree::Fs, Key::MIN, Key::MAX)?;
        assert_eq!(count, model.items.len() as u64);
        drop(handle);
        assert!(store.tree(Tree::Fs).root().is_empty());
        store.commit(task)?;
        // The root directory went, too.
        assert_eq!(store.free_blocks(), baseline + 1);
        check_space(task, &store, 0)
    };
    bench.run(body).unwrap();
}

#[test]
fn store_tree_agrees_with_a_model_at_the_least_capacity() {
    for seed in 0..4 {
        random_changes(4, seed, 40, 60);
    }
}

#[test]
fn store_tree_agrees_with_a_model_at_an_odd_capacity_with_large_items() {
    random_changes(5, 17, 1025, 60);
}

#[test]
fn store_tree_agrees_with_a_model_with_full_nodes() {
    for seed in 0..2 {
        random_changes(0, seed, 1025, 100);
    }
    random_changes(0, 9, 20, 400);
}

#[test]
fn store_a_range_starts_and_stops_where_it_is_told() {
    let bench = Bench::new(&image(4));
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        let key = |object| Key::new(object, Kind::EXTENT, 0);
        for object in (10..60).step_by(2) {
            store.insert(task, &handle, Tree::Fs, key(object), &[object as u8])?;
        }
        for from in 8..62 {
            for to in from..62 {
                let mut found = Vec::new();
                store.range(task, Tree::Fs, key(from), key(to), |key, _| {
                    found.push(key.object);
                    ControlFlow::Continue(())
                })?;
                let wanted: Vec<u64> =
                    (from..to).filter(|o| (10..60).contains(o) && o % 2 == 0).collect();
                assert_eq!(found, wanted, "{from}..{to}");
            }
        }
        let deleted = store.delete_range(task, &handle, Tree::Fs, key(20), key(40))?;
        assert_eq!(deleted, 10);
        check_shape(task, store.tree(Tree::Fs))
    };
    bench.run(body).unwrap();
}

#[test]
fn store_items_that_are_too_long_are_refused() {
    let bench = Bench::new(&image(4));
    let body = |task: &Task| {
        let store = mount(task)?;
        let handle = store.join(task, Join::User)?;
        let key = Key::new(30, Kind::XATTR, 0);
        let result = store.insert(task, &handle, Tree::Fs, key, &[0; 1025]);
        assert!(matches!(result, Err(Error::BadInput { .. })));
        store.insert(task, &handle, Tree::Fs, key, &[0; 1024])
    };
    bench.run(body).unwrap();
}
