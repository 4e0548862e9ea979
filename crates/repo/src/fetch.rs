//! Reading: blocks by id, verified; trees and content maps on top of them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{BlockId, PackId};
use crate::index::{Index, Location};
use crate::map::{Extent, Map};
use crate::pack;
use crate::repository::Repository;
use crate::tree::node::Node;
use crate::tree::{Entry, path_order};

/// Stored bytes between two wanted blocks that are read along rather than asked for apart.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// Stored bytes of one ranged read, at most.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Nodes of one level that are read together.
const NODES_PER_READ: usize = 256;
/// A reader loads the index again at most this often: gc moves blocks rarely, and in a damaged
/// repository every block that is gone would cost a listing.
const LOADS_MAX: u32 = 4;

/// What [`Reader::diff`] calls for each difference: the path, the old entry, the new one.
type VisitDiff<'v> = dyn FnMut(&[u8], Option<&Entry>, Option<&Entry>) -> Result<()> + 'v;

/// A piece of a tree: a node and all below it.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'p> {
    /// The node.
    pub node: &'p BlockId,
    /// The first path in it; empty for the root.
    pub first: &'p [u8],
    /// The first path after it; `None` if nothing comes after.
    pub next: Option<&'p [u8]>,
}

impl Piece<'_> {
    /// Can this path be in it?
    pub fn reaches(&self, path: &[u8]) -> bool {
        path_order(self.first, path).is_le()
            && self.next.is_none_or(|next| path_order(path, next).is_lt())
    }

    /// Can this path or one below it be in it?
    pub fn reaches_below(&self, top: &[u8]) -> bool {
        // paths below `top` come right after it
        let below = self.first.strip_prefix(top).is_some_and(|rest| rest.first() == Some(&b'/'));
        below || self.reaches(top)
    }
}

/// Reads blocks of a repository through an index.
#[derive(Debug)]
pub struct Reader<'r> {
    repo: &'r Repository,
    cache: Option<&'r Cache>,
    index: RwLock<Index>,
    /// How often the index was loaded again.
    loads: Mutex<u32>,
}

impl<'r> Reader<'r> {
    /// Over an index that is already loaded.
    pub fn new(repo: &'r Repository, cache: Option<&'r Cache>, index: Index) -> Self {
        Self { repo, cache, index: RwLock::new(index), loads: Mutex::new(0) }
    }

    /// Loads every index table and reads through it.
    pub fn open(repo: &'r Repository, cache: Option<&'r Cache>) -> Result<Self> {
        Ok(Self::new(repo, cache, repo.load_index(cache, false)?))
    }

    /// Reads from now on go over new connections.
    pub(crate) fn renew_connections(&self) {
        self.repo.store().renew_connections();
    }

