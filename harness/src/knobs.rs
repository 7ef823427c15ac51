//! From the knobs of a program to the options of the engine: the one place that knows both.

use crate::program::{AllocPolicy, Fairness, FsyncProtocol, ImageKnobs, MountKnobs};
use engine::options::{self, ImageOptions, MountOptions};

/// The options of an image. Campaign images are full of poison that names its block.
pub fn image_options(knobs: &ImageKnobs) -> ImageOptions {
    let ImageKnobs { blocks, datasum, datacow, leaf, logdev, log_trees, buffers } = *knobs;
    let blocks = u64::from(blocks);
    ImageOptions {
        blocks,
        datasum,
        datacow,
        leaf,
        logdev,
        log_trees,
        buffers,
        poison: true,
        seed: 0,
    }
}

/// The options of a mount.
pub fn mount_options(knobs: &MountKnobs) -> MountOptions {
    MountOptions {
        delalloc: knobs.delalloc,
        alloc: match knobs.alloc {
            AllocPolicy::Lowest => options::AllocPolicy::Lowest,
            AllocPolicy::Next => options::AllocPolicy::Next,
            AllocPolicy::Reuse => options::AllocPolicy::Reuse,
        },
        workers: knobs.workers,
        cache_pages: u32::from(knobs.cache_pages),
        readahead: u32::from(knobs.readahead),
        faultaround: u32::from(knobs.faultaround),
        fair: match knobs.fair {
            Fairness::Fifo => options::Fairness::Fifo,
            Fairness::Reader => options::Fairness::Reader,
            Fairness::Writer => options::Fairness::Writer,
        },
        flusher: u32::from(knobs.flusher),
        committer: u32::from(knobs.committer),
        reclaimer: u32::from(knobs.reclaimer),
        discard: knobs.discard,
        fsync: match knobs.fsync {
            FsyncProtocol::P0 => options::FsyncProtocol::P0,
            FsyncProtocol::P1 => options::FsyncProtocol::P1,
        },
        remap_readers: knobs.remap_readers,
        node_buffers: knobs.node_buffers,
        eb_fast_path: knobs.eb_fast_path,
        eb_hunk: knobs.eb_hunk,
    }
}

/// The manner of the machine's locks.
pub fn fairness(fair: Fairness) -> machine::Fairness {
    match fair {
        Fairness::Fifo => machine::Fairness::Fifo,
        Fairness::Reader => machine::Fairness::Reader,
        Fairness::Writer => machine::Fairness::Writer,
    }
}
