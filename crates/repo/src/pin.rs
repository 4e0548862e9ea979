//! Pins: snapshots that no forget takes away.
//!
//! `pin/<snapshot id>-<16 hex digits>` is a mark of which only the name counts. Its last part is
//! random, so that a pin that was removed and made again has another name: no name is written twice.
//! A pin looks for the forget record after it was written, a forget looks for pins after its record
//! was written: at least one sees the other, and the snapshot that a pin was acknowledged for stays.
//! The pin of another is not believed: who wrote it may be about to give it up.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;

use crate::error::{Error, Result};
use crate::forget::record_name;
use crate::id::OpId;
use crate::object::{self, ObjectKind};
use crate::operation::{Mark, is_listed, is_there};
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Random bytes at the end of a name.
const RANDOM_BYTES: usize = 8;

fn prefix(id: &OpId) -> String {
    format!("pin/{id}-")
}

/// Name of one pin of a snapshot.
pub(crate) fn object_name(id: &OpId, random: [u8; RANDOM_BYTES]) -> String {
    format!("{}{}", prefix(id), HEXLOWER.encode(&random))
}

/// The snapshot that a pin of this name holds.
pub(crate) fn snapshot_of(name: &str) -> Option<OpId> {
    let (id, random) = name.strip_prefix("pin/")?.split_once('-')?;
    let random = HEXLOWER.decode(random.as_bytes()).ok()?;
    if random.len() == RANDOM_BYTES { OpId::from_hex(id) } else { None }
}

impl Repository {
    /// Pins a snapshot. False if somebody had pinned it already. [`Error::NoSuchSnapshot`] if it is not
    /// there, about to be forgotten, or may yet be declared dead.
    pub fn pin(&self, id: &OpId) -> Result<bool> {
        self.config().writable()?;
        let was_pinned = self.is_pinned(id)?;
        let name = object_name(id, crate::random::bytes());
        let mark = Mark { op: *id };
        let sealed = object::seal_record(self.keys(), self.id(), ObjectKind::Mark, &name, &mark);
        self.store().put(&name, vec![sealed.into()])?;
        let there = is_listed(self, &Snapshot::object_name(id))?;
        let why = if !there || is_listed(self, &record_name(id))? {
            "it is forgotten, or somebody is about to"
        } else if is_there(self, &format!("kill/{id}"))? {
            // without, the snapshot was there before anybody could look for it to end the operation
            "its push was asked to stop, so it may not count; push again and pin that snapshot"
        } else {
            return Ok(!was_pinned);
        };
        self.store().delete(&name)?;
        Err(Error::NoSuchSnapshot(format!("{id}: {why}")))
    }

    /// Removes all pins of a snapshot; false if there was none.
    pub fn unpin(&self, id: &OpId) -> Result<bool> {
        self.config().writable()?;
        let pins = self.store().list(&prefix(id))?;
        pins.iter().try_for_each(|pin| self.store().delete(&pin.name))?;
        Ok(!pins.is_empty())
    }

    /// Snapshots that are pinned.
    pub fn pinned(&self) -> Result<BTreeSet<OpId>> {
        let id = |item: &store::Item| {
            snapshot_of(&item.name)
                .ok_or_else(|| Error::corrupt(&item.name, "its name is not that of a pin"))
        };
        self.store().list("pin/")?.iter().map(id).collect()
    }

    /// Whether a snapshot is pinned.
    pub fn is_pinned(&self, id: &OpId) -> Result<bool> {
        Ok(!self.store().list(&prefix(id))?.is_empty())
    }
}
