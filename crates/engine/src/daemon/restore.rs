//! The first run on a machine where nothing is yet: snapshots that exist come back before anything is pushed.
//!
//! Only on a machine that never pushed to the repository and has no file of what a push would cover; so
//! what somebody deleted on purpose does not come back by itself. Of every agent the newest snapshot counts,
//! whichever machine made it, but none that a restore made for safety: that may hold a part. Nothing that is
//! there is ever replaced. A restore that was interrupted is remembered, and taken up at the next start.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use repo::{Kind, OpId, RootRecord, Snapshot};

use crate::error::{Error, Result};
use crate::journal;
use crate::pull::{self, Overwrite, Part, Placement, SnapshotContent};
use crate::scan::{self, ScanRoot};
use crate::session::Session;
use crate::state::{State, write_whole};

/// Name of the file that says that a restore is under way.
const MARK: &str = "restoring";

/// A snapshot, and where its roots go.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Label and place of each root that is wanted of it.
    pub places: Vec<(Vec<u8>, PathBuf)>,
    /// Labels that have no place here.
    pub homeless: Vec<String>,
}

/// Whether these roots hold no file.
pub fn is_empty(roots: &[ScanRoot], options: &scan::Options, cancel: &AtomicBool) -> Result<bool> {
    let mut found = false;
    let mut look = |one: scan::Found| {
        found |= one.kind == Kind::File;
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // what cannot be read is there
    let mut unreadable = false;
    let mut problem = |problem: scan::Problem| unreadable |= problem.error.is_some();
    scan::scan(roots, options, cancel, &mut look, &mut problem)?;
    Ok(!found && !unreadable)
}

/// Whether this machine never pushed to the repository.
pub fn is_first_run(session: &Session) -> Result<bool> {
    Ok(session.state.load::<State>()?.previous.is_none())
}

/// Whether a restore was begun here and not ended.
pub fn is_unfinished(session: &Session) -> bool {
    session.state.path().join(MARK).exists()
}

/// The same, without opening the repository; none if this machine never opened it at this address.
pub fn was_begun(state: &Path, address: &str) -> Option<bool> {
    journal::repo_dir(state, address).map(|(_, dir)| dir.join(MARK).exists())
}

/// Content of the largest snapshot that a rehearsal restores: the newest of some agent.
pub fn largest_bytes(session: &Session) -> Result<u64> {
    let mut newest: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for snapshot in candidates(session)? {
        for root in snapshot.roots {
            newest.insert(root.agent, snapshot.stats.bytes);
        }
    }
    Ok(newest.into_values().max().unwrap_or_default())
}

/// What may be chosen, oldest first.
fn candidates(session: &Session) -> Result<Vec<Snapshot>> {
    let mut snapshots = session.snapshots()?;
    snapshots.retain(|snapshot| !snapshot.is_safety());
    Ok(snapshots)
}

/// Remembers that a restore is under way.
pub fn begin(session: &Session) -> Result<()> {
    write_whole(&session.state.path().join(MARK), b"a restore was begun here\n")
}

/// It is over.
pub fn end(session: &Session) -> Result<()> {
    let path = session.state.path().join(MARK);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::local("remove", &path, e)),
        _ => Ok(()),
    }
}

/// Picks the newest snapshot of every agent and named directory. `locate` says where a root goes here: none if
/// it is not wanted, an error text if it has no place.
pub fn choose(
    session: &Session,
    locate: &dyn Fn(&RootRecord) -> Option<std::result::Result<PathBuf, String>>,
) -> Result<Vec<Chosen>> {
    let snapshots = candidates(session)?;
    // an agent's roots belong together; a directory that was named stands alone
    let owner = |root: &RootRecord| match &root.agent {
        Some(agent) => (Some(agent.clone()), String::new()),
        None => (None, root.label.clone()),
    };
    let mut newest: BTreeMap<_, OpId> = BTreeMap::new();
    for snapshot in &snapshots {
        for root in &snapshot.roots {
            newest.insert(owner(root), snapshot.id);
        }
    }
    let mut chosen = Vec::new();
    for snapshot in snapshots {
        let mut one = Chosen { places: Vec::new(), homeless: Vec::new(), snapshot };
        for root in &one.snapshot.roots {
            if newest.get(&owner(root)) != Some(&one.snapshot.id) {
                continue;
            }
            match locate(root) {
                None => {}
                Some(Ok(dir)) => one.places.push((root.label.clone().into_bytes(), dir)),
                Some(Err(label)) => one.homeless.push(label),
            }
        }
        if !one.places.is_empty() || !one.homeless.is_empty() {
            chosen.push(one);
        }
    }
    Ok(chosen)
}

/// Restores what was chosen of a snapshot. What is there stays as it is.
pub fn bring_back(
    session: &Session,
    chosen: &Chosen,
    workers: usize,
    monitor: &dyn pull::Monitor,
    cancel: &AtomicBool,
) -> std::result::Result<pull::Report, Trouble> {
    let labels: Vec<Vec<u8>> = chosen.places.iter().map(|(label, _)| label.clone()).collect();
    let options = pull::Options {
        labels: labels.clone(),
        overwrite: Overwrite::Never,
        workers,
        ..pull::Options::new(Placement::Each(chosen.places.clone()))
    };
    let content = Part::new(SnapshotContent::open(session, &chosen.snapshot)?, labels);
    Ok(pull::pull(&content, &options, monitor, cancel)?)
}

/// Why a restore stopped.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The snapshot could not be read.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The restore stopped.
    #[error(transparent)]
    Pull(#[from] pull::Error),
}
