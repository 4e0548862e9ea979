//! Blocks from the repository.
//!
//! In: ids of blocks. Out: for each its plaintext, or why there is none. A damaged block fails only
//! the files that need it; a store that does not answer fails everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use bytes::Bytes;
use repo::BlockId;

use super::source::{Content, Location};

/// Largest plaintext of a block that is believed.
const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// The plaintexts of a run of blocks; for those that could not be had, the reason.
pub(super) type Loaded = Vec<Result<Bytes, String>>;

/// Reads blocks for all workers.
pub(super) struct Fetcher<'c> {
    content: &'c dyn Content,
    fetched_bytes: AtomicU64,
}

impl<'c> Fetcher<'c> {
    pub(super) fn new(content: &'c dyn Content) -> Self {
        Self { content, fetched_bytes: AtomicU64::new(0) }
    }

    /// Sealed bytes of the blocks that were read.
    pub(super) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Loads neighbours of one pack, in their order; if that fails, block by block, to tell the bad
    /// ones from the good. `Err` only if the store as a whole fails.
    pub(super) fn load(&self, run: &[BlockId]) -> Result<Loaded, repo::Error> {
        let places: Result<Vec<Location>, String> = run.iter().map(|id| self.locate(id)).collect();
        let result = match places {
            Ok(places) => match self.content.read_run(run) {
                Ok(plains) if plains.len() == run.len() => {
                    let all = places.iter().zip(run).zip(plains);
                    return Ok(all.map(|((at, id), plain)| self.accept(at, id, plain)).collect());
                }
                Ok(_) => format!("block {} was not read", run[0]),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => super::error::show(error.to_string().as_bytes()),
            },
            Err(reason) => reason,
        };
        if run.len() == 1 {
            return Ok(vec![Err(result)]);
        }
        let mut loaded = Loaded::with_capacity(run.len());
        for one in run.chunks(1) {
            loaded.append(&mut self.load(one)?);
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

    fn accept(&self, at: &Location, block: &BlockId, plain: Bytes) -> Result<Bytes, String> {
        if u32::try_from(plain.len()) != Ok(at.plain_len) {
            return Err(format!("block {block} has the wrong length"));
        }
        self.fetched_bytes.fetch_add(at.stored_len.into(), Ordering::Relaxed);
        Ok(plain)
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
    use super::*;

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
}
