//! Verify and repair over the damage matrix: every object of a small repository damaged in every way is
//! named with what it touches, and heals from the live files; and every store call of both fails once, in
//! every way it can.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use engine::push::Pushed;
use engine::repair::{Repaired, Sources, repair};
use engine::verify::{Level, Options, Report, Touched, verify};
use engine::{Session, Silent};
use rayon::prelude::*;
use repo::{Kind, OpId, Reader};
use store::{Item, Listing, MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore};

use crate::specimen::{Specimen, Taken, is_damage, one_thread, read_file};
use crate::support;

fn shared() -> &'static Specimen {
    static SHARED: OnceLock<Specimen> = OnceLock::new();
    SHARED.get_or_init(|| Specimen::new(0x51))
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

fn options(level: Level) -> Options {
    Options { threads: 1, ..Options::new(level) }
}

fn look(session: &Session, level: Level) -> engine::Result<Report> {
    verify(session, &options(level), &|_, _| {}, &never())
}

/// Repairs from the live files.
fn from_source(specimen: &Specimen, session: &Session) -> engine::Result<Repaired> {
    let live = Some((vec![specimen.bench.root()], one_thread()));
    let sources = Sources { live, ..Sources::default() };
    repair(session, &sources, &options(Level::All), &Silent, &never())
}

/// Paths of a snapshot that do not come out of a store.
fn failing(specimen: &Specimen, store: &MemoryStore, taken: &Taken) -> BTreeSet<Vec<u8>> {
    let repo = Specimen::open(store.fork(), &specimen.machine).unwrap();
    let all = || taken.entries.iter().map(|(path, _)| path.clone()).collect();
    if repo.snapshot(None, &taken.snapshot.id).is_err() {
        return all();
    }
    let reader = Reader::open(&repo, None).unwrap();
    let (mut seen, mut blocks) = (BTreeSet::new(), HashMap::new());
    let walked = reader.walk(&taken.snapshot.tree, &mut |path, _| {
        seen.insert(path);
        Ok(())
    });
    assert!(walked.is_ok() || is_damage(&walked.unwrap_err()));
    let fails = |path: &Vec<u8>, entry: &repo::Entry, blocks: &mut HashMap<_, _>| {
        let is_file = entry.kind == Kind::File && entry.link.is_none();
        !seen.contains(path) || is_file && !matches!(read_file(&reader, entry, blocks), Ok(Some(_)))
    };
    let entries = taken.entries.iter().filter(|(path, entry)| fails(path, entry, &mut blocks));
    entries.map(|(path, _)| path.clone()).collect()
}

fn covers(touched: &Touched, id: &OpId, path: &[u8]) -> bool {
    let begins = repo::path_order(&touched.path, path).is_le() || touched.path.is_empty();
    let here = if touched.and_more { begins } else { touched.path == path };
    here && touched.snapshots.contains(id)
}

/// What may be wrong without a finding: only that it is there counts.
const ONLY_NAMES: [&str; 6] = ["op/", "end/", "kill/", "dead/", "keys/", "snap/"];

/// Every object, deleted, cut, and changed; of packs each block.
fn cases(specimen: &Specimen) -> Vec<(String, String, MemoryStore)> {
    let blocks = specimen.reachable();
    let mut cases = Vec::new();
    for name in specimen.names().into_iter().filter(|name| name != "config") {
        let bytes = specimen.bytes(&name);
        let third = bytes.len() / 3;
        cases.push((name.clone(), "deleted".to_owned(), specimen.with(&name, None)));
        let cut = bytes[..third].to_vec();
        cases.push((name.clone(), "cut".to_owned(), specimen.with(&name, Some(cut))));
        let places = blocks.get(&name).map_or(&[][..], Vec::as_slice);
        let mut at: Vec<usize> =
            places.iter().map(|(start, ..)| usize::try_from(*start).unwrap() + 1).collect();
        at.push(third);
        for at in at {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let copy = specimen.with(&name, Some(flipped));
            cases.push((name.clone(), format!("flipped at {at}"), copy));
        }
    }
    cases
}

