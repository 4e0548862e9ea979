//! A live SQLite database as a stream of pages: one read transaction, no lock that stops a writer
//! for long.
//!
//! Pages come from the `sqlite_dbpage` table inside a read transaction, so the image is the last
//! committed state, write-ahead log included, and restores without side files. Readers of a live
//! database without a write-ahead log stop its writer, so that one is copied by the online backup
//! API in one step into a private temporary file that has no name, and let go before anything is
//! sent; so is every database where the bundled SQLite lacks that table.
//!
//! Invariant: the source is opened read-only and never checkpointed; no descriptor of ours is open
//! on the file while SQLite has it open (closing one would drop SQLite's locks).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// First bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Pages are handed over in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The page size, if these are the first bytes (at least 100) of a SQLite database.
pub(crate) fn page_size(head: &[u8]) -> Option<u32> {
    if head.len() < 100 || !head.starts_with(MAGIC) {
        return None;
    }
    match u32::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => Some(65_536),
        size if size.is_power_of_two() && size >= 512 => Some(size),
        _ => None,
    }
}

/// The path of a side file such as `-wal`.
pub(crate) fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How to open a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Nobody has it open: no side file lies beside it. It is read without any lock, as opening it
    /// otherwise would make side files. If it moved meanwhile the image is worth nothing.
    Closed,
    /// Its owner may be writing.
    Live,
}

/// A stream of the image's bytes. Dropping it waits until SQLite has let the database go.
#[derive(Debug)]
pub(crate) struct Image {
    /// `None` once nobody reads on.
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
    thread: Option<JoinHandle<()>>,
    /// Size of a page.
    pub(crate) page_size: u32,
}

impl Image {
    /// Opens a database and begins the read transaction. An error means that SQLite cannot read it
    /// (locked, encrypted, damaged): the caller copies it as it lies and says so. A database that
    /// stays locked for `wait` is [`io::ErrorKind::ResourceBusy`].
    pub(crate) fn open(path: &Path, how: How, wait: Duration) -> io::Result<Self> {
        let (send, pieces) = sync_channel(4);
        let (begun, ready) = sync_channel(1);
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("sqlite".into()).spawn(move || {
            if let Err(e) = stream(&path, how, wait, &begun, &send) {
                // told at the opening if nobody was told yet, else in the stream
                if let Err(refused) = begun.try_send(Err(e)) {
                    let (std::sync::mpsc::TrySendError::Full(e)
                    | std::sync::mpsc::TrySendError::Disconnected(e)) = refused;
                    if let Err(e) = e {
                        drop(send.send(Err(e)));
                    }
                }
            }
        })?;
        let mut image = Self {
            pieces: Some(pieces),
            piece: Vec::new(),
            at: 0,
            thread: Some(thread),
            page_size: 0,
        };
        image.page_size = ready.recv().map_err(io::Error::other)??;
        Ok(image)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            // a panic was told as an error of the stream
            drop(thread.join());
        }
    }
}

impl Read for Image {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(pieces) = &self.pieces else { return Ok(0) };
            let Ok(piece) = pieces.recv() else {
                let panicked = self.thread.take().is_some_and(|t| t.join().is_err());
                return if panicked { Err(io::Error::other("capture failed")) } else { Ok(0) };
            };
            (self.piece, self.at) = (piece?, 0);
        }
        let len = buf.len().min(self.piece.len() - self.at);
        buf[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn sql(e: rusqlite::Error) -> io::Error {
    let busy = matches!(
        e.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    );
    let kind = if busy { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    io::Error::new(kind, format!("SQLite: {e}"))
}

fn connect(path: &Path, how: How, wait: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = if how == How::Closed {
        let uri = format!("file:{}?immutable=1", uri_path(path));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    db.busy_timeout(wait)?;
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(db)
}

fn uri_path(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                out.push(char::from(*byte));
            }
            _ => {
                out.push('%');
                out.push_str(&data_encoding::HEXUPPER.encode(&[*byte]));
            }
        }
    }
    out
}

fn stream(
    path: &Path,
    how: How,
    wait: Duration,
    begun: &SyncSender<io::Result<u32>>,
    send: &SyncSender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let db = connect(path, how, wait).map_err(sql)?;
    db.execute_batch("BEGIN").map_err(sql)?;
    let ask = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(sql);
    // the first read takes the snapshot
    ask("SELECT count(*) FROM sqlite_schema")?;
    let page_size = ask("PRAGMA page_size")?;
    let page_size = u32::try_from(page_size).map_err(io::Error::other)?;
    let pages_stop_nobody = how == How::Closed
        || db
            .query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))
            .map_err(sql)?
            .eq_ignore_ascii_case("wal");
    let has_pages = ask("SELECT count(*) FROM pragma_module_list WHERE name='sqlite_dbpage'")? == 1;
    if pages_stop_nobody && has_pages {
        if begun.send(Ok(page_size)).is_err() {
            return Ok(());
        }
        return pages(&db, send);
    }
    let image = copy(&db)?;
    drop(db);
    if begun.send(Ok(page_size)).is_err() {
        return Ok(());
    }
    send_file(image, send)
}

/// Sends the pages of the transaction's snapshot.
fn pages(db: &Connection, send: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut statement =
        db.prepare("SELECT data FROM sqlite_dbpage('main') ORDER BY pgno").map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while let Some(row) = rows.next().map_err(sql)? {
        let page = row.get_ref(0).map_err(sql)?;
        let page = page.as_blob().map_err(|e| io::Error::other(e.to_string()))?;
        piece.extend_from_slice(page);
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            if send.send(Ok(full)).is_err() {
                return Ok(()); // nobody reads on
            }
        }
    }
    drop(send.send(Ok(piece)));
    Ok(())
}

/// Copies the database in one step into a private file without a name.
fn copy(db: &Connection) -> io::Result<File> {
    let temp = tempfile::Builder::new().prefix("agent-backup-").tempdir()?;
    let path = temp.path().join("image");
    db.backup("main", &path, None::<fn(rusqlite::backup::Progress)>).map_err(sql)?;
    let file = File::open(&path)?;
    temp.close()?;
    Ok(file)
}

fn send_file(mut file: File, send: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let len = file.read(&mut piece)?;
        piece.truncate(len);
        if len == 0 || send.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}
