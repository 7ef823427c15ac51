//! The registry of historical defects: each a variant of one protocol step that once broke a file
//! system, off by default, switched on by name.
//!
//! A defect is asked for at the very line where the protocol differs, `defects.has(Defect::X)`.
//! Without the cargo feature `defects` that question is the constant `false` and [`Defects`] has no
//! content, so that the clean engine carries none of it.
//!
//! Promises: names are kebab-case, unique and stable; a registered defect is built, not announced.
//! It must never know the code that it changes.

use crate::error::{Error, Result};
use std::fmt;

/// What a defect is about; the chapters of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Extent maps, ordered extents, the log and its replay.
    Fsync,
    /// The lifetime of tree-node buffers.
    MetadataBuffer,
    /// Clone and dedupe.
    Remap,
    /// Direct IO, mappings, allocation, conversion and sizes.
    DirectIo,
    /// Hole punching against page faults; user buffers that are mappings.
    PunchFault,
    /// Barriers, superblocks and the publication of the log.
    Durability,
}

impl Family {
    /// Every family, in the order of the catalogue.
    pub const ALL: [Family; 6] = [
        Family::Fsync,
        Family::MetadataBuffer,
        Family::Remap,
        Family::DirectIo,
        Family::PunchFault,
        Family::Durability,
    ];

    /// The name by which a person selects it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Fsync => "fsync",
            Family::MetadataBuffer => "metadata-buffer",
            Family::Remap => "remap",
            Family::DirectIo => "direct-io",
            Family::PunchFault => "punch-fault",
            Family::Durability => "durability",
        }
    }

    /// The family of a name.
    pub fn by_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a person should know about a defect.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The name on a command line and in a program.
    pub name: &'static str,
    /// Its chapter.
    pub family: Family,
    /// What it changes in the engine.
    pub change: &'static str,
    /// What breaks, and how that shows.
    pub breaks: &'static str,
    /// Where it comes from: the commit, the test or the thread.
    pub source: &'static str,
}

macro_rules! defects {
    ($($variant:ident {
        name: $name:literal,
        family: $family:ident,
        change: $change:literal,
        breaks: $breaks:literal,
        source: $source:literal $(,)?
    })*) => {
        /// A historical defect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Defect {
            $(
                #[doc = concat!("`", $name, "`: ", $change, " Breaks: ", $breaks, " Source: ",
                    $source)]
                $variant,
            )*
        }

        impl Defect {
            /// Every defect, in the order of the catalogue.
            pub const ALL: &'static [Defect] = &[$(Defect::$variant),*];

            /// What a person should know about it.
            pub const fn description(self) -> &'static Description {
                match self {
                    $(Defect::$variant => &Description {
                        name: $name,
                        family: Family::$family,
                        change: $change,
                        breaks: $breaks,
                        source: $source,
                    },)*
                }
            }
        }
    };
}

