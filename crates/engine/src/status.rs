//! How it stands: what was done, what is overdue, what it costs.
//!
//! Cheap on purpose: files of this machine, and one listing of the store. Nothing is opened or decrypted, so
//! no key of the repository is needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use repo::gc::is_condemning;
use repo::{OpId, RepoId};
use schedule::Timetable;
use store::Store;

use crate::daemon::{Day, Job, Record, Size, look};
use crate::error::Result;
use crate::gone::{Alarm, alarms_in};
use crate::journal::{self, Journal};

/// What this machine knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Local {
    /// The repository, if this machine opened it at this address.
    pub repository: Option<RepoId>,
    /// What was done last.
    pub journal: Journal,
    /// What a daemon wrote.
    pub record: Option<Record>,
    /// A daemon runs; its process id, if it says.
    pub daemon: Option<Option<u32>>,
    /// Much of an agent's history vanished, and nobody acknowledged it.
    pub alarms: Vec<Alarm>,
}

impl Local {
    /// Reads it; asks no store.
    pub fn read(state: &Path, address: &str) -> Self {
        let known = journal::repo_dir(state, address);
        let journal = known.as_ref().map(|(_, dir)| journal::read(dir)).unwrap_or_default();
        let alarms = known.as_ref().map(|(_, dir)| alarms_in(dir)).unwrap_or_default();
        let (record, daemon) = look(state, address);
        Self { repository: known.map(|(id, _)| id), journal, record, daemon, alarms }
    }

    /// When a job was done last, by whomever.
    pub fn done(&self, job: Job) -> Option<Timestamp> {
        let journal = &self.journal;
        let done = match job {
            Job::Push => journal.push.as_ref().map(|done| done.at),
            Job::Forget => journal.forget.as_ref().map(|done| done.at),
            Job::Gc => journal.gc.as_ref().map(|done| done.at),
            Job::Verify => journal.verify.as_ref().map(|done| done.at),
            Job::Rehearsal => journal.rehearsal.as_ref().map(|done| done.at),
            Job::Restore => None,
        };
        // forgetting is a job that often finds nothing to do
        let told = self.record.as_ref().and_then(|record| record.jobs.get(&job)?.done);
        if job == Job::Push { done } else { done.max(told) }
    }
}

impl Local {
    /// Since when a daemon plans a job of care: one that was never done is overdue some day too.
    fn since(&self, job: Job) -> Option<Timestamp> {
        let record = self.record.as_ref()?.jobs.get(&job)?;
        record.since.filter(|_| job != Job::Push)
    }
}

/// What a listing of the store shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    /// How much there is.
    pub size: Size,
    /// Whether this machine's newest snapshot is there, or was forgotten on purpose; none if there is none.
    pub newest_there: Option<bool>,
    /// Operations that are announced and not ended, and when each gave its last sign.
    pub operations: Vec<(OpId, SystemTime)>,
    /// Collections that wait to free something: each has condemned packs that are not swept yet.
    pub collections: u64,
}

impl Remote {
    /// Asks the store: one listing of everything.
    pub fn look(store: &dyn Store, newest: Option<&str>, now: Timestamp) -> Result<Self> {
        let all = store.list("")?;
        let mut size = Size { at: now, bytes: 0, objects: 0, snapshots: 0 };
        let mut operations = BTreeMap::new();
        let mut over = Vec::new();
        let mut newest_there = newest.map(|_| false);
        let mut collections = 0;
        for item in &all {
            size.bytes += item.size;
            size.objects += 1;
            let (kind, name) = item.name.split_once('/').unwrap_or((&item.name, ""));
            match kind {
                "snap" | "forgot" => {
                    size.snapshots += u64::from(kind == "snap");
                    over.push(name);
                    if newest == Some(name) {
                        newest_there = Some(true);
                    }
                }
                "end" | "dead" => over.push(name),
                "op" => {
                    operations.extend(OpId::from_hex(name).map(|id| (name, (id, item.modified))));
                }
                "gc" => collections += u64::from(is_condemning(&item.name)),
                _ => {}
            }
        }
        for name in over {
            operations.remove(name);
        }
        let operations = operations.into_values().collect();
        Ok(Self { size, newest_there, operations, collections })
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// No push was acknowledged yet, though there is a schedule.
    NeverPushed,
    /// A job was not done for two intervals.
    Overdue {
        /// Which.
        job: Job,
        /// When it was done last, or planned first.
        done: Timestamp,
        /// When it should have been done at the latest.
        by: Timestamp,
    },
    /// This machine's newest snapshot is gone, and nobody forgot it.
    Vanished,
    /// The last push could not store all that it should have.
    Incomplete {
        /// When.
        at: Timestamp,
        /// How many items.
        count: u64,
    },
    /// Much of an agent's history vanished at once.
    HistoryGone(Alarm),
    /// The last look at what is stored, or the last rehearsal, found damage.
    Damage {
        /// Which of the two.
        job: Job,
        /// When.
        at: Timestamp,
        /// How much.
        count: u64,
    },
}

/// How old the last runs may be.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// The schedules that hold for this machine.
    pub timetables: BTreeMap<Job, Timetable>,
    /// Starts come so much later than their moment, at most.
    pub jitter: SignedDuration,
    /// The newest push may be so old, whatever the schedule says.
    pub age_max: Option<SignedDuration>,
}

