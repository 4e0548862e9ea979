//! Copy: snapshots of one repository into another, deduplicated.
//!
//! In: an open source, an open target, ids of snapshots. Out: the same trees in the target, each
//! committed by an operation of its own, as a push. Blocks are opened, and sealed for the target; what it has
//! already is only referred to. Chunks keep their borders, so that later pushes to the target
//! deduplicate against them where the chunkers agree. With the same keyring in both repositories ids stay
//! what they are.
//!
//! Each block is read once per run; memory is bounded by a few blocks and an id for
//! each.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use repo::keys::BlockKind;
use repo::{
    BlockId, ChunkId, Commit, Entry, Index, Map, OpId, OpKind, Operation, Packs, Reader,
    SealedBlock, Snapshot, TreeBuilder, blocks_named, rename_blocks, seal_block,
};

use crate::damaged::{DamagedSnapshot, is_damage};
use crate::error::{Error, Result};
use crate::session::Session;

/// Blocks that are opened and sealed together.
const BLOCKS_AT_ONCE: usize = 8;
/// Tries of a snapshot whose operation was ended by another client.
const ATTEMPTS_MAX: usize = 3;

/// What became of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// In the source.
    pub from: OpId,
    /// In the target.
    pub to: OpId,
    /// It was there before.
    pub was_there: bool,
    /// Bytes stored in the target for it.
    pub bytes_stored: u64,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Snapshots that are in the target now.
    pub copied: Vec<Copied>,
    /// Those that are not: the source has not all that they need.
    pub damaged: Vec<DamagedSnapshot>,
}

/// Copies snapshots, oldest first. One that the target has (the same push of the same machine, with no
/// less in it) is passed over; one that is damaged in the source does not stop the others. What is
/// pinned in the source is pinned in the target.
pub fn copy(
    from: &Session,
    to: &Session,
    snapshots: &[Snapshot],
    told: &mut dyn FnMut(&Copied),
    cancel: &AtomicBool,
) -> Result<Done> {
    to.repo.config().writable()?;
    if from.repo.id() == to.repo.id() {
        let reason = "source and target are the same repository".to_owned();
        return Err(repo::Error::Refused { reason }.into());
    }
    let _lock = to.state.lock()?;
    let (pinned, held) = (from.repo.pinned()?, to.repo.pinned()?);
    let mut there = to.snapshots()?;
    there.sort_by_key(entries); // of several the one that has most
    let there: HashMap<_, Snapshot> = there.into_iter().map(|s| (push_of(&s), s)).collect();
    let mut copier = Copier {
        reader: Reader::open(&from.repo, from.cache.as_ref())?,
        chunk_lens: from.repo.chunk_lengths(from.cache.as_ref())?,
        to,
        ids: HashMap::new(),
        cancel,
    };
    let mut snapshots = snapshots.to_vec();
    snapshots.sort_by_key(|s| (s.finished_nanos, s.id));
    let mut done = Done::default();
    for snapshot in &snapshots {
        let known = there.get(&push_of(snapshot)).filter(|s| entries(s) >= entries(snapshot));
        let copied = if let Some(known) = known {
            Copied { from: snapshot.id, to: known.id, was_there: true, bytes_stored: 0 }
        } else {
            let known =
                |id: &OpId| done.copied.iter().find(|one| one.from == *id).map(|one| one.to);
            let previous = snapshot.previous.as_ref().and_then(known);
            match copier.snapshot(snapshot, previous)? {
                Ok(copied) => copied,
                Err(damage) => {
                    done.damaged.push(DamagedSnapshot::new((snapshot.id, damage)));
                    continue;
                }
            }
        };
        if pinned.contains(&snapshot.id) && !held.contains(&copied.to) {
            to.repo.pin(&copied.to)?;
        }
        told(&copied);
        done.copied.push(copied);
    }
    Ok(done)
}

/// What tells one push from every other, in whatever repository its snapshot is.
pub(crate) fn push_of(snapshot: &Snapshot) -> ([u8; 16], u64, i64, i64) {
    (snapshot.machine.0, snapshot.counter, snapshot.started_nanos, snapshot.finished_nanos)
}

/// What a snapshot that took its place may have less of.
fn entries(snapshot: &Snapshot) -> u64 {
    snapshot.stats.entries.saturating_add(snapshot.stats.gone_entries)
}

struct Copier<'a> {
    reader: Reader<'a>,
    chunk_lens: HashMap<BlockId, Vec<u8>>,
    to: &'a Session,
    /// Ids of blocks in the target, by those in the source, as far as they are known.
    ids: HashMap<BlockId, BlockId>,
    cancel: &'a AtomicBool,
}

