//! Two threads that run jobs, one job each at a time, with what belongs around a job: the look at the power
//! supply, the commands before and after, the heartbeat. Nothing a job does ends its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use schedule::Pause;
use store::Usage;

use super::hooks::Moment;
use super::{Done, Event, Failed, Job, Options, Outcome, Place, Record, Task, Work, is_set};
use crate::error::Result;

/// How many there are.
const LANES: usize = 2;

/// What a lane is told.
#[derive(Debug)]
struct Order {
    job: Job,
    measure: bool,
    last: bool,
    cancel: Arc<AtomicBool>,
}

/// The threads, and what runs in them.
#[derive(Debug)]
pub(super) struct Lanes {
    orders: [Sender<Order>; LANES],
    running: [Option<(Job, Arc<AtomicBool>)>; LANES],
    cancelled: bool,
    /// The record as it was written last.
    written: Option<Record>,
    seed: String,
}

impl Lanes {
    /// Starts the threads; they end when this is dropped and their job is over.
    pub(super) fn start<'s>(
        scope: &'s Scope<'s, '_>,
        options: &'s Options,
        work: &'s dyn Work,
        events: &'s Sender<Event>,
    ) -> Self {
        let orders = std::array::from_fn(|_| {
            let (send, receive) = bounded::<Order>(1);
            scope.spawn(move || {
                for order in receive {
                    // a lane that is lost would stop the daemon for good
                    let run = catch_unwind(AssertUnwindSafe(|| perform(&order, options, work)));
                    let (outcome, usage) =
                        run.unwrap_or_else(|_| (Outcome::Failed(bug()), Usage::default()));
                    // nobody listens any more: the daemon is gone
                    let _ = events.send(Event::Ended(order.job, Box::new(outcome), usage));
                }
            });
            send
        });
        let seed = options.machine.clone();
        Self { orders, running: [None, None], cancelled: false, written: None, seed }
    }

    /// What makes this machine's delays its own.
    pub(super) fn seed(&self) -> &str {
        &self.seed
    }

    /// Runs a job in its lane, which must be free.
    pub(super) fn run(&mut self, job: Job, measure: bool, last: bool) {
        let cancel = Arc::new(AtomicBool::new(self.cancelled));
        let lane = job.lane();
        assert!(self.running[lane].is_none(), "the planner keeps a lane to one job");
        self.running[lane] = Some((job, Arc::clone(&cancel)));
        let order = Order { job, measure, last, cancel };
        self.orders[lane].send(order).expect("a lane lives as long as this");
    }

    pub(super) fn ended(&mut self, job: Job) {
        self.running[job.lane()] = None;
    }

    pub(super) fn runs(&self, job: Job) -> bool {
        self.running[job.lane()].as_ref().is_some_and(|(running, _)| *running == job)
    }

    pub(super) fn idle(&self) -> bool {
        self.running.iter().all(Option::is_none)
    }

    /// Asks what runs to stop, but for this job; without one, whatever starts from now on too.
    pub(super) fn cancel(&mut self, except: Option<Job>) {
        self.cancelled |= except.is_none();
        for (job, cancel) in self.running.iter().flatten() {
            if Some(*job) != except {
                cancel.store(true, Ordering::SeqCst);
            }
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Writes the record if it says something new.
    pub(super) fn saved(&mut self, record: &Record, place: &Place) -> Result<()> {
        if self.written.as_ref() == Some(record) {
            return Ok(());
        }
        place.save(record)?;
        self.written = Some(record.clone());
        Ok(())
    }
}

/// One run, with what belongs around it.
fn perform(order: &Order, options: &Options, work: &dyn Work) -> (Outcome, Usage) {
    let Order { job, cancel, .. } = order;
    if !order.last
        && let Some(why) = options.power.hinders(*job)
    {
        return (Outcome::PutOff(why), Usage::default());
    }
    let hooks = &options.hooks;
    if let Err(message) = hooks.run(Moment::Before, *job, None, cancel) {
        let failed = Failed {
            code: 1,
            name: "failed".to_owned(),
            message,
            hint: Some(
                "the command 'before' of [daemon.hooks] decides whether a job runs".to_owned(),
            ),
            pause: Some(Pause::secs(60, 3600)),
            fatal: false,
        };
        let outcome = if is_set(cancel) { Outcome::Cancelled } else { Outcome::Failed(failed) };
        return (outcome, Usage::default());
    }
    let task = Task { job: *job, cancel, measure: order.measure };
    let run = catch_unwind(AssertUnwindSafe(|| work.run(&task)));
    let (mut outcome, usage) = run.unwrap_or_else(|_| (Outcome::Failed(bug()), Usage::default()));
    let after = match &outcome {
        Outcome::Done(_) => hooks.run(Moment::After, *job, Some(&outcome), cancel),
        Outcome::Failed(_) => hooks.run(Moment::Failed, *job, Some(&outcome), cancel),
        _ => Ok(()),
    };
    if let Err(message) = after {
        work.tell(Some(*job), &message);
    }
    if let Outcome::Done(done) = &mut outcome
        && *job == Job::Push
    {
        beat(done, options);
    }
    (outcome, usage)
}

/// Says to the heartbeat's service that a push is acknowledged and was seen. That it was not taken is told, and
/// is no failure of the push.
fn beat(done: &mut Done, options: &Options) {
    let Some(url) = options.health.heartbeat.as_deref().filter(|_| done.seen) else { return };
    if let Err(what) = store::ping::ping(url, Duration::from_secs(10)) {
        done.problems += 1;
        done.named.insert(0, what.clone());
        done.did = format!("{}; {what}", done.did);
    }
}

/// What a panic is to a daemon: told on standard error already.
fn bug() -> Failed {
    Failed {
        code: 70,
        name: "bug".to_owned(),
        message: "a bug in agent-backup; standard error says where".to_owned(),
        hint: Some("please report it, with the version".to_owned()),
        pause: Some(Pause::secs(600, 6 * 3600)),
        fatal: false,
    }
}
