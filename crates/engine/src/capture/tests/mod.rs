//! Captures of databases in every state, below the pipeline.

mod edit;
mod fallbacks;
mod holds;
mod regain;
mod shapes;
mod spools;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::sqlite::{Budget, Health, How, Image, Request, Ways};

/// In every row; nowhere on our disk.
const CANARY: &str = "the secret that the canary sings";

/// A directory with a database `a.db` and our scratch directory.
struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("scratch")).unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        Self { dir }
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("source/a.db")
    }

    /// Makes the database: `pragmas`, then `rows` rows of about 1 KB, each with the canary.
    fn make(&self, pragmas: &str, rows: u32) -> Connection {
        let db = Connection::open(self.db()).unwrap();
        db.execute_batch(pragmas).unwrap();
        db.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB)").unwrap();
        add(&db, 0..rows);
        db
    }

    fn request(&self, how: How) -> Request {
        Request {
            twice: false,
            path: self.db(),
            how,
            lock_wait: Duration::from_millis(20),
            scratch: self.scratch(),
            // a test that is slow must not change what is tested
            budget: Budget { hold: Duration::from_secs(3600), log_bytes: 1 << 30 },
            turn: None,
            check: None,
            edit: None,
            ways: Ways { memory_bytes_max: 512 << 10, ..Ways::default() },
        }
    }

    /// Impatient: a reader that is behind is not waited for.
    fn impatient(&self, how: How) -> Request {
        let budget = Budget { hold: Duration::ZERO, ..Budget::default() };
        Request { budget, ..self.request(how) }
    }

    /// The first and the last row of an image of 3,000.
    fn first_and_last(&self, image: &[u8]) -> (String, String) {
        let path = self.dir.path().join("image.db");
        std::fs::write(&path, image).unwrap();
        let db = Connection::open(&path).unwrap();
        let body = |n: u32| {
            let body = "SELECT CAST(body AS TEXT) FROM t WHERE n=?1";
            db.query_row(body, [n], |row| row.get(0)).unwrap()
        };
        (body(0), body(2_999))
    }

    /// Rows of an image that passes SQLite's own check.
    fn rows(&self, image: &[u8]) -> u32 {
        let path = self.dir.path().join("image.db");
        std::fs::write(&path, image).unwrap();
        let db = Connection::open(&path).unwrap();
        let check: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(check, "ok");
        let rows = db.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        drop(db);
        for name in ["image.db", "image.db-wal", "image.db-shm"] {
            drop(std::fs::remove_file(self.dir.path().join(name)));
        }
        rows
    }
}

fn add(db: &Connection, rows: std::ops::Range<u32>) {
    db.execute_batch("BEGIN").unwrap();
    for n in rows {
        db.execute("INSERT INTO t VALUES(?1, ?2 || hex(randomblob(500)))", (n, CANARY)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

fn capture(request: Request) -> (Vec<u8>, Option<Health>) {
    let mut image = Image::open(request).unwrap();
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes).unwrap();
    (bytes, image.finish().0)
}

fn refused(request: Request) -> String {
    let mut bytes = Vec::new();
    match Image::open(request).and_then(|mut image| image.read_to_end(&mut bytes)) {
        Ok(_) => panic!("it was captured"),
        Err(e) => e.to_string(),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
