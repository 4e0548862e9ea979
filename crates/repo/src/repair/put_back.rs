//! A snapshot object that does not open any more gets the bytes back that it had.
//!
//! In: a cache that kept them sealed. Out: the object under its old name, byte for byte: whoever reads it
//! sees what was acknowledged. One that was forgotten meanwhile does not count, as after a request that
//! lands late.

use crate::cache::Cache;
use crate::error::Result;
use crate::id::OpId;
use crate::object::{self, ObjectKind};
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Writes the object again if the cache has it; false if it has not.
pub fn put_back(repo: &Repository, cache: &Cache, id: &OpId) -> Result<bool> {
    let name = Snapshot::object_name(id);
    match cache.object(&name).filter(|bytes| opens(repo, id, bytes)) {
        Some(bytes) => repo.store().put(&name, vec![bytes.into()])?,
        None => return Ok(false),
    }
    Ok(true)
}

/// Are these the bytes of this snapshot?
pub(super) fn opens(repo: &Repository, id: &OpId, bytes: &[u8]) -> bool {
    let (name, kind) = (Snapshot::object_name(id), ObjectKind::Snapshot);
    let opened: Result<Snapshot> = object::open_record(repo.keys(), repo.id(), kind, &name, bytes);
    opened.is_ok_and(|snapshot| snapshot.id == *id)
}
