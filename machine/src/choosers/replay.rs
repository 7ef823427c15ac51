//! Replay of a recorded schedule, exact while the code is the same and lenient after it changed.

use crate::choice::{Actor, Choice, Chooser, DEVICE_NAME, RUN, Ready};

/// A stretch of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// The next `decisions` decisions about who runs go to the actor of this name.
    Run {
        /// The [`crate::choice::name_hash`] of the actor's name.
        name: u32,
        /// How many decisions.
        decisions: u32,
    },
    /// The next other decision is this number.
    Choose {
        /// What it decides.
        label: String,
        /// The number.
        chosen: u32,
    },
}

/// Follows moves. Where they do not fit (an actor is not ready, a label differs) it stays with the
/// current task, counts the divergence and goes on; after the last move it never preempts.
pub struct Replay {
    moves: Vec<Move>,
    next: usize,
    used: u32,
    divergences: u32,
}

impl Replay {
    /// Follows these moves.
    pub fn new(moves: Vec<Move>) -> Self {
        Replay { moves, next: 0, used: 0, divergences: 0 }
    }

    /// How often the moves did not fit.
    pub fn divergences(&self) -> u32 {
        self.divergences
    }

    fn advance(&mut self) {
        self.next += 1;
        self.used = 0;
    }
}

impl Chooser for Replay {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        loop {
            match self.moves.get(self.next) {
                None => return 0,
                Some(Move::Choose { .. }) => {
                    self.divergences += 1;
                    self.advance();
                }
                Some(Move::Run { name, decisions }) if self.used < *decisions => {
                    let found = ready.candidates.iter().position(|c| c.name == *name);
                    let Some(index) = found else {
                        self.divergences += 1;
                        self.advance();
                        continue;
                    };
                    self.used += 1;
                    return index as u32;
                }
                Some(Move::Run { .. }) => self.advance(),
            }
        }
    }

    fn pick(&mut self, label: &'static str, n: u32) -> u32 {
        if let Some(Move::Run { decisions, .. }) = self.moves.get(self.next)
            && self.used >= *decisions
        {
            self.advance();
        }
        match self.moves.get(self.next) {
            Some(Move::Choose { label: recorded, chosen }) if recorded == label => {
                let chosen = *chosen;
                self.advance();
                if chosen >= n {
                    self.divergences += 1;
                }
                chosen.min(n - 1)
            }
            None => 0,
            Some(_) => {
                self.divergences += 1;
                0
            }
        }
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// The moves that replay recorded choices; `name` gives the name hash of a task.
pub fn moves(choices: &[Choice], name: impl Fn(crate::TaskId) -> u32) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for choice in choices {
        if choice.label != RUN {
            moves.push(Move::Choose { label: choice.label.to_string(), chosen: choice.chosen });
            continue;
        }
        let who = match choice.actor {
            Actor::Task(id) => name(id),
            Actor::Device => DEVICE_NAME,
        };
        match moves.last_mut() {
            Some(Move::Run { name, decisions }) if *name == who => *decisions += 1,
            _ => moves.push(Move::Run { name: who, decisions: 1 }),
        }
    }
    moves
}
