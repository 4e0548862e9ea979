//! A file that is there and cannot be stored: what the snapshot before has of it stands for it, so that
//! the newest snapshot has what can be had, and no policy drops the last good copy.
//!
//! In: a row of the cache, which says how the file was stored and by which rules. Out: its entry, if this
//! machine's newest snapshot of that root still has it so: rows of files that are gone stay in the cache.
//! Invariants: nothing stands for a file that is gone, and nothing that was stored under other rules.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use repo::{Entry, Index, OpId, flag};

use super::reader::{FileReader, Fits, Job, Outcome, os_path};
use super::rows::Row;
use super::run::{self, SIDE_FILES};
use crate::capture::sqlite;
use crate::error::Result;
use crate::gone::Earlier;
use crate::scan::ScanRoot;
use crate::session::Session;

/// Looks into snapshots; opens none before it is asked.
pub(super) struct StandIns<'a> {
    session: &'a Session,
    earlier: run::Earlier,
    roots: &'a [ScanRoot],
    index: &'a Index,
    snapshots: Mutex<Option<Earlier<'a>>>,
}

impl<'a> StandIns<'a> {
    pub(super) fn new(
        session: &'a Session,
        earlier: run::Earlier,
        roots: &'a [ScanRoot],
        index: &'a Index,
    ) -> Self {
        Self { session, earlier, roots, index, snapshots: Mutex::default() }
    }

    /// The entry of a file, if its row fits and a tree that is made now may have it as it is.
    pub(super) fn entry(&self, root: usize, path: &[u8], fits: Fits<'_>) -> Option<Entry> {
        // a snapshot of what is about to be replaced has nothing from before
        let run::Earlier::Snapshots(previous) = self.earlier else { return None };
        let row = self.session.cache.as_ref()?.file(self.session.repo.keys(), path)?;
        let row = Row::decode(&row).filter(fits)?;
        if !row.blocks()?.iter().all(|id| self.index.get(id).is_some()) {
            return None;
        }
        let held = self.held(previous, &self.roots[root], path).unwrap_or_else(|error| {
            let path = path.escape_ascii().to_string();
            tracing::warn!(%error, path, "what the snapshot before has of it is not known");
            None
        });
        let content = |entry: &Entry| (entry.kind, entry.size, entry.hash);
        held.filter(|held| content(held) == content(&row.entry)).map(|_| row.entry)
    }

    /// What this machine's newest snapshot with the root has at a path, if the root was the same
    /// directory then. `previous`: see [`Earlier::new`].
    fn held(&self, previous: Option<OpId>, root: &ScanRoot, path: &[u8]) -> Result<Option<Entry>> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshots.is_none() {
            *snapshots = Some(Earlier::new(self.session, previous)?);
        }
        let snapshots = snapshots.as_ref().expect("it was just made");
        let Some(holder) = snapshots.holder(&root.label)? else { return Ok(None) };
        let dir = root.dir.as_os_str().as_encoded_bytes();
        if !holder.roots.iter().any(|then| then.label == root.label && then.dir == dir) {
            return Ok(None);
        }
        Ok(snapshots.reader()?.entry_at(&holder.tree, path)?)
    }
}

impl FileReader<'_> {
    /// A file that is not there any more, or is another one by now.
    pub(super) fn gone(&self, job: &Job, what: &str) -> Outcome {
        self.problem(&job.path, what.to_owned(), false);
        Outcome::Gone
    }

    /// A file that is there and cannot be stored.
    pub(super) fn stand_in(&self, job: &Job, why: &str) -> Outcome {
        self.stands(job, why).map_or(Outcome::Gone, Outcome::Kept)
    }

    /// A database that may only be stored without some of its rows, and these could not be left out.
    pub(super) fn left_out(&self, job: &Job, why: &str) -> Outcome {
        let what = "its adapter leaves rows out of it, which was not possible";
        self.stand_in(job, &format!("{what}: {why}"))
    }

    /// A file with secrets that may not leave and that marks cannot take the place of.
    pub(super) fn keep_in(&self, job: &Job, why: &str) -> Outcome {
        let why = format!("it holds secrets that could not be replaced: {why}");
        self.stands(job, &why).map_or(Outcome::KeptIn, Outcome::Kept)
    }

    /// What stands for a file, if anything does; told either way.
    fn stands(&self, job: &Job, why: &str) -> Option<Box<Entry>> {
        let path = self.cx.dirs[job.root].join(os_path(&job.rel));
        let is_gone = |path: &Path| {
            path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        let marking = self.cx.marking.map(|marking| &**marking);
        let fits = |row: &Row| {
            row.has_rules(&job.rules)
                && row.has_fields(job.fields.as_ref())
                && row.has_marking(marking)
                && goes_alone(row, job, &|suffix| !is_gone(&sqlite::side_file(&path, suffix)))
        };
        let old = if is_gone(&path) {
            None
        } else {
            (self.cx.stand_in)(job.root, &job.path, &fits).map(Box::new)
        };
        let now = match old {
            Some(_) => "what it was in the snapshot before stands for it",
            None => "not in this snapshot",
        };
        self.problem(&job.path, format!("{now}: {why}"), false);
        old
    }
}

/// An image goes without side files, and what is none with those of its moment: neither may meet those
/// that are there now, nor may a side file meet another database.
fn goes_alone(row: &Row, job: &Job, is_there: &dyn Fn(&str) -> bool) -> bool {
    match row.entry.flags & (flag::SQLITE | flag::SQLITE_RAW) {
        0 => {
            let is_side = |suffix: &&str| job.rel.ends_with(suffix.as_bytes());
            !job.sqlite && !SIDE_FILES.iter().any(|side| is_side(side) || is_there(side))
        }
        flag::SQLITE => job.sqlite || !job.rules.is_empty(),
        _ => false,
    }
}
