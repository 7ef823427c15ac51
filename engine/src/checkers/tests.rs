//! Each checker of what is in memory and of requests fires when its rule is broken by hand, and is
//! silent while the engine works.

use super::*;
use crate::defects::Defects;
use crate::error::Result;
use crate::fs::{File, Sync};
use crate::inode::extents::{Extent, ExtentState};
use crate::inode::span::{Blocks, Span};
use crate::mkfs::mkfs;
use crate::options::{ImageOptions, MountOptions};
use crate::paths::writeback::Effort;
use crate::types::TransactionId;
use machine::choosers::RoundRobin;
use machine::disk::{BlockSource, Note, Request};
use machine::medium::Medium;
use machine::{Access, Block, Config, Disk, End, Kind, Object, Site, Task};
use std::rc::Rc;

static STEP: Site = Site::new("test.step");

/// Runs `body` on a watched file system with a file of two written blocks; the first suspicion.
fn seen(body: fn(&Task, &Fs, &File) -> Result<()>) -> Option<String> {
    let image = ImageOptions { poison: false, ..ImageOptions::default() };
    let device = |(number, blocks): (usize, u64)| -> Rc<dyn BlockSource> {
        let medium = Medium::anonymous(blocks, number as u8).expect("memory");
        Rc::new(std::cell::RefCell::new(medium))
    };
    let bases = image.devices().into_iter().enumerate().map(device).collect();
    let machine = Machine::new(Config::default(), Disk::new(bases), Box::new(RoundRobin));
    let work = move |task: &Task| -> Result<()> {
        mkfs(task, &image)?;
        let fs = Fs::mount(task, &MountOptions::default(), Defects::NONE)?;
        fs.watch();
        let file = fs.create(task, "f")?;
        file.write(task, 0, &[7; 8192], Sync::None)?;
        fs.sync(task)?;
        assert!(task.machine().suspicion().is_none(), "{:?}", task.machine().suspicion());
        body(task, &fs, &file)
    };
    let result = Rc::new(std::cell::Cell::new(false));
    let is_fine = result.clone();
    let body = move |task: &Task| {
        is_fine.set(work(task).is_ok());
        Ok(())
    };
    machine.spawn("test", Kind::Foreground, Box::new(body));
    let end = machine.run();
    assert!(end == End::Done && result.get(), "{:?}", *machine.faults());
    machine.suspicion().map(|fault| fault.message)
}

#[track_caller]
fn fires(rule: &str, body: fn(&Task, &Fs, &File) -> Result<()>) {
    let message = seen(body).unwrap_or_else(|| panic!("{rule} is broken and nothing is said"));
    assert!(message.starts_with(&format!("{rule}: ")), "{rule}: {message}");
    let who = if rule == "X-9" { "of data at block" } else { "task test" };
    assert!(message.contains(who), "who did it: {message}");
}

/// The block of the device that holds the first block of a file.
fn first_block(file: &File) -> u64 {
    file.inode().extents.borrow().at(0).expect("it was written").block
}

fn submit(task: &Task, request: Request, what: &'static str, tag: u64) -> Result<()> {
    let bio = task.submit(request, Note { tag, what })?;
    let _outcome = bio.wait(task)?;
    Ok(())
}

/// Some content.
fn content() -> Block {
    Block::from_slice(b"content")
}

#[test]
fn a_working_engine_is_above_suspicion() {
    let message = seen(|task, fs, file| {
        let mapping = file.mmap(task, 0, 8192)?;
        fs.store_bytes(task, &mapping, 4000, &[1; 200])?;
        file.direct_write(task, 4096, &[2; 4096], Sync::None)?;
        file.fsync(task)?;
        file.punch(task, Span::new(0, 4096))?;
        let other = fs.create(task, "g")?;
        file.clone_range(task, 4096, &other, 0, 4096)?;
        file.write(task, 4096, &[3; 4096], Sync::Data)?;
        fs.unlink(task, "f")?;
        fs.sync(task)?;
        other.read(task, 0, &mut [0; 4096])?;
        fs.unmount(task)
    });
    assert_eq!(message, None);
}

#[test]
fn pages_and_page_tables_agree() {
    fires("P-4", |task, fs, file| {
        let mapping = file.mmap(task, 0, 8192)?;
        fs.store_bytes(task, &mapping, 0, &[1; 8])?;
        let page = file.inode().pages.find(0).expect("it is resident");
        file.inode().pages.clear_dirty(&page);
        page.drop_reserve();
        file.fsync(task)
    });
    fires("P-5", |task, fs, file| {
        let mapping = file.mmap(task, 0, 8192)?;
        fs.load(task, &mapping, 0, &mut [0; 8])?;
        let page = file.inode().pages.find(0).expect("it is resident");
        file.inode().pages.detach(&page);
        file.fsync(task)
    });
    fires("X-1", |task, _, file| {
        file.write(task, 8192, &[1; 4096], Sync::None)?;
        file.inode().pages.find(2).expect("it is dirty").drop_reserve();
        file.inode().pages.note_change();
        file.stat(task).map(drop)
    });
}

