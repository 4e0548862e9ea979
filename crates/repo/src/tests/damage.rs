//! The damage matrix: every byte of a small repository changed, every object cut, dropped, swapped
//! and replayed. A restore gives the right bytes or an error; never other bytes, never a panic.

use std::sync::Arc;

use store::{MemoryStore, Store};

use super::{Files, OP, REPO, create, open, push, restore};
use crate::{Error, OpId, PackId, RepoId, Repository, read_trailer};

struct Small {
    store: MemoryStore,
    files: Files,
}

impl Small {
    fn new() -> Self {
        Self::of(REPO)
    }

    fn of(id: RepoId) -> Self {
        let store = MemoryStore::new();
        create(&store, id);
        let repo = open(Arc::new(store.clone())).unwrap();
        let (_, files) = push(&repo, OP).unwrap();
        Self { store, files }
    }

    fn names(&self) -> Vec<String> {
        self.store.list("").unwrap().into_iter().map(|item| item.name).collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.store.get(name).unwrap().to_vec()
    }

    /// Restores from a copy in which `name` holds `bytes`; true if that failed.
    fn restore_with(&self, name: &str, bytes: Option<Vec<u8>>, what: &str) -> bool {
        let copy = self.store.fork();
        match bytes {
            Some(bytes) => copy.put(name, vec![bytes.into()]).unwrap(),
            None => copy.delete(name).unwrap(),
        }
        let restored = open(Arc::new(copy)).and_then(|repo| {
            if let Some(pack) = PackId::from_object_name(name) {
                check_trailer(&repo, &pack, what);
            }
            restore(&repo, None, &OP)
        });
        match restored {
            Ok(files) => {
                assert!(files == self.files, "{name} {what}: wrong bytes were restored");
                false
            }
            Err(Error::Corrupt { .. } | Error::Missing { .. } | Error::TooNew { .. }) => true,
            Err(Error::NoRepository { .. }) if name == "config" => true,
            Err(other) => panic!("{name} {what}: {other}"),
        }
    }
}

/// A trailer that opens says what the index says.
fn check_trailer(repo: &Repository, pack: &PackId, what: &str) {
    let name = pack.object_name();
    let Ok(object) = repo.store().get(&name) else { return };
    let tail = |n: u64| {
        let from = object.len().saturating_sub(usize::try_from(n).unwrap());
        Ok(object.slice(from..))
    };
    if let Ok(table) = read_trailer(repo.keys(), repo.id(), pack, object.len() as u64, tail) {
        let tables = super::index_tables(repo);
        let of_index = tables.iter().find(|t| t.pack() == *pack).unwrap();
        assert_eq!(table.blocks, of_index.blocks, "{name} {what}: the trailer lies");
    }
}

/// Objects without which a restore must fail.
fn is_needed(name: &str) -> bool {
    !name.starts_with("op/")
}

#[test]
fn a_flipped_bit_in_any_byte_never_gives_wrong_bytes() {
    let small = Small::new();
    for name in small.names() {
        let bytes = small.bytes(&name);
        let mut failed = 0;
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            failed += usize::from(small.restore_with(&name, Some(bytes), &format!("byte {at}")));
        }
        let sealed_whole =
            ["config", "snap/", "index/"].iter().any(|prefix| name.starts_with(prefix));
        if sealed_whole {
            assert_eq!(failed, bytes.len(), "{name}: every byte counts");
        } else if name.starts_with("packs/") {
            // the blocks; padding and trailer are not read by a restore
            assert!(failed > 50, "{name}: {failed}");
        } else {
            assert_eq!(failed, 0, "{name}");
        }
    }
}

