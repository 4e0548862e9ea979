//! A snapshot of a repository as a pull reads it.

use std::sync::OnceLock;

use bytes::Bytes;
use repo::{BlockId, Entry, Extent, Index, Reader, Snapshot};

use super::source::{Content, Location, Visit};
use crate::session::Session;

/// [`Content`] over the repository's reader.
#[derive(Debug)]
pub struct SnapshotContent<'s> {
    session: &'s Session,
    reader: Reader<'s>,
    tree: BlockId,
    /// The index with its chunks; loaded when a local database is compared, and only then: it takes
    /// 28 bytes a chunk. `None` if that failed.
    chunks: OnceLock<Option<Index>>,
}

impl<'s> SnapshotContent<'s> {
    /// Loads the index and stands ready to read the snapshot.
    pub fn open(session: &'s Session, snapshot: &Snapshot) -> crate::Result<Self> {
        let reader = Reader::open(session.repo(), session.cache())?;
        Ok(Self { session, reader, tree: snapshot.tree, chunks: OnceLock::new() })
    }

    fn chunks(&self) -> Option<&Index> {
        let load = || {
            let loaded = self.session.repo().load_index(self.session.cache(), true);
            loaded.inspect_err(|error| tracing::debug!(%error, "no chunks to compare with")).ok()
        };
        self.chunks.get_or_init(load).as_ref()
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

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        let (Some(chunks), Ok(len)) = (self.chunks(), u32::try_from(plain.len())) else {
            return false;
        };
        let id = self.session.repo().keys().chunk_id(plain);
        let place = chunks.number(block);
        place.is_some_and(|number| chunks.has_chunk_at(&id, number, offset, len))
    }
}
