//! Operations: the push protocol, lock-free, on PUT, GET, DELETE and LIST alone.
//!
//! ```text
//! P1  PUT op/<id>                         announce
//! P2  LIST gc/, read new lists            C: condemned and quarantined packs
//! P3  LIST index/, read new tables        I
//! P4  LIST packs/
//!     reusable(block): some pack of I holds it that is not in C and that this LIST shows
//! P5  PUT packs, then PUT index/0-<id>-<n>
//! P7  PUT snap/<id>
//! P8  GET kill/<id>: absent -> acknowledged; present -> in doubt: all again under a new id
//! ```
//! The order P1, P2, P3, P4 is part of the format. Everything a new snapshot reaches counts as
//! reuse: data blocks, nodes, maps and patches, also those of entries that were not read again.
//! An operation is ended if `snap/`, `end/`, `dead/` or `forgot/` exists for it, or there is no `op/`.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::cache::Cache;
use crate::error::Result;
use crate::gc::lists::{Lists, Wanted};
use crate::id::{MachineId, OpId};
use crate::index::{self, Index, IndexObject};
use crate::limits::{HEARTBEAT_SECS, INDEX_OBJECT_BYTES_TARGET};
use crate::object::{self, ObjectKind};
use crate::pack::PackTable;
use crate::repository::{Repository, pass_over};
use crate::snapshot::Snapshot;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum OpKind {
    /// A push.
    #[n(0)]
    Push,
    /// A garbage collection.
    #[n(1)]
    Gc,
    /// A reader that pins what it reads.
    #[n(2)]
    Read,
}

/// The record of `op/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct OpRecord {
    /// What it does.
    #[n(0)]
    pub kind: OpKind,
    /// The machine that runs it.
    #[n(1)]
    pub machine: MachineId,
    /// Seconds since 1970 at its start, by that machine's clock.
    #[n(2)]
    pub started_secs: i64,
    /// Counts the heartbeats.
    #[n(3)]
    pub beat: u64,
}

/// The record of `end/`, `kill/` and `dead/`: only that it is there counts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Mark {
    #[n(0)]
    pub(crate) op: OpId,
}

/// What a push may reuse, as the survey found it.
#[derive(Debug)]
pub struct Survey {
    /// Blocks and chunks in reusable packs.
    pub index: Index,
}

/// How an attempt to commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The snapshot is acknowledged. Holds the BLAKE3 of its sealed object.
    Acknowledged([u8; 32]),
    /// Somebody asked this operation to stop: it may be declared dead, so it counts for nothing.
    InDoubt,
}

/// How an operation of somebody else, or of an earlier run, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its snapshot is there.
    Committed,
    /// It has not committed and never will.
    Dead,
}

/// A running operation.
#[derive(Debug)]
pub struct Operation<'r> {
    repo: &'r Repository,
    id: OpId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    record: OpRecord,
    last_beat_secs: i64,
    index_count: u32,
    commit_tried: bool,
}

pub(crate) fn put_mark(repo: &Repository, dir: &str, op: &OpId) -> Result<()> {
    let name = format!("{dir}/{op}");
    let bytes =
        object::seal_record(repo.keys(), repo.id(), ObjectKind::Mark, &name, &Mark { op: *op });
    Ok(repo.store().put(&name, vec![bytes.into()])?)
}

