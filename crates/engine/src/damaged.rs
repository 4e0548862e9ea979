//! Looking at many snapshots of which some are damaged: the others are as good as they were.
//!
//! In: snapshots, and what is to be done with them. Out: what that came to with those that read, and
//! which do not. Nothing is looked at twice while nothing is damaged.

use std::borrow::Cow;

use repo::{OpId, Reader, Snapshot};

use crate::error::{Error, Result};
use crate::session::Session;

/// A snapshot that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// Its id.
    pub id: OpId,
    /// What is damaged.
    pub what: String,
}

impl DamagedSnapshot {
    pub(crate) fn new<E: std::fmt::Display>((id, error): (OpId, E)) -> Self {
        Self { id, what: error.to_string() }
    }
}

/// Is something damaged, or not there? Not that this machine lacks a key.
pub(crate) fn is_damage(error: &Error) -> bool {
    use repo::Error::{Corrupt, Missing};
    matches!(error, Error::Repo(Corrupt { .. } | Missing { .. }))
}

/// Runs `run` on snapshots. If it meets damage: once more on those whose trees read to their ends, which
/// are given back; the others are added to `damaged`.
pub(crate) fn pass_over<'s, T>(
    session: &Session,
    snapshots: &'s [Snapshot],
    damaged: &mut Vec<DamagedSnapshot>,
    is_over: &dyn Fn() -> bool,
    run: &mut dyn FnMut(&[Snapshot]) -> Result<T>,
) -> Result<(T, Cow<'s, [Snapshot]>)> {
    match run(snapshots) {
        Err(error) if is_damage(&error) => {}
        done => return Ok((done?, Cow::Borrowed(snapshots))),
    }
    let reader = Reader::open(session.repo(), session.cache())?;
    let mut whole = Vec::new();
    for snapshot in snapshots {
        if is_over() {
            return Err(Error::Cancelled);
        }
        match reader.walk(&snapshot.tree, &mut |_, _| Ok(())).map_err(Into::into) {
            Ok(()) => whole.push(snapshot.clone()),
            Err(error) if is_damage(&error) => {
                damaged.push(DamagedSnapshot::new((snapshot.id, error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((run(&whole)?, Cow::Owned(whole)))
}
