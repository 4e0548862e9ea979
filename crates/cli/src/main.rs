//! `agent-backup`: arguments in, an exit code out. Everything between is in the library crates and
//! in `commands`.

mod args;
mod commands;
mod connect;
mod exit;
mod harden;
mod log;
mod settings;
mod signals;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use exit::{Exit, Failure};
use settings::Environment;
use ui::Screen;

fn main() -> ExitCode {
    harden::no_core_files();
    harden::one_line_panics();
    let exit = std::panic::catch_unwind(run).unwrap_or_else(|_| exit::bug());
    ExitCode::from(exit.code())
}

fn run() -> Exit {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    let screen = Screen::new(&args.global);
    log::start(&args.global);
    let done = commands::run(&args, &Environment::take(), &screen)
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
