//! The steps as sites, in the order of races.md §2.a.1.
//!
//! Promises: names are stable, since recorded schedules count them. A step precedes what it names.

use machine::Site;

macro_rules! steps {
    ($($name:ident $site:literal $doc:literal;)*) => {
        $(#[doc = $doc] pub(super) static $name: Site = Site::new($site);)*

        /// The names of all of them.
        pub(crate) const SITES: &[&str] = &[$($site),*];
    };
}

steps! {
    FE1 "eb.find.lookup" "Look into the index; the memory of what is found stays (RCU).";
    FE2 "eb.find.inc" "Take a reference, unless there is none any more.";
    FE3 "eb.find.stale" "Wait out who frees a stale buffer.";
    FE4 "eb.find.kept" "Look whether the cache has its reference.";
    FE5 "eb.find.keep" "Give the cache its reference.";
    A2 "eb.alloc.new" "A buffer of the caller's own.";
    A3 "eb.alloc.attach" "A page becomes the buffer's.";
    A4 "eb.alloc.insert" "The index leads to it, unless it leads to another.";
    RE1 "eb.read.uptodate" "Nothing to do?";
    RE3 "eb.read.recheck" "Still something to do (E-4)?";
    RE4 "eb.read.start" "All pages are under IO.";
    RE4B "eb.read.keep" "Make sure of the cache's reference.";
    FR1 "eb.free.cas" "Give back one of many references.";
    FR3A "eb.free.stale" "Is this the last user of a stale buffer?";
    FR3B "eb.free.drop-tree" "The cache's reference goes along.";
    FR4 "eb.free.dec" "Give the reference back.";
    FR5A "eb.free.remove" "The index does not lead to it any more.";
    FR5B "eb.free.page" "Is the page still the buffer's?";
    FR5C "eb.free.detach" "The page belongs to none.";
    RL1 "eb.release.private" "The buffer of the page.";
    RL3A "eb.release.refs" "Does anybody but the cache refer to it?";
    RL3B "eb.release.io" "Are pages under IO?";
    RL3C "eb.release.writeback" "Is it under writeback?";
    RL3D "eb.release.dirty" "Is it dirty?";
    RL5 "eb.release.clear" "The cache's reference is this task's.";
    RL6 "eb.release.dec" "Give it back.";
    SD1 "eb.dirty.keep" "Make sure of the cache's reference.";
    SD2 "eb.dirty.set" "Its content is newer than the medium.";
    SD3 "eb.dirty.tag" "Tag its pages as dirty.";
    WE0 "eb.write.next" "The next block with the tag.";
    WE1 "eb.write.inc" "Take a reference, unless there is none any more.";
    WE2 "eb.write.look" "Is there something to write?";
    WE4 "eb.write.swap" "From dirty to under writeback.";
    WE4B "eb.write.swap-second" "The second half of the swap, where it is in two.";
    WE4C "eb.write.untag" "Its pages are dirty no more.";
    WE7 "eb.write.start" "All pages are under IO.";
    WE7B "eb.write.keep" "Make sure of the cache's reference, where the hunk is in.";
    FILL "eb.modify" "Change the content.";
    CLEAN "eb.clean" "Its content is not wanted any more.";
    STALE "eb.stale" "Its block was given up.";
    FRESH "eb.fresh" "Its block is in use again.";
    CONTENT "eb.content" "Look at the content.";
}
