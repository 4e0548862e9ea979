//! What a daemon did and will do: one file of JSON, read by `status`, written whole each time something
//! starts or ends.
//!
//! `<state>/daemon/<hash of the address>/state.json`, `v` 1. Keys may be added. Nothing in it grows without
//! a bound: lists have one, texts are cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use store::Usage;

use super::{Done, Failed, Job};
use crate::error::{Error, Result};
use crate::state::{Lock, StateDir};

/// Days for which requests are counted.
const DAYS_MAX: usize = 35;
/// Sizes that are remembered, one a day.
const SIZES_MAX: usize = 400;
/// Characters of a message that are remembered.
const TEXT_CHARS_MAX: usize = 1_000;
/// How often somebody who only looks at the lock is waited for, and how long each time.
const LOOKS_MAX: u32 = 5;
const LOOK_TIME: std::time::Duration = std::time::Duration::from_millis(40);
/// Version of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this file.
    pub v: u32,
    /// Version of the program.
    pub program: String,
    /// Address of the repository.
    pub repository: String,
    /// Process id.
    pub pid: u32,
    /// When the daemon started.
    pub started: Timestamp,
    /// When it ended; none: it runs, or was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How jobs stand.
    pub jobs: BTreeMap<Job, JobRecord>,
    /// Requests and bytes, by day (UTC), oldest first.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Sizes of the repository, at most one a day, oldest first.
    #[serde(default)]
    pub sizes: Vec<Size>,
    /// What is not as it was asked for: a priority that cannot be set, a watch that polls.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How a job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its schedule as written; empty: only on request.
    #[serde(default)]
    pub schedule: Vec<String>,
    /// When it was planned first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// When it is planned next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Since when it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// When it was done last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
    /// What it did then.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub did: String,
    /// Items that had problems then; the first of them by name.
    #[serde(default)]
    pub problems: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// It fails, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// It is put off, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_off: Option<PutOff>,
    /// Runs that were done.
    #[serde(default)]
    pub runs: u64,
    /// Runs that failed.
    #[serde(default)]
    pub failures: u64,
    /// Moments of the schedule that came while it ran or waited.
    #[serde(default)]
    pub merged: u64,
}

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The first of them.
    pub since: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub times: u32,
    /// What an exit code would be.
    pub code: u8,
    /// Its name.
    pub name: String,
    /// What failed.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it is tried again; none: at the next moment of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Timestamp>,
}

/// Why a job does not run though it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOff {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
}

/// Requests and bytes of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// The day, in UTC, as storages count.
    pub day: Date,
    /// PUT and DELETE.
    pub class_a: u64,
    /// GET.
    pub class_b: u64,
    /// LIST.
    pub class_c: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// The size of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// When it was measured.
    pub at: Timestamp,
    /// Bytes of all objects.
    pub bytes: u64,
    /// How many there are.
    pub objects: u64,
    /// Snapshots.
    pub snapshots: u64,
}

impl Record {
    /// What a daemon that starts knows of earlier ones.
    pub(super) fn begin(old: Option<Self>, repository: &str, now: Timestamp) -> Self {
        let mut record = old.unwrap_or_default();
        for job in record.jobs.values_mut() {
            job.running_since = None;
            job.next = None;
            job.put_off = None;
        }
        Self {
            v: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            repository: repository.to_owned(),
            pid: std::process::id(),
            started: now,
            ended: None,
            notes: Vec::new(),
            ..record
        }
    }

    /// The record of a job.
    pub fn job(&mut self, job: Job) -> &mut JobRecord {
        self.jobs.entry(job).or_default()
    }

