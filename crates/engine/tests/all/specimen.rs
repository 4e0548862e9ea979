//! A small repository with one of everything, and a look at what a damaged copy of it still gives.
//!
//! The specimen: three key slots, three snapshots of a tree with every kind of entry (small files, a
//! database, a file whose map is a base with two patches), an operation that ended without a
//! snapshot, and one that died after its packs and index were there. [`Specimen::look`] opens a
//! copy, lists, walks every snapshot and reads every file: what it gets is right, or is an error.
#![allow(unreachable_pub, reason = "nothing here leaves the tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use engine::push::{PushOptions, Pushed};
use engine::{Dirs, Session};
use repo::config::{Config, Params};
use repo::keys::{self, Epoch, Kdf, Keyring, MachineKey, Note, RecoveryCode, Secret, SecretInput};
use repo::{
    BlockId, Entry, Kind, MachineId, OpId, OpKind, Operation, Reader, RepoId, Repository, Snapshot,
};
use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, Plant, Verb};

use crate::support::{Bench, machine};

/// Length of a cell of the patched file: the largest chunk, so each cell is an extent of its own.
const CELL_BYTES: usize = 2048;
/// Cells of the patched file: too many for a map in the entry.
const CELLS: usize = 300;

/// Small chunks, so that a few KB of content have maps like those of large files.
const PARAMS: Params = Params {
    chunk_bytes_min: 512,
    chunk_bytes_avg: 1024,
    chunk_bytes_max: 2048,
    block_bytes_data: 64 << 10,
    block_bytes_pages: 64 << 10,
    zstd_level: 3,
};

/// Content of regular files by stored path.
pub type Files = BTreeMap<Vec<u8>, Arc<Vec<u8>>>;

/// A snapshot and what it must give back.
pub struct Taken {
    pub snapshot: Snapshot,
    /// Every entry, in tree order, as the undamaged repository gives it.
    pub entries: Vec<(Vec<u8>, Entry)>,
    /// What was in the files at the source.
    pub files: Files,
}

pub struct Specimen {
    pub bench: Bench,
    pub store: MemoryStore,
    /// The store after the first push.
    pub early: MemoryStore,
    pub taken: Vec<Taken>,
    pub machine: SecretInput,
    pub passphrase: SecretInput,
    pub recovery: SecretInput,
    pub dead: OpId,
}

/// What a look at a store found wrong, in words; and what it could read.
#[derive(Debug, Default)]
pub struct Look {
    pub errors: Vec<String>,
    /// Ids of the snapshots in the list, if there was one.
    pub listed: Option<Vec<OpId>>,
    /// Snapshots of which every entry and byte came back.
    pub whole: usize,
}

/// A text of letters, different for each seed.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    for byte in &mut out {
        *byte = b'a' + *byte % 26;
    }
    out
}

/// The patched file: cells of one letter each; `round` changes some of them.
fn cells(round: usize) -> Vec<u8> {
    let letter = |cell: usize| match cell {
        100..=103 if round > 0 => b'x',
        200 if round > 1 => b'y',
        _ => b'a' + blake3::hash(&cell.to_le_bytes()).as_bytes()[0] % 7,
    };
    (0..CELLS).flat_map(|cell| [letter(cell); CELL_BYTES]).collect()
}

fn database(path: &Path, rows: u32) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS t(a TEXT); PRAGMA journal_mode=DELETE").unwrap();
    for n in 0..rows {
        db.execute("INSERT INTO t VALUES(?1)", [format!("row {n} of the agent's state")]).unwrap();
    }
    db.close().unwrap();
}

