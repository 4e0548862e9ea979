//! Redaction of named fields in configuration files: bytes, a format and rules in, bytes out.
//!
//! [`redact`] puts [`MARKER`] in the place of every value that a [`Path`] names. [`restore`] puts the
//! values that a live file has back in the places of markers; [`lost`] tells which of them have no place.
//! Nothing else in the file changes by one byte: comments, order, spacing, quotes, line ends and a byte
//! order mark stay.
//!
//! [`rewrite`] changes strings and keys that are named, by a function of the caller's, with the same care.
//!
//! **A value that is named never leaves.** A file that does not parse, that is not UTF-8, or in which
//! a value cannot be replaced safely is an [`Error`], and the caller sends nothing of it. Every result
//! is parsed again and compared with what was read, so a mistake in here refuses a file, too.
//!
//! **JSON may be long.** It is read in pieces from a [`Source`], as events; kept is what the rules name, or
//! what stands where a stored file has markers, and [`hide`] and [`fill`] give a [`Splice`], of which the
//! new file is read without being held. Files of other formats are short, and trees.
//!
//! What a rule finds ([`Path`] tells how one is written):
//!
//! - A string, number, boolean or date that is named becomes the marker. Null, an empty string, an
//!   empty list and an empty map hide nothing and stay. So redacting twice changes nothing more.
//! - A list or map that is named becomes one marker, its keys with it. Only where it has no place of
//!   its own in the file (a TOML table with a header or of dotted keys, an array of tables, the whole
//!   of a TOML or `.env` file) is each value in it replaced, and its keys stay.
//! - A key that stands more than once (JSON, YAML, `.env`) is replaced everywhere.
//! - A YAML alias or merge key (`<<`) leads to the node it stands for: that one is replaced, at its own
//!   place. Where the file would not load any more (an anchor inside a value that is left out is used
//!   outside of it, what is merged would become a string) and where the value has a tag, the file is
//!   refused. So is a file with keys that are no plain scalars.
//! - Each YAML document and each line of JSON Lines is looked at by itself.
//!
//! **Comments are not looked at**, nor are keys: a secret in a comment stays, unless the comment is
//! inside a value that is replaced.
//!
//! Read as: JSON with all that JSON5 adds, and without missing commas; TOML 1.1; YAML 1.2; `.env` as
//! the dotenv libraries agree on it, where what they read differently is refused.
//!
//! Memory is bounded by the number of values that are kept (250,000 of a JSON file), or by
//! [`Format::bytes_max`]; depth by the parsers (256 objects in JSON, 255 lists or maps in YAML, 80 in TOML);
//! more is an [`Error`]. Nothing here opens a file, starts a thread or reads a clock.

mod choose;
mod edit;
mod error;
mod format;
mod guide;
mod path;
mod read;
mod restore;
mod rewrite;
mod source;
mod splice;
mod tree;

pub use edit::{Hidden, Redacted, hide, redact};
pub use error::Error;
pub use format::Format;
pub use path::{Path, PathError};
pub use restore::{Filled, Restored, fill, lost, restore};
pub use rewrite::{Part, Rewritten, Rule, rewrite};
pub use source::Source;
pub use splice::{Splice, Spliced};

/// What stands in the place of a value that was left out.
pub const MARKER: &str = "[left out by agent-backup]";
