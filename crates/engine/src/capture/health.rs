//! The health of a database: SQLite's own `quick_check`, inside the transaction that the image was
//! read in, for a limited time.
//!
//! It is the only step that reads a schema's meaning: it computes generated columns with SQLite's own
//! functions, and asks SQLite's own full-text and R-tree modules about their tables (a read-only
//! connection leaves CHECK constraints alone). It can be stopped at any moment.
//!
//! A restore asks the same of a file of its own, in full: `integrity_check` ([`integrity`]).

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::connection;
use super::sqlite::How;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is sound.
    Ok,
    /// It is not: SQLite's first messages.
    Damaged(Vec<String>),
    /// The check was not over in its time.
    Unknown,
}

/// Messages that are kept.
const MESSAGES_MAX: usize = 5;
/// How often a running check looks whether anybody still wants to know.
const TICK: Duration = Duration::from_millis(100);

/// Checks the snapshot of the connection's transaction for at most `time`.
pub(crate) fn check(
    db: &Connection,
    time: Duration,
    unwanted: &(dyn Fn() -> bool + Sync),
) -> Health {
    let until = Instant::now() + time;
    watched(db, "quick_check", &|| Instant::now() >= until || unwanted())
}

/// Checks a database in full that nobody else has open, and that stands alone, without a log. It is
/// opened without locks, and nothing appears beside it.
pub(crate) fn integrity(path: &Path, unwanted: &(dyn Fn() -> bool + Sync)) -> Health {
    match connection::connect(path, How::Closed, Duration::ZERO) {
        Ok(db) => watched(&db, "integrity_check", unwanted),
        Err(error) => found(Err(error)),
    }
}

/// Runs a check until it ends or `over` says so.
fn watched(db: &Connection, pragma: &str, over: &(dyn Fn() -> bool + Sync)) -> Health {
    let interrupt = db.get_interrupt_handle();
    let (done, running) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // again and again: an interrupt between two statements is lost
            while running.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if over() {
                    interrupt.interrupt();
                }
            }
        });
        let health = found(messages(db, pragma));
        drop(done);
        health
    })
}

fn messages(db: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare(&format!("PRAGMA {pragma}({MESSAGES_MAX})"))?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn found(messages: rusqlite::Result<Vec<String>>) -> Health {
    match messages {
        Ok(messages) if messages == ["ok"] => Health::Ok,
        Ok(messages) => Health::Damaged(messages),
        Err(e) if is_damage(&e) => Health::Damaged(vec![e.to_string()]),
        Err(_) => Health::Unknown, // interrupted, or the check needs what only its owner has
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
