//! Which job starts now.
//!
//! Two clocks: the one on the wall, which schedules speak of and which may be set, and one that only
//! counts (it may stand while the machine sleeps). Their difference tells a sleep or a clock set forward
//! (what is due runs once, waits end) from a clock set back (moments are found anew, or nothing would run
//! until the wrong time came again).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::mix;
use crate::pause::Setback;
use crate::timetable::Timetable;

/// The clocks run apart by less without a cause.
const STEP_MIN: SignedDuration = SignedDuration::from_secs(60);
/// A clock set back by less is a correction, or nothing but two clocks read one after the other: what it shows
/// a second time does not run again, and what comes is a little later.
const CORRECTION_MAX: SignedDuration = SignedDuration::from_mins(5);
/// After a sleep the network takes a moment to come back.
const SETTLE: Duration = Duration::from_secs(15);
/// A start later than this after its moment is one that was caught up.
const LATE: SignedDuration = SignedDuration::from_secs(120);

/// What both clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The clock on the wall.
    pub wall: Timestamp,
    /// Since some moment; never goes back.
    pub mono: Duration,
}

/// A job, as it is planned. Earlier ones in the list go first.
#[derive(Debug, Clone)]
pub struct Spec<J> {
    /// Which.
    pub job: J,
    /// Jobs of one lane never run at the same time.
    pub lane: usize,
    /// Its moments; none: only on request.
    pub timetable: Option<Timetable>,
    /// No start is later than so long after its moment because of this: it spreads machines.
    pub jitter: Duration,
    /// Chooses within the jitter: the same for a machine and job each time.
    pub seed: u64,
    /// When it was done last, as far as is known: a moment since then is caught up.
    pub last: Option<Timestamp>,
}

/// Why a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its moment came.
    Moment,
    /// Its moment passed while nobody was awake.
    CaughtUp,
    /// Somebody asked.
    Asked,
    /// It failed before.
    Again,
}

/// A run that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<J> {
    /// Which job.
    pub job: J,
    /// Why.
    pub cause: Cause,
    /// The moment it is for, if it is for one.
    pub moment: Option<Timestamp>,
}

/// A job, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// When its next moment comes, jitter included.
    pub next: Option<Timestamp>,
    /// It runs.
    pub running: bool,
    /// A run of it waits for its lane or the end of a pause.
    pub waiting: bool,
    /// After failures: how long until it is tried again.
    pub again_in: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// Moments that came while it ran or waited, and were one with that run.
    pub merged: u64,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    moment: Timestamp,
    at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    cause: Cause,
    moment: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry<J> {
    spec: Spec<J>,
    delay: SignedDuration,
    next: Option<Due>,
    waiting: Option<Waiting>,
    running: bool,
    /// Somebody asked while it ran.
    asked: bool,
    failures: u32,
    /// Not before this, by the clock that counts.
    held: Option<Duration>,
    merged: u64,
}

/// Decides what runs when.
#[derive(Debug)]
pub struct Planner<J> {
    entries: Vec<Entry<J>>,
    seen: Now,
}

impl<J: Copy + Eq> Planner<J> {
    /// Plans these jobs from now on.
    pub fn new(specs: Vec<Spec<J>>, now: Now) -> Self {
        let mut entries: Vec<Entry<J>> = specs.into_iter().map(Entry::new).collect();
        for entry in &mut entries {
            let missed = entry.spec.last.filter(|last| *last <= now.wall);
            let missed = missed.and_then(|last| entry.due_after(last));
            match missed.filter(|due| due.at <= now.wall) {
                Some(due) => entry.come(due, now),
                None => entry.next = entry.due_after(now.wall),
            }
        }
        Self { entries, seen: now }
    }

    /// What starts now. Each start must be answered with [`Planner::finished`].
    pub fn poll(&mut self, now: Now) -> Vec<Start<J>> {
        self.look_at_clocks(now);
        for entry in &mut self.entries {
            if let Some(due) = entry.next.filter(|due| due.at <= now.wall) {
                entry.come(due, now);
            }
        }
        let mut starts = Vec::new();
        for n in 0..self.entries.len() {
            let lane = self.entries[n].spec.lane;
            let busy = self.entries.iter().any(|other| other.spec.lane == lane && other.running);
            let entry = &mut self.entries[n];
            if busy || entry.held.is_some_and(|until| until > now.mono) {
                continue;
            }
            if let Some(Waiting { cause, moment }) = entry.waiting.take() {
                entry.running = true;
                entry.held = None;
                starts.push(Start { job: entry.spec.job, cause, moment });
            }
        }
        starts
    }

