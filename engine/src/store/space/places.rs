//! Where a tree's nodes go: blocks of the data device that commits own, blocks of the data device
//! that the log borrows, or blocks of the log device.

use super::{Blocks, Claim, Pick, Space};
use crate::error::{Error, Result};
use crate::types::Run;
use machine::Task;
use machine::cell::RefCell;
use std::rc::Rc;

/// A source of blocks for nodes.
#[derive(Clone)]
pub(crate) enum Places {
    /// Device 0, allocated until freed.
    Committed(Rc<Space>),
    /// Device 0, until the commit that obsoletes the log is durable (B-5).
    Log(Rc<Space>),
    /// Device 1, which only the log uses, until the same moment.
    LogDevice(Rc<LogDevice>),
}

/// The blocks of the log device. Nothing of it is on the medium: without a log, all are free.
pub(crate) struct LogDevice {
    busy: RefCell<Vec<bool>>,
}

impl LogDevice {
    /// A log device of so many blocks, all free.
    pub(crate) fn new(blocks: u64) -> Rc<LogDevice> {
        // The log never needs more than a transaction's worth; the bound keeps the table small.
        let blocks = blocks.min(1 << 20) as usize;
        Rc::new(LogDevice { busy: RefCell::new(vec![false; blocks]) })
    }

    /// All blocks are free again: the commit that obsoletes the log is durable.
    pub(crate) fn clear(&self) {
        self.busy.borrow_mut().fill(false);
    }

    /// Keeps a block of a log that was found at mount.
    ///
    /// # Errors
    /// `Corrupt` if the device has no such block.
    pub(crate) fn hold(&self, block: u64) -> Result<()> {
        match self.busy.borrow_mut().get_mut(block as usize) {
            Some(busy) => *busy = true,
            None => {
                let structure = "log block";
                return Err(Error::Corrupt { structure, block, what: "it is beyond the device" });
            }
        }
        Ok(())
    }

    fn take(&self, count: usize) -> Result<Blocks> {
        let mut busy = self.busy.borrow_mut();
        // Block 0 stays out: as a root pointer it means an empty tree.
        let free = busy.iter().enumerate().skip(1);
        let free = free.filter(|(_, busy)| !**busy).map(|(at, _)| at as u64);
        let blocks: Blocks = free.take(count).collect();
        if blocks.len() < count {
            let (wanted, available) = (count as u64, blocks.len() as u64);
            return Err(Error::NoSpace { wanted, available });
        }
        blocks.iter().for_each(|block| busy[*block as usize] = true);
        Ok(blocks)
    }
}

impl Places {
    /// The device.
    pub(crate) fn device(&self) -> u8 {
        match self {
            Places::Committed(_) | Places::Log(_) => 0,
            Places::LogDevice(_) => 1,
        }
    }

    /// Blocks of the data device, which items speak of.
    pub(crate) fn data_blocks(&self) -> Option<u64> {
        match self {
            Places::Committed(space) | Places::Log(space) => Some(space.blocks()),
            Places::LogDevice(_) => None,
        }
    }

    /// Takes `count` blocks.
    ///
    /// # Errors
    /// `NoSpace`; those of reading bitmaps. Nothing is taken then.
    pub(crate) fn take(&self, task: &Task, count: usize, claim: &Claim<'_>) -> Result<Blocks> {
        if count == 0 {
            return Ok(Blocks::new());
        }
        match self {
            Places::Committed(space) => space.take_nodes(task, count, claim, false),
            Places::Log(space) => space.take_nodes(task, count, claim, true),
            Places::LogDevice(device) => device.take(count),
        }
    }

    /// Makes sure that [`release`](Self::release) of an old block will not have to wait.
    ///
    /// # Errors
    /// `Corrupt` if the block is not in use; those of reading bitmaps.
    pub(crate) fn prepare(&self, task: &Task, block: u64) -> Result<()> {
        let Places::Committed(space) = self else { return Ok(()) };
        space.load_run(task, Run::new(block, 1))?;
        if !space.state.borrow_mut().map_of(block).is_allocated(block) {
            let structure = "free-space map";
            return Err(Error::Corrupt { structure, block, what: "a node's block is free" });
        }
        Ok(())
    }

    /// Gives a node's block up. A fresh one was never written, so nothing durable points to it; any
    /// other stays pinned until the commit is durable. The log keeps all its blocks (B-5).
    pub(crate) fn release(&self, block: u64, is_fresh: bool) {
        match self {
            Places::Committed(space) if is_fresh => space.state.borrow_mut().free_now(block),
            Places::Committed(space) => space.state.borrow_mut().free_pinned(block),
            Places::Log(_) | Places::LogDevice(_) => {}
        }
    }
}

impl Space {
    fn take_nodes(
        &self,
        task: &Task,
        count: usize,
        claim: &Claim<'_>,
        is_log: bool,
    ) -> Result<Blocks> {
        loop {
            let missing = {
                let _alloc = self.lock.lock(task)?;
                match self.try_take(count, claim, is_log)? {
                    Ok(blocks) => return Ok(blocks),
                    Err(map) => map,
                }
            };
            self.load_map(task, missing)?;
        }
    }

    /// Takes all blocks or none; the inner error is a bitmap to load first.
    fn try_take(
        &self,
        count: usize,
        claim: &Claim<'_>,
        is_log: bool,
    ) -> Result<Result<Blocks, usize>> {
        let mut state = self.state.borrow_mut();
        state.check_claim(count as u64, count as u64, claim)?;
        let mut blocks = Blocks::new();
        while blocks.len() < count {
            let undo = match self.pick(&mut state, None) {
                Pick::Found(block) => {
                    state.cursor = block + 1;
                    // Marked as each is found, so that none is found twice.
                    if is_log {
                        state.hold(block)
                    } else {
                        state.allocate(block)
                    }
                    blocks.push(block);
                    continue;
                }
                Pick::Load(map) => Ok(Err(map)),
                Pick::Full => Err(state.full(count as u64)),
            };
            for block in blocks {
                if is_log {
                    state.log_blocks.retain(|held| *held != block);
                    state.unhold(vec![block]);
                } else {
                    state.free_now(block);
                }
            }
            return undo;
        }
        state.spend(count as u64, claim);
        // The lowest is used first.
        blocks.reverse();
        Ok(Ok(blocks))
    }

    /// Takes the block to which a part of the free-space map moves. The kept blocks are for this.
    pub(super) fn take_own(&self, task: &Task) -> Result<u64> {
        loop {
            let missing = {
                let _alloc = self.lock.lock(task)?;
                let mut state = self.state.borrow_mut();
                match self.pick(&mut state, None) {
                    Pick::Found(block) => {
                        state.cursor = block + 1;
                        state.allocate(block);
                        return Ok(block);
                    }
                    Pick::Full => return Err(state.full(1)),
                    Pick::Load(map) => map,
                }
            };
            self.load_map(task, missing)?;
        }
    }
}
