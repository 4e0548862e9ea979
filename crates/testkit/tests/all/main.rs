//! The doubles of this crate do what tests rely on, and every store keeps its contract. Each module is a story.

#![cfg(unix)]

mod conformance;
mod directory;
mod doubles;
mod live;
mod s3;
mod tree;
