//! Four hundred days on a clock that is made up: nothing is missed, nothing runs twice, nothing grows.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schedule::{Cause, Now, Pause, Planner, Setback, Spec, Timetable};

const DAYS: i64 = 400;
const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"];

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn start() -> Timestamp {
    "2026-02-10T09:17:23Z".parse().unwrap()
}

fn table(texts: &[&str], zone: &TimeZone) -> Timetable {
    Timetable::new(texts, zone.clone()).unwrap()
}

/// All moments in the four hundred days.
fn moments(table: &Timetable) -> Vec<Timestamp> {
    let end = start() + SignedDuration::from_hours(24 * DAYS);
    let next = |at: &Timestamp| table.next_after(*at);
    std::iter::successors(table.next_after(start()), next).take_while(|at| *at < end).collect()
}

#[test]
fn a_time_of_day_comes_once_on_every_date_in_every_zone_whatever_the_clock_does() {
    for zone in ZONES.map(|zone| TimeZone::get(zone).unwrap()) {
        for (hour, minute) in [(0, 0), (1, 45), (2, 0), (2, 30), (3, 0), (12, 0), (23, 59)] {
            let daily = table(&[&format!("{minute} {hour} * * *")], &zone);
            let all = moments(&daily);
            // also for who starts to look around the time at which the clock is set
            for set in zone.following(start()).map(|change| change.timestamp()).take(2) {
                for minutes in (-240..=240).step_by(10).map(SignedDuration::from_mins) {
                    let next = all.iter().find(|at| **at > set + minutes);
                    assert_eq!(daily.next_after(set + minutes).as_ref(), next, "{zone:?}");
                }
            }
            let mut dates: BTreeMap<_, Vec<DateTime>> = BTreeMap::new();
            for at in &all {
                let civil = zone.to_datetime(*at);
                dates.entry(civil.date()).or_default().push(civil);
            }
            assert!((DAYS - 1..=DAYS + 1).contains(&i64::try_from(dates.len()).unwrap()));
            for (date, times) in &dates {
                assert_eq!(times.len(), 1, "{date} in {zone:?}");
                let wanted = date.at(hour, minute, 0, 0);
                // where the clock skips the time, the end of the gap is at most an hour later
                let real = zone.to_ambiguous_timestamp(wanted);
                if real.is_ambiguous() && times[0] != wanted {
                    let later = times[0].duration_since(wanted);
                    assert!(later > SignedDuration::ZERO && later <= SignedDuration::from_hours(1));
                } else {
                    assert_eq!(times[0], wanted, "{zone:?}");
                }
            }
        }
    }
}

#[test]
fn an_hourly_schedule_shows_a_full_hour_each_time_and_leaves_none_out() {
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let all = moments(&table(&["hourly"], &zone));
        assert!(all.iter().all(|at| zone.to_datetime(*at).minute() == 0));
        let gaps: Vec<i64> =
            all.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
        if name == "Australia/Lord_Howe" {
            let odd: Vec<i64> = gaps.into_iter().filter(|gap| *gap != 3600).collect();
            assert_eq!(odd, [5400, 5400], "half an hour back in April, forward in October");
        } else {
            assert!(gaps.iter().all(|gap| *gap == 3600), "{name}");
        }
    }
}

#[test]
fn several_texts_agree_with_a_look_at_every_minute() {
    let zone = TimeZone::get("America/New_York").unwrap();
    // mondays and thursdays at four, the first of a month at noon, ten to six on working days
    let all = moments(&table(&["0 4 * * 1,4", "0 12 1 * *", "50 17 * * 1-5"], &zone));
    let minute = SignedDuration::from_mins(1);
    let mut expected = Vec::new();
    let mut at = start() + (SignedDuration::from_secs(37));
    for _ in 0..DAYS * 24 * 60 - 1 {
        let now = zone.to_datetime(at);
        let day = now.weekday();
        let weekend = matches!(day, Weekday::Saturday | Weekday::Sunday);
        let fits = match (now.hour(), now.minute()) {
            (4, 0) => matches!(day, Weekday::Monday | Weekday::Thursday),
            (12, 0) => now.day() == 1,
            (17, 50) => !weekend,
            _ => false,
        };
        if fits {
            expected.push(at);
        }
        at += minute;
    }
    assert_eq!(all, expected);
    assert!(all.len() > 400);
}

