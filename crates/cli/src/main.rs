//! `agent-backup`: the program for all agents. It is what [`agent_backup`] makes of no tool in particular.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_backup::main()
}