    /// The index it reads through. Not to be held while something is read.
    pub(crate) fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().expect("no writer panics")
    }

    /// The index it reads through: loaded again meanwhile if blocks had moved.
    pub(crate) fn into_index(self) -> Index {
        self.index.into_inner().expect("no writer panics")
    }

    /// Where a block is.
    pub fn location(&self, id: &BlockId) -> Option<Location> {
        self.index.read().expect("no reader panics").get(id).cloned()
    }

    /// Whether a block lies in one of these packs, whole as far as their lengths tell.
    pub(crate) fn lies_in(&self, id: &BlockId, packs: &HashMap<PackId, u64>) -> bool {
        let fits = |at: &Location| packs.get(&at.pack).is_some_and(|len| at.range().end <= *len);
        self.index.read().expect("no reader panics").places(id).any(fits)
    }

    fn places(&self, id: &BlockId) -> Vec<Location> {
        self.index.read().expect("no reader panics").places(id).cloned().collect()
    }

    /// Reads one block.
    pub fn read(&self, id: &BlockId) -> Result<Vec<u8>> {
        let mut blocks = self.read_all(std::slice::from_ref(id))?;
        Ok(blocks.pop().expect("one block was asked for"))
    }

    /// Reads blocks, in the order asked for, with few ranged reads. A block that does not come out
    /// right is read again on its own, from every place it lies in.
    pub fn read_all(&self, ids: &[BlockId]) -> Result<Vec<Vec<u8>>> {
        let mut wanted = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            if let Some(at) = self.location(id) {
                wanted.push((at, place));
            }
        }
        wanted.sort_by_key(|(at, _)| (at.pack, at.offset));
        let mut out = vec![None; ids.len()];
        for run in runs(&wanted) {
            let start = run[0].0.offset;
            let end = run.iter().map(|(at, _)| at.range().end).max().unwrap_or(start);
            let bytes = match self.fetch(&run[0].0, start..end) {
                Ok(bytes) => bytes,
                Err(e) if is_damage(&e) => continue,
                Err(e) => return Err(e),
            };
            for (at, place) in run {
                let from = usize::try_from(at.offset - start).expect("a run is short");
                out[*place] = self.open_at(at, &bytes, from).ok();
            }
        }
        let read = |(plain, id): (Option<Vec<u8>>, _)| match plain {
            Some(plain) => Ok(plain),
            None => self.read_anywhere(id),
        };
        out.into_iter().zip(ids).map(read).collect()
    }

    /// Reads a block from whichever place gives the right bytes; if none does, from the places that
    /// the index names now: gc may have moved it.
    fn read_anywhere(&self, id: &BlockId) -> Result<Vec<u8>> {
        let loads = *self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let places = self.places(id);
        let first = match self.read_places(id, &places) {
            Err(e) if is_damage(&e) => e,
            other => return other,
        };
        self.load_again(loads)?;
        let fresh: Vec<Location> =
            self.places(id).into_iter().filter(|at| !places.contains(at)).collect();
        if fresh.is_empty() {
            return Err(first);
        }
        self.read_places(id, &fresh)
    }

    /// Loads the index again, unless another thread did so since it was loaded for the `loads`-th
    /// time, or it was done so often that the repository must be damaged.
    fn load_again(&self, loads: u32) -> Result<()> {
        let mut count = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if *count == loads && *count < LOADS_MAX {
            let fresh = self.repo.load_index(self.cache, false)?;
            *self.index.write().expect("no writer panics") = fresh;
            *count += 1;
        }
        Ok(())
    }

    fn read_places(&self, id: &BlockId, places: &[Location]) -> Result<Vec<u8>> {
        let mut error = Error::Missing { object: format!("block {id}") };
        for at in places {
            match self.fetch(at, at.range()).and_then(|bytes| self.open_at(at, &bytes, 0)) {
                Err(e) if is_damage(&e) => error = e,
                other => return other,
            }
        }
        Err(error)
    }

    fn open_at(&self, at: &Location, bytes: &[u8], from: usize) -> Result<Vec<u8>> {
        let sealed = from
            .checked_add(at.row.stored_len as usize)
            .and_then(|end| bytes.get(from..end))
            .ok_or_else(|| Error::corrupt(at.pack.object_name(), "cut short"))?;
        pack::open_block(self.repo.keys(), self.repo.id(), &at.row, sealed)
    }

    fn fetch(&self, at: &Location, range: std::ops::Range<u64>) -> Result<Bytes> {
        let name = at.pack.object_name();
        match self.repo.store().get_range(&name, range) {
            Err(store::Error::NotFound { name }) => Err(Error::Missing { object: name }),
            Err(store::Error::Short { name, .. }) => Err(Error::corrupt(name, "cut short")),
            other => Ok(other?),
        }
    }

    /// True if `plain` is exactly the plaintext of data block `id`.
    pub fn matches(&self, id: &BlockId, plain: &[u8]) -> bool {
        self.location(id).is_some_and(|at| {
            at.row.plain_len as usize == plain.len()
                && self.repo.keys().block_id(at.row.kind, plain) == *id
        })
    }

    /// The extents of a content map.
    pub fn extents(&self, map: &Map) -> Result<Vec<Extent>> {
        map.extents(|id| self.read(id))
    }

    /// Visits every entry of a tree in path order. A tree that is none (levels that do not fall,
    /// children under other names, paths out of order) is [`Error::Corrupt`]; so no tree, however
    /// hostile, makes this read a node twice.
    pub fn walk(
        &self,
        root: &BlockId,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        self.walk_except(root, &HashSet::new(), visit)
    }

    /// Visits the entries of a tree in path order; nodes in `skip` are left out.
    fn walk_except(
        &self,
        root: &BlockId,
        skip: &HashSet<BlockId>,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        self.walk_where(root, &|piece| !skip.contains(piece.node), visit)
    }

    /// Visits the entries of a tree in path order; pieces of it that are not wanted are not read.
    pub fn walk_where(
        &self,
        root: &BlockId,
        wanted: &dyn Fn(Piece<'_>) -> bool,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        if !wanted(Piece { node: root, first: b"", next: None }) {
            return Ok(());
        }
        let node = Node::decode(root, &self.read(root)?)?;
        self.walk_node(root, node, None, wanted, &mut None, visit)
    }

    /// The entry at a path; reads one node of each level.
    pub fn entry_at(&self, root: &BlockId, path: &[u8]) -> Result<Option<Entry>> {
        let mut found = None;
        self.walk_where(root, &|piece| piece.reaches(path), &mut |at, entry| {
            if at == path {
                found = Some(entry);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn walk_node(
        &self,
        id: &BlockId,
        node: Node,
        end: Option<&[u8]>,
        wanted: &dyn Fn(Piece<'_>) -> bool,
        last: &mut Option<Vec<u8>>,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        let (level, items) = match node {
            Node::Leaf(items) => {
                for (path, entry) in items {
                    if last.as_deref().is_some_and(|l| path_order(l, &path) != Ordering::Less) {
                        return Err(no_tree(id));
                    }
                    *last = Some(path.clone());
                    visit(path, entry)?;
                }
                return Ok(());
            }
            Node::Inner { level, items } => (level, items),
        };
        let next = |n: usize| items.get(n + 1).map_or(end, |(path, _)| Some(path.as_slice()));
        let is_wanted = |n: &usize| {
            let (path, child) = &items[*n];
            wanted(Piece { node: &child.id, first: path, next: next(*n) })
        };
        let wanted_items: Vec<usize> = (0..items.len()).filter(is_wanted).collect();
        for some in wanted_items.chunks(NODES_PER_READ) {
            let ids: Vec<BlockId> = some.iter().map(|n| items[*n].1.id).collect();
            for (n, plain) in some.iter().zip(self.read_all(&ids)?) {
                let (path, child) = &items[*n];
                let node = Node::decode(&child.id, &plain)?;
                if node.level() + 1 != level || node.first() != Some(path.as_slice()) {
                    return Err(no_tree(&child.id));
                }
                self.walk_node(&child.id, node, next(*n), wanted, last, visit)?;
            }
        }
        Ok(())
    }

    /// Every node id of a tree. Reads the inner nodes only, each once.
    fn nodes(&self, root: &BlockId) -> Result<HashSet<BlockId>> {
        let (mut all, mut level) = (HashSet::from([*root]), vec![*root]);
        while !level.is_empty() {
            let mut next = Vec::new();
            for ids in level.chunks(NODES_PER_READ) {
                for (id, plain) in ids.iter().zip(self.read_all(ids)?) {
                    let Node::Inner { level, items } = Node::decode(id, &plain)? else { continue };
                    for (_, child) in items {
                        if all.insert(child.id) && level > 1 {
                            next.push(child.id);
                        }
                    }
                }
            }
            level = next;
        }
        Ok(all)
    }

    /// Visits what differs between two trees, in path order; subtrees they share are not read.
    pub fn diff(&self, old: &BlockId, new: &BlockId, visit: &mut VisitDiff<'_>) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let (old_nodes, new_nodes) = (self.nodes(old)?, self.nodes(new)?);
        let shared: HashSet<BlockId> = old_nodes.intersection(&new_nodes).copied().collect();
        let collect = |root: &BlockId| -> Result<Vec<(Vec<u8>, Entry)>> {
            let mut entries = Vec::new();
            self.walk_except(root, &shared, &mut |path, entry| {
                entries.push((path, entry));
                Ok(())
            })?;
            Ok(entries)
        };
        let (old, new) = (collect(old)?, collect(new)?);
        let (mut a, mut b) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => path_order(old, new),
            };
            let old = if order == Ordering::Greater { None } else { a.next() };
            let new = if order == Ordering::Less { None } else { b.next() };
            let path = old.or(new).map(|(path, _)| path).expect("one side was taken");
            if old.map(|o| &o.1) != new.map(|n| &n.1) {
                visit(path, old.map(|o| &o.1), new.map(|n| &n.1))?;
            }
        }
    }
}

fn no_tree(id: &BlockId) -> Error {
    Error::corrupt(format!("block {id}"), "it is no node of this tree")
}

/// True for what another copy of the block may make good.
fn is_damage(error: &Error) -> bool {
    // a copy of a later epoch is not for this key; another one may be
    matches!(error, Error::Corrupt { .. } | Error::Missing { .. } | Error::WrongKey { .. })
}

/// Cuts sorted locations into runs that one ranged read covers.
fn runs(wanted: &[(Location, usize)]) -> Vec<&[(Location, usize)]> {
    let mut out = Vec::new();
    let mut start = 0;
    for i in 1..=wanted.len() {
        let ends = wanted.get(i).is_none_or(|(next, _)| {
            let (first, last) = (&wanted[start].0, &wanted[i - 1].0);
            next.pack != first.pack
                || next.offset > last.range().end + GAP_BYTES_MAX
                || next.range().end - first.offset > RUN_BYTES_MAX
        });
        if ends {
            out.push(&wanted[start..i]);
            start = i;
        }
    }
    out
}
