//! What a verb tells while it runs. The engine never prints.

use std::time::Duration;

use crate::push::Suspects;

/// Something that happened to one item and did not stop the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Full path: label and path below the root, as raw bytes; escape before showing.
    pub path: Vec<u8>,
    /// What happened, in words.
    pub what: String,
    /// Nothing is missing from the snapshot because of it.
    pub notice: bool,
}

/// Progress of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files found so far (all of them once `scanned`).
    pub files_found: u64,
    /// Bytes found so far.
    pub bytes_found: u64,
    /// The scan is over: the totals are final.
    pub scanned: bool,
    /// Files done, unchanged ones included.
    pub files_done: u64,
    /// Bytes of those, and of files being read.
    pub bytes_done: u64,
    /// Bytes acknowledged by the store.
    pub bytes_stored: u64,
}

/// Listens to a push. Called from several threads, often; must return quickly.
pub trait Monitor: Sync {
    /// Counts moved.
    fn progress(&self, progress: &Progress);
    /// An item had a problem.
    fn problem(&self, problem: &Problem);
    /// A file is about to be read: its full path.
    fn reading(&self, _path: &[u8]) {}
    /// A live database was held in one transaction for this long: its log could not be reset then.
    fn held(&self, _time: Duration) {}
    /// What looks like a secret in what is new. Told at the end, if it was looked for.
    fn suspects(&self, _suspects: &Suspects) {}
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn progress(&self, _: &Progress) {}
    fn problem(&self, _: &Problem) {}
}
