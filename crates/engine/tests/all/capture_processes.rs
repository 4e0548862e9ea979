//! Databases that another process writes to at full speed, and checkpoints, while they are pushed
//! by several names at once: the locks of our process hold, and every image is one commit.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::push::{PushOptions, push};
use repo::flag;
use rusqlite::Connection;
use store::MemoryStore;

use crate::support::{self, Bench, Ears, root};

const ROWS: i64 = 3_000;
/// Names the database to the writer.
const VARIABLE: &str = "CAPTURE_TEST_DATABASE";

/// A writer in a process of its own. It ends when it is dropped.
struct Writer {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Writer {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "capture_processes::another_process", "--ignored", "--nocapture"])
            .env(VARIABLE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        // it writes from now on
        assert!(told.any(|line| line.unwrap().contains("writing")));
        // what it says later must not fill the pipe
        std::thread::spawn(move || told.count());
        Self { child, stdin: Some(stdin) }
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success(), "the writer was stopped or saw damage");
    }
}

/// No test: the process that [`Writer`] starts. It writes until its standard input ends.
#[test]
#[ignore = "no test, the writer of the tests here, which run it: cargo test -p agent-backup-engine --test all capture_processes::"]
#[expect(clippy::disallowed_methods, reason = "how the test tells its own child")]
fn another_process() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(60)).unwrap();
    db.execute_batch("PRAGMA synchronous=OFF").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    std::thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        seen.store(true, Ordering::SeqCst);
    });
    let with_log: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    println!("writing");
    for n in ROWS.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // rows all over the file change, and the sum at its beginning says which do
        let row = n * 7919 % ROWS;
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; UPDATE t SET v=v+{n} WHERE n={row}; \
             UPDATE sum SET total=total+{n}, commits=commits+1; COMMIT"
        ))
        .unwrap();
        if with_log == "wal" && n % 50 == 0 {
            // busy while somebody reads; never while nobody's lock is lost
            db.busy_timeout(Duration::ZERO).unwrap();
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            db.busy_timeout(Duration::from_secs(60)).unwrap();
        }
    }
}

fn database(path: &Path, mode: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode={mode}; PRAGMA synchronous=OFF;
         CREATE TABLE sum(total INTEGER, commits INTEGER); INSERT INTO sum VALUES(0, 0);
         CREATE TABLE t(n INTEGER PRIMARY KEY, v INTEGER, body BLOB);
         WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n<{ROWS}-1)
         INSERT INTO t SELECT n, 0, randomblob(900) FROM c"
    ))
    .unwrap();
}

/// Commits in an image that is sound and of one moment.
fn commits(path: &Path) -> i64 {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(60)).unwrap();
    db.execute_batch("BEGIN").unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let (total, commits): (i64, i64) =
        db.query_row("SELECT total, commits FROM sum", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let sum: i64 = db.query_row("SELECT sum(v) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, total, "pages of two commits in one image");
    commits
}

fn captured_by_many_names(mode: &str) {
    let bench = Bench::new(Arc::new(MemoryStore::new()));
    bench.clock.0.store(0, Ordering::Relaxed); // the real time: writes are racy
    fs::create_dir_all(bench.source()).unwrap();
    drop(bench.init());
    let path = bench.source().join("a.db");
    database(&path, mode);
    let writer = Writer::start(&path);
    let names = ["eins", "zwei", "drei", "vier"];
    let roots = names.map(|label| root(label, &bench.source()));
    let mut last = 0;
    for _ in 0..8 {
        let ears = Ears::default();
        let options = PushOptions { readers: 4, ..PushOptions::default() };
        let session = bench.open().unwrap();
        let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
        assert_eq!(*ears.0.lock().unwrap(), []);
        let reader = repo::Reader::open(session.repo(), None).unwrap();
        reader
            .walk(&pushed.snapshot().tree, &mut |path, entry| {
                let is_file = entry.kind == repo::Kind::File;
                assert!(!is_file || entry.flags == flag::SQLITE, "{}", path.escape_ascii());
                Ok(())
            })
            .unwrap();
        let target = tempfile::tempdir().unwrap();
        support::restore(&session, pushed.snapshot(), target.path());
        for name in names {
            let now = commits(&target.path().join(name).join("a.db"));
            assert!(now >= last, "an image older than the last push");
        }
        last = commits(&path);
    }
    assert!(last > 0, "nobody wrote");
    writer.end();
    commits(&path);
    // nothing of ours is left
    let state = bench.dirs().state;
    let mut todo = vec![state];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.ends_with("capture"), "{}", path.display());
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
}

#[test]
fn a_log_that_another_process_checkpoints_is_captured_by_many_names() {
    captured_by_many_names("WAL");
}

#[test]
fn a_journal_of_another_process_is_captured_by_many_names() {
    captured_by_many_names("DELETE");
}
