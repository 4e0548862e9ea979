//! From chunks to sealed blocks: deduplication, block filling, sealing on all cores.
//!
//! In: chunks of plaintext, from several readers. Out: sealed blocks, to the collector. A chunk that
//! is in the repository, or that this push has met, is only referred to. A block is named by a dense
//! number until its id is known: numbers below the index's length are blocks of the index.
//! Invariant: at most `permits` blocks are between a reader and the collector, so memory is bounded.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::Sender;
use repo::keys::BlockKind;
use repo::limits::CHUNKS_PER_BLOCK_MAX;
use repo::{BlockNo, ChunkId, Index, Repository, seal_block};

use super::collect::Message;

/// A stretch of a block that is named by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) block: BlockNo,
    pub(super) offset: u32,
    pub(super) len: u32,
    /// It is normalised pages.
    pub(super) pages: bool,
}

impl Piece {
    /// Does `next` go on where this one ends?
    pub(super) fn goes_on(&self, next: &Self) -> bool {
        (self.block, self.pages) == (next.block, next.pages)
            && self.offset + self.len == next.offset
    }
}

/// Appends a piece, merging it with the last one where it continues it.
pub(super) fn push_piece(pieces: &mut Vec<Piece>, next: Piece) {
    if let Some(last) = pieces.last_mut()
        && last.goes_on(&next)
    {
        last.len += next.len;
    } else {
        pieces.push(next);
    }
}

/// Which blocks of the repository may hold a chunk that is to be put into one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reuse<'b> {
    /// All but these.
    Except(&'b HashSet<BlockNo>),
    /// None but these.
    Only(&'b HashSet<BlockNo>),
}

impl Reuse<'_> {
    fn allows(self, block: BlockNo) -> bool {
        match self {
            Self::Except(these) => !these.contains(&block),
            Self::Only(these) => these.contains(&block),
        }
    }
}

/// Counts down while blocks are under way.
#[derive(Debug)]
pub(super) struct Permits {
    /// `None` once the run has failed: nobody waits any more.
    free: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Mutex::new(Some(count)), changed: Condvar::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) {
        let mut free = self.lock();
        while *free == Some(0) {
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(count) = free.as_mut() {
            *count -= 1;
        }
    }

    pub(super) fn give_back(&self) {
        if let Some(count) = self.lock().as_mut() {
            *count += 1;
        }
        self.changed.notify_one();
    }

    /// Wakes everybody: the run has failed.
    pub(super) fn close(&self) {
        *self.lock() = None;
        self.changed.notify_all();
    }
}

/// Chunks this push has put into blocks, and the next block number.
#[derive(Debug)]
struct Flight {
    /// Block and offset: there are as many as chunks, so no more than that.
    chunks: HashMap<ChunkId, (BlockNo, u32)>,
    next: BlockNo,
}

