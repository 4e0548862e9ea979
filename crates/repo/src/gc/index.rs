//! The index as a collector sees it: which packs each object names, and objects written anew.
//!
//! Merging needs no look at anything else: whoever believes an entry lists the packs too, so an
//! entry of a pack that is gone does no harm, and an object is deleted only after all it says of packs
//! that are there was written again and acknowledged. So any number of collectors may merge at once.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::cache::Cache;
use crate::error::Result;
use crate::id::PackId;
use crate::index::Index;
use crate::limits::INDEX_OBJECT_BYTES_TARGET;
use crate::operation::Operation;
use crate::pack::PackTable;
use crate::repository::{Damaged, Repository, stop};

/// So many objects that are not full are merged.
const OBJECTS_MERGED_MIN: usize = 8;
/// Highest level: one digit, so that a merged object sorts after those it replaces and no paged
/// listing misses both.
const LEVEL_MAX: u8 = 9;

/// An object of the index and the packs it names.
#[derive(Debug)]
pub(crate) struct IndexObjectInfo {
    pub(crate) name: String,
    pub(crate) level: u8,
    pub(crate) bytes: u64,
    pub(crate) packs: Vec<PackId>,
}

/// Tables of packs without their chunks, and where they stand.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) index: Index,
    pub(crate) objects: Vec<IndexObjectInfo>,
    /// Packs that have a table, and how long they are by it.
    pub(crate) packs: HashMap<PackId, u64>,
}

impl Tables {
    /// Reads them all; one that does not open is an error: a collector stops there.
    pub(crate) fn read(repo: &Repository, cache: Option<&Cache>) -> Result<Self> {
        Self::read_with(repo, cache, &mut stop)
    }

    /// Reads those that open, and tells of the others.
    pub(crate) fn read_with(
        repo: &Repository,
        cache: Option<&Cache>,
        damaged: &mut Damaged<'_>,
    ) -> Result<Self> {
        let mut tables = Self::default();
        repo.each_index_object(cache, damaged, &mut |listed| {
            for table in &listed.object.packs {
                tables.index.add(table, false)?;
            }
            let packs: Vec<PackId> = listed.object.packs.iter().map(PackTable::pack).collect();
            tables
                .packs
                .extend(listed.object.packs.iter().map(|table| (table.pack(), table.bytes)));
            let (name, level, bytes) = (listed.name, listed.level, listed.bytes);
            tables.objects.push(IndexObjectInfo { name, level, bytes, packs });
            Ok(())
        })?;
        Ok(tables)
    }

    /// Visits the tables of these packs with all their rows, each once.
    pub(crate) fn each_table_of(
        &self,
        repo: &Repository,
        cache: Option<&Cache>,
        packs: &BTreeSet<PackId>,
        visit: &mut dyn FnMut(&PackTable) -> Result<()>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        for info in &self.objects {
            if !info.packs.iter().any(|pack| packs.contains(pack) && !seen.contains(pack)) {
                continue;
            }
            let Some(object) = repo.index_object(cache, &info.name, info.bytes)? else { continue };
            for table in &object.packs {
                if packs.contains(&table.pack()) && seen.insert(table.pack()) {
                    visit(table)?;
                }
            }
        }
        Ok(())
    }
}

/// What became of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Objects that others replaced, or whose packs are gone.
    pub objects_removed: usize,
    /// Bytes of objects written.
    pub bytes_stored: u64,
}

/// Objects to write anew: those that name a pack that goes or is gone, and those that are far from
/// full, once there are many of them.
pub(crate) fn to_rewrite<'t>(
    objects: &'t [IndexObjectInfo],
    stays: &dyn Fn(&PackId) -> bool,
) -> Vec<&'t IndexObjectInfo> {
    let is_due = |info: &&IndexObjectInfo| !info.packs.iter().all(stays);
    let is_small = |info: &&IndexObjectInfo| info.bytes < INDEX_OBJECT_BYTES_TARGET / 2;
    let small = objects.iter().filter(is_small).count();
    let merge = small >= OBJECTS_MERGED_MIN;
    objects.iter().filter(|info| is_due(info) || merge && is_small(info)).collect()
}

/// Writes objects anew without the packs that do not stay, and returns the names of the old ones:
/// the caller deletes them when it has made sure that it may.
pub(crate) fn rewrite(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    old: &[&IndexObjectInfo],
    stays: &dyn Fn(&PackId) -> bool,
) -> Result<(Vec<String>, u64)> {
    let level = old.iter().map(|info| info.level + 1).max().unwrap_or(1).min(LEVEL_MAX);
    let (mut part, mut part_bytes, mut written) = (Vec::new(), 0, 0);
    let (mut known, mut names) = (HashSet::new(), Vec::new());
    for info in old {
        // deleted since it was listed: whoever did that has written its rows anew
        let Some(object) = repo.index_object(cache, &info.name, info.bytes)? else { continue };
        for table in object.packs {
            if !stays(&table.pack()) || !known.insert(table.pack()) {
                continue;
            }
            let bytes = table.coded_len_max();
            if !part.is_empty() && part_bytes + bytes > INDEX_OBJECT_BYTES_TARGET {
                written += op.put_index_at(level, std::mem::take(&mut part), cache)?;
                part_bytes = 0;
            }
            part_bytes += bytes;
            part.push(table);
        }
        names.push(info.name.clone());
    }
    if !part.is_empty() {
        written += op.put_index_at(level, part, cache)?;
    }
    Ok((names, written))
}
