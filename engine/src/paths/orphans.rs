//! Orphans: files without a name, and truncates that a crash cut short.
//!
//! Promises: an orphan is deleted after its last use, by the next operation that changes names, by
//! sync or unmount; what a crash left is finished by the next mount, as often as that is cut short.
//! It must never know names.

use super::truncate::{BLOCKS_END, Ending};
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::span::Blocks;
use crate::store::items::Damage;
use crate::store::{OrphanItem, Tree};
use crate::types::{Ino, TransactionId};
use machine::{Mode, Range, Task};
use std::ops::ControlFlow;
use std::rc::Rc;

impl Fs {
    /// Deletes the files without a name that nobody uses any more.
    ///
    /// # Errors
    /// Those of trees; `Stopped`. A file that cannot be deleted for want of space is tried again
    /// next time.
    pub fn reap_orphans(&self, task: &Task) -> Result<()> {
        let is_unused = |ino| self.inodes().find(ino).is_none_or(|inode| inode.users() == 0);
        while let Some(ino) = self.namespace().take_orphan(is_unused) {
            match self.iget(task, ino).and_then(|inode| self.delete_inode(task, &inode)) {
                Ok(()) => {}
                Err(Error::NoSpace { .. }) => {
                    self.namespace().add_orphan(ino);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes an inode without a name that nobody uses: TRUNCATE to nothing, and its items go.
    fn delete_inode(&self, task: &Task, inode: &Rc<Inode>) -> Result<()> {
        assert!(inode.users() == 0 && inode.item().nlink == 0, "nobody can reach it");
        self.make_room(task)?;
        let _rl = inode.rl.lock(task, Range::ALL, Mode::Write)?; // TRUNCATE.2
        let _ml = inode.ml.lock(task, Range::ALL, Mode::Write)?; // TRUNCATE.3
        self.lower_size(task, inode, 0)?; // TRUNCATE.4
        let all = Blocks::new(0, BLOCKS_END);
        self.evict(task, inode, all)?; // TRUNCATE.5
        self.wait_ordered(task, inode, all)?; // TRUNCATE.5
        self.drop_behind(task, inode, Ending::Deleted, None)?; // TRUNCATE.6
        self.inodes().remove(inode.ino);
        inode.abandon(); // Mappings that were never unmapped lead back to it.
        Ok(())
    }

    /// Finishes what the orphan items of the image say, as a mount does after the log was replayed:
    /// when it returns, that is durable.
    ///
    /// # Errors
    /// `Corrupt`; those of trees.
    pub fn finish_orphans(&self, task: &Task) -> Result<()> {
        let orphans = self.orphan_items(task)?;
        if orphans.is_empty() {
            return Ok(());
        }
        for (ino, orphan) in orphans {
            let inode = match self.iget(task, ino) {
                Err(Error::Refused(Errno::ENOENT)) => {
                    return Err(self.damaged_orphan(task, ino, "it has no inode"));
                }
                other => other?,
            };
            match orphan {
                OrphanItem::Delete if inode.item().nlink > 0 => {
                    let what = "its inode is to be deleted and has a name";
                    return Err(self.damaged_orphan(task, ino, what));
                }
                OrphanItem::Delete => self.namespace().add_orphan(ino),
                OrphanItem::Truncate { size } => self.finish_truncate(task, &inode, size)?,
            }
        }
        self.reap_orphans(task)?;
        self.store().commit(task)
    }

    /// Goes on with a truncate of an earlier mount.
    fn finish_truncate(&self, task: &Task, inode: &Rc<Inode>, size: u64) -> Result<()> {
        let rl = inode.rl.lock(task, Range::ALL, Mode::Write)?;
        self.load_all_extents(task, inode)?;
        // The size on the medium may be less still: what was before it was not written.
        let size = size.min(inode.size());
        self.shrink(task, inode, rl.range(), size, Some(TransactionId(0)))
    }

    fn orphan_items(&self, task: &Task) -> Result<Vec<(Ino, OrphanItem)>> {
        let (from, to) = OrphanItem::keys();
        let mut orphans = Vec::new();
        let mut problem = None;
        self.store().range(task, Tree::Fs, from, to, |key, value| {
            let ino = Ino(key.offset);
            match OrphanItem::decode(value) {
                Ok(orphan) if ino.is_possible() => orphans.push((ino, orphan)),
                Ok(_) => problem = Some((ino, "no inode has its number")),
                Err(what) => problem = Some((ino, what)),
            }
            if problem.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        problem.map_or(Ok(orphans), |(ino, what)| Err(self.damaged_orphan(task, ino, what)))
    }

    fn damaged_orphan(&self, task: &Task, ino: Ino, what: Damage) -> Error {
        let key = OrphanItem::key(ino);
        self.store().corrupt_item(task, Tree::Fs, key, "orphan record", what)
    }
}
