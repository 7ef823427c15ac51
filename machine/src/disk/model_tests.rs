//! The assumptions of `docs/device-model.md`, one test each, named after its number.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::testing::{D0, Numbered, Numbers, Rig, filled, partial, sectors, span};
use super::{
    BlockSource, CrashState, Data, DeviceId, DiskError, History, Moment, Note, Op, Outcome, Part,
    Request, Rule, Strategy, TornPolicy,
};
use crate::block::{BLOCK_BYTES, Block};
use crate::medium::Medium;

#[test]
fn d1_a_sector_is_atomic() {
    let mut rig = Rig::new();
    rig.write(3, 0xa1);
    rig.write_sectors(3, 0xa2, 0b0011_1000);
    rig.begin_write(3, 0xa3);
    // `left` fails on a sector with two different bytes.
    for state in rig.left(3, rig.now()) {
        assert!(state.iter().all(|byte| [3, 0xa1, 0xa2, 0xa3].contains(byte)), "{state:?}");
    }
}

#[test]
fn d2_a_block_is_not_atomic() {
    let mut rig = Rig::new();
    rig.write(3, 9);
    let left = rig.left(3, rig.now());
    assert_eq!(left.len(), 256, "each of eight sectors old or new");
    assert!(left.contains(&[9, 3, 9, 3, 3, 3, 9, 3]));
    let few = rig.left_by(3, rig.now(), TornPolicy::Few);
    for torn in [[9, 3, 3, 3, 3, 3, 3, 3], [3, 9, 9, 9, 9, 9, 9, 9], [9, 9, 9, 9, 9, 9, 9, 3]] {
        assert!(few.contains(&torn), "{torn:?} in {few:?}");
    }
    assert!(few.is_subset(&left) && (5..=6).contains(&few.len()), "{few:?}");
}

#[test]
fn d3_the_write_cache_is_volatile() {
    let mut rig = Rig::new();
    rig.write(3, 9);
    for block in 4..12 {
        rig.write(block, 0xff);
    }
    assert_eq!(rig.whole(3), [3, 9], "completed long ago, and not covered");
    assert_eq!(rig.visible(3), [9; 8]);
}

#[test]
fn d4_any_subset_survives() {
    let mut rig = Rig::new();
    rig.write(3, 7);
    rig.write(3, 8);
    rig.write(3, 9);
    rig.write(4, 10);
    assert_eq!(rig.whole(3), [3, 7, 8, 9], "the second of three may be there");
    assert_eq!(rig.whole(4), [4, 10]);
    let left = rig.left(3, rig.now());
    assert!(left.len() < 4usize.pow(8), "more than the limit of a block falls back to few");
    // No sector forces another: partial writes to different sectors, and the later one alone.
    rig.write_sectors(5, 0x51, 0x0f);
    rig.write_sectors(5, 0x52, 0xf0);
    let left = rig.left_by(5, rig.now(), TornPolicy::None);
    let (base, first, second) = (5, 0x51, 0x52);
    let halves = |low: u8, high: u8| [low, low, low, low, high, high, high, high];
    let expected = [(base, base), (first, base), (base, second), (first, second)];
    assert_eq!(left, expected.map(|(low, high)| halves(low, high)).into());
}

#[test]
fn d5_a_flush_covers_the_writes_that_completed_before_it_was_submitted() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    let late = rig.begin_write(2, 0xa2);
    let flush = rig.submit(Request::Flush { device: D0 });
    rig.complete(late).unwrap();
    rig.write(3, 0xa3);
    assert_eq!(rig.whole(1), [1, 0xa1], "not before the flush completes");
    let before = rig.now();
    rig.complete(flush).unwrap();
    assert_eq!(rig.whole(1), [0xa1]);
    assert_eq!(rig.whole(2), [2, 0xa2], "completed during the flush");
    assert_eq!(rig.whole(3), [3, 0xa3], "submitted during the flush");
    assert_eq!(rig.left(1, before).len(), 256, "a cut before its completion knows no flush");
    // What was covered stays so, and what comes later is pending over it.
    rig.write(1, 0xb1);
    assert_eq!(rig.whole(1), [0xa1, 0xb1]);
}

