//! The oracle: what was acknowledged, kept apart from the store, and compared with it.
//!
//! - An acknowledged snapshot that nobody began to forget is there, and no `dead/` stands against it.
//! - Every snapshot that counts restores, to the bytes its pusher had.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use repo::{Error, Kind, OpId, Reader, Repository};
use store::{Item, Store};

use crate::world::Objects;

/// The content of every file, by path.
pub(crate) type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is true of a run.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// What each snapshot holds that was ever sent.
    sent: BTreeMap<OpId, Arc<Files>>,
    acknowledged: BTreeSet<OpId>,
    /// Somebody began to forget them.
    forgetting: BTreeSet<OpId>,
    /// Snapshots that came out right, and calls of collectors that ended well.
    pub(crate) restored: usize,
    pub(crate) collected: usize,
    pub(crate) swept: usize,
    pub(crate) moved: u64,
    pub(crate) emptied: usize,
    pub(crate) undeleted: usize,
    pub(crate) lies: usize,
    pub(crate) verified: usize,
    pub(crate) repaired: usize,
    /// Tables that repairs wrote.
    pub(crate) rebuilt: usize,
    pub(crate) refused: BTreeMap<String, usize>,
}

impl Truth {
    pub(crate) fn sent(&mut self, id: OpId, files: Arc<Files>) {
        self.sent.insert(id, files);
    }

    pub(crate) fn acknowledge(&mut self, id: OpId) {
        self.acknowledged.insert(id);
    }

    pub(crate) fn forget(&mut self, id: OpId) {
        self.forgetting.insert(id);
    }

    pub(crate) fn files(&self, id: &OpId) -> Option<Arc<Files>> {
        self.sent.get(id).cloned()
    }

    pub(crate) fn is_kept(&self, id: &OpId) -> bool {
        self.acknowledged.contains(id) && !self.forgetting.contains(id)
    }

    /// Acknowledged snapshots that nobody began to forget.
    pub(crate) fn kept(&self) -> Vec<OpId> {
        self.acknowledged.difference(&self.forgetting).copied().collect()
    }

    pub(crate) fn forgotten(&self) -> Vec<OpId> {
        self.forgetting.iter().copied().collect()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Compares with the objects as they lie there.
    pub(crate) fn check(&mut self, objects: &Objects) -> Result<(), String> {
        let has = |dir: &str, id: &OpId| objects.contains_key(&format!("{dir}/{id}"));
        for id in self.kept() {
            if !has("snap", &id) {
                return Err(format!("acknowledged snapshot {id} is gone"));
            }
            for mark in ["dead", "forgot"] {
                if has(mark, &id) {
                    return Err(format!("acknowledged snapshot {id} has a {mark}/"));
                }
            }
        }
        let repo = crate::open(Arc::new(Frozen(objects.clone())));
        let mut reader = None;
        for (id, files) in &self.sent {
            if !has("snap", id) || has("dead", id) || has("forgot", id) {
                continue;
            }
            let reader = match &reader {
                Some(reader) => reader,
                None => reader.insert(Reader::open(&repo, None).map_err(|e| e.to_string())?),
            };
            let found = restore_with(&repo, reader, id)
                .map_err(|e| format!("snapshot {id} does not restore: {e}"))?;
            if found != **files {
                return Err(format!("snapshot {id} restores to other bytes"));
            }
            self.restored += 1;
        }
        Ok(())
    }
}

/// Restores one snapshot: every file, checked against the hash in its entry.
pub(crate) fn restore(repo: &Repository, id: &OpId) -> repo::Result<Files> {
    let (snapshot, _) = repo.snapshot(None, id)?;
    let reader = Reader::open(repo, None)?;
    read_tree(&reader, &snapshot.tree)
}

fn restore_with(repo: &Repository, reader: &Reader<'_>, id: &OpId) -> repo::Result<Files> {
    let (snapshot, _) = repo.snapshot(None, id)?;
    read_tree(reader, &snapshot.tree)
}

fn read_tree(reader: &Reader<'_>, tree: &repo::BlockId) -> repo::Result<Files> {
    let mut entries = Vec::new();
    reader.walk(tree, &mut |path, entry| {
        entries.push((path, entry));
        Ok(())
    })?;
    let bad = |path: &[u8]| Error::Corrupt {
        object: String::from_utf8_lossy(path).into_owned(),
        what: "its bytes are not those of its entry".into(),
    };
    let mut files = Files::new();
    for (path, entry) in entries.into_iter().filter(|(_, entry)| entry.kind == Kind::File) {
        let mut content = Vec::new();
        for extent in reader.extents(&entry.map)? {
            let plain = reader.read(&extent.block)?;
            let range = extent.offset as usize..(extent.offset + extent.len) as usize;
            content.extend_from_slice(plain.get(range).ok_or_else(|| bad(&path))?);
        }
        if blake3::hash(&content) != blake3::Hash::from_bytes(entry.hash) {
            return Err(bad(&path));
        }
        files.insert(path, content);
    }
    Ok(files)
}

/// Objects as they were at one moment.
#[derive(Debug)]
struct Frozen(Objects);

impl Store for Frozen {
    fn put(&self, _: &str, _: Vec<Bytes>) -> store::Result<()> {
        unreachable!("the oracle only reads")
    }

    fn get(&self, name: &str) -> store::Result<Bytes> {
        let found = self.0.get(name).map(|object| object.bytes.clone());
        found.ok_or_else(|| store::Error::NotFound { name: name.to_owned() })
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> store::Result<Bytes> {
        slice(name, &self.get(name)?, &range)
    }

    fn list(&self, prefix: &str) -> store::Result<Vec<Item>> {
        let from = self.0.range(prefix.to_owned()..);
        let item = |(name, object): (&String, &crate::world::Object)| Item {
            name: name.clone(),
            size: object.bytes.len() as u64,
            modified: object.modified,
        };
        Ok(from.take_while(|(name, _)| name.starts_with(prefix)).map(item).collect())
    }

    fn delete(&self, _: &str) -> store::Result<()> {
        unreachable!("the oracle only reads")
    }

    fn address(&self) -> String {
        "frozen:".to_owned()
    }
}

/// A range of an object, as a store gives it.
pub(crate) fn slice(name: &str, whole: &Bytes, range: &Range<u64>) -> store::Result<Bytes> {
    let end = usize::try_from(range.end).expect("small");
    if end > whole.len() {
        return Err(store::Error::Short { name: name.to_owned(), end: range.end });
    }
    Ok(whole.slice(usize::try_from(range.start).expect("small")..end))
}
