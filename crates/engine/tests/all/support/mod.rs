//! A repository in memory, a machine and a manual clock for tests of the verbs.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may fail where it stands; its numbers are small"
)]

pub mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use engine::pull::{self, Placement, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use engine::{Clock, Dirs, InitOptions, Machine, Monitor, Problem, Progress, Session};
use repo::keys::{Kdf, SecretInput};
use store::{MemoryStore, Store};
use testkit::Tree;

/// Includes everything.
pub struct Everything;

impl Filter for Everything {
    fn decide(&self, _: &[u8], _: bool) -> Verdict {
        Verdict::Include
    }
    fn max_file_size(&self) -> Option<u64> {
        None
    }
}

/// The real time plus whatever a test adds.
#[derive(Debug, Default)]
pub struct TestClock(pub AtomicI64);

impl Clock for TestClock {
    fn now_nanos(&self) -> i64 {
        engine::SystemClock.now_nanos() + self.0.load(Ordering::Relaxed)
    }
}

/// Keeps problems.
#[derive(Debug, Default)]
pub struct Ears(pub Mutex<Vec<Problem>>);

impl Monitor for Ears {
    fn progress(&self, _: &Progress) {}
    fn problem(&self, problem: &Problem) {
        self.0.lock().unwrap().push(problem.clone());
    }
}

/// A clock that does something when a reader is about to open its first file: everything up to that
/// file was scanned. The first two questions of a push are its start and its announcement.
struct Trap {
    asked: AtomicI64,
    spring: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trap")
    }
}

impl Clock for Trap {
    fn now_nanos(&self) -> i64 {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 2
            && let Some(spring) = self.spring.lock().unwrap().take()
        {
            spring();
        }
        engine::SystemClock.now_nanos() + 60_000_000_000
    }
}

/// Pushes, and does `act` after everything was scanned up to the first file and before that is
/// opened.
pub fn push_while(bench: &Bench, act: impl FnOnce() + Send + 'static) -> (Pushed, Vec<Problem>) {
    let trap = Trap { asked: AtomicI64::new(0), spring: Mutex::new(Some(Box::new(act))) };
    let session = open_with(bench.store.clone(), &bench.dirs(), Arc::new(trap)).unwrap();
    let options = PushOptions { readers: 1, ..PushOptions::default() };
    let ears = Ears::default();
    let pushed = push(&session, &[bench.root()], &options, &ears, &AtomicBool::new(false));
    (pushed.unwrap(), ears.0.into_inner().unwrap())
}

/// A bench with a repository in memory and an empty source.
pub fn bench_in_memory() -> (Bench, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::new());
    let bench = Bench::new(memory.clone());
    std::fs::create_dir_all(bench.source()).unwrap();
    drop(bench.init());
    (bench, memory)
}

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub store: Arc<dyn Store>,
    pub clock: Arc<TestClock>,
}

pub fn machine() -> Machine {
    Machine {
        host: "here".into(),
        user: "me".into(),
        home: PathBuf::from("/home/me"),
        os: "linux".into(),
    }
}

impl Bench {
    pub fn new(store: Arc<dyn Store>) -> Self {
        // a minute ahead: files written by a test are never within the racy moment
        let clock = Arc::new(TestClock(AtomicI64::new(60_000_000_000)));
        Self { dir: tempfile::tempdir().unwrap(), store, clock }
    }

