//! Forget: a snapshot stops to count, and no pack is touched.
//!
//! `forgot/<id>` holds the sealed snapshot, then `snap/<id>` is deleted. In this order: a snapshot
//! that is gone without such a record was lost, and collectors stop there. Until a collector has
//! swept what only it needed, [`crate::undelete`] brings it back.

use crate::error::{Error, Result};
use crate::id::{OpId, PackId};
use crate::object::{self, ObjectKind};
use crate::operation::{is_listed, is_there};
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Name of the record that a snapshot was forgotten.
pub(crate) fn record_name(id: &OpId) -> String {
    format!("forgot/{id}")
}

/// What became of a snapshot that was to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgot {
    /// It is forgotten.
    Done,
    /// It was not there.
    Gone,
    /// It is pinned and stays.
    Pinned,
}

impl Repository {
    /// Forgets a snapshot, pinned or not. One that is not there, or that is forgotten already, stays
    /// so; false then.
    pub fn forget(&self, id: &OpId) -> Result<bool> {
        Ok(self.forget_if(id, &|| Ok(false))? == Forgot::Done)
    }

    /// Forgets a snapshot that nobody pinned; also how an operation takes back one that is in doubt.
    pub fn forget_unless_pinned(&self, id: &OpId) -> Result<Forgot> {
        self.config().writable()?;
        if self.is_pinned(id)? {
            return Ok(Forgot::Pinned);
        }
        self.forget_if(id, &|| self.is_pinned(id))
    }

    /// `stays` is asked when the record is there: see [`crate::Repository::pin`].
    pub(crate) fn forget_if(&self, id: &OpId, stays: &dyn Fn() -> Result<bool>) -> Result<Forgot> {
        let name = Snapshot::object_name(id);
        let sealed = match self.store().get(&name) {
            Err(store::Error::NotFound { .. }) => return Ok(Forgot::Gone),
            other => other?,
        };
        let snapshot: Snapshot =
            object::open_record(self.keys(), self.id(), ObjectKind::Snapshot, &name, &sealed)?;
        let record = record_name(id);
        // a name is written once; who forgot it before us may have been stopped before the delete
        if is_listed(self, &record)? {
            // the snapshot goes only where its record can be read
            self.forgotten(id)?;
        } else {
            let sealed = object::seal_record(
                self.keys(),
                self.id(),
                ObjectKind::Snapshot,
                &record,
                &snapshot,
            );
            self.store().put(&record, vec![sealed.into()])?;
        }
        if stays()? {
            return Ok(Forgot::Pinned);
        }
        self.store().delete(&name)?;
        Ok(Forgot::Done)
    }

    /// A forgotten snapshot.
    pub fn forgotten(&self, id: &OpId) -> Result<Snapshot> {
        let name = record_name(id);
        let sealed = match self.store().get(&name) {
            Err(store::Error::NotFound { name }) => return Err(Error::Missing { object: name }),
            other => other?,
        };
        let snapshot: Snapshot =
            object::open_record(self.keys(), self.id(), ObjectKind::Snapshot, &name, &sealed)?;
        if snapshot.id != *id {
            return Err(Error::corrupt(&name, "it is another snapshot"));
        }
        Ok(snapshot)
    }

    /// Whether there is a record that this snapshot was forgotten.
    pub fn is_forgotten(&self, id: &OpId) -> Result<bool> {
        is_listed(self, &record_name(id))
    }

    /// Whether a snapshot that was there is lost: it is gone, nobody forgot it, and it was not declared
    /// dead. Asked in this order: whoever forgets writes the record before the snapshot goes.
    pub fn is_lost(&self, id: &OpId) -> Result<bool> {
        Ok(!is_there(self, &Snapshot::object_name(id))?
            && !is_there(self, &record_name(id))?
            && !is_there(self, &format!("dead/{id}"))?)
    }

    /// Ids of the forgotten snapshots whose records are still there.
    pub fn forgotten_ids(&self) -> Result<Vec<OpId>> {
        self.ids_under("forgot/")
    }

    /// Packs a listing shows, with their lengths.
    pub(crate) fn packs_listed(&self) -> Result<std::collections::HashMap<PackId, u64>> {
        let items = self.store().list("packs/")?;
        let pack = |item: &store::Item| Some((PackId::from_object_name(&item.name)?, item.size));
        Ok(items.iter().filter_map(pack).collect())
    }
}
