//! Snapshots go to another repository and come back as they were.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::copy::{Copied, copy};
use engine::push::PushOptions;
use engine::{Session, Silent};
use store::{MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore};

use crate::support::{self, Bench, bench_in_memory};

fn push(bench: &Bench) -> repo::OpId {
    let session = bench.open().unwrap();
    let options = PushOptions { always: true, ..PushOptions::default() };
    let stop = AtomicBool::new(false);
    let pushed = engine::push::push(&session, &[bench.root()], &options, &Silent, &stop);
    pushed.unwrap().snapshot().id
}

fn copy_all(from: &Session, to: &Session) -> engine::Result<Vec<Copied>> {
    let snapshots = from.snapshots()?;
    let done = copy(from, to, &snapshots, &mut |_| {}, &AtomicBool::new(false))?;
    assert_eq!(done.damaged, []);
    Ok(done.copied)
}

fn database(path: &std::path::Path, rows: std::ops::Range<u32>) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, text BLOB)").unwrap();
    db.execute_batch("BEGIN").unwrap();
    for n in rows {
        db.execute("INSERT INTO t VALUES(?1, randomblob(900))", [n]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// Two pushes of a small one.
fn two_pushes(bench: &Bench) -> Vec<(repo::OpId, testkit::Tree)> {
    let of_round = |round: u8| {
        std::fs::write(bench.source().join("talk.jsonl"), vec![b'a' + round; 9_000]).unwrap();
        let id = push(bench);
        (id, bench.restore(bench.store.clone(), &id))
    };
    (0..2).map(of_round).collect()
}

/// Three pushes of a tree that changes: a database, text that grows, files that go.
fn three_pushes(bench: &Bench) -> Vec<(repo::OpId, testkit::Tree)> {
    let source = bench.source();
    let mut text = String::new();
    (0..3_u32)
        .map(|round| {
            for n in 0..3_000 {
                writeln!(text, "{{\"round\":{round},\"line\":{n}}}").unwrap();
            }
            std::fs::write(source.join("talk.jsonl"), &text).unwrap();
            std::fs::write(source.join(format!("only-{round}")), vec![7; 3000]).unwrap();
            if round > 0 {
                std::fs::remove_file(source.join(format!("only-{}", round - 1))).unwrap();
            }
            database(&source.join("state.db"), round * 2_000..(round + 1) * 2_000);
            let id = push(bench);
            (id, bench.restore(bench.store.clone(), &id))
        })
        .collect()
}

#[test]
fn every_snapshot_comes_back_from_the_copy_as_it_was() {
    let (bench, _) = bench_in_memory();
    let pushed = three_pushes(&bench);
    let other = Bench::new(Arc::new(MemoryStore::new()));
    let to = other.init();
    let from = bench.open().unwrap();
    let copied = copy_all(&from, &to).unwrap();
    assert_eq!(copied.len(), 3);
    for ((id, tree), copy) in pushed.iter().zip(&copied) {
        assert_eq!(copy.from, *id);
        assert_eq!(other.restore(other.store.clone(), &copy.to), *tree);
    }
    // what is there already is not copied again, and a later one brings only what is new
    let before = other.store.list("packs/").unwrap().len();
    assert!(copy_all(&from, &to).unwrap().iter().all(|one| one.was_there));
    assert_eq!(other.store.list("packs/").unwrap().len(), before);
    let bytes = |store: &dyn Store| -> u64 {
        store.list("packs/").unwrap().iter().map(|item| item.size).sum()
    };
    let (ours, theirs) = (bytes(bench.store.as_ref()), bytes(other.store.as_ref()));
    assert!(theirs * 10 <= ours * 11, "{theirs} bytes for {ours}");
}

#[test]
fn a_copy_without_what_was_collected_at_the_source_is_whole() {
    let (bench, _) = bench_in_memory();
    let pushed = three_pushes(&bench);
    let from = bench.open().unwrap();
    from.repo().forget(&pushed[0].0).unwrap();
    from.repo().forget(&pushed[1].0).unwrap();
    let options = repo::gc::GcOptions {
        accept_large: true,
        ..repo::gc::GcOptions::for_listing(store::Listing::Local)
    };
    let id = repo::OpId::random();
    repo::gc::collect(from.repo(), None, id, *from.machine_id(), &options, &|| 0, &|_| {}).unwrap();
    let other = Bench::new(Arc::new(MemoryStore::new()));
    let copied = copy_all(&bench.open().unwrap(), &other.init()).unwrap();
    assert_eq!(copied.len(), 1);
    assert_eq!(other.restore(other.store.clone(), &copied[0].to), pushed[2].1);
}

#[test]
fn any_failure_of_a_copy_is_survived_and_a_second_one_brings_the_rest() {
    let (bench, _) = bench_in_memory();
    let pushed = two_pushes(&bench);
    let target = MemoryStore::new();
    let other = Bench::new(Arc::new(target.clone()));
    drop(other.init());
    for fault in [Fault::Fail(Failure::Unavailable), Fault::LoseAnswer, Fault::CrashAfter] {
        for number in 1.. {
            let disk = target.fork();
            let faulty = Arc::new(FaultStore::at(Arc::new(disk.clone()), number, fault.clone()));
            let from = bench.open().unwrap();
            let done = other.open_on(faulty.clone()).and_then(|to| copy_all(&from, &to));
            let to = other.open_on(Arc::new(disk.clone())).unwrap();
            let copied = copy_all(&from, &to).unwrap();
            for ((_, tree), copy) in pushed.iter().zip(&copied) {
                let store = Arc::new(disk.clone());
                assert_eq!(other.restore(store, &copy.to), *tree, "{fault:?} at {number}");
            }
            if done.is_ok() && faulty.calls() < number {
                break;
            }
        }
    }
}

#[test]
fn a_repository_is_not_copied_into_itself() {
    let (bench, _) = bench_in_memory();
    push(&bench);
    let (from, to) = (bench.open().unwrap(), bench.open().unwrap());
    assert!(copy_all(&from, &to).is_err());
}

/// Two pushes; what only the first one stored lies in its pack alone, and the second needs it too.
fn pushes_that_share(bench: &Bench) -> testkit::Tree {
    let source = bench.source();
    std::fs::write(source.join("first"), support::text::Writer::new(1).lines(9_000)).unwrap();
    push(bench);
    std::fs::write(source.join("second"), support::text::Writer::new(2).lines(9_000)).unwrap();
    push(bench);
    bench.tree()
}

#[test]
fn a_snapshot_that_lost_content_is_not_copied_as_if_it_were_whole() {
    let (bench, _) = bench_in_memory();
    std::fs::write(bench.source().join("first"), support::text::Writer::new(1).lines(9_000))
        .unwrap();
    push(&bench);
    for prefix in ["packs/", "index/"] {
        let first = bench.store.list(prefix).unwrap();
        if prefix == "packs/" {
            std::fs::write(bench.source().join("second"), b"more").unwrap();
            push(&bench);
            assert_eq!(bench.store.list(prefix).unwrap().len(), 2);
        }
        let oldest = first.iter().min_by_key(|item| item.modified).unwrap();
        bench.store.delete(&oldest.name).unwrap();
    }
    std::fs::remove_dir_all(bench.dirs().cache).unwrap();
    let from = bench.open().unwrap();
    let newest = from.snapshots().unwrap().pop().unwrap();
    let other = Bench::new(Arc::new(MemoryStore::new()));
    let to = other.init();
    let done =
        copy(&from, &to, std::slice::from_ref(&newest), &mut |_| {}, &AtomicBool::new(false))
            .unwrap();
    assert_eq!((done.copied.len(), done.damaged.len()), (0, 1));
    assert_eq!(done.damaged[0].id, newest.id);
    assert!(done.damaged[0].what.contains("missing"), "{}", done.damaged[0].what);
    assert!(to.snapshots().unwrap().is_empty());
}

#[test]
fn a_copy_that_lost_files_since_is_made_once_more() {
    let (bench, _) = bench_in_memory();
    let other = Bench::new(Arc::new(MemoryStore::new()));
    let to = other.init();
    let none = other.store.list("packs/").unwrap();
    let tree = pushes_that_share(&bench);
    let from = bench.open().unwrap();
    let snapshots = from.snapshots().unwrap();
    let stop = AtomicBool::new(false);
    copy(&from, &to, &snapshots[..1], &mut |_| {}, &stop).unwrap();
    let first = other.store.list("packs/").unwrap();
    copy(&from, &to, &snapshots[1..], &mut |_| {}, &stop).unwrap();
    for item in first.iter().filter(|item| none.iter().all(|known| known.name != item.name)) {
        other.store.delete(&item.name).unwrap();
    }
    let sources = engine::repair::Sources { accept_loss: true, ..Default::default() };
    let look = engine::verify::Options::new(engine::verify::Level::All);
    engine::repair::repair(&to, &sources, &look, &Silent, &stop).unwrap();
    let left = to.snapshots().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].stats.entries + 1, snapshots[1].stats.entries);
    let copied = copy_all(&from, &to).unwrap();
    assert!(copied.iter().all(|one| !one.was_there), "{copied:?}");
    assert_eq!(other.restore(other.store.clone(), &copied[1].to), tree);
    assert!(copy_all(&from, &to).unwrap().iter().all(|one| one.was_there));
}

#[test]
fn what_is_pinned_is_pinned_in_the_copy() {
    let (bench, _) = bench_in_memory();
    let other = Bench::new(Arc::new(MemoryStore::new()));
    let to = other.init();
    let pushed = two_pushes(&bench);
    let from = bench.open().unwrap();
    from.repo().pin(&pushed[0].0).unwrap();
    let copied = copy_all(&from, &to).unwrap();
    let pinned = || to.repo().pinned().unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(pinned(), [copied[0].to]);
    // also where the copy was there before the pin, and once is enough
    from.repo().pin(&pushed[1].0).unwrap();
    for _ in 0..2 {
        copy_all(&from, &to).unwrap();
        assert_eq!(pinned().len(), 2);
        assert_eq!(other.store.list("pin/").unwrap().len(), 2);
    }
    assert_eq!(from.repo().pinned().unwrap().len(), 2);
}
