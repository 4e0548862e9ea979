//! Keys as whoever holds a secret sees them, and the document of the format. The simulation is a binary of its
//! own, which its own commands name.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected panics")]

mod format_doc;
mod keys;
mod keys_config;
mod keys_machine;
