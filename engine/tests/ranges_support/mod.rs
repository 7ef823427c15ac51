//! A model of a few files as plain bytes, and random operations on the engine beside it.

#![allow(dead_code, reason = "each test uses a part")]

use engine::error::{Errno, Error, Result};
use engine::options::MountOptions;
use engine::paths::remap::Dedupe;
use engine::{File, Fs, Span, Sync};
use machine::Task;
use machine::choosers::Dice;

pub const BLOCK: u64 = 4096;
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// The greatest size that an operation gives a file, in bytes.
const SIZE_MAX: u32 = 12 * 4096;

/// A file that exists, and what it should hold.
pub struct Known {
    pub file: File,
    pub bytes: Vec<u8>,
}

/// What should be there.
pub struct World {
    pub fs: Fs,
    pub files: [Option<Known>; 3],
    /// Files without a name that are still open.
    pub ghosts: Vec<Known>,
    /// Whether operations may run out of space.
    pub is_tight: bool,
    mount: MountOptions,
    dice: Dice,
    next: u8,
}

impl World {
    pub fn new(fs: &Fs, mount: &MountOptions, seed: u64, is_tight: bool) -> World {
        World {
            fs: fs.clone(),
            files: [None, None, None],
            ghosts: Vec::new(),
            is_tight,
            mount: *mount,
            dice: Dice::new(seed),
            next: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        u64::from(self.dice.below(n as u32))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Any range, often one of whole blocks.
    fn span(&mut self) -> Span {
        let (start, len) = if self.one_in(2) {
            (self.below(12) * BLOCK, (1 + self.below(5)) * BLOCK)
        } else {
            (self.below(SIZE_MAX.into()), 1 + self.below(4 * BLOCK))
        };
        Span::new(start, start + len)
    }

    /// Bytes of few kinds, so that blocks are equal now and then.
    fn data(&mut self, len: u64) -> Vec<u8> {
        if self.one_in(2) {
            return vec![1 + self.below(2) as u8; len as usize];
        }
        self.next = self.next.wrapping_add(1).max(1);
        let next = self.next;
        (0..len).map(|index| next.wrapping_add((index % 5) as u8)).collect()
    }

    /// A file that exists, created if need be.
    fn pick(&mut self, task: &Task) -> Result<usize> {
        let index = self.below(3) as usize;
        if self.files[index].is_none() {
            let file = self.fs.create(task, NAMES[index])?;
            let again = self.fs.create(task, NAMES[index]).err().map(|error| error.errno());
            assert_eq!(again, Some(Errno::EEXIST));
            self.files[index] = Some(Known { file, bytes: Vec::new() });
        }
        Ok(index)
    }

    fn known(&mut self, index: usize) -> &mut Known {
        self.files[index].as_mut().expect("picked files exist")
    }

    /// One random operation.
    pub fn step(&mut self, task: &Task) -> Result<()> {
        task.begin_operation();
        let index = self.pick(task)?;
        match self.below(20) {
            0..=3 => self.write(task, index),
            4 => self.direct_write(task, index),
            5 | 6 => self.map(task, index),
            7 | 8 => self.truncate(task, index),
            9 => self.fallocate(task, index),
            10 | 11 => self.punch(task, index),
            12 => self.zero_range(task, index),
            13 | 14 => self.clone_range(task, index),
            15 => self.dedupe(task, index),
            16 => self.unlink(task, index),
            17 => self.settle(task, index),
            18 => self.compare_all(task),
            _ => self.holes(task, index),
        }
    }

    fn write(&mut self, task: &Task, index: usize) -> Result<()> {
        let span = self.span();
        let data = self.data(span.len());
        let known = self.known(index);
        let written = known.file.write(task, span.start, &data, Sync::None)?;
        put(&mut known.bytes, span.start, &data[..written]);
        Ok(())
    }

    fn direct_write(&mut self, task: &Task, index: usize) -> Result<()> {
        let offset = self.below(u64::from(SIZE_MAX) / 512) * 512;
        let len = (1 + self.below(20)) * 512;
        let data = self.data(len);
        let known = self.known(index);
        let written = known.file.direct_write(task, offset, &data, Sync::None)?;
        put(&mut known.bytes, offset, &data[..written]);
        Ok(())
    }

    /// Stores through a mapping, also behind the end of the file in its last page.
    fn map(&mut self, task: &Task, index: usize) -> Result<()> {
        let span = self.span();
        let fs = self.fs.clone();
        let data = self.data(span.len());
        let known = self.known(index);
        let size = known.bytes.len() as u64;
        let end = size.next_multiple_of(BLOCK).min(span.end);
        if span.start >= end {
            return Ok(());
        }
        let data = &data[..(end - span.start) as usize];
        let mapping = known.file.mmap(task, 0, 64 * BLOCK)?;
        fs.store_bytes(task, &mapping, span.start, data)?;
        let kept = size.saturating_sub(span.start).min(data.len() as u64);
        put(&mut known.bytes, span.start, &data[..kept as usize]);
        fs.munmap(task, &mapping)
    }

    fn truncate(&mut self, task: &Task, index: usize) -> Result<()> {
        let size = match self.below(4) {
            0 => 0,
            1 => self.below(14) * BLOCK,
            _ => self.below(SIZE_MAX.into()),
        };
        let known = self.known(index);
        known.file.truncate(task, size)?;
        known.bytes.resize(size as usize, 0);
        Ok(())
    }

    fn fallocate(&mut self, task: &Task, index: usize) -> Result<()> {
        let (span, keep_size) = (self.span(), self.one_in(2));
        let known = self.known(index);
        known.file.fallocate(task, span, keep_size)?;
        grow(known, span, keep_size);
        let blocks = known.file.stat(task)?.blocks;
        assert!(blocks >= span.blocks().len(), "{blocks} blocks after {span}");
        Ok(())
    }

    fn punch(&mut self, task: &Task, index: usize) -> Result<()> {
        let span = self.span();
        let known = self.known(index);
        known.file.punch(task, span)?;
        zero(&mut known.bytes, span);
        let blocks = span.whole_blocks();
        let is_data =
            |(it, data): &(Span, bool)| *data && !it.intersection(blocks.bytes()).is_empty();
        let holes = known.file.holes(task)?;
        assert!(!holes.iter().any(is_data), "{holes:?} after a punch of {span}");
        Ok(())
    }

    fn zero_range(&mut self, task: &Task, index: usize) -> Result<()> {
        let (span, keep_size) = (self.span(), self.one_in(2));
        let known = self.known(index);
        known.file.zero_range(task, span, keep_size)?;
        zero(&mut known.bytes, span);
        grow(known, span, keep_size);
        Ok(())
    }

    /// Arguments of a remap, mostly legal ones.
    fn remap(&mut self, source_size: u64) -> (u64, u64, u64) {
        if self.one_in(8) {
            return (self.below(9) * 512, self.below(9) * 512, self.below(9) * 512);
        }
        let source = self.below(source_size / BLOCK + 1) * BLOCK;
        let target = self.below(14) * BLOCK;
        let rest = source_size.saturating_sub(source);
        let len = if self.one_in(2) { rest } else { (1 + self.below(4)) * BLOCK };
        (source, target, len)
    }

    fn clone_range(&mut self, task: &Task, index: usize) -> Result<()> {
        let other = self.pick(task)?;
        let from = self.known(index).bytes.clone();
        let (source, target, len) = self.remap(from.len() as u64);
        let file = self.known(index).file.clone();
        let known = self.known(other);
        let count = if len == 0 { (from.len() as u64).saturating_sub(source) } else { len };
        match file.clone_range(task, source, &known.file, target, len) {
            Ok(()) => {
                assert!(source + count <= from.len() as u64, "a clone within the source");
                put(&mut known.bytes, target, &from[source as usize..][..count as usize]);
            }
            Err(Error::Refused(Errno::EINVAL)) => {
                let aligned = (source | target | len) % BLOCK == 0;
                let legal = aligned && len > 0 && source + len <= from.len() as u64;
                assert!(index == other || !legal, "clone {source}+{len} to {target} was legal");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn dedupe(&mut self, task: &Task, index: usize) -> Result<()> {
        let other = self.pick(task)?;
        let from = self.known(index).bytes.clone();
        let (source, target, len) = self.remap(from.len() as u64);
        let file = self.known(index).file.clone();
        let known = self.known(other);
        let to = &known.bytes;
        let is_inside = |offset: u64, len: u64, bytes: &[u8]| offset + len <= bytes.len() as u64;
        let equal = |len: u64| {
            from[source as usize..][..len as usize] == to[target as usize..][..len as usize]
        };
        match file.dedupe_range(task, source, &known.file, target, len) {
            Ok(Dedupe::Same(shared)) => {
                assert!(shared == len || shared == len / BLOCK * BLOCK, "{shared} of {len}");
                assert!(shared == 0 || equal(shared), "what was different was shared");
            }
            Ok(Dedupe::Differs) => assert!(!equal(len), "what was equal was refused"),
            Err(Error::Refused(Errno::EINVAL)) => {
                let aligned = (source | target) % BLOCK == 0;
                let inside = is_inside(source, len, &from) && is_inside(target, len, to);
                let legal = aligned && inside && len > 0 && index != other;
                assert!(!legal, "dedupe {source}+{len} to {target} was legal");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn unlink(&mut self, task: &Task, index: usize) -> Result<()> {
        let is_kept = self.one_in(2);
        self.fs.unlink(task, NAMES[index])?;
        let gone = self.fs.open(task, NAMES[index]).err().map(|error| error.errno());
        assert_eq!(gone, Some(Errno::ENOENT));
        let known = self.files[index].take().expect("picked files exist");
        if is_kept {
            assert_eq!(known.file.stat(task)?.nlink, 0);
            self.ghosts.push(known);
        }
        if self.ghosts.len() > 2 {
            let ghost = self.ghosts.remove(0);
            compare(task, &ghost)?;
        }
        Ok(())
    }

    fn settle(&mut self, task: &Task, index: usize) -> Result<()> {
        match self.below(6) {
            0 => self.fs.sync(task),
            1 => self.fs.commit(task),
            2 => self.known(index).file.fsync(task),
            3 => self.known(index).file.writeback(task),
            _ => self.known(index).file.reclaim(task).map(|_| ()),
        }
    }

    fn holes(&mut self, task: &Task, index: usize) -> Result<()> {
        let known = self.known(index);
        let mut next = 0;
        for (span, data) in known.file.holes(task)? {
            assert_eq!(span.start, next, "runs follow each other");
            next = span.end;
            let bytes = &known.bytes[span.start as usize..span.end as usize];
            assert!(data || bytes.iter().all(|byte| *byte == 0), "data in the hole {span}");
        }
        assert_eq!(next, known.bytes.len() as u64, "runs reach to the end");
        Ok(())
    }

    /// Everything is as it should be.
    pub fn compare_all(&mut self, task: &Task) -> Result<()> {
        let names = self.fs.list(task)?;
        let wanted = NAMES.iter().zip(&self.files).filter(|(_, known)| known.is_some());
        assert_eq!(names, wanted.map(|(name, _)| name.to_string()).collect::<Vec<_>>());
        for known in self.files.iter().flatten().chain(&self.ghosts) {
            compare(task, known)?;
        }
        Ok(())
    }

    /// Takes what files hold now for what they should hold: after an operation that may have been
    /// done in part.
    pub fn adopt(&mut self, task: &Task) -> Result<()> {
        for known in self.files.iter_mut().flatten() {
            let size = known.file.stat(task)?.size;
            known.bytes = vec![0; size as usize];
            let len = known.file.read(task, 0, &mut known.bytes)?;
            assert_eq!(len as u64, size);
        }
        Ok(())
    }

    /// Unmounts, mounts again, and opens everything again.
    pub fn remount(&mut self, task: &Task) -> Result<()> {
        self.ghosts.clear();
        let old: Vec<Option<Vec<u8>>> =
            self.files.iter_mut().map(|known| known.take().map(|known| known.bytes)).collect();
        self.fs.unmount(task)?;
        self.fs = Fs::mount(task, &self.mount, engine::defects::Defects::NONE)?;
        for (index, bytes) in old.into_iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let file = self.fs.open(task, NAMES[index])?;
            self.files[index] = Some(Known { file, bytes });
        }
        Ok(())
    }

    /// Deletes everything. Nothing stays allocated.
    pub fn delete_all(&mut self, task: &Task, baseline: u64) -> Result<()> {
        self.ghosts.clear();
        for (name, known) in NAMES.iter().zip(&mut self.files) {
            if known.take().is_some() {
                self.fs.unlink(task, name)?;
            }
        }
        self.fs.sync(task)?;
        assert_eq!(self.fs.list(task)?, Vec::<String>::new());
        assert_eq!(self.fs.store().free_blocks(), baseline, "blocks are lost");
        Ok(())
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset as usize + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(data);
}

fn zero(bytes: &mut [u8], span: Span) {
    let size = bytes.len();
    bytes[(span.start as usize).min(size)..(span.end as usize).min(size)].fill(0);
}

fn grow(known: &mut Known, span: Span, keep_size: bool) {
    if !keep_size && known.bytes.len() < span.end as usize {
        known.bytes.resize(span.end as usize, 0);
    }
}

/// A file holds what it should hold.
pub fn compare(task: &Task, known: &Known) -> Result<()> {
    assert_eq!(known.file.stat(task)?.size, known.bytes.len() as u64, "the size");
    let mut found = vec![0xee; known.bytes.len() + 9];
    let len = known.file.read(task, 0, &mut found)?;
    assert_eq!(len, known.bytes.len(), "what is read");
    let differs = found.iter().zip(&known.bytes).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("byte {at} is {} and should be {}", found[at], known.bytes[at]);
    }
    Ok(())
}
