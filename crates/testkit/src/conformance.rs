//! What every store must do, as one suite: `conformance(make)` panics with a story when one does not.
//!
//! `make` gives an empty store each time, or one whose objects of an earlier part are gone.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use bytes::Bytes;
use store::{Error, Store};

type Part = fn(&dyn Store);

/// Every demand, with the words it fails with.
const PARTS: [(&str, Part); 11] = [
    ("an object reads back as it was put", reads_back),
    ("a missing object is NotFound, not an empty one", missing_is_not_found),
    ("the same bytes may be put again", put_again),
    ("new bytes replace all of the old (heartbeats)", replace),
    ("a range is exact, or Short past the end", ranges),
    ("a name that could leave the store is refused", bad_names),
    ("a listing is sorted and shows length and time", listing),
    ("a prefix may end in the middle of a name", prefixes),
    ("a listing shows more than one page of 1,000", long_listing),
    ("deleting is idempotent and touches nothing else", deletes),
    ("a large object in many parts arrives whole", large),
];

/// Checks every demand of the contract on stores from `make`.
pub fn conformance(make: impl Fn() -> Arc<dyn Store>) {
    for (story, part) in PARTS {
        let store = make();
        eprintln_story(story, &*store);
        part(&*store);
    }
    readers_see_all_or_nothing(&make());
    many_threads(&make());
}

/// Shown with a failing test's output only.
#[expect(clippy::print_stderr, reason = "a failing test should say which demand it was at")]
fn eprintln_story(story: &str, store: &dyn Store) {
    eprintln!("{}: {story}", store.address());
}

fn put(store: &dyn Store, name: &str, bytes: &[u8]) {
    must(store.put(name, vec![Bytes::copy_from_slice(bytes)]), "put", name);
}

fn get(store: &dyn Store, name: &str) -> Bytes {
    must(store.get(name), "get", name)
}

fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let items = must(store.list(prefix), "list", prefix);
    items.into_iter().map(|item| item.name).collect()
}

#[expect(clippy::panic, reason = "this is an assertion")]
fn must<T>(done: store::Result<T>, op: &str, name: &str) -> T {
    done.unwrap_or_else(|e| panic!("{op} {name} failed: {e}"))
}

fn reads_back(store: &dyn Store) {
    put(store, "config", b"one");
    put(store, "packs/00ff-1", b"two");
    put(store, "a/b/c.d", b"three");
    put(store, "empty", b"");
    let parts =
        ["of ", "", "many", " parts"].map(|part| Bytes::from_static(part.as_bytes())).to_vec();
    must(store.put("parts", parts), "put", "parts");
    must(store.put("nothing", Vec::new()), "put", "nothing");
    assert_eq!(get(store, "config"), "one");
    assert_eq!(get(store, "packs/00ff-1"), "two");
    assert_eq!(get(store, "a/b/c.d"), "three");
    assert_eq!(get(store, "empty"), "");
    assert_eq!(get(store, "parts"), "of many parts");
    assert_eq!(get(store, "nothing"), "");
    assert!(!store.address().is_empty());
}

fn missing_is_not_found(store: &dyn Store) {
    put(store, "packs/1", b"x");
    for name in ["packs/2", "nowhere/1", "packs-1", "pack"] {
        let got = store.get(name);
        assert!(matches!(&got, Err(Error::NotFound { name: n }) if n == name), "{name}: {got:?}");
        let got = store.get_range(name, 0..1);
        assert!(matches!(&got, Err(Error::NotFound { name: n }) if n == name), "{name}: {got:?}");
    }
}

fn put_again(store: &dyn Store) {
    for _ in 0..3 {
        put(store, "snap/1", b"same");
    }
    assert_eq!(get(store, "snap/1"), "same");
    assert_eq!(names(store, "snap/"), ["snap/1"]);
}

fn replace(store: &dyn Store) {
    put(store, "op/1", b"a long first heartbeat");
    put(store, "op/1", b"short");
    assert_eq!(get(store, "op/1"), "short");
    put(store, "op/1", b"");
    assert_eq!(get(store, "op/1"), "");
}

fn ranges(store: &dyn Store) {
    put(store, "packs/1", b"0123456789");
    let range = |range: Range<u64>| store.get_range("packs/1", range);
    assert_eq!(must(range(0..10), "get", "0..10"), "0123456789");
    assert_eq!(must(range(0..1), "get", "0..1"), "0");
    assert_eq!(must(range(3..7), "get", "3..7"), "3456");
    assert_eq!(must(range(9..10), "get", "9..10"), "9");
    assert_eq!(must(range(4..4), "get", "4..4"), "");
    for past in [0..11, 9..11, 10..11, 500..600, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        let got = range(past.clone());
        assert!(
            matches!(got, Err(Error::Short { end, .. }) if end == past.end),
            "{past:?}: {got:?}"
        );
    }
    put(store, "packs/2", b"");
    let got = store.get_range("packs/2", 0..1);
    assert!(matches!(got, Err(Error::Short { .. })), "a range of an empty object: {got:?}");
}

fn bad_names(store: &dyn Store) {
    for name in ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "A", ".tmp/x", "a b", "a%"]
    {
        let bad = |e: Option<Error>| matches!(e, Some(Error::BadName { .. }));
        assert!(bad(store.put(name, Vec::new()).err()), "put {name:?}");
        assert!(bad(store.get(name).err()), "get {name:?}");
        assert!(bad(store.get_range(name, 0..1).err()), "get_range {name:?}");
        assert!(bad(store.delete(name).err()), "delete {name:?}");
    }
    assert_eq!(names(store, ""), [""; 0]);
    for prefix in ["/", "../", "..", ".", "a//", "A"] {
        assert_eq!(names(store, prefix), [""; 0], "{prefix:?}");
    }
}

