//! The local cache: sealed index and snapshot objects, and what each source file was when it was
//! last backed up. One SQLite file in the cache directory, one per repository.
//!
//! Invariant: deleting or damaging it at any moment costs time, never data. Objects are kept sealed
//! as they lie in the store, so damage shows when they are opened. File rows carry a keyed check.
//! Every error of the cache is answered by going on without it.

use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::keys::Keys;

/// Layout of the tables; another number means the file is made anew.
const LAYOUT: i64 = 3;

/// Bytes of the check before a note.
const NOTE_MAC_BYTES: usize = 16;

/// How long another process may hold the file before this one goes on without it.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// The local cache of one repository.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    db: Mutex<Connection>,
    /// The file is another's: this one is empty and ends with the process.
    in_memory: bool,
    /// What was complained of last.
    told: Mutex<Option<String>>,
}

/// One row of the file table: a path as [`key_of_path`] codes it and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Coded path; sorts as the tree does.
    pub key: Vec<u8>,
    /// Whatever the engine keeps.
    pub value: Vec<u8>,
}

/// Codes a path so that plain byte order is path order: `/` becomes 0, which no name contains.
pub fn key_of_path(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
}

impl Cache {
    /// Opens or creates the cache at `path`, private to this user; a damaged one is removed and made
    /// anew. One that another process keeps locked is left alone: this run goes on with an empty one
    /// in memory.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, BUSY_WAIT)
    }

    /// [`Cache::open`], waiting so long for a file that is locked.
    pub(crate) fn open_within(path: &Path, busy_wait: Duration) -> Result<Self> {
        let io = |source| Error::Io { op: "create", path: path.display().to_string(), source };
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        }
        let mut in_memory = false;
        let db = match Self::connect(path, busy_wait) {
            Ok(db) => db,
            Err(e) if is_busy(&e) => {
                tracing::warn!("cache {}: {e}; going on without it", path.display());
                in_memory = true;
                Connection::open_in_memory()
                    .and_then(Self::prepare)
                    .map_err(|e| io(std::io::Error::other(e.to_string())))?
            }
            Err(_) => {
                for suffix in ["-wal", "-shm", "-journal", ""] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    match std::fs::remove_file(&file) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
                        _ => {}
                    }
                }
                Self::connect(path, busy_wait)
                    .map_err(|e| io(std::io::Error::other(e.to_string())))?
            }
        };
        let (path, db, told) = (path.to_owned(), Mutex::new(db), Mutex::default());
        Ok(Self { path, db, in_memory, told })
    }

    fn connect(path: &Path, busy_wait: Duration) -> rusqlite::Result<Connection> {
        // it holds paths in the clear; SQLite gives its side files the mode of the main one
        let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let db = Connection::open(path)?;
        db.busy_timeout(busy_wait)?;
        Self::prepare(db)
    }

    fn prepare(db: Connection) -> rusqlite::Result<Connection> {
        // a lost transaction costs a slower push, so no fsync is worth waiting for
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-4096",
        )?;
        let layout: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if layout != LAYOUT {
            db.execute_batch(&format!(
                "BEGIN; DROP TABLE IF EXISTS object; DROP TABLE IF EXISTS file;
                 DROP TABLE IF EXISTS groups; DROP TABLE IF EXISTS derived;
                 CREATE TABLE object(name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE file(key BLOB PRIMARY KEY, value BLOB NOT NULL, mac BLOB NOT NULL)
                   WITHOUT ROWID;
                 CREATE TABLE groups(key BLOB PRIMARY KEY, value BLOB NOT NULL);
                 CREATE TABLE derived(key BLOB PRIMARY KEY, value BLOB NOT NULL, mac BLOB NOT NULL)
                   WITHOUT ROWID;
                 PRAGMA user_version={LAYOUT}; COMMIT"
            ))?;
        }
        // a file that only claims the layout fails here, where it is made anew
        db.prepare("SELECT name, body FROM object")?;
        db.prepare("SELECT key, value, mac FROM file")?;
        db.prepare("SELECT key, value FROM groups")?;
        db.prepare("SELECT key, value, mac FROM derived")?;
        Ok(db)
    }

    fn with<T>(&self, run: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut db).inspect_err(|e| self.complain(e)).ok()
    }

    /// Once for each thing that goes wrong: on a full disk every write does.
    fn complain(&self, error: &rusqlite::Error) {
        let text = error.to_string();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&text) {
            tracing::warn!("cache {}: {text}; going on without it", self.path.display());
            *told = Some(text);
        }
    }

    /// The sealed bytes of an object, if they are here.
    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        self.with(|db| {
            db.prepare_cached("SELECT body FROM object WHERE name=?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
        .flatten()
    }

    /// Keeps the sealed bytes of an object.
    pub fn put_object(&self, name: &str, bytes: &[u8]) {
        self.with(|db| {
            db.execute("INSERT OR REPLACE INTO object VALUES(?1, ?2)", params![name, bytes])
        });
    }

    /// Drops the objects under a prefix that are not in `names`.
    pub fn retain_objects(&self, prefix: &str, names: &HashSet<&str>) {
        self.with(|db| {
            let known: Vec<String> = db
                .prepare("SELECT name FROM object WHERE name >= ?1 AND name < ?1 || x'ff'")?
                .query_map([prefix], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for name in known.iter().filter(|name| !names.contains(name.as_str())) {
                db.execute("DELETE FROM object WHERE name=?1", [name])?;
            }
            Ok(())
        });
    }

    /// What was noted under a name; `None` if nothing was, or it does not carry this repository's check.
    pub fn note(&self, keys: &Keys, name: &str) -> Option<Vec<u8>> {
        let mut body = self.object(name)?;
        let value = body.split_off(body.len().min(NOTE_MAC_BYTES));
        (body == row_mac(keys, name.as_bytes(), &value)).then_some(value)
    }

    /// Notes something under a name that no object of a repository has.
    pub fn put_note(&self, keys: &Keys, name: &str, value: &[u8]) {
        let mac = row_mac(keys, name.as_bytes(), value);
        self.put_object(name, &[&mac[..], value].concat());
    }

    /// One file row; `None` if it is absent or does not carry this repository's check.
    pub fn file(&self, keys: &Keys, path: &[u8]) -> Option<Vec<u8>> {
        let key = key_of_path(path);
        let (value, mac): (Vec<u8>, Vec<u8>) = self
            .with(|db| {
                db.prepare_cached("SELECT value, mac FROM file WHERE key=?1")?
                    .query_row([&key], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .flatten()?;
        (mac == row_mac(keys, &key, &value)).then_some(value)
    }

    /// Visits every sound file row in path order until `visit` says false. It reads through a
    /// connection of its own: rows may be written meanwhile, however long the visit takes.
    pub fn files(&self, keys: &Keys, mut visit: impl FnMut(FileRow) -> bool) {
        let mut read = || -> rusqlite::Result<()> {
            if self.in_memory {
                return Ok(());
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(&self.path, flags)?;
            db.busy_timeout(BUSY_WAIT)?;
            let mut statement = db.prepare("SELECT key, value, mac FROM file ORDER BY key")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let mac = row.get_ref(2)?.as_blob()?;
                if mac == row_mac(keys, &key, &value) && !visit(FileRow { key, value }) {
                    break;
                }
            }
            Ok(())
        };
        if let Err(e) = read() {
            self.complain(&e);
        }
    }

    /// The table of groups of a database's image; the engine knows how to check it.
    pub fn groups(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.with(|db| {
            db.prepare_cached("SELECT value FROM groups WHERE key=?1")?
                .query_row([key_of_path(path)], |row| row.get(0))
                .optional()
        })
        .flatten()
    }

    /// Keeps the table of groups of a database's image.
    pub fn put_groups(&self, path: &[u8], value: &[u8]) {
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO groups VALUES(?1, ?2)",
                params![key_of_path(path), value],
            )
        });
    }

    /// Something that was worked out of content that never changes; the key names that content.
    /// `None` if it is absent or does not carry this repository's check.
    pub fn derived(&self, keys: &Keys, key: &[u8]) -> Option<Vec<u8>> {
        let (value, mac): (Vec<u8>, Vec<u8>) = self
            .with(|db| {
                db.prepare_cached("SELECT value, mac FROM derived WHERE key=?1")?
                    .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .flatten()?;
        (mac == row_mac(keys, key, &value)).then_some(value)
    }

    /// Keeps what was worked out.
    pub fn put_derived(&self, keys: &Keys, key: &[u8], value: &[u8]) {
        let mac = row_mac(keys, key, value);
        self.with(|db| {
            db.prepare_cached("INSERT OR REPLACE INTO derived VALUES(?1, ?2, ?3)")?
                .execute(params![key, value, mac.as_slice()])
        });
    }

    /// Drops what was worked out under a prefix and is not in `keep`.
    pub fn retain_derived(&self, prefix: &[u8], keep: &HashSet<Vec<u8>>) {
        let end = [prefix, &[0xff]].concat();
        self.with(|db| {
            let known: Vec<Vec<u8>> = db
                .prepare("SELECT key FROM derived WHERE key >= ?1 AND key < ?2")?
                .query_map(params![prefix, end], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let tx = db.transaction()?;
            for key in known.iter().filter(|key| !keep.contains(*key)) {
                tx.execute("DELETE FROM derived WHERE key=?1", [key])?;
            }
            tx.commit()
        });
    }

    /// Writes and removes file rows in one transaction.
    pub fn update_files(&self, keys: &Keys, put: &[FileRow], remove: &[Vec<u8>]) {
        self.with(|db| {
            let tx = db.transaction()?;
            {
                let mut insert =
                    tx.prepare("INSERT OR REPLACE INTO file(key, value, mac) VALUES(?1, ?2, ?3)")?;
                for row in put {
                    let mac = row_mac(keys, &row.key, &row.value);
                    insert.execute(params![row.key, row.value, mac.as_slice()])?;
                }
                let mut delete = tx.prepare("DELETE FROM file WHERE key=?1")?;
                for key in remove {
                    delete.execute([key])?;
                }
            }
            tx.commit()
        });
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn row_mac(keys: &Keys, key: &[u8], value: &[u8]) -> [u8; 16] {
    let mut row = Vec::with_capacity(8 + key.len() + value.len());
    row.extend_from_slice(&(key.len() as u64).to_le_bytes());
    row.extend_from_slice(key);
    row.extend_from_slice(value);
    keys.cache_mac(&row)
}
