//! Reading packs: every block is read, opened and compared with all that is said of it.
//!
//! In: packs in the order in which they are to be read. Out: which blocks and frames are not what they
//! should be, after three reads. A worker holds one read of at most [`READ_BYTES_MAX`] (or one block)
//! and the plaintext of one block; jobs wait in a queue as long as there are workers. So memory is
//! about 32 MiB a worker, however large the repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crossbeam_channel::bounded;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::gc::index::Tables;
use crate::id::{BlockId, PackId};
use crate::keys::BlockKind;
use crate::pack::{self, BlockRow, PackTable};
use crate::repository::{READS_MAX, Repository};

/// Bytes of one read, at most, unless one block is larger.
pub(super) const READ_BYTES_MAX: u64 = 8 << 20;
/// Packs whose tables are looked up together.
const PACKS_PER_BATCH: usize = 64;

/// What reading found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Blocks that are not what they should be, and why.
    pub(super) blocks: BTreeMap<(PackId, BlockId), String>,
    /// Packs whose first bytes, padding or trailer are not what they should be.
    pub(super) frames: BTreeMap<PackId, String>,
    /// Packs read to their end.
    pub(super) done: BTreeSet<PackId>,
    /// Packs of which so many blocks were read.
    pub(super) begun: BTreeMap<PackId, u32>,
    pub(super) blocks_read: u64,
    pub(super) bytes_read: u64,
    /// It ended before all was read that was asked for.
    pub(super) stopped: bool,
}

/// What to read, and how much.
pub(super) struct Plan<'a> {
    /// Packs in the order of reading, with the number of the first block to read.
    pub(super) packs: Vec<(PackId, u32)>,
    /// Bytes of packs that may be read.
    pub(super) bytes_max: u64,
    pub(super) threads: usize,
    pub(super) is_over: &'a (dyn Fn() -> bool + Sync),
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

/// A stretch of a pack.
#[derive(Debug)]
struct Job {
    table: Arc<PackTable>,
    rows: Range<usize>,
    bytes: Range<u64>,
    /// It goes on to the end of the pack.
    tail: bool,
}

/// Reads packs.
pub(super) fn read(
    repo: &Repository,
    cache: Option<&Cache>,
    tables: &Tables,
    plan: &Plan<'_>,
) -> Result<Found> {
    let shared = Shared {
        repo,
        found: Mutex::default(),
        left: Mutex::default(),
        error: Mutex::default(),
        bytes: AtomicU64::new(0),
        progress: plan.progress,
    };
    let fed = if plan.threads <= 1 {
        // by itself, so that its calls have one order
        shared.feed(cache, tables, plan, &|job| shared.work(&job))
    } else {
        let (send, jobs) = bounded::<Job>(plan.threads);
        std::thread::scope(|scope| {
            for _ in 0..plan.threads {
                let (shared, jobs) = (&shared, jobs.clone());
                scope.spawn(move || jobs.iter().all(|job| shared.work(&job)));
            }
            drop(jobs);
            let fed = shared.feed(cache, tables, plan, &|job| send.send(job).is_ok());
            drop(send);
            fed
        })
    };
    fed?;
    if let Some(error) = shared.error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut found = shared.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.bytes_read = shared.bytes.into_inner();
    Ok(found)
}