#[test]
fn every_damaged_object_is_named_with_the_files_it_touches() {
    let specimen = shared();
    let cases = cases(specimen);
    assert!(cases.len() > 60, "{}", cases.len());
    cases.par_iter().for_each(|(name, how, store)| {
        let told = format!("{name} {how}");
        let temp = tempfile::tempdir().unwrap();
        let session = match specimen.session(store.fork(), &specimen.client(temp.path(), false)) {
            Ok(session) => session,
            Err(error) => {
                assert!(name.starts_with("keys/"), "{told}: {error}");
                return;
            }
        };
        let report = look(&session, Level::All).unwrap();
        let named = report.findings.iter().any(|finding| finding.object == *name);
        let silent = how == "deleted" && ONLY_NAMES.iter().any(|prefix| name.starts_with(prefix));
        let index_gone = how == "deleted" && name.starts_with("index/");
        assert!(named || silent || index_gone, "{told}: {:?}", report.findings);
        assert!(!index_gone || report.is_damaged(), "{told}: what it named is missing");
        let mut fails = false;
        for taken in &specimen.taken {
            let id = taken.snapshot.id;
            let visible = store.get(&format!("snap/{id}")).is_ok();
            let paths = failing(specimen, store, taken);
            fails |= visible && !paths.is_empty();
            let closed = report.findings.iter().any(|f| f.object == format!("snap/{id}"));
            for path in paths.iter().filter(|_| visible && !closed) {
                let touched = report.touched.iter().any(|one| covers(one, &id, path));
                let path = path.escape_ascii();
                assert!(touched, "{told}: {path} of {id} is not named: {:?}", report.touched);
            }
        }
        assert!(report.is_damaged() || !fails, "{told}: {:?}", report.findings);
        assert!(fails || report.touched.is_empty(), "{told}: {:?}", report.touched);
    });
}

/// Every damaged object, by a repair from the source: the newest snapshot is whole, and so is the one
/// before that holds the same; what is left is what only the past knew, and it is named.
#[test]
fn live_files_heal_what_is_damaged_and_the_next_look_finds_it_whole() {
    let specimen = shared();
    let past = specimen.of_the_past();
    let newest = specimen.taken.last().unwrap();
    // a snapshot that is gone without a record is a store that was rolled back: a push refuses that
    let is_rollback = |name: &str, how: &str| name.starts_with("snap/") && how == "deleted";
    let cases: Vec<_> =
        cases(specimen).into_iter().filter(|(name, how, _)| !is_rollback(name, how)).collect();
    let live = support::files_below(&specimen.bench.source());
    let counts: Vec<[usize; 3]> = cases
        .par_iter()
        .map(|(name, how, store)| {
            let told = format!("{name} {how}");
            let temp = tempfile::tempdir().unwrap();
            let client = specimen.client(temp.path(), true);
            let Ok(session) = specimen.session(store.clone(), &client) else {
                assert!(name.starts_with("keys/"), "{told}");
                return [0; 3];
            };
            let failing_in = |taken: &Taken| failing(specimen, store, taken).len();
            let before: usize = specimen.taken.iter().map(failing_in).sum();
            let done = from_source(specimen, &session).unwrap();
            let after: usize = specimen.taken.iter().map(failing_in).sum();
            assert!(done.before.is_damaged() || before == 0, "{told}: {:?}", done.before.findings);
            // a key's own commands make a slot anew
            let is_damaged = done.after.is_damaged() && !name.starts_with("keys/");
            assert_eq!(is_damaged, after > 0, "{told}: {:?}", done.after.findings);
            // what is left is of the past, and named with its paths
            let lost = &done.after.lost;
            let left: Vec<_> = lost.iter().filter(|(id, _)| !past.contains(*id)).collect();
            assert!(left.is_empty(), "{told}: {left:?}, {:?}", done.healed);
            let base = newest.entries.iter().find_map(|(_, entry)| entry.map.base).unwrap();
            let is_whole = failing_in(newest) == 0;
            assert!(is_whole || lost.contains_key(&base), "{told}: {:?}", done.healed);
            // what the live files hold is whole in the snapshot that the repair made, if it was not
            if let Some(Pushed::Made(snapshot)) = &done.pushed {
                let touches = |one: &Touched| one.snapshots.contains(&snapshot.id);
                assert!(!done.after.touched.iter().any(touches), "{told}");
            } else {
                assert!(is_whole && done.pushed.is_none(), "{told}: nothing was pushed");
            }
            // the next push makes or finds a whole snapshot
            let next = specimen.bench.push_with(&session, &one_thread()).unwrap();
            let held = specimen.bench.held(Arc::new(store.fork()), &next.snapshot().id);
            assert!(held.iter().all(|file| live.contains(file)), "{told}");
            assert_eq!(held.len() + 1, live.len(), "one is another name: {told}");
            // a second repair finds nothing more to do
            let again = from_source(specimen, &session).unwrap();
            let is_damaged = again.after.is_damaged() && !name.starts_with("keys/");
            assert_eq!(is_damaged, after > 0, "{told}");
            let harmed = usize::from(before > 0);
            let whole = usize::from(before > 0 && after == 0);
            [harmed, whole, usize::from(before > 0 && is_whole)]
        })
        .collect();
    let sum = |n: usize| counts.iter().map(|count| count[n]).sum::<usize>();
    let (harmed, whole, newest) = (sum(0), sum(1), sum(2));
    let told = format!("{harmed} harmed, {whole} wholly healed, the newest snapshot in {newest}");
    // the base of the map, the nodes of the two older snapshots, and the packs that hold them
    assert!(harmed > 25 && harmed - whole <= 5, "{told}");
    assert!(harmed - newest <= 2, "what only the base said: {told}");
}

