//! The move of a whole snapshot: which directories get another name, and which files are rewritten.
//!
//! In: the entries, the maps, the binds of the roots. Out: a [`MovePlan`]. To name directories whose names
//! cannot be turned back, it reads what tells real paths: first the catalogues (files with binds that
//! are no transcripts), then, for names that those do not explain, the beginning of a transcript inside.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use adapters::{Bind, BindFormat, Encoding, FileBind};
use repo::{Entry, Kind};

use super::names::{self, Verdict};
use super::path::{Maps, PathMap};
use super::{Bound, MovedRoot, Moves, text};
use crate::pull::error::Result;
use crate::pull::fields::stored;
use crate::pull::plan::{Entries, go_on};
use crate::pull::select::strip_path;
use crate::pull::source::Content;
use crate::pull::{Problem, fetch};

/// A catalogue that is longer does not tell paths.
const CATALOGUE_BYTES_MAX: u64 = 64 << 20;
/// Transcripts of a directory that are looked into.
const TRANSCRIPTS_MAX: usize = 3;
/// What of a transcript is looked at.
const HEAD_BYTES: usize = 256 << 10;

/// A directory that gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Path as stored, label first.
    pub path: Vec<u8>,
    /// Its new name.
    pub name: Vec<u8>,
    /// No file tells the path that it stands for: other paths have the same old name.
    pub guess: bool,
}

/// What a move changes in a snapshot.
#[derive(Debug, Default)]
pub(in crate::pull) struct MovePlan {
    /// New names of directories, by their paths as stored.
    names: HashMap<Vec<u8>, Vec<u8>>,
    /// The same, to be told.
    pub(in crate::pull) renames: Vec<Rename>,
    /// Directories that stay though they should not.
    pub(in crate::pull) left: Vec<Problem>,
    /// What values become: the maps, and the ways into directories with new names.
    pub(super) maps: Maps,
    /// Paths of entries below directories with new names, as they are here.
    moved: HashSet<Vec<u8>>,
    roots: Vec<MovedRoot>,
    transcripts: bool,
}

/// A directory with a bind.
struct Named<'e> {
    path: &'e [u8],
    /// The first entry that is it or lies in it: of what is gone, directories may have none of their own.
    from: usize,
    name: &'e str,
    encoding: Encoding,
}

impl MovePlan {
    /// Reads what it needs of the snapshot.
    pub(in crate::pull) fn make(
        content: &dyn Content,
        entries: &Entries,
        moves: &Moves,
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let mut plan = Self {
            maps: Maps::new(&moves.maps),
            roots: moves.roots.clone(),
            transcripts: moves.transcripts,
            ..Self::default()
        };
        let named = plan.named(entries);
        if named.is_empty() {
            return Ok(plan);
        }
        let hidden = named.iter().any(|one| !names::is_reversible(one.encoding));
        let mut known = BTreeSet::new();
        if hidden {
            plan.catalogues(content, entries, &mut known, cancel)?;
            plan.insides(content, entries, &named, &mut known, cancel)?;
        }
        for one in &named {
            plan.settle(one, &known);
        }
        plan.lead_into(&moves.roots);
        for (path, _) in entries {
            let here = plan.local(path);
            if here != *path {
                plan.moved.insert(here);
            }
        }
        Ok(plan)
    }

