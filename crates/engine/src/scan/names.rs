//! The names of one directory, sorted, in one buffer.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType};
use rustix::io;

/// Names with their types, in byte order. Reused from directory to directory, so that a walk
/// allocates per level and not per directory.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    start: usize,
    end: usize,
    file_type: FileType,
}

impl Names {
    /// Lists a directory that was just opened. After an error the names read so far are there.
    pub(super) fn list(&mut self, dir: &OwnedFd) -> io::Result<()> {
        self.clear();
        let outcome = self.read(dir);
        self.sort();
        outcome
    }

    /// Takes names that were not listed: nothing is known of their types, nor that they exist.
    pub(super) fn set<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        self.clear();
        for name in names {
            self.push(name, FileType::Unknown);
        }
        self.sort();
        let bytes = &self.bytes;
        self.items.dedup_by(|a, b| bytes[a.start..a.end] == bytes[b.start..b.end]);
    }

    /// The name at an index, and its type as far as the directory says.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], FileType)> {
        let item = self.items.get(index)?;
        Some((&self.bytes[item.start..item.end], item.file_type))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a name is among them.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.items.binary_search_by(|item| self.bytes[item.start..item.end].cmp(name)).is_ok()
    }

    fn read(&mut self, dir: &OwnedFd) -> io::Result<()> {
        // A duplicate shares the position, which is at the start, and keeps `dir` ours.
        let mut listing = Dir::new(io::fcntl_dupfd_cloexec(dir.as_fd(), 0)?)?;
        while let Some(entry) = listing.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.push(name, entry.file_type());
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    fn push(&mut self, name: &[u8], file_type: FileType) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.items.push(Item { start, end: self.bytes.len(), file_type });
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.items.sort_unstable_by(|a, b| bytes[a.start..a.end].cmp(&bytes[b.start..b.end]));
    }
}
