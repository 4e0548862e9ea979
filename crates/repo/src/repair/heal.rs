//! Blocks that snapshots need and that have no good place get one.
//!
//! In: the places where verify found damage. Out: packs of this operation with the same blocks, by id, so
//! that old snapshots are whole again too. Sources, in this order: good blocks of quarantined packs are
//! moved out, sealed; those of old versions of packs that the storage keeps (`old`); blocks of another repository with the same keys; data blocks whose chunks are found
//! elsewhere (`chunks`), put together as they were; base maps and patches that can be coded again (`maps`).
//! What is put together counts only if its id is that of the block.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::chunks::Finder;
use super::{maps, old};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::gc::mover::{Moved, Mover};
use crate::id::{BlockId, ChunkId, MachineId, OpId, PackId};
use crate::index::Location;
use crate::keys::BlockKind;
use crate::map::Extent;
use crate::operation::{OpKind, Operation};
use crate::pack::{self, BlockRow};
use crate::repository::{Repository, pass_over};
use crate::snapshot::Snapshot;
use crate::tree::Entry;
use crate::verify::ground::Ground;
use crate::verify::needs::is_damage;

/// Plaintext of lost blocks that is held in memory at a time.
const BATCH_BYTES_MAX: u64 = 256 << 20;

/// What was made again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healed {
    /// Blocks that had no good place.
    pub wanted: usize,
    /// Moved out of quarantined packs.
    pub moved: usize,
    /// Moved out of old versions of packs.
    pub unhidden: usize,
    /// Copied from the other repository.
    pub copied: usize,
    /// Put together from chunks.
    pub rebuilt: usize,
    /// Base maps and patches that were coded again.
    pub recoded: usize,
    /// Packs written.
    pub packs: u64,
    /// Bytes of packs and index objects written.
    pub bytes_stored: u64,
    /// Blocks that still have no good place.
    pub left: BTreeSet<BlockId>,
}

/// What a machine remembers of a file: its entry in the last snapshot it made, and its extents.
pub type Remembered = (Entry, Vec<Extent>);

/// What is wrong, and where else to look.
#[derive(Clone, Copy)]
pub struct HealOptions<'a> {
    /// Places that hold something else than they should.
    pub bad: &'a BTreeSet<(PackId, BlockId)>,
    /// A repository with the same keys.
    pub other: Option<&'a Repository>,
    /// Look into old versions of packs too, which the storage must keep.
    pub old_versions: bool,
    /// Trees that are looked into as those of snapshots are.
    pub trees: &'a [BlockId],
    /// What this machine remembers of the file at a path.
    pub remembered: &'a dyn Fn(&[u8]) -> Option<Remembered>,
}

impl<'a> HealOptions<'a> {
    /// Looks into nothing but the repository.
    pub fn new(bad: &'a BTreeSet<(PackId, BlockId)>) -> Self {
        Self { bad, other: None, old_versions: false, trees: &[], remembered: &|_| None }
    }
}

impl std::fmt::Debug for HealOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bad = self.bad.len();
        f.debug_struct("HealOptions").field("bad", &bad).finish_non_exhaustive()
    }
}

/// Makes again what can be, as the operation `id`, which must be fresh.
pub fn heal(
    repo: &Repository,
    cache: Option<&Cache>,
    id: OpId,
    machine: MachineId,
    options: &HealOptions<'_>,
    now_secs: &dyn Fn() -> i64,
) -> Result<Healed> {
    repo.config().writable()?;
    if options.other.is_some_and(|other| other.keys().keyring() != repo.keys().keyring()) {
        let reason = "the other repository has other keys: its blocks have other names".to_owned();
        return Err(Error::Refused { reason });
    }
    let op = Operation::announce(repo, id, OpKind::Gc, machine, now_secs())?;
    let done = run(repo, cache, &op, options, now_secs);
    let ended = op.finish_without_snapshot();
    let healed = done?;
    ended.map(|()| healed)
}

