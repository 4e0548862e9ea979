//! Entries by name, in many snapshots at the cost of what differs between them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use repo::{Entry, OpId, Reader, Snapshot};

use super::{below, open};
use crate::damaged::{DamagedSnapshot, pass_over};
use crate::error::{Error, Result};
use crate::session::Session;

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

/// What was found.
#[derive(Debug, Default)]
pub struct Matches {
    /// Sorted by path, then by the first snapshot that has them.
    pub all: Vec<Match>,
    /// Snapshots that were passed over.
    pub damaged: Vec<DamagedSnapshot>,
}

/// Finds entries by name in snapshots.
pub fn find(session: &Session, snapshots: &[Snapshot], options: &FindOptions) -> Result<Matches> {
    let reader = open(session)?;
    let globs = Globs::new(options)?;
    let mut damaged = Vec::new();
    let never = || false;
    let (all, _) = pass_over(session, snapshots, &mut damaged, &never, &mut |some| {
        search(&reader, some, &globs)
    })?;
    Ok(Matches { all, damaged })
}

fn search(reader: &Reader<'_>, snapshots: &[Snapshot], globs: &Globs) -> Result<Vec<Match>> {
    let mut matches: Vec<Match> = Vec::new();
    // matches in the tree that was looked at last, by path
    let mut live: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let mut known: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    let mut last: Option<&Snapshot> = None;
    for snapshot in snapshots {
        let mut changes: Vec<(Vec<u8>, Option<Entry>)> = Vec::new();
        let roots = snapshot.roots.iter().chain(&snapshot.gone_roots);
        let labels: Vec<&str> = roots.map(|r| r.label.as_str()).collect();
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

/// Globs compiled for what they are tried on.
struct Globs {
    names: GlobSet,
    paths: GlobSet,
}

impl Globs {
    fn new(options: &FindOptions) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let bad = |e: globset::Error| Error::Pattern(e.to_string());
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
        // what is gone is found by the path that it had
        let path = repo::gone::split(path).map_or(path, |(_, path)| path);
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let rest = labels.iter().find_map(|label| below(path, label.as_bytes()));
        self.names.is_match(as_path(name))
            || self.paths.is_match(as_path(path))
            || rest.is_some_and(|rest| self.paths.is_match(as_path(rest)))
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
