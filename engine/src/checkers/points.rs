//! Rules that can be asked only where something happens, of who does it (P-1, P-2), and what a
//! worker acquires for an asynchronous IO (7.5.1: the held set of a token).

use super::suspect_step;
use crate::fs::Fs;
use crate::inode::Inode;
use crate::inode::pages::Page;
use crate::inode::span::Blocks;
use crate::paths::direct::Iocb;
use machine::{Mode, Task};

impl Fs {
    /// The task works for a request from now on, and acquires what it does under that one's ranges;
    /// or for none.
    pub(crate) fn serve(&self, task: &Task, iocb: Option<&Iocb>) {
        self.machine().look_on(|_| match iocb {
            Some(iocb) => iocb.is_served_by(task),
            None => task.serve(&[]),
        });
    }

    /// P-1: a page enters the cache under ML of its index, which the running task holds.
    pub(crate) fn look_at_added(&self, inode: &Inode, index: u64) {
        self.machine().look_on(|machine| {
            let range = Blocks::one(index).bytes().lock_range();
            if !inode.ml.is_held_by_runner(range, Mode::Read) {
                let what = format!("page {index} of inode {} is added without ML", inode.ino);
                suspect_step(machine, Some(("P-1", what)), machine.running());
            }
        });
    }

    /// P-2: a page becomes dirty under PAGE, and under ML (a fault) or RL W (a system call).
    pub(crate) fn look_at_dirtied(&self, inode: &Inode, page: &Page) {
        self.machine().look_on(|machine| {
            let (ino, index) = (inode.ino, page.index());
            let range = Blocks::one(index).bytes().lock_range();
            let has_range = inode.ml.is_held_by_runner(range, Mode::Read)
                || inode.rl.is_held_by_runner(range, Mode::Write);
            let missing = match (page.lock().is_held_by_runner(), has_range) {
                (true, true) => return,
                (false, _) => "PAGE",
                (true, false) => "ML and without RL W",
            };
            let what = format!("page {index} of inode {ino} becomes dirty without {missing}");
            suspect_step(machine, Some(("P-2", what)), machine.running());
        });
    }
}
