//! The object store under a repository: the only async code and the only user of `object_store`.
//!
//! [`LocalStore`] is a directory, [`S3Store`] a bucket of any S3 endpoint or Backblaze B2, [`MemoryStore`] for
//! tests; [`Address`] reads what a user writes and opens the right one. [`Foreign`] is what another program
//! keeps there: read only, with keys of any form.
//!
//! In: object names (`packs/<oid>-<n>`, ...) and bytes. Out: acknowledged writes, reads, listings.
//! Everything above needs five verbs and nothing else; no conditional write exists, because
//! Backblaze B2 has none. A [`Store`] is synchronous: parallelism is the caller's threads.
//!
//! Contract, kept by every implementation and checked by `testkit::conformance`:
//! - `put` is atomic: a reader sees all of the object or nothing; it returns after the store
//!   acknowledged (a directory: after fsync of file and directory). Names are written once, so a
//!   `put` that is repeated carries the same bytes (heartbeats excepted).
//! - `list` returns every object acknowledged before it began and not deleted, or an error: never
//!   a short listing.
//! - Transient failures are retried inside, within a budget; what comes out is final.

mod address;
mod answer;
mod cancel;
mod endpoint;
mod error;
mod foreign;
mod http;
mod inquiry;
mod limit;
mod local;
mod mem;
mod name;
pub mod ping;
mod retry;
mod s3;
mod secret;
mod versions;

use std::fmt::Debug;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;

pub use address::{Address, Credentials, Options, open};
pub use cancel::Cancel;
pub use endpoint::Endpoint;
pub use error::{Error, Result};
pub use foreign::{Foreign, Object};
pub use http::Usage;
pub use inquiry::{Inquiry, LifecycleRule, Told};
pub use local::LocalStore;
pub use mem::MemoryStore;
pub use retry::{Retry, Sleep, Time};
pub use s3::{S3Config, S3Store};
pub use secret::Secret;

/// One object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Full name under the repository's root, `/`-separated.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When the store says it was last written (the store's clock).
    pub modified: SystemTime,
}

/// A version of an object that is not the current one: the object was deleted since, which only hid it, or
/// written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Full name of the object, as in [`Item`].
    pub name: String,
    /// What the storage calls this version.
    pub id: String,
    /// Length in bytes.
    pub size: u64,
}

/// Whether a listing is known to show every object that was acknowledged before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It is on this machine.
    Local,
    /// The storage's documents promise it.
    Documented,
    /// Nothing is published; it is taken to, and collectors wait longer.
    Unpublished,
}

/// A store of named objects. Names are relative, `/`-separated, of `[a-z0-9./-]`; no part of a name
/// is empty or starts with a dot, and no name is a folder of another (anything else: [`Error::BadName`]).
pub trait Store: Send + Sync + Debug {
    /// Writes one object; `parts` are its bytes in order (no copy is made to join them).
    fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()>;
    /// Reads one whole object. [`Error::NotFound`] if it is not there.
    fn get(&self, name: &str) -> Result<Bytes>;
    /// Reads bytes `range.start..range.end` of one object. A range past the end is
    /// [`Error::Short`], never fewer bytes. An empty range is empty bytes, without a look at the object.
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes>;
    /// Lists every object whose name starts with `prefix`, sorted by name. `prefix` is any string:
    /// `snap/` and `snap/0123` both work.
    fn list(&self, prefix: &str) -> Result<Vec<Item>>;
    /// Removes one object; not an error if it is not there.
    fn delete(&self, name: &str) -> Result<()>;
    /// Old versions of all objects whose name starts with `prefix`, by name, and of one name the newest first.
    /// `None` where the store keeps none that could be asked for.
    fn old_versions(&self, _prefix: &str) -> Result<Option<Vec<Version>>> {
        Ok(None)
    }
    /// Reads an old version whole. [`Error::NotFound`] if it is gone.
    fn get_version(&self, version: &Version) -> Result<Bytes> {
        Err(Error::NotFound { name: version.name.clone() })
    }
    /// Where this store is, for messages: an address without secrets.
    fn address(&self) -> String;
    /// What is known of its listings.
    fn listing(&self) -> Listing {
        Listing::Unpublished
    }
    /// What the storage says of itself; `None` where there is nobody to ask.
    fn inquire(&self) -> Result<Option<Inquiry>> {
        Ok(None)
    }
    /// Whether an object that is there is left alone by a write that may only make a new one
    /// (`If-None-Match`); `None` where nobody can be asked. For curiosity: no repository depends on it.
    fn honours_if_none_match(&self, _name: &str) -> Result<Option<bool>> {
        Ok(None)
    }
    /// Requests and bytes so far, where they are counted because they cost.
    fn usage(&self) -> Usage {
        Usage::default()
    }
    /// Later calls go over new connections: whoever doubts what was read reads it again on another
    /// way. Does nothing where there are no connections.
    fn renew_connections(&self) {}
}
