//! What was deleted by mistake from a bucket comes back out of the versions that it keeps, and what was
//! forgotten and collected does not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::repair::{Repaired, Sources, repair};
use engine::verify::{Level, Options, verify};
use engine::{Session, Silent};
use repo::OpId;
use store::{Cancel, Endpoint, Retry, S3Config, S3Store, Secret};
use testkit::server::{self, Server};

use crate::support::{self, Bench};

/// Files with their bytes, sorted.
type Files = Vec<(String, Vec<u8>)>;

/// A repository in a bucket with three snapshots; the server keeps what is deleted.
struct Bucket {
    // dropped last: the store talks to it
    bench: Bench,
    snapshots: Vec<(OpId, Files)>,
    server: Server,
}

impl Bucket {
    fn new() -> Self {
        let server = Server::start(server::Config::default()).unwrap();
        let config = server.config();
        let store = S3Store::open(S3Config {
            endpoint: Endpoint::Url(server.url()),
            bucket: config.bucket.clone(),
            prefix: "agent".to_owned(),
            region: Some(config.region.clone()),
            key_id: config.key_id.clone(),
            secret: Secret::new(config.secret.clone()),
            upload_bytes_per_second: None,
            retry: Retry::with_budget(std::time::Duration::ZERO),
            cancel: Cancel::new(),
        });
        let bench = Bench::new(Arc::new(store.unwrap()));
        std::fs::create_dir_all(bench.source()).unwrap();
        let session = bench.init();
        let mut snapshots = Vec::new();
        for n in 0..3 {
            let text = format!("what the agent said in turn {n}\n").repeat(500 + n);
            std::fs::write(bench.source().join(format!("log{n}.jsonl")), text).unwrap();
            std::fs::write(bench.source().join("state.json"), format!("{{\"turn\":{n}}}")).unwrap();
            let pushed = bench.push(&session).unwrap();
            snapshots.push((pushed.snapshot().id, support::files_below(&bench.source())));
        }
        Self { bench, snapshots, server }
    }

    fn session(&self) -> Session {
        self.bench.open().unwrap()
    }

    fn delete(&self, prefix: &str) -> Vec<String> {
        let store = &self.bench.store;
        let names: Vec<String> =
            store.list(prefix).unwrap().into_iter().map(|item| item.name).collect();
        assert!(!names.is_empty(), "{prefix}");
        for name in &names {
            store.delete(name).unwrap();
        }
        names
    }

    fn repair(&self) -> engine::Result<Repaired> {
        let sources = Sources { old_versions: true, ..Sources::default() };
        let look = Options { threads: 1, ..Options::new(Level::Metadata) };
        repair(&self.session(), &sources, &look, &Silent, &AtomicBool::new(false))
    }

    fn restores(&self) {
        for (id, files) in &self.snapshots {
            assert!(self.bench.held(self.bench.store.clone(), id) == *files, "{id}");
        }
    }
}

#[test]
fn blocks_of_packs_that_were_deleted_lie_in_new_packs() {
    for with_index in [false, true] {
        let bucket = Bucket::new();
        let packs = bucket.delete("packs/");
        if with_index {
            bucket.delete("index/");
        }
        let done = bucket.repair().unwrap();
        assert!(done.before.is_damaged(), "with the index: {with_index}");
        assert!(!done.after.is_damaged(), "{with_index}: {:?}", done.after.findings);
        assert!(done.healed[0].unhidden > 0, "{:?}", done.healed);
        bucket.restores();
        // a name that is gone stays gone: a collector may have condemned it
        let listed = bucket.bench.store.list("packs/").unwrap();
        assert!(listed.iter().all(|item| !packs.contains(&item.name)), "{listed:?}");
        let look = Options { threads: 1, ..Options::new(Level::All) };
        let never = AtomicBool::new(false);
        let report = verify(&bucket.session(), &look, &|_, _| {}, &never).unwrap();
        assert!(!report.is_damaged(), "{:?}", report.findings);
    }
}

#[test]
fn an_overwritten_pack_gives_its_old_bytes_back() {
    let bucket = Bucket::new();
    let store = &bucket.bench.store;
    for item in store.list("packs/").unwrap() {
        store.put(&item.name, vec![bytes::Bytes::from_static(b"not a pack")]).unwrap();
    }
    let done = bucket.repair().unwrap();
    assert!(!done.after.is_damaged(), "{:?}", done.after.findings);
    bucket.restores();
}

#[test]
fn a_snapshot_that_was_deleted_comes_back_under_its_name() {
    let bucket = Bucket::new();
    let (newest, _) = bucket.snapshots.last().unwrap();
    let name = format!("snap/{newest}");
    let bytes = bucket.bench.store.get(&name).unwrap();
    bucket.delete(&name);
    // a machine without a cache: nothing here has it but the bucket
    std::fs::remove_dir_all(bucket.bench.dirs().cache).unwrap();
    std::fs::write(bucket.bench.source().join("more"), "more").unwrap();
    let refused = bucket.bench.push(&bucket.session()).unwrap_err().to_string();
    assert!(refused.contains("rolled back"), "{refused}");
    let done = bucket.repair().unwrap();
    assert_eq!(done.put_back, [*newest]);
    assert_eq!(bucket.bench.store.get(&name).unwrap(), bytes);
    bucket.restores();
    bucket.bench.push(&bucket.session()).unwrap();
}

#[test]
fn what_was_forgotten_and_collected_does_not_come_back() {
    let bucket = Bucket::new();
    let session = bucket.session();
    for (id, _) in &bucket.snapshots[..2] {
        session.repo().forget(id).unwrap();
    }
    let mut options = engine::gc::options(&session);
    options.accept_large = true;
    for _ in 0..2 {
        engine::gc::collect(&session, &options, true, &|_| {}).unwrap();
    }
    drop(session);
    let before: Vec<String> = bucket.server.keys();
    let done = bucket.repair().unwrap();
    assert!(done.put_back.is_empty() && done.healed.iter().all(|healed| healed.packs == 0));
    let is_record = |key: &&String| ["/verify/", "/op/", "/end/"].iter().any(|d| key.contains(d));
    let kept = |keys: &[String]| -> Vec<String> {
        keys.iter().filter(|key| !is_record(key)).cloned().collect()
    };
    assert_eq!(kept(&bucket.server.keys()), kept(&before));
}

#[test]
fn a_storage_without_old_versions_says_so() {
    let (bench, _) = support::bench_in_memory();
    std::fs::write(bench.source().join("a"), "a").unwrap();
    bench.push(&bench.open().unwrap()).unwrap();
    let packs = bench.store.list("packs/").unwrap();
    for item in &packs {
        bench.store.delete(&item.name).unwrap();
    }
    let sources = Sources { old_versions: true, ..Sources::default() };
    let look = Options { threads: 1, ..Options::new(Level::Metadata) };
    let session = bench.open().unwrap();
    let refused = repair(&session, &sources, &look, &Silent, &AtomicBool::new(false)).unwrap_err();
    assert!(refused.to_string().contains("keeps no old versions"), "{refused}");
}
