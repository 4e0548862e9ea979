//! A snapshot of a repository as a pull reads it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use repo::{BlockId, Entry, Extent, Index, Piece, Reader, Snapshot, gone, key_of_path};

use super::source::{Content, Location, Visit};
use crate::gone::Since;
use crate::session::Session;

/// [`Content`] over the repository's reader.
#[derive(Debug)]
pub struct SnapshotContent<'s> {
    session: &'s Session,
    reader: Reader<'s>,
    tree: BlockId,
    /// What is gone from its source, at the places it had; else what was there.
    gone: bool,
    /// The index with its chunks; loaded when a local database is compared, and only then: it takes
    /// 28 bytes a chunk. `None` if that failed.
    chunks: OnceLock<Option<Index>>,
}

impl<'s> SnapshotContent<'s> {
    /// Loads the index and stands ready to read the snapshot.
    pub fn open(session: &'s Session, snapshot: &Snapshot) -> crate::Result<Self> {
        let reader = Reader::open(session.repo(), session.cache())?;
        Ok(Self { session, reader, tree: snapshot.tree, gone: false, chunks: OnceLock::new() })
    }

    /// The same, of what the snapshot keeps of files that are gone from their source: each at the path
    /// that it had. Of several that had the same path, the one that vanished last.
    pub fn gone(session: &'s Session, snapshot: &Snapshot) -> crate::Result<Self> {
        Ok(Self { gone: true, ..Self::open(session, snapshot)? })
    }

    fn gone_entries(&self, visit: &mut Visit<'_>) -> repo::Result<()> {
        let mut last = BTreeMap::<Vec<u8>, (Vec<u8>, Entry)>::new();
        let wanted = |piece: Piece<'_>| piece.reaches_below(gone::NAME);
        self.reader.walk_where(&self.tree, &wanted, &mut |path, entry| {
            // those that could not be looked at may be there
            if let Some((name, old)) = gone::split(&path)
                && matches!(Since::parse(name), Some(Since::At(_)))
            {
                last.insert(key_of_path(old), (old.to_vec(), entry));
            }
            Ok(())
        })?;
        last.into_values().try_for_each(|(path, entry)| visit(path, entry))
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
        if self.gone {
            return self.gone_entries(visit);
        }
        let wanted = |piece: Piece<'_>| {
            !gone::holds(piece.first) || piece.next.is_none_or(|next| !gone::holds(next))
        };
        self.reader.walk_where(&self.tree, &wanted, &mut |path, entry| {
            if gone::holds(&path) { Ok(()) } else { visit(path, entry) }
        })
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

    fn mark_key(&self) -> [u8; 32] {
        self.session.repo().keys().mark_key()
    }

    fn holds(&self, block: &BlockId, offset: u32, plain: &[u8]) -> bool {
        let (Some(chunks), Ok(len)) = (self.chunks(), u32::try_from(plain.len())) else {
            return false;
        };
        let id = self.session.repo().keys().chunk_id(plain);
        let place = chunks.number(block);
        place.is_some_and(|number| chunks.chunk(id, len).any(|at| at == (number, offset)))
    }
}
