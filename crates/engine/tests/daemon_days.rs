//! Four hundred days of a whole daemon on a clock that is made up: every job comes when it should, none beside
//! itself, and what the daemon holds on to stays what it is. Descriptors and memory are those of the whole
//! process: nothing else may run in it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use engine::Clock;
use engine::daemon::health::Health;
use engine::daemon::{
    Done, Event, Failed, Hooks, Job, Options, Outcome, Place, Power, Size, Task, Work, look, run,
};
use engine::scan::ScanRoot;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schedule::Timetable;
use store::Usage;

const DAYS: u64 = 400;
const HOUR: i64 = 3_600_000_000_000;
/// A push takes so long, and the next one follows at once.
const PUSH_HOURS: i64 = 8;
const ADDRESS: &str = "/srv";

#[derive(Debug)]
struct MadeUp(AtomicI64);

impl Clock for MadeUp {
    fn now_nanos(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the process has: descriptors, and memory in KiB.
fn held() -> (usize, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss = rss.trim().trim_end_matches(" kB").parse().unwrap();
    (fs::read_dir("/proc/self/fd").unwrap().count(), rss)
}

/// Work that is done at once. Each push moves the clock, fails now and then, and asks for another one.
struct Days<'c> {
    clock: &'c MadeUp,
    end: i64,
    events: Sender<Event>,
    ran: Mutex<BTreeMap<Job, u64>>,
    beside: [AtomicUsize; 2],
    held: Mutex<Vec<(usize, u64)>>,
}

impl Work for Days<'_> {
    fn run(&self, task: &Task<'_>) -> (Outcome, Usage) {
        let lane = &self.beside[usize::from(task.job != Job::Push)];
        assert_eq!(lane.fetch_add(1, Ordering::SeqCst), 0, "{} runs beside another", task.job);
        let n = {
            let mut ran = self.ran.lock().unwrap();
            let n = ran.entry(task.job).or_default();
            *n += 1;
            *n
        };
        if task.job == Job::Push {
            let now = self.clock.0.fetch_add(PUSH_HOURS * HOUR, Ordering::SeqCst);
            let next = if now < self.end { Event::Changed } else { Event::Stop };
            if now < self.end + PUSH_HOURS * HOUR {
                self.events.send(next).unwrap();
            }
            self.held.lock().unwrap().push(held());
            // the other lane has its turn
            std::thread::sleep(Duration::from_millis(1));
        }
        lane.fetch_sub(1, Ordering::SeqCst);
        let (code, name) = (15, "storage-unreachable".to_owned());
        let outcome = if n.is_multiple_of(5) {
            let message = format!("no network at push {n}");
            Outcome::Failed(Failed { code, name, message, hint: None, pause: None, fatal: false })
        } else {
            let at = Timestamp::from_nanosecond(self.clock.now_nanos().into()).unwrap();
            let size = Size { at, bytes: n, objects: n, snapshots: n };
            let named = vec!["a problem".repeat(20); 30];
            let size = task.measure.then_some(size);
            Outcome::Done(Done { size, named, problems: 30, ..Done::new(format!("run {n}")) })
        };
        (outcome, Usage { class_a: 3, class_b: 2, class_c: 1, ..Usage::default() })
    }

    fn roots(&self) -> Vec<ScanRoot> {
        Vec::new()
    }

    fn tell(&self, _: Option<Job>, _: &str) {}
}

fn options(metrics: &Path) -> Options {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let texts = [
        (Job::Forget, "30 3 * * *"),
        (Job::Gc, "0 4 * * 0"),
        (Job::Verify, "0 5 * * 3"),
        (Job::Rehearsal, "0 6 1 * *"),
    ];
    let table = |(job, text): (Job, &str)| (job, Timetable::new(&[text], zone.clone()).unwrap());
    Options {
        address: ADDRESS.into(),
        timetables: texts.map(table).into(),
        machine: "m".into(),
        jitter: Duration::from_secs(300),
        restore: false,
        quiet: None,
        last_push: Duration::from_secs(20),
        hooks: Hooks { silent: true, ..Hooks::default() },
        health: Health { prometheus: Some(metrics.to_owned()), ..Health::default() },
        power: Power::any(),
        notes: Vec::new(),
    }
}

#[test]
fn a_daemon_of_four_hundred_days_does_every_job_and_holds_no_more_than_in_its_first_weeks() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::take(dir.path(), ADDRESS).unwrap();
    let start: Timestamp = "2026-02-10T09:17:23Z".parse().unwrap();
    let clock = MadeUp(AtomicI64::new(start.as_nanosecond().try_into().unwrap()));
    let (send, events) = engine::daemon::channel();
    let work = Days {
        clock: &clock,
        end: clock.now_nanos() + i64::try_from(DAYS).unwrap() * 24 * HOUR,
        events: send.clone(),
        ran: Mutex::default(),
        beside: Default::default(),
        held: Mutex::default(),
    };
    let options = options(&dir.path().join("metrics.prom"));
    let ended = run(&place, &options, &work, &clock, (&send, &events), &BTreeMap::new());
    assert!(ended.failed.is_none() && !ended.cut, "{ended:?}");
    drop(place);

    let ran = work.ran.into_inner().unwrap();
    let pushes = ran[&Job::Push];
    assert!(pushes >= DAYS * 3, "{ran:?}");
    // 57 weeks, 13 firsts of a month; one that comes while another runs may be one with the next
    for (job, least, most) in [
        (Job::Forget, 390, 401),
        (Job::Gc, 56, 58),
        (Job::Verify, 56, 58),
        (Job::Rehearsal, 13, 14),
    ] {
        assert!((least..=most).contains(&ran[&job]), "{job}: {ran:?}");
    }
    let held = work.held.into_inner().unwrap();
    let (first, rest) = held.split_at(held.len() / 10);
    let fds = |some: &[(usize, u64)]| some.iter().map(|(fds, _)| *fds).max().unwrap();
    // a file that is just written
    assert!(fds(rest) <= fds(first) + 4, "{} descriptors, then {}", fds(first), fds(rest));
    let (early, late) = (first.last().unwrap().1, held.last().unwrap().1);
    assert!(late <= early + 2_048, "{early} KiB, then {late}");
    let record = look(dir.path(), ADDRESS).0.unwrap();
    let bytes = serde_json::to_vec(&record).unwrap().len();
    assert!(bytes < 100_000, "{bytes}");
    assert_eq!(record.jobs[&Job::Push].runs, ended.pushes);
}
