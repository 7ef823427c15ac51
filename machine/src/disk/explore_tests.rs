//! The explorer against brute force: random logs, random recoveries, every image.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::testing::{D0, Numbers, Rig, filled, partial, sectors};
use super::{
    BlockSource, CrashState, CutReport, Explorer, History, Kept, LeafId, Limits, Moment, Request,
    RequestId, Rule, Selection, Step, Strategy, TornPolicy,
};
use super::{Op, Part};
use crate::block::Block;

/// Blocks that random logs write, from 1: the base of block 0 looks like a discarded one.
const BLOCKS: u64 = 5;

fn all(torn: TornPolicy) -> Limits {
    Limits { exhaustive: u32::MAX, sampled: 0, torn }
}

fn no_draw(_: u32) -> u32 {
    panic!("an exhaustive walk draws nothing")
}

/// A log of writes (whole and partial), flushes, discards and errors; some never complete.
pub(super) fn random_log(numbers: &mut Numbers, requests: u64) -> Rig {
    let mut rig = Rig::new();
    if numbers.below(4) == 0 {
        let failing = Rule::nth(Op::Write, 1 + numbers.below(4) as u32);
        rig.disk.fail(failing.leaving(Part::Sectors(numbers.below(256) as u8)));
    }
    let mut open: Vec<RequestId> = Vec::new();
    for at in 0..requests {
        let (block, byte) = (1 + numbers.below(BLOCKS), 0x80 + at as u8);
        let request = match numbers.below(10) {
            0..=3 => Request::write(D0, block, filled(byte)),
            4 => Request::write_fua(D0, block, filled(byte)),
            5 => partial(block, byte, [0x0f, 0xf0, 0x3c][numbers.below(3) as usize]),
            6 => Request::Discard { device: D0, block, count: 1 },
            _ => Request::Flush { device: D0 },
        };
        open.push(rig.submit(request));
        while !open.is_empty() && numbers.below(3) > 0 {
            let at = numbers.below(open.len() as u64) as usize;
            let _ = rig.complete(open.remove(at));
        }
    }
    rig
}

/// Reads blocks, each depending on the contents before, and returns what it saw.
fn recover(seed: u64, read: &mut dyn FnMut(u64) -> Block) -> Vec<u8> {
    let (mut state, mut seen) = (seed, Vec::new());
    while seen.is_empty() || !super::mix(state).is_multiple_of(5) {
        let block = 1 + super::mix(state ^ 0x55) % (BLOCKS + 1);
        let content = sectors(&read(block));
        state = super::mix(state ^ u64::from_le_bytes(content) ^ block << 32);
        seen.push(block as u8);
        seen.extend(content);
        if seen.len() > 80 {
            break;
        }
    }
    seen
}

/// What recovery shows of each image that a cut may leave.
fn brute_force(
    log: &super::Log,
    cut: Moment,
    torn: TornPolicy,
    mut recover: impl FnMut(&mut dyn FnMut(u64) -> Block) -> Vec<u8>,
) -> BTreeSet<Vec<u8>> {
    let history = History::new(log);
    let slots: Vec<_> = (0..history.slots())
        .map(|slot| (history.place(slot).1, history.options(slot, cut, torn)))
        .collect();
    let mut at = vec![0; slots.len()];
    let mut outcomes = BTreeSet::new();
    loop {
        let image: BTreeMap<u64, &Block> = (slots.iter().zip(&at))
            .map(|((block, options), at)| (*block, &options.choices[*at].content))
            .collect();
        outcomes.insert(recover(&mut |block| match image.get(&block) {
            Some(content) => (*content).clone(),
            None => filled(block as u8),
        }));
        let Some(turn) = (0..slots.len()).find(|s| at[*s] + 1 < slots[*s].1.choices.len()) else {
            return outcomes;
        };
        at[turn] += 1;
        at[..turn].fill(0);
    }
}

