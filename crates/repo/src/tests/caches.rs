//! The local cache: whatever happens to it costs time, never right answers.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use store::Store;

use super::{OP, REPO, fresh, keyring, push, restore};
use crate::cache::{Cache, FileRow, key_of_path};
use crate::keys::{Keyring, Keys};
use crate::{RepoId, Snapshot};

struct Local {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn local() -> Local {
    let dir = tempfile::tempdir().unwrap();
    Local { path: dir.path().join("cache").join("cache.db"), _dir: dir }
}

fn keys() -> Keys {
    Keys::new(keyring())
}

fn row(path: &str, value: &str) -> FileRow {
    FileRow { key: key_of_path(path.as_bytes()), value: value.into() }
}

fn filled(local: &Local) -> Cache {
    let cache = Cache::open(&local.path).unwrap();
    cache.update_files(&keys(), &[row("a/b", "one"), row("a-b", "two"), row("a", "dir")], &[]);
    cache
}

fn file(cache: &Cache, path: &str) -> Option<String> {
    cache.file(&keys(), path.as_bytes()).map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn rows_come_back_in_tree_order_and_go() {
    let local = local();
    drop(filled(&local));
    let cache = Cache::open(&local.path).unwrap();
    let mut values = Vec::new();
    cache.files(&keys(), |row| {
        values.push(String::from_utf8(row.value).unwrap());
        true
    });
    assert_eq!(values, ["dir", "one", "two"]);
    cache.update_files(&keys(), &[row("a", "other")], &[key_of_path(b"a/b")]);
    assert_eq!(file(&cache, "a/b"), None);
    assert_eq!(file(&cache, "a").unwrap(), "other");
}

#[test]
fn what_was_worked_out_is_believed_only_with_this_repositorys_check_and_goes_when_nobody_wants_it()
{
    let local = local();
    let cache = Cache::open(&local.path).unwrap();
    cache.put_derived(&keys(), b"x/1", b"one");
    cache.put_derived(&keys(), b"x/2", b"two");
    cache.put_derived(&keys(), b"y/1", b"other");
    assert_eq!(cache.derived(&keys(), b"x/1").unwrap(), b"one");
    let strangers = Keys::new(Keyring::random());
    assert_eq!(cache.derived(&strangers, b"x/1"), None);
    cache.retain_derived(b"x/", &[b"x/2".to_vec()].into());
    assert_eq!(cache.derived(&keys(), b"x/1"), None);
    assert!(cache.derived(&keys(), b"x/2").is_some() && cache.derived(&keys(), b"y/1").is_some());
    let db = Connection::open(&local.path).unwrap();
    db.execute("UPDATE derived SET value = 'lie'", []).unwrap();
    assert_eq!(cache.derived(&keys(), b"x/2"), None);
}

#[test]
fn rows_are_written_while_others_are_read() {
    // a push reads them all the way through, and writes new ones long before it is at the end
    let local = local();
    let cache = filled(&local);
    let mut seen = 0;
    cache.files(&keys(), |_| {
        cache.update_files(&keys(), &[row("a/b", "new"), row("z", "more")], &[]);
        cache.put_groups(b"a/b", b"groups");
        seen += 1;
        true
    });
    assert_eq!(seen, 3, "what it read is as it was when it began");
    assert_eq!(file(&cache, "a/b").unwrap(), "new");
    assert_eq!(cache.groups(b"a/b").unwrap(), b"groups");
}

#[test]
fn other_users_cannot_read_the_paths_in_it() {
    let local = local();
    let cache = filled(&local);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&local.path), 0o600);
    assert_eq!(mode(local.path.parent().unwrap()), 0o700);
    for entry in local.path.parent().unwrap().read_dir().unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop(cache);
}

#[test]
fn damage_of_any_kind_is_made_good_by_an_empty_cache() {
    let keys = keys();
    for damage in ["noise", "truncated", "empty", "other tables", "other layout", "deleted"] {
        let local = local();
        drop(filled(&local));
        let bytes = std::fs::read(&local.path).unwrap();
        match damage {
            "noise" => std::fs::write(&local.path, vec![0x5a; 5000]).unwrap(),
            "truncated" => std::fs::write(&local.path, &bytes[..bytes.len() / 2]).unwrap(),
            "empty" => std::fs::write(&local.path, b"").unwrap(),
            "deleted" => std::fs::remove_file(&local.path).unwrap(),
            "other tables" => {
                let db = Connection::open(&local.path).unwrap();
                db.execute_batch("DROP TABLE file; CREATE TABLE file(x)").unwrap();
            }
            _ => {
                let db = Connection::open(&local.path).unwrap();
                db.execute_batch("PRAGMA user_version=999").unwrap();
            }
        }
        let cache = Cache::open(&local.path).unwrap();
        // what is read is what was written, or nothing
        assert!(file(&cache, "a/b").is_none_or(|value| value == "one"), "{damage}");
        cache.update_files(&keys, &[row("new", "row")], &[]);
        assert_eq!(file(&cache, "new").as_deref(), Some("row"), "{damage}: it works again");
    }
}

