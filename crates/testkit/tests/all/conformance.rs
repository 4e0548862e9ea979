//! Every store keeps the same contract.

use std::sync::Arc;
use std::time::Duration;

use store::{Cancel, Endpoint, LocalStore, MemoryStore, Retry, S3Config, S3Store, Secret, Store};
use testkit::{Server, conformance, server};

#[test]
fn memory_keeps_the_contract() {
    conformance(|| Arc::new(MemoryStore::new()));
}

#[test]
fn a_directory_keeps_the_contract() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let count = std::cell::Cell::new(0);
    conformance(|| {
        count.set(count.get() + 1);
        let path = root.path().join("new/parents").join(count.get().to_string());
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&path).expect("a new directory"));
        store
    });
}

#[test]
fn a_bucket_keeps_the_contract() {
    let server = Server::start(server::Config::default()).expect("a free port");
    let count = std::cell::Cell::new(0);
    conformance(|| {
        count.set(count.get() + 1);
        s3(&server, &format!("pre/fix{}", count.get()))
    });
}

#[test]
fn a_bucket_on_disk_with_small_pages_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let config = server::Config {
        page_keys: 7,
        bodies: Some(folder.path().to_owned()),
        ..server::Config::default()
    };
    let servers = std::cell::RefCell::new(Vec::new());
    conformance(|| {
        let server = Server::start(config.clone()).expect("a free port");
        let store = s3(&server, "");
        servers.borrow_mut().push(server);
        store
    });
}

fn s3(server: &Server, prefix: &str) -> Arc<dyn Store> {
    let config = server.config();
    let store = S3Store::open(S3Config {
        endpoint: Endpoint::Url(server.url()),
        bucket: config.bucket.clone(),
        prefix: prefix.to_owned(),
        region: Some(config.region.clone()),
        key_id: config.key_id.clone(),
        secret: Secret::new(config.secret.clone()),
        upload_bytes_per_second: None,
        retry: Retry::with_budget(Duration::ZERO),
        cancel: Cancel::new(),
    });
    Arc::new(store.expect("a good configuration"))
}
