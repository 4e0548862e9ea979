//! What the cache remembers of a file: how it looked and the entry it got.
//!
//! Invariant: a row is believed only with this repository's check on it ([`repo::Cache`]), and its
//! entry is used only if every block it names is reusable, so a stale or damaged cache costs time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use adapters::RowRule;
use minicbor::{Decode, Encode};
use repo::{BlockId, Entry, Extent, FileRow, decode_extents, encode_extents, key_of_path};

use super::fields::Fields;
use crate::capture::edit::fingerprint;
use crate::marks::Marking;
use crate::scan::Stat;
use crate::session::Session;

/// How a file looked when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Look {
    #[n(0)]
    dev: u64,
    #[n(1)]
    ino: u64,
    #[n(2)]
    size: u64,
    #[n(3)]
    mtime: (i64, u32),
    #[n(4)]
    ctime: (i64, u32),
}

impl Look {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            mtime: (stat.mtime_secs, stat.mtime_nanos),
            ctime: (stat.ctime_secs, stat.ctime_nanos),
        }
    }

    /// A write-ahead log: without the time of change, which moves when a reader with the right to
    /// does so sets the log's owner. Every write to the log moves the other time.
    pub(super) fn of_log(stat: &Stat) -> Self {
        Self { ctime: (0, 0), ..Self::of(stat) }
    }

    /// A change after the look may have left the same times: the file was written within the
    /// resolution of its file system's clock before we looked (git calls this racily clean). Times
    /// without a fraction come from file systems that count in seconds, two at the worst.
    pub(super) fn racy(&self, seen_nanos: i64) -> bool {
        let coarse = self.mtime.1 == 0 && self.ctime.1 == 0;
        let resolution = if coarse { 2_000_000_000 } else { 20_000_000 };
        [self.mtime, self.ctime].iter().any(|(secs, nanos)| {
            let at = secs.saturating_mul(1_000_000_000).saturating_add(i64::from(*nanos));
            at.saturating_add(resolution) >= seen_nanos
        })
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Row {
    /// The file; `None` if it moved while it was read.
    #[n(0)]
    pub(super) look: Option<Look>,
    /// A SQLite database: its write-ahead log, where changes lie before the file itself moves.
    #[n(1)]
    pub(super) log: Option<Look>,
    /// When it was looked at, before it was read; nanoseconds since 1970.
    #[n(2)]
    pub(super) seen_nanos: i64,
    /// Its entry in the snapshot.
    #[n(3)]
    pub(super) entry: Entry,
    /// The extents of a map that is not in the entry.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(super) extents: Vec<u8>,
    /// Coded size of the map's patches together.
    #[n(5)]
    pub(super) patch_bytes: u64,
    /// A database from which rows were left out.
    #[n(6)]
    pub(super) edit: Option<Box<EditSeen>>,
    /// A text file that has field rules: their fingerprint.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub(super) fields: Option<[u8; 32]>,
    /// Secrets in it were replaced in this way, if there were any: rules, list of findings to ignore.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub(super) marking: Option<[u8; 32]>,
}

/// How rows were left out of a database.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct EditSeen {
    /// Fingerprint of the rules.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) rules: [u8; 32],
    /// Tables and columns that they name and it does not have.
    #[n(1)]
    pub(super) absent: Vec<String>,
}

impl Row {
    /// The file's extents.
    pub(super) fn extents(&self) -> Option<Vec<Extent>> {
        if self.entry.map.base.is_some() {
            decode_extents(&self.extents)
        } else {
            decode_extents(&self.entry.map.inline)
        }
    }

    /// Codes extents for a map that is not in the entry.
    pub(super) fn extents_of(entry: &Entry, extents: &[Extent]) -> Vec<u8> {
        if entry.map.base.is_some() { encode_extents(extents) } else { Vec::new() }
    }

    /// True if the file is what it was: same look, not racy, and all that was changed at the source
    /// since then would show.
    pub(super) fn is_current(&self, stat: &Stat, log: Option<&Stat>) -> bool {
        self.look == Some(Look::of(stat))
            && self.log == log.map(Look::of_log)
            && !self.look.is_some_and(|look| look.racy(self.seen_nanos))
            && !self.log.is_some_and(|log| log.racy(self.seen_nanos))
    }