struct Shared<'a> {
    repo: &'a Repository,
    found: Mutex<Found>,
    /// Jobs of a pack that are not done, and whether the last one reaches its end.
    left: Mutex<HashMap<PackId, (usize, bool)>>,
    error: Mutex<Option<Error>>,
    bytes: AtomicU64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Shared<'_> {
    fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts packs into jobs until the bytes or the time are used up. `hand` gives one on; false if
    /// nobody takes it.
    fn feed(
        &self,
        cache: Option<&Cache>,
        tables: &Tables,
        plan: &Plan<'_>,
        hand: &dyn Fn(Job) -> bool,
    ) -> Result<()> {
        let mut left = plan.bytes_max;
        for batch in plan.packs.chunks(PACKS_PER_BATCH) {
            let wanted = batch.iter().map(|(pack, _)| *pack).collect();
            let mut known = HashMap::new();
            tables.each_table_of(self.repo, cache, &wanted, &mut |table| {
                known.insert(table.pack(), Arc::new(table.clone()));
                Ok(())
            })?;
            for (pack, first) in batch {
                // gone since: whoever merged the table has written it again
                let Some(table) = known.remove(pack) else { continue };
                let (jobs, next) = cut(&table, *first as usize, left);
                left -= jobs.iter().map(|job| job.bytes.end - job.bytes.start).sum::<u64>();
                let whole = jobs.last().is_some_and(|job| job.tail);
                let mut open = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                open.insert(*pack, (jobs.len(), whole));
                drop(open);
                let next = u32::try_from(next).expect("a pack has fewer blocks");
                for job in jobs {
                    if (plan.is_over)() || self.has_failed() {
                        self.found().stopped = true;
                        return Ok(());
                    }
                    if !hand(job) {
                        return Ok(());
                    }
                }
                if !whole {
                    let mut found = self.found();
                    found.stopped = true;
                    if next > *first {
                        found.begun.insert(*pack, next);
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Does a job; false if there is no use in going on.
    fn work(&self, job: &Job) -> bool {
        if self.has_failed() {
            return false;
        }
        if let Err(error) = self.check(job) {
            self.fail(error);
            return false;
        }
        let pack = job.table.pack();
        let mut open = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((left, whole)) = open.get_mut(&pack) {
            *left -= 1;
            if *left == 0 && *whole {
                self.found().done.insert(pack);
            }
        }
        true
    }

    fn check(&self, job: &Job) -> Result<()> {
        let pack = job.table.pack();
        let len = job.bytes.end - job.bytes.start;
        let bytes = get(self.repo, &pack, job.bytes.clone())?;
        let (mut bad, mut frame) = (Vec::new(), None);
        let mut at = job.bytes.start;
        if at == 0 {
            at = pack::BLOCKS_BEGIN;
            let head = bytes.as_deref().unwrap_or_default();
            frame = pack::check_head(&job.table, head).err().map(|e| reason(&e));
        }
        for row in &job.table.blocks[job.rows.clone()] {
            let from = usize::try_from(at - job.bytes.start).expect("a read is short");
            let sealed = bytes.as_ref().and_then(|b| b.get(from..from + row.stored_len as usize));
            let place = at..at + u64::from(row.stored_len);
            at = place.end;
            let first = match sealed {
                Some(sealed) => check_block(self.repo, row, sealed)?,
                None => Some("cut short".to_owned()),
            };
            if first.is_some()
                && let Some(what) = check_again(self.repo, &pack, row, place, READS_MAX - 1)?
            {
                bad.push((row.id, what));
            }
        }
        if job.tail && frame.is_none() {
            frame = self.check_tail(job, at, bytes.as_deref())?;
        }
        let read = self.bytes.fetch_add(len, Ordering::Relaxed) + len;
        (self.progress)(read);
        let mut found = self.found();
        found.blocks_read += job.rows.len() as u64;
        found.blocks.extend(bad.into_iter().map(|(id, what)| ((pack, id), what)));
        found.frames.extend(frame.map(|what| (pack, what)));
        Ok(())
    }

    /// Padding and trailer, read three times before they are called damaged.
    fn check_tail(&self, job: &Job, at: u64, bytes: Option<&[u8]>) -> Result<Option<String>> {
        let (keys, id) = (self.repo.keys(), self.repo.id());
        let look = |tail: Option<&[u8]>| match tail {
            None => Ok(Some("cut short".to_owned())),
            Some(tail) => told(pack::check_tail(keys, id, &job.table, tail)),
        };
        let from = usize::try_from(at - job.bytes.start).expect("a read is short");
        let mut what = look(bytes.and_then(|bytes| bytes.get(from..)))?;
        for _ in 1..READS_MAX {
            if what.is_none() {
                break;
            }
            self.repo.store().renew_connections();
            what = look(get(self.repo, &job.table.pack(), at..job.bytes.end)?.as_deref())?;
        }
        Ok(what)
    }
}

/// Cuts a pack, from a block on, into reads that take at most `left` bytes together. Also the number of
/// the first block that is not in them.
fn cut(table: &Arc<PackTable>, first: usize, mut left: u64) -> (Vec<Job>, usize) {
    let placed: Vec<Range<u64>> =
        table.placed().map(|(at, row)| at..at + u64::from(row.stored_len)).collect();
    let first = first.min(placed.len());
    let mut jobs: Vec<Job> = Vec::new();
    let mut next = first;
    let begin = |n: usize| match n {
        0 => 0,
        n => placed[n - 1].end,
    };
    while next < placed.len() {
        let start = begin(next);
        let room = left.min(READ_BYTES_MAX);
        let mut to = next;
        while to < placed.len() && placed[to].end - start <= room {
            to += 1;
        }
        if to == next && placed[next].end - start <= left {
            to += 1; // a block that is larger than a read
        }
        if to == next {
            return (jobs, next);
        }
        left -= placed[to - 1].end - start;
        let bytes = start..placed[to - 1].end;
        jobs.push(Job { table: table.clone(), rows: next..to, bytes, tail: false });
        next = to;
    }
    let (start, end) = (begin(next), table.bytes);
    if end - start > left {
        return (jobs, next); // the next run reads the tail
    }
    match jobs.last_mut() {
        Some(last) => (last.bytes.end, last.tail) = (end, true),
        None => {
            jobs.push(Job {
                table: table.clone(),
                rows: next..next,
                bytes: start..end,
                tail: true,
            });
        }
    }
    (jobs, next)
}

/// Bytes of a pack; `None` if they are not there.
fn get(repo: &Repository, pack: &PackId, bytes: Range<u64>) -> Result<Option<Bytes>> {
    match repo.store().get_range(&pack.object_name(), bytes) {
        Err(store::Error::NotFound { .. } | store::Error::Short { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Reads a block up to `reads` times; why it is not what it should be, if none was right.
pub(super) fn check_again(
    repo: &Repository,
    pack: &PackId,
    row: &BlockRow,
    place: Range<u64>,
    reads: usize,
) -> Result<Option<String>> {
    let mut what = None;
    for _ in 0..reads {
        repo.store().renew_connections();
        what = match get(repo, pack, place.clone())? {
            None => Some("it is not there".to_owned()),
            Some(sealed) => check_block(repo, row, &sealed)?,
        };
        if what.is_none() {
            break;
        }
    }
    Ok(what)
}

/// Compares a block with all that its row says of it. An error is no damage, but a newer format.
pub(super) fn check_block(
    repo: &Repository,
    row: &BlockRow,
    sealed: &[u8],
) -> Result<Option<String>> {
    if pack::sealed_hash(sealed) != row.sealed_hash {
        return Ok(Some("its sealed bytes are not those that were written".to_owned()));
    }
    let plain = match pack::open_block(repo.keys(), repo.id(), row, sealed) {
        Ok(plain) => plain,
        Err(error) => return told(Err(error)),
    };
    if row.kind != BlockKind::Data || row.chunk_ids.is_empty() {
        return Ok(None); // rows of an index in memory have no chunks
    }
    let Some(chunks) = row.chunks() else {
        return Ok(Some("its chunk table does not parse".to_owned()));
    };
    let differs = |(id, offset, len): &(_, u32, u32)| {
        let (from, len) = (*offset as usize, *len as usize);
        repo.keys().chunk_id(&plain[from..from + len]) != *id
    };
    let what = "a chunk of it is not what its table says";
    Ok(chunks.iter().any(differs).then(|| what.to_owned()))
}

/// Damage is told; anything else ends the run.
fn told(result: Result<()>) -> Result<Option<String>> {
    match result {
        Ok(()) => Ok(None),
        Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => Ok(Some(reason(&error))),
        Err(error) => Err(error),
    }
}

/// What is wrong, without the name of the object.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Corrupt { what, .. } => what.clone(),
        Error::Missing { .. } => "it is not there".to_owned(),
        other => other.to_string(),
    }
}
