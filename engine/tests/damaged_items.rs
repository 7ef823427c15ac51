//! Items that contradict the image behind correct hashes: whoever meets one says which structure is
//! damaged and in which block, and nothing panics or loops.

mod crash_support;

use crash_support::bench::{Bench, sources};
use crash_support::change::{Change, F, build};
use engine::defects::Defects;
use engine::error::{Error, Result};
use engine::options::{ImageOptions, MountOptions};
use engine::store::items::FileKind;
use engine::store::{ExtentItem, ExtentKind, InodeItem, Key, OrphanItem, RefsItem, Tree};
use engine::types::{BLOCK_BYTES, Ino};
use engine::{Fs, Sync};
use machine::Task;
use machine::choosers::RoundRobin;

/// Mounts, reads, writes, makes durable and deletes what is there, until an error.
fn use_it(task: &Task) -> Result<()> {
    let fs = Fs::mount(task, &MountOptions::default(), Defects::NONE)?;
    let used = use_files(task, &fs);
    let ended = fs.unmount(task);
    used.and(ended)
}

fn use_files(task: &Task, fs: &Fs) -> Result<()> {
    let file = fs.create(task, "new")?;
    file.write(task, 0, &[1; 5000], Sync::None)?;
    file.fsync(task)?;
    for name in fs.list(task)? {
        let file = fs.open(task, &name)?;
        file.read(task, 0, &mut [0; 8192])?;
        file.write(task, 100, &[1; 5000], Sync::None)?;
        file.fsync(task)?;
        drop(file);
        fs.unlink(task, &name)?;
    }
    Ok(())
}

/// The use of a changed image ends with the error `wanted`, which names a block of the device.
#[track_caller]
fn damaged(wanted: &str, change: fn(&Change<'_>)) {
    for leaf in [0, 4] {
        let image = ImageOptions { leaf, ..ImageOptions::default() };
        let media = Bench::media(&image);
        let bench = Bench::on(sources(&media), Box::new(RoundRobin));
        bench.run(move |task| build(task, change)).expect("it is built");
        assert!(bench.run(engine::check).is_ok_and(|report| !report.is_clean()), "a check says so");
        let found = match bench.run(use_it).expect_err(wanted) {
            Error::Corrupt { structure, block, what } => {
                assert!((2..image.blocks).contains(&block), "{structure} at {block}: {what}");
                format!("{structure}: {what}")
            }
            other => other.to_string(),
        };
        assert_eq!(found, wanted, "leaf {leaf}");
    }
}

fn extent(it: &Change<'_>, offset: u64, kind: ExtentKind, block: u64, len_blocks: u64) {
    let item = ExtentItem { kind, block, len_blocks, generation: 1 };
    it.put(Tree::Fs, ExtentItem::key(F, offset), &item.encode());
}

/// Blocks that the device does not have were looked at one by one, for years, where such an extent
/// was read, overwritten or dropped.
#[test]
fn an_extent_ends_beyond_the_device() {
    use ExtentKind::{Unwritten, Written};
    let wanted = "file extent: it ends beyond the device";
    damaged(wanted, |it| extent(it, 0, Written, 9, u64::MAX >> 12));
    damaged(wanted, |it| extent(it, 0, Unwritten, 9, u64::MAX >> 12));
    damaged(wanted, |it| extent(it, 8192, Written, 9, u64::MAX >> 13));
    damaged(wanted, |it| extent(it, 8192, Written, 250, 7));
    damaged(wanted, |it| extent(it, 8192, Unwritten, u64::MAX - 9, 2));
}

#[test]
fn an_extent_lies_where_no_file_has_one() {
    let wanted = "file extent: it lies at an impossible place of the file";
    damaged(wanted, |it| extent(it, 8193, ExtentKind::Written, 9, 1));
    const LAST: u64 = (u64::MAX / BLOCK_BYTES - 1) * BLOCK_BYTES;
    damaged(wanted, |it| extent(it, LAST, ExtentKind::Unwritten, 9, 2));
    let wanted = "file extent: it overlaps the one before";
    damaged(wanted, |it| extent(it, 4096, ExtentKind::Written, 9, 1));
}

/// The allocator gave its blocks to tree nodes that were not written yet, and the end of the extent
/// took them away again.
#[test]
fn an_extent_names_blocks_that_are_free() {
    damaged("tree node: a file extent names its block", |it| {
        let is_free = |block: &u64| !it.store.is_allocated(it.task, *block).unwrap();
        let first = (it.data.end()..it.store.blocks()).find(is_free).unwrap();
        extent(it, 8192, ExtentKind::Written, first, 1);
    });
}

#[test]
fn a_reference_record_ends_beyond_the_device() {
    damaged("reference record: a run that ends beyond the device", |it| {
        let item = RefsItem { len_blocks: u64::MAX - it.data.block, count: 2 };
        it.put(Tree::Refs, RefsItem::key(it.data.block), &item.encode());
    });
}

#[test]
fn an_inode_says_what_cannot_be() {
    fn inode(it: &Change<'_>, mode: u32, nlink: u32, size: u64) {
        let item = InodeItem { mode, nlink, size, ..InodeItem::default() };
        it.put(Tree::Fs, InodeItem::key(F), &item.encode());
    }
    damaged("inode: an inode of an impossible size", |it| inode(it, 0o100_644, 1, u64::MAX - 9));
    damaged("inode: an inode of an unknown kind", |it| inode(it, 0o010_644, 1, 9));
    damaged("directory item: a name leads to an inode that is no file", |it| {
        inode(it, 0o040_755, 1, 9);
    });
    damaged("directory item: a name leads to an inode that does not count one link", |it| {
        inode(it, 0o100_644, 3, 9);
    });
    damaged("inode: an inode item of a wrong length", |it| {
        it.put(Tree::Fs, InodeItem::key(F), b"short");
    });
}

#[test]
fn a_name_leads_where_no_file_is() {
    let wanted = "directory item: a name leads to no inode";
    damaged(wanted, |it| it.name("a", Ino(99), FileKind::Regular));
    let wanted = "directory item: a damaged directory entry";
    damaged(wanted, |it| it.name("a", Ino(u64::MAX), FileKind::Regular));
}

/// Two inodes in memory would have one number.
#[test]
fn the_number_of_the_next_inode_is_taken() {
    damaged("inode: its number was to be given to a new one", |it| it.inode(Ino(17), 1, 0));
}

#[test]
fn an_orphan_record_says_what_cannot_be() {
    fn orphan(it: &Change<'_>, ino: Ino, item: OrphanItem) {
        it.put(Tree::Fs, OrphanItem::key(ino), &item.encode());
    }
    damaged("orphan record: a truncate to an impossible size", |it| {
        orphan(it, F, OrphanItem::Truncate { size: u64::MAX });
    });
    damaged("orphan record: it has no inode", |it| orphan(it, Ino(99), OrphanItem::Delete));
    damaged("orphan record: its inode is to be deleted and has a name", |it| {
        orphan(it, F, OrphanItem::Delete);
    });
    damaged("orphan record: no inode has its number", |it| {
        it.inode(Ino(u64::MAX), 0, 0);
        orphan(it, Ino(u64::MAX), OrphanItem::Delete);
    });
    damaged("orphan record: an orphan item of a wrong length", |it| {
        it.put(Tree::Fs, Key { offset: 5, ..OrphanItem::key(F) }, b"short");
    });
}

#[test]
fn two_extents_share_blocks_and_no_record_says_so() {
    damaged("free-space map: a block is freed twice", |it| {
        extent(it, 8192, ExtentKind::Unwritten, it.data.block, 1);
    });
}
