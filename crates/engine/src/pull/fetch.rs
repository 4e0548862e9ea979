//! Blocks from the repository: as runs of neighbours, a few of them kept for the next file.
//!
//! In: ids of blocks. Out: for each its plaintext, or why there is none. A damaged block fails only
//! the files that need it; a store that does not answer fails everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use bytes::Bytes;
use repo::BlockId;

use super::source::{Content, Location};

/// A run goes on over a gap of unneeded bytes up to this: reading them is cheaper than a request.
const GAP_BYTES_MAX: u64 = 32 << 10;

/// Sealed bytes of one run.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Plaintext kept for other files that share a block.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// Largest plaintext of a block that is believed.
const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// Plaintexts by id; for those that could not be had, the reason.
pub(super) type Loaded = HashMap<BlockId, Result<Bytes, String>>;

/// Reads blocks for all workers.
pub(super) struct Fetcher<'c> {
    content: &'c dyn Content,
    cache: Mutex<Cache>,
    fetched_bytes: AtomicU64,
}

impl<'c> Fetcher<'c> {
    pub(super) fn new(content: &'c dyn Content) -> Self {
        Self { content, cache: Mutex::default(), fetched_bytes: AtomicU64::new(0) }
    }

    /// Sealed bytes of the blocks that were read.
    pub(super) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Loads blocks, each once. `Err` only if the store as a whole fails.
    pub(super) fn load(&self, blocks: &[BlockId]) -> Result<Loaded, repo::Error> {
        let mut loaded = Loaded::with_capacity(blocks.len());
        let mut wanted = Vec::new();
        for block in blocks {
            if loaded.contains_key(block) {
                continue;
            }
            let known = self.cache().get(block);
            let found = known.map_or_else(|| self.locate(block).map(Err), |plain| Ok(Ok(plain)));
            match found {
                Ok(Ok(plain)) => _ = loaded.insert(*block, Ok(plain)),
                Ok(Err(location)) => {
                    // A place holder, so that the block is asked for once.
                    loaded.insert(*block, Err("not read".into()));
                    wanted.push((location, *block));
                }
                Err(reason) => _ = loaded.insert(*block, Err(reason)),
            }
        }
        wanted.sort_unstable();
        for run in runs(&wanted) {
            self.load_run(run, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn locate(&self, block: &BlockId) -> Result<Location, String> {
        match self.content.location(block) {
            None => Err(format!("block {block} is missing from the repository")),
            Some(location) if location.plain_len > BLOCK_BYTES_MAX => {
                Err(format!("block {block} is damaged: {} bytes long", location.plain_len))
            }
            Some(location) => Ok(location),
        }
    }

    /// Reads one run; if that fails, block by block, to tell the bad ones from the good.
    fn load_run(
        &self,
        run: &[(Location, BlockId)],
        loaded: &mut Loaded,
    ) -> Result<(), repo::Error> {
        let ids: Vec<BlockId> = run.iter().map(|(_, block)| *block).collect();
        match self.content.read_run(&ids) {
            Ok(plains) if plains.len() == run.len() => {
                for ((location, block), plain) in run.iter().zip(plains) {
                    loaded.insert(*block, self.accept(location, block, plain));
                }
            }
            Err(error) if is_fatal(&error) => return Err(error),
            _ if run.len() > 1 => {
                for one in run.chunks(1) {
                    self.load_run(one, loaded)?;
                }
            }
            Ok(_) => _ = loaded.insert(ids[0], Err(format!("block {} was not read", ids[0]))),
            Err(error) => {
                let reason = super::error::show(error.to_string().as_bytes());
                loaded.insert(ids[0], Err(reason));
            }
        }
        Ok(())
    }

    fn accept(&self, location: &Location, block: &BlockId, plain: Bytes) -> Result<Bytes, String> {
        if u32::try_from(plain.len()) != Ok(location.plain_len) {
            return Err(format!("block {block} has the wrong length"));
        }
        self.fetched_bytes.fetch_add(u64::from(location.stored_len), Ordering::Relaxed);
        self.cache().put(*block, plain.clone());
        Ok(plain)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does this error of the store mean that no other read will do better?
pub(super) fn is_fatal(error: &repo::Error) -> bool {
    match error {
        repo::Error::Store(error) => !matches!(
            error,
            store::Error::NotFound { .. } | store::Error::Short { .. } | store::Error::Io { .. }
        ),
        repo::Error::Cancelled => true,
        _ => false,
    }
}

/// Cuts located blocks, sorted, into runs: one pack, small gaps, bounded length.
fn runs(blocks: &[(Location, BlockId)]) -> Vec<&[(Location, BlockId)]> {
    let end = |location: &Location| location.offset.saturating_add(location.stored_len.into());
    let mut runs = Vec::new();
    let mut start = 0;
    for at in 1..=blocks.len() {
        let goes_on = blocks.get(at).is_some_and(|(next, _)| {
            let (first, last) = (&blocks[start].0, &blocks[at - 1].0);
            next.pack == first.pack
                && next.offset.saturating_sub(end(last)) <= GAP_BYTES_MAX
                && end(next).saturating_sub(first.offset) <= RUN_BYTES_MAX
        });
        if !goes_on {
            runs.push(&blocks[start..at]);
            start = at;
        }
    }
    runs
}

/// Plaintexts that were used last.
#[derive(Default)]
struct Cache {
    plains: HashMap<BlockId, (Bytes, u64)>,
    bytes: usize,
    tick: u64,
}

impl Cache {
    fn get(&mut self, block: &BlockId) -> Option<Bytes> {
        self.tick += 1;
        let (plain, used) = self.plains.get_mut(block)?;
        *used = self.tick;
        Some(plain.clone())
    }

    fn put(&mut self, block: BlockId, plain: Bytes) {
        self.tick += 1;
        self.bytes += plain.len();
        if let Some((old, _)) = self.plains.insert(block, (plain, self.tick)) {
            self.bytes -= old.len();
        }
        while self.bytes > CACHE_BYTES_MAX {
            let oldest = self.plains.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(block, _)| *block) else { break };
            if let Some((old, _)) = self.plains.remove(&oldest) {
                self.bytes -= old.len();
            }
        }
    }
}

/// A count of bytes that all workers together may hold.
#[derive(Debug)]
pub(super) struct Budget {
    free: Mutex<u64>,
    total: u64,
    freed: Condvar,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub(super) struct Permit<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self { free: Mutex::new(total), total, freed: Condvar::new() }
    }

    /// Waits for `bytes` (or the whole budget, if they are more). Only for a worker that holds
    /// none: so there is always one that can go on and give back.
    pub(super) fn take(&self, bytes: u64) -> Permit<'_> {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.freed.wait_while(free, |free| *free < bytes);
        *wait.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Permit { budget: self, bytes }
    }

    /// Takes `bytes` if they are free now.
    pub(super) fn try_take(&self, bytes: u64) -> Option<Permit<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(bytes)?;
        Some(Permit { budget: self, bytes })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use repo::{OpId, PackId};

    use super::*;

    fn block(pack: u32, offset: u64, stored_len: u32) -> (Location, BlockId) {
        let pack = PackId { op: OpId([1; 16]), n: pack };
        let id = BlockId([u8::try_from(offset % 251).unwrap(); 32]);
        (Location { pack, offset, stored_len, plain_len: stored_len }, id)
    }

    fn lengths(blocks: &[(Location, BlockId)]) -> Vec<usize> {
        runs(blocks).iter().map(|run| run.len()).collect()
    }

    #[test]
    fn neighbours_are_one_request_and_far_blocks_are_not() {
        let k = 1024;
        let near = [block(0, 0, 1000), block(0, 1000, 1000), block(0, 2000 + 32 * k, 10)];
        assert_eq!(lengths(&near), [3]);
        let far = [block(0, 0, 1000), block(0, 1001 + 32 * k, 10)];
        assert_eq!(lengths(&far), [1, 1]);
        let packs = [block(0, 0, 10), block(1, 10, 10), block(1, 20, 10)];
        assert_eq!(lengths(&packs), [1, 2]);
        let m = 1 << 20;
        let long: Vec<_> = (0..9).map(|n| block(0, n * m, 1 << 20)).collect();
        assert_eq!(lengths(&long), [4, 4, 1]);
        assert!(lengths(&[]).is_empty());
    }

    #[test]
    fn a_budget_gives_no_more_than_it_has() {
        let budget = Budget::new(10);
        let first = budget.take(6);
        assert!(budget.try_take(5).is_none());
        let second = budget.try_take(4);
        assert!(second.is_some());
        drop(first);
        drop(second);
        drop(budget.take(1000));
        assert!(budget.try_take(10).is_some());
    }

    #[test]
    fn the_cache_forgets_what_was_used_longest_ago() {
        let mut cache = Cache::default();
        let big = Bytes::from(vec![0; CACHE_BYTES_MAX / 3]);
        for n in 0..3 {
            cache.put(BlockId([n; 32]), big.clone());
        }
        assert!(cache.get(&BlockId([0; 32])).is_some());
        cache.put(BlockId([3; 32]), big);
        assert!(cache.get(&BlockId([0; 32])).is_some());
        assert!(cache.get(&BlockId([1; 32])).is_none());
        assert!(cache.bytes <= CACHE_BYTES_MAX);
    }
}