/// A store that is not this machine's, with a clock of its own.
#[derive(Debug)]
struct Remote {
    inner: MemoryStore,
    secs: AtomicU64,
    written: Mutex<HashMap<String, u64>>,
}

impl Remote {
    fn new(inner: &MemoryStore) -> Self {
        let secs = AtomicU64::new(1_700_000_000);
        Self { inner: inner.clone(), secs, written: Mutex::default() }
    }
}

impl Store for Remote {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> store::Result<()> {
        let now = self.secs.load(Ordering::SeqCst);
        self.written.lock().unwrap().insert(name.to_owned(), now);
        self.inner.put(name, parts)
    }
    fn get(&self, name: &str) -> store::Result<Bytes> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> store::Result<Bytes> {
        self.inner.get_range(name, range)
    }
    fn list(&self, prefix: &str) -> store::Result<Vec<Item>> {
        let written = self.written.lock().unwrap();
        let dated = |item: Item| {
            let secs = written.get(&item.name).copied().unwrap_or(1_600_000_000);
            Item { modified: SystemTime::UNIX_EPOCH + Duration::from_secs(secs), ..item }
        };
        Ok(self.inner.list(prefix)?.into_iter().map(dated).collect())
    }
    fn delete(&self, name: &str) -> store::Result<()> {
        self.inner.delete(name)
    }
    fn address(&self) -> String {
        "remote:".into()
    }
    fn listing(&self) -> Listing {
        Listing::Unpublished
    }
}

/// The specimen's machine, at a store of whatever kind.
fn open(store: Arc<dyn Store>, temp: &std::path::Path) -> engine::Result<Session> {
    let dirs = shared().client(temp, true);
    let none = |_: &repo::config::Config| Ok(None);
    let clock = shared().bench.clock.clone();
    Session::open(store, none, &dirs, support::machine(), clock)
}