defects! {
    DedupeEofTailUnaligned {
        name: "dedupe-eof-tail-unaligned",
        family: Remap,
        change: "The partial last block of the source is shared into the middle of the target.",
        breaks: "The target reads the zeros behind the source's end where it had data.",
        source: "fstests generic/517, generic/518; Linux ac765f83f139.",
    }
    CloneBeyondEofGapNotZeroed {
        name: "clone-beyond-eof-gap-not-zeroed",
        family: Remap,
        change: "A clone that starts beyond the target's end keeps the old tail's bytes.",
        breaks: "Bytes that no write put there become readable in the gap.",
        source: "fstests generic/515; Linux 410fdc72b05a.",
    }
    WriteErrorEmLogged {
        name: "write-error-em-logged",
        family: Fsync,
        change: "fsync logs the extent of a write that the device failed.",
        breaks: "After a crash the file shows blocks that were never written, where it had data.",
        source: "Linux f13e01b89daf.",
    }
    LogReplayDropsCsums {
        name: "log-replay-drops-csums",
        family: Fsync,
        change: "Replay deletes the checksums of all blocks that it replaces, shared ones too.",
        breaks: "The other file that shares them cannot be read any more.",
        source: "Linux 40e046acbd2f.",
    }
    HoleNotLoggedNoHoles {
        name: "hole-not-logged-no-holes",
        family: Fsync,
        change: "fsync logs no holes.",
        breaks: "After a crash the old data are back where a hole was punched.",
        source: "Linux 0e56315ca147; fstests btrfs/159, btrfs/201.",
    }
    TrailingHoleNotLogged {
        name: "trailing-hole-not-logged",
        family: Fsync,
        change: "fsync does not log a hole that reaches to the end of the file.",
        breaks: "After a crash the data that a truncate took away are back.",
        source: "fstests generic/101.",
    }
    RangedFsyncDropsOthers {
        name: "ranged-fsync-drops-others",
        family: Fsync,
        change: "fsync of a range forgets what changed outside of the range.",
        breaks: "A later fsync of the whole file does not log it.",
        source: "Linux 49dae1bc1c66; fstests generic/325.",
    }
    CloneFsyncMissingEm {
        name: "clone-fsync-missing-em",
        family: Fsync,
        change: "A clone does not mark the target's extents as changed.",
        breaks: "fsync of the target does not log them.",
        source: "fstests btrfs/056, generic/501, generic/588; Linux bd3599a0e142, b84b8390d600.",
    }
    CloneHoleNotLogged {
        name: "clone-hole-not-logged",
        family: Fsync,
        change: "A clone of a hole does not mark the target's range as changed.",
        breaks: "After fsync and a crash the target's old data are back.",
        source: "fstests btrfs/231.",
    }
    SuperNoPreflush {
        name: "super-no-preflush",
        family: Durability,
        change: "The superblock is written without a flush before it.",
        breaks: "After a crash it points to blocks that were only in the device's cache.",
        source: "The class of fstests generic/482.",
    }
    SuperNoFua {
        name: "super-no-fua",
        family: Durability,
        change: "The superblock is written without FUA.",
        breaks: "What fsync and sync promised is lost with the device's cache.",
        source: "The class of fstests generic/482.",
    }
    SuperBeforeLogBlocks {
        name: "super-before-log-blocks",
        family: Durability,
        change: "The superblock points to the log before the log's blocks were waited for.",
        breaks: "After a crash the log is not there, or damaged.",
        source: "Rule B-1 of races.md §7.3.",
    }
    LogRootBeforeLogTree {
        name: "log-root-before-log-tree",
        family: Durability,
        change: "A log root may name another group's log tree whose writes are still in flight.",
        breaks: "After a crash the log names blocks that were never written.",
        source: "Linux 4203e9689470; fstests btrfs/196.",
    }
    FsyncElidesFlush {
        name: "fsync-elides-flush",
        family: Durability,
        change: "fsync that finds nothing to log returns without a flush.",
        breaks: "Data overwritten in place are lost with the device's cache.",
        source: "Linux 47c7d0b19502.",
    }
    FlushBeforeTailSample {
        name: "flush-before-tail-sample",
        family: Durability,
        change: "fsync flushes the data device before it writes out what the flush must cover.",
        breaks: "What was written after the flush is lost with the device's cache.",
        source: "The regression of Linux eef983ffeae7; Linux b5d721eaae47.",
    }
    DataFlushMissingMultidev {
        name: "data-flush-missing-multidev",
        family: Durability,
        change: "With a log device, fsync flushes that one only.",
        breaks: "After a crash the log points to data that were only in the other device's cache.",
        source: "Linux b5d721eaae47.",
    }
    FreedExtentReusedBeforeCommit {
        name: "freed-extent-reused-before-commit",
        family: Durability,
        change: "Freed data blocks can be allocated before the commit that frees them is durable.",
        breaks: "After a crash the old file shows another file's data.",
        source: "The rule of every copy-on-write file system, X-6.",
    }
    DiscardBeforeCommit {
        name: "discard-before-commit",
        family: Durability,
        change: "Freed blocks are discarded at once (mounts with discard=on).",
        breaks: "After a crash the old file has lost its data.",
        source: "Rule B-2 of races.md §7.3.",
    }
    FsyncErrorReportedOnceLost {
        name: "fsync-error-reported-once-lost",
        family: Durability,
        change: "The first fsync that reports an error of writeback clears it for all open files.",
        breaks: "fsync through another open file returns success although data were lost.",
        source: "The history of errseq in Linux.",
    }
    JournalSuperRace {
        name: "journal-super-race",
        family: Durability,
        change: "fsync writes the superblock without its lock and outside of its transaction.",
        breaks: "A commit at the same time is overwritten by what was there before it.",
        source: "Linux 538bcaa6261b.",
    }
    TornSuperNoChecksum {
        name: "torn-super-no-checksum",
        family: Durability,
        change: "The superblock spans two sectors and has no checksum.",
        breaks: "After a crash its halves may be of two commits.",
        source: "Rule B-2 of races.md §7.3.",
    }
    EbReadNoTreeRefRecheck {
        name: "eb-read-no-tree-ref-recheck",
        family: MetadataBuffer,
        change: "Lockless lookups, and a read that does not make sure of the cache's reference.",
        breaks: "Reclaim lets go of a buffer, whose last user then frees it while it is read.",
        source: "Linux 6bf9cd2eed9a; thread 001.",
    }
    EbDirtyCheckBeforeBit {
        name: "eb-dirty-check-before-bit",
        family: MetadataBuffer,
        change: "The cache's reference is looked at, without a lock, before the dirty bit is set.",
        breaks: "Reclaim lets go of the buffer in between; its change is lost with the last user.",
        source: "Step SD1 before SD2 in races.md §2.",
    }
    EbDirtyBitBeforeCheck {
        name: "eb-dirty-bit-before-check",
        family: MetadataBuffer,
        change: "The dirty bit is set first, and the cache's reference looked at without a lock.",
        breaks: "As with the other order: reclaim had looked for the bit before it was set.",
        source: "Litmus L2.3 of races.md §2.",
    }
    EbReleaseIgnoresDirty {
        name: "eb-release-ignores-dirty",
        family: MetadataBuffer,
        change: "Reclaim looks at pages under IO and at writeback only.",
        breaks: "A change that was not written is gone.",
        source: "Invariant I3 of races.md §2; thread 001.",
    }
    EbReleaseCheckThenClearUnlocked {
        name: "eb-release-check-then-clear-unlocked",
        family: MetadataBuffer,
        change: "Reclaim gives the lock back between looking at a buffer and letting go of it.",
        breaks: "A buffer that was taken into use in between loses the cache's reference.",
        source: "Linux 594831c4b232; thread 001.",
    }
    EbDirtyToWritebackGap {
        name: "eb-dirty-to-writeback-gap",
        family: MetadataBuffer,
        change: "Writeback takes its reference without a lock, and swaps its bits in two steps.",
        breaks: "Reclaim finds neither bit and lets go of the buffer, which is freed under IO.",
        source: "Thread 001: the gap against which the disputed hunk guards.",
    }
    EbWritebackClearedBeforeIoPages {
        name: "eb-writeback-cleared-before-io-pages",
        family: MetadataBuffer,
        change: "Writeback counts as over when the first page ends, not the last.",
        breaks: "The next write sets the count of pages, and the late end is counted as its own.",
        source: "Thread 001.",
    }
    EbDoubleRead {
        name: "eb-double-read",
        family: MetadataBuffer,
        change: "Who has waited for the pages does not look again whether there is a need to read.",
        breaks: "A buffer is read a second time, upon content that is in use or was changed.",
        source: "Linux ef1e68236b91.",
    }
    EbStaleFreeRace {
        name: "eb-stale-free-race",
        family: MetadataBuffer,
        change: "A lockless lookup does not wait for whoever frees a stale buffer.",
        breaks: "The finder takes the cache's reference for granted, which the freer takes away.",
        source: "Step FE3 in races.md §2; Linux 594831c4b232.",
    }
    EbAttachPrivateUnlocked {
        name: "eb-attach-private-unlocked",
        family: MetadataBuffer,
        change: "A page becomes a buffer's without the lock under which another lets go of it.",
        breaks: "The page of the new buffer belongs to none.",
        source: "Linux f3a5367c679d.",
    }
    EbWriteErrorEvicted {
        name: "eb-write-error-evicted",
        family: MetadataBuffer,
        change: "A failed write is noted in its buffer only.",
        breaks: "With the buffer reclaimed, a commit succeeds without what could not be written.",
        source: "Linux 656f30dba7ab.",
    }
    EbLookupZeroRef {
        name: "eb-lookup-zero-ref",
        family: MetadataBuffer,
        change: "A lookup takes a reference also where there is none any more.",
        breaks: "The finder uses a buffer that is being freed.",
        source: "Linux ee10f6fcdb96, in XFS.",
    }
    EbNoRefsLock {
        name: "eb-no-refs-lock",
        family: MetadataBuffer,
        change: "References and bits of buffers change without any lock.",
        breaks: "Reclaim lets go of buffers that became dirty, or began to be written, meanwhile.",
        source: "Thread 001: killing the refs_lock.",
    }
    DioGupUnderRangeLock {
        name: "dio-gup-under-range-lock",
        family: PunchFault,
        change: "Direct IO faults its memory in while it holds the mapping lock of its range.",
        breaks: "Memory that is a mapping of the same range waits for the lock of its own task.",
        source: "Linux 51bd9563b678; fstests generic/647; thread 004.",
    }
    DioTwoFileAbba {
        name: "dio-two-file-abba",
        family: PunchFault,
        change: "As before, unless memory is of the same file, where the task knows itself.",
        breaks: "Two files whose direct IO has the other one as memory wait for each other.",
        source: "The discussion of bcachefs, 2023; thread 004.",
    }
    DioRetryNoProgressBound {
        name: "dio-retry-no-progress-bound",
        family: PunchFault,
        change: "A direct write that found no memory tries again, however often.",
        breaks: "It evicts its own memory each time, if that is a mapping of the same range.",
        source: "fstests generic/729; thread 004.",
    }
    DioPartialOeNotSplit {
        name: "dio-partial-oe-not-split",
        family: PunchFault,
        change: "A direct write that found a part of its memory publishes all of its range.",
        breaks: "Blocks become part of the file that nobody has written.",
        source: "Linux b73a6fd1b1ef; fstests generic/708.",
    }
    MkwriteTakesIolock {
        name: "mkwrite-takes-iolock",
        family: PunchFault,
        change: "A write fault takes the range lock of its page.",
        breaks: "Memory that is a mapping of the file being written waits for its own task.",
        source: "Linux f00cdc6df7d7, reverted; thread 004.",
    }
    MkwriteRetryUnbounded {
        name: "mkwrite-retry-unbounded",
        family: PunchFault,
        change: "A write fault tries to take the range lock, and is repeated until it has it.",
        breaks: "It never has, where the faulting task holds it.",
        source: "The proposal of thread 004 to return -EAGAIN from page_mkwrite.",
    }
    PopulateRetryHang {
        name: "populate-retry-hang",
        family: PunchFault,
        change: "Faulting memory in is repeated when it fails.",
        breaks: "It fails forever where there is no memory, or the device has failed.",
        source: "Linux 631426ba1d45; fstests generic/743.",
    }
}