impl Copier<'_> {
    /// Copies one; damage of the source is told by the error inside.
    fn snapshot(&mut self, snapshot: &Snapshot, previous: Option<OpId>) -> Result<Result<Copied>> {
        for _ in 0..ATTEMPTS_MAX {
            let (to, id) = (self.to, OpId::random());
            let mut state = to.state.load()?;
            crate::push::finish_unfinished(to, &mut state)?;
            state.unfinished = Some(id.hex());
            to.state.save(&state)?;
            let now = to.clock.now_secs();
            let op = Operation::announce(&to.repo, id, OpKind::Push, to.machine_id, now)?;
            let known = op.survey(to.cache.as_ref())?.index;
            let now_secs = || to.clock.now_secs();
            let packs = Packs::new(&to.repo, to.cache.as_ref(), &op, 0, &now_secs);
            let mut target = Target { to, known: &known, packs };
            let tree = match self.tree(snapshot, &mut target) {
                // the target is only written to meanwhile: it is the source that is damaged
                Err(error) if is_damage(&error) => {
                    target.packs.finish()?;
                    op.finish_without_snapshot()?;
                    state.unfinished = None;
                    to.state.save(&state)?;
                    return Ok(Err(error));
                }
                other => other?,
            };
            let bytes_stored = target.packs.finish()?.0.bytes;
            let record = Snapshot {
                id,
                tree,
                previous,
                previous_hash: None,
                origin: Some(snapshot.id),
                ..snapshot.clone()
            };
            let (commit, _) = op.commit(&record)?;
            state.unfinished = None;
            to.state.save(&state)?;
            match commit {
                Commit::Acknowledged(_) => {
                    let (from, to) = (snapshot.id, id);
                    return Ok(Ok(Copied { from, to, was_there: false, bytes_stored }));
                }
                Commit::InDoubt => {
                    to.repo.forget_unless_pinned(&id)?;
                }
            }
        }
        Err(Error::Repo(repo::Error::Refused {
            reason: "this copy was stopped by another client three times; try again later".into(),
        }))
    }

    /// Brings a tree over: content first, then maps, then nodes.
    fn tree(&mut self, snapshot: &Snapshot, target: &mut Target<'_>) -> Result<BlockId> {
        let mut entries: Vec<(Vec<u8>, Entry)> = Vec::new();
        let (mut blocks, mut seen) = (Vec::new(), HashSet::new());
        self.reader.walk(&snapshot.tree, &mut |path, entry| {
            entries.push((path, entry));
            Ok(())
        })?;
        for (_, entry) in &entries {
            for id in self.content(&entry.map)? {
                if seen.insert(id) {
                    blocks.push(id);
                }
            }
        }
        self.data(&blocks, target)?;
        let keys = self.to.repo.keys();
        let mut tree = TreeBuilder::new(keys.tree_key());
        for (path, mut entry) in entries {
            entry.map = self.map(&entry.map, target)?;
            tree.push(&path, &entry, &mut |node| target.meta(BlockKind::Node, &node))?;
        }
        Ok(tree.finish(&mut |node| target.meta(BlockKind::Node, &node))?.id)
    }

    /// Data blocks that a map names and that are there. A base names blocks that its patches replaced;
    /// those may be gone.
    fn content(&self, map: &Map) -> Result<Vec<BlockId>> {
        let (mut out, mut absent) = (Vec::new(), HashSet::new());
        let mut add = |kind, coded: &[u8], owner: &str| -> Result<()> {
            for id in blocks_named(kind, coded).ok_or_else(|| no_map(owner))? {
                match self.reader.location(&id) {
                    Some(_) => out.push(id),
                    None => drop(absent.insert(id)),
                }
            }
            Ok(())
        };
        if map.base.is_none() {
            add(BlockKind::Map, &map.inline, "content map")?;
        }
        for (kind, id) in parts(map) {
            add(kind, &self.reader.read(&id)?, &format!("block {id}"))?;
        }
        if !absent.is_empty()
            && let Some(lost) = self.reader.extents(map)?.iter().find(|e| absent.contains(&e.block))
        {
            return Err(repo::Error::Missing { object: format!("block {}", lost.block) }.into());
        }
        Ok(out)
    }

    /// Copies data blocks that the target does not have.
    fn data(&mut self, blocks: &[BlockId], target: &mut Target<'_>) -> Result<()> {
        let keys = self.to.repo.keys();
        let missing = |id: &&BlockId| self.ids.get(*id).is_none_or(|theirs| !target.has(theirs));
        let wanted: Vec<BlockId> = blocks.iter().filter(missing).copied().collect();
        for some in wanted.chunks(BLOCKS_AT_ONCE) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let plains = self.reader.read_all(some)?;
            let theirs: Vec<BlockId> =
                plains.par_iter().map(|plain| keys.block_id(BlockKind::Data, plain)).collect();
            self.ids.extend(some.iter().copied().zip(theirs.iter().copied()));
            let mut fresh = Vec::new();
            for ((id, theirs), plain) in some.iter().zip(&theirs).zip(&plains) {
                if !target.has(theirs) {
                    fresh.push((id, plain));
                }
            }
            let seal = |(id, plain): &(&BlockId, &Vec<u8>)| {
                self.seal(BlockKind::Data, plain, &self.chunks(id, plain)?)
            };
            let sealed: Vec<SealedBlock> =
                fresh.par_iter().map(seal).collect::<repo::Result<_>>()?;
            for block in sealed {
                target.packs.put(&block.row, &block.sealed)?;
            }
        }
        Ok(())
    }

    /// The chunks of a data block, with their ids in the target.
    fn chunks(&self, id: &BlockId, plain: &[u8]) -> repo::Result<Vec<(ChunkId, u32)>> {
        let what = || repo::Error::Corrupt {
            object: format!("block {id}"),
            what: "its chunks do not fit its content".to_owned(),
        };
        let coded = self.chunk_lens.get(id).ok_or_else(what)?;
        let lens = repo::chunk_lens(coded).ok_or_else(what)?;
        let (mut chunks, mut rest) = (Vec::with_capacity(lens.len()), plain);
        for len in lens {
            let (chunk, after) = rest.split_at_checked(len as usize).ok_or_else(what)?;
            chunks.push((self.to.repo.keys().chunk_id(chunk), len));
            rest = after;
        }
        if rest.is_empty() { Ok(chunks) } else { Err(what()) }
    }

    fn seal(
        &self,
        kind: BlockKind,
        plain: &[u8],
        chunks: &[(ChunkId, u32)],
    ) -> repo::Result<SealedBlock> {
        let to = &self.to.repo;
        seal_block(to.keys(), to.id(), kind, plain, chunks, to.config().params.zstd_level)
    }

    /// The same map over the target's blocks.
    fn map(&mut self, map: &Map, target: &mut Target<'_>) -> Result<Map> {
        if map.base.is_none() {
            let inline = self.renamed(BlockKind::Map, &map.inline, "content map")?;
            return Ok(Map { inline, ..Map::default() });
        }
        let mut ids = Vec::new();
        for (kind, id) in parts(map) {
            if let Some(theirs) = self.ids.get(&id).filter(|theirs| target.has(theirs)) {
                ids.push(*theirs);
                continue;
            }
            let coded = self.reader.read(&id)?;
            let plain = self.renamed(kind, &coded, &format!("block {id}"))?;
            let theirs = target.meta(kind, &plain)?;
            self.ids.insert(id, theirs);
            ids.push(theirs);
        }
        let base = ids.remove(0);
        let patches = Some(ids).filter(|ids| !ids.is_empty());
        Ok(Map { base: Some(base), patches, ..Map::default() })
    }

    fn renamed(&self, kind: BlockKind, coded: &[u8], owner: &str) -> Result<Vec<u8>> {
        // a block that is nowhere is needed by nobody, and keeps a name that nobody has
        let name = |id: &BlockId| self.ids.get(id).copied().unwrap_or(*id);
        rename_blocks(kind, coded, name).ok_or_else(|| no_map(owner))
    }
}

