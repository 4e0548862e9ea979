//! The tree of a snapshot: entries sorted by path, cut into nodes, each node one block.
//!
//! Path order is component by component: bytes compare as they are, but `/` sorts before every
//! other byte. So a directory comes first, then all it holds, then its next sibling, which is the
//! order in which a walk that sorts each directory meets them.

mod builder;
mod entry;
pub mod gone;
pub(crate) mod node;

use std::cmp::Ordering;

use crate::limits::PATH_BYTES_MAX;

pub use builder::{TreeBuilder, TreeRoot};
pub use entry::{Entry, Kind, MarkedSource, Marks, Pages, TextFormat, Xattr, flag};

/// Whether a path may stand in a tree: parts joined by `/`, none empty, none `.` or `..`, no zero
/// byte. A reader refuses a node with any other, so nothing above has to think of them.
pub(crate) fn is_sound(path: &[u8]) -> bool {
    path.len() <= PATH_BYTES_MAX
        && !path.contains(&0)
        && path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Compares two paths in tree order.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |c: &u8| if *c == b'/' { 0 } else { *c };
    a.iter().map(key).cmp(b.iter().map(key))
}
