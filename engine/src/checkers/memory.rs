//! Checks of what is in memory, after every step (races.md §7.5: 4, 5, 9).
//!
//! Verified: extent maps and ordered extents agree pair by pair; no block of the device is
//! under a write that a second extent knows (5, ownership); tags and states of pages agree (P-3); a
//! dirty page has a place to go to; entries of the page table lead into the cache, and
//! writable ones to dirty pages (P-4, P-5).
//!
//! Not verified, because: the lock order, deadlocks, faults under locks and progress (1, 2, 3, 11)
//! are the machine's to find; buffers (8) check themselves at each of their steps.
//!
//! It looks at memory only and never switches tasks. It must never change anything.

use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::span::Blocks;
use crate::types::{Ino, Run};
use smallvec::SmallVec;
use std::rc::Rc;

/// A rule that memory breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as races.md names it.
    pub rule: &'static str,
    /// What breaks it, in words, with the inode and the block.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

type Checked = Result<(), Violation>;

impl Fs {
    /// Checks everything that is in memory.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_memory(&self) -> Result<(), Violation> {
        let mut after = Ino(0);
        while let Some(inode) = self.inodes().next_after(after) {
            after = inode.ino;
            check_pairs(&inode)?;
            check_pages(&inode)?;
            check_entries(&inode)?;
        }
        self.check_pending()
    }

    /// Checks what has changed in memory since this was called last.
    pub(super) fn check_changed(&self) -> Result<(), Violation> {
        let mut changed: SmallVec<[Rc<Inode>; 4]> = SmallVec::new();
        let mut is_pending = false;
        self.inodes().for_each(|inode| {
            let (extents, ordered) = (inode.extents.borrow().seq(), inode.ordered.borrow());
            is_pending |= !ordered.is_empty();
            let count = extents + ordered.seq() + inode.pages.changes();
            if inode.looked_at.catch_up(count) {
                changed.push(inode.clone());
            }
        });
        for inode in &changed {
            check_pairs(inode)?;
            check_pages(inode)?;
            check_entries(inode)?;
        }
        if is_pending && !changed.is_empty() { self.check_pending() } else { Ok(()) }
    }

    /// 7.5.5: no other extent has the blocks that an ordered extent is writing.
    fn check_pending(&self) -> Result<(), Violation> {
        let mut pending: SmallVec<[(Run, Ino, u64); 8]> = SmallVec::new();
        self.inodes().for_each(|inode| {
            let ordered = inode.ordered.borrow();
            pending.extend(ordered.iter().map(|it| (it.run(), inode.ino, it.blocks.start)));
        });
        let mut broken = Ok(());
        self.inodes().for_each(|inode| {
            for extent in inode.extents.borrow().iter() {
                let theirs = pending.iter().find(|(run, ino, start)| {
                    let is_itself = (*ino, *start) == (inode.ino, extent.blocks.start);
                    run.overlaps(extent.run()) && !is_itself
                });
                if let Some((run, ino, _)) = theirs {
                    let what = format!("inode {ino} is writing {run}, which inode {}", inode.ino);
                    let what = format!("{what} has at {}", extent.blocks);
                    broken = Err(Violation { rule: "ownership", what });
                }
            }
        });
        broken
    }

    /// Reports to the machine if memory breaks a rule, which ends the execution.
    pub fn assert_memory(&self) {
        if let Err(violation) = self.check_memory() {
            self.machine().invariant(violation.rule, &violation.to_string());
        }
    }
}

fn broken(rule: &'static str, inode: &Inode, what: String) -> Checked {
    Err(Violation { rule, what: format!("inode {}: {what}", inode.ino) })
}

/// 7.5.4: every pending extent has its ordered extent, and the other way round.
fn check_pairs(inode: &Inode) -> Checked {
    let (map, ordered) = (inode.extents.borrow(), inode.ordered.borrow());
    let mut pending = 0;
    for extent in map.iter() {
        let Some(mine) = extent.ordered() else { continue };
        pending += 1;
        let theirs = ordered.first_in(extent.blocks);
        let is_same = theirs.is_some_and(|theirs| Rc::ptr_eq(mine, theirs));
        if !is_same || mine.blocks != extent.blocks || mine.block != extent.block {
            let what = format!("the pending extent at {} has no ordered extent", extent.blocks);
            return broken("X-2", inode, what);
        }
        if mine.is_complete() {
            return broken("X-1", inode, format!("{} is complete and pending", extent.blocks));
        }
    }
    let count = ordered.iter().count();
    if count == pending {
        return Ok(());
    }
    broken("X-2", inode, format!("{count} ordered extents for {pending} pending extents"))
}

/// 7.5.9: states and tags of pages.
fn check_pages(inode: &Inode) -> Checked {
    let mut problem = Ok(());
    inode.pages.for_each(|page| {
        let index = page.index();
        let one = Blocks::one(index);
        let (dirty, writeback) = (page.is_dirty(), page.is_under_writeback());
        let tagged_dirty = inode.pages.first_dirty(one).is_some();
        let tagged_writeback = inode.pages.first_under_writeback(one).is_some();
        let found = if !page.is_attached() {
            broken("P-5", inode, format!("page {index} is cached and evicted"))
        } else if (dirty || writeback) && !page.is_uptodate() {
            broken("P-2", inode, format!("page {index} is dirty without content"))
        } else if (dirty, writeback) != (tagged_dirty, tagged_writeback) {
            broken("P-3", inode, format!("page {index} has other tags than states"))
        } else if dirty && inode.pages.first_unsettled(one).is_none() {
            broken("X-7", inode, format!("page {index} is dirty and part of the file"))
        } else if dirty && !page.is_reserved() && !has_blocks(inode, index) {
            broken("X-1", inode, format!("page {index} is dirty and has no place to go to"))
        } else {
            Ok(())
        };
        if problem.is_ok() {
            problem = found;
        }
    });
    problem
}

fn has_blocks(inode: &Inode, index: u64) -> bool {
    let map = inode.extents.borrow();
    map.is_loaded() && map.at(index).is_some()
}

/// 7.5.9: page-table entries.
fn check_entries(inode: &Inode) -> Checked {
    let mut problem = Ok(());
    for mapping in inode.mappings.borrow().iter() {
        mapping.for_each_entry(|page, writable| {
            let index = page.index();
            let is_cached = inode.pages.find(index).is_some_and(|it| Rc::ptr_eq(&it, page));
            if !is_cached {
                problem = broken("P-5", inode, format!("an entry outlives page {index}"));
            } else if writable && !page.is_dirty() {
                problem = broken("P-4", inode, format!("page {index} is clean and writable"));
            }
        });
    }
    problem
}
