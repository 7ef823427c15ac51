//! RECLAIM, and the eviction that other paths ask for (races.md §7.4, P-5).
//!
//! Promises: a page leaves the cache only when nothing leads to it: no entry, no writeback, no
//! reference. It must never know why memory is short.

use crate::classes::kind;
use crate::defects::Defect;
use crate::error::Result;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::span::Blocks;
use crate::types::TransactionId;
use machine::{Access, Object, Site, Task};
use std::rc::Rc;

static EVICT: Site = Site::new("page.evict");
static RECLAIM: Site = Site::new("page.reclaim");

impl Fs {
    /// P-5: takes the pages of a range out of the cache; what is dirty is given up. ML W of the
    /// range is held, and RL W of what is dirty.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn evict(&self, task: &Task, inode: &Rc<Inode>, blocks: Blocks) -> Result<()> {
        let is_historical = self.defects().has(Defect::PunchNoInvalidateLock)
            || self.defects().has(Defect::TruncateSizeLast)
            || self.defects().has(Defect::DedupeDstMmapUnlocked);
        debug_assert!(inode.ml.is_locked() || is_historical, "P-5: under ML W");
        if inode.pages.first_in(blocks).is_none() {
            return Ok(());
        }
        self.zap(task, inode, blocks)?; // P-5: in bulk
        let mut rest = blocks;
        while let Some(page) = inode.pages.first_in(rest) {
            let index = page.index();
            rest.start = index + 1;
            task.site(&EVICT, Object::new(kind::PAGE, inode.ino.0, index), Access::Write)?;
            let _locked = page.lock().lock(task)?; // P-5: per page
            if !page.is_attached() {
                continue;
            }
            if inode.is_mapped(Blocks::one(index)) {
                self.zap(task, inode, Blocks::one(index))?; // P-5: again
            }
            while page.is_under_writeback() {
                self.wait_page(task, inode, &page)?;
            }
            self.drop_page(inode, &page);
        }
        Ok(())
    }

    /// Takes a locked page out of the cache, dirty or not.
    pub(super) fn drop_page(&self, inode: &Inode, page: &crate::inode::pages::Page) {
        assert!(!inode.is_mapped(Blocks::one(page.index())), "P-5: no entry is left");
        inode.pages.clear_dirty(page);
        page.drop_reserve();
        inode.pages.detach(page);
        self.count_pages(0, 1);
    }

    /// RECLAIM: drops clean pages of a range that nobody uses, up to `count`. Takes no lock that it
    /// would have to wait for. Tells how many.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn reclaim_pages(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        blocks: Blocks,
        count: usize,
    ) -> Result<usize> {
        let mut dropped = 0;
        let mut rest = blocks;
        while dropped < count {
            let Some(page) = inode.pages.first_in(rest) else { break };
            let index = page.index();
            rest.start = index + 1;
            task.site(&RECLAIM, Object::new(kind::PAGE, inode.ino.0, index), Access::Write)?;
            let Some(_locked) = page.lock().try_lock(task) else { continue };
            machine::footprint::touch_everything();
            // The cache has one reference, this function the other.
            let is_used = Rc::strong_count(&page) > 2 || inode.is_mapped(Blocks::one(index));
            let is_clean = !page.is_dirty() && !page.is_under_writeback();
            if page.is_attached() && is_clean && !is_used {
                self.drop_page(inode, &page);
                dropped += 1;
                if self.defects().has(Defect::EmReleasedBeforeFastFsync) {
                    let running = TransactionId(self.store().generation());
                    inode.log.take_ranges(running, Blocks::one(index));
                }
            }
        }
        Ok(dropped)
    }
}
