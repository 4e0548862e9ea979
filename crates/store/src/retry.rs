//! When a request is tried again, and for how long.
//!
//! In: an attempt that says of its failure whether another try may help. Out: its result, or
//! [`Error::Unavailable`] once the storage has been failing for longer than the budget. Waits double from
//! `wait_first` to `wait_max`, each drawn between half and all of it, and are never shorter than
//! what the storage asked for (`Retry-After`). The budget counts from the first failure of an
//! object's run of failures, so the length of a transfer does not eat it.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Cancel, Error, Result};

/// A wait that has to be polled.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time as the retry policy sees it, so that tests need not wait.
pub trait Time: Debug + Send + Sync {
    /// Time since a fixed moment; never goes back.
    fn now(&self) -> Duration;
    /// Ends after `time`.
    fn sleep(&self, time: Duration) -> Sleep;
}

/// The system's clock, waiting in tokio.
#[derive(Debug)]
struct SystemClock {
    start: Instant,
}

impl Time for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(time))
    }
}

/// The retry policy of a remote store.
#[derive(Debug, Clone)]
pub struct Retry {
    /// For how long the storage may keep failing before the caller hears of it.
    pub budget: Duration,
    /// The first wait.
    pub wait_first: Duration,
    /// No wait of ours is longer; the storage may ask for more.
    pub wait_max: Duration,
    /// The clock.
    pub time: Arc<dyn Time>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(300),
            wait_first: Duration::from_millis(200),
            wait_max: Duration::from_secs(30),
            time: Arc::new(SystemClock { start: Instant::now() }),
        }
    }
}

impl Retry {
    /// The default policy with another budget; zero means one try.
    pub fn with_budget(budget: Duration) -> Self {
        Self { budget, ..Self::default() }
    }
}

/// What a failed attempt says of another.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another try cannot help.
    Final(Error),
    /// Another try may, not sooner than `after`.
    Again { after: Option<Duration>, detail: String },
}

/// Repeats `attempt` until it succeeds, fails for good, or the budget is spent.
pub(crate) async fn run<T, A>(
    retry: &Retry,
    cancel: &Cancel,
    op: &'static str,
    name: &str,
    mut attempt: impl FnMut() -> A,
) -> Result<T>
where
    A: Future<Output = Result<T, Failure>>,
{
    let mut wait = retry.wait_first;
    let mut failing_since = None;
    loop {
        cancel.check()?;
        let (after, detail) = match attempt().await {
            Ok(value) => return Ok(value),
            Err(Failure::Final(e)) => return Err(e),
            Err(Failure::Again { after, detail }) => (after, detail),
        };
        let now = retry.time.now();
        let failing = now.saturating_sub(*failing_since.get_or_insert(now));
        let pause = jittered(wait).max(after.unwrap_or_default());
        if failing + pause > retry.budget {
            return Err(Error::Unavailable { op, name: name.to_owned(), detail });
        }
        tracing::debug!(op, name, detail, ?pause, "trying again");
        retry.time.sleep(pause).await;
        wait = (wait * 2).min(retry.wait_max);
    }
}

/// Between half of `wait` and all of it, so that many clients do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or(u32::MAX);
    wait.mul_f64(0.5 + 0.5 * f64::from(part) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorded {
        now: Mutex<Duration>,
        sleeps: Mutex<Vec<Duration>>,
    }

    impl Time for Recorded {
        fn now(&self) -> Duration {
            *self.now.lock().unwrap()
        }
        fn sleep(&self, time: Duration) -> Sleep {
            *self.now.lock().unwrap() += time;
            self.sleeps.lock().unwrap().push(time);
            Box::pin(std::future::ready(()))
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Runs `attempt(n)` for n = 0, 1, ... under a budget; gives the result and the waits.
    fn play(
        budget: Duration,
        attempt: impl Fn(u32) -> Result<u32, Failure>,
    ) -> (Result<u32>, Vec<Duration>) {
        let time = Arc::new(Recorded::default());
        let shared: Arc<dyn Time> = Arc::<Recorded>::clone(&time);
        let retry = Retry { time: shared, ..Retry::with_budget(budget) };
        let (mut n, never) = (0, Cancel::new());
        let done = run(&retry, &never, "put", "packs/1", || {
            n += 1;
            std::future::ready(attempt(n - 1))
        });
        let done = futures_util::FutureExt::now_or_never(done).expect("nothing really waits");
        let sleeps = time.sleeps.lock().unwrap().clone();
        (done, sleeps)
    }

    fn again(after: Option<Duration>) -> Failure {
        Failure::Again { after, detail: "503 SlowDown".to_owned() }
    }

    #[test]
    fn waits_double_up_to_a_cap_and_stop_at_the_budget() {
        let (done, sleeps) = play(secs(300), |_| Err(again(None)));
        assert!(matches!(done, Err(Error::Unavailable { detail, .. }) if detail.contains("503")));
        for (n, sleep) in sleeps.iter().enumerate() {
            let full = Duration::from_millis(200 << n.min(20)).min(secs(30));
            assert!(*sleep >= full / 2 && *sleep <= full, "wait {n} was {sleep:?} of {full:?}");
        }
        let waited: Duration = sleeps.iter().sum();
        assert!(waited <= secs(300) && waited > secs(269), "waited {waited:?} of 300 s");
    }

    #[test]
    fn the_storage_says_how_long_to_wait() {
        let (done, sleeps) =
            play(secs(300), |n| if n < 2 { Err(again(Some(secs(7)))) } else { Ok(n) });
        assert_eq!(done.unwrap(), 2);
        assert_eq!(sleeps, [secs(7), secs(7)]);
    }

    #[test]
    fn a_wait_longer_than_the_budget_fails_at_once() {
        let (done, sleeps) = play(secs(300), |_| Err(again(Some(secs(3_600)))));
        assert!(matches!(done, Err(Error::Unavailable { .. })));
        assert!(sleeps.is_empty(), "{sleeps:?}");
    }

    #[test]
    fn retry_after_zero_is_no_busy_loop() {
        let (_, sleeps) = play(secs(1), |_| Err(again(Some(secs(0)))));
        assert!(!sleeps.is_empty() && sleeps.len() < 10, "{sleeps:?}");
    }

    #[test]
    fn a_final_failure_is_not_tried_again() {
        let (done, sleeps) = play(secs(300), |_| Err(Failure::Final(Error::Cancelled)));
        assert!(matches!(done, Err(Error::Cancelled)));
        assert!(sleeps.is_empty(), "{sleeps:?}");
    }

    #[test]
    fn a_cancelled_run_does_not_begin() {
        let (retry, cancel) = (Retry::default(), Cancel::new());
        cancel.cancel();
        let tried = run(&retry, &cancel, "get", "config", || async { Ok::<(), Failure>(()) });
        let done = futures_util::FutureExt::now_or_never(tried).expect("ready");
        assert!(matches!(done, Err(Error::Cancelled)));
    }
}
