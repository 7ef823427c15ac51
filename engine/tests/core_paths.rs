//! Every path of data against a model, one operation after the other, with remounts.

mod core_support;

use core_support::Rig;
use engine::error::{Errno, Error};
use engine::inode::span::Span;
use engine::options::{ImageOptions, MountOptions};
use engine::{File, Fs, Sync};
use machine::Task;
use machine::choosers::Dice;

/// Images that lead data along different ways.
fn images() -> Vec<ImageOptions> {
    let base = ImageOptions::default();
    vec![
        base,
        ImageOptions { leaf: 4, ..base },
        ImageOptions { datasum: false, ..base },
        ImageOptions { datasum: false, datacow: false, leaf: 4, ..base },
    ]
}

fn mounts() -> Vec<MountOptions> {
    let base = MountOptions::default();
    vec![
        base,
        MountOptions { delalloc: false, ..base },
        MountOptions { flusher: 0, committer: 0, reclaimer: 0, ..base },
        MountOptions { cache_pages: 3, flusher: 5, committer: 5, workers: 2, ..base },
    ]
}

/// A file and what it should hold.
struct Model {
    fs: Fs,
    file: File,
    bytes: Vec<u8>,
    next: u8,
}

const SIZE_MAX: u32 = 14 * 4096;

impl Model {
    fn step(&mut self, task: &Task, dice: &mut Dice) -> engine::Result<()> {
        task.begin_operation();
        let sectors = SIZE_MAX / 512;
        let offset = u64::from(dice.below(sectors)) * 512;
        let len = (1 + dice.below(24)) as usize * 512;
        let (odd_offset, odd_len) =
            (u64::from(dice.below(SIZE_MAX)), 1 + dice.below(9000) as usize);
        match dice.below(13) {
            0 | 1 => self.write(task, odd_offset, odd_len, dice),
            2 => self.append(task, odd_len / 3 + 1),
            3 | 4 => self.direct_write(task, offset, len, dice),
            5 => self.async_write(task, offset, len),
            6 => self.read(task, odd_offset, odd_len),
            7 => self.direct_read(task, offset, len),
            8 | 9 => self.map(task, odd_offset, odd_len),
            10 => self.file.writeback(task),
            11 => self.file.reclaim(task).map(|_| ()),
            _ => match dice.below(3) {
                0 => self.fs.sync(task),
                1 => self.fs.commit(task),
                _ => self.file.fsync(task),
            },
        }
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.next = self.next.wrapping_add(1).max(1);
        let next = self.next;
        (0..len).map(|index| next.wrapping_add((index % 7) as u8)).collect()
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        let end = offset as usize + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset as usize..end].copy_from_slice(data);
    }

    fn sync_of(dice: &mut Dice) -> Sync {
        [Sync::None, Sync::None, Sync::None, Sync::Data, Sync::All][dice.below(5) as usize]
    }

    fn write(
        &mut self,
        task: &Task,
        offset: u64,
        len: usize,
        dice: &mut Dice,
    ) -> engine::Result<()> {
        let data = self.data(len);
        let written = self.file.write(task, offset, &data, Self::sync_of(dice))?;
        assert_eq!(written, len);
        self.put(offset, &data);
        Ok(())
    }

    fn append(&mut self, task: &Task, len: usize) -> engine::Result<()> {
        if self.bytes.len() > SIZE_MAX as usize {
            return Ok(());
        }
        let data = self.data(len);
        let (offset, written) = self.file.append(task, &data, Sync::None)?;
        assert_eq!((offset, written), (self.bytes.len() as u64, len));
        self.put(offset, &data);
        Ok(())
    }

    fn direct_write(
        &mut self,
        task: &Task,
        offset: u64,
        len: usize,
        dice: &mut Dice,
    ) -> engine::Result<()> {
        let data = self.data(len);
        let written = self.file.direct_write(task, offset, &data, Self::sync_of(dice))?;
        assert_eq!(written, len);
        self.put(offset, &data);
        Ok(())
    }

    fn async_write(&mut self, task: &Task, offset: u64, len: usize) -> engine::Result<()> {
        let first = self.data(len);
        let second = self.data(len);
        let one = self.file.submit_write(task, offset, &first, Sync::Data)?;
        let two = self.file.submit_write(task, offset + len as u64, &second, Sync::None)?;
        let read = self.file.submit_read(task, offset, len)?;
        self.put(offset, &first);
        self.put(offset + len as u64, &second);
        assert_eq!((two.wait(task)?, one.wait(task)?), (len, len));
        assert_eq!(read.wait(task)?, len);
        assert_eq!(read.bytes(), first);
        Ok(())
    }

    fn read(&mut self, task: &Task, offset: u64, len: usize) -> engine::Result<()> {
        let mut target = vec![0xee; len];
        let read = self.file.read(task, offset, &mut target)?;
        self.compare(offset, &target[..read], len);
        for index in 0..self.bytes.len() as u64 / 4096 {
            let block = self.file.read_block(task, index)?;
            let want = &self.bytes[index as usize * 4096..][..4096];
            match block {
                Some(block) => assert_eq!(block.bytes(), want, "block {index}"),
                None => assert!(want.iter().all(|byte| *byte == 0), "block {index} is no hole"),
            }
        }
        Ok(())
    }

    fn direct_read(&mut self, task: &Task, offset: u64, len: usize) -> engine::Result<()> {
        let mut target = vec![0xee; len];
        let read = self.file.direct_read(task, offset, &mut target)?;
        self.compare(offset, &target[..read], len);
        Ok(())
    }

    fn compare(&self, offset: u64, found: &[u8], asked: usize) {
        let start = (offset as usize).min(self.bytes.len());
        let end = (start + asked).min(self.bytes.len());
        assert_eq!(found.len(), end - start, "read at {offset} of {}", self.bytes.len());
        let differs = found.iter().zip(&self.bytes[start..end]).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("byte {} is {} and should be {}", start + at, found[at], self.bytes[start + at]);
        }
    }

    /// Stores and loads through a mapping of the whole file, also behind its end in the last page.
    fn map(&mut self, task: &Task, offset: u64, len: usize) -> engine::Result<()> {
        let size = self.bytes.len() as u64;
        let mapped = size.next_multiple_of(4096);
        let mapping = self.file.mmap(task, 0, 64 * 4096)?;
        let beyond = self.fs.load(task, &mapping, mapped, &mut [0]);
        assert_eq!(beyond, Err(Error::Refused(Errno::EFAULT)));
        if size > 0 {
            let offset = offset % size;
            let len = (len as u64).min(size - offset) as usize;
            let data = self.data(len);
            self.fs.store_bytes(task, &mapping, offset, &data)?;
            self.put(offset, &data);
            if mapped > size {
                self.fs.store_bytes(task, &mapping, size, &[0x77])?;
            }
            let mut target = vec![0; len];
            self.fs.load(task, &mapping, offset, &mut target)?;
            self.compare(offset, &target, len);
            if offset.is_multiple_of(3) {
                self.fs.msync(task, &mapping, offset, len as u64)?;
            }
        }
        self.fs.munmap(task, &mapping)?;
        assert_eq!(self.fs.munmap(task, &mapping), Err(Error::Refused(Errno::EINVAL)));
        Ok(())
    }
}

