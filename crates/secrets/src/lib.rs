//! Finds secrets in text that would leave the machine, and replaces them on request.
//!
//! In: rules ([`Rules`]: the pinned ones of gitleaks, or a user's file of the same format) and the
//! bytes of a file. Out: where secrets lie ([`Scanner`], [`Finding`]), never what they are; or the
//! file with marks in their places ([`Redactor`]), and the way back ([`Restorer`]). Nothing here reads files, clocks or the
//! network, and nothing is checked against a service.
//!
//! How it differs from gitleaks, on purpose: escapes of strings are undone before anything is
//! matched, at any depth (`view.rs`); a keyword that is no part of the match must stand within 256
//! bytes of it, not anywhere in the file (`hook.rs`); allowlists for commits mean nothing here; and
//! `rules/ours.toml` lists what is dropped, added and limited.

mod error;
mod file;
mod finding;
mod hook;
mod mark;
mod pattern;
mod redact;
mod restore;
mod rule;
mod rules;
mod scanner;
mod view;

#[cfg(test)]
mod tests;

pub use error::RulesError;
pub use finding::Finding;
pub use redact::{Form, Judge, Keys, Redactor};
pub use restore::{Met, Put, Restorer};
pub use rules::Rules;
pub use scanner::{Scanner, Work};
