//! What lies in the store, looked at once: listings, tables and snapshots, as far as they open.
//!
//! Order: snapshots are listed before tables, tables before packs. So what a snapshot needs was there
//! before its tables were looked for; and what a collector moved meanwhile is missing here, and found
//! at the next look.

use std::collections::{BTreeSet, HashMap};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::gc::index::Tables;
use crate::gc::lists;
use crate::gc::operations::Operations;
use crate::id::{BlockId, OpId, PackId};
use crate::index::{self, Index, Location};
use crate::keys::Slot;
use crate::pin;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::verify::coverage;
use crate::verify::data::reason;

/// One look.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    pub(crate) packs: HashMap<PackId, u64>,
    pub(crate) tables: Tables,
    pub(crate) operations: Operations,
    pub(crate) quarantined: BTreeSet<PackId>,
    /// By machine and counter, so that maps are read once and patched on.
    pub(crate) snapshots: Vec<Snapshot>,
    /// Objects that do not open, and why.
    pub(crate) closed: Vec<(String, String)>,
    /// Names of a form that nobody knows.
    pub(crate) odd: Vec<String>,
}

impl Ground {
    /// Looks. With a cache, index objects that are in it are not read again.
    pub(crate) fn look(repo: &Repository, cache: Option<&Cache>) -> Result<Self> {
        let mut ground = Self::default();
        for item in repo.store().list("")? {
            ground.sort_in(item);
        }
        let ids: Vec<OpId> = ground.operations.valid_snapshots();
        for id in ids {
            match repo.snapshot(None, &id) {
                Ok((snapshot, _)) => ground.snapshots.push(snapshot),
                Err(Error::Missing { .. }) => {} // forgotten between LIST and GET
                Err(error @ Error::Corrupt { .. }) => {
                    ground.closed.push((Snapshot::object_name(&id), reason(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        ground.snapshots.sort_by_key(|s| (s.machine, s.counter, s.id));
        let closed = &mut ground.closed;
        let mut note = |name: &str, error: Error| {
            match index::parse_name(name) {
                Some(_) => closed.push((name.to_owned(), reason(&error))),
                None => return Ok(()), // told as an odd name
            }
            Ok(())
        };
        ground.tables = Tables::read_with(repo, cache, &mut note)?;
        ground.packs = repo.packs_listed()?;
        Ok(ground)
    }

    /// Sorts one object in by its name.
    fn sort_in(&mut self, item: store::Item) {
        let (dir, rest) = item.name.split_once('/').unwrap_or((item.name.as_str(), ""));
        let operations = &mut self.operations;
        let known = match (dir, OpId::from_hex(rest)) {
            ("config", _) => item.name == "config",
            ("keys", _) => Slot::id_of(&item.name).is_some(),
            ("packs", _) => PackId::from_object_name(&item.name).is_some(),
            ("index", _) => index::parse_name(&item.name).is_some(),
            ("op", Some(id)) => operations.announced.insert(id, item.modified).is_none(),
            ("snap", Some(id)) => operations.snapshots.insert(id),
            ("end", Some(id)) => operations.finished.insert(id),
            ("dead", Some(id)) => operations.dead.insert(id),
            ("forgot", Some(id)) => operations.forgotten.insert(id, item.modified).is_none(),
            ("pin", _) => {
                operations.pinned.extend(pin::snapshot_of(&item.name));
                true
            }
            ("kill", Some(_)) | ("tag", _) => true,
            ("gc", _) => match lists::quarantined(&item.name) {
                Some(pack) => self.quarantined.insert(pack),
                None => lists::is_name(&item.name),
            },
            ("verify", _) => coverage::is_name(&item.name),
            _ => false,
        };
        if !known {
            self.odd.push(item.name);
        }
    }

    /// Is this place in a pack that is there, and as long as its table says?
    pub(crate) fn is_there(&self, at: &Location) -> bool {
        self.packs.get(&at.pack).is_some_and(|bytes| at.range().end <= *bytes)
    }

    /// Places of a block in packs that are there.
    pub(crate) fn places<'g>(
        &'g self,
        index: &'g Index,
        id: &BlockId,
    ) -> impl Iterator<Item = &'g Location> {
        index.places(id).filter(|at| self.is_there(at))
    }
}
