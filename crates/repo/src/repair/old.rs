//! What a storage keeps of objects that were deleted or overwritten.
//!
//! In: a store that keeps old versions, and what is lost. Out: blocks that lie in old versions of packs, moved
//! into packs of the running operation, sealed as they are; snapshot objects under their own names. No pack
//! comes back under its name: a collector may have condemned it, and that is for ever. Where a block lies
//! in a pack is told by the index, and by old versions of index objects. What is read counts only if its
//! bytes are those that a table or a seal says.

use std::collections::BTreeMap;

use store::Version;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::gc::mover::Mover;
use crate::id::{BlockId, OpId, PackId};
use crate::index::{self, IndexObject};
use crate::object::{self, ObjectKind};
use crate::pack::{self, PackTable};
use crate::repair::put_back::opens;
use crate::repository::{Repository, pass_over};
use crate::snapshot::Snapshot;

/// Old versions by object name, each name's newest first.
type Versions = BTreeMap<String, Vec<Version>>;

/// Lists old versions. [`Error::Refused`] where the storage keeps none.
fn versions(repo: &Repository, prefix: &str) -> Result<Versions> {
    let Some(listed) = repo.store().old_versions(prefix)? else {
        let address = repo.store().address();
        let reason = format!("{address} keeps no old versions of objects that could be looked for");
        return Err(Error::Refused { reason });
    };
    let mut all = Versions::new();
    for version in listed {
        all.entry(version.name.clone()).or_default().push(version);
    }
    Ok(all)
}

/// Moves the wanted blocks that old versions of packs hold.
pub(super) fn take(
    repo: &Repository,
    cache: Option<&Cache>,
    wanted: &dyn Fn(&BlockId) -> bool,
    mover: &mut Mover<'_, '_>,
) -> Result<()> {
    let packs = versions(repo, "packs/")?;
    if packs.is_empty() {
        return Ok(());
    }
    let mut tables = BTreeMap::<PackId, PackTable>::new();
    let mut note = |object: IndexObject| {
        for table in object.packs {
            let holds = table.blocks.iter().any(|row| wanted(&row.id));
            if holds && packs.contains_key(&table.pack().object_name()) {
                tables.entry(table.pack()).or_insert(table);
            }
        }
    };
    repo.each_index_object(cache, &mut pass_over, &mut |listed| {
        note(listed.object);
        Ok(())
    })?;
    for (name, old) in versions(repo, "index/")? {
        if index::parse_name(&name).is_none() {
            continue;
        }
        let open = |bytes: &[u8]| {
            object::open_record::<IndexObject>(
                repo.keys(),
                repo.id(),
                ObjectKind::Index,
                &name,
                bytes,
            )
        };
        if let Some(object) = first(repo, &old, &|bytes| open(bytes).ok())? {
            note(object);
        }
    }
    for (pack, table) in tables {
        if table.check().is_err() {
            continue; // no writer makes such a table
        }
        for version in &packs[&pack.object_name()] {
            if table.blocks.iter().all(|row| !wanted(&row.id) || mover.has(&row.id)) {
                break;
            }
            let Some(bytes) = get(repo, version)? else { continue };
            for (at, row) in table.placed().filter(|(_, row)| wanted(&row.id)) {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let sealed = from.checked_add(row.stored_len as usize).and_then(|to| {
                    bytes
                        .get(from..to)
                        .filter(|sealed| pack::sealed_hash(sealed) == row.sealed_hash)
                });
                if let Some(sealed) = sealed
                    && !mover.has(&row.id)
                {
                    mover.put(row, sealed)?;
                }
            }
        }
    }
    Ok(())
}

/// Writes a snapshot object again of which an old version opens; false if there is none. Only for one that
/// nobody forgot: its name must be free of marks.
pub fn bring_back(repo: &Repository, id: &OpId) -> Result<bool> {
    let name = Snapshot::object_name(id);
    let mut all = versions(repo, &name)?;
    let old = all.remove(&name).unwrap_or_default();
    let open = |bytes: &[u8]| opens(repo, id, bytes).then(|| bytes.to_vec());
    let Some(bytes) = first(repo, &old, &open)? else { return Ok(false) };
    repo.store().put(&name, vec![bytes.into()])?;
    Ok(true)
}

/// The first version that opens.
fn first<T>(
    repo: &Repository,
    versions: &[Version],
    open: &dyn Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>> {
    for version in versions {
        if let Some(found) = get(repo, version)?.and_then(|bytes| open(&bytes)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// `None` for a version that is gone since it was listed.
fn get(repo: &Repository, version: &Version) -> Result<Option<bytes::Bytes>> {
    if version.size > crate::limits::OBJECT_BYTES_MAX.max(crate::limits::PACK_BYTES_MAX) {
        return Ok(None);
    }
    match repo.store().get_version(version) {
        Err(store::Error::NotFound { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}