fn plant(source: &Path) {
    let mut plant = Plant::at(source).unwrap();
    plant.file("notes.md", text(1, 900)).unwrap();
    plant.file("deep/er/log.jsonl", text(2, 2500)).unwrap();
    plant.file("nothing", b"").unwrap();
    plant.file("cells", cells(0)).unwrap();
    plant.folder("empty").unwrap();
    plant.link("link", "notes.md").unwrap();
    plant.hard_link("twin", "notes.md").unwrap();
    plant.mode("deep/er", 0o700).unwrap();
    plant.time("deep", -5, 7).unwrap();
    plant.xattr("notes.md", "user.agent", b"claude").unwrap();
    plant.done().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), 0o600.into()).unwrap();
    drop(UnixListener::bind(source.join("socket")).unwrap());
    let holes = fs::File::create(source.join("holes")).unwrap();
    holes.set_len(32 << 10).unwrap();
    database(&source.join("state.db"), 40);
}

/// What the files below the source hold, by stored path; links and other names left out.
pub fn files_at(source: &Path) -> Files {
    let mut out = Files::new();
    let mut todo = vec![source.to_owned()];
    while let Some(dir) = todo.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                let rel = path.strip_prefix(source).unwrap().as_os_str().as_encoded_bytes();
                out.insert([b"files/", rel].concat(), Arc::new(fs::read(&path).unwrap()));
            }
        }
    }
    out
}

pub fn is_damage(error: &repo::Error) -> bool {
    use repo::Error as E;
    matches!(error, E::Corrupt { .. } | E::Missing { .. } | E::TooNew { .. } | E::WrongKey { .. })
}

impl Specimen {
    /// Specimens of the same seed have the same keys, so their trees and cuts are the same.
    pub fn new(seed: u8) -> Self {
        let store = MemoryStore::new();
        let bench = Bench::new(Arc::new(store.clone()));
        let (machine, passphrase, recovery) = create(&bench, seed);
        plant(&bench.source());
        let mut specimen = Self {
            bench,
            early: MemoryStore::new(),
            store,
            taken: Vec::new(),
            machine,
            passphrase,
            recovery,
            dead: OpId([0; 16]),
        };
        specimen.push_all();
        specimen
    }

    fn push_all(&mut self) {
        let source = self.bench.source();
        self.take();
        self.early = self.store.fork();
        // nothing changed, but every file is read: an operation that ends without a snapshot
        let session = self.bench.open().unwrap();
        let reread = PushOptions { reread: true, ..one_thread() };
        let pushed = self.bench.push_with(&session, &reread).unwrap();
        assert!(matches!(pushed, Pushed::Unchanged(..)));
        drop(session);
        fs::write(source.join("cells"), cells(1)).unwrap();
        self.take();
        // one that dies with its packs and its index written; the next push builds on them
        fs::write(source.join("cells"), cells(2)).unwrap();
        fs::write(source.join("new.md"), text(3, 1500)).unwrap();
        let dies = FaultStore::new(Arc::new(self.store.clone()), |call| {
            let commits = call.verb == Verb::Put && call.name.starts_with("snap/");
            commits.then_some(Fault::Fail(Failure::Unavailable))
        });
        let session = self.bench.open_on(Arc::new(dies)).unwrap();
        self.bench.push_with(&session, &one_thread()).unwrap_err();
        drop(session);
        fs::write(source.join("deep/er/log.jsonl"), [text(2, 2500), text(4, 700)].concat())
            .unwrap();
        self.take();
        let dead: Vec<_> = self.store.list("dead/").unwrap();
        self.dead = OpId::from_hex(dead[0].name.strip_prefix("dead/").unwrap()).unwrap();
    }

    fn take(&mut self) {
        let session = self.bench.open().unwrap();
        let pushed = self.bench.push_with(&session, &one_thread()).unwrap();
        let Pushed::Made(snapshot) = pushed else { panic!("something changed") };
        let reader = Reader::open(session.repo(), None).unwrap();
        let mut entries = Vec::new();
        let all = |path, entry| {
            entries.push((path, entry));
            Ok(())
        };
        reader.walk(&snapshot.tree, &mut { all }).unwrap();
        self.taken.push(Taken {
            snapshot: *snapshot,
            entries,
            files: files_at(&self.bench.source()),
        });
    }