#[test]
fn a_repair_at_a_remote_store_acts_on_damage_that_lasts_an_hour() {
    let specimen = shared();
    let memory = with_a_bad_block();
    let remote = Arc::new(Remote::new(&memory));
    let temp = tempfile::tempdir().unwrap();
    let session = open(remote.clone(), temp.path()).unwrap();
    let packs = memory.list("packs/").unwrap().len();
    // somebody who gives up what is lost does not give up what may be right in an hour
    let live = Some((vec![specimen.bench.root()], one_thread()));
    let sources = Sources { live, accept_loss: true, ..Sources::default() };
    let run = |level| repair(&session, &sources, &options(level), &Silent, &never()).unwrap();
    let first = run(Level::All);
    let second = {
        remote.secs.fetch_add(3_599, Ordering::SeqCst);
        run(Level::Metadata)
    };
    for done in [&first, &second] {
        assert!(done.before.is_damaged() && done.after.is_damaged());
        assert_eq!((done.before.waiting.len(), done.after.waiting.len()), (1, 1));
        assert!(done.accepted.is_empty() && done.pushed.is_none(), "{done:?}");
        assert!(done.healed.iter().all(|healed| healed.packs == 0), "{done:?}");
    }
    assert_eq!(memory.list("packs/").unwrap().len(), packs);
    assert!(memory.list("gc/bad-").unwrap().is_empty());
    remote.secs.fetch_add(1, Ordering::SeqCst);
    let third = run(Level::Metadata);
    assert!(!third.after.is_damaged(), "{:?}", third.after.findings);
    assert_eq!((third.before.quarantined.len(), third.after.waiting.len()), (1, 0));
    assert_eq!(memory.list("gc/bad-").unwrap().len(), 1);
    assert!(third.accepted.is_empty());
    for taken in &specimen.taken {
        assert!(failing(specimen, &memory, taken).is_empty());
    }
}

#[test]
fn what_only_looked_damaged_for_a_while_is_left_alone() {
    let specimen = shared();
    let memory = with_a_bad_block();
    let remote = Arc::new(Remote::new(&memory));
    let temp = tempfile::tempdir().unwrap();
    let session = open(remote.clone(), temp.path()).unwrap();
    assert_eq!(from_source(specimen, &session).unwrap().before.waiting.len(), 1);
    let (name, _) = specimen.reachable().into_iter().next().unwrap();
    memory.put(&name, vec![specimen.bytes(&name).into()]).unwrap();
    remote.secs.fetch_add(4_000, Ordering::SeqCst);
    let done = from_source(specimen, &session).unwrap();
    assert!(!done.before.is_damaged() && done.pushed.is_none());
    // an hour counts from when damage is seen again
    memory.put(&name, vec![with_a_bad_block().get(&name).unwrap()]).unwrap();
    let done = from_source(specimen, &session).unwrap();
    assert_eq!((done.before.waiting.len(), done.before.quarantined.len()), (1, 0));
}

#[test]
fn a_repository_without_its_index_is_repaired_by_the_verb() {
    let specimen = shared();
    let store = specimen.store.fork();
    for item in store.list("index/").unwrap() {
        store.delete(&item.name).unwrap();
    }
    let temp = tempfile::tempdir().unwrap();
    let session = specimen.session(store.clone(), &specimen.client(temp.path(), false)).unwrap();
    assert!(look(&session, Level::Metadata).unwrap().is_damaged());
    let report = engine::repair::index(&session, 1, false).unwrap();
    assert_eq!(report.rebuilt, store.list("packs/").unwrap().len());
    assert!(!look(&session, Level::All).unwrap().is_damaged());
    for taken in &specimen.taken {
        assert!(failing(specimen, &store, taken).is_empty());
    }
}

