//! What a snapshot keeps of files that are gone from their source.

use repo::{Entry, Kind, Reader, Snapshot};

use super::{below, open};
use crate::error::{Error, Result};
use crate::gone::Since;
use crate::session::Session;

/// A file or link that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Since when.
    pub since: Since,
    /// The path it had, label first.
    pub path: Vec<u8>,
    /// The entry.
    pub entry: Entry,
}

impl Gone {
    /// Its path in the snapshot.
    pub fn stored_path(&self) -> Vec<u8> {
        repo::gone::path(self.since.name().as_bytes(), &self.path)
    }
}

/// Files and links that are gone and were at or below `path` (empty: all), sorted by path, then by when
/// they vanished. Those that could not be looked at are among them.
///
/// [`Error::NotFound`] if there are none.
pub fn gone(session: &Session, snapshot: &Snapshot, path: &[u8]) -> Result<Vec<Gone>> {
    let found = all(&open(session)?, snapshot, path)?;
    if found.is_empty() {
        let place =
            if path.is_empty() { String::new() } else { format!(" at {}", path.escape_ascii()) };
        let what = format!("snapshot {} keeps nothing that is gone{place}", snapshot.id);
        return Err(Error::NotFound(what));
    }
    Ok(found)
}

pub(super) fn all(reader: &Reader<'_>, snapshot: &Snapshot, path: &[u8]) -> Result<Vec<Gone>> {
    let mut found = Vec::new();
    if snapshot.stats.gone_entries == 0 {
        return Ok(found);
    }
    let wanted = |piece: repo::Piece<'_>| piece.reaches_below(repo::gone::NAME);
    reader.walk_where(&snapshot.tree, &wanted, &mut |at, entry| {
        let Some((name, old)) = repo::gone::split(&at) else { return Ok(()) };
        if let Some(since) = Since::parse(name)
            && entry.kind != Kind::Dir
            && below(old, path).is_some()
        {
            found.push(Gone { since, path: old.to_vec(), entry });
        }
        Ok(())
    })?;
    found.sort_by(|a, b| repo::path_order(&a.path, &b.path).then(a.since.cmp(&b.since)));
    Ok(found)
}