#[test]
fn an_object_that_ends_early_is_noticed() {
    let small = Small::new();
    for name in small.names() {
        let bytes = small.bytes(&name);
        for len in [0, 1, 7, 8, 20, 39, bytes.len() / 2, bytes.len() - 1] {
            let cut = bytes[..len].to_vec();
            let failed = small.restore_with(&name, Some(cut), &format!("cut to {len}"));
            let tail_only = name.starts_with("packs/") && len > bytes.len() / 4;
            assert!(failed == is_needed(&name) || tail_only, "{name} cut to {len}");
        }
        let longer = [bytes.as_slice(), &[0; 40]].concat();
        small.restore_with(&name, Some(longer), "with bytes after it");
    }
}

#[test]
fn an_object_that_is_gone_is_named() {
    let small = Small::new();
    for name in small.names() {
        assert_eq!(small.restore_with(&name, None, "deleted"), is_needed(&name), "{name}");
    }
    let store = small.store.fork();
    let pack = PackId { op: OP, n: 0 }.object_name();
    store.delete(&pack).unwrap();
    let error = restore(&open(Arc::new(store)).unwrap(), None, &OP).unwrap_err();
    assert!(error.to_string().contains(&pack), "{error}");
}

#[test]
fn no_object_passes_for_another_one() {
    let small = Small::new();
    let names = small.names();
    for name in names.iter().filter(|name| is_needed(name)) {
        for other in names.iter().filter(|other| *other != name) {
            let failed = small.restore_with(name, Some(small.bytes(other)), other);
            assert!(failed, "{other} was taken for {name}");
        }
    }
}

#[test]
fn objects_of_another_repository_with_the_same_keys_and_names_are_refused() {
    let (small, other) = (Small::new(), Small::of(RepoId([0x11; 16])));
    for name in small.names() {
        let replayed = Some(other.bytes(&name));
        let failed = small.restore_with(&name, replayed, "from another repository");
        assert_eq!(failed, is_needed(&name), "{name}");
    }
}

#[test]
fn a_snapshot_under_another_operations_name_is_refused() {
    let small = Small::new();
    let other = OpId([0x41; 16]);
    let bytes = small.bytes(&format!("snap/{OP}"));
    small.store.put(&format!("snap/{other}"), vec![bytes.into()]).unwrap();
    let repo = open(Arc::new(small.store)).unwrap();
    assert!(matches!(restore(&repo, None, &other), Err(Error::Corrupt { .. })));
    // damage of one snapshot is damage of the repository, not a shorter list
    assert!(repo.snapshots(None).is_err());
}

#[test]
fn a_second_copy_of_the_blocks_heals_a_damaged_pack() {
    let small = Small::new();
    let repo = open(Arc::new(small.store.clone())).unwrap();
    for n in 0..8 {
        // whichever of the two index objects comes first
        push(&repo, OpId([0x38 + 2 * n; 16])).unwrap();
        for damaged in [0, 1] {
            let copy = small.store.fork();
            for pack in [0, 1] {
                let op = if damaged == 0 { OP } else { OpId([0x38 + 2 * n; 16]) };
                let name = PackId { op, n: pack }.object_name();
                let mut bytes = copy.get(&name).unwrap().to_vec();
                bytes[8..1000].fill(0);
                copy.put(&name, vec![bytes.into()]).unwrap();
            }
            let repo = open(Arc::new(copy)).unwrap();
            assert_eq!(restore(&repo, None, &OP).unwrap(), small.files);
        }
    }
}

#[test]
fn without_its_config_a_repository_is_damaged_and_no_place_for_a_new_one() {
    let small = Small::new();
    small.store.delete("config").unwrap();
    let is_missing =
        |error: &Error| matches!(error, Error::Missing { object } if object == "config");
    let store = Arc::new(small.store.clone());
    let error = Repository::read_config(&*store).unwrap_err();
    assert!(is_missing(&error), "{error}");
    let error = Repository::create(store, super::params(), 0).unwrap_err();
    assert!(is_missing(&error), "{error}");
    // an initialisation that did not come to its end leaves keys at most, and begins again
    let store = MemoryStore::new();
    store.put("keys/00", vec![b"of an earlier try".to_vec().into()]).unwrap();
    assert!(matches!(Repository::read_config(&store), Err(Error::NoRepository { .. })));
}
