//! Verify and repair over the damage matrix: every object of a small repository damaged in every way is
//! named with what it touches, and heals from the live files; and every store call of both fails once, in
//! every way it can.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

#[path = "support/damage.rs"]
mod specimen;
mod support;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use engine::push::Pushed;
use engine::repair::{Repaired, Sources, repair};
use engine::verify::{Level, Options, Report, Touched, verify};
use engine::{Session, Silent};
use rayon::prelude::*;
use repo::{Kind, OpId, Reader};
use specimen::{Specimen, Taken, is_damage, one_thread, read_file};
use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore};

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

#[test]
fn live_files_heal_what_is_damaged_and_the_next_look_finds_it_whole() {
    let specimen = shared();
    let packs = cases(specimen).into_iter().filter(|(name, ..)| name.starts_with("packs/"));
    let packs: Vec<_> = packs.collect();
    let undamaged = Specimen::open(specimen.store.fork(), &specimen.machine).unwrap();
    let kinds = undamaged.load_index(None, false).unwrap();
    let healed: Vec<usize> = packs
        .par_iter()
        .map(|(name, how, store)| {
            let told = format!("{name} {how}");
            let temp = tempfile::tempdir().unwrap();
            let client = specimen.client(temp.path(), true);
            let session = specimen.session(store.clone(), &client).unwrap();
            let before: usize =
                specimen.taken.iter().map(|t| failing(specimen, store, t).len()).sum();
            let done = from_source(specimen, &session).unwrap();
            let after: usize =
                specimen.taken.iter().map(|t| failing(specimen, store, t).len()).sum();
            assert_eq!(done.before.is_damaged(), before > 0, "{told}: {:?}", done.before.findings);
            assert_eq!(done.after.is_damaged(), after > 0, "{told}: {:?}", done.after.findings);
            // data comes back; a patched map and the nodes above it cannot be put together
            let is_meta = |id| kinds.get(id).unwrap().row.kind.is_meta();
            let lost = &done.after.lost;
            assert!(lost.keys().all(is_meta), "{told}: {lost:?}, {:?}", done.healed);
            if let Some(Pushed::Made(snapshot)) = &done.pushed {
                let held = specimen.bench.held(Arc::new(store.fork()), &snapshot.id);
                let live = support::files_below(&specimen.bench.source());
                assert!(held.iter().all(|file| live.contains(file)), "{told}");
                assert_eq!(held.len() + 1, live.len(), "one is another name: {told}");
            }
            // a second repair finds nothing more to do
            let again = from_source(specimen, &session).unwrap();
            assert_eq!(again.after.is_damaged(), after > 0, "{told}");
            usize::from(before > 0 && after == 0)
        })
        .collect();
    let whole: usize = healed.iter().sum();
    assert!(whole >= 4, "{whole} of {} were whole again", packs.len());
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
        let done = repair(&session, &sources, &look_at, &Silent, &never()).unwrap();
        assert!(!done.after.is_damaged(), "{told}: {:?}", done.after.findings);
        for accepted in &done.accepted {
            let lost = accepted.lost.len() + accepted.pieces.len();
            assert!(lost > 0 && store.get(&format!("forgot/{}", accepted.old)).is_ok(), "{told}");
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
fn keeps(specimen: &Specimen, store: &MemoryStore, lost: &[usize], told: &str) {
    for (taken, lost) in specimen.taken.iter().zip(lost) {
        let fails = failing(specimen, store, taken).len();
        assert!(fails <= *lost, "{told}: {} lost {fails} files", taken.snapshot.id);
    }
}

/// Runs a step with a fault in each of its calls; then everything that restored still does, and a plain
/// run ends as one without faults.
fn every_call(damaged: &MemoryStore, step: &(dyn Fn(&Session) -> engine::Result<bool> + Sync)) {
    let specimen = shared();
    let lost: Vec<usize> =
        specimen.taken.iter().map(|t| failing(specimen, damaged, t).len()).collect();
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
