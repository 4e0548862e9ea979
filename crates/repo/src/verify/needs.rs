//! What snapshots need, as far as their trees can be read.
//!
//! In: snapshots and an index. Out: the ids of all blocks they reach, and the nodes, maps and patches
//! that do not come out. The walk of a collector stops at the first of these; this one goes on.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::{Error, Result};
use crate::fetch::Reader;
use crate::id::BlockId;
use crate::index::Index;
use crate::keys::BlockKind;
use crate::map::{self, Extent, Map};
use crate::snapshot::Snapshot;
use crate::tree::node::Node;
use crate::tree::{Entry, Kind};
use crate::verify::data::reason;

/// Nodes that are read together.
const NODES_PER_READ: usize = 256;
/// Extents of maps that are kept while other snapshots may patch the same base: about 48 MiB.
const EXTENTS_KEPT_MAX: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) blocks: HashSet<BlockId>,
    /// Nodes, maps and patches that cannot be read, and why.
    pub(crate) unreadable: BTreeMap<BlockId, String>,
    /// Some map does not fit its file or its blocks.
    pub(crate) has_faults: bool,
    /// Blocks read.
    pub(crate) read: u64,
    maps: HashMap<[u8; 16], bool>,
    open: HashMap<BlockId, (Vec<BlockId>, Vec<Extent>)>,
    extents: usize,
}

/// A node on the way down: where it hangs, so that every path ends.
type Hanging = (BlockId, Option<(u8, Vec<u8>)>);

impl Needs {
    /// Walks the trees of these snapshots.
    pub(crate) fn of(reader: &Reader<'_>, snapshots: &[Snapshot]) -> Result<Self> {
        let mut needs = Self::default();
        for snapshot in snapshots {
            needs.add_tree(reader, &snapshot.tree)?;
        }
        Ok(needs)
    }

