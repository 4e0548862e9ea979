//! `kill -9` at random moments of pushes, while another process commits to the database that is
//! pushed. Its owner notices nothing, nothing is left lying about, and what was acknowledged is the
//! database as it was between two commits.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::desk::{Desk, end};
use crate::state::{Random, files_with};

/// Stands in every row.
const CANARY: &str = "CANARY-plaintext-of-a-row";
/// Names the database to the writer.
const VARIABLE: &str = "E2E_WRITER_OF";
/// Rows of the database: the writer removes an old one for each new one.
const ROWS: i64 = 6_000;

/// The process that commits. It ends when its standard input does.
struct Writer(Child);

impl Writer {
    fn start(database: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "live::the_writer", "--ignored", "--nocapture"]);
        command.env(VARIABLE, database).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Lets it end by itself.
    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success(), "the writer was disturbed");
    }
}

/// No test: the process that [`Writer`] starts. Commits until nobody is there any more.
#[test]
#[ignore = "the writer of the tests here: cargo test -p agent-backup --test e2e live::"]
#[expect(clippy::disallowed_methods, reason = "how the test tells its own child")]
fn the_writer() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let db = Connection::open(path).unwrap();
    // an answer from a reader that pins the log would be a disturbance
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=200").unwrap();
    let gone = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut random = Random(9);
    let mut n: i64 = db.query_row("SELECT n FROM mark", [], |row| row.get(0)).unwrap();
    while !gone.is_finished() {
        n += 1;
        put(&db, &mut random, n);
        // a busy agent, not a benchmark of this machine
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Commits row `id`. Every commit writes to the first page, to the last ones and between.
fn put(db: &Connection, random: &mut Random, id: i64) {
    let (old, any) = (id - ROWS, id - random.below(ROWS.cast_unsigned()).cast_signed());
    let body = format!("{CANARY} {id} {:?}", random.bytes(150));
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db.execute("UPDATE mark SET n = ?1, total = total + ?1", [id]).unwrap();
    db.execute("INSERT INTO t VALUES(?1, ?2)", (id, &body)).unwrap();
    db.execute("UPDATE t SET body = ?2 WHERE n = ?1", (any, &body)).unwrap();
    db.execute(
        "UPDATE mark SET total = total - ?1 WHERE EXISTS (SELECT 1 FROM t WHERE n = ?1)",
        [old],
    )
    .unwrap();
    db.execute("DELETE FROM t WHERE n = ?1", [old]).unwrap();
    db.execute_batch("COMMIT").unwrap();
}

/// The number of the last commit in a database that is sound and between two commits.
fn mark(path: &Path, flags: OpenFlags) -> i64 {
    let db = Connection::open_with_flags(path, flags).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    db.execute_batch("BEGIN").unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    let marks =
        "SELECT mark.n, mark.total, (SELECT max(n) FROM t), (SELECT sum(n) FROM t) FROM mark";
    let [n, total, last, sum] = db
        .query_row(marks, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
        .unwrap();
    assert_eq!((n, total), (last, sum), "pages of two commits: {}", path.display());
    n
}

struct World {
    desk: Desk,
    random: Random,
    source: PathBuf,
    /// Acknowledged snapshots, with the last commits before and after their push.
    acknowledged: Vec<(String, i64, i64)>,
    push_takes: Duration,
    /// Kills that came before the run had ended by itself.
    struck: u64,
}

impl World {
    fn new() -> Self {
        let mut desk = Desk::new();
        let (repo, source) = (desk.beside("repo"), desk.beside("src"));
        desk.set("AGENT_BACKUP_REPO", repo.to_str().unwrap());
        desk.ok(&["init", "--no-passphrase"]);
        fs::create_dir(&source).unwrap();
        let db = Connection::open(source.join("state.db")).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
             CREATE TABLE mark(n INTEGER, total INTEGER); INSERT INTO mark VALUES(0, 0);
             CREATE TABLE t(n INTEGER PRIMARY KEY, body TEXT)",
        )
        .unwrap();
        let mut random = Random(8);
        (1..=ROWS).for_each(|n| put(&db, &mut random, n));
        let (acknowledged, push_takes) = (Vec::new(), Duration::ZERO);
        Self { desk, random, source, acknowledged, push_takes, struck: 0 }
    }

    fn database(&self) -> PathBuf {
        self.source.join("state.db")
    }

    fn mark(&self) -> i64 {
        mark(&self.database(), OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn start(&self) -> Child {
        let path = format!("src={}", self.source.display());
        self.desk.start(&["push", "--json", "--path", &path])
    }

    /// A push that nobody disturbs.
    fn push(&mut self) {
        let (before, begun) = (self.mark(), Instant::now());
        let ran = end(self.start());
        self.push_takes = begun.elapsed();
        ran.ended(0);
        self.acknowledge(&ran.out, before);
        self.nothing_is_left();
    }

    fn acknowledge(&mut self, out: &[u8], before: i64) {
        let Ok(document) = serde_json::from_slice::<Value>(out) else { return };
        assert_eq!(document["problems"], serde_json::json!([]), "{document}");
        let id = document["snapshot"]["id"].as_str().unwrap().to_owned();
        self.acknowledged.push((id, before, self.mark()));
    }

    /// Starts a push and kills it between its beginning and a little after its end.
    fn kill(&mut self) {
        let (before, part) = (self.mark(), self.random.below(1_100));
        let mut child = self.start();
        // the moment is the point of this test; nothing depends on how long it really is
        std::thread::sleep(self.push_takes * u32::try_from(part).unwrap() / 1_000);
        self.struck += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        let ran = end(child);
        assert!(matches!(ran.code, 0 | 137), "{}: {}", ran.code, ran.err);
        self.acknowledge(&ran.out, before);
        self.no_plaintext();
        self.mark();
    }

    /// After a run that ended well.
    fn nothing_is_left(&self) {
        let listing = fs::read_dir(self.desk.repo_state()).unwrap();
        let mut names: Vec<_> =
            listing.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        let own = ["address", "done", "lock", "machine.key", "state.json"];
        assert_eq!(names, own, "in the state directory");
        let unfinished = files_with(&self.desk.beside("repo/.tmp"), b"");
        assert!(unfinished.is_empty(), "unfinished objects: {unfinished:?}");
        self.no_plaintext();
    }

    /// At any moment.
    fn no_plaintext(&self) {
        for dir in [self.desk.home(), self.desk.beside("repo")] {
            let found = files_with(&dir, CANARY.as_bytes());
            assert!(found.is_empty(), "plaintext in {found:?}");
        }
        let used: Vec<_> = fs::read_dir(self.desk.tmp()).unwrap().collect();
        assert!(used.is_empty(), "in TMPDIR: {used:?}");
    }

    /// Every snapshot, acknowledged or not, restores to the database between two commits.
    fn check(&self) {
        let listed = self.desk.snapshots();
        let target = self.desk.beside("to");
        for (id, ..) in &self.acknowledged {
            assert!(listed.contains(id), "acknowledged and gone: {id}");
        }
        for id in &listed {
            let to = target.to_str().unwrap();
            self.desk.ok(&["pull", id, "--to", to, "--delete", "--overwrite", "always"]);
            let restored = target.join("src/state.db");
            let names: Vec<_> = fs::read_dir(target.join("src")).unwrap().collect();
            assert_eq!(names.len(), 1, "{names:?}");
            let found = mark(&restored, OpenFlags::SQLITE_OPEN_READ_WRITE);
            for (_, before, after) in self.acknowledged.iter().filter(|(known, ..)| known == id) {
                assert!((*before..=*after).contains(&found), "{id}: {found} of {before}..={after}");
            }
        }
    }
}

fn killed_at(moments: u64) {
    let mut world = World::new();
    let writer = Writer::start(&world.database());
    world.push();
    for n in 0..moments {
        world.kill();
        // now and then one killed push follows another
        if n % 3 != 0 {
            world.push();
        }
    }
    world.push();
    let last = world.mark();
    writer.stop();
    assert!(
        world.mark() >= last && last > ROWS + moments.cast_signed(),
        "the writer stood still at {last}"
    );
    // its last connection folded the log in: nobody keeps it from that
    let log = world.source.join("state.db-wal");
    assert!(!log.exists() || fs::metadata(log).unwrap().len() == 0, "the log is pinned");
    world.push();
    world.check();
    let struck = world.struck;
    assert!(struck > moments / 4, "only {struck} of {moments} kills met a running process");
    // not println: that is shown for failed tests alone
    let told = format!("{struck} of {moments} kills met a running push, {last} commits\n");
    std::io::stderr().write_all(told.as_bytes()).unwrap();
}

#[test]
fn killed_while_an_agent_commits_the_database_and_what_was_acknowledged_are_whole() {
    killed_at(20);
}

#[test]
#[ignore = "minutes: cargo test -p agent-backup --test e2e -- --ignored killed_at_two_hundred"]
fn killed_at_two_hundred_moments_while_an_agent_commits() {
    killed_at(200);
}
