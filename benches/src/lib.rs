//! Benchmarks of agent-backup: what they read and how they count. See README.md here.
//!
//! The binaries in `src/bin` print tables in Markdown; decisions quote them with machine and date.

#![allow(clippy::cast_precision_loss, reason = "ratios and speeds are printed with two digits")]

pub mod child;
pub mod clock;
pub mod corpus;
pub mod databases;
pub mod draws;
pub mod images;
pub mod ledger;
pub mod prose;
pub mod repository;
pub mod store;
