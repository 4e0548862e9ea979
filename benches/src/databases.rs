//! Databases in the shape of those that agents keep, and what agents do to them.
//!
//! In: a kind, a size and a seed. Out: a file, always the same page by page, grown by interleaved
//! inserts with 3 % of updates and deletes between them, so that its pages are mixed as real ones
//! are; then [`Step`]s on it. Built once per kind and size and kept in a directory.
//!
//! The shapes: sessions and messages with full-text search as Goose has them, `part` as OpenCode,
//! `ItemTable` and `cursorDiskKV` as Cursor, with the value sizes that users reported of the last.
//! Rows are named by their number: key `n` of a table is a function of `n`, so a random old row is
//! found without asking the database. Such a row may be gone; then nothing happens.

mod rows;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

pub use steps::Step;

use crate::draws::Draws;
use crate::prose::Prose;

/// Changes whenever the same kind, size and seed would give another file.
const GENERATION: u32 = 1;
/// SQLite's usual page.
const PAGE_BYTES: u64 = 4096;
/// Operations between two looks at the size.
const BATCH: usize = 400;

/// Which tables a database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// All of them.
    Mixed,
    /// Key and value only, as Cursor's: most pages are overflow of large values.
    Kv,
}

impl Kind {
    /// Its name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mixed => "mixed",
            Kind::Kv => "kv",
        }
    }
}

/// How many rows of each table were ever made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    sessions: u64,
    messages: u64,
    parts: u64,
    values: u64,
}

/// A database and the agent that writes it.
#[derive(Debug)]
pub struct Database {
    kind: Kind,
    seed: u64,
    prose: Prose,
    counts: Counts,
    db: Connection,
}

impl Database {
    /// Copies the database of this kind, size and seed to `path`; builds it first unless `cache`
    /// has it. It is in WAL mode and open, as an agent that runs leaves it.
    pub fn copy_of(kind: Kind, mib: u64, seed: u64, cache: &Path, path: &Path) -> Result<Database> {
        let base = cache.join(format!("{}-{mib}-{seed}-g{GENERATION}.db", kind.name()));
        let counted = base.with_extension("json");
        if !counted.exists() {
            fs::create_dir_all(cache)?;
            let building = base.with_extension("building");
            let _ = fs::remove_file(&building);
            let mut database = Database::create(kind, seed, &building)?;
            database.grow(mib << 20)?;
            let counts = database.close()?;
            fs::rename(&building, &base)?;
            fs::write(&counted, serde_json::to_vec(&counts)?)?;
        }
        let counts = serde_json::from_slice(&fs::read(&counted)?)?;
        // A reflink where the file system has them.
        fs::copy(&base, path).with_context(|| format!("copying {}", base.display()))?;
        let db = Connection::open(path)?;
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;")?;
        let database = Database { kind, seed, prose: Prose::new(seed), counts, db };
        database.settle()?;
        Ok(database)
    }

    /// An empty database; the build keeps no journal, because a build that fails starts again.
    fn create(kind: Kind, seed: u64, path: &Path) -> Result<Database> {
        let db = Connection::open(path)?;
        db.execute_batch(&format!(
            "PRAGMA page_size={PAGE_BYTES}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
             PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-262144;"
        ))?;
        db.execute_batch(rows::VALUES_SCHEMA)?;
        if kind == Kind::Mixed {
            db.execute_batch(rows::MESSAGES_SCHEMA)?;
        }
        Ok(Database { kind, seed, prose: Prose::new(seed), counts: Counts::default(), db })
    }

