//! A program with the order in which the operations of its tasks run.
//!
//! It promises that a script without one operation runs the others in the same order. It must
//! never know what the operations do.

use crate::program::{Comment, Dice, Place, Program, Slot, Source, SwarmMask, generate};
use oracle::operation::{OpId, Operation, TaskIndex};

/// A program and an interleaving of its tasks.
#[derive(Clone, Debug)]
pub(super) struct Script {
    program: Program,
    /// The task of each operation after `setup`, counted from 1.
    order: Vec<u8>,
}

/// One operation of a script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'s> {
    pub(super) task: TaskIndex,
    pub(super) id: OpId,
    pub(super) operation: &'s Operation,
}

impl Script {
    /// The script of this number of a seed.
    pub(super) fn draw(seed: u64, index: u64) -> Script {
        // SplitMix64 spreads any two different numbers far apart.
        let mut dice = Dice::new(Dice::new(seed).bits() ^ Dice::new(index).bits().rotate_left(1));
        let mut mask = SwarmMask::draw(&mut dice);
        mask.faults = false;
        let program = generate(&mut dice, &mask);
        let mut left: Vec<usize> = program.tasks.iter().map(|task| task.ops.len()).collect();
        let mut order = Vec::new();
        while left.iter().sum::<usize>() > 0 {
            let task = dice.below(left.len() as u32) as usize;
            if left[task] > 0 {
                left[task] -= 1;
                order.push(task as u8 + 1);
            }
        }
        Script { program, order }
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether all names are names of files in one directory.
    pub(super) fn is_runnable(&self) -> bool {
        let plain = |name: &String| {
            !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])
        };
        self.program.paths.iter().all(plain)
    }

    /// The operations of `setup`.
    pub(super) fn setup(&self) -> impl Iterator<Item = Step<'_>> {
        self.program.setup.iter().zip(1..).map(|(operation, number)| Step {
            task: TaskIndex(0),
            id: OpId(number),
            operation,
        })
    }

    /// The operations of one task, counted from 1.
    pub(super) fn task(&self, task: u8) -> impl Iterator<Item = Step<'_>> {
        let index = usize::from(task) - 1;
        let first = self.program.number_at(Slot::Task { task: index, index: 0 }).0;
        let ops = self.program.tasks.get(index).map_or(&[][..], |task| &task.ops);
        ops.iter().zip(first..).map(move |(operation, number)| Step {
            task: TaskIndex(task),
            id: OpId(number),
            operation,
        })
    }

    /// The operations of all tasks in order.
    pub(super) fn interleaved(&self) -> impl Iterator<Item = Step<'_>> {
        let mut tasks: Vec<_> =
            (1..=self.program.tasks.len() as u8).map(|task| self.task(task)).collect();
        self.order.iter().filter_map(move |&task| tasks.get_mut(usize::from(task) - 1)?.next())
    }

    /// The first number that no operation has.
    pub(super) fn next_id(&self) -> OpId {
        OpId(self.program.operation_count() as u16 + 1)
    }

    /// The places of all operations.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.program.operations().map(|(_, slot, _)| slot).collect()
    }

    /// This script without the operations at some places, which are sorted.
    pub(super) fn without(&self, slots: &[Slot]) -> Script {
        let mut script = self.clone();
        // From the last on, so that the earlier places stay valid.
        for &slot in slots.iter().rev() {
            if script.program.remove_operation(slot).is_none() {
                continue;
            }
            if let Slot::Task { task, index } = slot {
                let places = script.order.iter().enumerate();
                let of_task = places.filter(|(_, turn)| usize::from(**turn) == task + 1);
                if let Some(place) = of_task.map(|(place, _)| place).nth(index) {
                    script.order.remove(place);
                }
            }
        }
        script
    }

    /// The program as text. Unless tasks ran as threads, a comment gives the interleaving.
    pub(super) fn text(&self, threads: bool) -> String {
        let mut program = self.program.clone();
        let name = |&task: &u8| program.tasks.get(usize::from(task) - 1).map(|t| t.name.as_str());
        let order: Vec<_> = self.order.iter().filter_map(name).collect();
        let text = if threads {
            "tasks ran as threads".to_owned()
        } else {
            format!("one after the other: {}", order.join(" "))
        };
        program.comments.push(Comment { place: Place::Head, item: 0, text });
        program.choices.clear();
        program.fixup();
        program.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_keeps_its_order() {
        let script = Script::draw(1, 2);
        let slots = script.slots();
        let kept: Vec<_> = slots.iter().copied().skip(1).step_by(3).collect();
        let less = script.without(&kept);
        let gone: Vec<_> = kept.iter().map(|&slot| script.program.number_at(slot)).collect();
        let rest: Vec<_> = script
            .interleaved()
            .filter(|step| !gone.contains(&step.id))
            .map(|step| (step.task, step.operation.clone()))
            .collect();
        let found: Vec<_> =
            less.interleaved().map(|step| (step.task, step.operation.clone())).collect();
        assert_eq!(found, rest);
        assert!(!rest.is_empty());
    }

    #[test]
    fn a_seed_gives_the_same_script_again() {
        let (one, two) = (Script::draw(7, 3), Script::draw(7, 3));
        assert_eq!(one.text(false), two.text(false));
        assert_ne!(one.text(false), Script::draw(7, 4).text(false));
        assert_ne!(one.text(false), Script::draw(8, 3).text(false));
    }
}