    pub fn names(&self) -> Vec<String> {
        self.store.list("").unwrap().into_iter().map(|item| item.name).collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.store.get(name).unwrap().to_vec()
    }

    /// A copy in which one object holds other bytes, or is gone.
    pub fn with(&self, name: &str, bytes: Option<Vec<u8>>) -> MemoryStore {
        let copy = self.store.fork();
        match bytes {
            Some(bytes) => copy.put(name, vec![bytes.into()]).unwrap(),
            None => copy.delete(name).unwrap(),
        }
        copy
    }

    /// Opens a copy with one of the secrets.
    pub fn open(store: MemoryStore, secret: &SecretInput) -> repo::Result<Repository> {
        let config = Repository::read_config(&store)?;
        let (keyring, _) = keys::open_any(&store, &config.repo, secret)?;
        Repository::open(Arc::new(store), config, keyring)
    }

    /// Lists, walks and reads everything in a copy. Panics on a wrong byte, a wrong entry, or an
    /// error that is not about damage.
    pub fn look(&self, store: MemoryStore, told: &str) -> Look {
        let mut look = Look::default();
        let repo = match Self::open(store, &self.machine) {
            Ok(repo) => repo,
            Err(error) => {
                let gone = matches!(error, repo::Error::NoRepository { .. });
                assert!(gone || is_damage(&error), "{told}: {error}");
                look.errors.push(error.to_string());
                return look;
            }
        };
        match repo.snapshots(None) {
            Ok(list) => look.listed = Some(list.iter().map(|s| s.id).collect()),
            Err(error) => look.note("the list", &error, told),
        }
        let reader = match Reader::open(&repo, None) {
            Ok(reader) => reader,
            Err(error) => {
                look.note("the index", &error, told);
                return look;
            }
        };
        let mut blocks = HashMap::new();
        for taken in &self.taken {
            let before = look.errors.len();
            look.read(&repo, &reader, taken, &mut blocks, told);
            look.whole += usize::from(look.errors.len() == before);
        }
        look
    }

    /// Blocks of the index and how many places each has: offset and length by pack.
    pub fn reachable(&self) -> BTreeMap<String, Vec<(u64, u64, bool)>> {
        let repo = Self::open(self.store.clone(), &self.machine).unwrap();
        let index = repo.load_index(None, false).unwrap();
        let used = self.used_blocks(&repo);
        let mut out: BTreeMap<String, Vec<(u64, u64, bool)>> = BTreeMap::new();
        for at in index.blocks() {
            let places: Vec<_> = index.places(&at.row.id).collect();
            for place in &places {
                let needed = places.len() == 1 && used.contains(&place.row.id);
                let range = place.range();
                out.entry(place.pack.object_name()).or_default().push((
                    range.start,
                    range.end,
                    needed,
                ));
            }
        }
        out
    }

    /// Every block that a restore of all snapshots reads.
    fn used_blocks(&self, repo: &Repository) -> BTreeSet<BlockId> {
        let reader = Reader::open(repo, None).unwrap();
        let mut used = BTreeSet::new();
        for taken in &self.taken {
            for (_, entry) in &taken.entries {
                used.extend(entry.map.own_blocks());
                used.extend(reader.extents(&entry.map).unwrap().iter().map(|e| e.block));
            }
        }
        used.extend(self.taken.iter().flat_map(|taken| nodes(&reader, taken.snapshot.tree)));
        used
    }

