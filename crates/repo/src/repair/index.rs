//! The index is made anew from the trailers of packs.
//!
//! ```text
//! R0  PUT op/<r>                       announce, as a collection
//! R1  LIST index/, read what opens; LIST packs/
//! R2  packs without a table: read their trailers
//! R3  PUT index/0-<r>-<n>
//! R4  GET kill/<r>; DELETE index objects that do not open, if every pack has a table now
//! R5  PUT end/<r>
//! ```
//! A table that comes back for a pack which a collector is about to sweep does no harm: no table ever
//! proves that a pack exists.

use std::sync::{Mutex, PoisonError};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::gc;
use crate::gc::index::Tables;
use crate::id::{MachineId, OpId, PackId};
use crate::operation::{OpKind, Operation};
use crate::pack::{self, PackTable};
use crate::repository::{READS_MAX, Repository};
use crate::verify::data::reason;
use crate::verify::pack_tail;

/// Packs whose tables are held in memory together.
const PACKS_PER_BATCH: usize = 64;

/// What became of the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Packs there are.
    pub packs: usize,
    /// Packs whose tables were written anew.
    pub rebuilt: usize,
    /// Packs whose trailers do not open, and why: what is in them is not known.
    pub unreadable: Vec<(PackId, String)>,
    /// Index objects that did not open and are gone.
    pub removed: Vec<String>,
    /// Index objects that do not open and stay, because a pack is left without a table.
    pub kept: Vec<String>,
}

/// Makes the index anew, as the operation `id`, which must be fresh. With `accept_loss`, index objects
/// that do not open go even if a pack is left without a table.
pub fn index(
    repo: &Repository,
    cache: Option<&Cache>,
    id: OpId,
    machine: MachineId,
    threads: usize,
    accept_loss: bool,
    now_secs: &dyn Fn() -> i64,
) -> Result<IndexReport> {
    repo.config().writable()?;
    let op = Operation::announce(repo, id, OpKind::Gc, machine, now_secs())?;
    let done = run(repo, cache, &op, threads, accept_loss, now_secs);
    let ended = op.finish_without_snapshot();
    let report = done?;
    ended.map(|()| report)
}

fn run(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    threads: usize,
    accept_loss: bool,
    now_secs: &dyn Fn() -> i64,
) -> Result<IndexReport> {
    let mut closed = Vec::new();
    // what lies in the store counts, not what a cache remembers of it
    let tables = Tables::read_with(repo, None, &mut |name, error| {
        tracing::warn!("{error}");
        closed.push(name.to_owned());
        Ok(())
    })?;
    let listed = repo.packs_listed()?;
    let mut missing: Vec<(PackId, u64)> = listed
        .iter()
        .filter(|(pack, _)| !tables.packs.contains_key(*pack))
        .map(|(pack, bytes)| (*pack, *bytes))
        .collect();
    missing.sort_unstable();
    let mut report = IndexReport { packs: listed.len(), ..IndexReport::default() };
    for batch in missing.chunks(PACKS_PER_BATCH) {
        op.beat(now_secs())?;
        let found = Mutex::new((Vec::new(), Vec::new()));
        gc::each(threads, batch, &|(pack, bytes)| {
            let read = trailer(repo, pack, *bytes)?;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Some(Ok(table)) => found.0.push(table),
                Some(Err(what)) => found.1.push((*pack, what)),
                None => {} // swept meanwhile
            }
            Ok(())
        })?;
        let (mut tables, unreadable) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        tables.sort_by_key(PackTable::pack);
        report.rebuilt += tables.len();
        report.unreadable.extend(unreadable);
        if !tables.is_empty() {
            op.put_index(tables, cache)?;
        }
    }
    report.unreadable.sort();
    if report.unreadable.is_empty() || accept_loss {
        if !closed.is_empty() && op.is_killed()? {
            let reason = "another client ended this repair, which had given no sign for long";
            return Err(Error::Refused { reason: reason.to_owned() });
        }
        for name in &closed {
            repo.store().delete(name)?;
        }
        report.removed = closed;
    } else {
        report.kept = closed;
    }
    Ok(report)
}

/// A pack's table from its trailer, or why there is none; `None` if the pack is gone.
fn trailer(
    repo: &Repository,
    pack: &PackId,
    bytes: u64,
) -> Result<Option<std::result::Result<PackTable, String>>> {
    let mut what = String::new();
    for _ in 0..READS_MAX {
        let tail = |n| pack_tail(repo, pack, bytes, n);
        match pack::read_trailer(repo.keys(), repo.id(), pack, bytes, tail) {
            Ok(table) => return Ok(Some(Ok(table))),
            Err(Error::Missing { .. }) => return Ok(None),
            Err(error @ Error::Corrupt { .. }) => what = reason(&error),
            Err(error) => return Err(error),
        }
        repo.store().renew_connections();
    }
    Ok(Some(Err(what)))
}
