//! A live SQLite database as a stream of bytes: one consistent image, no lock that stops a writer
//! for long.
//!
//! Pages come from the `sqlite_dbpage` table inside a read transaction, so the image is the last
//! committed state, write-ahead log included, and restores without side files. What keeps the
//! transaction short:
//!
//! | database | transaction |
//! |---|---|
//! | closed (no `-wal`, no `-journal`) | none: it is read without locks, and again if it moved |
//! | with a write-ahead log | while the reader keeps up, at most [`Budget`]; then the rest goes to the spool at full speed |
//! | with a rollback journal | its readers stop its writer: a reflink of the file takes milliseconds; where there are none, pages go to the spool at full speed, in turns of [`Moved::TURN`]; one that is written to between turns is read in one go in the end, and its writer waits as long as that takes |
//!
//! Without that table (another build of SQLite): a reflink, then SQLite's backup in one step into a
//! private file that is removed at once.
//!
//! Invariant: the source is opened read-only and never checkpointed; no descriptor of ours is open
//! on the file while SQLite has it open (the caller holds it, see [`super::gate`]). A database with
//! a `-wal` but no `-shm` beside it (a killed owner) gets its `-shm` back from SQLite: the log
//! cannot be read otherwise.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use super::edit::Edit;
pub(crate) use super::health::Health;
use super::spool::{MEMORY_BYTES_MAX, Spool};
use super::stream;

/// First bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

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

/// How long a transaction waits for a slow reader before the rest goes to the spool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// How long the transaction waits at most.
    pub(crate) hold: Duration,
    /// How far the log may grow meanwhile: it cannot be reset under a reader.
    pub(crate) log_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { hold: Duration::from_secs(1), log_bytes: 64 << 20 }
    }
}

/// Somebody committed between two turns: what was read is worthless, and can be read again.
#[derive(Debug, thiserror::Error)]
#[error("it is written to all the time")]
pub(crate) struct Moved;

impl Moved {
    /// How long a writer waits at a time.
    pub(crate) const TURN: Duration = Duration::from_millis(250);

    /// True if this is why a capture ended.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).is_some()
    }
}

impl From<Moved> for io::Error {
    fn from(moved: Moved) -> Self {
        Self::new(io::ErrorKind::ResourceBusy, moved)
    }
}

/// What to capture, and how.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The database.
    pub(crate) path: PathBuf,
    /// Who else has it.
    pub(crate) how: How,
    /// How long to wait for a lock.
    pub(crate) lock_wait: Duration,
    /// Our private directory, for the spool and copies.
    pub(crate) scratch: PathBuf,
    /// How long to wait for a slow reader.
    pub(crate) budget: Budget,
    /// Parts of it will be read once more ([`Image::again`]): the transaction waits for that.
    pub(crate) twice: bool,
    /// A database whose writer waits for its readers is read in turns of this length, and let go in
    /// between. A commit in between is [`Moved`]. Without turns it is read in one go.
    pub(crate) turn: Option<Duration>,
    /// Check its health for at most this long.
    pub(crate) check: Option<Duration>,
    /// Rows to leave out of the image.
    pub(crate) edit: Option<Edit>,
    /// What this build and this system can do.
    pub(crate) ways: Ways,
}

/// What can be used; less of it in tests of the fall-backs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    /// The `sqlite_dbpage` table, if SQLite has it.
    pub(super) pages: bool,
    /// How `cp` is told to make a reflink, if there are any.
    pub(super) reflink: Option<&'static str>,
    /// Bytes between transaction and reader in memory.
    pub(super) memory_bytes_max: usize,
}

impl Default for Ways {
    fn default() -> Self {
        Self { pages: true, reflink: super::clone::REFLINK, memory_bytes_max: MEMORY_BYTES_MAX }
    }
}

/// A stream of the image's bytes. Dropping it waits until SQLite has let the database go.
#[derive(Debug)]
pub(crate) struct Image {
    spool: Arc<Spool>,
    piece: Vec<u8>,
    at: usize,
    /// The reading is over.
    ended: bool,
    thread: Option<JoinHandle<Option<Health>>>,
    /// Size of a page.
    pub(crate) page_size: u32,
}

impl Image {
    /// Begins the transaction and reads the first pages. An error means that SQLite cannot read the
    /// database (locked, encrypted, damaged): the caller copies it as it lies and says so. One that
    /// the next push should try again is [`io::ErrorKind::ResourceBusy`].
    pub(crate) fn open(request: Request) -> io::Result<Self> {
        let spool = Arc::new(Spool::new(&request.scratch, request.ways.memory_bytes_max));
        let producer = spool.clone();
        let thread = std::thread::Builder::new()
            .name("sqlite".into())
            .spawn(move || stream::run(&request, &producer))?;
        let mut image = Self {
            spool,
            piece: Vec::new(),
            at: 0,
            ended: false,
            thread: Some(thread),
            page_size: 0,
        };
        image.piece = image.spool.take()?;
        image.page_size = page_size(&image.piece)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no page"))?;
        Ok(image)
    }

    /// Makes the next reads give these ranges of the same image (whole pages), one after the other.
    /// Only at the end of an image that was asked for with [`Request::twice`], and once.
    pub(crate) fn again(&mut self, ranges: Vec<Range<u64>>) {
        self.spool.ask(ranges);
        self.ended = false;
    }

    /// True once the transaction is over.
    #[cfg(test)]
    pub(super) fn has_let_go(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// What the check found, if there was one, once SQLite has let the database go; and for how long
    /// it was held.
    pub(crate) fn finish(mut self) -> (Option<Health>, Duration) {
        self.spool.ask(Vec::new());
        let health = self.thread.take().and_then(|thread| thread.join().ok().flatten());
        (health, self.spool.held())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.spool.close();
        if let Some(thread) = self.thread.take() {
            // a panic was told as an error of the stream
            drop(thread.join());
        }
    }
}

impl Read for Image {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.ended {
            (self.piece, self.at) = (self.spool.take()?, 0);
            self.ended = self.piece.is_empty();
        }
        let len = buf.len().min(self.piece.len() - self.at);
        buf[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
