//! `man`: manual pages, made from the same texts as `--help`.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::Man;
use crate::exit::{Exit, Usage};
use crate::tool::Tool;
use crate::ui::{Screen, program, sanitize};

#[derive(Serialize)]
struct Document {
    name: String,
    page: String,
}

pub(crate) fn run(args: &Man, tool: &Tool, screen: &Screen) -> Result<Exit> {
    let mut whole = tool.command();
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => whole
            .find_subcommand(name)
            .ok_or_else(|| Usage(format!("there is no command '{}'", sanitize::text(name))))?
            .clone(),
    };
    let name = command.get_display_name().unwrap_or(program()).to_owned();
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
