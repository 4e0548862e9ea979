//! Nodes: pieces of a tree, each the plaintext of one block.
//!
//! ```text
//! node = version u8 (=1), level u8, varint count, count * item
//! item = varint shared, varint length, bytes      path: `shared` bytes of the item before, then these
//!        level 0: varint length, entry (CBOR)
//!        level n: child block id (32), varint entries, varint bytes     path: the child's first path
//! ```
//! Items are strictly sorted by [`path_order`], 1 to 1024 of them; only the one node of an empty tree
//! has none. A node ends after an item whose *path* says so (one
//! in 64 on average), or when it is full; so one change rewrites one path of nodes.

use std::cmp::Ordering;

use super::{Entry, is_sound, path_order};
use crate::error::{Error, Result};
use crate::id::BlockId;
use crate::limits::{
    BLOCK_PLAIN_BYTES_MAX, ENTRY_BYTES_MAX, NODE_ITEMS_MAX, PATH_BYTES_MAX, TREE_LEVELS_MAX,
};
use crate::varint;

const VERSION: u8 = 1;
/// A node's items, on average.
const ITEMS_MEAN: u64 = 64;
/// A node with this many bytes of items is full, whatever the paths say.
const NODE_BYTES_FULL: usize = 64 << 10;
// one item more than full is still a block
const _: () = assert!(
    NODE_BYTES_FULL + ENTRY_BYTES_MAX + PATH_BYTES_MAX + 64 < BLOCK_PLAIN_BYTES_MAX as usize
);

/// A child of an inner node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) id: BlockId,
    /// Entries below.
    pub(crate) entries: u64,
    /// Bytes of content below.
    pub(crate) bytes: u64,
}

/// A decoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Leaf(Vec<(Vec<u8>, Entry)>),
    Inner {
        /// Its children are one level below.
        level: u8,
        items: Vec<(Vec<u8>, Child)>,
    },
}

/// A node while it is filled.
#[derive(Debug, Clone)]
pub(crate) struct NodeWriter {
    level: u8,
    count: usize,
    items: Vec<u8>,
    last: Vec<u8>,
    /// First path in the node.
    pub(crate) first: Vec<u8>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Inner node: the child pushed last.
    pub(crate) child: Option<Child>,
}

impl NodeWriter {
    pub(crate) fn new(level: u8) -> Self {
        Self {
            level,
            count: 0,
            items: Vec::new(),
            last: Vec::new(),
            first: Vec::new(),
            entries: 0,
            bytes: 0,
            child: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Items in the node so far.
    pub(crate) fn items_count(&self) -> usize {
        self.count
    }

    fn push_path(&mut self, path: &[u8]) {
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        if self.count == 0 {
            self.first = path.to_vec();
        }
        varint::put(&mut self.items, shared as u64);
        varint::put(&mut self.items, (path.len() - shared) as u64);
        self.items.extend_from_slice(&path[shared..]);
        self.last.clear();
        self.last.extend_from_slice(path);
        self.count += 1;
    }

    /// Adds a coded entry whose content has `size` bytes.
    pub(crate) fn push_entry(&mut self, path: &[u8], coded: &[u8], size: u64) {
        self.push_path(path);
        varint::put(&mut self.items, coded.len() as u64);
        self.items.extend_from_slice(coded);
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size); // sparse files may claim any size
    }

    pub(crate) fn push_child(&mut self, path: &[u8], child: &Child) {
        self.push_path(path);
        self.items.extend_from_slice(&child.id.0);
        varint::put(&mut self.items, child.entries);
        varint::put(&mut self.items, child.bytes);
        self.entries = self.entries.saturating_add(child.entries);
        self.bytes = self.bytes.saturating_add(child.bytes);
        self.child = Some(child.clone());
    }

    /// Whether the node ends after the item just pushed. An inner node holds at least two items, so
    /// every level has at most half as many nodes as the one below.
    pub(crate) fn ends(&self, cut_key: &[u8; 32]) -> bool {
        if self.count >= NODE_ITEMS_MAX || self.items.len() >= NODE_BYTES_FULL {
            return true;
        }
        if self.level > 0 && self.count < 2 {
            return false;
        }
        let mut hasher = blake3::Hasher::new_keyed(cut_key);
        hasher.update(&[self.level]).update(&self.last);
        let mut word = [0; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(word).is_multiple_of(ITEMS_MEAN)
    }

    /// The node's plaintext; the writer is empty again.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.items.len() + 12);
        out.push(VERSION);
        out.push(self.level);
        varint::put(&mut out, self.count as u64);
        out.append(&mut self.items);
        *self = Self::new(self.level);
        out
    }
}

impl Node {
    /// Its level: 0 for a leaf.
    pub(crate) fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner { level, .. } => *level,
        }
    }

    /// Its first path; none in the leaf of an empty tree.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        match self {
            Self::Leaf(items) => items.first().map(|(path, _)| path.as_slice()),
            Self::Inner { items, .. } => items.first().map(|(path, _)| path.as_slice()),
        }
    }

    /// Decodes a node; every rule of the module's table is checked.
    pub(crate) fn decode(id: &BlockId, plain: &[u8]) -> Result<Self> {
        let mut input = plain;
        match Self::take(&mut input) {
            Some(node) if input.is_empty() => Ok(node),
            _ => Err(Error::corrupt(format!("block {id}"), "it is no node of a tree")),
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let [version, level] = *varint::take_bytes(input, 2)? else { return None };
        let count = usize::try_from(varint::take(input)?).ok()?;
        // no allocation on a lie: an item takes far more memory than its bytes here
        if version != VERSION || level >= TREE_LEVELS_MAX || count > NODE_ITEMS_MAX.min(input.len())
        {
            return None;
        }
        if level > 0 && count == 0 {
            return None;
        }
        let mut path = Vec::new();
        if level == 0 {
            let mut items = Vec::with_capacity(count);
            for _ in 0..count {
                take_path(input, &mut path, items.is_empty())?;
                let len = usize::try_from(varint::take(input)?).ok()?;
                if len > ENTRY_BYTES_MAX {
                    return None;
                }
                let entry = minicbor::decode(varint::take_bytes(input, len)?).ok()?;
                items.push((path.clone(), entry));
            }
            return Some(Self::Leaf(items));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            take_path(input, &mut path, items.is_empty())?;
            let id = BlockId::from_slice(varint::take_bytes(input, BlockId::LEN)?)?;
            let (entries, bytes) = (varint::take(input)?, varint::take(input)?);
            items.push((path.clone(), Child { id, entries, bytes }));
        }
        Some(Self::Inner { level, items })
    }
}

/// Takes a path that must sort after the one in `path`, into `path`.
fn take_path(input: &mut &[u8], path: &mut Vec<u8>, first: bool) -> Option<()> {
    let shared = usize::try_from(varint::take(input)?).ok()?;
    let len = usize::try_from(varint::take(input)?).ok()?;
    if shared > path.len() || shared.checked_add(len)? > PATH_BYTES_MAX {
        return None;
    }
    let suffix = varint::take_bytes(input, len)?;
    let mut next = path[..shared].to_vec();
    next.extend_from_slice(suffix);
    if !is_sound(&next) || (!first && path_order(path, &next) != Ordering::Less) {
        return None;
    }
    *path = next;
    Some(())
}