fn check_all(task: &Task, file: &File, want: &[u8]) -> engine::Result<()> {
    let mut found = vec![0; want.len() + 512];
    let len = file.read(task, 0, &mut found)?;
    assert_eq!(len, want.len(), "the size after a remount");
    let differs = found.iter().zip(want).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the content after a remount");
    Ok(())
}

#[test]
fn data_survive_every_path_and_a_remount() {
    for image in images() {
        let rig = Rig::new(&image);
        for (number, mount) in mounts().into_iter().enumerate() {
            for seed in 0..60 {
                rig.reset();
                let fs = rig.mount(&mount);
                let seed = seed * 16 + number as u64;
                let used = fs.clone();
                let (ino, bytes) = rig
                    .run(move |task| {
                        let file = used.create(task, "f")?;
                        let mut model = Model { fs: used, file, bytes: Vec::new(), next: 0 };
                        let mut dice = Dice::new(seed);
                        for _ in 0..30 {
                            model.step(task, &mut dice)?;
                        }
                        Ok((model.file.inode().ino, model.bytes))
                    })
                    .unwrap_or_else(|error| panic!("seed {seed} {image:?} {mount:?}: {error}"));
                rig.unmount(fs);
                let fs = rig.mount(&mount);
                let used = fs.clone();
                rig.run(move |task| {
                    let file = File::new(&used, used.iget(task, ino)?);
                    check_all(task, &file, &bytes)
                })
                .unwrap_or_else(|error| panic!("seed {seed} {image:?} {mount:?}: {error}"));
                rig.unmount(fs);
            }
        }
    }
}

