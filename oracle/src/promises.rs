//! What a target declares that it promises, so that one oracle serves targets that differ.
//!
//! *Promises*: a field weakens or strengthens exactly the guarantees that its text names.
//! *Must never know*: a particular target, other than in the three named profiles.
use crate::guarantee::Tier;

/// The grain at which a data write in flight is old or new after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Atom {
    /// 4 KiB blocks: copy on write, or a medium that does not tear them.
    Block,
    /// 512-byte sectors: overwriting in place (G-5).
    Sector,
}

/// The tiers that a target promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiers(u8);

impl Tiers {
    /// All tiers.
    pub const ALL: Tiers = Tiers(0b1_1111);
    /// What every file system owes its users, whatever its documents say.
    pub const BASIC: Tiers = Tiers(0b111);

    /// These tiers and `tier`.
    pub const fn with(self, tier: Tier) -> Tiers {
        Tiers(self.0 | 1 << tier as u8)
    }

    /// These tiers without `tier`.
    pub const fn without(self, tier: Tier) -> Tiers {
        Tiers(self.0 & !(1 << tier as u8))
    }

    /// Whether `tier` is promised.
    pub const fn contains(self, tier: Tier) -> bool {
        self.0 & 1 << tier as u8 != 0
    }
}

/// What a target promises (`docs/guarantees.md` says who promises what).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promises {
    /// The tiers whose violations are reported; those of other tiers pass.
    pub tiers: Tiers,
    /// The grain of an in-flight data write after a cut (G-5).
    pub data_atom: Atom,
    /// ENOSPC is a legal answer of operations that allocate or persist (G-7).
    pub may_run_out_of_space: bool,
    /// A hole map shows never-written blocks as holes (G-19).
    pub holes_exact: bool,
    /// fsync and fdatasync of a created file also make its name durable (G-17).
    pub fsync_persists_name: bool,
    /// A read sees a concurrent write of the same block wholly or not at all (G-6).
    pub reads_atomic: bool,
    /// A store is atomic per block, also in what a cut leaves of it (G-15).
    pub stores_atomic: bool,
    /// Direct IO and page cache stay coherent when they overlap in time, or when the memory of a
    /// direct IO is a mapping of its own file (G-6, G-7).
    pub direct_coherent: bool,
    /// A direct read leaves the part of its buffer alone that its count does not cover (G-6).
    pub direct_reads_spare_rest: bool,
    /// A direct write whose memory is not there from its first byte on fails (G-7).
    pub direct_faults_reported: bool,
    /// A write that could copy nothing from user memory leaves the size as it was (G-7).
    pub failed_copies_keep_size: bool,
    /// What is stored beyond the end of the file in its last page never becomes part of the file
    /// (G-8).
    pub stores_past_end_vanish: bool,
    /// Direct IO needs offset and length in multiples of this many bytes (G-7).
    pub direct_align: u64,
    /// Alignment of direct IO is checked before anything is done, not extent by extent (G-7).
    pub direct_align_first: bool,
    /// Misaligned direct IO is done through the page cache instead of failing with EINVAL.
    pub direct_falls_back: bool,
    /// Clone and dedupe are there; otherwise EOPNOTSUPP is legal (G-7).
    pub has_clone: bool,
    /// Dedupe counts the bytes that it compared; otherwise what was asked for, though it left out a
    /// last block that is not whole (G-10).
    pub dedupe_counts_compared: bool,
    /// Fallocate, punch and zero range are there; otherwise EOPNOTSUPP is legal (G-7).
    pub has_fallocate: bool,
    /// The largest size of a file in bytes; EFBIG beyond (G-7).
    pub max_file_bytes: u64,
    /// Bare nodes, numbered from 0 (G-28).
    pub bare_nodes: u8,
}

impl Promises {
    /// A copy-on-write engine that promises everything: the engine of this project.
    pub const fn strict() -> Promises {
        Promises {
            tiers: Tiers::ALL,
            data_atom: Atom::Block,
            may_run_out_of_space: true,
            holes_exact: true,
            fsync_persists_name: true,
            reads_atomic: true,
            stores_atomic: true,
            direct_coherent: true,
            direct_reads_spare_rest: true,
            direct_faults_reported: true,
            failed_copies_keep_size: true,
            stores_past_end_vanish: true,
            direct_align: 512,
            direct_align_first: true,
            direct_falls_back: false,
            has_clone: true,
            dedupe_counts_compared: true,
            has_fallocate: true,
            max_file_bytes: i64::MAX as u64,
            bare_nodes: 0,
        }
    }

    /// The strict profile for files that are overwritten in place (`datacow=off`).
    pub const fn in_place() -> Promises {
        Promises { data_atom: Atom::Sector, ..Promises::strict() }
    }

    /// What ext4, xfs and btrfs have in common.
    pub const fn linux() -> Promises {
        Promises {
            data_atom: Atom::Sector,
            holes_exact: false,
            reads_atomic: false,
            stores_atomic: false,
            direct_coherent: false,
            direct_align_first: false,
            direct_reads_spare_rest: false,
            direct_faults_reported: false,
            failed_copies_keep_size: false,
            stores_past_end_vanish: false,
            direct_falls_back: true,
            has_clone: false,
            dedupe_counts_compared: false,
            max_file_bytes: 1 << 43,
            ..Promises::strict()
        }
    }
}

impl Default for Promises {
    fn default() -> Self {
        Promises::strict()
    }
}
