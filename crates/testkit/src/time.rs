//! A clock that moves only when somebody sleeps, so that waiting costs no time and is on record.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use store::{Sleep, Time};

/// Time that passes by sleeping.
#[derive(Debug, Default)]
pub struct ManualTime {
    sleeps: Mutex<Vec<Duration>>,
}

impl ManualTime {
    /// The waits so far.
    pub fn sleeps(&self) -> Vec<Duration> {
        self.sleeps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Time for ManualTime {
    fn now(&self) -> Duration {
        self.sleeps().iter().sum()
    }

    fn sleep(&self, time: Duration) -> Sleep {
        self.sleeps.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        Box::pin(std::future::ready(()))
    }
}
