//! Repair: the index from the packs, blocks from whatever still has their bytes.
//!
//! In: a session, and where to look for what is lost. Out: what is whole again and what is not. Every
//! step begins with a look at the repository and ends with one: what is told is what was found, not what
//! was meant to be.
//!
//! From the source: every file is read, and what is not to be had is stored again. From that, data blocks are
//! put together as they were. Then a push of the same roots finds what its cache remembers of the files
//! in place again, so nodes and maps come out with the ids they had.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use repo::repair;
pub use repo::repair::{Accepted, Healed, IndexReport};
use repo::verify::Report;
use repo::{BlockId, Commit, OpId, Repository};

use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::push::{self, PushOptions, PushRoot, Pushed};
use crate::session::Session;
use crate::verify::{self, Level};

/// What the reason field of the snapshot says that a repair pushed.
pub const REASON: &str = "repair";
/// Tries to replace a snapshot whose operation was ended by another client.
const ATTEMPTS_MAX: usize = 3;

/// Where to look for what is lost.
#[derive(Debug, Default)]
pub struct Sources<'s> {
    /// The live files: roots to read again, and how.
    pub live: Option<(Vec<PushRoot>, PushOptions)>,
    /// Another repository with the same keys.
    pub other: Option<&'s Repository>,
    /// What nobody has is given up: snapshots that need it are replaced by ones without it.
    pub accept_loss: bool,
}

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// How it was before.
    pub before: Report,
    /// What was made again, from each place that was looked at.
    pub healed: Vec<Healed>,
    /// The snapshot that reading the source made or found current.
    pub pushed: Option<Pushed>,
    /// Snapshots that were replaced.
    pub accepted: Vec<Accepted>,
    /// Snapshots that did not open and do not count any more.
    pub buried: Vec<OpId>,
    /// How it is now.
    pub after: Report,
}

/// Makes the index anew.
pub fn index(session: &Session, threads: usize, accept_loss: bool) -> Result<IndexReport> {
    announced(session, |id| {
        let now = || session.clock.now_secs();
        let (repo, cache) = (&session.repo, session.cache.as_ref());
        Ok(repair::index(repo, cache, id, session.machine_id, threads, accept_loss, &now)?)
    })
}

/// Looks for what is damaged or missing, and makes it again.
pub fn repair(
    session: &Session,
    sources: &Sources<'_>,
    look: &verify::Options,
    monitor: &dyn Monitor,
    cancel: &AtomicBool,
) -> Result<Repaired> {
    session.repo.config().writable()?;
    // whoever repairs has made up his mind: what is damaged now is not built on any more
    let look = verify::Options { quarantine_now: true, ..look.clone() };
    let before = verify::verify(session, &look, &|_, _| {}, cancel)?;
    let mut done = Repaired { before, ..Repaired::default() };
    done.healed.push(heal(session, &done.before, sources.other, &[])?);
    if let Some((roots, options)) = &sources.live
        && !roots.is_empty()
        && done.healed.iter().any(|healed| !healed.left.is_empty())
    {
        let tree = push::gather(session, roots, options, monitor, cancel)?;
        done.healed.push(heal(session, &done.before, None, &[tree])?);
        let options =
            PushOptions { always: true, reason: Some(REASON.to_owned()), ..options.clone() };
        match push::push(session, roots, &options, monitor, cancel) {
            Ok(pushed) => done.pushed = Some(pushed),
            Err(Error::NothingToBackUp) => {}
            Err(error) => return Err(error),
        }
        done.healed.push(heal(session, &done.before, None, &[])?);
    }
    let look = verify::Options { level: Level::Metadata, ..look };
    done.after = verify::verify(session, &look, &|_, _| {}, cancel)?;
    if sources.accept_loss && done.after.is_damaged() {
        accept(session, &mut done)?;
        done.after = verify::verify(session, &look, &|_, _| {}, cancel)?;
    }
    Ok(done)
}

fn heal(
    session: &Session,
    report: &Report,
    other: Option<&Repository>,
    trees: &[BlockId],
) -> Result<Healed> {
    announced(session, |id| {
        let now = || session.clock.now_secs();
        let (repo, cache) = (&session.repo, session.cache.as_ref());
        let options = repair::HealOptions { bad: &report.bad, other, trees };
        Ok(repair::heal(repo, cache, id, session.machine_id, &options, &now)?)
    })
}

/// Gives up what nobody has.
fn accept(session: &Session, done: &mut Repaired) -> Result<()> {
    for finding in &done.after.findings {
        let id = finding.object.strip_prefix("snap/").and_then(OpId::from_hex);
        if let Some(id) = id.filter(|_| finding.harm == verify::Harm::Snapshot)
            && session.snapshot(&id).is_err()
        {
            repair::bury(&session.repo, &id)?;
            done.buried.push(id);
        }
    }
    let lost: BTreeMap<_, _> = done.after.lost.clone();
    let mut touched: Vec<OpId> =
        done.after.touched.iter().flat_map(|one| &one.snapshots).copied().collect();
    touched.sort_unstable();
    touched.dedup();
    for old in touched {
        let old = session.snapshot(&old)?;
        let mut attempts = 0;
        loop {
            let (commit, accepted) = announced(session, |id| {
                let now = || session.clock.now_secs();
                let (repo, cache) = (&session.repo, session.cache.as_ref());
                Ok(repair::accept(repo, cache, &old, &lost, id, session.machine_id, &now)?)
            })?;
            attempts += 1;
            if matches!(commit, Commit::Acknowledged(_)) {
                done.accepted.push(accepted);
                break;
            }
            if let Some(new) = accepted.new {
                session.repo.forget(&new)?;
            }
            if attempts == ATTEMPTS_MAX {
                let reason = "this repair was stopped by another client three times".to_owned();
                return Err(repo::Error::Refused { reason }.into());
            }
        }
    }
    Ok(())
}

/// Runs something as an operation that this machine's state knows: a crash leaves no stranger behind.
fn announced<T>(session: &Session, run: impl FnOnce(OpId) -> Result<T>) -> Result<T> {
    let _lock = session.state.lock()?;
    let mut state = session.state.load()?;
    push::finish_unfinished(session, &mut state)?;
    let id = OpId::random();
    state.unfinished = Some(id.hex());
    session.state.save(&state)?;
    let done = run(id)?;
    state.unfinished = None;
    session.state.save(&state)?;
    Ok(done)
}
