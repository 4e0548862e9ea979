//! Time, injected: nothing below the command line reads the system's clock by itself.

use std::fmt::Debug;

/// Says what time it is.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since 1970, as the machine believes.
    fn now_nanos(&self) -> i64;

    /// Whole seconds since 1970.
    fn now_secs(&self) -> i64 {
        self.now_nanos().div_euclid(1_000_000_000)
    }
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_nanos(&self) -> i64 {
        i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
    }
}
