//! The thread of a capture: it holds the transaction, puts the pages into the spool, checks the
//! health, and lets the database go.
//!
//! In: a [`Request`]. Out: pieces in the spool, then its end. Invariant: the transaction ends as
//! soon as the last page is handed over (and checked, if that was asked for), whatever the reader
//! does.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tempfile::TempPath;

use super::clone::{self, Copy};
use super::connection::{connect, explain, ignore_schema_errors};
use super::edit::{self, Edit};
use super::health::{self, Health};
use super::spool::Spool;
use super::sqlite::{How, Moved, Request, Ways, side_file};

/// Pages are handed over in pieces of about this many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// A check may keep a writer waiting for this long.
const WRITER_WAIT: Duration = Duration::from_secs(1);
/// Between two turns: longer than SQLite sleeps at first when a file is busy.
const PAUSE: Duration = Duration::from_millis(10);
/// Where the header says how it is written to: 1 with a rollback journal, 2 with a log.
const WRITE_VERSION_OFFSET: usize = 18;

/// Captures a database into the spool and ends it.
pub(super) fn run(request: &Request, spool: &Spool) -> Option<Health> {
    let _ends = Ends(spool);
    match capture(request, spool) {
        Ok(health) => {
            spool.end(Ok(()));
            health
        }
        Err(e) => {
            spool.end(Err(e));
            None
        }
    }
}

/// Ends the spool of a thread that panicked.
struct Ends<'a>(&'a Spool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(Err(io::Error::other("the capture failed")));
    }
}

fn capture(request: &Request, spool: &Spool) -> io::Result<Option<Health>> {
    let db = connect(&request.path, request.how, request.lock_wait).map_err(explain)?;
    let since = Instant::now();
    let begun = Begun::begin(&db, request.ways).map_err(explain)?;
    let live = request.how == How::Live;
    if let Some(how) = request.ways.reflink
        && live
        && (begun.stops_its_writer() || begun.first_page.is_none())
        && let Ok(copy) = clone::clone(&request.path, &request.scratch, how)
    {
        drop(db);
        spool.let_go(since.elapsed());
        return of_copy(&copy, request, spool);
    }
    if let Some(edit) = &request.edit {
        return of_edit((db, since), edit, begun.first_page.is_some(), request, spool);
    }
    let Begun { schema_error, first_page } = &begun;
    if first_page.is_none() {
        return of_backup((db, since), request, spool);
    }
    let mut patience = Patience::of(request, begun.stops_its_writer());
    let turn = request.turn.filter(|_| live && begun.stops_its_writer());
    let turns = Turns { db: &db, begun: &begun, turn };
    let mut patient = || patience.lasts();
    if !pages(&turns, spool, &mut patient)? {
        return Ok(None);
    }
    if request.twice && !pages_again(&turns, spool, &mut patient)? {
        return Ok(None);
    }
    let health = match schema_error {
        Some(message) => Some(Health::Damaged(vec![message.clone()])),
        None => request.check.map(|time| {
            let time = if live && begun.stops_its_writer() { time.min(WRITER_WAIT) } else { time };
            health::check(&db, time, &|| spool.is_closed())
        }),
    };
    drop(db); // ends the transaction
    spool.let_go(since.elapsed());
    Ok(health)
}

/// A transaction that has its snapshot.
struct Begun {
    /// Page 1, if the table of pages is there.
    first_page: Option<Vec<u8>>,
    /// Why the schema cannot be read; the pages can.
    schema_error: Option<String>,
}

impl Begun {
    fn begin(db: &Connection, ways: Ways) -> rusqlite::Result<Self> {
        db.execute_batch("BEGIN")?;
        if !ways.pages {
            return Self::without_pages(db);
        }
        let mut schema_error = None;
        let first_page = match first_page(db) {
            // a table of pages needs no schema, but SQLite reads it before any statement
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                schema_error = Some(e.to_string());
                ignore_schema_errors(db)?;
                first_page(db)
            }
            other => other,
        };
        match first_page {
            Ok(Some(page)) => Ok(Self { first_page: Some(page), schema_error }),
            Err(e) if e.to_string().contains("no such table") => Self::without_pages(db),
            Ok(None) => Err(rusqlite::Error::QueryReturnedNoRows),
            Err(e) => Err(e),
        }
    }

    fn without_pages(db: &Connection) -> rusqlite::Result<Self> {
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Self { first_page: None, schema_error: None })
    }

    /// A live database without a log: nobody writes to it while somebody reads.
    fn stops_its_writer(&self) -> bool {
        self.first_page.as_ref().is_some_and(|page| page.get(WRITE_VERSION_OFFSET) == Some(&1))
    }
}

