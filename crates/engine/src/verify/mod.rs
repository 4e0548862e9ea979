//! Verify: is what snapshots need there, and right? And can it really be restored?
//!
//! In: a session and how much to look at. Out: what is wrong and which files that touches. The look at
//! the repository is that of [`repo::verify`]; the rehearsal restores the newest snapshots.

mod rehearsal;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use repo::OpId;
use repo::verify::VerifyOptions;
pub use repo::verify::{Finding, Harm, Level, Report, Touched};

use crate::error::{Error, Result};
use crate::journal;
use crate::session::Session;

pub use rehearsal::{Rehearsed, rehearse};

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much to look at.
    pub level: Level,
    /// Bytes of packs to read at most.
    pub bytes_max: Option<u64>,
    /// Time to read packs in, at most; what follows from damage takes as long as it takes.
    pub time_max: Option<Duration>,
    /// Reads under way at once; for a remote store more than there are cores.
    pub threads: usize,
}

impl Options {
    /// No limits, all cores.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            bytes_max: None,
            time_max: None,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// Verifies. `progress` hears how many bytes of packs were read, and how many will be. Setting `cancel`
/// ends the reading; what was read until then is remembered.
pub fn verify(
    session: &Session,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &AtomicBool,
) -> Result<Report> {
    let clock = &session.clock;
    let began = clock.now_nanos();
    let is_over = || {
        let spent = u128::from(clock.now_nanos().abs_diff(began));
        cancel.load(Ordering::Relaxed) || options.time_max.is_some_and(|t| spent >= t.as_nanos())
    };
    let asked = VerifyOptions {
        bytes_max: options.bytes_max,
        threads: options.threads,
        is_over: &is_over,
        progress,
        ..VerifyOptions::new(options.level)
    };
    let run = OpId::random();
    let report = repo::verify::verify(&session.repo, session.cache.as_ref(), &run, &asked)?;
    if cancel.load(Ordering::Relaxed) && !report.is_damaged() {
        return Err(Error::Cancelled);
    }
    journal::verified(session, options.level, &report);
    Ok(report)
}
