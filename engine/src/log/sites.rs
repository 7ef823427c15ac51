//! The places of the log's paths at which another task may be scheduled.

use machine::Site;

/// FSYNC.7: what is marked is taken and looked up.
pub(crate) static COLLECT: Site = Site::new("log.collect");
/// FSYNC.7: extents are put into the log tree.
pub(crate) static RANGES: Site = Site::new("log.ranges");
/// FSYNC.7: checksums are put into the log tree.
pub(crate) static CSUMS: Site = Site::new("log.csums");
/// FSYNC.7: the inode is put into the log tree.
pub(crate) static ITEM: Site = Site::new("log.item");
/// B-6: the log is read.
pub(crate) static REPLAY_READ: Site = Site::new("replay.read");
/// B-6: the blocks that the log names are claimed.
pub(crate) static REPLAY_CLAIM: Site = Site::new("replay.claim");
/// B-6: an inode is brought back.
pub(crate) static REPLAY_INODE: Site = Site::new("replay.inode");
/// B-6: the transaction that contains all of the log is committed.
pub(crate) static REPLAY_COMMIT: Site = Site::new("replay.commit");
