//! What another program keeps in a directory or bucket: read, never written.
//!
//! In: an address, as for a repository. Out: every object with its length, and bytes of one. Keys are any
//! text, unlike the names of our own objects; a key that no path can have is listed and cannot be read.
//! The contract of reads and listings is that of [`crate::Store`]: whole or an error, retried inside.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;

use crate::Result;

/// One object of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the address, `/`-separated.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
}

/// Read access to the objects of another program. There is no verb that writes.
pub trait Foreign: Send + Sync + Debug {
    /// Every object below the address, sorted by key.
    fn objects(&self) -> Result<Vec<Object>>;
    /// Bytes `range.start..range.end` of one object: all of them, or [`crate::Error::Short`];
    /// [`crate::Error::NotFound`] if it is not there. An empty range is empty bytes, without a look.
    fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes>;
    /// Where this is, for messages: an address without secrets.
    fn place(&self) -> String;
}

/// Whether a key can be a path below a root: it leaves no directory and names something.
pub(crate) fn is_path(key: &str) -> bool {
    !key.contains('\0') && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
