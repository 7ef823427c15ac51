//! Names: create, unlink, lookup and list in the one directory; what happens to a file without a
//! name.
//!
//! A file that lost its last name while somebody uses it is an *orphan*: an item of the tree says
//! so, its blocks are freed after the last use, or by the next mount (`orphans`).
//!
//! Directories, links and rename will live here.
//!
//! Promises: a name leads to an inode, and the number of names that an inode counts is right, in
//! every committed state; nothing here writes the log (B-7), it leaves marks. It must never know
//! pages or extents.

use super::arguments::check_name;
use crate::classes::{DIR, kind};
use crate::error::{Errno, Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::log_state::Name;
use crate::store::items::{Damage, DirEntry, DirItem, FileKind, name_hash};
use crate::store::{Handle, InodeItem, Key, Kind, OrphanItem, Tree};
use crate::types::{Ino, TransactionId};
use machine::cell::RefCell;
use machine::{Access, Machine, Mutex, Object, Site, Task};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

static CREATE_INODE: Site = Site::new("create.inode");
static CREATE_ENTRY: Site = Site::new("create.entry");
static UNLINK_ENTRY: Site = Site::new("unlink.entry");
static UNLINK_INODE: Site = Site::new("unlink.inode");

/// Permissions of a new file.
const NEW_FILE_MODE: u32 = 0o644;

/// The state of the directory in memory.
pub struct Namespace {
    /// Guards the entries of the root directory.
    lock: Mutex,
    /// Names that were taken away in a transaction: the last commit has them still.
    removed: RefCell<(TransactionId, BTreeSet<Name>)>,
    /// Inodes without a name that somebody uses.
    orphans: RefCell<BTreeSet<Ino>>,
}

impl Namespace {
    pub(crate) fn new(machine: &Machine) -> Namespace {
        Namespace {
            lock: Mutex::new(machine, &DIR, (Ino::ROOT.0, 0)),
            removed: RefCell::default(),
            orphans: RefCell::default(),
        }
    }

    fn note_removed(&self, transaction: TransactionId, name: &str) {
        let mut removed = self.removed.borrow_mut();
        if removed.0 != transaction {
            *removed = (transaction, BTreeSet::new());
        }
        removed.1.insert(Name::from_slice(name.as_bytes()));
    }

    fn was_removed(&self, transaction: TransactionId, name: &str) -> bool {
        let removed = self.removed.borrow();
        removed.0 == transaction && removed.1.contains(name.as_bytes())
    }

    /// An inode lost its last name while it is used.
    pub(super) fn add_orphan(&self, ino: Ino) {
        self.orphans.borrow_mut().insert(ino);
    }

    /// Takes out the first orphan for which `wanted` holds: whoever gets it deletes it.
    pub(super) fn take_orphan(&self, wanted: impl Fn(Ino) -> bool) -> Option<Ino> {
        let mut orphans = self.orphans.borrow_mut();
        let ino = orphans.iter().copied().find(|&ino| wanted(ino))?;
        orphans.remove(&ino);
        Some(ino)
    }
}

fn object(name: &str) -> Object {
    Object::new(kind::NAME, Ino::ROOT.0, name_hash(name.as_bytes()))
}

impl Fs {
    /// Creates an empty file and opens it.
    ///
    /// # Errors
    /// `EEXIST`; `EINVAL`, `ENOENT` or `ENAMETOOLONG` for what can be no name; `NoSpace`; those of
    /// trees.
    pub fn create(&self, task: &Task, name: &str) -> Result<File> {
        check_name(name)?;
        self.reap_orphans(task)?;
        let namespace = self.namespace();
        let _dir = namespace.lock.lock(task)?;
        let mut entries = self.entries_of(task, name)?;
        if entries.find(name.as_bytes()).is_some() {
            return Err(Errno::EEXIST.into());
        }
        if !entries.has_room_for(name.as_bytes()) {
            return Err(Error::NoSpace { wanted: 1, available: 0 });
        }
        let handle = self.join(task)?;
        self.store().reserve_changes(&handle, 2)?;
        let ino = self.store().allocate_ino(&handle);
        let item = self.new_item(&handle);
        task.site(&CREATE_INODE, object(name), Access::Write)?;
        self.insert_inode(task, &handle, ino, &item)?;
        let inode = self.inodes().add(Inode::new(task.machine(), ino, item));
        task.site(&CREATE_ENTRY, object(name), Access::Write)?;
        let bytes = SmallVec::from_slice(name.as_bytes());
        entries.entries.push(DirEntry { ino, kind: FileKind::Regular, name: bytes });
        self.put_entries(task, &handle, name, &entries)?;
        // B-7: marks; fsync decides.
        let transaction = TransactionId(handle.generation());
        inode.log.note_named(transaction, Ino::ROOT, name.as_bytes());
        if namespace.was_removed(transaction, name) {
            inode.log.note_must_commit(transaction, "its name led elsewhere in the last commit");
        }
        Ok(File::new(self, inode))
    }

    /// Puts the item of a new inode into the tree.
    fn insert_inode(&self, task: &Task, handle: &Handle, ino: Ino, item: &InodeItem) -> Result<()> {
        let key = InodeItem::key(ino);
        let inserted = self.store().insert(task, handle, Tree::Fs, key, &item.encode());
        inserted.map_err(|error| {
            if error != Error::from(Errno::EEXIST) {
                return error;
            }
            let what = "its number was to be given to a new one";
            self.store().corrupt_item(task, Tree::Fs, key, "inode", what)
        })
    }

    fn new_item(&self, handle: &Handle) -> InodeItem {
        let image = self.store().superblock().image;
        let mut flags = 0;
        if !image.datasum {
            flags |= InodeItem::NODATASUM;
        }
        if !image.datacow {
            flags |= InodeItem::NODATACOW;
        }
        let transaction = TransactionId(handle.generation());
        InodeItem {
            mode: FileKind::Regular.mode_bits() | NEW_FILE_MODE,
            nlink: 1,
            flags,
            generation: transaction.0,
            transid: transaction.0,
            ..InodeItem::default()
        }
    }

    /// Removes a name. The file goes with its last user.
    ///
    /// # Errors
    /// `ENOENT`; those of trees.
    pub fn unlink(&self, task: &Task, name: &str) -> Result<()> {
        self.make_room(task)?;
        let inode = self.remove_name(task, name)?;
        self.namespace().add_orphan(inode.ino);
        drop(inode);
        self.reap_orphans(task)
    }

    /// Takes a name away in one transaction; the inode that has none any more becomes an orphan.
    fn remove_name(&self, task: &Task, name: &str) -> Result<Rc<Inode>> {
        let namespace = self.namespace();
        let _dir = namespace.lock.lock(task)?;
        let mut entries = self.entries_of(task, name)?;
        let found = entries.find(name.as_bytes()).map(|entry| entry.ino);
        let inode = self.iget_named(task, name, found.ok_or(Errno::ENOENT)?)?;
        let handle = self.join_freeing(task, 3)?;
        task.site(&UNLINK_ENTRY, object(name), Access::Write)?;
        entries.entries.retain(|entry| entry.name.as_slice() != name.as_bytes());
        self.put_entries(task, &handle, name, &entries)?;
        let _ext = inode.ext.write(task)?;
        task.site(&UNLINK_INODE, Object::new(kind::INODE, inode.ino.0, 0), Access::Write)?;
        debug_assert_eq!(inode.item().nlink, 1, "files have one name");
        inode.change_item(|item| item.nlink = 0);
        self.write_item(task, &handle, &inode)?;
        let orphan = OrphanItem::Delete;
        self.store().put(task, &handle, Tree::Fs, OrphanItem::key(inode.ino), &orphan.encode())?;
        let transaction = TransactionId(handle.generation());
        inode.log.note_unnamed(transaction, Ino::ROOT, name.as_bytes()); // B-7
        namespace.note_removed(transaction, name);
        Ok(inode)
    }

    /// The inode that a name leads to.
    ///
    /// # Errors
    /// `ENOENT`; those of trees.
    pub fn lookup(&self, task: &Task, name: &str) -> Result<Rc<Inode>> {
        let _dir = self.namespace().lock.lock(task)?;
        let entries = self.entries_of(task, name)?;
        let entry = entries.find(name.as_bytes()).ok_or(Errno::ENOENT)?;
        self.iget_named(task, name, entry.ino)
    }

    /// All names, in order.
    ///
    /// # Errors
    /// Those of trees.
    pub fn list(&self, task: &Task) -> Result<Vec<String>> {
        let _dir = self.namespace().lock.lock(task)?;
        let key = |kind| Key::new(Ino::ROOT.0, kind, 0);
        let (from, to) = (key(Kind::DIR_ENTRY), key(Kind(Kind::DIR_ENTRY.0 + 1)));
        let mut names = Vec::new();
        let mut problem = None;
        self.store().range(task, Tree::Fs, from, to, |key, value| {
            match DirItem::decode(value) {
                Ok(item) => {
                    let text = |entry: &DirEntry| String::from_utf8_lossy(&entry.name).into_owned();
                    names.extend(item.entries.iter().map(text));
                    ControlFlow::Continue(())
                }
                Err(what) => {
                    problem = Some((key, what));
                    ControlFlow::Break(())
                }
            }
        })?;
        names.sort_unstable();
        problem.map_or(Ok(names), |(key, what)| Err(self.damaged_names(task, key, what)))
    }

    /// The entries that share the item of a name; none if there is no such item. Under DIR.
    fn entries_of(&self, task: &Task, name: &str) -> Result<DirItem> {
        let key = DirItem::key(Ino::ROOT, name.as_bytes());
        match self.store().lookup(task, Tree::Fs, key)? {
            Some(value) => {
                DirItem::decode(&value).map_err(|what| self.damaged_names(task, key, what))
            }
            None => Ok(DirItem::default()),
        }
    }

    fn damaged_names(&self, task: &Task, key: Key, what: Damage) -> Error {
        self.store().corrupt_item(task, Tree::Fs, key, "directory item", what)
    }

    /// Writes the item of a name; one without entries goes. Under DIR.
    fn put_entries(
        &self,
        task: &Task,
        handle: &Handle,
        name: &str,
        entries: &DirItem,
    ) -> Result<()> {
        let key = DirItem::key(Ino::ROOT, name.as_bytes());
        if entries.entries.is_empty() {
            self.store().delete(task, handle, Tree::Fs, key)?;
            return Ok(());
        }
        self.store().put(task, handle, Tree::Fs, key, &entries.encode())
    }

    /// The inode of a name that was found: there must be one, and a file.
    fn iget_named(&self, task: &Task, name: &str, ino: Ino) -> Result<Rc<Inode>> {
        let what = match self.iget(task, ino) {
            Err(Error::Refused(Errno::ENOENT)) => "a name leads to no inode",
            Ok(inode) if FileKind::of_mode(inode.item().mode) != Some(FileKind::Regular) => {
                "a name leads to an inode that is no file"
            }
            Ok(inode) if inode.item().nlink != 1 => {
                "a name leads to an inode that does not count one link"
            }
            other => return other,
        };
        Err(self.damaged_names(task, DirItem::key(Ino::ROOT, name.as_bytes()), what))
    }
}