impl<'r> Operation<'r> {
    /// P1: announces an operation under `id`, which must be fresh ([`OpId::random`]). The caller
    /// writes `id` to its local state first, so that a crash leaves no operation unknown to it.
    pub fn announce(
        repo: &'r Repository,
        id: OpId,
        kind: OpKind,
        machine: MachineId,
        now_secs: i64,
    ) -> Result<Self> {
        let record = OpRecord { kind, machine, started_secs: now_secs, beat: 0 };
        let state = State { record, last_beat_secs: now_secs, index_count: 0, commit_tried: false };
        let op = Self { repo, id, state: Mutex::new(state) };
        op.put_record(&op.lock().record)?;
        Ok(op)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn put_record(&self, record: &OpRecord) -> Result<()> {
        let name = format!("op/{}", self.id);
        let bytes =
            object::seal_record(self.repo.keys(), self.repo.id(), ObjectKind::Op, &name, record);
        Ok(self.repo.store().put(&name, vec![bytes.into()])?)
    }

    /// Its id.
    pub fn id(&self) -> OpId {
        self.id
    }

    /// Rewrites `op/<id>` when a quarter of an hour has passed. A clock that jumps back counts too.
    pub fn beat(&self, now_secs: i64) -> Result<()> {
        let mut state = self.lock();
        if now_secs.abs_diff(state.last_beat_secs) >= HEARTBEAT_SECS {
            state.last_beat_secs = now_secs;
            state.record.beat += 1;
            self.put_record(&state.record)?;
        }
        Ok(())
    }

    /// P2, P3, P4: what may be reused. To be called once, right after the announcement.
    ///
    /// A block counts if an index table names a pack for it that is neither condemned nor
    /// quarantined, and that a LIST begun after `gc/` was read shows with the length of the table.
    /// So no table is ever believed about a pack: one that is gone or cut short heals with the next
    /// push that meets its content. A table that does not open names nothing that is reused.
    pub fn survey(&self, cache: Option<&Cache>) -> Result<Survey> {
        let unusable = Lists::read(self.repo, cache, Wanted::Packs)?.unusable_packs();
        let mut tables = Vec::new();
        self.repo.each_index_object(cache, &mut pass_over, &mut |listed| {
            tables.extend(listed.object.packs);
            Ok(())
        })?;
        let listed = if tables.is_empty() { HashMap::new() } else { self.repo.packs_listed()? };
        let mut index = Index::default();
        for table in tables {
            let pack = table.pack();
            if listed.get(&pack) == Some(&table.bytes) && !unusable.contains(&pack) {
                let newest = table.blocks.iter().map(|row| row.epoch).max().unwrap_or_default();
                // a snapshot that relies on what its own key cannot read is none for this machine
                if newest > self.repo.keys().epoch_now() {
                    return Err(self.repo.keys().epoch_unknown(newest));
                }
                index.add(&table, true)?;
            }
        }
        index.sort();
        Ok(Survey { index })
    }

    /// P5, second half: publishes the tables of packs whose PUT was acknowledged, in one object or,
    /// if they are large, in several; the cache keeps what was written. Returns its bytes.
    pub fn put_index(&self, packs: Vec<PackTable>, cache: Option<&Cache>) -> Result<u64> {
        self.put_index_at(0, packs, cache)
    }

    /// [`Operation::put_index`] at a level: merged tables have a higher one than those they replace.
    pub(crate) fn put_index_at(
        &self,
        level: u8,
        packs: Vec<PackTable>,
        cache: Option<&Cache>,
    ) -> Result<u64> {
        let (mut part, mut part_bytes, mut written) = (Vec::new(), 0, 0);
        for table in packs {
            let bytes = table.coded_len_max();
            if !part.is_empty() && part_bytes + bytes > INDEX_OBJECT_BYTES_TARGET {
                written += self.put_index_object(level, std::mem::take(&mut part), cache)?;
                part_bytes = 0;
            }
            part_bytes += bytes;
            part.push(table);
        }
        Ok(written + self.put_index_object(level, part, cache)?)
    }

    fn put_index_object(
        &self,
        level: u8,
        packs: Vec<PackTable>,
        cache: Option<&Cache>,
    ) -> Result<u64> {
        let mut state = self.lock();
        let name = index::object_name(level, &self.id, state.index_count);
        state.index_count += 1;
        drop(state);
        let bytes: Bytes = object::seal_record(
            self.repo.keys(),
            self.repo.id(),
            ObjectKind::Index,
            &name,
            &IndexObject { packs },
        )
        .into();
        self.repo.store().put(&name, vec![bytes.clone()])?;
        if let Some(cache) = cache {
            cache.put_object(&name, &bytes);
        }
        Ok(bytes.len() as u64)
    }

    /// P7 and P8: writes the snapshot, then looks whether it counts. The sealed object is returned
    /// for the cache.
    pub fn commit(&self, snapshot: &Snapshot) -> Result<(Commit, Bytes)> {
        assert_eq!(snapshot.id, self.id, "a snapshot is named by its operation");
        self.lock().commit_tried = true;
        let name = Snapshot::object_name(&self.id);
        let bytes: Bytes = object::seal_record(
            self.repo.keys(),
            self.repo.id(),
            ObjectKind::Snapshot,
            &name,
            snapshot,
        )
        .into();
        self.repo.store().put(&name, vec![bytes.clone()])?;
        let commit = if self.is_killed()? {
            Commit::InDoubt
        } else {
            Commit::Acknowledged(*blake3::hash(&bytes).as_bytes())
        };
        Ok((commit, bytes))
    }

    /// True if somebody asked this operation to stop (P6).
    pub fn is_killed(&self) -> Result<bool> {
        is_there(self.repo, &format!("kill/{}", self.id))
    }

    /// Ends an operation that never tried to commit. One that did may yet have a snapshot: the
    /// request can be under way. Only [`end_stale`] ends that.
    pub fn finish_without_snapshot(self) -> Result<()> {
        assert!(!self.lock().commit_tried, "`end` is for operations that wrote no snapshot");
        put_mark(self.repo, "end", &self.id)
    }
}

/// Ends an operation that is not running any more: kill, look for its snapshot, dead. A client does
/// this for its own earlier run too: the crash may have come after the acknowledgement.
///
/// What was declared dead stays dead, also if its snapshot lands later. [`Ended::Committed`] is
/// certain only for a snapshot that was acknowledged; another client may declare any other one dead
/// at the same moment, so whoever goes on with it looks at `dead/` again
/// ([`Repository::snapshot_ids`] does).
pub fn end_stale(repo: &Repository, op: &OpId) -> Result<Ended> {
    put_mark(repo, "kill", op)?;
    // by GET: a listing that is not whole must not end a snapshot for ever
    if is_there(repo, &Snapshot::object_name(op))? && !is_there(repo, &format!("dead/{op}"))? {
        return Ok(Ended::Committed);
    }
    put_mark(repo, "dead", op)?;
    Ok(Ended::Dead)
}

impl Repository {
    /// Whether somebody ended an operation: its snapshot counts only if it was acknowledged before.
    pub fn has_kill_mark(&self, op: &OpId) -> Result<bool> {
        is_there(self, &format!("kill/{op}"))
    }

    /// Whether an operation ended by itself, without a snapshot.
    pub fn has_end_mark(&self, op: &OpId) -> Result<bool> {
        is_listed(self, &format!("end/{op}"))
    }

    /// Operations that were declared dead.
    pub fn dead_ids(&self) -> Result<Vec<OpId>> {
        self.ids_under("dead/")
    }
}

/// Whether an object is there, asked for by its name.
pub(crate) fn is_there(repo: &Repository, name: &str) -> Result<bool> {
    match repo.store().get(name) {
        Err(store::Error::NotFound { .. }) => Ok(false),
        Ok(_) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Whether an object of exactly this name is there: a listing by prefix also shows longer names.
pub(crate) fn is_listed(repo: &Repository, name: &str) -> Result<bool> {
    Ok(repo.store().list(name)?.iter().any(|item| item.name == name))
}
