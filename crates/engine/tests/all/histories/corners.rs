//! Moments that a random history meets rarely: pages that were stored as one thing and are read as
//! another.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::push::{PushOptions, Pushed, push};
use rusqlite::{Connection, params};
use store::MemoryStore;

use super::NAME;
use crate::support::text::Dice;
use crate::support::{Bench, Ears};

/// A closed database with a log to come: rows with long values, and an index over them.
fn bench() -> (Bench, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::new());
    let bench = Bench::new(memory.clone());
    fs::create_dir_all(bench.source()).unwrap();
    drop(bench.init());
    let db = Connection::open(bench.source().join(NAME)).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
         CREATE TABLE t(n INTEGER PRIMARY KEY, body BLOB); CREATE INDEX i ON t(body); BEGIN",
    )
    .unwrap();
    let mut dice = Dice::new(11);
    for n in 0..60 {
        let len = dice.below(12_000) as usize;
        let body = dice.bytes(len);
        db.execute("INSERT INTO t VALUES(?1, ?2)", params![n, body]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    (bench, memory)
}

fn push_now(bench: &Bench, ears: &Ears) -> Pushed {
    let options =
        PushOptions { database_wait: Duration::from_millis(20), ..PushOptions::default() };
    let session = bench.open().unwrap();
    push(&session, &[bench.root()], &options, ears, &AtomicBool::new(false)).unwrap()
}

/// The database in a snapshot.
fn held(bench: &Bench, memory: &Arc<MemoryStore>, pushed: &Pushed) -> Vec<u8> {
    let files = bench.held(memory.clone(), &pushed.snapshot().id);
    let path = format!("files/{NAME}");
    files.into_iter().find(|(name, _)| *name == path).expect("it is in the snapshot").1
}

#[test]
fn a_database_that_was_captured_and_is_locked_now_comes_back_as_it_lies() {
    let (bench, memory) = bench();
    let path = bench.source().join(NAME);
    push_now(&bench, &Ears::default());
    let lying = fs::read(&path).unwrap();
    // its owner writes to the log alone: the file is what it was, and nobody else may read it
    let owner = Connection::open(&path).unwrap();
    owner
        .execute_batch(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA wal_autocheckpoint=0;
             UPDATE t SET body=zeroblob(10) WHERE n=1",
        )
        .unwrap();
    let ears = Ears::default();
    let pushed = push_now(&bench, &ears);
    assert_eq!(ears.0.lock().unwrap().len(), 1, "it is told that it was copied as it lay");
    assert!(held(&bench, &memory, &pushed) == lying);
    assert_eq!(
        pushed.stats().bytes_new,
        fs::metadata(path.with_extension("db-wal")).unwrap().len()
    );
    drop(owner);
    let pushed = push_now(&bench, &Ears::default());
    assert!(held(&bench, &memory, &pushed) == fs::read(&path).unwrap());
}

#[test]
fn a_header_that_tells_of_other_pages_changes_no_page_behind_it() {
    let (bench, memory) = bench();
    let path = bench.source().join(NAME);
    let first = push_now(&bench, &Ears::default());
    let sound = fs::read(&path).unwrap();
    let mut damaged = sound.clone();
    damaged[20] = 16; // reserved bytes: rows overflow elsewhere
    fs::write(&path, &damaged).unwrap();
    let second = push_now(&bench, &Ears::default());
    fs::write(&path, &sound).unwrap();
    let third = push_now(&bench, &Ears::default());
    for (pushed, bytes) in [(first, &sound), (second, &damaged), (third, &sound)] {
        assert!(held(&bench, &memory, &pushed) == *bytes);
    }
}
