//! What AI coding agents keep where, as data.
//!
//! One TOML file per agent says which directories it uses on each system (roots), and what in
//! them is state, junk, a database or a secret (rules). The files of the agents we know are
//! embedded; a user writes the same format for one that we do not know. `docs/adapters.md`
//! teaches it.
//!
//! In: adapter files, and an [`Env`] (home, variables, system) that the caller filled. Out:
//! [`Root`]s that exist here, each with [`Rules`] that answer for every path whether it is backed
//! up. Invariants: nothing here reads the real environment; a secret file is never included,
//! whatever else a rule says; no root is the home directory or a directory above it, so that
//! nobody's home is walked by accident.

mod adapter;
mod binds;
mod builtin;
mod carve;
mod copied;
mod error;
mod fields;
mod parse;
mod pattern;
mod place;
mod resolve;
mod rows;
mod rules;
pub mod sessions;

pub use adapter::{Adapter, Env, Os, Source};
pub use binds::{Bind, BindFormat, Encoding, FileBind};
pub use builtin::{builtin, load};
pub use error::AdapterError;
pub use fields::{FieldFormat, FieldRules};
pub use resolve::{Refused, Root, Survey};
pub use rows::{RowAction, RowMatch, RowRule, RowValues};
pub use rules::{Decision, Rules};
