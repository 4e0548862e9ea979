//! A snapshot once more, without some of its entries: a push of its tree under a fresh id.
//!
//! In: a snapshot, and which entries stay. Out: a snapshot that says all that the old one said but the
//! tree, and that it took its place. Everything its tree reaches counts as reuse and is checked as that
//! of any push. The old one is left: whoever asked forgets it then.

use crate::cache::Cache;
use crate::error::Result;
use crate::fetch::Reader;
use crate::gc::mover::Mover;
use crate::id::{BlockId, MachineId, OpId};
use crate::keys::BlockKind;
use crate::operation::{Commit, OpKind, Operation};
use crate::pack;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::tree::{Entry, TreeBuilder, TreeRoot};
use crate::undelete::carry;

/// Which entries stay, and what the record says then.
pub trait Edit {
    /// Whether an entry stays. Asked in path order, each once.
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> bool;
    /// Puts the record right once the tree is done.
    fn amend(&mut self, snapshot: &mut Snapshot);
}

/// Makes the snapshot under the id `fresh`, which the caller wrote to its own state first.
/// [`Commit::InDoubt`] means that somebody ended this operation: again, under another id.
pub fn without(
    repo: &Repository,
    cache: Option<&Cache>,
    old: &Snapshot,
    edit: &mut dyn Edit,
    fresh: OpId,
    machine: MachineId,
    now_secs: &dyn Fn() -> i64,
) -> Result<(Commit, Snapshot)> {
    repo.config().writable()?;
    let op = Operation::announce(repo, fresh, OpKind::Push, machine, now_secs())?;
    let tree = match build(repo, cache, &op, &old.tree, edit, now_secs) {
        Ok(tree) => tree,
        Err(error) => {
            op.finish_without_snapshot()?;
            return Err(error);
        }
    };
    let instead_of = Some(old.instead_of.unwrap_or(old.id));
    let mut snapshot = Snapshot { id: fresh, tree, instead_of, ..old.clone() };
    edit.amend(&mut snapshot);
    let (commit, _) = op.commit(&snapshot)?;
    Ok((commit, snapshot))
}

fn build(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    old: &BlockId,
    edit: &mut dyn Edit,
    now_secs: &dyn Fn() -> i64,
) -> Result<BlockId> {
    let root = rebuild(repo, cache, op, now_secs, &mut |reader, push| {
        reader.walk(old, &mut |path, entry| {
            if edit.keeps(&path, &entry) { push(&path, &entry) } else { Ok(()) }
        })
    })?;
    Ok(root.id)
}

/// Takes an entry into a tree, in path order.
pub(crate) type Push<'p> = dyn FnMut(&[u8], &Entry) -> Result<()> + 'p;

/// Builds a tree of entries that are in the repository: `fill` gives them, in path order. Nodes that nobody
/// may rely on are stored anew, and so are all blocks that the tree reaches.
pub(crate) fn rebuild(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    now_secs: &dyn Fn() -> i64,
    fill: &mut dyn FnMut(&Reader<'_>, &mut Push<'_>) -> Result<()>,
) -> Result<TreeRoot> {
    let reusable = op.survey(cache)?.index;
    let reader = Reader::open(repo, cache)?;
    let mut mover = Mover::new(repo, cache, op, 0, now_secs);
    let level = repo.config().params.zstd_level;
    let mut sink = |plain: Vec<u8>| {
        let id = repo.keys().block_id(BlockKind::Node, &plain);
        if reusable.get(&id).is_none() && !mover.has(&id) {
            let (keys, repo_id) = (repo.keys(), repo.id());
            let block = pack::seal_block(keys, repo_id, BlockKind::Node, &plain, &[], level)?;
            mover.put(&block.row, &block.sealed)?;
        }
        Ok(id)
    };
    let mut builder = TreeBuilder::new(repo.keys().tree_key());
    fill(&reader, &mut |path, entry| builder.push(path, entry, &mut sink))?;
    let root = builder.finish(&mut sink)?;
    let (_, next) = mover.finish()?;
    carry(repo, cache, op, next, &reusable, &root.id, now_secs)?;
    Ok(root)
}
