//! A store that remembers every call: performance is tested by counting, not by timing.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use store::{Item, Listing, Result, Store, Usage, Version};

use crate::call::{Call, Verb, total};

/// Wraps a store and records what is asked of it.
pub struct RecordingStore {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
    begun: AtomicU64,
}

impl RecordingStore {
    /// Records every call to `inner`, failed ones too.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Mutex::default(), begun: AtomicU64::new(0) }
    }

    /// The calls so far, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// How many calls there were.
    pub fn total(&self) -> usize {
        self.lock().len()
    }

    /// How many calls of one verb there were.
    pub fn count(&self, verb: Verb) -> usize {
        self.lock().iter().filter(|call| call.verb == verb).count()
    }

    /// Names of one verb's calls, in order.
    pub fn names(&self, verb: Verb) -> Vec<String> {
        self.lock().iter().filter(|call| call.verb == verb).map(|call| call.name.clone()).collect()
    }

    /// Bytes of all puts together.
    pub fn bytes_put(&self) -> u64 {
        self.bytes(|verb| verb == Verb::Put)
    }

    /// Bytes of all reads together.
    pub fn bytes_read(&self) -> u64 {
        self.bytes(|verb| matches!(verb, Verb::Get | Verb::GetRange))
    }

    /// Forgets the calls so far and returns them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.lock())
    }

    fn bytes(&self, wanted: impl Fn(Verb) -> bool) -> u64 {
        self.lock().iter().filter(|call| wanted(call.verb)).map(|call| call.bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call that begins; returns its number.
    fn begin(&self, verb: Verb, name: &str, bytes: u64) -> u64 {
        let mut calls = self.lock();
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        calls.push(Call { number, verb, name: name.to_owned(), bytes });
        number
    }

    /// Notes how many bytes a read brought. The record may have been taken meanwhile.
    fn end(&self, number: u64, bytes: u64) {
        if let Some(call) = self.lock().iter_mut().rev().find(|call| call.number == number) {
            call.bytes = bytes;
        }
    }
}

impl fmt::Debug for RecordingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RecordingStore");
        shown.field("inner", &self.inner).field("calls", &self.total()).finish_non_exhaustive()
    }
}

impl Store for RecordingStore {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.begin(Verb::Put, name, total(&parts));
        self.inner.put(name, parts)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        let number = self.begin(Verb::Get, name, 0);
        let bytes = self.inner.get(name)?;
        self.end(number, bytes.len() as u64);
        Ok(bytes)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.begin(Verb::GetRange, name, range.end.saturating_sub(range.start));
        self.inner.get_range(name, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        self.begin(Verb::List, prefix, 0);
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.begin(Verb::Delete, name, 0);
        self.inner.delete(name)
    }

    fn old_versions(&self, prefix: &str) -> Result<Option<Vec<Version>>> {
        self.begin(Verb::List, prefix, 0);
        self.inner.old_versions(prefix)
    }

    fn get_version(&self, version: &Version) -> Result<Bytes> {
        let number = self.begin(Verb::Get, &version.name, 0);
        let bytes = self.inner.get_version(version)?;
        self.end(number, bytes.len() as u64);
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
