//! A pusher: a small tree that changes, pushed as the engine pushes, with the repository's own
//! operations, packs and trees.

use std::collections::BTreeMap;
use std::sync::Arc;

use repo::keys::BlockKind;
use repo::{
    BlockId, Commit, Ended, Entry, Extent, Index, Kind, Map, OpId, OpKind, Operation, PackId,
    PackWriter, PushStats, Result, Snapshot, TreeBuilder, encode_extents, end_stale, seal_block,
};

use crate::actors::Actor;
use crate::oracle::Files;

/// Slots of small files; which content each has changes all the time.
const SLOTS: usize = 3;
/// Tries of a push that others ended.
const ATTEMPTS_MAX: usize = 3;

/// The source, and what a machine keeps in its state directory.
#[derive(Debug, Default)]
pub(crate) struct Pusher {
    slots: BTreeMap<usize, u64>,
    /// Letters of a larger file whose map has a base and patches; it only grows, then starts again.
    grown: Vec<u64>,
    unfinished: Option<OpId>,
    previous: Option<OpId>,
    counter: u64,
}

/// All blocks that a tree needs, in the order in which they may be stored.
#[derive(Default)]
struct Needed {
    order: Vec<BlockId>,
    plain: BTreeMap<BlockId, (BlockKind, Vec<u8>)>,
}

impl Needed {
    fn add(&mut self, actor: &Actor, kind: BlockKind, plain: Vec<u8>) -> BlockId {
        let id = actor.repo.keys().block_id(kind, &plain);
        if self.plain.insert(id, (kind, plain)).is_none() {
            self.order.push(id);
        }
        id
    }
}