fn first_page(db: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    let page = "SELECT data FROM sqlite_dbpage('main') WHERE pgno=1";
    db.query_row(page, [], |row| row.get(0)).optional()
}

/// Whether to wait for a slow reader.
struct Patience<'a> {
    request: &'a Request,
    since: Instant,
    log_bytes: u64,
    stops_its_writer: bool,
    lasts: bool,
}

impl<'a> Patience<'a> {
    fn of(request: &'a Request, stops_its_writer: bool) -> Self {
        let (since, log_bytes) = (Instant::now(), log_bytes(request));
        Self { request, since, log_bytes, stops_its_writer, lasts: true }
    }

    /// Once it is over it stays so. Nobody minds how long a closed database is read.
    fn lasts(&mut self) -> bool {
        let budget = self.request.budget;
        self.lasts = self.lasts
            && (self.request.how == How::Closed
                || !self.stops_its_writer
                    && self.since.elapsed() < budget.hold
                    && log_bytes(self.request) <= self.log_bytes.saturating_add(budget.log_bytes));
        self.lasts
    }
}

fn log_bytes(request: &Request) -> u64 {
    std::fs::symlink_metadata(side_file(&request.path, "-wal")).map_or(0, |log| log.len())
}

/// A transaction that may let the database go now and then.
struct Turns<'a> {
    db: &'a Connection,
    begun: &'a Begun,
    turn: Option<Duration>,
}

impl Turns<'_> {
    /// When the turn that begins now is over.
    fn until(&self) -> Option<Instant> {
        self.turn.map(|turn| Instant::now() + turn)
    }

    /// Lets the database go while `wait` runs, if it is read in turns. A commit meanwhile makes what
    /// was read worthless.
    fn between<T>(&self, wait: impl FnOnce() -> T) -> io::Result<T> {
        if self.turn.is_none() {
            return Ok(wait());
        }
        self.db.execute_batch("COMMIT").map_err(explain)?;
        let waited = wait();
        self.db.execute_batch("BEGIN").map_err(explain)?;
        let page = first_page(self.db).ok().flatten();
        if page.as_deref().map(version) != self.begun.first_page.as_deref().map(version) {
            return Err(Moved.into());
        }
        Ok(waited)
    }
}

/// Puts the pages of one snapshot; false if nobody reads on.
fn pages(turns: &Turns<'_>, spool: &Spool, patient: &mut dyn FnMut() -> bool) -> io::Result<bool> {
    let mut next = 1;
    loop {
        let until = turns.until();
        match some_pages(turns.db, spool, patient, &mut next, until).map_err(explain)? {
            Put::TurnIsOver => turns.between(|| std::thread::sleep(PAUSE))?,
            put => return Ok(put == Put::All),
        }
    }
}

/// How far [`some_pages`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    All,
    TurnIsOver,
    NobodyReadsOn,
}

fn some_pages(
    db: &Connection,
    spool: &Spool,
    patient: &mut dyn FnMut() -> bool,
    next: &mut i64,
    until: Option<Instant>,
) -> rusqlite::Result<Put> {
    let query = "SELECT data FROM sqlite_dbpage('main') WHERE pgno>=?1 ORDER BY pgno";
    let mut statement = db.prepare(query)?;
    let mut rows = statement.query([*next])?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while let Some(row) = rows.next()? {
        piece.extend_from_slice(row.get_ref(0)?.as_blob()?);
        *next += 1;
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            if !spool.put(full, patient) {
                return Ok(Put::NobodyReadsOn);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Put::TurnIsOver);
            }
        }
    }
    let put = piece.is_empty() || spool.put(piece, patient);
    Ok(if put { Put::All } else { Put::NobodyReadsOn })
}

/// What SQLite itself compares to know whether what it has of a database with a rollback journal
/// is still true: the change counter and what follows it.
fn version(page: &[u8]) -> Option<&[u8]> {
    page.get(24..40)
}

/// Puts the pages that the reader asks for once more; false if nobody reads on.
fn pages_again(
    turns: &Turns<'_>,
    spool: &Spool,
    patient: &mut dyn FnMut() -> bool,
) -> io::Result<bool> {
    let Some(ranges) = turns.between(|| spool.asked())? else { return Ok(false) };
    let page_bytes = turns.begun.first_page.as_ref().map_or(1, |page| page.len() as u64);
    let query = "SELECT data FROM sqlite_dbpage('main') WHERE pgno=?1";
    let mut statement = turns.db.prepare(query).map_err(explain)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut until = turns.until();
    let pages = ranges
        .iter()
        .flat_map(|range| range.start / page_bytes + 1..range.end.div_ceil(page_bytes) + 1);
    for page in pages {
        let page = i64::try_from(page).map_err(io::Error::other)?;
        let append = |row: &rusqlite::Row<'_>| {
            piece.extend_from_slice(row.get_ref(0)?.as_blob()?);
            Ok(())
        };
        statement.query_row([page], append).map_err(explain)?;
        if piece.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            if !spool.put(full, patient) {
                return Ok(false);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                turns.between(|| std::thread::sleep(PAUSE))?;
                until = turns.until();
            }
        }
    }
    Ok(piece.is_empty() || spool.put(piece, patient))
}

