//! SQLite databases, live, closed, killed and broken: the image is consistent, the source is left
//! as it was, and what cannot be captured is copied as it lies and told.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use engine::Problem;
use engine::push::{PushOptions, Pushed, push};
use repo::flag;
use rusqlite::Connection;
use store::MemoryStore;
use testkit::tree::assert_equal;

use crate::support::text::Dice;
use crate::support::{self, Bench, Ears, bench_in_memory};

/// Pushes without waiting long for locks.
fn push_now(bench: &Bench) -> (Pushed, Vec<Problem>) {
    let ears = Ears::default();
    let options =
        PushOptions { database_wait: Duration::from_millis(50), ..PushOptions::default() };
    let session = bench.open().unwrap();
    let pushed = push(&session, &[bench.root()], &options, &ears, &AtomicBool::new(false));
    (pushed.unwrap(), ears.0.into_inner().unwrap())
}

/// A database with `pragmas` and `rows` rows, open.
fn database(path: &Path, pragmas: &str, rows: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch("CREATE TABLE first(n INTEGER)").unwrap();
    db.execute("INSERT INTO first VALUES(?1)", [rows]).unwrap();
    db.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB)").unwrap();
    add(&db, 0..rows);
    db
}

fn add(db: &Connection, rows: std::ops::Range<u32>) {
    db.execute_batch("BEGIN").unwrap();
    for n in rows {
        let body = Dice::new(n.into()).bytes(400);
        db.execute("INSERT INTO t VALUES(?1, ?2)", (n, body)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Names and flags of the files in a snapshot.
fn entries(bench: &Bench, pushed: &Pushed) -> Vec<(String, u32)> {
    let session = bench.open().unwrap();
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    let mut out = Vec::new();
    reader
        .walk(&pushed.snapshot().tree, &mut |path, entry| {
            if entry.kind == repo::Kind::File {
                let kept = entry.flags & (flag::SQLITE | flag::SQLITE_RAW);
                out.push((String::from_utf8_lossy(&path).into_owned(), kept));
            }
            Ok(())
        })
        .unwrap();
    out
}

/// Writes the snapshot's files to a fresh directory.
fn unpack(
    bench: &Bench,
    memory: &Arc<MemoryStore>,
    pushed: &Pushed,
) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in bench.held(memory.clone(), &pushed.snapshot().id) {
        fs::write(dir.path().join(name.strip_prefix("files/").unwrap()), bytes).unwrap();
    }
    let path = dir.path().join("a.db");
    (dir, path)
}

/// The rows of a sound database are 0, 1, 2 ... without a gap; how many there are.
fn sound_rows(path: &Path) -> u32 {
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let (count, last): (u32, Option<u32>) =
        db.query_row("SELECT count(*), max(n) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(last.map_or(0, |n| n + 1), count, "some commits are missing in the middle");
    count
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Captures a database that somebody commits to all the time.
fn captured_live(pragmas: &str) {
    let (bench, memory) = bench_in_memory();
    bench.clock.0.store(0, Ordering::Relaxed); // the real time: writes are racy
    let path = bench.source().join("a.db");
    let db = database(&path, pragmas, 3_000);
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    // each commit also writes to the first pages and to the last ones: a torn image shows
    db.execute_batch("CREATE TABLE last(n INTEGER); INSERT INTO last VALUES(3000)").unwrap();
    let (stop, committed) = (AtomicBool::new(false), AtomicI64::new(3_000));
    std::thread::scope(|scope| {
        let (stop_seen, committed) = (&stop, &committed);
        scope.spawn(move || {
            for n in 3_000..9_000_u32 {
                if stop_seen.load(Ordering::Relaxed) {
                    break;
                }
                let step = format!(
                    "BEGIN; UPDATE first SET n={n}+1; INSERT INTO t VALUES({n}, zeroblob(400)); \
                     UPDATE last SET n={n}+1; COMMIT"
                );
                db.execute_batch(&step).unwrap();
                committed.store(i64::from(n) + 1, Ordering::SeqCst);
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..4 {
            let before = committed.load(Ordering::SeqCst);
            let ears = Ears::default();
            let session = bench.open().unwrap();
            let pushed = push(
                &session,
                &[bench.root()],
                &PushOptions::default(),
                &ears,
                &AtomicBool::new(false),
            )
            .unwrap();
            assert_eq!(*ears.0.lock().unwrap(), []);
            assert_eq!(entries(&bench, &pushed), [("files/a.db".into(), flag::SQLITE)]);
            let (_dir, image) = unpack(&bench, &memory, &pushed);
            let rows = i64::from(sound_rows(&image));
            let db = Connection::open(&image).unwrap();
            let marks = "SELECT first.n, last.n FROM first, last";
            let marks: (i64, i64) =
                db.query_row(marks, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
            assert_eq!(marks, (rows, rows), "pages of two commits in one image");
            assert!((before..=committed.load(Ordering::SeqCst) + 1).contains(&rows));
        }
    });
}

#[test]
fn a_database_with_a_log_is_captured_while_somebody_commits() {
    captured_live("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF");
}

#[test]
fn a_database_with_a_journal_is_captured_while_somebody_commits() {
    captured_live("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF");
}

#[test]
fn a_closed_database_is_not_touched() {
    for mode in ["WAL", "DELETE"] {
        let (bench, memory) = bench_in_memory();
        let path = bench.source().join("a.db");
        drop(database(&path, &format!("PRAGMA journal_mode={mode}"), 500));
        let before = bench.tree();
        let (pushed, problems) = push_now(&bench);
        assert_eq!(problems, []);
        assert_equal(&before, &bench.tree());
        assert_equal(&before, &bench.restore(memory.clone(), &pushed.snapshot().id));
        let atime = fs::metadata(&path).unwrap().ino();
        let (again, _) = push_now(&bench);
        assert!(matches!(again, Pushed::Unchanged(..)));
        assert_eq!(fs::metadata(&path).unwrap().ino(), atime);
    }
}

#[test]
fn what_a_killed_process_left_in_its_log_is_in_the_image() {
    let (bench, memory) = bench_in_memory();
    // a copy of a live database with its log is what a kill leaves
    let live = bench.dir.path().join("live.db");
    let db = database(&live, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 100);
    add(&db, 100..140);
    fs::copy(&live, bench.source().join("a.db")).unwrap();
    fs::copy(bench.dir.path().join("live.db-wal"), bench.source().join("a.db-wal")).unwrap();
    drop(db);
    // names between a database and its log in tree order do not part them
    fs::create_dir(bench.source().join("a.db-backup")).unwrap();
    drop(database(&bench.source().join("a.db-backup/other.db"), "", 3));
    let log_before = fs::read(bench.source().join("a.db-wal")).unwrap();
    let (pushed, problems) = push_now(&bench);
    assert_eq!(problems, []);
    let names: Vec<String> = entries(&bench, &pushed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["files/a.db", "files/a.db-backup/other.db"]);
    assert!(fs::read(bench.source().join("a.db-wal")).unwrap() == log_before);
    let target = tempfile::tempdir().unwrap();
    let session = bench.open().unwrap();
    support::restore(&session, pushed.snapshot(), target.path());
    assert_eq!(sound_rows(&target.path().join("files/a.db")), 140);
    drop(memory);
}

#[test]
fn databases_of_every_shape_come_back_byte_for_byte() {
    let (bench, memory) = bench_in_memory();
    for bits in 9..=16 {
        let size = 1 << bits;
        let path = bench.source().join(format!("{size}.db"));
        drop(database(&path, &format!("PRAGMA page_size={size}"), 200));
    }
    let path = bench.source().join("vacuum.db");
    let db = database(&path, "PRAGMA auto_vacuum=INCREMENTAL", 300);
    db.execute_batch("DELETE FROM t WHERE n%3=0; CREATE TABLE w(k TEXT PRIMARY KEY) WITHOUT ROWID")
        .unwrap();
    drop(db);
    let before = bench.tree();
    let (pushed, problems) = push_now(&bench);
    assert_eq!(problems, []);
    assert!(entries(&bench, &pushed).iter().all(|(_, flags)| *flags == flag::SQLITE));
    assert_equal(&before, &bench.restore(memory, &pushed.snapshot().id));
}

#[test]
fn broken_databases_are_copied_as_they_lie() {
    let (bench, memory) = bench_in_memory();
    let whole = bench.dir.path().join("whole.db");
    drop(database(&whole, "", 300));
    let bytes = fs::read(&whole).unwrap();
    let mut header = bytes.clone();
    header[18..100].fill(0xee);
    let at = |name: &str| bench.source().join(name);
    fs::write(at("a-header.db"), header).unwrap();
    fs::write(at("b-truncated.db"), &bytes[..bytes.len() / 8192 * 4096]).unwrap();
    fs::write(at("c-cut-in-a-page.db"), &bytes[..5_000]).unwrap();
    fs::write(at("d-empty.db"), b"").unwrap();
    fs::write(at("e-noise.db"), Dice::new(41).bytes(8_192)).unwrap();
    let before = bench.tree();
    let (pushed, problems) = push_now(&bench);
    let told: Vec<&[u8]> = problems.iter().map(|p| p.path.as_slice()).collect();
    assert!(told.contains(&&b"files/a-header.db"[..]), "{problems:?}");
    assert!(told.contains(&&b"files/b-truncated.db"[..]), "{problems:?}");
    let flags = entries(&bench, &pushed);
    assert_eq!(flags[0].1, flag::SQLITE_RAW);
    assert_eq!(flags[3].1, 0);
    assert_eq!(flags[4].1, 0);
    assert_equal(&before, &bench.restore(memory, &pushed.snapshot().id));
}

#[test]
fn a_locked_database_is_copied_with_its_log_and_captured_once_it_is_free() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let exclusive = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; \
                     PRAGMA wal_autocheckpoint=0";
    let db = database(&path, exclusive, 50);
    let (pushed, problems) = push_now(&bench);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("as it lay"), "{problems:?}");
    let expected = [("files/a.db".into(), flag::SQLITE_RAW), ("files/a.db-wal".into(), 0)];
    assert_eq!(entries(&bench, &pushed), expected);
    let (_dir, image) = unpack(&bench, &memory, &pushed);
    assert_eq!(sound_rows(&image), 50, "commits that are only in the log are not lost");
    add(&db, 50..60);
    // free, and not written since
    let (_, problems) = push_now(&bench);
    assert_eq!(problems.len(), 1);
    drop(db);
    let (pushed, problems) = push_now(&bench);
    assert_eq!(problems, []);
    assert_eq!(entries(&bench, &pushed), [("files/a.db".into(), flag::SQLITE)]);
    let (_dir, image) = unpack(&bench, &memory, &pushed);
    assert_eq!(sound_rows(&image), 60);
}

/// A log beside it would be played into it.
#[test]
fn what_was_copied_as_it_lay_comes_back_without_the_log_that_lies_there_now() {
    let (bench, _memory) = bench_in_memory();
    let scratch = bench.dir.path();
    let wal = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0";
    drop(database(&scratch.join("whole.db"), wal, 300));
    let mut bytes = fs::read(scratch.join("whole.db")).unwrap();
    bytes.truncate(bytes.len() / 8192 * 4096);
    fs::write(bench.source().join("a.db"), &bytes).unwrap();
    let (pushed, _) = push_now(&bench);
    assert_eq!(entries(&bench, &pushed), [("files/a.db".into(), flag::SQLITE_RAW)]);

    let session = bench.open().unwrap();
    let target = tempfile::tempdir().unwrap();
    let there = |name: &str| target.path().join("files").join(name);
    for same in [false, true] {
        // a later one of somebody who was killed; then its log alone, beside the very bytes
        let db = database(&scratch.join(format!("live-{same}.db")), wal, 40);
        fs::create_dir_all(there("")).unwrap();
        let live = |side: &str| fs::read(scratch.join(format!("live-{same}.db{side}"))).unwrap();
        fs::write(there("a.db"), if same { bytes.clone() } else { live("") }).unwrap();
        fs::write(there("a.db-wal"), live("-wal")).unwrap();
        drop(db);
        support::restore(&session, pushed.snapshot(), target.path());
        assert!(fs::read(there("a.db")).unwrap() == bytes, "{same}");
        assert!(!there("a.db-wal").exists(), "{same}");
    }
}

#[test]
fn only_what_changed_is_read_and_only_changed_pages_travel() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let db = database(&path, "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0", 45_000);
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let (_, problems) = push_now(&bench);
    assert_eq!(problems, []);
    assert!(matches!(push_now(&bench).0, Pushed::Unchanged(..)), "not read again");

    let main_before = fs::metadata(&path).unwrap();
    for n in 0..20 {
        db.execute("UPDATE t SET body=randomblob(400) WHERE n=?1", [n * 2_000]).unwrap();
    }
    let main_after = fs::metadata(&path).unwrap();
    assert_eq!(main_before.mtime_nsec(), main_after.mtime_nsec(), "the change is in the log alone");
    let (pushed, problems) = push_now(&bench);
    assert_eq!(problems, []);
    let stats = pushed.stats();
    assert!(stats.files_read == 1 && stats.bytes_read > 15 << 20, "{stats:?}");
    // 20 leaves of 4 KiB and page 1
    assert!((20..=22).contains(&(stats.bytes_new / 4096)), "{stats:?}");
    assert!(stats.bytes_stored < 160 << 10, "{stats:?}");
    let (_dir, image) = unpack(&bench, &memory, &pushed);
    assert_eq!(sound_rows(&image), 45_000);
}
