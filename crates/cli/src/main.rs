//! The `agent-backup` command.
fn main() {}
