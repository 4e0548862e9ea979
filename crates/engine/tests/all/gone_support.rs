//! A machine with an agent that deletes its own history, for tests of what stays of it.
#![allow(unreachable_pub, reason = "nothing here leaves the tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use engine::forget::{self, Policy, Request};
use engine::gone::{MissingRoots, Since};
use engine::pull::{self, Placement, SnapshotContent};
use engine::push::{PushOptions, PushRoot, Pushed, push};
use engine::scan::{Filter, ScanRoot, Verdict};
use engine::{Clock as _, Problem, Session, gc, view};
use jiff::tz::TimeZone;
use repo::{OpId, Snapshot};
use store::{MemoryStore, Store};

use crate::support::text::Writer;
use crate::support::{self, Bench, Ears, TestClock};

pub const DAY: i64 = 24 * 3600 * 1_000_000_000;
pub const LABEL: &str = "claude-code/home";

/// An agent that deletes what is in `sessions` by itself. What is called `private` is left out.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    pub excluded: Option<&'static str>,
}

impl Filter for Agent {
    fn decide(&self, rel: &[u8], _: bool) -> Verdict {
        let name = self.excluded.map(str::as_bytes);
        if name.is_some_and(|name| rel.split(|b| *b == b'/').any(|part| part == name)) {
            return Verdict::Skip;
        }
        if rel.ends_with(b".db") { Verdict::Sqlite } else { Verdict::Include }
    }
    fn max_file_size(&self) -> Option<u64> {
        None
    }
    fn volatile(&self, rel: &[u8]) -> bool {
        rel.starts_with(b"sessions/")
    }
}

#[derive(Debug)]
pub struct Known;

impl MissingRoots for Known {
    fn filter(&self, agent: &str, _: &str) -> Option<Arc<dyn Filter>> {
        (agent == "claude-code").then(|| Arc::new(Agent::default()) as Arc<dyn Filter>)
    }
}

/// A machine, a store with a clock, and an agent's directory.
pub struct World {
    pub bench: Bench,
    pub store: Arc<MemoryStore>,
    pub store_clock: Arc<TestClock>,
    pub agent: Agent,
    pub options: PushOptions,
}