    /// Asks for a run as soon as may be: once more after one that is under way, which may have looked
    /// already at what changed since.
    pub fn ask(&mut self, job: J) {
        for entry in self.entries.iter_mut().filter(|entry| entry.spec.job == job) {
            if entry.running {
                entry.asked = true;
            } else {
                entry.waiting.get_or_insert(Waiting { cause: Cause::Asked, moment: None });
            }
        }
    }

    /// A run ended.
    pub fn finished(&mut self, job: J, how: Result<(), Setback>, now: Now) {
        for entry in self.entries.iter_mut().filter(|entry| entry.spec.job == job) {
            entry.running = false;
            let asked = std::mem::take(&mut entry.asked);
            if asked {
                entry.waiting = Some(Waiting { cause: Cause::Asked, moment: None });
            }
            match how {
                Ok(()) => {
                    entry.failures = 0;
                    entry.held = None;
                }
                Err(Setback { pause, failed }) => {
                    entry.failures = entry.failures.saturating_add(failed.into());
                    if let Some(pause) = pause {
                        let tries = if failed { entry.failures } else { 1 };
                        let wait = pause.after(tries, entry.spec.seed, now.wall);
                        entry.held = Some(now.mono.saturating_add(wait));
                        entry.waiting = Some(Waiting { cause: Cause::Again, moment: None });
                    }
                }
            }
        }
    }

    /// How long nothing can happen; none: for ever, until somebody asks or something ends.
    pub fn idle_for(&self, now: Now) -> Option<Duration> {
        let until =
            |at: Timestamp| Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
        let of = |entry: &Entry<J>| {
            let next = entry.next.map(|due| until(due.at));
            let lane = entry.spec.lane;
            let busy = self.entries.iter().any(|other| other.spec.lane == lane && other.running);
            let ready = entry.waiting.is_some() && !busy;
            let ready = ready.then(|| entry.held.unwrap_or_default().saturating_sub(now.mono));
            next.into_iter().chain(ready).min()
        };
        self.entries.iter().filter_map(of).min()
    }

    /// How a job stands.
    pub fn view(&self, job: J, now: Now) -> Option<View> {
        let entry = self.entries.iter().find(|entry| entry.spec.job == job)?;
        Some(View {
            next: entry.next.map(|due| due.at),
            running: entry.running,
            waiting: entry.waiting.is_some(),
            again_in: entry.held.map(|until| until.saturating_sub(now.mono)),
            failures: entry.failures,
            merged: entry.merged,
        })
    }

    /// Runs that wait or are under way: never more than two for each job.
    pub fn size(&self) -> usize {
        let of =
            |entry: &Entry<J>| usize::from(entry.running) + usize::from(entry.waiting.is_some());
        self.entries.iter().map(of).sum()
    }

    fn look_at_clocks(&mut self, now: Now) {
        let counted = now.mono.saturating_sub(self.seen.mono);
        let counted = SignedDuration::try_from(counted).unwrap_or(SignedDuration::MAX);
        let step = now.wall.duration_since(self.seen.wall).saturating_sub(counted);
        let before = self.seen.wall;
        self.seen = now;
        if step >= STEP_MIN {
            for entry in &mut self.entries {
                entry.held = entry.held.map(|until| until.min(now.mono.saturating_add(SETTLE)));
            }
        } else if -step > CORRECTION_MAX {
            // what was not looked at yet is not passed over
            let from = before.min(now.wall);
            for entry in &mut self.entries {
                entry.find_anew(from);
            }
        }
    }
}

impl<J> Entry<J> {
    fn new(spec: Spec<J>) -> Self {
        let jitter = spec.jitter.as_secs();
        let delay = mix(spec.seed) % jitter.saturating_add(1);
        let delay = SignedDuration::from_secs(i64::try_from(delay).unwrap_or_default());
        Self {
            spec,
            delay,
            next: None,
            waiting: None,
            running: false,
            asked: false,
            failures: 0,
            held: None,
            merged: 0,
        }
    }