    fn root<'p>(&self, path: &'p [u8]) -> Option<(&MovedRoot, &'p [u8])> {
        let fits = |root| -> Option<(&MovedRoot, &'p [u8])> {
            let root: &MovedRoot = root;
            Some((root, strip_path(path, &root.label)?))
        };
        self.roots.iter().filter_map(fits).min_by_key(|(_, rest)| rest.len())
    }

    /// Directories whose names are paths, and that could be of their encoding.
    fn named<'e>(&self, entries: &'e Entries) -> Vec<Named<'e>> {
        let mut found = Vec::new();
        for (from, path) in dirs(entries) {
            let Some((root, rest)) = self.root(path) else { continue };
            let bind = root.rules.binds(rest, true).into_iter().find_map(|bind| match *bind {
                Bind::Directory(encoding) => Some(encoding),
                _ => None,
            });
            let name = path.rsplit(|byte| *byte == b'/').next();
            let (Some(encoding), Some(name)) = (bind, name) else { continue };
            let Ok(name) = std::str::from_utf8(name) else { continue };
            if names::is_plausible(encoding, name) {
                found.push(Named { path, from, name, encoding });
            }
        }
        found
    }

    /// Paths that catalogues tell.
    fn catalogues(
        &self,
        content: &dyn Content,
        entries: &Entries,
        known: &mut BTreeSet<String>,
        cancel: &AtomicBool,
    ) -> Result<()> {
        for (path, entry) in entries {
            let binds = self.texts(path, entry, false);
            if binds.is_empty() {
                continue;
            }
            go_on(cancel)?;
            match stored(content, entry, CATALOGUE_BYTES_MAX) {
                Ok(Some(bytes)) => text::paths(&binds, &bytes, &mut |path| _ = known.insert(path)),
                Ok(None) => {}
                Err(error) if fetch::is_fatal(&error) => return Err(error.into()),
                // restoring it will tell what is wrong with it
                Err(error) => tracing::debug!(%error, "a catalogue that tells no paths"),
            }
        }
        Ok(())
    }

    /// Paths that transcripts tell, of directories that no known path explains.
    fn insides(
        &self,
        content: &dyn Content,
        entries: &Entries,
        named: &[Named<'_>],
        known: &mut BTreeSet<String>,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let mut explained = HashMap::new();
        for encoding in named.iter().map(|one| one.encoding) {
            explained.entry(encoding).or_insert_with(|| {
                known
                    .iter()
                    .filter_map(|path| names::name_of(encoding, path))
                    .collect::<HashSet<_>>()
            });
        }
        for one in named {
            if names::is_reversible(one.encoding) || explained[&one.encoding].contains(one.name) {
                continue;
            }
            let below = entries[one.from..].iter();
            let below = below.take_while(|(path, _)| strip_path(path, one.path).is_some());
            let transcripts = below.filter_map(|(path, entry)| {
                let binds = self.texts(path, entry, true);
                (!binds.is_empty()).then_some((entry, binds))
            });
            for (entry, binds) in transcripts.take(TRANSCRIPTS_MAX) {
                go_on(cancel)?;
                let head = match head(content, entry, &binds) {
                    Ok(Some(head)) => head,
                    Ok(None) => continue,
                    Err(error) if fetch::is_fatal(&error) => return Err(error.into()),
                    Err(error) => {
                        tracing::debug!(%error, "a transcript that tells no path");
                        continue;
                    }
                };
                let mut told = Vec::new();
                text::paths(&binds, &head, &mut |path| told.push(path));
                // the directory is where the agent was started, and it may work further down
                let fits =
                    |path: &&str| names::name_of(one.encoding, path).as_deref() == Some(one.name);
                let found = told.iter().flat_map(|path| above(path)).find(fits);
                if let Some(path) = found {
                    known.insert(path.to_owned());
                    break;
                }
            }
        }
        Ok(())
    }

    /// Binds of a text file, transcripts or not.
    fn texts(&self, path: &[u8], entry: &Entry, transcripts: bool) -> Vec<FileBind> {
        if entry.kind != Kind::File {
            return Vec::new();
        }
        let Some((root, rest)) = self.root(path) else { return Vec::new() };
        let of = |bind: Arc<Bind>| match &*bind {
            Bind::File(file) if file.transcript == transcripts => Some(file.clone()),
            _ => None,
        };
        root.rules.binds(rest, false).into_iter().filter_map(of).collect()
    }

    fn settle(&mut self, one: &Named<'_>, known: &BTreeSet<String>) {
        let path = one.path;
        let (name, guess) = match names::rename(one.encoding, one.name, known, &self.maps) {
            Verdict::Stays => return,
            Verdict::Known(name) => (name, false),
            Verdict::Guess(name) => (name, true),
            Verdict::Unclear(why) => {
                let reason = format!("its name stays: {why}");
                return self.left.push(Problem { path: path.to_vec(), reason });
            }
        };
        let name = name.into_bytes();
        self.names.insert(path.to_vec(), name.clone());
        self.renames.push(Rename { path: path.to_vec(), name, guess });
    }

    /// Values that lead into a directory with a new name lead there then.
    fn lead_into(&mut self, roots: &[MovedRoot]) {
        let mut more = Vec::new();
        for rename in &self.renames {
            let Some(root) = roots
                .iter()
                .filter(|root| strip_path(&rename.path, &root.label).is_some())
                .max_by_key(|root| root.label.len())
            else {
                continue;
            };
            let here = self.local(&rename.path);
            let old = strip_path(&rename.path, &root.label).unwrap_or_default();
            let new = strip_path(&here, &root.label).unwrap_or_default();
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
            let (Some(dir), Some(old), Some(new)) = (text(&root.dir), text(old), text(new)) else {
                continue;
            };
            let dir = dir.trim_end_matches('/');
            let moved = self.maps.apply(dir).unwrap_or_else(|| dir.to_owned());
            // one that is no absolute directory leads nowhere
            more.extend(PathMap::new(&format!("{dir}/{old}"), &format!("{moved}/{new}")).ok());
        }
        self.maps = self.maps.with(more);
    }

    /// A stored path as it is here, label first.
    pub(in crate::pull) fn local(&self, path: &[u8]) -> Vec<u8> {
        if self.names.is_empty() {
            return path.to_vec();
        }
        let mut here = Vec::with_capacity(path.len());
        for range in components(path) {
            if !here.is_empty() {
                here.push(b'/');
            }
            let name = self.names.get(&path[..range.end]);
            here.extend_from_slice(name.map_or(&path[range], Vec::as_slice));
        }
        here
    }

    /// Tells only of what is among `paths` or above one of them.
    pub(in crate::pull) fn only<'p>(&mut self, paths: impl Iterator<Item = &'p [u8]>) {
        let prefixes = |path: &'p [u8]| components(path).map(|range| &path[..range.end]);
        let paths: HashSet<&[u8]> = paths.flat_map(prefixes).collect();
        self.renames.retain(|rename| paths.contains(rename.path.as_slice()));
        self.left.retain(|left| paths.contains(left.path.as_slice()));
    }

    /// Are there directories with new names?
    pub(in crate::pull) fn renames_any(&self) -> bool {
        !self.names.is_empty()
    }

    /// Is this the local path of something below a directory with a new name?
    pub(in crate::pull) fn makes(&self, here: &[u8]) -> bool {
        self.moved.contains(here)
    }

    /// What of a file is rewritten.
    pub(in crate::pull) fn bound(&self, path: &[u8], entry: &Entry) -> Option<Arc<Bound>> {
        if entry.kind != Kind::File {
            return None;
        }
        let (root, rest) = self.root(path)?;
        let mut bound = Bound::default();
        for bind in root.rules.binds(rest, false) {
            match &*bind {
                Bind::File(file) if self.transcripts || !file.transcript => {
                    bound.texts.push(file.clone());
                }
                Bind::Database { table, columns } => {
                    bound.tables.push((table.clone(), columns.clone()));
                }
                Bind::File(_) | Bind::Directory(_) => {}
            }
        }
        (!bound.is_empty()).then(|| Arc::new(bound))
    }
}