#[test]
fn a_loss_that_is_accepted_leaves_a_repository_that_is_whole() {
    let specimen = shared();
    let cases: Vec<_> = cases(specimen)
        .into_iter()
        .filter(|(name, ..)| name.starts_with("packs/") || name.starts_with("snap/"))
        .collect();
    cases.par_iter().for_each(|(name, how, store)| {
        let told = format!("{name} {how}");
        let temp = tempfile::tempdir().unwrap();
        let client = specimen.client(temp.path(), false);
        let session = specimen.session(store.clone(), &client).unwrap();
        let sources = Sources { accept_loss: true, ..Sources::default() };
        let look_at = options(Level::All);
        for taken in &specimen.taken {
            // one whose object is not there cannot be pinned
            let _ = session.repo().pin(&taken.snapshot.id);
        }
        let done = repair(&session, &sources, &look_at, &Silent, &never()).unwrap();
        assert!(!done.after.is_damaged(), "{told}: {:?}", done.after.findings);
        for accepted in &done.accepted {
            let lost = accepted.lost.len() + accepted.pieces.len();
            assert!(lost > 0 && store.get(&format!("forgot/{}", accepted.old)).is_ok(), "{told}");
            // a policy takes it for as old as the one in whose place it is
            let new = accepted.new.map(|new| session.snapshot(&new).unwrap().instead_of);
            assert!(new.is_none_or(|of| of == Some(accepted.old)), "{told}");
            // and what was pinned still is
            let pinned = session.repo().pinned().unwrap();
            assert!(accepted.new.is_none_or(|new| pinned.contains(&new)), "{told}");
            assert!(!pinned.contains(&accepted.old), "{told}");
        }
    });
}

fn thorough() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not of the program")]
    std::env::var_os("AGENT_BACKUP_DAMAGE").is_some_and(|value| value == "all")
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::Fail(Failure::Unavailable), // lost
        Fault::CrashAfter,                 // applied, and then nothing more
        Fault::LoseAnswer,                 // applied, but told as failed
        Fault::CrashBefore,
    ]
}

/// A store that hears one call of each run twice: the second time after the run is over.
fn late(store: &MemoryStore, run: impl FnOnce(Arc<dyn Store>)) {
    let recording = Arc::new(testkit::RecordingStore::new(Arc::new(store.clone())));
    run(recording.clone());
    for name in recording.names(testkit::Verb::Put) {
        if let Ok(bytes) = store.get(&name) {
            store.put(&name, vec![bytes]).unwrap();
        }
    }
}

/// Every snapshot of the specimen but those whose files were damaged restores from a store.
fn keeps(specimen: &Specimen, store: &MemoryStore, lost: &[BTreeSet<Vec<u8>>], told: &str) {
    for (taken, lost) in specimen.taken.iter().zip(lost) {
        let fails = failing(specimen, store, taken);
        assert!(fails.is_subset(lost), "{told}: {} lost {fails:?}", taken.snapshot.id);
    }
}

/// After a loss was accepted, maybe not to the end: every snapshot of the specimen is what it was, or one
/// is in its place that has every other path.
fn keeps_the_rest(
    specimen: &Specimen,
    store: &MemoryStore,
    lost: &[BTreeSet<Vec<u8>>],
    told: &str,
) {
    let repo = Specimen::open(store.fork(), &specimen.machine).unwrap();
    let snapshots = repo.snapshots(None).unwrap();
    for (taken, lost) in specimen.taken.iter().zip(lost) {
        let old = &taken.snapshot;
        if snapshots.iter().any(|one| one.id == old.id) {
            let fails = failing(specimen, store, taken);
            assert!(fails.is_subset(lost), "{told}: {} lost {fails:?}", old.id);
            continue;
        }
        let in_place = |one: &&repo::Snapshot| {
            (one.machine, one.counter) == (old.machine, old.counter)
                && one.reason.as_deref() == Some(repo::repair::REASON)
        };
        let new = snapshots.iter().find(in_place);
        let new = new.unwrap_or_else(|| panic!("{told}: nothing is in the place of {}", old.id));
        let (reader, mut entries) = (Reader::open(&repo, None).unwrap(), Vec::new());
        let all = |path, entry| {
            entries.push((path, entry));
            Ok(())
        };
        reader.walk(&new.tree, &mut { all }).unwrap();
        for (path, entry) in taken.entries.iter().filter(|entry| !entries.contains(entry)) {
            // a further name of a file that was lost goes with it
            let with_it = entry.link.as_ref().is_some_and(|of| lost.contains(of));
            assert!(lost.contains(path) || with_it, "{told}: {} is gone", path.escape_ascii());
        }
        let mut blocks = HashMap::new();
        for (path, entry) in &entries {
            assert!(taken.entries.iter().any(|(old, e)| (old, e) == (path, entry)), "{told}");
            if entry.kind == Kind::File && entry.link.is_none() {
                let read = read_file(&reader, entry, &mut blocks).unwrap();
                assert_eq!(read.as_ref(), Some(&*taken.files[path]), "{told}");
            }
        }
    }
}