/// Heals until there is no more to be had: what lies behind a lost node is known only once that is read.
fn run(
    repo: &Repository,
    cache: Option<&Cache>,
    op: &Operation<'_>,
    options: &HealOptions<'_>,
    now_secs: &dyn Fn() -> i64,
) -> Result<Healed> {
    let mut healed = Healed::default();
    let mut first_pack = 0;
    loop {
        let mut writer = Writer { repo, mover: Mover::new(repo, cache, op, first_pack, now_secs) };
        let before = std::mem::take(&mut healed.left);
        round(repo, cache, options, &before, &mut writer, &mut healed)?;
        let (moved, next): (Moved, u32) = writer.mover.finish()?;
        healed.packs += moved.packs;
        healed.bytes_stored += moved.bytes_stored;
        first_pack = next;
        if moved.packs == 0 {
            return Ok(healed);
        }
    }
}

/// One round. `before` are blocks that an earlier one looked for in vain.
fn round(
    repo: &Repository,
    cache: Option<&Cache>,
    options: &HealOptions<'_>,
    before: &BTreeSet<BlockId>,
    writer: &mut Writer<'_, '_>,
    healed: &mut Healed,
) -> Result<()> {
    let HealOptions { bad, other, old_versions, trees, remembered } = *options;
    let mut ground = Ground::look(repo, None)?;
    let needs = crate::verify::needs(repo, &mut ground)?;
    let index = &ground.tables.index;
    let unusable = ground.quarantined.clone();
    let is_good =
        |at: &Location| !unusable.contains(&at.pack) && !bad.contains(&(at.pack, at.row.id));
    let has_place = |id: &&BlockId| ground.places(index, id).any(is_good);
    let mut wanted: BTreeSet<BlockId> =
        needs.blocks.iter().filter(|id| !has_place(id)).copied().collect();
    if !needs.unreadable.is_empty() {
        // what hangs below a lost node is not known: it may be any block that has no good place
        let data = index.blocks().iter().filter(|at| at.row.kind == BlockKind::Data);
        wanted.extend(data.map(|at| &at.row.id).filter(|id| !has_place(id)));
    }
    healed.wanted += wanted.difference(before).count();
    if wanted.is_empty() {
        return Ok(());
    }
    let quarantined: BTreeSet<PackId> =
        ground.quarantined.iter().filter(|pack| ground.packs.contains_key(pack)).copied().collect();
    ground.tables.each_table_of(repo, cache, &quarantined, &mut |table| {
        let is_wanted = |id: &BlockId| wanted.contains(id) && !bad.contains(&(table.pack(), *id));
        writer.mover.take(table, &is_wanted)
    })?;
    let count = wanted.len();
    wanted.retain(|id| !writer.mover.has(id));
    healed.moved += count - wanted.len();
    if old_versions {
        let count = wanted.len();
        old::take(repo, cache, &|id| wanted.contains(id), &mut writer.mover)?;
        wanted.retain(|id| !writer.mover.has(id));
        healed.unhidden += count - wanted.len();
    }
    let mut rows = rows(repo, cache, &wanted)?;
    if let Some(other) = other {
        copy(other, writer, &mut wanted, &mut rows, healed)?;
    }
    let reader = crate::verify::reader(repo, &mut ground);
    let lost: HashSet<BlockId> = wanted.iter().copied().collect();
    rows.retain(|id, row| lost.contains(id) && row.kind == BlockKind::Data);
    while !rows.is_empty() {
        let batch = take_batch(&mut rows);
        let mut finder = Finder::new(repo, &reader, &batch);
        finder.in_other_blocks(cache, &lost)?;
        finder.in_other_snapshots(&ground.snapshots, trees, remembered, &batch)?;
        for (id, row) in &batch {
            let Some(plain) = finder.assemble(row) else { continue };
            if writer.put(id, row.kind, &chunks_of(row), &plain)? {
                wanted.remove(id);
                healed.rebuilt += 1;
            }
        }
    }
    // maps that no tree shows as long as a node of it is lost count too: the next push needs them
    let is_lost =
        |id: &BlockId| !writer.mover.has(id) && !ground.places(&reader.index(), id).any(is_good);
    let roots: Vec<&BlockId> = trees.iter().chain(newest_first(&ground.snapshots)).collect();
    let (keys, trees, is_lost) = (repo.keys(), roots.as_slice(), &is_lost);
    let places = maps::Places { keys, reader: &reader, trees, remembered, is_lost };
    let recoded = maps::recode(&places)?;
    for (id, (kind, plain)) in recoded {
        if writer.put(&id, kind, &[], &plain)? {
            wanted.remove(&id);
            healed.recoded += 1;
        }
    }
    healed.left = wanted;
    Ok(())
}