/// The blocks a map consists of: its base, then its patches.
fn parts(map: &Map) -> Vec<(BlockKind, BlockId)> {
    let kind = |n| if n == 0 { BlockKind::Map } else { BlockKind::Patch };
    map.own_blocks().enumerate().map(|(n, id)| (kind(n), *id)).collect()
}

fn no_map(owner: &str) -> Error {
    let what = "it is no content map".to_owned();
    repo::Error::Corrupt { object: owner.to_owned(), what }.into()
}

/// What the target has, and the packs of one operation on it.
struct Target<'a> {
    to: &'a Session,
    known: &'a Index,
    packs: Packs<'a, 'a>,
}

impl Target<'_> {
    fn has(&self, id: &BlockId) -> bool {
        self.known.get(id).is_some() || self.packs.has(id)
    }

    /// Stores a node, map or patch unless it is there.
    fn meta(&mut self, kind: BlockKind, plain: &[u8]) -> repo::Result<BlockId> {
        let to = &self.to.repo;
        let id = to.keys().block_id(kind, plain);
        if !self.has(&id) {
            let level = to.config().params.zstd_level;
            let block = seal_block(to.keys(), to.id(), kind, plain, &[], level)?;
            self.packs.put(&block.row, &block.sealed)?;
        }
        Ok(id)
    }
}