#[test]
fn d5_overlapping_flushes_each_cover_their_own() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    let first = rig.submit(Request::Flush { device: D0 });
    rig.write(2, 0xa2);
    let second = rig.submit(Request::Flush { device: D0 });
    rig.complete(second).unwrap();
    assert_eq!((rig.whole(1), rig.whole(2)), (vec![0xa1], vec![0xa2]));
    let between = rig.now();
    rig.complete(first).unwrap();
    assert_eq!(rig.left(1, between), BTreeSet::from([[0xa1; 8]]));
}

#[test]
fn d6_a_fua_write_is_durable_at_its_completion_and_alone() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    rig.write(2, 0xa2);
    let fua = rig.submit(Request::write_fua(D0, 2, filled(0xb2)));
    assert_eq!(rig.whole(2), [2, 0xa2, 0xb2], "in flight it is like any write");
    rig.complete(fua).unwrap();
    assert_eq!(rig.whole(2), [0xb2], "what had completed before is superseded");
    assert_eq!(rig.whole(1), [1, 0xa1], "others are not flushed");
}

#[test]
fn d6_a_partial_fua_write_makes_only_its_sectors_durable() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    let payload = Data::from_iter([filled(0xb1)]);
    let sectors = Some(0x01);
    rig.run(Request::Write { device: D0, block: 1, payload, sectors, fua: true }).unwrap();
    let left = rig.left(1, rig.now());
    assert_eq!(left.len(), 128, "seven sectors are still pending");
    assert!(left.iter().all(|state| state[0] == 0xb1));
}

#[test]
fn d7_a_write_in_flight_may_be_there_in_part() {
    let mut rig = Rig::new();
    let before = rig.now();
    rig.submit(span(1, &[0xa1, 0xa2]));
    assert_eq!(rig.left(1, rig.now()).len(), 256);
    assert_eq!((rig.whole(1), rig.whole(2)), (vec![1, 0xa1], vec![2, 0xa2]));
    assert_eq!(rig.left(1, before), BTreeSet::from([[1; 8]]), "not before its submission");
    rig.flush();
    assert_eq!(rig.whole(1), [1, 0xa1], "no flush covers it");
}

#[test]
fn d7_writes_take_effect_in_the_order_of_completion() {
    let mut rig = Rig::new();
    let slow = rig.begin_write(1, 0xa1);
    rig.write_fua(1, 0xb1);
    assert_eq!(rig.whole(1), [0xa1, 0xb1], "the write in flight may land on what is durable");
    let durable = rig.now();
    rig.complete(slow).unwrap();
    assert_eq!(rig.visible(1), [0xa1; 8]);
    rig.flush();
    assert_eq!(rig.whole(1), [0xa1]);
    assert_eq!(rig.left(1, durable).len(), 256);
}

#[test]
fn d8_a_discard_undefines_until_rewritten() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    rig.flush();
    let discard = rig.submit(Request::Discard { device: D0, block: 1, count: 2 });
    assert_eq!(rig.visible(1), [0xa1; 8], "not before it completes");
    assert_eq!(rig.whole(1), [0, 0xa1]);
    rig.complete(discard).unwrap();
    assert_eq!((rig.visible(1), rig.visible(2)), ([0; 8], [0; 8]));
    rig.flush();
    assert_eq!(rig.whole(1), [0, 0xa1], "a flush does not decide it");
    assert_eq!(rig.whole(2), [0, 2]);
    rig.write(1, 0xb1);
    assert_eq!(rig.whole(1), [0, 0xa1, 0xb1]);
    rig.flush();
    assert_eq!(rig.whole(1), [0xb1], "rewritten and durable");
}

#[test]
fn d9_a_read_returns_what_is_there_when_it_completes() {
    let mut rig = Rig::new();
    let early = rig.submit(Request::Read { device: D0, block: 1, count: 2 });
    let write = rig.begin_write(2, 0xa2);
    let during = rig.complete(early).unwrap();
    assert_eq!(during.iter().map(sectors).collect::<Vec<_>>(), [[1; 8], [2; 8]]);
    let late = rig.submit(Request::read(D0, 2));
    rig.complete(write).unwrap();
    let after = rig.complete(late).unwrap();
    assert_eq!(sectors(&after[0]), [0xa2; 8], "completed while the read was in flight");
    rig.write_sectors(2, 0xb2, 0x81);
    assert_eq!(rig.visible(2), [0xb2, 0xa2, 0xa2, 0xa2, 0xa2, 0xa2, 0xa2, 0xb2]);
    assert_eq!(rig.disk.result(late), Some(Ok(Data::new())), "the data was taken");
}

