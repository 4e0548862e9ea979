//! Test doubles for agent-backup: stores that fail, count or crawl on cue, a server that answers as
//! B2 does, buckets of agent-backup-core, and trees to build and compare.
//!
//! Wrappers hold an `Arc<dyn Store>` and are one themselves, so they stack in any order.

pub mod call;
pub mod conformance;
pub mod core_bucket;
pub mod fault;
pub mod record;
pub mod server;
pub mod slow;
pub mod time;
pub mod tree;

pub use call::{Call, Verb};
pub use conformance::conformance;
pub use core_bucket::CoreBucket;
pub use fault::{Failure, Fault, FaultStore};
pub use record::RecordingStore;
pub use server::Server;
pub use slow::SlowStore;
pub use time::ManualTime;
pub use tree::{Plant, Tree};
