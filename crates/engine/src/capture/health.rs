//! The health of a database: SQLite's own `quick_check`, inside the transaction that the image was
//! read in, for a limited time.
//!
//! It is the only step that reads a schema's meaning: it computes generated columns with SQLite's own
//! functions, and asks SQLite's own full-text and R-tree modules about their tables (a read-only
//! connection leaves CHECK constraints alone). It can be stopped at any moment.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

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
pub(super) fn check(
    db: &Connection,
    time: Duration,
    unwanted: &(dyn Fn() -> bool + Sync),
) -> Health {
    let until = Instant::now() + time;
    let interrupt = db.get_interrupt_handle();
    let (done, running) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // again and again: an interrupt between two statements is lost
            while running.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if Instant::now() >= until || unwanted() {
                    interrupt.interrupt();
                }
            }
        });
        let health = quick_check(db);
        drop(done);
        health
    })
}

fn quick_check(db: &Connection) -> Health {
    let run = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare(&format!("PRAGMA quick_check({MESSAGES_MAX})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match run() {
        Ok(messages) if messages == ["ok"] => Health::Ok,
        Ok(messages) => Health::Damaged(messages),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Health::Unknown,
        Err(e) if is_damage(&e) => Health::Damaged(vec![e.to_string()]),
        Err(_) => Health::Unknown,
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
