//! Valid images to damage, and the resealing of what was damaged.
//!
//! Everything that the engine reads is named by a BLAKE3 hash one level above, so damage alone ends
//! at the first hash. Resealing repairs the hashes above a damaged block, up to the superblock,
//! and lets damage reach the code behind them. It finds hashes by searching for them, so it knows
//! of the format only where a superblock keeps its own.

use crate::execution::{Executor, Manner};
use crate::images::Images;
use crate::program::strict;
use machine::disk::{BlockSource, CrashState, History, Strategy, TornPolicy};
use machine::{BLOCK_BYTES, Block, Moment};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of a BLAKE3 hash.
const HASH_BYTES: usize = 32;

/// Bytes of a superblock that its own hash covers; the hash follows.
const SUPER_BYTES: usize = 480;

/// Blocks of device 0 that hold superblocks.
const SUPERS: u64 = 2;

/// Rounds of resealing: the levels of a tree, the space map and the superblock, with room.
const ROUNDS_MAX: u32 = 16;

/// A block of one of the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The device.
    pub device: u8,
    /// The block.
    pub block: u64,
}

/// The contents of a device.
#[derive(Clone)]
pub struct Blocks(pub Vec<Block>);

impl BlockSource for Blocks {
    fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, block: u64) -> Block {
        self.0[block as usize].clone()
    }
}

/// A valid image.
pub struct Valid {
    /// The devices.
    pub devices: Vec<Blocks>,
    /// The blocks that hold something that is reached by a hash, and the superblocks.
    pub used: Vec<Place>,
    /// Where the hash of each block stands.
    hashes: BTreeMap<Place, Vec<(Place, usize)>>,
}

/// Programs whose images are damaged, and whether the power is cut at their end, so that there is a
/// log to replay.
const PROGRAMS: &[(&str, bool)] = &[
    (
        "powerfail 1\nimage leaf=4\nsetup\n  create f\n  create g\n  write f 0 24K\n  sync\n  \
         falloc f 32K 8K keep\n  clone f 0 to g 4K 8K\n  punch f 4K 4K\n  write g 20K 100\n  \
         create h\n  write h 0 9000\n  sync\n  unlink h\n",
        false,
    ),
    (
        "powerfail 1\nimage leaf=4 log_trees=2\nsetup\n  create f\n  create g\n  write f 0 8K\n  \
         sync\n  write f 4K 8K\n  fsync f\n  write g 0 4K\n  fsync g\n  punch f 0 4K\n  fsync f\n",
        true,
    ),
    (
        "powerfail 1\nimage datasum=off datacow=off logdev=on\nsetup\n  create f\n  \
         write f 0 16K\n  sync\n  write f 4K 4K\n  truncate f 6000\n  fsync f\n  create g\n  \
         append g 5000\n  fsync g\n",
        true,
    ),
    ("powerfail 1\nimage blocks=64\n", false),
];

/// Makes the images.
///
/// # Errors
/// A sentence, if one cannot be made or is not valid.
pub fn images() -> Result<Vec<Valid>, String> {
    let (mut executor, mut images) = (Executor::new(), Images::default());
    PROGRAMS.iter().map(|(text, cut)| image(&mut executor, &mut images, text, *cut)).collect()
}

fn image(
    executor: &mut Executor,
    images: &mut Images,
    text: &str,
    cut: bool,
) -> Result<Valid, String> {
    let mut program = strict(text).map_err(|error| error.to_string())?;
    (program.mount.flusher, program.mount.committer, program.mount.reclaimer) = (0, 0, 0);
    let manner = Manner { unmount: !cut, ..Manner::default() };
    let executed = executor.execute(images, &Rc::new(program), manner)?;
    if let Some(wrong) = executed.wrong {
        return Err(format!("failed to make a valid image: {wrong}"));
    }
    let history = Rc::new(History::new(executor.machine().disk().log()));
    let state = CrashState::new(history, Moment::LAST, TornPolicy::None, Strategy::Newest);
    let read = |source: &Rc<dyn BlockSource>| {
        Blocks((0..source.blocks()).map(|block| source.read(block)).collect())
    };
    Ok(Valid::new(state.bases().iter().map(read).collect()))
}

impl Valid {
    fn new(devices: Vec<Blocks>) -> Valid {
        let mut by_prefix: BTreeMap<u64, Place> = BTreeMap::new();
        for (place, content) in places(&devices) {
            by_prefix.insert(prefix(&content.digest()), place);
        }
        let mut hashes: BTreeMap<Place, Vec<(Place, usize)>> = BTreeMap::new();
        for (place, content) in places(&devices) {
            for offset in 0..=BLOCK_BYTES - HASH_BYTES {
                let window = &content.bytes()[offset..offset + HASH_BYTES];
                let Some(&named) = by_prefix.get(&prefix(window)) else { continue };
                if content_at(&devices, named).digest() == window {
                    hashes.entry(named).or_default().push((place, offset));
                }
            }
        }
        let supers = (0..SUPERS).map(|block| Place { device: 0, block });
        let used = supers.chain(hashes.keys().copied()).collect();
        Valid { devices, used, hashes }
    }

    /// Repairs the hashes of what differs from this image, and the hashes above them.
    pub fn reseal(&self, devices: &mut [Blocks]) {
        let mut sealed: BTreeMap<Place, [u8; HASH_BYTES]> = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for (&place, holders) in &self.hashes {
                let Some(content) = devices[usize::from(place.device)].0.get(place.block as usize)
                else {
                    continue;
                };
                let old = sealed
                    .get(&place)
                    .copied()
                    .unwrap_or_else(|| content_at(&self.devices, place).digest());
                let new = content.digest();
                if new == old {
                    continue;
                }
                sealed.insert(place, new);
                changed = true;
                for &(holder, offset) in holders {
                    overwrite(devices, holder, offset, &new);
                }
            }
            if !changed {
                break;
            }
        }
        for block in 0..SUPERS {
            let place = Place { device: 0, block };
            let now = content_at(devices, place);
            if now != content_at(&self.devices, place) {
                let hash = blake3::hash(&now.bytes()[..SUPER_BYTES]);
                overwrite(devices, place, SUPER_BYTES, hash.as_bytes());
            }
        }
    }
}

/// Puts bytes into a block; nothing if the device does not reach so far.
pub fn overwrite(devices: &mut [Blocks], place: Place, offset: usize, bytes: &[u8]) {
    let Some(block) = devices[usize::from(place.device)].0.get_mut(place.block as usize) else {
        return;
    };
    let mut content = *block.bytes();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    *block = Block::new(&content);
}

fn content_at(devices: &[Blocks], place: Place) -> Block {
    let device = &devices[usize::from(place.device)].0;
    device.get(place.block as usize).cloned().unwrap_or_else(Block::zero)
}

/// The first bytes of a hash, as a number.
fn prefix(hash: &[u8]) -> u64 {
    hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn places(devices: &[Blocks]) -> impl Iterator<Item = (Place, &Block)> {
    devices.iter().enumerate().flat_map(|(device, blocks)| {
        let place = move |block| Place { device: device as u8, block: block as u64 };
        blocks.0.iter().enumerate().map(move |(block, content)| (place(block), content))
    })
}
