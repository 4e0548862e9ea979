//! Which entries a pull takes: `--path` patterns.
//!
//! A pattern is tried on the full path (label first) and on the path below the label; one without
//! a slash is tried on every name, as in ignore files. A directory that matches brings all below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::error::Result;

/// A set of patterns.
#[derive(Debug)]
pub(crate) struct Select {
    set: GlobSet,
    labels: Vec<Vec<u8>>,
}

impl Select {
    pub(crate) fn new(patterns: &[String], labels: &[Vec<u8>]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        let mut add = |pattern: &str| -> Result<()> {
            set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
            Ok(())
        };
        for pattern in patterns {
            let pattern = pattern.trim_matches('/');
            add(pattern)?;
            if !pattern.contains('/') {
                add(&format!("**/{pattern}"))?;
            }
        }
        Ok(Self { set: set.build()?, labels: labels.to_vec() })
    }

    /// Are there any patterns?
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Does a pattern match this very path?
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let is_match = |path: &[u8]| self.set.is_match(Path::new(OsStr::from_bytes(path)));
        is_match(path) || below_label(path, &self.labels).is_some_and(is_match)
    }

    /// Does a pattern match this path or a directory above it?
    pub(crate) fn covers(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.matches(&path[..end]))
    }
}

/// The rest of a path below its label: the longest of `labels` that fits, else the first name.
fn below_label<'p>(path: &'p [u8], labels: &[Vec<u8>]) -> Option<&'p [u8]> {
    let fits = |label: &Vec<u8>| strip_path(path, label);
    let known = labels.iter().filter_map(fits).min_by_key(|rest| rest.len());
    known.or_else(|| {
        let at = path.iter().position(|b| *b == b'/')?;
        Some(&path[at + 1..])
    })
}

/// `path` without the leading components of `prefix`; `None` unless it is `prefix` or below it.
pub fn strip_path<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    match path.strip_prefix(prefix)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}