/// What is wrong. That something fails now is no trouble yet: it is tried again, and trouble comes when it is
/// overdue.
pub fn judge(
    local: &Local,
    remote: Option<&Remote>,
    limits: &Limits,
    now: Timestamp,
) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for job in Job::ALL {
        let table = limits.timetables.get(&job);
        let age_max = limits.age_max.filter(|_| job == Job::Push);
        if table.is_none() && age_max.is_none() {
            continue;
        }
        let Some(done) = local.done(job).or_else(|| local.since(job)) else {
            if job == Job::Push {
                troubles.push(Trouble::NeverPushed);
            }
            continue;
        };
        let by = match (age_max, table) {
            (Some(age), _) => done.checked_add(age).ok(),
            (None, Some(table)) => {
                table.overdue_from(done).and_then(|by| by.checked_add(limits.jitter).ok())
            }
            (None, None) => None,
        };
        if let Some(by) = by.filter(|by| *by < now) {
            troubles.push(Trouble::Overdue { job, done, by });
        }
    }
    if remote.and_then(|remote| remote.newest_there) == Some(false) {
        troubles.push(Trouble::Vanished);
    }
    if let Some(push) = local.journal.push.as_ref().filter(|done| done.problems > 0) {
        troubles.push(Trouble::Incomplete { at: push.at, count: push.problems });
    }
    troubles.extend(local.alarms.iter().cloned().map(Trouble::HistoryGone));
    if let Some(verify) = local.journal.verify.as_ref().filter(|done| done.damaged > 0) {
        troubles.push(Trouble::Damage { job: Job::Verify, at: verify.at, count: verify.damaged });
    }
    if let Some(done) = local.journal.rehearsal.as_ref().filter(|done| done.damaged > 0) {
        troubles.push(Trouble::Damage { job: Job::Rehearsal, at: done.at, count: done.damaged });
    }
    troubles
}

/// How much more there is than so many days ago, if that is known: bytes, and over how many days.
pub fn growth(sizes: &[Size], now: &Size, days: i64) -> Option<(i64, i64)> {
    let ago = SignedDuration::from_hours(24 * days);
    let old = sizes.iter().rev().find(|size| now.at.duration_since(size.at) >= ago)?;
    let over = now.at.duration_since(old.at).as_hours() / 24;
    let bytes = i128::from(now.bytes) - i128::from(old.bytes);
    Some((i64::try_from(bytes).ok()?, over))
}

/// What a storage takes, in any currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// For a gigabyte (10^9 bytes) and month.
    pub storage_gb_month: f64,
    /// Gigabytes that cost nothing.
    pub storage_gb_free: f64,
    /// For ten thousand requests of class B (GET).
    pub class_b_10000: f64,
    /// For a thousand requests of class C (LIST).
    pub class_c_1000: f64,
    /// Requests of class B, and as many of class C, that cost nothing each day.
    pub requests_free_day: u64,
    /// For a gigabyte that is downloaded.
    pub download_gb: f64,
    /// Times the stored bytes that may be downloaded each month for nothing.
    pub download_free_times: f64,
}

impl Prices {
    /// Backblaze B2's list prices in US dollars, as far as they are known here; they change.
    pub const B2: Self = Self {
        storage_gb_month: 0.006,
        storage_gb_free: 10.0,
        class_b_10000: 0.004,
        class_c_1000: 0.004,
        requests_free_day: 2_500,
        download_gb: 0.01,
        download_free_times: 3.0,
    };
}

