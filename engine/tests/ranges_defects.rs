//! Historical defects of clone and dedupe that one program shows by itself: switched on, they break
//! what the clean engine keeps.

#![cfg(feature = "defects")]

mod core_support;

use core_support::Rig;
use engine::defects::{Defect, Defects};
use engine::options::{ImageOptions, MountOptions};
use engine::paths::remap::Dedupe;
use engine::{Fs, Sync};
use machine::Task;

const BLOCK: usize = 4096;

/// What a program reads at its end, with a defect or without.
fn with(
    defects: Defects,
    program: fn(&Task, &Fs) -> engine::Result<Vec<u8>>,
) -> engine::Result<Vec<u8>> {
    let rig = Rig::new(&ImageOptions::default());
    rig.run(move |task| {
        let options = MountOptions { flusher: 0, committer: 0, ..MountOptions::default() };
        let fs = Fs::mount(task, &options, defects)?;
        let read = program(task, &fs)?;
        fs.unmount(task)?;
        Ok(read)
    })
}

fn breaks(defect: Defect, program: fn(&Task, &Fs) -> engine::Result<Vec<u8>>, wanted: &[u8]) {
    assert!(with(Defects::NONE, program).unwrap() == wanted, "the clean engine keeps it");
    assert!(with(Defects::NONE.with(defect), program).unwrap() != wanted, "{defect} breaks it");
}

#[test]
fn a_tail_shared_into_the_middle_loses_what_follows_it() {
    let program = |task: &Task, fs: &Fs| {
        let (a, b) = (fs.create(task, "a")?, fs.create(task, "b")?);
        a.write(task, 0, &[1; BLOCK + 2048], Sync::None)?;
        b.write(task, 0, &[1; 2 * BLOCK], Sync::None)?;
        let found = a.dedupe_range(task, 0, &b, 0, (BLOCK + 2048) as u64)?;
        assert!(matches!(found, Dedupe::Same(_)));
        let mut bytes = vec![0; 2 * BLOCK];
        b.read(task, 0, &mut bytes)?;
        Ok(bytes)
    };
    breaks(Defect::DedupeEofTailUnaligned, program, &[1; 2 * BLOCK]);
}

#[test]
fn bytes_behind_the_end_come_back_in_the_gap_before_a_clone() {
    let program = |task: &Task, fs: &Fs| {
        let (a, b) = (fs.create(task, "a")?, fs.create(task, "b")?);
        a.write(task, 0, &[1; BLOCK], Sync::None)?;
        b.write(task, 0, &[2; 100], Sync::None)?;
        let map = fs.mmap(task, &b, 0, BLOCK as u64)?;
        fs.store_bytes(task, &map, 200, &[7])?;
        a.clone_range(task, 0, &b, BLOCK as u64, BLOCK as u64)?;
        let mut bytes = vec![0; 300];
        b.read(task, 0, &mut bytes)?;
        Ok(bytes)
    };
    let mut wanted = [0; 300];
    wanted[..100].fill(2);
    breaks(Defect::CloneBeyondEofGapNotZeroed, program, &wanted);
}
