//! What this machine did last with a repository: small files that `status` and the daemon read without
//! asking the store.
//!
//! `<state>/repos/<repository id>/done/{push,forget,gc,verify,rehearsal}.json`, and `address` beside the
//! directory, so that an address leads to the repository also without a network. One file per verb,
//! because verbs run beside each other. A journal that cannot be written fails no verb: what it tells is
//! late then, and never wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use repo::gc::GcReport;
use repo::{OpId, RepoId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::push::Pushed;
use crate::session::Session;
use crate::state;
use crate::verify::{Level, Rehearsed, Report};

/// Addresses of one repository that are remembered.
const ADDRESSES_MAX: usize = 8;

/// What was done last, by verb.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    /// The last push that was acknowledged, and for each agent the last one with it.
    pub push: Option<PushDone>,
    /// The last policy that was applied.
    pub forget: Option<ForgetDone>,
    /// The last collection.
    pub gc: Option<GcDone>,
    /// The last look at what is stored.
    pub verify: Option<VerifyDone>,
    /// The last rehearsal of a restore.
    pub rehearsal: Option<RehearsalDone>,
}

/// The last push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushDone {
    /// When it was acknowledged, also if nothing had changed.
    pub at: Timestamp,
    /// The snapshot that is current since.
    pub snapshot: String,
    /// Items that could not be stored.
    pub problems: u64,
    /// For each agent the last push with it.
    pub agents: BTreeMap<String, Acknowledged>,
    /// For each directory that was named, by its label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<String, Acknowledged>,
}

/// When something was backed up last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// When that push was acknowledged.
    pub at: Timestamp,
    /// Its snapshot.
    pub snapshot: String,
}

/// The last time snapshots were forgotten by a policy or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetDone {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub forgotten: u64,
}

/// The last collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcDone {
    /// When.
    pub at: Timestamp,
    /// Bytes that were freed.
    pub freed_bytes: u64,
    /// Bytes that a later collection frees.
    pub pending_bytes: u64,
    /// Not before this time of the store's clock, if that is what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Bytes that nobody needs and that stay.
    pub unused_bytes: u64,
}

/// The last look at what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyDone {
    /// When.
    pub at: Timestamp,
    /// How much was looked at.
    pub level: String,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Damage that was found.
    pub damaged: u64,
    /// Packs that no run has read whole yet.
    pub packs_never_read: u64,
}

/// The last rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsalDone {
    /// When.
    pub at: Timestamp,
    /// Files that were restored and are right.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Items that could not be restored, or are not sound.
    pub damaged: u64,
}

