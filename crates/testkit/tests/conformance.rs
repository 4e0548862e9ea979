//! Every store keeps the same contract.

use std::sync::Arc;

use store::{LocalStore, MemoryStore, Store};
use testkit::conformance;

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