/// Walks a cut; checks that no class comes twice; returns the leaves and the report.
fn walk(
    explorer: &mut Explorer<Vec<u8>>,
    cut: Moment,
    limits: Limits,
    draw: &mut dyn FnMut(u32) -> u32,
    mut recover: impl FnMut(&Rc<CrashState>) -> Vec<u8>,
) -> (Vec<LeafId>, CutReport) {
    explorer.cut(cut, limits);
    let mut leaves = Vec::new();
    while let Some(step) = explorer.next(draw) {
        let leaf = match step {
            Step::Known(leaf) => leaf,
            Step::Recover(state) => {
                let value = recover(&state);
                let before = explorer.leaves();
                let leaf = explorer.record(&state, value).expect("deterministic");
                assert_eq!(explorer.leaves(), before + 1, "a recovery for nothing");
                leaf
            }
        };
        assert!(!leaves.contains(&leaf), "handed out twice");
        let again = recover(&explorer.current().expect("a step was taken"));
        assert_eq!(&again, explorer.leaf(leaf), "the state shown is of the class");
        leaves.push(leaf);
    }
    let report = explorer.report();
    assert_eq!((report.known + report.recovered) as usize, leaves.len());
    (leaves, report)
}

fn compare(seed: u64, requests: u64, torn: TornPolicy) -> usize {
    let mut numbers = Numbers(seed);
    let rig = random_log(&mut numbers, requests);
    let log = rig.disk.log();
    let mut explorer = Explorer::new();
    explorer.begin(log);
    let mut cuts = log.cuts();
    cuts.push(Moment(0));
    let mut classes = 0;
    for cut in cuts {
        let expected = brute_force(log, cut, torn, |read| recover(seed, read));
        let by_state = |state: &Rc<CrashState>| recover(seed, &mut |block| state.read(block));
        let (leaves, report) = walk(&mut explorer, cut, all(torn), &mut no_draw, by_state);
        assert!(report.exhausted);
        let found: BTreeSet<_> = leaves.iter().map(|leaf| explorer.leaf(*leaf).clone()).collect();
        assert_eq!(found, expected, "seed {seed} cut {cut:?}");
        assert_eq!(leaves.len(), expected.len(), "seed {seed}: classes that show the same");
        classes += leaves.len();
    }
    classes
}

#[test]
fn the_classes_show_what_all_images_show() {
    let classes: usize = (0..250).map(|seed| compare(seed, 9, TornPolicy::None)).sum();
    assert!(classes > 5000, "{classes} classes: the logs have become dull");
}

#[test]
fn torn_blocks_are_covered_as_well() {
    let classes: usize = (0..80).map(|seed| compare(seed, 4, TornPolicy::Few)).sum();
    assert!(classes > 2000, "{classes} classes: the logs have become dull");
}

#[test]
fn every_mixture_of_sectors_is_reached() {
    let mut rig = Rig::new();
    rig.write(1, 9);
    rig.begin_write(2, 8);
    let mut explorer = Explorer::new();
    explorer.begin(rig.disk.log());
    let read_one = |state: &Rc<CrashState>| sectors(&state.read(1)).to_vec();
    let every = all(TornPolicy::Every);
    let (leaves, report) = walk(&mut explorer, rig.now(), every, &mut no_draw, read_one);
    assert_eq!((leaves.len(), report.exhausted), (256, true));
}

#[test]
fn a_class_is_recovered_once_for_all_cuts() {
    let mut rig = Rig::new();
    rig.write(1, 9);
    for block in 2..8 {
        rig.write(block, 0xff);
    }
    rig.flush();
    let mut explorer = Explorer::new();
    explorer.begin(rig.disk.log());
    let read_one = |state: &Rc<CrashState>| sectors(&state.read(1)).to_vec();
    let mut recovered = 0;
    for cut in rig.disk.log().cuts() {
        let limits = all(TornPolicy::None);
        recovered += walk(&mut explorer, cut, limits, &mut no_draw, read_one).1.recovered;
    }
    assert_eq!((recovered, explorer.leaves()), (2, 2), "old and new, whatever else is pending");
}

#[test]
fn least_discrepancy_comes_first() {
    let mut rig = Rig::new();
    for block in 1..5 {
        rig.write(block, 0xff);
    }
    let mut explorer = Explorer::new();
    explorer.begin(rig.disk.log());
    let read = |state: &Rc<CrashState>| (1..5).map(|b| sectors(&state.read(b))[0]).collect();
    let limits = all(TornPolicy::None);
    let (leaves, _) = walk(&mut explorer, rig.now(), limits, &mut no_draw, read);
    let lost = |leaf: &LeafId| explorer.leaf(*leaf).iter().filter(|byte| **byte != 0xff).count();
    let lost: Vec<usize> = leaves.iter().map(lost).collect();
    assert_eq!(lost, [0, 4, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3]);
}

