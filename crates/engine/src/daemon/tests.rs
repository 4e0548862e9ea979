//! The daemon with work that is made up: what starts when, what a signal does, what is written down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::unbounded;
use jiff::tz::TimeZone;

use super::*;
use crate::clock::SystemClock;

/// Plays outcomes from a list, then succeeds.
#[derive(Default)]
struct Played {
    outcomes: Mutex<BTreeMap<Job, VecDeque<Outcome>>>,
    /// A push takes so long, unless it is asked to stop.
    push_takes: Duration,
    ran: Mutex<Vec<Job>>,
    told: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    /// Sends a stop after so many runs.
    stop_after: Option<(usize, Sender<Event>)>,
}

impl Work for Played {
    fn run(&self, task: &Task<'_>) -> (Outcome, Usage) {
        let busy = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(busy, Ordering::SeqCst);
        let began = Instant::now();
        let mut outcome = None;
        let takes = if task.job == Job::Push { self.push_takes } else { Duration::from_millis(50) };
        while began.elapsed() < takes {
            if is_set(task.cancel) {
                outcome = Some(Outcome::Cancelled);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let next = self.outcomes.lock().unwrap().get_mut(&task.job).and_then(VecDeque::pop_front);
        let done =
            Done { snapshot: Some("ab".into()), ..Done::new(format!("{} was done", task.job)) };
        let outcome = outcome.or(next).unwrap_or(Outcome::Done(done));
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        let mut ran = self.ran.lock().unwrap();
        ran.push(task.job);
        if let Some((after, stop)) = &self.stop_after
            && ran.len() == *after
        {
            stop.send(Event::Stop).unwrap();
        }
        assert!(!matches!(&outcome, Outcome::Failed(failed) if failed.code == 70), "a bug");
        (outcome, Usage { class_c: 1, ..Usage::default() })
    }
    fn roots(&self) -> Vec<ScanRoot> {
        Vec::new()
    }
    fn tell(&self, job: Option<Job>, text: &str) {
        let job = job.map(|job| format!("{job}: ")).unwrap_or_default();
        self.told.lock().unwrap().push(format!("{job}{text}"));
    }
}

impl Played {
    fn plays(self, job: Job, outcomes: Vec<Outcome>) -> Self {
        self.outcomes.lock().unwrap().insert(job, outcomes.into());
        self
    }
    fn ran(&self) -> Vec<Job> {
        self.ran.lock().unwrap().clone()
    }
    fn told(&self, what: &str) -> bool {
        self.told.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

fn options() -> Options {
    Options {
        address: "/srv".into(),
        timetables: BTreeMap::new(),
        machine: "m".into(),
        jitter: Duration::ZERO,
        restore: false,
        quiet: None,
        last_push: Duration::from_secs(20),
        hooks: Hooks { time_max: Duration::from_secs(10), silent: true, ..Hooks::default() },
        health: health::Health::default(),
        power: Power::any(),
        notes: Vec::new(),
    }
}

fn table(text: &str) -> Timetable {
    Timetable::new(&[text], TimeZone::UTC).unwrap()
}

fn failed(code: u8, pause: Option<Pause>) -> Outcome {
    let (name, message) = ("storage-unreachable".to_owned(), "no network".to_owned());
    Outcome::Failed(Failed { code, name, message, hint: Some("wait".into()), pause, fatal: false })
}

/// Runs a daemon until it ends; how it ended, and its record.
fn play(
    options: &Options,
    work: &Played,
    channel: (&Sender<Event>, &Receiver<Event>),
) -> (Ended, Record) {
    let state = tempfile::tempdir().unwrap();
    let place = Place::take(state.path(), "/srv").unwrap();
    let ended = run(&place, options, work, &SystemClock, channel, &BTreeMap::new());
    let record = place.load().unwrap();
    (ended, record)
}

#[test]
fn the_start_and_the_end_push_and_the_record_says_what_was_done() {
    let (send, events) = unbounded();
    let work = Played { stop_after: Some((1, send.clone())), ..Played::default() };
    let (ended, record) = play(&options(), &work, (&send, &events));
    assert_eq!(work.ran(), [Job::Push, Job::Push]);
    assert_eq!(ended, Ended { pushes: 2, failed: None, cut: false });
    let push = &record.jobs[&Job::Push];
    assert_eq!((push.runs, push.did.as_str()), (2, "push was done"));
    assert!(push.done.is_some() && push.failing.is_none() && push.running_since.is_none());
    assert!(record.ended.is_some());
    assert_eq!(record.days.last().unwrap().class_c, 2);
}

#[test]
fn a_push_that_fails_is_tried_again_and_the_daemon_lives_on() {
    let (send, events) = unbounded();
    let pause = Some(Pause::secs(1, 1));
    let work = Played { stop_after: Some((3, send.clone())), ..Played::default() };
    let work = work.plays(Job::Push, vec![failed(15, pause), failed(14, pause)]);
    let (ended, record) = play(&options(), &work, (&send, &events));
    assert_eq!(work.ran(), [Job::Push; 4]);
    assert_eq!(ended.failed, None);
    let push = &record.jobs[&Job::Push];
    assert_eq!((push.failures, push.runs, push.failing.is_none()), (2, 2, true));
    assert!(
        work.told("push: failed: no network; tried again at ") && work.told("2 times in a row")
    );
}

#[test]
fn pushes_wait_for_the_restore_and_for_nothing_when_it_cannot_be() {
    for (outcomes, restores) in [
        (vec![failed(15, Some(Pause::secs(1, 1)))], 2),
        (vec![failed(4, None)], 1),
        (vec![Outcome::Nothing("files are here".into())], 1),
    ] {
        let (send, events) = unbounded();
        let work = Played { stop_after: Some((restores + 1, send.clone())), ..Played::default() };
        let work = work.plays(Job::Restore, outcomes);
        let (ended, _) = play(&Options { restore: true, ..options() }, &work, (&send, &events));
        let mut expected = vec![Job::Restore; restores];
        expected.extend([Job::Push, Job::Push]);
        assert_eq!(work.ran(), expected);
        assert_eq!(ended.failed, None);
    }
}

#[test]
fn a_signal_lets_a_push_end_and_a_second_one_stops_it() {
    for (signals, pushes, cut) in [(1, 2, false), (2, 0, true)] {
        let (send, events) = unbounded();
        let work = Played { push_takes: Duration::from_millis(300), ..Played::default() };
        for _ in 0..signals {
            let send = send.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                send.send(Event::Stop).unwrap();
            });
        }
        let (ended, _) = play(&options(), &work, (&send, &events));
        assert_eq!((ended.pushes, ended.cut), (pushes, cut), "{signals}");
        assert!(work.told("asked to stop: a last push within 20 s"));
    }
}

#[test]
fn a_last_push_that_takes_too_long_is_stopped_in_the_stated_time() {
    let (send, events) = unbounded();
    let work = Played { push_takes: Duration::from_secs(60), ..Played::default() };
    send.send(Event::Stop).unwrap();
    let began = Instant::now();
    let options = Options { last_push: Duration::from_millis(400), ..options() };
    let (ended, _) = play(&options, &work, (&send, &events));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!((ended.pushes, ended.cut), (0, true));
    assert!(work.told("the time is over"));
}

#[test]
fn a_last_push_that_fails_is_how_the_daemon_ends() {
    let (send, events) = unbounded();
    let work = Played { stop_after: Some((1, send.clone())), ..Played::default() };
    let done = Outcome::Done(Done::new("did"));
    let work = work.plays(Job::Push, vec![done, failed(15, Some(Pause::secs(1, 1)))]);
    let (ended, record) = play(&options(), &work, (&send, &events));
    assert_eq!(ended.failed.unwrap().code, 15);
    assert_eq!(record.jobs[&Job::Push].failing.as_ref().unwrap().code, 15);
}

#[test]
fn what_no_waiting_mends_ends_the_daemon() {
    let (send, events) = unbounded();
    let Outcome::Failed(one) = failed(12, Some(Pause::secs(1, 1))) else { unreachable!() };
    let work =
        Played::default().plays(Job::Push, vec![Outcome::Failed(Failed { fatal: true, ..one })]);
    let (ended, _) = play(&options(), &work, (&send, &events));
    assert_eq!(ended.failed.unwrap().code, 12);
    assert_eq!(work.ran(), [Job::Push], "no last push");
}

#[test]
fn care_runs_beside_pushes_and_one_job_of_it_at_a_time() {
    let (send, events) = unbounded();
    let every = ["* * * * * *"; 4].map(table);
    let jobs = [Job::Forget, Job::Gc, Job::Verify, Job::Rehearsal];
    let timetables: BTreeMap<Job, Timetable> = jobs.into_iter().zip(every).collect();
    let work = Played {
        push_takes: Duration::from_millis(1500),
        stop_after: Some((7, send.clone())),
        ..Played::default()
    };
    let (_, record) = play(&Options { timetables, ..options() }, &work, (&send, &events));
    assert_eq!(work.at_once_max.load(Ordering::SeqCst), 2);
    assert!(jobs.iter().all(|job| record.jobs[job].runs > 0), "{:?}", record.jobs);
}

#[test]
fn a_panic_in_a_job_is_a_failure_of_that_job() {
    struct Breaks(Played);
    impl Work for Breaks {
        fn run(&self, task: &Task<'_>) -> (Outcome, Usage) {
            let done = self.0.run(task);
            assert!(self.0.ran().len() > 1, "this one panics");
            done
        }
        fn roots(&self) -> Vec<ScanRoot> {
            Vec::new()
        }
        fn tell(&self, job: Option<Job>, text: &str) {
            self.0.tell(job, text);
        }
    }
    let (send, events) = unbounded();
    let state = tempfile::tempdir().unwrap();
    let place = Place::take(state.path(), "/srv").unwrap();
    let stop = send.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stop.send(Event::Stop).unwrap();
    });
    let work = Breaks(Played::default());
    let ended = run(&place, &options(), &work, &SystemClock, (&send, &events), &BTreeMap::new());
    assert_eq!((ended.pushes, ended.failed), (1, None));
    assert_eq!(place.load().unwrap().jobs[&Job::Push].failures, 1);
}

