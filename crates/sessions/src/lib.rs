//! The conversations of AI coding agents, read: what each is called, when it was, what was said, and where
//! its agent lists it.
//!
//! In: bytes of a transcript or rows of a database, and the rule of an adapter
//! ([`adapters::sessions`]). Out: a [`Digest`] for a list, [`Message`]s for a reader, and merged
//! catalogues. Knows no repository and no directory; whoever calls opens and writes files.
//!
//! Nothing here is trusted: a record that is no JSON, is too long or has another shape is passed
//! over and counted, never an error. A transcript is read as a stream: what is held is one record, in
//! files of lines at most [`RECORD_BYTES_MAX`] of it.

mod blocks;
pub mod catalogue;
mod digest;
mod document;
mod lines;
mod record;
mod rows;
mod show;
mod time;

pub use blocks::Block;
pub use digest::{Digest, Known};
pub use document::{read_document, show_document};
pub use lines::{Lines, Open, read_compressed, read_lines, show_lines};
pub use rows::{RowSession, read_rows, row_values, show_rows};
pub use show::{Message, Shown};
pub use time::parse_time;

/// A longer record is passed over: it would be held in memory. The longest that was seen in the wild
/// (pictures in base64) have some 10 MB.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// What cannot be read or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes could not be had.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The database says no.
    #[error("SQLite: {0}")]
    Database(#[from] rusqlite::Error),
    /// It is not what its rule says.
    #[error("{0}")]
    Shape(String),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Version of what digests mean: another one, and they are made anew.
pub const VERSION: u32 = 1;
