//! Which snapshots and files a damage touches.
//!
//! In: snapshots, and blocks that cannot be had. Out: the paths that cannot be restored. A node that many
//! snapshots share is looked at once: its paths are the same in all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use crate::error::Result;
use crate::fetch::Reader;
use crate::id::{BlockId, OpId};
use crate::map::{self, Extent};
use crate::snapshot::Snapshot;
use crate::tree::Entry;
use crate::tree::node::Node;
use crate::verify::needs::{fault, map_key, node, read_each};

/// A path that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Path as stored, label first; empty: all of the snapshot.
    pub path: Vec<u8>,
    /// Not this path alone: a piece of the tree that begins here cannot be read.
    pub and_more: bool,
    /// Snapshots in which it cannot be restored.
    pub snapshots: Vec<OpId>,
    /// Blocks that it lacks.
    pub blocks: BTreeSet<BlockId>,
    /// What is wrong, where no block is missing.
    pub what: Option<String>,
}

/// What touches one path, whatever the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) path: Vec<u8>,
    pub(crate) and_more: bool,
    pub(crate) blocks: BTreeSet<BlockId>,
    pub(crate) what: Option<String>,
}

/// Blocks that an entry lacks, and what else is wrong with it.
pub(crate) type Lack = (BTreeSet<BlockId>, Option<String>);

/// Looks for what cannot be restored.
pub(crate) struct Looker<'a, 'r> {
    reader: &'a Reader<'r>,
    lost: &'a BTreeMap<BlockId, String>,
    nodes: HashMap<BlockId, Rc<Vec<Mark>>>,
    /// What a map of several blocks lacks; its extents are not kept.
    maps: HashMap<[u8; 16], Lack>,
}

impl<'a, 'r> Looker<'a, 'r> {
    /// `lost` are blocks that cannot be had.
    pub(crate) fn new(reader: &'a Reader<'r>, lost: &'a BTreeMap<BlockId, String>) -> Self {
        Self { reader, lost, nodes: HashMap::new(), maps: HashMap::new() }
    }

    /// What a tree lacks, in path order.
    pub(crate) fn tree(&mut self, root: &BlockId) -> Result<Rc<Vec<Mark>>> {
        self.node(root, None)
    }

    fn node(&mut self, id: &BlockId, hangs: Option<&(u8, Vec<u8>)>) -> Result<Rc<Vec<Mark>>> {
        if let Some(known) = self.nodes.get(id) {
            return Ok(known.clone());
        }
        let mut marks = Vec::new();
        let read = match self.lost.get(id) {
            Some(what) => Err(what.clone()),
            None => read_each(self.reader, &[*id])?.remove(0),
        };
        match read.and_then(|plain| node(id, &plain, hangs)) {
            Err(_) => {
                let path = hangs.map(|(_, first)| first.clone()).unwrap_or_default();
                let blocks = BTreeSet::from([*id]);
                marks.push(Mark { path, and_more: true, blocks, what: None });
            }
            Ok(Node::Leaf(items)) => {
                for (path, entry) in items {
                    let (blocks, what) = self.entry(&entry)?;
                    if !blocks.is_empty() || what.is_some() {
                        marks.push(Mark { path, and_more: false, blocks, what });
                    }
                }
            }
            Ok(Node::Inner { level, items }) => {
                for (path, child) in items {
                    let below = self.node(&child.id, Some(&(level - 1, path)))?;
                    marks.extend(below.iter().cloned());
                }
            }
        }
        let marks = Rc::new(marks);
        self.nodes.insert(*id, marks.clone());
        Ok(marks)
    }

    /// Blocks that an entry lacks; what else is wrong with it.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Result<Lack> {
        if entry.map.base.is_none() {
            let parsed = map::decode_extents(&entry.map.inline);
            let wrong = Some("its content map does not parse".to_owned());
            return Ok(parsed.map_or((BTreeSet::new(), wrong), |extents| {
                (self.lacks(&extents), fault(&self.reader.index(), entry, &extents))
            }));
        }
        let key = map_key(&entry.map);
        if let Some(known) = self.maps.get(&key) {
            return Ok(known.clone());
        }
        let own: BTreeSet<BlockId> =
            entry.map.own_blocks().filter(|id| self.lost.contains_key(*id)).copied().collect();
        let found = if own.is_empty() {
            match self.reader.extents(&entry.map) {
                Ok(extents) => (self.lacks(&extents), fault(&self.reader.index(), entry, &extents)),
                Err(error @ crate::Error::Corrupt { .. }) => {
                    (own, Some(crate::verify::data::reason(&error)))
                }
                Err(error) => return Err(error),
            }
        } else {
            (own, None)
        };
        self.maps.insert(key, found.clone());
        Ok(found)
    }

    fn lacks(&self, extents: &[Extent]) -> BTreeSet<BlockId> {
        let blocks = extents.iter().map(|extent| extent.block);
        blocks.filter(|id| self.lost.contains_key(id)).collect()
    }
}

/// The paths of all snapshots that cannot be restored without the lost blocks, each with its snapshots.
pub(crate) fn touched(
    reader: &Reader<'_>,
    snapshots: &[Snapshot],
    lost: &BTreeMap<BlockId, String>,
) -> Result<Vec<Touched>> {
    let mut looker = Looker::new(reader, lost);
    let mut all: BTreeMap<Mark, Vec<OpId>> = BTreeMap::new();
    for snapshot in snapshots {
        for mark in looker.tree(&snapshot.tree)?.iter() {
            all.entry(mark.clone()).or_default().push(snapshot.id);
        }
    }
    let one = |(mark, snapshots): (Mark, Vec<OpId>)| {
        let Mark { path, and_more, blocks, what } = mark;
        Touched { path, and_more, snapshots, blocks, what }
    };
    Ok(all.into_iter().map(one).collect())
}
