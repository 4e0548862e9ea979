//! Benchmarks of agent-backup; see README.md here.
