//! The encrypted, deduplicating repository of agent-backup: keys, blocks, packs, index, trees,
//! content maps, snapshots and the operations that change it. `docs/FORMAT.md` is the normative
//! description of every byte; this crate is its implementation.

mod cache;
mod codec;
pub mod config;
mod error;
mod fetch;
mod forget;
pub mod gc;
mod id;
mod index;
pub mod keys;
pub mod limits;
mod map;
mod object;
mod operation;
mod pack;
mod packs;
mod padding;
mod pages;
mod pin;
mod random;
pub mod repair;
mod repository;
mod seal;
mod snapshot;
#[cfg(test)]
mod tests;
mod tree;
pub mod undelete;
mod varint;
pub mod verify;
mod without;

pub use cache::{Cache, FileRow, key_of_path};
pub use codec::Codec;
pub use error::{Error, Result};
pub use fetch::{Piece, Reader};
pub use forget::Forgot;
pub use id::{BlockId, ChunkId, MachineId, OpId, PackId, RepoId, SlotId};
pub use index::{BlockNo, Index, Location};
pub use map::{
    Extent, Layout, Map, blocks_named, decode_extents, encode_extents, extents_len, layout,
    push_extent, rename_blocks,
};
pub use operation::{Commit, Ended, OpKind, Operation, Survey, end_stale};
pub use pack::{
    BlockRow, PackTable, PackWriter, SealedBlock, chunk_lens, open_block, read_trailer, seal_block,
};
pub use packs::{Packs, Stored};
pub use pages::PageFormat;
pub use repository::{Listed, Repository};
pub use snapshot::{GroupRecord, ImportRecord, PushStats, RootRecord, SAFETY, Snapshot};
pub use tree::{
    Entry, Kind, MarkedSource, Marks, Pages, TextFormat, TreeBuilder, TreeRoot, Xattr, flag, gone,
    path_order,
};
pub use without::{Edit, without};