    /// What only older snapshots need and no live file says any more: their nodes, which name older
    /// states of files, and the base of the patched file's map, which names cells that are gone.
    pub fn of_the_past(&self) -> BTreeSet<BlockId> {
        let repo = Self::open(self.store.fork(), &self.machine).unwrap();
        let reader = Reader::open(&repo, None).unwrap();
        let [older @ .., newest] = self.taken.as_slice() else { panic!("there are snapshots") };
        let mut past: BTreeSet<BlockId> =
            older.iter().flat_map(|taken| nodes(&reader, taken.snapshot.tree)).collect();
        for node in nodes(&reader, newest.snapshot.tree) {
            past.remove(&node);
        }
        past.extend(newest.entries.iter().filter_map(|(_, entry)| entry.map.base));
        past
    }

    /// Directories of a client that has seen everything: copies of the state and, if `cached`, of
    /// the cache.
    pub fn client(&self, at: &Path, cached: bool) -> Dirs {
        let dirs = Dirs { state: at.join("state"), cache: at.join("cache") };
        copy_tree(&self.bench.dirs().state, &dirs.state);
        if cached {
            copy_tree(&self.bench.dirs().cache, &dirs.cache);
        }
        dirs
    }

    pub fn session(&self, store: MemoryStore, dirs: &Dirs) -> engine::Result<Session> {
        let none = |_: &Config| Ok::<Option<SecretInput>, engine::Error>(None);
        Session::open(Arc::new(store), none, dirs, machine(), self.bench.clock.clone())
    }
}

impl Look {
    fn note(&mut self, what: &str, error: &repo::Error, told: &str) {
        assert!(is_damage(error), "{told}: {what}: {error}");
        let text = format!("{what}: {error}");
        // whoever reads it knows where to look
        let named = ["block ", "/", "config", "content map"].iter().any(|part| text.contains(part));
        assert!(named, "{told}: nothing is named: {text}");
        self.errors.push(text);
    }

    fn read(
        &mut self,
        repo: &Repository,
        reader: &Reader<'_>,
        taken: &Taken,
        blocks: &mut HashMap<BlockId, Result<Arc<Vec<u8>>, ()>>,
        told: &str,
    ) {
        match repo.snapshot(None, &taken.snapshot.id) {
            Ok((snapshot, _)) => assert!(snapshot == taken.snapshot, "{told}: another snapshot"),
            Err(error) => return self.note("a snapshot", &error, told),
        }
        let mut seen = 0;
        let walked = reader.walk(&taken.snapshot.tree, &mut |path, entry| {
            let known = taken.entries.get(seen);
            assert!(known.is_some_and(|k| k.0 == path && k.1 == entry), "{told}: a wrong entry");
            seen += 1;
            Ok(())
        });
        match walked {
            Ok(()) => assert_eq!(seen, taken.entries.len(), "{told}: entries are missing"),
            Err(error) => self.note("the tree", &error, told),
        }
        for (path, entry) in taken.entries[..seen].iter().filter(|(_, e)| e.kind == Kind::File) {
            if entry.link.is_some() {
                continue;
            }
            let name = path.escape_ascii().to_string();
            match read_file(reader, entry, blocks) {
                Ok(Some(bytes)) => {
                    let right = **taken.files[path] == *bytes;
                    assert!(right, "{told}: {name}: wrong bytes, and no error");
                }
                Ok(None) => self.errors.push(format!("{name}: a block that failed before")),
                Err(error) => self.note(&name, &error, told),
            }
        }
    }
}

/// Every node of a tree.
fn nodes(reader: &Reader<'_>, root: BlockId) -> BTreeSet<BlockId> {
    let (mut all, mut left) = (BTreeSet::new(), vec![root]);
    while let Some(node) = left.pop() {
        if all.insert(node) {
            left.extend(children(&reader.read(&node).unwrap()));
        }
    }
    all
}