/// The rows of blocks, with their chunks, from whatever table has them.
fn rows(
    repo: &Repository,
    cache: Option<&Cache>,
    wanted: &BTreeSet<BlockId>,
) -> Result<BTreeMap<BlockId, BlockRow>> {
    let mut rows = BTreeMap::new();
    repo.each_index_object(cache, &mut pass_over, &mut |listed| {
        for row in listed.object.packs.into_iter().flat_map(|table| table.blocks) {
            if wanted.contains(&row.id) {
                rows.entry(row.id).or_insert(row);
            }
        }
        Ok(())
    })?;
    Ok(rows)
}

/// As many rows as may be worked on together.
fn take_batch(rows: &mut BTreeMap<BlockId, BlockRow>) -> BTreeMap<BlockId, BlockRow> {
    let (mut batch, mut bytes) = (BTreeMap::new(), 0);
    while let Some(entry) = rows.first_entry() {
        bytes += u64::from(entry.get().plain_len);
        if !batch.is_empty() && bytes > BATCH_BYTES_MAX {
            break;
        }
        let (id, row) = entry.remove_entry();
        batch.insert(id, row);
    }
    batch
}

/// Copies blocks from another repository.
fn copy(
    other: &Repository,
    writer: &mut Writer<'_, '_>,
    wanted: &mut BTreeSet<BlockId>,
    rows: &mut BTreeMap<BlockId, BlockRow>,
    healed: &mut Healed,
) -> Result<()> {
    for (id, row) in self::rows(other, None, wanted)? {
        rows.entry(id).or_insert(row);
    }
    let reader = Reader::open(other, None)?;
    for id in wanted.clone() {
        let Some(row) = rows.get(&id) else { continue };
        let plain = match reader.read(&id) {
            Ok(plain) => plain,
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error),
        };
        if writer.put(&id, row.kind, &chunks_of(row), &plain)? {
            wanted.remove(&id);
            healed.copied += 1;
        }
    }
    Ok(())
}

/// Seals blocks and puts them into packs of the operation.
struct Writer<'a, 'r> {
    repo: &'r Repository,
    mover: Mover<'a, 'r>,
}

impl Writer<'_, '_> {
    /// Seals a block again, if its bytes are those of its id.
    fn put(
        &mut self,
        id: &BlockId,
        kind: BlockKind,
        chunks: &[(ChunkId, u32)],
        plain: &[u8],
    ) -> Result<bool> {
        let keys = self.repo.keys();
        if keys.block_id(kind, plain) != *id {
            return Ok(false);
        }
        let level = self.repo.config().params.zstd_level;
        let block = pack::seal_block(keys, self.repo.id(), kind, plain, chunks, level)?;
        self.mover.put(&block.row, &block.sealed)?;
        Ok(true)
    }
}

/// The chunks that a row names. A table that lies about them would be told by the seal: then the block
/// has none.
fn chunks_of(row: &BlockRow) -> Vec<(ChunkId, u32)> {
    row.chunks().unwrap_or_default().into_iter().map(|(id, _, len)| (id, len)).collect()
}

/// The trees of snapshots, the newest first.
pub(super) fn newest_first(snapshots: &[Snapshot]) -> impl Iterator<Item = &BlockId> {
    let mut newest: Vec<&Snapshot> = snapshots.iter().collect();
    newest.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.finished_nanos, snapshot.id)));
    newest.into_iter().map(|snapshot| &snapshot.tree)
}
