//! The full check: a good image is clean, each inconsistency is found under its name, and damage of
//! any block is found and never a panic.

mod crash_support;

use crash_support::bench::{Bench, sources};
use crash_support::change::{Change, F, build};
use engine::check::{CheckReport, ProblemKind as P, check};
use engine::error::Result;
use engine::options::ImageOptions;
use engine::store::items::{DirEntry, DirItem, FileKind, csum_key};
use engine::store::{ExtentItem, InodeItem, OrphanItem, Tree};
use engine::types::{Ino, Run};
use machine::Block;
use machine::choosers::RoundRobin;

/// A consistent image with one file, changed by `change`, and checked.
fn checked(image: ImageOptions, change: fn(&Change<'_>)) -> CheckReport {
    let media = Bench::media(&image);
    let bench = Bench::on(sources(&media), Box::new(RoundRobin));
    bench.run(move |task| build(task, change)).expect("it is built");
    bench.run(check).expect("it can be checked")
}

fn kinds(change: fn(&Change<'_>)) -> Vec<P> {
    let image = ImageOptions { leaf: 4, ..ImageOptions::default() };
    let report = checked(image, change);
    let mut kinds: Vec<P> = report.problems.iter().map(|problem| problem.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_consistent_image_is_clean_whatever_its_options() {
    for leaf in [0, 4, 7] {
        for (logdev, log_trees, blocks) in [(false, 1, 64), (true, 2, 256), (false, 4, 70_000)] {
            let poison = blocks < 1000;
            let image = ImageOptions {
                leaf,
                logdev,
                log_trees,
                blocks,
                poison,
                datasum: poison,
                ..ImageOptions::default()
            };
            let report = checked(image, |it| {
                if !it.store.superblock().image.datasum {
                    it.inode(F, 1, InodeItem::NODATASUM);
                    it.delete(Tree::Csum, csum_key(it.data.block));
                    it.delete(Tree::Csum, csum_key(it.data.block + 1));
                }
            });
            assert_eq!(report.problems, [], "leaf {leaf}, {blocks} blocks");
            assert_eq!(report.inodes, 2);
            assert!(report.used_blocks > 6 && report.used_blocks < 20, "{}", report.used_blocks);
        }
    }
}

#[test]
fn checksums_are_exactly_those_of_written_blocks() {
    assert_eq!(kinds(|it| it.delete(Tree::Csum, csum_key(it.data.block))), [P::CsumMissing]);
    assert_eq!(
        kinds(|it| it.put(Tree::Csum, csum_key(it.data.block), &[7; 32])),
        [P::CsumMismatch]
    );
    assert_eq!(kinds(|it| it.csum(it.data.block + 9)), [P::CsumExtra]);
    assert_eq!(
        kinds(|it| it.put(Tree::Csum, csum_key(it.data.block), &[7])),
        [P::ItemDamaged, P::CsumMissing]
    );
    assert_eq!(kinds(|it| it.inode(F, 1, InodeItem::NODATASUM)), [P::CsumExtra]);
    assert_eq!(kinds(|it| it.put(Tree::Csum, InodeItem::key(F), b"")), [P::ItemMisplaced]);
}

#[test]
fn names_and_inodes_agree() {
    assert_eq!(kinds(|it| it.delete(Tree::Fs, DirItem::key(Ino::ROOT, b"f"))), [P::InodeLost]);
    assert_eq!(kinds(|it| it.inode(F, 2, 0)), [P::InodeLinks]);
    assert_eq!(kinds(|it| it.name("g", Ino(17), FileKind::Regular)), [P::NameDangling]);
    assert_eq!(kinds(|it| it.name("f", F, FileKind::Directory)), [P::NameKind]);
    assert_eq!(kinds(|it| it.inode(Ino(17), 0, 0)), [P::InodeNumber, P::InodeLost]);
    assert_eq!(kinds(|it| it.delete(Tree::Fs, InodeItem::key(Ino::ROOT))), [P::DirectoryMissing]);
    let misplaced = |it: &Change<'_>| {
        let entry =
            DirEntry { ino: F, kind: FileKind::Regular, name: b"g".iter().copied().collect() };
        let item = DirItem { entries: [entry].into_iter().collect() };
        it.put(Tree::Fs, DirItem::key(Ino::ROOT, b"f"), &item.encode());
    };
    assert_eq!(kinds(misplaced), [P::NameMisplaced]);
}

#[test]
fn orphans_are_work_that_is_left() {
    assert_eq!(
        kinds(|it| it.put(Tree::Fs, OrphanItem::key(F), &OrphanItem::Delete.encode())),
        [P::OrphanLeft, P::OrphanNamed]
    );
    assert_eq!(
        kinds(|it| it.put(Tree::Fs, OrphanItem::key(Ino(9)), &OrphanItem::Delete.encode())),
        [P::OrphanLeft, P::OrphanDangling]
    );
    let unlinked = |it: &Change<'_>| {
        it.delete(Tree::Fs, DirItem::key(Ino::ROOT, b"f"));
        it.put(Tree::Fs, OrphanItem::key(F), &OrphanItem::Delete.encode());
        it.inode(F, 0, 0);
    };
    assert_eq!(kinds(unlinked), [P::OrphanLeft]);
}

#[test]
fn extents_lie_where_they_may() {
    let two = |it: &Change<'_>| {
        let run = it.allocate();
        it.csum(run.block);
        it.extent(F, 4096, run);
    };
    assert_eq!(kinds(two), [P::ExtentOverlap]);
    assert_eq!(kinds(|it| it.extent(F, 8192, Run::new(255, 2))), [P::ExtentBeyondDevice]);
    let unaligned = |it: &Change<'_>| {
        let run = it.allocate();
        it.csum(run.block);
        it.extent(F, 8193, run);
    };
    assert_eq!(kinds(unaligned), [P::ExtentUnaligned]);
    assert_eq!(kinds(|it| it.extent(Ino(15), 0, it.allocate())), [P::ExtentWithoutInode]);
    assert_eq!(kinds(|it| it.extent(Ino::ROOT, 0, it.allocate())), [P::ExtentWithoutInode]);
    assert_eq!(kinds(|it| it.put(Tree::Fs, ExtentItem::key(F, 8192), b"x")), [P::ItemDamaged]);
    assert_eq!(kinds(|it| it.put(Tree::Fs, csum_key(3), b"x")), [P::ItemMisplaced]);
}

