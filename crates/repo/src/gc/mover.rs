//! Moves sealed blocks into new packs of a running operation, without opening them.
//!
//! In: tables of packs and which of their blocks are wanted. Out: packs and index objects in the
//! store. The hash of every sealed block is compared with its row after it was read, and once more in
//! the pack that is about to be written; a block that does not fit is not moved. Nodes, maps and patches
//! have packs of their own, as those of a push.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{BlockId, PackId};
use crate::limits::PACKS_PER_INDEX;
use crate::operation::Operation;
use crate::pack::{self, BlockRow, PackTable, PackWriter};
use crate::repository::Repository;

/// Stored bytes between two wanted blocks that are read along rather than asked for apart.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Stored bytes of one ranged read, at most, unless one block is larger.
const RUN_BYTES_MAX: u64 = 8 << 20;

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Blocks that have a new place.
    pub blocks: u64,
    /// Their sealed bytes.
    pub bytes: u64,
    /// Bytes read for that.
    pub bytes_read: u64,
    /// Packs written.
    pub packs: u64,
    /// Bytes of packs and index objects written.
    pub bytes_stored: u64,
}

/// Moves blocks.
pub(crate) struct Mover<'a, 'r> {
    repo: &'r Repository,
    cache: Option<&'a Cache>,
    op: &'a Operation<'r>,
    now_secs: &'a dyn Fn() -> i64,
    data: Option<PackWriter>,
    meta: Option<PackWriter>,
    packs_count: u32,
    tables: Vec<PackTable>,
    done: HashSet<BlockId>,
    moved: Moved,
}

impl<'a, 'r> Mover<'a, 'r> {
    /// `first_pack` is the counter of the first pack it writes: the operation may have others.
    pub(crate) fn new(
        repo: &'r Repository,
        cache: Option<&'a Cache>,
        op: &'a Operation<'r>,
        first_pack: u32,
        now_secs: &'a dyn Fn() -> i64,
    ) -> Self {
        Self {
            repo,
            cache,
            op,
            now_secs,
            data: None,
            meta: None,
            packs_count: first_pack,
            tables: Vec::new(),
            done: HashSet::new(),
            moved: Moved::default(),
        }
    }

    /// True if the block was moved by this.
    pub(crate) fn has(&self, id: &BlockId) -> bool {
        self.done.contains(id)
    }

    /// Moves the wanted blocks of a pack, those not moved yet. What cannot be read or has other bytes
    /// than its row says is left; an error of the store that is no sign of damage ends it.
    pub(crate) fn take(
        &mut self,
        table: &PackTable,
        wanted: &dyn Fn(&BlockId) -> bool,
    ) -> Result<()> {
        let rows: Vec<(u64, &BlockRow)> = table
            .placed()
            .filter(|(_, row)| !self.done.contains(&row.id) && wanted(&row.id))
            .collect();
        for run in runs(&rows) {
            let start = run[0].0;
            let end = run.last().map_or(start, |(at, row)| at + u64::from(row.stored_len));
            let Some(bytes) = self.read(&table.pack(), start..end)? else { continue };
            self.moved.bytes_read += end - start;
            for (at, row) in run {
                let from = usize::try_from(at - start).expect("a run is short");
                let sealed = &bytes[from..from + row.stored_len as usize];
                if pack::sealed_hash(sealed) == row.sealed_hash {
                    self.put(row, sealed)?;
                }
            }
        }
        Ok(())
    }

    /// `None` for what is not there.
    fn read(&self, pack: &PackId, range: Range<u64>) -> Result<Option<Bytes>> {
        match self.repo.store().get_range(&pack.object_name(), range) {
            Err(store::Error::NotFound { .. } | store::Error::Short { .. }) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    /// Puts a sealed block into a pack.
    pub(crate) fn put(&mut self, row: &BlockRow, sealed: &[u8]) -> Result<()> {
        let meta = row.kind.is_meta();
        let slot = if meta { &mut self.meta } else { &mut self.data };
        let writer = slot.get_or_insert_with(|| {
            let n = self.packs_count;
            self.packs_count += 1;
            PackWriter::new(PackId { op: self.op.id(), n })
        });
        writer.push(row.clone(), sealed);
        self.done.insert(row.id);
        self.moved.blocks += 1;
        self.moved.bytes += u64::from(row.stored_len);
        if writer.is_full() {
            let full = slot.take();
            self.upload(full)?;
        }
        Ok(())
    }

    fn upload(&mut self, writer: Option<PackWriter>) -> Result<()> {
        let Some(writer) = writer else { return Ok(()) };
        let (table, object) = writer.finish(self.repo.keys(), self.repo.id());
        for (at, row) in table.placed() {
            let from = usize::try_from(at).expect("a pack is in memory");
            let sealed = object.get(from..from + row.stored_len as usize);
            if sealed.map(pack::sealed_hash) != Some(row.sealed_hash) {
                let reason = format!(
                    "block {} changed while it was copied; the memory of this machine may be faulty",
                    row.id
                );
                return Err(Error::Refused { reason });
            }
        }
        self.op.beat((self.now_secs)())?;
        self.repo.store().put(&table.pack().object_name(), vec![object])?;
        self.moved.packs += 1;
        self.moved.bytes_stored += table.bytes;
        self.tables.push(table);
        if self.tables.len() >= PACKS_PER_INDEX { self.put_index() } else { Ok(()) }
    }

    fn put_index(&mut self) -> Result<()> {
        if !self.tables.is_empty() {
            let tables = std::mem::take(&mut self.tables);
            self.moved.bytes_stored += self.op.put_index(tables, self.cache)?;
        }
        Ok(())
    }

    /// Writes what is open. Returns what was moved, and the counter of the operation's next pack.
    pub(crate) fn finish(mut self) -> Result<(Moved, u32)> {
        let (data, meta) = (self.data.take(), self.meta.take());
        self.upload(data)?;
        self.upload(meta)?;
        self.put_index()?;
        Ok((self.moved, self.packs_count))
    }
}

/// Cuts rows in pack order into runs that one ranged read covers.
fn runs<'t>(rows: &'t [(u64, &'t BlockRow)]) -> Vec<&'t [(u64, &'t BlockRow)]> {
    let end = |i: usize| rows[i].0 + u64::from(rows[i].1.stored_len);
    let (mut out, mut first) = (Vec::new(), 0);
    for i in 1..=rows.len() {
        let ends = i == rows.len()
            || rows[i].0 > end(i - 1) + GAP_BYTES_MAX
            || end(i) - rows[first].0 > RUN_BYTES_MAX;
        if ends {
            out.push(&rows[first..i]);
            first = i;
        }
    }
    out
}

impl Moved {
    /// Adds what another part of the same run moved.
    pub(crate) fn add(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.bytes_read += other.bytes_read;
        self.packs += other.packs;
        self.bytes_stored += other.bytes_stored;
    }
}