#[test]
fn limits_stop_the_walk_and_random_states_follow() {
    let mut rig = Rig::new();
    for block in 1..13 {
        rig.write(block, 0xff);
    }
    let mut explorer = Explorer::new();
    explorer.begin(rig.disk.log());
    let read = |state: &Rc<CrashState>| (1..13).map(|b| sectors(&state.read(b))[0]).collect();
    let limits = Limits { exhaustive: 6, sampled: 40, torn: TornPolicy::None };
    let mut numbers = Numbers(3);
    let mut draws = 0;
    let mut draw = |n: u32| {
        draws += 1;
        numbers.below(u64::from(n)) as u32
    };
    let (leaves, report) = walk(&mut explorer, rig.now(), limits, &mut draw, read);
    assert!(!report.exhausted);
    assert_eq!(draws, 40);
    assert!(leaves.len() > 26 && leaves.len() <= 46, "{} classes", leaves.len());
    let lost = |leaf: &LeafId| explorer.leaf(*leaf).iter().filter(|byte| **byte != 0xff).count();
    let spread: BTreeSet<usize> = leaves.iter().map(lost).collect();
    assert!(spread.len() >= 8, "random states lose few, many, and half: {spread:?}");

    let exact = Limits { exhaustive: 4096, sampled: 9, torn: TornPolicy::None };
    let (leaves, report) = walk(&mut explorer, rig.now(), exact, &mut no_draw, read);
    assert_eq!((leaves.len(), report.exhausted), (4096, true), "the limit is met, not exceeded");
    let short = Limits { exhaustive: 4095, sampled: 0, torn: TornPolicy::None };
    let (leaves, report) = walk(&mut explorer, rig.now(), short, &mut no_draw, read);
    assert_eq!((leaves.len(), report.exhausted), (4095, false));
}

#[test]
fn a_class_stands_for_the_images_that_it_did_not_look_at() {
    let mut rig = Rig::new();
    for block in 1..4 {
        rig.write(block, 0xf0);
        rig.write(block, 0xff);
    }
    let mut explorer = Explorer::new();
    explorer.begin(rig.disk.log());
    let (mut images, mut classes) = (0, 0);
    for _ in 0..2 {
        // The second time every class is known.
        explorer.cut(rig.now(), all(TornPolicy::None));
        while let Some(step) = explorer.next(&mut no_draw) {
            if let Step::Recover(state) = step {
                // The second block is read only if the first is new.
                let first = sectors(&state.read(1))[0];
                let second = if first == 0xff { sectors(&state.read(2))[0] } else { 0 };
                explorer.record(&state, vec![first, second]).unwrap();
            }
            images += explorer.images();
            classes += 1;
        }
    }
    assert_eq!((classes, images), (2 * (3 + 2), 2 * 27));
}

#[test]
fn a_cut_inside_recovery_nests() {
    // Recovery copies block 1 to block 2, flushes, and clears block 1. Whatever a first and a
    // second cut leave, a second recovery ends with the value in block 2, or finds nothing to do.
    let mut rig = Rig::new();
    rig.write(1, 0xee);
    rig.flush();
    rig.write(1, 0xaa);
    let copy = |rig: &mut Rig| {
        let value = rig.visible(1)[0];
        if value != 0 {
            rig.write(2, value);
            rig.flush();
            rig.write(1, 0);
        }
    };
    let mut outer: Explorer<BTreeSet<u8>> = Explorer::new();
    outer.begin(rig.disk.log());
    outer.cut(rig.now(), all(TornPolicy::None));
    let mut outcomes = Vec::new();
    while let Some(Step::Recover(state)) = outer.next(&mut no_draw) {
        let mut first = Rig::with(state.bases().into_vec());
        copy(&mut first);
        let mut inner: Explorer<u8> = Explorer::new();
        inner.begin(first.disk.log());
        let mut seen = BTreeSet::new();
        for cut in first.disk.log().cuts() {
            inner.cut(cut, all(TornPolicy::None));
            while let Some(step) = inner.next(&mut no_draw) {
                let leaf = match step {
                    Step::Known(leaf) => leaf,
                    Step::Recover(state) => {
                        let mut second = Rig::with(state.bases().into_vec());
                        copy(&mut second);
                        inner.record(&state, second.visible(2)[0]).unwrap()
                    }
                };
                seen.insert(*inner.leaf(leaf));
            }
            assert!(inner.report().exhausted);
        }
        let leaf = outer.record(&state, seen).unwrap();
        outcomes.push(outer.leaf(leaf).clone());
    }
    assert_eq!(outcomes, [BTreeSet::from([0xaa]), BTreeSet::from([0xee])]);
}

