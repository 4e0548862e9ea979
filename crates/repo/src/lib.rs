//! The encrypted, deduplicating repository of agent-backup: keys, blocks, packs, index, trees, operations
