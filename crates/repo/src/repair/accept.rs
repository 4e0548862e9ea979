//! A snapshot that needs what cannot be had any more, without it.
//!
//! In: a snapshot and the blocks that are lost. Out: a new snapshot, under an operation of its own, with
//! every entry that can be restored; the old one is forgotten then, so that its record stays. Only for
//! somebody who said that this loss is accepted.

use std::collections::{BTreeMap, HashSet};

use crate::cache::Cache;
use crate::error::Result;
use crate::id::{BlockId, MachineId, OpId};
use crate::operation::{Commit, OpKind, Operation, put_mark};
use crate::repository::Repository;
use crate::snapshot::{PushStats, Snapshot};
use crate::tree::{TreeRoot, gone, path_order};
use crate::verify::needs::Walk;
use crate::verify::touch::Looker;
use crate::without::rebuild;

/// What the reason field of a snapshot says that was made without what was lost.
pub const REASON: &str = "accept-loss";

/// A snapshot that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The one that could not be restored whole.
    pub old: OpId,
    /// The one without what is lost; none if nothing was left.
    pub new: Option<OpId>,
    /// Paths that it lacks.
    pub lost: Vec<Vec<u8>>,
    /// First paths of pieces of the tree that are lost as a whole.
    pub pieces: Vec<Vec<u8>>,
}

/// Replaces a snapshot by one without the lost blocks, under the fresh id `fresh`. [`Commit::InDoubt`]:
/// somebody ended this operation; the old snapshot is untouched then, and this is to be done again.
pub fn accept(
    repo: &Repository,
    cache: Option<&Cache>,
    old: &Snapshot,
    lost: &BTreeMap<BlockId, String>,
    fresh: OpId,
    machine: MachineId,
    now_secs: &dyn Fn() -> i64,
) -> Result<(Commit, Accepted)> {
    repo.config().writable()?;
    let op = Operation::announce(repo, fresh, OpKind::Push, machine, now_secs())?;
    let mut accepted =
        Accepted { old: old.id, new: Some(fresh), lost: Vec::new(), pieces: Vec::new() };
    let (root, gone) = match build(repo, cache, &op, old, lost, &mut accepted, now_secs) {
        Ok((root, gone)) if root.entries > 0 => (root, gone),
        Ok(_) => {
            op.finish_without_snapshot()?;
            repo.forget(&old.id)?;
            repo.unpin(&old.id)?;
            accepted.new = None;
            return Ok((Commit::Acknowledged([0; 32]), accepted));
        }
        Err(error) => {
            op.finish_without_snapshot()?;
            return Err(error);
        }
    };
    let reason = Some(old.reason_with(REASON));
    let instead_of = Some(old.instead_of.unwrap_or(old.id));
    let stats = PushStats {
        entries: root.entries - gone.entries,
        bytes: root.bytes.saturating_sub(gone.bytes),
        gone_entries: gone.entries,
        gone_bytes: gone.bytes,
        ..old.stats
    };
    let tree = root.id;
    let snapshot = Snapshot { id: fresh, tree, reason, instead_of, stats, ..old.clone() };
    let (commit, _) = op.commit(&snapshot)?;
    if matches!(commit, Commit::Acknowledged(_)) {
        // a pin is for what a snapshot holds, and the new one has what is left of it. With the record
        // there nobody else can pin the old one
        repo.forget_if(&old.id, &|| {
            if repo.is_pinned(&old.id)? {
                repo.pin(&fresh)?;
            }
            Ok(false)
        })?;
        repo.unpin(&old.id)?;
    }
    Ok((commit, accepted))
}

/// Entries of a tree that are gone from their source.
#[derive(Debug, Default)]
struct Gone {
    entries: u64,
    bytes: u64,
}

/// Builds the tree without what is lost.
fn build(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    old: &Snapshot,
    lost: &BTreeMap<BlockId, String>,
    accepted: &mut Accepted,
    now_secs: &dyn Fn() -> i64,
) -> Result<(TreeRoot, Gone)> {
    let mut left = Gone::default();
    let root = rebuild(repo, cache, op, now_secs, &mut |reader, push| {
        let mut looker = Looker::new(reader, lost);
        let (mut dropped, mut walk) = (HashSet::new(), Walk::default());
        let mut last: Option<Vec<u8>> = None;
        walk.each_entry(reader, &old.tree, &mut |path, entry| {
            let (blocks, what) = looker.entry(entry)?;
            // another name of a file that is lost is as lost
            let follows = entry.link.as_ref().is_some_and(|first| dropped.contains(first));
            let rises = last.as_deref().is_none_or(|l| path_order(l, path).is_lt());
            if blocks.is_empty() && what.is_none() && !follows && rises {
                last = Some(path.to_vec());
                if gone::holds(path) {
                    left.entries += 1;
                    left.bytes = left.bytes.saturating_add(entry.size);
                }
                return push(path, entry);
            }
            dropped.insert(path.to_vec());
            accepted.lost.push(path.to_vec());
            Ok(())
        })?;
        accepted.pieces = walk.unreadable;
        Ok(())
    })?;
    Ok((root, left))
}

/// Marks a snapshot that does not open as none, for ever: nothing can be had of it, and collectors stop
/// as long as it counts.
pub fn bury(repo: &Repository, id: &OpId) -> Result<()> {
    put_mark(repo, "kill", id)?;
    put_mark(repo, "dead", id)
}
