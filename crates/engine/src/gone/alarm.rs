//! The alarm: much of what an agent keeps its history in vanished at once.
//!
//! Whether it did is decided by [`judge`], which is pure. Then the snapshots before are pinned and the
//! alarm stays in this machine's state until somebody says that it was seen ([`acknowledge`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use repo::{OpId, Snapshot};
use serde::{Deserialize, Serialize};

use super::Settled;
use super::earlier::Tell;
use crate::error::{Error, Result};
use crate::monitor::Problem;
use crate::session::Session;
use crate::state::State;

/// Fewer files that vanish are no alarm, whatever part of all they are.
const FILES_MIN: u64 = 2;
/// Snapshots before an alarm that are pinned, newest first: the last one has what vanished, older ones
/// have it as it was before whatever happened began.
const PINNED_MAX: usize = 10;

/// An agent of which much vanished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vanished {
    pub(crate) agent: String,
    pub(crate) gone: u64,
    pub(crate) of: u64,
    /// The newest snapshot that had it.
    pub(crate) before: OpId,
}

/// An alarm that nobody acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The agent.
    pub agent: String,
    /// Files that vanished.
    pub gone: u64,
    /// Files that there were.
    pub of: u64,
    /// The newest snapshot that has them all.
    pub before: String,
    /// When it was noticed: seconds since 1970.
    pub at_secs: i64,
    /// Snapshots that were pinned for it.
    pub pinned: Vec<String>,
}

impl Vanished {
    pub(crate) fn problem(&self) -> Problem {
        let what = format!(
            "{} of {} transcripts and other files that hold its history are gone since snapshot {}. \
             They are kept: 'agent-backup ls --gone' lists them, 'agent-backup pull --gone' brings them \
             back. The snapshots before are pinned until you say 'agent-backup pin --acknowledge'",
            self.gone,
            self.of,
            &self.before.hex()[..8]
        );
        Problem { path: self.agent.clone().into_bytes(), what, notice: false }
    }
}

/// Agents that lost more than half. In: for each root its agent, how many files vanished, how many
/// there were, and the snapshot they were in.
pub(crate) fn judge<'s>(
    roots: impl Iterator<Item = (&'s str, u64, u64, &'s Snapshot)>,
) -> Vec<Vanished> {
    let mut agents = BTreeMap::<&str, (u64, u64, &Snapshot)>::new();
    for (agent, gone, of, before) in roots {
        let slot = agents.entry(agent).or_insert((0, 0, before));
        let newest = if before.count() > slot.2.count() { before } else { slot.2 };
        *slot = (slot.0 + gone, slot.1 + of, newest);
    }
    let is_alarm = |gone: u64, of: u64| gone >= FILES_MIN && gone * 2 > of;
    agents
        .into_iter()
        .filter(|(_, (gone, of, _))| is_alarm(*gone, *of))
        .map(|(agent, (gone, of, before))| Vanished {
            agent: agent.to_owned(),
            gone,
            of: of.max(gone),
            before: before.id,
        })
        .collect()
}

/// Remembers alarms and pins what was before them; to be done before the snapshot without it counts.
pub(crate) fn raise(
    session: &Session,
    state: &mut State,
    settled: &Settled,
    tell: Tell<'_>,
) -> Result<()> {
    let pins: BTreeSet<OpId> = settled.pins.iter().copied().collect();
    for id in &pins {
        match session.repo.pin(id) {
            Ok(_) | Err(repo::Error::NoSuchSnapshot(_)) => {}
            Err(error) => tell(unpinned(repo::gone::NAME, id, &error)),
        }
    }
    for one in &settled.alarms {
        tell(one.problem());
        let before = one.before.hex();
        let is_same = |known: &&mut Alarm| known.agent == one.agent && known.before == before;
        if state.alarms.iter_mut().find(is_same).is_none() {
            state.alarms.push(Alarm {
                agent: one.agent.clone(),
                gone: one.gone,
                of: one.of,
                before: before.clone(),
                at_secs: session.clock.now_secs(),
                pinned: Vec::new(),
            });
        }
        session.state.save(state)?;
        for id in to_pin(session, &one.agent)? {
            match session.repo.pin(&id) {
                // a pin that was there is somebody else's, and stays when the alarm goes
                Ok(false) | Err(repo::Error::NoSuchSnapshot(_)) => continue,
                Ok(true) => {}
                Err(error) => {
                    tell(unpinned(one.agent.as_bytes(), &id, &error));
                    continue;
                }
            }
            if let Some(alarm) = state.alarms.iter_mut().find(is_same) {
                alarm.pinned.push(id.hex());
                session.state.save(state)?;
            }
        }
    }
    Ok(())
}