/// What a check of a store after a step says: the store, which paths each snapshot lacked before.
type Keeps = dyn Fn(&Specimen, &MemoryStore, &[BTreeSet<Vec<u8>>], &str) + Sync;

/// Runs a step with a fault in each of its calls; then everything that restored still does, and a plain
/// run ends as one without faults.
fn every_call(damaged: &MemoryStore, step: &(dyn Fn(&Session) -> engine::Result<bool> + Sync)) {
    every_call_keeps(damaged, &keeps, step);
}

fn every_call_keeps(
    damaged: &MemoryStore,
    keeps: &Keeps,
    step: &(dyn Fn(&Session) -> engine::Result<bool> + Sync),
) {
    let specimen = shared();
    let lost: Vec<_> = specimen.taken.iter().map(|t| failing(specimen, damaged, t)).collect();
    let run = |store: Arc<dyn Store>, temp: &std::path::Path| -> engine::Result<bool> {
        let dirs = engine::Dirs { state: temp.join("state"), cache: temp.join("cache") };
        let none = |_: &repo::config::Config| Ok(None);
        let clock = specimen.bench.clock.clone();
        step(&Session::open(store, none, &dirs, support::machine(), clock)?)
    };
    let plain = {
        let temp = tempfile::tempdir().unwrap();
        specimen.client(temp.path(), true);
        run(Arc::new(damaged.fork()), temp.path()).unwrap()
    };
    let calls = {
        let temp = tempfile::tempdir().unwrap();
        specimen.client(temp.path(), true);
        let counted = Arc::new(testkit::RecordingStore::new(Arc::new(damaged.fork())));
        run(counted.clone(), temp.path()).unwrap();
        counted.total() as u64
    };
    // every call; in the normal run each in one of the four ways, by turns
    let turn = |n: u64, place: usize| thorough() || n % 4 == place as u64;
    let all: Vec<(u64, Fault)> = (1..=calls)
        .flat_map(|n| faults().into_iter().enumerate().map(move |(place, f)| (n, place, f)))
        .filter(|(n, place, _)| turn(*n, *place))
        .map(|(n, _, fault)| (n, fault))
        .collect();
    all.par_iter().for_each(|(n, fault)| {
        let told = format!("{fault:?} in call {n}");
        let temp = tempfile::tempdir().unwrap();
        specimen.client(temp.path(), true);
        let store = damaged.fork();
        let faulty = FaultStore::at(Arc::new(store.clone()), *n, fault.clone());
        drop(run(Arc::new(faulty), temp.path()));
        keeps(specimen, &store, &lost, &told);
        let next = run(Arc::new(store.clone()), temp.path());
        let next = next.unwrap_or_else(|e| panic!("the next run failed: {e}; before, {told}"));
        assert_eq!(next, plain, "the next run ends otherwise; before, {told}");
    });
    let (temp, store) = (tempfile::tempdir().unwrap(), damaged.fork());
    specimen.client(temp.path(), true);
    late(&store, |store| drop(run(store, temp.path())));
    assert_eq!(run(Arc::new(store.clone()), temp.path()).unwrap(), plain, "late requests");
    keeps(specimen, &store, &lost, "late requests");
}

/// The first pack with a block changed.
fn with_a_bad_block() -> MemoryStore {
    let specimen = shared();
    let (name, places) = specimen.reachable().into_iter().next().unwrap();
    let mut bytes = specimen.bytes(&name);
    bytes[usize::try_from(places[0].0).unwrap() + 1] ^= 1;
    specimen.with(&name, Some(bytes))
}

