//! CPU time of this thread, so that other work on the machine disturbs less.

use std::fs;
use std::time::Instant;

/// Counts CPU seconds of the calling thread since it was started. Where the kernel does not tell
/// (no `/proc`), counts elapsed seconds.
#[derive(Debug)]
pub struct CpuClock {
    begin: Instant,
    begin_cpu: Option<f64>,
}

impl CpuClock {
    /// Starts counting.
    pub fn start() -> CpuClock {
        CpuClock { begin: Instant::now(), begin_cpu: thread_cpu_seconds() }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        match (self.begin_cpu, thread_cpu_seconds()) {
            (Some(begin), Some(end)) => end - begin,
            _ => self.begin.elapsed().as_secs_f64(),
        }
    }
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn thread_cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(|nanoseconds: f64| nanoseconds / 1e9)
}