/// What a month costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// For what is stored.
    pub storage: f64,
    /// For GETs.
    pub class_b: f64,
    /// For LISTs.
    pub class_c: f64,
    /// For downloads.
    pub download: f64,
    /// Days of requests that it stands on; 0: the requests are not known.
    pub days: usize,
}

impl Cost {
    /// What a month like the days that were counted costs with so much stored. Class A is free.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn of_a_month(prices: &Prices, bytes: u64, days: &[Day]) -> Self {
        const MONTH_DAYS: f64 = 30.0;
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let stored = gigabytes(bytes);
        let storage = (stored - prices.storage_gb_free).max(0.0) * prices.storage_gb_month;
        if days.is_empty() {
            return Self { storage, ..Self::default() };
        }
        let month = MONTH_DAYS / days.len() as f64;
        let paid = |of: &dyn Fn(&Day) -> u64| -> f64 {
            let over = days.iter().map(|day| of(day).saturating_sub(prices.requests_free_day));
            over.sum::<u64>() as f64 * month
        };
        let received = gigabytes(days.iter().map(|day| day.received).sum()) * month;
        let free = stored * prices.download_free_times;
        Self {
            storage,
            class_b: paid(&|day| day.class_b) / 10_000.0 * prices.class_b_10000,
            class_c: paid(&|day| day.class_c) / 1_000.0 * prices.class_c_1000,
            download: (received - free).max(0.0) * prices.download_gb,
            days: days.len(),
        }
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.storage + self.class_b + self.class_c + self.download
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::journal::{PushDone, VerifyDone};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pushed(when: &str) -> Local {
        let push = PushDone {
            at: at(when),
            snapshot: "ab".into(),
            problems: 0,
            agents: BTreeMap::new(),
            paths: BTreeMap::new(),
        };
        Local { journal: Journal { push: Some(push), ..Journal::default() }, ..Local::default() }
    }

    fn limits(text: &str) -> Limits {
        let table = Timetable::new(&[text], TimeZone::UTC).unwrap();
        let jitter = SignedDuration::from_mins(5);
        Limits { timetables: [(Job::Push, table)].into(), jitter, age_max: None }
    }

    #[test]
    fn a_push_is_overdue_after_two_intervals_and_not_before() {
        let local = pushed("2026-05-27T10:01:00Z");
        let ok = |now: &str| judge(&local, None, &limits("hourly"), at(now)).is_empty();
        assert!(ok("2026-05-27T11:30:00Z") && ok("2026-05-27T12:06:00Z"));
        assert!(!ok("2026-05-27T12:06:01Z"));
        let troubles = judge(&local, None, &limits("hourly"), at("2026-05-28T00:00:00Z"));
        let by = at("2026-05-27T12:06:00Z");
        assert_eq!(
            troubles,
            [Trouble::Overdue { job: Job::Push, done: at("2026-05-27T10:01:00Z"), by }]
        );
    }

    #[test]
    fn without_a_schedule_nothing_is_overdue_unless_an_age_is_named() {
        let local = pushed("2026-05-01T00:00:00Z");
        let now = at("2026-05-27T00:00:00Z");
        assert!(judge(&local, None, &Limits::default(), now).is_empty());
        let age_max = Some(SignedDuration::from_hours(48));
        assert_eq!(judge(&local, None, &Limits { age_max, ..Limits::default() }, now).len(), 1);
        let never = judge(&Local::default(), None, &limits("hourly"), now);
        assert_eq!(never, [Trouble::NeverPushed]);
    }

    #[test]
    fn damage_that_was_found_and_a_snapshot_that_vanished_are_told() {
        let mut local = pushed("2026-05-27T10:01:00Z");
        local.journal.verify = Some(VerifyDone {
            at: at("2026-05-20T00:00:00Z"),
            level: "sample".into(),
            bytes_read: 1,
            damaged: 2,
            packs_never_read: 0,
        });
        let size = Size { at: at("2026-05-27T11:00:00Z"), bytes: 0, objects: 0, snapshots: 0 };
        let remote =
            Remote { size, newest_there: Some(false), operations: Vec::new(), collections: 0 };
        let troubles = judge(&local, Some(&remote), &limits("hourly"), at("2026-05-27T11:00:00Z"));
        assert!(
            matches!(troubles[..], [Trouble::Vanished, Trouble::Damage { count: 2, .. }]),
            "{troubles:?}"
        );
    }

