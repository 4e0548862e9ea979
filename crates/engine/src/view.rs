//! A snapshot as something to look at: list, read, search, compare, count. Nothing here writes to
//! the repository or prints.
//!
//! In: a [`Session`] and snapshots. Out: entries with their full paths (label first, raw bytes:
//! escape before showing), file content that was checked against its hash, and counts. What two
//! snapshots share is looked at once.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use repo::keys::BlockKind;
use repo::{BlockId, Entry, Extent, Kind, OpId, Reader, Snapshot};

use crate::error::{Error, Result};
use crate::session::Session;

/// Blocks that are read together while a file is written out: at most 16 MiB of plaintext.
const BLOCKS_READ_MAX: usize = 8;

/// Splits `SNAPSHOT[:PATH]`; the path comes without slashes at its ends, empty for all.
pub fn split_spec(spec: &str) -> (&str, &str) {
    let (snapshot, path) = spec.split_once(':').unwrap_or((spec, ""));
    (if snapshot.is_empty() { "latest" } else { snapshot }, path.trim_matches('/'))
}

/// Visits the entries of a snapshot at and below `path` (empty: all) in tree order. Without
/// `recursive`: the entry itself if it is no directory, else those directly in it.
///
/// [`Error::NotFound`] if the snapshot has nothing there.
pub fn ls(
    session: &Session,
    snapshot: &Snapshot,
    path: &[u8],
    recursive: bool,
    visit: &mut dyn FnMut(&[u8], &Entry),
) -> Result<()> {
    let reader = open(session)?;
    let mut found = false;
    let mut shown: Option<Vec<u8>> = None;
    reader.walk(&snapshot.tree, &mut |at, entry| {
        let Some(rest) = below(&at, path) else { return Ok(()) };
        found = true;
        let itself = rest.is_empty() && !path.is_empty();
        // a root's label may have several parts: what is above it is no entry of its own
        let deeper = shown.as_ref().is_some_and(|top| below(&at, top).is_some());
        if (itself && entry.kind == Kind::Dir) || (deeper && !recursive) {
            return Ok(());
        }
        visit(&at, &entry);
        shown = Some(at);
        Ok(())
    })?;
    if found { Ok(()) } else { Err(nothing_at(snapshot, path)) }
}

/// The entry at a path.
pub fn entry(session: &Session, snapshot: &Snapshot, path: &[u8]) -> Result<Entry> {
    find_entry(&open(session)?, snapshot, path)
}

/// Writes the content of the file at `path`. Each block is verified before its bytes are written, the
/// whole content against the entry's hash at the end. Returns the entry that carries the content.
pub fn cat(
    session: &Session,
    snapshot: &Snapshot,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<Entry> {
    let reader = open(session)?;
    let mut entry = find_entry(&reader, snapshot, path)?;
    if let Some(first) = entry.link.take() {
        entry = find_entry(&reader, snapshot, &first)?;
    }
    if entry.kind != Kind::File || entry.link.is_some() {
        let shown = path.escape_ascii();
        return Err(Error::NotFound(format!("{shown}: is not a file in snapshot {}", snapshot.id)));
    }
    let mut hasher = blake3::Hasher::new();
    let mut size = 0_u64;
    for extents in batches(&reader.extents(&entry.map)?) {
        let mut ids: Vec<BlockId> = extents.iter().map(|e| e.block).collect();
        ids.sort_unstable();
        ids.dedup();
        let plain: HashMap<BlockId, Vec<u8>> =
            ids.iter().copied().zip(reader.read_all(&ids)?).collect();
        for extent in extents {
            let start = extent.offset as usize;
            let bytes = plain[&extent.block]
                .get(start..start + extent.len as usize)
                .ok_or_else(|| corrupt(path, "its content map reaches past a block"))?;
            hasher.update(bytes);
            size += u64::from(extent.len);
            out.write_all(bytes).map_err(|e| Error::local("write", "standard output", e))?;
        }
    }
    if size != entry.size || *hasher.finalize().as_bytes() != entry.hash {
        return Err(corrupt(path, "its content does not fit its hash"));
    }
    Ok(entry)
}

/// What to search for.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// Globs. Without `/` they are tried on names; with `/` on the full path and on the path below
    /// the root's label. `*` does not cross `/`, `**` does.
    pub globs: Vec<String>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
}

/// An entry that was found, and where it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Full path.
    pub path: Vec<u8>,
    /// The entry.
    pub entry: Entry,
    /// The snapshots that have it just so, in the order given.
    pub snapshots: Vec<OpId>,
}

