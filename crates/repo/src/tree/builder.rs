//! Builds a tree: entries in path order come in, node blocks go out, the root's id comes back.

use std::cmp::Ordering;

use super::node::{Child, NodeWriter};
use super::{Entry, gone, is_sound, path_order};
use crate::error::{Error, Result};
use crate::id::BlockId;
use crate::limits::{ENTRY_BYTES_MAX, TREE_LEVELS_MAX};

/// A finished tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root node.
    pub id: BlockId,
    /// Entries in the tree.
    pub entries: u64,
    /// Bytes of content in the tree, every file counted.
    pub bytes: u64,
}

/// Builds a tree from entries in path order. `sink` gets the plaintext of every node and returns its
/// block id; it may store it, or only compute the id.
#[derive(Debug, Clone)]
pub struct TreeBuilder {
    cut_key: [u8; 32],
    levels: Vec<NodeWriter>,
    last: Option<Vec<u8>>,
}

impl TreeBuilder {
    /// An empty tree. `cut_key` decides where nodes end ([`crate::keys::Keys::tree_key`]).
    pub fn new(cut_key: [u8; 32]) -> Self {
        Self { cut_key, levels: vec![NodeWriter::new(0)], last: None }
    }

    /// Adds the next entry; paths must come in strictly rising path order. [`Error::Refused`] for an
    /// entry that no reader would take: a path that is none, or too much beside it.
    pub fn push(
        &mut self,
        path: &[u8],
        entry: &Entry,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<BlockId>,
    ) -> Result<()> {
        if let Some(last) = &self.last {
            assert!(path_order(last, path) == Ordering::Less, "entries come sorted, each once");
        }
        if !is_sound(path) {
            let path = path.escape_ascii();
            return Err(Error::Refused { reason: format!("\"{path}\" is no path of a tree") });
        }
        let coded = minicbor::to_vec(entry).expect("encoding to memory does not fail");
        if coded.len() > ENTRY_BYTES_MAX {
            let path = path.escape_ascii();
            let reason = format!("\"{path}\": more attributes than an entry may have");
            return Err(Error::Refused { reason });
        }
        // what is gone shares no leaf with what is there, which changes
        let crosses = self.last.as_ref().is_some_and(|last| gone::holds(last) != gone::holds(path));
        if crosses && !self.levels[0].is_empty() {
            self.close(0, sink)?;
        }
        self.last = Some(path.to_vec());
        self.levels[0].push_entry(path, &coded, entry.size);
        if self.levels[0].ends(&self.cut_key) {
            self.close(0, sink)?;
        }
        Ok(())
    }

    /// Ends the node at `level` and hands it to the level above.
    fn close(
        &mut self,
        level: usize,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<BlockId>,
    ) -> Result<()> {
        let node = &mut self.levels[level];
        let (first, entries, bytes) = (node.first.clone(), node.entries, node.bytes);
        let id = sink(node.finish())?;
        if level + 1 == self.levels.len() {
            let next = u8::try_from(level + 1).expect("levels are few");
            if next >= TREE_LEVELS_MAX {
                return Err(Error::Refused { reason: "the tree has too many entries".into() });
            }
            self.levels.push(NodeWriter::new(next));
        }
        self.levels[level + 1].push_child(&first, &Child { id, entries, bytes });
        if self.levels[level + 1].ends(&self.cut_key) {
            self.close(level + 1, sink)?;
        }
        Ok(())
    }

    /// Closes every level. An empty tree is one empty leaf.
    pub fn finish(mut self, sink: &mut dyn FnMut(Vec<u8>) -> Result<BlockId>) -> Result<TreeRoot> {
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            let node = &mut self.levels[level];
            if top && (level == 0 || node.items_count() > 1) {
                let (entries, bytes) = (node.entries, node.bytes);
                return Ok(TreeRoot { id: sink(node.finish())?, entries, bytes });
            }
            if top {
                // a level of one child is no level: its child is the root
                let child = node.child.clone().expect("the top level above 0 is never empty");
                return Ok(TreeRoot { id: child.id, entries: child.entries, bytes: child.bytes });
            }
            if !node.is_empty() {
                self.close(level, sink)?;
            }
            level += 1;
        }
    }
}
