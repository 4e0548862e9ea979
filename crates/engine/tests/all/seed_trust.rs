//! What the engine we replace lost, gave away or believed, where keys, storages and whole trees are
//! concerned: one test for each defect of its list, by its number there. `seed_defects.rs` has those of
//! databases and files that change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::pull::{self, Placement, Report, SnapshotContent};
use engine::{Error, RotateOptions, Session};
use repo::keys::{Kdf, SecretInput};
use repo::{OpId, Snapshot};
use store::{Cancel, Endpoint, MemoryStore, Retry, S3Config, S3Store, Secret, Store, Time};
use testkit::server::{self, Server};
use testkit::tree::assert_equal;
use testkit::{Call, Failure, Fault, FaultStore, ManualTime, Plant, RecordingStore, Verb};
use zeroize::Zeroizing;

use crate::support::text::Dice;
use crate::support::{self, Bench, bench_in_memory, files_below, machine, open_with};

/// Stands in what must not be seen.
const CANARY: &str = "CANARY-seen";

/// Pulls a snapshot to a new directory beside the source; what is there afterwards, and what was said.
fn pull_to(
    bench: &Bench,
    store: Arc<dyn Store>,
    id: &OpId,
    name: &str,
) -> (PathBuf, Result<Report, String>) {
    let target = bench.dir.path().join(name);
    let elsewhere = tempfile::tempdir().unwrap();
    let dirs = engine::Dirs { cache: elsewhere.path().to_owned(), ..bench.dirs() };
    let pull = || -> Result<Report, String> {
        let session = open_with(store, &dirs, bench.clock.clone()).map_err(|e| e.to_string())?;
        let snapshot = session.snapshot(id).map_err(|e| e.to_string())?;
        let content = SnapshotContent::open(&session, &snapshot).map_err(|e| e.to_string())?;
        let labels = vec![b"files".to_vec()];
        let to = Placement::Under(target.clone());
        let options = pull::Options { labels, ..pull::Options::new(to) };
        pull::pull(&content, &options, &(), &AtomicBool::new(false)).map_err(|e| e.to_string())
    };
    let done = pull();
    (target, done)
}

