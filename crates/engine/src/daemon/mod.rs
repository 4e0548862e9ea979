//! The daemon: pushes on a schedule, and takes care of what was pushed.
//!
//! In: a timetable for each job, and [`Work`], which does them. Out: a [`Record`] on the disk of what was
//! done, what fails and what comes next. [`schedule::Planner`] decides what starts; two lanes run it, so that
//! a verify of hours holds up no push. Whatever a job ends with, the daemon goes on: it waits, longer each
//! time, and says so.
//!
//! ```text
//! restore (if nothing is here yet) -> push at the start -> schedules ... -> signal -> last push -> end
//! ```
//! Invariants: one daemon for an address and for a repository on a machine ([`Place`]); a run that was
//! asked to stop stops at the next point at which nothing is lost.

pub mod health;
mod hooks;
mod lanes;
mod power;
mod record;
pub mod restore;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use schedule::{Cause, Now, Pause, Planner, Setback, Spec, Start, Timetable};
use serde::{Deserialize, Serialize};
use store::Usage;

use crate::clock::Clock;
use crate::error::Result;
use crate::scan::ScanRoot;
use crate::session::Session;
use crate::state::Lock;

pub use hooks::{Hooks, run_command};
pub use power::Power;
pub use record::{Day, Failing, JobRecord, Place, PutOff, Record, Size, look};
use watch::Watch;

/// The longest sleep: a clock that is set, or a lid that is opened, is noticed within this.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// A size is measured again when the last one is this old, by a clock that may be set: half a day and more.
const SIZE_AGE_MIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(20);

/// What a daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// Brings snapshots back where nothing is yet.
    Restore,
    /// Backs up.
    Push,
    /// Applies the policy.
    Forget,
    /// Collects garbage.
    Gc,
    /// Looks at a part of what is stored.
    Verify,
    /// Restores the newest snapshots to a scratch place.
    Rehearsal,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Restore, Self::Push, Self::Forget, Self::Gc, Self::Verify, Self::Rehearsal];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Push => "push",
            Self::Forget => "forget",
            Self::Gc => "gc",
            Self::Verify => "verify",
            Self::Rehearsal => "rehearsal",
        }
    }

    /// Jobs of one lane wait for each other.
    fn lane(self) -> usize {
        usize::from(!matches!(self, Self::Restore | Self::Push))
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a run is to know.
#[derive(Debug)]
pub struct Task<'a> {
    /// Which job.
    pub job: Job,
    /// Asks it to stop.
    pub cancel: &'a Arc<AtomicBool>,
    /// Measure the repository too.
    pub measure: bool,
}

/// Does jobs. Called from several threads.
pub trait Work: Sync {
    /// Does a job. Also says which requests it cost.
    fn run(&self, task: &Task<'_>) -> (Outcome, Usage);
    /// What a push would cover now, to be watched.
    fn roots(&self) -> Vec<ScanRoot>;
    /// Says something to whoever reads along.
    fn tell(&self, job: Option<Job>, text: &str);
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// As it should.
    Done(Done),
    /// It had nothing to do, for a reason that may pass: no agent is here yet.
    Nothing(String),
    /// Not now, for a reason that is no failure: on battery.
    PutOff(String),
    /// It failed.
    Failed(Failed),
    /// It was asked to stop, and did.
    Cancelled,
}

/// A run that was done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Done {
    /// What it did, in a line.
    pub did: String,
    /// The snapshot that is current after a push.
    pub snapshot: Option<String>,
    /// A push whose snapshot was seen in the store's listing afterwards.
    pub seen: bool,
    /// Items that had problems.
    pub problems: u64,
    /// The first of them, in words.
    pub named: Vec<String>,
    /// The size of the repository, if it was measured.
    pub size: Option<Size>,
}

impl Done {
    /// Items that are named one by one.
    pub const NAMED_MAX: usize = 10;

    /// Nothing to add.
    pub fn new(did: impl Into<String>) -> Self {
        Self { did: did.into(), ..Self::default() }
    }
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// The exit code a command would have.
    pub code: u8,
    /// Its name.
    pub name: String,
    /// What failed.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// When to try again; none: at the next moment of the schedule.
    pub pause: Option<Pause>,
    /// No waiting helps: the daemon ends.
    pub fatal: bool,
}