#[test]
fn any_failure_of_a_verify_is_survived() {
    every_call(&with_a_bad_block(), &|session| Ok(look(session, Level::All)?.is_damaged()));
}

#[test]
fn any_failure_of_a_repair_of_the_index_is_survived() {
    let specimen = shared();
    let store = specimen.store.fork();
    for (n, item) in store.list("index/").unwrap().iter().enumerate() {
        if n % 2 == 0 {
            store.delete(&item.name).unwrap();
        } else {
            let mut bytes = store.get(&item.name).unwrap().to_vec();
            bytes[40] ^= 1;
            store.put(&item.name, vec![bytes.into()]).unwrap();
        }
    }
    every_call(&store, &|session| {
        let report = engine::repair::index(session, 1, false)?;
        Ok(report.unreadable.is_empty() && !look(session, Level::Metadata)?.is_damaged())
    });
}

#[test]
fn any_failure_of_a_repair_from_the_source_is_survived() {
    every_call(&with_a_bad_block(), &|session| {
        Ok(from_source(shared(), session)?.after.is_damaged())
    });
}

/// Every pack with a block changed, so that all sources are needed.
fn with_bad_blocks() -> MemoryStore {
    let specimen = shared();
    let store = specimen.store.fork();
    for (name, places) in specimen.reachable() {
        let mut bytes = specimen.bytes(&name);
        bytes[usize::try_from(places[0].0).unwrap() + 1] ^= 1;
        store.put(&name, vec![bytes.into()]).unwrap();
    }
    store
}

/// Repairs from another repository: does anything stay damaged?
fn from_other(session: &Session, other: Arc<dyn Store>) -> engine::Result<bool> {
    let config = repo::Repository::read_config(other.as_ref())?;
    let (keyring, _) = repo::keys::open_any(other.as_ref(), &config.repo, &shared().machine)?;
    let other = repo::Repository::open(other, config, keyring)?;
    let sources = Sources { other: Some(&other), ..Sources::default() };
    Ok(repair(session, &sources, &options(Level::All), &Silent, &never())?.after.is_damaged())
}

#[test]
fn any_failure_of_a_repair_from_another_repository_is_survived() {
    let whole = shared().store.fork();
    every_call(&with_bad_blocks(), &|session| from_other(session, Arc::new(whole.fork())));
}

#[test]
fn any_failure_of_the_other_repository_is_survived() {
    let specimen = shared();
    let (damaged, whole) = (with_bad_blocks(), specimen.store.fork());
    let lost: Vec<_> = specimen.taken.iter().map(|t| failing(specimen, &damaged, t)).collect();
    let run = |store: &MemoryStore, other: Arc<dyn Store>| {
        let temp = tempfile::tempdir().unwrap();
        let session = specimen.session(store.clone(), &specimen.client(temp.path(), true))?;
        from_other(&session, other)
    };
    let counted = Arc::new(testkit::RecordingStore::new(Arc::new(whole.fork())));
    assert!(!run(&damaged.fork(), counted.clone()).unwrap());
    let calls: Vec<u64> = (1..=counted.total() as u64).collect();
    assert!(calls.len() > 5, "{}", calls.len());
    calls.par_iter().for_each(|n| {
        for fault in [Fault::Fail(Failure::Unavailable), Fault::CrashAfter, Fault::FlipBit(30)] {
            let told = format!("{fault:?} in call {n} of the other one");
            let store = damaged.fork();
            let faulty = FaultStore::at(Arc::new(whole.fork()), *n, fault);
            drop(run(&store, Arc::new(faulty)));
            keeps(specimen, &store, &lost, &told);
            assert!(!run(&store, Arc::new(whole.fork())).unwrap(), "{told}");
        }
    });
}

#[test]
fn any_failure_of_a_loss_that_is_accepted_is_survived() {
    every_call_keeps(&with_a_bad_block(), &keeps_the_rest, &|session| {
        let sources = Sources { accept_loss: true, ..Sources::default() };
        let done = repair(session, &sources, &options(Level::All), &Silent, &never())?;
        Ok(done.after.is_damaged())
    });
}