impl Defect {
    /// The name on a command line and in a program.
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// Its chapter.
    pub const fn family(self) -> Family {
        self.description().family
    }

    /// The defect of a name.
    ///
    /// # Errors
    /// `BadInput` if there is none.
    pub fn by_name(name: &str) -> Result<Defect> {
        let found = Defect::ALL.iter().find(|defect| defect.name() == name);
        found.copied().ok_or_else(|| Error::bad_input("a defect", name))
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const _: () = assert!(Defect::ALL.len() <= 128, "a set of defects is one u128");

/// Which defects a mount has; none, unless the feature `defects` is compiled in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Defects {
    #[cfg(feature = "defects")]
    bits: u128,
}

impl Defects {
    /// The clean engine.
    pub const NONE: Defects = Defects {
        #[cfg(feature = "defects")]
        bits: 0,
    };

    /// Whether a defect is on.
    #[cfg(feature = "defects")]
    #[inline]
    pub const fn has(self, defect: Defect) -> bool {
        self.bits & (1 << defect as u8) != 0
    }

    /// Whether a defect is on: never, this engine is built without them.
    #[cfg(not(feature = "defects"))]
    #[inline]
    pub const fn has(self, _: Defect) -> bool {
        false
    }

    /// The set with one more defect.
    #[cfg(feature = "defects")]
    #[must_use]
    pub const fn with(self, defect: Defect) -> Defects {
        Defects { bits: self.bits | 1 << defect as u8 }
    }

