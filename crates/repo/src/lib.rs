//! The encrypted, deduplicating repository of agent-backup: keys, blocks, packs, index, trees,
//! content maps, snapshots and the operations that change it. `docs/FORMAT.md` is the normative
//! description of every byte; this crate is its implementation.

mod codec;
pub mod config;
mod error;
mod id;
pub mod keys;
pub mod limits;
mod map;
mod object;
mod padding;
mod random;
mod seal;
mod tree;

pub use codec::Codec;
pub use error::{Error, Result};
pub use id::{BlockId, ChunkId, MachineId, OpId, PackId, RepoId, SlotId};
pub use map::{Extent, Map};
pub use tree::{Entry, Kind, Xattr, flag, path_order};
