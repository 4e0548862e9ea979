//! The index: where blocks and chunks are.
//!
//! Stored as write-once objects `index/<level>-<oid>-<n>`, each the tables of some packs of one
//! operation. The index never proves that a pack exists; what a push may reuse is decided by
//! [`crate::operation`]. A block may lie in several packs (two machines pushed it, gc copied it, a
//! damaged pack was pushed again): every place is kept, so a bad row or pack hides no good one.

use std::collections::HashMap;

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::{BlockId, ChunkId, OpId, PackId};
use crate::pack::{BlockRow, PackTable};

/// The record of one index object.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct IndexObject {
    #[n(0)]
    pub(crate) packs: Vec<PackTable>,
}

/// Name of an index object.
pub(crate) fn object_name(level: u8, op: &OpId, n: u32) -> String {
    format!("index/{level}-{op}-{n}")
}

/// Parses the name of an index object.
pub(crate) fn parse_name(name: &str) -> Option<(u8, OpId, u32)> {
    let mut parts = name.strip_prefix("index/")?.splitn(3, '-');
    let level = parts.next()?.parse().ok()?;
    let op = OpId::from_hex(parts.next()?)?;
    let n = parts.next()?.parse().ok()?;
    (object_name(level, &op, n) == name).then_some((level, op, n))
}

/// Where a block lies, with what is needed to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// First byte in the pack.
    pub offset: u64,
    /// The block's row, without its chunk list.
    pub row: BlockRow,
}

impl Location {
    /// Bytes in the pack.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset + u64::from(self.row.stored_len)
    }
}

/// Number of a block in an [`Index`]: dense, from 0.
pub type BlockNo = u32;

/// Tables of packs in memory.
#[derive(Debug, Default)]
pub struct Index {
    blocks: Vec<Location>,
    by_id: HashMap<BlockId, BlockNo>,
    /// Further places of blocks that are in `blocks`.
    others: HashMap<BlockId, Vec<Location>>,
    chunks: Vec<ChunkRow>,
    sorted: bool,
}

/// One row of the chunk table: 28 bytes a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkRow {
    id: ChunkId,
    block: BlockNo,
    offset: u32,
    len: u32,
}

impl Index {
    /// Adds the blocks of a pack; their chunks too if `with_chunks`. Of a block in several packs the
    /// first added location is tried first. [`Error::Corrupt`] for a table that no writer makes.
    pub fn add(&mut self, table: &PackTable, with_chunks: bool) -> Result<()> {
        let pack = table.pack();
        table.check()?;
        for (offset, row) in table.placed() {
            if let Some(number) = self.by_id.get(&row.id) {
                let first = &self.blocks[*number as usize];
                if (first.pack, first.offset) != (pack, offset) {
                    self.add_other(pack, offset, row);
                }
                continue;
            }
            let number = BlockNo::try_from(self.blocks.len()).map_err(|_| Error::Refused {
                reason: "more blocks than one index can number".into(),
            })?;
            if with_chunks {
                let chunks = row.chunks().ok_or_else(|| {
                    Error::corrupt(pack.object_name(), "its chunk table does not parse")
                })?;
                self.chunks.extend(chunks.into_iter().map(|(id, offset, len)| ChunkRow {
                    id,
                    block: number,
                    offset,
                    len,
                }));
                self.sorted = false;
            }
            self.by_id.insert(row.id, number);
            let row = BlockRow { chunk_lens: Vec::new(), chunk_ids: Vec::new(), ..row.clone() };
            self.blocks.push(Location { pack, offset, row });
        }
        Ok(())
    }

    fn add_other(&mut self, pack: PackId, offset: u64, row: &BlockRow) {
        let places = self.others.entry(row.id).or_default();
        if !places.iter().any(|at| (at.pack, at.offset) == (pack, offset)) {
            let row = BlockRow { chunk_lens: Vec::new(), chunk_ids: Vec::new(), ..row.clone() };
            places.push(Location { pack, offset, row });
        }
    }

    /// Makes the chunk table ready for look-ups.
    pub fn sort(&mut self) {
        if !self.sorted {
            self.chunks.sort_unstable_by_key(|row| (row.id, row.block, row.offset));
            self.sorted = true;
        }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True if no block is known.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Every block.
    pub fn blocks(&self) -> &[Location] {
        &self.blocks
    }

    /// The number of a block.
    pub fn number(&self, id: &BlockId) -> Option<BlockNo> {
        self.by_id.get(id).copied()
    }

    /// Where a block is.
    pub fn get(&self, id: &BlockId) -> Option<&Location> {
        self.by_id.get(id).map(|n| &self.blocks[*n as usize])
    }

    /// Every place of a block, the one of [`Index::get`] first.
    pub fn places(&self, id: &BlockId) -> impl Iterator<Item = &Location> {
        self.get(id).into_iter().chain(self.others.get(id).into_iter().flatten())
    }

    /// Every place of every block.
    pub(crate) fn each_place(&self, mut visit: impl FnMut(&Location)) {
        self.blocks.iter().for_each(&mut visit);
        self.others.values().flatten().for_each(visit);
    }

    /// Where a chunk of this length is: blocks, and offsets in their plaintext. It may lie in many
    /// places: a block that is mostly out of use is left for a new one, and two machines may store the
    /// same. [`Index::sort`] comes first.
    pub fn chunk(&self, id: ChunkId, len: u32) -> impl Iterator<Item = (BlockNo, u32)> + Clone {
        debug_assert!(self.sorted || self.chunks.is_empty(), "sort() comes before look-ups");
        let first = self.chunks.partition_point(|row| row.id < id);
        let rows = self.chunks[first..].iter().take_while(move |row| row.id == id);
        rows.filter(move |row| row.len == len).map(|row| (row.block, row.offset))
    }

    /// Number of chunks.
    pub fn chunks_len(&self) -> usize {
        self.chunks.len()
    }
}
