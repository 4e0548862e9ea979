//! Sessions: the conversations of agents over all snapshots.
//!
//! In: snapshots, and the adapters whose rules say where sessions are. Out: one [`Found`] for each
//! session, wherever it is held: rows of databases, transcripts, several of them. `walk` finds the files that
//! hold sessions, in the cost of what differs between snapshots; `digest` reads those contents that nobody
//! read before; `join` makes sessions of them.
//!
//! What is read is remembered in the local cache by the hash of the content, so that each content is read
//! once, and of a transcript that grew only what was added. The cache may be deleted at any time.

mod bytes;
mod digest;
mod image;
mod join;
mod merge;
mod restore;
mod show;
mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adapters::sessions::SessionRule;
use adapters::{Adapter, Rules};
use repo::{Entry, MachineId, OpId, Snapshot};

use crate::damaged::{DamagedSnapshot, pass_over};
use crate::error::{Error, Result};
use crate::session::Session;

pub use merge::{MergeOptions, Merged, merge};
pub use restore::{Restore, restore};
pub use show::show;

/// How the keys begin under which the cache keeps what was read.
const CACHE_PREFIX: &[u8] = b"sessions/";
/// Characters of an id that are enough to name a session.
pub const ID_PREFIX_MIN: usize = 4;
/// Digits of a machine's id that are shown, and enough to name it.
const MACHINE_DIGITS: usize = 8;

/// A session, wherever it is held.
#[derive(Debug, Clone)]
pub struct Found {
    /// Adapter id.
    pub agent: String,
    /// The agent's id of the session.
    pub id: String,
    /// Its title, or what the user said first.
    pub title: Option<String>,
    /// The directory it is about.
    pub project: Option<String>,
    /// The session it was forked from or works for.
    pub parent: Option<String>,
    /// It is the work of a sub-agent.
    pub sub_agent: bool,
    /// First time in it, milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// Last time in it.
    pub last_ms: Option<i64>,
    /// Records in which somebody speaks; none if it is not counted.
    pub messages: Option<u64>,
    /// Bytes of its transcripts; none if it is rows of a database.
    pub bytes: Option<u64>,
    /// The newest snapshot that holds it.
    pub newest: OpId,
    /// When that was finished.
    pub newest_nanos: i64,
    /// The machine of that snapshot.
    pub machine: MachineId,
    /// The name of that machine.
    pub host: String,
    /// Its source had it when it was backed up last.
    pub here: bool,
    /// An older snapshot has more of it: that snapshot and its bytes.
    pub longer: Option<(OpId, u64)>,
    /// What holds it, the best transcript first.
    pub places: Vec<Place>,
}

/// What holds a session.
#[derive(Debug, Clone)]
pub struct Place {
    /// Label of the root.
    pub label: String,
    /// Path in the root.
    pub rel: String,
    /// Path in the snapshot: another one if it lies among what is gone.
    pub path: Vec<u8>,
    /// The newest snapshot that has it so.
    pub snapshot: OpId,
    /// The newest snapshot that has it at its own place: what its agent listed then is in there.
    pub at_home: Option<OpId>,
    /// The file.
    pub entry: Entry,
    /// How it is read.
    pub rule: Arc<SessionRule>,
}

/// What was found.
#[derive(Debug)]
pub struct Sessions {
    /// This machine.
    pub here: MachineId,
    /// The sessions, those that were used last first.
    pub all: Vec<Found>,
    /// Files that could not be read: path in the snapshot, snapshot, why.
    pub unread: Vec<(Vec<u8>, OpId, String)>,
    /// Snapshots that were passed over.
    pub damaged: Vec<DamagedSnapshot>,
}

/// Finds all sessions.
pub fn find(session: &Session, adapters: &[Adapter], cancel: &AtomicBool) -> Result<Sessions> {
    let (snapshots, mut damaged) = session.snapshots_listed()?;
    let mut used = HashSet::new();
    let mut work = bytes::Work::new(session, cancel);
    let is_over = || cancel.load(Ordering::Relaxed);
    let (held, snapshots) = pass_over(session, &snapshots, &mut damaged, &is_over, &mut |some| {
        walk::walk(&mut work, some, adapters, &mut used)
    })?;
    let read = digest::read(&mut work, &held, &mut used)?;
    if let Some(cache) = session.cache() {
        cache.retain_derived(CACHE_PREFIX, &used);
    }
    let (all, unread) = join::join(&snapshots, &held, &read);
    Ok(Sessions { here: *session.machine_id(), all, unread, damaged })
}

