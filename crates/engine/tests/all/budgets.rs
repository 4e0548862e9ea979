//! What a push costs, counted: store calls, and every byte that is put.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use engine::push::Pushed;
use store::MemoryStore;
use testkit::{Call, RecordingStore, Verb};

use crate::support::Bench;
use crate::support::text::Writer;

const PACK_BYTES: u64 = 32 << 20;

fn bench() -> (Bench, Arc<RecordingStore>) {
    let store = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
    (Bench::new(store.clone()), store)
}

/// 5,000 small files in 50 directories.
fn small_files(source: &Path) {
    let mut writer = Writer::new(1);
    for dir in 0..50 {
        let dir = source.join(format!("project-{dir:02}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..100 {
            fs::write(dir.join(format!("{file:03}.json")), writer.lines(300 + file * 20)).unwrap();
        }
    }
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn zstd_len(bytes: &[u8]) -> u64 {
    zstd::bulk::compress(bytes, 3).unwrap().len() as u64
}

fn put_bytes(calls: &[Call]) -> u64 {
    calls.iter().filter(|call| call.verb == Verb::Put).map(|call| call.bytes).sum()
}

/// One push by a fresh process.
fn push(bench: &Bench) -> Pushed {
    bench.push(&bench.open().unwrap()).unwrap()
}

fn lines(calls: &[Call]) -> String {
    calls.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_push_makes_few_calls_whatever_the_number_of_files() {
    let (bench, store) = bench();
    small_files(&bench.source());
    drop(bench.init());
    store.take();

    push(&bench);
    let first = store.take();
    let limit = 16 + put_bytes(&first).div_ceil(PACK_BYTES);
    assert!(first.len() as u64 <= limit, "first push:\n{}", lines(&first));

    assert!(matches!(push(&bench), Pushed::Unchanged(..)));
    let nothing = store.take();
    assert!(nothing.len() <= 4, "no change:\n{}", lines(&nothing));

    let mut names: HashSet<String> = put_names(&first).collect();
    for round in 0..5 {
        append(&bench.source().join("project-07/042.json"), b"{\"one\":\"more line\"}\n");
        let pushed = push(&bench);
        assert!(matches!(pushed, Pushed::Made(_)), "{pushed:?}");
        let line = store.take();
        assert!(line.len() <= 12, "one line, push {round}:\n{}", lines(&line));
        for name in put_names(&line) {
            assert!(names.insert(name.clone()), "{name} was written twice");
        }
    }
}

fn put_names(calls: &[Call]) -> impl Iterator<Item = String> {
    calls.iter().filter(|call| call.verb == Verb::Put).map(|call| call.name.clone())
}

/// Trees and maps go with their snapshot, content stays: what is much has a pack of its own.
#[test]
fn much_metadata_does_not_lie_beside_content() {
    let packs = |files: u32| {
        let (bench, store) = bench();
        fs::create_dir_all(bench.source()).unwrap();
        for n in 0..files {
            fs::write(bench.source().join(format!("{n}")), format!("{n}\n")).unwrap();
        }
        drop(bench.init());
        store.take();
        push(&bench);
        put_names(&store.take()).filter(|name| name.starts_with("packs/")).count()
    };
    assert_eq!(packs(200), 1);
    assert_eq!(packs(9_000), 2);
}

#[test]
fn a_root_of_named_files_costs_no_more_when_nothing_changed() {
    let (bench, store) = bench();
    fs::create_dir_all(bench.source()).unwrap();
    fs::write(bench.source().join("settings.json"), b"{}").unwrap();
    fs::write(bench.source().join("private"), b"not asked for").unwrap();
    let mut root = bench.root();
    root.scan.files = Some(vec![b"settings.json".to_vec(), b"missing.json".to_vec()]);
    let run = |session: &engine::Session| {
        let cancel = std::sync::atomic::AtomicBool::new(false);
        let options = engine::push::PushOptions::default();
        engine::push::push(session, std::slice::from_ref(&root), &options, &engine::Silent, &cancel)
    };
    drop(bench.init());
    let first = run(&bench.open().unwrap()).unwrap();
    assert_eq!(first.stats().entries, 1);
    store.take();
    assert!(matches!(run(&bench.open().unwrap()).unwrap(), Pushed::Unchanged(..)));
    assert!(store.total() <= 4, "{}", lines(&store.calls()));
}

#[test]
fn a_heartbeat_is_all_that_is_ever_overwritten() {
    let (bench, store) = bench();
    small_files(&bench.source());
    drop(bench.init());
    for _ in 0..3 {
        bench.clock.0.fetch_add(3_600_000_000_000, std::sync::atomic::Ordering::Relaxed);
        push(&bench);
        append(&bench.source().join("project-00/001.json"), b"{}\n");
    }
    let mut names = HashSet::new();
    for name in store.names(Verb::Put) {
        assert!(names.insert(name.clone()) || name.starts_with("op/"), "{name} twice");
    }
    assert_eq!(store.names(Verb::Delete), Vec::<String>::new());
}

/// Grows a transcript of 50 MB and counts what each push puts.
fn growing(bench: &Bench, store: &RecordingStore) {
    let path = bench.source().join("projects/long.jsonl");
    let mut writer = Writer::new(2);
    let text = writer.lines(50_000_000);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &text).unwrap();
    drop(bench.init());
    store.take();
    push(bench);
    let first = put_bytes(&store.take());
    let alone = fs::read_dir(bench.source()).unwrap().count() == 1;
    if alone {
        let pieces: u64 = text.chunks(1 << 20).map(zstd_len).sum();
        assert!(first * 100 <= pieces * 104, "first push: {first} of {pieces}");
    }
    drop(text);
    let many = if alone { 72 } else { 1 };
    for (growth, factor, pushes) in [(64 << 10, 12, 10_u64), (8 << 10, 13, 10), (8 << 10, 13, many)]
    {
        let (mut spent, mut allowed) = (0, 0);
        for n in 0..pushes {
            let tail = writer.lines(growth);
            append(&path, &tail);
            push(bench);
            let calls = store.take();
            let (put, limit) = (put_bytes(&calls), zstd_len(&tail) * factor / 10 + (32 << 10));
            if pushes == 10 {
                assert!(put <= limit, "{growth}, push {n}: {put} > {limit}\n{}", lines(&calls));
            }
            (spent, allowed) = (spent + put, allowed + limit);
        }
        assert!(spent <= allowed, "{pushes} pushes of {growth}: {spent} > {allowed}");
    }
    let session = bench.open().unwrap();
    let snapshot = session.select("latest", None, None).unwrap();
    let reader = repo::Reader::open(session.repo(), None).unwrap();
    let mut extents_count = 0;
    reader
        .walk(&snapshot.tree, &mut |name, entry| {
            if name.ends_with(b"long.jsonl") {
                extents_count = reader.extents(&entry.map)?.len();
            }
            Ok(())
        })
        .unwrap();
    // 24 full blocks, 10 tails of 64 KiB, and at most 64 small ones with what they were merged to
    assert!((25..=24 + 10 + 64 + 8).contains(&extents_count), "{extents_count} extents");
}

#[test]
fn a_transcript_that_grows_alone_uploads_little_more_than_its_new_lines() {
    let (bench, store) = bench();
    growing(&bench, &store);
}

#[test]
fn a_transcript_that_grows_among_5000_files_uploads_little_more_than_its_new_lines() {
    let (bench, store) = bench();
    small_files(&bench.source());
    growing(&bench, &store);
}
