//! Every limit of the repository, with the reason for the number.
//!
//! Numbers that come from the store are checked against these before anything is allocated.

/// Plaintext of a block, at most: a reader may allocate this much for any block it is told to open.
pub const BLOCK_PLAIN_BYTES_MAX: u32 = 8 << 20;
/// A pack is closed once it holds this much: one PUT of a size that slow uplinks finish.
pub const PACK_BYTES_TARGET: u64 = 32 << 20;
/// No pack is larger: a reader may buffer this much.
pub const PACK_BYTES_MAX: u64 = 64 << 20;
/// A push with less metadata than this puts it into the last data pack: a PUT less. More would be what
/// keeps that pack from being freed as a whole: trees and maps go with their snapshot, data stays.
pub const PACK_MIXED_META_BYTES_MAX: u64 = 128 << 10;
/// An operation writes an index object at least every this many packs, so a killed push loses at
/// most this many.
pub const PACKS_PER_INDEX: usize = 8;
/// Smallest padded length of a pack.
pub const PACK_BYTES_FLOOR: u64 = 16 << 10;
/// Smallest padded length of an index or snapshot object.
pub const OBJECT_BYTES_FLOOR: u64 = 4 << 10;
/// Smallest padded length of a marker object (op, end, kill, dead).
pub const MARKER_BYTES_FLOOR: u64 = 256;
/// Largest control object (index, snapshot, condemned list) that is read.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;
/// Tables of several packs share an index object up to this much; a larger table gets its own.
pub const INDEX_OBJECT_BYTES_TARGET: u64 = 16 << 20;
/// Chunks in one block, at most (64 KiB of lengths): bounds a hostile trailer.
pub const CHUNKS_PER_BLOCK_MAX: usize = 1 << 16;
/// Largest content map that is coded into the entry itself.
pub const MAP_INLINE_BYTES_MAX: usize = 1 << 10;
/// Patches over a base map, at most: a restore reads one base and this many small blocks.
pub const MAP_PATCHES_MAX: usize = 32;
/// Extents of one map once its patches are applied, at most: more than a base block can code, and
/// what a restore holds in memory for one file.
pub const MAP_EXTENTS_MAX: usize = 1 << 22;
/// Depth of a tree of nodes: 64^8 entries are more than there are.
pub const TREE_LEVELS_MAX: u8 = 8;
/// Items of one node, at most: bounds what decoding allocates.
pub const NODE_ITEMS_MAX: usize = 1024;
/// One entry without its path, at most: extended attributes are the only part without a bound.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Longest path of an entry in bytes.
pub const PATH_BYTES_MAX: usize = 32 << 10;
/// A heartbeat rewrites `op/<id>` this often, in seconds (B2: few versions of one name).
pub const HEARTBEAT_SECS: u64 = 15 * 60;
/// Packs below this are small: a collector merges them.
pub const PACK_SMALL_BYTES: u64 = 4 << 20;
/// So many small packs may lie about before the smallest are merged.
pub const PACKS_SMALL_MAX: usize = 64;
