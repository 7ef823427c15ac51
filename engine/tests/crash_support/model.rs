//! What a crash may leave of each file: per block the versions since the last persistence, per file
//! the sizes, per name whether it may be gone.
//!
//! *Verified*: no block is older than its floor, foreign, or poison; no name and no size that was
//! made durable is lost. *Not verified, because* POSIX does not promise it: that blocks of one
//! state go together.

use machine::Moment;
use std::collections::BTreeMap;

/// The content of a block: the number of the operation that wrote it; `None` reads as zeros.
pub type Cell = Option<u8>;

/// A state of a file, after an operation that began at some moment.
#[derive(Clone, Debug)]
struct State {
    began: Moment,
    is_done: bool,
    exists: bool,
    blocks: Vec<Cell>,
}

/// A persistence operation that returned: what it covered was durable then.
#[derive(Clone, Debug)]
struct Floor {
    returned: Moment,
    state: usize,
    /// The blocks; everything if `None`.
    blocks: Option<std::ops::Range<usize>>,
}

/// The history of one name.
#[derive(Clone, Debug)]
pub struct FileModel {
    states: Vec<State>,
    floors: Vec<Floor>,
    is_lost: bool,
}

impl Default for FileModel {
    fn default() -> Self {
        let nothing = State { began: Moment(0), is_done: true, exists: false, blocks: Vec::new() };
        FileModel { states: vec![nothing], floors: Vec::new(), is_lost: false }
    }
}

impl FileModel {
    /// The blocks now.
    pub fn blocks(&self) -> Vec<Cell> {
        self.states.last().expect("there is one").blocks.clone()
    }

    /// Whether the name exists now.
    pub fn exists(&self) -> bool {
        self.states.last().expect("there is one").exists
    }

    /// An operation that begins now makes the file so. One task changes a file, so the operations
    /// before it have returned.
    pub fn change(&mut self, began: Moment, exists: bool, blocks: Vec<Cell>) {
        self.states.push(State { began, is_done: false, exists, blocks });
    }

    /// The last change has returned.
    pub fn finish(&mut self) {
        self.states.iter_mut().for_each(|state| state.is_done = true);
    }

    /// An error was reported: what was written may be lost, whatever succeeds later.
    pub fn lose(&mut self) {
        self.is_lost = true;
    }

    /// The state that a persistence operation which begins now makes durable at least.
    pub fn done(&self) -> usize {
        self.states.iter().rposition(|state| state.is_done).unwrap_or(0)
    }

    /// A persistence operation of this file, or of a part of it, returned.
    pub fn persist(
        &mut self,
        returned: Moment,
        state: usize,
        blocks: Option<std::ops::Range<usize>>,
    ) {
        if !self.is_lost {
            self.floors.push(Floor { returned, state, blocks });
        }
    }

    /// All that happened lies before everything that follows, and is durable.
    pub fn settle(&mut self) {
        let mut last = self.states.pop().expect("there is one");
        last.began = Moment(0);
        self.states = vec![last];
        self.floors = Vec::new();
    }

    /// What is wrong with what a recovery after `cut` shows; `None` for a name that is not there.
    pub fn judge(&self, cut: Moment, found: Option<&[Cell]>) -> Result<(), String> {
        let candidates = &self.states[self.floor(cut, None)..self.last(cut) + 1];
        let Some(found) = found else {
            if candidates.iter().any(|state| !state.exists) {
                return Ok(());
            }
            return Err("the file is gone".into());
        };
        if candidates.iter().all(|state| !state.exists) {
            return Err("the file is back".into());
        }
        let sizes = candidates.iter().map(|state| state.blocks.len());
        let (least, most) = (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0));
        if !(least..=most).contains(&found.len()) {
            return Err(format!("{} blocks, not {least} to {most}", found.len()));
        }
        let longest = self.states.iter().map(|state| state.blocks.len()).max().unwrap_or(0);
        for index in 0..longest.max(found.len()) {
            self.judge_block(cut, index, found)?;
        }
        Ok(())
    }

    fn judge_block(&self, cut: Moment, index: usize, found: &[Cell]) -> Result<(), String> {
        let candidates = &self.states[self.floor(cut, Some(index))..self.last(cut) + 1];
        let is_there = found.get(index);
        let fits = |state: &State| match (is_there, state.blocks.get(index)) {
            (Some(found), Some(cell)) => found == cell,
            // A size may be ahead of the data.
            (Some(found), None) => found.is_none(),
            (None, Some(_)) => false,
            (None, None) => true,
        };
        if candidates.iter().any(fits) {
            return Ok(());
        }
        Err(format!("block {index} is {is_there:?}"))
    }

    /// The first state that may be left of a block, or of name and size.
    fn floor(&self, cut: Moment, block: Option<usize>) -> usize {
        let covers = |floor: &&Floor| match (&floor.blocks, block) {
            (None, _) => true,
            (Some(blocks), Some(block)) => blocks.contains(&block),
            (Some(_), None) => false,
        };
        let returned = self.floors.iter().filter(|floor| floor.returned <= cut).filter(covers);
        returned.map(|floor| floor.state).max().unwrap_or(0)
    }

    /// The last state that may be there.
    fn last(&self, cut: Moment) -> usize {
        self.states.iter().rposition(|state| state.began <= cut).unwrap_or(0)
    }
}

/// All names.
pub type Model = BTreeMap<String, FileModel>;
