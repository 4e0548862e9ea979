//! The collector: one thread that puts sealed blocks into packs and finished entries into the tree.
//!
//! In: entries (in any order, numbered in tree order) and sealed blocks. Out: packs to the
//! uploaders, the tree's root, rows for the cache. Invariant: an entry goes into the tree only when
//! every block it names is sealed, and nodes go into packs after the data they stand on.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use repo::keys::BlockKind;
use repo::limits::PACK_MIXED_META_BYTES_MAX;
use repo::{
    BlockId, BlockNo, Entry, Extent, Index, Layout, Map, Operation, PackId, PackWriter, Repository,
    SealedBlock, TreeBuilder, TreeRoot, flag, gone, layout, path_order, push_extent, seal_block,
};

use super::blocks::{Permits, Piece};
use super::rows::{EditSeen, Look, NewRows, Row};
use super::upload::Pack;
use crate::error::{Error, Result};
use crate::gone::{Settled, Watch};
use crate::scan::Stat;
use crate::session::Session;

/// How often a quiet collector looks whether the run was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// What the collector is told.
pub(super) enum Message {
    /// An entry, with its place in tree order.
    Entry(u64, Box<Item>),
    /// Its place stays empty: it could not be read.
    Gone(u64),
    /// A data block is sealed.
    Sealed(BlockNo, SealedBlock),
    /// Something failed; the first error counts.
    Failed(Error),
    /// Every entry was sent; this many places.
    Scanned(u64),
}

/// An entry on its way into the tree.
#[allow(clippy::large_enum_variant, reason = "it travels in a box")]
pub(super) enum Item {
    /// Complete: not read, or without content.
    Ready(Vec<u8>, Entry),
    /// Read: its content is in pieces.
    Read(ReadFile),
}

/// A file that was read.
pub(super) struct ReadFile {
    pub(super) path: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) pieces: Vec<Piece>,
    /// A database's table of groups, coded.
    pub(super) groups: Option<Vec<u8>>,
    /// The file's row before, for a patch over its map.
    pub(super) old: Option<Box<Row>>,
    /// How it looked, unless it moved while it was read.
    pub(super) look: Option<Look>,
    pub(super) log: Option<Stat>,
    /// How rows were left out of it.
    pub(super) edit: Option<Box<EditSeen>>,
    /// Fingerprint of the field rules that it was read under.
    pub(super) fields: Option<[u8; 32]>,
    /// How secrets in it are replaced, if they are.
    pub(super) marking: Option<[u8; 32]>,
    pub(super) seen_nanos: i64,
}

/// What the collector ends with.
pub(super) struct Collected {
    pub(super) tree: TreeRoot,
    /// The tree without what is gone.
    pub(super) live: TreeRoot,
    pub(super) gone: Settled,
    pub(super) rows: NewRows,
    /// Databases that are stored damaged, sorted.
    pub(super) damaged: Vec<Vec<u8>>,
}

/// The collector.
pub(super) struct Collector<'a> {
    session: &'a Session,
    repo: &'a Repository,
    op: &'a Operation<'a>,
    index: Arc<Index>,
    permits: Arc<Permits>,
    packs: Sender<Pack>,
    /// Looks for what vanished, until that is in the tree.
    watch: Option<Watch<'a>>,
    /// The tree without what is gone, from where it is another one.
    live: Option<TreeBuilder>,
    gone: Settled,
    ids: Vec<Option<BlockId>>,
    waiting: BTreeMap<u64, Option<Item>>,
    next: u64,
    tree: TreeBuilder,
    blocks: Blocks,
    rows: NewRows,
    damaged: Vec<Vec<u8>>,
}

