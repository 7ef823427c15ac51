//! The oracle never panics, whatever a target returns or shows.
mod common;

use common::Shown;
use oracle::operation::*;
use oracle::{Atom, DeviceError, DeviceErrorPlace, Moment, Oracle, Promises};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = u64> {
    let edges = vec![0, 1, 511, 512, 4095, 4096, 8192, 1 << 26, 1 << 43, i64::MAX as u64, u64::MAX];
    let blocks = (0u64..5).prop_map(|n| n * 4096);
    prop_oneof![4 => 0u64..20_000, 2 => blocks, 1 => prop::sample::select(edges)]
}

fn span() -> impl Strategy<Value = Span> {
    (number(), number()).prop_map(|(offset, len)| Span::new(offset, len))
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as Op;
    let args = (0u8..2, 0u8..2, span(), number(), any::<[bool; 3]>());
    (0u8..30, args).prop_map(|(kind, (p, other, span, n, [sync, keep_size, byte]))| {
        let (path, map) = (PathId(p), MapId(other));
        let sync = if sync { Sync::Data } else { Sync::None };
        let fill = if byte { Fill::Byte(7) } else { Fill::Tag };
        let (source, target) = (PathId(p), PathId(other));
        let (source_offset, target_offset, len) = (span.offset, n, span.len);
        match kind {
            0 | 1 => Op::Create { path },
            2 => Op::Unlink { path },
            3 => Op::Truncate { path, size: n },
            4 | 5 => Op::Write { path, span, fill, sync },
            6 | 7 => Op::Append { path, len: n, fill, sync },
            8 => Op::Read { path, span },
            9 => Op::DirectWrite { path, span, fill, sync },
            10 if keep_size => Op::WriteFrom { path, span, map, map_offset: n, sync },
            10 => Op::DirectWriteFrom { path, span, map, map_offset: n, sync },
            11 => Op::DirectRead { path, span },
            12 if keep_size => Op::ReadInto { path, span, map, map_offset: n },
            12 => Op::DirectReadInto { path, span, map, map_offset: n },
            13 => Op::AsyncWrite { path, span, fill, sync },
            14 => Op::Mmap { map, path, span },
            15 => Op::Munmap { map },
            16 => Op::Load { map, span },
            17 => Op::Store { map, span, fill },
            18 => Op::Msync { map, span },
            19 => Op::Fallocate { path, span, keep_size },
            20 => Op::Punch { path, span },
            21 => Op::ZeroRange { path, span, keep_size },
            22 => Op::Clone { source, source_offset, target, target_offset, len },
            23 => Op::Dedupe { source, source_offset, target, target_offset, len },
            24 => Op::Fsync { path },
            25 => Op::FsyncRange { path, span },
            26 => Op::Sync,
            27 => Op::Holes { path },
            28 => Op::Stat { path },
            _ => Op::List,
        }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let errno = vec![Errno::EIO, Errno::ENOENT, Errno::EEXIST, Errno::EFAULT, Errno::ENOSPC];
    prop_oneof![
        4 => Just(Ok(Value::Unit)),
        3 => number().prop_map(|count| Ok(Value::Count(count))),
        2 => (number(), number()).prop_map(|(offset, len)| Ok(Value::Appended { offset, len })),
        1 => (0usize..9000).prop_map(|len| Ok(Value::Bytes(vec![0; len]))),
        1 => Just(Ok(Value::Differs)),
        1 => (number(), any::<u32>()).prop_map(|(size, nlink)| Ok(Value::Stat { size, nlink })),
        1 => proptest::collection::vec((span(), any::<bool>()), 0..3).prop_map(|runs| {
            Ok(Value::Holes(runs.into_iter().map(|(span, data)| HoleRun { span, data }).collect()))
        }),
        1 => Just(Ok(Value::Names(vec![PathId(0), PathId(9)]))),
        3 => prop::sample::select(errno).prop_map(Err),
    ]
}

/// No files beside the tests: a failure is printed, and goes into a table by hand.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn no_history_makes_it_panic(
        events in proptest::collection::vec((operation(), outcome(), 0u8..6), 1..30),
        sizes in proptest::array::uniform2(number()),
        atom in any::<bool>(),
    ) {
        let data_atom = if atom { Atom::Block } else { Atom::Sector };
        let mut oracle = Oracle::new(Promises { data_atom, ..Promises::linux() });
        let mut open = Vec::new();
        let mut now = 0;
        for (index, (op, outcome, action)) in events.iter().enumerate() {
            now += 1;
            let task = TaskIndex(action % 3);
            let call = oracle.invoke(task, OpId(index as u16 + 1), op, Moment(now));
            open.push((call, outcome));
            if *action == 5 {
                now += 1;
                let place = DeviceErrorPlace::Block { path: PathId(0), block: 1 };
                oracle.note_device_error(Moment(now), DeviceError { write: atom, place });
            }
            while open.len() > usize::from(action % 3) {
                now += 1;
                let (call, outcome) = open.remove(usize::from(*action) % open.len());
                // Most results are wrong; the model has to go on with them.
                let _ = oracle.complete(call, Moment(now), outcome);
            }
        }
        let mut seen = Shown { nlink: 1, ..Shown::default() };
        for (path, size) in [PathId(0), PathId(1)].into_iter().zip(sizes) {
            seen.names.push(path);
            seen.files.insert(path, (size.min(1 << 17), Vec::new()));
        }
        for cut in 1..now + 2 {
            let _ = oracle.judge(Moment(cut), &seen);
        }
        oracle.reset(Promises::strict());
        prop_assert_eq!(oracle.calls(), 0);
    }
}
