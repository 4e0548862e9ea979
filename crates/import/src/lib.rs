//! Buckets of agent-backup-core, the TypeScript engine that came before, as snapshots with files that are
//! verified streams. It knows nothing of our repository, and never writes to theirs.
//!
//! In: a [`Foreign`] place, and the passphrase of the old configuration. Out: a [`Source`]: its snapshots
//! ([`Found`]), for each a [`Manifest`], for each file of that a [`Stream`].
//!
//! # What lies there
//!
//! ```text
//! <prefix>/<stamp>/manifest.json                      the list of a snapshot's files, written last
//! <prefix>/<stamp>/<label>/<path>                     one file
//! <prefix>/safety-<stamp>/<stamp>/...                 the same, made before a restore
//! stamp     ISO 8601 in UTC, `-` for `:` and `.`, with or without milliseconds; the OpenClaw plugin appends
//!           `-` and eight hexadecimal digits, and has no labels
//! manifest  {"version":1,"timestamp":ISO 8601,"files":{path:{"hash":SHA-256,"size":bytes}}}, of the plaintext
//! sealed    "B2EN" | salt (32) | iv (12) | tag (16) | ciphertext: AES-256-GCM without associated data, key
//!           = scrypt(passphrase, salt, N = 2^14, r = 8, p = 1)
//! ```
//! Manifest and files are sealed or plain, each by itself: `encrypt` may have been switched on later, and
//! unchanged files were carried over as they lay. `size` was taken before the content, so it is a hint.
//!
//! # What is believed
//!
//! - A file only with the hash in its manifest, wherever it lies: it may be missing where the manifest is
//!   (engines before 0.3.0 stored changed files only), and then another snapshot's object with that hash is it.
//! - A sealed manifest, under its own stamp: whoever can write to the bucket can copy one to another name.
//! - A plain one only if none is sealed and no passphrase was given, or if the user says so
//!   ([`Trust::Plain`]): anybody who can write to the bucket can plant one.
//! - No path that leads anywhere but down ([`Error::Unsafe`], the whole snapshot).

mod cipher;
mod error;
mod layout;
mod manifest;
mod source;

pub use error::{Error, Result};
pub use layout::Listed;
pub use manifest::{Manifest, Record};
pub use source::{Found, Head, Passphrase, Source, Stream, Taken, Trust};
pub use store::Foreign;

/// What the old engine calls itself, and how snapshots that came from it are marked.
pub const NAME: &str = "agent-backup-core";
