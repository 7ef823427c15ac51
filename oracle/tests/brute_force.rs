//! The oracle against brute force on tiny histories of one file of two blocks.
//!
//! The reference is a byte array on which the calls act in one order. All orders that agree with
//! the intervals are tried; a block may show what some beginning of some order shows that contains
//! everything durable. The oracle must accept exactly these contents, among all contents that any
//! sequence of the calls produces.
mod common;

use common::{BLOCK, Shown};
use oracle::operation::*;
use oracle::{CallId, Moment, Oracle, Promises, content};
use proptest::prelude::*;
use std::collections::BTreeSet;

const FILE: PathId = PathId(0);
const SIZE: usize = 2 * BLOCK;

/// A call with the positions of its events in the order of all events.
#[derive(Clone, Debug)]
struct Timed {
    op: Operation,
    invoke: u64,
    ret: Option<u64>,
}

type Image = Vec<u8>;

/// The sequential reference: what a call does to the bytes of the file.
fn act(image: &mut Image, op: &Operation, id: OpId) {
    let range = |span: Span| span.offset as usize..span.end() as usize;
    match *op {
        Operation::Write { path, span, fill, .. } => {
            content::fill(fill, id, path, span.offset, &mut image[range(span)]);
        }
        Operation::Punch { span, .. } => image[range(span)].fill(0),
        Operation::Clone { source_offset, target_offset, len, .. } => {
            let from = range(Span::new(source_offset, len));
            image.copy_within(from, target_offset as usize);
        }
        _ => {}
    }
}

/// Every beginning of every order of the calls in which each call is legal after those before it.
fn images(calls: &[Timed], legal: impl Fn(usize, &[usize]) -> bool + Copy) -> Vec<Walk> {
    let mut walks = vec![Walk { order: Vec::new(), image: vec![0; SIZE] }];
    let mut cursor = 0;
    while cursor < walks.len() {
        let walk = walks[cursor].clone();
        cursor += 1;
        for next in (0..calls.len()).filter(|next| !walk.order.contains(next)) {
            if legal(next, &walk.order) {
                let mut longer = walk.clone();
                longer.order.push(next);
                act(&mut longer.image, &calls[next].op, OpId(next as u16 + 3));
                walks.push(longer);
            }
        }
    }
    walks
}

#[derive(Clone)]
struct Walk {
    order: Vec<usize>,
    image: Image,
}

/// The size is fixed by the setup: calls 1 and 2 create the file and give it two blocks.
fn setup(oracle: &mut Oracle) -> u64 {
    let size = SIZE as u64;
    let ops = [
        Operation::Create { path: FILE },
        Operation::Truncate { path: FILE, size },
        Operation::Sync,
    ];
    for (index, op) in (0u64..).zip(&ops) {
        let id = OpId(if index == 2 { 100 } else { index as u16 + 1 });
        let call = oracle.invoke(TaskIndex(0), id, op, Moment(2 * index + 1));
        oracle.complete(call, Moment(2 * index + 2), &Ok(Value::Unit)).expect("legal");
    }
    7
}

fn result(op: &Operation) -> Outcome {
    match op {
        Operation::Write { span, .. } => Ok(Value::Count(span.len)),
        _ => Ok(Value::Unit),
    }
}

/// Plays the events in the order of time.
fn play(oracle: &mut Oracle, calls: &[Timed], first: u64) {
    let mut ids: Vec<Option<CallId>> = vec![None; calls.len()];
    let last = calls.iter().filter_map(|call| call.ret).max().unwrap_or(0);
    let last = calls.iter().map(|call| call.invoke).max().unwrap_or(0).max(last);
    for time in 0..=last {
        for (index, call) in calls.iter().enumerate() {
            let at = Moment(first + time);
            if call.invoke == time {
                let id = OpId(index as u16 + 3);
                ids[index] = Some(oracle.invoke(TaskIndex(index as u8), id, &call.op, at));
            } else if call.ret == Some(time) {
                let id = ids[index].expect("invoked before");
                oracle.complete(id, at, &result(&call.op)).expect("legal");
            }
        }
    }
}

