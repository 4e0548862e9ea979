//! Moves sealed blocks into new packs of a running operation, without opening them.
//!
//! In: tables of packs and which of their blocks are wanted. Out: packs and index objects in the
//! store ([`crate::packs`]). The hash of every sealed block is compared with its row after it was read;
//! a block that does not fit is not moved.

use std::ops::Range;

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::Result;
use crate::id::{BlockId, PackId};
use crate::operation::Operation;
use crate::pack::{self, BlockRow, PackTable};
use crate::packs::Packs;
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
    packs: Packs<'a, 'r>,
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
        let packs = Packs::new(repo, cache, op, first_pack, now_secs);
        Self { repo, packs, moved: Moved::default() }
    }

    /// True if the block was moved by this.
    pub(crate) fn has(&self, id: &BlockId) -> bool {
        self.packs.has(id)
    }

    /// Moves the wanted blocks of a pack, those not moved yet. What cannot be read or has other bytes
    /// than its row says is left; an error of the store that is no sign of damage ends it.
    pub(crate) fn take(
        &mut self,
        table: &PackTable,
        wanted: &dyn Fn(&BlockId) -> bool,
    ) -> Result<()> {
        let rows: Vec<(u64, &BlockRow)> =
            table.placed().filter(|(_, row)| !self.packs.has(&row.id) && wanted(&row.id)).collect();
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
        self.packs.put(row, sealed)?;
        self.moved.blocks += 1;
        self.moved.bytes += u64::from(row.stored_len);
        Ok(())
    }

    /// Writes what is open. Returns what was moved, and the counter of the operation's next pack.
    pub(crate) fn finish(self) -> Result<(Moved, u32)> {
        let (stored, next) = self.packs.finish()?;
        Ok((Moved { packs: stored.packs, bytes_stored: stored.bytes, ..self.moved }, next))
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
