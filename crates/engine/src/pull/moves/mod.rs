//! A move to another home or machine: what a pull renames and rewrites so that agents find their
//! projects where they are now.
//!
//! In: maps of directories ([`PathMap`]), and what adapters say of where paths stand (their binds). Out:
//!
//! | Part | Does |
//! |---|---|
//! | `path` | says what a path is here (pure) |
//! | `names` | says what an encoded name of a directory is here (pure) |
//! | `plan` | decides for a whole snapshot: names, and which files are rewritten |
//! | `text` | rewrites a text file |
//! | `database` | rewrites columns of a database |
//! | `apply` | does so with a file that was fetched and whose hash fits, before it gets its name |
//! | `rehearse` | says what would be rewritten, for a dry run |
//!
//! Invariants: the hash of a file is checked before anything in it is changed. All begins with what is
//! stored, so the same maps give the same bytes, and a second pull finds them there. A transcript
//! stays byte by byte what it was, unless one asks for more. What cannot be rewritten is restored
//! as it was stored, and told.

pub(super) mod apply;
mod database;
mod names;
mod path;
pub(super) mod plan;
mod rehearse;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use adapters::{FileBind, Rules};

pub use path::{MapError, PathMap};
pub use plan::Rename;

/// How to move.
#[derive(Debug, Clone)]
pub struct Moves {
    /// What is where now.
    pub maps: Vec<PathMap>,
    /// The roots of the snapshot whose adapters are known.
    pub roots: Vec<MovedRoot>,
    /// Rewrite transcripts too.
    pub transcripts: bool,
}

/// A root of the snapshot.
#[derive(Debug, Clone)]
pub struct MovedRoot {
    /// Its label.
    pub label: Vec<u8>,
    /// Where it was, as the snapshot tells it.
    pub dir: Vec<u8>,
    /// Where its adapter says that paths stand.
    pub rules: Arc<Rules>,
}

/// What of a file is rewritten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) texts: Vec<FileBind>,
    /// Tables and their columns.
    pub(super) tables: Vec<(String, Vec<String>)>,
}

impl Bound {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.tables.is_empty()
    }
}

/// What was rewritten in one file, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Path as stored, label first.
    pub path: Vec<u8>,
    /// What, by place and value.
    pub changes: Vec<Change>,
    /// How many values there were in all, also where `changes` does not list every one.
    pub count: u64,
    /// What stays as it was, and why.
    pub left: Vec<String>,
}

/// One value that was rewritten, however often it stands at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// A dotted path of the adapter (`projects.*`: keys of `projects`), or `table.column`.
    pub place: String,
    /// What was there; text from the file.
    pub old: String,
    /// What is there now.
    pub new: String,
    /// How often.
    pub count: u64,
}

/// Different values of a file that are kept to be shown; beyond, they are only counted.
const CHANGES_MAX: usize = 1000;

/// Counts what is rewritten in a file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    changes: BTreeMap<(String, String), (String, u64)>,
    count: u64,
    left: Vec<String>,
}

impl Tally {
    fn add(&mut self, place: &str, old: &str, new: &str, count: u64) {
        self.count += count;
        let key = (place.to_owned(), old.to_owned());
        if let Some((_, known)) = self.changes.get_mut(&key) {
            *known += count;
        } else if self.changes.len() < CHANGES_MAX {
            self.changes.insert(key, (new.to_owned(), count));
        }
    }

    /// Something stays as it was.
    fn left(&mut self, why: String) {
        self.left.push(why);
    }

    /// Takes what another one counted.
    fn take(&mut self, other: Self) {
        self.count += other.count;
        for (key, (new, count)) in other.changes {
            if let Some((_, known)) = self.changes.get_mut(&key) {
                *known += count;
            } else if self.changes.len() < CHANGES_MAX {
                self.changes.insert(key, (new, count));
            }
        }
        self.left.extend(other.left);
    }

    /// Did anything happen that is worth telling?
    pub(super) fn is_silent(&self) -> bool {
        self.count == 0 && self.left.is_empty()
    }

    pub(super) fn finish(self, path: &[u8]) -> Rewrite {
        let changes = self.changes.into_iter();
        let changes =
            changes.map(|((place, old), (new, count))| Change { place, old, new, count }).collect();
        Rewrite { path: path.to_vec(), changes, count: self.count, left: self.left }
    }
}
