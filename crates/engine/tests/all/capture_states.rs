//! Databases in unusual states through a whole push: each is handled and named in the report, the
//! push goes on, and the source stays as it was.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::Problem;
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use repo::flag;
use rusqlite::Connection;
use store::MemoryStore;
use testkit::tree::assert_equal;

use crate::support::text::Dice;
use crate::support::{self, Bench, Ears};

/// An adapter that names every `.db` as a database.
struct Adapter;

impl Filter for Adapter {
    fn decide(&self, rel: &[u8], _: bool) -> Verdict {
        if rel.ends_with(b".db") { Verdict::Sqlite } else { Verdict::Include }
    }
    fn max_file_size(&self) -> Option<u64> {
        None
    }
}

struct Case {
    bench: Bench,
    memory: Arc<MemoryStore>,
}

impl Case {
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let bench = Bench::new(memory.clone());
        fs::create_dir_all(bench.source()).unwrap();
        drop(bench.init());
        Self { bench, memory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.bench.source().join(name)
    }

    fn push(&self, check_databases: bool) -> (Pushed, Vec<Problem>) {
        let ears = Ears::default();
        let session = self.bench.open().unwrap();
        let scan = ScanRoot {
            label: "files".into(),
            dir: self.bench.source(),
            files: None,
            filter: Arc::new(Adapter),
        };
        let options = PushOptions {
            database_wait: Duration::from_millis(20),
            check_databases,
            check_wait: Duration::from_secs(600),
            ..PushOptions::default()
        };
        let roots = [PushRoot { scan, agent: None }];
        let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
        let mut problems = ears.0.into_inner().unwrap();
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        (pushed, problems)
    }

    /// Names of the files in a snapshot with what their flags say of databases.
    fn entries(&self, pushed: &Pushed) -> Vec<(String, u32)> {
        let session = self.bench.open().unwrap();
        let reader = repo::Reader::open(session.repo(), None).unwrap();
        let mut out = Vec::new();
        let databases = flag::SQLITE | flag::SQLITE_RAW | flag::SQLITE_DAMAGED;
        reader
            .walk(&pushed.snapshot().tree, &mut |path, entry| {
                if entry.kind == repo::Kind::File {
                    let name = path.strip_prefix(b"files/").unwrap().escape_ascii().to_string();
                    out.push((name, entry.flags & databases));
                }
                Ok(())
            })
            .unwrap();
        out
    }
}

fn database(path: &std::path::Path, pragmas: &str, rows: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB); BEGIN").unwrap();
    for n in 0..rows {
        db.execute("INSERT INTO t VALUES(?1, ?2)", (n, Dice::new(n.into()).bytes(400))).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    db
}

#[test]
fn what_an_adapter_calls_a_database_and_is_none_is_stored_with_a_notice() {
    let case = Case::new();
    fs::write(case.at("empty.db"), b"").unwrap();
    fs::write(case.at("encrypted.db"), Dice::new(1).bytes(8192)).unwrap();
    fs::write(case.at("text.db"), b"not a database").unwrap();
    symlink("nowhere", case.at("link.db")).unwrap();
    drop(database(&case.at("real.data"), "", 10)); // nobody names it: its header does
    let before = case.bench.tree();
    let (pushed, problems) = case.push(false);
    let told: Vec<_> = problems
        .iter()
        .map(|p| (p.path.escape_ascii().to_string(), p.what.contains("not a SQLite database")))
        .collect();
    assert_eq!(told, [("files/encrypted.db".into(), true), ("files/text.db".into(), true)]);
    assert!(problems.iter().all(|p| p.notice));
    assert!(case.entries(&pushed).contains(&("real.data".into(), flag::SQLITE)));
    assert_equal(&before, &case.bench.tree());
    assert_equal(&before, &case.bench.restore(case.memory.clone(), &pushed.snapshot().id));
}