/// How a daemon is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the repository.
    pub address: String,
    /// The schedule of each job that has one.
    pub timetables: BTreeMap<Job, Timetable>,
    /// What makes the delays of this machine its own.
    pub machine: String,
    /// Starts are spread over so long after their moment.
    pub jitter: Duration,
    /// Look whether anything is here at the start, and restore if not.
    pub restore: bool,
    /// Push when something changed and it was quiet for so long since.
    pub quiet: Option<Duration>,
    /// The longest time a last push may take after a signal; zero: none.
    pub last_push: Duration,
    /// Commands before and after jobs.
    pub hooks: Hooks,
    /// Who is told how it goes.
    pub health: health::Health,
    /// What jobs wait for.
    pub power: Power,
    /// What is known already not to be as it was asked for.
    pub notes: Vec<String>,
}

/// What happens to a daemon.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants it to end: at the first, with a last push; at the second, at once.
    Stop,
    /// Something changed, and it is quiet again.
    Changed,
    /// A run ended.
    #[doc(hidden)]
    Ended(Job, Box<Outcome>, Usage),
}

/// How a daemon ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Pushes that were done while it ran, the last one included.
    pub pushes: u64,
    /// Why it ended, or why its last push did not work out.
    pub failed: Option<Failed>,
    /// The last push was cut short.
    pub cut: bool,
}

/// Keeps the lock of a repository once it was opened.
#[derive(Debug, Default)]
pub struct Claim(std::sync::Mutex<Option<Lock>>);

impl Claim {
    /// Takes the lock of this repository, if it is not taken yet: it may be watched by a daemon that reaches it
    /// by another address.
    pub fn take(&self, session: &Session) -> Result<()> {
        let mut lock = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lock.is_none() {
            *lock = Some(record::claim(session)?);
        }
        Ok(())
    }
}

/// What events come through.
pub fn channel() -> (Sender<Event>, Receiver<Event>) {
    crossbeam_channel::unbounded()
}

/// Runs until somebody stops it. `events` are sent by `sender`, by signals and by what is watched.
pub fn run(
    place: &Place,
    options: &Options,
    work: &dyn Work,
    clock: &dyn Clock,
    (sender, events): (&Sender<Event>, &Receiver<Event>),
    last: &BTreeMap<Job, Timestamp>,
) -> Ended {
    let begun = Instant::now();
    let now = || Now { wall: wall(clock), mono: begun.elapsed() };
    let mut record = Record::begin(place.load(), &options.address, now().wall);
    record.notes.clone_from(&options.notes);
    std::thread::scope(|scope| {
        let lanes = lanes::Lanes::start(scope, options, work, sender);
        let daemon = Daemon {
            place,
            options,
            work,
            now: &now,
            record,
            lanes,
            planner: Planner::new(Vec::new(), now()),
            watch: None,
            settled: false,
            stop: None,
            cut: false,
            pushes: 0,
            failed: None,
        };
        daemon.go(sender, events, last)
    })
}

fn wall(clock: &dyn Clock) -> Timestamp {
    Timestamp::from_nanosecond(clock.now_nanos().into()).unwrap_or_default()
}

struct Daemon<'a> {
    place: &'a Place,
    options: &'a Options,
    work: &'a dyn Work,
    now: &'a dyn Fn() -> Now,
    record: Record,
    lanes: lanes::Lanes,
    planner: Planner<Job>,
    watch: Option<Watch>,
    /// What was to be restored is, or need not be: schedules count.
    settled: bool,
    /// Somebody wants it to end; by when.
    stop: Option<Duration>,
    /// It was ended in the middle of something.
    cut: bool,
    pushes: u64,
    failed: Option<Failed>,
}