    /// Whether the engine is the clean one.
    pub fn is_empty(self) -> bool {
        self == Defects::NONE
    }

    /// The defects that are on, in the order of the catalogue.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        Defect::ALL.iter().copied().filter(move |&defect| self.has(defect))
    }
}

#[cfg(feature = "defects")]
impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Defects {
        defects.into_iter().fold(Defects::NONE, Defects::with)
    }
}

impl fmt::Debug for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Defect::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_kebab_case_and_lead_back() {
        let mut seen = BTreeSet::new();
        for &defect in Defect::ALL {
            let name = defect.name();
            assert!(seen.insert(name), "{name} is there twice");
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(legal), "{name} is kebab-case");
            assert_eq!(Defect::by_name(name), Ok(defect));
        }
        assert_eq!(
            Defect::by_name("no-such").unwrap_err().to_string(),
            "a defect cannot be no-such"
        );
        for family in Family::ALL {
            assert_eq!(Family::by_name(family.name()), Some(family));
        }
    }

    #[test]
    fn descriptions_are_sentences() {
        for &defect in Defect::ALL {
            let about = defect.description();
            for text in [about.change, about.breaks, about.source] {
                assert!(text.ends_with('.') && text.len() > 5, "{defect}: {text}");
            }
        }
    }

    #[cfg(feature = "defects")]
    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: Defects = [Defect::CloneBeyondEofGapNotZeroed].into_iter().collect();
        assert!(set.has(Defect::CloneBeyondEofGapNotZeroed) && !set.is_empty());
        assert!(!set.has(Defect::DedupeEofTailUnaligned));
        assert_eq!(format!("{set:?}"), r#"{"clone-beyond-eof-gap-not-zeroed"}"#);
        assert!(Defects::NONE.is_empty() && Defects::NONE.iter().next().is_none());
    }

    #[cfg(not(feature = "defects"))]
    #[test]
    fn the_clean_engine_has_no_room_for_defects() {
        assert_eq!(size_of::<Defects>(), 0);
        assert!(Defect::ALL.iter().all(|&defect| !Defects::NONE.has(defect)));
    }
}