    /// Inserts, and ages what is there, until the file has `bytes`.
    fn grow(&mut self, bytes: u64) -> Result<()> {
        self.db.set_prepared_statement_cache_capacity(64);
        let mut draws = Draws::named(self.seed, "base");
        let mut has_big_value = false;
        self.begin()?;
        self.settings(&mut draws)?;
        loop {
            for _ in 0..BATCH {
                if draws.chance(3) {
                    self.age(&mut draws)?;
                } else {
                    self.add(&mut draws)?;
                }
            }
            self.commit()?;
            let pages: i64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let pages = u64::try_from(pages)?;
            if !has_big_value && pages * PAGE_BYTES > bytes / 2 {
                self.begin()?;
                self.set_big_value(&mut draws)?;
                self.commit()?;
                has_big_value = true;
            }
            if pages * PAGE_BYTES >= bytes {
                return Ok(());
            }
            self.begin()?;
        }
    }

    fn begin(&self) -> Result<()> {
        Ok(self.db.execute_batch("BEGIN")?)
    }

    fn commit(&self) -> Result<()> {
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// Puts the WAL's pages into the file and empties it.
    fn settle(&self) -> Result<()> {
        let busy: bool =
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        anyhow::ensure!(!busy, "somebody else has the database open");
        Ok(())
    }

    fn close(self) -> Result<Counts> {
        self.db.flush_prepared_statement_cache();
        self.db.close().map_err(|(_, error)| error)?;
        Ok(self.counts)
    }

    /// Whether SQLite finds nothing wrong.
    pub fn is_whole(&self) -> Result<bool> {
        is_whole(&self.db)
    }
}

/// Whether SQLite's `integrity_check` finds nothing wrong.
pub(crate) fn is_whole(db: &Connection) -> Result<bool> {
    let said: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok(said == "ok")
}

/// Where a database lies that is pushed: alone in its directory.
pub fn path_below(dir: &Path) -> PathBuf {
    dir.join("state.vscdb")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{Image, ratio_by};

    fn made(kind: Kind) -> (tempfile::TempDir, Database, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy.db");
        let database = Database::copy_of(kind, 8, 1, &dir.path().join("cache"), &path).unwrap();
        (dir, database, path)
    }

    #[test]
    fn a_built_database_is_whole_and_compresses_by_page_as_real_ones() {
        for kind in [Kind::Mixed, Kind::Kv] {
            let (_dir, database, path) = made(kind);
            assert!(database.is_whole().unwrap());
            assert!(fs::metadata(&path).unwrap().len() >= 8 << 20);
            let ratio = ratio_by(&path, 1).unwrap();
            assert!((1.9..=2.8).contains(&ratio), "{kind:?}: {ratio}");
        }
    }

    #[test]
    fn two_builds_and_the_steps_after_them_give_the_same_pages() {
        let (_one, mut left, left_path) = made(Kind::Mixed);
        let (_two, mut right, right_path) = made(Kind::Mixed);
        let mut image = Image::default();
        image.advance(&left_path).unwrap();
        assert_eq!(image.advance(&right_path).unwrap().pages_changed, 0);
        for step in [Step::Append, Step::Reuse] {
            left.apply(step).unwrap();
            right.apply(step).unwrap();
        }
        assert!(image.advance(&left_path).unwrap().pages_changed > 0);
        assert_eq!(image.advance(&right_path).unwrap().pages_changed, 0);
    }

    #[test]
    fn every_step_changes_pages_and_leaves_the_database_and_its_search_whole() {
        for kind in [Kind::Mixed, Kind::Kv] {
            let (_dir, mut database, path) = made(kind);
            let mut image = Image::default();
            image.advance(&path).unwrap();
            for step in Step::all(kind) {
                database.apply(step).unwrap();
                let changed = image.advance(&path).unwrap().pages_changed;
                // The merges before it have done all there is in an index as small as this.
                assert!(changed > 0 || step == Step::FtsOptimize, "{step:?}");
                assert!(database.is_whole().unwrap(), "{step:?}");
            }
            if kind == Kind::Mixed {
                let check =
                    "INSERT INTO messages_fts(messages_fts, rank) VALUES('integrity-check', 1)";
                database.db.execute(check, []).unwrap();
            }
        }
    }
}
