//! Content-defined and page cutting for agent-backup: bytes in, cut points out.
//!
//! A chunk is the unit of deduplication. This crate decides where chunks begin and end, and nothing
//! else: it names nothing, stores nothing and compresses nothing. It does no I/O but [`std::io::Read`],
//! starts no thread and reads no clock, so the same bytes, key and sizes give the same cuts everywhere.
//!
//! - [`Sizes`]: smallest, average and largest chunk, recorded in a repository's `config`.
//! - [`Gear`]: the secret table of the rolling hash, derived from a repository key and checked.
//! - [`Cutter`]: the length of the next chunk of a slice (`FastCDC`, normalisation level 1).
//! - [`Chunks`]: the chunks of a reader, through one buffer; by content, or by database page.
//! - [`verified_prefix`]: is a file that grew still what it was, up to the length it had?
//!
//! **Cut points are format.** Two clients of one repository find each other's chunks only if they
//! cut alike, so `tests/all/golden.rs` pins the cuts as constants. A change there is a new format.

mod chunks;
mod cutter;
mod gear;
mod prefix;
mod self_check;
mod sizes;

pub use chunks::{Chunks, Policy};
pub use cutter::Cutter;
pub use gear::Gear;
pub use prefix::{Prefix, verified_prefix};
pub use sizes::{Sizes, SizesError};
