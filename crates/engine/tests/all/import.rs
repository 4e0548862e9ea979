//! What agent-backup-core left in a bucket becomes snapshots here. The buckets are written from the description
//! of its format by code that shares nothing with what reads them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::import::{Done, Fate, Options, Passphrase, Source, Step, Trust, apply, plan};
use engine::{Error, Session};
use repo::{OpId, Snapshot, flag};
use store::{Foreign, LocalStore, Object, Store as _};
use testkit::CoreBucket;

use crate::support::{self, Ears, bench_in_memory, contents, restore};

const PASSPHRASE: &str = "correct horse";
const FIRST: &str = "2025-03-01T10:00:00.125Z";
const SECOND: &str = "2025-03-02T10:00:00.251Z";
const THIRD: &str = "2025-03-03T10:00:00.375Z";
const FILES: [(&str, &[u8]); 5] = [
    ("config/config.yaml", b"model: x\n"),
    ("data/also-empty", b""),
    ("data/empty", b""),
    ("data/sessions/\u{e9} #1.jsonl", b"{\"a\":1}\n"),
    ("state/logs/one.log", b"line\n"),
];

type Files<'f> = &'f [(&'f str, &'f [u8])];

fn encrypted() -> CoreBucket {
    CoreBucket::new("goose-backup", Some(PASSPHRASE))
}

/// An old bucket on a disk.
struct Old(tempfile::TempDir);

impl Old {
    fn new(bucket: &CoreBucket) -> Self {
        let dir = tempfile::tempdir().unwrap();
        bucket.write_to(dir.path());
        Self(dir)
    }

    fn store(&self) -> Arc<dyn Foreign> {
        Arc::new(LocalStore::open(self.0.path()).unwrap())
    }
}

fn source(store: Arc<dyn Foreign>) -> Source {
    let passphrase = Passphrase::given(PASSPHRASE.to_owned().into());
    Source::open(store, Some(passphrase), Trust::Sealed).unwrap()
}

fn import_from(session: &Session, source: &Source, ears: &Ears) -> engine::Result<Vec<Done>> {
    let plan = plan(session, source.survey()?)?;
    let (options, stop) = (Options::default(), AtomicBool::new(false));
    apply(session, source, &plan, &options, ears, &mut |_| {}, &stop)
}

fn import(session: &Session, bucket: &CoreBucket) -> (Vec<Done>, Ears) {
    let (old, ears) = (Old::new(bucket), Ears::default());
    (import_from(session, &source(old.store()), &ears).unwrap(), ears)
}

#[track_caller]
fn imported(done: &Done) -> &Snapshot {
    match &done.fate {
        Fate::New(snapshot) => snapshot,
        other => panic!("{}: {other:?}", done.name),
    }
}

fn expected(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    let file = |(path, content): &(&str, &[u8])| (format!("goose/{path}"), content.to_vec());
    files.iter().map(file).collect()
}

