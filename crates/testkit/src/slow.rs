//! A store behind a thin line: the only place here that sleeps. For runs that are killed midway.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Cancel, Item, Listing, Result, Store, Usage, Version};

use crate::call::total;

/// How often a sleeping call looks whether it was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Wraps a store; all its callers share one line of so many bytes per second.
#[derive(Debug)]
pub struct SlowStore {
    inner: Arc<dyn Store>,
    bytes_per_second: u64,
    line_free_at: Mutex<Instant>,
    cancel: Cancel,
}

impl SlowStore {
    /// A line of `bytes_per_second` (at least 1) before `inner`. When `cancel` is set, waiting calls
    /// fail and did not happen.
    pub fn new(inner: Arc<dyn Store>, bytes_per_second: u64, cancel: Cancel) -> Self {
        let line_free_at = Mutex::new(Instant::now());
        Self { inner, bytes_per_second: bytes_per_second.max(1), line_free_at, cancel }
    }

    /// Takes the line for `bytes` and waits until they are through.
    fn carry(&self, bytes: u64) -> Result<()> {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let through = {
            let mut free_at = self.line_free_at.lock().unwrap_or_else(PoisonError::into_inner);
            *free_at = (*free_at).max(Instant::now()) + time;
            *free_at
        };
        loop {
            self.cancel.check()?;
            let rest = through.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            std::thread::sleep(rest.min(LOOK_EVERY));
        }
    }
}

impl Store for SlowStore {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.carry(total(&parts))?;
        self.inner.put(name, parts)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        let bytes = self.inner.get(name)?;
        self.carry(bytes.len() as u64)?;
        Ok(bytes)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.inner.get_range(name, range)?;
        self.carry(bytes.len() as u64)?;
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        self.carry(0)?;
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.carry(0)?;
        self.inner.delete(name)
    }

    fn old_versions(&self, prefix: &str) -> Result<Option<Vec<Version>>> {
        self.carry(0)?;
        self.inner.old_versions(prefix)
    }

    fn get_version(&self, version: &Version) -> Result<Bytes> {
        let bytes = self.inner.get_version(version)?;
        self.carry(bytes.len() as u64)?;
        Ok(bytes)
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn listing(&self) -> Listing {
        self.inner.listing()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn renew_connections(&self) {
        self.inner.renew_connections();
    }
}
