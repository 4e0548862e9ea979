//! `man`: manual pages, made from the same texts as `--help`.

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use serde::Serialize;

use crate::args::{Args, Man};
use crate::exit::{Exit, Usage};
use crate::ui::{Screen, sanitize};

#[derive(Serialize)]
struct Document {
    name: String,
    page: String,
}

pub(crate) fn run(args: &Man, screen: &Screen) -> Result<Exit> {
    let mut program = Args::command();
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => program
            .find_subcommand(name)
            .ok_or_else(|| Usage(format!("there is no command '{}'", sanitize::text(name))))?
            .clone(),
    };
    let name = command.get_display_name().unwrap_or("agent-backup").to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("cannot make the page")?;
    if screen.json() {
        let page = String::from_utf8_lossy(&page).into_owned();
        screen.document(&Document { name, page })?;
    } else {
        screen.bytes(&page)?;
    }
    Ok(Exit::Done)
}
