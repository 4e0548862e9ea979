//! A database of a snapshot as a file that SQLite can open: private, read-only, and gone with its value.
//!
//! From one version of a database to the next only those stretches are written that lie elsewhere. The
//! whole is checked against the hash of the entry before it is opened.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use repo::{Entry, Extent};
use rusqlite::{Connection, OpenFlags};

use super::bytes::{Work, damaged, plain};
use crate::capture::connection::harden;
use crate::error::{Error, Result};

/// The file.
pub(super) struct Image {
    room: tempfile::TempDir,
    file: File,
    /// What is in it: where each extent begins.
    holds: Vec<(u64, Extent)>,
}

impl Image {
    pub(super) fn new(work: &Work<'_>) -> Result<Self> {
        let room = work.session.state.reading_room().map_err(|e| local(e, PathBuf::new()))?;
        let path = room.path().join("image");
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|e| local(e, path))?;
        Ok(Self { room, file, holds: Vec::new() })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.room.path().join("image")
    }

    /// Makes it this version.
    pub(super) fn become_version(&mut self, work: &Work<'_>, entry: &Entry) -> Result<()> {
        let extents = work.reader()?.extents(&entry.map)?;
        let before = std::mem::take(&mut self.holds);
        let mut at = 0;
        for (number, extent) in extents.iter().enumerate() {
            let known = before.binary_search_by_key(&at, |(at, _)| *at).ok();
            // pages are normalised by where they lie, so the place counts as well as the bytes
            if known.is_none_or(|known| before[known].1 != *extent) {
                let bytes = plain(work, entry, extent, &extents[number..], at)?;
                self.file.write_all_at(&bytes, at).map_err(|e| local(e, self.path()))?;
            }
            self.holds.push((at, *extent));
            at += u64::from(extent.len);
        }
        self.file.set_len(at).map_err(|e| local(e, self.path()))?;
        let hashed = self.hash().map_err(|e| local(e, self.path()))?;
        if at != entry.size || hashed != entry.hash {
            return Err(damaged("its content does not fit its hash"));
        }
        Ok(())
    }

    fn hash(&mut self) -> std::io::Result<[u8; 32]> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(*hasher.finalize().as_bytes()),
                len => hasher.update(&buffer[..len]),
            };
        }
    }

    /// Opens it for reading. Nothing in it runs.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        // nobody writes to it, and it has no log: an image is whole
        let uri =
            format!("file:{}?immutable=1", crate::capture::connection::uri_path(&self.path()));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(uri, flags)?;
        harden(&db)?;
        Ok(db)
    }
}

fn local(error: std::io::Error, path: PathBuf) -> Error {
    Error::local("copy a database to", path, error)
}
