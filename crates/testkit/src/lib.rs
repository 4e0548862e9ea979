//! Test doubles for agent-backup: a fault-injecting store, a server that answers as B2 does, tree oracles
