//! What the engine we replace lost, tore or stopped at, where databases or files that change while
//! they are read are concerned: one test for each defect of its list, by its number there.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::pull::{self, Overwrite, Placement, SnapshotContent};
use engine::push::{PushOptions, Pushed, push};
use engine::{Dirs, InitOptions, Session};
use repo::keys::{Kdf, SecretInput};
use repo::{OpId, Snapshot};
use rusqlite::Connection;
use store::{MemoryStore, Store};
use testkit::FaultStore;

use crate::support::{self, Bench, Ears, bench_in_memory, machine, push_while, root};

/// Stands in every row.
const CANARY: &str = "CANARY-of-a-row";

/// A database with a log that is folded in only when told, and one row for each of `rows`.
fn database(path: &Path, rows: u32) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE t(n INTEGER PRIMARY KEY, body TEXT)",
    )
    .unwrap();
    add(&db, 0..rows);
    db
}

fn add(db: &Connection, rows: std::ops::Range<u32>) {
    db.execute_batch("BEGIN").unwrap();
    for n in rows {
        let body = format!("{CANARY} {n} {}", "of some length ".repeat(20));
        db.execute("INSERT INTO t VALUES(?1, ?2)", (n, body)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// How many rows a sound database has.
fn rows(path: &Path) -> u32 {
    let db = Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

/// The rows of a database in a snapshot, read by somebody who has only the store.
fn rows_in(bench: &Bench, store: Arc<dyn Store>, id: &OpId, name: &str) -> u32 {
    let files = bench.held(store, id);
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in &files {
        fs::write(dir.path().join(Path::new(path).file_name().unwrap()), bytes).unwrap();
    }
    rows(&dir.path().join(name))
}

/// Pulls a snapshot over the source itself.
fn roll_back(bench: &Bench, session: &Session, snapshot: &Snapshot) {
    let content = SnapshotContent::open(session, snapshot).unwrap();
    let options = pull::Options {
        labels: vec![b"files".to_vec()],
        overwrite: Overwrite::Always,
        ..pull::Options::new(Placement::Each(vec![(b"files".to_vec(), bench.source())]))
    };
    let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
}

#[test]
fn d1_a_push_after_a_roll_back_holds_what_is_there_now() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let push = || bench.push(&bench.open().unwrap()).unwrap();
    let db = database(&path, 500);
    let first = push();
    add(&db, 500..900);
    drop(db);
    fs::write(bench.source().join("stable"), b"the same from here on").unwrap();
    let second = push();
    roll_back(&bench, &bench.open().unwrap(), first.snapshot());
    let db = Connection::open(&path).unwrap();
    add(&db, 500..510);
    drop(db);
    let third = push();
    for (pushed, count) in [(&first, 500), (&second, 900), (&third, 510)] {
        assert_eq!(rows_in(&bench, memory.clone(), &pushed.snapshot().id, "a.db"), count);
    }
}

#[test]
fn d2_two_machines_with_one_name_for_their_databases_keep_their_own() {
    let memory = Arc::new(MemoryStore::new());
    let bench = Bench::new(memory.clone());
    let init =
        InitOptions { passphrase: None, label: "a".into(), kdf: Kdf::for_tests(), keys_of: None };
    let store: Arc<dyn Store> = memory.clone();
    let (first, code) =
        Session::init(store.clone(), &init, &bench.dirs(), machine(), bench.clock.clone()).unwrap();
    let at = |what: &str| bench.dir.path().join(what);
    let dirs = Dirs { state: at("state-2"), cache: at("cache-2") };
    let secret = Some(SecretInput::Recovery(code));
    let second =
        Session::open(store, |_| Ok(secret), &dirs, machine(), bench.clock.clone()).unwrap();
    let sources = [at("one"), at("two")];
    for (source, count) in sources.iter().zip([300, 400]) {
        fs::create_dir(source).unwrap();
        drop(database(&source.join("a.db"), count));
    }
    let mut made = Vec::new();
    for more in [0, 7, 13] {
        for (session, (source, start)) in
            [&first, &second].into_iter().zip(sources.iter().zip([300, 400]))
        {
            let db = Connection::open(source.join("a.db")).unwrap();
            add(&db, start + 20 * more..start + 20 * more + more);
            drop(db);
            let stop = AtomicBool::new(false);
            let options = PushOptions::default();
            let pushed =
                push(session, &[root("files", source)], &options, &Ears::default(), &stop).unwrap();
            made.push((pushed.snapshot().id, rows(&source.join("a.db"))));
        }
    }
    for (id, count) in made {
        assert_eq!(rows_in(&bench, memory.clone(), &id, "a.db"), count);
    }
}

#[test]
fn d4_a_new_repository_gets_the_whole_database_whatever_was_pushed_before() {
    let (bench, _) = bench_in_memory();
    drop(database(&bench.source().join("a.db"), 500));
    bench.push(&bench.open().unwrap()).unwrap();
    let memory = Arc::new(MemoryStore::new());
    let init =
        InitOptions { passphrase: None, label: "a".into(), kdf: Kdf::for_tests(), keys_of: None };
    let (session, _) =
        Session::init(memory.clone(), &init, &bench.dirs(), machine(), bench.clock.clone())
            .unwrap();
    let pushed = bench.push(&session).unwrap();
    assert!(matches!(pushed, Pushed::Made(_)));
    assert_eq!(rows_in(&bench, memory, &pushed.snapshot().id, "a.db"), 500);
}

#[test]
fn d5_a_file_that_grows_during_the_run_is_in_the_snapshot() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("live.jsonl");
    fs::write(&path, b"{\"line\":1}\n").unwrap();
    let grow = path.clone();
    let (pushed, problems) = push_while(&bench, move || {
        let mut file = fs::OpenOptions::new().append(true).open(grow).unwrap();
        file.write_all(b"{\"line\":2}\n").unwrap();
    });
    assert_eq!(problems, []);
    let files = bench.held(memory, &pushed.snapshot().id);
    assert_eq!(files, [("files/live.jsonl".to_owned(), fs::read(path).unwrap())]);
}

#[test]
fn d6_a_restore_over_a_database_leaves_none_of_its_old_log() {
    let (bench, _) = bench_in_memory();
    let path = bench.source().join("a.db");
    drop(database(&path, 300));
    let first = bench.push(&bench.open().unwrap()).unwrap();
    // an agent that died: its last rows are in the log alone
    let live = bench.dir.path().join("live.db");
    fs::copy(&path, &live).unwrap();
    let db = Connection::open(&live).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE t SET body='v2'").unwrap();
    add(&db, 300..600);
    for suffix in ["", "-wal", "-shm"] {
        let from = format!("{}{suffix}", live.display());
        fs::copy(from, format!("{}{suffix}", path.display())).unwrap();
    }
    drop(db);
    roll_back(&bench, &bench.open().unwrap(), first.snapshot());
    for suffix in ["-wal", "-shm"] {
        let side = PathBuf::from(format!("{}{suffix}", path.display()));
        assert!(!side.exists(), "{} is from another time", side.display());
    }
    assert_eq!(rows(&path), 300);
    let db = Connection::open(&path).unwrap();
    let new: u32 =
        db.query_row("SELECT count(*) FROM t WHERE body='v2'", [], |r| r.get(0)).unwrap();
    assert_eq!(new, 0);
}

#[test]
fn d7_data_in_the_log_is_not_lost() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let db = database(&path, 1);
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    add(&db, 1..501);
    let (pushed, problems) = bench.push_heard().unwrap();
    assert_eq!(problems, []);
    let files = bench.held(memory.clone(), &pushed.snapshot().id);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["files/a.db"], "an image needs no log");
    assert_eq!(rows_in(&bench, memory, &pushed.snapshot().id, "a.db"), 501);
}