/// The directory of the repository at an address, if this machine opened it before.
pub(crate) fn repo_dir(state: &Path, address: &str) -> Option<(RepoId, PathBuf)> {
    let entries = std::fs::read_dir(state.join("repos")).ok()?;
    let mut known: Vec<(RepoId, PathBuf)> = entries
        .flatten()
        .filter(|entry| {
            let said = std::fs::read_to_string(entry.path().join("address"));
            said.is_ok_and(|said| said.lines().any(|line| line == address))
        })
        .filter_map(|entry| Some((RepoId::from_hex(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    // two at one address: the older one was replaced by another; whoever wrote last is there now
    known.sort_by_key(|(_, dir)| {
        std::fs::metadata(dir.join("address")).and_then(|m| m.modified()).ok()
    });
    known.pop()
}

/// Reads what was done with the repository whose directory this is. What cannot be read counts as not
/// done: the next run of that verb writes it again.
pub(crate) fn read(dir: &Path) -> Journal {
    let done = dir.join(state::DONE);
    Journal {
        push: load(&done, "push"),
        forget: load(&done, "forget"),
        gc: load(&done, "gc"),
        verify: load(&done, "verify"),
        rehearsal: load(&done, "rehearsal"),
    }
}

fn load<T: DeserializeOwned>(done: &Path, verb: &str) -> Option<T> {
    let bytes = std::fs::read(done.join(verb).with_extension("json")).ok()?;
    let read = serde_json::from_slice(&bytes);
    read.inspect_err(|error| tracing::warn!(%error, "what the last {verb} did cannot be read")).ok()
}

impl Session {
    /// Remembers the address under which the repository was opened.
    pub fn remember_address(&self, address: &str) {
        let path = self.state.path().join("address");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines: Vec<&str> = known.lines().filter(|line| *line != address).collect();
        if lines.len() < known.lines().count() {
            return;
        }
        lines.truncate(ADDRESSES_MAX - 1);
        lines.insert(0, address);
        if let Err(error) = state::write_whole(&path, (lines.join("\n") + "\n").as_bytes()) {
            tracing::warn!(%error, "the address is not remembered");
        }
    }

    /// What this machine did last with the repository.
    pub fn journal(&self) -> Journal {
        read(self.state.path())
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.clock.now_nanos().into()).unwrap_or_default()
    }

    fn note<T: Serialize>(&self, verb: &str, done: &T) {
        let dir = self.state.path().join(state::DONE);
        let bytes = serde_json::to_vec_pretty(done).expect("plain data encodes");
        let path = dir.join(verb).with_extension("json");
        let written = state::private_dir(&dir).and_then(|()| state::write_whole(&path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "what the {verb} did is not remembered");
        }
    }
}

/// A push was acknowledged.
pub(crate) fn pushed(session: &Session, pushed: &Pushed) {
    let (snapshot, at) = (pushed.snapshot(), session.at());
    let known: Option<PushDone> = load(&session.state.path().join(state::DONE), "push");
    let problems = match &known {
        // it says what is there, not what could be backed up
        Some(known) if snapshot.is_safety() => known.problems,
        _ => pushed.stats().problems,
    };
    let (mut agents, mut paths) = known.map(|k| (k.agents, k.paths)).unwrap_or_default();
    for root in &snapshot.roots {
        let acknowledged = Acknowledged { at, snapshot: snapshot.id.hex() };
        match &root.agent {
            Some(agent) => agents.insert(agent.clone(), acknowledged),
            None => paths.insert(root.label.clone(), acknowledged),
        };
    }
    session.note("push", &PushDone { at, snapshot: snapshot.id.hex(), problems, agents, paths });
}

/// Snapshots were forgotten.
pub(crate) fn forgot(session: &Session, forgotten: &[OpId]) {
    session.note("forget", &ForgetDone { at: session.at(), forgotten: forgotten.len() as u64 });
}

/// A collection ended.
pub(crate) fn collected(session: &Session, report: &GcReport) {
    let not_before = report.pending.iter().filter_map(|list| list.not_before).max();
    session.note(
        "gc",
        &GcDone {
            at: session.at(),
            freed_bytes: report.swept_bytes,
            pending_bytes: report.pending.iter().map(|list| list.bytes).sum(),
            not_before: not_before.and_then(|at| Timestamp::try_from(at).ok()),
            unused_bytes: report.plan.unused_bytes,
        },
    );
}

/// A look ended.
pub(crate) fn verified(session: &Session, level: Level, report: &Report) {
    let damaged = report.findings.iter().filter(|finding| finding.is_damage()).count() as u64;
    session.note(
        "verify",
        &VerifyDone {
            at: session.at(),
            level: format!("{level:?}").to_lowercase(),
            bytes_read: report.bytes_read,
            damaged,
            packs_never_read: report.packs_never_read as u64,
        },
    );
}

/// A rehearsal ended.
pub(crate) fn rehearsed(session: &Session, all: &[Rehearsed]) {
    session.note(
        "rehearsal",
        &RehearsalDone {
            at: session.at(),
            files: all.iter().map(|one| one.files).sum(),
            bytes: all.iter().map(|one| one.bytes).sum(),
            damaged: all.iter().map(|one| one.problems.len() as u64).sum(),
        },
    );
}