    #[test]
    fn a_push_that_could_not_store_all_is_told_until_one_could() {
        let mut local = pushed("2026-05-27T10:01:00Z");
        let now = at("2026-05-27T10:02:00Z");
        local.journal.push.as_mut().unwrap().problems = 2;
        let troubles = judge(&local, None, &Limits::default(), now);
        assert_eq!(troubles, [Trouble::Incomplete { at: at("2026-05-27T10:01:00Z"), count: 2 }]);
        local.journal.push.as_mut().unwrap().problems = 0;
        assert!(judge(&local, None, &Limits::default(), now).is_empty());
    }

    #[test]
    fn history_that_vanished_is_told_until_somebody_says_that_it_was_seen() {
        let mut local = pushed("2026-05-27T10:01:00Z");
        local.alarms.push(Alarm {
            agent: "codex".into(),
            gone: 3,
            of: 4,
            before: "11".repeat(16),
            at_secs: 0,
            pinned: Vec::new(),
        });
        let now = at("2026-05-27T11:00:00Z");
        let troubles = judge(&local, None, &limits("hourly"), now);
        assert!(
            matches!(&troubles[..], [Trouble::HistoryGone(one)] if one.gone == 3),
            "{troubles:?}"
        );
        local.alarms.clear();
        assert!(judge(&local, None, &limits("hourly"), now).is_empty());
    }

    #[test]
    fn a_listing_tells_what_is_there_and_what_runs() {
        let store = store::MemoryStore::new();
        let (one, two) = ("11".repeat(16), "22".repeat(16));
        let put =
            |name: String, bytes: usize| store.put(&name, vec![vec![0; bytes].into()]).unwrap();
        put("config".into(), 100);
        put(format!("op/{one}"), 10);
        put(format!("snap/{one}"), 50);
        put(format!("op/{two}"), 10);
        put(format!("packs/{one}-0"), 1_000);
        put(format!("gc/{one}.s"), 5); // what a collection saw is there until the next one
        put(format!("gc/{two}.d"), 5);
        put(format!("gc/{two}.o"), 5);
        let now = at("2026-05-27T11:00:00Z");
        let remote = Remote::look(&store, Some(&one), now).unwrap();
        assert_eq!(remote.size, Size { at: now, bytes: 1_185, objects: 8, snapshots: 1 });
        assert_eq!((remote.newest_there, remote.collections), (Some(true), 1));
        let running: Vec<String> = remote.operations.iter().map(|(id, _)| id.hex()).collect();
        assert_eq!(running, std::slice::from_ref(&two));
        assert_eq!(Remote::look(&store, Some(&two), now).unwrap().newest_there, Some(false));
        put(format!("forgot/{two}"), 5);
        assert_eq!(Remote::look(&store, Some(&two), now).unwrap().newest_there, Some(true));
    }

    #[test]
    fn a_month_of_hourly_pushes_costs_what_is_stored_and_requests_only_beyond_the_free_ones() {
        let day = |class_c| Day {
            day: jiff::civil::date(2026, 5, 1),
            class_a: 9,
            class_b: 100,
            class_c,
            sent: 0,
            received: 0,
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        let cost = Cost::of_a_month(&Prices::B2, 110_000_000_000, &[day(200), day(200)]);
        near(cost.total(), 0.6);
        // 4,500 a day are 2,000 too many, for 30 days
        let cost = Cost::of_a_month(&Prices::B2, 1_000_000_000, &[day(4_500)]);
        near(cost.class_c, 0.24);
        near(cost.total(), 0.24);
        let mut much = day(0);
        much.received = 10_000_000_000; // 300 GB a month of 10 GB stored: 270 are paid for
        near(Cost::of_a_month(&Prices::B2, 10_000_000_000, &[much]).download, 2.7);
    }

    #[test]
    fn growth_is_measured_over_the_days_that_are_known() {
        let size = |day: i8, bytes| Size {
            at: jiff::civil::date(2026, 5, day).to_zoned(TimeZone::UTC).unwrap().timestamp(),
            bytes,
            objects: 1,
            snapshots: 1,
        };
        let sizes = [size(1, 100), size(10, 150), size(20, 400)];
        assert_eq!(growth(&sizes, &size(20, 400), 7), Some((250, 10)));
        assert_eq!(growth(&sizes, &size(20, 50), 15), Some((-50, 19)));
        assert_eq!(growth(&sizes, &size(20, 400), 30), None);
    }
}
