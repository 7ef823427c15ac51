//! What a check finds: problems of named kinds, each with its block and a sentence.
//!
//! Promises: kinds have stable kebab-case names; the number of problems kept is bounded, whatever
//! the damage. It must never know how problems are found.

use std::borrow::Cow;
use std::fmt;

/// Problems of one check that are kept; the rest is counted.
pub const PROBLEMS_MAX: usize = 256;

macro_rules! kinds {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// What is wrong, for machines.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProblemKind { $(#[doc = $doc] $variant),* }

        impl ProblemKind {
            /// Every kind.
            pub const ALL: &'static [ProblemKind] = &[$(ProblemKind::$variant),*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(ProblemKind::$variant => $name),* }
            }
        }
    };
}

kinds! {
    SuperDamaged = "super-damaged", "A superblock copy is neither valid nor of another kind.";
    BareNodeDamaged = "bare-node-damaged", "A half of a bare node is no version of it.";
    NodeUnreadable = "node-unreadable", "A tree node does not decode, or lies beyond its device.";
    NodeDigest = "node-digest", "A tree node is not the content that its parent points to.";
    NodeMisplaced = "node-misplaced", "A tree node belongs to another block, tree or generation.";
    NodeLevel = "node-level", "A tree node has another level than its parent says.";
    NodeOrder = "node-order", "A tree node has keys outside of its parent's range.";
    NodeUnderfull = "node-underfull", "A tree node holds fewer items than a merge would leave.";
    ItemDamaged = "item-damaged", "The value of an item does not decode.";
    ItemMisplaced = "item-misplaced", "An item stands in a tree where its kind does not belong.";
    SpaceUnreadable = "space-unreadable", "A block of the space map is damaged.";
    SpaceLeaked = "space-leaked", "Blocks are marked used that nothing reaches.";
    SpaceUnmarked = "space-unmarked", "Blocks are reached that are marked free.";
    DoubleUse = "double-use", "Two structures use one block.";
    RefsWrong = "refs-wrong", "A reference count is not the number of references.";
    CsumMissing = "csum-missing", "A written block of a checksummed file has no checksum.";
    CsumExtra = "csum-extra", "A checksum exists for a block that no checksummed file has written.";
    CsumMismatch = "csum-mismatch", "A block is not the content that its checksum names.";
    ExtentOverlap = "extent-overlap", "Two extents of a file cover one offset.";
    ExtentUnaligned = "extent-unaligned", "An extent does not start at a block of the file.";
    ExtentBeyondDevice = "extent-beyond-device", "An extent names blocks beyond the device.";
    ExtentWithoutInode = "extent-without-inode", "An extent belongs to no regular file.";
    InodeLost = "inode-lost", "An inode has no name and is no orphan.";
    InodeLinks = "inode-links", "An inode's link count is not the number of its names.";
    InodeNumber = "inode-number", "An inode's number is not below the next one to be given.";
    NameDangling = "name-dangling", "A name leads to no inode.";
    NameMisplaced = "name-misplaced", "A name is filed under another name's hash, or twice.";
    NameKind = "name-kind", "A name says another kind than its inode.";
    DirectoryMissing = "directory-missing", "Names are filed under what is no directory.";
    OrphanDangling = "orphan-dangling", "An orphan record leads to no inode.";
    OrphanNamed = "orphan-named", "An inode that is to be deleted still has a name.";
    OrphanLeft = "orphan-left", "Work is recorded that a mount should have finished.";
    LogLeft = "log-left", "A log exists that a mount should have replayed.";
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// The block that it is about, if it is about one.
    pub block: Option<u64>,
    /// A sentence with the numbers.
    pub message: Cow<'static, str>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        self.block.map_or(Ok(()), |block| write!(f, " (block {block})"))
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The problems, in the order in which they were found; at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// Problems beyond those kept.
    pub dropped: u64,
    /// Blocks of device 0 that are in use.
    pub used_blocks: u64,
    /// Inodes, the root directory included.
    pub inodes: u64,
}

impl CheckReport {
    /// Whether there is no problem.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether there is a problem of that kind.
    pub fn has(&self, kind: ProblemKind) -> bool {
        self.problems.iter().any(|problem| problem.kind == kind)
    }

    pub(super) fn add(
        &mut self,
        kind: ProblemKind,
        block: impl Into<Option<u64>>,
        message: impl Into<Cow<'static, str>>,
    ) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { kind, block: block.into(), message: message.into() });
        } else {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_unique_names_and_reports_are_bounded() {
        let names: std::collections::BTreeSet<_> =
            ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        let mut report = CheckReport::default();
        for block in 0..PROBLEMS_MAX as u64 + 3 {
            report.add(ProblemKind::SpaceLeaked, block, "a block leaked");
        }
        assert_eq!((report.problems.len(), report.dropped), (PROBLEMS_MAX, 3));
        assert!(report.has(ProblemKind::SpaceLeaked) && !report.is_clean());
        assert_eq!(report.problems[7].to_string(), "space-leaked: a block leaked (block 7)");
    }
}
