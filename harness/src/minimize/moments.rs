//! What makes a schedule and a crash state simpler: fewest preemptions, fewest moves, least lost.

use super::{SMALL_OPERATIONS_MAX, Search};
use crate::program::{Move, Program, Schedule};
use crate::target::PowerTarget;

/// Preemptions within which a schedule is searched for.
const PREEMPTIONS_MAX: u32 = 2;
/// Random schedules tried where that finds none.
const LAST_DICE: u32 = 300;

/// Moves of a schedule near which others are tried.
const NEARBY_MOVES_MAX: usize = 24;
/// Steps by which a move is made longer.
const NEARBY: [i32; 6] = [1, -1, 2, -2, 4, -4];

impl<T: PowerTarget> Search<'_, T> {
    /// The first schedule with the fewest preemptions, if a search finds one, or else the first of
    /// some random ones: it depends on the program alone, not on how the finding began.
    pub(super) fn canonical_schedule(&mut self) {
        let program = self.best.program.clone();
        self.executions_max = self.executions.saturating_add(2 * self.effort.last_schedules);
        let found = self.try_explored(&program, PREEMPTIONS_MAX, self.effort.last_schedules);
        if !found && !program.is_sequential() {
            self.try_dice(&program, LAST_DICE);
        }
        self.reset_machine();
        self.calm_schedule();
    }

    /// Runs a small program with its recorded schedule, in which one move is a little longer or
    /// shorter: what was changed made a task's way longer or shorter.
    pub(super) fn try_nearby(&mut self, candidate: &Program) -> bool {
        let moves = candidate.schedule.as_ref().map_or(0, |schedule| schedule.moves.len());
        if candidate.operation_count() > SMALL_OPERATIONS_MAX || moves > NEARBY_MOVES_MAX {
            return false;
        }
        let all = (0..moves).flat_map(|index| NEARBY.map(|steps| (index, steps)));
        all.into_iter().any(|(index, more)| {
            let mut nearby = candidate.clone();
            let schedule = nearby.schedule.as_mut().expect("it has moves");
            let Move::Run { steps, .. } = &mut schedule.moves[index] else { return false };
            let Some(changed) = steps.checked_add_signed(more).filter(|steps| *steps > 0) else {
                return false;
            };
            *steps = changed;
            self.try_schedule(&nearby)
        })
    }

    /// Fewer switches: no preemption at all, or without one of the moves.
    fn calm_schedule(&mut self) {
        let mut candidate = self.best.program.clone();
        candidate.schedule = Some(Schedule::default());
        if self.try_schedule(&candidate) {
            return;
        }
        for change in [put_off, bring_forward, remove_move] {
            let mut index = 0;
            while index < self.moves() {
                if !self.try_fewer_moves(index, change) {
                    index += 1;
                }
            }
        }
    }

    fn try_fewer_moves(&mut self, index: usize, change: fn(&mut Vec<Move>, usize)) -> bool {
        let mut candidate = self.best.program.clone();
        let Some(schedule) = &mut candidate.schedule else { return false };
        let before = schedule.moves.len();
        change(&mut schedule.moves, index);
        if schedule.moves.len() >= before {
            return false;
        }
        let best = self.best.clone();
        if self.try_schedule(&candidate) {
            if self.moves() < before {
                return true;
            }
            self.best = best;
        }
        false
    }

    /// A recorded schedule needs no dice.
    fn reset_machine(&mut self) {
        let mut candidate = self.best.program.clone();
        candidate.machine = Program::default().machine;
        if candidate.machine != self.best.program.machine {
            self.try_schedule(&candidate);
        }
    }

    /// Each task is interrupted as early as shows the same: where the window opens.
    pub(super) fn interrupt_early(&mut self) {
        let mut index = 0;
        while index < self.moves() {
            if !self.try_earlier(index) {
                index += 1;
            }
        }
    }

    /// Gives the last step of a move to the next move of the same task.
    fn try_earlier(&mut self, index: usize) -> bool {
        let mut candidate = self.best.program.clone();
        let Some(schedule) = &mut candidate.schedule else { return false };
        let (before, after) = schedule.moves.split_at_mut(index + 1);
        let Some(Move::Run { who, steps }) = before.last_mut().filter(|_| after.len() > 1) else {
            return false;
        };
        let same = after.iter_mut().find_map(|step| match step {
            Move::Run { who: other, steps } if other == who => Some(steps),
            _ => None,
        });
        let (Some(later), true) = (same, *steps > 1) else { return false };
        *steps -= 1;
        *later += 1;
        let best = self.best.clone();
        let moves = self.moves();
        if self.try_schedule(&candidate) {
            if self.moves() <= moves && self.best.switches() <= best.switches() {
                return true;
            }
            self.best = best;
        }
        false
    }

    fn moves(&self) -> usize {
        self.best.program.schedule.as_ref().map_or(0, |schedule| schedule.moves.len())
    }

    /// Recovery that is not cut itself, and blocks that kept what was written, wherever that shows
    /// the same; whole blocks instead of torn ones.
    pub(super) fn lose_less(&mut self) {
        let mut candidate = self.best.program.clone();
        let Some(cut) = &mut candidate.cut else { return };
        if cut.inside_recovery.take().is_some() {
            cut.kept_inside.clear();
            self.try_cut(&candidate);
        }
        let mut index = 0;
        while let Some(cut) = &self.best.program.cut {
            let Some(spec) = cut.kept.get(index).copied() else { break };
            let mut kept = cut.kept.clone();
            kept.retain(|other| (other.device, other.block) != (spec.device, spec.block));
            let mut candidate = self.best.program.clone();
            candidate.cut.as_mut().expect("it has one").kept.clone_from(&kept);
            if self.try_cut(&candidate) {
                continue;
            }
            if spec.sectors.is_some() {
                let mut candidate = self.best.program.clone();
                let whole = crate::program::KeptSpec { sectors: None, ..spec };
                kept.insert(index.min(kept.len()), whole);
                candidate.cut.as_mut().expect("it has one").kept = kept;
                self.try_cut(&candidate);
            }
            index += 1;
        }
    }
}