#[test]
fn no_byte_changed_in_the_file_gives_a_wrong_row() {
    let local = local();
    drop(filled(&local));
    let db = Connection::open(&local.path).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE").unwrap();
    drop(db);
    let bytes = std::fs::read(&local.path).unwrap();
    for at in (0..bytes.len()).step_by(61) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&local.path, &bytes).unwrap();
        let Ok(cache) = Cache::open(&local.path) else { continue };
        for (path, value) in [("a/b", "one"), ("a-b", "two"), ("a", "dir")] {
            assert!(file(&cache, path).is_none_or(|found| found == value), "byte {at}");
        }
        cache.files(&keys(), |row| {
            assert!(matches!(row.value.as_slice(), b"one" | b"two" | b"dir"), "byte {at}");
            true
        });
        drop(cache);
        for side in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{side}", local.path.display()));
        }
    }
}

#[test]
fn a_row_moved_to_another_path_or_repository_is_not_believed() {
    let local = local();
    let cache = filled(&local);
    let other = Keys::new(Keyring::random());
    assert!(cache.file(&other, b"a/b").is_none(), "another repository's key");
    let mut seen = 0;
    cache.files(&other, |_| {
        seen += 1;
        true
    });
    assert_eq!(seen, 0);
    drop(cache);
    let db = Connection::open(&local.path).unwrap();
    db.execute(
        "UPDATE file SET (value, mac) = (SELECT value, mac FROM file WHERE key = ?1) WHERE key = ?2",
        (key_of_path(b"a/b"), key_of_path(b"a-b")),
    )
    .unwrap();
    // a byte moved from the path to the value keeps the bytes under the check, but not its length
    db.execute(
        "INSERT INTO file SELECT x'6100', CAST(x'62' || value AS BLOB), mac FROM file WHERE key = x'610062'",
        (),
    )
    .unwrap();
    drop(db);
    let cache = Cache::open(&local.path).unwrap();
    assert_eq!(file(&cache, "a-b"), None, "swapped between paths");
    assert_eq!(file(&cache, "a/"), None);
    assert_eq!(file(&cache, "a/b").unwrap(), "one");
}

#[test]
fn a_cache_that_another_process_keeps_locked_is_left_as_it_is() {
    let local = local();
    drop(filled(&local));
    let db = Connection::open(&local.path).unwrap();
    // as a process of an older SQLite, or a debugger's shell, would
    db.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM file; ").unwrap();
    let cache = Cache::open_within(&local.path, Duration::from_millis(1)).unwrap();
    assert_eq!(file(&cache, "a/b"), None);
    cache.update_files(&keys(), &[row("x", "y")], &[]);
    assert_eq!(file(&cache, "x").as_deref(), Some("y"), "this run has one in memory");
    db.execute_batch("ROLLBACK").unwrap();
    drop(db);
    assert_eq!(file(&Cache::open(&local.path).unwrap(), "a/b").unwrap(), "one", "nothing was lost");
}

#[test]
fn cached_objects_are_checked_like_fetched_ones_and_save_the_fetch() {
    let (store, repo) = fresh();
    let (_, files) = push(&repo, OP).unwrap();
    let local = local();
    let cache = Cache::open(&local.path).unwrap();
    assert_eq!(restore(&repo, Some(&cache), &OP).unwrap(), files);
    let (index, snap) = (format!("index/0-{OP}-0"), Snapshot::object_name(&OP));
    assert_eq!(cache.object(&index).unwrap(), store.get(&index).unwrap());
    // damaged, swapped and foreign copies in the cache
    let foreign = {
        let store = store::MemoryStore::new();
        super::create(&store, RepoId([0x11; 16]));
        let repo = super::open(std::sync::Arc::new(store.clone())).unwrap();
        push(&repo, OP).unwrap();
        store.get(&snap).unwrap()
    };
    let mut flipped = store.get(&snap).unwrap().to_vec();
    flipped[50] ^= 1;
    for bad in [flipped, foreign.to_vec(), store.get(&index).unwrap().to_vec(), Vec::new()] {
        cache.put_object(&snap, &bad);
        assert_eq!(restore(&repo, Some(&cache), &OP).unwrap(), files);
        assert_eq!(cache.object(&snap).unwrap(), store.get(&snap).unwrap(), "it was made good");
    }
    assert_eq!(repo.id(), &REPO);
    // what the store no longer lists is dropped, and only under its prefix
    cache.retain_objects("index/", &std::collections::HashSet::new());
    assert!(cache.object(&index).is_none() && cache.object(&snap).is_some());
}