    /// True if it was made under these row rules. A file of no bytes has no rows.
    pub(super) fn has_rules(&self, rules: &[Arc<RowRule>]) -> bool {
        self.entry.size == 0 || self.edit.as_ref().map(|edit| edit.rules) == fingerprint(rules)
    }

    /// True if it was made under these field rules. A file of no bytes has no fields.
    pub(super) fn has_fields(&self, fields: Option<&Fields>) -> bool {
        self.entry.size == 0 || self.fields == fields.map(Fields::fingerprint)
    }

    /// True if secrets in it were, or were not, replaced in this way. A file of no bytes has none.
    pub(super) fn has_marking(&self, marking: Option<&Marking>) -> bool {
        self.entry.size == 0 || self.marking == marking.map(Marking::fingerprint)
    }

    /// Every block the entry needs.
    pub(super) fn blocks(&self) -> Option<Vec<BlockId>> {
        let mut blocks: Vec<BlockId> = self.extents()?.iter().map(|e| e.block).collect();
        blocks.dedup();
        blocks.extend(self.entry.map.own_blocks());
        Some(blocks)
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        minicbor::decode(value).ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding to memory does not fail")
    }
}

/// The cache's rows in path order, read ahead by a thread of their own.
pub(super) struct Rows {
    batches: Receiver<Vec<FileRow>>,
    batch: std::vec::IntoIter<FileRow>,
    head: Option<FileRow>,
}

/// Rows that are kept in memory at most before they are written.
const SPILL_ROWS: usize = 2048;

/// Rows handed over at a time.
const BATCH_ROWS: usize = 512;

impl Rows {
    /// Starts reading. Without a cache, or if `none`, there are no rows.
    pub(super) fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        session: &'scope Session,
        none: bool,
    ) -> Self {
        let (send, batches) = sync_channel(4);
        if let Some(cache) = session.cache.as_ref().filter(|_| !none) {
            scope.spawn(move || {
                let mut batch = Vec::with_capacity(BATCH_ROWS);
                cache.files(session.repo.keys(), |row| {
                    batch.push(row);
                    // a reader that is gone wants no more rows
                    batch.len() < BATCH_ROWS || send.send(std::mem::take(&mut batch)).is_ok()
                });
                drop(send.send(batch));
            });
        }
        Self { batches, batch: Vec::new().into_iter(), head: None }
    }

    fn advance(&mut self) -> Option<FileRow> {
        loop {
            if let Some(row) = self.batch.next() {
                return Some(row);
            }
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }

    /// The row of a path; paths must be asked for in path order.
    pub(super) fn find(&mut self, path: &[u8]) -> Option<Row> {
        let key = key_of_path(path);
        loop {
            match &self.head {
                Some(head) if head.key == key => {
                    return self.head.take().and_then(|row| Row::decode(&row.value));
                }
                Some(head) if head.key > key => return None,
                _ => self.head = Some(self.advance()?),
            }
        }
    }
}

/// Rows on their way into the cache. They may be written before the snapshot is acknowledged: a row
/// is used only if its blocks are reusable then.
#[derive(Debug, Default)]
pub(super) struct NewRows {
    put: Vec<FileRow>,
}

impl NewRows {
    pub(super) fn push(&mut self, path: &[u8], row: &Row) {
        self.put.push(FileRow { key: key_of_path(path), value: row.encode() });
    }

    /// Writes them if they are many.
    pub(super) fn spill(&mut self, session: &Session) {
        if self.put.len() >= SPILL_ROWS {
            self.save(session);
            self.put.clear();
        }
    }

    /// Writes them. Rows of files that are gone stay: they cost little and never match.
    pub(super) fn save(&self, session: &Session) {
        if let Some(cache) = &session.cache
            && !self.put.is_empty()
        {
            cache.update_files(session.repo.keys(), &self.put, &[]);
        }
    }
}
