//! A snapshot of a repository as a pull reads it.

use bytes::Bytes;
use repo::{BlockId, Entry, Extent, Reader, Snapshot};

use super::source::{Content, Location, Visit};
use crate::session::Session;

/// [`Content`] over the repository's reader.
#[derive(Debug)]
pub struct SnapshotContent<'s> {
    reader: Reader<'s>,
    tree: BlockId,
}

impl<'s> SnapshotContent<'s> {
    /// Loads the index and stands ready to read the snapshot.
    pub fn open(session: &'s Session, snapshot: &Snapshot) -> crate::Result<Self> {
        let reader = Reader::open(session.repo(), session.cache())?;
        Ok(Self { reader, tree: snapshot.tree })
    }
}

impl Content for SnapshotContent<'_> {
    fn entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        self.reader.walk(&self.tree, visit)
    }

    fn extents(&self, entry: &Entry) -> repo::Result<Vec<Extent>> {
        self.reader.extents(&entry.map)
    }

    fn location(&self, block: &BlockId) -> Option<Location> {
        self.reader.location(block).map(|at| Location {
            pack: at.pack,
            offset: at.offset,
            stored_len: at.row.stored_len,
            plain_len: at.row.plain_len,
        })
    }

    fn read_run(&self, blocks: &[BlockId]) -> repo::Result<Vec<Bytes>> {
        Ok(self.reader.read_all(blocks)?.into_iter().map(Bytes::from).collect())
    }

    fn matches(&self, block: &BlockId, plain: &[u8]) -> bool {
        self.reader.matches(block, plain)
    }
}
