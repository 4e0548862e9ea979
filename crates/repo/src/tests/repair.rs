//! Repair: the index from packs, blocks from what is left, and the loss that was accepted.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::{MemoryStore, Store};

use super::gc::{bytes_of, collect, op, push};
use super::{MACHINE, OP, fresh, open, restore};
use crate::keys::BlockKind;
use crate::repair::{self, IndexReport};
use crate::verify::{Level, Report, VerifyOptions, verify};
use crate::{Cache, Commit, OpId, Repository};

const NOW: &dyn Fn() -> i64 = &|| 1_700_000_000;

fn look(repo: &Repository) -> Report {
    verify(repo, None, &OpId::random(), &VerifyOptions::new(Level::All)).unwrap()
}

fn index(repo: &Repository, accept_loss: bool) -> IndexReport {
    repair::index(repo, None, OpId::random(), MACHINE, 2, accept_loss, NOW).unwrap()
}

fn spoil(store: &MemoryStore, name: &str, at: usize) {
    let mut bytes = store.get(name).unwrap().to_vec();
    bytes[at] ^= 4;
    store.put(name, vec![bytes.into()]).unwrap();
}

fn wipe(store: &MemoryStore, prefix: &str) {
    for item in store.list(prefix).unwrap() {
        store.delete(&item.name).unwrap();
    }
}

#[test]
fn a_repository_without_its_index_is_whole_again() {
    let (store, repo) = fresh();
    let first = push(&repo, 1, &[b"one", &bytes_of(1, 9_000)]);
    let second = push(&repo, 2, &[b"two", &bytes_of(1, 9_000)]);
    wipe(&store, "index/");
    assert!(restore(&repo, None, &op(1)).is_err());
    assert!(look(&repo).is_damaged());
    let report = index(&repo, false);
    assert_eq!((report.packs, report.rebuilt, report.unreadable.len()), (2, 2, 0));
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), first);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), second);
    assert!(!look(&repo).is_damaged());
    let packs = store.list("packs/").unwrap().len();
    push(&repo, 3, &[b"one", b"two", &bytes_of(1, 9_000)]);
    let new = store.list("packs/").unwrap().len() - packs;
    assert_eq!(new, 1, "a node alone: the contents are known");
    repo.forget(&op(1)).unwrap();
    collect(&repo, 0x60);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), second);
    assert_eq!(index(&repo, false).rebuilt, 0, "there is nothing left to do");
}

#[test]
fn one_damaged_index_object_stops_a_collector_and_nobody_else() {
    let (store, repo) = fresh();
    let first = push(&repo, 1, &[b"one"]);
    let name = store.list("index/").unwrap()[0].name.clone();
    spoil(&store, &name, 60);
    // whoever has what it held in another table reads on
    let second = push(&repo, 2, &[b"one", b"two"]);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), second, "a push stores again what it named");
    assert!(restore(&repo, None, &op(1)).is_err(), "its tree was named by that object alone");
    let options = crate::gc::GcOptions::for_listing(store::Listing::Local);
    let stopped = crate::gc::collect(&repo, None, op(0x61), MACHINE, &options, NOW, &|_| {});
    assert!(stopped.is_err(), "what it held may live");
    let report = index(&repo, false);
    assert_eq!((report.rebuilt, report.removed.as_slice()), (1, &[name][..]));
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), first);
    collect(&repo, 0x62);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), first);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), second);
}

#[test]
fn an_object_of_the_index_that_a_cache_has_is_made_again_all_the_same() {
    let (store, repo) = fresh();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&dir.path().join("cache.db")).unwrap();
    let files = push(&repo, 1, &[b"one"]);
    restore(&repo, Some(&cache), &op(1)).unwrap();
    let name = store.list("index/").unwrap()[0].name.clone();
    spoil(&store, &name, 60);
    assert_eq!(restore(&repo, Some(&cache), &op(1)).unwrap(), files, "as long as the cache is");
    let report = repair::index(&repo, Some(&cache), OP, MACHINE, 1, false, NOW).unwrap();
    assert_eq!(report.rebuilt, 1);
    drop(cache);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), files);
}

#[test]
fn an_index_object_stays_while_a_pack_has_no_other_table() {
    let (store, repo) = fresh();
    push(&repo, 1, &[b"one"]);
    let name = store.list("index/").unwrap()[0].name.clone();
    spoil(&store, &name, 60);
    let pack = store.list("packs/").unwrap()[0].clone();
    spoil(&store, &pack.name, usize::try_from(pack.size).unwrap() - 10);
    let report = index(&repo, false);
    assert_eq!((report.unreadable.len(), report.kept.len()), (1, 1), "{report:?}");
    let report = index(&repo, true);
    assert_eq!(report.removed.len(), 1);
    assert!(store.list("index/").unwrap().is_empty());
}

