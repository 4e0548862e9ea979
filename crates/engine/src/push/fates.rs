//! What became of files that other entries depend on: a hard link stands on the first name of its
//! file, a side file is left out only if its database was captured as an image.
//!
//! In: outcomes from readers. Out: answers. Invariant: the scan announces a file before it sends the
//! jobs that ask for it, in an order in which readers take them, and whoever reads an announced file
//! settles its fate before it asks for another's, so nobody waits for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How an entry depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bond {
    /// It is a further name of the other's file.
    Name,
    /// It is a side file of the other, a database.
    Database,
}

/// By path: kept or not, `None` while a reader is at it.
type Settled = HashMap<(Bond, Vec<u8>), Option<bool>>;

/// Files others depend on, and how reading them ended.
#[derive(Debug, Default)]
pub(super) struct Fates {
    fates: Mutex<Settled>,
    settled: Condvar,
}

/// How often a waiting reader looks whether the run was stopped.
const STOP_CHECK: Duration = Duration::from_millis(100);

impl Fates {
    fn lock(&self) -> MutexGuard<'_, Settled> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader is going to tell what became of this file.
    pub(super) fn announce(&self, bond: Bond, path: &[u8]) {
        self.lock().insert((bond, path.to_vec()), None);
    }

    /// Whether it was announced.
    pub(super) fn knows(&self, bond: Bond, path: &[u8]) -> bool {
        self.lock().contains_key(&(bond, path.to_vec()))
    }

    /// Tells what became of a file, if it was announced. What was told first stays.
    pub(super) fn settle(&self, bond: Bond, path: &[u8], kept: bool) {
        if let Some(fate) = self.lock().get_mut(&(bond, path.to_vec())) {
            fate.get_or_insert(kept);
        }
        self.settled.notify_all();
    }

    /// The fate of an announced file, if it is settled.
    pub(super) fn ask(&self, bond: Bond, path: &[u8]) -> Option<bool> {
        self.lock().get(&(bond, path.to_vec())).copied().flatten()
    }

    /// Waits for it; `None` if the run was stopped.
    pub(super) fn wait(&self, bond: Bond, path: &[u8], stop: &AtomicBool) -> Option<bool> {
        let key = (bond, path.to_vec());
        let mut fates = self.lock();
        loop {
            if let Some(kept) = fates.get(&key).copied().flatten() {
                return Some(kept);
            }
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let woken = self.settled.wait_timeout(fates, STOP_CHECK);
            fates = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_first_stays_and_only_the_announced_counts() {
        let fates = Fates::default();
        fates.settle(Bond::Name, b"a", true);
        assert!(!fates.knows(Bond::Name, b"a"));
        fates.announce(Bond::Name, b"a");
        assert_eq!(fates.ask(Bond::Name, b"a"), None);
        fates.settle(Bond::Name, b"a", false);
        fates.settle(Bond::Name, b"a", true);
        assert_eq!(fates.ask(Bond::Name, b"a"), Some(false));
        assert!(!fates.knows(Bond::Database, b"a"));
    }

    #[test]
    fn a_stopped_run_waits_for_nobody() {
        let fates = Fates::default();
        fates.announce(Bond::Database, b"a");
        assert_eq!(fates.wait(Bond::Database, b"a", &AtomicBool::new(true)), None);
        fates.settle(Bond::Database, b"a", true);
        assert_eq!(fates.wait(Bond::Database, b"a", &AtomicBool::new(true)), Some(true));
    }
}