/// Packs being filled and what is in them.
struct Blocks {
    data: Option<PackWriter>,
    meta: Option<PackWriter>,
    packs_count: u32,
    data_bytes: u64,
    written: HashSet<BlockId>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        session: &'a Session,
        op: &'a Operation<'a>,
        index: Arc<Index>,
        permits: Arc<Permits>,
        packs: Sender<Pack>,
        watch: Option<Watch<'a>>,
    ) -> Self {
        let repo = &session.repo;
        Self {
            session,
            repo,
            op,
            index,
            permits,
            packs,
            watch,
            live: None,
            gone: Settled::default(),
            ids: Vec::new(),
            waiting: BTreeMap::new(),
            next: 0,
            tree: TreeBuilder::new(repo.keys().tree_key()),
            blocks: Blocks {
                data: None,
                meta: None,
                packs_count: 0,
                data_bytes: 0,
                written: HashSet::new(),
            },
            rows: NewRows::default(),
            damaged: Vec::new(),
        }
    }

    /// Works until every entry is in the tree and every block in a pack. `emitted` is told how many
    /// places are done, for whoever waits for room.
    pub(super) fn run(
        mut self,
        messages: &Receiver<Message>,
        emitted: &dyn Fn(u64),
        cancel: &AtomicBool,
    ) -> Result<Collected> {
        let mut places = None;
        while places != Some(self.next) {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let message = match messages.recv_timeout(CANCEL_CHECK) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
            };
            match message {
                Message::Entry(place, item) => {
                    self.waiting.insert(place, Some(*item));
                }
                Message::Gone(place) => {
                    self.waiting.insert(place, None);
                }
                Message::Sealed(number, block) => {
                    self.sealed(number, block)?;
                    self.permits.give_back();
                }
                Message::Failed(e) => return Err(e),
                Message::Scanned(count) => places = Some(count),
            }
            let before = self.next;
            while self.head_is_ready() {
                let (_, item) = self.waiting.pop_first().expect("the head is ready");
                self.next += 1;
                if let Some(item) = item {
                    self.emit(item)?;
                }
            }
            if self.next != before {
                emitted(self.next);
            }
        }
        self.finish()
    }

    fn head_is_ready(&self) -> bool {
        match self.waiting.first_key_value() {
            Some((place, item)) if *place == self.next => match item {
                Some(Item::Read(file)) => file.pieces.iter().all(|p| self.id_of(p.block).is_some()),
                _ => true,
            },
            _ => false,
        }
    }

    fn id_of(&self, number: BlockNo) -> Option<BlockId> {
        let number = number as usize;
        match self.index.blocks().get(number) {
            Some(location) => Some(location.row.id),
            None => self.ids.get(number - self.index.len()).copied().flatten(),
        }
    }

    fn sealed(&mut self, number: BlockNo, block: SealedBlock) -> Result<()> {
        let at = number as usize - self.index.len();
        if self.ids.len() <= at {
            self.ids.resize(at + 1, None);
        }
        self.ids[at] = Some(block.row.id);
        self.blocks.data_bytes += u64::from(block.row.stored_len);
        if self.blocks.written.insert(block.row.id) {
            self.store(block)?;
        }
        Ok(())
    }

    /// Puts a sealed block into the pack of its class; a full pack goes to the uploaders.
    fn store(&mut self, block: SealedBlock) -> Result<()> {
        let meta = block.row.kind.is_meta();
        let op = self.op.id();
        let blocks = &mut self.blocks;
        let slot = if meta { &mut blocks.meta } else { &mut blocks.data };
        let pack = slot.get_or_insert_with(|| {
            let n = blocks.packs_count;
            blocks.packs_count += 1;
            PackWriter::new(PackId { op, n })
        });
        pack.push(block.row, &block.sealed);
        if pack.is_full() {
            let pack = slot.take();
            self.upload(pack)?;
        }
        Ok(())
    }

    fn upload(&mut self, pack: Option<PackWriter>) -> Result<()> {
        let Some(pack) = pack else { return Ok(()) };
        let (table, object) = pack.finish(self.repo.keys(), self.repo.id());
        // the uploaders are gone only if they failed, and then their error is in the queue
        self.packs.send(Pack { table, object }).map_err(|_| Error::Cancelled)
    }

    /// Stores a node, map or patch unless it is there already, and names it.
    fn put_meta(
        &mut self,
        kind: BlockKind,
        plain: &[u8],
    ) -> repo::Result<(BlockId, Option<SealedBlock>)> {
        let id = self.repo.keys().block_id(kind, plain);
        if self.index.get(&id).is_some() || !self.blocks.written.insert(id) {
            return Ok((id, None));
        }
        let level = self.repo.config().params.zstd_level;
        let block = seal_block(self.repo.keys(), self.repo.id(), kind, plain, &[], level)?;
        Ok((id, Some(block)))
    }

    fn store_meta(&mut self, kind: BlockKind, plain: &[u8]) -> Result<BlockId> {
        let (id, block) = self.put_meta(kind, plain)?;
        block.map_or(Ok(()), |block| self.store(block))?;
        Ok(id)
    }

    fn emit(&mut self, item: Item) -> Result<()> {
        let (path, read) = match &item {
            Item::Ready(path, _) => (path, false),
            Item::Read(file) => (&file.path, true),
        };
        if path_order(path, gone::NAME).is_gt() {
            self.settle()?;
        }
        match item {
            Item::Ready(path, entry) => {
                self.see(&path, &entry, read);
                self.push_entry(&path, &entry)
            }
            Item::Read(file) => {
                let ReadFile { path, mut entry, pieces, groups, old, .. } = file;
                let ReadFile { look, log, edit, fields, marking, seen_nanos, .. } = file;
                let mut extents = Vec::with_capacity(pieces.len());
                for Piece { block, offset, len, pages } in pieces {
                    let block = self.id_of(block).expect("the head is ready");
                    push_extent(&mut extents, Extent { block, offset, len, pages });
                }
                let patch_bytes = self.place_map(&mut entry, &extents, old.as_deref())?;
                self.see(&path, &entry, read);
                self.push_entry(&path, &entry)?;
                let extents = Row::extents_of(&entry, &extents);
                let log = log.as_ref().map(Look::of_log);
                let row = Row {
                    look,
                    log,
                    seen_nanos,
                    entry,
                    extents,
                    patch_bytes,
                    edit,
                    fields,
                    marking,
                };
                self.rows.push(&path, &row);
                self.rows.spill(self.session);
                if let (Some(cache), Some(groups)) = (&self.session.cache, groups) {
                    cache.put_groups(&path, &groups);
                }
                Ok(())
            }
        }
    }

    /// Gives the entry its map; returns the size of the map's patches together.
    fn place_map(
        &mut self,
        entry: &mut Entry,
        extents: &[Extent],
        old: Option<&Row>,
    ) -> Result<u64> {
        // a base or patch that is not reusable cannot be built on
        let old =
            old.filter(|row| row.entry.map.own_blocks().all(|id| self.index.get(id).is_some()));
        let old_extents = old.and_then(Row::extents);
        let known = old.zip(old_extents.as_deref());
        if let Some((row, old_extents)) = known
            && old_extents == extents
        {
            entry.map = row.entry.map.clone();
            return Ok(row.patch_bytes);
        }
        let known = known.map(|(row, extents)| (&row.entry.map, extents, row.patch_bytes));
        match layout(known, extents) {
            Layout::Inline(inline) => {
                entry.map = Map { inline, ..Map::default() };
                Ok(0)
            }
            Layout::Base(plain, more) => {
                let base = self.store_meta(BlockKind::Map, &plain)?;
                let patches: Result<Vec<BlockId>> =
                    more.iter().map(|patch| self.store_meta(BlockKind::Patch, patch)).collect();
                let patches = Some(patches?).filter(|patches| !patches.is_empty());
                entry.map = Map { base: Some(base), patches, ..Map::default() };
                Ok(0)
            }
            Layout::Patch(plain) => {
                let (map, _, patch_bytes) = known.expect("a patch stands on an old map");
                let patch = self.store_meta(BlockKind::Patch, &plain)?;
                let mut patches = map.patches.clone().unwrap_or_default();
                patches.push(patch);
                entry.map = Map { patches: Some(patches), ..map.clone() };
                Ok(patch_bytes + plain.len() as u64)
            }
        }
    }

    fn see(&mut self, path: &[u8], entry: &Entry, read: bool) {
        if let Some(watch) = &mut self.watch {
            watch.entry(path, entry, read);
        }
    }

    /// Puts what is gone into the tree: all that can vanish sorts before it.
    fn settle(&mut self) -> Result<()> {
        let Some(watch) = self.watch.take() else { return Ok(()) };
        let index = Arc::clone(&self.index);
        let next = Cell::new(self.blocks.packs_count);
        let now_secs = || self.session.clock.now_secs();
        let mut carry = |needed: &BTreeSet<BlockId>| {
            let (repo, cache) = (self.repo, self.session.cache.as_ref());
            let (_, lost, after) =
                repo::undelete::carry_blocks(repo, cache, self.op, next.get(), needed, &now_secs)?;
            next.set(after);
            Ok(lost)
        };
        let gone = watch.settle(&|id| index.get(id).is_some(), &mut carry)?;
        self.blocks.packs_count = next.get();
        if !gone.kept.is_empty() {
            self.live = Some(self.tree.clone());
        }
        for kept in &gone.kept {
            self.put_in_tree(&kept.stored_path(), &kept.entry)?;
        }
        self.gone = gone;
        Ok(())
    }

    fn push_entry(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if entry.flags & flag::SQLITE_DAMAGED != 0 {
            self.damaged.push(path.to_vec());
        }
        if let Some(live) = &mut self.live {
            let keys = self.repo.keys();
            live.push(path, entry, &mut |plain| Ok(keys.block_id(BlockKind::Node, &plain)))?;
        }
        self.put_in_tree(path, entry)
    }

    fn put_in_tree(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let mut nodes = Vec::new();
        let tree_key = self.repo.keys().tree_key();
        let mut tree = std::mem::replace(&mut self.tree, TreeBuilder::new(tree_key));
        let pushed = tree.push(path, entry, &mut |plain| {
            let (id, block) = self.put_meta(BlockKind::Node, &plain)?;
            nodes.extend(block);
            if let Some(watch) = &mut self.watch {
                watch.node(id);
            }
            Ok(id)
        });
        self.tree = tree;
        pushed?;
        nodes.into_iter().try_for_each(|node| self.store(node))
    }

    fn finish(mut self) -> Result<Collected> {
        self.settle()?;
        let live = self.live.take();
        let mut nodes = Vec::new();
        let tree_key = self.repo.keys().tree_key();
        let tree = std::mem::replace(&mut self.tree, TreeBuilder::new(tree_key));
        let root = tree.finish(&mut |plain| {
            let (id, block) = self.put_meta(BlockKind::Node, &plain)?;
            nodes.extend(block);
            Ok(id)
        })?;
        nodes.into_iter().try_for_each(|node| self.store(node))?;
        let (data, meta) = (self.blocks.data.take(), self.blocks.meta.take());
        match (data, meta) {
            (Some(mut data), Some(meta)) if meta.bytes() < PACK_MIXED_META_BYTES_MAX => {
                data.absorb(meta);
                self.upload(Some(data))?;
            }
            (data, meta) => {
                self.upload(data)?;
                self.upload(meta)?;
            }
        }
        self.damaged.sort_unstable();
        let keys = self.repo.keys();
        let live = live.map(|tree| tree.finish(&mut |p| Ok(keys.block_id(BlockKind::Node, &p))));
        let live = live.transpose()?.unwrap_or(root);
        let Self { gone, rows, damaged, .. } = self;
        Ok(Collected { tree: root, live, gone, rows, damaged })
    }
}