const JOBS: [(&str, usize, &[&str]); 5] = [
    ("push", 0, &["hourly"]),
    ("forget", 1, &["30 3 * * *"]),
    ("gc", 1, &["30 2 * * 0"]), // falls into both changes of the clock
    ("verify", 1, &["0 4 * * 1,4", "0 12 1 * *"]),
    ("rehearsal", 1, &["monthly"]),
];
const JITTER: u64 = 300;

fn planner(zone: &TimeZone, now: Now) -> Planner<&'static str> {
    let spec = |(n, (job, lane, texts)): (usize, &(&'static str, usize, &[&str]))| Spec {
        job: *job,
        lane: *lane,
        timetable: Some(table(texts, zone)),
        jitter: Duration::from_secs(JITTER),
        seed: n as u64 * 77,
        last: None,
    };
    Planner::new(JOBS.iter().enumerate().map(spec).collect(), now)
}

#[test]
fn an_undisturbed_machine_starts_every_moment_once_within_its_jitter() {
    for zone in ZONES.map(|zone| TimeZone::get(zone).unwrap()) {
        let mut now = Now { wall: start(), mono: Duration::ZERO };
        let mut planner = planner(&zone, now);
        let mut started: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        let end = start() + SignedDuration::from_hours(24 * DAYS);
        loop {
            let step = planner.idle_for(now).unwrap();
            assert!(step > Duration::ZERO, "a loop that never sleeps");
            now.wall += SignedDuration::try_from(step).unwrap();
            now.mono += step;
            if now.wall >= end {
                break;
            }
            for _ in 0..JOBS.len() {
                for start in planner.poll(now) {
                    let moment = start.moment.unwrap();
                    assert_eq!(start.cause, Cause::Moment);
                    let late = now.wall.duration_since(moment).as_secs();
                    assert!((0..=i64::try_from(JITTER).unwrap()).contains(&late), "{late}");
                    started.entry(start.job).or_default().push(moment);
                    planner.finished(start.job, Ok(()), now);
                }
            }
        }
        for (job, _, texts) in JOBS {
            let mut expected = moments(&table(texts, &zone));
            // the last one may have its jitter still to come
            expected.truncate(expected.len().min(started[job].len().max(expected.len() - 1)));
            assert_eq!(started[job], expected, "{job} in {zone:?}");
        }
    }
}

/// A machine that sleeps, loses its network, runs for hours and has its clock set.
struct Machine {
    now: Now,
    dice: Dice,
    running: Vec<(&'static str, Duration, bool)>,
    offline_until: Duration,
}

impl Machine {
    fn pass(&mut self, secs: u64) {
        self.now.mono += Duration::from_secs(secs);
        self.now.wall += SignedDuration::from_secs(i64::try_from(secs).unwrap());
    }

