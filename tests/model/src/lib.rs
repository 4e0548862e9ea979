//! The protocol of push, forget and gc (docs/FORMAT.md, section 16), as a model whose every order of
//! steps is walked. The store knows PUT, GET, DELETE and LIST; there is no clock and no
//! compare-and-swap. Each request is a step of its own.
//!
//! The tests say which configurations are safe (`tests/all/safe.rs`) and that each rule is needed
//! (`tests/all/flaws.rs`). docs/decisions/0005-the-protocol-is-model-checked.md has the tables.

mod check;
mod collect;
mod ids;
mod look;
mod milestone;
mod model;
mod pin;
mod plan;
mod setup;
mod step;
mod store;
mod turn;
mod write;

pub use check::{GENERATED_MAX, Verdict, check, check_deep};
pub use ids::Ids;
pub use milestone::Milestone;
pub use setup::{Existence, Flaw, Role, Setup, World};