#[test]
fn pages_enter_and_become_dirty_under_their_locks() {
    fires("P-1", |_, fs, file| {
        fs.add_page(file.inode(), 5);
        Ok(())
    });
    fires("P-2", |_, fs, file| {
        let page = file.inode().pages.find(0).expect("it is cached");
        fs.look_at_dirtied(file.inode(), &page);
        Ok(())
    });
}

#[test]
fn a_page_under_writeback_is_stable() {
    fires("X-9", |task, fs, file| {
        let inode = file.inode();
        file.write(task, 0, &[9; 4096], Sync::None)?;
        fs.write_range(task, inode, Span::ALL.blocks(), Effort::Wait)?;
        let page = inode.pages.find(0).expect("it is under writeback");
        page.change(|bytes| bytes[0] ^= 1);
        fs.wait_writeback(task, inode, Span::ALL.blocks())
    });
    fires("X-9", |task, fs, file| {
        let inode = file.inode();
        file.write(task, 0, &[9; 4096], Sync::None)?;
        fs.write_range(task, inode, Span::ALL.blocks(), Effort::Wait)?;
        let ordered = inode.ordered.borrow().iter().next().expect("in flight").clone();
        ordered.digests.borrow_mut()[0][0] ^= 1;
        fs.wait_writeback(task, inode, Span::ALL.blocks())
    });
}

#[test]
fn a_pair_is_whole() {
    fires("X-2", |task, fs, file| {
        let inode = file.inode();
        file.write(task, 0, &[9; 4096], Sync::None)?;
        fs.write_range(task, inode, Span::ALL.blocks(), Effort::Wait)?;
        let pending = inode.extents.borrow_mut().remove(Blocks::one(0));
        task.site(&STEP, Object::NONE, Access::Read)?;
        inode.extents.borrow_mut().restore(pending);
        fs.wait_writeback(task, inode, Span::ALL.blocks())
    });
}

#[test]
fn blocks_are_touched_by_their_owners_only() {
    const RULE: &str = "ownership";
    // Data without an ordered extent, over what the superblock reaches.
    fires(RULE, |task, _, file| {
        let request = Request::write(DeviceId(0), first_block(file), content());
        submit(task, request, "data", file.inode().ino.0)
    });
    // Metadata over data, data over metadata.
    fires(RULE, |task, _, file| {
        let request = Request::write(DeviceId(0), first_block(file), content());
        submit(task, request, "tree node", 0)
    });
    fires(RULE, |task, fs, file| {
        let root = fs.store().superblock().roots[0].ptr.block;
        let request = Request::write(DeviceId(0), root, content());
        submit(task, request, "data", file.inode().ino.0)
    });
    // A free block.
    fires(RULE, |task, fs, _| {
        let free = fs.store().blocks() - 1;
        submit(task, Request::write(DeviceId(0), free, content()), "tree node", 0)
    });
    // A discard of what is in use, and reads by those who own nothing.
    fires(RULE, |task, _, file| {
        let (device, block) = (DeviceId(0), first_block(file));
        submit(task, Request::Discard { device, block, count: 1 }, "discard", 0)
    });
    fires(RULE, |task, _, file| {
        submit(task, Request::read(DeviceId(0), first_block(file)), "tree node", 0)
    });
    fires("X-6", |task, fs, file| {
        let free = fs.store().blocks() - 1;
        submit(task, Request::read(DeviceId(0), free), "data", file.inode().ino.0)
    });
    fires("X-1", |task, fs, file| {
        let (inode, store) = (file.inode(), fs.store());
        let handle = fs.join(task)?;
        let block = store.allocate_data(task, &handle, 1, None, None)?.block;
        let (state, generation) = (ExtentState::Written, TransactionId(handle.generation()));
        let blocks = Blocks::one(9);
        inode.extents.borrow_mut().insert(Extent { blocks, block, state, generation });
        submit(task, Request::read(DeviceId(0), block), "data", inode.ino.0)
    });
    fires("X-5", |task, fs, file| {
        let inode = file.inode();
        file.write(task, 0, &[9; 4096], Sync::None)?;
        fs.write_range(task, inode, Span::ALL.blocks(), Effort::Wait)?;
        submit(task, Request::read(DeviceId(0), first_block(file)), "data", inode.ino.0)?;
        fs.wait_writeback(task, inode, Span::ALL.blocks())
    });
}