fn listing(store: &dyn Store) {
    assert_eq!(names(store, ""), [""; 0], "a new store is empty");
    // `-` and `.` sort before `/`, digits after it: a walk by folders gets this order wrong.
    let sorted = ["a-b", "a.c/1", "a/1", "a/1-0", "a/b/c", "a0", "b"];
    for name in sorted.iter().rev() {
        put(store, name, name.as_bytes());
    }
    assert_eq!(names(store, ""), sorted);
    for item in must(store.list(""), "list", "") {
        assert_eq!(item.size, item.name.len() as u64, "{}", item.name);
        assert!(item.modified > SystemTime::UNIX_EPOCH, "{}", item.name);
    }
}

fn prefixes(store: &dyn Store) {
    for name in ["config", "snap/0012", "snap/01", "snap/0155", "snap/02", "snapshot"] {
        put(store, name, b"");
    }
    assert_eq!(names(store, "snap/01"), ["snap/01", "snap/0155"]);
    assert_eq!(names(store, "snap/"), ["snap/0012", "snap/01", "snap/0155", "snap/02"]);
    let snap = ["snap/0012", "snap/01", "snap/0155", "snap/02", "snapshot"];
    assert_eq!(names(store, "snap"), snap);
    assert_eq!(names(store, "sn"), snap);
    assert_eq!(names(store, "snap/02"), ["snap/02"]);
    assert_eq!(names(store, "snap/020"), [""; 0]);
    assert_eq!(names(store, "snap/02/"), [""; 0]);
    assert_eq!(names(store, "packs/"), [""; 0]);
}

fn long_listing(store: &dyn Store) {
    const COUNT: usize = 1_203;
    let put_some = |first: usize| {
        for n in (first..COUNT).step_by(8) {
            put(store, &format!("packs/{n:05}"), b"x");
        }
    };
    thread::scope(|scope| {
        for first in 0..8 {
            scope.spawn(move || put_some(first));
        }
    });
    put(store, "packz", b"");
    let listed = names(store, "packs/");
    assert_eq!(listed.len(), COUNT);
    assert!(listed.iter().enumerate().all(|(n, name)| *name == format!("packs/{n:05}")));
}

fn deletes(store: &dyn Store) {
    put(store, "snap/1", b"x");
    put(store, "snap/11", b"y");
    must(store.delete("snap/1"), "delete", "snap/1");
    must(store.delete("snap/1"), "delete", "snap/1 again");
    must(store.delete("nowhere/1"), "delete", "nowhere/1");
    let got = store.get("snap/1");
    assert!(matches!(got, Err(Error::NotFound { .. })), "{got:?}");
    assert_eq!(names(store, ""), ["snap/11"]);
    assert_eq!(get(store, "snap/11"), "y");
    put(store, "snap/1", b"back");
    assert_eq!(get(store, "snap/1"), "back");
}

fn large(store: &dyn Store) {
    const LEN: usize = 40 << 20;
    let whole = noise(LEN);
    let parts: Vec<Bytes> = (0..LEN)
        .step_by(3_000_001)
        .map(|start| whole.slice(start..LEN.min(start + 3_000_001)))
        .collect();
    must(store.put("packs/1", parts), "put", "packs/1");
    assert!(get(store, "packs/1") == whole, "40 MiB came back changed");
    let some = must(store.get_range("packs/1", 20_000_000..29_000_000), "get", "a range");
    assert!(some == whole.slice(20_000_000..29_000_000), "a range came back changed");
}

/// One name, rewritten with objects of one repeated byte: a torn one has two, or the wrong length.
fn readers_see_all_or_nothing(store: &Arc<dyn Store>) {
    const ROUNDS: u8 = 40;
    let version = |n: u8| Bytes::from(vec![n; 1_000 + 10_000 * usize::from(n)]);
    must(store.put("op/1", vec![version(0)]), "put", "op/1");
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=ROUNDS {
                let whole = version(n);
                let parts = whole.chunks(4_096).map(Bytes::copy_from_slice).collect();
                must(store.put("op/1", parts), "put", "op/1");
            }
        });
        while !writer.is_finished() {
            let seen = get(&**store, "op/1");
            assert!(
                seen.first().is_some_and(|n| seen == version(*n)),
                "a reader saw a torn object"
            );
            assert_eq!(names(&**store, ""), ["op/1"], "a listing shows an unfinished object");
        }
    });
    assert_eq!(get(&**store, "op/1"), version(ROUNDS));
}

fn many_threads(store: &Arc<dyn Store>) {
    thread::scope(|scope| {
        for t in 0..12 {
            scope.spawn(move || {
                for n in 0..20 {
                    let name = format!("packs/{t:02}-{n}");
                    put(&**store, &name, name.repeat(n + 1).as_bytes());
                    assert_eq!(get(&**store, &name), name.repeat(n + 1));
                }
                must(store.delete(&format!("packs/{t:02}-0")), "delete", "one");
            });
        }
    });
    assert_eq!(names(&**store, "packs/").len(), 12 * 19);
}

/// Bytes that do not repeat with any power of two: a wrong offset shows.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}
