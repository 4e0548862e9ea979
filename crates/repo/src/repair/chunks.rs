//! Lost chunks are looked for where the same bytes may lie.
//!
//! In: data blocks that cannot be had, and what their tables say of their chunks. Out: the chunks that
//! were found. Two places are looked at: other blocks with a chunk of the same id, and the same path in
//! other snapshots at the same position: a transcript that only grew, a database of which a page stayed.
//! A chunk counts only if its id fits. Only what is looked for is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::heal::{Remembered, newest_first};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::id::{BlockId, ChunkId};
use crate::keys::BlockKind;
use crate::map::Extent;
use crate::pack::BlockRow;
use crate::repository::{Repository, pass_over};
use crate::snapshot::Snapshot;
use crate::tree::{Entry, Pages};
use crate::verify::needs::{Walk, is_damage};

/// Blocks that are kept open: neighbouring chunks of a file lie in one, or in few.
const BLOCKS_OPEN_MAX: usize = 8;

/// Plaintext of a block that was read; `None` if it cannot be had.
type Opened = (BlockId, Option<Rc<Vec<u8>>>);

/// Chunks that are wanted; with their bytes, once they are found.
pub(super) struct Finder<'a, 'r> {
    repo: &'r Repository,
    reader: &'a Reader<'r>,
    wanted: HashMap<ChunkId, Option<Vec<u8>>>,
    missing: usize,
    open: RefCell<VecDeque<Opened>>,
}

/// Where a path uses a block that is lost.
#[derive(Debug, Clone)]
struct Use {
    len: u32,
    /// How the bytes are normalised.
    pages: Option<Pages>,
}

/// By first byte in the file, lost block, and first byte in the block.
type Uses = BTreeMap<(u64, BlockId, u32), Use>;

impl<'a, 'r> Finder<'a, 'r> {
    /// Looks for the chunks of these blocks.
    pub(super) fn new(
        repo: &'r Repository,
        reader: &'a Reader<'r>,
        rows: &BTreeMap<BlockId, BlockRow>,
    ) -> Self {
        let chunks = rows.values().filter_map(BlockRow::chunks).flatten();
        let wanted: HashMap<_, _> = chunks.map(|(id, _, _)| (id, None)).collect();
        let missing = wanted.len();
        Self { repo, reader, wanted, missing, open: RefCell::default() }
    }

    fn offer(&mut self, id: &ChunkId, bytes: &[u8]) {
        if let Some(slot) = self.wanted.get_mut(id).filter(|slot| slot.is_none()) {
            *slot = Some(bytes.to_vec());
            self.missing -= 1;
        }
    }

    /// The plaintext of a block, if all its chunks were found.
    pub(super) fn assemble(&self, row: &BlockRow) -> Option<Vec<u8>> {
        let mut plain = Vec::with_capacity(row.plain_len as usize);
        for (id, _, len) in row.chunks()? {
            let chunk = self.wanted.get(&id)?.as_ref()?;
            if chunk.len() != len as usize {
                return None;
            }
            plain.extend_from_slice(chunk);
        }
        (plain.len() == row.plain_len as usize).then_some(plain)
    }