#[test]
fn the_space_map_marks_exactly_what_is_reached() {
    assert_eq!(kinds(|it| _ = it.allocate()), [P::SpaceLeaked]);
    let unmarked = |it: &Change<'_>| {
        it.extent(F, 8192, Run::new(200, 1));
        it.csum(200);
    };
    assert_eq!(kinds(unmarked), [P::SpaceUnmarked]);
    let metadata = |it: &Change<'_>| {
        it.extent(F, 8192, Run::new(it.store.superblock().space.block, 1));
        it.inode(F, 1, InodeItem::NODATASUM);
        it.delete(Tree::Csum, csum_key(it.data.block));
        it.delete(Tree::Csum, csum_key(it.data.block + 1));
    };
    let found = kinds(metadata);
    assert!(found.contains(&P::DoubleUse) || found.contains(&P::SpaceUnmarked), "{found:?}");
}

#[test]
fn references_are_counted() {
    assert_eq!(kinds(|it| it.extent(F, 8192, it.data)), [P::RefsWrong]);
    assert_eq!(
        kinds(|it| it.store.share_data(it.task, it.handle, it.data).unwrap()),
        [P::RefsWrong]
    );
    let both = |it: &Change<'_>| {
        it.extent(F, 8192, it.data);
        it.store.share_data(it.task, it.handle, it.data).unwrap();
    };
    assert_eq!(kinds(both), []);
    let half = |it: &Change<'_>| {
        it.extent(F, 8192, Run::new(it.data.block + 1, 1));
        it.store.share_data(it.task, it.handle, it.data).unwrap();
    };
    assert_eq!(kinds(half), [P::RefsWrong]);
}

#[test]
fn damage_of_any_block_in_use_is_found() {
    for leaf in [0, 4] {
        let image = ImageOptions { leaf, blocks: 128, ..ImageOptions::default() };
        let media = Bench::media(&image);
        let bench = Bench::on(sources(&media), Box::new(RoundRobin));
        bench.run(|task| build(task, many_files)).expect("it is built");
        bench.settle(&media);
        let clean = Bench::on(sources(&media), Box::new(RoundRobin)).run(check).expect("readable");
        assert_eq!(clean.problems, []);
        let mut found = 0;
        for block in 0..128_u64 {
            let good = media[0].borrow().read(block);
            for (at, to) in
                [(0, 0xff), (5, 20), (6, 0xff), (40, 1), (100, 0xee), (500, 3), (4095, 9)]
            {
                let mut bytes = *good.bytes();
                if std::mem::replace(&mut bytes[at], to) == to {
                    continue;
                }
                media[0].borrow_mut().write(block, &Block::new(&bytes)).expect("a block");
                let report = Bench::on(sources(&media), Box::new(RoundRobin)).run(check);
                found += u64::from(report.is_err() || report.is_ok_and(|r| !r.is_clean()));
            }
            media[0].borrow_mut().write(block, &good).expect("a block");
        }
        // Seven places in each block in use; a superblock ends with its sector.
        let least = (clean.used_blocks - 2) * 6;
        assert!(found >= least, "{found} of {least} damages found");
    }
}

fn many_files(it: &Change<'_>) {
    for number in 0..9 {
        let ino = it.store.allocate_ino(it.handle);
        it.inode(ino, 1, 0);
        it.name(&format!("file {number}"), ino, FileKind::Regular);
        let run = it.allocate();
        it.extent(ino, 0, run);
        it.csum(run.block);
    }
}

#[test]
fn random_images_never_panic() {
    let image = ImageOptions { leaf: 4, blocks: 64, ..ImageOptions::default() };
    let media = Bench::media(&image);
    let mut seed = 7_u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..300 {
        let block = 2 + next(40);
        let mut bytes = *media[0].borrow().read(block).bytes();
        for _ in 0..1 + next(8) {
            bytes[next(4096) as usize] = next(256) as u8;
        }
        media[0].borrow_mut().write(block, &Block::new(&bytes)).expect("a block");
        let bench = Bench::on(sources(&media), Box::new(RoundRobin));
        // Whatever it says, it says it.
        let _report: Result<CheckReport> = bench.run(check);
    }
    media[0].borrow_mut().write(0, &Block::zero()).expect("a block");
    media[0].borrow_mut().write(1, &Block::zero()).expect("a block");
    let bench = Bench::on(sources(&media), Box::new(RoundRobin));
    assert!(bench.run(check).is_err(), "without a superblock there is nothing to check");
}
