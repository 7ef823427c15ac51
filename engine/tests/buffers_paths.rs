//! Bare nodes on a mounted image, one task at a time: each path of the room of buffers, what a
//! commit makes durable, what errors do, and what the full check and the machine notice.

mod buffers_support;
mod core_support;

use buffers_support::{Bench, read_raw};
use core_support::Rig;
use engine::buffers::{Buffers, Rules, Wait};
use engine::check::ProblemKind;
use engine::error::Error;
use engine::options::{ImageOptions, MountOptions};
use engine::store::region::{block_of, encode};
use machine::disk::{Note, Op, Request, Rule};
use machine::{DeviceId, FaultKind, Kind, Machine};
use std::cell::Cell;
use std::rc::Rc;

fn rig() -> Rig {
    Rig::new(&ImageOptions { buffers: 2, ..ImageOptions::default() })
}

fn mount_options() -> [MountOptions; 3] {
    let plain = MountOptions::default();
    let fast = MountOptions { eb_fast_path: true, ..plain };
    [plain, fast, MountOptions { eb_hunk: true, ..fast }]
}

fn requests(machine: &Machine, op: Op) -> usize {
    let disk = machine.disk();
    let ours = disk.log().requests().iter().filter(|logged| logged.note.what == "buffer");
    ours.filter(|logged| logged.request.op() == op).count()
}

#[test]
fn what_is_modified_is_read_back_from_memory_and_from_the_medium() {
    for options in mount_options() {
        let rig = rig();
        let fs = rig.mount(&options);
        let used = fs.clone();
        rig.run(move |task| {
            let machine = task.machine().clone();
            assert_eq!(used.node_read(task, 1)?, [0, 0]);
            used.node_modify(task, 1, 7)?;
            assert_eq!(used.node_read(task, 1)?, [7, 7]);
            assert_eq!(requests(&machine, Op::Read), 1, "the first read alone was the device's");
            assert!(!used.node_reclaim(task, 1)?, "what is dirty stays");
            used.node_write(task)?;
            assert_eq!(requests(&machine, Op::Write), 2, "a page each");
            assert_eq!(read_raw(task, block_of(1)), encode(1, 7));
            assert!(used.node_reclaim(task, 1)?);
            assert!(!used.node_reclaim(task, 1)?, "it is gone");
            assert_eq!(used.node_read(task, 1)?, [7, 7]);
            assert_eq!(requests(&machine, Op::Read), 2);
            assert_eq!(used.node_read(task, 0)?, [0, 0], "the other one is as it was");
            used.store().buffers().check().expect("I1 to I5");
            Ok(())
        })
        .expect("all of it");
        rig.unmount(fs);
        let problems = rig.run(engine::check).expect("it reads");
        assert_eq!(problems.problems, []);
    }
}

#[test]
fn readahead_reads_for_others_and_a_block_that_is_made_anew_is_not_read() {
    let rig = rig();
    let fs = rig.mount(&MountOptions::default());
    rig.run(move |task| {
        let machine = task.machine().clone();
        fs.node_readahead(task, 0)?;
        assert!(!fs.node_reclaim(task, 0)?, "it is being read");
        fs.node_readahead(task, 0)?;
        assert_eq!(fs.node_read(task, 0)?, [0, 0]);
        assert_eq!(requests(&machine, Op::Read), 1);
        fs.node_modify(task, 0, 3)?;
        fs.node_new(task, 0, 4)?;
        fs.node_new(task, 1, 5)?;
        assert_eq!((fs.node_read(task, 0)?, fs.node_read(task, 1)?), ([4, 4], [5, 5]));
        assert_eq!(requests(&machine, Op::Read), 1);
        fs.commit(task)?;
        assert_eq!(read_raw(task, block_of(0)), encode(0, 4));
        Ok(())
    })
    .expect("all of it");
}

#[test]
fn nodes_that_the_image_does_not_have_are_refused() {
    let rig = Rig::new(&ImageOptions::default());
    let fs = rig.mount(&MountOptions::default());
    let errno = rig.run(move |task| Ok(fs.node_read(task, 0).unwrap_err().errno()));
    assert_eq!(errno.map(|errno| errno.name()), Ok("EOPNOTSUPP"));
    let rig = self::rig();
    let fs = rig.mount(&MountOptions::default());
    let errno = rig.run(move |task| Ok(fs.node_modify(task, 2, 1).unwrap_err().errno()));
    assert_eq!(errno.map(|errno| errno.name()), Ok("EINVAL"));
}

/// E-6: an error that only the buffer knew would go with it, and a commit would succeed.
#[test]
fn a_failed_write_is_remembered_when_its_buffer_is_gone() {
    let rig = rig();
    let fs = rig.mount(&MountOptions::default());
    rig.run(move |task| {
        fs.node_modify(task, 0, 9)?;
        task.machine().disk_mut().fail(Rule::nth(Op::Write, 2));
        assert!(matches!(fs.node_write(task), Err(Error::Io { .. })));
        assert!(fs.node_reclaim(task, 0)?);
        assert!(matches!(fs.commit(task), Err(Error::Io { .. })));
        assert_eq!(fs.node_modify(task, 0, 10), Err(Error::Aborted));
        Ok(())
    })
    .expect("all of it");
}

#[test]
fn a_failed_read_is_told_and_tried_again() {
    let rig = rig();
    let fs = rig.mount(&MountOptions::default());
    rig.run(move |task| {
        task.machine().disk_mut().fail(Rule::nth(Op::Read, 1));
        assert!(matches!(fs.node_read(task, 0), Err(Error::Io { .. })));
        assert_eq!(fs.node_read(task, 0)?, [0, 0]);
        Ok(())
    })
    .expect("all of it");
}

#[test]
fn the_full_check_notices_a_half_that_is_no_version() {
    let rig = rig();
    rig.run(|task| {
        for content in [machine::Block::zero(), encode(0, 3)] {
            let torn = encode(1, 1).overlaid(&content, 0xf0);
            let bio = task.submit(
                Request::write(DeviceId(0), block_of(1), torn),
                Note { tag: 0, what: "damage" },
            )?;
            bio.wait(task)?.expect("it is written");
            let report = engine::check(task)?;
            assert!(report.has(ProblemKind::BareNodeDamaged), "{:?}", report.problems);
        }
        Ok(())
    })
    .expect("all of it");
}

/// I5: a reference that outlives its buffer is a fault, also when the slot is in use again.
#[test]
fn touching_a_freed_buffer_is_a_fault() {
    let bench = Bench::new();
    let room = Buffers::new(&bench.machine, 0, "buffer", Rules::default());
    let reached = Rc::new(Cell::new(false));
    let (inside, seen) = (room.clone(), reached.clone());
    let body = move |task: &machine::Task| {
        let run = || {
            let old = inside.alloc(task, block_of(0))?;
            inside.read(task, old, Wait::Complete)?;
            inside.free(task, old)?;
            assert!(inside.release(task, block_of(0))?);
            let new = inside.alloc(task, block_of(1))?;
            inside.free(task, new)?;
            seen.set(true);
            inside.content(task, old).map(drop)
        };
        assert_eq!(run(), Err(Error::Stopped));
        Ok(())
    };
    bench.machine.spawn("test", Kind::Foreground, Box::new(body));
    bench.machine.run();
    assert!(reached.get(), "what comes before is allowed");
    let faults = bench.machine.faults();
    let keys: Vec<_> = faults.iter().map(|fault| (fault.kind, fault.key.as_str())).collect();
    assert_eq!(keys, [(FaultKind::UseAfterFree, "use-after-free content")]);
}