    fn set_clock(&mut self, secs: i64) {
        self.now.wall += SignedDuration::from_secs(secs);
    }
}

#[test]
fn four_hundred_days_of_sleep_faults_and_wrong_clocks_lose_no_schedule() {
    for seed in 1..=4 {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = Now { wall: start(), mono: Duration::ZERO };
        let mut planner = planner(&zone, now);
        let mut m =
            Machine { now, dice: Dice(seed), running: Vec::new(), offline_until: Duration::ZERO };
        let (mut done, mut slept, mut largest): (BTreeMap<&str, u64>, u64, usize) =
            Default::default();
        let mut last_push = Duration::ZERO; // awake time at which the last push ended well
        let mut woke = Duration::ZERO;
        let mut after_sleep: Vec<&str> = Vec::new();
        let awake_days = Duration::from_secs(u64::try_from(DAYS).unwrap() * 86_400 / 2);
        while m.now.mono < awake_days {
            for start in planner.poll(m.now) {
                assert!(m.running.iter().all(|(job, ..)| *job != start.job), "twice at once");
                let lane = |job: &str| JOBS.iter().find(|(name, ..)| *name == job).unwrap().1;
                assert!(m.running.iter().all(|(job, ..)| lane(job) != lane(start.job)), "one lane");
                if start.cause == Cause::CaughtUp {
                    assert!(!after_sleep.contains(&start.job), "{} caught up twice", start.job);
                    after_sleep.push(start.job);
                }
                let takes = match start.job {
                    "push" => m.dice.below(100),
                    _ => m.dice.below(4 * 3600),
                };
                let takes = if m.dice.below(50) == 0 { takes + 2 * 3600 } else { takes };
                let well = m.now.mono >= m.offline_until;
                m.running.push((start.job, m.now.mono + Duration::from_secs(takes), well));
            }
            largest = largest.max(planner.size());
            // a machine that is awake, with a network, has pushed within two hours and what a run takes
            let since = m.now.mono.saturating_sub(last_push.max(woke).max(m.offline_until));
            assert!(
                since < Duration::from_secs(5 * 3600),
                "no push for {since:?} in seed {seed}: {:?} {:?} {:?}",
                m.now,
                planner.view("push", m.now),
                m.running
            );
            let idle = planner.idle_for(m.now).map_or(30, |wait| wait.as_secs().clamp(1, 30));
            let ends = m.running.iter().map(|(_, at, _)| at.saturating_sub(m.now.mono).as_secs());
            m.pass(ends.min().unwrap_or(idle).clamp(1, idle.max(1)));
            match m.dice.below(20_000) {
                0..6 => {
                    // hours or days, the clock that counts stands; runs go on afterwards
                    let hours = if m.dice.below(10) == 0 { 24 * 9 } else { 7 };
                    m.set_clock(hours * 3600 + 123);
                    (slept, woke) = (slept + 1, m.now.mono);
                    after_sleep.clear();
                }
                6..9 => m.offline_until = m.now.mono + Duration::from_secs(m.dice.below(20 * 3600)),
                9 => {
                    let back = i64::try_from(m.dice.below(3 * 86_400)).unwrap();
                    m.set_clock(-back);
                    woke = m.now.mono;
                    after_sleep.clear();
                }
                10 => {
                    let ahead = i64::try_from(m.dice.below(40 * 86_400)).unwrap();
                    m.set_clock(ahead);
                    woke = m.now.mono;
                    after_sleep.clear();
                }
                11..40 => planner.ask("push"),
                40..400 => {
                    let drift = i64::try_from(m.dice.below(5)).unwrap() - 2;
                    m.set_clock(drift);
                }
                _ => {}
            }
            let (ended, still) = m.running.iter().partition(|(_, at, _)| *at <= m.now.mono);
            m.running = still;
            let ended: Vec<(&'static str, Duration, bool)> = ended;
            for (job, _, well) in ended {
                let pause = Some(Pause::secs(30, 1800));
                planner.finished(
                    job,
                    if well { Ok(()) } else { Err(Setback::failure(pause)) },
                    m.now,
                );
                if well {
                    *done.entry(job).or_default() += 1;
                    if job == "push" {
                        last_push = m.now.mono;
                    }
                }
            }
        }
        assert!(slept > 50, "{slept}");
        assert!(largest <= 2 * JOBS.len(), "{largest} runs were kept");
        assert!(done["push"] > 3000 && done["forget"] > 150 && done["gc"] > 20, "{done:?}");
        assert!(done["verify"] > 40 && done["rehearsal"] >= 5, "{done:?}");
    }
}

#[test]
fn a_job_that_never_succeeds_is_tried_at_a_bounded_rate_for_ever() {
    let mut now = Now { wall: start(), mono: Duration::ZERO };
    let mut planner = planner(&TimeZone::UTC, now);
    let (mut tries, end) = (0_u64, Duration::from_secs(100 * 86_400));
    while now.mono < end {
        let step = planner.idle_for(now).unwrap().max(Duration::from_secs(1));
        now.wall += SignedDuration::try_from(step).unwrap();
        now.mono += step;
        for start in planner.poll(now) {
            tries += u64::from(start.job == "push");
            let pause = Some(Pause::secs(30, 1800));
            planner.finished(start.job, Err(Setback::failure(pause)), now);
        }
        assert!(planner.size() <= JOBS.len());
    }
    // each half hour at most, three quarters of one at least
    assert!((100 * 48..=100 * 64 + 10).contains(&tries), "{tries}");
}