#[test]
fn a_command_before_a_push_decides_whether_it_runs_and_the_others_hear_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let say = |word: &str| {
        Some(format!("echo {word} $AGENT_BACKUP_JOB $AGENT_BACKUP_SNAPSHOT >> {}", out.display()))
    };
    let hooks = |before: Option<String>| Hooks {
        before,
        after: say("after"),
        failed: say("failed"),
        ..options().hooks
    };
    let (send, events) = unbounded();
    let work = Played { stop_after: Some((1, send.clone())), ..Played::default() };
    play(&Options { hooks: hooks(say("before")), ..options() }, &work, (&send, &events));
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text, "before push\nafter push ab\n".repeat(2));
    let (send, events) = unbounded();
    let work = Played::default();
    send.send(Event::Stop).unwrap();
    let (ended, _) = play(
        &Options { hooks: hooks(Some("exit 3".into())), ..options() },
        &work,
        (&send, &events),
    );
    assert_eq!(work.ran(), [], "the command said no");
    assert!(ended.failed.unwrap().message.contains("'before'"));
}

#[test]
fn a_heartbeat_beats_only_for_a_push_that_was_seen_in_the_store() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/beat", listener.local_addr().unwrap());
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 1024]).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(answer).unwrap();
        }
    });
    let health = health::Health { heartbeat: Some(url), ..health::Health::default() };
    let seen = |seen| Outcome::Done(Done { seen, ..Done::new("did") });
    for (first, last, expected) in
        [(seen(false), failed(15, Some(Pause::secs(1, 1))), 0), (seen(true), seen(true), 2)]
    {
        beats.store(0, Ordering::SeqCst);
        let (send, events) = unbounded();
        let work = Played { stop_after: Some((1, send.clone())), ..Played::default() };
        let work = work.plays(Job::Push, vec![first, last]);
        play(&Options { health: health.clone(), ..options() }, &work, (&send, &events));
        assert_eq!(beats.load(Ordering::SeqCst), expected);
    }
}

#[test]
fn what_a_battery_puts_off_is_no_failure_and_the_last_push_comes_all_the_same() {
    let supplies = tempfile::tempdir().unwrap();
    let battery = supplies.path().join("BAT0");
    std::fs::create_dir(&battery).unwrap();
    std::fs::write(battery.join("type"), "Battery").unwrap();
    std::fs::write(battery.join("status"), "Discharging").unwrap();
    let power = Power { mains: true, supplies: supplies.path().to_owned(), ..Power::any() };
    let (send, events) = unbounded();
    let work = Played::default();
    let stop = send.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stop.send(Event::Stop).unwrap();
    });
    let (ended, record) = play(&Options { power, ..options() }, &work, (&send, &events));
    assert_eq!((work.ran(), ended.pushes), (vec![Job::Push], 1));
    assert_eq!(record.jobs[&Job::Push].failures, 0);
    assert!(work.told("push: put off: this machine runs on battery"));
}