/// Every directory that is an entry or has one below it, with the first of these, in tree order.
fn dirs(entries: &Entries) -> Vec<(usize, &[u8])> {
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut found = Vec::new();
    for (at, (path, entry)) in entries.iter().enumerate() {
        let whole = path.len();
        for range in components(path).filter(|range| range.end < whole || entry.kind == Kind::Dir) {
            if seen.insert(&path[..range.end]) {
                found.push((at, &path[..range.end]));
            }
        }
    }
    found
}

/// Where the names of a path are.
fn components(path: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    path.split(|byte| *byte == b'/').map(move |name| {
        let range = start..start + name.len();
        start = range.end + 1;
        range
    })
}

/// A path and the directories above it, the longest first.
fn above(path: &str) -> impl Iterator<Item = &str> {
    fn up<'p>(path: &&'p str) -> Option<&'p str> {
        let at = path.rfind(['/', '\\']).filter(|at| *at > 0)?;
        Some(&path[..at])
    }
    std::iter::successors(Some(path), up)
}

/// The beginning of a transcript: of JSON all of it, if it is not long.
fn head(content: &dyn Content, entry: &Entry, binds: &[FileBind]) -> repo::Result<Option<Vec<u8>>> {
    let by_line = binds.iter().all(|bind| bind.format == BindFormat::Jsonl);
    if !by_line {
        return stored(content, entry, CATALOGUE_BYTES_MAX);
    }
    let mut head = Vec::new();
    let mut block = None;
    for extent in content.extents(entry)? {
        if head.len() >= HEAD_BYTES || extent.pages {
            break;
        }
        if block.as_ref().is_none_or(|(id, _)| *id != extent.block) {
            let plain = content.read_run(&[extent.block])?.into_iter().next();
            block = plain.map(|plain| (extent.block, plain));
        }
        let start = extent.offset as usize;
        let plain = block.as_ref().map(|(_, plain)| plain);
        let Some(part) = plain.and_then(|plain| plain.get(start..start + extent.len as usize))
        else {
            break;
        };
        head.extend_from_slice(part);
    }
    head.truncate(HEAD_BYTES);
    Ok((!head.is_empty()).then_some(head))
}
