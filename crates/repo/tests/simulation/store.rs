//! The store as one actor sees it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use store::{Item, Listing, Result, Store};

use crate::oracle::slice;
use crate::world::{Sim, Write};

/// Every call is a scheduling point; see [`crate::world`].
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) sim: Arc<Sim>,
    pub(crate) me: usize,
}

impl Store for SimStore {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        // copied: a pack's buffer has room for much more than is in it
        let bytes = Bytes::from(parts.concat());
        self.sim.write(self.me, &Write::Put(name.to_owned(), bytes))
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.sim.get(self.me, name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        slice(name, &self.sim.get(self.me, name)?, &range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        self.sim.list(self.me, prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.sim.write(self.me, &Write::Delete(name.to_owned()))
    }

    fn address(&self) -> String {
        "simulated:".to_owned()
    }

    fn listing(&self) -> Listing {
        Listing::Unpublished
    }
}
