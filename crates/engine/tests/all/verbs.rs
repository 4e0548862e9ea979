//! The verbs in a few words, as a program uses them that backs up one agent.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adapters::{Adapter, Env, Os};
use engine::view::Change;
use engine::{Backup, Error, Silent, capture_database};
use repo::Snapshot;
use rusqlite::Connection;
use store::MemoryStore;
use testkit::Tree;
use testkit::tree::assert_equal;

use crate::support::{Bench, bench_in_memory};

const ADAPTER: &str = r#"
    version = 1
    id = "quill"
    name = "Quill"
    running = ["a-program-that-nobody-runs"]
    [[roots]]
    label = "home"
    all = "~/.quill"
    exclude = ["cache"]
    secret_exclude = ["auth.json"]
    sqlite = ["*.db"]
"#;

struct Case {
    bench: Bench,
    _memory: Arc<MemoryStore>,
}

impl Case {
    fn new() -> Self {
        let (bench, memory) = bench_in_memory();
        let case = Self { bench, _memory: memory };
        case.write("notes.md", "first");
        case.write("auth.json", "a secret");
        case.write("cache/x", "junk");
        case
    }

    fn home(&self) -> PathBuf {
        self.bench.dir.path().join("home")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home().join(".quill").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn backup(&self) -> Backup {
        let adapter = Adapter::parse(ADAPTER, "quill.toml").unwrap();
        let env = Env { home: self.home(), vars: [].into(), os: Os::Linux };
        Backup::new(self.bench.open().unwrap(), adapter, env)
    }
}

fn ids(backup: &Backup) -> Vec<repo::OpId> {
    backup.snapshots().unwrap().iter().map(|snapshot: &Snapshot| snapshot.id).collect()
}

#[test]
fn the_verbs_of_the_library_do_what_the_commands_do() {
    let case = Case::new();
    let backup = case.backup();
    let gathered = backup.gather().unwrap();
    let names: Vec<(&[u8], u64)> = gathered.files.iter().map(|f| (&*f.path, f.size)).collect();
    assert_eq!(names, [(&b"quill/home/notes.md"[..], 5)]);
    assert_eq!(gathered.problems, []);

    let first = backup.push(&Silent).unwrap().snapshot().clone();
    case.write("notes.md", "second, longer");
    case.write("more.md", "more");
    let second = backup.push(&Silent).unwrap().snapshot().clone();
    assert_eq!(ids(&backup), [first.id, second.id]);
    assert_eq!(backup.select("latest~1").unwrap().id, first.id);

    let mut changes = Vec::new();
    let totals = backup
        .diff("latest~1", "latest", &mut |d| changes.push((d.change, d.path.to_vec())))
        .unwrap();
    assert_eq!((totals.added, totals.content, totals.removed), (1, 1, 0));
    assert!(changes.contains(&(Change::Content, b"quill/home/notes.md".to_vec())));

    // to another directory: nothing is there, so nothing is saved
    let out = case.bench.dir.path().join("out");
    let pulled = backup.pull_to(&first.id.hex(), &out, &Silent).unwrap();
    assert!(pulled.report.is_complete() && pulled.before.is_none());
    assert_eq!(fs::read_to_string(out.join("quill/home/notes.md")).unwrap(), "first");

    // in place, back and forth: what is replaced is in a snapshot first
    case.write("notes.md", "never pushed");
    let pulled = backup.pull(&first.id.hex(), &Silent).unwrap();
    assert_eq!((pulled.snapshot.id, case.read("notes.md").as_str()), (first.id, "first"));
    assert_eq!(case.read("auth.json"), "a secret");
    let before = pulled.before.unwrap();
    backup.pull(&before.id.hex(), &Silent).unwrap();
    assert_eq!(case.read("notes.md"), "never pushed");
    assert_eq!(backup.pull("latest", &Silent).unwrap().snapshot.id, second.id);
    assert_eq!(case.read("notes.md"), "second, longer");

    // to where nothing is yet
    let whole = Tree::read(&case.path("")).unwrap();
    fs::remove_dir_all(case.home()).unwrap();
    assert!(matches!(backup.push(&Silent), Err(Error::NothingToBackUp)));
    backup.pull("latest", &Silent).unwrap();
    let mut left = whole;
    left.entries.retain(|path, _| {
        !path.starts_with("cache") && !path.starts_with("auth.json") && !path.as_os_str().is_empty()
    });
    let mut there = Tree::read(&case.path("")).unwrap();
    there.entries.retain(|path, _| !path.as_os_str().is_empty());
    assert_equal(&left, &there);

    let pruned = backup.prune(1).unwrap();
    assert_eq!(pruned.forgotten.forgotten, [first.id]);
    assert!(ids(&backup).contains(&second.id) && ids(&backup).contains(&before.id));

    // one push at a time; a lock keeps it away and ends with its owner
    let lock = backup.session().lock().unwrap();
    assert!(matches!(backup.push(&Silent), Err(Error::Busy { .. })));
    drop(lock);
    backup.push(&Silent).unwrap();

    // what runs can be told to stop
    backup.stop_flag().store(true, Ordering::SeqCst);
    case.write("notes.md", "third");
    assert!(matches!(backup.push(&Silent), Err(Error::Scan(_) | Error::Cancelled)));
}

#[test]
fn a_live_database_is_copied_with_what_is_only_in_its_log_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (live, image) = (dir.path().join("live.db"), dir.path().join("image.db"));
    let db = Connection::open(&live).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);
         PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES('only in the log')",
    )
    .unwrap();
    let before = fs::read(&live).unwrap();
    fs::write(&image, "an older image").unwrap();
    let bytes = capture_database(&live, &image, Duration::from_secs(1)).unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), bytes);
    assert_eq!(fs::read(&live).unwrap(), before);
    let rows = |path: &PathBuf| {
        let copy = Connection::open(path).unwrap();
        let x: String = copy.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
        x
    };
    assert_eq!(rows(&image), "only in the log");
    // closed, and old enough that a change would show: it is read without a lock and makes no side file
    drop(db);
    let closed = dir.path().join("closed.db");
    fs::copy(&live, &closed).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().append(true).open(&closed).unwrap().set_modified(old).unwrap();
    capture_database(&closed, &image, Duration::from_secs(1)).unwrap();
    assert_eq!(rows(&image), "only in the log");
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names, ["closed.db", "image.db", "live.db"], "nothing is left over");
    // what is none is an error, and the image stays
    let text = dir.path().join("text.db");
    fs::write(&text, "no database at all").unwrap();
    assert!(capture_database(&text, &image, Duration::ZERO).is_err());
    assert_eq!(rows(&image), "only in the log");
}