#[test]
fn direct_io_wants_sectors() {
    let rig = Rig::new(&ImageOptions::default());
    let fs = rig.mount(&MountOptions::default());
    rig.run(move |task| {
        let file = fs.create(task, "f")?;
        let refused = |result: engine::Result<usize>| {
            assert_eq!(result, Err(Error::Refused(Errno::EINVAL)));
        };
        refused(file.direct_write(task, 1, &[0; 512], Sync::None));
        refused(file.direct_write(task, 0, &[0; 511], Sync::None));
        refused(file.direct_read(task, 0, &mut [0; 100]));
        assert_eq!(file.direct_write(task, 0, &[], Sync::None)?, 0);
        assert_eq!(file.direct_write(task, 512, &[7; 512], Sync::None)?, 512);
        assert_eq!(file.inode().size(), 1024);
        let refused = file.write(task, u64::MAX, &[1], Sync::None).unwrap_err();
        assert_eq!(refused.errno(), Errno::EINVAL);
        let refused = file.write(task, i64::MAX as u64, &[1], Sync::None).unwrap_err();
        assert_eq!(refused.errno(), Errno::EFBIG);
        assert_eq!(fs.mmap(task, &file, 5, 10).err().map(|e| e.errno()), Some(Errno::EINVAL));
        fs.unmount(task)
    })
    .unwrap();
}

#[test]
fn a_full_device_refuses_and_recovers() {
    let rig = Rig::new(&ImageOptions { blocks: 64, ..ImageOptions::default() });
    let fs = rig.mount(&MountOptions::default());
    rig.run(move |task| {
        let file = fs.create(task, "f")?;
        let mut written = 0;
        let error = loop {
            match file.write(task, written, &[9; 4096], Sync::None) {
                Ok(len) => written += len as u64,
                Err(error) => break error,
            }
            assert!(written < 64 * 4096, "64 blocks hold less than that");
        };
        assert_eq!(error.errno(), Errno::ENOSPC);
        assert!(written > 8 * 4096, "something fitted: {written}");
        fs.sync(task)?;
        let mut found = vec![0; written as usize];
        assert_eq!(file.read(task, 0, &mut found)? as u64, written);
        assert!(found.iter().all(|byte| *byte == 9));
        // With some space again, overwriting goes on: what each commit frees comes back.
        file.truncate(task, written / 2)?;
        for round in 0..40 {
            task.begin_operation();
            file.write(task, 0, &[round; 4096], Sync::None)?;
            fs.sync(task)?;
        }
        fs.unmount(task)
    })
    .unwrap();
}

#[test]
fn a_span_of_a_file_is_rounded_for_its_lock() {
    assert_eq!(Span::new(4095, 4097).lock_range().end, 8191);
}