/// Gives the steps of a move to the next one of its task.
fn put_off(moves: &mut Vec<Move>, index: usize) {
    let Some(Move::Run { who, steps: more }) = moves.get(index).cloned() else { return };
    let later = moves[index + 1..].iter_mut().find_map(|step| steps_of(step, &who));
    if let Some(steps) = later {
        *steps = steps.saturating_add(more);
        remove_move(moves, index);
    }
}

/// Gives the steps of a move to the one of its task before.
fn bring_forward(moves: &mut Vec<Move>, index: usize) {
    let Some(Move::Run { who, steps: more }) = moves.get(index).cloned() else { return };
    let earlier = moves[..index].iter_mut().rev().find_map(|step| steps_of(step, &who));
    if let Some(steps) = earlier {
        *steps = steps.saturating_add(more);
        remove_move(moves, index);
    }
}

/// The steps of a move, if it is one of this task.
fn steps_of<'m>(step: &'m mut Move, who: &str) -> Option<&'m mut u32> {
    match step {
        Move::Run { who: other, steps } if other == who => Some(steps),
        _ => None,
    }
}

/// Leaves a move out; those around it become one, if they are of one task.
fn remove_move(moves: &mut Vec<Move>, index: usize) {
    moves.remove(index);
    let Some(before) = index.checked_sub(1) else { return };
    let (Some(Move::Run { who: first, steps: more }), Some(Move::Run { who, steps })) =
        (moves.get(index).cloned(), moves.get_mut(before))
    else {
        return;
    };
    if *who == first {
        *steps = steps.saturating_add(more);
        moves.remove(index);
    }
}