/// What all readers share.
#[derive(Debug)]
pub(super) struct Dedup {
    repo: Repository,
    pub(super) index: Arc<Index>,
    flight: Mutex<Flight>,
    pub(super) permits: Arc<Permits>,
    pool: Arc<rayon::ThreadPool>,
    out: Sender<Message>,
    level: i32,
    /// Buffers of blocks that are sealed, for the next ones.
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Dedup {
    pub(super) fn new(
        repo: Repository,
        index: Arc<Index>,
        permits: Arc<Permits>,
        pool: Arc<rayon::ThreadPool>,
        out: Sender<Message>,
    ) -> Self {
        let next = BlockNo::try_from(index.len()).expect("the index numbers its blocks");
        let level = repo.config().params.zstd_level;
        let flight = Mutex::new(Flight { chunks: HashMap::new(), next });
        Self { repo, index, flight, permits, pool, out, level, spare: Arc::default() }
    }

    fn flight(&self) -> std::sync::MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compresses and seals a block on the pool; the collector gets it.
    fn seal(&self, open: OpenBlock) {
        self.permits.take();
        let (repo, out, level) = (self.repo.clone(), self.out.clone(), self.level);
        let spare = self.spare.clone();
        self.pool.spawn(move || {
            let OpenBlock { number, mut plain, chunks } = open;
            let sealed =
                seal_block(repo.keys(), repo.id(), BlockKind::Data, &plain, &chunks, level);
            plain.clear();
            spare.lock().unwrap_or_else(PoisonError::into_inner).push(plain);
            // a collector that is gone has failed already and says why
            drop(out.send(match sealed {
                Ok(block) => Message::Sealed(number, block),
                Err(e) => Message::Failed(e.into()),
            }));
        });
    }
}

/// A block that is being filled.
#[derive(Debug)]
struct OpenBlock {
    number: BlockNo,
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// Fills blocks for one reader.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    dedup: &'a Dedup,
    open: Option<OpenBlock>,
    /// Plaintext at which a block is full.
    full: usize,
    /// Bytes that went into new blocks.
    pub(super) bytes_new: u64,
}

impl<'a> Filler<'a> {
    pub(super) fn new(dedup: &'a Dedup, full: u32) -> Self {
        Self { dedup, open: None, full: full as usize, bytes_new: 0 }
    }

    /// Where a chunk is, if it is in the repository or in a block of this push. Of several places it is
    /// the one that the file had there `before`, else one in a block that the file uses: another block
    /// may be one that was left because little of it is in use.
    pub(super) fn find(
        &self,
        chunk: &[u8],
        before: Option<&Piece>,
        used: &HashSet<BlockNo>,
    ) -> Option<Piece> {
        let id = self.dedup.repo.keys().chunk_id(chunk);
        let len = u32::try_from(chunk.len()).expect("a chunk fits a block");
        let places = || self.dedup.index.chunk(id, len);
        let as_before = before.map(|piece| (piece.block, piece.offset));
        let (block, offset) = places()
            .find(|at| as_before == Some(*at))
            .or_else(|| places().find(|(block, _)| used.contains(block)))
            .or_else(|| places().next())
            .or_else(|| self.dedup.flight().chunks.get(&id).copied())?;
        Some(Piece { block, offset, len, pages: false })
    }

    /// Where a chunk is, after it was put into a block if need be.
    pub(super) fn add(&mut self, chunk: &[u8], reuse: Reuse<'_>) -> Piece {
        let id = self.dedup.repo.keys().chunk_id(chunk);
        let len = u32::try_from(chunk.len()).expect("a chunk fits a block");
        let mut places = self.dedup.index.chunk(id, len);
        if let Some((block, offset)) = places.find(|(block, _)| reuse.allows(*block)) {
            return Piece { block, offset, len, pages: false };
        }
        let mut flight = self.dedup.flight();
        if let Some((block, offset)) = flight.chunks.get(&id) {
            return Piece { block: *block, offset: *offset, len, pages: false };
        }
        let full = |open: &OpenBlock| {
            open.plain.len() + chunk.len() > self.full || open.chunks.len() >= CHUNKS_PER_BLOCK_MAX
        };
        if self.open.as_ref().is_some_and(full) {
            drop(flight);
            self.flush();
            flight = self.dedup.flight();
        }
        let open = self.open.get_or_insert_with(|| {
            let number = flight.next;
            flight.next += 1;
            let spare = self.dedup.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut plain = spare.unwrap_or_default();
            plain.reserve(self.full);
            OpenBlock { number, plain, chunks: Vec::new() }
        });
        let offset = u32::try_from(open.plain.len()).expect("a block is small");
        let piece = Piece { block: open.number, offset, len, pages: false };
        flight.chunks.insert(id, (open.number, offset));
        drop(flight);
        open.plain.extend_from_slice(chunk);
        open.chunks.push((id, len));
        self.bytes_new += u64::from(len);
        piece
    }

    /// Sends the block on, however full it is.
    pub(super) fn flush(&mut self) {
        if let Some(open) = self.open.take() {
            self.dedup.seal(open);
        }
    }
}
