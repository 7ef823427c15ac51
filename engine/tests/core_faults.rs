//! What paths do when the device fails a request or is full.

mod core_support;

use core_support::{Body, Rig};
use engine::defects::Defects;
use engine::error::{Errno, Error};
use engine::options::{ImageOptions, MountOptions};
use engine::{File, Fs, Span, Sync};
use machine::choosers::{Dice, Random};
use machine::disk::{Note, Op, Request, Rule};
use machine::{Block, DeviceId, Task};

const BLOCK: u64 = 4096;

/// Mounts without workers of their own accord, so that the first write is the one meant.
fn quiet() -> MountOptions {
    MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..MountOptions::default() }
}

/// Runs a test on a new image, which must be without a flaw at the end.
fn on_image(image: ImageOptions, body: impl FnOnce(&Task, &Fs) -> engine::Result<()> + 'static) {
    let rig = Rig::new(&image);
    let fs = rig.mount(&quiet());
    rig.run(move |task| {
        body(task, &fs)?;
        fs.assert_memory();
        fs.unmount(task)
    })
    .expect("the test runs to its end");
    let report = rig.run(engine::check).expect("the check reads everything");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

fn fail(task: &Task, op: Op, nth: u32) {
    task.machine().disk_mut().fail(Rule::nth(op, nth));
}

fn errno(result: engine::Result<()>) -> Option<Errno> {
    result.err().map(|error| error.errno())
}

/// The one byte that a block consists of.
fn content(task: &Task, file: &File, index: u64) -> engine::Result<Option<u8>> {
    let mut bytes = [0; BLOCK as usize];
    if file.read(task, index * BLOCK, &mut bytes)? == 0 {
        return Ok(None);
    }
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "block {index} is mixed");
    Ok(Some(bytes[0]))
}

#[test]
fn a_failed_writeback_is_reported_once_to_each_open_file() {
    on_image(ImageOptions::default(), |task, fs| {
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[1; BLOCK as usize], Sync::None)?;
        fs.sync(task)?;
        let other = fs.open(task, "f")?;
        file.write(task, 0, &[2; BLOCK as usize], Sync::None)?;
        fail(task, Op::Write, 1);
        assert_eq!(errno(file.writeback(task)), Some(Errno::EIO));
        assert_eq!(content(task, &file, 0)?, Some(2), "the page keeps what was written");
        assert_eq!(errno(file.fsync(task)), Some(Errno::EIO));
        assert_eq!(errno(file.fsync(task)), None);
        assert_eq!(errno(other.fsync(task)), Some(Errno::EIO));
        assert_eq!(errno(fs.open(task, "f")?.fsync(task)), None, "seen before it was opened");
        file.reclaim(task)?;
        assert_eq!(content(task, &file, 0)?, Some(1), "X-1: the file keeps its old block");
        Ok(())
    });
}

#[test]
fn a_failed_direct_write_changes_nothing() {
    on_image(ImageOptions::default(), |task, fs| {
        let file = fs.create(task, "f")?;
        file.direct_write(task, 0, &[1; BLOCK as usize], Sync::None)?;
        for offset in [0, BLOCK] {
            fail(task, Op::Write, 1);
            let written = file.direct_write(task, offset, &[2; BLOCK as usize], Sync::Data);
            assert_eq!(written.unwrap_err().errno(), Errno::EIO);
        }
        assert_eq!(content(task, &file, 0)?, Some(1));
        assert_eq!(file.inode().size(), BLOCK, "X-7: nothing to be read was added");
        Ok(())
    });
}