#[test]
fn d10_a_failed_write_wrote_nothing_or_a_part() {
    let mut rig = Rig::new();
    rig.disk.fail(Rule::nth(Op::Write, 2));
    rig.disk.fail(Rule::blocks(Op::Write, D0, 5..6).leaving(Part::Sectors(0x03)));
    rig.write(1, 0xa1);
    let failing = rig.begin_write(1, 0xb1);
    assert_eq!(rig.whole(1), [1, 0xa1, 0xb1], "in flight it may be there");
    let in_flight = rig.now();
    let error = DiskError::Io { op: Op::Write, device: D0, block: 1 };
    assert_eq!(rig.complete(failing), Err(error));
    assert_eq!((rig.whole(1), rig.visible(1)), (vec![1, 0xa1], [0xa1; 8]));
    assert!(rig.left_by(1, in_flight, TornPolicy::None).contains(&[0xb1; 8]));

    assert!(rig.run(span(4, &[0xa4, 0xa5])).is_err());
    assert_eq!(rig.visible(5), [0xa5, 0xa5, 5, 5, 5, 5, 5, 5]);
    assert_eq!(rig.left(5, rig.now()).len(), 4, "its part is pending");
    rig.flush();
    assert_eq!(rig.left(5, rig.now()), BTreeSet::from([rig.visible(5)]));
    let failed: Vec<u32> = rig.disk.failed().iter().map(|failure| failure.request.0).collect();
    assert_eq!(failed, [1, 2]);
    let logged = &rig.disk.log().requests()[2];
    assert!(matches!(logged.outcome, Outcome::Failed { part: Part::Sectors(3), .. }));
}

#[test]
fn d10_a_failed_fua_write_is_not_durable_and_a_failed_flush_covers_nothing() {
    let mut rig = Rig::new();
    rig.disk.fail(Rule::nth(Op::Write, 1).leaving(Part::Blocks(1)));
    rig.disk.fail(Rule::nth(Op::Flush, 1));
    assert!(rig.run(Request::write_fua(D0, 1, filled(0xa1))).is_err());
    assert_eq!(rig.whole(1), [1, 0xa1]);
    let flush = rig.run(Request::Flush { device: D0 });
    assert_eq!(flush, Err(DiskError::Io { op: Op::Flush, device: D0, block: 0 }));
    assert_eq!(rig.whole(1), [1, 0xa1]);
    rig.flush();
    assert_eq!(rig.whole(1), [0xa1]);
}

#[test]
fn d11_a_failed_read_changes_nothing() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    rig.disk.fail(Rule::nth(Op::Read, 1));
    let error = DiskError::Io { op: Op::Read, device: D0, block: 1 };
    assert_eq!(rig.run(Request::read(D0, 1)), Err(error));
    assert_eq!(rig.run(Request::read(D0, 1)).map(|data| data.len()), Ok(1), "once");
    assert_eq!(rig.whole(1), [1, 0xa1]);
}

#[test]
fn d12_nothing_rots() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    rig.write_sectors(2, 0xa2, 0x10);
    rig.flush();
    rig.begin_write(3, 0xa3);
    for block in (0..16).filter(|block| *block != 3) {
        assert_eq!(rig.left(block, rig.now()), BTreeSet::from([rig.visible(block)]), "{block}");
    }
}

#[test]
fn d13_devices_are_independent() {
    let mut rig = Rig::with(vec![Numbered::source(4), Numbered::source(8)]);
    let second = DeviceId(1);
    rig.write(1, 0xa1);
    rig.run(Request::write(second, 1, filled(0xb1))).unwrap();
    rig.run(Request::Flush { device: second }).unwrap();
    assert_eq!(rig.whole(1), [1, 0xa1]);
    let left = rig.left_on(second, 1, rig.now(), TornPolicy::Every);
    assert_eq!(left, BTreeSet::from([[0xb1; 8]]));
    assert_eq!((rig.disk.blocks(D0), rig.disk.blocks(second)), (4, 8));
    assert_eq!(sectors(&rig.disk.read_now(second, 7).unwrap()), [7; 8]);
}