#[test]
fn a_recovery_that_depends_on_more_than_the_image_is_told() {
    let mut rig = Rig::new();
    rig.write(1, 0xaa);
    rig.write(2, 0xbb);
    let mut explorer: Explorer<()> = Explorer::new();
    explorer.begin(rig.disk.log());
    explorer.cut(rig.now(), all(TornPolicy::None));
    let Some(Step::Recover(first)) = explorer.next(&mut no_draw) else { panic!("a first state") };
    first.read(1);
    explorer.record(&first, ()).unwrap();
    let Some(Step::Recover(second)) = explorer.next(&mut no_draw) else { panic!("a second") };
    second.read(2);
    let diverged = explorer.record(&second, ()).unwrap_err();
    assert_eq!((diverged.depth, diverged.expected), (0, Some((D0, 1))));
    let told = diverged.to_string();
    assert!(
        told.ends_with("it went to block 2 of device 0 and once to block 1 of device 0"),
        "{told}"
    );
    while explorer.next(&mut no_draw).is_some() {}
    assert!(!explorer.report().exhausted, "a class has no observation");
}

#[test]
fn a_selection_rebuilds_the_state_through_text() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let rig = random_log(&mut numbers, 10);
        let log = rig.disk.log();
        let mut explorer = Explorer::new();
        explorer.begin(log);
        let by_state = |state: &Rc<CrashState>| recover(seed, &mut |block| state.read(block));
        for cut in log.cuts() {
            explorer.cut(cut, Limits { exhaustive: 30, sampled: 10, torn: TornPolicy::Few });
            while let Some(step) = explorer.next(&mut |n| numbers.below(u64::from(n)) as u32) {
                let leaf = match step {
                    Step::Known(leaf) => leaf,
                    Step::Recover(state) => explorer.record(&state, by_state(&state)).unwrap(),
                };
                let text: Vec<String> =
                    explorer.selection().0.iter().map(Kept::to_string).collect();
                let kept = text.iter().map(|kept| kept.parse().unwrap()).collect();
                let history = Rc::new(History::new(log));
                let rebuilt =
                    CrashState::with_selection(history, cut, &Selection(kept), Strategy::Oldest);
                assert_eq!(&by_state(&rebuilt), explorer.leaf(leaf), "seed {seed}: {text:?}");
            }
        }
    }
}

#[test]
fn a_selection_of_another_log_is_followed_as_far_as_it_goes() {
    let mut rig = Rig::new();
    rig.write(3, 0xff);
    rig.write(1, 0xa1);
    rig.write(1, 0xa2);
    let history = Rc::new(History::new(rig.disk.log()));
    let left = |text: &[&str]| {
        let kept = text.iter().map(|kept| kept.parse().unwrap()).collect();
        let selection = Selection(kept);
        let (history, cut) = (history.clone(), rig.now());
        let state = CrashState::with_selection(history, cut, &selection, Strategy::Newest);
        (sectors(&state.read(1))[0], sectors(&state.read(3))[0])
    };
    assert_eq!(left(&[]), (0xa2, 0xff));
    assert_eq!(left(&["0:1=w1.0@9"]), (0xa1, 0xff), "the request is found");
    assert_eq!(left(&["0:1=w77.0@1"]), (0xa1, 0xff), "the age stands in for it");
    assert_eq!(left(&["0:1=w77.0@9", "0:3=durable"]), (0xa2, 3), "an age too high is the last");
    assert_eq!(left(&["0:9=w1.0@1", "7:1=durable", "0:1=durable"]), (1, 0xff), "blocks unknown");
}
