//! From streams to blocks, maps and a tree, under one operation. A chunk that is in the repository, or that
//! this operation has met, is only referred to. Memory is bounded by a few blocks, and a piece for each
//! stretch of a block that a file refers to.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use chunker::{Chunks, Cutter, Gear, Policy, Sizes};
use rayon::prelude::*;
use repo::keys::BlockKind;
use repo::limits::CHUNKS_PER_BLOCK_MAX;
use repo::{
    BlockId, BlockNo, ChunkId, Entry, Extent, Index, Layout, Map, Operation, Packs, SealedBlock,
    TreeBuilder, TreeRoot, layout, push_extent, seal_block,
};

use super::SQLITE_MAGIC;
use crate::error::{Error, Result};
use crate::session::Session;

/// Blocks that are sealed together.
const BLOCKS_AT_ONCE: usize = 4;

/// Content of a file that is in blocks, of which some may still be open.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) size: u64,
    hasher: blake3::Hasher,
    /// Block, offset, length. Blocks of the index come first in numbers.
    pieces: Vec<(BlockNo, u32, u32)>,
    is_database: bool,
}

/// Content that the repository has.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) size: u64,
    /// BLAKE3.
    pub(super) hash: [u8; 32],
    pub(super) map: Map,
    /// Everything that the map reaches.
    pub(super) blocks: Vec<BlockId>,
    /// It begins like a SQLite database.
    pub(super) is_database: bool,
}

/// A block that is full.
struct Full {
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// Writes under one operation.
pub(super) struct Writer<'a> {
    session: &'a Session,
    op: &'a Operation<'a>,
    now_secs: &'a dyn Fn() -> i64,
    index: &'a Index,
    packs: Packs<'a, 'a>,
    cutter: Cutter,
    block_bytes: usize,
    open: Full,
    full: Vec<Full>,
    /// Ids of blocks that are full, by their number beyond the index.
    ids: Vec<BlockId>,
    /// Where chunks of this operation are.
    chunks: HashMap<ChunkId, (BlockNo, u32)>,
    /// Bytes of chunks that were not in the repository.
    pub(super) bytes_new: u64,
}

impl Full {
    const fn empty() -> Self {
        Self { plain: Vec::new(), chunks: Vec::new() }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        session: &'a Session,
        op: &'a Operation<'a>,
        index: &'a Index,
        now_secs: &'a dyn Fn() -> i64,
    ) -> Result<Self> {
        let params = session.repo.config().params;
        let sizes =
            Sizes::new(params.chunk_bytes_min, params.chunk_bytes_avg, params.chunk_bytes_max)
                .map_err(|e| repo::Error::Refused { reason: format!("sizes in config: {e}") })?;
        let gear = Arc::new(Gear::derive(&session.repo.keys().chunker_key(), &sizes));
        Ok(Self {
            session,
            op,
            now_secs,
            index,
            packs: Packs::new(&session.repo, session.cache.as_ref(), op, 0, now_secs),
            cutter: Cutter::new(sizes, gear),
            block_bytes: params.block_bytes_data as usize,
            open: Full::empty(),
            full: Vec::new(),
            ids: Vec::new(),
            chunks: HashMap::new(),
            bytes_new: 0,
        })
    }

    /// Cuts and stores a stream. What was stored of one that fails is garbage, and a later stream's if it
    /// has the same chunks.
    pub(super) fn content(&mut self, from: &mut dyn Read) -> Result<Draft> {
        self.op.beat((self.now_secs)())?;
        let mut draft = Draft::default();
        let mut chunks = Chunks::new(from, Policy::Content(self.cutter.clone()));
        let failed = |e| Error::local("read", "the source", e);
        while let Some(chunk) = chunks.next().map_err(failed)? {
            self.chunk(chunk, &mut draft)?;
        }
        Ok(draft)
    }

    fn chunk(&mut self, chunk: &[u8], draft: &mut Draft) -> Result<()> {
        if draft.size == 0 {
            draft.is_database = chunk.starts_with(SQLITE_MAGIC);
        }
        draft.size += chunk.len() as u64;
        draft.hasher.update(chunk);
        let id = self.session.repo.keys().chunk_id(chunk);
        let len = u32::try_from(chunk.len()).expect("a chunk fits a block");
        let known = self.index.chunk(id, len).next();
        let (block, offset) = match known.or_else(|| self.chunks.get(&id).copied()) {
            Some(place) => place,
            None => self.add(id, chunk, len)?,
        };
        match draft.pieces.last_mut() {
            Some(last) if last.0 == block && last.1 + last.2 == offset => last.2 += len,
            _ => draft.pieces.push((block, offset, len)),
        }
        Ok(())
    }

