//! The address space: mappings of files and their page-table entries.
//!
//! All tasks are threads of one process: one MM lock, one page table. A processor looks at an entry
//! without a lock, as here; entries change under PTE.
//!
//! Promises: a writable entry exists only for a dirty page (P-4), and no entry outlives the page's
//! place in the cache (P-5). It must never know extents.

use crate::classes::{MM, PTE, kind};
use crate::error::{Errno, Error, Result};
use crate::fs::{File, Fs};
use crate::inode::Inode;
use crate::inode::pages::Page;
use crate::inode::span::{Blocks, Span};
use crate::paths::memory::Touch;
use crate::types::BLOCK_BYTES;
use machine::cell::{Cell, RefCell};
use machine::{Access, Machine, Mutex, Object, RwLock, Site, Task};
use std::collections::BTreeMap;
use std::rc::Rc;

static LOAD: Site = Site::new("user.load");
static STORE: Site = Site::new("user.store");

/// The address space of all tasks.
pub struct Mm {
    /// The list of mappings: read by faults, written by mmap and munmap.
    pub lock: RwLock,
    /// The page-table entries.
    pub pte: Mutex,
    next: Cell<u64>,
}

/// A page-table entry: present, and writable or not. An absent one is none.
struct Pte {
    page: Rc<Page>,
    writable: bool,
}

/// A mapping as the kernel has it.
pub struct MappingState {
    /// Its number.
    pub id: u64,
    /// The file.
    pub inode: Rc<Inode>,
    /// Where in the file it begins, in bytes: a multiple of the block size.
    pub offset: u64,
    /// How many bytes of address space.
    pub len: u64,
    /// By block of the file.
    entries: RefCell<BTreeMap<u64, Pte>>,
    unmapped: Cell<bool>,
}

/// A mapping as a user has it: a range of addresses.
#[derive(Clone)]
pub struct Mapping(Rc<MappingState>, File);

impl Mm {
    pub(crate) fn new(machine: &Machine) -> Mm {
        Mm {
            lock: RwLock::new(machine, &MM, (0, 0)),
            pte: Mutex::new(machine, &PTE, (0, 0)),
            next: Cell::new(1),
        }
    }
}

impl MappingState {
    /// The blocks of the file that it shows.
    pub fn blocks(&self) -> Blocks {
        Span::new(self.offset, self.offset + self.len).blocks()
    }

    /// What entries there are: the page, and whether it may be written through.
    pub fn for_each_entry(&self, mut visit: impl FnMut(&Rc<Page>, bool)) {
        self.entries.borrow().values().for_each(|entry| visit(&entry.page, entry.writable));
    }

    /// Whether it was removed.
    pub fn is_unmapped(&self) -> bool {
        self.unmapped.get()
    }

    /// The page behind an address, if an entry allows the access.
    pub(crate) fn translate(&self, index: u64, writes: bool) -> Option<Rc<Page>> {
        let entries = self.entries.borrow();
        let entry = entries.get(&index)?;
        (entry.writable || !writes).then(|| entry.page.clone())
    }

    /// Sets an entry. Under PTE and the page's lock.
    pub(crate) fn install(&self, page: &Rc<Page>, writable: bool) {
        assert!(page.is_attached() && page.is_uptodate(), "P-5: entries lead into the cache");
        assert!(!writable || page.is_dirty(), "P-4: a writable entry makes the page dirty first");
        self.insert(page, writable);
    }

    /// Sets an entry, as [`install`](Self::install) does, of a page that may be anything.
    pub(crate) fn insert(&self, page: &Rc<Page>, writable: bool) {
        self.inode.pages.note_change();
        self.entries.borrow_mut().insert(page.index(), Pte { page: page.clone(), writable });
    }

    fn zap(&self, blocks: Blocks) {
        self.inode.pages.note_change();
        let mut entries = self.entries.borrow_mut();
        while let Some((&index, _)) = entries.range(blocks.iter()).next() {
            entries.remove(&index);
        }
    }

