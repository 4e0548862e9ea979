//! Garbage collection on this machine: the repository's collector with this machine's memory.
//!
//! A collection takes a lock of its own, not that of pushes: both may run at once, here and anywhere.
//! Its operation's id is written to the state first, so that the next collection here ends it by
//! kill, look, dead, if this one crashes. See [`repo::gc`] for what happens in the store.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use repo::gc::{GcOptions, GcPlan, GcReport, GcStep};
use repo::{OpId, end_stale};

use crate::error::{Error, Result};
use crate::journal;
use crate::push::finish_unfinished;
use crate::session::Session;
use crate::state::{GcState, State};

/// Requests at a time where many objects of a bucket are removed.
const THREADS_REMOTE: usize = 8;

/// What fits the store of this repository.
pub fn options(session: &Session) -> GcOptions {
    let listing = session.repo.store().listing();
    let mut options = GcOptions::for_listing(listing);
    if listing != store::Listing::Local {
        options.threads = THREADS_REMOTE;
    }
    options
}

/// Says what a collection would do; writes nothing.
pub fn plan(session: &Session, options: &GcOptions) -> Result<GcPlan> {
    Ok(repo::gc::plan(&session.repo, session.cache.as_ref(), options)?)
}

/// When the announced operations gave their last sign, by the store's clock.
pub fn last_signs(session: &Session) -> Result<HashMap<OpId, SystemTime>> {
    let id = |item: &store::Item| OpId::from_hex(item.name.strip_prefix("op/")?);
    let listed = session.repo.store().list("op/")?;
    Ok(listed.iter().filter_map(|item| Some((id(item)?, item.modified))).collect())
}

/// Collects. `exclusive`: nobody else uses the repository now, so what looks like an operation
/// under way is what a crash left, and nothing is waited for; [`Error::Busy`] if a push runs here.
pub fn collect(
    session: &Session,
    options: &GcOptions,
    exclusive: bool,
    step: &dyn Fn(GcStep),
) -> Result<GcReport> {
    session.repo.config().writable()?;
    let state = session.state.of_gc()?;
    let _lock = state.lock()?;
    let mut memory: GcState = state.load()?;
    if let Some(old) = memory.unfinished.as_deref().and_then(OpId::from_hex) {
        end_stale(&session.repo, &old)?;
        memory.unfinished = None;
        state.save(&memory)?;
    }
    end_crashed_push(session)?;
    let mut options = options.clone();
    let _no_push = exclusive.then(|| session.state.lock()).transpose()?;
    if exclusive {
        (options.fence, options.stale_after) = (Duration::ZERO, Duration::ZERO);
    }
    let id = OpId::random();
    memory.unfinished = Some(id.hex());
    state.save(&memory)?;
    let clock = &session.clock;
    let done = repo::gc::collect(
        &session.repo,
        session.cache.as_ref(),
        id,
        session.machine_id,
        &options,
        &|| clock.now_secs(),
        step,
    );
    // one that stopped has mostly ended itself; then there is nothing for the next one to end
    if done.is_ok() || session.repo.has_end_mark(&id).unwrap_or(false) {
        memory.unfinished = None;
        state.save(&memory)?;
    }
    let report = done?;
    journal::collected(session, &report);
    Ok(report)
}

/// A push that crashed here would be waited for a day. One that runs has its lock, which is taken
/// only where there is something to end, so that no push finds it taken for nothing.
fn end_crashed_push(session: &Session) -> Result<()> {
    if session.state.load::<State>()?.unfinished.is_none() {
        return Ok(());
    }
    let _lock = match session.state.lock() {
        Err(Error::Busy { .. }) => return Ok(()),
        other => other?,
    };
    finish_unfinished(session, &mut session.state.load()?)
}
