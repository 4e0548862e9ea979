//! Blocks that snapshots need and that have no good place get one.
//!
//! In: the places where verify found damage. Out: packs of this operation with the same blocks, by id, so
//! that old snapshots are whole again too. Sources, in this order: good blocks of quarantined packs are
//! moved out, sealed; blocks of another repository with the same keys; data blocks whose chunks are found
//! elsewhere (`chunks`), put together as they were. What is put together counts only if its id is that
//! of the block.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::chunks::Finder;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::gc::mover::{Moved, Mover};
use crate::id::{BlockId, MachineId, OpId, PackId};
use crate::keys::BlockKind;
use crate::operation::{OpKind, Operation};
use crate::pack::{self, BlockRow};
use crate::repository::{Repository, pass_over};
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
    /// Copied from the other repository.
    pub copied: usize,
    /// Put together from chunks.
    pub rebuilt: usize,
    /// Packs written.
    pub packs: u64,
    /// Bytes of packs and index objects written.
    pub bytes_stored: u64,
    /// Blocks that still have no good place.
    pub left: BTreeSet<BlockId>,
}

/// What is wrong, and where else to look.
#[derive(Debug, Clone, Copy)]
pub struct HealOptions<'a> {
    /// Places that hold something else than they should.
    pub bad: &'a BTreeSet<(PackId, BlockId)>,
    /// A repository with the same keys.
    pub other: Option<&'a Repository>,
    /// Trees that are looked into as those of snapshots are.
    pub trees: &'a [BlockId],
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
    let HealOptions { bad, other, trees } = *options;
    let mut ground = Ground::look(repo, None)?;
    let needs = crate::verify::needs(repo, &mut ground)?;
    let index = &ground.tables.index;
    let is_good = |at: &crate::Location| {
        !ground.quarantined.contains(&at.pack) && !bad.contains(&(at.pack, at.row.id))
    };
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
        finder.in_other_snapshots(&ground.snapshots, trees, &batch)?;
        for (id, row) in &batch {
            let Some(plain) = finder.assemble(row) else { continue };
            if writer.put(id, row, &plain)? {
                wanted.remove(id);
                healed.rebuilt += 1;
            }
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
        if writer.put(&id, row, &plain)? {
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
    fn put(&mut self, id: &BlockId, row: &BlockRow, plain: &[u8]) -> Result<bool> {
        let keys = self.repo.keys();
        if keys.block_id(row.kind, plain) != *id {
            return Ok(false);
        }
        // a table that lies about the chunks would be told by the seal: then the block has none
        let chunks: Vec<_> =
            row.chunks().unwrap_or_default().into_iter().map(|(id, _, len)| (id, len)).collect();
        let level = self.repo.config().params.zstd_level;
        let block = pack::seal_block(keys, self.repo.id(), row.kind, plain, &chunks, level)?;
        self.mover.put(&block.row, &block.sealed)?;
        Ok(true)
    }
}
