//! A store in memory, for tests and examples. Clones are handles onto the same content.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};

use crate::{Error, Item, Listing, Result, Store, name};

/// Gives the time that a new object is stamped with.
type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// Objects in a sorted map. A clone is another handle onto the same objects.
#[derive(Clone)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Object>>>,
    clock: Arc<Clock>,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    modified: SystemTime,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that stamps objects with the system's time.
    pub fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a store has its own clock, like a server")]
        Self::with_clock(SystemTime::now)
    }

    /// An empty store that stamps objects with the time `clock` gives.
    pub fn with_clock(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { objects: Arc::default(), clock: Arc::new(clock) }
    }

    /// A store of its own with the same objects: what a disk image is to a disk.
    #[must_use]
    pub fn fork(&self) -> Self {
        let objects = self.lock().clone();
        Self { objects: Arc::new(Mutex::new(objects)), clock: Arc::clone(&self.clock) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        // A panic between two map operations cannot leave the map half changed.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("objects", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        name::check(name)?;
        let object = Object { bytes: join(parts), modified: (self.clock)() };
        self.lock().insert(name.to_owned(), object);
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        name::check(name)?;
        match self.lock().get(name) {
            Some(object) => Ok(object.bytes.clone()),
            None => Err(Error::NotFound { name: name.to_owned() }),
        }
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        name::check(name)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let whole = self.get(name)?;
        let short = || Error::Short { name: name.to_owned(), end: range.end };
        let start = usize::try_from(range.start).map_err(|_| short())?;
        let end = usize::try_from(range.end).map_err(|_| short())?;
        if end > whole.len() { Err(short()) } else { Ok(whole.slice(start..end)) }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        let objects = self.lock();
        let from_prefix = objects.range(prefix.to_owned()..);
        Ok(from_prefix
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, object)| Item {
                name: name.clone(),
                size: object.bytes.len() as u64,
                modified: object.modified,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        name::check(name)?;
        self.lock().remove(name);
        Ok(())
    }

    fn listing(&self) -> Listing {
        Listing::Local
    }

    fn address(&self) -> String {
        "memory:".to_owned()
    }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}
