//! The command line of agent-backup as a library: arguments in, an exit code out. Everything between is in
//! the library crates and in `commands`.
//!
//! [`main`] is the program `agent-backup`, for all agents. [`run_cli`] is the same command line for a
//! [`Tool`] that backs up one agent: an adapter, a name, and if you like a configuration. Twenty lines make
//! one:
//!
//! ```ignore
#![doc = include_str!("../examples/quill-backup.rs")]
//! ```
//!
//! Such a tool has every command (`quill-backup push`, `pull`, `snapshots`, `forget`, `verify`, ...) and
//! every setting of `docs/cli.md`, with directories of its own name: `~/.config/quill-backup/config.toml`,
//! `~/.local/state/quill-backup`, `~/.cache/quill-backup`, and `~/.local/share/quill-backup/repository` where
//! none is named. It knows its one agent and no other. For a program with screens of its own, use the verbs:
//! `engine::Backup`.

mod args;
mod commands;
mod connect;
mod exit;
mod harden;
mod log;
mod service;
mod settings;
mod signals;
mod tool;
mod ui;

use std::process::ExitCode;

use clap::FromArgMatches as _;

use args::Args;
use exit::{Exit, Failure};
use settings::Environment;
use ui::Screen;

pub use tool::Tool;

/// Runs the program `agent-backup`.
pub fn main() -> ExitCode {
    run_cli(&Tool::default())
}

/// Runs the command line of a tool, with the arguments and the environment of this process. Call it once,
/// from `main`, and end with what it returns.
pub fn run_cli(tool: &Tool) -> ExitCode {
    ui::name_program(tool.name);
    harden::no_core_files();
    harden::more_open_files();
    harden::one_line_panics();
    let exit = std::panic::catch_unwind(|| run(tool)).unwrap_or_else(|_| exit::bug());
    ExitCode::from(exit.code())
}

fn run(tool: &Tool) -> Exit {
    let parsed = tool.command().try_get_matches();
    let args = match parsed.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let screen = Screen::new(&args.global);
    log::start(&args.global);
    let done = commands::run(&args, &Environment::take(tool), &screen)
        .and_then(|exit| screen.flush().map(|()| exit));
    match done {
        Ok(exit) => exit,
        Err(error) => match exit::explain(&error) {
            None => Exit::Done,
            Some(failure) => {
                let Failure { exit, .. } = failure;
                exit::report(&failure, &screen);
                let _ = screen.flush();
                exit
            }
        },
    }
}