    /// Looks into other blocks that have a chunk of the same id.
    pub(super) fn in_other_blocks(
        &mut self,
        cache: Option<&Cache>,
        lost: &HashSet<BlockId>,
    ) -> Result<()> {
        if self.missing == 0 {
            return Ok(());
        }
        let (repo, mut read) = (self.repo, HashSet::new());
        repo.each_index_object(cache, &mut pass_over, &mut |listed| {
            for row in listed.object.packs.iter().flat_map(|table| &table.blocks) {
                if row.kind != BlockKind::Data || lost.contains(&row.id) {
                    continue;
                }
                let chunks = row.chunks().unwrap_or_default();
                let is_wanted = |id: &ChunkId| self.wanted.get(id).is_some_and(Option::is_none);
                if !chunks.iter().any(|(id, ..)| is_wanted(id)) || !read.insert(row.id) {
                    continue;
                }
                let Some(plain) = self.read(&row.id)? else { continue };
                for (id, offset, len) in chunks {
                    let piece = plain.get(offset as usize..(offset + len) as usize);
                    if let Some(piece) = piece.filter(|p| repo.keys().chunk_id(p) == id) {
                        self.offer(&id, piece);
                    }
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Looks into the same paths of other snapshots, the newest first. `trees` come before them; of their
    /// paths counts too what this machine remembers: the tree that says so may be lost.
    pub(super) fn in_other_snapshots(
        &mut self,
        snapshots: &[Snapshot],
        trees: &[BlockId],
        remembered: &dyn Fn(&[u8]) -> Option<Remembered>,
        rows: &BTreeMap<BlockId, BlockRow>,
    ) -> Result<()> {
        if self.missing == 0 {
            return Ok(());
        }
        let newest: Vec<&BlockId> = trees.iter().chain(newest_first(snapshots)).collect();
        let reader = self.reader;
        let mut uses: HashMap<Vec<u8>, Uses> = HashMap::new();
        let mut note = |path: &[u8], entry: &Entry, extents: &[Extent]| {
            for (at, extent) in placed(extents) {
                if rows.contains_key(&extent.block) {
                    let Extent { block, offset, len, pages } = extent;
                    let pages = entry.pages.filter(|_| pages);
                    let all = uses.entry(path.to_vec()).or_default();
                    all.entry((at, block, offset)).or_insert(Use { len, pages });
                }
            }
        };
        let mut walk = Walk::default();
        for (number, tree) in newest.iter().enumerate() {
            walk.each_entry(reader, tree, &mut |path, entry| {
                if number < trees.len()
                    && let Some((entry, extents)) = remembered(path)
                {
                    note(path, &entry, &extents);
                }
                note(path, entry, &self.extents(entry)?);
                Ok(())
            })?;
        }
        let mut walk = Walk::default();
        for tree in &newest {
            walk.each_entry(reader, tree, &mut |path, entry| match uses.get(path) {
                Some(uses) if self.missing > 0 => self.try_entry(entry, uses, rows),
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Looks for what is used of lost blocks at the same positions of another content.
    fn try_entry(
        &mut self,
        entry: &Entry,
        uses: &Uses,
        rows: &BTreeMap<BlockId, BlockRow>,
    ) -> Result<()> {
        let extents = placed(&self.extents(entry)?);
        let mut scratch = Vec::new();
        for ((place, block, first), one) in uses {
            let Some(chunks) = rows.get(block).and_then(BlockRow::chunks) else { continue };
            let end = first + one.len;
            let inside: Vec<_> = chunks
                .into_iter()
                .filter(|(_, offset, len)| *offset >= *first && offset + len <= end)
                .filter(|(id, ..)| self.wanted.get(id).is_some_and(Option::is_none))
                .collect();
            for (id, offset, len) in inside {
                let at = place + u64::from(offset - first);
                let Some(mut bytes) = self.range(entry, &extents, at, len)? else { continue };
                let normal =
                    one.pages.is_none_or(|pages| pages.apply(at, &mut bytes, &mut scratch));
                if normal && self.repo.keys().chunk_id(&bytes) == id {
                    self.offer(&id, &bytes);
                }
            }
        }
        Ok(())
    }

    /// Bytes of a file as they are at the source; `None` if they cannot be had.
    fn range(
        &self,
        entry: &Entry,
        extents: &[(u64, Extent)],
        at: u64,
        len: u32,
    ) -> Result<Option<Vec<u8>>> {
        let (end, mut out) = (at + u64::from(len), Vec::new());
        let first = extents.partition_point(|(from, extent)| from + u64::from(extent.len) <= at);
        for (from, extent) in extents[first..].iter().take_while(|(from, _)| *from < end) {
            let (from, to) = (*from, from + u64::from(extent.len));
            let Some(plain) = self.read(&extent.block)? else { return Ok(None) };
            let start = extent.offset as usize;
            let Some(piece) = plain.get(start..start + extent.len as usize) else {
                return Ok(None);
            };
            let mut raw = piece.to_vec();
            if extent.pages && !entry.pages.is_some_and(|pages| pages.undo(from, &mut raw)) {
                return Ok(None);
            }
            let inner =
                |position: u64| usize::try_from(position - from).expect("extents are short");
            out.extend_from_slice(&raw[inner(at.max(from))..inner(end.min(to))]);
        }
        Ok((out.len() == len as usize).then_some(out))
    }

    /// A block, unless it is damaged or missing.
    fn read(&self, id: &BlockId) -> Result<Option<Rc<Vec<u8>>>> {
        let mut open = self.open.borrow_mut();
        if let Some((_, plain)) = open.iter().find(|(known, _)| known == id) {
            return Ok(plain.clone());
        }
        let plain = match self.reader.read(id) {
            Ok(plain) => Some(Rc::new(plain)),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(error),
        };
        if open.len() == BLOCKS_OPEN_MAX {
            open.pop_front();
        }
        open.push_back((*id, plain.clone()));
        Ok(plain)
    }

    /// The extents of a file, none if its map cannot be had.
    fn extents(&self, entry: &Entry) -> Result<Vec<Extent>> {
        match self.reader.extents(&entry.map) {
            Ok(extents) => Ok(extents),
            Err(Error::Corrupt { .. } | Error::Missing { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Extents with their positions in the file.
fn placed(extents: &[Extent]) -> Vec<(u64, Extent)> {
    let mut at = 0;
    let place = |extent: &Extent| {
        let from = at;
        at += u64::from(extent.len);
        (from, *extent)
    };
    extents.iter().map(place).collect()
}