/// The two blocks of an image, the other one taken from a legal image.
fn shown(image: &[u8], block: usize, legal: &[u8]) -> Shown {
    let mut blocks: Vec<[u8; BLOCK]> =
        legal.chunks(BLOCK).map(|chunk| chunk.try_into().expect("a block")).collect();
    let start = block * BLOCK;
    blocks[block] = image[start..start + BLOCK].try_into().expect("a block");
    let mut seen = Shown { nlink: 1, names: vec![FILE], ..Shown::default() };
    seen.files.insert(FILE, (SIZE as u64, blocks));
    seen
}

/// Compares the oracle with brute force at a cut after each event: it knows how the calls went on,
/// and must judge as if it did not.
fn compare(calls: &[Timed]) -> Result<(), TestCaseError> {
    let mut oracle = Oracle::new(Promises::strict());
    let first = setup(&mut oracle);
    play(&mut oracle, calls, first);
    let any = images(calls, |_, _| true);
    for cut in 1..=2 * calls.len() as u64 {
        compare_at(&oracle, calls, &any, cut, Moment(first + cut))?;
    }
    prop_assert_eq!(oracle.inconclusive(), 0);
    Ok(())
}

/// Events at times before `cut` have happened.
fn compare_at(
    oracle: &Oracle,
    calls: &[Timed],
    any: &[Walk],
    cut: u64,
    moment: Moment,
) -> Result<(), TestCaseError> {
    let before = |a: usize, b: usize| calls[a].ret.is_some_and(|ret| ret < calls[b].invoke);
    let legal = images(calls, |next, order| {
        let may = calls[next].invoke < cut;
        may && (0..calls.len()).all(|other| !before(other, next) || order.contains(&other))
    });
    let synced = |sync: usize| {
        let returned = calls[sync].ret.is_some_and(|ret| ret < cut);
        returned && matches!(calls[sync].op, Operation::Fsync { .. })
    };
    let durable: BTreeSet<usize> = (0..calls.len())
        .filter(|&call| (0..calls.len()).any(|sync| synced(sync) && before(call, sync)))
        .collect();
    let holds = |walk: &&Walk| durable.iter().all(|call| walk.order.contains(call));
    let allowed: Vec<&Walk> = legal.iter().filter(holds).collect();
    for block in 0..2 {
        let part = |image: &Image| image[block * BLOCK..(block + 1) * BLOCK].to_vec();
        let good: BTreeSet<Vec<u8>> = allowed.iter().map(|walk| part(&walk.image)).collect();
        let all: BTreeSet<Vec<u8>> = any.iter().map(|walk| part(&walk.image)).collect();
        for candidate in &all {
            let mut image = vec![0; SIZE];
            image[block * BLOCK..(block + 1) * BLOCK].copy_from_slice(candidate);
            let verdict = oracle.judge(moment, &shown(&image, block, &allowed[0].image));
            prop_assert_eq!(verdict.is_ok(), good.contains(candidate), "{:?}", verdict);
        }
        let mut spoilt = shown(&allowed[0].image, block, &allowed[0].image);
        spoilt.files.get_mut(&FILE).expect("there").1[block][777] ^= 0x40;
        prop_assert!(oracle.judge(moment, &spoilt).is_err(), "bytes of nobody");
    }
    Ok(())
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        Just(Span::new(0, 4096)),
        Just(Span::new(4096, 4096)),
        Just(Span::new(0, 8192)),
        Just(Span::new(2048, 4096)),
        Just(Span::new(0, 1024)),
        Just(Span::new(6000, 100)),
    ]
}

fn operations(clones: bool) -> impl Strategy<Value = Operation> {
    let write = spans().prop_map(|span| Operation::Write {
        path: FILE,
        span,
        fill: Fill::Tag,
        sync: Sync::None,
    });
    let punch = spans().prop_map(|span| Operation::Punch { path: FILE, span });
    let fsync = Just(Operation::Fsync { path: FILE });
    let clone = any::<bool>().prop_map(|down| Operation::Clone {
        source: FILE,
        source_offset: if down { 4096 } else { 0 },
        target: FILE,
        target_offset: if down { 0 } else { 4096 },
        len: 4096,
    });
    prop_oneof![5 => write, 2 => punch, 2 => fsync, u32::from(clones) => clone]
}