#[test]
fn d11_a_restore_never_writes_into_the_database_that_is_there() {
    let (bench, _) = bench_in_memory();
    let path = bench.source().join("a.db");
    drop(database(&path, 300));
    let first = bench.push(&bench.open().unwrap()).unwrap();
    let db = Connection::open(&path).unwrap();
    add(&db, 300..400);
    drop(db);
    // another name of the old file sees whatever is written into it
    let old = bench.dir.path().join("old.db");
    fs::hard_link(&path, &old).unwrap();
    let before = fs::read(&old).unwrap();
    roll_back(&bench, &bench.open().unwrap(), first.snapshot());
    assert!(fs::read(&old).unwrap() == before, "the old file was written into");
    assert_eq!((rows(&path), rows(&old)), (300, 400));
}

#[test]
fn f2_a_file_of_more_than_2_gib_goes_and_comes_back() {
    let (bench, _) = bench_in_memory();
    let (len, marks) = ((2 << 30) + (50 << 20), [0, (1 << 31) - 3, (2 << 30) + (50 << 20) - 7]);
    let path = bench.source().join("large");
    let file = fs::File::create(&path).unwrap();
    file.set_len(len).unwrap();
    for at in marks {
        file.write_all_at(CANARY.as_bytes().split_at(7).0, at).unwrap();
    }
    fs::write(bench.source().join("small"), "beside it").unwrap();
    let session = bench.open().unwrap();
    let pushed = bench.push(&session).unwrap();
    assert_eq!(pushed.stats().problems, 0);

    let target = tempfile::tempdir().unwrap();
    let content = SnapshotContent::open(&session, pushed.snapshot()).unwrap();
    let to = Placement::Under(target.path().to_owned());
    let labels = vec![b"files".to_vec()];
    let options = pull::Options { labels, ..pull::Options::new(to) };
    let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let back = fs::File::open(target.path().join("files/large")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), len);
    // that all is right between, the hash of the whole said before the file got its name
    for at in marks {
        let mut mark = [0; 7];
        back.read_exact_at(&mut mark, at).unwrap();
        assert_eq!(&mark, CANARY.as_bytes().split_at(7).0);
    }
    assert_eq!(fs::read(target.path().join("files/small")).unwrap(), b"beside it");
}

