//! The memory-mapped image: where content is kept between executions and between processes.
//!
//! Promises that a file is mapped writable by one process at a time, that a block is copied out of
//! the map at most once between two writes of it, and that what cannot be an image is refused with
//! the offending value. This is one of the two files with `unsafe`.
//!
//! Must never know requests, versions or power: the disk above decides what reaches the image.

use std::cell::RefCell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapMut};
use rustc_hash::FxHashMap;

use crate::block::{BLOCK_BYTES, Block};
use crate::disk::BlockSource;

/// Most blocks that a medium remembers as read: 256 MiB. Beyond, all are forgotten at once.
const MEMO_BLOCKS: usize = 1 << 16;

/// Why an image cannot be used. Each message completes "failed to open the image: ...".
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: `open`, `lock`, `size`, `map` or `sync`.
        action: &'static str,
        /// The image; empty for anonymous memory.
        path: PathBuf,
        /// The reason given.
        source: io::Error,
    },
    /// Another process, or another medium of this one, has the image.
    #[error("{path} is in use by another process", path = path.display())]
    Locked {
        /// The image.
        path: PathBuf,
    },
    /// A directory, pipe or device.
    #[error("{path} is not a regular file", path = path.display())]
    NotAFile {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The length is no positive multiple of the block size: truncated, or no image at all.
    #[error(
        "{path} has {len_bytes} bytes, which is not a positive multiple of 4096 (truncated?)",
        path = path.display()
    )]
    Length {
        /// The image.
        path: PathBuf,
        /// Its length in bytes.
        len_bytes: u64,
    },
    /// More (or fewer) blocks than can be mapped.
    #[error("{blocks} blocks cannot be mapped")]
    Blocks {
        /// The number asked for.
        blocks: u64,
    },
    /// A write to, or a sync of, an image that was opened for reading.
    #[error("the image is open for reading only")]
    ReadOnly,
    /// A block beyond the end.
    #[error("block {block} is beyond the end of an image of {blocks} blocks")]
    OutOfRange {
        /// The block asked for.
        block: u64,
        /// Blocks of the image.
        blocks: u64,
    },
}

enum Map {
    Read(Mmap),
    Write(MmapMut),
}

/// The contents that were copied out of the map since they were written last, by block.
#[derive(Default)]
struct Memo(FxHashMap<u64, Block>);

/// Which blocks of anonymous memory were written; the others hold the poison of their place, and
/// their pages of the map are never touched.
struct Written {
    device: u8,
    bits: Vec<u64>,
}

/// An image of whole blocks, in a file or in anonymous memory.
pub struct Medium {
    map: Map,
    blocks: u64,
    memo: RefCell<Memo>,
    /// None for a file, every block of which holds what the file holds.
    written: Option<Written>,
    path: PathBuf,
    /// Holds the lock for as long as the map exists.
    _file: Option<File>,
}

impl Medium {
    /// Memory without a file, each block holding the poison of its place on `device`.
    pub fn anonymous(blocks: u64, device: u8) -> Result<Medium, MediumError> {
        let bytes = image_bytes(blocks)?;
        let failed = |source| MediumError::Io { action: "map", path: PathBuf::new(), source };
        let map = MmapMut::map_anon(bytes).map_err(failed)?;
        let mut medium = Medium::with_map(Map::Write(map), blocks, PathBuf::new(), None);
        let bits = vec![0; blocks.div_ceil(u64::from(u64::BITS)) as usize];
        medium.written = Some(Written { device, bits });
        Ok(medium)
    }