/// Digits from which on a number in an id is one that nobody else makes: milliseconds since 1970 have 13.
const UNIQUE_DIGITS: usize = 12;

/// Is an id only a count, or a day and a count? Agents of two machines give the same one to different
/// sessions.
fn is_count(id: &str) -> bool {
    let mut numbers = id.split(['_', '-', ':', '.']);
    numbers.all(|number| {
        !number.is_empty()
            && number.len() < UNIQUE_DIGITS
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

impl Sessions {
    /// The session whose id is this or begins so. Of several machines that have one of the same id, this
    /// machine's. `host` is a machine's name, or at least eight digits of the beginning of its id.
    pub fn select(&self, id: &str, agent: Option<&str>, host: Option<&str>) -> Result<&Found> {
        let shown = id.escape_debug();
        let is_of = |s: &Found, host: &str| {
            s.host == host
                || host.len() >= MACHINE_DIGITS && s.machine.hex().starts_with(&host.to_lowercase())
        };
        let named = self.all.iter().filter(|s| {
            agent.is_none_or(|agent| s.agent == agent) && host.is_none_or(|host| is_of(s, host))
        });
        let mut found: Vec<&Found> = named.clone().filter(|s| s.id == id).collect();
        if found.is_empty() {
            if id.len() < ID_PREFIX_MIN {
                return Err(Error::NotFound(format!(
                    "{shown}: a session is its id, or at least {ID_PREFIX_MIN} characters of it"
                )));
            }
            found = named.filter(|s| s.id.starts_with(id)).collect();
        }
        let Some(first) = found.first() else {
            return Err(Error::NotFound(format!("{shown}: no session has an id that begins so")));
        };
        if found.len() == 1 {
            return Ok(first);
        }
        if found.iter().any(|s| s.id != first.id || s.agent != first.agent) {
            let count = found.len();
            return Err(Error::NotFound(format!(
                "{shown}: {count} sessions have ids that begin so"
            )));
        }
        let here = found.iter().copied().find(|s| s.machine == self.here && host.is_none());
        here.ok_or_else(|| {
            let host = |s: &&Found| format!("{} ({})", s.host, &s.machine.hex()[..MACHINE_DIGITS]);
            let hosts: Vec<String> = found.iter().map(host).collect();
            let hosts = hosts.join(", ");
            let what = "several machines have a session with this id";
            Error::NotFound(format!(
                "{shown}: {what}: {hosts}; --host says which, by name or by these digits"
            ))
        })
    }

    /// A session, its forks and sub-agents, and theirs.
    pub fn family<'s>(&'s self, of: &'s Found) -> Vec<&'s Found> {
        let mut family = vec![of];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            for child in &self.all {
                let belongs = child.agent == parent.agent
                    && child.parent.as_deref() == Some(parent.id.as_str())
                    && (!is_count(&parent.id) || child.machine == parent.machine);
                if belongs && !family.iter().any(|known| std::ptr::eq(*known, child)) {
                    family.push(child);
                }
            }
            at += 1;
        }
        family
    }
}

/// The session that a path of a snapshot belongs to as its transcript, as far as the path alone says:
/// for results that are grouped by session. The path is label first.
pub fn of_path(rules: &Rules, rel: &str) -> Option<String> {
    let rule = rules.sessions(rel.as_bytes()).into_iter().next()?;
    let digest = sessions::Digest::default();
    digest.known(&rule, rel).map(|known| known.id)
}

/// The rules of the adapters for the roots of a snapshot, by label.
fn rules_of(snapshot: &Snapshot, adapters: &[Adapter]) -> Vec<(String, String, Arc<Rules>)> {
    let mut out = Vec::new();
    for root in &snapshot.roots {
        let Some(agent) = &root.agent else { continue };
        let adapter = adapters.iter().find(|adapter| adapter.id() == agent);
        if let Some(rules) = adapter.and_then(|adapter| adapter.rules(&root.label)) {
            out.push((root.label.clone(), agent.clone(), rules));
        }
    }
    out
}