fn nanos(time: &str) -> i64 {
    i64::try_from(time.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap()
}

fn sorted(mut files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.sort();
    files
}

/// Numbers that do not repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    hash.update(b"noise");
    let mut bytes = vec![0; len];
    hash.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_snapshot_of_the_old_bucket_restores_equal_and_has_the_time_it_had() {
    let (bench, _) = bench_in_memory();
    let large = noise(9_000_000);
    let mut more = FILES.to_vec();
    more.push(("data/large", &large));
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    bucket.safety(SECOND, &FILES[..2]);
    bucket.snapshot(THIRD, &more);
    let session = bench.open().unwrap();
    let (done, ears) = import(&session, &bucket);
    assert!(ears.0.lock().unwrap().is_empty(), "{ears:?}");
    let wanted: [(&str, Files<'_>); 3] = [(FIRST, &FILES), (SECOND, &FILES[..2]), (THIRD, &more)];
    for ((time, files), done) in wanted.into_iter().zip(&done) {
        // as another machine sees it
        let other = tempfile::tempdir().unwrap();
        let snapshot = bench.open().unwrap().snapshot(&imported(done).id).unwrap();
        assert_eq!(sorted(contents(&session, &snapshot.tree)), sorted(expected(files)));
        assert_eq!((snapshot.finished_nanos, snapshot.started_nanos), (nanos(time), nanos(time)));
        assert_eq!(snapshot.is_safety(), time == SECOND);
        assert_eq!(snapshot.agents(), ["goose"]);
        assert_eq!(snapshot.stats.problems, 0);
        restore(&session, &snapshot, other.path());
        for (path, content) in files {
            let path = other.path().join("goose").join(path);
            assert_eq!(&std::fs::read(&path).unwrap(), content, "{}", path.display());
            let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
            let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
            assert_eq!(modified, u128::try_from(nanos(time)).unwrap());
        }
        let labels: Vec<_> = snapshot.roots.iter().map(|root| root.label.as_str()).collect();
        let all = ["goose/config", "goose/data", "goose/state"];
        assert_eq!(labels, all[..if time == SECOND { 2 } else { 3 }]);
    }
    // safety snapshots are never the latest
    assert_eq!(session.select("latest~1", None, None).unwrap().id, imported(&done[0]).id);
    let whole = repo::undelete::whole(session.repo(), None, &session.snapshots().unwrap());
    assert_eq!(whole.unwrap(), [true; 3], "every block is in a pack that stays");
}

#[test]
fn a_second_import_adds_nothing_also_from_a_copy_of_the_bucket_elsewhere() {
    let (bench, memory) = bench_in_memory();
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    bucket.safety(SECOND, &FILES);
    let session = bench.open().unwrap();
    let (first, _) = import(&session, &bucket);
    let before: Vec<_> = memory.list("").unwrap();
    // elsewhere, without a cache, under another prefix
    let mut moved = bucket.clone();
    moved.objects =
        bucket.objects.iter().map(|(key, bytes)| (format!("deep/{key}"), bytes.clone())).collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let dirs = engine::Dirs { cache: elsewhere.path().to_owned(), ..bench.dirs() };
    let again = support::open_with(bench.store.clone(), &dirs, bench.clock.clone()).unwrap();
    for (session, bucket) in [(&session, &bucket), (&again, &moved)] {
        let (second, _) = import(session, bucket);
        let ids: Vec<OpId> = second
            .iter()
            .map(|done| match &done.fate {
                Fate::There { id, lost: 0 } => *id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, first.iter().map(|done| imported(done).id).collect::<Vec<_>>());
    }
    assert_eq!(memory.list("").unwrap(), before);
    // one that came since is added alone
    bucket.snapshot(THIRD, &FILES[1..]);
    let (third, _) = import(&session, &bucket);
    assert!(
        matches!(third[0].fate, Fate::There { .. }) && matches!(third[1].fate, Fate::There { .. })
    );
    assert_eq!(
        sorted(contents(&session, &imported(&third[2]).tree)),
        sorted(expected(&FILES[1..]))
    );
    assert_eq!(session.snapshots().unwrap().len(), 3);
}

#[test]
fn what_is_damaged_or_forged_is_named_and_costs_no_more_than_itself() {
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    let name = bucket.snapshot(FIRST, &FILES);
    bucket.object(&name, FILES[0].0)[70] ^= 1;
    let missing = bucket.key(&name, FILES[3].0);
    bucket.objects.remove(&missing);
    let broken = bucket.snapshot(SECOND, &[("data/other", b"x")]);
    bucket.object(&broken, "manifest.json")[70] ^= 1;
    bucket.encrypt(None);
    let forged = bucket.snapshot(THIRD, &[("config/hook.sh", b"evil")]);
    bucket.encrypt(Some(PASSPHRASE));
    let escaped = bucket.snapshot("2025-03-04T00:00:00.000Z", &[("config/../../x", b"evil")]);
    let empty = bucket.snapshot("2025-03-05T00:00:00.000Z", &[("data/only", b"only")]);
    let gone = bucket.key(&empty, "data/only");
    bucket.objects.remove(&gone);
    let last = bucket.snapshot("2025-03-06T00:00:00.000Z", &[("data/fine", b"fine")]);
    let session = bench.open().unwrap();
    let (done, ears) = import(&session, &bucket);
    let snapshot = imported(&done[0]);
    assert_eq!(snapshot.stats.problems, 2);
    let kept = [FILES[1], FILES[2], FILES[4]];
    assert_eq!(sorted(contents(&session, &snapshot.tree)), sorted(expected(&kept)));
    let told = ears.0.into_inner().unwrap();
    let mut named: Vec<_> = told
        .iter()
        .filter(|one| !one.notice)
        .map(|one| String::from_utf8(one.path.clone()).unwrap())
        .collect();
    named.sort();
    assert_eq!(named, [bucket.key(&name, FILES[0].0), missing, gone]);
    for (done, name, is_refused) in [
        (&done[1], broken, false),
        (&done[2], forged, true),
        (&done[3], escaped, true),
        (&done[4], empty, false),
    ] {
        match &done.fate {
            Fate::Out { why, refused } => {
                assert!(why.contains(&name), "{why}");
                assert_eq!(*refused, is_refused, "{why}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(done[5].name.ends_with(&last));
    assert_eq!(contents(&session, &imported(&done[5]).tree).len(), 1);
    assert_eq!(session.snapshots().unwrap().len(), 2);
    // a file that was lost is no reason to import the rest a second time
    let (again, _) = import(&session, &bucket);
    assert!(matches!(again[0].fate, Fate::There { lost: 2, .. }), "{again:?}");
    assert_eq!(session.snapshots().unwrap().len(), 2);
}

#[test]
fn an_import_that_was_stopped_goes_on_where_it_was() {
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    bucket.snapshot(SECOND, &FILES[..3]);
    bucket.snapshot(THIRD, &[("data/new", b"new")]);
    let (old, session) = (Old::new(&bucket), bench.open().unwrap());
    let source = source(old.store());
    let planned = plan(&session, source.survey().unwrap()).unwrap();
    let (stop, options) = (AtomicBool::new(false), Options::default());
    let mut told = |_: &Done| stop.store(true, Ordering::Relaxed);
    let ears = Ears::default();
    let stopped = apply(&session, &source, &planned, &options, &ears, &mut told, &stop);
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    // the second one needed no file that the first did not bring
    let there = session.snapshots().unwrap().len();
    assert!((1..3).contains(&there), "{there}");
    drop(session);
    let session = bench.open().unwrap();
    let (done, _) = import(&session, &bucket);
    assert_eq!(done.len(), 3);
    assert!(matches!(done[0].fate, Fate::There { .. }));
    let mut snapshots = session.snapshots().unwrap();
    assert_eq!(snapshots.len(), 3);
    snapshots.sort_by_key(|snapshot| snapshot.finished_nanos);
    let held: Vec<_> = snapshots.iter().map(|s| contents(&session, &s.tree).len()).collect();
    assert_eq!(held, [5, 3, 1]);
}

/// Counts what is read.
#[derive(Debug)]
struct Counting {
    store: Arc<dyn Foreign>,
    reads: AtomicU64,
}

impl Foreign for Counting {
    fn objects(&self) -> store::Result<Vec<Object>> {
        self.store.objects()
    }
    fn read(&self, key: &str, range: Range<u64>) -> store::Result<bytes::Bytes> {
        if !range.is_empty() && !key.ends_with("manifest.json") {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.store.read(key, range)
    }
    fn place(&self) -> String {
        self.store.place()
    }
}

#[test]
fn content_that_was_met_before_is_not_fetched_again_and_what_was_not_carried_over_is_had() {
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    let mut second = FILES.to_vec();
    second[0].1 = b"model: y\n";
    bucket.snapshot(FIRST, &FILES);
    // an engine before 0.3.0: nothing but the changed file
    bucket.snapshot_of_changes(SECOND, &second, &[second[0].0]);
    bucket.snapshot(THIRD, &second);
    let (old, session) = (Old::new(&bucket), bench.open().unwrap());
    let counting = Arc::new(Counting { store: old.store(), reads: AtomicU64::new(0) });
    let done = import_from(&session, &source(counting.clone()), &Ears::default()).unwrap();
    for (done, files) in done.iter().zip([&FILES[..], &second, &second]) {
        assert_eq!(sorted(contents(&session, &imported(done).tree)), sorted(expected(files)));
    }
    // four contents in the first, one of them empty but sealed; one in the second; none in the third
    assert_eq!(counting.reads.load(Ordering::Relaxed), 5);
    assert_eq!(imported(&done[2]).stats.bytes_read, 0);

    // alone in a later run, what was not carried over is found in other snapshots
    let (bench, _) = bench_in_memory();
    let session = bench.open().unwrap();
    let old_source = source(old.store());
    let mut planned = plan(&session, old_source.survey().unwrap()).unwrap();
    planned.remove(2);
    planned.remove(0);
    let (options, ears, stop) = (Options::default(), Ears::default(), AtomicBool::new(false));
    let done = apply(&session, &old_source, &planned, &options, &ears, &mut |_| {}, &stop).unwrap();
    assert_eq!(sorted(contents(&session, &imported(&done[0]).tree)), sorted(expected(&second)));
    let told = ears.0.into_inner().unwrap();
    assert_eq!((told.len(), told.iter().all(|one| one.notice)), (3, true), "{told:?}");
}

#[test]
fn a_large_file_that_changed_a_little_adds_a_little() {
    let (bench, _) = bench_in_memory();
    let mut content = noise(12_000_000);
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &[("data/large", &content)]);
    content[6_000_000] ^= 1;
    bucket.snapshot(SECOND, &[("data/large", &content)]);
    let session = bench.open().unwrap();
    let (done, _) = import(&session, &bucket);
    let stats = imported(&done[1]).stats;
    assert_eq!(stats.bytes_read, 12_000_000);
    assert!(stats.bytes_new < 1_000_000, "{}", stats.bytes_new);
    assert_eq!(contents(&session, &imported(&done[1]).tree)[0].1, content);
}

#[test]
fn databases_are_restored_as_such_and_one_that_lies_beside_its_log_is_raw() {
    let (bench, _) = bench_in_memory();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1)").unwrap();
    drop(db);
    let image = std::fs::read(&path).unwrap();
    let files: [(&str, &[u8]); 4] = [
        ("data/a.db", &image),
        ("data/b.db", &image),
        ("data/b.db-wal", b"a log"),
        ("data/not.db", b"SQLite, it says"),
    ];
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &files);
    let session = bench.open().unwrap();
    let (done, _) = import(&session, &bucket);
    let snapshot = imported(&done[0]);
    let mut flags = Vec::new();
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    reader
        .walk(&snapshot.tree, &mut |path, entry| {
            if entry.kind == repo::Kind::File {
                flags.push((String::from_utf8(path).unwrap(), entry.flags));
            }
            Ok(())
        })
        .unwrap();
    let of = |path: &str, flags| (format!("goose/data/{path}"), flags);
    assert_eq!(
        flags,
        [
            of("a.db", flag::SQLITE),
            of("b.db", flag::SQLITE_RAW),
            of("b.db-wal", 0),
            of("not.db", 0)
        ]
    );
    let target = tempfile::tempdir().unwrap();
    restore(&session, snapshot, target.path());
    assert_eq!(std::fs::read(target.path().join("goose/data/a.db")).unwrap(), image);
}

#[test]
fn a_policy_takes_what_was_imported_at_the_time_it_has() {
    use engine::forget::{self, Policy, Request};
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    for day in 1..=9 {
        let time = format!("2025-03-0{day}T10:00:00.000Z");
        bucket.snapshot(&time, &[("data/a", format!("{day}").as_bytes())]);
    }
    bucket.safety("2025-03-01T09:00:00.000Z", &[("data/a", b"0")]);
    let session = bench.open().unwrap();
    import(&session, &bucket);
    let request =
        Request { policy: Policy { daily: 5, ..Policy::default() }, ..Request::default() };
    let plan = forget::plan(&session, &request, &jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(plan.groups.iter().map(|group| group.times_set_right).sum::<usize>(), 0);
    let kept: BTreeSet<_> = plan
        .groups
        .iter()
        .flat_map(|group| &group.keep)
        .filter(|kept| !kept.snapshot.is_safety())
        .map(|kept| kept.snapshot.finished_nanos)
        .collect();
    let newest: BTreeSet<_> =
        (5..=9).map(|day| nanos(&format!("2025-03-0{day}T10:00:00Z"))).collect();
    assert_eq!(kept, newest);
    assert!(plan.forget().iter().all(|snapshot| !snapshot.is_safety()));
}

#[test]
fn a_snapshot_of_a_time_to_come_is_refused() {
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES[..1]);
    let name = bucket.snapshot("9998-01-01T00:00:00.000Z", &FILES[..1]);
    let (old, session) = (Old::new(&bucket), bench.open().unwrap());
    let planned = plan(&session, source(old.store()).survey().unwrap()).unwrap();
    assert!(matches!(planned[0].step, Step::New(_)));
    assert!(
        matches!(&planned[1].step, Step::Out { why, refused: true } if why.contains(&name)),
        "{planned:?}"
    );
}

#[test]
fn a_push_before_and_after_an_import_is_what_it_would_have_been() {
    let (bench, _) = bench_in_memory();
    std::fs::write(bench.source().join("a"), "a").unwrap();
    let session = bench.open().unwrap();
    let first = bench.push(&session).unwrap().snapshot().clone();
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    import(&session, &bucket);
    assert_eq!(session.select("latest", None, None).unwrap().id, first.id);
    let unchanged = bench.push(&session).unwrap();
    assert_eq!(unchanged.snapshot().id, first.id);
    std::fs::write(bench.source().join("a"), "b").unwrap();
    let second = bench.push(&session).unwrap().snapshot().clone();
    assert_eq!((second.previous, second.counter), (Some(first.id), first.counter + 1));
}

#[test]
fn a_place_that_goes_away_stops_the_import_and_is_no_damage() {
    #[derive(Debug)]
    struct Going(Arc<dyn Foreign>);
    impl Foreign for Going {
        fn objects(&self) -> store::Result<Vec<Object>> {
            self.0.objects()
        }
        fn read(&self, key: &str, range: Range<u64>) -> store::Result<bytes::Bytes> {
            if key.ends_with("one.log") {
                let (op, name, detail) = ("get", key.to_owned(), "no route".to_owned());
                return Err(store::Error::Unavailable { op, name, detail });
            }
            self.0.read(key, range)
        }
        fn place(&self) -> String {
            self.0.place()
        }
    }
    let (bench, _) = bench_in_memory();
    let mut bucket = encrypted();
    bucket.snapshot(FIRST, &FILES);
    let (old, session) = (Old::new(&bucket), bench.open().unwrap());
    let outcome = import_from(&session, &source(Arc::new(Going(old.store()))), &Ears::default());
    assert!(
        matches!(
            outcome,
            Err(Error::Import(engine::import::SourceError::Store(
                store::Error::Unavailable { .. }
            )))
        ),
        "{outcome:?}"
    );
    assert_eq!(session.snapshots().unwrap().len(), 0);
    let (done, _) = import(&session, &bucket);
    assert_eq!(contents(&session, &imported(&done[0]).tree).len(), FILES.len());
}
