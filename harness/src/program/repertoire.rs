//! What a target can be asked for: programs are generated from that alone.
//!
//! It promises that a program kept to a repertoire has nothing that is not in it. It must never
//! know which target that is.

use super::options::{Group, KNOBS};
use super::swarm::{PERSISTERS, WRITERS};
use super::syntax::{build, kind, split};
use super::{Kind, Program, Slot, SwarmMask};
use oracle::operation::{Operation, Sync};

/// What generated programs may consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repertoire {
    /// Kinds of operations, by bit `Kind as u64`.
    kinds: u64,
    /// Whether writes may be O_DSYNC.
    pub sync_writes: bool,
    /// Whether the device may fail requests.
    pub faults: bool,
    /// Whether the knobs of image and mount may differ from their defaults: they are the engine's.
    pub knobs: bool,
}

impl Repertoire {
    /// All that programs can have.
    pub const EVERYTHING: Repertoire =
        Repertoire { kinds: (1 << Kind::COUNT) - 1, sync_writes: true, faults: true, knobs: true };

    /// These operations, on a device that does not fail, with no knobs but the machine's.
    pub const fn of(kinds: &[Kind]) -> Repertoire {
        let mut bits = 0;
        let mut index = 0;
        while index < kinds.len() {
            bits |= 1 << kinds[index] as u64;
            index += 1;
        }
        Repertoire { kinds: bits, sync_writes: false, faults: false, knobs: false }
    }

    /// Whether it has operations of this kind.
    pub const fn allows(&self, kind: Kind) -> bool {
        self.kinds >> kind as u64 & 1 == 1
    }

    fn has(&self, operation: &Operation) -> bool {
        self.allows(kind(operation))
    }

    /// What a program asks for that is not in it, in words.
    pub fn lacks(&self, program: &Program) -> Option<String> {
        if *self == Repertoire::EVERYTHING {
            return None;
        }
        let is_sync = |operation: &Operation| split(operation).1.sync != Sync::None;
        let mut operations = program.operations().map(|(_, _, operation)| operation);
        if let Some(other) = operations.clone().find(|operation| !self.has(operation)) {
            return Some(format!("`{}`", kind(other).shape().word));
        }
        if !self.sync_writes && operations.any(is_sync) {
            return Some("synchronous writes".to_string());
        }
        (!self.faults && !program.faults.is_empty()).then(|| "device faults".to_string())
    }
}

impl SwarmMask {
    /// The mask without what a target does not have. If nothing is left that writes, or that makes
    /// something durable, all of the repertoire takes part.
    #[must_use]
    pub fn within(mut self, repertoire: &Repertoire) -> SwarmMask {
        if *repertoire == Repertoire::EVERYTHING {
            return self;
        }
        self.kinds &= repertoire.kinds;
        self.focus &= repertoire.kinds;
        let lacks = |mask: &SwarmMask, kinds: &[Kind]| !kinds.iter().any(|&k| mask.allows(k));
        let keeps_nothing = lacks(&self, PERSISTERS) && !self.allows(Kind::Sync);
        if lacks(&self, WRITERS) || keeps_nothing {
            self.kinds = repertoire.kinds;
        }
        self.sync_writes &= repertoire.sync_writes;
        self.faults &= repertoire.faults;
        if !repertoire.knobs {
            (self.knobs, self.nodes, self.layouts) = (0, false, false);
        }
        self
    }
}

impl Program {
    /// Removes what a target does not have, but not the lines of `after`.
    pub fn keep_to(&mut self, repertoire: &Repertoire) {
        if *repertoire == Repertoire::EVERYTHING {
            return;
        }
        let strangers: Vec<Slot> = self
            .operations()
            .filter(|(_, slot, operation)| {
                !matches!(slot, Slot::After(_)) && !repertoire.has(operation)
            })
            .map(|(_, slot, _)| slot)
            .collect();
        for slot in strangers.into_iter().rev() {
            self.remove_operation(slot);
        }
        if !repertoire.sync_writes {
            let tasks = self.tasks.iter_mut().flat_map(|task| &mut task.ops);
            self.setup.iter_mut().chain(tasks).for_each(lazily);
        }
        if !repertoire.faults {
            self.faults.clear();
        }
        if !repertoire.knobs {
            let foreign = KNOBS.iter().filter(|knob| knob.group != Group::Machine);
            foreign.for_each(|knob| (knob.set)(self, knob.default));
        }
        self.fixup();
    }
}

/// The operation, not durable at return.
fn lazily(operation: &mut Operation) {
    let (kind, mut fields) = split(operation);
    fields.sync = Sync::None;
    *operation = build(kind, &fields);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Dice, generate, strict};

    const SMALL: Repertoire =
        Repertoire::of(&[Kind::Create, Kind::Unlink, Kind::Write, Kind::Read, Kind::Fsync]);

    #[test]
    fn programs_kept_to_a_repertoire_have_nothing_else() {
        let mut operations = 0;
        for seed in 0..300 {
            let mut dice = Dice::new(seed);
            let mask = SwarmMask::draw(&mut dice).within(&SMALL);
            let mut program = generate(&mut dice, &mask);
            program.keep_to(&SMALL);
            for (_, _, operation) in program.operations() {
                assert!(SMALL.has(operation), "{operation:?} in\n{program}");
            }
            assert_eq!(SMALL.lacks(&program), None);
            let is_plain = |line: &str| !line.starts_with("image") && !line.starts_with("mount");
            assert!(program.to_string().lines().all(is_plain), "{program}");
            operations += program.operation_count();
        }
        assert!(operations > 300 * 12, "{operations} operations in 300 programs");
    }

    #[test]
    fn what_is_lacking_is_named() {
        let lacks = |line: &str| {
            let text = format!("powerfail 1\n{line}setup\n  create f\n");
            SMALL.lacks(&strict(&text).expect("it parses"))
        };
        assert_eq!(lacks(""), None);
        assert_eq!(lacks("fault write nth=1 errno=EIO\n"), Some("device faults".to_string()));
        let text = "powerfail 1\nsetup\n  create f\n  punch f 0 4K\n";
        let program = strict(text).expect("it parses");
        assert_eq!(SMALL.lacks(&program), Some("`punch`".to_string()));
    }

    #[test]
    fn everything_changes_nothing() {
        for seed in 0..50 {
            let mask = SwarmMask::draw(&mut Dice::new(seed));
            assert_eq!(mask.clone().within(&Repertoire::EVERYTHING), mask);
            let program = generate(&mut Dice::new(seed), &mask);
            let mut kept = program.clone();
            kept.keep_to(&Repertoire::EVERYTHING);
            assert_eq!(kept, program);
        }
    }
}
