//! The registry of historical defects: each a variant of one protocol step that once broke a file
//! system, off by default, switched on by name.
//!
//! A defect is asked for at the very line where the protocol differs, `defects.has(Defect::X)`.
//! Without the cargo feature `defects` that question is the constant `false` and [`Defects`] has no
//! content, so that the clean engine carries none of it.
//!
//! Promises: names are kebab-case, unique and stable; a registered defect is built, not announced.
//! It must never know the code that it changes.

mod registry;

pub use registry::{Defects, Description, Family};

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
        name: "dedupe-eof-tail-unaligned", family: Remap,
        change: "The partial last block of the source is shared into the middle of the target.",
        breaks: "The target reads the zeros behind the source's end where it had data.",
        source: "fstests generic/517, generic/518; Linux ac765f83f139.",
    }
    CloneBeyondEofGapNotZeroed {
        name: "clone-beyond-eof-gap-not-zeroed", family: Remap,
        change: "A clone that starts beyond the target's end keeps the old tail's bytes.",
        breaks: "Bytes that no write put there become readable in the gap.",
        source: "fstests generic/515; Linux 410fdc72b05a.",
    }
    WriteErrorEmLogged {
        name: "write-error-em-logged", family: Fsync,
        change: "fsync logs the extent of a write that the device failed.",
        breaks: "After a crash the file shows blocks that were never written, where it had data.",
        source: "Linux f13e01b89daf.",
    }
    LogReplayDropsCsums {
        name: "log-replay-drops-csums", family: Fsync,
        change: "Replay deletes the checksums of all blocks that it replaces, shared ones too.",
        breaks: "The other file that shares them cannot be read any more.",
        source: "Linux 40e046acbd2f.",
    }
    HoleNotLoggedNoHoles {
        name: "hole-not-logged-no-holes", family: Fsync,
        change: "fsync logs no hole that has something behind it.",
        breaks: "After a crash the old data are back where a hole was punched.",
        source: "Linux 0e56315ca147; fstests btrfs/159, btrfs/201.",
    }
    TrailingHoleNotLogged {
        name: "trailing-hole-not-logged", family: Fsync,
        change: "fsync does not log a hole that reaches to the end of the file.",
        breaks: "After a crash the data that a truncate took away are back.",
        source: "fstests generic/101.",
    }
    RangedFsyncDropsOthers {
        name: "ranged-fsync-drops-others", family: Fsync,
        change: "fsync of a range forgets what changed outside of the range.",
        breaks: "A later fsync of the whole file does not log it.",
        source: "Linux 49dae1bc1c66; fstests generic/325.",
    }
    CloneFsyncMissingEm {
        name: "clone-fsync-missing-em", family: Fsync,
        change: "A clone does not mark the target's extents as changed.",
        breaks: "fsync of the target does not log them.",
        source: "fstests btrfs/056, generic/501, generic/588; Linux bd3599a0e142, b84b8390d600.",
    }
    CloneHoleNotLogged {
        name: "clone-hole-not-logged", family: Fsync,
        change: "A clone of a hole does not mark the target's range as changed.",
        breaks: "After fsync and a crash the target's old data are back.",
        source: "fstests btrfs/231.",
    }
    SuperNoPreflush {
        name: "super-no-preflush", family: Durability,
        change: "The superblock is written without a flush before it.",
        breaks: "After a crash it points to blocks that were only in the device's cache.",
        source: "The class of fstests generic/482.",
    }
    SuperNoFua {
        name: "super-no-fua", family: Durability,
        change: "The superblock is written without FUA.",
        breaks: "What fsync and sync promised is lost with the device's cache.",
        source: "The class of fstests generic/482.",
    }
    SuperBeforeLogBlocks {
        name: "super-before-log-blocks", family: Durability,
        change: "The superblock points to the log before the log's blocks were waited for.",
        breaks: "After a crash the log is not there, or damaged.",
        source: "Rule B-1 of races.md §7.3.",
    }
    LogRootBeforeLogTree {
        name: "log-root-before-log-tree", family: Durability,
        change: "A log root may name another group's log tree whose writes are still in flight.",
        breaks: "After a crash the log names blocks that were never written.",
        source: "Linux 4203e9689470; fstests btrfs/196.",
    }
    FsyncElidesFlush {
        name: "fsync-elides-flush", family: Durability,
        change: "fsync that finds nothing to log returns without a flush.",
        breaks: "Data overwritten in place are lost with the device's cache.",
        source: "Linux 47c7d0b19502.",
    }
    FlushBeforeTailSample {
        name: "flush-before-tail-sample", family: Durability,
        change: "fsync flushes the data device before it writes out what the flush must cover.",
        breaks: "What was written after the flush is lost with the device's cache.",
        source: "The regression of Linux eef983ffeae7; Linux b5d721eaae47.",
    }
    DataFlushMissingMultidev {
        name: "data-flush-missing-multidev", family: Durability,
        change: "With a log device, fsync flushes that one only.",
        breaks: "After a crash the log points to data that were only in the other device's cache.",
        source: "Linux b5d721eaae47.",
    }
    FreedExtentReusedBeforeCommit {
        name: "freed-extent-reused-before-commit", family: Durability,
        change: "Freed data blocks can be allocated before the commit that frees them is durable.",
        breaks: "After a crash the old file shows another file's data.",
        source: "The rule of every copy-on-write file system, X-6.",
    }
    DiscardBeforeCommit {
        name: "discard-before-commit", family: Durability,
        change: "Freed blocks are discarded at once (mounts with discard=on).",
        breaks: "After a crash the old file has lost its data.",
        source: "Rule B-2 of races.md §7.3.",
    }
    FsyncErrorReportedOnceLost {
        name: "fsync-error-reported-once-lost", family: Durability,
        change: "The first fsync that reports an error of writeback clears it for all open files.",
        breaks: "fsync through another open file returns success although data were lost.",
        source: "The history of errseq in Linux.",
    }
    JournalSuperRace {
        name: "journal-super-race", family: Durability,
        change: "fsync writes the superblock without its lock and outside of its transaction.",
        breaks: "A commit at the same time is overwritten by what was there before it.",
        source: "Linux 538bcaa6261b.",
    }
    TornSuperNoChecksum {
        name: "torn-super-no-checksum", family: Durability,
        change: "The superblock spans two sectors and has no checksum.",
        breaks: "After a crash its halves may be of two commits.",
        source: "Rule B-2 of races.md §7.3.",
    }
    PunchNoInvalidateLock {
        name: "punch-no-invalidate-lock", family: PunchFault,
        change: "Punching a hole does not lock the mapping side out.",
        breaks: "A fault brings back a page of what is being punched; it shows what was there.",
        source: "Linux ea3d7209ca01; thread 004, litmus L5.1.",
    }
    PunchUnlockBeforeExtentFree {
        name: "punch-unlock-before-extent-free", family: PunchFault,
        change: "Punching gives the mapping lock back once pages are evicted, before blocks go.",
        breaks: "A fault in between maps blocks that are then freed.",
        source: "Litmus L5.4 of races.md §5.",
    }
    MkwriteOnlyLock {
        name: "mkwrite-only-lock", family: PunchFault,
        change: "Only faults that write take the mapping lock.",
        breaks: "A read fault leaves a page with the old content over a punched hole.",
        source: "Thread 004, litmus L5.3.",
    }
    MkwriteNoInvalidateLock {
        name: "mkwrite-no-invalidate-lock", family: PunchFault,
        change: "Making an entry writable takes no mapping lock; the page is looked at again.",
        breaks: "Punching is safe by the page's lock; a dedupe shares what is being stored to.",
        source: "Litmus L5.13 and L3.13 of races.md: \"remove lock from page_mkwrite\".",
    }
    MkwriteSkipsMappingRecheck {
        name: "mkwrite-skips-mapping-recheck", family: PunchFault,
        change: "Making a read-only entry writable does not look whether the page, which it \
            remembered before it had the mapping lock, is still cached.",
        breaks: "A store goes to a page that was evicted meanwhile, and is lost.",
        source: "Thread 004, the text of 2012.",
    }
    ReadFillUnlocked {
        name: "read-fill-unlocked", family: PunchFault,
        change: "Reads fill pages without the mapping lock.",
        breaks: "A page filled beside a fallback of direct IO or a dedupe shows old content.",
        source: "Linux 730633f0b7f9; litmus L5.5.",
    }
    ReadaheadUnlocked {
        name: "readahead-unlocked", family: PunchFault,
        change: "Readahead brings pages in without the mapping lock.",
        breaks: "A page that comes between eviction and the end of its extents shows old content.",
        source: "Linux 730633f0b7f9, d4f5258eae7b; litmus L5.5.",
    }
    ReadHoldsInvalidateOverCopy {
        name: "read-holds-invalidate-over-copy", family: PunchFault,
        change: "A read keeps the mapping lock while it copies to the user.",
        breaks: "The copy may fault, which waits for that lock behind whoever punches.",
        source: "The first attempt of 2019; litmus L5.6.",
    }
    ZeroRangePartialStale {
        name: "zero-range-partial-stale", family: PunchFault,
        change: "Punching and zeroing leave dirty pages at the edges of the range as they are.",
        breaks: "Bytes of the range are still there.",
        source: "fstests generic/758, generic/567.",
    }
    PunchDelallocNeighbourStale {
        name: "punch-delalloc-neighbour-stale", family: PunchFault,
        change: "Punching whole blocks takes the delayed allocation of the block behind its range \
            for done.",
        breaks: "The page there is never written; its data are lost.",
        source: "Linux 1c6c6a28e3cb.",
    }
    PunchVsWritebackRace {
        name: "punch-vs-writeback-race", family: PunchFault,
        change: "Punching and zeroing pass over pages under writeback, and wait for none.",
        breaks: "Writeback goes on into blocks that were freed, or brings back what was punched.",
        source: "Linux 011278485ecc.",
    }
    FaultHoldsPageThenMl {
        name: "fault-holds-page-then-ml", family: PunchFault,
        change: "A fault locks the page, then the mapping lock.",
        breaks: "Whoever evicts holds the mapping lock and waits for the page.",
        source: "The ranks of races.md §7.1.",
    }
    DedupePageLockOrder {
        name: "dedupe-page-lock-order", family: Remap,
        change: "Dedupe locks the source's page, then the target's.",
        breaks: "Two of them in opposite directions wait for each other.",
        source: "Linux edc58dd0123b; thread 002.",
    }
    DedupeSrcMmaplockShared {
        name: "dedupe-src-mmaplock-shared", family: Remap,
        change: "Clone and dedupe take the mapping lock of the source for reading.",
        breaks: "What is stored to the source after the comparison appears in the target.",
        source: "Linux 5d888b481e6a; fstests generic/630; thread 002.",
    }
    DedupeDstMmapUnlocked {
        name: "dedupe-dst-mmap-unlocked", family: Remap,
        change: "Clone and dedupe take no mapping lock, but to fill pages, as reads do.",
        breaks: "What is stored meanwhile is lost, or shared without having been compared.",
        source: "Linux 8c99516a8cdd.",
    }
    DedupeFlushBeforeMmaplock {
        name: "dedupe-flush-before-mmaplock", family: Remap,
        change: "Clone and dedupe write dirty pages first, and take the mapping lock then.",
        breaks: "An entry that became writable in between outlives the lock.",
        source: "Thread 002: b must come before e; litmus L3.6.",
    }
    RemapLayoutNotRechecked {
        name: "remap-layout-not-rechecked", family: Remap,
        change: "Clone and dedupe break layouts before they lock, and do not look again.",
        breaks: "A holder that got a layout meanwhile writes to blocks that are shared by then.",
        source: "Thread 002, step c; litmus L3.7.",
    }
    RemapSourceLayoutUnbroken {
        name: "remap-source-layout-unbroken", family: Remap,
        change: "Clone and dedupe break the layouts of the target only.",
        breaks: "A holder goes on writing blocks of the source, which are the target's, too.",
        source: "Linux 5d888b481e6a; thread 002, litmus L3.7.",
    }
    RemapDstPagecacheStale {
        name: "remap-dst-pagecache-stale", family: Remap,
        change: "Clone and dedupe leave the target's pages in the cache.",
        breaks: "Reads show what was there before.",
        source: "fstests btrfs/081; Linux 2c307174ab77, 4918ef4ea008.",
    }
    RemapFillTakesInvalidateLock {
        name: "remap-fill-takes-invalidate-lock", family: Remap,
        change: "The comparison of dedupe fills pages with a function that takes the mapping lock.",
        breaks: "The task waits for the lock that it holds.",
        source: "The thread of 2021-04-24 on invalidate_lock; litmus L3.8.",
    }
    ReflinkWritebackInPlace {
        name: "reflink-writeback-in-place", family: Remap,
        change: "Writeback decides to overwrite in place, then takes its locks; clone waits for \
            what is published only.",
        breaks: "Data go to blocks that were shared meanwhile: the clone changes.",
        source: "Linux 609e804d771f.",
    }
    CloneLostIsize {
        name: "clone-lost-isize", family: Remap,
        change: "A clone that ends with a hole does not raise the size of the target.",
        breaks: "The target is shorter than what was cloned.",
        source: "Linux 4fdb688c7071, there with inline extents.",
    }
    RemapReserveUnderRangeLock {
        name: "remap-reserve-under-range-lock", family: Remap,
        change: "Clone and dedupe look for space with both files' extents locked.",
        breaks: "Writeback, which is to make space, waits for these locks.",
        source: "Linux 3d45f221ce62.",
    }
    TwoInodeLockOrderMixed {
        name: "two-inode-lock-order-mixed", family: Remap,
        change: "Clone and dedupe lock the source, then the target.",
        breaks: "Two of them in opposite directions wait for each other.",
        source: "Thread 002; litmus L3.9.",
    }
    EmReleasedBeforeFastFsync {
        name: "em-released-before-fast-fsync", family: Fsync,
        change: "Reclaim of a page forgets that its extent is to be logged.",
        breaks: "fsync does not log it.",
        source: "The patch of 2020-07-22, \"fix race between page release and a fast fsync\".",
    }
    WritebackAllocWritten {
        name: "writeback-alloc-written", family: DirectIo,
        change: "Direct reads take the blocks that writeback has allocated for written.",
        breaks: "A direct read shows what stood in them before the data come.",
        source: "Thread 003; Linux 244adf6426ee, a5949d3faedf.",
    }
    MkwriteAllocWritten {
        name: "mkwrite-alloc-written", family: DirectIo,
        change: "Without delayed allocation, a page that becomes dirty gets written blocks.",
        breaks: "A direct read shows what stood in them before the data come.",
        source: "Thread 003: \"But what if it is nodelalloc\".",
    }
    AllocWrittenCrash {
        name: "alloc-written-crash", family: DirectIo,
        change: "Writeback makes blocks part of the file when it allocates them.",
        breaks: "A commit before their data shows what stood in them.",
        source: "fstests generic/042, generic/536.",
    }
    DioCountAfterFlush {
        name: "dio-count-after-flush", family: DirectIo,
        change: "Blocks are allocated as written unless a direct read is counted, and such a read \
            counts after its flush.",
        breaks: "A page that becomes dirty between flush and count is not waited for.",
        source: "The patch of thread 003; variant a of races.md §4.",
    }
    DioCountCheckedBeforePageLock {
        name: "dio-count-checked-before-page-lock", family: DirectIo,
        change: "Writeback allocates as written if it counts no direct read before it locks pages.",
        breaks: "A read that begins in between sees what stood in the blocks.",
        source: "The RFC 2/2 of thread 003; variant b of races.md §4.",
    }
    MkwriteCountCheckBeforeDirty {
        name: "mkwrite-count-check-before-dirty", family: DirectIo,
        change: "As dio-count-after-flush, with the count before the flush.",
        breaks: "A fault has looked at the count, but its page is not yet dirty for the flush.",
        source: "Variant c of races.md §4.",
    }
    DioCompletesBeforeConversion {
        name: "dio-completes-before-conversion", family: DirectIo,
        change: "A direct write ends before its blocks are part of the file.",
        breaks: "Whoever reads or asks for the size then misses it.",
        source: "The history of ext4 and XFS.",
    }
    IsizeBeforeDioComplete {
        name: "isize-before-dio-complete", family: DirectIo,
        change: "A direct write raises the size, and gives its locks back, when it is submitted.",
        breaks: "A reader caches the zeros of before, and they stay.",
        source: "The thread of 2020-09-21; fstests generic/418; litmus L4.10.",
    }
    OsyncDioIsizeAfterSync {
        name: "osync-dio-isize-after-sync", family: DirectIo,
        change: "A synchronous direct write raises the size after it was made durable.",
        breaks: "After a crash the size that it brought is missing, and so are its data.",
        source: "Linux 91562895f803; fstests generic/737.",
    }
    DioAppendPosStale {
        name: "dio-append-pos-stale", family: DirectIo,
        change: "An append looks at the end before it waits for its lock, and not again.",
        breaks: "Two appends go to one place, and one of them is lost.",
        source: "Linux 939b656bc8ab; litmus L5.16.",
    }
    DioReadBlockFreedRealloc {
        name: "dio-read-block-freed-realloc", family: DirectIo,
        change: "A direct read unlocks its range when it is submitted, and pins no blocks.",
        breaks: "They are freed and used for another file while they are being read.",
        source: "The series of 2024-08-26; Linux 1c9114f9c0f1; litmus L1.8, L4.8.",
    }
    DioWriteNoPostInvalidate {
        name: "dio-write-no-post-invalidate", family: DirectIo,
        change: "A direct write gives the mapping lock back once pages are evicted, and does not \
            evict again.",
        breaks: "A page that came into the cache meanwhile stays as it was before the write.",
        source: "The end of a direct write in Linux' iomap.",
    }
    DioInvalidateFailureIgnored {
        name: "dio-invalidate-failure-ignored", family: DirectIo,
        change: "A direct write goes on when a page of its range cannot be dropped.",
        breaks: "The page hides it, and writeback puts the page over it.",
        source: "Linux 60263d5889e6.",
    }
    DioFallbackNoFlush {
        name: "dio-fallback-no-flush", family: DirectIo,
        change: "A direct write of parts of blocks goes through the cache and is not flushed.",
        breaks: "With O_DSYNC it is not durable when it returns.",
        source: "fstests btrfs/234.",
    }
    UnalignedDioZeroRace {
        name: "unaligned-dio-zero-race", family: DirectIo,
        change: "Direct writes of parts of blocks do not exclude each other.",
        breaks: "Both write the whole block with the other's part as it was before.",
        source: "Linux 2032a8a27b5c, 0db24122bd7f; fstests generic/538.",
    }
    StaleCachedMapping {
        name: "stale-cached-mapping", family: DirectIo,
        change: "Writeback keeps the extent that it wrote to last, and does not look again.",
        breaks: "It writes to blocks that were freed, or replaced, meanwhile.",
        source: "Linux 304a68b9c63b, d7b64041164c; fstests generic/524.",
    }
    PostEofNotZeroed {
        name: "post-eof-not-zeroed", family: DirectIo,
        change: "A truncate to a greater size does not zero what lies behind the old end.",
        breaks: "What a mapping stored there becomes part of the file.",
        source: "Linux 869ae85dae64; fstests generic/469, generic/511, generic/363.",
    }
    DedupeSrcIolockShared {
        name: "dedupe-src-iolock-shared", family: Remap,
        change: "Dedupe locks the source as reads do, and its mapping side until both were \
            compared; direct writes within files exclude reads no more.",
        breaks: "The source is overwritten after the comparison, and the target shares that.",
        source: "Linux 5d888b481e6a; thread 002, litmus L3.4.",
    }
    DedupeDioWaitMissing {
        name: "dedupe-dio-wait-missing", family: Remap,
        change: "Direct writes within files give their locks back when submitted, and clone and \
            dedupe wait for none.",
        breaks: "What was compared is replaced before it is shared.",
        source: "Thread 002: d of the list; litmus L3.4.",
    }
    DedupeNoMappingRecheck {
        name: "dedupe-no-mapping-recheck", family: Remap,
        change: "Dedupe locks the source as reads do, finds its pages before it locks the mapping \
            side, and compares those that have left the cache since; direct writes within files \
            exclude reads no more.",
        breaks: "The comparison is of what was overwritten.",
        source: "Thread 002, litmus L3.2.",
    }
    DsyncBeforeDioEnd {
        name: "dsync-before-dio-end", family: Fsync,
        change: "An O_DSYNC direct write is made durable before it gives its locks back.",
        breaks: "Its fsync waits for these locks.",
        source: "Linux 1a31182edd00, de0ee0edb21f; litmus L1.6.",
    }
    DsyncOnCompletionWorker {
        name: "dsync-on-completion-worker", family: Fsync,
        change: "What O_DSYNC adds to a direct write runs on the completion worker.",
        breaks: "It waits for ordered extents that the same worker is to complete.",
        source: "Rule W-4 of races.md §7.",
    }
    EmBeforeOe {
        name: "em-before-oe", family: Fsync,
        change: "A write publishes its extent, then its ordered extent; fsync does not exclude it.",
        breaks: "fsync logs the extent as written without waiting for it: never-written blocks.",
        source: "Thread 000; Linux 0b901916a00b, de0ee0edb21f; race R1.1.",
    }
    FsyncCollectsOeBeforeEm {
        name: "fsync-collects-oe-before-em", family: Fsync,
        change: "fsync excludes no writer, and lists ordered extents once, before extents.",
        breaks: "A pair that is published in between is logged without being waited for.",
        source: "Linux de0ee0edb21f; litmus L1.10.",
    }
    OeLoggedBitSticky {
        name: "oe-logged-bit-sticky", family: Fsync,
        change: "Ordered extents are published first; an fsync that sees one marks it as logged.",
        breaks: "The next fsync skips it, and logs its extent without checksums.",
        source: "Race R1.3 of races.md §1, predicted; litmus L1.2.",
    }
    FsyncWaitsUnderDioSem {
        name: "fsync-waits-under-dio-sem", family: Fsync,
        change: "fsync waits for ordered extents with the lock held under which direct writes \
            publish each of theirs, to submit all of them together.",
        breaks: "They wait for each other.",
        source: "Linux 5f9a8a51d8b9 with f28a49287817; race R1.4, predicted; litmus L1.3.",
    }
    FastFsyncSkipsDioIoWait {
        name: "fast-fsync-skips-dio-io-wait", family: Fsync,
        change: "fsync waits for the writeback of pages only.",
        breaks: "It logs direct writes that are still on their way.",
        source: "Linux 487781796d30; race R1.7, predicted; litmus L1.7.",
    }
    AsyncCsumNotInLog {
        name: "async-csum-not-in-log", family: Fsync,
        change: "fsync copies the checksums of a write before they are computed.",
        breaks: "After a crash its blocks have none.",
        source: "fstests generic/757; Linux e917ff56c8e7.",
    }
    MmapWriteVsFsync {
        name: "mmap-write-vs-fsync", family: Fsync,
        change: "fsync does not lock the mapping side out.",
        breaks: "It logs an extent that writeback publishes meanwhile, before its data are there.",
        source: "The patch of 2021-02-23; litmus L1.4.",
    }
    FsyncSameFdPrivateFlag {
        name: "fsync-same-fd-private-flag", family: Fsync,
        change: "A direct write tells fsync through the open file that it holds the locks.",
        breaks: "fsync of another task through the same open file locks nothing.",
        source: "Linux cd9253c23aed.",
    }
    EbReadNoTreeRefRecheck {
        name: "eb-read-no-tree-ref-recheck", family: MetadataBuffer,
        change: "Lockless lookups, and a read that does not make sure of the cache's reference.",
        breaks: "Reclaim lets go of a buffer, whose last user then frees it while it is read.",
        source: "Linux 6bf9cd2eed9a; thread 001.",
    }
    EbDirtyCheckBeforeBit {
        name: "eb-dirty-check-before-bit", family: MetadataBuffer,
        change: "The cache's reference is looked at, without a lock, before the dirty bit is set.",
        breaks: "Reclaim lets go of the buffer in between; its change is lost with the last user.",
        source: "Step SD1 before SD2 in races.md §2.",
    }
    EbDirtyBitBeforeCheck {
        name: "eb-dirty-bit-before-check", family: MetadataBuffer,
        change: "The dirty bit is set first, and the cache's reference looked at without a lock.",
        breaks: "As with the other order: reclaim had looked for the bit before it was set.",
        source: "Litmus L2.3 of races.md §2.",
    }
    EbReleaseIgnoresDirty {
        name: "eb-release-ignores-dirty", family: MetadataBuffer,
        change: "Reclaim looks at pages under IO and at writeback only.",
        breaks: "A change that was not written is gone.",
        source: "Invariant I3 of races.md §2; thread 001.",
    }
    EbReleaseCheckThenClearUnlocked {
        name: "eb-release-check-then-clear-unlocked", family: MetadataBuffer,
        change: "Reclaim gives the lock back between looking at a buffer and letting go of it.",
        breaks: "A buffer that was taken into use in between loses the cache's reference.",
        source: "Linux 594831c4b232; thread 001.",
    }
    EbDirtyToWritebackGap {
        name: "eb-dirty-to-writeback-gap", family: MetadataBuffer,
        change: "Writeback takes its reference without a lock, and swaps its bits in two steps.",
        breaks: "Reclaim finds neither bit and lets go of the buffer, which is freed under IO.",
        source: "Thread 001: the gap against which the disputed hunk guards.",
    }
    EbWritebackClearedBeforeIoPages {
        name: "eb-writeback-cleared-before-io-pages", family: MetadataBuffer,
        change: "Writeback counts as over when the first page ends, not the last.",
        breaks: "The next write sets the count of pages, and the late end is counted as its own.",
        source: "Thread 001.",
    }
    EbDoubleRead {
        name: "eb-double-read", family: MetadataBuffer,
        change: "Who has waited for the pages does not look again whether there is a need to read.",
        breaks: "A buffer is read a second time, upon content that is in use or was changed.",
        source: "Linux ef1e68236b91.",
    }
    EbStaleFreeRace {
        name: "eb-stale-free-race", family: MetadataBuffer,
        change: "A lockless lookup does not wait for whoever frees a stale buffer.",
        breaks: "The finder takes the cache's reference for granted, which the freer takes away.",
        source: "Step FE3 in races.md §2; Linux 594831c4b232.",
    }
    EbAttachPrivateUnlocked {
        name: "eb-attach-private-unlocked", family: MetadataBuffer,
        change: "A page becomes a buffer's without the lock under which another lets go of it.",
        breaks: "The page of the new buffer belongs to none.",
        source: "Linux f3a5367c679d.",
    }
    EbWriteErrorEvicted {
        name: "eb-write-error-evicted", family: MetadataBuffer,
        change: "A failed write is noted in its buffer only.",
        breaks: "With the buffer reclaimed, a commit succeeds without what could not be written.",
        source: "Linux 656f30dba7ab.",
    }
    EbLookupZeroRef {
        name: "eb-lookup-zero-ref", family: MetadataBuffer,
        change: "A lookup takes a reference also where there is none any more.",
        breaks: "The finder uses a buffer that is being freed.",
        source: "Linux ee10f6fcdb96, in XFS.",
    }
    EbNoRefsLock {
        name: "eb-no-refs-lock", family: MetadataBuffer,
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
    ExtendingDioVsBufferedRead {
        name: "extending-dio-vs-buffered-read", family: DirectIo,
        change: "Reads lock nothing of the last block and look at the size once they have filled \
            it; direct writes that extend a file keep fills out only until pages are evicted.",
        breaks: "A page that came between eviction and size shows zeros where the write put data.",
        source: "The threads of January 2021 and of 2023 on i_size and the page cache.",
    }
    OrderedNotTruncatedPastIsize {
        name: "ordered-not-truncated-past-isize", family: DirectIo,
        change: "Writeback leaves pages out that a truncate put behind the end meanwhile, and \
            their ordered extent stays as long as it was.",
        breaks: "It ends with blocks that were never written, or whoever waits for them hangs.",
        source: "Linux 18de34daa7c6.",
    }
    DioGupWaitsOwnOe {
        name: "dio-gup-waits-own-oe", family: PunchFault,
        change: "A direct write publishes its range before it copies memory, and submits it after.",
        breaks: "A fault of memory that is a mapping of the range waits for that very write.",
        source: "Linux 51bd9563b678; thread 004.",
    }
    FaultAroundUnlocked {
        name: "fault-around-unlocked", family: PunchFault,
        change: "A read fault maps the pages near it without the mapping lock, or theirs.",
        breaks: "An entry outlives its page, and goes on to show what was there.",
        source: "\"xfs: use MMAPLOCK around filemap_map_pages()\" of 2020; litmus L5.5.",
    }
    TruncateSizeLast {
        name: "truncate-size-last", family: PunchFault,
        change: "Truncation locks no mapping side out, and lowers the size after the eviction.",
        breaks: "A fault brings a page back that lies behind the end then, and is seen again.",
        source: "Litmus L5.2 of races.md §5.",
    }
    FsyncWaitsOwnPairsOnly {
        name: "fsync-waits-own-pairs-only", family: Fsync,
        change: "fsync of pairs in flight (fsync=p1) waits for those of its own file.",
        breaks: "It publishes a log tree that names another file's data, before these are there.",
        source: "Rule B-1 of races.md §7.3, predicted.",
    }
}
