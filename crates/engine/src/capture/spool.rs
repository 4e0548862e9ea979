//! The spool: pieces of an image on their way from a transaction to whoever reads the image.
//!
//! In: pieces, in order. Out: the same. As long as the producer is patient it waits for a slow
//! reader, with at most [`MEMORY_BYTES_MAX`] between them; then it goes on into a file without a
//! name in our own directory, and from then on the reader waits in its turn: while the database is
//! held, the processor is the producer's. The reader still gets a piece every [`CRUMB`]: a second core
//! has something to do. The file is sealed ([`SealedFile`]): plaintext never gets there.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sealed::SealedFile;

/// Plaintext in memory at most: with one database per reader, four readers have 16 MiB.
pub(super) const MEMORY_BYTES_MAX: usize = 4 << 20;
/// How often a waiting producer asks whether to go on waiting.
const TICK: Duration = Duration::from_millis(50);
/// How long a reader waits for a piece at most because the producer is in a hurry.
pub(super) const CRUMB: Duration = Duration::from_millis(4);

/// See the module.
#[derive(Debug)]
pub(super) struct Spool {
    state: Mutex<State>,
    moved: Condvar,
    /// Where the file is made.
    dir: PathBuf,
    memory_bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    memory_bytes: usize,
    /// Nobody reads on.
    closed: bool,
    /// The producer goes into the file, and its reader waits.
    hurries: bool,
    /// What the reader wants once more; nothing yet, or an empty list for nothing at all.
    asked: Option<Vec<Range<u64>>>,
    /// How it ended, until the reader is told.
    ended: Option<io::Result<()>>,
    file: Option<Arc<SealedFile>>,
    /// For how long the database was held.
    held: Duration,
    /// Where the next piece goes in the file, and its number.
    next: (u64, u64),
}

#[derive(Debug)]
enum Piece {
    Plain(Vec<u8>),
    Sealed { number: u64, offset: u64, len: usize },
}

impl Spool {
    pub(super) fn new(dir: &Path, memory_bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            moved: Condvar::new(),
            dir: dir.to_owned(),
            memory_bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece; false if nobody reads on. `patient` says, while there is no room in memory,
    /// whether to go on waiting for the reader. If the file cannot be written (a full disk) there is
    /// no choice.
    pub(super) fn put(&self, piece: Vec<u8>, patient: &mut dyn FnMut() -> bool) -> bool {
        let mut can_seal = true;
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            // an empty memory takes a piece of any size
            if state.memory_bytes == 0 || state.memory_bytes + piece.len() <= self.memory_bytes_max
            {
                state.memory_bytes += piece.len();
                state.pieces.push_back(Piece::Plain(piece));
                break;
            }
            if can_seal && !patient() {
                drop(state);
                let sealed = self.seal(&piece);
                state = self.lock();
                match sealed {
                    Ok(sealed) => {
                        state.pieces.push_back(sealed);
                        state.hurries = true;
                        break;
                    }
                    Err(e) => {
                        tracing::warn!("no room for a database's pages: {e}");
                        can_seal = false;
                        // only the reader can make room now
                        state.hurries = false;
                        self.moved.notify_all();
                        continue;
                    }
                }
            }
            let woken = self.moved.wait_timeout(state, TICK);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.moved.notify_all();
        true
    }

    /// The database was let go, after this time.
    pub(super) fn let_go(&self, held: Duration) {
        self.lock().held = held;
    }

    /// For how long the database was held; zero while it is.
    pub(super) fn held(&self) -> Duration {
        self.lock().held
    }

    /// The end, or an error after the pieces that were put. What was told first stays.
    pub(super) fn end(&self, how: io::Result<()>) {
        let mut state = self.lock();
        state.ended.get_or_insert(how);
        state.hurries = false;
        drop(state);
        self.moved.notify_all();
    }

    /// Marks the end of the first reading and waits until the reader says which ranges it wants
    /// once more; `None` if nobody reads on.
    pub(super) fn asked(&self) -> Option<Vec<Range<u64>>> {
        let mut state = self.lock();
        state.pieces.push_back(Piece::Plain(Vec::new()));
        state.hurries = false;
        self.moved.notify_all();
        loop {
            if state.closed {
                return None;
            }
            if let Some(ranges) = state.asked.take() {
                return Some(ranges);
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says which ranges the reader wants once more.
    pub(super) fn ask(&self, ranges: Vec<Range<u64>>) {
        self.lock().asked = Some(ranges);
        self.moved.notify_all();
    }

    /// The next piece; empty at the end of a reading.
    pub(super) fn take(&self) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let waited = self.moved.wait_timeout_while(state, CRUMB, |state| state.hurries);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        loop {
            match state.pieces.pop_front() {
                Some(Piece::Plain(piece)) => {
                    state.memory_bytes -= piece.len();
                    self.moved.notify_all();
                    return Ok(piece);
                }
                Some(Piece::Sealed { number, offset, len }) => {
                    let file = state.file.clone().expect("a sealed piece is in the file");
                    drop(state);
                    return file.open(number, offset, len);
                }
                None => {}
            }
            match &mut state.ended {
                Some(how) => return std::mem::replace(how, Ok(())).map(|()| Vec::new()),
                None => state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Nobody reads on.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Seals a piece into the file. Only the producer comes here.
    fn seal(&self, piece: &[u8]) -> io::Result<Piece> {
        let (file, (offset, number)) = {
            let mut state = self.lock();
            let next = state.next;
            state.next.1 += 1; // also after a failure: a number is used once
            (state.file.clone(), next)
        };
        let file = match file {
            Some(file) => file,
            None => Arc::new(SealedFile::create(&self.dir)?),
        };
        let end = file.put(number, offset, piece)?;
        let mut state = self.lock();
        state.next.0 = end;
        state.file.get_or_insert(file);
        Ok(Piece::Sealed { number, offset, len: piece.len() })
    }
}
