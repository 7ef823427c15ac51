//! A chooser that takes given choices first and then leaves them to another, and remembers what
//! could have been chosen.
//!
//! Promises that with the same first choices an execution is the same until they end. It must never
//! know what is made of that.

use machine::choice::{Candidate, Ready};
use machine::choosers::{self, Replay};
use machine::{Actor, Chooser, Event, Machine, Moment, RequestId};
use std::any::Any;

/// A choice that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The last event before it.
    pub moment: Moment,
    /// The possibilities.
    pub among: Among,
    /// Which one was taken.
    pub chosen: u32,
}

/// What there was to choose from.
#[derive(Clone, Debug)]
pub enum Among {
    /// Who makes the next step: who, the hash of the name, and what a task would do.
    Run(Vec<(Actor, u32, Option<Event>)>),
    /// Which request completes.
    Complete(Vec<RequestId>),
    /// Something else: a number below this one.
    Other(&'static str, u32),
}

impl Among {
    /// How many possibilities there were.
    pub fn count(&self) -> u32 {
        match self {
            Among::Run(actors) => actors.len() as u32,
            Among::Complete(requests) => requests.len() as u32,
            Among::Other(_, n) => *n,
        }
    }
}

/// Takes given choices, then those of another chooser.
pub struct Script {
    machine: Machine,
    first: Vec<u32>,
    then: Box<dyn Chooser>,
    /// What was asked, in order.
    pub asked: Vec<Asked>,
}

impl Script {
    /// On this machine, these first choices, and then those of a chooser.
    pub fn new(machine: &Machine, first: Vec<u32>, then: Box<dyn Chooser>) -> Self {
        Script { machine: machine.clone(), first, then, asked: Vec::new() }
    }

    fn decide(&mut self, among: Among, other: impl FnOnce(&mut dyn Chooser) -> u32) -> u32 {
        let chosen = match self.first.get(self.asked.len()) {
            Some(&given) => given.min(among.count() - 1),
            None => other(&mut *self.then),
        };
        self.asked.push(Asked { moment: self.machine.now(), among, chosen });
        chosen
    }
}

impl Chooser for Script {
    fn run(&mut self, ready: &Ready<'_>) -> u32 {
        let who = |candidate: &Candidate| (candidate.actor, candidate.name, candidate.event);
        let among = Among::Run(ready.candidates.iter().map(who).collect());
        self.decide(among, |then| then.run(ready))
    }

    fn pick(&mut self, label: &'static str, n: u32) -> u32 {
        self.decide(Among::Other(label, n), |then| then.pick(label, n))
    }

    fn complete(&mut self, in_flight: &[RequestId]) -> u32 {
        let among = Among::Complete(in_flight.to_vec());
        self.decide(among, |then| then.complete(in_flight))
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The moves that lead through recorded choices.
pub fn moves(asked: &[Asked]) -> Vec<choosers::Move> {
    let mut moves: Vec<choosers::Move> = Vec::new();
    for choice in asked {
        let label = match &choice.among {
            Among::Run(actors) => {
                let name = actors[choice.chosen as usize].1;
                push_run(&mut moves, name, 1);
                continue;
            }
            Among::Complete(_) => machine::choice::COMPLETE,
            Among::Other(label, _) => label,
        };
        let (label, chosen) = (label.to_string(), choice.chosen);
        moves.push(choosers::Move::Choose { label, chosen });
    }
    moves
}

fn push_run(moves: &mut Vec<choosers::Move>, who: u32, count: u32) {
    match moves.last_mut() {
        Some(choosers::Move::Run { name, decisions }) if *name == who => *decisions += count,
        _ => moves.push(choosers::Move::Run { name: who, decisions: count }),
    }
}

/// A chooser that lets an actor go on as far as its next stretch among these moves goes, and then
/// follows the others.
pub fn brought_forward(who: u32, rest: &[choosers::Move]) -> Replay {
    let mut rest = rest.to_vec();
    let stretch = rest
        .iter()
        .position(|step| matches!(step, choosers::Move::Run { name, .. } if *name == who));
    let mut moves = Vec::new();
    if let Some(index) = stretch {
        moves.push(rest.remove(index));
    }
    moves.append(&mut rest);
    Replay::new(moves)
}
