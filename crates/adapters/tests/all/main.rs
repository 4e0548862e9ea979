//! What adapters say: the files that are embedded, and what any file may say. Each module is a story; `fixture`
//! makes the homes of agents, for the tests of other crates as well.

#![cfg(unix)]

mod builtin;
mod fields;
#[path = "../fixture/mod.rs"]
mod fixture;
mod groups;
mod guide;
mod homes;
#[path = "../fixture/leaves.rs"]
mod leaves;
mod places;
mod rules;
mod strict;
