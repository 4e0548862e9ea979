//! Catalogues: where an agent lists its sessions. Read for titles, and merged when a session comes back.
//!
//! In: the catalogue of a snapshot, the one that is there, and which sessions. Out: what of the first is
//! missing in the second. Invariant: an entry that is there stays as it is, to the byte.

mod file;
mod scan;
mod table;

pub use file::{Merged, Stored, listed, merge, stored};
pub use table::{Rows, Wanted, count_rows, merge_rows, prune_rows};

use std::collections::BTreeSet;

/// The sessions whose entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whose {
    /// Their ids.
    pub ids: BTreeSet<String>,
    /// What the values in templates are for each.
    pub values: Vec<adapters::sessions::Values>,
}

/// What a catalogue says of a session.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    /// Its id; of members, the value that a member has.
    pub key: String,
    /// Its title.
    pub title: Option<String>,
    /// Its project.
    pub project: Option<String>,
}
