//! What a pull needs of a snapshot: its entries, and plaintext of blocks. Implemented over the
//! repository's reader; tests implement it in memory.
//!
//! Nothing that comes through here is trusted: names, sizes and extents are checked before they are
//! used, and a file gets its name only after the hash of its whole content fits its entry.

use bytes::Bytes;
use repo::{BlockId, Entry, Extent, PackId, Result};

/// Where a block lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The pack that holds it.
    pub pack: PackId,
    /// First byte in the pack.
    pub offset: u64,
    /// Sealed length in bytes.
    pub stored_len: u32,
    /// Length of the plaintext in bytes.
    pub plain_len: u32,
}

/// What [`Content::entries`] calls for each entry: its path, label first, and the entry.
pub type Visit<'a> = dyn FnMut(Vec<u8>, Entry) -> Result<()> + 'a;

/// A snapshot as a pull reads it.
pub trait Content: Sync {
    /// Calls `visit` with every entry, in [`repo::path_order`] of the paths.
    fn entries(&self, visit: &mut Visit<'_>) -> Result<()>;

    /// The resolved content map of a file, in file order.
    fn extents(&self, entry: &Entry) -> Result<Vec<Extent>>;

    /// Where a block is; `None` if no pack is known to hold it.
    fn location(&self, block: &BlockId) -> Option<Location>;

    /// Opened and verified plaintexts of blocks of one pack, given in offset order: one ranged GET.
    fn read_run(&self, blocks: &[BlockId]) -> Result<Vec<Bytes>>;

    /// Is `plain` the whole plaintext of this data block? (Ids are keyed; only the repository can
    /// tell.)
    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool;

    /// Is `plain` what a data block has from `offset` on? It is a chunk of it, whole; no also where
    /// the repository cannot tell.
    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool;

    /// The key under the hashes in marks, which stand in the place of secrets.
    fn mark_key(&self) -> [u8; 32];
}