#[test]
fn d14_a_request_off_the_device_fails_and_changes_nothing() {
    let mut rig = Rig::new();
    let range = |block, count| Err(DiskError::OutOfRange { device: D0, block, count, blocks: 16 });
    assert_eq!(rig.run(span(15, &[1, 2])), range(15, 2));
    assert_eq!(rig.run(Request::read(D0, u64::MAX)), range(u64::MAX, 1));
    let off = Request::Discard { device: D0, block: 16, count: 1 };
    assert_eq!(rig.run(off), range(16, 1));
    let absent = DeviceId(3);
    let no_device = DiskError::NoDevice { device: absent };
    assert_eq!(rig.run(Request::Flush { device: absent }), Err(no_device));
    assert_eq!(rig.disk.read_now(absent, 0), Err(no_device));
    assert_eq!(rig.disk.read_now(D0, 16).err(), range(16, 1).err());
    let malformed = Err(DiskError::Malformed { op: Op::Write, device: D0, block: 1 });
    assert_eq!(rig.run(span(1, &[])), malformed);
    assert_eq!(rig.run(partial(1, 9, 0)), malformed);
    // Not even in flight may they be there.
    rig.submit(span(15, &[1, 2]));
    assert_eq!(rig.left(15, rig.now()), BTreeSet::from([[15; 8]]));
    assert_eq!(rig.disk.log().cuts(), []);
    assert_eq!(rig.disk.in_flight().len(), 1);
}

#[test]
fn d15_a_crash_state_is_durable() {
    let mut rig = Rig::new();
    rig.write(1, 0xa1);
    rig.write(2, 0xa2);
    let history = Rc::new(History::new(rig.disk.log()));
    let state = CrashState::new(history, rig.now(), TornPolicy::None, Strategy::Oldest);
    let mut second = Rig::with(state.bases().into_vec());
    assert_eq!((second.visible(1), second.visible(2)), ([1; 8], [2; 8]));
    second.write(2, 0xb2);
    assert_eq!(second.left(1, second.now()), BTreeSet::from([[1; 8]]), "decided by the first cut");
    assert_eq!(second.whole(2), [2, 0xb2], "never what the first cut lost");
}

#[test]
fn cuts_are_where_the_states_change() {
    let mut rig = Rig::new();
    let write = rig.begin_write(1, 0xa1); // 1
    rig.complete(write).unwrap(); // 2: changes nothing
    rig.run(Request::read(D0, 1)).unwrap(); // 3, 4: changes nothing
    rig.flush(); // 5: nothing, 6
    rig.write_fua(2, 0xa2); // 7, 8
    rig.discard(3); // 9, 10: nothing
    let cuts = rig.disk.log().cuts();
    assert_eq!(cuts, [1, 6, 7, 8, 9].map(Moment));
    let mut last = BTreeSet::new();
    for at in 0..=rig.now().0 {
        let all = |block| rig.left_by(block, Moment(at), TornPolicy::None);
        let states = (0..4).flat_map(|block| all(block).into_iter().map(move |s| (block, s)));
        let states: BTreeSet<_> = states.collect();
        assert_eq!(states != last, at == 0 || cuts.contains(&Moment(at)), "at {at}");
        last = states;
    }
}

#[test]
fn settled_content_is_on_the_medium() {
    let medium = Rc::new(RefCell::new(Medium::anonymous(4, 0).unwrap()));
    let base: Rc<dyn BlockSource> = medium.clone();
    let mut rig = Rig::with(vec![base.clone(), Numbered::source(4)]);
    rig.write(1, 0xa1);
    rig.write_sectors(2, 0xa2, 0x01);
    rig.run(Request::write(DeviceId(1), 3, filled(0xb3))).unwrap();
    rig.disk.settle(D0, &mut medium.borrow_mut()).unwrap();
    rig.disk.reset([base]);
    assert_eq!(sectors(&medium.borrow().read(1)), [0xa1; 8]);
    let mixed = Block::poison(0, 2).overlaid(&filled(0xa2), 1);
    assert_eq!(rig.disk.read_now(D0, 2).unwrap(), mixed);
    assert_eq!(medium.borrow().read(3), Block::poison(0, 3), "another device's block");
    assert_eq!(mixed.bytes().len(), BLOCK_BYTES);
}

