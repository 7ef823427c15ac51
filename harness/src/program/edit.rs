//! Operations by number, and removing and inserting them without breaking what refers to them.

use oracle::operation::{OpId, Operation};

use super::{AfterLine, Content, MountKnobs, Place, Program};

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The operation of this index in `setup`.
    Setup(usize),
    /// The operation of this index in a task.
    Task {
        /// The index of the task.
        task: usize,
        /// The index of the operation in the task.
        index: usize,
    },
    /// The line of this index in `after`, which holds an operation.
    After(usize),
}

impl Program {
    /// Every operation with its number and place, in program order: setup, tasks, after.
    pub fn operations(&self) -> impl Iterator<Item = (OpId, Slot, &Operation)> + Clone {
        let setup = self.setup.iter().enumerate().map(|(index, op)| (Slot::Setup(index), op));
        let tasks = self.tasks.iter().enumerate().flat_map(|(task, body)| {
            body.ops.iter().enumerate().map(move |(index, op)| (Slot::Task { task, index }, op))
        });
        let after = self.after.iter().enumerate().filter_map(|(index, line)| match line {
            AfterLine::Operation(op) => Some((Slot::After(index), op)),
            _ => None,
        });
        let all = setup.chain(tasks).chain(after);
        all.zip(1..).map(|((slot, op), number)| (OpId(number), slot, op))
    }

    /// The operation of a number.
    pub fn operation(&self, id: OpId) -> Option<(Slot, &Operation)> {
        let found = self.operations().find(|(number, ..)| *number == id);
        found.map(|(_, slot, operation)| (slot, operation))
    }

    /// The operation at a place; none in `after`.
    pub fn operation_at(&self, slot: Slot) -> Option<&Operation> {
        match slot {
            Slot::Setup(index) => self.setup.get(index),
            Slot::Task { task, index } => self.tasks.get(task)?.ops.get(index),
            Slot::After(_) => None,
        }
    }

    /// The operation at a place, to be changed; none in `after`.
    pub fn operation_mut(&mut self, slot: Slot) -> Option<&mut Operation> {
        match slot {
            Slot::Setup(index) => self.setup.get_mut(index),
            Slot::Task { task, index } => self.tasks.get_mut(task)?.ops.get_mut(index),
            Slot::After(_) => None,
        }
    }

    /// The number of the operation at a place; for a place at the end of a list, the number that an
    /// operation inserted there gets.
    pub fn number_at(&self, slot: Slot) -> OpId {
        let in_tasks = |count: usize| -> usize {
            self.tasks.iter().take(count).map(|task| task.ops.len()).sum()
        };
        let before = match slot {
            Slot::Setup(index) => index,
            Slot::Task { task, index } => self.setup.len() + in_tasks(task) + index,
            Slot::After(line) => {
                let operations = self.after.iter().take(line).filter(|line| is_operation(line));
                self.setup.len() + in_tasks(self.tasks.len()) + operations.count()
            }
        };
        OpId(before as u16 + 1)
    }

    /// How many operations there are, those of `after` included.
    pub fn operation_count(&self) -> usize {
        self.setup.len()
            + self.task_operation_count()
            + self.after.iter().filter(|l| is_operation(l)).count()
    }

    /// Whether nothing races: only the device has choices.
    pub fn is_sequential(&self) -> bool {
        let MountKnobs { flusher, committer, reclaimer, .. } = self.mount;
        self.tasks.len() < 2 && [flusher, committer, reclaimer].iter().all(|budget| *budget == 0)
    }

    /// How many operations the tasks have together.
    pub fn task_operation_count(&self) -> usize {
        self.tasks.iter().map(|task| task.ops.len()).sum()
    }

    /// Removes the operation at a place. Lines that refer to later operations follow them, a
    /// `content` line that refers to this one goes, and comments stay with their lines.
    /// Returns nothing if there is no operation.
    pub fn remove_operation(&mut self, slot: Slot) -> Option<Operation> {
        let id = self.number_at(slot);
        let removed = match slot {
            Slot::Setup(index) if index < self.setup.len() => self.setup.remove(index),
            Slot::Task { task, index } if index < self.tasks.get(task)?.ops.len() => {
                self.tasks[task].ops.remove(index)
            }
            Slot::After(index) if self.after.get(index).is_some_and(is_operation) => {
                match self.after.remove(index) {
                    AfterLine::Operation(operation) => operation,
                    _ => return None,
                }
            }
            _ => return None,
        };
        self.after.retain(|line| {
            !matches!(line,
            AfterLine::Content { holds: Content::Tag(op), .. } if *op == id)
        });
        for fault in &mut self.faults {
            fault.op = fault.op.filter(|op| *op != id);
        }
        self.shift_references(id, -1);
        self.shift_comments(slot, -1);
        Some(removed)
    }

    /// Inserts an operation before the one at a place, or at the end of the list. What refers to
    /// later operations follows them. Without effect if there is no such task.
    pub fn insert_operation(&mut self, slot: Slot, operation: Operation) {
        let (list, index) = match slot {
            Slot::Setup(index) => (&mut self.setup, index),
            Slot::Task { task, index } => match self.tasks.get_mut(task) {
                Some(task) => (&mut task.ops, index),
                None => return,
            },
            Slot::After(index) => {
                let index = index.min(self.after.len());
                self.shift_references(self.number_at(Slot::After(index)), 1);
                self.shift_comments(Slot::After(index), 1);
                self.after.insert(index, AfterLine::Operation(operation));
                return;
            }
        };
        let index = index.min(list.len());
        list.insert(index, operation);
        let slot = match slot {
            Slot::Task { task, .. } => Slot::Task { task, index },
            _ => Slot::Setup(index),
        };
        self.shift_references(self.number_at(slot), 1);
        self.shift_comments(slot, 1);
    }

    /// References to operations from `id` on move by `by`.
    fn shift_references(&mut self, id: OpId, by: i16) {
        let shift = |op: &mut OpId| {
            if *op >= id {
                op.0 = op.0.saturating_add_signed(by);
            }
        };
        for line in &mut self.after {
            if let AfterLine::Content { holds: Content::Tag(op), .. } = line {
                shift(op);
            }
        }
        self.faults.iter_mut().filter_map(|fault| fault.op.as_mut()).for_each(shift);
    }

    /// Comments before the lines after `slot` move by `by`.
    fn shift_comments(&mut self, slot: Slot, by: i32) {
        let (place, index) = match slot {
            Slot::Setup(index) => (Place::Setup, index),
            Slot::Task { task, index } => (Place::Task(task as u8), index),
            Slot::After(index) => (Place::After, index),
        };
        for comment in &mut self.comments {
            if comment.place == place && comment.item > index as u32 + 1 {
                comment.item = comment.item.saturating_add_signed(by);
            }
        }
    }
}

fn is_operation(line: &AfterLine) -> bool {
    matches!(line, AfterLine::Operation(_))
}