    fn write_protect(&self, blocks: Blocks) {
        self.entries.borrow_mut().range_mut(blocks.iter()).for_each(|(_, it)| it.writable = false);
    }
}

impl Mapping {
    /// The mapping as the kernel has it.
    pub(crate) fn state(&self) -> &Rc<MappingState> {
        &self.0
    }

    /// The open file that was mapped.
    pub fn file(&self) -> &File {
        &self.1
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether it shows nothing; never, as such a mapping is refused.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The part of the file behind `len` bytes of addresses from `offset` on.
    pub(crate) fn file_span(&self, offset: u64, len: u64) -> Result<Span> {
        let end = offset.checked_add(len).filter(|&end| end <= self.0.len);
        if self.0.unmapped.get() {
            return Err(Errno::EFAULT.into());
        }
        let end = end.ok_or(Error::Refused(Errno::EFAULT))?;
        Ok(Span::new(self.0.offset + offset, self.0.offset + end))
    }
}

impl Fs {
    /// Maps `len` bytes of a file from `offset` on, shared and writable.
    ///
    /// # Errors
    /// `EINVAL` if the offset is no multiple of the block size or nothing is mapped.
    pub fn mmap(&self, task: &Task, file: &File, offset: u64, len: u64) -> Result<Mapping> {
        if !offset.is_multiple_of(BLOCK_BYTES) || len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let span = Span::of(offset, len)?;
        let inode = file.inode().clone();
        let _mm = self.mm().lock.write(task)?;
        let _rmap = inode.rmap.lock(task)?;
        let id = self.mm().next.replace(self.mm().next.get() + 1);
        let state = Rc::new(MappingState {
            id,
            inode: inode.clone(),
            offset,
            len: span.blocks().bytes().len(),
            entries: RefCell::default(),
            unmapped: Cell::new(false),
        });
        inode.mappings.borrow_mut().push(state.clone());
        Ok(Mapping(state, file.clone()))
    }

    /// Removes a mapping. A second time is EINVAL.
    ///
    /// # Errors
    /// `EINVAL`; `Stopped`.
    pub fn munmap(&self, task: &Task, mapping: &Mapping) -> Result<()> {
        let state = mapping.state();
        let _mm = self.mm().lock.write(task)?;
        if state.unmapped.get() {
            return Err(Errno::EINVAL.into());
        }
        let _rmap = state.inode.rmap.lock(task)?;
        let _pte = self.mm().pte.lock(task)?;
        state.zap(state.blocks());
        state.unmapped.set(true);
        state.inode.mappings.borrow_mut().retain(|other| !Rc::ptr_eq(other, state));
        Ok(())
    }

    /// Reads through a mapping, as a processor does: page by page, each at one instant.
    ///
    /// # Errors
    /// `EFAULT` outside of the mapping or beyond the last page of the file; those of reading.
    pub fn load(
        &self,
        task: &Task,
        mapping: &Mapping,
        offset: u64,
        target: &mut [u8],
    ) -> Result<()> {
        let span = mapping.file_span(offset, target.len() as u64)?;
        let mut done = 0;
        for index in span.blocks().iter() {
            let (within, len) = part_of(span, index);
            let page = self.translate(task, mapping, index, Touch::Load)?;
            target[done..done + len].copy_from_slice(&page.data().bytes()[within..within + len]);
            done += len;
        }
        debug_assert_eq!(done, target.len());
        Ok(())
    }

    /// Writes through a mapping, as a processor does: page by page, each at one instant.
    ///
    /// # Errors
    /// As [`load`](Self::load); `NoSpace` where the file has a hole.
    pub fn store_bytes(
        &self,
        task: &Task,
        mapping: &Mapping,
        offset: u64,
        source: &[u8],
    ) -> Result<()> {
        let span = mapping.file_span(offset, source.len() as u64)?;
        let mut done = 0;
        for index in span.blocks().iter() {
            let (within, len) = part_of(span, index);
            let page = self.translate(task, mapping, index, Touch::Store)?;
            let bytes = &source[done..done + len];
            page.change(|content| content[within..within + len].copy_from_slice(bytes));
            done += len;
        }
        debug_assert_eq!(done, source.len());
        Ok(())
    }