fn unpinned(path: &[u8], id: &OpId, error: &repo::Error) -> Problem {
    let what = format!("snapshot {id} could not be pinned: {error}");
    Problem { path: path.to_vec(), what, notice: false }
}

/// Snapshots of this machine that hold the agent, newest first.
fn to_pin(session: &Session, agent: &str) -> Result<Vec<OpId>> {
    let mut snapshots = session.snapshots()?;
    snapshots.retain(|s| s.machine == session.machine_id && s.agents().contains(&agent));
    snapshots.sort_by_key(|s| std::cmp::Reverse(s.order()));
    Ok(snapshots.iter().take(PINNED_MAX).map(|s| s.id).collect())
}

/// Alarms of this machine that nobody acknowledged.
pub fn alarms(session: &Session) -> Result<Vec<Alarm>> {
    let state: State = session.state.load()?;
    Ok(state.alarms)
}

/// The same, of a repository's directory in the state: asks no store. A state that does not read has
/// none: a push will say so.
pub(crate) fn alarms_in(dir: &Path) -> Vec<Alarm> {
    let state = std::fs::read(dir.join("state.json")).ok();
    let state: Option<State> = state.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    state.map(|state| state.alarms).unwrap_or_default()
}

/// Pins a snapshot for good. False if that was done before: a pin of an alarm is made one that stays when
/// the alarm goes.
pub fn pin(session: &Session, id: &OpId) -> Result<bool> {
    let is_new = session.repo.pin(id)?;
    Ok(let_go(session, id, None)? || is_new)
}

/// A snapshot took another's place, with its pins: so it did in the alarms.
pub(crate) fn take_place(session: &Session, old: &OpId, new: &OpId) -> Result<()> {
    let_go(session, old, Some(new)).map(drop)
}

/// No alarm of this machine has this snapshot any more, but the other one. False if none had it.
fn let_go(session: &Session, id: &OpId, other: Option<&OpId>) -> Result<bool> {
    let hex = id.hex();
    let has = |state: &State| state.alarms.iter().any(|alarm| alarm.pinned.contains(&hex));
    if !has(&session.state.load()?) {
        return Ok(false);
    }
    let _lock = session.state.lock()?;
    let mut state: State = session.state.load()?;
    for alarm in &mut state.alarms {
        let before = alarm.pinned.len();
        alarm.pinned.retain(|one| *one != hex);
        if alarm.pinned.len() < before {
            alarm.pinned.extend(other.map(OpId::hex));
        }
    }
    session.state.save(&state)?;
    Ok(true)
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// The alarms, which are over.
    pub alarms: Vec<Alarm>,
    /// Snapshots that were let go of.
    pub unpinned: Vec<OpId>,
}

/// Ends the alarms and lets go of the snapshots that they pinned. What is gone stays kept.
pub fn acknowledge(session: &Session, cancel: &AtomicBool) -> Result<Acknowledged> {
    let _lock = session.state.lock()?;
    let mut state: State = session.state.load()?;
    let mut done = Acknowledged::default();
    while let Some(alarm) = state.alarms.first().cloned() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        for id in alarm.pinned.iter().filter_map(|id| OpId::from_hex(id)) {
            let is_needed = state.alarms[1..].iter().any(|other| other.pinned.contains(&id.hex()));
            if !is_needed && session.repo.unpin(&id)? {
                done.unpinned.push(id);
            }
        }
        state.alarms.remove(0);
        session.state.save(&state)?;
        done.alarms.push(alarm);
    }
    Ok(done)
}
