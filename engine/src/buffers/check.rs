//! The invariants of buffers (races.md §2.a, §7.5.8), after every step.
//!
//! Verified: I1 and I2, references are those of holders and of the cache; I3, what is under IO or
//! dirty has the cache's reference (E-2); I4, what has no reference is not under IO; E-4, what is
//! up to date is not read again; the pages of a buffer that can be found are its own. I5 is checked
//! where a buffer is touched.
//!
//! Not verified, because: between steps that belong together I1 to I3 need not hold; whoever is
//! there says so (`Buffer::change`).

use super::Buffers;
use super::buffer::{Bits, Buffer};
use crate::error::{Error, Result};
use smallvec::SmallVec;
use std::rc::Rc;

/// A rule that a buffer breaks.
type Broken = Option<(&'static str, String)>;

impl Buffers {
    /// Reports to the machine if the buffers of a block break a rule, which ends the execution.
    pub(super) fn assert_block(&self, block: u64) -> Result<()> {
        let Some((rule, what)) = self.check_block(block) else { return Ok(()) };
        self.machine.invariant(rule, &format!("{rule}: the buffer of block {block} {what}"));
        Err(Error::Stopped)
    }

    /// The device's step at the end of an IO is one like others.
    pub(super) fn look_at_end(&self, block: u64) {
        self.machine.look_on(|_| {
            let _stops_the_machine = self.assert_block(block);
        });
    }

    /// Checks all buffers.
    ///
    /// # Errors
    /// The first rule that is broken, with a sentence.
    pub fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let mut from = 0;
        while let Some(block) = self.blocks_from(from) {
            from = block + 1;
            self.check_block(block).map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    fn check_block(&self, block: u64) -> Broken {
        let state = self.state.borrow();
        let found = state.index.get(&block).copied();
        let mine = |buffer: &Rc<Buffer>| buffer.block == block;
        let hidden = state.hidden.iter().filter_map(|&id| state.slots.get(id)).filter(mine);
        let found = found.and_then(|id| state.slots.get(id));
        let buffers: SmallVec<[Rc<Buffer>; 2]> = found.into_iter().chain(hidden).collect();
        drop(state);
        buffers.iter().find_map(|buffer| check_buffer(buffer))
    }
}

fn check_buffer(buffer: &Buffer) -> Broken {
    let (refs, holders) = (buffer.refs.get(), buffer.holders.get());
    let tree = u32::from(buffer.has(Bits::TREE_REF));
    if refs == 0 && buffer.is_under_io() {
        return Some(("I4", "has no reference and is under IO or dirty".to_string()));
    }
    if buffer.has(Bits::READING) && buffer.has(Bits::UPTODATE) {
        return Some(("E-4", "is read again although it is up to date".to_string()));
    }
    if buffer.changing.get() > 0 {
        return None;
    }
    if tree > refs {
        return Some(("I1", "has no reference although the cache should have one".to_string()));
    }
    if refs != tree + holders {
        let what = format!("has {refs} references: {holders} holders, the cache {tree}");
        return Some(("I2", what));
    }
    if buffer.is_under_io() && tree == 0 {
        return Some(("I3", "is under IO or dirty and the cache has let go of it".to_string()));
    }
    let is_mine = |page: &Rc<super::Page>| page.private.get() == Some(buffer.id);
    if buffer.has(Bits::IN_TREE) && !buffer.pages.iter().all(is_mine) {
        return Some(("EBPRIV", "can be found and a page is not its own".to_string()));
    }
    None
}
