//! Undelete: a forgotten snapshot comes back as a new push of its tree.
//!
//! No name comes back: the new snapshot has the id of a new operation. Everything its tree reaches
//! counts as reuse and is checked as that of any push; what lies in condemned packs alone is moved
//! out of them, as long as they are there. A block that is gone ends it: nothing was written then
//! that counts.

use std::collections::BTreeSet;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::gc::index::Tables;
use crate::gc::live::Live;
use crate::gc::mover::{Moved, Mover};
use crate::id::{BlockId, MachineId, OpId, PackId};
use crate::index::Index;
use crate::operation::{Commit, OpKind, Operation};
use crate::repository::{Repository, pass_over};
use crate::snapshot::Snapshot;

/// What the reason field of a snapshot says that was brought back.
pub const REASON: &str = "undelete";

/// Brings a forgotten snapshot back under the id `fresh`, which the caller wrote to its own state
/// first. [`Commit::InDoubt`] means that somebody ended this operation: again, under another id.
pub fn undelete(
    repo: &Repository,
    cache: Option<&Cache>,
    forgotten: &OpId,
    fresh: OpId,
    machine: MachineId,
    now_secs: &dyn Fn() -> i64,
) -> Result<(Commit, Snapshot)> {
    repo.config().writable()?;
    let old = repo.forgotten(forgotten)?;
    let op = Operation::announce(repo, fresh, OpKind::Push, machine, now_secs())?;
    let carried = op
        .survey(cache)
        .and_then(|survey| carry(repo, cache, &op, 0, &survey.index, &old.tree, now_secs));
    if let Err(error) = carried {
        op.finish_without_snapshot()?;
        return Err(match error {
            Error::Missing { .. } => Error::NoSuchSnapshot(format!(
                "{forgotten}: a collection has removed what only this snapshot needed"
            )),
            other => other,
        });
    }
    let snapshot = Snapshot { id: fresh, reason: Some(old.reason_with(REASON)), ..old };
    let (commit, _) = op.commit(&snapshot)?;
    Ok((commit, snapshot))
}

/// Which of these snapshots still have all that they need: those a collection took nothing from. An
/// answer is true for the moment; a collection that runs may change it.
pub fn whole(
    repo: &Repository,
    cache: Option<&Cache>,
    snapshots: &[Snapshot],
) -> Result<Vec<bool>> {
    if snapshots.is_empty() {
        return Ok(Vec::new());
    }
    let reader = Reader::open(repo, cache)?;
    let packs = repo.packs_listed()?;
    let is_whole = |snapshot: &Snapshot| {
        let mut live = Live::default();
        match live.add_tree(&reader, &snapshot.tree) {
            Ok(()) => {}
            Err(Error::Missing { .. } | Error::Store(store::Error::NotFound { .. })) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(live.iter().all(|id| reader.lies_in(id, &packs)))
    };
    snapshots.iter().map(is_whole).collect()
}

/// Makes sure that the operation may rely on all that a tree reaches: `reusable` is what its survey
/// allows, the rest is moved out of packs that nobody may rely on. [`Error::Missing`] names what is
/// nowhere. `first_pack` is the counter of the operation's next pack.
pub(crate) fn carry(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    first_pack: u32,
    reusable: &Index,
    tree: &BlockId,
    now_secs: &dyn Fn() -> i64,
) -> Result<Moved> {
    let mut tables = Tables::read(repo, cache)?;
    let reader = Reader::new(repo, cache, std::mem::take(&mut tables.index));
    let mut live = Live::default();
    live.add_tree(&reader, tree)?;
    tables.index = reader.into_index();
    let needed: BTreeSet<BlockId> =
        live.iter().filter(|id| reusable.get(id).is_none()).copied().collect();
    let (moved, left, _) = move_blocks(repo, cache, op, first_pack, &tables, &needed, now_secs)?;
    match left.first() {
        Some(left) => Err(Error::Missing { object: format!("block {left}") }),
        None => Ok(moved),
    }
}

/// Gives blocks that lie in packs which nobody may rely on a place in packs of this operation. Returns
/// what was moved, the blocks that are nowhere, and the counter of the operation's next pack.
pub fn carry_blocks(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    first_pack: u32,
    needed: &BTreeSet<BlockId>,
    now_secs: &dyn Fn() -> i64,
) -> Result<(Moved, Vec<BlockId>, u32)> {
    let tables = Tables::read_with(repo, cache, &mut pass_over)?;
    move_blocks(repo, cache, op, first_pack, &tables, needed, now_secs)
}

fn move_blocks(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    first_pack: u32,
    tables: &Tables,
    needed: &BTreeSet<BlockId>,
    now_secs: &dyn Fn() -> i64,
) -> Result<(Moved, Vec<BlockId>, u32)> {
    let index = &tables.index;
    let packs: BTreeSet<PackId> =
        needed.iter().flat_map(|id| index.places(id)).map(|at| at.pack).collect();
    let mut mover = Mover::new(repo, cache, op, first_pack, now_secs);
    tables.each_table_of(repo, cache, &packs, &mut |table| {
        mover.take(table, &|id| needed.contains(id))
    })?;
    let left = needed.iter().filter(|id| !mover.has(id)).copied().collect();
    let (moved, next) = mover.finish()?;
    Ok((moved, left, next))
}
