//! What comes into the cache before somebody asks for it, and what goes past the cache.

mod core_support;

use core_support::Rig;
use engine::error::{Errno, Error};
use engine::options::{ImageOptions, MountOptions};
use engine::{Fs, Mapping, Span, Sync};
use machine::Task;

const BLOCK: u64 = 4096;

fn block_of(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK as usize]
}

/// A file of four blocks, of which nothing is cached.
fn cold_file(task: &Task, fs: &Fs) -> engine::Result<engine::File> {
    let file = fs.create(task, "f")?;
    for byte in 0..4 {
        file.write(task, u64::from(byte) * BLOCK, &block_of(byte + 1), Sync::None)?;
    }
    fs.sync(task)?;
    file.reclaim(task)?;
    Ok(file)
}

fn entries(mapping: &Mapping) -> Vec<u64> {
    let mut found = Vec::new();
    let inode = mapping.file().inode();
    inode.mappings.borrow()[0].for_each_entry(|page, _| found.push(page.index()));
    found
}

#[test]
fn a_read_that_misses_begins_to_read_what_follows() {
    let rig = Rig::new(&ImageOptions::default());
    let fs = rig.mount(&MountOptions { readahead: 2, ..MountOptions::default() });
    let run = fs.clone();
    rig.run(move |task| {
        let file = cold_file(task, &run)?;
        let mut target = block_of(0);
        file.read(task, 0, &mut target)?;
        assert_eq!(target, block_of(1));
        assert_eq!(file.inode().pages.len(), 3, "the block and two behind it");
        // Whoever wants a page that is on its way waits for it.
        file.read(task, 2 * BLOCK, &mut target)?;
        assert_eq!(target, block_of(3));
        file.advise_readahead(task, Span::of(0, 9 * BLOCK)?)?;
        assert_eq!(file.inode().pages.len(), 4, "not behind the end of the file");
        file.punch(task, Span::of(3 * BLOCK, BLOCK)?)?;
        file.read(task, 3 * BLOCK, &mut target)?;
        assert_eq!(target, block_of(0), "what was on its way is waited for, and goes");
        Ok(())
    })
    .unwrap();
    rig.unmount(fs);
}

#[test]
fn a_read_fault_maps_what_is_there_around_it() {
    let rig = Rig::new(&ImageOptions::default());
    let fs = rig.mount(&MountOptions { faultaround: 4, ..MountOptions::default() });
    let run = fs.clone();
    rig.run(move |task| {
        let file = cold_file(task, &run)?;
        let mapping = file.mmap(task, 0, 3 * BLOCK)?;
        let mut target = block_of(0);
        file.read(task, 2 * BLOCK, &mut target)?;
        file.read(task, 3 * BLOCK, &mut target)?;
        run.load(task, &mapping, 0, &mut target[..8])?;
        assert_eq!(entries(&mapping), [0, 2], "not what is missing, nor what is not mapped");
        run.munmap(task, &mapping)
    })
    .unwrap();
    rig.unmount(fs);
}

#[test]
fn whatever_changes_a_file_recalls_its_layouts() {
    let image = ImageOptions { datasum: false, datacow: false, ..ImageOptions::default() };
    let rig = Rig::new(&image);
    let fs = rig.mount(&MountOptions::default());
    let run = fs.clone();
    rig.run(move |task| {
        let file = cold_file(task, &run)?;
        file.punch(task, Span::of(3 * BLOCK, BLOCK)?)?;
        let refused = |result: engine::Result<usize>, errno| {
            assert!(matches!(result, Err(Error::Refused(found)) if found == errno), "{result:?}");
        };
        let hole = file.grant_layout(task, Span::of(2 * BLOCK, 2 * BLOCK)?);
        refused(hole.map(|()| 0), Errno::EAGAIN);
        refused(file.layout_write(task, 0, &block_of(9)), Errno::EAGAIN);

        file.fallocate(task, Span::of(3 * BLOCK, BLOCK)?, true)?;
        file.grant_layout(task, Span::of(BLOCK, 3 * BLOCK)?)?;
        refused(file.layout_write(task, BLOCK, &[0; 512]), Errno::EINVAL);
        refused(file.layout_write(task, 0, &block_of(9)), Errno::EAGAIN);
        let mut target = block_of(0);
        for index in [1, 3] {
            file.read(task, index * BLOCK, &mut target)?;
            file.layout_write(task, index * BLOCK, &block_of(9))?;
            file.read(task, index * BLOCK, &mut target)?;
            assert_eq!(target, block_of(9), "a cached page and an unwritten block");
        }

        file.write(task, 0, &block_of(7), Sync::None)?;
        refused(file.layout_write(task, BLOCK, &block_of(8)), Errno::EAGAIN);
        let mapping = file.mmap(task, 0, BLOCK)?;
        file.grant_layout(task, Span::of(0, BLOCK)?)?;
        run.store_bytes(task, &mapping, 0, &[1])?;
        refused(file.layout_write(task, 0, &block_of(8)), Errno::EAGAIN);
        run.munmap(task, &mapping)
    })
    .unwrap();
    rig.unmount(fs);
}

#[test]
fn files_with_checksums_or_copy_on_write_have_no_layouts() {
    for image in [ImageOptions::default(), ImageOptions { datasum: false, ..Default::default() }] {
        let rig = Rig::new(&image);
        let fs = rig.mount(&MountOptions::default());
        let run = fs.clone();
        rig.run(move |task| {
            let file = cold_file(task, &run)?;
            let refused = file.grant_layout(task, Span::of(0, BLOCK)?);
            assert!(matches!(refused, Err(Error::Refused(Errno::EOPNOTSUPP))), "{refused:?}");
            Ok(())
        })
        .unwrap();
        rig.unmount(fs);
    }
}