/// Captures a clone that is ours alone: nobody waits for it.
fn of_copy(copy: &Copy, request: &Request, spool: &Spool) -> io::Result<Option<Health>> {
    let ours = Request {
        path: copy.path.clone(),
        how: if copy.has_log { How::Live } else { How::Closed },
        ways: Ways { reflink: None, ..request.ways },
        ..request.clone()
    };
    let held = spool.held();
    let done = capture(&ours, spool);
    spool.let_go(held); // nobody waits for the copy
    done
}

/// Copies the database in one step into a private file, which has no name any more when it is read.
fn of_backup(
    (db, since): (Connection, Instant),
    request: &Request,
    spool: &Spool,
) -> io::Result<Option<Health>> {
    let check = |time| health::check(&db, time, &|| spool.is_closed());
    let temp = tempfile::NamedTempFile::new_in(&request.scratch)?.into_temp_path();
    back_up(&db, &temp)?;
    let health = request.check.map(check);
    drop(db);
    spool.let_go(since.elapsed());
    of_file(temp, request, spool)?;
    Ok(health)
}

/// Copies the database in one step.
fn back_up(db: &Connection, to: &Path) -> io::Result<()> {
    let mut copy = Connection::open(to).map_err(explain)?;
    copy.pragma_update(None, "synchronous", false).map_err(explain)?;
    copy.pragma_update(None, "journal_mode", "OFF").map_err(explain)?;
    let done = Backup::new(db, &mut copy).and_then(|backup| backup.step(-1)).map_err(explain)?;
    if done != StepResult::Done {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "its owner keeps it locked"));
    }
    Ok(())
}

/// Copies the database into a private file and leaves rows out of it. The file has a name only
/// until that is done; should we be killed before, the next run removes it.
fn of_edit(
    (db, since): (Connection, Instant),
    edit: &Edit,
    has_pages: bool,
    request: &Request,
    spool: &Spool,
) -> io::Result<Option<Health>> {
    edit.check_room(image_bytes(&db).map_err(explain)?, &request.scratch)?;
    let (mut file, temp) = tempfile::NamedTempFile::new_in(&request.scratch)?.into_parts();
    if has_pages {
        write_pages(&db, &mut file)?;
    } else {
        back_up(&db, &temp)?;
    }
    drop((db, file));
    spool.let_go(since.elapsed());
    let check =
        |db: &Connection| request.check.map(|time| health::check(db, time, &|| spool.is_closed()));
    let (edited, health) = edit::edit(&temp, edit, &check)?;
    of_file(temp, request, spool)?;
    // only now: whoever finds it knows that the image is whole
    edit.done.get_or_init(|| edited);
    Ok(health)
}

fn image_bytes(db: &Connection) -> rusqlite::Result<u64> {
    let value = |name| db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    Ok(u64::from(value("page_count")?) * u64::from(value("page_size")?))
}

/// Writes the pages of the transaction's snapshot.
fn write_pages(db: &Connection, to: &mut File) -> io::Result<()> {
    let query = "SELECT data FROM sqlite_dbpage('main') ORDER BY pgno";
    let mut statement = db.prepare(query).map_err(explain)?;
    let mut rows = statement.query([]).map_err(explain)?;
    let mut to = io::BufWriter::with_capacity(PIECE_BYTES, to);
    while let Some(row) = rows.next().map_err(explain)? {
        let page = row.get_ref(0).map_err(explain)?;
        to.write_all(page.as_blob().map_err(io::Error::other)?)?;
    }
    to.flush()
}

/// Puts a file of ours, which has no name any more when it is read.
fn of_file(temp: TempPath, request: &Request, spool: &Spool) -> io::Result<()> {
    let file = File::open(&temp)?;
    temp.close()?;
    let len = file.metadata()?.len();
    if file_pages(&file, 0..len, spool)?
        && request.twice
        && let Some(ranges) = spool.asked()
    {
        for range in ranges {
            if !file_pages(&file, range, spool)? {
                break;
            }
        }
    }
    Ok(())
}

/// Puts a range of a file; false if nobody reads on.
fn file_pages(file: &File, range: Range<u64>, spool: &Spool) -> io::Result<bool> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE_BYTES as u64);
        let mut piece = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut piece, at)?;
        at += len;
        if !spool.put(piece, &mut || true) {
            return Ok(false);
        }
    }
    Ok(true)
}
