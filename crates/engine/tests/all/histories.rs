//! Random histories of databases against a naive copy: whatever was done to them, whatever the
//! machine forgot, every snapshot gives back the image that was captured, byte for byte.
//!
//! One seed is one history, and a failure says how to run it again. `AGENT_BACKUP_HISTORY=17`
//! runs that one; `AGENT_BACKUP_HISTORIES=60` runs so many.

mod corners;
mod large;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::pull::{self, Overwrite, Placement, SnapshotContent};
use engine::push::{PushOptions, Pushed, push};
use engine::{Dirs, InitOptions, Session, view};
use repo::keys::{Kdf, RecoveryCode, SecretInput};
use repo::{OpId, flag};
use rusqlite::{Connection, OpenFlags, params};
use store::{MemoryStore, Store};
use tempfile::TempDir;
use testkit::{Fault, FaultStore};

use crate::support::text::{Dice, Writer};
use crate::support::{Ears, TestClock, machine, root};

const HISTORIES: u64 = 300;
/// Pages and the bytes at their end that are left to extensions.
const LAYOUTS: [(u32, u8); 9] = [
    (512, 0),
    (512, 32),
    (1024, 0),
    (1024, 7),
    (4096, 0),
    (4096, 0),
    (4096, 24),
    (8192, 0),
    (65_536, 0),
];
const JOURNALS: [&str; 4] = ["WAL", "DELETE", "TRUNCATE", "PERSIST"];
/// What every database of a history is called.
const NAME: &str = "state.db";

/// Nobody watches a copy being made.
type Quiet = fn(rusqlite::backup::Progress);
/// What a push must give back: files by their names.
type Files = BTreeMap<String, Vec<u8>>;

/// A machine: its own state, cache and source.
struct Machine {
    dirs: Dirs,
    source: PathBuf,
    /// The agent has its database open.
    open: Option<Connection>,
    /// A copy of the cache at an earlier time.
    old_cache: Option<Vec<u8>>,
}

/// A snapshot and the naive copy of what it must hold.
struct Kept {
    id: OpId,
    files: Files,
    sound: bool,
}

struct World<'l> {
    dice: Dice,
    writer: Writer,
    dir: TempDir,
    memory: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    code: RecoveryCode,
    machines: Vec<Machine>,
    kept: Vec<Kept>,
    /// What was done, for whoever has to find out what went wrong.
    log: &'l Mutex<Vec<String>>,
}

/// Is this a side file that holds nothing? (A journal that begins with a zero is one.)
fn is_done_with(name: &str, bytes: &[u8]) -> bool {
    name.ends_with("-shm")
        || (name.ends_with("-wal") && bytes.is_empty())
        || (name.ends_with("-journal") && bytes.first().is_none_or(|first| *first == 0))
}