    /// Maps an existing image. Readers share the file; a writer has it alone.
    ///
    /// Shrinking the file by other means while it is mapped kills the process at the next access
    /// (SIGBUS); the lock keeps our own processes from it.
    pub fn open(path: &Path, read_only: bool) -> Result<Medium, MediumError> {
        let failed = io_error("open", path);
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(io_error("size", path))?;
        if !metadata.is_file() {
            return Err(MediumError::NotAFile { path: path.to_owned() });
        }
        lock(&file, path, read_only)?;
        // Measured under the lock: the creator of the image sizes it under the lock, too.
        let len_bytes = file.metadata().map_err(io_error("size", path))?.len();
        if len_bytes == 0 || !len_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(MediumError::Length { path: path.to_owned(), len_bytes });
        }
        let blocks = len_bytes / BLOCK_BYTES as u64;
        image_bytes(blocks)?;
        let map = map_file(&file, read_only).map_err(io_error("map", path))?;
        Ok(Medium::with_map(map, blocks, path.to_owned(), Some(file)))
    }

    /// Makes a file of zeros (sparse) and maps it for writing. An existing image that nobody has
    /// open is emptied.
    pub fn create(path: &Path, blocks: u64) -> Result<Medium, MediumError> {
        let bytes = image_bytes(blocks)? as u64;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io_error("open", path))?;
        if !file.metadata().map_err(io_error("size", path))?.is_file() {
            return Err(MediumError::NotAFile { path: path.to_owned() });
        }
        lock(&file, path, false)?;
        // Only now, under the lock: whoever had the image mapped would die of a truncation.
        file.set_len(0).map_err(io_error("size", path))?;
        file.set_len(bytes).map_err(io_error("size", path))?;
        let map = map_file(&file, false).map_err(io_error("map", path))?;
        Ok(Medium::with_map(map, blocks, path.to_owned(), Some(file)))
    }

    /// Blocks of the image.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether [`Medium::write`] is refused.
    pub fn is_read_only(&self) -> bool {
        matches!(self.map, Map::Read(_))
    }

    /// The content of a block.
    ///
    /// # Panics
    /// If the block is beyond the end; the disk checks ranges before it comes here.
    pub fn read(&self, block: u64) -> Block {
        assert!(block < self.blocks, "block {block} of {}", self.blocks);
        let mut memo = self.memo.borrow_mut();
        if let Some(content) = memo.0.get(&block) {
            return content.clone();
        }
        if let Some(written) = &self.written
            && !written.has(block)
        {
            return Block::poison(written.device, block);
        }
        let bytes = &self.bytes()[block as usize * BLOCK_BYTES..][..BLOCK_BYTES];
        let content = Block::from_slice(bytes);
        memo.remember(block, &content);
        content
    }

    /// Replaces the content of a block, in memory; see [`Medium::sync`].
    pub fn write(&mut self, block: u64, content: &Block) -> Result<(), MediumError> {
        if block >= self.blocks {
            return Err(MediumError::OutOfRange { block, blocks: self.blocks });
        }
        let Map::Write(map) = &mut self.map else {
            return Err(MediumError::ReadOnly);
        };
        map[block as usize * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(content.bytes());
        if let Some(written) = &mut self.written {
            written.add(block);
        }
        self.memo.get_mut().remember(block, content);
        Ok(())
    }

    /// Writes everything to the file and waits for it (`msync`).
    pub fn sync(&mut self) -> Result<(), MediumError> {
        match &self.map {
            Map::Read(_) => Err(MediumError::ReadOnly),
            Map::Write(map) => map.flush().map_err(io_error("sync", &self.path)),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.map {
            Map::Read(map) => map,
            Map::Write(map) => map,
        }
    }

    fn with_map(map: Map, blocks: u64, path: PathBuf, file: Option<File>) -> Medium {
        let memo = RefCell::default();
        let medium = Medium { map, blocks, memo, written: None, path, _file: file };
        assert_eq!(medium.bytes().len() as u64, blocks * BLOCK_BYTES as u64);
        medium
    }
}

impl Memo {
    fn remember(&mut self, block: u64, content: &Block) {
        if self.0.len() >= MEMO_BLOCKS {
            self.0.clear();
        }
        self.0.insert(block, content.clone());
    }
}

impl Written {
    fn has(&self, block: u64) -> bool {
        self.bits[(block / 64) as usize] >> (block % 64) & 1 == 1
    }

    fn add(&mut self, block: u64) {
        self.bits[(block / 64) as usize] |= 1 << (block % 64);
    }
}

impl BlockSource for Medium {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read(&self, block: u64) -> Block {
        Medium::read(self, block)
    }
}

impl BlockSource for RefCell<Medium> {
    fn blocks(&self) -> u64 {
        self.borrow().blocks
    }

    fn read(&self, block: u64) -> Block {
        self.borrow().read(block)
    }
}

/// The length of an image in bytes, if it can be mapped.
fn image_bytes(blocks: u64) -> Result<usize, MediumError> {
    let bytes = blocks.checked_mul(BLOCK_BYTES as u64).and_then(|len| usize::try_from(len).ok());
    match bytes {
        Some(len) if len > 0 && len <= isize::MAX as usize => Ok(len),
        _ => Err(MediumError::Blocks { blocks }),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MediumError {
    let path = path.to_owned();
    move |source| MediumError::Io { action, path, source }
}

fn lock(file: &File, path: &Path, shared: bool) -> Result<(), MediumError> {
    let locked = if shared { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(MediumError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File, read_only: bool) -> io::Result<Map> {
    // SAFETY: the map is undefined behaviour only if the bytes change under a reference to them. We
    // hold a lock on the file that every process of ours takes before it writes, resizes or maps
    // it: alone for writing, shared for reading. Inside this process the map is owned by one
    // `Medium`, which lends its bytes out under the borrow rules and never beyond a call. Programs
    // that ignore the advisory lock are out of scope, as for every user of `mmap`.
    unsafe {
        if read_only {
            Ok(Map::Read(Mmap::map(file)?))
        } else {
            Ok(Map::Write(MmapMut::map_mut(file)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path in the temporary directory that is removed at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("powerfail-medium-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn anonymous_memory_holds_poison_until_written() {
        let mut medium = Medium::anonymous(3, 2).unwrap();
        assert_eq!(medium.read(1), Block::poison(2, 1));
        assert_eq!(medium.read(1).content_id(), medium.read(1).content_id(), "copied out once");
        let content = Block::from_slice(b"new");
        medium.write(1, &content).unwrap();
        assert_eq!(medium.read(1).content_id(), content.content_id());
        assert_eq!(medium.read(2), Block::poison(2, 2));
        let beyond = medium.write(3, &content).unwrap_err();
        assert!(matches!(beyond, MediumError::OutOfRange { block: 3, blocks: 3 }));
    }

    #[test]
    fn what_was_written_is_kept_when_the_memo_is_forgotten() {
        let mut medium = Medium::anonymous(130, 1).unwrap();
        medium.write(129, &Block::from_slice(b"kept")).unwrap();
        medium.write(64, &Block::zero()).unwrap();
        medium.memo.get_mut().0.clear();
        assert_eq!(medium.read(129), Block::from_slice(b"kept"));
        assert_eq!(medium.read(64), Block::zero());
        assert_eq!(medium.read(65), Block::poison(1, 65));
    }

    #[test]
    fn content_survives_closing_and_readers_cannot_write() {
        let scratch = Scratch::new("survives");
        let mut medium = Medium::create(&scratch.0, 4).unwrap();
        assert_eq!(medium.read(3), Block::zero());
        medium.write(3, &Block::from_slice(b"kept")).unwrap();
        medium.sync().unwrap();
        drop(medium);
        let mut medium = Medium::open(&scratch.0, true).unwrap();
        assert_eq!(medium.read(3), Block::from_slice(b"kept"));
        assert!(matches!(medium.write(3, &Block::zero()), Err(MediumError::ReadOnly)));
        assert!(matches!(medium.sync(), Err(MediumError::ReadOnly)));
    }

    #[test]
    fn one_writer_or_many_readers() {
        let scratch = Scratch::new("lock");
        let writer = Medium::create(&scratch.0, 1).unwrap();
        for read_only in [false, true] {
            let second = Medium::open(&scratch.0, read_only);
            assert!(matches!(second, Err(MediumError::Locked { .. })));
        }
        assert!(matches!(Medium::create(&scratch.0, 1), Err(MediumError::Locked { .. })));
        drop(writer);
        let _readers =
            [Medium::open(&scratch.0, true).unwrap(), Medium::open(&scratch.0, true).unwrap()];
        assert!(matches!(Medium::open(&scratch.0, false), Err(MediumError::Locked { .. })));
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_value() {
        let scratch = Scratch::new("length");
        for len in [0, 1, 4095, 4097] {
            std::fs::write(&scratch.0, vec![0; len]).unwrap();
            let refused = Medium::open(&scratch.0, false).err().expect("no image");
            assert!(
                matches!(refused, MediumError::Length { len_bytes, .. } if len_bytes == len as u64)
            );
            assert!(refused.to_string().contains(&format!("{len} bytes")), "{refused}");
        }
        let directory = Medium::open(&std::env::temp_dir(), true).err().expect("a directory");
        assert!(matches!(directory, MediumError::NotAFile { .. }), "{directory}");
        let missing = Medium::open(Path::new("/nonexistent/image"), false).err().expect("missing");
        assert!(missing.to_string().starts_with("cannot open /nonexistent/image"), "{missing}");
        for blocks in [0, u64::MAX, u64::MAX / 4096] {
            assert!(matches!(Medium::anonymous(blocks, 0), Err(MediumError::Blocks { .. })));
        }
    }
}
