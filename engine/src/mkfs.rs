//! Making an image.
//!
//! Promises: the image is durable when it returns, has two superblocks and an empty root directory;
//! the same options give the same bytes; with `poison`, every block that holds nothing names
//! itself. It must never know files.

use crate::error::{Error, Result};
use crate::options::ImageOptions;
use crate::store::{Store, region};
use machine::disk::{Data, Note, Request};
use machine::{Bio, Block, DeviceId, Task};

/// Blocks in one request of the poisoning.
const CHUNK_BLOCKS: u64 = 64;

/// Makes an image on the machine's disk, which has the devices of
/// [`ImageOptions::devices`].
///
/// # Errors
/// `BadInput` if an option is out of its range; `Corrupt` if the disk is too small; `Io`;
/// `Stopped`.
pub fn mkfs(task: &Task, options: &ImageOptions) -> Result<()> {
    let store = Store::format(task.machine(), options)?;
    if options.poison {
        for (device, blocks) in options.devices().into_iter().enumerate() {
            poison(task, device as u8, blocks)?;
        }
    }
    write_nodes(task, options.buffers)?;
    store.create_root(task)?;
    store.commit(task)?;
    store.write_second_super(task)?;
    store.flush_devices(task)
}

/// Bare nodes of version 0.
fn write_nodes(task: &Task, count: u8) -> Result<()> {
    for node in 0..count {
        let block = region::block_of(node);
        let write = Request::write(DeviceId(0), block, region::encode(node, 0));
        let bio = task.submit(write, Note { tag: block, what: "bare node" })?;
        let failed = |_| Error::Io { device: 0, block, what: "write a bare node" };
        bio.wait(task)?.map_err(failed)?;
    }
    Ok(())
}

/// Lets each block of a device hold content that names it.
fn poison(task: &Task, device: u8, blocks: u64) -> Result<()> {
    let mut bios: Vec<(Bio, u64)> = Vec::new();
    for first in (0..blocks).step_by(CHUNK_BLOCKS as usize) {
        let last = blocks.min(first + CHUNK_BLOCKS);
        let payload: Data = (first..last).map(|block| Block::poison(device, block)).collect();
        let write = Request::Write {
            device: DeviceId(device),
            block: first,
            payload,
            sectors: None,
            fua: false,
        };
        bios.push((task.submit(write, Note { tag: first, what: "poison" })?, first));
    }
    for (bio, block) in bios {
        let failed = |_| Error::Io { device, block, what: "write poison" };
        bio.wait(task)?.map_err(failed)?;
    }
    Ok(())
}
