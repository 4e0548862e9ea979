//! An older copy of a database is there: a restore fetches the pages that differ and no others.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::pull::{Options, Placement, Plan, Report, SnapshotContent, apply};
use repo::{OpId, flag};
use rusqlite::Connection;
use store::MemoryStore;
use testkit::{RecordingStore, Verb};

use crate::support::Bench;
use crate::support::text::Dice;

/// A database of about 12 MB: rows of a few hundred bytes, and an index.
fn fill(db: &Connection) {
    db.execute_batch(
        "BEGIN; CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB); CREATE INDEX at ON t(length(body))",
    )
    .unwrap();
    for n in 0..24_000_u32 {
        let body = Dice::new(n.into()).bytes(350 + n as usize % 100);
        db.execute("INSERT INTO t VALUES(?1, ?2)", (n, body)).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Changes rows here and there, each on a page of its own.
fn scatter(db: &Connection, step: usize) -> u64 {
    let mut count = 0;
    db.execute_batch("BEGIN").unwrap();
    for n in (5..24_000_u32).step_by(step) {
        db.execute("UPDATE t SET body = zeroblob(length(body)) WHERE n = ?1", [n]).unwrap();
        count += 1;
    }
    db.execute_batch("COMMIT").unwrap();
    count
}

/// Restores a snapshot over a copy of `there`, on a machine without a cache.
fn restore(
    bench: &Bench,
    store: &Arc<RecordingStore>,
    id: &OpId,
    there: &[u8],
) -> (Report, u64, Vec<u8>) {
    let session = bench.open().unwrap();
    let target = tempfile::tempdir().unwrap();
    fs::create_dir_all(target.path().join("files")).unwrap();
    let path = target.path().join("files/a.db");
    fs::write(&path, there).unwrap();
    let snapshot = session.snapshot(id).unwrap();
    let content = SnapshotContent::open(&session, &snapshot).unwrap();
    let options = Options {
        labels: vec![b"files".to_vec()],
        ..Options::new(Placement::Under(target.path().to_owned()))
    };
    let cancel = AtomicBool::new(false);
    let plan = Plan::make(&content, &options, &cancel).unwrap();
    assert_eq!(plan.totals.patch, 1, "{:?}", plan.totals);
    store.take();
    let report = apply(&content, &plan, &options, &(), &cancel).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    (report, plan.totals.fetch, fs::read(path).unwrap())
}

fn bench() -> (Bench, Arc<RecordingStore>) {
    let store = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
    let bench = Bench::new(store.clone());
    fs::create_dir_all(bench.source()).unwrap();
    drop(bench.init());
    (bench, store)
}

fn push(bench: &Bench) -> OpId {
    bench.push(&bench.open().unwrap()).unwrap().snapshot().id
}

fn differing_pages(a: &[u8], b: &[u8]) -> u64 {
    assert_eq!(a.len(), b.len());
    a.chunks(4096).zip(b.chunks(4096)).filter(|(a, b)| a != b).count() as u64
}

fn database(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    fill(&db);
    db
}

#[test]
fn over_an_older_copy_only_the_pages_that_changed_since_are_fetched() {
    let (bench, store) = bench();
    let path = bench.source().join("a.db");
    drop(database(&path));
    let (first, old) = (push(&bench), fs::read(&path).unwrap());
    let changed = scatter(&Connection::open(&path).unwrap(), 500);
    let (second, new) = (push(&bench), fs::read(&path).unwrap());
    let pages = differing_pages(&old, &new);
    assert!(pages >= changed && pages < changed + 20, "{pages} pages for {changed} rows");

    let (report, fetch, restored) = restore(&bench, &store, &second, &old);
    assert!(restored == new);
    assert_eq!(report.patched, 1);
    // the changed pages lie together, in blocks of their own
    assert_eq!(fetch, pages * 4096, "of {}", new.len());
    assert!(report.bytes_fetched <= fetch);
    assert_eq!(report.bytes_kept, new.len() as u64 - pages * 4096);
    let reads: u64 =
        store.calls().iter().filter(|c| c.verb == Verb::GetRange).map(|c| c.bytes).sum();
    assert!(reads <= fetch + 4096, "{reads} bytes read for {fetch}");

    // and back: the old pages lie in large blocks, of which only those with a changed page are read
    let (report, fetch, restored) = restore(&bench, &store, &first, &new);
    assert!(restored == old);
    assert_eq!(report.bytes_kept, old.len() as u64 - pages * 4096);
    assert!(fetch <= old.len() as u64 + 4096);
}

#[test]
fn blocks_without_a_changed_page_are_not_fetched_when_going_back() {
    let (bench, store) = bench();
    let path = bench.source().join("a.db");
    drop(database(&path));
    let (first, old) = (push(&bench), fs::read(&path).unwrap());
    let db = Connection::open(&path).unwrap();
    db.execute("UPDATE t SET body = zeroblob(length(body)) WHERE n = 17", []).unwrap();
    drop(db);
    push(&bench);
    let new = fs::read(&path).unwrap();
    let (report, fetch, restored) = restore(&bench, &store, &first, &new);
    assert!(restored == old);
    // page 1 and the row's
    assert_eq!(report.bytes_kept, old.len() as u64 - differing_pages(&old, &new) * 4096);
    assert!(fetch <= 4 << 20, "{fetch} of {}", old.len());
}

#[test]
fn pages_that_moved_with_their_numbers_are_compared_as_they_are_stored() {
    // b-tree pages with pointers: normalised in the repository, raw here
    let (bench, store) = bench();
    let path = bench.source().join("a.db");
    drop(database(&path));
    push(&bench);
    let old = fs::read(&path).unwrap();
    scatter(&Connection::open(&path).unwrap(), 3_000);
    let (second, new) = (push(&bench), fs::read(&path).unwrap());
    let session = bench.open().unwrap();
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    let mut normalised = 0;
    reader
        .walk(&session.snapshot(&second).unwrap().tree, &mut |_, entry| {
            if entry.flags & flag::SQLITE != 0 {
                normalised += reader.extents(&entry.map)?.iter().filter(|e| e.pages).count();
            }
            Ok(())
        })
        .unwrap();
    assert!(normalised > 0, "nothing is normalised: this shows nothing");
    let (report, _, restored) = restore(&bench, &store, &second, &old);
    assert!(restored == new);
    assert_eq!(report.bytes_kept, new.len() as u64 - differing_pages(&old, &new) * 4096);
}
