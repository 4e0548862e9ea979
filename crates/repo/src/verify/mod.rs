//! Verify: is everything there that snapshots need, and is it what was written?
//!
//! ```text
//! structure   LIST; index objects and snapshots open; every pack is there, as long as its table says,
//!             and its trailer says the same
//! metadata    and every node, map and patch opens, and every block that a file needs has a place
//! sample      packs are read whole, those first that were not read for longest, within a budget
//! all         structure, metadata, and every pack
//! ```
//! Nothing is called damaged before it was read three times, over new connections where there are any,
//! and before snapshots and index were looked at again: a collector may have moved or removed meanwhile
//! what was missing. What no visible snapshot needs, or lies elsewhere too, harms nobody and is only told.
//! Whoever runs a verify removes nothing and repairs nothing; what it writes are its record
//! (`coverage`) and the quarantine of packs that hold damaged blocks, so that no push builds on them.

pub(crate) mod coverage;
pub(crate) mod data;
pub(crate) mod ground;
mod judge;
pub(crate) mod needs;
mod structure;
pub(crate) mod touch;

use std::collections::{BTreeMap, BTreeSet};

use store::Listing;

use crate::cache::Cache;
use crate::error::Result;
use crate::fetch::Reader;
use crate::id::{BlockId, OpId, PackId};
use crate::repository::Repository;

use coverage::Coverage;
use data::Plan;
use ground::Ground;
use judge::Judge;
use needs::Needs;
pub(crate) use structure::pack_tail;
pub use touch::Touched;

/// Runs of the usual sample in which everything is read once.
const SAMPLES: u64 = 30;
/// At a storage that is not this machine's, damage must last so long before a pack is quarantined.
const QUARANTINE_AFTER_SECS: u64 = 3600;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Listings, tables, trailers.
    Structure,
    /// And all that describes snapshots.
    Metadata,
    /// Some packs, whole.
    Sample,
    /// Everything.
    All,
}

/// How to verify.
#[derive(Clone, Copy)]
pub struct VerifyOptions<'a> {
    /// How much.
    pub level: Level,
    /// Bytes of packs that are read at most; a sample without it reads a thirtieth of all. More is
    /// read only where damage was found: to be sure, and to see whom it touches.
    pub bytes_max: Option<u64>,
    /// Threads that read and open packs.
    pub threads: usize,
    /// Asked before each read: true ends the reading, and what was read counts.
    pub is_over: &'a (dyn Fn() -> bool + Sync),
    /// Told how many bytes of packs were read, and how many will be at most.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions").field("level", &self.level).finish_non_exhaustive()
    }
}

impl VerifyOptions<'_> {
    /// One thread, no limit, nobody who listens.
    pub fn new(level: Level) -> Self {
        Self { level, bytes_max: None, threads: 1, is_over: &|| false, progress: &|_, _| {} }
    }
}

/// What something that is wrong does to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harm {
    /// To nobody, and why.
    Harmless(String),
    /// Files cannot be restored: [`Report::touched`] names them.
    Files,
    /// A snapshot cannot be read at all.
    Snapshot,
    /// Nothing that is stored is lost, but something does not work until it is repaired.
    Hinders(String),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object.
    pub object: String,
    /// The block in it.
    pub block: Option<BlockId>,
    /// What is wrong.
    pub what: String,
    /// What that means.
    pub harm: Harm,
}

impl Finding {
    /// Is anything worse because of it?
    pub fn is_damage(&self) -> bool {
        !matches!(self.harm, Harm::Harmless(_))
    }
}

/// What was looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots that are visible and open.
    pub snapshots: usize,
    /// Packs listed.
    pub packs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that no index names, of operations that run: nothing is wrong with them.
    pub packs_of_running: usize,
    /// Packs that no index names and nobody will name: what a killed push left.
    pub packs_left_over: usize,
    /// Their bytes.
    pub bytes_left_over: u64,
    /// Nodes, maps and patches read by a walk of the snapshots.
    pub metadata_read: u64,
    /// Packs whose reading was finished in this run.
    pub packs_read: usize,
    /// Blocks read and compared.
    pub blocks_read: u64,
    /// Bytes of packs read for that.
    pub bytes_read: u64,
    /// The reading ended early: by its budget or its time.
    pub stopped: bool,
    /// Packs that no run has read whole yet.
    pub packs_never_read: usize,
    /// What is wrong, sorted by object.
    pub findings: Vec<Finding>,
    /// Paths that cannot be restored.
    pub touched: Vec<Touched>,
    /// Blocks that snapshots need and that cannot be had, and why.
    pub lost: BTreeMap<BlockId, String>,
    /// Places at which blocks are damaged.
    pub bad: BTreeSet<(PackId, BlockId)>,
    /// Packs that were quarantined by this run.
    pub quarantined: Vec<PackId>,
    /// Packs with damaged blocks that will be, if they still are damaged in an hour.
    pub waiting: Vec<PackId>,
    /// Why the next run does not know what this one read, if it does not.
    pub forgotten: Option<String>,
}

impl Report {
    /// Was damage found?
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_damage)
    }
}

