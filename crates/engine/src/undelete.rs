//! Undelete: a forgotten snapshot comes back, as a push of its tree under a fresh id.
//!
//! It is a push, so it takes the lock of pushes and remembers its operation as they do. That works
//! until a collection has removed what only this snapshot needed; [`forgotten`] says for which it
//! still does.

use repo::{Commit, Error as RepoError, OpId, Snapshot};

use crate::copy::push_of;
use crate::error::{Error, Result};
use crate::push::{finish_unfinished, is_current};
use crate::session::Session;
use crate::state::State;

/// Tries of an operation that another client ended while it ran.
const ATTEMPTS_MAX: usize = 3;

/// A forgotten snapshot whose record is still there.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The snapshot as it was.
    pub snapshot: Snapshot,
    /// Everything it needs is still there.
    pub whole: bool,
}

/// Forgotten snapshots, oldest first. Pushes that never counted are none, and so are those that are back.
pub fn forgotten(session: &Session) -> Result<Vec<Forgotten>> {
    let mut snapshots = Vec::new();
    for id in ids(session)? {
        match session.repo.forgotten(&id) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(RepoError::Missing { .. }) => {} // a collection removed the record meanwhile
            Err(error) => return Err(error.into()),
        }
    }
    let there = session.snapshots_listed()?.0;
    let mut away = Vec::new();
    for snapshot in snapshots {
        if back(session, &there, &snapshot)?.is_none() {
            away.push(snapshot);
        }
    }
    let mut snapshots = away;
    snapshots.sort_by_key(|s| (s.finished_nanos, s.id));
    let whole = repo::undelete::whole(&session.repo, session.cache.as_ref(), &snapshots)?;
    let one = |(snapshot, whole)| Forgotten { snapshot, whole };
    Ok(snapshots.into_iter().zip(whole).map(one).collect())
}

/// The forgotten snapshot whose id begins so.
pub fn select(session: &Session, spec: &str) -> Result<OpId> {
    let none = |why: &str| Error::Repo(RepoError::NoSuchSnapshot(format!("{spec}: {why}")));
    if spec.len() < 4 || !spec.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(none("give at least four digits of the id of a forgotten snapshot"));
    }
    let begin = spec.to_ascii_lowercase();
    let fits = |id: &OpId| id.hex().starts_with(&begin);
    match ids(session)?.into_iter().filter(fits).collect::<Vec<_>>().as_slice() {
        [id] => Ok(*id),
        [] if session.repo.snapshot_ids()?.iter().any(fits) => {
            Err(none("this snapshot was not forgotten"))
        }
        [] => Err(none("no forgotten snapshot has an id that begins so")),
        _ => Err(none("several forgotten snapshots have ids that begin so")),
    }
}

/// Brings one back and returns what it is now; also what it is already, if it is back.
pub fn undelete(session: &Session, id: &OpId) -> Result<Snapshot> {
    session.repo.config().writable()?;
    let _lock = session.state.lock()?;
    let mut state: State = session.state.load()?;
    finish_unfinished(session, &mut state)?;
    let forgotten = session.repo.forgotten(id)?;
    let (there, _) = session.snapshots_listed()?;
    if let Some(back) = back(session, &there, &forgotten)? {
        return Ok(back.clone());
    }
    let mut doubtful = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let fresh = OpId::random();
        state.unfinished = Some(fresh.hex());
        session.state.save(&state)?;
        let (repo, cache, clock) = (&session.repo, session.cache.as_ref(), &session.clock);
        let machine = session.machine_id;
        let done = repo::undelete::undelete(repo, cache, id, fresh, machine, &|| clock.now_secs());
        let ended = matches!(done, Ok((Commit::Acknowledged(_), _)))
            || done.is_err() && repo.has_end_mark(&fresh).unwrap_or(false);
        if ended {
            state.unfinished = None;
            session.state.save(&state)?;
        }
        match done? {
            (Commit::Acknowledged(_), snapshot) => {
                for old in doubtful {
                    repo.forget_unless_pinned(&old)?;
                }
                return Ok(snapshot);
            }
            (Commit::InDoubt, _) => doubtful.push(fresh),
        }
    }
    Err(Error::Repo(RepoError::Refused {
        reason: "another client stopped this three times; try again later".into(),
    }))
}

/// What a forgotten snapshot is again, if it is back: the same push with the same tree. What took its
/// place without some of its files is another one, and so is what may stop to count at any moment.
fn back<'s>(
    session: &Session,
    there: &'s [Snapshot],
    forgotten: &Snapshot,
) -> Result<Option<&'s Snapshot>> {
    let same = |s: &&Snapshot| push_of(s) == push_of(forgotten) && s.tree == forgotten.tree;
    for one in there.iter().filter(same) {
        if is_current(session, &one.id)? && !session.repo.has_kill_mark(&one.id)? {
            return Ok(Some(one));
        }
    }
    Ok(None)
}

/// Ids that have a record, are no snapshots any more, and were snapshots once.
fn ids(session: &Session) -> Result<Vec<OpId>> {
    let there = session.repo.snapshot_ids()?;
    let dead = session.repo.dead_ids()?;
    let mut ids = session.repo.forgotten_ids()?;
    ids.retain(|id| !there.contains(id) && !dead.contains(id));
    Ok(ids)
}
