//! What a root leaves to another root that lies inside it.
//!
//! A file belongs to the innermost root: whatever a root keeps inside another one is carved out of
//! the outer one, so that nothing is listed twice.

use std::sync::Arc;

use globset::{Candidate, GlobSet};

/// A piece of a root that belongs to another one.
#[derive(Debug, Clone)]
pub(crate) enum Carved {
    /// This directory (path inside the root) and everything in it.
    Dir(Vec<u8>),
    /// Files of these names, directly in this directory (empty: the root itself).
    Files(Vec<u8>, Arc<GlobSet>),
}

impl Carved {
    pub(crate) fn has(&self, rel: &[u8], is_dir: bool) -> bool {
        match self {
            Self::Dir(dir) => rel == dir.as_slice() || below(rel, dir).is_some(),
            Self::Files(dir, names) => {
                // The patterns of names do not match across '/'.
                !is_dir
                    && below(rel, dir)
                        .is_some_and(|name| names.is_match_candidate(&Candidate::from_bytes(name)))
            }
        }
    }
}

fn below<'a>(rel: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    if dir.is_empty() { Some(rel) } else { rel.strip_prefix(dir)?.strip_prefix(b"/") }
}