fn heal(repo: &Repository, other: Option<&Repository>) -> repair::Healed {
    let report = look(repo);
    let options = repair::HealOptions { other, ..repair::HealOptions::new(&report.bad) };
    repair::heal(repo, None, OpId::random(), MACHINE, &options, NOW).unwrap()
}

#[test]
fn blocks_come_from_another_repository_with_the_same_keys() {
    let (store, repo) = fresh();
    let (_, files) = super::push(&repo, OP).unwrap();
    let mirror = open(Arc::new(store.fork())).unwrap();
    for item in store.list("packs/").unwrap() {
        for gone in [true, false] {
            let copy = store.fork();
            let repo = open(Arc::new(copy.clone())).unwrap();
            if gone {
                copy.delete(&item.name).unwrap();
            } else {
                spoil(&copy, &item.name, 30);
            }
            assert!(restore(&repo, None, &OP).is_err());
            let healed = heal(&repo, Some(&mirror));
            assert!(healed.left.is_empty() && healed.copied > 0, "{healed:?}");
            assert_eq!(restore(&repo, None, &OP).unwrap(), files);
            assert!(!look(&repo).is_damaged());
        }
    }
}

#[test]
fn good_blocks_leave_a_quarantined_pack() {
    let (store, repo) = fresh();
    let files = push(&repo, 1, &[&bytes_of(1, 3_000), &bytes_of(2, 3_000), &bytes_of(3, 3_000)]);
    let name = store.list("packs/").unwrap()[0].name.clone();
    spoil(&store, &name, 30);
    let healed = heal(&repo, None);
    assert_eq!((healed.moved, healed.left.len()), (3, 1), "{healed:?}");
    push(&repo, 2, &[&bytes_of(1, 3_000), &bytes_of(2, 3_000), &bytes_of(3, 3_000)]);
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), files);
    let packs = store.list("packs/").unwrap().len();
    collect(&repo, 0x60);
    assert!(store.list("packs/").unwrap().len() < packs, "the quarantined pack could go");
    assert!(store.list("gc/bad-").unwrap().is_empty());
    assert_eq!(restore(&repo, None, &op(1)).unwrap(), files);
}

#[test]
fn a_loss_that_is_accepted_costs_the_named_files_and_nothing_else() {
    let (store, repo) = fresh();
    let lost = bytes_of(1, 3_000);
    let mut files = push(&repo, 1, &[&lost, &bytes_of(2, 3_000)]);
    let whole = push(&repo, 2, &[&bytes_of(2, 3_000), b"more"]);
    let block = repo.keys().block_id(BlockKind::Data, &lost);
    let at = repo.load_index(None, false).unwrap().get(&block).unwrap().clone();
    spoil(&store, &at.pack.object_name(), usize::try_from(at.offset).unwrap() + 5);
    let report = look(&repo);
    let (old, _) = repo.snapshot(None, &op(1)).unwrap();
    let (commit, accepted) =
        repair::accept(&repo, None, &old, &report.lost, op(9), MACHINE, NOW).unwrap();
    assert!(matches!(commit, Commit::Acknowledged(_)));
    let path = [b"agent/", blake3::hash(&lost).to_hex().as_bytes()].concat();
    assert_eq!(accepted.lost, std::slice::from_ref(&path));
    files.remove(&path).unwrap();
    assert_eq!(restore(&repo, None, &op(9)).unwrap(), files);
    assert_eq!(restore(&repo, None, &op(2)).unwrap(), whole, "the other one is untouched");
    assert!(repo.is_forgotten(&op(1)).unwrap(), "its record stays");
    let report = look(&repo);
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!(
        repo.snapshot_ids().unwrap().into_iter().collect::<BTreeSet<_>>(),
        [op(2), op(9)].into()
    );
    // a snapshot of which nothing is left is forgotten
    let (old, _) = repo.snapshot(None, &op(9)).unwrap();
    let root = std::collections::BTreeMap::from([(old.tree, "gone".to_owned())]);
    wipe(&store, &format!("packs/{}-", op(9)));
    let healed = repair::accept(&repo, None, &old, &root, op(10), MACHINE, NOW);
    assert!(healed.is_ok());
}
