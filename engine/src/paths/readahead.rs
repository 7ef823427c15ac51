//! READAHEAD: blocks are read before somebody asks for them.
//!
//! ```text
//! READAHEAD  1 +ML R(range)  2 clamp to the size; pages that are missing come in, locked
//!            3 EXT R map(+read pin), -EXT; holes are zeros at once; what a write in flight has is
//!            not waited for: the page goes again  4 submit, PAGEs moved to the request  5 -ML
//!            end: verify, content, uptodate, -PAGE
//! ```
//!
//! The steps are those of Linux's `page_cache_ra_unbounded`: the mapping lock is held until the
//! requests are submitted, not until they end. Whoever wants a page that is on its way, to read or
//! to evict it, waits for its lock.
//!
//! Promises: pages come in under ML R (P-1), and nobody sees them before they have their content;
//! no error is told, as who needs a page that has no content reads it again. It must never know who
//! will read.

use super::read::{BlockContent, Readable, Reader, give_content, read_request};
use crate::classes::kind;
use crate::defects::Defect;
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, Span};
use crate::types::BLOCK_BYTES;
use machine::disk::Note;
use machine::{Access, Block, Guard, Mode, Object, Server, Site, Task};
use smallvec::SmallVec;
use std::rc::Rc;

static ADD: Site = Site::new("readahead.add");
static MAP: Site = Site::new("readahead.map");

/// Pages of consecutive blocks, each with its lock.
type LockedPages = SmallVec<[(Rc<Page>, Guard); 4]>;

impl File {
    /// Begins to read what is not cached of a range, as readahead(2) asks for.
    ///
    /// # Errors
    /// `Stopped`; advice fails for no other reason.
    pub fn advise_readahead(&self, task: &Task, span: Span) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        self.fs().read_ahead(task, self.inode(), span.blocks())
    }
}

impl Fs {
    /// READAHEAD as a read or a fault begins it that misses a page: of the block and of those
    /// behind it, as many as the mount says. At most RL and MM are held.
    ///
    /// # Errors
    /// `Stopped`.
    pub(super) fn read_ahead_from(&self, task: &Task, inode: &Rc<Inode>, index: u64) -> Result<()> {
        let ahead = u64::from(self.options().readahead);
        if ahead == 0 || inode.pages.find(index).is_some() {
            return Ok(());
        }
        self.read_ahead(task, inode, Blocks::new(index, index + 1 + ahead))
    }

    /// READAHEAD.
    fn read_ahead(&self, task: &Task, inode: &Rc<Inode>, blocks: Blocks) -> Result<()> {
        let locks = !self.defects().has(Defect::ReadaheadUnlocked);
        let range = blocks.bytes().lock_range();
        let _ml = locks.then(|| inode.ml.lock(task, range, Mode::Read)).transpose()?; // RA.1, P-1
        task.site(&ADD, Object::new(kind::INODE, inode.ino.0, blocks.start), Access::Write)?;
        let end = inode.size().div_ceil(BLOCK_BYTES);
        let mut rest = Blocks::new(blocks.start.min(end), blocks.end.min(end)); // RA.2
        while !rest.is_empty() {
            let pages = self.add_missing(task, inode, &mut rest)?; // RA.2
            self.begin_fills(task, inode, pages)?; // RA.3, RA.4
        }
        Ok(()) // RA.5
    }

    /// RA.2: the first blocks of `rest` that are not cached come in as locked pages: no scheduling
    /// point, so that nobody else has them yet.
    fn add_missing(&self, task: &Task, inode: &Inode, rest: &mut Blocks) -> Result<LockedPages> {
        let is_cached = |index| inode.pages.find(index).is_some();
        while !rest.is_empty() && is_cached(rest.start) {
            rest.start += 1;
        }
        let mut pages = LockedPages::new();
        while !rest.is_empty() && !is_cached(rest.start) {
            let page = self.add_page(inode, rest.start);
            // Only a machine that has stopped refuses the lock of a new page.
            let guard = page.lock().try_lock(task).ok_or(Error::Stopped)?;
            pages.push((page, guard));
            rest.start += 1;
        }
        Ok(pages)
    }

    /// RA.3 and RA.4. What cannot be found out is left without content.
    fn begin_fills(&self, task: &Task, inode: &Rc<Inode>, mut pages: LockedPages) -> Result<()> {
        while let Some((first, _)) = pages.first() {
            let start = first.index();
            let blocks = Blocks::new(start, start + pages.len() as u64);
            task.site(&MAP, Object::new(kind::PAGE, inode.ino.0, start), Access::Read)?;
            match self.find_content(task, inode, blocks, Reader::Owner) {
                Ok(BlockContent::Zeros) => {
                    let (page, _locked) = pages.remove(0);
                    give_content(inode, &page, Block::zero());
                }
                Ok(BlockContent::Pending(_)) => {
                    let (page, _locked) = pages.remove(0);
                    self.drop_page(inode, &page); // X-5
                }
                Ok(BlockContent::Data(found, readable)) => {
                    let found = pages.drain(..found.len() as usize).collect();
                    self.submit_fill(task, inode, found, readable)?;
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// RA.4: the pages belong to the request from here on.
    fn submit_fill(
        &self,
        task: &Task,
        inode: &Rc<Inode>,
        pages: LockedPages,
        readable: Readable,
    ) -> Result<()> {
        debug_assert_eq!(pages.len() as u64, readable.run.len_blocks);
        let note = Note { what: "data", tag: inode.ino.0 };
        let request = read_request(readable.run);
        let inode = inode.clone();
        let pages: LockedPages = pages
            .into_iter()
            .map(|(page, guard)| (page, guard.into_token(Server::Device)))
            .collect();
        let end = move |outcome: &std::result::Result<machine::disk::Data, _>| {
            for (at, (page, _locked)) in pages.into_iter().enumerate() {
                if let Ok(data) = outcome
                    && readable.verify_block(at, &data[at]).is_ok()
                {
                    give_content(&inode, &page, data[at].clone());
                }
            }
        };
        task.submit_then(request, note, Box::new(end))?;
        Ok(())
    }
}
