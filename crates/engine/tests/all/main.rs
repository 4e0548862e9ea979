//! The verbs on whole repositories: each module is a story. `support` makes repositories and machines,
//! `specimen` damages them, `forger` writes what no honest program would.
//!
//! They are one binary, because each binary links the whole engine. What counts something that belongs to
//! the whole process has a binary of its own: `daemon_days` and `hostile`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test stands on must be there")]

mod agents;
mod budgets;
mod capture_processes;
mod capture_states;
mod copy;
mod damage;
mod databases;
mod faults;
#[allow(unreachable_pub, dead_code, reason = "it is shared with the tests of the adapters")]
#[path = "../../../adapters/tests/fixture/mod.rs"]
mod fixture;
mod forger;
mod forget;
mod gone;
mod gone_care;
mod gone_support;
mod grep;
mod groups;
mod histories;
mod import;
mod moves;
mod old_versions;
mod page_budgets;
mod passed_over;
mod push;
mod redacted;
mod repair;
mod restore_pages;
mod resume;
mod row_rules;
mod safety;
mod scan;
mod scan_support;
mod seed_defects;
mod seed_trust;
mod sessions;
mod sources;
mod specimen;
mod support;
mod verbs;
mod view;