/// The children that an inner node names; see the table in `docs/FORMAT.md`, section 14.
fn children(node: &[u8]) -> Vec<BlockId> {
    let [1, level, rest @ ..] = node else { panic!("a node of version 1") };
    if *level == 0 {
        return Vec::new();
    }
    let mut rest = rest;
    let mut varint = |skip: usize| {
        rest = &rest[skip..];
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first().unwrap();
            value |= u64::from(byte & 0x7f) << shift;
            rest = after;
            if byte & 0x80 == 0 {
                break;
            }
        }
        (usize::try_from(value).unwrap(), rest)
    };
    let (count, _) = varint(0);
    let mut out = Vec::new();
    for _ in 0..count {
        varint(0); // shared with the path before
        let (path_bytes, rest) = varint(0);
        out.push(BlockId::from_slice(&rest[path_bytes..path_bytes + BlockId::LEN]).unwrap());
        varint(path_bytes + BlockId::LEN); // entries below
        varint(0); // bytes below
    }
    out
}

/// Reads a file; `None` if one of its blocks failed for another file already.
pub fn read_file(
    reader: &Reader<'_>,
    entry: &Entry,
    blocks: &mut HashMap<BlockId, Result<Arc<Vec<u8>>, ()>>,
) -> repo::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    for extent in reader.extents(&entry.map)? {
        let plain = match blocks.get(&extent.block) {
            Some(Ok(plain)) => plain.clone(),
            Some(Err(())) => return Ok(None),
            None => match reader.read(&extent.block) {
                Ok(plain) => {
                    let plain = Arc::new(plain);
                    blocks.insert(extent.block, Ok(plain.clone()));
                    plain
                }
                Err(error) => {
                    blocks.insert(extent.block, Err(()));
                    return Err(error);
                }
            },
        };
        let range = extent.offset as usize..(extent.offset + extent.len) as usize;
        out.extend_from_slice(&plain[range]);
    }
    Ok(Some(out))
}

/// A repository with three slots and small chunks, as `init` makes one.
fn create(bench: &Bench, seed: u8) -> (SecretInput, SecretInput, SecretInput) {
    let secret = |n: u8| Secret::new([seed ^ n; 32]);
    let keyring = Keyring {
        ids: secret(1),
        chunker: secret(2),
        control: secret(3),
        epochs: vec![Epoch { meta: secret(4), data: secret(5) }],
    };
    let config = Config::new(RepoId([seed; 16]), PARAMS, 1_700_000_000).unwrap();
    bench.store.put("config", vec![config.encode(&keyring).into()]).unwrap();
    let config = Repository::read_config(bench.store.as_ref()).unwrap();
    let repo = Repository::open(bench.store.clone(), config, keyring).unwrap();
    let key = MachineKey::random(*repo.id());
    let path = bench.dirs().state.join("repos").join(repo.id().hex()).join("machine.key");
    key.write(&path).unwrap();
    let machine = SecretInput::Machine(key);
    let passphrase = SecretInput::Passphrase("correct horse".to_owned().into());
    let recovery = SecretInput::Recovery(RecoveryCode::random());
    let note = Note { label: "here".into(), created_secs: 1_700_000_000 };
    for secret in [&machine, &passphrase, &recovery] {
        let keyring = repo.keys().keyring();
        keys::add(repo.store(), repo.id(), keyring, secret, &note, Kdf::for_tests()).unwrap();
    }
    (machine, passphrase, recovery)
}

/// A push whose blocks do not depend on which thread was faster.
pub fn one_thread() -> PushOptions {
    PushOptions { readers: 1, sealers: 1, uploads: 1, ..PushOptions::default() }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let place = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &place);
        } else {
            fs::copy(item.path(), place).unwrap();
        }
    }
}

/// An operation of another machine that beats once: the object before and after.
pub fn heartbeat(repo: &Repository) -> (String, Vec<u8>) {
    let id = OpId::random();
    let op = Operation::announce(repo, id, OpKind::Push, MachineId([9; 16]), 1_000).unwrap();
    let name = format!("op/{id}");
    let before = repo.store().get(&name).unwrap().to_vec();
    op.beat(10_000).unwrap();
    assert!(repo.store().get(&name).unwrap() != before, "a heartbeat rewrites the object");
    (name, before)
}
