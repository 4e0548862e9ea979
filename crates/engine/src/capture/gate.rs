//! One at a time at a file: whoever opens a source file by a descriptor of our own, and whoever
//! captures a database, holds the file's inode meanwhile.
//!
//! The locks that SQLite takes are those of POSIX: a process loses all its locks on a file when it
//! closes any descriptor of it. So a second name of a database, read or looked at by another thread
//! while SQLite has the file open, would take the lock away that keeps the writer's log in place.
//! The locks belong to the process, and so does this gate.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::scan::Stat;

/// Device and inode.
type Key = (u64, u64);

static HELD: Mutex<BTreeSet<Key>> = Mutex::new(BTreeSet::new());
static FREED: Condvar = Condvar::new();

/// A file that nobody else in this process opens until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Hold(Key);

/// Waits until nobody holds the file at `path`. `stat` is the file's. Shared memory goes with its
/// database: that is where the locks of a database with a log are.
pub(crate) fn hold(path: &Path, stat: &Stat) -> Hold {
    let key = key(path, stat);
    let mut held = lock();
    while !held.insert(key) {
        held = FREED.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
    Hold(key)
}

fn key(path: &Path, stat: &Stat) -> Key {
    let base = path.as_os_str().as_encoded_bytes().strip_suffix(b"-shm").and_then(|base| {
        let metadata = std::fs::symlink_metadata(OsStr::from_bytes(base)).ok()?;
        Some(Stat::of_metadata(&metadata))
    });
    let stat = base.as_ref().unwrap_or(stat);
    (stat.dev, stat.ino)
}

fn lock() -> MutexGuard<'static, BTreeSet<Key>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock().remove(&self.0);
        FREED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_and_the_shared_memory_wait_for_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let [db, shm, twin, other] =
            ["a.db", "a.db-shm", "twin.db", "b.db"].map(|name| dir.path().join(name));
        std::fs::write(&db, b"main").unwrap();
        std::fs::write(&shm, b"memory").unwrap();
        std::fs::write(&other, b"other").unwrap();
        std::fs::hard_link(&db, &twin).unwrap();
        let look = |path: &Path| Stat::of_metadata(&std::fs::symlink_metadata(path).unwrap());
        let first = hold(&db, &look(&db));
        for path in [&twin, &shm] {
            assert!(lock().contains(&key(path, &look(path))), "{}", path.display());
        }
        drop(hold(&other, &look(&other)));
        drop(first);
        drop(hold(&shm, &look(&shm)));
        assert!(!lock().contains(&key(&db, &look(&db))));
    }

    #[test]
    fn two_threads_are_never_at_a_file_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        std::fs::write(&path, b"main").unwrap();
        let stat = Stat::of_metadata(&std::fs::symlink_metadata(&path).unwrap());
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _hold = hold(&path, &stat);
                        let alone = inside.try_lock();
                        std::thread::yield_now();
                        assert!(alone.is_ok());
                    }
                });
            }
        });
    }
}