/// Finds entries by name in snapshots: sorted by path, then by the first snapshot that has them.
pub fn find(
    session: &Session,
    snapshots: &[Snapshot],
    options: &FindOptions,
) -> Result<Vec<Match>> {
    let reader = open(session)?;
    let globs = Globs::new(options)?;
    let mut matches: Vec<Match> = Vec::new();
    // matches in the tree that was looked at last, by path
    let mut live: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut known: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    let mut last: Option<&Snapshot> = None;
    for snapshot in snapshots {
        let mut changes: Vec<(Vec<u8>, Option<Entry>)> = Vec::new();
        let labels: Vec<&str> = snapshot.roots.iter().map(|r| r.label.as_str()).collect();
        match last {
            None => reader.walk(&snapshot.tree, &mut |path, entry| {
                if globs.fit(&path, &labels) {
                    changes.push((path, Some(entry)));
                }
                Ok(())
            })?,
            Some(before) => reader.diff(&before.tree, &snapshot.tree, &mut |path, _, new| {
                if live.contains_key(path) || globs.fit(path, &labels) {
                    changes.push((path.to_vec(), new.cloned()));
                }
                Ok(())
            })?,
        }
        for (path, entry) in changes {
            let Some(entry) = entry else {
                live.remove(&path);
                continue;
            };
            let same = known.entry(path.clone()).or_default();
            let at = same.iter().copied().find(|at| matches[*at].entry == entry);
            let at = at.unwrap_or_else(|| {
                matches.push(Match { path: path.clone(), entry, snapshots: Vec::new() });
                same.push(matches.len() - 1);
                matches.len() - 1
            });
            live.insert(path, at);
        }
        for at in live.values() {
            matches[*at].snapshots.push(snapshot.id);
        }
        last = Some(snapshot);
    }
    matches.sort_by(|a, b| repo::path_order(&a.path, &b.path));
    Ok(matches)
}

/// How an entry differs between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Only the newer one has it.
    Added,
    /// Only the older one has it.
    Removed,
    /// Its content, its target or what it is changed.
    Content,
    /// Its mode, times, owner or attributes changed.
    Metadata,
}

/// Counts of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffTotals {
    /// Entries added.
    pub added: u64,
    /// Entries removed.
    pub removed: u64,
    /// Entries whose content changed.
    pub content: u64,
    /// Entries of which only metadata changed.
    pub metadata: u64,
    /// Bytes of files added.
    pub bytes_added: u64,
    /// Bytes of files removed.
    pub bytes_removed: u64,
    /// Bytes of files whose content changed, as they are in the newer one.
    pub bytes_changed: u64,
}

/// Visits what differs between two snapshots, in tree order.
pub fn diff(
    session: &Session,
    old: &Snapshot,
    new: &Snapshot,
    visit: &mut dyn FnMut(Change, &[u8], Option<&Entry>, Option<&Entry>),
) -> Result<DiffTotals> {
    let reader = open(session)?;
    let mut totals = DiffTotals::default();
    reader.diff(&old.tree, &new.tree, &mut |path, old, new| {
        let Some(change) = change(old, new) else { return Ok(()) };
        let size = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.size);
        let (count, bytes, size) = match change {
            Change::Added => (&mut totals.added, &mut totals.bytes_added, size(new)),
            Change::Removed => (&mut totals.removed, &mut totals.bytes_removed, size(old)),
            Change::Content => (&mut totals.content, &mut totals.bytes_changed, size(new)),
            Change::Metadata => (&mut totals.metadata, &mut totals.bytes_changed, 0),
        };
        *count += 1;
        *bytes += size;
        visit(change, path, old, new);
        Ok(())
    })?;
    Ok(totals)
}

