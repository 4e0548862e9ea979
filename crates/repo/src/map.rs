//! Content maps: where the bytes of a file are.
//!
//! A content map is the file's chunk list coded as extents over blocks. A small one sits in the
//! entry; a large one is a base map (a block of its own) and at most 32 patches, oldest first, each
//! a block of its own and named by the entry. A patch never names another patch, so every snapshot
//! stands alone after any forget.

use minicbor::{Decode, Encode};

use crate::id::BlockId;

/// A stretch of bytes in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The block.
    pub block: BlockId,
    /// First byte in the block's plaintext.
    pub offset: u32,
    /// Length in bytes; never 0.
    pub len: u32,
}

/// The content map of a file, as the entry holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Map {
    /// A small map: extents in file order, coded as [`encode_extents`] does. Empty: no content, or
    /// see `base`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub inline: Vec<u8>,
    /// A large map: the block that holds the base extents.
    #[n(1)]
    pub base: Option<BlockId>,
    /// Patches over `base`, oldest first.
    #[n(2)]
    pub patches: Vec<BlockId>,
}
