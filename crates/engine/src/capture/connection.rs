//! Connections: a read-only one to a database of somebody else, or one to an image of ours. Nothing
//! that is written in the file is ever run, and errors come in words that its user understands.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::sqlite::How;

/// What the queries on a source need: none attaches, starts threads, or fires a trigger.
const LIMITS: [(Limit, i32); 4] = [
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 10),
];

/// Pages of an image of ours in memory: SQLite takes negative numbers for KiB.
const OWN_CACHE_KIB: i32 = -16 << 10;

/// Opens a database for reading. `wait` is for locks.
pub(super) fn connect(path: &Path, how: How, wait: Duration) -> rusqlite::Result<Connection> {
    connect_with(path, how, wait, OpenFlags::empty())
}

/// The same for a path that leads through no link.
pub(crate) fn connect_there(path: &Path, how: How, wait: Duration) -> rusqlite::Result<Connection> {
    connect_with(path, how, wait, OpenFlags::SQLITE_OPEN_NOFOLLOW)
}

fn connect_with(
    path: &Path,
    how: How,
    wait: Duration,
    more: OpenFlags,
) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let db = if how == How::Closed {
        let uri = format!("file:{}?immutable=1", uri_path(path));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    db.busy_timeout(wait)?;
    harden(&db)?;
    Ok(db)
}

/// Makes a connection take nothing that is written in a file as a command.
pub(crate) fn harden(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    guard(db)
}

/// Opens an image of ours to leave rows out of it. Nothing else is ever written, and no file
/// appears beside it: there is no way back, so after an error the image is worth nothing.
pub(crate) fn connect_own(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    guard(&db)?;
    // this is refused to a defensive connection
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    // a name in quotes is a name, or an error
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "cache_size", OWN_CACHE_KIB)?;
    db.pragma_update(None, "secure_delete", true)?;
    Ok(db)
}

/// Makes sure that nothing in the file is run.
fn guard(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    for (limit, value) in LIMITS {
        db.set_limit(limit, value)?;
    }
    // a file that somebody cuts short must be an error, not a signal
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "cell_size_check", true)?;
    // nothing of the database gets to a disk through SQLite's own temporary files
    db.pragma_update(None, "temp_store", "MEMORY")
}

/// Lets pages be read although the schema cannot be. Nothing can be written: the connection is
/// read-only and defensive.
pub(super) fn ignore_schema_errors(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).map(|_| ())
}

pub(crate) fn uri_path(path: &Path) -> String {
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

/// Says why a database could not be captured. One that is locked, or that its next user repairs, is
/// [`io::ErrorKind::ResourceBusy`]: the next push tries again.
#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
pub(crate) fn explain(error: rusqlite::Error) -> io::Error {
    use io::ErrorKind::{InvalidData, Other, PermissionDenied, ResourceBusy};
    let extended = error.sqlite_error().map(|e| e.extended_code);
    if extended == Some(ffi::SQLITE_READONLY_ROLLBACK) {
        let what = "its last writer was stopped in the middle of a change; its journal is kept \
                    beside it, and SQLite undoes the change when either is opened";
        return io::Error::new(ResourceBusy, what);
    }
    let (kind, what) = match error.sqlite_error_code() {
        None if error == rusqlite::Error::QueryReturnedNoRows => {
            (InvalidData, "it holds no page".to_owned())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ResourceBusy, "its owner keeps it locked".to_owned())
        }
        Some(ErrorCode::NotADatabase) => {
            (InvalidData, "its header is damaged or encrypted".to_owned())
        }
        Some(ErrorCode::DatabaseCorrupt) => (InvalidData, format!("it is damaged ({error})")),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            let what = "SQLite must be able to write to its directory to read its log";
            (PermissionDenied, format!("{what} ({error})"))
        }
        _ => (Other, format!("SQLite: {error}")),
    };
    io::Error::new(kind, what)
}
