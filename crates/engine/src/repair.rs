//! Repair: the index from the packs, blocks from whatever still has their bytes.
//!
//! In: a session, and where to look for what is lost. Out: what is whole again and what is not. Every
//! step begins with a look at the repository and ends with one: what is told is what was found, not what
//! was meant to be.
//!
//! From the source: every file is read, and what is not to be had is stored again. From that, and from
//! what the cache remembers, data blocks and maps are put together as they were. Then a push of the same
//! roots finds what its cache remembers in place again, and stores every node anew that is lost: one
//! whose files are what they were comes out with the id it had. So the new snapshot is whole whatever was
//! lost, and older ones as far as they hold the same.
//!
//! At a storage that is not this machine's, a pack that looks damaged is acted on when it still does an
//! hour after it first did: until then it is only told. What a listing does not show is acted on at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use repo::repair;
pub use repo::repair::{Accepted, Healed, IndexReport};
use repo::verify::Report;
use repo::{BlockId, Commit, OpId, PackId, Repository};

use crate::error::{Error, Result};
use crate::gone::is_damage;
use crate::monitor::Monitor;
use crate::push::{self, PushOptions, PushRoot, Pushed};
use crate::session::Session;
use crate::state::State;
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
    /// Old versions of objects, which the storage keeps though they were deleted or overwritten.
    pub old_versions: bool,
    /// What nobody has is given up: snapshots that need it are replaced by ones without it.
    pub accept_loss: bool,
}

/// What a repair found and did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// How it was before.
    pub before: Report,
    /// What became of the index, if something of it did not open or was not there.
    pub index: Option<IndexReport>,
    /// Snapshots whose objects did not open and are what they were again.
    pub put_back: Vec<OpId>,
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
    let before = verify::verify(session, look, &|_, _| {}, cancel)?;
    let bad = due(&before);
    let mut done = Repaired { before, ..Repaired::default() };
    if lacks_tables(&done.before) {
        done.index = Some(index(session, look.threads, false)?);
    }
    let mut closed = 0;
    for id in lost_snapshots(session, &done.before, sources.old_versions)? {
        if back(session, &id, sources.old_versions)? {
            done.put_back.push(id);
        } else {
            closed += 1;
        }
    }
    let first = Places { other: sources.other, old_versions: sources.old_versions, trees: &[] };
    done.healed.push(heal(session, &bad, &first)?);
    if let Some((roots, options)) = &sources.live
        && !roots.is_empty()
        && (closed > 0 || done.healed.iter().any(|healed| !healed.left.is_empty()))
    {
        let tree = push::gather(session, roots, options, monitor, cancel)?;
        done.healed.push(heal(session, &bad, &Places { trees: &[tree], ..Places::default() })?);
        let options =
            PushOptions { always: true, reason: Some(REASON.to_owned()), ..options.clone() };
        match push::push(session, roots, &options, monitor, cancel) {
            Ok(pushed) => done.pushed = Some(pushed),
            Err(Error::NothingToBackUp) => {}
            Err(error) => return Err(error),
        }
        done.healed.push(heal(session, &bad, &Places::default())?);
    }
    let look = verify::Options { level: Level::Metadata, ..look.clone() };
    done.after = verify::verify(session, &look, &|_, _| {}, cancel)?;
    if sources.accept_loss && done.after.is_damaged() {
        accept(session, &mut done)?;
        done.after = verify::verify(session, &look, &|_, _| {}, cancel)?;
    }
    Ok(done)
}

/// Damaged places in packs that may be acted on.
fn due(report: &Report) -> BTreeSet<(PackId, BlockId)> {
    let is_due = |(pack, _): &&(PackId, BlockId)| !report.waiting.contains(pack);
    report.bad.iter().filter(is_due).copied().collect()
}

/// Does an index object not open, or is one gone? Packs without a table say what it held.
fn lacks_tables(report: &Report) -> bool {
    let closed = report.findings.iter().any(|found| found.object.starts_with("index/"));
    closed || !report.lost.is_empty() && report.packs_left_over > 0
}

/// Snapshots that count and do not open.
fn closed_snapshots(report: &Report) -> Vec<OpId> {
    let closed = report.findings.iter().filter(|found| found.harm == verify::Harm::Snapshot);
    closed.filter_map(|found| OpId::from_hex(found.object.strip_prefix("snap/")?)).collect()
}

/// Those that count and do not open; with old versions also the one that this machine saw last, if it is
/// gone and nobody forgot it.
fn lost_snapshots(session: &Session, report: &Report, old_versions: bool) -> Result<Vec<OpId>> {
    let mut lost = closed_snapshots(report);
    let state: State = session.state.load()?;
    let newest = state.previous.and_then(|previous| OpId::from_hex(&previous.id));
    if let Some(id) = newest.filter(|id| old_versions && !lost.contains(id))
        && session.repo.is_lost(&id)?
    {
        lost.push(id);
    }
    Ok(lost)
}

/// Brings a snapshot object back, from the cache or an old version; false if neither has it.
fn back(session: &Session, id: &OpId, old_versions: bool) -> Result<bool> {
    let repo = &session.repo;
    if let Some(cache) = &session.cache
        && repair::put_back(repo, cache, id)?
    {
        return Ok(true);
    }
    Ok(old_versions && repair::bring_back(repo, id)?)
}

/// Where blocks are looked for.
#[derive(Default)]
struct Places<'p> {
    other: Option<&'p Repository>,
    old_versions: bool,
    trees: &'p [BlockId],
}

fn heal(
    session: &Session,
    bad: &BTreeSet<(PackId, BlockId)>,
    places: &Places<'_>,
) -> Result<Healed> {
    let Places { other, old_versions, trees } = *places;
    announced(session, |id| {
        let now = || session.clock.now_secs();
        let (repo, cache) = (&session.repo, session.cache.as_ref());
        let remembered = |path: &[u8]| push::remembered(session, path);
        let remembered = &remembered;
        let options = repair::HealOptions { bad, other, old_versions, trees, remembered };
        Ok(repair::heal(repo, cache, id, session.machine_id, &options, &now)?)
    })
}

/// Gives up what nobody has. What may only look damaged is not given up yet.
fn accept(session: &Session, done: &mut Repaired) -> Result<()> {
    for id in closed_snapshots(&done.after) {
        match session.snapshot(&id) {
            Err(error) if is_damage(&error) => {
                repair::bury(&session.repo, &id)?;
                done.buried.push(id);
            }
            other => drop(other?),
        }
    }
    let after = &done.after;
    let lost: BTreeMap<BlockId, String> = after.lost.clone();
    let waiting: BTreeSet<BlockId> = after
        .bad
        .iter()
        .filter(|(pack, _)| after.waiting.contains(pack))
        .map(|(_, block)| *block)
        .collect();
    let waits = |one: &&verify::Touched| !one.blocks.is_disjoint(&waiting);
    let spared: BTreeSet<OpId> =
        after.touched.iter().filter(waits).flat_map(|one| &one.snapshots).copied().collect();
    let mut touched: Vec<OpId> =
        after.touched.iter().flat_map(|one| &one.snapshots).copied().collect();
    touched.retain(|id| !spared.contains(id));
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
                if let Some(new) = &accepted.new {
                    crate::gone::take_place(session, &old.id, new)?;
                }
                done.accepted.push(accepted);
                break;
            }
            if let Some(new) = accepted.new {
                session.repo.forget_unless_pinned(&new)?;
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
pub(crate) fn announced<T>(session: &Session, run: impl FnOnce(OpId) -> Result<T>) -> Result<T> {
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
