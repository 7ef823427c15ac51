//! The device of a target of one's own: blocks as bytes, one request after the other.
//!
//! It promises that what went wrong comes out as a [`Refusal`], and nothing that
//! [`Task::submit`] does not promise: a write is durable once a flush after it has returned. It
//! must never know what the blocks mean.

use super::Refusal;
use machine::disk::{DeviceId, Note, Request};
use machine::{BLOCK_BYTES, Block, Task};

/// A device, and what reports call the requests that are made through it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    id: DeviceId,
    note: Note,
}

impl Device {
    /// The device of this number, from 0, for blocks that reports call `what`.
    pub const fn new(id: u8, what: &'static str) -> Device {
        Device { id: DeviceId(id), note: Note { tag: 0, what } }
    }

    /// Reads whole blocks in one request, and waits for them; no request if there are none.
    ///
    /// # Errors
    /// What the device answers: it has no such blocks, or it failed; or that the power is cut.
    pub fn read(&self, task: &Task, block: u64, count: u64) -> Result<Vec<u8>, Refusal> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let count = u32::try_from(count).expect("a read of fewer than 2^32 blocks");
        let request = Request::Read { device: self.id, block, count };
        let data = task.submit(request, self.note)?.wait(task)??;
        let blocks: Vec<&[u8]> = data.iter().map(|block| &block.bytes()[..]).collect();
        Ok(blocks.concat())
    }

    /// Writes bytes from the beginning of a block on, in one request, and waits for it. What they
    /// leave of the last block becomes zeros; no request if there are none.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn write(&self, task: &Task, block: u64, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.is_empty() {
            return Ok(());
        }
        let payload = bytes.chunks(BLOCK_BYTES).map(Block::from_slice).collect();
        let (device, sectors, fua) = (self.id, None, false);
        let request = Request::Write { device, block, payload, sectors, fua };
        task.submit(request, self.note)?.wait(task)??;
        Ok(())
    }

    /// Makes all writes durable that have completed.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn flush(&self, task: &Task) -> Result<(), Refusal> {
        task.flush(self.id, self.note)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::choosers::RoundRobin;
    use machine::disk::{BlockSource, Disk};
    use machine::{Config, End, Kind, Machine};
    use std::rc::Rc;

    struct Zeros;

    impl BlockSource for Zeros {
        fn blocks(&self) -> u64 {
            4
        }

        fn read(&self, _block: u64) -> Block {
            Block::zero()
        }
    }

    #[test]
    fn bytes_come_back_in_whole_blocks() {
        let disk = Disk::new(vec![Rc::new(Zeros)]);
        let machine = Machine::new(Config::default(), disk, Box::new(RoundRobin));
        let body = |task: &Task| {
            let device = Device::new(0, "test");
            let bytes = vec![7; BLOCK_BYTES + 1];
            device.write(task, 1, &bytes).expect("it has these blocks");
            device.write(task, 4, &[]).expect("nothing is asked of it");
            device.flush(task).expect("it flushes");
            let read = device.read(task, 1, 3).expect("it has these blocks");
            assert_eq!(read[..bytes.len()], bytes);
            assert!(read.len() == 3 * BLOCK_BYTES && read[bytes.len()..].iter().all(|it| *it == 0));
            assert_eq!(device.read(task, 4, 0), Ok(Vec::new()));
            let refused = device.read(task, 3, 2);
            assert!(matches!(refused, Err(Refusal::Strange(_))), "{refused:?}");
            Ok(())
        };
        machine.spawn("task", Kind::Foreground, Box::new(body));
        assert_eq!(machine.run(), End::Done, "{:?}", machine.faults());
        assert_eq!(machine.disk().log().requests().len(), 4, "the write, the flush and two reads");
    }
}
