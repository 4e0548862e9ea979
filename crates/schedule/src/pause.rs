//! How long a job waits after it failed.

use std::time::Duration;

use jiff::Timestamp;

use crate::mix;

/// How waits grow: doubled from `first` to `max`, each drawn between three quarters and all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// After the first failure.
    pub first: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// Not later than this by the clock on the wall: a cap that ends at midnight.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Waits that grow from `first` to `max` seconds.
    pub const fn secs(first: u64, max: u64) -> Self {
        Self { first: Duration::from_secs(first), max: Duration::from_secs(max), until: None }
    }

    /// The wait after the `tries`-th failure in a row, counted from one.
    pub(crate) fn after(&self, tries: u32, seed: u64, wall: Timestamp) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(tries.max(1) - 1).unwrap_or(u32::MAX));
        let full = doubled.min(self.max);
        let part = u32::try_from(mix(seed ^ u64::from(tries)) >> 32).unwrap_or(u32::MAX);
        let wait = full.mul_f64(0.75 + 0.25 * f64::from(part) / f64::from(u32::MAX));
        let end = self.until.map(|until| until.duration_since(wall));
        let end = end.map(|left| Duration::try_from(left).unwrap_or_default());
        // never at once: whoever says "until midnight" at midnight would be asked without end
        end.map_or(wait, |end| wait.min(end)).max(Duration::from_secs(1))
    }
}

/// How a run ended that did not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// When to try again; none: at the next moment of the schedule.
    pub pause: Option<Pause>,
    /// It failed: the next pause is longer.
    pub failed: bool,
}

impl Setback {
    /// It failed.
    pub fn failure(pause: Option<Pause>) -> Self {
        Self { pause, failed: true }
    }

    /// It was put off, which is no failure.
    pub fn wait(pause: Pause) -> Self {
        Self { pause: Some(pause), failed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_bound_and_never_overflow() {
        let pause = Pause::secs(30, 1800);
        let wall = Timestamp::UNIX_EPOCH;
        for tries in 1..80 {
            let wait = pause.after(tries, 7, wall).as_secs_f64();
            let full = (30.0 * 2_f64.powi(i32::try_from(tries).unwrap() - 1)).min(1800.0);
            assert!(wait >= 0.75 * full && wait <= full, "{tries}: {wait}");
        }
    }

    #[test]
    fn a_wait_ends_when_the_cap_does_and_is_never_nothing() {
        let wall: Timestamp = "2026-05-27T23:50:00Z".parse().unwrap();
        let midnight: Timestamp = "2026-05-28T00:00:00Z".parse().unwrap();
        let pause = Pause { until: Some(midnight), ..Pause::secs(3600, 3600) };
        assert_eq!(pause.after(1, 7, wall), Duration::from_secs(600));
        let late = midnight.checked_add(jiff::SignedDuration::from_secs(5)).unwrap();
        assert_eq!(pause.after(1, 7, late), Duration::from_secs(1));
    }
}