    /// The page behind an address, faulted in as often as needed. Nothing runs between the return
    /// and the access.
    fn translate(
        &self,
        task: &Task,
        mapping: &Mapping,
        index: u64,
        touch: Touch,
    ) -> Result<Rc<Page>> {
        let state = mapping.state();
        let mut has_faulted = false;
        loop {
            task.may_fault()?; // F-1: asked even if the page is resident
            if let Some(page) = self.resident(task, mapping, index, touch)? {
                return Ok(page);
            }
            if state.unmapped.get() {
                return Err(Errno::EFAULT.into());
            }
            self.fault(task, state, index, touch == Touch::Store)?;
            if std::mem::replace(&mut has_faulted, true) {
                task.progress("a page fault")?; // of the same page again
            }
        }
    }

    /// The page behind an address if the page table has it: nofault (F-4), legal under any lock.
    /// Nothing runs between the return and the access.
    pub(crate) fn resident(
        &self,
        task: &Task,
        mapping: &Mapping,
        index: u64,
        touch: Touch,
    ) -> Result<Option<Rc<Page>>> {
        let (state, writes) = (mapping.state(), touch == Touch::Store);
        let site = if writes { &STORE } else { &LOAD };
        let access = if writes { Access::Write } else { Access::Read };
        task.site(site, Object::new(kind::PAGE, state.inode.ino.0, index), access)?;
        Ok(state.translate(index, writes))
    }

    /// Makes what was stored through a mapping durable, as MS_SYNC does.
    ///
    /// # Errors
    /// `EFAULT` outside of the mapping; those of fsync.
    pub fn msync(&self, task: &Task, mapping: &Mapping, offset: u64, len: u64) -> Result<()> {
        let span = {
            let _mm = self.mm().lock.read(task)?;
            // ENOMEM is what msync says of addresses that are not mapped.
            mapping.file_span(offset, len).map_err(|_| Error::Refused(Errno::ENOMEM))?
        };
        // F-3: MM is dropped before anything of the file is locked.
        mapping.file().fsync_range(task, span)
    }

    /// Removes the entries of a range of the file in every mapping.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn zap(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<()> {
        let _rmap = inode.rmap.lock(task)?;
        if inode.mappings.borrow().is_empty() {
            return Ok(());
        }
        let _pte = self.mm().pte.lock(task)?;
        inode.mappings.borrow().iter().for_each(|mapping| mapping.zap(blocks));
        Ok(())
    }

    /// Makes the entries of a range of the file read-only in every mapping (P-4).
    ///
    /// # Errors
    /// `Stopped`.
    pub fn write_protect(&self, task: &Task, inode: &Inode, blocks: Blocks) -> Result<()> {
        let _rmap = inode.rmap.lock(task)?;
        if inode.mappings.borrow().is_empty() {
            return Ok(());
        }
        let _pte = self.mm().pte.lock(task)?;
        inode.mappings.borrow().iter().for_each(|mapping| mapping.write_protect(blocks));
        Ok(())
    }
}

impl Inode {
    /// Whether any mapping has an entry for a block of the file.
    pub fn is_mapped(&self, blocks: Blocks) -> bool {
        let mappings = self.mappings.borrow();
        mappings.iter().any(|it| it.entries.borrow().range(blocks.iter()).next().is_some())
    }
}

/// The part of block `index` that lies in `span`: where it begins in the block, and its length.
pub(crate) fn part_of(span: Span, index: u64) -> (usize, usize) {
    let part = span.intersection(Blocks::one(index).bytes());
    ((part.start - index * BLOCK_BYTES) as usize, part.len() as usize)
}
