//! The cut points: those that are format, and what holds for all.

#![allow(clippy::unwrap_used, reason = "readers of slices do not fail")]

mod golden;
mod properties;
