//! Pairs of failures: a collection in which the i-th call goes wrong, then one in which the j-th does,
//! then plain ones. For each of the two: the call is lost, it is done and reported as failed, or it is
//! reported as failed and done after everything else.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use store::{Error, Item, MemoryStore, Result, Store};

use super::gc::{bytes_of, collect_with, is_list, op, options, packs, push};
use super::{Files, fresh, open, restore};
use crate::gc::GcOptions;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lost,
    Unheard,
    Late,
}

const KINDS: [Kind; 3] = [Kind::Lost, Kind::Unheard, Kind::Late];

/// A store in which one call goes wrong.
#[derive(Debug)]
struct Faulty {
    inner: MemoryStore,
    at: u64,
    kind: Kind,
    calls: AtomicU64,
    late: Mutex<Vec<(String, Option<Bytes>)>>,
}

impl Faulty {
    fn new(inner: &MemoryStore, at: u64, kind: Kind) -> Arc<Self> {
        let (calls, late) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self { inner: inner.clone(), at, kind, calls, late })
    }

    fn is_now(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.at
    }

    fn reached(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.at
    }

    fn write(&self, name: &str, bytes: Option<Bytes>) -> Result<()> {
        let act = |bytes: Option<Bytes>| match bytes {
            Some(bytes) => self.inner.put(name, vec![bytes]),
            None => self.inner.delete(name),
        };
        if !self.is_now() {
            return act(bytes);
        }
        match self.kind {
            Kind::Lost => {}
            Kind::Unheard => act(bytes)?,
            Kind::Late => self.late.lock().unwrap().push((name.to_owned(), bytes)),
        }
        Err(unavailable(name))
    }

    fn read<T>(&self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.is_now() { Err(unavailable(name)) } else { act() }
    }

    /// What was under way arrives.
    fn land(&self) {
        for (name, bytes) in self.late.lock().unwrap().drain(..) {
            match bytes {
                Some(bytes) => self.inner.put(&name, vec![bytes]).unwrap(),
                None => self.inner.delete(&name).unwrap(),
            }
        }
    }
}

fn unavailable(name: &str) -> Error {
    Error::Unavailable { op: "call", name: name.to_owned(), detail: "no answer".to_owned() }
}

impl Store for Faulty {
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.write(name, Some(parts.concat().into()))
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.read(name, || self.inner.get(name))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.read(name, || self.inner.get_range(name, range))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Item>> {
        self.read(prefix, || self.inner.list(prefix))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.write(name, None)
    }

    fn address(&self) -> String {
        "faulty:".to_owned()
    }
}

/// A pack that goes, one that is emptied, one that stays.
fn small() -> (MemoryStore, Files) {
    let (store, repo) = fresh();
    let large = bytes_of(1, 30_000);
    push(&repo, 1, &[&large, b"little and wanted"]);
    let kept = push(&repo, 2, &[b"little and wanted", b"more"]);
    push(&repo, 3, &[&bytes_of(3, 500)]);
    repo.forget(&op(1)).unwrap();
    repo.forget(&op(3)).unwrap();
    (store, kept)
}

/// One collection with a fault; true if it came that far. `stale_after` is zero: the next one ends it.
fn collect_at(disk: &MemoryStore, n: u8, faulty: &Arc<Faulty>) -> bool {
    let hasty = GcOptions { stale_after: Duration::ZERO, ..options() };
    let repo = open(Arc::new(disk.clone())).unwrap();
    let store: Arc<dyn Store> = Arc::clone(faulty) as Arc<dyn Store>;
    let repo = crate::Repository::open(store, repo.config().clone(), super::keyring()).unwrap();
    let _ = collect_with(&repo, n, &hasty);
    faulty.reached()
}

fn pairs(step: usize) {
    let (store, kept) = small();
    let hasty = GcOptions { stale_after: Duration::ZERO, ..options() };
    let mut runs = 0;
    for kind in KINDS {
        for i in 1.. {
            let once = store.fork();
            let first = Faulty::new(&once, i, kind);
            if !collect_at(&once, 0x60, &first) {
                assert!(i > 40, "a collection of so few calls");
                break;
            }
            let start = 1 + usize::try_from(i).unwrap() % step;
            for j in (start as u64..).step_by(step) {
                let disk = once.fork();
                let second = Faulty::new(&disk, j, KINDS[(runs / 3) % 3]);
                let reached = collect_at(&disk, 0x61, &second);
                runs += 1;
                let what = format!("{kind:?} at {i}, then {:?} at {j}", second.kind);
                let repo = open(Arc::new(disk.clone())).unwrap();
                let check = || {
                    let found = restore(&repo, None, &op(2));
                    assert_eq!(found.unwrap_or_else(|e| panic!("{what}: {e}")), kept, "{what}");
                };
                check();
                collect_with(&repo, 0x62, &hasty).unwrap_or_else(|e| panic!("{what}: {e}"));
                check();
                second.land();
                let late = Faulty { inner: disk.clone(), ..copy(&first) };
                late.land();
                for n in 0x63..0x65 {
                    collect_with(&repo, n, &hasty).unwrap_or_else(|e| panic!("{what}: {e}"));
                    check();
                }
                let lists = disk.list("gc/").unwrap();
                assert!(lists.iter().all(|item| is_list(&item.name, "s")), "{what}: {lists:?}");
                assert!(packs(&disk) <= 3, "{what}");
                if !reached {
                    break;
                }
            }
        }
    }
    println!("{runs} pairs");
}

/// The same fault with the same requests under way: a first collection is followed by many seconds.
fn copy(of: &Faulty) -> Faulty {
    Faulty {
        inner: of.inner.clone(),
        at: of.at,
        kind: of.kind,
        calls: AtomicU64::new(0),
        late: Mutex::new(of.late.lock().unwrap().clone()),
    }
}

#[test]
fn two_failures_in_two_collections_lose_nothing_and_leave_nothing() {
    pairs(13);
}

#[test]
#[ignore = "takes over a minute, every pair: cargo test -p agent-backup-repo --lib -- --ignored every_pair"]
fn every_pair_of_failures_in_two_collections_loses_nothing() {
    pairs(1);
}
