//! What a recovered target shows through its ordinary read interface.
//!
//! *Promises*: the judge asks for hashes first and for bytes only to explain or to judge sectors.
//! *Must never know*: images, devices, or how recovery works.
use crate::content::BlockHash;
use crate::operation::{Errno, NodeId, OpId, PathId};

/// A recovered target as a reader sees it. Paths are those of the program's table; a name that is
/// not in the table is the target's to report. All answers must be stable during a judgement.
pub trait View {
    /// The names that are there, in any order.
    fn names(&self) -> &[PathId];

    /// The size of the file in bytes. Asked only for names that are there, as all below.
    fn size(&self, path: PathId) -> u64;

    /// The link count.
    fn nlink(&self, path: PathId) -> u32;

    /// The hash of the 4 KiB from `block * 4096` on, zeros standing beyond the end of the file;
    /// [`BlockHash::UNREADABLE`] where reading fails. Asked often: memoize.
    fn block_hash(&self, path: PathId, block: u64) -> BlockHash;

    /// The bytes themselves, zeros beyond the end of the file.
    fn block_bytes(&self, path: PathId, block: u64, out: &mut [u8; 4096]);

    /// Why reading a block failed, where its hash is [`BlockHash::UNREADABLE`].
    fn read_error(&self, _path: PathId, _block: u64) -> Option<Errno> {
        None
    }

    /// The versions of a bare node's halves; `None` if the target has no such nodes.
    fn node(&self, _node: NodeId) -> Option<Result<[OpId; 2], Errno>> {
        None
    }
}
