//! The verbs of agent-backup: push, pull, ls, diff, find, stats

pub mod pull;
