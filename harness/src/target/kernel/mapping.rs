//! Shared mappings of files, whose memory only the kernel touches.
//!
//! One of the rooms with `unsafe`. The argument: a mapping is made at an address of the kernel's
//! choice, so it overlaps no other object; it lives as long as its value; and this program never
//! dereferences its memory. Loads and stores are `pwrite` and `pread` of a scratch file with the
//! mapping as user buffer: the kernel copies through our page table, so the faults are those of
//! CPU loads and stores (`copy_from_user`, `copy_to_user`; not the pinning of
//! `process_vm_writev`), but a fault beyond the end of the file ends in a short count instead of
//! SIGBUS. A slice over the memory is only ever made to be handed to a system call.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use std::ffi::c_void;

/// Bytes in a page.
const PAGE_BYTES: u64 = 4096;

/// A shared, writable mapping of a range of a file.
#[derive(Debug)]
pub(super) struct Mapping {
    address: *mut c_void,
    len: usize,
}

// SAFETY: the address is that of memory which belongs to the value; only system calls access it,
// and those may do so from any thread at any time.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Mapping::new`, and no slice over it outlives a borrow of
        // the value. Unmapping what is mapped cannot fail in a way that one could handle.
        let _ = unsafe { rustix::mm::munmap(self.address, self.len) };
    }
}

impl Mapping {
    /// Maps `len` bytes of the file from `offset` on; both are multiples of the page size.
    pub(super) fn new(file: impl AsFd, offset: u64, len: u64) -> Result<Mapping, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: without MAP_FIXED the kernel takes free addresses, so nothing is replaced.
        let address =
            unsafe { rustix::mm::mmap(anywhere, len, access, MapFlags::SHARED, file, offset)? };
        Ok(Mapping { address, len })
    }

    /// The place of `[offset, offset + len)` in memory; EFAULT if the mapping does not hold it.
    fn place(&self, offset: u64, len: usize) -> Result<*mut u8, Errno> {
        let end = offset.checked_add(len as u64).ok_or(Errno::FAULT)?;
        if end > self.len as u64 {
            return Err(Errno::FAULT);
        }
        Ok(self.address.cast::<u8>().wrapping_add(offset as usize))
    }

    /// Stores `bytes` at `offset`; EFAULT, after a part of them may be stored, where the file has
    /// no page.
    pub(super) fn store(&self, scratch: &Scratch, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let place = self.place(offset, bytes.len())?;
        scratch.put(bytes)?;
        // SAFETY: `place` checked that the mapping holds the range, and `self` keeps it. The slice
        // goes to the kernel only.
        let memory = unsafe { std::slice::from_raw_parts_mut(place, bytes.len()) };
        whole(bytes.len(), rustix::io::pread(&scratch.0, memory, 0)?)
    }

    /// Loads `out.len()` bytes from `offset` on; EFAULT where the file has no page.
    pub(super) fn load(&self, scratch: &Scratch, offset: u64, out: &mut [u8]) -> Result<(), Errno> {
        let place = self.place(offset, out.len())?;
        // SAFETY: as in `store`.
        let memory = unsafe { std::slice::from_raw_parts(place, out.len()) };
        whole(out.len(), rustix::io::pwrite(&scratch.0, memory, 0)?)?;
        whole(out.len(), rustix::io::pread(&scratch.0, out, 0)?)
    }

    /// `pwrite` of the file with the mapping's memory from `offset` on as user buffer.
    pub(super) fn write_to(
        &self,
        (offset, len): (u64, usize),
        file: impl AsFd,
        position: u64,
    ) -> Result<usize, Errno> {
        let place = self.place(offset, len)?;
        // SAFETY: as in `store`.
        let memory = unsafe { std::slice::from_raw_parts(place, len) };
        rustix::io::pwrite(file, memory, position)
    }

    /// `pread` of the file with the mapping's memory from `offset` on as user buffer.
    pub(super) fn read_from(
        &self,
        (offset, len): (u64, usize),
        file: impl AsFd,
        position: u64,
    ) -> Result<usize, Errno> {
        let place = self.place(offset, len)?;
        // SAFETY: as in `store`.
        let memory = unsafe { std::slice::from_raw_parts_mut(place, len) };
        rustix::io::pread(file, memory, position)
    }

    /// `msync(MS_SYNC)` of the pages that hold `[offset, offset + len)`; ENOMEM if the mapping
    /// does not.
    pub(super) fn msync(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let start = offset - offset % PAGE_BYTES;
        let len = usize::try_from(len + (offset - start)).map_err(|_| Errno::NOMEM)?;
        let place = self.place(start, len).map_err(|_| Errno::NOMEM)?;
        // SAFETY: `place` checked that the mapping holds the range.
        unsafe { rustix::mm::msync(place.cast(), len, MsyncFlags::SYNC) }
    }
}

/// Loads and stores are all or EFAULT.
fn whole(wanted: usize, done: usize) -> Result<(), Errno> {
    if done == wanted { Ok(()) } else { Err(Errno::FAULT) }
}

/// The other side of loads and stores: a file in memory. One for each task.
#[derive(Debug)]
pub(super) struct Scratch(OwnedFd);

impl Scratch {
    /// An empty one.
    pub(super) fn new() -> Result<Scratch, Errno> {
        rustix::fs::memfd_create("powerfail-scratch", MemfdFlags::CLOEXEC).map(Scratch)
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Errno> {
        whole(bytes.len(), rustix::io::pwrite(&self.0, bytes, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_file_answers_with_efault() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096 + 100).unwrap();
        let (mapping, scratch) = (Mapping::new(&file, 0, 16384).unwrap(), Scratch::new().unwrap());
        mapping.store(&scratch, 4000, &[7; 1000]).unwrap();
        assert_eq!(mapping.store(&scratch, 8000, &[9; 500]), Err(Errno::FAULT));
        let mut out = [0; 192];
        mapping.load(&scratch, 8000, &mut out).unwrap();
        assert_eq!(out, [9; 192], "the part inside is stored");
        assert_eq!(mapping.load(&scratch, 8190, &mut out), Err(Errno::FAULT));
        assert_eq!(mapping.load(&scratch, 12000, &mut out), Err(Errno::FAULT));
        assert_eq!(mapping.load(&scratch, 16380, &mut out), Err(Errno::FAULT), "outside");
        let mut read = [0; 200];
        assert_eq!(rustix::io::pread(&file, &mut read, 4000), Ok(196));
        assert_eq!(read[..196], [7; 196]);
        mapping.msync(4000, 100).unwrap();
        assert_eq!(mapping.msync(16000, 1000), Err(Errno::NOMEM));
    }
}
