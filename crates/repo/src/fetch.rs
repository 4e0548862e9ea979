//! Reading: blocks by id, verified; trees and content maps on top of them.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::RwLock;

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::BlockId;
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

/// Reads blocks of a repository through an index.
#[derive(Debug)]
pub struct Reader<'r> {
    repo: &'r Repository,
    cache: Option<&'r Cache>,
    index: RwLock<Index>,
}

impl<'r> Reader<'r> {
    /// Over an index that is already loaded.
    pub fn new(repo: &'r Repository, cache: Option<&'r Cache>, index: Index) -> Self {
        Self { repo, cache, index: RwLock::new(index) }
    }

    /// Loads every index table and reads through it.
    pub fn open(repo: &'r Repository, cache: Option<&'r Cache>) -> Result<Self> {
        Ok(Self::new(repo, cache, repo.load_index(cache, false)?))
    }

    /// Where a block is.
    pub fn location(&self, id: &BlockId) -> Option<Location> {
        self.index.read().expect("no reader panics").get(id).cloned()
    }

    fn locate(&self, id: &BlockId) -> Result<Location> {
        self.location(id).ok_or_else(|| Error::Missing { object: format!("block {id}") })
    }

    /// Reads one block.
    pub fn read(&self, id: &BlockId) -> Result<Vec<u8>> {
        let mut blocks = self.read_all(std::slice::from_ref(id))?;
        Ok(blocks.pop().expect("one block was asked for"))
    }

    /// Reads blocks, in the order asked for, with few ranged reads.
    pub fn read_all(&self, ids: &[BlockId]) -> Result<Vec<Vec<u8>>> {
        match self.read_located(ids) {
            // gc may have moved the block: read the index again, once
            Err(Error::Missing { .. }) => {
                let fresh = self.repo.load_index(self.cache, false)?;
                *self.index.write().expect("no writer panics") = fresh;
                self.read_located(ids)
            }
            other => other,
        }
    }

    fn read_located(&self, ids: &[BlockId]) -> Result<Vec<Vec<u8>>> {
        let mut wanted = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            wanted.push((self.locate(id)?, place));
        }
        wanted.sort_by_key(|(at, _)| (at.pack, at.offset));
        let mut out = vec![Vec::new(); ids.len()];
        for run in runs(&wanted) {
            let (first, last) = (&run[0].0, &run[run.len() - 1].0);
            let start = first.offset;
            let bytes = self.fetch(first, start..last.range().end)?;
            for (at, place) in run {
                let from = usize::try_from(at.offset - start).expect("a run is short");
                let sealed = &bytes[from..from + at.row.stored_len as usize];
                out[*place] = pack::open_block(self.repo.keys(), self.repo.id(), &at.row, sealed)?;
            }
        }
        Ok(out)
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

    /// Visits every entry of a tree in path order.
    pub fn walk(
        &self,
        root: &BlockId,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        self.walk_nodes(std::slice::from_ref(root), &HashSet::new(), visit)
    }

    /// Visits the entries of nodes in path order; nodes in `skip` are left out.
    fn walk_nodes(
        &self,
        ids: &[BlockId],
        skip: &HashSet<BlockId>,
        visit: &mut dyn FnMut(Vec<u8>, Entry) -> Result<()>,
    ) -> Result<()> {
        let ids: Vec<BlockId> = ids.iter().filter(|id| !skip.contains(id)).copied().collect();
        for ids in ids.chunks(256) {
            for (id, plain) in ids.iter().zip(self.read_all(ids)?) {
                match Node::decode(id, &plain)? {
                    Node::Leaf(items) => {
                        for (path, entry) in items {
                            visit(path, entry)?;
                        }
                    }
                    Node::Inner(items) => {
                        let children: Vec<BlockId> = items.iter().map(|(_, c)| c.id).collect();
                        self.walk_nodes(&children, skip, visit)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every node id of a tree, root first.
    fn nodes(&self, root: &BlockId) -> Result<Vec<BlockId>> {
        let (mut all, mut level) = (vec![*root], vec![*root]);
        while !level.is_empty() {
            let mut next = Vec::new();
            for (id, plain) in level.iter().zip(self.read_all(&level)?) {
                match Node::decode(id, &plain)? {
                    Node::Leaf(_) => return Ok(all),
                    Node::Inner(items) => next.extend(items.iter().map(|(_, c)| c.id)),
                }
            }
            all.extend_from_slice(&next);
            level = next;
        }
        Ok(all)
    }

    /// Visits what differs between two trees, in path order; subtrees they share are not read twice.
    pub fn diff(
        &self,
        old: &BlockId,
        new: &BlockId,
        visit: &mut dyn FnMut(&[u8], Option<&Entry>, Option<&Entry>) -> Result<()>,
    ) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let (old_nodes, new_nodes): (HashSet<_>, HashSet<_>) =
            (self.nodes(old)?.into_iter().collect(), self.nodes(new)?.into_iter().collect());
        let shared: HashSet<BlockId> = old_nodes.intersection(&new_nodes).copied().collect();
        let collect = |root: &BlockId| -> Result<Vec<(Vec<u8>, Entry)>> {
            let mut entries = Vec::new();
            self.walk_nodes(std::slice::from_ref(root), &shared, &mut |path, entry| {
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
