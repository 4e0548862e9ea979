//! What a repository holds, and for whom.

use std::collections::BTreeMap;
use std::collections::{HashMap, hash_map};

use repo::keys::BlockKind;
use repo::{Kind, OpId, Reader, Snapshot};

use super::below;
use crate::damaged::{DamagedSnapshot, pass_over};
use crate::error::Result;
use crate::session::Session;

/// One agent, or the plain directories, in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStats {
    /// Adapter id; none for directories that were named.
    pub agent: Option<String>,
    /// Snapshots that hold it.
    pub snapshots: u64,
    /// The newest of these.
    pub newest: OpId,
    /// Entries in that one.
    pub entries: u64,
    /// Bytes of files in that one.
    pub bytes: u64,
    /// Files and links that are gone, as far as that one keeps them.
    pub gone_entries: u64,
    /// Their bytes.
    pub gone_bytes: u64,
}

/// Entries and bytes: of what is there, and of what is gone.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    entries: u64,
    bytes: u64,
    gone_entries: u64,
    gone_bytes: u64,
}

/// What a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The snapshots, oldest first; each says in its own statistics what it added.
    pub snapshots: Vec<Snapshot>,
    /// Bytes of all files of all snapshots: what restoring each would write.
    pub content_bytes: u64,
    /// Bytes of content that are kept, before compression.
    pub unique_bytes: u64,
    /// The same, compressed and sealed.
    pub sealed_bytes: u64,
    /// Bytes of trees, content maps and patches, compressed and sealed.
    pub metadata_bytes: u64,
    /// Bytes of all objects in the store.
    pub stored_bytes: u64,
    /// Objects in the store.
    pub objects: u64,
    /// By agent, sorted; plain directories first.
    pub agents: Vec<AgentStats>,
    /// Snapshots that do not open, and those that were passed over where entries were counted.
    pub damaged: Vec<DamagedSnapshot>,
}

impl Stats {
    /// How many times content is there for each time it is kept. None if nothing is.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.content_bytes, self.unique_bytes)
    }

    /// Bytes of content per byte that is kept of it. None if nothing is.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.unique_bytes, self.sealed_bytes)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people: six digits are plenty")]
fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
}

/// Counts what a repository holds.
pub fn stats(session: &Session) -> Result<Stats> {
    let repo = session.repo();
    let index = repo.load_index(session.cache(), false)?;
    let (mut unique_bytes, mut sealed_bytes, mut metadata_bytes) = (0, 0, 0);
    for block in index.blocks() {
        let stored = u64::from(block.row.stored_len);
        if block.row.kind == BlockKind::Data {
            unique_bytes += u64::from(block.row.plain_len);
            sealed_bytes += stored;
        } else {
            metadata_bytes += stored;
        }
    }
    let objects = repo.store().list("")?;
    let (snapshots, mut damaged) = session.snapshots_listed()?;
    let reader = Reader::new(repo, session.cache(), index);
    let never = || false;
    let (agents, _) =
        pass_over(session, &snapshots, &mut damaged, &never, &mut |some| agents(&reader, some))?;
    Ok(Stats {
        content_bytes: snapshots.iter().map(|s| s.stats.bytes).sum(),
        unique_bytes,
        sealed_bytes,
        metadata_bytes,
        stored_bytes: objects.iter().map(|item| item.size).sum(),
        objects: objects.len() as u64,
        agents,
        snapshots,
        damaged,
    })
}

/// Counts entries and bytes of each agent in the newest snapshot that holds it; each such snapshot
/// is walked once.
fn agents(reader: &Reader<'_>, snapshots: &[Snapshot]) -> Result<Vec<AgentStats>> {
    let mut by_agent: BTreeMap<Option<String>, (u64, &Snapshot)> = BTreeMap::new();
    for snapshot in snapshots {
        let mut held: Vec<&Option<String>> = snapshot.roots.iter().map(|r| &r.agent).collect();
        held.sort_unstable();
        held.dedup();
        for agent in held {
            let slot = by_agent.entry(agent.clone()).or_insert((0, snapshot));
            *slot = (slot.0 + 1, snapshot);
        }
    }
    let mut walked: HashMap<OpId, HashMap<Option<String>, Counts>> = HashMap::new();
    for (_, snapshot) in by_agent.values() {
        if let hash_map::Entry::Vacant(slot) = walked.entry(snapshot.id) {
            slot.insert(count(reader, snapshot)?);
        }
    }
    let row = |(agent, (count, newest)): (Option<String>, (u64, &Snapshot))| {
        let Counts { entries, bytes, gone_entries, gone_bytes } =
            walked[&newest.id].get(&agent).copied().unwrap_or_default();
        let newest = newest.id;
        AgentStats { agent, snapshots: count, newest, entries, bytes, gone_entries, gone_bytes }
    };
    Ok(by_agent.into_iter().map(row).collect())
}

/// Entries and bytes of each agent in one snapshot.
fn count(reader: &Reader<'_>, snapshot: &Snapshot) -> Result<HashMap<Option<String>, Counts>> {
    let mut counts: HashMap<Option<String>, Counts> = HashMap::new();
    reader.walk(&snapshot.tree, &mut |path, entry| {
        let split = repo::gone::split(&path);
        let old = split.map_or(path.as_slice(), |(_, old)| old);
        let mut roots = snapshot.roots.iter().chain(&snapshot.gone_roots);
        if let Some(root) = roots.find(|r| below(old, r.label.as_bytes()).is_some()) {
            let slot = counts.entry(root.agent.clone()).or_default();
            if split.is_none() {
                (slot.entries, slot.bytes) = (slot.entries + 1, slot.bytes + entry.size);
            } else if entry.kind != Kind::Dir {
                slot.gone_entries += 1;
                slot.gone_bytes += entry.size;
            }
        }
        Ok(())
    })?;
    Ok(counts)
}