impl Daemon<'_> {
    fn go(
        mut self,
        sender: &Sender<Event>,
        events: &Receiver<Event>,
        last: &BTreeMap<Job, Timestamp>,
    ) -> Ended {
        if self.options.restore {
            let spec = self.spec(Job::Restore, None);
            self.planner = Planner::new(vec![spec], (self.now)());
            self.planner.ask(Job::Restore);
        } else {
            self.settle(sender, last);
        }
        let mut ending = false;
        loop {
            if self.stop.is_none() {
                for start in self.planner.poll((self.now)()) {
                    self.start(start);
                }
                self.save();
            } else if !ending && !self.lanes.runs(Job::Push) && !self.lanes.runs(Job::Restore) {
                ending = true;
                self.last_push();
            }
            if self.stop.is_some() && ending && self.lanes.idle() {
                break;
            }
            match events.recv_timeout(self.sleep()) {
                Ok(Event::Stop) => self.stop(),
                Ok(Event::Changed) => self.planner.ask(Job::Push),
                Ok(Event::Ended(job, outcome, usage)) => {
                    self.ended(job, &outcome, &usage);
                    let is_over = match &*outcome {
                        Outcome::Done(_) | Outcome::Nothing(_) => true,
                        Outcome::Failed(failed) => failed.pause.is_none(),
                        Outcome::PutOff(_) | Outcome::Cancelled => false,
                    };
                    if job == Job::Restore && !self.settled && is_over {
                        self.settle(sender, last);
                    }
                }
                // nobody sends any more only if this thread does not either
                Err(_) => self.look_at_deadline(),
            }
        }
        self.record.ended = Some((self.now)().wall);
        self.save();
        Ended { pushes: self.pushes, failed: self.failed, cut: self.cut }
    }

    /// How long to wait for an event.
    fn sleep(&self) -> Duration {
        let now = (self.now)();
        match self.stop {
            Some(by) => by.saturating_sub(now.mono).clamp(Duration::from_millis(50), LOOK_MAX),
            None => self.planner.idle_for(now).unwrap_or(LOOK_MAX).min(LOOK_MAX),
        }
    }

    fn spec(&self, job: Job, last: Option<Timestamp>) -> Spec<Job> {
        let seed = blake3::hash(
            format!("{} {job} {}", self.options.address, self.lanes.seed()).as_bytes(),
        );
        let seed = u64::from_le_bytes(seed.as_bytes()[..8].try_into().expect("eight bytes"));
        Spec {
            job,
            lane: job.lane(),
            timetable: self.options.timetables.get(&job).cloned(),
            jitter: self.options.jitter,
            seed,
            last,
        }
    }

    /// Schedules count from now on, after a push.
    fn settle(&mut self, sender: &Sender<Event>, last: &BTreeMap<Job, Timestamp>) {
        self.settled = true;
        let now = (self.now)().wall;
        let jobs = Job::ALL.into_iter().filter(|job| *job != Job::Restore);
        let jobs =
            jobs.filter(|job| *job == Job::Push || self.options.timetables.contains_key(job));
        let specs: Vec<Spec<Job>> = jobs
            .map(|job| {
                let record = self.record.job(job);
                // one that was never done counts from when it was planned first: a machine that is always off
                // at its moments would never come to it
                let since = *record.since.get_or_insert(now);
                let done = record.done.max(last.get(&job).copied());
                self.spec(job, Some(done.unwrap_or(since)))
            })
            .collect();
        for spec in &specs {
            let texts =
                spec.timetable.iter().flat_map(Timetable::texts).map(str::to_owned).collect();
            self.record.job(spec.job).schedule = texts;
        }
        self.planner = Planner::new(specs, (self.now)());
        self.planner.ask(Job::Push);
        if let Some(quiet) = self.options.quiet {
            let watch = Watch::start(quiet, sender.clone());
            self.watch = Some(watch);
        }
    }

    fn start(&mut self, Start { job, cause, .. }: Start<Job>) {
        let now = (self.now)().wall;
        if cause == Cause::CaughtUp {
            self.work.tell(Some(job), "its moment passed while nothing ran: caught up now");
        }
        if job == Job::Push
            && let Some(watch) = &mut self.watch
        {
            // what changes from here on is not in this push for sure
            if let Some(note) = watch.look_at(self.work.roots())
                && !self.record.notes.contains(&note)
            {
                self.work.tell(None, &note);
                self.record.notes.push(note);
            }
        }
        let measured = self.record.size().map(|size| size.at);
        let measure = job == Job::Push
            && measured.is_none_or(|at| now.duration_since(at).abs() >= SIZE_AGE_MIN);
        self.record.job(job).running_since = Some(now);
        self.lanes.run(job, measure, false);
    }

    fn ended(&mut self, job: Job, outcome: &Outcome, usage: &Usage) {
        let now = (self.now)();
        self.lanes.ended(job);
        self.record.count(usage, now.wall);
        let record = self.record.job(job);
        record.running_since = None;
        let how = match outcome {
            Outcome::Done(done) => {
                self.pushes += u64::from(job == Job::Push);
                self.record.done(job, done, now.wall);
                self.work.tell(Some(job), &done.did);
                Ok(())
            }
            Outcome::Nothing(why) => {
                record.did.clone_from(why);
                (record.failing, record.put_off) = (None, None);
                self.work.tell(Some(job), why);
                Ok(())
            }
            Outcome::PutOff(why) => {
                if self.record.put_off(job, why, now.wall) {
                    self.work.tell(Some(job), &format!("put off: {why}"));
                }
                Err(Setback::wait(power::PAUSE))
            }
            Outcome::Cancelled => Err(Setback::wait(Pause::secs(1, 1))),
            Outcome::Failed(failed) => Err(Setback::failure(failed.pause)),
        };
        self.planner.finished(job, how, now);
        if let Outcome::Failed(failed) = outcome {
            self.fails(job, failed, now);
        } else if self.stop.is_some() && job == Job::Push {
            self.failed = None;
        }
        if self.stop.is_some() && job == Job::Push && *outcome == Outcome::Cancelled {
            self.cut = true;
        }
        self.save();
        self.options.health.file(&self.record, now.wall, &|text| self.work.tell(None, text));
    }

    fn fails(&mut self, job: Job, failed: &Failed, now: Now) {
        let again = self.planner.view(job, now).and_then(|view| view.again_in);
        let again = again.and_then(|wait| now.wall.checked_add(wait).ok());
        let is_new = self.record.failed(job, failed, again, now.wall);
        let times = self.record.job(job).failing.as_ref().map_or(1, |failing| failing.times);
        let when = match again {
            Some(again) if self.stop.is_none() => format!("; tried again at {}", short(again)),
            _ => String::new(),
        };
        let count = if times > 1 { format!(" ({times} times in a row)") } else { String::new() };
        self.work.tell(Some(job), &format!("failed{count}: {}{when}", failed.message));
        if is_new {
            if let Some(hint) = &failed.hint {
                self.work.tell(Some(job), &format!("try: {hint}"));
            }
            let text = format!("{job} fails: {}", failed.message);
            self.options
                .health
                .desktop(&text, &self.options.hooks, &|text| self.work.tell(None, text));
        }
        if failed.fatal {
            self.failed = Some(failed.clone());
            self.cut = true;
            self.stop.get_or_insert(now.mono);
            self.lanes.cancel(None);
        } else if self.stop.is_some() && job == Job::Push {
            self.failed = Some(failed.clone());
        }
    }

    /// The first time: care ends, a push goes on, a last one follows. The second time: all ends.
    fn stop(&mut self) {
        let now = (self.now)().mono;
        if self.stop.is_some() {
            self.cut |= self.lanes.runs(Job::Push);
            self.stop = Some(now);
            self.lanes.cancel(None);
            return;
        }
        self.stop = Some(now.saturating_add(self.options.last_push));
        self.lanes.cancel(Some(Job::Push));
        let secs = self.options.last_push.as_secs();
        let what = if secs > 0 {
            format!("a last push within {secs} s, then the end")
        } else {
            "the end".into()
        };
        self.work.tell(None, &format!("asked to stop: {what}"));
    }

    fn last_push(&mut self) {
        let left = self.stop.unwrap_or_default().saturating_sub((self.now)().mono);
        if self.settled && !self.cut && !left.is_zero() {
            self.record.job(Job::Push).running_since = Some((self.now)().wall);
            self.lanes.run(Job::Push, false, true);
            self.save();
        }
    }

    fn look_at_deadline(&mut self) {
        if self.stop.is_some_and(|by| by <= (self.now)().mono) && !self.lanes.is_cancelled() {
            self.cut |= self.lanes.runs(Job::Push);
            self.lanes.cancel(None);
            self.work.tell(None, "the time is over: what runs stops at the next safe point");
        }
    }

    /// Writes the record. One that cannot be written, because the disk is full, is written next time.
    fn save(&mut self) {
        let now = (self.now)();
        for job in Job::ALL {
            let Some(view) = self.planner.view(job, now) else { continue };
            let record = self.record.job(job);
            // moments that come in a pause are one with the run after it
            let again = record.failing.as_ref().and_then(|failing| failing.again);
            let next = again.filter(|again| view.waiting && *again > now.wall).or(view.next);
            record.next = next.filter(|_| self.stop.is_none());
            record.merged = view.merged;
        }
        if let Err(error) = self.lanes.saved(&self.record, self.place) {
            self.work.tell(None, &format!("the record of the daemon is not written: {error}"));
        }
    }
}

/// A time as a line shows it.
fn short(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// Whether a flag is set.
fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst)
}
