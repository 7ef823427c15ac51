//! The smallest program that is known for each defect, to measure minimizing by.
//!
//! They are the "minimal program" column of the dossier of the races (§6), with what it leaves
//! unsaid: files are created, mappings made of what is there, nodes that are let go of were read,
//! and a setup of its own ends with `sync`. Operations are separated by `;`, the setup from the
//! tasks and these from each other by `|`. Nothing that generates, executes or minimizes programs
//! reads this table; it must never be used to find anything.

/// How large a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Concurrent tasks; a sequence is one.
    pub tasks: usize,
    /// Operations, those of the setup included.
    pub operations: usize,
}

/// The size of the smallest program known for a defect.
pub fn smallest(defect: &str) -> Option<Size> {
    let (_, program) = SMALLEST.iter().find(|(name, _)| *name == defect)?;
    let parts = program.split('|').count();
    let operations = program.split(['|', ';']).filter(|it| !it.trim().is_empty()).count();
    Some(Size { tasks: (parts - 1).max(1), operations })
}

#[rustfmt::skip]
const SMALLEST: &[(&str, &str)] = &[
    // Family fsync.
    ("em-before-oe", "create f; falloc f; sync | dwrite f | fsync f"),
    ("fsync-collects-oe-before-em", "create f | dwrite f | fsync f"),
    ("oe-logged-bit-sticky", "create f | dwrite f | fsync f; fsync f"),
    ("fsync-waits-under-dio-sem", "create f; write f; write f; sync | dwrite f | fsync f"),
    ("dsync-before-dio-end", "create f; awrite f sync; reap"),
    ("fast-fsync-skips-dio-io-wait", "create f; write f; sync | awrite f | fsync f"),
    ("async-csum-not-in-log", "create f; write f; sync | awrite f | fsync f"),
    ("em-released-before-fast-fsync", "create f; write f; wb f; reclaim f; fsync f"),
    ("mmap-write-vs-fsync", "create f; mmap m f | store m; wb f | fsync f"),
    ("fsync-same-fd-private-flag", "create f | dwrite f | fsync f"),
    ("write-error-em-logged", "create f; write f; wb f; fsync f"),
    ("log-replay-drops-csums", "create f; write f; clone f f; sync; write f; fsync f"),
    ("hole-not-logged-no-holes", "create f; write f; sync; punch f; fsync f"),
    ("trailing-hole-not-logged", "create f; write f; sync; truncate f; truncate f; fsync f"),
    ("ranged-fsync-drops-others", "create f; write f; write f; fsyncrange f; fsync f"),
    ("clone-fsync-missing-em", "create f; create g; clone f g; fsync g"),
    ("clone-hole-not-logged", "create f; create g; write g; sync; clone f g; fsync g"),
    ("fsync-waits-own-pairs-only", "create f; create g | dwrite f; fsync f | dwrite g; fsync g"),
    ("dsync-on-completion-worker", "create f | awrite f sync | awrite f"),
    // Family metadata-buffer.
    ("eb-read-no-tree-ref-recheck", "| node readahead | node reclaim"),
    ("eb-dirty-check-before-bit", "node read | node modify | node reclaim"),
    ("eb-dirty-bit-before-check", "node read | node modify | node reclaim"),
    ("eb-release-ignores-dirty", "node modify; node reclaim; commit"),
    ("eb-release-check-then-clear-unlocked", "node read | node modify | node reclaim"),
    ("eb-dirty-to-writeback-gap", "node modify | node write | node reclaim"),
    ("eb-writeback-cleared-before-io-pages",
        "| node modify; node write | node modify; node write"),
    ("eb-double-read", "| node read | node read"),
    ("eb-stale-free-race", "| node new | node read"),
    ("eb-attach-private-unlocked", "| node read | node read | node reclaim"),
    ("eb-write-error-evicted", "node modify; node write; node reclaim; commit"),
    ("eb-lookup-zero-ref", "node read | node read | node reclaim"),
    ("eb-no-refs-lock", "node read | node modify | node reclaim"),
    // Family remap.
    ("dedupe-page-lock-order", "create f; create g; sync | dedupe f g | dedupe g f"),
    ("dedupe-src-iolock-shared",
        "create f; write f; create g; write g; sync | dedupe f g | dwrite f"),
    ("dedupe-src-mmaplock-shared",
        "create f; write f; create g; write g; mmap m f; load m; sync \
         | dedupe f g | store m; wb f"),
    ("dedupe-dst-mmap-unlocked",
        "create f; write f; create g; write g; mmap m g; sync | dedupe f g | store m"),
    ("dedupe-flush-before-mmaplock",
        "create f; write f; create g; write g; mmap m g; sync | dedupe f g | store m"),
    ("dedupe-dio-wait-missing",
        "create f; write f; create g; write g; sync | awrite f | dedupe f g"),
    ("dedupe-no-mapping-recheck",
        "create f; write f; create g; write g; sync | dedupe f g | dwrite f"),
    ("dedupe-eof-tail-unaligned", "create f; write f; create g; write g; sync; dedupe f g"),
    ("remap-dst-pagecache-stale",
        "create f; write f; create g; write g; sync; read g | clone f g | read g; read g"),
    ("remap-fill-takes-invalidate-lock",
        "create f; write f; create g; write g; sync; reclaim f; dedupe f g"),
    ("reflink-writeback-in-place", "create f; create g; sync | write f; wb f | clone f g"),
    ("clone-beyond-eof-gap-not-zeroed",
        "create f; write f; create g; falloc g; clone f g; read g"),
    ("clone-lost-isize", "create f; write f; create g; clone f g; fsync g"),
    ("remap-reserve-under-range-lock",
        "create f; write f; create g; mmap m g; sync; store m; clone f g"),
    ("two-inode-lock-order-mixed", "create f; create g; sync | clone f g | clone g f"),
    ("remap-layout-not-rechecked",
        "create f; create g; write f; sync | layout f; lwrite f | clone f g"),
    ("remap-source-layout-unbroken",
        "create f; create g; write f; sync | layout f; lwrite f | clone f g"),
    // Family direct-io.
    ("writeback-alloc-written", "create f; truncate f; mmap m f; sync | dread f | store m; wb f"),
    ("mkwrite-alloc-written", "create f; truncate f; mmap m f; sync | dread f | store m"),
    ("alloc-written-crash", "create f; write f; wb f; commit"),
    ("dio-count-after-flush", "create f; truncate f; mmap m f; sync | dread f | store m"),
    ("dio-count-checked-before-page-lock",
        "create f; truncate f; mmap m f; sync | dread f | store m | wb f"),
    ("mkwrite-count-check-before-dirty",
        "create f; truncate f; mmap m f; sync | dread f | store m"),
    ("dio-completes-before-conversion", "create f; falloc f; sync; awrite f sync; reap; dread f"),
    ("isize-before-dio-complete", "create f | awrite f | read f"),
    ("osync-dio-isize-after-sync", "create f; dwrite f sync"),
    ("dio-read-block-freed-realloc",
        "create f; create g; write f; sync | dread f | write f; wb f; commit; write g; wb g"),
    ("dio-write-no-post-invalidate", "create f; write f; sync | dwrite f | read f; read f"),
    ("dio-invalidate-failure-ignored", "create f; truncate f; mmap m f; sync | dwrite f | store m"),
    ("dio-fallback-no-flush", "create f; dwrite f sync"),
    ("unaligned-dio-zero-race", "create f; truncate f; sync | awrite f | awrite f"),
    ("stale-cached-mapping", "create f; write f; sync | write f | wb f; reclaim f; punch f"),
    ("post-eof-not-zeroed", "create f; write f; mmap m f; store m; truncate f; read f"),
    ("extending-dio-vs-buffered-read", "create f | dwrite f | read f; read f"),
    ("ordered-not-truncated-past-isize", "create f; write f | truncate f | wb f"),
    // Family punch-fault.
    ("truncate-size-last", "create f; write f; mmap m f; sync | truncate f | store m"),
    ("fault-around-unlocked",
        "create f; write f; mmap m f; load m; sync | punch f | load m; load m"),
    ("dio-gup-waits-own-oe", "create f; write f; mmap m f; dwrite f from m"),
    ("punch-no-invalidate-lock",
        "create f; write f; create g; mmap m f; sync | punch f | store m; write g; wb g; wb f"),
    ("punch-unlock-before-extent-free",
        "create f; write f; create g; mmap m f; sync | punch f | store m; write g; wb g; wb f"),
    ("mkwrite-only-lock", "create f; write f; mmap m f; sync | punch f | load m; store m"),
    ("mkwrite-no-invalidate-lock", "create f; write f; mmap m f; sync | punch f | store m"),
    ("mkwrite-skips-mapping-recheck",
        "create f; write f; mmap m f; load m; sync | punch f | store m"),
    ("read-fill-unlocked", "create f; write f; sync | punch f | read f; read f"),
    ("readahead-unlocked", "create f; write f; sync | punch f | readahead f; read f"),
    ("mkwrite-takes-iolock", "create f; mmap m f; write f from m"),
    ("mkwrite-retry-unbounded", "create f; mmap m f; write f from m"),
    ("read-holds-invalidate-over-copy",
        "create f; write f; mmap m f; sync | read f | load m | punch f"),
    ("dio-gup-under-range-lock", "create f; write f; mmap m f; dread f into m"),
    ("dio-two-file-abba",
        "create f; create g; mmap m f; mmap n g; sync | dread f into n | dread g into m"),
    ("dio-retry-no-progress-bound", "create f; write f; mmap m f; dwrite f from m"),
    ("dio-partial-oe-not-split", "create f; write f; mmap m f; load m; dwrite f from m"),
    ("dio-append-pos-stale", "create f; create g; mmap m g | append f from m | append f"),
    ("zero-range-partial-stale",
        "create f; write f; mmap m f; sync; store m | zero f | store m; read f"),
    ("punch-delalloc-neighbour-stale", "create f; write f; punch f; wb f; read f"),
    ("punch-vs-writeback-race", "create f; create g; sync | write f; wb f | punch f; write g"),
    ("fault-holds-page-then-ml", "create f; write f; mmap m f; sync | punch f | load m"),
    ("populate-retry-hang", "create f; write f; mmap m f; sync; reclaim f; load m"),
    // Family durability.
    ("super-no-preflush", "create f; write f; fsync f"),
    ("super-no-fua", "create f; write f; fsync f"),
    ("super-before-log-blocks", "create f; write f; fsync f"),
    ("log-root-before-log-tree",
        "create f; create g; write f; write g | fsync f | fsync g"),
    ("fsync-elides-flush", "create f; write f; sync; dwrite f; fsync f"),
    ("flush-before-tail-sample", "create f | write f; fsync f | wb f"),
    ("data-flush-missing-multidev", "create f; write f; fsync f"),
    ("freed-extent-reused-before-commit",
        "create f; write f; create g; sync; punch f; write g; wb g"),
    ("discard-before-commit", "create f; write f; sync; unlink f"),
    ("fsync-error-reported-once-lost", "create f; write f; wb f | fsync f | fsync f"),
    ("journal-super-race", "create f | commit | fsync f"),
    ("torn-super-no-checksum", "create f; commit"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use engine::defects::Defect;

    #[test]
    fn every_line_names_a_defect() {
        for (name, program) in SMALLEST {
            assert!(Defect::by_name(name).is_ok(), "{name}");
            assert!(smallest(name).is_some_and(|size| size.operations > 1), "{program}");
        }
    }

    #[test]
    fn a_sequence_is_one_task() {
        assert_eq!(smallest("super-no-fua"), Some(Size { tasks: 1, operations: 3 }));
        assert_eq!(smallest("journal-super-race"), Some(Size { tasks: 2, operations: 3 }));
        assert_eq!(smallest("eb-double-read"), Some(Size { tasks: 2, operations: 2 }));
    }
}
