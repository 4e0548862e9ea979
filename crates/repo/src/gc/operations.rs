//! Which operations run and which have ended, as the store shows it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::id::OpId;
use crate::operation::{Ended, end_stale};
use crate::repository::Repository;

/// The operations of a repository at one moment.
///
/// `op/` is listed first: an operation that has no mark in the listings after it had not ended when
/// `op/` was listed.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// Announced, with the time of the last heartbeat by the store's clock.
    pub(crate) announced: BTreeMap<OpId, SystemTime>,
    pub(crate) snapshots: HashSet<OpId>,
    pub(crate) finished: BTreeSet<OpId>,
    pub(crate) dead: HashSet<OpId>,
    pub(crate) forgotten: BTreeMap<OpId, SystemTime>,
    pub(crate) pinned: BTreeSet<OpId>,
}

impl Operations {
    pub(crate) fn list(repo: &Repository) -> Result<Self> {
        let announced = times(repo, "op/")?;
        let set = |prefix| Ok::<_, Error>(repo.ids_under(prefix)?.into_iter().collect());
        Ok(Self {
            announced,
            snapshots: set("snap/")?,
            finished: repo.ids_under("end/")?.into_iter().collect(),
            dead: set("dead/")?,
            forgotten: times(repo, "forgot/")?,
            // after the records: a pin that holds against one was there before it
            pinned: repo.pinned()?,
        })
    }

    /// It will write nothing more that counts.
    pub(crate) fn has_ended(&self, id: &OpId) -> bool {
        !self.announced.contains_key(id)
            || self.snapshots.contains(id)
            || self.finished.contains(id)
            || self.dead.contains(id)
            || self.forgotten.contains_key(id)
    }

    /// Those that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &OpId> {
        self.announced.keys().filter(|id| !self.has_ended(id))
    }

    /// It has a forget record that counts. While there is a pin none does: whoever wrote it saw the
    /// pin and left the snapshot.
    pub(crate) fn is_forgotten(&self, id: &OpId) -> bool {
        self.forgotten.contains_key(id) && !self.pinned.contains(id)
    }

    /// Snapshots that count. A forgotten one does not, also if it is there: whoever forgot
    /// it stopped before the delete, or a repeated request wrote it again, perhaps after its packs
    /// were swept.
    pub(crate) fn valid_snapshots(&self) -> Vec<OpId> {
        let counts = |id: &&OpId| !self.dead.contains(id) && !self.is_forgotten(id);
        let mut ids: Vec<OpId> = self.snapshots.iter().filter(counts).copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Ends operations that gave no sign for so long, as the store's clock counts; `own` was
    /// announced a moment ago and tells its time. Time decides nothing but when this is done.
    pub(crate) fn end_stale(
        &mut self,
        repo: &Repository,
        own: &OpId,
        after: Duration,
    ) -> Result<Vec<OpId>> {
        let Some(now) = self.announced.get(own).copied() else { return Ok(Vec::new()) };
        let is_stale = |id: &&OpId| {
            let quiet = now.duration_since(self.announced[*id]).unwrap_or_default();
            **id != *own && quiet >= after
        };
        let stale: Vec<OpId> = self.running().filter(is_stale).copied().collect();
        for id in &stale {
            match end_stale(repo, id)? {
                Ended::Committed => self.snapshots.insert(*id),
                Ended::Dead => self.dead.insert(*id),
            };
        }
        Ok(stale)
    }
}

fn times(repo: &Repository, prefix: &str) -> Result<BTreeMap<OpId, SystemTime>> {
    let id = |item: &store::Item| {
        OpId::from_hex(&item.name[prefix.len()..])
            .map(|id| (id, item.modified))
            .ok_or_else(|| Error::corrupt(&item.name, "its name holds no operation id"))
    };
    repo.store().list(prefix)?.iter().map(id).collect()
}
