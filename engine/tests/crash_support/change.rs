//! A consistent image with one file, and changes of its items that no path of the engine makes:
//! what damage looks like behind the hashes.

use engine::error::Result;
use engine::options::MountOptions;
use engine::store::items::{DirEntry, DirItem, FileKind, csum_key};
use engine::store::{ExtentItem, ExtentKind, Handle, InodeItem, Join, Key, Store, Tree};
use engine::types::{Ino, Run};
use machine::{Block, Task};

/// A store in a transaction, with the blocks of the file `f`, inode 16.
pub struct Change<'a> {
    pub task: &'a Task,
    pub store: &'a Store,
    pub handle: &'a Handle,
    pub data: Run,
}

/// The one file of the image.
pub const F: Ino = Ino(16);

impl Change<'_> {
    pub fn put(&self, tree: Tree, key: Key, value: &[u8]) {
        self.store.put(self.task, self.handle, tree, key, value).unwrap();
    }

    pub fn delete(&self, tree: Tree, key: Key) {
        assert!(self.store.delete(self.task, self.handle, tree, key).unwrap());
    }

    pub fn allocate(&self) -> Run {
        self.store.allocate_data(self.task, self.handle, 1, None, None).unwrap()
    }

    pub fn inode(&self, ino: Ino, nlink: u32, flags: u32) {
        let item = InodeItem { mode: 0o100_644, nlink, flags, size: 8192, ..InodeItem::default() };
        self.put(Tree::Fs, InodeItem::key(ino), &item.encode());
    }

    pub fn name(&self, name: &str, ino: Ino, kind: FileKind) {
        let entry = DirEntry { ino, kind, name: name.bytes().collect() };
        let item = DirItem { entries: [entry].into_iter().collect() };
        self.put(Tree::Fs, DirItem::key(Ino::ROOT, name.as_bytes()), &item.encode());
    }

    pub fn extent(&self, ino: Ino, offset: u64, run: Run) {
        let (block, len_blocks) = (run.block, run.len_blocks);
        let item = ExtentItem { kind: ExtentKind::Written, block, len_blocks, generation: 1 };
        self.put(Tree::Fs, ExtentItem::key(ino, offset), &item.encode());
    }

    pub fn csum(&self, block: u64) {
        self.put(Tree::Csum, csum_key(block), &Block::poison(0, block).digest());
    }
}

/// Gives a new image one file of two blocks, `f`, and changes it.
pub fn build(task: &Task, change: fn(&Change<'_>)) -> Result<()> {
    let store = Store::mount(task, &MountOptions::default())?;
    let handle = store.join(task, Join::User)?;
    assert_eq!(store.allocate_ino(&handle), F);
    let data = store.allocate_data(task, &handle, 2, None, None)?;
    assert_eq!(data.len_blocks, 2);
    let it = Change { task, store: &store, handle: &handle, data };
    it.inode(F, 1, 0);
    it.name("f", F, FileKind::Regular);
    it.extent(F, 0, data);
    (data.block..data.end()).for_each(|block| it.csum(block));
    change(&it);
    drop(handle);
    store.commit(task)
}
