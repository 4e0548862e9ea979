//! A snapshot as something to look at: list, read, search, compare, count. Nothing here writes to
//! the repository or prints.
//!
//! In: a [`Session`] and snapshots. Out: entries with their full paths (label first, raw bytes:
//! escape before showing), file content that was checked against its hash, and counts. What two
//! snapshots share is looked at once.

mod find;
mod gone;
mod stats;

use std::collections::HashMap;
use std::io::Write;

use repo::{BlockId, Entry, Extent, Kind, Reader, Snapshot};

use crate::error::{Error, Result};
use crate::session::Session;

pub use find::{FindOptions, Match, Matches, find};
pub use gone::{Gone, gone};
pub use stats::{AgentStats, Stats, stats};

/// Blocks that are read together while a file is written out: at most 16 MiB of plaintext.
const BLOCKS_READ_MAX: usize = 8;

/// Splits `SNAPSHOT[:PATH]`; the path comes without slashes at its ends, empty for all.
pub fn split_spec(spec: &str) -> (&str, &str) {
    let (snapshot, path) = spec.split_once(':').unwrap_or((spec, ""));
    (if snapshot.is_empty() { "latest" } else { snapshot }, path.trim_matches('/'))
}

/// Visits the entries of a snapshot at and below `path` (empty: all) in tree order. Without
/// `recursive`: the entry itself if it is no directory, else those directly in it. What is gone from its
/// source is shown where `path` leads there, and nowhere else: see [`gone`].
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
    let shows_gone = repo::gone::holds(path);
    reader.walk_where(&snapshot.tree, &|piece| is_wanted(piece, path), &mut |at, entry| {
        let Some(rest) = below(&at, path) else { return Ok(()) };
        if repo::gone::holds(&at) && !shows_gone {
            return Ok(());
        }
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
            let mut raw = Vec::new();
            let bytes = if extent.pages {
                raw.extend_from_slice(bytes);
                if !entry.pages.is_some_and(|pages| pages.undo(size, &mut raw)) {
                    return Err(corrupt(path, "its content map has pages where there are none"));
                }
                &raw
            } else {
                bytes
            };
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

/// One difference.
#[derive(Debug, Clone, Copy)]
pub struct Difference<'e> {
    /// Of what sort it is.
    pub change: Change,
    /// Full path.
    pub path: &'e [u8],
    /// As the older snapshot has it.
    pub old: Option<&'e Entry>,
    /// As the newer snapshot has it.
    pub new: Option<&'e Entry>,
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
    /// Files and links that are kept as gone in the newer one alone.
    pub gone_added: u64,
    /// Those in the older one alone: they are back, or kept no longer.
    pub gone_removed: u64,
}

/// Visits what differs between two snapshots, in tree order. What they keep of files that are gone is
/// counted only: a file that vanished is one that was removed.
pub fn diff(
    session: &Session,
    old: &Snapshot,
    new: &Snapshot,
    visit: &mut dyn FnMut(Difference<'_>),
) -> Result<DiffTotals> {
    let reader = open(session)?;
    let mut totals = DiffTotals::default();
    reader.diff(&old.tree, &new.tree, &mut |path, old, new| {
        if repo::gone::holds(path) {
            let counts =
                |entry: Option<&Entry>| u64::from(entry.is_some_and(|e| e.kind != Kind::Dir));
            totals.gone_added += if old.is_none() { counts(new) } else { 0 };
            totals.gone_removed += if new.is_none() { counts(old) } else { 0 };
            return Ok(());
        }
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
        visit(Difference { change, path, old, new });
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

fn open(session: &Session) -> Result<Reader<'_>> {
    Ok(Reader::open(session.repo(), session.cache())?)
}

fn find_entry(reader: &Reader<'_>, snapshot: &Snapshot, path: &[u8]) -> Result<Entry> {
    if let Some(entry) = reader.entry_at(&snapshot.tree, path)? {
        return Ok(entry);
    }
    let kept = gone::all(reader, snapshot, path)?;
    let Some(last) = kept.iter().rfind(|one| one.path == path) else {
        return Err(nothing_at(snapshot, path));
    };
    let (shown, kept) = (path.escape_ascii(), last.stored_path());
    Err(Error::NotFound(format!(
        "{shown} is gone since {}; snapshot {} keeps it as {}",
        last.since.name(),
        snapshot.id,
        kept.escape_ascii()
    )))
}

/// Can a piece of a tree have something at or below `path`?
fn is_wanted(piece: repo::Piece<'_>, path: &[u8]) -> bool {
    path.is_empty() || piece.reaches_below(path)
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
