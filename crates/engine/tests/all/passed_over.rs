//! Damage of one snapshot is that of one snapshot: whatever looks at many goes on with the others, and
//! says which it passed over.

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::copy::copy;
use engine::grep::{self, FileFound, Lines, Listener};
use engine::push::PushOptions;
use engine::view::{self, FindOptions};
use engine::{DamagedSnapshot, Error, Session, sessions};
use repo::{OpId, Snapshot};
use store::{MemoryStore, Store as _};

use crate::support::{Bench, bench_in_memory};

/// Three snapshots: `first`, `second` and `third` are in one each, `all` grows.
fn three() -> (Bench, Arc<MemoryStore>, Vec<Snapshot>) {
    let (bench, store) = bench_in_memory();
    let mut all = String::new();
    for name in ["first", "second", "third"] {
        writeln!(all, "a needle of the {name}").unwrap();
        fs::write(bench.source().join("all"), &all).unwrap();
        fs::write(bench.source().join(name), format!("{name} alone has this needle\n")).unwrap();
        let session = bench.open().unwrap();
        bench.push_with(&session, &PushOptions { always: true, ..PushOptions::default() }).unwrap();
        fs::remove_file(bench.source().join(name)).unwrap();
    }
    let snapshots = bench.open().unwrap().snapshots().unwrap();
    assert_eq!(snapshots.len(), 3);
    (bench, store, snapshots)
}

/// As another machine sees it: what is remembered here is not there.
fn forget_cache(bench: &Bench) -> Session {
    fs::remove_dir_all(bench.dirs().cache).unwrap();
    bench.open().unwrap()
}

fn flip(store: &MemoryStore, name: &str, at: usize) {
    let mut bytes = store.get(name).unwrap().to_vec();
    bytes[at] ^= 1;
    store.delete(name).unwrap();
    store.put(name, vec![bytes.into()]).unwrap();
}

/// Damages the root of a snapshot's tree.
fn spoil_tree(bench: &Bench, store: &MemoryStore, snapshot: &Snapshot) -> Session {
    let session = bench.open().unwrap();
    let index = session.repo().load_index(None, false).unwrap();
    let at = index.get(&snapshot.tree).unwrap();
    flip(store, &at.pack.object_name(), usize::try_from(at.offset).unwrap() + 20);
    forget_cache(bench)
}

#[derive(Default)]
struct Heard {
    paths: Vec<(String, Vec<OpId>)>,
    damaged: Vec<DamagedSnapshot>,
}

impl Listener for Heard {
    fn progress(&mut self, _: u64, _: u64) {}
    fn damaged(&mut self, snapshot: DamagedSnapshot) {
        self.damaged.push(snapshot);
    }
    fn problem(&mut self, path: &[u8], what: &str) {
        panic!("{}: {what}", path.escape_ascii());
    }
    fn found(&mut self, file: FileFound, _: &mut Lines<'_>) -> ControlFlow<()> {
        self.paths.push((String::from_utf8(file.path).unwrap(), file.snapshots.to_vec()));
        ControlFlow::Continue(())
    }
}

fn search(session: &Session, snapshots: &[Snapshot]) -> Heard {
    let mut heard = Heard::default();
    let options = grep::Options { patterns: vec!["needle".into()], ..grep::Options::default() };
    grep::grep(session, snapshots, &options, &AtomicBool::new(false), &mut heard).unwrap();
    heard
}

fn ids(damaged: &[DamagedSnapshot]) -> Vec<OpId> {
    damaged.iter().map(|one| one.id).collect()
}

