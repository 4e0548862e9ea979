//! Capture: a consistent image of what must not be read as it lies.
//!
//! ```text
//! path -> connection -> transaction -> pages -> spool -> Image: Read
//! ```
//! [`sqlite`] is the door. `stream` runs in a thread of its own and holds the transaction; `spool`
//! stands between it and the reader, so that a slow reader does not make the transaction long. `edit`
//! leaves out rows that an adapter names; `regain` puts them back into an image that replaces a database. `marks`
//! replaces secrets, and puts them back.

mod clone;
pub(crate) mod connection;
pub(crate) mod edit;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod marks;
pub(crate) mod regain;
mod save;
pub(crate) mod scratch;
mod scrub;
mod spool;
pub(crate) mod sqlite;
mod stream;
#[cfg(test)]
mod tests;

pub use save::capture_database;
