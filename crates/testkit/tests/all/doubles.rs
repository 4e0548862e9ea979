//! The wrappers do what a test that uses them relies on.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Cancel, Error, MemoryStore, Store};
use testkit::{Failure, Fault, FaultStore, RecordingStore, SlowStore, Verb};

fn put(store: &dyn Store, name: &str) -> store::Result<()> {
    store.put(name, vec![Bytes::from_static(b"some "), Bytes::from_static(b"bytes")])
}

fn faulty(fault: Fault) -> (MemoryStore, FaultStore) {
    let memory = MemoryStore::new();
    put(&memory, "packs/1").expect("put");
    let store = FaultStore::at(Arc::new(memory.clone()), 2, fault);
    store.list("").expect("the first call is let through");
    (memory, store)
}

#[test]
fn a_failed_put_did_not_happen_and_an_unanswered_one_did() {
    let (memory, store) = faulty(Fault::Fail(Failure::Unavailable));
    assert!(matches!(put(&store, "a"), Err(Error::Unavailable { .. })));
    assert!(memory.get("a").is_err());
    put(&store, "a").expect("only the second call fails");

    let (memory, store) = faulty(Fault::LoseAnswer);
    assert!(matches!(put(&store, "a"), Err(Error::Unavailable { .. })));
    assert_eq!(memory.get("a").expect("it did"), "some bytes");
}

#[test]
fn after_a_crash_nothing_works_and_nothing_more_happens() {
    for (fault, happened) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
        let (memory, store) = faulty(fault);
        assert!(put(&store, "a").is_err());
        assert_eq!(memory.get("a").is_ok(), happened);
        assert!(store.crashed());
        assert!(put(&store, "b").is_err() && store.get("packs/1").is_err());
        assert!(memory.get("b").is_err());
    }
    let store = FaultStore::crash_after(Arc::new(MemoryStore::new()), 2);
    let done: Vec<bool> = (0..4).map(|n| put(&store, &format!("{n}")).is_ok()).collect();
    assert_eq!(done, [true, true, false, false]);
    assert_eq!(store.calls(), 4);
}

#[test]
fn damage_reaches_the_reader_or_the_store() {
    let (_, store) = faulty(Fault::CutTo(4));
    assert_eq!(store.get("packs/1").expect("get"), "some");
    let (_, store) = faulty(Fault::FlipBit(5));
    assert_eq!(store.get_range("packs/1", 0..10).expect("get"), "some rytes");
    let (memory, store) = faulty(Fault::FlipBitStored(5));
    put(&store, "a").expect("acknowledged");
    assert_eq!(memory.get("a").expect("get"), "some rytes");
    let (_, store) = faulty(Fault::Omit("packs/1".to_owned()));
    assert_eq!(store.list("").expect("list"), []);
    let (_, store) = faulty(Fault::Delay(Duration::from_nanos(1)));
    assert_eq!(store.get("packs/1").expect("late"), "some bytes");
}

#[test]
fn every_failure_is_the_error_it_says() {
    let fail = |failure| put(&faulty(Fault::Fail(failure)).1, "a").expect_err("a fault");
    assert!(matches!(fail(Failure::Denied), Error::Denied { .. }));
    assert!(matches!(fail(Failure::CapReached), Error::CapReached { .. }));
    assert!(matches!(fail(Failure::NotFound), Error::NotFound { .. }));
    assert!(matches!(fail(Failure::NoSuchStore), Error::NoSuchStore { .. }));
    assert!(matches!(fail(Failure::Cancelled), Error::Cancelled));
    let full = fail(Failure::Io(ErrorKind::StorageFull));
    assert!(matches!(full, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull));
}

#[test]
fn calls_are_recorded_with_their_bytes_in_order() {
    let store = RecordingStore::new(Arc::new(MemoryStore::new()));
    put(&store, "a").expect("put");
    put(&store, "b").expect("put");
    store.get("a").expect("get");
    store.get_range("a", 2..5).expect("get");
    store.get("missing").expect_err("not there");
    store.list("").expect("list");
    store.delete("a").expect("delete");
    let calls: Vec<String> = store.calls().iter().map(ToString::to_string).collect();
    assert_eq!(
        calls,
        [
            "#1 put a (10 bytes)",
            "#2 put b (10 bytes)",
            "#3 get a (10 bytes)",
            "#4 get range a (3 bytes)",
            "#5 get missing (0 bytes)",
            "#6 list  (0 bytes)",
            "#7 delete a (0 bytes)",
        ]
    );
    assert_eq!((store.total(), store.count(Verb::Put), store.count(Verb::Get)), (7, 2, 2));
    assert_eq!((store.bytes_put(), store.bytes_read()), (20, 13));
    assert_eq!(store.names(Verb::Put), ["a", "b"]);
    assert_eq!(store.take().len(), 7);
    assert_eq!(store.total(), 0);
}

#[test]
fn a_slow_line_is_shared_and_a_cancelled_call_did_not_happen() {
    let memory = MemoryStore::new();
    let cancel = Cancel::new();
    // At one byte per second the call would take ten.
    let store = SlowStore::new(Arc::new(memory.clone()), 1, cancel.clone());
    let done = std::thread::scope(|scope| {
        let call = scope.spawn(|| put(&store, "a"));
        cancel.cancel();
        call.join().expect("no panic")
    });
    assert!(matches!(done, Err(Error::Cancelled)));
    assert!(memory.get("a").is_err());
    let fast = SlowStore::new(Arc::new(memory.clone()), u64::MAX, Cancel::new());
    put(&fast, "a").expect("put");
    assert_eq!(fast.get("a").expect("get"), "some bytes");
}
