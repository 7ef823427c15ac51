//! FAULT (read and write): a page-table entry is made (races.md §7.4).
//!
//! Promises: F-2, a fault takes no RL; P-4, a writable entry makes its page dirty before it exists.
//! It must never know what the processor wants to do with the entry.

use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Errno, Error, Result};
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::pages::Page;
use crate::inode::span::Blocks;
use crate::mm::MappingState;
use crate::types::BLOCK_BYTES;
use machine::{Access, Guard, Mode, Object, Site, Task};
use std::rc::Rc;

static SIZE: Site = Site::new("fault.check-size");
static INSTALL: Site = Site::new("fault.install");

impl Fs {
    /// FAULT at the block `index` of the mapped file; once more after a commit if space is short:
    /// RETRY, with MM dropped.
    ///
    /// # Errors
    /// `EFAULT` beyond the last page of the file, or if the mapping is gone; `NoSpace`; those of
    /// reading.
    pub(crate) fn fault(
        &self,
        task: &Task,
        mapping: &Rc<MappingState>,
        index: u64,
        writes: bool,
    ) -> Result<()> {
        match self.fault_once(task, mapping, index, writes) {
            Err(Error::NoSpace { .. }) => {
                self.gain_space(task)?; // W-5: nothing is held
                self.fault_once(task, mapping, index, writes)
            }
            other => other,
        }
    }

    /// FAULT.1 to FAULT.8.
    fn fault_once(
        &self,
        task: &Task,
        mapping: &Rc<MappingState>,
        index: u64,
        writes: bool,
    ) -> Result<()> {
        let inode = &mapping.inode;
        if writes {
            self.break_layouts(task, inode)?; // W-6: at most RL is held
        }
        // FAULT.1: before MM, as a reservation may flush (W-5).
        let reserve = if writes { self.reserve_page(task, inode, index)? } else { None };
        let _mm = self.mm().lock.read(task)?; // FAULT.2
        if mapping.is_unmapped() {
            return Err(Errno::EFAULT.into());
        }
        if !writes && self.map_around(task, mapping, index)? {
            return Ok(());
        }
        self.read_ahead_from(task, inode, index)?;
        let entry = self.entry_to_upgrade(mapping, index, writes);
        let is_upgrade = entry.is_some();
        let _ml = self.lock_fault(task, inode, index, writes, is_upgrade)?; // FAULT.3
        if writes && !inode.layouts.is_empty() {
            return Ok(()); // W-6: looked at again under ML R; the processor tries again
        }
        if self.is_beyond_end(task, mapping, index)? {
            return Err(Errno::EFAULT.into());
        }
        let page = entry.unwrap_or_else(|| self.add_page(inode, index)); // FAULT.3: find or add
        let _locked = page.lock().lock(task)?; // FAULT.4
        if !page.is_attached() {
            if is_upgrade && self.defects().has(Defect::MkwriteSkipsMappingRecheck) {
                return self.install(task, mapping, &page, writes);
            }
            return Ok(()); // FAULT.4: evicted meanwhile; the processor tries again
        }
        self.fill_locked(task, inode, &page)?;
        if self.is_beyond_end(task, mapping, index)? {
            return Err(Errno::EFAULT.into()); // FAULT.4: the size is looked at again
        }
        let Some(_rl) = self.historical_range(task, mapping, index, writes)? else {
            return Ok(()); // a defect only: F-2
        };
        if writes {
            self.wait_stable(task, inode, &page)?; // FAULT.4, X-9
            if !page.is_dirty() {
                // FAULT.5, FAULT.6: Hole -> Delalloc, never Written; dirty.
                drop(self.dirty_page(task, inode, &page, reserve, || ())?);
            }
        }
        self.install(task, mapping, &page, writes) // FAULT.7
        // FAULT.8: -PAGE -ML -MM
    }