#[test]
fn a_hot_journal_is_stored_beside_its_database_and_undoes_the_change_after_a_restore() {
    let case = Case::new();
    let live = case.bench.dir.path().join("live.db");
    let db = database(&live, "PRAGMA cache_size=5", 500);
    db.execute_batch("BEGIN; UPDATE t SET body=zeroblob(390)").unwrap();
    // what a kill leaves: half a change, and what undoes it
    fs::copy(&live, case.at("a.db")).unwrap();
    fs::copy(case.bench.dir.path().join("live.db-journal"), case.at("a.db-journal")).unwrap();
    drop(db);
    let before = case.bench.tree();
    let (pushed, problems) = case.push(true);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("stopped in the middle of a change"), "{problems:?}");
    let expected = [("a.db".into(), flag::SQLITE_RAW), ("a.db-journal".into(), 0)];
    assert_eq!(case.entries(&pushed), expected);
    assert_equal(&before, &case.bench.tree());
    let target = tempfile::tempdir().unwrap();
    let session = case.bench.open().unwrap();
    support::restore(&session, pushed.snapshot(), target.path());
    let restored = Connection::open(target.path().join("files/a.db")).unwrap();
    let whole = "SELECT count(*) FROM t WHERE body<>zeroblob(390)";
    assert_eq!(restored.query_row(whole, [], |row| row.get::<_, u32>(0)).unwrap(), 500);
}

#[test]
fn a_damaged_database_is_stored_flagged_and_told_if_a_check_was_asked_for() {
    let case = Case::new();
    for name in ["closed.db", "sound.db"] {
        drop(database(&case.at(name), "", 500));
    }
    let open = database(&case.at("open.db"), "PRAGMA journal_mode=WAL", 500);
    open.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    for name in ["closed.db", "open.db"] {
        let mut file = fs::OpenOptions::new().write(true).open(case.at(name)).unwrap();
        file.seek(SeekFrom::Start(20 * 4096)).unwrap();
        file.write_all(&[0xee; 4096]).unwrap();
    }
    let damaged = flag::SQLITE | flag::SQLITE_DAMAGED;
    let (pushed, problems) = case.push(true);
    let told: Vec<_> = problems.iter().map(|p| p.path.escape_ascii().to_string()).collect();
    assert_eq!(told, ["files/closed.db", "files/open.db"], "{problems:?}");
    assert!(problems.iter().all(|p| !p.notice && p.what.contains("is damaged")), "{problems:?}");
    assert_eq!(pushed.stats().problems, 2);
    let expected = [
        ("closed.db".into(), damaged),
        ("open.db".into(), damaged),
        ("sound.db".into(), flag::SQLITE),
    ];
    assert_eq!(case.entries(&pushed), expected);
    let restored = case.bench.restore(case.memory.clone(), &pushed.snapshot().id);
    let closed = std::path::Path::new("closed.db");
    assert_eq!(restored.entries[closed], case.bench.tree().entries[closed], "as it is");
}

#[test]
fn a_damaged_database_that_nobody_checks_is_stored_without_a_word() {
    let case = Case::new();
    drop(database(&case.at("a.db"), "", 500));
    let mut file = fs::OpenOptions::new().write(true).open(case.at("a.db")).unwrap();
    file.seek(SeekFrom::Start(20 * 4096)).unwrap();
    file.write_all(&[0xee; 4096]).unwrap();
    let (pushed, problems) = case.push(false);
    assert_eq!(problems, []);
    assert_eq!(case.entries(&pushed), [("a.db".into(), flag::SQLITE)]);
}

#[test]
fn a_schema_that_cannot_be_read_is_told_without_a_check() {
    let case = Case::new();
    let db = database(&case.at("a.db"), "", 50);
    db.execute_batch(
        "PRAGMA writable_schema=ON;
         INSERT INTO sqlite_schema VALUES('table','bad','bad',0,'CREATE TABLE bad(')",
    )
    .unwrap();
    drop(db);
    let before = case.bench.tree();
    let (pushed, problems) = case.push(false);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("is damaged"), "{problems:?}");
    assert_eq!(case.entries(&pushed), [("a.db".into(), flag::SQLITE | flag::SQLITE_DAMAGED)]);
    assert_equal(&before, &case.bench.restore(case.memory.clone(), &pushed.snapshot().id));
}

#[test]
fn shared_memory_is_never_stored_with_a_database_that_cannot_be_captured() {
    let case = Case::new();
    drop(database(&case.at("a.db"), "PRAGMA journal_mode=WAL", 50));
    let mut bytes = fs::read(case.at("a.db")).unwrap();
    bytes[18..100].fill(0xee); // it begins like a database, but SQLite makes no sense of it
    fs::write(case.at("a.db"), bytes).unwrap();
    fs::write(case.at("a.db-wal"), b"some log").unwrap();
    fs::write(case.at("a.db-shm"), vec![0; 32_768]).unwrap();
    let (pushed, problems) = case.push(false);
    assert!(problems.iter().any(|p| !p.notice), "{problems:?}");
    let expected = [("a.db".into(), flag::SQLITE_RAW), ("a.db-wal".into(), 0)];
    assert_eq!(case.entries(&pushed), expected, "{problems:?}");
}