    pub fn dirs(&self) -> Dirs {
        Dirs { state: self.dir.path().join("state"), cache: self.dir.path().join("cache") }
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn init(&self) -> Session {
        let options = InitOptions {
            passphrase: None,
            label: "here".into(),
            kdf: Kdf::for_tests(),
            keys_of: None,
        };
        Session::init(self.store.clone(), &options, &self.dirs(), machine(), self.clock.clone())
            .unwrap()
            .0
    }

    pub fn open(&self) -> engine::Result<Session> {
        self.open_on(self.store.clone())
    }

    pub fn open_on(&self, store: Arc<dyn Store>) -> engine::Result<Session> {
        open_with(store, &self.dirs(), self.clock.clone())
    }

    /// Opens the repository for reading on another machine: no cache, and no part in its faults.
    pub fn restore(&self, store: Arc<dyn Store>, id: &repo::OpId) -> Tree {
        let elsewhere = tempfile::tempdir().unwrap();
        let dirs = Dirs { state: self.dirs().state, cache: elsewhere.path().join("cache") };
        let session = open_with(store, &dirs, self.clock.clone()).unwrap();
        let snapshot = session.snapshot(id).unwrap();
        let target = elsewhere.path().join("target");
        restore(&session, &snapshot, &target);
        Tree::read(&target.join("files")).unwrap()
    }

    /// The files of a snapshot, read by a machine that has no cache.
    pub fn held(&self, store: Arc<dyn Store>, id: &repo::OpId) -> Vec<(String, Vec<u8>)> {
        let elsewhere = tempfile::tempdir().unwrap();
        let dirs = Dirs { state: self.dirs().state, cache: elsewhere.path().join("cache") };
        let session = open_with(store, &dirs, self.clock.clone()).unwrap();
        let mut files = contents(&session, &session.snapshot(id).unwrap().tree);
        files.sort();
        files
    }

    pub fn tree(&self) -> Tree {
        Tree::read(&self.source()).unwrap()
    }

    pub fn root(&self) -> PushRoot {
        root("files", &self.source())
    }

    pub fn push(&self, session: &Session) -> engine::Result<Pushed> {
        self.push_with(session, &PushOptions::default())
    }

    pub fn push_with(&self, session: &Session, options: &PushOptions) -> engine::Result<Pushed> {
        push(session, &[self.root()], options, &Ears::default(), &AtomicBool::new(false))
    }

    /// Pushes with a new session and returns what was told about single items, too.
    pub fn push_heard(&self) -> engine::Result<(Pushed, Vec<Problem>)> {
        let ears = Ears::default();
        let pushed = push(
            &self.open()?,
            &[self.root()],
            &PushOptions::default(),
            &ears,
            &AtomicBool::new(false),
        )?;
        Ok((pushed, ears.0.into_inner().unwrap()))
    }
}

pub fn open_with(
    store: Arc<dyn Store>,
    dirs: &Dirs,
    clock: Arc<dyn Clock>,
) -> engine::Result<Session> {
    let none = |_: &repo::config::Config| Ok::<Option<SecretInput>, engine::Error>(None);
    Session::open(store, none, dirs, machine(), clock)
}

/// Every file of a directory as [`contents`] gives those of its snapshot.
pub fn files_below(source: &Path) -> Vec<(String, Vec<u8>)> {
    let tree = Tree::read(source).unwrap();
    let files =
        tree.entries.iter().filter(|(_, e)| matches!(e.kind, testkit::tree::Kind::File { .. }));
    let mut out: Vec<_> = files
        .map(|(path, _)| {
            (format!("files/{}", path.display()), std::fs::read(source.join(path)).unwrap())
        })
        .collect();
    out.sort();
    out
}

/// Every block that any index names, decrypted, whether a tree reaches it or not.
pub fn everything(session: &Session) -> Vec<Vec<u8>> {
    let index = session.repo().load_index(None, false).unwrap();
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    let read = |at: &repo::Location| reader.read(&at.row.id).unwrap();
    index.blocks().iter().map(read).collect()
}

/// Pulls a whole snapshot to `target/<label>`; every problem fails the test.
pub fn restore(session: &Session, snapshot: &repo::Snapshot, target: &Path) {
    let content = SnapshotContent::open(session, snapshot).unwrap();
    let labels = snapshot.roots.iter().map(|root| root.label.as_bytes().to_vec()).collect();
    let options =
        pull::Options { labels, ..pull::Options::new(Placement::Under(target.to_owned())) };
    let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
}

pub fn root(label: &str, dir: &Path) -> PushRoot {
    PushRoot {
        scan: ScanRoot {
            label: label.into(),
            dir: dir.to_owned(),
            files: None,
            filter: Arc::new(Everything),
        },
        agent: None,
    }
}

/// Reads every file of a snapshot back: path and bytes, verified against the entry's hash.
pub fn contents(session: &Session, tree: &repo::BlockId) -> Vec<(String, Vec<u8>)> {
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    let mut out = Vec::new();
    let mut files = Vec::new();
    reader
        .walk(tree, &mut |path, entry| {
            files.push((path, entry));
            Ok(())
        })
        .unwrap();
    for (path, entry) in files {
        if entry.kind != repo::Kind::File || entry.link.is_some() {
            continue;
        }
        let mut bytes = Vec::new();
        for extent in reader.extents(&entry.map).unwrap() {
            let block = reader.read(&extent.block).unwrap();
            let mut part =
                block[extent.offset as usize..(extent.offset + extent.len) as usize].to_vec();
            if extent.pages {
                assert!(entry.pages.unwrap().undo(bytes.len() as u64, &mut part));
            }
            bytes.append(&mut part);
        }
        assert_eq!(bytes.len() as u64, entry.size, "{}", String::from_utf8_lossy(&path));
        assert_eq!(*blake3::hash(&bytes).as_bytes(), entry.hash);
        out.push((String::from_utf8(path).unwrap(), bytes));
    }
    out
}

/// A sound database of some 50 pages.
pub fn small_database(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB); BEGIN").unwrap();
    for n in 0..500_u32 {
        let body = text::Dice::new(n.into()).bytes(400);
        db.execute("INSERT INTO t VALUES(?1, ?2)", (n, body)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Spoils a page in the middle of a [`small_database`].
pub fn spoil(path: &Path) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xee; 4096], 20 * 4096).unwrap();
}