    /// The first moment after `at`, not counting those whose delay is not over yet.
    fn due_after(&self, at: Timestamp) -> Option<Due> {
        let table = self.spec.timetable.as_ref()?;
        let moment = table.next_after(at)?;
        // a delay is never longer than half of the time to the moment after it
        let room = table.next_after(moment)?.duration_since(moment) / 2;
        Some(Due { moment, at: moment.checked_add(self.delay.min(room)).ok()? })
    }

    /// A moment came, or passed: one run for it and for all that passed with it.
    fn come(&mut self, due: Due, now: Now) {
        let late = now.wall.duration_since(due.at) > LATE;
        let cause = if late { Cause::CaughtUp } else { Cause::Moment };
        if self.running || self.waiting.is_some() {
            self.merged = self.merged.saturating_add(1);
        } else {
            self.waiting = Some(Waiting { cause, moment: Some(due.moment) });
        }
        self.next = self.due_after(due.moment);
        // those that passed too: the newest of them may have its delay still to come
        while let Some(next) = self.next.filter(|next| next.at <= now.wall) {
            let skip = now.wall.checked_sub(self.delay).unwrap_or(now.wall).max(next.moment);
            self.next = self.due_after(skip);
        }
    }

    /// The clock was set back: moments from `wall` on come again.
    fn find_anew(&mut self, wall: Timestamp) {
        // one may have passed whose delay has not
        self.next = self.due_after(wall.checked_sub(self.delay).unwrap_or(wall));
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::pause::Pause;

    fn now(wall: &str, mono: u64) -> Now {
        Now { wall: wall.parse().unwrap(), mono: Duration::from_secs(mono) }
    }

    fn spec(job: &'static str, lane: usize, text: &str) -> Spec<&'static str> {
        let timetable = Some(Timetable::new(&[text], TimeZone::UTC).unwrap());
        Spec { job, lane, timetable, jitter: Duration::ZERO, seed: 1, last: None }
    }

    fn names(starts: &[Start<&'static str>]) -> Vec<(&'static str, Cause)> {
        starts.iter().map(|start| (start.job, start.cause)).collect()
    }

    #[test]
    fn what_was_missed_while_nothing_ran_is_caught_up_once_at_the_start() {
        let last = |at: &str| Some(at.parse().unwrap());
        let specs = vec![
            Spec { last: last("2026-05-01T00:00:00Z"), ..spec("gc", 0, "weekly") },
            Spec { last: last("2026-05-24T01:00:00Z"), ..spec("verify", 1, "weekly") },
            Spec { last: last("2030-01-01T00:00:00Z"), ..spec("odd clock", 2, "weekly") },
            spec("never yet", 3, "weekly"),
        ];
        let at = now("2026-05-27T12:00:00Z", 0);
        let mut planner = Planner::new(specs, at);
        assert_eq!(names(&planner.poll(at)), [("gc", Cause::CaughtUp)]);
        planner.finished("gc", Ok(()), at);
        assert!(planner.poll(now("2026-05-27T13:00:00Z", 3600)).is_empty(), "once");
        let next = planner.view("gc", at).unwrap().next;
        assert_eq!(next, last("2026-05-31T00:00:00Z"));
    }

    #[test]
    fn a_lane_runs_one_at_a_time_the_first_in_the_list_first_and_lanes_do_not_wait_for_each_other()
    {
        let specs = vec![spec("b", 1, "hourly"), spec("c", 1, "hourly"), spec("a", 0, "hourly")];
        let mut planner = Planner::new(specs, now("2026-05-27T11:30:00Z", 0));
        let noon = now("2026-05-27T12:00:00Z", 1800);
        assert_eq!(names(&planner.poll(noon)), [("b", Cause::Moment), ("a", Cause::Moment)]);
        assert!(planner.poll(noon).is_empty());
        planner.finished("b", Ok(()), noon);
        assert_eq!(names(&planner.poll(noon)), [("c", Cause::Moment)]);
    }

    #[test]
    fn moments_that_come_while_it_runs_are_one_with_it_and_a_request_then_is_another_run() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "hourly")], now("2026-05-27T11:30:00Z", 0));
        assert_eq!(planner.poll(now("2026-05-27T12:00:00Z", 1800)).len(), 1);
        for hour in 1..5 {
            let at = now(&format!("2026-05-27T{}:00:00Z", 12 + hour), 1800 + 3600 * hour);
            assert!(planner.poll(at).is_empty());
        }
        planner.ask("a");
        planner.ask("a");
        let at = now("2026-05-27T16:10:00Z", 1800 + 3600 * 4 + 600);
        planner.finished("a", Ok(()), at);
        assert_eq!(names(&planner.poll(at)), [("a", Cause::Asked)]);
        planner.finished("a", Ok(()), at);
        assert!(planner.poll(at).is_empty());
        assert_eq!(planner.view("a", at).unwrap().merged, 4);
    }

    #[test]
    fn after_a_failure_moments_and_requests_wait_for_the_end_of_the_pause() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "hourly")], now("2026-05-27T11:30:00Z", 0));
        let noon = now("2026-05-27T12:00:00Z", 1800);
        assert_eq!(planner.poll(noon).len(), 1);
        let setback = Err(Setback::failure(Some(Pause::secs(7200, 7200))));
        planner.finished("a", setback, noon);
        let one = now("2026-05-27T13:00:00Z", 5400);
        assert!(planner.poll(one).is_empty());
        planner.ask("a");
        assert!(planner.poll(one).is_empty());
        let view = planner.view("a", one).unwrap();
        assert!(view.waiting && view.failures == 1);
        let wait = planner.idle_for(one).unwrap();
        assert!(wait <= Duration::from_secs(3600), "{wait:?}");
        let two = now("2026-05-27T14:00:01Z", 9001);
        assert_eq!(names(&planner.poll(two)), [("a", Cause::Again)]);
        planner.finished("a", Ok(()), two);
        assert_eq!(planner.view("a", two).unwrap().failures, 0);
        assert!(planner.poll(two).is_empty());
    }

    #[test]
    fn a_failure_without_a_pause_waits_for_the_next_moment() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "hourly")], now("2026-05-27T11:30:00Z", 0));
        let noon = now("2026-05-27T12:00:00Z", 1800);
        assert_eq!(planner.poll(noon).len(), 1);
        planner.finished("a", Err(Setback::failure(None)), noon);
        assert!(planner.poll(now("2026-05-27T12:59:59Z", 5399)).is_empty());
        assert_eq!(planner.view("a", noon).unwrap().failures, 1);
        assert_eq!(planner.poll(now("2026-05-27T13:00:00Z", 5400)).len(), 1);
    }

    #[test]
    fn a_night_of_sleep_is_caught_up_once_and_ends_a_pause() {
        let specs = vec![spec("a", 0, "hourly"), spec("b", 1, "hourly")];
        let mut planner = Planner::new(specs, now("2026-05-27T21:30:00Z", 0));
        let late = now("2026-05-27T22:00:00Z", 1800);
        assert_eq!(planner.poll(late).len(), 2);
        planner.finished("a", Ok(()), late);
        planner.finished("b", Err(Setback::failure(Some(Pause::secs(7200, 7200)))), late);
        // nine hours later by the wall, and ten seconds by the clock that stood
        let morning = now("2026-05-28T07:10:00Z", 1810);
        assert_eq!(names(&planner.poll(morning)), [("a", Cause::CaughtUp)]);
        planner.finished("a", Ok(()), morning);
        assert!(planner.poll(morning).is_empty());
        let settled = now("2026-05-28T07:10:16Z", 1826);
        assert_eq!(names(&planner.poll(settled)), [("b", Cause::Again)]);
        let next = planner.view("a", settled).unwrap().next.unwrap();
        assert_eq!(next.to_string(), "2026-05-28T08:00:00Z");
    }

    #[test]
    fn a_clock_that_was_years_ahead_and_is_set_right_does_not_stop_the_schedule() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "hourly")], now("2026-05-27T11:30:00Z", 0));
        let ahead = now("2031-01-01T00:00:10Z", 60);
        assert_eq!(planner.poll(ahead).len(), 1);
        planner.finished("a", Ok(()), ahead);
        assert!(planner.poll(now("2026-05-27T11:32:00Z", 120)).is_empty());
        assert_eq!(planner.poll(now("2026-05-27T12:00:00Z", 1800)).len(), 1);
    }

    #[test]
    fn a_small_correction_of_the_clock_does_not_run_the_same_moment_twice() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "hourly")], now("2026-05-27T11:30:00Z", 0));
        let noon = now("2026-05-27T12:00:01Z", 1801);
        assert_eq!(planner.poll(noon).len(), 1);
        planner.finished("a", Ok(()), noon);
        assert!(planner.poll(now("2026-05-27T11:59:58Z", 1802)).is_empty());
        assert!(planner.poll(now("2026-05-27T12:00:10Z", 1814)).is_empty());
        assert_eq!(planner.poll(now("2026-05-27T13:00:00Z", 5404)).len(), 1);
    }

    #[test]
    fn a_correction_between_a_moment_and_its_delayed_start_does_not_lose_the_start() {
        let jitter = Duration::from_secs(600);
        let from = now("2026-05-27T11:30:00Z", 0);
        let seed = (0..10_000).find(|seed| (400..500).contains(&(mix(*seed) % 601))).unwrap();
        let mut planner = Planner::new(vec![Spec { jitter, seed, ..spec("a", 0, "hourly") }], from);
        assert!(planner.poll(now("2026-05-27T12:05:00Z", 2100)).is_empty());
        assert!(planner.poll(now("2026-05-27T12:05:00Z", 2102)).is_empty());
        assert_eq!(planner.poll(now("2026-05-27T12:08:30Z", 2312)).len(), 1);
    }

    #[test]
    fn clocks_that_are_read_one_after_the_other_lose_no_moment() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "* * * * *")], now("2026-05-27T11:30:00Z", 0));
        for minute in 1..60_u64 {
            // the wall was read a little earlier each time than the one before
            let secs = 60 * minute;
            let mono = Duration::from_secs(secs) + Duration::from_micros(minute);
            let wall =
                now("2026-05-27T11:30:00Z", 0).wall + SignedDuration::from_secs(60 * minute as i64);
            let at = Now { wall, mono };
            assert_eq!(planner.poll(at).len(), 1, "minute {minute}");
            planner.finished("a", Ok(()), at);
        }
    }

    #[test]
    fn a_clock_set_back_by_an_hour_runs_again_when_it_shows_the_hour_again() {
        let mut planner =
            Planner::new(vec![spec("a", 0, "0 12 * * *")], now("2026-05-27T11:30:00Z", 0));
        let noon = now("2026-05-27T12:00:01Z", 1801);
        assert_eq!(planner.poll(noon).len(), 1);
        planner.finished("a", Ok(()), noon);
        assert!(planner.poll(now("2026-05-27T11:00:02Z", 1802)).is_empty());
        assert_eq!(planner.poll(now("2026-05-27T12:00:01Z", 5401)).len(), 1);
    }

    #[test]
    fn jitter_stays_within_its_bound_and_half_the_interval_and_is_the_same_each_time() {
        let mut delays = Vec::new();
        for seed in 0..200 {
            let from = now("2026-05-27T11:30:00Z", 0);
            let jitter = Duration::from_secs(300);
            let delay = |text: &str| {
                let planner = Planner::new(vec![Spec { jitter, seed, ..spec("a", 0, text) }], from);
                let next = planner.view("a", from).unwrap().next.unwrap();
                let moment = planner.entries[0].next.unwrap().moment;
                next.duration_since(moment).as_secs()
            };
            delays.push(delay("hourly"));
            assert_eq!(delay("hourly"), delays[delays.len() - 1]);
            assert_eq!(delay("daily"), delays[delays.len() - 1]);
            assert!(delay("* * * * *") <= 30);
        }
        assert!(delays.iter().all(|delay| (0..=300).contains(delay)));
        let spread = delays.iter().filter(|delay| **delay < 150).count();
        assert!((60..140).contains(&spread), "{spread} of 200 in the first half");
    }
}
