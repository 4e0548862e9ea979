//! Content-defined and page cutting for agent-backup: bytes in, cut points out