/// The content of a letter: small ones, and some that make it worth while to empty a pack.
fn content(letter: u64) -> Vec<u8> {
    let len = if letter % 3 == 1 { 24_000 } else { 60 + usize::try_from(letter).unwrap() };
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&letter.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl Pusher {
    /// The source changes.
    pub(crate) fn evolve(&mut self, actor: &Actor) {
        let mut world = actor.sim.lock();
        let letters = world.profile.letters;
        for _ in 0..world.rng.between(0, 2) {
            let slot = world.rng.index(SLOTS);
            if world.rng.chance(1, 4) {
                self.slots.remove(&slot);
            } else {
                let letter = world.rng.below(letters);
                self.slots.insert(slot, letter);
            }
        }
        if world.rng.chance(1, 4) {
            if self.grown.len() > 3 || world.rng.chance(1, 5) {
                self.grown.clear();
            }
            let letter = world.rng.below(letters);
            self.grown.push(letter);
        }
    }

    /// One run of the program.
    pub(crate) fn push(&mut self, actor: &Actor) -> Result<()> {
        let repo = &actor.repo;
        if let Some(old) = self.unfinished {
            if end_stale(repo, &old)? == Ended::Committed {
                self.previous = Some(old);
            }
            self.unfinished = None;
        }
        let mut doubtful = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let id = actor.fresh_id();
            self.unfinished = Some(id);
            actor.note(|| format!("push {id}: {:?} {:?}", self.slots, self.grown));
            let op =
                Operation::announce(repo, id, OpKind::Push, actor.machine(), actor.now_secs())?;
            let known = op.survey(None)?.index;
            actor.maybe_pause();
            let (needed, tree, files) = self.tree(actor)?;
            self.store(actor, &op, &known, &needed)?;
            if actor.chance(1, 12) {
                op.finish_without_snapshot()?;
                self.unfinished = None;
                return Ok(());
            }
            actor.maybe_pause();
            op.beat(actor.now_secs())?;
            if actor.chance(1, 4) && op.is_killed()? {
                continue;
            }
            let files = Arc::new(files);
            actor.sim.lock().truth.sent(id, files);
            let (commit, _) = op.commit(&self.snapshot(actor, id, tree))?;
            match commit {
                Commit::Acknowledged(_) => {
                    actor.acknowledged(id);
                    self.previous = Some(id);
                    self.counter += 1;
                    // the machine may go down before its state says so
                    if actor.maybe_crash() {
                        return Ok(());
                    }
                    self.unfinished = None;
                    for old in doubtful {
                        repo.forget_unless_pinned(&old)?;
                    }
                    return Ok(());
                }
                Commit::InDoubt => doubtful.push(id),
            }
        }
        Ok(())
    }

    /// What the tree needs, its root, and what it holds.
    fn tree(&self, actor: &Actor) -> Result<(Needed, BlockId, Files)> {
        let (mut needed, mut files, mut entries) = (Needed::default(), Files::new(), Vec::new());
        let letter = |needed: &mut Needed, letter: u64| {
            let plain = content(letter);
            let len = u32::try_from(plain.len()).expect("small");
            (
                Extent {
                    block: needed.add(actor, BlockKind::Data, plain.clone()),
                    offset: 0,
                    len,
                    pages: false,
                },
                plain,
            )
        };
        if let Some((first, rest)) = self.grown.split_first() {
            let (extent, mut bytes) = letter(&mut needed, *first);
            let base = needed.add(actor, BlockKind::Map, encode_extents(&[extent]));
            let mut patches = Vec::new();
            for more in rest {
                let (extent, plain) = letter(&mut needed, *more);
                let patch = append(bytes.len() as u64, extent);
                patches.push(needed.add(actor, BlockKind::Patch, patch));
                bytes.extend_from_slice(&plain);
            }
            let map = Map { base: Some(base), patches: Some(patches), ..Map::default() };
            entries.push((b"agent/db".to_vec(), file(&bytes, map)));
            files.insert(b"agent/db".to_vec(), bytes);
        }
        for (slot, of) in &self.slots {
            let (extent, plain) = letter(&mut needed, *of);
            let map = Map { inline: encode_extents(&[extent]), ..Map::default() };
            let path = format!("agent/f{slot}").into_bytes();
            entries.push((path.clone(), file(&plain, map)));
            files.insert(path, plain);
        }
        let mut builder = TreeBuilder::new(actor.repo.keys().tree_key());
        let mut sink = |node: Vec<u8>| Ok(needed.add(actor, BlockKind::Node, node));
        for (path, entry) in &entries {
            builder.push(path, entry, &mut sink)?;
        }
        let root = builder.finish(&mut sink)?.id;
        Ok((needed, root, files))
    }

    /// Stores what may not be reused: everything the snapshot reaches is looked up, also what the
    /// snapshot before had.
    #[expect(clippy::unused_self, reason = "that it trusts nothing of its own is the point")]
    fn store(
        &self,
        actor: &Actor,
        op: &Operation<'_>,
        known: &Index,
        needed: &Needed,
    ) -> Result<()> {
        let repo = &actor.repo;
        let fresh: Vec<&BlockId> =
            needed.order.iter().filter(|id| known.get(id).is_none()).collect();
        let packs_max = if actor.chance(1, 2) { 1 } else { 3 };
        let per_pack = fresh.len().div_ceil(packs_max).max(1);
        let at_once = actor.chance(1, 2);
        let mut tables = Vec::new();
        for (n, blocks) in (0..).zip(fresh.chunks(per_pack)) {
            let mut writer = PackWriter::new(PackId { op: op.id(), n });
            for id in blocks {
                let (kind, plain) = &needed.plain[id];
                let len = u32::try_from(plain.len()).expect("small");
                let chunks = match kind {
                    BlockKind::Data => vec![(repo.keys().chunk_id(plain), len)],
                    _ => Vec::new(),
                };
                let block = seal_block(repo.keys(), repo.id(), *kind, plain, &chunks, 1)?;
                writer.push(block.row, &block.sealed);
            }
            let (table, object) = writer.finish(repo.keys(), repo.id());
            repo.store().put(&table.pack().object_name(), vec![object])?;
            tables.push(table);
            if at_once {
                op.put_index(std::mem::take(&mut tables), None)?;
            }
        }
        if !tables.is_empty() {
            op.put_index(tables, None)?;
        }
        Ok(())
    }

    fn snapshot(&self, actor: &Actor, id: OpId, tree: BlockId) -> Snapshot {
        Snapshot {
            id,
            machine: actor.machine(),
            host: "host".into(),
            user: "user".into(),
            started_nanos: actor.now_secs(),
            finished_nanos: actor.now_secs(),
            counter: self.counter + 1,
            previous: self.previous,
            previous_hash: None,
            roots: Vec::new(),
            tree,
            stats: PushStats::default(),
            program: "0".into(),
            tags: Vec::new(),
            os: "linux".into(),
            home: None,
            reason: None,
            groups: Vec::new(),
            damaged: Vec::new(),
            origin: None,
            instead_of: None,
            gone_roots: Vec::new(),
            imported: None,
        }
    }
}

fn file(content: &[u8], map: Map) -> Entry {
    Entry {
        mode: 0o600,
        size: content.len() as u64,
        hash: *blake3::hash(content).as_bytes(),
        map,
        ..Entry::new(Kind::File)
    }
}

/// A patch that appends one extent to `old_bytes`: new size, one splice, gap, length, extents.
fn append(old_bytes: u64, extent: Extent) -> Vec<u8> {
    let mut out = Vec::new();
    let len = u64::from(extent.len);
    for n in [old_bytes + len, 1, old_bytes, len] {
        let mut n = n;
        while n >= 0x80 {
            out.push(u8::try_from(n & 0x7f).expect("seven bits") | 0x80);
            n >>= 7;
        }
        out.push(u8::try_from(n).expect("seven bits"));
    }
    out.extend_from_slice(&encode_extents(&[extent]));
    out
}
