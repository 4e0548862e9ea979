//! What snapshots reach: every block of their trees, maps and contents.
//!
//! In: trees, read through the index. Out: a set of block ids. Only grows: a set that was made for
//! more snapshots than there are now keeps more, and loses nothing. Every node and map is read once,
//! however many snapshots share it.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::id::BlockId;
use crate::map::{self, Extent, Map};
use crate::tree::Entry;
use crate::tree::node::Node;

/// Nodes that are read together.
const NODES_PER_READ: usize = 256;
/// Extents of maps that are kept while other snapshots may patch the same base: about 48 MiB.
const EXTENTS_KEPT_MAX: usize = 1 << 20;

/// The blocks that live.
#[derive(Debug, Default)]
pub(crate) struct Live {
    blocks: HashSet<BlockId>,
    maps: HashSet<[u8; 16]>,
    open: OpenMaps,
}

impl Live {
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BlockId> {
        self.blocks.iter()
    }

    /// Adds all that a tree reaches. Any node or map that does not open is an error: what lies
    /// beyond it is not known, and must not be taken for dead.
    pub(crate) fn add_tree(&mut self, reader: &Reader<'_>, root: &BlockId) -> Result<()> {
        let mut level = Vec::new();
        if self.blocks.insert(*root) {
            level.push(*root);
        }
        while !level.is_empty() {
            let mut next = Vec::new();
            for ids in level.chunks(NODES_PER_READ) {
                for (id, plain) in ids.iter().zip(reader.read_all(ids)?) {
                    match Node::decode(id, &plain)? {
                        Node::Inner { items, .. } => {
                            let children = items.into_iter().map(|(_, child)| child.id);
                            next.extend(children.filter(|child| self.blocks.insert(*child)));
                        }
                        Node::Leaf(items) => {
                            for (_, entry) in items {
                                self.add_entry(reader, &entry)?;
                            }
                        }
                    }
                }
            }
            level = next;
        }
        Ok(())
    }

    fn add_entry(&mut self, reader: &Reader<'_>, entry: &Entry) -> Result<()> {
        let map = &entry.map;
        if map.base.is_none() {
            let extents = map::decode_extents(&map.inline)
                .ok_or_else(|| Error::corrupt("content map", "its extents do not parse"))?;
            self.blocks.extend(extents.iter().map(|extent| extent.block));
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        for block in map.own_blocks() {
            hasher.update(&block.0);
            self.blocks.insert(*block);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        if self.maps.insert(key) {
            let extents = self.open.extents(reader, map)?;
            self.blocks.extend(extents.iter().map(|extent| extent.block));
        }
        Ok(())
    }
}

/// Maps as far as they were patched: the next snapshot's is often this one and a patch more.
#[derive(Debug, Default)]
struct OpenMaps {
    by_base: HashMap<BlockId, (Vec<BlockId>, Vec<Extent>)>,
    extents: usize,
}

impl OpenMaps {
    fn extents(&mut self, reader: &Reader<'_>, map: &Map) -> Result<&[Extent]> {
        let base = map.base.expect("the caller looked");
        let patches = map.patches.as_deref().unwrap_or_default();
        let known = self.by_base.remove(&base);
        self.extents -= known.as_ref().map_or(0, |(_, extents)| extents.len());
        let extents = match known {
            Some((done, extents)) if patches.starts_with(&done) => {
                map::extend(extents, &patches[done.len()..], |id| reader.read(id))?
            }
            _ => reader.extents(map)?,
        };
        self.extents += extents.len();
        if self.extents > EXTENTS_KEPT_MAX {
            self.by_base.clear();
            self.extents = extents.len();
        }
        let slot = self.by_base.entry(base).or_default();
        *slot = (patches.to_vec(), extents);
        Ok(&slot.1)
    }
}
