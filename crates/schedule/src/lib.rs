//! When unattended runs happen. Pure: no thread, no file, no clock but the one in its arguments.
//!
//! A [`Timetable`] says when a schedule's moments are (cron texts in a time zone); a [`Planner`] decides
//! which job starts now: what is due, what was slept through (once), what waits for its lane or for the end
//! of a pause after a failure. In: the time, requests, and how runs ended. Out: jobs to start, and when to
//! look again.
//!
//! Invariants: a lane runs one job at a time; a job has at most one run waiting; nothing that is kept grows
//! with time.

mod pause;
mod planner;
mod timetable;

pub use pause::{Pause, Setback};
pub use planner::{Cause, Now, Planner, Spec, Start, View};
pub use timetable::{Error, Timetable};

/// A number that looks random and depends on its input alone (SplitMix64's last step).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
