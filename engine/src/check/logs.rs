//! A log that was not replayed: its nodes, and what it says, as far as that can be seen alone.
//!
//! Promises: nothing of it counts as in use, as a commit will give it up. It must never know how a
//! log is replayed.

use super::image::Image;
use super::nodes::TreeWalk;
use super::report::{CheckReport, ProblemKind};
use crate::log::read::LogReader;
use crate::store::key::Tree;
use crate::store::log::decode_root;
use crate::store::nodes::node::Capacity;
use crate::store::superblock::{LogRoot, Superblock};

/// Looks at every node and item of the log.
pub(super) fn walk(
    image: &mut Image<'_>,
    report: &mut CheckReport,
    superblock: &Superblock,
    log: LogRoot,
) {
    let groups = usize::from(superblock.image.log_trees);
    let content = image.read(log.device, log.ptr.block);
    let roots = match &content {
        None => Err("it lies beyond its device"),
        Some(content) if content.digest() != log.ptr.digest => {
            Err("it is not what the superblock points to")
        }
        Some(content) => decode_root(content.bytes(), &log.ptr, groups),
    };
    let roots = match roots {
        Ok(roots) => roots,
        Err(what) => {
            let message = format!("the log root: {what}");
            return report.add(ProblemKind::NodeUnreadable, log.ptr.block, message);
        }
    };
    let mut reader = LogReader::default();
    let claims = image.claims.len();
    for (group, root) in roots.iter().enumerate() {
        let tree = Tree::Log(group as u8);
        let capacity = Capacity::new(superblock.image.leaf);
        let walk = TreeWalk { image, report, tree, device: log.device, capacity };
        { walk }.walk(root, &mut |report, key, value, block| {
            if let Err(what) = reader.item(key, value) {
                report.add(ProblemKind::ItemDamaged, block, format!("{key:?}: {what}"));
            }
        });
    }
    // The log's blocks are free as the last commit sees them.
    image.claims.truncate(claims);
    if let Err(what) = reader.finish() {
        report.add(ProblemKind::ItemDamaged, log.ptr.block, what);
    }
}
