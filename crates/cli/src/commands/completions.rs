//! `completions`: a script that a shell sources.

use anyhow::Result;
use serde::Serialize;

use crate::args::Completions;
use crate::exit::Exit;
use crate::tool::Tool;
use crate::ui::Screen;

#[derive(Serialize)]
struct Document {
    shell: String,
    script: String,
}

pub(crate) fn run(args: &Completions, tool: &Tool, screen: &Screen) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tool.command(), tool.name, &mut script);
    if args.shell == clap_complete::Shell::Bash {
        // a dash of the program's name is written in two ways: without this no flag is completed
        let [wrong, right] = ["__subcmd__", "__"].map(|dash| tool.name.replace('-', dash));
        script = String::from_utf8_lossy(&script).replace(&wrong, &right).into_bytes();
    }
    if screen.json() {
        let script = String::from_utf8_lossy(&script).into_owned();
        screen.document(&Document { shell: args.shell.to_string(), script })?;
    } else {
        screen.bytes(&script)?;
    }
    Ok(Exit::Done)
}