    /// A job was done.
    pub(super) fn done(&mut self, job: Job, done: &Done, now: Timestamp) {
        let record = self.job(job);
        record.runs = record.runs.saturating_add(1);
        record.done = Some(now);
        record.did = cut(&done.did);
        record.problems = done.problems;
        record.named = done.named.iter().take(Done::NAMED_MAX).map(|text| cut(text)).collect();
        (record.failing, record.put_off) = (None, None);
        if let Some(size) = done.size {
            let day = |at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).date();
            self.sizes.retain(|known| day(known.at) != day(size.at));
            self.sizes.push(size);
            let more = self.sizes.len().saturating_sub(SIZES_MAX);
            self.sizes.drain(..more);
        }
    }

    /// A job failed; true if it did not before.
    pub(super) fn failed(
        &mut self,
        job: Job,
        failed: &Failed,
        again: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let record = self.job(job);
        record.failures = record.failures.saturating_add(1);
        record.put_off = None;
        let before = record.failing.take();
        let is_new = before.as_ref().is_none_or(|before| before.code != failed.code);
        record.failing = Some(Failing {
            since: before.as_ref().map_or(now, |before| before.since),
            last: now,
            times: before.map_or(1, |before| before.times.saturating_add(1)),
            code: failed.code,
            name: failed.name.clone(),
            message: cut(&failed.message),
            hint: failed.hint.clone(),
            again,
        });
        is_new
    }

    /// A job was put off.
    pub(super) fn put_off(&mut self, job: Job, why: &str, now: Timestamp) -> bool {
        let record = self.job(job);
        let before = record.put_off.take();
        let is_new = before.is_none();
        let since = before.map_or(now, |before| before.since);
        record.put_off = Some(PutOff { since, why: cut(why) });
        is_new
    }

    /// Requests were sent.
    pub(super) fn count(&mut self, usage: &Usage, now: Timestamp) {
        if *usage == Usage::default() {
            return;
        }
        let day = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let at = self.days.iter().position(|known| known.day == day).unwrap_or_else(|| {
            let new = Day { day, class_a: 0, class_b: 0, class_c: 0, sent: 0, received: 0 };
            self.days.push(new);
            let more = self.days.len().saturating_sub(DAYS_MAX);
            self.days.drain(..more);
            self.days.len() - 1
        });
        let today = &mut self.days[at];
        today.class_a += usage.class_a;
        today.class_b += usage.class_b;
        today.class_c += usage.class_c;
        today.sent += usage.bytes_sent;
        today.received += usage.bytes_received;
    }

    /// The size that was measured last.
    pub fn size(&self) -> Option<&Size> {
        self.sizes.last()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Where the daemon of an address keeps its record and its lock.
#[derive(Debug)]
pub struct Place {
    dir: StateDir,
    _lock: Lock,
}

/// The directory of an address.
fn directory(state: &Path, address: &str) -> PathBuf {
    let name = blake3::hash(address.as_bytes()).to_hex();
    state.join("daemon").join(&name[..32])
}

impl Place {
    /// Takes the place of the only daemon for this address here; [`Error::DaemonRuns`] names the one that
    /// has it. The system holds the lock, not the file: what a killed daemon left is in nobody's way.
    pub fn take(state: &Path, address: &str) -> Result<Self> {
        let dir = StateDir::at(directory(state, address))?;
        let lock = take_lock(&dir)?;
        Ok(Self { dir, _lock: lock })
    }

    /// What earlier daemons wrote; an unreadable record is history that is lost, and no more.
    pub(super) fn load(&self) -> Option<Record> {
        let read = self.dir.load_opt::<Record>();
        read.inspect_err(|error| tracing::warn!(%error, "the daemon's record starts anew")).ok()?
    }

    pub(super) fn save(&self, record: &Record) -> Result<()> {
        self.dir.save(record)
    }
}

/// What a daemon for this address wrote, and its process id if one runs: the lock says whether, the file
/// which.
pub fn look(state: &Path, address: &str) -> (Option<Record>, Option<Option<u32>>) {
    let dir = directory(state, address);
    if !dir.is_dir() {
        return (None, None);
    }
    let Ok(dir) = StateDir::at(dir) else { return (None, None) };
    let running = match dir.try_look() {
        Err(Error::Busy { holder }) => Some(holder),
        _ => None,
    };
    (dir.load_opt().ok().flatten(), running)
}

/// The lock against a second daemon that reaches the same repository by another address.
pub(super) fn claim(session: &crate::Session) -> Result<Lock> {
    take_lock(&StateDir::at(session.state.path().join("daemon"))?)
}

/// Takes a lock of daemons. Somebody who only looks has it for an instant, so it is asked for again.
fn take_lock(dir: &StateDir) -> Result<Lock> {
    let mut tries = 0;
    loop {
        match dir.lock() {
            Err(Error::Busy { .. }) if tries < LOOKS_MAX => {
                tries += 1;
                std::thread::sleep(LOOK_TIME);
            }
            Err(Error::Busy { holder }) => return Err(Error::DaemonRuns { holder }),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn failed() -> Failed {
        Failed {
            code: 15,
            name: "storage-unreachable".into(),
            message: "x".repeat(5_000),
            hint: None,
            pause: None,
            fatal: false,
        }
    }

    #[test]
    fn years_of_runs_leave_a_file_of_bounded_size() {
        let mut record = Record::begin(None, "/srv", at("2026-01-01T00:00:00Z"));
        let mut now = at("2026-01-01T00:00:00Z");
        for n in 0..800 {
            now += jiff::SignedDuration::from_hours(12);
            record.count(&Usage { class_c: 2, ..Usage::default() }, now);
            let size = Size { at: now, bytes: n, objects: n, snapshots: 1 };
            let done =
                Done { size: Some(size), named: vec!["n".repeat(3_000); 50], ..Done::new("did") };
            record.done(Job::Push, &done, now);
            record.failed(Job::Gc, &failed(), None, now);
        }
        assert_eq!((record.days.len(), record.sizes.len()), (DAYS_MAX, SIZES_MAX));
        assert_eq!(record.days[33].class_c, 4);
        let bytes = serde_json::to_vec(&record).unwrap();
        assert!(bytes.len() < 100_000, "{}", bytes.len());
        let read: Record = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, record);
    }

    #[test]
    fn a_failure_keeps_when_it_began_and_a_success_ends_it() {
        let mut record = Record::begin(None, "/srv", at("2026-01-01T00:00:00Z"));
        assert!(record.failed(Job::Push, &failed(), None, at("2026-01-01T01:00:00Z")));
        assert!(!record.failed(Job::Push, &failed(), None, at("2026-01-01T02:00:00Z")));
        let other = Failed { code: 13, ..failed() };
        assert!(record.failed(Job::Push, &other, None, at("2026-01-01T03:00:00Z")), "another one");
        let failing = record.job(Job::Push).failing.clone().unwrap();
        assert_eq!((failing.since, failing.times), (at("2026-01-01T01:00:00Z"), 3));
        record.done(Job::Push, &Done::new("did"), at("2026-01-01T04:00:00Z"));
        assert_eq!(record.job(Job::Push).failing, None);
    }

    #[test]
    fn a_lock_file_of_a_dead_daemon_blocks_nobody_and_a_living_one_is_named() {
        let state = tempfile::tempdir().unwrap();
        let dir = directory(state.path(), "b2:bucket");
        std::fs::create_dir_all(&dir).unwrap();
        // F9 of agent-backup-core: an empty file, and the id of a process that lives and is another
        for left in ["", "1", "no number"] {
            std::fs::write(dir.join("lock"), left).unwrap();
            drop(Place::take(state.path(), "b2:bucket").unwrap());
        }
        let held = Place::take(state.path(), "b2:bucket").unwrap();
        let error = Place::take(state.path(), "b2:bucket").unwrap_err();
        let Error::DaemonRuns { holder } = &error else { panic!("{error}") };
        assert_eq!(*holder, Some(std::process::id()));
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert_eq!(look(state.path(), "b2:bucket").1, Some(Some(std::process::id())));
        drop(Place::take(state.path(), "b2:other").unwrap());
        drop(held);
        assert_eq!(look(state.path(), "b2:bucket").1, None);
    }

    #[test]
    fn a_damaged_record_is_history_and_stops_no_daemon() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::take(state.path(), "/srv").unwrap();
        std::fs::write(place.dir.path().join("state.json"), "{\"v\":1,").unwrap();
        assert_eq!(place.load(), None);
        let record = Record::begin(None, "/srv", at("2026-01-01T00:00:00Z"));
        place.save(&record).unwrap();
        assert_eq!(place.load(), Some(record));
    }
}
