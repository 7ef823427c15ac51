//! Bare nodes (G-28): what reads and recoveries may show of them, and what they may not.

use oracle::content::BlockHash;
use oracle::operation::{Errno, NodeId, OpId, Operation, Outcome, PathId, TaskIndex, Value};
use oracle::{
    CallId, DeviceError, DeviceErrorPlace, Kind, Moment, Oracle, Promises, View, Violation,
};

const NODE: NodeId = NodeId(0);
const MODIFY: Operation = Operation::NodeModify { node: NODE };
const NEW: Operation = Operation::NodeNew { node: NODE };
const READ: Operation = Operation::NodeRead { node: NODE };

/// A recovered target with one bare node and nothing else.
struct Halves(Result<[OpId; 2], Errno>);

impl View for Halves {
    fn names(&self) -> &[PathId] {
        &[]
    }

    fn size(&self, _: PathId) -> u64 {
        0
    }

    fn nlink(&self, _: PathId) -> u32 {
        0
    }

    fn block_hash(&self, _: PathId, _: u64) -> BlockHash {
        BlockHash::UNREADABLE
    }

    fn block_bytes(&self, _: PathId, _: u64, out: &mut [u8; 4096]) {
        out.fill(0);
    }

    fn node(&self, node: NodeId) -> Option<Result<[OpId; 2], Errno>> {
        (node == NODE).then_some(self.0)
    }
}

struct Bench {
    oracle: Oracle,
    now: u64,
    ops: u16,
}

impl Bench {
    fn new() -> Bench {
        let promises = Promises { bare_nodes: 1, ..Promises::strict() };
        Bench { oracle: Oracle::new(promises), now: 0, ops: 0 }
    }

    fn tick(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    fn invoke(&mut self, operation: &Operation) -> CallId {
        self.ops += 1;
        let at = self.tick();
        self.oracle.invoke(TaskIndex(1), OpId(self.ops), operation, at)
    }

    fn complete(&mut self, call: CallId, outcome: Outcome) -> Result<(), Violation> {
        let at = self.tick();
        self.oracle.complete(call, at, &outcome)
    }

    fn done(&mut self, operation: &Operation) {
        let call = self.invoke(operation);
        self.complete(call, Ok(Value::Unit)).expect("it may succeed");
    }

    fn read(&mut self, halves: [u16; 2]) -> Option<Kind> {
        let call = self.invoke(&READ);
        let outcome = Ok(Value::Versions(halves.map(OpId)));
        self.complete(call, outcome).err().map(|violation| violation.kind)
    }

    fn cut(&mut self, halves: [u16; 2]) -> Option<Kind> {
        let at = self.tick();
        let seen = Halves(Ok(halves.map(OpId)));
        self.oracle.judge(at, &seen).err().map(|violation| violation.kind)
    }
}

#[test]
fn a_read_shows_what_no_returned_modification_has_replaced() {
    let mut bench = Bench::new();
    assert_eq!(bench.read([0, 0]), None);
    bench.done(&MODIFY); // 2
    assert_eq!(bench.read([2, 2]), None);
    assert_eq!(bench.read([0, 0]), Some(Kind::StaleData));
    let open = bench.invoke(&MODIFY); // 5
    assert_eq!(bench.read([5, 5]), None);
    assert_eq!(bench.read([2, 2]), None, "what is in flight may be yet to come");
    assert_eq!(bench.read([5, 2]), Some(Kind::TornData));
    assert_eq!(bench.read([9, 9]), Some(Kind::CorruptData));
    bench.complete(open, Ok(Value::Unit)).expect("it may succeed");
    assert_eq!(bench.read([2, 2]), Some(Kind::StaleData));
}

#[test]
fn sync_covers_what_returned_before_it() {
    let mut bench = Bench::new();
    bench.done(&MODIFY); // 1
    assert_eq!(bench.cut([0, 0]), None, "nothing is promised yet");
    bench.done(&Operation::NodeWrite);
    assert_eq!(bench.cut([0, 1]), None, "halves are written apart");
    let sync = bench.invoke(&Operation::Sync);
    bench.done(&MODIFY); // 4
    assert_eq!(bench.cut([0, 0]), None, "the sync has not returned");
    bench.complete(sync, Ok(Value::Unit)).expect("it may succeed");
    assert_eq!(bench.cut([0, 1]), Some(Kind::LostData));
    assert_eq!(bench.cut([1, 4]), None);
    assert_eq!(bench.cut([5, 4]), Some(Kind::CorruptData));
    let at = bench.tick();
    let unreadable = bench.oracle.judge(at, &Halves(Err(Errno::EUCLEAN)));
    assert_eq!(unreadable.err().map(|violation| violation.kind), Some(Kind::Unreadable));
}

#[test]
fn a_node_that_is_made_anew_may_show_what_it_was() {
    let mut bench = Bench::new();
    bench.done(&MODIFY); // 1
    let anew = bench.invoke(&NEW); // 2
    assert_eq!(bench.read([0, 0]), None);
    bench.done(&Operation::Sync); // 4
    assert_eq!(bench.cut([0, 0]), None);
    bench.complete(anew, Ok(Value::Unit)).expect("it may succeed");
    assert_eq!(bench.read([0, 0]), Some(Kind::StaleData));
    bench.done(&Operation::Sync);
    assert_eq!(bench.cut([1, 2]), Some(Kind::LostData));
}

#[test]
fn a_sync_after_a_failed_write_promises_all_the_same() {
    let mut bench = Bench::new();
    bench.done(&MODIFY); // 1
    let at = bench.tick();
    bench.oracle.note_device_error(at, DeviceError { write: true, place: DeviceErrorPlace::Nodes });
    assert_eq!(bench.read([0, 0]), None);
    let sync = bench.invoke(&Operation::Sync);
    bench.complete(sync, Err(Errno::EIO)).expect("the write failed");
    assert_eq!(bench.cut([0, 0]), None);
    bench.done(&Operation::Sync);
    assert_eq!(bench.cut([0, 0]), Some(Kind::LostData));
}

#[test]
fn nodes_that_are_not_there_are_refused() {
    let mut bench = Bench::new();
    let beyond = bench.invoke(&Operation::NodeModify { node: NodeId(1) });
    assert_eq!(bench.complete(beyond, Err(Errno::EINVAL)), Ok(()));
    let beyond = bench.invoke(&Operation::NodeRead { node: NodeId(1) });
    let shown = bench.complete(beyond, Ok(Value::Versions([OpId(0); 2])));
    assert_eq!(shown.err().map(|violation| violation.kind), Some(Kind::WrongResult));
    let mut bench = Bench { oracle: Oracle::new(Promises::strict()), now: 0, ops: 0 };
    let none = bench.invoke(&READ);
    assert_eq!(bench.complete(none, Err(Errno::EOPNOTSUPP)), Ok(()));
    let write = bench.invoke(&Operation::NodeWrite);
    assert!(bench.complete(write, Ok(Value::Unit)).is_err());
}