impl<'l> World<'l> {
    fn new(seed: u64, log: &'l Mutex<Vec<String>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machines: Vec<Machine> = (0..2)
            .map(|n| {
                let own = |what: &str| dir.path().join(format!("{what}-{n}"));
                let source = own("source");
                fs::create_dir(&source).unwrap();
                let dirs = Dirs { state: own("state"), cache: own("cache") };
                Machine { dirs, source, open: None, old_cache: None }
            })
            .collect();
        let memory = Arc::new(MemoryStore::new());
        // a minute ahead: no file is so new that its times say nothing
        let clock = Arc::new(TestClock(60_000_000_000.into()));
        let options = InitOptions {
            passphrase: None,
            label: "a".into(),
            kdf: Kdf::for_tests(),
            keys_of: None,
        };
        let (_, code) =
            Session::init(memory.clone(), &options, &machines[0].dirs, machine(), clock.clone())
                .unwrap();
        let (dice, writer, kept) = (Dice::new(seed), Writer::new(seed), Vec::new());
        let mut world = Self { dice, writer, dir, memory, clock, code, machines, kept, log };
        world.plant(0);
        fs::copy(world.database(0), world.database(1)).unwrap();
        world
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    fn below(&mut self, end: u64) -> u64 {
        self.dice.below(end)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn between(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    fn database(&self, n: usize) -> PathBuf {
        self.machines[n].source.join(NAME)
    }

    fn session(&self, n: usize) -> Session {
        self.session_on(self.memory.clone(), n).unwrap()
    }

    fn session_on(&self, store: Arc<dyn Store>, n: usize) -> engine::Result<Session> {
        let (secret, clock) = (SecretInput::Recovery(self.code.clone()), self.clock.clone());
        Session::open(store, |_| Ok(Some(secret)), &self.machines[n].dirs, machine(), clock)
    }

    /// A new database in the place of whatever is there.
    fn plant(&mut self, n: usize) {
        let (page_bytes, reserved) = LAYOUTS[self.below(LAYOUTS.len() as u64) as usize];
        let vacuum = self.below(3);
        self.note(format!("{n}: a new database, pages {page_bytes}-{reserved}, auto {vacuum}"));
        let path = self.dir.path().join("new.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA page_size={page_bytes}; PRAGMA auto_vacuum={vacuum}; PRAGMA user_version=1"
        ))
        .unwrap();
        drop(db);
        reserve(&path, page_bytes, reserved);
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA synchronous=OFF;
             CREATE TABLE log(id INTEGER PRIMARY KEY, name TEXT, body BLOB);
             CREATE TABLE state(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
             CREATE VIRTUAL TABLE words USING fts5(body);
             CREATE INDEX log_name ON log(name)",
        )
        .unwrap();
        let bytes = [20_000, 100_000, 300_000, 1_200_000][self.below(4) as usize];
        self.insert(&db, bytes);
        // two in five begin with a log
        let mode = ["WAL", "WAL", "DELETE", "TRUNCATE", "PERSIST"][self.below(5) as usize];
        db.execute_batch(&format!("PRAGMA journal_mode={mode}")).unwrap();
        drop(db);
        self.replace(n, &path);
    }

    /// Puts a closed database in the place of the one that is there.
    fn replace(&mut self, n: usize, by: &Path) {
        self.machines[n].open = None;
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(side_file(&self.database(n), suffix)); // it may not be there
        }
        fs::rename(by, self.database(n)).unwrap();
    }

    /// Does something with the database through the agent's connection, or one of its own.
    fn with(&mut self, n: usize, act: impl FnOnce(&mut Self, &Connection)) {
        let kept_open = self.machines[n].open.take();
        let keep = kept_open.is_some();
        let db = kept_open.unwrap_or_else(|| connect(&self.database(n)));
        act(self, &db);
        self.machines[n].open = keep.then_some(db);
    }

    fn text(&mut self, len: u64) -> Vec<u8> {
        // every other value does not compress, and looks like a page's pointers at times
        if self.one_in(2) { self.writer.lines(len as usize) } else { self.dice.bytes(len as usize) }
    }

    /// About so many bytes of rows.
    fn insert(&mut self, db: &Connection, bytes: u64) {
        db.execute_batch("BEGIN").unwrap();
        let mut done = 0;
        while done < bytes {
            let len = [30, 300, 3_000, 20_000][self.below(4) as usize];
            let len = self.below(len);
            let (name, body) = (self.below(1 << 20), self.text(len));
            db.execute(
                "INSERT INTO log(name, body) VALUES(?1, ?2)",
                params![name.cast_signed(), body],
            )
            .unwrap();
            done += len + 40;
        }
        db.execute_batch("COMMIT").unwrap();
    }

    fn rows(db: &Connection) -> u64 {
        let last = "SELECT coalesce(max(id), 0) FROM log";
        db.query_row(last, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
    }

    /// The agent works.
    fn change(&mut self, n: usize) {
        let what = self.below(22);
        self.note(format!("{n}: change {what}"));
        match what {
            0..=2 => self.with(n, |world, db| {
                let bytes = world.between(1_000..60_000);
                world.insert(db, bytes);
            }),
            3..=5 => self.with(n, Self::update),
            6 => self.with(n, Self::delete),
            7 => self.with(n, |world, db| {
                let len = world.between(60_000..400_000);
                let (id, body) = (world.below(Self::rows(db) + 3), world.text(len));
                db.execute(
                    "REPLACE INTO log VALUES(?1, 'big', ?2)",
                    params![id.cast_signed(), body],
                )
                .unwrap();
            }),
            8 => self.with(n, |world, db| {
                for _ in 0..world.between(1..40) {
                    let (key, len) = (world.below(300), world.below(2_000));
                    let value = world.text(len);
                    let key = format!("{key:0>900}");
                    db.execute("REPLACE INTO state VALUES(?1, ?2)", params![key, value]).unwrap();
                }
            }),
            9 => self.with(n, |world, db| {
                for _ in 0..world.between(1..10) {
                    let text = String::from_utf8(world.writer.lines(400)).unwrap();
                    db.execute("INSERT INTO words VALUES(?1)", [text]).unwrap();
                }
            }),
            10 => run(self, n, "INSERT INTO words(words) VALUES('optimize')"),
            11 | 12 => run(self, n, "VACUUM"),
            13 => run(self, n, "PRAGMA incremental_vacuum(20)"),
            14 => {
                let bytes = LAYOUTS[self.below(LAYOUTS.len() as u64) as usize].0;
                let vacuum = self.below(3);
                let sql = format!(
                    "PRAGMA journal_mode=DELETE; PRAGMA page_size={bytes}; \
                     PRAGMA auto_vacuum={vacuum}; VACUUM"
                );
                run(self, n, &sql);
            }
            15 => {
                let mode = JOURNALS[self.below(4) as usize];
                run(self, n, &format!("PRAGMA journal_mode={mode}"));
            }
            16 => run(self, n, "PRAGMA wal_checkpoint(TRUNCATE)"),
            17 => self.open_or_close(n),
            18 => run(self, n, "DELETE FROM log WHERE id % 9 <> 0; DELETE FROM state; VACUUM"),
            19 => {
                if self.one_in(3) {
                    self.plant(n);
                } else {
                    self.take_the_others(n);
                }
            }
            20 => self.with(n, |world, db| {
                let name = ["state.db.backup", "state.vscdb.backup"][world.below(2) as usize];
                db.backup("main", world.machines[n].source.join(name), None::<Quiet>).unwrap();
            }),
            _ => self.kill(n),
        }
    }

    fn open_or_close(&mut self, n: usize) {
        let db = connect(&self.database(n));
        let open = &mut self.machines[n].open;
        *open = if open.is_some() { None } else { Some(db) };
    }

    fn update(&mut self, db: &Connection) {
        let rows = Self::rows(db);
        db.execute_batch("BEGIN").unwrap();
        for _ in 0..self.between(1..60) {
            let (id, len) = (self.below(rows + 1), self.below(600));
            let body = self.text(len);
            db.execute("UPDATE log SET body=?2 WHERE id=?1", params![id.cast_signed(), body])
                .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }

    fn delete(&mut self, db: &Connection) {
        let from = self.below(Self::rows(db) + 1).cast_signed();
        let count = self.below(80).cast_signed();
        let sql = "DELETE FROM log WHERE id BETWEEN ?1 AND ?2";
        db.execute(sql, params![from, from + count]).unwrap();
    }

    /// The other machine's database, as it is now.
    fn take_the_others(&mut self, n: usize) {
        self.note(format!("{n}: takes the other's database"));
        let copy = self.dir.path().join("copy.db");
        self.with(1 - n, |_, db| db.backup("main", &copy, None::<Quiet>).unwrap());
        self.replace(n, &copy);
    }

    /// The agent dies: what it did last is in its log alone, which nobody folds in.
    fn kill(&mut self, n: usize) {
        self.machines[n].open = None;
        self.with(n, |world, db| {
            let mode = "PRAGMA journal_mode=WAL";
            db.query_row(mode, [], |_| Ok(())).unwrap();
            db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint=0")
                .unwrap();
            world.insert(db, 5_000);
            world.update(db);
            for suffix in ["", "-wal"] {
                let from = side_file(&world.database(n), suffix);
                fs::copy(from, side_file(&world.dir.path().join("dead.db"), suffix)).unwrap();
            }
        });
        self.replace(n, &self.dir.path().join("dead.db"));
        let log = self.dir.path().join("dead.db-wal");
        fs::rename(log, side_file(&self.database(n), "-wal")).unwrap();
    }

    /// The machine forgets something.
    fn lose(&mut self, n: usize) {
        let what = self.below(6);
        self.note(format!("{n}: loses {what}"));
        let dirs = &self.machines[n].dirs;
        let Ok(Some(Ok(dir))) = fs::read_dir(&dirs.cache).map(|mut dirs| dirs.next()) else {
            return;
        };
        let cache = dir.path().join("cache.db");
        match what {
            0 => fs::remove_dir_all(&dirs.cache).unwrap(),
            1 | 2 => self.machines[n].old_cache = fs::read(cache).ok(),
            3 => {
                if let Some(old) = &self.machines[n].old_cache {
                    fs::write(cache, old).unwrap();
                }
            }
            4 => {
                let mut bytes = fs::read(&cache).unwrap();
                for _ in 0..self.between(1..60) {
                    let at = self.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.below(8);
                }
                fs::write(cache, bytes).unwrap();
            }
            _ => {
                let repos = fs::read_dir(dirs.state.join("repos")).unwrap();
                for state in repos.map(|dir| dir.unwrap().path().join("state.json")) {
                    let _ = fs::remove_file(state); // it may be lost already
                }
            }
        }
    }

    /// What a push of this source must hold.
    fn files(&self, n: usize) -> Files {
        let (Machine { source, open, .. }, dir) = (&self.machines[n], self.dir.path());
        let mut out = Files::new();
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if ["-wal", "-shm", "-journal"].iter().any(|suffix| name.ends_with(suffix)) {
                continue;
            }
            let is_open = open.is_some() && name == NAME;
            // not through the agent's connection: its cache has pages it freed and never wrote
            let image = if is_open { image(&connect(&path)) } else { image_of(&path, dir) };
            out.insert(name, image);
        }
        out
    }

    /// Machine `by` pushes the source of machine `n`.
    fn push(&mut self, by: usize, n: usize, sound: bool) -> u64 {
        let files = self.files(n);
        let session = self.session(by);
        let options = PushOptions {
            readers: 1 + self.below(2) as usize,
            reread: self.one_in(6),
            always: self.one_in(6),
            check_databases: self.one_in(6),
            database_wait: Duration::from_millis(50),
            ..PushOptions::default()
        };
        let ears = Ears::default();
        let roots = [root("files", &self.machines[n].source)];
        let pushed = push(&session, &roots, &options, &ears, &AtomicBool::new(false)).unwrap();
        let what = if matches!(pushed, Pushed::Made(_)) { "pushed" } else { "unchanged" };
        self.note(format!("{by}: {what} {n}, sound {sound}, {}", pushed.snapshot().id));
        if sound {
            assert_eq!(*ears.0.lock().unwrap(), []);
        }
        self.kept.push(Kept { id: pushed.snapshot().id, files, sound });
        match pushed {
            Pushed::Made(snapshot) => snapshot.stats.bytes_new,
            Pushed::Unchanged(..) => 0,
        }
    }

    /// A push that dies at one of its calls: what it noted by then stays in cache and state.
    fn push_that_dies(&mut self, by: usize, n: usize) {
        let (files, last) = (self.files(n), 3 + self.below(16));
        self.note(format!("{by}: a push of {n} dies after {last} calls"));
        let dying = FaultStore::new(self.memory.clone(), move |call| {
            (call.number > last).then_some(Fault::CrashBefore)
        });
        let Ok(session) = self.session_on(Arc::new(dying), by) else { return };
        let roots = [root("files", &self.machines[n].source)];
        let (options, stop) = (PushOptions::default(), AtomicBool::new(false));
        if let Ok(pushed) = push(&session, &roots, &options, &Ears::default(), &stop) {
            self.kept.push(Kept { id: pushed.snapshot().id, files, sound: true });
        }
    }

    /// A push of a database with a page of noise, or a header that counts other bytes as reserved;
    /// then it is what it was before.
    fn push_damaged(&mut self, by: usize, n: usize) {
        self.machines[n].open = None;
        let path = self.database(n);
        run(self, n, "PRAGMA journal_mode=DELETE");
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let page_bytes = page_bytes(&good);
        let last = (bytes.len() / page_bytes).max(2) - 1;
        let at = page_bytes * (1 + self.below(last as u64) as usize);
        if self.one_in(2) && at < bytes.len() {
            let len = self.between(1..page_bytes as u64 + 1) as usize;
            bytes[at..at + len].copy_from_slice(&self.dice.bytes(len));
        } else {
            bytes[20] ^= 8;
        }
        fs::write(&path, bytes).unwrap();
        self.push(by, n, false);
        fs::write(&path, good).unwrap();
    }

    fn live(&mut self) {
        for _ in 0..self.between(3..7) {
            let n = self.below(2) as usize;
            if self.one_in(3) {
                self.note(format!("{n}: opens or closes"));
                self.open_or_close(n);
            }
            for _ in 0..self.below(5) {
                self.change(n);
            }
            // a home directory that two machines see is rare, and must do no harm
            let by = if self.one_in(5) { 1 - n } else { n };
            if self.one_in(3) {
                self.lose(by);
            }
            if self.one_in(6) {
                self.push_damaged(by, n);
            }
            if self.one_in(4) {
                self.push_that_dies(by, n);
            }
            self.push(by, n, true);
            if self.one_in(4) {
                self.lose(by);
                let new = self.push(by, n, true);
                assert_eq!(new, 0, "nothing changed, and bytes were stored again");
            }
        }
    }

    /// Every snapshot gives back the naive copy, to whoever reads it alone and to whoever restores
    /// one over the other.
    fn check(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        self.machines[0].dirs.cache = elsewhere.path().join("cache");
        let session = self.session(0);
        let target = elsewhere.path().join("target");
        let mut order: Vec<usize> = (0..self.kept.len()).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, self.dice.below(n as u64 + 1) as usize);
        }
        for Kept { id, files, sound } in order.into_iter().map(|n| &self.kept[n]) {
            let snapshot = session.snapshot(id).unwrap();
            let content = SnapshotContent::open(&session, &snapshot).unwrap();
            let options = pull::Options {
                labels: vec![b"files".to_vec()],
                overwrite: Overwrite::Always,
                delete: true,
                ..pull::Options::new(Placement::Under(target.clone()))
            };
            let report = pull::pull(&content, &options, &(), &AtomicBool::new(false)).unwrap();
            assert!(report.is_complete(), "{id}: {:?}", report.problems);
            let restored: Files = fs::read_dir(target.join("files"))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
                // beside a database that stays, a pull leaves what SQLite is done with
                .filter(|(name, bytes)| files.contains_key(name) || !is_done_with(name, bytes))
                .collect();
            let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&restored), names(files), "{id}");
            for (name, bytes) in files {
                assert!(restored[name] == *bytes, "{id}: {name} was restored as something else");
                let mut out = Vec::new();
                let path = format!("files/{name}");
                let entry = view::cat(&session, &snapshot, path.as_bytes(), &mut out).unwrap();
                assert!(out == *bytes, "{id}: {name} reads as something else");
                if *sound {
                    assert_eq!(entry.flags & !flag::SPARSE, flag::SQLITE, "{id}: {name}");
                    integrity(&target.join(&path));
                }
            }
        }
    }
}

