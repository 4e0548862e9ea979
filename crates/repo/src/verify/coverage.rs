//! What verify remembers for all machines: which packs were read when, and which blocks were found
//! damaged since when. `verify/<oid>-<n>`, control objects of kind `v`.
//!
//! ```text
//! {0: array of [operation id, u32, at u64, next u32], 1: array of [operation id, u32, block id, since u64]}
//! at     the pack was last read whole: Unix seconds by the store's clock; 0: when this object was
//!        written; 2^64-1: never
//! next   blocks of it that were read since, if a pass over it was not finished
//! since  the block was first found damaged, the same way
//! ```
//! A run writes what it read in all records together with its own, then deletes those. Two runs at
//! once, or a record that is lost, cost a pack that is read once more. No clock is asked: the time of a
//! record is that of its object in the listing.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use minicbor::{Decode, Encode};

use crate::error::{Error, Result};
use crate::id::{BlockId, OpId, PackId};
use crate::object::{self, ObjectKind};
use crate::repository::Repository;

const NOW: u64 = 0;
const NEVER: u64 = u64::MAX;
/// Rows of one object, at most: some 40 bytes each, so far below the largest object.
const ROWS_MAX: usize = 500_000;

/// The record of a `verify/` object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Record {
    #[n(0)]
    pub(crate) checked: Vec<CheckedRow>,
    #[n(1)]
    pub(crate) found: Vec<FoundRow>,
}

/// When a pack was read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct CheckedRow {
    #[n(0)]
    pub(crate) op: OpId,
    #[n(1)]
    pub(crate) n: u32,
    #[n(2)]
    pub(crate) at_secs: u64,
    #[n(3)]
    pub(crate) next: u32,
}

/// Since when a block is known to be damaged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(crate) struct FoundRow {
    #[n(0)]
    pub(crate) op: OpId,
    #[n(1)]
    pub(crate) n: u32,
    #[n(2)]
    pub(crate) block: BlockId,
    #[n(3)]
    pub(crate) since_secs: u64,
}

/// How far a pack is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Last read whole; `None`: never. [`NOW`] for this run.
    pub(crate) at_secs: Option<u64>,
    /// Blocks of the pass under way.
    pub(crate) next: u32,
}

/// All records together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    pub(crate) packs: HashMap<PackId, Checked>,
    pub(crate) found: BTreeMap<(PackId, BlockId), u64>,
    /// Objects that it was read from.
    names: Vec<String>,
}

/// Name of a record.
pub(crate) fn object_name(op: &OpId, n: u32) -> String {
    format!("verify/{op}-{n}")
}

/// Is this the name of a record?
pub(crate) fn is_name(name: &str) -> bool {
    name.strip_prefix("verify/")
        .and_then(|rest| PackId::from_object_name(&format!("packs/{rest}")))
        .is_some()
}

fn secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1))
}

impl Coverage {
    /// Reads all records. One that does not open says nothing, and goes with the others.
    pub(crate) fn read(repo: &Repository) -> Result<Self> {
        let mut all = Self::default();
        for item in repo.store().list("verify/")? {
            let name = item.name.as_str();
            if !is_name(name) {
                continue;
            }
            let open = |bytes: &[u8]| {
                object::open_record(repo.keys(), repo.id(), ObjectKind::Verify, name, bytes)
            };
            let record = match repo.read_thrice::<Record>(name, open) {
                Ok(Some((record, _))) => record,
                Ok(None) | Err(Error::TooNew { .. }) => continue,
                Err(Error::Corrupt { .. }) => Record::default(),
                Err(error) => return Err(error),
            };
            all.add(record, secs(item.modified));
            all.names.push(item.name);
        }
        Ok(all)
    }

    fn add(&mut self, record: Record, written_secs: u64) {
        let time = |secs| if secs == NOW { written_secs } else { secs };
        for row in record.checked {
            let at_secs = Some(time(row.at_secs)).filter(|secs| *secs != NEVER);
            let new = Checked { at_secs, next: row.next };
            let known = self.packs.entry(PackId { op: row.op, n: row.n }).or_default();
            if (new.at_secs, new.next) > (known.at_secs, known.next) {
                *known = new;
            }
        }
        for row in record.found {
            let since = time(row.since_secs);
            let key = (PackId { op: row.op, n: row.n }, row.block);
            let known = self.found.entry(key).or_insert(since);
            *known = since.min(*known);
        }
    }

    /// The pack was read whole in this run.
    pub(crate) fn done(&mut self, pack: PackId) {
        self.packs.insert(pack, Checked { at_secs: Some(NOW), next: 0 });
    }

    /// So many blocks of the pack were read.
    pub(crate) fn begun(&mut self, pack: PackId, next: u32) {
        self.packs.entry(pack).or_default().next = next;
    }

    /// The block was found damaged, perhaps not for the first time.
    pub(crate) fn damaged(&mut self, pack: PackId, block: BlockId) {
        self.found.entry((pack, block)).or_insert(NOW);
    }

    /// Writes all of it under the name of this run, then deletes what it was read from. Returns the
    /// time of the store's clock; what happened "now" has that time from then on.
    pub(crate) fn write(&mut self, repo: &Repository, run: &OpId) -> Result<u64> {
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for (pack, checked) in &self.packs {
            let (op, n, next) = (pack.op, pack.n, checked.next);
            rows.push(CheckedRow { op, n, at_secs: checked.at_secs.unwrap_or(NEVER), next });
        }
        rows.sort_unstable_by_key(|row| (row.op, row.n));
        for ((pack, block), since_secs) in &self.found {
            let (block, since_secs) = (*block, *since_secs);
            found.push(FoundRow { op: pack.op, n: pack.n, block, since_secs });
        }
        let (mut rows, mut found) = (rows.into_iter().peekable(), found.into_iter().peekable());
        let mut n = 0;
        while n == 0 || rows.peek().is_some() || found.peek().is_some() {
            let record = Record {
                checked: rows.by_ref().take(ROWS_MAX).collect(),
                found: found.by_ref().take(ROWS_MAX).collect(),
            };
            let name = object_name(run, n);
            let (keys, id) = (repo.keys(), repo.id());
            let bytes = object::seal_record(keys, id, ObjectKind::Verify, &name, &record);
            repo.store().put(&name, vec![bytes.into()])?;
            n += 1;
        }
        let listed = repo.store().list(&format!("verify/{run}-"))?;
        let now = listed.iter().map(|item| secs(item.modified)).max().unwrap_or(1);
        for since in self.found.values_mut().filter(|since| **since == NOW) {
            *since = now;
        }
        for name in self.names.drain(..) {
            // a client that may not delete leaves that to one that may
            match repo.store().delete(&name) {
                Err(store::Error::Denied { .. }) => break,
                done => done?,
            }
        }
        Ok(now)
    }
}
