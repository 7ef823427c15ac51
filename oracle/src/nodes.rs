//! Bare nodes (G-28): each is a register that modifications give their own number.
//!
//! *Verified*: a read shows the number of a modification that no later one had replaced when the
//! read was invoked; after a cut each half shows one that no modification under the last sync had
//! replaced.
//! *Not verified, because* while a node is being allocated anew, its old content may come back from
//! the medium: then any number that was ever there is allowed, and a sync at that time promises
//! nothing of the node. The same holds of reads after the device has failed a write of a node; but
//! a sync that returns success afterwards has promised all the same.
use crate::call::{Call, CallId, Moment, Standing};
use crate::guarantee::GuaranteeId;
use crate::model::Oracle;
use crate::operation::{Errno, NodeId, OpId, Operation as Op, Outcome, Value};
use crate::view::View;
use crate::violation::{Kind, Violation};

/// The version of a node of the new image.
const FIRST: OpId = OpId(0);

/// What the calls did to nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    /// Calls that give nodes another version, in the order of their invocations.
    changes: Vec<(NodeId, CallId)>,
    syncs: Vec<CallId>,
    /// The device failed a write of a node.
    pub(crate) lossy: bool,
}

impl Nodes {
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.syncs.clear();
        self.lossy = false;
    }

    pub(crate) fn attach(&mut self, call: CallId, op: &Op) {
        match *op {
            Op::NodeModify { node } | Op::NodeNew { node } => self.changes.push((node, call)),
            Op::Sync => self.syncs.push(call),
            _ => {}
        }
    }
}

/// Whether an operation is about bare nodes.
pub(crate) fn is_of_nodes(op: &Op) -> bool {
    node_of(op).is_some() || *op == Op::NodeWrite
}

fn node_of(op: &Op) -> Option<NodeId> {
    match *op {
        Op::NodeRead { node }
        | Op::NodeReadahead { node }
        | Op::NodeModify { node }
        | Op::NodeReclaim { node }
        | Op::NodeNew { node } => Some(node),
        _ => None,
    }
}

/// Which versions may be seen.
struct Query {
    /// Changes that returned before this have happened.
    settled: u64,
    /// Changes invoked before this may have.
    possible: u64,
    /// Changes replace nothing for certain.
    any: bool,
}

impl Oracle {
    /// Checks the result of a call on a bare node.
    pub(crate) fn check_node_result(&self, id: CallId, outcome: &Outcome) -> Result<(), Violation> {
        let op = &self.calls[id].op;
        let count = self.promises.bare_nodes;
        let refused = match node_of(op) {
            _ if count == 0 => Some(Errno::EOPNOTSUPP),
            Some(node) if node.0 >= count => Some(Errno::EINVAL),
            _ => None,
        };
        match (outcome, refused) {
            (Err(errno), Some(refused)) if *errno == refused => Ok(()),
            (Err(Errno::EIO | Errno::EROFS), None) if self.errors.any => Ok(()),
            (Err(errno), _) => self.wrong(id, &format!("failed with {errno:?}")),
            (Ok(_), Some(refused)) => self.wrong(id, &format!("did not fail with {refused:?}")),
            (Ok(Value::Versions(halves)), None) => match *op {
                Op::NodeRead { node } => self.check_node_read(id, node, *halves),
                _ => self.wrong(id, "returned a value of another kind"),
            },
            (Ok(Value::Unit), None) if !matches!(op, Op::NodeRead { .. }) => Ok(()),
            (Ok(_), None) => self.wrong(id, "returned a value of another kind"),
        }
    }

    fn check_node_read(
        &self,
        id: CallId,
        node: NodeId,
        halves: [OpId; 2],
    ) -> Result<(), Violation> {
        let call = &self.calls[id];
        let any = self.nodes.lossy || self.is_made_anew(node, call.invoke, call.ret);
        let query = Query { settled: call.invoke, possible: call.ret, any };
        let name = self.call_name(id);
        for half in halves {
            self.check_half(node, half, &query, &name, Kind::StaleData)?;
        }
        if halves[0] == halves[1] || any {
            return Ok(());
        }
        let text = format!("{name} shows halves of operations {} and {}", halves[0].0, halves[1].0);
        let violation = Violation::new(GuaranteeId::BARE_NODES, Kind::TornData, text);
        self.report(violation.by(call.id))
    }

    /// Judges what a recovered target shows of its bare nodes.
    pub(crate) fn judge_nodes(&self, cut: Moment, seen: &dyn View) -> Result<(), Violation> {
        for node in (0..self.promises.bare_nodes).map(NodeId) {
            let Some(shown) = seen.node(node) else { continue };
            let halves = match shown {
                Ok(halves) => halves,
                Err(errno) => {
                    let text = format!("bare node {} cannot be read: {errno:?}", node.0);
                    let kind = Kind::Unreadable;
                    self.report(Violation::new(GuaranteeId::READABLE, kind, text))?;
                    continue;
                }
            };
            let query = Query { settled: self.synced(node, cut.0), possible: cut.0, any: false };
            for half in halves {
                self.check_half(node, half, &query, "recovery", Kind::LostData)?;
            }
        }
        Ok(())
    }

    /// Changes of a node that returned before this moment are durable at a cut.
    fn synced(&self, node: NodeId, cut: u64) -> u64 {
        let syncs = self.nodes.syncs.iter().map(|&id| &self.calls[id]);
        let returned = syncs.filter(|sync| sync.standing == Standing::Done && sync.ret < cut);
        let promising = returned.filter(|sync| !self.is_made_anew(node, sync.invoke, sync.ret));
        promising.map(|sync| sync.invoke).max().unwrap_or(0)
    }

    /// Whether a node is being allocated anew at some moment of an interval.
    fn is_made_anew(&self, node: NodeId, invoke: u64, ret: u64) -> bool {
        let mut changes = self.changes_of(node);
        changes.any(|call| {
            matches!(call.op, Op::NodeNew { .. }) && call.invoke < ret && call.ret > invoke
        })
    }

    fn changes_of(&self, node: NodeId) -> impl Iterator<Item = &Call> {
        let of_node = self.nodes.changes.iter().filter(move |(other, _)| *other == node);
        of_node.map(|&(_, id)| &self.calls[id])
    }

    fn check_half(
        &self,
        node: NodeId,
        shown: OpId,
        query: &Query,
        who: &str,
        kind: Kind,
    ) -> Result<(), Violation> {
        let born = match shown {
            FIRST => Some(0),
            _ => {
                let mut all = self.changes_of(node);
                let mine = all.find(|call| call.id == shown && call.invoke < query.possible);
                mine.map(|call| call.ret)
            }
        };
        let Some(born) = born else {
            let text = format!("{who} shows bare node {} of operation {}", node.0, shown.0);
            let violation = Violation::new(GuaranteeId::BARE_NODES, Kind::CorruptData, text);
            return self.report(violation.by(shown));
        };
        // A change that came wholly after the one shown, and surely happened, has replaced it.
        let replaces = |call: &&Call| {
            call.standing == Standing::Done && call.invoke > born && call.ret < query.settled
        };
        let Some(later) = self.changes_of(node).find(replaces).filter(|_| !query.any) else {
            return Ok(());
        };
        let text = format!(
            "{who} shows bare node {} of operation {}, which operation {} had replaced",
            node.0, shown.0, later.id.0
        );
        let mut violation = Violation::new(GuaranteeId::BARE_NODES, kind, text).by(shown);
        violation.allowed.push(later.id);
        self.report(violation)
    }
}