fn run(world: &mut World<'_>, n: usize, sql: &str) {
    world.with(n, |_, db| db.execute_batch(sql).unwrap());
}

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA synchronous=OFF").unwrap();
    db
}

/// Lets an empty database leave bytes at the end of each page.
fn reserve(path: &Path, page_bytes: u32, reserved: u8) {
    if reserved > 0 {
        // one page: the header and an empty table, whose rows begin at the end
        let mut page = fs::read(path).unwrap();
        assert_eq!(page.len(), page_bytes as usize);
        page[20] = reserved;
        let end = u16::try_from(page_bytes - u32::from(reserved)).unwrap();
        page[105..107].copy_from_slice(&end.to_be_bytes());
        fs::write(path, page).unwrap();
    }
}

fn page_bytes(head: &[u8]) -> usize {
    match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        bytes => bytes.into(),
    }
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What SQLite sees of a database.
fn image(db: &Connection) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pages = db.prepare("SELECT data FROM sqlite_dbpage('main') ORDER BY pgno").unwrap();
    let mut rows = pages.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        out.extend_from_slice(row.get_ref(0).unwrap().as_blob().unwrap());
    }
    out
}

/// What SQLite sees of a database that nobody has open; it is not touched.
fn image_of(path: &Path, scratch: &Path) -> Vec<u8> {
    let log = side_file(path, "-wal");
    if !log.exists() {
        return fs::read(path).unwrap();
    }
    let copy = scratch.join("seen.db");
    fs::copy(path, &copy).unwrap();
    fs::copy(log, scratch.join("seen.db-wal")).unwrap();
    image(&Connection::open(copy).unwrap())
}

fn integrity(path: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=1", path.display());
    let db = Connection::open_with_flags(uri, flags).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
}

/// Runs one history; a failure says what was done and how to do it again.
fn history(seed: u64) {
    let log = Mutex::new(Vec::new());
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, &log);
        world.live();
        world.check();
    }));
    if lived.is_err() {
        let log = log.lock().unwrap().join("\n  ");
        panic!(
            "history {seed} (again: AGENT_BACKUP_HISTORY={seed} cargo test -p agent-backup-engine --test all histories::):\n  {log}"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not of the program")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_snapshot_of_every_history_is_what_was_captured() {
    if let Some(seed) = number("AGENT_BACKUP_HISTORY") {
        return history(seed);
    }
    let (next, end) = (AtomicU64::new(0), number("AGENT_BACKUP_HISTORIES").unwrap_or(HISTORIES));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    history(seed);
                }
            });
        }
    });
}