fn change(old: Option<&Entry>, new: Option<&Entry>) -> Option<Change> {
    let (old, new) = match (old, new) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Change::Added),
        (Some(_), None) => return Some(Change::Removed),
        (Some(old), Some(new)) => (old, new),
    };
    let content = |e: &Entry| (e.kind, e.size, e.hash, e.target.clone(), e.link.clone());
    if content(old) != content(new) {
        return Some(Change::Content);
    }
    // the same bytes may be stored otherwise: that is nobody's change
    let stored_alike = Entry { map: new.map.clone(), ..old.clone() };
    (stored_alike != *new).then_some(Change::Metadata)
}

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
    let snapshots = session.snapshots()?;
    let reader = Reader::new(repo, session.cache(), index);
    Ok(Stats {
        content_bytes: snapshots.iter().map(|s| s.stats.bytes).sum(),
        unique_bytes,
        sealed_bytes,
        metadata_bytes,
        stored_bytes: objects.iter().map(|item| item.size).sum(),
        objects: objects.len() as u64,
        agents: agents(&reader, &snapshots)?,
        snapshots,
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
    let mut walked: HashMap<OpId, HashMap<Option<String>, (u64, u64)>> = HashMap::new();
    for (_, snapshot) in by_agent.values() {
        if let std::collections::hash_map::Entry::Vacant(slot) = walked.entry(snapshot.id) {
            slot.insert(count(reader, snapshot)?);
        }
    }
    let row = |(agent, (count, newest)): (Option<String>, (u64, &Snapshot))| {
        let (entries, bytes) = walked[&newest.id].get(&agent).copied().unwrap_or_default();
        AgentStats { agent, snapshots: count, newest: newest.id, entries, bytes }
    };
    Ok(by_agent.into_iter().map(row).collect())
}

/// Entries and bytes of each agent in one snapshot.
fn count(reader: &Reader<'_>, snapshot: &Snapshot) -> Result<HashMap<Option<String>, (u64, u64)>> {
    let mut counts: HashMap<Option<String>, (u64, u64)> = HashMap::new();
    reader.walk(&snapshot.tree, &mut |path, entry| {
        let root = snapshot.roots.iter().find(|r| below(&path, r.label.as_bytes()).is_some());
        if let Some(root) = root {
            let slot = counts.entry(root.agent.clone()).or_default();
            *slot = (slot.0 + 1, slot.1 + entry.size);
        }
        Ok(())
    })?;
    Ok(counts)
}

fn open(session: &Session) -> Result<Reader<'_>> {
    Ok(Reader::open(session.repo(), session.cache())?)
}

fn find_entry(reader: &Reader<'_>, snapshot: &Snapshot, path: &[u8]) -> Result<Entry> {
    let mut found = None;
    let walked = reader.walk(&snapshot.tree, &mut |at, entry| {
        if at != path {
            return Ok(());
        }
        found = Some(entry);
        Err(repo::Error::Cancelled) // ends the walk: there is no second one
    });
    match (found, walked) {
        (Some(entry), _) => Ok(entry),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) => Err(nothing_at(snapshot, path)),
    }
}

fn nothing_at(snapshot: &Snapshot, path: &[u8]) -> Error {
    let path = if path.is_empty() { "the root".into() } else { path.escape_ascii().to_string() };
    Error::NotFound(format!("snapshot {} has nothing at {path}", snapshot.id))
}

fn corrupt(path: &[u8], what: &str) -> Error {
    let object = path.escape_ascii().to_string();
    Error::Repo(repo::Error::Corrupt { object, what: what.to_owned() })
}

/// The rest of a path at or below `top`; everything is below the empty path.
fn below<'p>(path: &'p [u8], top: &[u8]) -> Option<&'p [u8]> {
    if top.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(top)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Cuts extents into runs that need few blocks at a time.
fn batches(extents: &[Extent]) -> Vec<&[Extent]> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut blocks: Vec<BlockId> = Vec::new();
    for (at, extent) in extents.iter().enumerate() {
        if blocks.contains(&extent.block) {
            continue;
        }
        if blocks.len() == BLOCKS_READ_MAX {
            out.push(&extents[start..at]);
            start = at;
            blocks.clear();
        }
        blocks.push(extent.block);
    }
    out.push(&extents[start..]);
    out
}

/// Globs compiled for what they are tried on.
struct Globs {
    names: GlobSet,
    paths: GlobSet,
}

impl Globs {
    fn new(options: &FindOptions) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let bad = |e: globset::Error| Error::NotFound(format!("not a pattern: {e}"));
        for glob in &options.globs {
            let trimmed = glob.trim_matches('/');
            let compiled = GlobBuilder::new(trimmed)
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(options.ignore_case)
                .build()
                .map_err(bad)?;
            if trimmed.contains('/') {
                paths.add(compiled)
            } else {
                names.add(compiled)
            };
        }
        Ok(Self { names: names.build().map_err(bad)?, paths: paths.build().map_err(bad)? })
    }

    fn fit(&self, path: &[u8], labels: &[&str]) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let rest = labels.iter().find_map(|label| below(path, label.as_bytes()));
        self.names.is_match(as_path(name))
            || self.paths.is_match(as_path(path))
            || rest.is_some_and(|rest| self.paths.is_match(as_path(rest)))
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