/// Calls with shuffled events: `slots` gives each event its place in time.
fn histories(clones: bool) -> impl Strategy<Value = Vec<Timed>> {
    let call = (operations(clones), any::<prop::sample::Index>(), 1u64..6, 0u8..8);
    proptest::collection::vec(call, 1..=5).prop_map(|calls| {
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (index, (_, start, length, _)) in calls.iter().enumerate() {
            let start = start.index(12) as u64;
            events.push((start, index, false));
            events.push((start + length, index, true));
        }
        events.sort();
        let place = |index: usize, end: bool| {
            events.iter().position(|event| (event.1, event.2) == (index, end)).expect("there")
        };
        let timed = |(index, (op, _, _, open)): (usize, &(Operation, _, _, u8))| Timed {
            op: op.clone(),
            invoke: place(index, false) as u64,
            ret: (*open > 0).then(|| place(index, true) as u64),
        };
        calls.iter().enumerate().map(timed).collect()
    })
}

/// No files beside the tests: a failure is printed, and goes into a table by hand.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_block_shows_exactly_what_some_order_shows(calls in histories(false)) {
        compare(&calls)?;
    }

    /// Copies tie blocks together, which the oracle judges apart: it may accept more.
    #[test]
    fn with_clones_nothing_legal_is_rejected(calls in histories(true)) {
        let mut oracle = Oracle::new(Promises::strict());
        let first = setup(&mut oracle);
        play(&mut oracle, &calls, first);
        let before = |a: usize, b: usize| calls[a].ret.is_some_and(|ret| ret < calls[b].invoke);
        let legal = images(&calls, |next, order| {
            (0..calls.len()).all(|other| !before(other, next) || order.contains(&other))
        });
        for walk in legal.iter().filter(|walk| walk.order.len() == calls.len()) {
            let seen = shown(&walk.image, 0, &walk.image);
            let verdict = oracle.judge(Moment(first + 1000), &seen);
            prop_assert!(verdict.is_ok(), "{:?} in the order {:?}", verdict, walk.order);
        }
    }

    /// A sequential file system, each call acting at one moment of its interval: every result that
    /// it gives is legal while it lives.
    #[test]
    fn what_a_sequential_file_system_returns_is_legal(
        calls in histories(true),
        seed in any::<u64>(),
    ) {
        let mut oracle = Oracle::new(Promises::strict());
        let mut now = setup(&mut oracle);
        let mut image = vec![0; SIZE];
        let mut ids: Vec<Option<CallId>> = vec![None; calls.len()];
        let mut acted = vec![false; calls.len()];
        for time in 0..2 * calls.len() as u64 {
            for (index, call) in calls.iter().enumerate() {
                let id = OpId(index as u16 + 3);
                if call.invoke == time {
                    now += 1;
                    ids[index] = Some(oracle.invoke(TaskIndex(1), id, &call.op, Moment(now)));
                }
                let returns = call.ret == Some(time);
                let acts = returns || seed >> ((time as usize * 5 + index) % 64) & 1 == 1;
                if ids[index].is_some() && !acted[index] && acts {
                    acted[index] = true;
                    act(&mut image, &call.op, id);
                }
                if returns {
                    now += 1;
                    let call_id = ids[index].expect("invoked before");
                    prop_assert!(oracle.complete(call_id, Moment(now), &result(&call.op)).is_ok());
                }
            }
            let op = Operation::Read { path: FILE, span: Span::new(0, SIZE as u64) };
            let read = oracle.invoke(TaskIndex(2), OpId(200), &op, Moment(now + 1));
            let verdict = oracle.complete(read, Moment(now + 2), &Ok(Value::Bytes(image.clone())));
            prop_assert!(verdict.is_ok(), "{:?}", verdict);
            now += 2;
        }
    }
}