impl World {
    pub fn empty() -> Self {
        let store_clock = Arc::new(TestClock(AtomicI64::new(0)));
        let clock = Arc::clone(&store_clock);
        let store = Arc::new(MemoryStore::with_clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_nanos(clock.now_nanos().unsigned_abs())
        }));
        let bench = Bench::new(store.clone());
        fs::create_dir_all(bench.source().join("sessions")).unwrap();
        // one reader: what shares a block does not depend on who is first
        let options = PushOptions { readers: 1, ..PushOptions::default() };
        let agent = Agent::default();
        Self { bench, store, store_clock, agent, options }
    }

    pub fn new() -> Self {
        let world = Self::empty();
        drop(world.bench.init());
        world
    }

    /// Another one whose repository has the same keys, so that it cuts nodes where this one does.
    pub fn twin(&self) -> Self {
        let world = Self::empty();
        let options = engine::InitOptions {
            passphrase: None,
            label: "here".into(),
            kdf: repo::keys::Kdf::for_tests(),
            keys_of: Some(self.open().repo().clone()),
        };
        let (store, clock) = (world.bench.store.clone(), world.bench.clock.clone());
        Session::init(store, &options, &world.bench.dirs(), support::machine(), clock).unwrap();
        world
    }

    /// With some sessions, pushed once.
    pub fn with(sessions: &[&str]) -> Self {
        let world = Self::new();
        for (n, name) in sessions.iter().enumerate() {
            world.write(&format!("sessions/{name}"), &text(n as u64));
        }
        world.push();
        world
    }

    pub fn path(&self, rel: &str) -> PathBuf {
        self.bench.source().join(rel)
    }

    pub fn write(&self, rel: &str, content: &[u8]) {
        let path = self.path(rel);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn remove(&self, rel: &str) {
        fs::remove_file(self.path(rel)).unwrap();
    }

    pub fn wait(&self, nanos: i64) {
        self.bench.clock.0.fetch_add(nanos, Ordering::Relaxed);
        self.store_clock.0.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn open(&self) -> Session {
        self.bench.open().unwrap()
    }

    pub fn root(&self) -> PushRoot {
        agent_root("claude-code", LABEL, &self.bench.source(), self.agent.clone())
    }

    pub fn push_roots(&self, roots: &[PushRoot]) -> (Pushed, Vec<Problem>) {
        self.wait(60_000_000_000);
        let ears = Ears::default();
        let cancel = AtomicBool::new(false);
        let pushed = push(&self.open(), roots, &self.options, &ears, &cancel).unwrap();
        (pushed, ears.0.into_inner().unwrap())
    }

    pub fn push_heard(&self) -> (Snapshot, Vec<Problem>) {
        let (pushed, problems) = self.push_roots(&[self.root()]);
        (pushed.snapshot().clone(), problems)
    }

    pub fn push(&self) -> Snapshot {
        self.push_heard().0
    }

    /// What the newest snapshot keeps: paths below the root, sorted.
    pub fn gone(&self) -> Vec<String> {
        let session = self.open();
        gone_in(&session, &session.select("latest", None, None).unwrap())
    }

    pub fn keep_last(&self, count: usize) {
        let session = self.open();
        let policy = Policy { last: count, ..Policy::default() };
        let request = Request { policy, ..Request::default() };
        let plan = forget::plan(&session, &request, &TimeZone::UTC).unwrap();
        forget::apply(&session, &plan, &AtomicBool::new(false)).unwrap();
    }

    pub fn collect(&self) -> repo::gc::GcReport {
        let session = self.open();
        let mut options = gc::options(&session);
        options.accept_large = true;
        gc::collect(&session, &options, false, &|_| {}).unwrap()
    }

    /// Restores what is gone in the newest snapshot.
    pub fn pull_gone(&self) -> BTreeMap<String, Vec<u8>> {
        let session = self.open();
        let snapshot = session.select("latest", None, None).unwrap();
        let content = SnapshotContent::gone(&session, &snapshot).unwrap();
        pulled(&content)
    }

    /// Restores what was there.
    pub fn pull(&self, snapshot: &Snapshot) -> BTreeMap<String, Vec<u8>> {
        let session = self.open();
        pulled(&SnapshotContent::open(&session, snapshot).unwrap())
    }

    pub fn forget_cache(&self) {
        fs::remove_dir_all(self.bench.dirs().cache).unwrap();
    }
}

pub fn pulled(content: &SnapshotContent<'_>) -> BTreeMap<String, Vec<u8>> {
    let target = tempfile::tempdir().unwrap();
    let options = pull::Options::new(Placement::Under(target.path().to_owned()));
    let report = pull::pull(content, &options, &(), &AtomicBool::new(false)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let mut out = BTreeMap::new();
    collect_files(target.path(), target.path(), &mut out);
    out
}

pub fn collect_files(top: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(top, &path, out);
        } else {
            let rel = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            out.insert(rel, fs::read(&path).unwrap());
        }
    }
}

pub fn agent_root(agent: &str, label: &str, dir: &Path, filter: Agent) -> PushRoot {
    PushRoot {
        scan: ScanRoot {
            label: label.into(),
            dir: dir.to_owned(),
            files: None,
            filter: Arc::new(filter),
        },
        agent: Some(agent.into()),
    }
}

pub fn text(seed: u64) -> Vec<u8> {
    Writer::new(seed + 1_000).lines(20_000)
}

pub fn gone_in(session: &Session, snapshot: &Snapshot) -> Vec<String> {
    match view::gone(session, snapshot, b"") {
        Ok(all) => all
            .iter()
            .map(|one| {
                let path = String::from_utf8(one.path.clone()).unwrap();
                let path = path.strip_prefix("claude-code/home/").unwrap_or(&path).to_owned();
                if one.since == Since::Unseen { format!("{path}?") } else { path }
            })
            .collect(),
        Err(engine::Error::NotFound(_)) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

pub fn errors(problems: &[Problem]) -> Vec<&Problem> {
    problems.iter().filter(|p| !p.notice).collect()
}

/// Bytes of the blocks that each operation stored, before compression and padding: what compression
/// makes of times that differ would hide what is counted.
pub fn stored(session: &Session) -> BTreeMap<OpId, u64> {
    let index = session.repo().load_index(session.cache(), false).unwrap();
    let mut bytes = BTreeMap::new();
    for block in index.blocks() {
        *bytes.entry(block.pack.op).or_default() += u64::from(block.row.plain_len);
    }
    bytes
}

impl World {
    /// Removes a file and pushes.
    pub fn push_after(&self, rel: &str) -> Snapshot {
        self.remove(rel);
        self.push()
    }
}

pub fn names(world: &World, prefix: &str) -> Vec<String> {
    world.store.list(prefix).unwrap().into_iter().map(|item| item.name).collect()
}
