//! How fast bytes may leave: one line that all uploads of a store share.
//!
//! Each frame takes the next free stretch of the line and waits until it begins. Nothing is saved up
//! while the line is idle, so the rate is never exceeded for longer than one frame.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Frames are cut to this: short enough to spread smoothly, long enough to cost nothing.
pub(crate) const FRAME_BYTES: usize = 32 << 10;

/// A line of so many bytes per second.
#[derive(Debug)]
pub(crate) struct Line {
    bytes_per_second: u64,
    free_at: Mutex<Duration>,
}

impl Line {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::default() }
    }

    /// Takes the line for `bytes` at time `now`; gives how long to wait before sending them.
    pub(crate) fn take(&self, bytes: usize, now: Duration) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_at).max(now);
        *free_at = begin + time;
        begin.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_share_one_rate() {
        let line = Line::new(1_000);
        let ms = Duration::from_millis;
        assert_eq!(line.take(500, ms(0)), ms(0));
        assert_eq!(line.take(500, ms(0)), ms(500), "a second upload waits for the first");
        assert_eq!(line.take(100, ms(200)), ms(800));
    }

    #[test]
    fn an_idle_line_saves_nothing_up() {
        let line = Line::new(1_000);
        let ms = Duration::from_millis;
        line.take(100, ms(0));
        assert_eq!(line.take(1_000, ms(60_000)), ms(0));
        assert_eq!(line.take(1, ms(60_000)), ms(1_000));
    }
}