#[test]
fn a_damaged_tree_is_passed_over_and_the_others_are_searched_counted_and_copied() {
    let (bench, store, all) = three();
    let session = spoil_tree(&bench, &store, &all[1]);
    let stop = AtomicBool::new(false);
    assert!(view::ls(&session, &all[1], b"", true, &mut |_, _| {}).is_err());

    let heard = search(&session, &all);
    let (one, three) = (all[0].id, all[2].id);
    let expected = [
        ("files/all".to_owned(), vec![one, three]),
        ("files/first".to_owned(), vec![one]),
        ("files/third".to_owned(), vec![three]),
    ];
    assert_eq!(heard.paths, expected);
    assert_eq!(ids(&heard.damaged), [all[1].id]);
    assert!(heard.damaged[0].what.contains("damaged"), "{}", heard.damaged[0].what);

    let options = FindOptions { globs: vec!["*".into()], ..FindOptions::default() };
    let found = view::find(&session, &all, &options).unwrap();
    let has =
        |name: &str| found.all.iter().any(|one| one.path == format!("files/{name}").as_bytes());
    assert!(has("first") && has("third") && !has("second"));
    assert_eq!(ids(&found.damaged), [all[1].id]);

    let found = sessions::find(&session, &[], &stop).unwrap();
    assert_eq!(ids(&found.damaged), [all[1].id]);
    // only the newest snapshot of an agent is counted, and that is whole
    assert_eq!(view::stats(&session).unwrap().damaged, []);

    let other = Bench::new(Arc::new(MemoryStore::new()));
    let to = other.init();
    let done = copy(&session, &to, &all, &mut |_| {}, &stop).unwrap();
    assert_eq!(ids(&done.damaged), [all[1].id]);
    assert_eq!(done.copied.iter().map(|one| one.from).collect::<Vec<_>>(), [one, three]);
    for (copied, taken) in done.copied.iter().zip([&all[0], &all[2]]) {
        let tree = |bench: &Bench, id: &OpId| bench.restore(bench.store.clone(), id);
        assert_eq!(tree(&other, &copied.to), tree(&bench, &taken.id));
    }
    // nothing of the one that failed is left under way
    let is_left = |name: &str| !other.store.list(name).unwrap().is_empty();
    assert!(!is_left("kill/") && !is_left("dead/"));
    assert_eq!(other.store.list("op/").unwrap().len(), 3);
    assert_eq!(other.store.list("end/").unwrap().len(), 1);
}

#[test]
fn the_newest_is_counted_from_the_newest_that_reads() {
    let (bench, store, all) = three();
    let session = spoil_tree(&bench, &store, &all[2]);
    let stats = view::stats(&session).unwrap();
    assert_eq!(ids(&stats.damaged), [all[2].id]);
    assert_eq!(stats.agents[0].newest, all[1].id);
    assert_eq!(stats.agents[0].entries, 3, "the directory, all and second");
}

#[test]
fn damage_that_no_tree_has_ends_a_search() {
    let (bench, store, all) = three();
    let session = spoil_tree(&bench, &store, &all[1]);
    // it is asked of nothing but what is damaged
    let heard = search(&session, &all[1..2]);
    assert_eq!((heard.paths.len(), ids(&heard.damaged)), (0, vec![all[1].id]));
}

#[test]
fn a_snapshot_that_does_not_open_is_named_and_never_passed_over_for_latest() {
    let (bench, store, all) = three();
    flip(&store, &Snapshot::object_name(&all[0].id), 40);
    let session = forget_cache(&bench);
    let (whole, damaged) = session.snapshots_listed().unwrap();
    assert_eq!(whole.iter().map(|s| s.id).collect::<Vec<_>>(), [all[1].id, all[2].id]);
    assert_eq!(ids(&damaged), [all[0].id]);
    // when it was made is not known: it could be the newest
    for (spec, other) in
        [("latest", Some(all[2].id)), ("latest~1", Some(all[1].id)), ("latest~2", None)]
    {
        match session.select(spec, None, None) {
            Err(Error::MayBeNewest { other: found, .. }) => assert_eq!(found, other, "{spec}"),
            got => panic!("{spec}: {got:?}"),
        }
    }
    assert_eq!(session.select(&all[2].id.hex()[..12], None, None).unwrap().id, all[2].id);
    assert!(session.snapshots().is_err());
    assert_eq!(ids(&view::stats(&session).unwrap().damaged), [all[0].id]);
    let found = sessions::find(&session, &[], &AtomicBool::new(false)).unwrap();
    assert_eq!(ids(&found.damaged), [all[0].id]);
}
