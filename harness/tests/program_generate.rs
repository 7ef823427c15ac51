//! What generators and mutators reach: every kind of operation, every knob, programs of the size
//! that campaigns want, and few operations that can only fail.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use harness::program::options::KNOBS;
use harness::program::syntax::{kind, split};
use harness::program::{
    AnyOperation, Dice, Kind, Program, Slot, Source, SwarmMask, generate, limits, mutate,
};
use oracle::operation::{Fill, Operation, Sync};

fn drawn(seed: u64) -> Program {
    let mut dice = Dice::new(seed);
    let mask = SwarmMask::draw(&mut dice);
    generate(&mut dice, &mask)
}

fn kinds(program: &Program) -> impl Iterator<Item = Kind> {
    program.operations().map(|(_, _, operation)| kind(operation))
}

fn all_kinds() -> BTreeSet<Kind> {
    Kind::all().collect()
}

fn bytes(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..400).map(|_| dice.below(256) as u8).collect()
}

#[test]
fn dice_reach_every_kind_in_tasks() {
    let mut reached = BTreeSet::new();
    for seed in 0..300 {
        let program = drawn(seed);
        let in_tasks =
            program.operations().filter(|(_, slot, _)| matches!(slot, Slot::Task { .. }));
        reached.extend(in_tasks.map(|(_, _, operation)| kind(operation)));
    }
    assert_eq!(reached, all_kinds());
}

#[test]
fn bytes_reach_every_kind() {
    let mut reached = BTreeSet::new();
    let mut choices = 0;
    for seed in 0..300 {
        let program = Program::arbitrary(&mut Unstructured::new(&bytes(seed))).unwrap();
        reached.extend(kinds(&program));
        choices += program.choices.len();
    }
    assert_eq!(reached, all_kinds());
    assert!(choices > 300 * 16, "bytes are left for choices, on average {}", choices / 300);
}

#[test]
fn single_operations_reach_every_kind() {
    let draw = |seed| AnyOperation::arbitrary(&mut Unstructured::new(&bytes(seed))).unwrap().0;
    let reached: BTreeSet<Kind> = (0..8000).map(|seed| kind(&draw(seed))).collect();
    assert_eq!(reached, all_kinds());
}

#[test]
fn mutation_reaches_every_kind() {
    let mut reached = BTreeSet::new();
    let mut program = Program::default();
    for seed in 0..3000 {
        mutate(&mut program, seed, false);
        reached.extend(kinds(&program));
    }
    assert_eq!(reached, all_kinds());
}

#[test]
fn every_value_of_every_knob_is_drawn() {
    for knob in KNOBS.iter().filter(|knob| knob.key != "seed" && knob.key != "chooser") {
        let wanted: BTreeSet<u64> =
            (0..knob.values.drawn_count()).map(|index| knob.values.drawn(index)).collect();
        let drawn: BTreeSet<u64> = (0..400).map(|seed| (knob.get)(&drawn(seed))).collect();
        assert!(drawn.is_superset(&wanted), "{}: {drawn:?} of {wanted:?}", knob.key);
    }
}

#[test]
fn every_option_of_operations_is_drawn() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let program = drawn(seed);
        for (_, _, operation) in program.operations() {
            let (_, fields) = split(operation);
            seen.insert(("sync", fields.sync == Sync::Data));
            seen.insert(("fill", fields.fill != Fill::Tag));
            seen.insert(("keep", fields.keep));
            seen.insert(("within a block", fields.offset % 4096 != 0));
            seen.insert(("from within a mapping", fields.other != 0));
        }
        seen.insert(("fault", !program.faults.is_empty()));
    }
    assert_eq!(seen.iter().filter(|(_, on)| *on).count(), 6, "{seen:?}");
}

#[test]
fn campaign_programs_have_about_thirty_operations_in_three_tasks() {
    let programs: Vec<Program> = (0..1000).map(drawn).collect();
    let mean = |count: &dyn Fn(&Program) -> usize| {
        programs.iter().map(count).sum::<usize>() as f64 / programs.len() as f64
    };
    let operations = mean(&Program::operation_count);
    assert!((26.0..34.0).contains(&operations), "{operations} operations");
    let tasks = mean(&|program| program.tasks.len());
    assert!((2.7..3.1).contains(&tasks), "{tasks} tasks");
    let persistent = |program: &Program| {
        let durable = [Kind::Fsync, Kind::Fdatasync, Kind::FsyncRange, Kind::Sync, Kind::Msync];
        kinds(program).filter(|kind| durable.contains(kind)).count()
    };
    let persistent = mean(&persistent);
    assert!(persistent > 4.0, "{persistent} operations make something durable");
    // Those with bare nodes are, mostly, about nothing else.
    let (with_files, meet) = programs
        .iter()
        .filter(|program| program.image.buffers == 0)
        .fold((0, 0), |(all, meet), it| (all + 1, meet + usize::from(shares_a_file(it))));
    let shared = meet as f64 / f64::from(with_files);
    assert!(shared > 0.9, "tasks meet on a file in {shared} of the programs");
}

/// Whether two tasks operate on one file.
fn shares_a_file(program: &Program) -> bool {
    let touched = |ops: &[Operation]| -> BTreeSet<u8> {
        let named = ops
            .iter()
            .map(split)
            .filter(|(kind, _)| kind.shape().has(harness::program::syntax::Arg::Path));
        named.map(|(_, fields)| fields.path.0).collect()
    };
    let tasks: Vec<_> = program.tasks.iter().map(|task| touched(&task.ops)).collect();
    tasks.iter().enumerate().any(|(i, a)| tasks[..i].iter().any(|b| !a.is_disjoint(b)))
}

#[test]
fn generated_ranges_stay_within_small_files() {
    for seed in 0..500 {
        for (_, _, operation) in drawn(seed).operations() {
            let (_, fields) = split(operation);
            assert!(fields.offset + fields.len <= limits::DRAWN_FILE_BYTES_MAX, "{operation:?}");
        }
    }
}

#[test]
fn masks_leave_features_out() {
    // Bare nodes are rare, and then seldom together with files.
    let ordinary = Kind::all().filter(|kind| !kind.is_of_nodes()).collect::<Vec<_>>();
    let count = |mask: SwarmMask| ordinary.iter().filter(|kind| mask.allows(**kind)).count();
    let counts: Vec<usize> =
        (0..500).map(|seed| count(SwarmMask::draw(&mut Dice::new(seed)))).collect();
    let small = counts.iter().filter(|&&count| count < ordinary.len() * 3 / 4).count();
    assert!(small > 350, "{small} of 500 masks leave out a quarter of the kinds or more");
    assert!(counts.contains(&ordinary.len()), "some leave out nothing");
}

/// Seeds are part of what people write down: the dice are the published ones, on any machine.
#[test]
fn a_seed_gives_the_same_program() {
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let mut dice = Dice::new(0);
    assert_eq!(dice.bits(), 0xe220_a839_7b1d_cdaf, "SplitMix64 of seed 0, as published");
}