    /// Map-around of a read fault: pages near the block that are there get entries, too. No page is
    /// waited for (Linux's `filemap_map_pages`). Tells whether the block has an entry now. MM is
    /// held.
    fn map_around(&self, task: &Task, mapping: &MappingState, index: u64) -> Result<bool> {
        let around = u64::from(self.options().faultaround);
        if around == 0 {
            return Ok(false);
        }
        let first = index - index % around;
        let window = Blocks::new(first, first + around).intersection(mapping.blocks());
        let range = window.bytes().lock_range();
        let locks = !self.defects().has(Defect::FaultAroundUnlocked);
        let ml = locks.then(|| mapping.inode.ml.lock(task, range, Mode::Read));
        let _ml = ml.transpose()?;
        for near in window.iter() {
            let Some(page) = mapping.inode.pages.find(near) else { continue };
            let locked = locks.then(|| page.lock().try_lock(task));
            if matches!(locked, Some(None)) {
                continue;
            }
            // Whatever is asked under PAGE stays so until the entry is there (P-5).
            let is_usable = page.is_attached() && page.is_uptodate();
            if is_usable
                && mapping.translate(near, false).is_none()
                && !self.is_beyond_end(task, mapping, near)?
            {
                self.install(task, mapping, &page, false)?;
            }
        }
        Ok(mapping.translate(index, false).is_some())
    }

    /// RL as two defects take it in a write fault, against F-2; none if the fault is to be tried
    /// again.
    fn historical_range(
        &self,
        task: &Task,
        mapping: &MappingState,
        index: u64,
        writes: bool,
    ) -> Result<Option<Option<Guard>>> {
        let (rl, range) = (&mapping.inode.rl, Blocks::one(index).bytes().lock_range());
        if writes && self.defects().has(Defect::MkwriteTakesIolock) {
            return Ok(Some(Some(rl.lock(task, range, Mode::Write)?)));
        }
        if writes && self.defects().has(Defect::MkwriteRetryUnbounded) {
            return Ok(rl.try_lock(task, range, Mode::Write).map(Some));
        }
        Ok(Some(None))
    }

    /// FAULT.3: ML R of the block.
    fn lock_fault(
        &self,
        task: &Task,
        inode: &Inode,
        index: u64,
        writes: bool,
        is_upgrade: bool,
    ) -> Result<Option<Guard>> {
        let range = Blocks::one(index).bytes().lock_range();
        if self.defects().has(Defect::FaultHoldsPageThenMl) {
            let page = self.add_page(inode, index);
            let _locked = page.lock().lock(task)?;
            drop(inode.ml.lock(task, range, Mode::Read)?);
        }
        let skips = match writes {
            true => is_upgrade && self.defects().has(Defect::MkwriteNoInvalidateLock),
            false => self.defects().has(Defect::MkwriteOnlyLock),
        };
        if skips {
            return Ok(None);
        }
        Ok(Some(inode.ml.lock(task, range, Mode::Read)?))
    }

    /// The page behind a read-only entry, for those who only upgrade the entry.
    fn entry_to_upgrade(
        &self,
        mapping: &MappingState,
        index: u64,
        writes: bool,
    ) -> Option<Rc<Page>> {
        let upgrades = self.defects().has(Defect::MkwriteNoInvalidateLock)
            || self.defects().has(Defect::MkwriteSkipsMappingRecheck);
        if upgrades && writes { mapping.translate(index, false) } else { None }
    }

    /// Whether a block lies behind the last one of the file.
    fn is_beyond_end(&self, task: &Task, mapping: &MappingState, index: u64) -> Result<bool> {
        task.site(&SIZE, Object::new(kind::INODE, mapping.inode.ino.0, 0), Access::Read)?;
        Ok(index * BLOCK_BYTES >= mapping.inode.size())
    }

    fn install(
        &self,
        task: &Task,
        mapping: &MappingState,
        page: &Rc<Page>,
        writes: bool,
    ) -> Result<()> {
        let is_unlocked = self.defects().has(Defect::FaultAroundUnlocked);
        debug_assert!(page.lock().is_locked() || is_unlocked, "P-5: entries appear under PAGE");
        let skips = self.defects().has(Defect::MkwriteSkipsMappingRecheck) && !page.is_attached();
        let _pte = self.mm().pte.lock(task)?;
        task.site(
            &INSTALL,
            Object::new(kind::PAGE, mapping.inode.ino.0, page.index()),
            Access::Write,
        )?;
        if is_unlocked && !writes || skips {
            mapping.insert(page, writes);
        } else {
            mapping.install(page, writes); // P-4
        }
        Ok(())
    }
}