/// Every file below `dir` with its bytes.
fn read_all(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(listing) = fs::read_dir(dir) else { return found };
    for path in listing.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(read_all(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

fn names(store: &MemoryStore, prefix: &str) -> Vec<String> {
    store.list(prefix).unwrap().into_iter().map(|item| item.name).collect()
}

#[test]
fn d3_after_new_keys_every_snapshot_old_and_new_restores() {
    let (bench, memory) = bench_in_memory();
    let word = |text: &str| SecretInput::Passphrase(Zeroizing::new(text.to_owned()));
    let mut made = Vec::new();
    fs::write(bench.source().join("stays"), Dice::new(1).bytes(90_000)).unwrap();
    for passphrase in ["first", "second", "third"] {
        fs::write(bench.source().join("changes"), format!("before {passphrase}")).unwrap();
        let pushed = bench.push(&bench.open().unwrap()).unwrap();
        made.push((pushed.snapshot().clone(), files_below(&bench.source())));
        let options = RotateOptions {
            passphrase: Some(word(passphrase)),
            recovery: false,
            drop_others: true,
            label: "here".into(),
            kdf: Kdf::for_tests(),
        };
        engine::rotate(&bench.open().unwrap(), &bench.dirs(), &options, |_| Ok(())).unwrap();
        // what did not change is stored under old keys and is read under new ones
        for (snapshot, files) in &made {
            assert_eq!(bench.held(memory.clone(), &snapshot.id), *files, "after {passphrase}");
        }
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let dirs = engine::Dirs {
        state: elsewhere.path().join("state"),
        cache: elsewhere.path().join("cache"),
    };
    let open = |text: &str| {
        let secret = word(text);
        Session::open(memory.clone(), |_| Ok(Some(secret)), &dirs, machine(), bench.clock.clone())
    };
    let session = open("third").unwrap();
    for (snapshot, files) in &made {
        let mut held = support::contents(&session, &snapshot.tree);
        held.sort();
        assert_eq!(held, *files, "with the newest passphrase");
    }
    assert!(open("first").is_err(), "a passphrase that was given up opens nothing");
}

#[test]
fn d10_modes_times_links_and_empty_directories_come_back() {
    let (bench, memory) = bench_in_memory();
    let mut plant = Plant::at(&bench.source()).unwrap();
    plant.file("secrets.json", b"{}").unwrap();
    plant.file("hooks/before.sh", b"#!/bin/sh\n").unwrap();
    plant.folder("empty/deeper").unwrap();
    plant.link("current", "hooks/before.sh").unwrap();
    plant.link("dangling", "/nowhere/at all").unwrap();
    plant.hard_link("again.sh", "hooks/before.sh").unwrap();
    for (name, mode) in [("secrets.json", 0o600), ("hooks/before.sh", 0o755), ("empty", 0o700)] {
        plant.mode(name, mode).unwrap();
    }
    plant.time("secrets.json", 1_500_000_000, 123_456_789).unwrap();
    plant.time("empty", 1_400_000_000, 5).unwrap();
    let planted = plant.done().unwrap();
    let pushed = bench.push(&bench.open().unwrap()).unwrap();
    assert_eq!(planted.entries.len(), bench.tree().entries.len());
    assert_equal(&bench.tree(), &bench.restore(memory, &pushed.snapshot().id));
}

#[test]
fn d11_one_bad_object_costs_its_files_and_no_others() {
    let (bench, memory) = bench_in_memory();
    fs::write(bench.source().join("a"), Dice::new(3).bytes(50_000)).unwrap();
    let first = bench.push(&bench.open().unwrap()).unwrap();
    fs::write(bench.source().join("b"), "in another pack").unwrap();
    let second = bench.push(&bench.open().unwrap()).unwrap();
    let broken = memory.fork();
    let of_first = format!("packs/{}", first.snapshot().id);
    let gone = names(&broken, &of_first);
    assert!(!gone.is_empty());
    for name in gone {
        broken.delete(&name).unwrap();
    }
    let (target, done) = pull_to(&bench, Arc::new(broken), &second.snapshot().id, "out");
    let report = done.unwrap();
    let failed: Vec<&[u8]> = report.problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(failed, [b"files/a"]);
    assert_eq!(fs::read(target.join("files/b")).unwrap(), b"in another pack");
    assert!(!target.join("files/a").exists());
}

#[test]
fn f1_a_large_file_travels_in_packs_of_bounded_size() {
    const PUT_BYTES_MAX: u64 = 64 << 20;
    let recording = Arc::new(RecordingStore::new(Arc::new(MemoryStore::new())));
    let bench = Bench::new(recording.clone());
    fs::create_dir_all(bench.source()).unwrap();
    fs::write(bench.source().join("large"), Dice::new(9).bytes(100 << 20)).unwrap();
    drop(bench.init());
    bench.push(&bench.open().unwrap()).unwrap();
    let puts: Vec<u64> =
        recording.calls().iter().filter(|c| c.verb == Verb::Put).map(|c| c.bytes).collect();
    assert!(puts.iter().sum::<u64>() > 100 << 20);
    assert!(puts.iter().all(|bytes| *bytes <= PUT_BYTES_MAX), "{puts:?}");
}

/// A bucket on a server that answers as B2 does, whose waits take no time.
fn bucket(server: &Server) -> S3Store {
    let config = server.config();
    let time: Arc<dyn Time> = Arc::new(ManualTime::default());
    S3Store::open(S3Config {
        endpoint: Endpoint::Url(server.url()),
        bucket: config.bucket.clone(),
        prefix: "agents".to_owned(),
        region: Some(config.region.clone()),
        key_id: config.key_id.clone(),
        secret: Secret::new(config.secret.clone()),
        upload_bytes_per_second: None,
        retry: Retry { time, ..Retry::with_budget(Duration::from_secs(300)) },
        cancel: Cancel::new(),
    })
    .unwrap()
}

#[test]
fn f6_a_file_with_control_characters_in_its_name_is_stored_and_a_cut_upload_sent_again() {
    let server = Server::start(server::Config::default()).unwrap();
    let store: Arc<dyn Store> = Arc::new(bucket(&server));
    let bench = Bench::new(store.clone());
    fs::create_dir_all(bench.source()).unwrap();
    for name in ["a\u{1}b", "c\nd", "e\u{1b}[31m", "f\u{7f}", "g\t"] {
        fs::write(bench.source().join(name), format!("content of {name:?}")).unwrap();
    }
    drop(bench.init());
    let mut cut = 2;
    server.on(move |request| {
        if request.method != "PUT" || !request.key.contains("packs/") || cut == 0 {
            return None;
        }
        cut -= 1;
        Some(server::Fault::Status(400, "IncompleteBody", "fewer bytes than the header said"))
    });
    let pushed = bench.push(&bench.open().unwrap()).unwrap();
    assert_eq!(pushed.stats().problems, 0);
    let packs = server.requests();
    let packs = packs.iter().filter(|r| r.method == "PUT" && r.key.contains("packs/")).count();
    assert_eq!(packs, 3, "two that were cut and one that was not");
    assert_equal(&bench.tree(), &bench.restore(store.clone(), &pushed.snapshot().id));
    for item in store.list("").unwrap() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "/-".contains(c);
        assert!(item.name.chars().all(plain), "{}", item.name);
    }
}

#[test]
fn f9_nothing_that_lies_where_a_lock_is_blocks_a_push() {
    let (bench, _) = bench_in_memory();
    let id = bench.open().unwrap().repo().id().hex();
    let lock = bench.dirs().state.join("repos").join(id).join("lock");
    let own = std::process::id().to_string();
    // empty, no number, a process that lives (ours, init), one that cannot be
    for (n, left) in ["", "x", &own, "1", "4294967295", "0"].iter().enumerate() {
        fs::write(&lock, left).unwrap();
        fs::write(bench.source().join("a"), n.to_string()).unwrap();
        bench.push(&bench.open().unwrap()).unwrap_or_else(|e| panic!("{left:?}: {e}"));
    }
    // one that is held does, names its holder, and is not taken away by whoever was refused
    let session = bench.open().unwrap();
    let held = fs::OpenOptions::new().read(true).write(true).open(&lock).unwrap();
    held.try_lock().unwrap();
    fs::write(&lock, &own).unwrap();
    for _ in 0..2 {
        let refused = bench.push(&session).unwrap_err();
        let holder = Some(std::process::id());
        assert!(matches!(&refused, Error::Busy { holder: h } if *h == holder), "{refused:?}");
    }
    drop(held);
    bench.push(&session).unwrap();
}

#[test]
fn s1_what_the_keys_did_not_seal_is_never_restored() {
    let (bench, memory) = bench_in_memory();
    fs::write(bench.source().join("settings.json"), "honest").unwrap();
    let honest = bench.push(&bench.open().unwrap()).unwrap().snapshot().clone();
    let planted = OpId([0xff; 16]);
    let manifest = format!(
        r#"{{"version":1,"timestamp":"2099-01-01T00:00:00Z","files":{{"files/settings.json":{{"hash":"{CANARY}","size":11}}}}}}"#
    );
    let (other, others) = bench_in_memory();
    fs::write(other.source().join("settings.json"), CANARY).unwrap();
    let foreign = other.push(&other.open().unwrap()).unwrap().snapshot().id;
    let sealed = others.get(&Snapshot::object_name(&foreign)).unwrap().to_vec();
    for bytes in [manifest.into_bytes(), sealed] {
        let store = memory.fork();
        store.put(&Snapshot::object_name(&planted), vec![bytes.into()]).unwrap();
        let session = bench.open_on(Arc::new(store.clone())).unwrap();
        match session.select("latest", None, None) {
            Ok(latest) => assert_eq!(latest.id, honest.id),
            Err(e) => assert!(e.to_string().contains(&planted.hex()[..8]), "{e}"),
        }
        assert!(session.snapshot(&planted).is_err());
        let (target, done) = pull_to(&bench, Arc::new(store), &honest.id, "beside");
        assert!(done.unwrap().is_complete(), "ours is as whole as it was");
        assert_eq!(fs::read(target.join("files/settings.json")).unwrap(), b"honest");
    }
    // plain bytes in the place of what is sealed, of every kind
    for group in ["config", "keys/", "index/", "packs/", "snap/"] {
        for name in names(&memory, group) {
            let store = memory.fork();
            let plain: Vec<u8> = CANARY.bytes().cycle().take(16 << 10).collect();
            store.put(&name, vec![plain.into()]).unwrap();
            let (target, done) = pull_to(
                &bench,
                Arc::new(store),
                &honest.id,
                &format!("in {name}").replace('/', " "),
            );
            let restored = read_all(&target);
            assert!(restored.values().all(|bytes| !has(bytes, CANARY)), "{name}: {restored:?}");
            let whole = restored.values().any(|bytes| bytes == b"honest");
            assert!(whole || !done.is_ok_and(|report| report.is_complete()), "{name}: silence");
        }
    }
}

#[test]
fn s4_neither_names_nor_content_stand_in_the_storage() {
    let (bench, memory) = bench_in_memory();
    let dir = bench.source().join(format!("dir-{CANARY}"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(format!("name-{CANARY}")), format!("text {CANARY}")).unwrap();
    // too short and too odd to be compressed
    let noise = [Dice::new(8).bytes(200), CANARY.as_bytes().to_vec()].concat();
    fs::write(bench.source().join("noise"), noise).unwrap();
    std::os::unix::fs::symlink(format!("/to/{CANARY}"), bench.source().join("link")).unwrap();
    bench.push(&bench.open().unwrap()).unwrap();
    let all = names(&memory, "");
    assert!(all.len() >= 6, "{all:?}");
    for name in all {
        let bytes = memory.get(&name).unwrap();
        assert!(!has(name.as_bytes(), CANARY) && !has(&bytes, CANARY), "{name}");
    }
}

#[test]
fn s5_a_file_that_begins_like_one_of_ours_comes_back() {
    let (bench, memory) = bench_in_memory();
    fs::write(bench.source().join("first"), "x").unwrap();
    let first = bench.push(&bench.open().unwrap()).unwrap();
    assert_eq!(first.stats().problems, 0);
    let theirs = [b"B2EN".to_vec(), Dice::new(2).bytes(300)].concat();
    fs::write(bench.source().join("like theirs"), theirs).unwrap();
    fs::write(bench.source().join("a marker"), "[left out by agent-backup]").unwrap();
    // our own objects, as somebody has them who backs up a repository
    for name in names(&memory, "") {
        let at = bench.source().join(name.replace('/', " "));
        fs::write(at, memory.get(&name).unwrap()).unwrap();
    }
    let second = bench.push(&bench.open().unwrap()).unwrap();
    assert_eq!(second.stats().problems, 0);
    assert_equal(&bench.tree(), &bench.restore(memory, &second.snapshot().id));
}

#[test]
fn s6_a_storage_that_refuses_every_deletion_serves_pushes_and_restores() {
    let (bench, memory) = bench_in_memory();
    let denied = || -> Arc<dyn Store> {
        let rule =
            |call: &Call| (call.verb == Verb::Delete).then_some(Fault::Fail(Failure::Denied));
        Arc::new(FaultStore::new(memory.clone(), rule))
    };
    let mut made = Vec::new();
    for n in 0..4 {
        fs::write(bench.source().join("a"), format!("version {n}")).unwrap();
        fs::write(bench.source().join(format!("b{n}")), Dice::new(n).bytes(10_000)).unwrap();
        if n == 2 {
            // and after a push that was killed
            let dying = Arc::new(FaultStore::crash_after(denied(), 6));
            assert!(bench.open_on(dying).and_then(|session| bench.push(&session)).is_err());
        }
        let pushed = bench.push(&bench.open_on(denied()).unwrap()).unwrap();
        made.push((pushed.snapshot().id, bench.tree()));
    }
    for (id, tree) in made {
        assert_equal(&tree, &bench.restore(denied(), &id));
    }
}