#[test]
fn pieces_behind_a_failed_one_are_given_up() {
    for (failed, size) in [(1, 0), (2, BLOCK)] {
        on_image(ImageOptions::default(), move |task, fs| {
            let file = fs.create(task, "f")?;
            // Two pieces: the first into the preallocated block, the second into new ones.
            file.fallocate(task, Span::new(0, BLOCK), true)?;
            fs.sync(task)?;
            fail(task, Op::Write, failed);
            let written = file.direct_write(task, 0, &[2; 3 * BLOCK as usize], Sync::None);
            assert_eq!(written.unwrap_err().errno(), Errno::EIO);
            assert_eq!(file.inode().size(), size, "up to the first failure");
            file.truncate(task, 3 * BLOCK)?;
            assert_eq!(content(task, &file, 2)?, Some(0), "nothing shows behind the old end");
            assert_eq!(content(task, &file, 0)?, Some(if size == 0 { 0 } else { 2 }));
            Ok(())
        });
    }
}

#[test]
fn a_failed_read_can_be_repeated() {
    on_image(ImageOptions::default(), |task, fs| {
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[3; BLOCK as usize], Sync::All)?;
        file.reclaim(task)?;
        let mapping = fs.mmap(task, &file, 0, BLOCK)?;
        fail(task, Op::Read, 1);
        assert_eq!(content(task, &file, 0).unwrap_err().errno(), Errno::EIO);
        fail(task, Op::Read, 1);
        assert_eq!(errno(fs.load(task, &mapping, 0, &mut [0])), Some(Errno::EIO));
        fail(task, Op::Read, 1);
        let mut bytes = [0; BLOCK as usize];
        assert_eq!(file.direct_read(task, 0, &mut bytes).unwrap_err().errno(), Errno::EIO);
        assert_eq!(file.direct_read(task, 0, &mut bytes)?, BLOCK as usize);
        assert_eq!((bytes[0], content(task, &file, 0)?), (3, Some(3)));
        Ok(())
    });
}

#[test]
fn damaged_data_are_an_error_that_names_the_block() {
    on_image(ImageOptions::default(), |task, fs| {
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[3; BLOCK as usize], Sync::All)?;
        file.reclaim(task)?;
        let block = file.inode().extents.borrow().at(0).expect("written").block;
        let right = task.machine().disk().read_now(DeviceId(0), block).expect("it is there");
        let wrong = Request::write(DeviceId(0), block, Block::from_slice(b"damage"));
        task.submit(wrong, Note::default())?.wait(task)?.expect("written");
        let error = content(task, &file, 0).unwrap_err();
        assert!(matches!(error, Error::Io { block: found, .. } if found == block), "{error}");
        let error = file.direct_read(task, 0, &mut [0; BLOCK as usize]).unwrap_err();
        assert_eq!(error.errno(), Errno::EIO);
        let repaired = Request::write(DeviceId(0), block, right);
        task.submit(repaired, Note::default())?.wait(task)?.expect("written");
        assert_eq!(content(task, &file, 0)?, Some(3));
        Ok(())
    });
}

#[test]
fn what_was_preallocated_can_be_written_on_a_full_device() {
    for datasum in [true, false] {
        let image = ImageOptions { blocks: 96, datasum, ..ImageOptions::default() };
        on_image(image, |task, fs| {
            let file = fs.create(task, "f")?;
            file.fallocate(task, Span::new(0, 6 * BLOCK), false)?;
            let filler = fs.create(task, "g")?;
            let full = loop {
                if let Err(error) = filler.append(task, &[9; BLOCK as usize], Sync::None) {
                    break error;
                }
            };
            assert_eq!(full.errno(), Errno::ENOSPC);
            let mapping = fs.mmap(task, &file, 0, 6 * BLOCK)?;
            file.write(task, 0, &[1; 2 * BLOCK as usize], Sync::None)?;
            file.direct_write(task, 2 * BLOCK, &[2; 2 * BLOCK as usize], Sync::None)?;
            fs.store_bytes(task, &mapping, 4 * BLOCK, &[3; 2 * BLOCK as usize])?;
            fs.sync(task)?;
            for (index, want) in [1, 1, 2, 2, 3, 3].into_iter().enumerate() {
                assert_eq!(content(task, &file, index as u64)?, Some(want));
            }
            let beyond = file.append(task, &[4; BLOCK as usize], Sync::None).unwrap_err();
            assert_eq!(beyond.errno(), Errno::ENOSPC);
            fs.munmap(task, &mapping)
        });
    }
}