/// Verifies, under the id `run`, which must be fresh.
pub fn verify(
    repo: &Repository,
    cache: Option<&Cache>,
    run: &OpId,
    options: &VerifyOptions<'_>,
) -> Result<Report> {
    let level = options.level;
    // what a sample has in its cache it need not fetch: it is a glance, and often
    let cache = cache.filter(|_| level == Level::Sample);
    let ground = Ground::look(repo, cache)?;
    let mut report = Report {
        snapshots: ground.snapshots.len(),
        packs: ground.packs.len(),
        bytes: ground.packs.values().sum(),
        ..Report::default()
    };
    let mut coverage = Coverage::read(repo)?;
    coverage.packs.retain(|pack, _| ground.packs.contains_key(pack));
    coverage.found.retain(|(pack, _), _| ground.packs.contains_key(pack));
    let mut judge = Judge::default();
    structure::check(repo, &ground, level, options.threads, &mut report, &mut judge)?;
    if matches!(level, Level::Sample | Level::All) {
        let found = read_packs(repo, cache, &ground, &coverage, options)?;
        report.packs_read = found.done.len();
        (report.blocks_read, report.bytes_read) = (found.blocks_read, found.bytes_read);
        report.stopped = found.stopped;
        for pack in &found.done {
            coverage.done(*pack);
        }
        found.begun.iter().for_each(|(pack, next)| coverage.begun(*pack, *next));
        judge.bad.extend(found.blocks);
        judge.frames.extend(found.frames);
    }
    let changed = report.packs_read > 0 || report.stopped;
    judge.remember(&coverage);
    let ground = judge.decide(repo, cache, ground, level, &mut report)?;
    for (pack, block) in &report.bad {
        coverage.damaged(*pack, *block);
    }
    let still_bad = |key: &(PackId, BlockId)| report.bad.contains(key);
    let before = coverage.found.len();
    coverage.found.retain(|key, _| still_bad(key));
    let changed = changed || before > coverage.found.len() || !coverage.found.is_empty();
    let never = |pack: &&PackId| coverage.packs.get(*pack).is_none_or(|c| c.at_secs.is_none());
    report.packs_never_read = ground.packs.keys().filter(never).count();
    if changed {
        remember(repo, run, &ground, &mut coverage, &mut report)?;
    }
    Ok(report)
}

/// Reads packs, those that were not read for longest first.
fn read_packs(
    repo: &Repository,
    cache: Option<&Cache>,
    ground: &Ground,
    coverage: &Coverage,
    options: &VerifyOptions<'_>,
) -> Result<data::Found> {
    let all = options.level == Level::All;
    let mut packs = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, info) in ground.tables.objects.iter().enumerate() {
        for pack in &info.packs {
            let skipped = !ground.packs.contains_key(pack)
                || (!all && ground.quarantined.contains(pack))
                || !seen.insert(*pack);
            if !skipped {
                let checked = coverage.packs.get(pack).copied().unwrap_or_default();
                // packs of one table are read one after the other: it is decoded once
                packs.push((checked.at_secs.unwrap_or_default(), place, *pack, checked.next));
            }
        }
    }
    packs.sort_unstable();
    let there: u64 = packs.iter().filter_map(|(_, _, pack, _)| ground.packs.get(pack)).sum();
    let usual = if all { u64::MAX } else { there.div_ceil(SAMPLES) + data::READ_BYTES_MAX };
    let bytes_max = options.bytes_max.unwrap_or(usual);
    let of = there.min(bytes_max);
    let progress = |read| (options.progress)(read, of);
    let plan = Plan {
        packs: packs
            .iter()
            .map(|(_, _, pack, next)| (*pack, if all { 0 } else { *next }))
            .collect(),
        bytes_max,
        threads: options.threads,
        is_over: options.is_over,
        progress: &progress,
    };
    data::read(repo, cache, &ground.tables, &plan)
}

/// Is it only that nothing can be written there: by this key, on this disk, or for want of room?
fn cannot_write(error: &store::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        store::Error::Denied { .. } | store::Error::CapReached { .. } => true,
        store::Error::Io { source, .. } => matches!(
            source.kind(),
            PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
        ),
        _ => false,
    }
}

/// Writes the record of this run, then quarantines what is due. That nothing can be remembered is no
/// reason to keep back what was found.
fn remember(
    repo: &Repository,
    run: &OpId,
    ground: &Ground,
    coverage: &mut Coverage,
    report: &mut Report,
) -> Result<()> {
    let now = match coverage.write(repo, run) {
        Ok(now) => now,
        Err(crate::Error::Store(error)) if cannot_write(&error) => {
            report.forgotten = Some(error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let packs: BTreeSet<PackId> = report.bad.iter().map(|(pack, _)| *pack).collect();
    for pack in packs.difference(&ground.quarantined) {
        let since = coverage.found.iter().filter(|((known, _), _)| known == pack).map(|(_, s)| *s);
        let at_once = repo.store().listing() == Listing::Local;
        if at_once || is_due(since.min(), now) {
            crate::gc::lists::quarantine(repo, pack)?;
            report.quarantined.push(*pack);
        } else {
            report.waiting.push(*pack);
        }
    }
    Ok(())
}

/// Has damage lasted long enough? Both times are the store's.
fn is_due(since_secs: Option<u64>, now_secs: u64) -> bool {
    since_secs.is_some_and(|since| now_secs.saturating_sub(since) >= QUARANTINE_AFTER_SECS)
}

/// A reader over the tables of one look.
pub(crate) fn reader<'r>(repo: &'r Repository, ground: &mut Ground) -> Reader<'r> {
    Reader::new(repo, None, std::mem::take(&mut ground.tables.index))
}

/// What snapshots need now, and the index it was found by.
pub(crate) fn needs(repo: &Repository, ground: &mut Ground) -> Result<Needs> {
    let reader = reader(repo, ground);
    let needs = Needs::of(&reader, &ground.snapshots)?;
    ground.tables.index = reader.into_index();
    Ok(needs)
}
