//! Damage: whatever a block holds, the store gives an error or the right answer.

use super::*;
use machine::choosers::Dice;
use machine::disk::BlockSource;
use machine::{Block, DeviceId};

/// A device with one block exchanged.
struct Damaged {
    blocks: Rc<Vec<Block>>,
    at: u64,
    content: Block,
}

impl BlockSource for Damaged {
    fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn read(&self, block: u64) -> Block {
        if block == self.at { self.content.clone() } else { self.blocks[block as usize].clone() }
    }
}

/// An image with trees of some height, shared blocks, and blocks freed and pinned in the past.
fn grown(leaf: u16) -> Rc<Vec<Block>> {
    let bench = Bench::new(&image(leaf));
    let body = |task: &Task| {
        let store = mount(task)?;
        for round in 0..3 {
            let handle = store.join(task, Join::User)?;
            for object in 0..25 {
                let key = key(100 + object * 3 + round);
                store.put(task, &handle, Tree::Fs, key, &[object as u8; 60])?;
            }
            let run = store.allocate_data(task, &handle, 3, None, None)?;
            store.share_data(task, &handle, run)?;
            for block in run.block..run.end() {
                store.insert(task, &handle, Tree::Csum, items::csum_key(block), &[7; 32])?;
            }
            drop(handle);
            store.commit(task)?;
        }
        Ok(())
    };
    bench.run(body).unwrap();
    let disk = bench.machine.disk();
    let read = |block| disk.read_now(DeviceId(0), block).unwrap();
    Rc::new((0..disk.blocks(DeviceId(0))).map(read).collect())
}

type Answer = (Vec<Vec<(Key, Vec<u8>)>>, u64);

/// Everything that can be read, and then some changes.
fn exercise(blocks: &Rc<Vec<Block>>, at: u64, content: Block) -> Result<Answer> {
    let device = Damaged { blocks: blocks.clone(), at, content };
    let bench = Bench::on(vec![Rc::new(device)], Box::new(RoundRobin));
    bench.run(|task| {
        let store = mount(task)?;
        store.pin_log(task)?;
        let all: Result<Vec<_>> =
            Tree::COMMITTED.into_iter().map(|tree| items(task, &store, tree)).collect();
        let all = all?;
        let allocated = store.walk_space(task, |_| {})?;
        let handle = store.join(task, Join::User)?;
        for object in 90..130 {
            store.put(task, &handle, Tree::Fs, key(object), &[1; 100])?;
            store.delete(task, &handle, Tree::Fs, key(object + 20))?;
        }
        let run = store.allocate_data(task, &handle, 2, None, None)?;
        store.free_data(task, &handle, run)?;
        drop(handle);
        store.commit(task)?;
        Ok((all, allocated))
    })
}

#[test]
fn store_a_flipped_bit_in_any_block_is_an_error_or_the_same_answer() {
    for leaf in [0, 4] {
        let blocks = grown(leaf);
        let right = exercise(&blocks, u64::MAX, Block::zero()).unwrap();
        // Without the newest superblock, a mount finds the commit before.
        let newest = Superblock::newest(&blocks[..2]).unwrap().slot();
        let older = exercise(&blocks, newest, Block::zero()).unwrap();
        let mut dice = Dice::new(1);
        let mut errors = 0;
        for at in 0..blocks.len() as u64 {
            // Headers and first items, then anywhere; most in blocks that are or were metadata.
            let is_metadata = blocks[at as usize].bytes().starts_with(b"PF");
            for round in 0..if is_metadata { 40 } else { 1 } {
                let bound = if round < 30 { 64 * 8 } else { 4096 * 8 };
                let bit = dice.below(bound) as usize;
                let mut bytes = *blocks[at as usize].bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                match exercise(&blocks, at, Block::new(&bytes)) {
                    Ok(answer) => assert!(
                        answer == right || (at < 2 && answer == older),
                        "block {at} bit {bit}"
                    ),
                    Err(Error::Corrupt { .. }) => errors += 1,
                    Err(error) => panic!("block {at} bit {bit}: {error}"),
                }
            }
        }
        assert!(errors > 200, "damage is noticed: {errors}");
    }
}

/// Damage with a right checksum, as a malicious image has it, may give wrong answers, but neither a
/// panic nor a hang.
#[test]
fn store_a_superblock_that_points_anywhere_is_harmless() {
    let blocks = grown(4);
    let newest = Superblock::newest(&blocks[..2]).unwrap();
    let nodes: Vec<u64> = (2..blocks.len() as u64)
        .filter(|block| blocks[*block as usize].bytes().starts_with(b"PF"))
        .collect();
    let mut dice = Dice::new(2);
    let mut errors = 0;
    for _ in 0..3000 {
        let mut bad = newest.clone();
        let block = nodes[dice.below(nodes.len() as u32) as usize];
        let content = &blocks[block as usize];
        let generation = u64::from_le_bytes(content.bytes()[8..16].try_into().unwrap());
        let ptr = BlockPtr { block, generation, digest: content.digest() };
        let root = Root { ptr, level: content.bytes()[5] };
        match dice.below(7) {
            tree @ 0..=2 => bad.roots[tree as usize] = root,
            3 => bad.space = ptr,
            4 => bad.log = Some(LogRoot { device: 0, ptr }),
            5 => bad.free_blocks = u64::from(dice.below(256)),
            _ => bad.roots[0].level = dice.below(21) as u8,
        }
        let slot = bad.slot();
        errors += u32::from(exercise(&blocks, slot, bad.encode()).is_err());
    }
    assert!(errors > 1000, "most are noticed: {errors}");
}

#[test]
fn store_an_image_that_is_larger_than_its_device_is_refused() {
    let blocks = grown(0);
    let half = Rc::new(blocks[..128].to_vec());
    let result = exercise(&half, u64::MAX, Block::zero());
    assert!(matches!(result, Err(Error::Corrupt { structure: "superblock", .. })), "{result:?}");
}