/// A task that does this and that, and does not mind errors of the device.
fn careless(task: &Task, fs: &Fs, seed: u64) -> engine::Result<()> {
    let mut dice = Dice::new(seed);
    let file = fs.open(task, "f")?;
    let mapping = fs.mmap(task, &file, 0, 8 * BLOCK)?;
    for _ in 0..10 {
        task.begin_operation();
        let offset = u64::from(dice.below(6)) * BLOCK;
        let data = vec![dice.below(255) as u8; (1 + dice.below(3) as usize) * BLOCK as usize];
        let done = match dice.below(8) {
            0 | 1 => file.write(task, offset, &data, Sync::Data).map(|_| ()),
            2 | 3 => file.direct_write(task, offset, &data, Sync::None).map(|_| ()),
            4 => file.fsync(task),
            5 => fs.sync(task),
            6 if offset < file.inode().size() => {
                fs.store_bytes(task, &mapping, offset, &data[..BLOCK as usize])
            }
            _ => file.direct_read(task, offset, &mut vec![0; 2 * BLOCK as usize]).map(|_| ()),
        };
        fs.assert_memory();
        match done.map_err(|error| (error.errno(), error)) {
            Ok(()) | Err((Errno::EIO | Errno::EROFS | Errno::ENOSPC, _)) => {}
            Err((_, error)) => return Err(error),
        }
    }
    Ok(())
}

#[test]
fn failing_devices_leave_a_sound_image() {
    for image in [
        ImageOptions::default(),
        ImageOptions { leaf: 4, datasum: false, datacow: false, ..ImageOptions::default() },
    ] {
        let rig = Rig::new(&image);
        for seed in 0..400 {
            rig.reset();
            let fs = rig.mount(&MountOptions { workers: 2, ..MountOptions::default() });
            let used = fs.clone();
            rig.run(move |task| {
                let file = used.create(task, "f")?;
                file.write(task, 0, &[1; 4 * BLOCK as usize], Sync::None)?;
                used.sync(task)
            })
            .expect("set-up");
            let mut dice = Dice::new(seed);
            for _ in 0..1 + dice.below(3) {
                let op = [Op::Write, Op::Write, Op::Read, Op::Flush][dice.below(4) as usize];
                rig.machine.disk_mut().fail(Rule::nth(op, 1 + dice.below(20)));
            }
            let bodies = (0..2).map(|number| {
                let fs = fs.clone();
                Box::new(move |task: &Task| careless(task, &fs, seed * 2 + number)) as Body
            });
            let what = format!("seed {seed}");
            rig.race(&what, Box::new(Random::new(seed)), bodies.collect());
            // Errors that nobody asked for yet come up now; memory goes in any case.
            let _ = rig.run(move |task| fs.unmount(task));
            recover(&rig, &what);
            let report = rig.run(engine::check).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(report.problems.is_empty(), "{what}: {:?}", report.problems);
        }
    }
}

/// Lets the planned errors that did not come up yet come up, then mounts, reads, writes and
/// unmounts.
fn recover(rig: &Rig, what: &str) {
    let recovered = rig.run(|task| {
        for _ in 0..24 {
            let device = DeviceId(0);
            let content = task.machine().disk().read_now(device, 40).expect("it is there");
            let note = Note::default();
            let _ = task.submit(Request::read(device, 40), note)?.wait(task)?;
            let _ = task.submit(Request::write(device, 40, content), note)?.wait(task)?;
            let _ = task.flush(device, note)?;
        }
        let fs = Fs::mount(task, &quiet(), Defects::NONE)?;
        let file = fs.open(task, "f")?;
        file.read(task, 0, &mut [0; 9 * BLOCK as usize])?;
        file.write(task, 8 * BLOCK, &[1; BLOCK as usize], Sync::All)?;
        fs.unmount(task)
    });
    recovered.unwrap_or_else(|error| panic!("{what}: {error}"));
}