#[test]
fn a_reset_disk_starts_over() {
    let mut rig = Rig::new();
    rig.disk.fail(Rule::nth(Op::Write, 2));
    rig.write(1, 0xa1);
    rig.begin_write(2, 0xa2);
    rig.disk.reset([Numbered::source(2)]);
    assert!(rig.disk.log().requests().is_empty() && rig.disk.in_flight().is_empty());
    assert_eq!(rig.disk.read_now(D0, 1).unwrap(), filled(1));
    let id = rig.disk.submit(Moment(1), Request::write(D0, 0, filled(9)), Note::default());
    rig.disk.complete(Moment(2), id);
    assert_eq!(rig.disk.result(id), Some(Ok(Data::new())), "the plan was forgotten");
}

/// The bytes that a sector may hold, straight from the assumptions: one request at a time, no
/// cleverness shared with `versions`.
fn allowed(rig: &Rig, block: u64, sector: usize, cut: Moment) -> BTreeSet<u8> {
    struct Written {
        byte: u8,
        effect: Moment,
        durable: bool,
    }
    let requests = rig.disk.log().requests();
    let completed = |at: &super::Logged| at.completed.filter(|moment| *moment <= cut);
    let flushed = |moment: Moment| {
        requests.iter().any(|at| {
            matches!(at.request, Request::Flush { .. })
                && at.succeeded()
                && at.submitted > moment
                && completed(at).is_some()
        })
    };
    let mut written = vec![Written { byte: block as u8, effect: Moment(0), durable: true }];
    for at in requests.iter().filter(|at| at.submitted <= cut) {
        let (first, count) = (at.request.place().1, at.request.count());
        if !(first..first + count).contains(&block) {
            continue;
        }
        let done = completed(at);
        let kept = match (done, at.outcome) {
            (Some(_), Outcome::Failed { part: Part::Sectors(mask), .. }) => mask >> sector & 1 == 1,
            (Some(_), Outcome::Failed { .. }) => false,
            _ => true,
        };
        let effect = done.unwrap_or(Moment::NEVER);
        match &at.request {
            Request::Write { payload, sectors, fua, .. } => {
                let touched = sectors.unwrap_or(0xff) >> sector & 1 == 1;
                if touched && kept {
                    let byte = payload[(block - first) as usize].bytes()[0];
                    let by_fua = *fua && done.is_some() && at.succeeded();
                    let durable = by_fua || done.is_some_and(flushed);
                    written.push(Written { byte, effect, durable });
                }
            }
            Request::Discard { .. } => written.push(Written { byte: 0, effect, durable: false }),
            _ => {}
        }
    }
    let newest = written.iter().filter(|one| one.durable).map(|one| one.effect).max();
    let newest = newest.expect("the base is durable");
    written.iter().filter(|one| one.effect >= newest).map(|one| one.byte).collect()
}

#[test]
fn the_options_of_random_logs_are_those_of_the_assumptions() {
    let mut pending = 0;
    for seed in 0..200 {
        let rig = super::explore_tests::random_log(&mut Numbers(seed), 14);
        for at in 0..=rig.now().0 {
            for block in 1..6 {
                let left = rig.left_by(block, Moment(at), TornPolicy::None);
                for sector in 0..8 {
                    let found: BTreeSet<u8> = left.iter().map(|state| state[sector]).collect();
                    let expected = allowed(&rig, block, sector, Moment(at));
                    assert_eq!(found, expected, "seed {seed} at {at} block {block}.{sector}");
                    pending += expected.len() - 1;
                }
            }
        }
    }
    assert!(pending > 50_000, "{pending}: the logs have become dull");
}

#[test]
fn each_assumption_has_a_test() {
    let (page, tests) =
        (include_str!("../../../docs/device-model.md"), include_str!("model_tests.rs"));
    let numbered = page.lines().filter_map(|line| line.strip_prefix("**D-"));
    let numbers: Vec<&str> =
        numbered.map(|line| line.split(' ').next().expect("a first word")).collect();
    assert_eq!(numbers.len(), 15);
    for number in numbers {
        assert!(tests.contains(&format!("#[test]\nfn d{number}_")), "no test of D-{number}");
    }
}