    fn add_tree(&mut self, reader: &Reader<'_>, root: &BlockId) -> Result<()> {
        let mut level: Vec<Hanging> = Vec::new();
        if self.blocks.insert(*root) {
            level.push((*root, None));
        }
        while !level.is_empty() {
            let mut next = Vec::new();
            for part in level.chunks(NODES_PER_READ) {
                let ids: Vec<BlockId> = part.iter().map(|(id, _)| *id).collect();
                for ((id, hangs), plain) in part.iter().zip(read_each(reader, &ids)?) {
                    self.read += 1;
                    match plain.and_then(|plain| node(id, &plain, hangs.as_ref())) {
                        Ok(Node::Inner { level, items }) => {
                            for (path, child) in items {
                                if self.blocks.insert(child.id) {
                                    next.push((child.id, Some((level - 1, path))));
                                }
                            }
                        }
                        Ok(Node::Leaf(items)) => {
                            for (_, entry) in items {
                                self.add_entry(reader, &entry)?;
                            }
                        }
                        Err(what) => drop(self.unreadable.insert(*id, what)),
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
            let extents = map::decode_extents(&map.inline);
            self.has_faults |= extents.is_none();
            let extents = extents.unwrap_or_default();
            self.has_faults |= fault(&reader.index(), entry, &extents).is_some();
            self.blocks.extend(extents.iter().map(|extent| extent.block));
            return Ok(());
        }
        self.blocks.extend(map.own_blocks());
        let key = map_key(map);
        if self.maps.contains_key(&key) {
            return Ok(());
        }
        let extents = self.extents(reader, map)?;
        self.maps.insert(key, extents.is_some());
        if let Some(extents) = extents {
            self.has_faults |= fault(&reader.index(), entry, &extents).is_some();
            self.blocks.extend(extents.iter().map(|extent| extent.block));
        }
        Ok(())
    }

    /// The extents of a map with blocks of its own; `None` if one of these does not come out. The next
    /// snapshot's map is often this one and a patch more.
    fn extents(&mut self, reader: &Reader<'_>, map: &Map) -> Result<Option<Vec<Extent>>> {
        let base = map.base.expect("the caller looked");
        let patches = map.patches.as_deref().unwrap_or_default();
        let known = self.open.remove(&base);
        self.extents -= known.as_ref().map_or(0, |(_, extents)| extents.len());
        let mut read = |id: &BlockId| {
            self.read += 1;
            read_each(reader, &[*id])?.remove(0).map_err(|what| {
                self.unreadable.insert(*id, what.clone());
                Error::corrupt(format!("block {id}"), what)
            })
        };
        let made = match known {
            Some((done, extents)) if patches.starts_with(&done) => {
                map::extend(extents, &patches[done.len()..], &mut read)
            }
            _ => map.extents(&mut read),
        };
        let extents = match made {
            Ok(extents) => extents,
            Err(Error::Corrupt { what, .. }) => {
                // authentic blocks that make no map together are the fault of whoever wrote them
                self.unreadable.entry(base).or_insert(what);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.extents += extents.len();
        if self.extents > EXTENTS_KEPT_MAX {
            self.open.clear();
            self.extents = extents.len();
        }
        self.open.insert(base, (patches.to_vec(), extents.clone()));
        Ok(Some(extents))
    }
}

/// Names a map by its blocks.
pub(crate) fn map_key(map: &Map) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for block in map.own_blocks() {
        hasher.update(&block.0);
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

/// Reads blocks; what does not come out, however often it is read, is told for each by itself.
pub(crate) fn read_each(
    reader: &Reader<'_>,
    ids: &[BlockId],
) -> Result<Vec<std::result::Result<Vec<u8>, String>>> {
    match reader.read_all(ids) {
        Ok(all) => return Ok(all.into_iter().map(Ok).collect()),
        Err(Error::Corrupt { .. } | Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    reader.renew_connections();
    let one = |id: &BlockId| match reader.read(id) {
        Ok(plain) => Ok(Ok(plain)),
        Err(error @ (Error::Corrupt { .. } | Error::Missing { .. })) => Ok(Err(reason(&error))),
        Err(error) => Err(error),
    };
    ids.iter().map(one).collect()
}

/// Decodes a node and compares it with where it hangs.
pub(crate) fn node(
    id: &BlockId,
    plain: &[u8],
    hangs: Option<&(u8, Vec<u8>)>,
) -> std::result::Result<Node, String> {
    let node = Node::decode(id, plain).map_err(|error| reason(&error))?;
    let fits = hangs.is_none_or(|(level, first)| {
        node.level() == *level && node.first() == Some(first.as_slice())
    });
    if fits { Ok(node) } else { Err("it is no node of this tree".to_owned()) }
}

/// What is wrong with a file's map, though all blocks are there.
pub(crate) fn fault(index: &Index, entry: &Entry, extents: &[Extent]) -> Option<String> {
    let fits = |extent: &Extent| {
        index.get(&extent.block).is_none_or(|at| {
            at.row.kind == BlockKind::Data && extent.offset + extent.len <= at.row.plain_len
        })
    };
    if !extents.iter().all(fits) {
        return Some("its content map reaches past a block".to_owned());
    }
    let bytes = map::extents_len(extents);
    let is_file = entry.kind == Kind::File && entry.link.is_none();
    (is_file && bytes != entry.size)
        .then(|| format!("its content map holds {bytes} bytes of {}", entry.size))
}

/// True for what makes a block unreadable, and no run end.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Missing { .. })
}

/// What a walk calls for each entry.
type VisitEntry<'v> = dyn FnMut(&[u8], &Entry) -> Result<()> + 'v;

/// A walk over the entries of trees that goes on behind what cannot be read. A node that was walked
/// before is not walked again.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    seen: HashSet<BlockId>,
    /// First paths of pieces of trees that cannot be read.
    pub(crate) unreadable: Vec<Vec<u8>>,
}

impl Walk {
    /// Visits the entries of a tree, in path order.
    pub(crate) fn each_entry(
        &mut self,
        reader: &Reader<'_>,
        root: &BlockId,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        self.node(reader, root, None, visit)
    }

    fn node(
        &mut self,
        reader: &Reader<'_>,
        id: &BlockId,
        hangs: Option<&(u8, Vec<u8>)>,
        visit: &mut VisitEntry<'_>,
    ) -> Result<()> {
        if !self.seen.insert(*id) {
            return Ok(());
        }
        let read = read_each(reader, &[*id])?.remove(0);
        match read.and_then(|plain| node(id, &plain, hangs)) {
            Ok(Node::Leaf(items)) => items.iter().try_for_each(|(path, entry)| visit(path, entry)),
            Ok(Node::Inner { level, items }) => items.into_iter().try_for_each(|(path, child)| {
                self.node(reader, &child.id, Some(&(level - 1, path)), visit)
            }),
            Err(_) => {
                self.unreadable.push(hangs.map(|(_, path)| path.clone()).unwrap_or_default());
                Ok(())
            }
        }
    }
}
