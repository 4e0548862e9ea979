//! A tool: the program under a name of its own, for one agent.

use std::path::Path;

use adapters::{Adapter, AdapterError};
use clap::{Command, CommandFactory as _};

use crate::args::Args;

/// A program made of this command line. [`Tool::default`] is `agent-backup` itself.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The only agent it knows, as the text of an adapter file.
    adapter: Option<&'static str>,
    /// The configuration that counts while there is no file.
    pub(crate) config: Option<&'static str>,
}

impl Default for Tool {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self { name: "agent-backup", version, adapter: None, config: None }
    }
}

impl Tool {
    /// A tool for one agent. `name` is that of the program and of its directories (`quill-backup`), `adapter`
    /// the text of an adapter file (`docs/adapters.md`). An adapter that is wrong ends every run with code 19
    /// and its line, so run it once in a test.
    pub const fn new(name: &'static str, version: &'static str, adapter: &'static str) -> Self {
        Self { name, version, adapter: Some(adapter), config: None }
    }

    /// Brings a configuration, in the words of `config.toml`. It counts as a whole until the user has a
    /// configuration file; flags and variables win over it as over that. It is no place for secrets.
    #[must_use]
    pub const fn with_config(mut self, config: &'static str) -> Self {
        self.config = Some(config);
        self
    }

    /// It is for one agent, and reads no adapter files.
    pub(crate) fn is_for_one(&self) -> bool {
        self.adapter.is_some()
    }

    /// The agents that are known: the tool's own, or those that agent-backup brings and those in `user_dir`.
    pub(crate) fn adapters(&self, user_dir: &Path) -> Result<Vec<Adapter>, AdapterError> {
        match self.adapter {
            Some(text) => Ok(vec![Adapter::parse(text, &format!("the adapter of {}", self.name))?]),
            None => adapters::load(Some(user_dir)),
        }
    }

    /// The arguments under the tool's name, examples included.
    pub(crate) fn command(&self) -> Command {
        let command = Args::command().version(self.version);
        if self.name == Self::default().name {
            return command;
        }
        renamed(command.name(self.name).bin_name(self.name), self.name)
    }
}

/// The same command with a program of this name in its examples.
fn renamed(mut command: Command, name: &'static str) -> Command {
    if let Some(text) = command.get_after_help() {
        let text = text.to_string().replace("agent-backup ", &format!("{name} "));
        command = command.after_help(text);
    }
    let subcommands: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    subcommands
        .into_iter()
        .fold(command, |command, sub| command.mut_subcommand(sub, |sub| renamed(sub, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUILL: &str = "version = 1\nid = \"quill\"\nname = \"Quill\"\n[[roots]]\nlabel = \"home\"\nall = \"~/.quill\"\n";

    #[test]
    fn a_tool_shows_its_own_name_everywhere() {
        let mut command = Tool::new("quill-backup", "7.0", QUILL).command();
        command.clone().debug_assert();
        command.build();
        assert_eq!(command.render_version(), "quill-backup 7.0\n");
        let mut texts = vec![command.render_long_help().to_string()];
        for sub in command.get_subcommands_mut() {
            texts.push(sub.render_long_help().to_string());
        }
        assert!(texts.len() > 20);
        for text in texts {
            assert!(text.contains("quill-backup"), "{text}");
            let other: Vec<&str> =
                text.lines().filter(|line| line.contains("  agent-backup ")).collect();
            assert!(other.is_empty(), "{other:?}");
        }
    }

    #[test]
    fn a_tool_knows_its_agent_and_no_other() {
        let none = Path::new("/nonexistent");
        let one = Tool::new("quill-backup", "1", QUILL).adapters(none).unwrap();
        assert_eq!(one.iter().map(Adapter::id).collect::<Vec<_>>(), ["quill"]);
        assert!(Tool::default().adapters(none).unwrap().len() > 40);
        let wrong = Tool::new("quill-backup", "1", "version = 1\nid = 3\n").adapters(none);
        let told = wrong.unwrap_err().to_string();
        assert!(told.contains("the adapter of quill-backup:2"), "{told}");
    }
}