#[test]
fn f3_a_file_that_vanishes_aborts_nothing() {
    for name in ["a.db", "a.jsonl"] {
        let (bench, memory) = bench_in_memory();
        let gone = bench.source().join(name);
        drop(database(&gone, 50));
        drop(database(&bench.source().join("b.db"), 60));
        let (pushed, problems) = push_while(&bench, move || fs::remove_file(gone).unwrap());
        let told: Vec<&[u8]> = problems.iter().map(|p| p.path.as_slice()).collect();
        assert_eq!(told, [format!("files/{name}").as_bytes()]);
        assert_eq!(rows_in(&bench, memory, &pushed.snapshot().id, "b.db"), 60);
    }
}

#[test]
fn f4_a_locked_or_non_sqlite_db_aborts_nothing() {
    let (bench, memory) = bench_in_memory();
    let at = |name: &str| bench.source().join(name);
    drop(database(&at("a-locked.db"), 40));
    let owner = Connection::open(at("a-locked.db")).unwrap();
    owner.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    fs::write(at("b-text.db"), b"no database at all").unwrap();
    fs::write(at("c-encrypted.db"), support::text::Dice::new(5).bytes(16_384)).unwrap();
    drop(database(&at("d-sound.db"), 70));
    let ears = Ears::default();
    let options =
        PushOptions { database_wait: Duration::from_millis(25), ..PushOptions::default() };
    let session = bench.open().unwrap();
    let pushed = push(&session, &[bench.root()], &options, &ears, &AtomicBool::new(false)).unwrap();
    let problems = ears.0.into_inner().unwrap();
    let [locked] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(locked.path, b"files/a-locked.db");
    assert!(locked.what.contains("locked"), "it says what is the matter: {}", locked.what);
    let id = pushed.snapshot().id;
    assert_eq!(rows_in(&bench, memory.clone(), &id, "d-sound.db"), 70);
    let files = bench.held(memory, &id);
    for name in ["b-text.db", "c-encrypted.db"] {
        let stored = files.iter().find(|(path, _)| path.ends_with(name)).unwrap();
        assert!(stored.1 == fs::read(at(name)).unwrap(), "{name}");
    }
    drop(owner);
}

#[test]
fn f5_commits_do_not_restart_the_capture() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let db = database(&path, 30_000);
    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    let during = std::thread::scope(|scope| {
        let (stop, commits) = (&stop, &commits);
        scope.spawn(move || {
            let mut n = 30_000;
            while !stop.load(Ordering::Relaxed) {
                add(&db, n..n + 1);
                n += 1;
                commits.fetch_add(1, Ordering::SeqCst);
            }
        });
        let _stop = Stop(stop);
        while commits.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let before = commits.load(Ordering::SeqCst);
        let (pushed, problems) = bench.push_heard().unwrap();
        let during = commits.load(Ordering::SeqCst) - before;
        assert_eq!(problems, []);
        let stats = pushed.stats();
        // every page once: a first push looks at nothing twice
        assert_eq!((stats.files_read, stats.bytes_read), (1, stats.bytes), "{during} commits");
        let seen = u64::from(rows_in(&bench, memory, &pushed.snapshot().id, "a.db"));
        assert!((30_000 + before..=30_000 + before + during + 1).contains(&seen));
        during
    });
    assert!(during > 3, "only {during} commits while it was captured");
}

/// Stops a writing thread, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every file below `dir` that holds the canary.
fn plaintext_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(listing) = fs::read_dir(dir) else { return found };
    for path in listing.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(plaintext_below(&path));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn f10_a_kill_leaves_no_plaintext_copy() {
    let (bench, memory) = bench_in_memory();
    let path = bench.source().join("a.db");
    let db = database(&path, 3_000);
    // a push that dies at any of its calls leaves what is on the disk at that moment
    let dirs = bench.dirs();
    let (state, cache) = (dirs.state.clone(), dirs.cache.clone());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let watched = Arc::new(FaultStore::new(memory.clone(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        for dir in [&state, &cache] {
            assert_eq!(plaintext_below(dir), Vec::<PathBuf>::new());
        }
        None
    }));
    bench.push(&bench.open_on(watched).unwrap()).unwrap();
    assert!(calls.load(Ordering::Relaxed) > 6);
    // where SQLite must find a copy by its name there is one for a moment: the next push removes it
    let repository = fs::read_dir(dirs.state.join("repos")).unwrap().next().unwrap().unwrap();
    let capture = repository.path().join("capture");
    fs::create_dir(&capture).unwrap();
    fs::write(capture.join("clone.db"), format!("{CANARY} of a push that was killed")).unwrap();
    assert_eq!(plaintext_below(&dirs.state).len(), 1);
    add(&db, 3_000..3_010);
    bench.push(&bench.open().unwrap()).unwrap();
    assert_eq!(plaintext_below(&dirs.state), Vec::<PathBuf>::new());
}