    /// Puts a chunk that is nowhere into the open block.
    fn add(&mut self, id: ChunkId, chunk: &[u8], len: u32) -> Result<(BlockNo, u32)> {
        let is_full = self.open.plain.len() + chunk.len() > self.block_bytes
            || self.open.chunks.len() >= CHUNKS_PER_BLOCK_MAX;
        if is_full {
            self.close();
            if self.full.len() >= BLOCKS_AT_ONCE {
                self.seal()?;
            }
        }
        let number = self.index.len() + self.ids.len();
        let block = BlockNo::try_from(number).expect("the index numbers its blocks");
        let offset = u32::try_from(self.open.plain.len()).expect("a block is small");
        self.open.plain.extend_from_slice(chunk);
        self.open.chunks.push((id, len));
        self.chunks.insert(id, (block, offset));
        self.bytes_new += u64::from(len);
        Ok((block, offset))
    }

    /// Ends the open block, which has an id from then on.
    fn close(&mut self) {
        if self.open.plain.is_empty() {
            return;
        }
        let full = std::mem::replace(&mut self.open, Full::empty());
        self.ids.push(self.session.repo.keys().block_id(BlockKind::Data, &full.plain));
        self.full.push(full);
    }

    fn seal(&mut self) -> Result<()> {
        let repo = &self.session.repo;
        let level = repo.config().params.zstd_level;
        let full = std::mem::take(&mut self.full);
        let seal = |full: &Full| {
            seal_block(repo.keys(), repo.id(), BlockKind::Data, &full.plain, &full.chunks, level)
        };
        let sealed: Vec<SealedBlock> = full.par_iter().map(seal).collect::<repo::Result<_>>()?;
        for block in sealed {
            self.packs.put(&block.row, &block.sealed)?;
        }
        Ok(())
    }

    /// Ends blocks that a draft needs, and stores its map.
    pub(super) fn keep(&mut self, draft: Draft) -> Result<Kept> {
        self.close();
        self.seal()?;
        let first = self.index.len();
        let (mut extents, mut blocks) = (Vec::new(), Vec::new());
        for (number, offset, len) in draft.pieces {
            let at = number as usize;
            let block = match at.checked_sub(first) {
                Some(new) => self.ids[new],
                None => self.index.blocks()[at].row.id,
            };
            push_extent(&mut extents, Extent { block, offset, len, pages: false });
            blocks.push(block);
        }
        let map = match layout(None, &extents) {
            Layout::Inline(inline) => Map { inline, ..Map::default() },
            Layout::Base(base, patches) => {
                let base = self.meta(BlockKind::Map, &base)?;
                let patches: Vec<BlockId> = patches
                    .iter()
                    .map(|patch| self.meta(BlockKind::Patch, patch))
                    .collect::<repo::Result<_>>()?;
                let patches = Some(patches).filter(|patches| !patches.is_empty());
                Map { base: Some(base), patches, ..Map::default() }
            }
            Layout::Patch(_) => unreachable!("a patch stands on an old map"),
        };
        blocks.extend(map.own_blocks());
        blocks.sort_unstable();
        blocks.dedup();
        let hash = *draft.hasher.finalize().as_bytes();
        Ok(Kept { size: draft.size, hash, map, blocks, is_database: draft.is_database })
    }

    /// Stores the tree of entries that are in its order.
    pub(super) fn tree(&mut self, entries: &[(Vec<u8>, Entry)]) -> Result<TreeRoot> {
        let mut tree = TreeBuilder::new(self.session.repo.keys().tree_key());
        for (path, entry) in entries {
            tree.push(path, entry, &mut |node| self.meta(BlockKind::Node, &node))?;
        }
        Ok(tree.finish(&mut |node| self.meta(BlockKind::Node, &node))?)
    }

    /// Stores a node, map or patch unless it is there.
    fn meta(&mut self, kind: BlockKind, plain: &[u8]) -> repo::Result<BlockId> {
        let repo = &self.session.repo;
        let id = repo.keys().block_id(kind, plain);
        if self.index.get(&id).is_none() && !self.packs.has(&id) {
            let level = repo.config().params.zstd_level;
            let block = seal_block(repo.keys(), repo.id(), kind, plain, &[], level)?;
            self.packs.put(&block.row, &block.sealed)?;
        }
        Ok(id)
    }

    /// Writes what is open; returns the bytes that were stored.
    pub(super) fn finish(self) -> Result<u64> {
        Ok(self.packs.finish()?.0.bytes)
    }
}
