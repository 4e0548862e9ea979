//! A part of a snapshot: some of its roots, and nothing of the others.

use repo::{BlockId, Entry, Extent};

use super::select::strip_path;
use super::{Content, Location, SnapshotContent, Visit};

/// A snapshot of which only the roots with these labels are wanted.
#[derive(Debug)]
pub struct Part<'s> {
    content: SnapshotContent<'s>,
    labels: Vec<Vec<u8>>,
}

impl<'s> Part<'s> {
    /// The entries at and below the labels.
    pub fn new(content: SnapshotContent<'s>, labels: Vec<Vec<u8>>) -> Self {
        Self { content, labels }
    }
}

impl Content for Part<'_> {
    fn entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        self.content.entries(&mut |path, entry| {
            let wanted = self.labels.iter().any(|label| strip_path(&path, label).is_some());
            if wanted { visit(path, entry) } else { Ok(()) }
        })
    }

    fn extents(&self, entry: &Entry) -> repo::Result<Vec<Extent>> {
        self.content.extents(entry)
    }

    fn location(&self, block: &BlockId) -> Option<Location> {
        self.content.location(block)
    }

    fn read_run(&self, blocks: &[BlockId]) -> repo::Result<Vec<bytes::Bytes>> {
        self.content.read_run(blocks)
    }

    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool {
        self.content.matches(block, plain)
    }

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        self.content.holds(block, offset, plain)
    }

    fn mark_key(&self) -> [u8; 32] {
        self.content.mark_key()
    }
}
