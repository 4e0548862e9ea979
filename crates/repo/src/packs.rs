//! Packs of a running operation: sealed blocks come in, packs and index objects go to the store.
//!
//! A pack is written when it is full, an index object after every [`PACKS_PER_INDEX`] packs, both only
//! after what they name was acknowledged. The hash of every sealed block is compared with its row once
//! more in the pack that is about to be written: what lies in memory for long may change there.

use std::collections::HashSet;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{BlockId, PackId};
use crate::limits::{PACK_MIXED_META_BYTES_MAX, PACKS_PER_INDEX};
use crate::operation::Operation;
use crate::pack::{self, BlockRow, PackTable, PackWriter};
use crate::repository::Repository;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Packs.
    pub packs: u64,
    /// Bytes of packs and index objects.
    pub bytes: u64,
}

/// Packs being filled, one for content and one for nodes, maps and patches.
pub struct Packs<'a, 'r> {
    repo: &'r Repository,
    cache: Option<&'a Cache>,
    op: &'a Operation<'r>,
    now_secs: &'a dyn Fn() -> i64,
    data: Option<PackWriter>,
    meta: Option<PackWriter>,
    next: u32,
    tables: Vec<PackTable>,
    written: HashSet<BlockId>,
    stored: Stored,
}

impl std::fmt::Debug for Packs<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packs").field("op", &self.op.id()).finish_non_exhaustive()
    }
}

impl<'a, 'r> Packs<'a, 'r> {
    /// None yet. `first` is the counter of the first pack: the operation may have others.
    pub fn new(
        repo: &'r Repository,
        cache: Option<&'a Cache>,
        op: &'a Operation<'r>,
        first: u32,
        now_secs: &'a dyn Fn() -> i64,
    ) -> Self {
        Self {
            repo,
            cache,
            op,
            now_secs,
            data: None,
            meta: None,
            next: first,
            tables: Vec::new(),
            written: HashSet::new(),
            stored: Stored::default(),
        }
    }

    /// True if the block was put in here.
    pub fn has(&self, id: &BlockId) -> bool {
        self.written.contains(id)
    }

    /// Adds a sealed block; one that is in already is not added again.
    pub fn put(&mut self, row: &BlockRow, sealed: &[u8]) -> Result<()> {
        if !self.written.insert(row.id) {
            return Ok(());
        }
        let slot = if row.kind.is_meta() { &mut self.meta } else { &mut self.data };
        let writer = slot.get_or_insert_with(|| {
            let n = self.next;
            self.next += 1;
            PackWriter::new(PackId { op: self.op.id(), n })
        });
        writer.push(row.clone(), sealed);
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
                    "block {} changed in memory; the memory of this machine may be faulty",
                    row.id
                );
                return Err(Error::Refused { reason });
            }
        }
        self.op.beat((self.now_secs)())?;
        self.repo.store().put(&table.pack().object_name(), vec![object])?;
        self.stored.packs += 1;
        self.stored.bytes += table.bytes;
        self.tables.push(table);
        if self.tables.len() >= PACKS_PER_INDEX { self.put_index() } else { Ok(()) }
    }

    fn put_index(&mut self) -> Result<()> {
        if !self.tables.is_empty() {
            let tables = std::mem::take(&mut self.tables);
            self.stored.bytes += self.op.put_index(tables, self.cache)?;
        }
        Ok(())
    }

    /// Writes what is open; little metadata goes into the last pack of content. Returns what was
    /// written, and the counter of the operation's next pack.
    pub fn finish(mut self) -> Result<(Stored, u32)> {
        match (self.data.take(), self.meta.take()) {
            (Some(mut data), Some(meta)) if meta.bytes() < PACK_MIXED_META_BYTES_MAX => {
                data.absorb(meta);
                self.upload(Some(data))?;
            }
            (data, meta) => {
                self.upload(data)?;
                self.upload(meta)?;
            }
        }
        self.put_index()?;
        Ok((self.stored, self.next))
    }
}
